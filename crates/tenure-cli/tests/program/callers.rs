//! Who may do what with `tenure resources` on a server.

use tempfile::TempDir;

use crate::harness::{code, command, stderr};
use crate::place::{PLANNER, Place};

#[test]
fn a_token_may_end_with_a_line_break_and_may_not_have_one_in_it() {
    let place = Place::store();
    place.file(
        "callers.toml",
        "caller = [{ token = \"t\", owner = \"bob\", projects = { \"*\" = \"read\" } }]",
    );
    let mut place = place;
    place.start("127.0.0.1:0", &["--tokens", "callers.toml"]);
    for (token, expected) in [("t\n", 0), ("t\r\n", 0), ("t\n\n", 2), ("t\nx", 2), ("x", 6)] {
        let list = place.command(&["list", "acme"]).env("TENURE_TOKEN", token).output().unwrap();
        assert_eq!(code(&list), expected, "{token:?}: {}", stderr(&list));
        assert!(expected != 2 || stderr(&list).contains("the token"), "{}", stderr(&list));
    }
}

#[test]
fn rights_and_demanded_conditions_reach_the_command_line() {
    let mut place = Place::store();
    let callers = "caller = [{ token = \"r\", owner = \"bob\", projects = { acme = \"read\" } }]";
    place.file("callers.toml", callers);
    place.file("1.yaml", "1");
    place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
    place.start("127.0.0.1:0", &["--tokens", "callers.toml", "--conditions-required"]);
    let with = |token: &str, arguments: &[&str]| {
        code(&place.command(arguments).env("TENURE_TOKEN", token).output().unwrap())
    };
    assert_eq!(with("r", &["get", "acme", PLANNER]), 0);
    assert_eq!(with("r", &["put", "acme", PLANNER, "-f", "1.yaml"]), 6);
    assert_eq!(with("r", &["get", "other", PLANNER]), 3);
    assert_eq!(with("x", &["get", "acme", PLANNER]), 6);
}

#[test]
fn what_is_wrong_with_the_callers_is_told_once_with_its_place_and_no_secret() {
    let folder = TempDir::new().unwrap();
    let text = "[[caller]]\ntoken = \"s3cret\"\nowner = 7\n";
    std::fs::write(folder.path().join("callers.toml"), text).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let mut from_file = command(folder.path(), &serve);
    let mut from_variable = command(folder.path(), &serve);
    for (command, place) in [
        (from_file.args(["--tokens", "callers.toml"]), "callers.toml"),
        (from_variable.env("TENURE_TOKENS", text), "the environment variable TENURE_TOKENS"),
    ] {
        let output = command.output().unwrap();
        let reason = "callers: line 3, column 9: invalid type, expected a string";
        assert_eq!(stderr(&output), format!("tenure: {place}: {reason}\n"));
        assert_eq!(code(&output), 1);
    }
}

#[cfg(unix)]
#[test]
fn a_variable_with_callers_that_is_no_text_is_not_quoted() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let folder = TempDir::new().unwrap();
    let mut serve = command(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
    let output = serve.env("TENURE_TOKENS", OsStr::from_bytes(b"s3cret\xff")).output().unwrap();
    assert_ne!(code(&output), 0);
    let told = stderr(&output);
    assert!(told.contains("UTF-8") && told.contains("TENURE_TOKENS"), "{told}");
    assert!(!told.contains("s3cret"), "{told}");
}
