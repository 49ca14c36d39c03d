//! `tenure serve`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Lines, Server, TENURE, call, code, command, command_of, ended, run as tenure, signal, stderr,
};

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
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("can be reached from outside"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--tokens"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_host_name_of_this_machine_stands_for_its_address() {
    let folder = TempDir::new().unwrap();
    let server = Server::start_at("localhost:0", folder.path(), &["--store", "memory:"]);
    let list = tenure(folder.path(), &["tasks", "list", "--server", &server.url]);
    assert_eq!(code(&list), 0, "{}", stderr(&list));
    for (listen, expected, word) in [
        (":0", 2, "host with a port"),
        ("localhost:http", 2, "host with a port"),
        ("nowhere.invalid:0", 1, "cannot listen on nowhere.invalid:0"),
    ] {
        let serve = tenure(folder.path(), &["serve", "--listen", listen, "--store", "memory:"]);
        assert_eq!(code(&serve), expected, "{listen}");
        assert!(stderr(&serve).contains(word), "{}", stderr(&serve));
    }
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

#[test]
fn the_end_of_standard_input_ends_a_server_on_it() {
    let folder = TempDir::new().unwrap();
    let output = tenure(folder.path(), &["serve", "--stdio", "--store", "memory:"]);
    assert!(output.stdout.is_empty());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_server_on_a_standard_input_that_stays_open() {
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        },
    });
    for name in ["-TERM", "-INT"] {
        let folder = TempDir::new().unwrap();
        let mut serve = command(folder.path(), &["serve", "--stdio", "--store", "memory:"]);
        serve.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = serve.spawn().unwrap();
        let mut input = server.stdin.take().unwrap();
        writeln!(input, "{initialize}").unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
        assert!(output.next().unwrap().unwrap().contains("serverInfo"));
        signal(&server, name);
        assert_eq!(ended(server).code(), Some(0), "{name}");
        drop(input);
    }
}

#[test]
fn wrong_usage_is_told_apart() {
    let folder = TempDir::new().unwrap();
    for arguments in [&["serve", "--listen", "here"][..], &["tasks", "list", "--limit", "0"], &[]] {
        assert_eq!(code(&tenure(folder.path(), arguments)), 2);
    }
}

const CALLERS: &str = r#"caller = [{ token = "t", owner = "alice" }]"#;

#[test]
fn callers_come_from_the_environment_as_well_and_from_one_place_only() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("callers.toml"), CALLERS).unwrap();
    let listen = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:"];
    let server = Server::spawn(command(folder.path(), &listen).env("TENURE_TOKENS", CALLERS));
    let list = |token| {
        let list = ["tasks", "list", "--server", &server.url, "--token", token];
        code(&tenure(folder.path(), &list))
    };
    assert_eq!((list("t"), list("other")), (0, 6));

    let refused = |arguments: &[&str], callers: &str| {
        let mut command = command(folder.path(), &[&listen[..], arguments].concat());
        let output = command.env("TENURE_TOKENS", callers).output().unwrap();
        assert!(!stderr(&output).contains("token = "), "{}", stderr(&output));
        code(&output)
    };
    assert_eq!(refused(&["--tokens", "callers.toml"], CALLERS), 2);
    // What is there and says nothing does not open the server to everybody.
    assert_eq!(refused(&[], ""), 1);
    let stdio = ["serve", "--stdio", "--store", "memory:"];
    let output = command(folder.path(), &stdio).env("TENURE_TOKENS", CALLERS).output().unwrap();
    assert_eq!(code(&output), 2);
}

#[test]
fn a_shutdown_is_told_and_a_success() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    server.terminate();
    let (status, says) = server.ended();
    assert!(status.success());
    // A machine under load may have more to say in between.
    assert!(says.iter().any(|it| it.contains("shutting down")), "{says:?}");
}

