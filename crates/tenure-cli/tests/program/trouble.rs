//! `tenure resources`, when something is in the way.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;
use tenure::resources::Document;

use crate::harness::{TENURE, code, run, stderr};
use crate::place::{PLANNER, Place};
use crate::stub;

/// The file in which an edit that failed keeps the user's text.
pub(crate) fn kept(told: &str) -> PathBuf {
    let path = told.split("your version is kept in ").nth(1).unwrap_or_else(|| panic!("{told}"));
    path.split(": ").next().unwrap().into()
}

/// Has a shell do what an edit that came too late says to do.
pub(crate) fn follow_advice(place: &Place, told: &str) -> Output {
    let advice = told.lines().find_map(|it| it.strip_prefix("  tenure ")).unwrap();
    let advice = format!("\"$TENURE\" {advice}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &advice]).current_dir(place.folder.path()).env("TENURE", TENURE);
    shell.output().unwrap()
}

const WRITTEN: &str = r#"{"etag":"e","version":"1","effect":"created"}"#;
const ETAG: &str = "etag: \"abc\"\r\n";

#[test]
fn an_import_goes_on_past_a_conflict_and_counts_what_failed() {
    let place = Place::store();
    std::fs::create_dir_all(place.folder.path().join("in/agent")).unwrap();
    for name in ["a", "b", "c", "d"] {
        place.file(&format!("in/agent/{name}.yaml"), "n: 1");
    }
    let url = stub::serve(|request| match request.split('/').next_back().unwrap() {
        _ if request.starts_with("GET") => stub::NOT_FOUND,
        _ if request.contains("agent/a") => ("412 Precondition Failed", ETAG, ""),
        _ if request.contains("agent/c") => ("422 Unprocessable Content", "", "too deep"),
        _ => ("201 Created", "", WRITTEN),
    });
    let output = run(place.folder.path(), &["resources", "import", "acme", "in", "--server", &url]);
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    let summary = "created 2, replaced 0, unchanged 0, kept 0, failed 2, skipped 0";
    assert_eq!(told.lines().last(), Some(summary), "{told}");
    assert_eq!(code(&output), 1);
    let errors = stderr(&output);
    for error in ["agent/a: the resource is not", "abc", "agent/c: ", "too deep", "2 of 4"] {
        assert!(errors.contains(error), "{error} in {errors}");
    }
}

#[test]
fn an_import_goes_on_past_a_value_that_is_too_large() {
    for place in [Place::store(), Place::server()] {
        std::fs::create_dir_all(place.folder.path().join("in/agent")).unwrap();
        place.file("in/agent/a.yaml", &"x".repeat(300 * 1_024));
        place.file("in/agent/b.yaml", "n: 1");
        let output = place.run(&["import", "acme", "in"]);
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).contains("agent/a: "), "{}", stderr(&output));
        assert!(place.print(&["list", "acme"]).ends_with("agent/b"));
    }
}

#[test]
fn an_import_stops_when_the_server_is_gone_and_still_tells_what_it_did() {
    let place = Place::store();
    std::fs::create_dir_all(place.folder.path().join("in/agent")).unwrap();
    for name in ["a", "b", "c"] {
        place.file(&format!("in/agent/{name}.yaml"), "n: 1");
    }
    let url = stub::serve(|request| match request {
        it if it.contains("agent/a") && it.starts_with("PUT") => ("201 Created", "", WRITTEN),
        it if it.contains("agent/a") => stub::NOT_FOUND,
        it if it.contains("agent/b") => ("503 Service Unavailable", "", ""),
        it => panic!("{it}"),
    });
    let output = run(place.folder.path(), &["resources", "import", "acme", "in", "--server", &url]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.ends_with("created 1, replaced 0, unchanged 0, kept 0, failed 0, skipped 0\n"),
        "{told}"
    );
}

