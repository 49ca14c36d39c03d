//! Changes, and ends: none is lost, none is undone.

use super::*;

/// Two processes: each knows what it wrote last, and neither acts on it alone.
pub(crate) async fn what_another_process_did_meanwhile_is_seen_by_every_change(fixture: Fixture) {
    let here = &fixture.tasks;
    let there = TaskStore::new(Arc::clone(&fixture.backend), fixture.clock.clone());
    let tasks = [fixture.create().await, fixture.create().await, fixture.create().await];
    let [kept, ended, expired] = tasks.each_ref().map(|task| fixture.this(task));
    there.set_variables(&kept, one("a", json!(1))).await.unwrap();
    let changed = here.set_variables(&kept, one("b", json!(2))).await.unwrap();
    assert_eq!(Value::from(changed.variables), json!({ "a": 1, "b": 2 }));
    there.cancel(&ended, None).await.unwrap();
    assert_finished(here.complete(&ended, result(1)).await, Status::Cancelled);
    fixture.clock.advance_millis(TaskLimits::default().ttl_ms(None));
    assert_not_found(here.update_status(&expired, Some("late".into())).await);
}

pub(crate) async fn what_has_ended_is_frozen(fixture: Fixture) {
    let tasks = &fixture.tasks;
    for status in [Status::Completed, Status::Failed, Status::Cancelled] {
        let task = fixture.create().await;
        let this = fixture.this(&task);
        match status {
            Status::Completed => tasks.complete(&this, result("result")).await.unwrap(),
            Status::Failed => tasks.fail(&this, error("error"), None).await.unwrap(),
            _ => tasks.cancel(&this, None).await.unwrap(),
        };
        let ended = fixture.get(&task).await;
        fixture.clock.advance_millis(10);
        assert_finished(tasks.update_status(&this, Some("late".into())).await, status);
        assert_finished(tasks.set_variables(&this, one("a", json!(1))).await, status);
        assert_finished(tasks.record_input_requests(&this, one("a", question())).await, status);
        assert_finished(tasks.deliver_inputs(&this, one("a", json!(1))).await, status);
        assert_finished(tasks.complete(&this, result("late")).await, status);
        assert_finished(tasks.fail(&this, error("late"), None).await, status);
        assert_finished(tasks.cancel(&this, None).await, status);
        assert_eq!(fixture.get(&task).await, ended);
    }
}

async fn race_progress<F>(
    fixture: &Fixture,
    count: usize,
    end: impl Fn(TaskStore, TaskRef) -> F,
) -> Vec<Result<Task, TaskError>>
where
    F: Future<Output = Result<Task, TaskError>> + Send + 'static,
{
    let limits = TaskLimits { unfinished_per_owner: 1_000, ..TaskLimits::default() };
    let tasks = fixture.tasks.clone().with_limits(limits);
    let mut ends = Vec::new();
    for _ in 0..count {
        let task = tasks.create(&fixture.alice, new()).await.unwrap();
        let this = fixture.this(&task);
        for reporter in 0..4 {
            let (tasks, this) = (tasks.clone(), this.clone());
            tokio::spawn(async move {
                for step in 0..8 {
                    let told =
                        tasks.update_status(&this, Some(format!("{reporter}: {step}"))).await;
                    assert!(matches!(told, Ok(_) | Err(TaskError::Finished { .. })), "{told:?}");
                }
            });
        }
        ends.push(tokio::spawn(end(tasks.clone(), this)));
    }
    join_all(ends).await.into_iter().map(Result::unwrap).collect()
}

/// 500 tasks that each get progress while they are completed: no completion fails.
pub(crate) async fn no_completion_fails_because_of_progress(fixture: Fixture) {
    let ends = race_progress(&fixture, 500, async |tasks, this| {
        tasks.complete(&this, result("result")).await
    });
    for task in ends.await {
        assert_eq!(task.unwrap().outcome, Some(Outcome::Result(result("result"))));
    }
}

/// 50 tasks that get progress while they are cancelled: no cancel fails.
pub(crate) async fn no_cancel_fails_because_of_progress(fixture: Fixture) {
    let ends = race_progress(&fixture, 50, async |tasks, this| tasks.cancel(&this, None).await);
    for task in ends.await {
        assert_eq!(task.unwrap().status, Status::Cancelled);
    }
}

pub(crate) async fn of_64_concurrent_variable_updates_none_is_lost(fixture: Fixture) {
    let task = fixture.create().await;
    let updates = (0..64).map(|n| {
        let (tasks, this) = (fixture.tasks.clone(), fixture.this(&task));
        tokio::spawn(
            async move { tasks.set_variables(&this, one(&format!("v{n}"), json!(n))).await },
        )
    });
    for update in join_all(updates).await {
        update.unwrap().unwrap();
    }
    let task = fixture.get(&task).await;
    assert_eq!((task.variables.len(), task.version), (64, 65));
}

pub(crate) async fn of_two_ends_exactly_one_wins(fixture: Fixture) {
    for _ in 0..50 {
        let task = fixture.create().await;
        let ends = (0..4).map(|n| {
            let (tasks, this) = (fixture.tasks.clone(), fixture.this(&task));
            tokio::spawn(async move {
                match n {
                    0 => tasks.cancel(&this, None).await,
                    1 => tasks.fail(&this, error("no"), None).await,
                    _ => tasks.complete(&this, result(n)).await,
                }
            })
        });
        let ends: Vec<_> = join_all(ends).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = ends.iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(fixture.get(&task).await, *winners[0]);
    }
}

pub(crate) async fn a_fence_refuses_every_write_of_another_attempt(fixture: Fixture) {
    let task = fixture.create().await;
    let stale = fixture.this(&task).fenced("gone".into(), 1);
    let refused = fixture.tasks.complete(&stale, result(1)).await;
    assert!(matches!(refused, Err(TaskError::Superseded { attempt: 0 })));
    let refused = fixture.tasks.set_variables(&stale, one("a", json!(1))).await;
    assert!(matches!(refused, Err(TaskError::Superseded { attempt: 0 })));
    fixture.tasks.cancel(&fixture.this(&task), None).await.unwrap();
    assert_finished(fixture.tasks.complete(&stale, result(1)).await, Status::Cancelled);
}
