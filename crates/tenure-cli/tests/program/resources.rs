//! `tenure resources`, on a store and on a server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Server, TENURE, code, command, spare_address, stderr};
use crate::trouble::{follow_advice, kept};

/// A place with resources: a folder with a store, and perhaps a server on it.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) server: Option<Server>,
}

impl Place {
    pub(crate) fn store() -> Self {
        Self { folder: TempDir::new().unwrap(), server: None }
    }

    pub(crate) fn server() -> Self {
        Self::server_with(&[])
    }

    fn server_with(arguments: &[&str]) -> Self {
        let mut this = Self::store();
        this.start("127.0.0.1:0", arguments);
        this
    }

    pub(crate) fn start(&mut self, listen: &str, arguments: &[&str]) {
        self.server = Some(Server::start_at(listen, self.folder.path(), arguments));
    }

    fn kill(&mut self) {
        self.server.take().unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.folder.path(), &["resources"]);
        command.args(arguments);
        if let Some(server) = &self.server {
            command.args(["--server", &server.url]);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints that must succeed.
    pub(crate) fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }
}

pub(crate) const PLANNER: &str = "agent/planner";

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
fn who_comes_too_late_is_refused_with_the_current_etag() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        place.file("2.yaml", "2");
        let put = |file: &str, rest: &[&str]| {
            place.run(&[&["put", "acme", PLANNER, "-f", file], rest].concat())
        };
        let one = place.print(&["put", "acme", PLANNER, "-f", "1.yaml", "--create"]);
        assert_eq!(code(&put("2.yaml", &["--create"])), 7);
        let two = place.print(&["put", "acme", PLANNER, "-f", "2.yaml", "--if-match", &one]);
        let late = put("1.yaml", &["--if-match", &one]);
        assert_eq!(code(&late), 7);
        assert!(stderr(&late).contains(&two), "{}", stderr(&late));
        assert_eq!(code(&place.run(&["delete", "acme", PLANNER, "--if-match", &one])), 7);
        place.print(&["delete", "acme", PLANNER, "--if-match", &two]);
        assert_eq!(code(&put("1.yaml", &["--if-match", &one])), 7);
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

/// The name of the last write of the planner.
fn version(place: &Place) -> String {
    let history = place.print(&["history", "acme", PLANNER, "--json"]);
    let last: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    last["version"].as_str().unwrap().to_owned()
}

#[test]
fn a_demanded_version_tells_a_value_that_stayed_from_one_that_came_back() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        place.file("2.yaml", "2");
        let put = ["put", "acme", PLANNER, "-f"];
        let mut versions = vec![];
        for file in ["1.yaml", "2.yaml", "1.yaml"] {
            place.print(&[&put[..], &[file]].concat());
            versions.push(version(&place));
        }
        let (put, delete) = ([&put[..], &["2.yaml"]].concat(), ["delete", "acme", PLANNER]);
        let revert = ["revert", "acme", PLANNER, "2"];
        for change in [&put[..], &revert, &delete] {
            let stale = place.run(&[change, &["--if-version", &versions[0]]].concat());
            assert_eq!(code(&stale), 7, "{change:?}: {}", stderr(&stale));
            let malformed = place.run(&[change, &["--if-version", "1"]].concat());
            assert_eq!(code(&malformed), 2, "{change:?}: {}", stderr(&malformed));
            let now = version(&place);
            place.print(&[change, &["--if-version", &now]].concat());
        }
        let gone = place.run(&[&put[..], &["--if-version", &versions[0]]].concat());
        assert_eq!(code(&gone), 7, "{}", stderr(&gone));
        let both = [&put[..], &["--if-version", "1", "--if-match", "x"]].concat();
        assert_eq!(code(&place.run(&both)), 2);
        let both = [&put[..], &["--if-version", "1", "--create"]].concat();
        assert_eq!(code(&place.run(&both)), 2);
    }
}

#[test]
fn a_revert_is_possible_where_conditions_are_demanded() {
    for place in [Place::store(), Place::server_with(&["--conditions-required"])] {
        place.file("1.yaml", "1");
        place.file("2.yaml", "2");
        let one = place.print(&["put", "acme", PLANNER, "-f", "1.yaml", "--create"]);
        let two = place.print(&["put", "acme", PLANNER, "-f", "2.yaml", "--if-match", &one]);
        let revert = ["revert", "acme", PLANNER, "1"];
        if place.server.is_some() {
            let refused = place.run(&revert);
            assert_eq!(code(&refused), 1);
            let flags = ["--if-match", "--if-version", "--create"];
            assert!(flags.iter().all(|it| stderr(&refused).contains(it)), "{}", stderr(&refused));
        }
        let late = place.run(&[&revert[..], &["--if-match", &one]].concat());
        assert_eq!(code(&late), 7, "{}", stderr(&late));
        assert_eq!(place.print(&[&revert[..], &["--if-match", &two]].concat()), one);
        let missing = ["revert", "acme", PLANNER, "9", "--if-match", &one];
        assert_eq!(code(&place.run(&missing)), 3);
    }
}

