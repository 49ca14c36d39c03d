//! `tenure resources export` and `import`: a project as a folder of files.

use std::process::Stdio;

use crate::harness::{code, stderr};
use crate::place::Place;

#[test]
fn a_project_goes_to_files_and_comes_back() {
    let place = Place::store();
    let ids = ["planner", "../../escape", "a/b", ".hidden", "é x", ""];
    for (number, id) in ids.iter().enumerate() {
        place.file("v.json", &format!("{{\"n\":{number},\"text\":\"yes\"}}"));
        place.print(&["put", "acme", &format!("agent/{id}"), "-f", "v.json"]);
    }
    assert_eq!(place.print(&["export", "acme", "out"]), "written 6, unreadable 0");
    assert!(place.folder.path().join("out/agent/planner.yaml").exists());
    assert!(!place.folder.path().join("escape.yaml").exists());
    let other = ["import", "other", "out"];
    let dry = place.print(&[&other[..], &["--dry-run"]].concat());
    assert!(
        dry.ends_with("would be: created 6, replaced 0, unchanged 0, kept 0, failed 0, skipped 0"),
        "{dry}"
    );
    assert_eq!(place.print(&["list", "other"]), "");
    assert!(
        place
            .print(&other)
            .ends_with("created 6, replaced 0, unchanged 0, kept 0, failed 0, skipped 0")
    );
    for id in ids {
        let of = |project| place.print(&["get", project, &format!("agent/{id}"), "--json"]);
        assert_eq!(of("acme"), of("other"));
    }
    place.file("out/agent/planner.yaml", "changed: true\n");
    let seed = place.print(&other);
    assert!(
        seed.ends_with("created 0, replaced 0, unchanged 5, kept 1, failed 0, skipped 0"),
        "{seed}"
    );
    let overwritten = place.print(&[&other[..], &["--overwrite"]].concat());
    assert!(
        overwritten.ends_with("created 0, replaced 1, unchanged 5, kept 0, failed 0, skipped 0"),
        "{overwritten}"
    );
    assert_eq!(place.print(&["get", "other", "agent/planner", "--json"]), r#"{"changed":true}"#);
}

/// Such as `head`, or `grep -q`: once it has seen enough, every further write fails.
#[test]
fn a_reader_that_goes_away_is_no_failure_and_stops_no_import() {
    let place = Place::store();
    std::fs::create_dir_all(place.folder.path().join("in/agent")).unwrap();
    for name in ["a", "b", "c"] {
        place.file(&format!("in/agent/{name}.yaml"), "n: 1");
    }
    let unread = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(arguments).stdout(writer).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        assert_eq!((code(&output), stderr(&output)), (0, String::new()), "{arguments:?}");
    };
    unread(&["import", "acme", "in"]);
    assert_eq!(place.print(&["list", "acme"]).lines().count(), 3);
    unread(&["get", "acme", "agent/a"]);
    unread(&["list", "acme"]);
    unread(&["export", "acme", "out"]);
    assert!(place.folder.path().join("out/agent/c.yaml").exists());
}