#[test]
fn a_store_that_takes_long_to_open_is_named() {
    for (arguments, then) in [
        (&["serve", "--listen", "127.0.0.1:0"][..], "serving"),
        (&["tasks", "list"], "no tasks"),
        (&["resources", "list", "acme"], "0 resources"),
    ] {
        let folder = TempDir::new().unwrap();
        drop(Server::start(folder.path(), &[]));
        let other = rusqlite::Connection::open(folder.path().join("tenure.db")).unwrap();
        // Whoever opens it starts the log again, and waits for this writer to do so.
        other.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut command = command(folder.path(), arguments);
        let mut program = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut says = Lines::of(program.stderr.take().unwrap());
        says.until("opening the store file:./tenure.db, 0 MiB");
        other.execute_batch("ROLLBACK").unwrap();
        says.until(then);
        program.kill().unwrap();
        program.wait().unwrap();
    }
}

/// As when a logger is gone, or the shell at the other end of a pipe.
#[cfg(unix)]
#[test]
fn a_signal_ends_a_server_whose_standard_error_nobody_reads_any_more() {
    for (name, log) in [("-TERM", "error"), ("-INT", "error"), ("-TERM", "debug")] {
        let folder = TempDir::new().unwrap();
        let mut serve = command(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        serve.env("TENURE_LOG", log).stderr(Stdio::piped());
        let mut server = serve.spawn().unwrap();
        let mut says = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(says.any(|line| line.contains("serving http://")));
        drop(says);
        signal(&server, name);
        assert_eq!(ended(server).code(), Some(0), "{name} {log}");
    }
}

#[cfg(unix)]
#[test]
fn a_server_serves_though_nobody_reads_its_standard_error() {
    let folder = TempDir::new().unwrap();
    let address = crate::harness::spare_address();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let serve = ["serve", "--listen", &address];
    let mut server = command(folder.path(), &serve);
    let server = server.env("TENURE_LOG", "debug").stderr(writer).spawn().unwrap();
    let mut list = command(folder.path(), &["tasks", "list", "--server"]);
    list.arg(format!("http://{address}"));
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while code(&list.output().unwrap()) != 0 {
        assert!(std::time::Instant::now() < deadline, "it does not serve");
    }
    signal(&server, "-TERM");
    assert_eq!(ended(server).code(), Some(0));
}

#[tokio::test]
async fn a_shutdown_says_for_how_many_tasks_it_waits() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(folder.path(), &["--drain-ms", "60000"]);
    for _ in 0..2 {
        let slow = json!({ "topic": "x", "sections": 1, "section_ms": 600_000 });
        assert_eq!(call(&server, "report", slow).await["resultType"], "task");
    }
    server.terminate();
    server.says.until("waiting for 2 tasks");
}

#[tokio::test]
async fn a_shutdown_leaves_a_report_that_is_not_finished_to_the_next_start() {
    let folder = TempDir::new().unwrap();
    let mut server = Server::start(folder.path(), &["--drain-ms", "0"]);
    let slow = json!({ "topic": "x", "sections": 2, "section_ms": 600_000 });
    let id = call(&server, "report", slow).await["taskId"].as_str().unwrap().to_owned();
    server.terminate();
    assert!(server.ended().0.success());
    let task = tenure(folder.path(), &["tasks", "get", &id, "--json"]);
    let task: Value = serde_json::from_slice(&task.stdout).unwrap();
    assert_eq!((&task["status"], task.get("result")), (&json!("working"), None));
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_closed_ends_a_server_as_politely_as_a_request_to_end() {
    let folder = TempDir::new().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:"];
    // Whoever runs the tests may have them ignore it, and whatever they start.
    let heeding = [&["--default-signal=HUP", TENURE], &serve[..]].concat();
    let mut server = Server::spawn(&mut command_of("env", folder.path(), &heeding));
    // One from the system, one from the shell.
    server.signal("-HUP");
    server.says.until("shutting down");
    server.signal("-HUP");
    let (status, says) = server.ended();
    assert!(status.success(), "{status} {says:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_was_started_to_outlive_its_terminal_does() {
    let folder = TempDir::new().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:"];
    let mut nohup = command_of("nohup", folder.path(), &[&[TENURE], &serve[..]].concat());
    let server = Server::spawn(nohup.stdout(Stdio::null()));
    assert_eq!(server.ignored_signals() & 1, 1);
}
