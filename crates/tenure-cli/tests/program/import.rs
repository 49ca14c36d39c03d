//! `tenure resources import`: what it refuses, what it skips, and what a dry run knows of it.

use std::process::Output;

use crate::harness::{code, stderr};
use crate::place::Place;

/// A place whose folder `in` has these files.
fn place_with(place: Place, files: &[(&str, &str)]) -> Place {
    for (name, text) in files {
        let path = place.folder.path().join("in").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    place
}

fn summary(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap().lines().last().unwrap_or_default().into()
}

#[test]
fn two_files_of_one_resource_are_refused_before_anything_is_written() {
    let names = ["agent/a.yaml", "agent/a.json", "agent/%61.yaml"];
    for dry_run in [&[][..], &["--dry-run"]] {
        let files = names.map(|it| (it, "1"));
        let place = place_with(Place::store(), &[&files[..], &[("agent/b.yaml", "1")]].concat());
        let output = place.run(&[&["import", "acme", "in"], dry_run].concat());
        let told = stderr(&output);
        assert_eq!(code(&output), 1, "{told}");
        for name in names {
            assert!(told.contains(&format!("in/{name}: agent/a is in another file")), "{told}");
        }
        assert!(told.contains("3 files share a resource; nothing was imported"), "{told}");
        assert!(
            !place.folder.path().join("tenure.db").exists()
                || place.print(&["list", "acme"]).is_empty()
        );
    }
}

#[test]
fn a_dry_run_finds_the_value_that_is_too_large() {
    let large = "x".repeat(300 * 1_024);
    let files = [("agent/a.yaml", large.as_str()), ("agent/b.yaml", "1")];
    for place in [Place::store(), Place::server()] {
        let place = place_with(place, &files);
        let dry = place.run(&["import", "acme", "in", "--dry-run"]);
        let real = place.run(&["import", "acme", "in"]);
        for output in [&dry, &real] {
            assert_eq!(code(output), 1, "{}", stderr(output));
            assert!(stderr(output).contains("agent/a: "), "{}", stderr(output));
        }
        assert_eq!(summary(&dry), format!("would be: {}", summary(&real)));
        assert!(summary(&real).starts_with("created 1, "), "{}", summary(&real));
    }
}

#[test]
fn a_dry_run_knows_who_may_not_write_and_writes_nothing_for_who_may() {
    let mut place = place_with(Place::store(), &[("agent/a.yaml", "1"), ("agent/b.yaml", "2")]);
    place.file(
        "callers.toml",
        "caller = [{ token = \"r\", owner = \"bob\", projects = { acme = \"read\" } },\n\
                   { token = \"w\", owner = \"eve\", projects = { acme = \"write\" } }]",
    );
    place.file("c.yaml", "3");
    place.print(&["put", "acme", "agent/b", "-f", "c.yaml"]);
    place.start("127.0.0.1:0", &["--tokens", "callers.toml", "--conditions-required"]);
    let import = |token: &str| {
        let mut command = place.command(&["import", "acme", "in", "--dry-run", "--overwrite"]);
        command.env("TENURE_TOKEN", token).output().unwrap()
    };
    let refused = import("r");
    assert_eq!(code(&refused), 6, "{}", stderr(&refused));
    let fine = import("w");
    assert_eq!(code(&fine), 0, "{}", stderr(&fine));
    assert!(summary(&fine).starts_with("would be: created 1, replaced 1, "), "{}", summary(&fine));
    let listed = place.command(&["list", "acme"]).env("TENURE_TOKEN", "w").output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 1);
}

#[test]
fn a_dry_run_takes_a_store_that_is_not_there_for_empty_and_does_not_make_it() {
    let place = place_with(Place::store(), &[("agent/a.yaml", "1")]);
    let dry = place.run(&["import", "acme", "in", "--dry-run"]);
    assert_eq!(code(&dry), 0, "{}", stderr(&dry));
    assert!(summary(&dry).starts_with("would be: created 1, "), "{}", summary(&dry));
    assert!(stderr(&dry).contains("there is no file ./tenure.db yet"), "{}", stderr(&dry));
    assert!(!place.folder.path().join("tenure.db").exists());
    let nowhere = ["import", "acme", "in", "--dry-run", "--store", "file:no/such/folder.db"];
    assert_eq!(code(&place.run(&nowhere)), 1);
}

#[test]
fn what_is_no_resource_is_named_and_counted() {
    let files = ["a.yaml", "agent/README.md", "agent/a.yaml", ".git/config", "agent/.b.yaml"];
    let place = place_with(Place::store(), &files.map(|it| (it, "1")));
    let output = place.run(&["import", "acme", "in"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let skipped = "tenure: skipped in/a.yaml: it is in no folder of a kind\n\
        tenure: skipped in/agent/README.md: its name does not end with .yaml, .yml or .json\n";
    assert_eq!(stderr(&output), skipped);
    assert!(
        summary(&output)
            .ends_with("created 1, replaced 0, unchanged 0, kept 0, failed 0, skipped 2")
    );
}

#[test]
fn a_folder_where_only_files_belong_is_refused() {
    let place = place_with(Place::store(), &[("agent/a.yaml", "1"), ("deep/agent/b.yaml", "1")]);
    let output = place.run(&["import", "acme", "in"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("in/deep/agent is not"), "{}", stderr(&output));
}

/// As Kubernetes mounts a ConfigMap.
#[cfg(unix)]
#[test]
fn links_to_files_and_to_folders_of_kinds_are_followed_and_no_others() {
    use std::os::unix::fs::symlink;

    let real = "..2026_11_21";
    let names = ["agent/a.yaml", "tool/b.yaml"].map(|it| format!("{real}/{it}"));
    let files = [(names[0].as_str(), "1"), (names[1].as_str(), "2"), ("agent/c.yaml", "3")];
    let place = place_with(Place::store(), &files);
    let inside = place.folder.path().join("in");
    for (to, link) in [
        (real, "..data"),
        ("../..data/agent/a.yaml", "agent/a.yaml"),
        ("..data/tool", "tool"),
        ("nowhere", "agent/gone.yaml"),
        (".", "agent/again+"),
    ] {
        symlink(to, inside.join(link)).unwrap();
    }
    let output = place.run(&["import", "acme", "in"]);
    let told = stderr(&output);
    assert_eq!(code(&output), 0, "{told}");
    assert!(told.contains("skipped in/agent/again+: it is a link to a folder"), "{told}");
    assert!(told.contains("skipped in/agent/gone.yaml: it is neither"), "{told}");
    assert!(summary(&output).starts_with("created 3, "), "{}", summary(&output));
    assert_eq!(place.print(&["get", "acme", "tool/b", "--json"]), "2");
}

#[test]
fn an_import_with_a_file_that_is_wrong_writes_nothing() {
    let place = Place::store();
    std::fs::create_dir_all(place.folder.path().join("in/agent")).unwrap();
    place.file("in/agent/a.yaml", "1");
    place.file("in/agent/b.yaml", "[1");
    let refused = place.run(&["import", "acme", "in"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("b.yaml"), "{}", stderr(&refused));
    assert_eq!(place.print(&["list", "acme"]), "");
}
