//! What the program does when a person sits before it.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{Lines, PATIENCE, TENURE, code, command, stderr};
use crate::place::{PLANNER, Place};
use crate::stub;
use crate::trouble::{follow_advice, kept};

/// A terminal: the end of the person, and that of the program.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (person.into(), program)
}

/// An edit that meets somebody else's, and what the person answers when asked.
fn edit(place: &Place, editor: &str, answer: &str) -> Output {
    place.file("editor.sh", editor);
    let (mut person, program) = terminal();
    person.write_all(answer.as_bytes()).unwrap();
    let says = Lines::of(person);
    let mut command = start_of_edit(place, &program);
    let edit = command.stderr(program).spawn().unwrap().wait_with_output().unwrap();
    // It holds the terminal, whose end is that of all that is said on it.
    drop(command);
    let stderr = says.into_all().join("\n") + "\n";
    Output { stderr: stderr.into(), ..edit }
}

/// An edit whose input is a terminal's.
fn start_of_edit(place: &Place, program: &File) -> Command {
    let mut edit = place.command(&["edit", "acme", PLANNER]);
    let drafts = place.folder.path().join("drafts");
    std::fs::create_dir_all(&drafts).unwrap();
    edit.env("EDITOR", "sh ./editor.sh").env("TENURE", TENURE).env("TMPDIR", drafts);
    edit.stdin(program.try_clone().unwrap()).stdout(Stdio::piped());
    edit
}

/// How many texts an edit has left behind.
fn drafts(place: &Place) -> usize {
    std::fs::read_dir(place.folder.path().join("drafts")).unwrap().count()
}

/// The first time in the editor somebody else does `theirs` and the user `mine`; the second time
/// the user does `then`.
fn editor(place: &Place, theirs: &str, mine: &str, then: &str) -> String {
    let server = place.server.as_ref().map_or(String::new(), |it| format!("--server {}", it.url));
    format!(
        "if [ ! -e opened ]; then touch opened\n\
         \"$TENURE\" resources {theirs} {server} acme {PLANNER} >/dev/null\n{mine}\n\
         else cp \"$1\" seen.yaml\n{then}\nfi\n"
    )
}

const BASE: &str = "model: small\nsteps: 1\nmode: a\n";
const THEIRS: &str = "model: large\nsteps: 1\nmode: b\n";
const STORED: &str = r#"{"mode":"b","model":"large","steps":1}"#;
/// Contradicts theirs.
const MINE: &str = "printf '# why\nmodel: small\nsteps: 2\nmode: c\n' >\"$1\"";
/// Does not.
const BESIDE: &str = "printf 'model: small\nsteps: 2\nmode: a\n' >\"$1\"";

fn place_with_both(place: Place) -> Place {
    place.file("base.yaml", BASE);
    place.file("theirs.yaml", THEIRS);
    place.print(&["put", "acme", PLANNER, "-f", "base.yaml"]);
    place
}

fn value(place: &Place) -> String {
    place.print(&["get", "acme", PLANNER, "--json"])
}

