//! Tasks as they are created, and whose they are.

use super::*;

pub(crate) async fn a_created_task_is_there_as_it_was_returned(fixture: Fixture) {
    let task = fixture.create().await;
    assert_eq!(fixture.get(&task).await, task);
    assert_eq!((task.status, task.version), (Status::Working, 1));
}

pub(crate) async fn owners_whose_names_contain_each_other_share_nothing(fixture: Fixture) {
    let names =
        ["tenant", "tenant:x", "tenant/x", "tenant%2Fx", "tenantx", "", "*", "{tenant}", "é", "\0"];
    let limits = TaskLimits { unfinished_per_owner: 2, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let mut tasks = Vec::new();
    for name in names {
        for _ in 0..2 {
            tasks.push(fixture.tasks.create(&owner(name), new()).await.unwrap());
        }
    }
    for name in names {
        let page = fixture.tasks.list(&owner(name), PageRequest::default()).await.unwrap();
        assert_eq!(page.tasks.len(), 2, "{name:?}");
        assert!(page.tasks.iter().all(|task| task.as_ref().unwrap().owner == owner(name)));
        for task in tasks.iter().filter(|task| task.owner != owner(name)) {
            assert_not_found(fixture.tasks.get(&owner(name), &task.id).await);
        }
    }
}

pub(crate) async fn a_foreign_task_cannot_be_told_from_none(fixture: Fixture) {
    let task = fixture.create().await;
    let (tasks, mallory) = (&fixture.tasks, owner("mallory"));
    for id in
        [task.id.clone(), "no such task".into(), "x".repeat(10_000).as_str().into(), "".into()]
    {
        let this = TaskRef::new(mallory.clone(), id.clone());
        let mut errors = vec![tasks.get(&mallory, &id).await.unwrap_err()];
        errors.push(tasks.update_status(&this, None).await.unwrap_err());
        errors.push(tasks.set_variables(&this, one("a", json!(1))).await.unwrap_err());
        errors.push(tasks.record_input_requests(&this, one("a", question())).await.unwrap_err());
        errors.push(tasks.deliver_inputs(&this, one("a", json!(1))).await.unwrap_err());
        errors.push(tasks.complete(&this, result(1)).await.unwrap_err());
        errors.push(tasks.fail(&this, error("no"), None).await.unwrap_err());
        errors.push(tasks.cancel(&this, None).await.unwrap_err());
        let stream = tasks.follow(&mallory, &id).await.unwrap();
        errors.push(std::pin::pin!(stream).next().await.unwrap().unwrap_err());
        for error in errors {
            // The text names neither the owner nor a key.
            assert_eq!(error.to_string(), "task not found");
        }
    }
    assert_eq!(fixture.get(&task).await, task);
}

pub(crate) async fn the_same_key_makes_the_same_task(fixture: Fixture) {
    let keyed = |tool: &str| NewTask {
        idempotency_key: Some("k".into()),
        ..NewTask::new(Call::new(tool, Map::new()))
    };
    let creates = (0..16).map(|_| fixture.tasks.create(&fixture.alice, keyed("tool")));
    let ids: Vec<_> = join_all(creates).await.into_iter().map(|task| task.unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let other_call = fixture.tasks.create(&fixture.alice, keyed("other")).await;
    assert!(matches!(other_call, Err(TaskError::IdempotencyMismatch)));
    let other_owner = fixture.tasks.create(&owner("bob"), keyed("tool")).await.unwrap();
    assert_ne!(other_owner.id, ids[0]);
    let long = NewTask { idempotency_key: Some("k".repeat(1_000)), ..new() };
    assert!(fixture.tasks.create(&fixture.alice, long).await.unwrap_err().is_client_fault());
}

pub(crate) async fn a_repeated_create_finds_its_task_although_the_quota_is_full(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 1, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let keyed = || NewTask { idempotency_key: Some("k".into()), ..new() };
    let first = fixture.tasks.create(&fixture.alice, keyed()).await.unwrap();
    assert_eq!(fixture.tasks.create(&fixture.alice, keyed()).await.unwrap(), first);
}