#[test]
fn a_condition_is_judged_alike_in_a_store_and_on_a_server() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "1");
        let put = |address: &str, name: &str, condition: &str| {
            let output = place.run(&["put", "acme", address, "-f", "1.yaml", name, condition]);
            (code(&output), stderr(&output))
        };
        let etag = place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
        assert_eq!(put(PLANNER, "--if-match", "*").0, 0);
        assert_eq!(put("agent/none", "--if-match", "*").0, 7);
        assert_eq!(put(PLANNER, "--if-match", &format!("\"{etag}\"")).0, 0);
        for malformed in ["garbage", "", "a\nb", "\u{7f}", "W/\"x\""] {
            for name in ["--if-match", "--if-version"] {
                let (code, told) = put(PLANNER, name, malformed);
                assert_eq!(code, 2, "{name} {malformed:?}: {told}");
                assert!(told.contains("of a resource"), "{told}");
            }
        }
    }
}

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
fn a_revert_to_the_value_that_is_there_writes_nothing_under_a_condition_either() {
    let place = Place::store();
    for text in ["1", "2", "1"] {
        place.file("v.yaml", text);
        place.print(&["put", "acme", PLANNER, "-f", "v.yaml"]);
    }
    let (one, last) = (place.print(&["revert", "acme", PLANNER, "1"]), version(&place));
    let revert = |version: &str, condition: [&str; 2]| {
        place.run(&[&["revert", "acme", PLANNER, version, "--json"][..], &condition].concat())
    };
    for condition in [["--if-match", &one], ["--if-version", &last], ["--if-match", "*"]] {
        let unchanged = revert("1", condition);
        assert_eq!(code(&unchanged), 0, "{}", stderr(&unchanged));
        let written: Value = serde_json::from_slice(&unchanged.stdout).unwrap();
        assert_eq!(
            (&written["effect"], &written["version"]),
            (&"unchanged".into(), &last.clone().into())
        );
    }
    let two = place.print(&["revert", "acme", PLANNER, "2", "--if-match", &one]);
    assert_eq!(code(&revert("2", ["--if-match", &one])), 7);
    assert_eq!(code(&revert("2", ["--if-version", &last])), 7);
    assert_eq!(code(&revert("2", ["--if-match", &two])), 0);
    assert_eq!(place.print(&["history", "acme", PLANNER]).lines().count(), 4);
}

#[cfg(unix)]
#[test]
fn an_edit_that_changes_nothing_stores_nothing() {
    for place in [Place::store(), Place::server()] {
        let drafts = place.folder.path().join("drafts");
        std::fs::create_dir(&drafts).unwrap();
        let edit = |editor: &str| {
            let mut edit = place.command(&["edit", "acme", PLANNER]);
            edit.env("EDITOR", editor).env("TMPDIR", &drafts).output().unwrap()
        };
        let left = || std::fs::read_dir(&drafts).unwrap().count();
        let untouched = edit("true");
        assert_eq!(code(&untouched), 0, "{}", stderr(&untouched));
        assert!(stderr(&untouched).contains("nothing was changed"), "{}", stderr(&untouched));
        // Nothing was written that is worth a file.
        let failed = edit("false");
        assert_eq!(code(&failed), 1);
        assert!(stderr(&failed).contains("the editor false failed\n"), "{}", stderr(&failed));
        assert!(!stderr(&failed).contains("your version"), "{}", stderr(&failed));
        assert_eq!(left(), 0);
        let emptied = edit("true >");
        assert_eq!(code(&emptied), 1);
        assert!(stderr(&emptied).contains("there is no value in it"), "{}", stderr(&emptied));
        assert_eq!(left(), 0);
        assert_eq!(code(&place.run(&["get", "acme", PLANNER])), 3);
        assert_eq!(code(&edit("echo null >")), 0);
        assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), "null");
    }
}

#[cfg(unix)]
#[test]
fn an_edit_keeps_the_users_file_when_somebody_else_was_faster() {
    for place in [Place::store(), Place::server()] {
        place.file("1.yaml", "model: small\n");
        place.file("2.yaml", "model: large\n");
        place.print(&["put", "acme", PLANNER, "-f", "1.yaml"]);
        let edit = |editor: &str| {
            place.command(&["edit", "acme", PLANNER]).env("EDITOR", editor).output().unwrap()
        };
        let fine = edit("sed -i s/small/medium/");
        assert_eq!(code(&fine), 0, "{}", stderr(&fine));
        assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), r#"{"model":"medium"}"#);
        assert!(stderr(&edit("true")).contains("nothing was changed"));

        // While the editor is open, somebody else writes.
        let server =
            place.server.as_ref().map_or(String::new(), |it| format!("--server {}", it.url));
        let script = format!(
            "#!/bin/sh\n{TENURE} resources put acme {PLANNER} -f 2.yaml {server} >/dev/null\necho 'model: mine' > \"$1\"\n"
        );
        place.file("editor.sh", &script);
        let refused = edit("sh ./editor.sh");
        let told = stderr(&refused);
        assert_eq!(code(&refused), 7, "{told}");
        assert!(told.contains("/model") && told.contains("large"), "{told}");
        let kept = kept(&told);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "model: mine\n");
        assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), r#"{"model":"large"}"#);
        assert_eq!(code(&follow_advice(&place, &told)), 0);
        assert_eq!(place.print(&["get", "acme", PLANNER, "--json"]), r#"{"model":"mine"}"#);
        std::fs::remove_file(kept).unwrap();
    }
}

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
