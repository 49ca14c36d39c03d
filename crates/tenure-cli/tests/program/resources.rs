//! `tenure resources`, on a store and on a server.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::code;
use crate::place::{PLANNER, Place};

#[test]
fn a_value_is_put_read_listed_and_deleted_in_a_store_and_on_a_server() {
    for place in [Place::store(), Place::server()] {
        place.file("planner.yaml", "model: large\nsteps: [1, 2]\n");
        place.file("planner.json", r#"{"steps":[1.0,2],"model":"large"}"#);
        let etag = place.print(&["put", "acme", PLANNER, "-f", "planner.yaml"]);
        assert_eq!(etag.len(), 43);
        assert_eq!(place.print(&["put", "acme", PLANNER, "-f", "planner.json"]), etag);
        let got = place.print(&["get", "acme", PLANNER]);
        assert!(got.starts_with(&format!("# ETag: {etag}\nmodel: large\n")), "{got}");
        let json = place.print(&["get", "acme", PLANNER, "--json"]);
        assert_eq!(json, r#"{"model":"large","steps":[1,2]}"#);
        assert!(place.print(&["list", "acme"]).contains("agent/planner"));
        assert_eq!(place.print(&["list", "acme", "tool"]), "");
        assert_eq!(place.print(&["list", "other"]), "");
        place.print(&["delete", "acme", PLANNER]);
        place.print(&["delete", "acme", PLANNER]);
        assert_eq!(code(&place.run(&["get", "acme", PLANNER])), 3);
    }
}

#[test]
fn former_versions_are_shown_and_come_back() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        place.file("2.yaml", "2");
        let one = place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
        place.print(&["put", "acme", PLANNER, "-f", "2.yaml"]);
        let history = place.print(&["history", "acme", PLANNER, "--json"]);
        let numbers: Vec<Value> = history
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].clone())
            .collect();
        assert_eq!(numbers, [2, 1]);
        assert_eq!(place.print(&["get", "acme", PLANNER, "--version", "1", "--json"]), "1");
        assert_eq!(place.print(&["revert", "acme", PLANNER, "1"]), one);
        assert_eq!(code(&place.run(&["revert", "acme", PLANNER, "9"])), 3);
    }
}

#[test]
fn standard_input_is_a_file_and_what_is_no_value_is_refused() {
    let place = Place::store();
    let put = |text: &str| {
        let mut child = place
            .command(&["put", "acme", PLANNER, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait().unwrap().code().unwrap()
    };
    assert_eq!(put("a: 1\n"), 0);
    for refused in [
        "a: [",
        "9007199254740993",
        "{1: 2}: 3",
        "a: 1\n---\nb: 2\n",
        "",
        "\n# later\n",
        "---\n",
        "a: .nan",
        "a: 1e400",
    ] {
        assert_eq!(put(refused), 1, "{refused}");
    }
    assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), r#"{"a":1}"#);
}
