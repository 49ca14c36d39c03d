//! Quota, time to live, sizes.

use super::*;

/// 200 creates at once with room for 10: exactly 10 get in.
pub(crate) async fn the_quota_is_exact_under_concurrency(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 10, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let creates = (0..200).map(|_| {
        let (tasks, alice) = (fixture.tasks.clone(), fixture.alice.clone());
        tokio::spawn(async move { tasks.create(&alice, new()).await })
    });
    let results: Vec<_> = join_all(creates).await.into_iter().map(Result::unwrap).collect();
    let refused = |it: &&Result<_, _>| matches!(it, Err(TaskError::QuotaExceeded { limit: 10 }));
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 10);
    assert_eq!(results.iter().filter(refused).count(), 190);
    assert_eq!(fixture.ids(1_000).await.len(), 10);
}

pub(crate) async fn what_ends_or_expires_makes_room(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 2, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let tasks = &fixture.tasks;
    let full = async || {
        assert!(matches!(
            tasks.create(&fixture.alice, new()).await,
            Err(TaskError::QuotaExceeded { limit: 2 })
        ))
    };
    let brief = NewTask { ttl_ms: Some(100), ..new() };
    tasks.create(&fixture.alice, brief).await.unwrap();
    let mut last = fixture.create().await;
    full().await;
    for end in 0..3 {
        let this = fixture.this(&last);
        match end {
            0 => tasks.complete(&this, result(1)).await.unwrap(),
            1 => tasks.fail(&this, error("no"), None).await.unwrap(),
            _ => tasks.cancel(&this, None).await.unwrap(),
        };
        last = fixture.create().await;
        full().await;
    }
    fixture.clock.advance_millis(99);
    full().await;
    fixture.clock.advance_millis(1);
    fixture.create().await;
    full().await;
    // A full quota is in nobody's way who is already in.
    tasks.update_status(&fixture.this(&last), Some("on".into())).await.unwrap();
}

