//! Where the program looks, when flags and variables say different things.

use tempfile::TempDir;

use crate::harness::{Server, code, command, stderr};

const PUT: [&str; 6] = ["resources", "put", "acme", "agent/planner", "-f", "1.yaml"];
const GET: [&str; 4] = ["resources", "get", "acme", "agent/planner"];
const LIST: [&str; 2] = ["tasks", "list"];

struct Told {
    code: i32,
    errors: String,
}

fn told(folder: &TempDir, parts: &[&[&str]], variables: &[(&str, &str)]) -> Told {
    let mut command = command(folder.path(), &parts.concat());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    Told { code: code(&output), errors: stderr(&output) }
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("1.yaml"), "1").unwrap();
    folder
}

#[test]
fn a_store_that_a_flag_names_is_the_one_whatever_the_variables_say() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--store", "file:./served.db"]);
    let variables =
        [("TENURE_SERVER", server.url.as_str()), ("TENURE_STORE", "file:./variable.db")];
    let mine = ["--store", "file:./mine.db"];
    assert_eq!(told(&folder, &[&PUT, &mine, &["--by", "me"]], &variables).code, 0);
    assert_eq!(told(&folder, &[&GET, &mine], &variables).code, 0);
    assert_eq!(told(&folder, &[&LIST, &mine, &["--owner", "me"]], &variables).code, 0);
    assert_eq!(told(&folder, &[&GET, &["--server", &server.url]], &[]).code, 3);
    assert!(!folder.path().join("variable.db").exists());
}

#[test]
fn a_server_that_a_flag_names_is_the_one_whatever_the_variables_say() {
    let folder = folder();
    let server = Server::start(folder.path(), &["--store", "file:./served.db"]);
    let flag = ["--server", server.url.as_str()];
    let variables = [("TENURE_STORE", "file:./mine.db"), ("TENURE_SERVER", "http://127.0.0.1:1")];
    assert_eq!(told(&folder, &[&PUT, &flag], &variables).code, 0);
    assert_eq!(told(&folder, &[&LIST, &flag], &variables).code, 0);
    assert_eq!(told(&folder, &[&GET, &["--store", "file:./served.db"]], &[]).code, 0);
    assert!(!folder.path().join("mine.db").exists());
}

#[test]
fn the_servers_variable_counts_before_the_stores() {
    let folder = folder();
    let variables = [("TENURE_STORE", "memory:"), ("TENURE_SERVER", "http://127.0.0.1:1")];
    assert_eq!(told(&folder, &[&LIST], &variables).code, 5);
    assert_eq!(told(&folder, &[&LIST], &variables[..1]).code, 0);
}

#[test]
fn flags_that_contradict_each_other_are_wrong_usage() {
    let folder = folder();
    let (store, server) = (["--store", "memory:"], ["--server", "http://127.0.0.1:1"]);
    for command in [&PUT[..], &GET, &LIST] {
        let both = told(&folder, &[command, &store, &server], &[]);
        assert_eq!(both.code, 2, "{}", both.errors);
        assert!(both.errors.contains("--store") && both.errors.contains("--server"));
    }
    let variable = [("TENURE_SERVER", "http://127.0.0.1:1")];
    for (command, flag) in [(&PUT[..], "--by"), (&LIST, "--owner")] {
        for (server, variables) in [(&server[..], &[][..]), (&[], &variable)] {
            let told = told(&folder, &[command, server, &[flag, "x"]], variables);
            assert_eq!(told.code, 2, "{}", told.errors);
            assert!(told.errors.contains(flag), "{}", told.errors);
        }
    }
}
