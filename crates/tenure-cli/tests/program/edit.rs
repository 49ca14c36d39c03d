//! `tenure resources edit`, without a terminal.

use crate::harness::{TENURE, code, stderr};
use crate::place::{PLANNER, Place};
use crate::trouble::{follow_advice, kept};

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
