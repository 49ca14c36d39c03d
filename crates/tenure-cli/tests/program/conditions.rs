//! Writes of `tenure resources` under a condition.

use serde_json::Value;

use crate::harness::{code, stderr};
use crate::place::{PLANNER, Place};

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
