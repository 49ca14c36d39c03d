//! `tenure tasks`, on a store and on a server.

use std::process::{Output, Stdio};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::FileBackend;
use tenure::tasks::{Call, NewTask, Task, TaskRef, TaskStore};

use crate::harness::{
    Lines, Server, call, code, command, run as tenure, signal, spare_address, stderr,
};
use crate::stub;

fn documents(output: &Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{}", stderr(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder with a store in which alice has a finished and an unfinished task.
async fn store() -> (TempDir, Task, Task) {
    let folder = TempDir::new().unwrap();
    let clock = Clock::system();
    let backend =
        Arc::new(FileBackend::open(folder.path().join("tenure.db"), clock.clone()).await.unwrap());
    let tasks = TaskStore::new(Arc::clone(&backend) as _, clock);
    let alice = Owner::new("alice").unwrap();
    let new = || {
        let arguments = Map::from_iter([("topic".into(), json!("a\u{1b}[2Jb"))]);
        NewTask::new(Call::new("report", arguments))
    };
    let done = tasks.create(&alice, new()).await.unwrap();
    let this = TaskRef::new(alice.clone(), done.id.clone());
    let done = tasks.complete(&this, json!({"pages": 12})).await.unwrap();
    let open = tasks.create(&alice, new()).await.unwrap();
    (folder, done, open)
}

#[tokio::test]
async fn tasks_of_an_owner_are_listed_filtered_and_shown() {
    let (folder, done, open) = store().await;
    let all = documents(&tenure(folder.path(), &["tasks", "list", "--owner", "alice", "--json"]));
    let ids: Vec<&str> = all.iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [done.id.as_str(), open.id.as_str()]);
    let unfinished = ["tasks", "list", "--owner", "alice", "--status", "unfinished", "--json"];
    assert_eq!(documents(&tenure(folder.path(), &unfinished))[0]["id"], open.id.as_str());
    let get = ["tasks", "get", done.id.as_str(), "--owner", "alice", "--json"];
    assert_eq!(documents(&tenure(folder.path(), &get))[0]["result"], json!({"pages": 12}));
    let mallory = tenure(folder.path(), &["tasks", "list", "--owner", "mallory", "--json"]);
    assert!(documents(&mallory).is_empty());
}