/// It cannot be ended, so it keeps its place until it expires: nobody knows that it is not at work.
pub(crate) async fn an_unfinished_task_that_cannot_be_read_counts_until_it_expires(
    fixture: Fixture,
) {
    let limits = TaskLimits { unfinished_per_owner: 2, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let tasks = &fixture.tasks;
    let brief = NewTask { ttl_ms: Some(100), ..new() };
    let broken = tasks.create(&fixture.alice, brief).await.unwrap();
    let key = fixture.partition().key(broken.id.as_str()).unwrap();
    let damaged = Write::new("damaged").counted_within(2).expires_at(broken.expires_at());
    fixture.backend.put(&key, damaged).await.unwrap();
    let other = fixture.create().await;
    let full = async || {
        let refused = tasks.create(&fixture.alice, new()).await;
        assert!(matches!(refused, Err(TaskError::QuotaExceeded { limit: 2 })), "{refused:?}");
    };
    full().await;
    let cancelled = tasks.cancel(&fixture.this(&broken), None).await;
    assert!(matches!(cancelled, Err(TaskError::Unreadable { .. })));
    full().await;
    // What can be ended still makes room.
    tasks.cancel(&fixture.this(&other), None).await.unwrap();
    fixture.create().await;
    full().await;
    fixture.clock.advance_millis(100);
    fixture.create().await;
    full().await;
}

pub(crate) async fn a_task_is_gone_from_the_very_millisecond_of_its_deadline(fixture: Fixture) {
    let brief = NewTask { ttl_ms: Some(500), ..new() };
    let task = fixture.tasks.create(&fixture.alice, brief).await.unwrap();
    fixture.clock.advance_millis(499);
    let changed = fixture.tasks.update_status(&fixture.this(&task), Some("on".into())).await;
    assert_eq!(changed.unwrap().expires_at(), task.expires_at(), "a change does not prolong it");
    fixture.clock.advance_millis(1);
    assert_not_found(fixture.tasks.get(&task.owner, &task.id).await);
    assert_not_found(fixture.tasks.complete(&fixture.this(&task), result(1)).await);
    assert_not_found(fixture.tasks.cancel(&fixture.this(&task), None).await);
    assert_eq!(fixture.ids(10).await, []);
}

pub(crate) async fn a_ttl_has_a_default_and_a_maximum(fixture: Fixture) {
    let limits = TaskLimits { default_ttl_ms: 50, max_ttl_ms: 100, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    for (wish, given) in [(None, 50), (Some(0), 1), (Some(70), 70), (Some(u64::MAX), 100)] {
        let task = fixture.tasks.create(&fixture.alice, NewTask { ttl_ms: wish, ..new() }).await;
        assert_eq!(task.unwrap().ttl_ms, Some(given));
    }
}

pub(crate) async fn what_exceeds_a_limit_is_refused_and_changes_nothing(fixture: Fixture) {
    let task = fixture.create().await;
    let (tasks, this) = (&fixture.tasks, fixture.this(&task));
    let limits = *tasks.limits();
    let long = |bytes: usize| json!("x".repeat(bytes + 1));
    let mut deep = json!(1);
    for _ in 0..limits.depth {
        deep = json!([deep]);
    }
    let many: Map<_, _> =
        (0..5).map(|n| (n.to_string(), json!("x".repeat(limits.string_bytes)))).collect();
    assert_invalid(tasks.set_variables(&this, one("v", long(limits.string_bytes))).await);
    assert_invalid(tasks.set_variables(&this, one("v", deep.clone())).await);
    assert_invalid(tasks.set_variables(&this, many.clone()).await);
    let many = many.into_iter().map(|(key, text)| (key, json!({ "method": text }))).collect();
    assert_invalid(tasks.record_input_requests(&this, many).await);
    assert_invalid(tasks.record_input_requests(&this, one(&"k".repeat(1_000), question())).await);
    assert_invalid(tasks.complete(&this, result(long(limits.outcome_bytes))).await);
    assert_invalid(tasks.complete(&this, result(deep.clone())).await);
    assert_invalid(tasks.fail(&this, error("x".repeat(limits.outcome_bytes)), None).await);
    let message = "x".repeat(limits.message_bytes + 1);
    assert_invalid(tasks.update_status(&this, Some(message)).await);
    let call = Call::new("tool", one("a", long(limits.call_bytes)));
    assert_invalid(tasks.create(&fixture.alice, NewTask::new(call)).await);
    assert_invalid(
        tasks.create(&fixture.alice, NewTask::new(Call::new("t".repeat(1_000), Map::new()))).await,
    );
    assert_eq!(fixture.get(&task).await, task);
}

pub(crate) async fn what_no_client_could_read_is_refused_and_changes_nothing(fixture: Fixture) {
    let task = fixture.create().await;
    let (tasks, this) = (&fixture.tasks, fixture.this(&task));
    assert_invalid(tasks.complete(&this, json!(42)).await);
    assert_invalid(tasks.fail(&this, json!("no"), None).await);
    assert_invalid(tasks.fail(&this, json!({ "message": "no" }), None).await);
    assert_invalid(tasks.record_input_requests(&this, one("a", json!("?"))).await);
    assert_eq!(fixture.get(&task).await, task);
}

/// As an earlier program wrote it, which did not look at forms.
pub(crate) async fn a_stored_task_of_another_form_can_be_read_and_goes_on(fixture: Fixture) {
    let task = fixture.create().await;
    let (tasks, this) = (&fixture.tasks, fixture.this(&task));
    tasks.record_input_requests(&this, one("a", question())).await.unwrap();
    let stored = fixture.bytes(&task.id).await;
    let older = stored.replace(&question().to_string(), r#""?""#);
    assert_ne!(older, stored);
    fixture.overwrite(&task.id, &older).await;
    assert_eq!(fixture.get(&task).await.inputs["a"].request, json!("?"));
    // The same question once more, as by a handler that runs again, and the next one.
    tasks.record_input_requests(&this, one("a", json!("?"))).await.unwrap();
    tasks.record_input_requests(&this, one("b", question())).await.unwrap();
    tasks.deliver_inputs(&this, one("a", json!(1))).await.unwrap();

    tasks.complete(&this, result(1)).await.unwrap();
    let older = fixture.bytes(&task.id).await.replace(&result(1).to_string(), "42");
    fixture.overwrite(&task.id, &older).await;
    assert_eq!(fixture.get(&task).await.outcome, Some(Outcome::Result(json!(42))));
}

pub(crate) async fn the_largest_task_that_the_limits_allow_can_be_stored(fixture: Fixture) {
    let limits = *fixture.tasks.limits();
    let fill = |bytes: usize| {
        let chunk = 8_000;
        Map::from_iter((0..bytes / (chunk + 20)).map(|n| (n.to_string(), json!("x".repeat(chunk)))))
    };
    let call = Call::new("tool", fill(limits.call_bytes));
    let task = fixture.tasks.create(&fixture.alice, NewTask::new(call)).await.unwrap();
    let this = fixture.this(&task);
    fixture.tasks.set_variables(&this, fill(limits.variables_bytes)).await.unwrap();
    let requests = fill(limits.inputs_bytes - 4_096).into_iter();
    let requests = requests.map(|(key, text)| (key, json!({ "method": text }))).collect();
    fixture.tasks.record_input_requests(&this, requests).await.unwrap();
    let result = result("x".repeat(limits.outcome_bytes - r#"{"value":""}"#.len()));
    fixture.tasks.complete(&this, result.clone()).await.unwrap();
    assert_eq!(fixture.get(&task).await.outcome, Some(Outcome::Result(result)));
}
