//! What is said, and with which exit code, when something cannot be done.

use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::harness::{code, command, run, stderr};
use crate::place::{PLANNER, Place};
use crate::stub;

#[track_caller]
fn says(output: &Output, expected: i32, words: &[&str]) {
    let told = stderr(output);
    assert_eq!(code(output), expected, "{told}");
    for word in words {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn a_location_that_cannot_be_meant_is_wrong_usage() {
    let folder = TempDir::new().unwrap();
    for server in ["ftp://x", "127.0.0.1:8765", "localhost:8765", "not a url", "me:secret@h"] {
        let list = run(folder.path(), &["tasks", "list", "--server", server]);
        says(&list, 2, &["http://127.0.0.1:8765"]);
        let mut list = command(folder.path(), &["resources", "list", "acme"]);
        says(&list.env("TENURE_SERVER", server).output().unwrap(), 2, &[]);
    }
    let bogus = ["--store", "bogus://me:secret@x"];
    for arguments in [&["tasks", "list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let output = run(folder.path(), &[arguments, &bogus].concat());
        says(&output, 2, &["names no store"]);
    }
}

#[test]
fn a_resource_that_is_not_named_as_kind_and_id_is_wrong_usage() {
    let place = Place::store();
    place.file("1.yaml", "1");
    says(&place.run(&["put", "acme", "agent", "-f", "1.yaml"]), 2, &["KIND/ID"]);
    says(&place.run(&["get", "acme", "agent"]), 2, &["KIND/ID"]);
}

#[test]
fn a_store_that_another_program_has_locked_is_worth_another_try() {
    let place = Place::store();
    place.file("1.yaml", "1");
    place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
    let file = place.folder.path().join("tenure.db");
    for begin in ["BEGIN IMMEDIATE", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"] {
        let other = rusqlite::Connection::open(&file).unwrap();
        other.execute_batch(begin).unwrap();
        let serve = run(place.folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        says(&serve, 5, &["file:./tenure.db", "locked"]);
    }
}

/// Runs the program as somebody who may not read the files that this process makes unreadable.
#[cfg(unix)]
fn run_without_rights(folder: &Path, arguments: &[&str]) -> Output {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
    use std::os::unix::process::CommandExt as _;
    let mut limited = command(folder, arguments);
    if std::fs::metadata(folder).unwrap().uid() == 0 {
        // Nothing is unreadable for root, and nobody else may see where the program lies.
        let program = folder.join("program");
        std::fs::copy(crate::harness::TENURE, &program).unwrap();
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        limited = std::process::Command::new(program);
        limited.args(arguments).current_dir(folder).env_clear().uid(65_534).gid(65_534);
    }
    limited.output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_store_that_may_not_be_read_is_no_matter_of_trying_again() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::store();
    place.file("1.yaml", "1");
    place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
    let file = place.folder.path().join("tenure.db");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).unwrap();
    let closed = place.folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    for (store, name) in [("file:./tenure.db", "tenure.db"), ("file:closed/a.db", "closed/a.db")] {
        for arguments in [&["tasks", "list"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let arguments = [arguments, &["--store", store]].concat();
            let output = run_without_rights(place.folder.path(), &arguments);
            says(&output, 1, &["permission denied", name]);
        }
    }
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_file_that_is_no_store_is_named() {
    let folder = TempDir::new().unwrap();
    for text in ["hello", &"these are my notes\n".repeat(1_000)] {
        std::fs::write(folder.path().join("notes.txt"), text).unwrap();
        let list = run(folder.path(), &["tasks", "list", "--store", "file:./notes.txt"]);
        says(&list, 1, &["notes.txt is not a Tenure store"]);
    }
}

#[test]
fn a_redis_that_refuses_is_named_once_with_the_reason_and_without_the_password() {
    let folder = TempDir::new().unwrap();
    let store = "redis://me:secret@127.0.0.1:1";
    let list = run(folder.path(), &["tasks", "list", "--store", store]);
    says(&list, 5, &["127.0.0.1:1"]);
    assert_eq!(stderr(&list).matches("Connection refused").count(), 1, "{}", stderr(&list));
}

#[test]
fn a_variable_that_has_no_value_of_a_flag_is_the_one_that_is_named() {
    let folder = TempDir::new().unwrap();
    let serve = |arguments: &[&str]| {
        let mut serve = command(folder.path(), &[&["serve"], arguments].concat());
        serve.env("TENURE_CONNECTIONS", "abc").output().unwrap()
    };
    says(&serve(&[]), 2, &["abc", "TENURE_CONNECTIONS"]);
    assert!(!stderr(&serve(&[])).contains("--connections"), "{}", stderr(&serve(&[])));
    says(&serve(&["--connections=x"]), 2, &["'x'", "--connections"]);
}

#[test]
fn a_level_of_the_log_that_there_is_not_is_wrong_usage() {
    let place = Place::server();
    let list = |level: &str| place.command(&["list", "acme"]).env("TENURE_LOG", level).output();
    for level in ["bogus", "warn,bogus", "tenure=bogus"] {
        says(&list(level).unwrap(), 2, &["TENURE_LOG", level]);
    }
    for level in ["", "warn", "DEBUG", "off", "warn,tenure=debug"] {
        says(&list(level).unwrap(), 0, &[]);
    }
}

#[test]
fn what_was_to_be_made_and_exists_is_told_with_its_etag() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        let etag = place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
        let again = place.run(&["put", "acme", PLANNER, "-f", "1.yaml", "--create"]);
        says(&again, 7, &["exists already", &etag]);
    }
}

#[test]
fn a_url_that_leads_to_no_tenure_server_is_told_apart_from_what_is_not_there() {
    let place = Place::server();
    let server = &place.server.as_ref().unwrap().url;
    let folder = place.folder.path();
    let beside = format!("{server}/foo");
    let other = stub::serve(|_| ("404 Not Found", "", "<h1>Not Found</h1>"));
    for url in [&beside, &other] {
        for arguments in [&["tasks", "list"][..], &["tasks", "get", "x"]] {
            let output = run(folder, &[arguments, &["--server", url]].concat());
            says(&output, 1, &["there is no Tenure server at", url]);
        }
    }
    says(&run(folder, &["tasks", "get", "x", "--server", server]), 3, &["no such task"]);
}

#[test]
fn a_project_without_rights_is_no_matter_of_one_resource() {
    let mut place = Place::store();
    place.file("1.yaml", "1");
    let callers = r#"caller = [{ token = "t", owner = "bob", projects = { acme = "write" } }]"#;
    place.file("callers.toml", callers);
    place.start("127.0.0.1:0", &["--tokens", "callers.toml"]);
    for arguments in
        [&["put", "other", PLANNER, "-f", "1.yaml"][..], &["list", "other"], &["watch", "other"]]
    {
        let output = place.command(arguments).env("TENURE_TOKEN", "t").output().unwrap();
        says(&output, 3, &["there is no such project, or no rights to it"]);
    }
    let get = place.command(&["get", "acme", "a/b"]).env("TENURE_TOKEN", "t").output().unwrap();
    says(&get, 3, &["there is no such resource"]);
    says(&place.run(&["list", "acme"]), 6, &["needs a token", "--token", "TENURE_TOKEN"]);
    let wrong = place.command(&["list", "acme"]).env("TENURE_TOKEN", "x").output().unwrap();
    says(&wrong, 6, &["refuses the token"]);
}

#[test]
fn a_file_is_moved_with_the_log_that_a_killed_server_left_beside_it() {
    let mut place = Place::server();
    place.file("1.yaml", "1");
    place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
    place.kill();
    let moved = TempDir::new().unwrap();
    for name in ["tenure.db", "tenure.db-wal"] {
        std::fs::copy(place.folder.path().join(name), moved.path().join(name)).unwrap();
    }
    let get = run(moved.path(), &["resources", "get", "acme", PLANNER, "--json"]);
    assert_eq!((code(&get), &get.stdout[..]), (0, &b"1\n"[..]), "{}", stderr(&get));
}
