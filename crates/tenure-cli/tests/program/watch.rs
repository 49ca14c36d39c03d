//! `tenure resources watch` and `tenure tasks watch`, when streams are cut off.

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tenure::clock::Clock;
use tenure::store::{FileBackend, Partition, StorageBackend as _, Write};

use crate::harness::{Lines, code, command, run, spare_address, stderr};
use crate::place::Place;
use crate::stub;

const STREAM: &str = "content-type: text/event-stream\r\n";

macro_rules! event {
    ($id:literal, $name:literal) => {
        concat!("id: ", $id, "\nevent: ", $name, "\ndata: {\"event\":\"", $name, "\"}\n\n")
    };
    ($name:literal) => {
        concat!("event: ", $name, "\ndata: {\"event\":\"", $name, "\"}\n\n")
    };
    ($name:literal, $kind:literal, $of:literal) => {
        concat!(
            "event: ",
            $name,
            "\ndata: {\"event\":\"",
            $name,
            "\",\"kind\":\"",
            $kind,
            "\",\"id\":\"",
            $of,
            "\",\"etag\":\"e\",\"version\":\"1\"}\n\n"
        )
    };
}

/// An event without what else is on its line.
fn short(line: &str) -> String {
    let mut words = line.split_whitespace();
    [words.next(), words.next_back()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The events, in short, of a watch whose streams are these and then no
/// more; and behind which event each was asked for.
fn watched(pattern: &str, streams: &'static [&'static str]) -> (Vec<String>, Vec<Option<String>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (asking, mut left) = (Arc::clone(&asked), streams.iter());
    let url = stub::serve_by_head(move |_, headers| {
        let Some(stream) = left.next() else { return stub::NOT_FOUND };
        let position = headers.iter().find_map(|it| it.strip_prefix("last-event-id: "));
        asking.lock().unwrap().push(position.map(ToOwned::to_owned));
        ("200 OK", STREAM, stream)
    });
    let folder = TempDir::new().unwrap();
    let watch = ["resources", "watch", "acme", pattern, "--server", &url];
    let output = run(folder.path(), &watch);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let told = String::from_utf8(output.stdout).unwrap();
    let asked = asked.lock().unwrap().clone();
    (told.lines().map(short).collect(), asked)
}

/// `a` is deleted while nobody listens, and only what is told as present shows it.
#[test]
fn a_watch_that_is_cut_off_before_the_state_is_complete_begins_anew_and_says_so() {
    let (told, asked) = watched(
        "agent/",
        &[
            concat!(event!("present", "agent", "a"), event!("present", "agent", "b")),
            // Cut off again before anything was told.
            "",
            concat!(event!("present", "agent", "b"), event!("7", "primed")),
            concat!(event!("put", "agent", "c")),
        ],
    );
    let all = ["present agent/a", "present agent/b", "resync", "present agent/b", "primed"];
    assert_eq!(told, [&all[..], &["put agent/c"]].concat());
    assert_eq!(asked, [None, None, None, Some("7".into())]);
}

#[test]
fn a_watch_that_is_cut_off_while_it_is_told_all_again_does_not_go_on_behind_what_was_before() {
    let (told, asked) = watched(
        "agent/",
        &[
            concat!(event!("7", "primed"), event!("resync"), event!("present", "agent", "a")),
            event!("9", "primed"),
        ],
    );
    assert_eq!(told, ["primed", "resync", "present agent/a", "resync", "primed"]);
    assert_eq!(asked, [None, None]);
}

#[test]
fn a_star_that_is_written_as_a_character_stands_for_itself() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        let put = |address: &str| place.print(&["put", "acme", address, "-f", "1.yaml"]);
        put("a%2A/x");
        put("ab/y");
        let mut watches = ["a%2A/", "a*/"].map(|pattern| {
            let mut watch = place.command(&["watch", "acme", pattern]);
            let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
            (watch, lines.map(|line| short(&line.unwrap())))
        });
        let [(_, exact), (_, pattern)] = &mut watches;
        assert!(exact.take(2).eq(["present a%2A/x", "primed"]));
        assert!(pattern.take(3).eq(["present a%2A/x", "present ab/y", "primed"]));
        put("ab/z");
        put("a%2A/z");
        assert!(exact.take(1).eq(["put a%2A/z"]));
        assert!(pattern.take(2).eq(["put ab/z", "put a%2A/z"]));
        for (mut watch, _) in watches {
            watch.kill().unwrap();
            watch.wait().unwrap();
        }
    }
}

fn watch_tasks(stream: &'static str) -> Output {
    let mut left = [("200 OK", STREAM, stream)].into_iter();
    let url = stub::serve(move |_| left.next().unwrap_or(stub::NOT_FOUND));
    let folder = TempDir::new().unwrap();
    run(folder.path(), &["tasks", "watch", "--json", "--server", &url])
}

#[test]
fn a_task_that_cannot_be_read_is_told_by_a_watch_on_a_server() {
    let output = watch_tasks("event: unreadable\ndata: \"task t cannot be read: \\u001b\"\n\n");
    assert_eq!((code(&output), &output.stdout[..]), (3, &b""[..]));
    let told = stderr(&output);
    assert!(told.contains("tenure: task t cannot be read: \u{fffd}\n"), "{told}");
}

#[tokio::test]
async fn a_task_that_cannot_be_read_is_told_by_a_watch_on_a_store() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tenure.db");
    let store = FileBackend::open(path, Clock::system()).await.unwrap();
    let task = Partition::new(["tasks", "local"]).unwrap().key("spoilt").unwrap();
    store.put(&task, Write::new("no task")).await.unwrap();
    let mut watch = command(folder.path(), &["tasks", "watch"]);
    let mut watch = watch.stderr(Stdio::piped()).spawn().unwrap();
    let mut says = Lines::of(watch.stderr.take().unwrap());
    says.until("tenure: task spoilt cannot be read");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_watch_goes_on_after_the_server_was_killed_and_started_again() {
    let (mut place, address) = (Place::store(), spare_address());
    place.start(&address, &[]);
    place.file("1.yaml", "1");
    place.print(&["put", "acme", "agent/a", "-f", "1.yaml"]);
    let mut watch =
        place.command(&["watch", "acme", "agent/"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("agent/a"));
    assert_eq!(lines.next().unwrap(), "primed");
    place.kill();
    // While the server is down, the store changes.
    place.print(&["put", "acme", "agent/b", "-f", "1.yaml"]);
    place.start(&address, &[]);
    place.print(&["put", "acme", "agent/c", "-f", "1.yaml"]);
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.ends_with("agent/c")) {
        seen.push(lines.next().unwrap());
    }
    assert!(seen.iter().any(|line| line.ends_with("agent/b")), "{seen:?}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
