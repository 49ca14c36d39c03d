//! The program from the outside: what it prints, and the exit code that tells a script so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::FileBackend;
use tenure::tasks::{Call, NewTask, Task, TaskRef, TaskStore};

const TENURE: &str = env!("CARGO_BIN_EXE_tenure");

fn tenure(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(TENURE);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for variable in ["TENURE_STORE", "TENURE_SERVER", "TENURE_TOKEN", "TENURE_LOG"] {
        command.env_remove(variable);
    }
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

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

/// A server that ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let mut child = command(folder, &all).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|it| it.split("/mcp").next());
        let url = format!("http://{}", address.unwrap_or_else(|| panic!("no address: {line}")));
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    assert_eq!(code(&run("watch", open.id.as_str())), 0);
    // Somebody else's is not found.
    assert_eq!(code(&tenure(folder.path(), &["tasks", "get", done.id.as_str()])), 3);
}

#[test]
fn looking_for_a_store_does_not_make_one() {
    let folder = TempDir::new().unwrap();
    let output = tenure(folder.path(), &["tasks", "list"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("there is no file ./tenure.db"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "these are my notes, not a store\n").unwrap();
    for arguments in [
        ["tasks", "list", "--store", "file:notes.txt"],
        ["serve", "--listen=127.0.0.1:0", "--store", "file:notes.txt"],
    ] {
        let output = tenure(folder.path(), &arguments);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        assert!(!stderr(&output).is_empty());
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), "these are my notes, not a store\n");
}

#[test]
fn a_server_that_others_could_reach_wants_to_know_who_calls() {
    let folder = TempDir::new().unwrap();
    let output = tenure(folder.path(), &["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("can be reached from outside"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_address_in_use_is_an_error_before_the_store_is_touched() {
    let folder = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tenure(folder.path(), &["serve", "--listen", &address]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cannot listen on"), "{}", stderr(&output));
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
    let output = tenure(folder.path(), &["tasks", "list", "--server", "not a url"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
}

#[test]
fn the_end_of_standard_input_ends_a_server_on_it() {
    let folder = TempDir::new().unwrap();
    let output = tenure(folder.path(), &["serve", "--stdio", "--store", "memory:"]);
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_usage_is_told_apart() {
    let folder = TempDir::new().unwrap();
    for arguments in [&["serve", "--listen", "here"][..], &["tasks", "list", "--limit", "0"], &[]] {
        assert_eq!(code(&tenure(folder.path(), arguments)), 2);
    }
}
