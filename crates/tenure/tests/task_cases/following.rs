//! Followers of one task.

use super::*;

pub(crate) async fn a_follower_sees_the_end_and_then_the_stream_ends(fixture: Fixture) {
    let task = fixture.create().await;
    let this = fixture.this(&task);
    let stream = fixture.tasks.follow(&task.owner, &task.id).await.unwrap();
    let mut states = std::pin::pin!(stream);
    assert_eq!(states.next().await.unwrap().unwrap(), task);
    for step in 0..500 {
        fixture.tasks.update_status(&this, Some(step.to_string())).await.unwrap();
    }
    // Beyond what any backlog holds, and still neither lost nor out of order.
    let mut last = task.version;
    let ended = fixture.tasks.complete(&this, result(1)).await.unwrap();
    while let Some(state) = states.next().await {
        let state = state.unwrap();
        assert!(state.version > last);
        last = state.version;
    }
    assert_eq!(last, ended.version);
}

pub(crate) async fn a_hundred_followers_all_see_the_end(fixture: Fixture) {
    let mut followers = Vec::new();
    for _ in 0..20 {
        let task = fixture.create().await;
        for _ in 0..5 {
            let stream = fixture.tasks.follow(&task.owner, &task.id).await.unwrap();
            let last =
                async move { std::pin::pin!(stream).fold(None, async |_, it| Some(it)).await };
            followers.push(tokio::spawn(last));
        }
        let (tasks, this) = (fixture.tasks.clone(), fixture.this(&task));
        tokio::spawn(async move {
            tasks.update_status(&this, Some("on".into())).await.unwrap();
            tasks.complete(&this, result(1)).await.unwrap();
        });
    }
    for last in join_all(followers).await {
        assert_eq!(last.unwrap().unwrap().unwrap().status, Status::Completed);
    }
    let feeds = format!("{:?}", fixture.tasks);
    assert!(feeds.contains("owners: 0"), "the last follower takes the feed with it: {feeds}");
}

pub(crate) async fn a_follower_of_a_task_that_expires_is_told(fixture: Fixture) {
    let brief = NewTask { ttl_ms: Some(100), ..new() };
    let task = fixture.tasks.create(&fixture.alice, brief).await.unwrap();
    let stream = fixture.tasks.follow(&task.owner, &task.id).await.unwrap();
    let mut states = std::pin::pin!(stream);
    states.next().await.unwrap().unwrap();
    let mut next = states.next();
    assert!(futures::poll!(&mut next).is_pending());
    fixture.clock.advance_millis(100);
    assert_not_found(next.await.unwrap());
    assert!(states.next().await.is_none());
}