#[cfg(unix)]
#[test]
fn an_edit_never_loses_the_users_text_whatever_fails() {
    let value = r#"{"n":1}"#;
    for (edit, put, again, expected) in [
        // Refused, and then not even what is there can be read.
        ("echo mine >", "412 Precondition Failed", "500 Internal Server Error", 7),
        ("echo mine >", "412 Precondition Failed", "404 Not Found", 7),
        ("echo mine >", "500 Internal Server Error", "200 OK", 1),
        ("echo mine >", "503 Service Unavailable", "200 OK", 5),
        ("echo mine >", "401 Unauthorized", "200 OK", 6),
        // What the editor leaves is no value, or it fails afterwards.
        ("f() { echo mine >\"$1\"; false; }; f", "201 Created", "200 OK", 1),
        ("echo [mine >", "201 Created", "200 OK", 1),
    ] {
        let mut reads = 0;
        let url = stub::serve(move |request| {
            reads += u32::from(request.starts_with("GET"));
            match request.starts_with("GET") {
                true if reads == 1 => ("200 OK", "", value),
                true if again.starts_with("404") => stub::NOT_FOUND,
                true => (again, "", value),
                false => (put, ETAG, WRITTEN),
            }
        });
        let folder = TempDir::new().unwrap();
        let drafts = folder.path().join("it's a draft");
        std::fs::create_dir(&drafts).unwrap();
        let mut command = crate::harness::command(
            folder.path(),
            &["resources", "edit", "acme", PLANNER, "--server", &url],
        );
        let output = command.env("EDITOR", edit).env("TMPDIR", &drafts).output().unwrap();
        let told = stderr(&output);
        assert_eq!(code(&output), expected, "{edit} {put} {again}: {told}");
        let text = std::fs::read_to_string(kept(&told)).unwrap();
        assert!(text.contains("mine"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn an_empty_variable_names_no_editor() {
    let place = Place::store();
    for visual in ["", " "] {
        let mut edit = place.command(&["edit", "acme", PLANNER]);
        edit.env("VISUAL", visual).env("EDITOR", format!("echo 'x{visual}' >"));
        let output = edit.output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    // Without any there is vi.
    let vi = place.folder.path().join("vi");
    std::fs::write(&vi, "#!/bin/sh\necho vi >\"$1\"\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&vi, executable).unwrap();
    let path = format!("{}:{}", place.folder.path().display(), std::env::var("PATH").unwrap());
    let mut edit = place.command(&["edit", "acme", PLANNER]);
    let output = edit.env("VISUAL", "").env("EDITOR", "").env("PATH", path).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), r#""vi""#);
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_the_editor_is_the_editors() {
    let place = Place::store();
    let mut edit = place.command(&["edit", "acme", PLANNER]);
    let output = edit.env("EDITOR", "kill -INT $PPID; echo mine >").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), r#""mine""#);
}

#[cfg(unix)]
#[test]
fn what_an_edit_that_came_too_late_says_to_do_is_for_the_shell_to_take() {
    let place = Place::store();
    let (project, address) = ("it's; echo", "-a%2Fb/$(id) *");
    let drafts = place.folder.path().join("my drafts");
    std::fs::create_dir(&drafts).unwrap();
    place.file("1.yaml", "1");
    let args = |verb, rest: &[&'static str]| -> Vec<&str> {
        let place = ["--store", "file:a store.db", "--by", "O'Hara", "--", project, address];
        [&["resources", verb], rest, &place].concat()
    };
    let folder = place.folder.path();
    // Somebody creates it first; then somebody deletes it.
    let put = (args("put", &["-f", "1.yaml"]), "mine");
    for (meanwhile, text) in [put, (args("delete", &[]), "mine again")] {
        let words: Vec<_> = meanwhile.iter().map(|it| shlex::try_quote(it).unwrap()).collect();
        place.file(
            "editor.sh",
            &format!("{TENURE} {} >/dev/null; echo {text} >\"$1\"", words.join(" ")),
        );
        let mut edit = crate::harness::command(folder, &args("edit", &[]));
        let edit = edit.env("EDITOR", "sh ./editor.sh").env("TMPDIR", &drafts).output().unwrap();
        assert_eq!(code(&edit), 7, "{}", stderr(&edit));
        let advice = follow_advice(&place, &stderr(&edit));
        assert_eq!(code(&advice), 0, "{}: {}", stderr(&edit), stderr(&advice));
        let got = run(folder, &args("get", &["--json"]));
        assert_eq!(got.stdout, format!("\"{text}\"\n").as_bytes(), "{}", stderr(&got));
    }
    let history = run(folder, &args("history", &[]));
    assert!(String::from_utf8(history.stdout).unwrap().ends_with("O'Hara\n"));
}

#[test]
fn an_etag_that_begins_like_an_option_is_an_etag() {
    let place = Place::store();
    let value = (0..).map(|n| Document::from_value(&json!(n)).unwrap());
    let value = value.into_iter().find(|it| it.etag().to_string().starts_with('-')).unwrap();
    place.file("1.json", std::str::from_utf8(value.text()).unwrap());
    place.file("2.json", "2");
    let etag = place.print(&["put", "acme", PLANNER, "-f", "1.json"]);
    assert!(etag.starts_with('-'));
    place.print(&["put", "acme", PLANNER, "-f", "2.json", "--if-match", &etag]);
}

#[test]
fn what_is_listed_and_watched_is_named_as_commands_take_it() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        let named = "a%2Fb%25/c/d";
        place.print(&["put", "acme", named, "-f", "1.yaml"]);
        assert!(place.print(&["list", "acme"]).ends_with(&format!("  {named}")));
        for kind in ["a%2Fb%25", "a%2Fb%25/"] {
            assert!(place.print(&["list", "acme", kind]).ends_with(&format!("  {named}")));
        }
        let not_a_kind = place.run(&["list", "acme", named]);
        assert_eq!(code(&not_a_kind), 2);
        assert!(stderr(&not_a_kind).contains("%2F"), "{}", stderr(&not_a_kind));
        for pattern in [named, "a%2Fb%25/", "a%2F*"] {
            let mut watch = place.command(&["watch", "acme", pattern]);
            let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut lines = crate::harness::Lines::of(watch.stdout.take().unwrap());
            lines.until("primed");
            watch.kill().unwrap();
            watch.wait().unwrap();
            assert!(lines.seen[0].ends_with(&format!("  {named}")), "{:?}", lines.seen);
        }
    }
}

#[test]
fn a_star_in_a_kind_is_named_apart_from_one_that_stands_for_others() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        for address in ["a*/x", "ab/y"] {
            place.print(&["put", "acme", address, "-f", "1.yaml"]);
        }
        assert!(place.print(&["list", "acme", "a%2A"]).ends_with("  a%2A/x"));
        for (pattern, expected) in
            [("a%2A/", &["a%2A/x"][..]), ("a*/", &["a%2A/x", "ab/y"]), ("a%2A/x", &["a%2A/x"])]
        {
            let mut watch = place.command(&["watch", "acme", pattern]);
            let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut lines = crate::harness::Lines::of(watch.stdout.take().unwrap());
            lines.until("primed");
            watch.kill().unwrap();
            watch.wait().unwrap();
            let told = lines.seen.iter().filter_map(|it| it.split("  ").nth(2));
            assert_eq!(told.collect::<Vec<_>>(), expected, "{pattern}");
        }
        assert_eq!(code(&place.run(&["watch", "acme", "a%2A*"])), 2);
    }
}

#[test]
fn a_list_ends_with_the_number_of_resources_for_people() {
    let place = Place::store();
    let told = |arguments: &[&str]| stderr(&place.run(&[&["list", "acme"], arguments].concat()));
    place.file("1.yaml", "1");
    for id in ["a", "b", "c"] {
        place.print(&["put", "acme", &format!("agent/{id}"), "-f", "1.yaml"]);
    }
    assert_eq!(told(&[]), "tenure: 3 resources\n");
    assert_eq!(told(&["tool"]), "tenure: 0 resources\n");
    assert_eq!(told(&["--json"]), "");
    assert_eq!(told(&["--limit", "2"]), "tenure: there are more; --limit shows them\n");
    assert_eq!(told(&["--limit", "3"]), "tenure: 3 resources\n");
}