#[test]
fn after_a_conflict_the_editor_opens_again_on_both_texts_brought_together() {
    for place in [Place::store(), Place::server()] {
        let place = place_with_both(place);
        let editor = editor(&place, "put -f theirs.yaml", MINE, "sed -i '/^#/d' \"$1\"");
        let edited = edit(&place, &editor, "y\n");
        assert_eq!(code(&edited), 0, "{}", stderr(&edited));
        let seen = std::fs::read_to_string(place.folder.path().join("seen.yaml")).unwrap();
        assert!(
            seen.contains("# Both changed /mode, and this is yours; theirs is \"b\""),
            "{seen}"
        );
        assert_eq!(value(&place), r#"{"mode":"c","model":"large","steps":2}"#);
        assert_eq!(drafts(&place), 0);
    }
}

#[test]
fn a_merge_without_contradictions_is_stored_as_it_is() {
    let place = place_with_both(Place::store());
    let editor = editor(&place, "put -f theirs.yaml", BESIDE, "true");
    let edited = edit(&place, &editor, "y\n");
    assert_eq!(code(&edited), 0, "{}", stderr(&edited));
    assert_eq!(value(&place), r#"{"mode":"b","model":"large","steps":2}"#);
    assert_eq!(drafts(&place), 0);
}

#[test]
fn whoever_decides_nothing_overwrites_nothing_and_keeps_every_text() {
    for place in [Place::store(), Place::server()] {
        let place = place_with_both(place);
        let editor = editor(&place, "put -f theirs.yaml", MINE, "true");
        let edited = edit(&place, &editor, "\n");
        let told = stderr(&edited);
        assert_eq!(code(&edited), 7, "{told}");
        assert!(told.contains("nothing was decided"), "{told}");
        assert_eq!(value(&place), STORED);
        let both = std::fs::read_to_string(kept(&told)).unwrap();
        assert!(both.contains("model: large") && both.contains("mode: c"), "{both}");
        let (_, before) = told.split_once("what you wrote before is kept in ").unwrap();
        let before = std::fs::read_to_string(before.split(", and ").next().unwrap()).unwrap();
        assert!(before.starts_with("# why\nmodel: small"), "{before}");
        assert_eq!(code(&follow_advice(&place, &told)), 0);
        assert_eq!(value(&place), r#"{"mode":"c","model":"large","steps":2}"#);
    }
}

#[test]
fn what_somebody_else_deleted_is_written_again_by_a_decision_only() {
    for (then, expected) in [("sed -i '/^#/d' \"$1\"", 0), ("true", 7)] {
        let place = place_with_both(Place::store());
        let editor = editor(&place, "delete", MINE, then);
        let edited = edit(&place, &editor, "\n");
        let told = stderr(&edited);
        assert_eq!(code(&edited), expected, "{told}");
        if expected == 7 {
            assert_eq!(code(&place.run(&["get", "acme", PLANNER])), 3, "{told}");
            assert_eq!(code(&follow_advice(&place, &told)), 0, "{told}");
        }
        assert_eq!(value(&place), r#"{"mode":"c","model":"small","steps":2}"#);
    }
}

#[test]
fn whoever_does_not_want_the_editor_again_keeps_the_text() {
    for (answer, then) in [("n\n", "true"), ("\x04", "true"), ("y\n", "false")] {
        let place = place_with_both(Place::store());
        let editor = editor(&place, "put -f theirs.yaml", MINE, then);
        let edited = edit(&place, &editor, answer);
        let told = stderr(&edited);
        let text = std::fs::read_to_string(kept(&told)).unwrap();
        assert!(text.contains("steps: 2") && text.contains("mode: c"), "{text}");
        assert_eq!(value(&place), STORED);
        if then == "true" {
            assert_eq!(code(&edited), 7, "{told}");
            assert_eq!(code(&follow_advice(&place, &told)), 0);
            assert!(value(&place).contains(r#""steps":2"#));
        } else {
            assert_eq!(code(&edited), 1, "{told}");
            assert_eq!(drafts(&place), 2, "{told}");
        }
    }
}

#[test]
fn nobody_is_asked_who_cannot_see_the_question() {
    let place = place_with_both(Place::store());
    place.file("editor.sh", &editor(&place, "put -f theirs.yaml", BESIDE, "true"));
    let (mut person, program) = terminal();
    person.write_all(b"y\n").unwrap();
    let edited = start_of_edit(&place, &program).output().unwrap();
    let told = stderr(&edited);
    assert_eq!(code(&edited), 7, "{told}");
    assert!(!told.contains("open the editor again"), "{told}");
    assert_eq!(value(&place), STORED);
}

/// Runs a command whose server takes its time on a terminal and, begun before, off one. Tells what
/// the latter had to say.
fn told_on_a_terminal_only(arguments: &[&str], line: &str) {
    let place = Place::store();
    std::fs::create_dir_all(place.folder.path().join("in/agent")).unwrap();
    place.file("in/agent/a.yaml", "n: 1");
    let (gate, closed) = channel::<()>();
    let (asked, was_asked) = channel();
    let url = stub::serve(move |request| {
        let _ = asked.send(());
        // Until the other end is dropped.
        let _ = closed.recv();
        match request.split(' ').next() {
            Some("PUT") => {
                ("200 OK", "etag: \"e\"\r\n", r#"{"etag":"e","version":"1","effect":"created"}"#)
            }
            _ if request.contains("/agent/") => stub::NOT_FOUND,
            _ => (
                "200 OK",
                "content-type: application/json\r\n",
                r#"{"resources":[],"revision":"r"}"#,
            ),
        }
    });
    let arguments = [&["resources"], arguments, &["--server", &url]].concat();
    let start = |stderr: Stdio| {
        let mut command = command(place.folder.path(), &arguments);
        command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
    };
    let piped = start(Stdio::piped());
    was_asked.recv_timeout(PATIENCE).unwrap();
    let (person, program) = terminal();
    let mut before_a_person = start(program.into());
    let mut says = Lines::of(person);
    says.until(line);
    drop(gate);
    assert!(before_a_person.wait().unwrap().success());
    let piped = piped.wait_with_output().unwrap();
    assert_eq!((code(&piped), stderr(&piped)), (0, String::new()));
}

#[test]
fn a_slow_import_tells_a_person_how_far_it_is() {
    told_on_a_terminal_only(&["import", "acme", "in"], "importing into acme: writing file 1 of 1");
}

#[test]
fn a_slow_export_tells_a_person_how_far_it_is() {
    told_on_a_terminal_only(&["export", "acme", "out"], "exporting acme: 0 written so far");
}
