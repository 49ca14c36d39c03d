//! What a handler that waits for an answer is told when it is to stop.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::{Partition, StorageBackend as _, Write};
use tenure::tasks::{NewTask, Status, Task, TaskError, TaskStore};

use crate::faults::Faulty;
use crate::world::{TIMEOUT_MS, World, call, one, settle};

/// Asks, and keeps the error.
#[derive(Default)]
struct Asks(Mutex<Vec<TaskError>>);

#[async_trait]
impl Handler for Asks {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::rerun_after_crash())
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        match task.request_inputs(one("a", json!({ "method": "ask" }))).await {
            Ok(_) => Ok(Exit::Complete(Value::Null)),
            Err(error) => {
                self.0.lock().push(error);
                Err(Failure::new(Value::Null, "no answer"))
            }
        }
    }
}

struct Scene {
    world: World,
    process: Faulty,
    asks: Arc<Asks>,
    worker: Worker,
    task: Task,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let (process, asks) = (world.healthy(), Arc::<Asks>::default());
        let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone());
        let worker = Worker::start(tasks, asks.clone(), WorkerOptions::default()).await.unwrap();
        let new = NewTask { ttl_ms: Some(60_000), ..call("asks") };
        let task = worker.submit(&world.alice, new).await.unwrap();
        settle().await;
        Self { world, process, asks, worker, task }
    }

    async fn told(&self) -> TaskError {
        settle().await;
        let mut told = self.asks.0.lock();
        assert_eq!(told.len(), 1);
        told.remove(0)
    }
}

#[tokio::test]
async fn that_its_task_was_cancelled() {
    let scene = Scene::new().await;
    scene.world.tasks.cancel(&scene.world.this(&scene.task.id), None).await.unwrap();
    let told = scene.told().await;
    assert!(matches!(told, TaskError::Finished { status: Status::Cancelled }), "{told}");
}

#[tokio::test]
async fn that_its_task_has_expired() {
    let scene = Scene::new().await;
    scene.world.clock.advance_millis(60_000);
    let told = scene.told().await;
    assert!(matches!(told, TaskError::NotFound), "{told}");
}

#[tokio::test]
async fn that_its_worker_shuts_down() {
    let scene = Scene::new().await;
    // By its clock no time passes.
    scene.worker.shutdown(3_600_000).await;
    let told = scene.told().await;
    assert!(matches!(told, TaskError::ShuttingDown), "{told}");
}

#[tokio::test]
async fn that_its_worker_is_dropped() {
    let Scene { asks, worker, .. } = Scene::new().await;
    drop(worker);
    settle().await;
    let told = asks.0.lock().remove(0);
    assert!(matches!(told, TaskError::ShuttingDown), "{told}");
}

#[tokio::test]
async fn that_another_worker_has_taken_its_task_over() {
    let scene = Scene::new().await;
    scene.process.stall();
    let heir = scene.world.worker(&scene.world.healthy(), WorkerOptions::default()).await;
    scene.world.pass(2 * TIMEOUT_MS).await;
    assert_eq!(scene.world.get(&scene.task.id).await.worker, Some(heir.id()));
    scene.process.resume();
    let told = scene.told().await;
    assert!(matches!(told, TaskError::Superseded { attempt: 1 }), "{told}");
}

#[tokio::test]
async fn that_its_task_cannot_be_read_any_more() {
    let scene = Scene::new().await;
    let key = Partition::new(["tasks", "alice"]).unwrap().key(scene.task.id.as_str()).unwrap();
    let newer = Write::new(r#"{"schema":9,"task":{"steps":[]}}"#);
    let expires_at = scene.world.store.get(&key).await.unwrap().unwrap().expires_at;
    scene.world.store.put(&key, newer.expires_at(expires_at)).await.unwrap();
    let told = scene.told().await;
    assert!(matches!(told, TaskError::Unreadable { .. }), "{told}");
}