#[test]
fn the_password_of_a_server_is_not_shown() {
    let folder = TempDir::new().unwrap();
    let tell = |url: &str, arguments: &[&str]| {
        let output = command(folder.path(), arguments).env("TENURE_SERVER", url).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!told.contains("secret"), "{told}");
        (output.status.code(), told)
    };
    let url = "http://user:secret@127.0.0.1:1";
    let (code, told) = tell(url, &["tasks", "list"]);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("the server at http://…@127.0.0.1:1 cannot be reached"), "{told}");
    tell("http://user:secret@[", &["tasks", "list"]);
    assert!(tell(url, &["tasks", "list", "--help"]).1.contains("TENURE_SERVER"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn output_that_does_not_fit_is_a_failure() {
    let (folder, done, _) = store().await;
    let list = ["tasks", "list", "--owner", "alice"];
    let get = ["tasks", "get", done.id.as_str(), "--owner", "alice"];
    for arguments in [&list[..], &get] {
        for json in [&[][..], &["--json"]] {
            let full = std::fs::File::create("/dev/full").unwrap();
            let mut command = command(folder.path(), &[arguments, json].concat());
            let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
            assert_eq!(code(&output), 1, "{arguments:?} {json:?}");
            assert!(stderr(&output).contains("No space left"), "{}", stderr(&output));
        }
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = command(folder.path(), &list).stdout(writer).output().unwrap();
    assert_eq!((code(&unread), stderr(&unread)), (0, String::new()));
}

/// As in a container that was made of nothing but the program.
#[cfg(target_os = "linux")]
#[test]
fn without_certificate_authorities_plain_http_works_and_https_says_what_is_missing() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &["--store", "memory:"]);
    let list = |url: &str| {
        let mut list = command(folder.path(), &["tasks", "list", "--server", url]);
        let nothing = folder.path().join("nothing");
        list.env("SSL_CERT_FILE", &nothing).env("SSL_CERT_DIR", &nothing).output().unwrap()
    };
    let plain = list(&server.url);
    assert_eq!(code(&plain), 0, "{}", stderr(&plain));
    let tls = list("https://127.0.0.1:1");
    assert_eq!(code(&tls), 1, "{}", stderr(&tls));
    assert!(stderr(&tls).contains("No CA certificates"), "{}", stderr(&tls));
}

#[tokio::test]
async fn what_a_task_contains_cannot_drive_the_terminal() {
    let (folder, done, _) = store().await;
    let shown = tenure(folder.path(), &["tasks", "get", done.id.as_str(), "--owner", "alice"]);
    assert_eq!(code(&shown), 0);
    assert!(!shown.stdout.contains(&0x1b));
}

#[tokio::test]
async fn exit_codes_tell_not_found_from_ended_from_done() {
    let (folder, done, open) = store().await;
    let run = |verb, id: &str| tenure(folder.path(), &["tasks", verb, id, "--owner", "alice"]);
    assert_eq!(code(&run("get", "nope")), 3);
    assert_eq!(code(&run("cancel", "nope")), 3);
    assert_eq!(code(&run("cancel", done.id.as_str())), 4);
    assert_eq!(code(&run("cancel", open.id.as_str())), 0);
    assert_eq!(code(&run("cancel", open.id.as_str())), 4);
    assert_eq!(code(&run("watch", open.id.as_str())), 9);
    assert_eq!(code(&run("watch", done.id.as_str())), 0);
    // Somebody else's is not found, and who was looked at is told.
    for verb in ["get", "cancel", "watch"] {
        let local = tenure(folder.path(), &["tasks", verb, done.id.as_str()]);
        assert_eq!(code(&local), 3);
        let told = r#"no such task of the owner "local"; --owner names another"#;
        assert!(stderr(&local).contains(told), "{}", stderr(&local));
    }
}

#[tokio::test]
async fn a_task_is_shown_with_what_its_execution_is_up_to_and_what_it_asks() {
    let folder = TempDir::new().unwrap();
    let clock = Clock::system();
    let backend = FileBackend::open(folder.path().join("tenure.db"), clock.clone()).await.unwrap();
    let tasks = TaskStore::new(Arc::new(backend), clock);
    let local = Owner::local();
    let task = tasks.create(&local, NewTask::new(Call::new("approve", Map::new()))).await.unwrap();
    let task = TaskRef::new(local, task.id);
    let asked = json!({
        "method": "elicitation/create",
        "params": { "message": "May it go\u{1b}?", "requestedSchema": { "type": "object" } },
    });
    let asked =
        Map::from_iter([("go".to_owned(), asked), ("odd".to_owned(), json!({ "method": "odd" }))]);
    tasks.record_input_requests(&task, asked).await.unwrap();
    let server = Server::start(folder.path(), &[]);
    for place in [&[][..], &["--server", &server.url]] {
        let get = [&["tasks", "get", task.id.as_str()], place].concat();
        let text = tenure(folder.path(), &get);
        let text = String::from_utf8(text.stdout).unwrap();
        for line in [
            "phase        queued",
            "attempt      0",
            "asks go      May it go\u{fffd}?",
            "form go      {\"type\":\"object\"}",
            "asks odd     {\"method\":\"odd\"}",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
        let json = &documents(&tenure(folder.path(), &[&get[..], &["--json"]].concat()))[0];
        assert_eq!(json["phase"], "queued");
        assert_eq!(json["inputRequests"]["odd"], json!({ "method": "odd" }));
    }
}

#[tokio::test]
async fn a_task_that_runs_is_shown_with_its_worker() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &[]);
    let slow = json!({ "topic": "x", "sections": 1, "section_ms": 600_000 });
    let id = call(&server, "report", slow).await["taskId"].as_str().unwrap().to_owned();
    let watch = ["tasks", "watch", &id, "--json", "--server", &server.url];
    let mut watch = command(folder.path(), &watch).stdout(Stdio::piped()).spawn().unwrap();
    let running = Lines::of(watch.stdout.take().unwrap()).until(r#""phase":"running""#);
    let running: Value = serde_json::from_str(&running).unwrap();
    let worker = running["worker"].as_str().unwrap();
    for place in [&[][..], &["--server", &server.url]] {
        let text = tenure(folder.path(), &[&["tasks", "get", &id], place].concat());
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(&format!("\nworker       {worker}\n")), "{text}");
        assert!(text.contains("\nphase        running\n"), "{text}");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test]
async fn a_watch_of_one_task_tells_by_its_exit_code_how_it_ended() {
    let folder = TempDir::new().unwrap();
    let clock = Clock::system();
    let backend = FileBackend::open(folder.path().join("tenure.db"), clock.clone()).await.unwrap();
    let tasks = TaskStore::new(Arc::new(backend), clock);
    let new = async || {
        let task = NewTask::new(Call::new("report", Map::new()));
        TaskRef::new(Owner::local(), tasks.create(&Owner::local(), task).await.unwrap().id)
    };
    let (completed, failed, cancelled) = (new().await, new().await, new().await);
    tasks.complete(&completed, json!({})).await.unwrap();
    tasks.fail(&failed, json!({ "code": 1, "message": "no" }), None).await.unwrap();
    tasks.cancel(&cancelled, None).await.unwrap();
    let server = Server::start(folder.path(), &[]);
    for place in [&[][..], &["--server", &server.url]] {
        for (task, expected, word) in [
            (&completed, 0, ""),
            (&failed, 8, "the task failed"),
            (&cancelled, 9, "the task was cancelled"),
        ] {
            let watch = [&["tasks", "watch", task.id.as_str()], place].concat();
            let output = tenure(folder.path(), &watch);
            assert_eq!(code(&output), expected, "{watch:?}: {}", stderr(&output));
            assert!(stderr(&output).contains(word), "{}", stderr(&output));
        }
    }
}

#[tokio::test]
async fn an_empty_list_says_whose_tasks_it_would_have() {
    let (folder, ..) = store().await;
    for (arguments, owner) in [(&[][..], "local"), (&["--owner", "bob"], "bob")] {
        let list = tenure(folder.path(), &[&["tasks", "list", "--json"], arguments].concat());
        let told = format!("tenure: no tasks of the owner {owner:?}; --owner names another\n");
        assert_eq!((code(&list), stderr(&list)), (0, told));
        assert!(list.stdout.is_empty());
    }
}

#[test]
fn looking_for_a_store_does_not_make_one() {
    let folder = TempDir::new().unwrap();
    let output = tenure(folder.path(), &["tasks", "list"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("there is no file ./tenure.db"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_running_server_is_asked_with_a_token_and_shows_its_owner_only() {
    let (folder, done, _) = store().await;
    let callers = "[[caller]]\ntoken = \"token-a\"\nowner = \"alice\"\n\n\
                   [[caller]]\ntoken = \"token-b\"\nowner = \"bob\"\n";
    std::fs::write(folder.path().join("callers.toml"), callers).unwrap();
    let server = Server::start(folder.path(), &["--tokens", "callers.toml"]);
    let run = |arguments: &[&str], token: &str| {
        let mut all = arguments.to_vec();
        all.extend(["--server", &server.url, "--token", token, "--json"]);
        tenure(folder.path(), &all)
    };
    assert_eq!(documents(&run(&["tasks", "list"], "token-a")).len(), 2);
    assert!(documents(&run(&["tasks", "list"], "token-b")).is_empty());
    let id = done.id.as_str();
    assert_eq!(documents(&run(&["tasks", "watch", id], "token-a"))[0]["status"], "completed");
    for (verb, token, expected) in
        [("get", "token-a", 0), ("get", "token-b", 3), ("cancel", "token-a", 4), ("get", "none", 6)]
    {
        assert_eq!(code(&run(&["tasks", verb, id], token)), expected, "{verb} {token}");
    }
    // The store can be looked into while the server has it open.
    let beside = ["tasks", "list", "--owner", "alice", "--json"];
    assert_eq!(documents(&tenure(folder.path(), &beside)).len(), 2);
}

#[test]
fn a_server_that_is_not_there_is_worth_another_try() {
    let folder = TempDir::new().unwrap();
    let output = tenure(folder.path(), &["tasks", "list", "--server", "http://127.0.0.1:1"]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
}

macro_rules! state {
    ($status:literal, $updated:literal) => {
        concat!(
            "event: task\ndata: {\"id\":\"t\",\"tool\":\"report\",\"arguments\":{},\"attempt\":1,",
            "\"createdAt\":\"\",\"status\":\"",
            $status,
            "\",\"updatedAt\":\"",
            $updated,
            "\"}\n\n"
        )
    };
}

const WORKING: &str = state!("working", "1");
const WORKING_AND_COMPLETED: &str = concat!(state!("working", "1"), state!("completed", "2"));
const STREAM: &str = "content-type: text/event-stream\r\n";

/// The watch of a task on a server that gives these answers one after the other.
fn watch(answers: &'static [stub::Answer]) -> Output {
    let mut left = answers.iter();
    let url = stub::serve(move |request| {
        assert_eq!(request, "GET /v1/tasks/t/events HTTP/1.1");
        *left.next().expect("nobody asks once it is told")
    });
    let folder = TempDir::new().unwrap();
    tenure(folder.path(), &["tasks", "watch", "t", "--json", "--server", &url])
}

#[test]
fn a_watch_of_a_task_goes_on_to_its_end_when_the_server_goes_away_and_tells_no_state_twice() {
    let output = watch(&[
        ("200 OK", STREAM, WORKING),
        ("503 Service Unavailable", "", "starting"),
        ("503 Service Unavailable", "", "starting"),
        ("200 OK", STREAM, WORKING_AND_COMPLETED),
    ]);
    let states: Vec<Value> = documents(&output);
    let states: Vec<&str> = states.iter().map(|it| it["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["working", "completed"]);
    assert_eq!(stderr(&output).matches("until it is back").count(), 1, "{}", stderr(&output));
}

#[test]
fn a_watch_of_a_task_that_is_gone_after_the_restart_says_so() {
    const PROBLEM: &str =
        "event: problem\ndata: {\"status\":404,\"title\":\"\",\"detail\":\"\"}\n\n";
    for answers in [
        &[("200 OK", STREAM, WORKING), stub::NOT_FOUND][..],
        &[("200 OK", STREAM, WORKING), ("200 OK", STREAM, PROBLEM)],
    ] {
        let output = watch(answers);
        assert_eq!(code(&output), 3, "{}", stderr(&output));
        assert!(stderr(&output).contains("no such task"));
    }
}

#[tokio::test]
async fn a_watch_outlives_a_shutdown_of_the_server() {
    let (folder, _, open) = store().await;
    let callers = "caller = [{ token = \"t\", owner = \"alice\" }]";
    std::fs::write(folder.path().join("callers.toml"), callers).unwrap();
    let arguments = ["--tokens", "callers.toml", "--drain-ms", "50"];
    let address = spare_address();
    let mut server = Server::start_at(&address, folder.path(), &arguments);
    let url = server.url.clone();
    let watch = ["tasks", "watch", open.id.as_str(), "--server", &url, "--token", "t"];
    let mut watch = command(folder.path(), &watch).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Lines::of(watch.stdout.take().unwrap());
    lines.until("working");
    server.terminate();
    assert!(server.ended().0.success());
    let _server = Server::start_at(&address, folder.path(), &arguments);
    let cancel = ["tasks", "cancel", open.id.as_str(), "--owner", "alice"];
    assert_eq!(code(&tenure(folder.path(), &cancel)), 0);
    lines.until("cancelled");
    assert_eq!(watch.wait().unwrap().code(), Some(9));
}

#[tokio::test]
async fn ctrl_c_is_the_end_of_watching_all_tasks_and_too_early_for_one() {
    let (folder, _, open) = store().await;
    for (id, expected) in [(None, 0), (Some(open.id.as_str()), 130)] {
        let words: Vec<_> = ["tasks", "watch"].into_iter().chain(id).collect();
        let words = [&words[..], &["--owner", "alice"]].concat();
        let mut watch = command(folder.path(), &words).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = Lines::of(watch.stdout.take().unwrap());
        lines.until(open.id.as_str());
        signal(&watch, "-INT");
        assert_eq!(watch.wait().unwrap().code(), Some(expected), "{id:?}");
    }
}
