//! A disk that is full, and one that is read-only. They are mounted here, which takes a mount
//! namespace: `.ci/disks.sh` has one.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Server, code, run, stderr};

/// A file system of a few megabytes, that ends with the test.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Self {
        let disk = Self(TempDir::new().unwrap());
        disk.command("mount", &["-t", "tmpfs", "-o", "size=4m", "tenure-test"]);
        disk
    }

    fn make_read_only(&self) {
        self.command("mount", &["-o", "remount,ro"]);
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, command: &str, arguments: &[&str]) {
        let done = Command::new(command).args(arguments).arg(self.path()).status().unwrap();
        assert!(done.success(), "{command}: this test needs a mount namespace of its own");
    }

    /// Leaves no space.
    fn fill(&self) {
        let full = std::fs::write(self.path().join("ballast"), vec![1; 8 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn put(folder: &Path, id: &str, value: &str, rest: &[&str]) -> Output {
    std::fs::write(folder.join(format!("{id}.json")), value).unwrap();
    let (address, file) = (format!("agent/{id}"), format!("{id}.json"));
    run(folder, &[&["resources", "put", "acme", &address, "-f", &file], rest].concat())
}

fn get(folder: &Path, id: &str, rest: &[&str]) -> Output {
    run(folder, &[&["resources", "get", "acme", &format!("agent/{id}"), "--json"], rest].concat())
}

#[tokio::test]
#[ignore = "mounts a file system; .ci/disks.sh runs it"]
async fn a_full_disk_refuses_what_does_not_fit_keeps_the_rest_and_takes_more_once_there_is_room() {
    let (disk, folder) = (Disk::mount(), TempDir::new().unwrap());
    let store = format!("file:{}", disk.path().join("tenure.db").display());
    let server = Server::start(folder.path(), &["--store", &store]);
    let at = ["--server", server.url.as_str()];
    assert_eq!(code(&put(folder.path(), "before", "1", &at)), 0);
    disk.fill();

    let large = json!("x".repeat(200_000)).to_string();
    let mut acknowledged = Vec::new();
    let refused = (0..100).find_map(|number| {
        let id = format!("large{number}");
        let output = put(folder.path(), &id, &large, &at);
        acknowledged.extend((code(&output) == 0).then_some(id));
        (code(&output) != 0).then_some(output)
    });
    let refused = refused.expect("100 of them do not fit");
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("the store is full"), "{}", stderr(&refused));
    let directly = put(folder.path(), "direct", &large, &["--store", &store]);
    assert!(stderr(&directly).contains("full"), "{}", stderr(&directly));

    acknowledged.push("before".into());
    for id in &acknowledged {
        assert_eq!(code(&get(folder.path(), id, &at)), 0, "{id}");
    }
    disk.make_room();
    assert_eq!(code(&put(folder.path(), "after", "2", &at)), 0);
    drop(server);
    for id in &acknowledged {
        assert_eq!(code(&get(folder.path(), id, &["--store", &store])), 0, "{id}");
    }
}

#[test]
#[ignore = "mounts a file system; .ci/disks.sh runs it"]
fn a_read_only_disk_is_read_and_says_why_it_takes_nothing() {
    let (disk, folder) = (Disk::mount(), TempDir::new().unwrap());
    let file = disk.path().join("tenure.db");
    let store = format!("file:{}", file.display());
    let at = ["--store", store.as_str()];
    assert_eq!(code(&put(folder.path(), "a", "1", &at)), 0);
    let before = std::fs::read(&file).unwrap();
    disk.make_read_only();

    assert_eq!(get(folder.path(), "a", &at).stdout, b"1\n");
    for refused in [
        put(folder.path(), "a", "2", &at),
        run(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--store", &store]),
    ] {
        assert_eq!(code(&refused), 1, "{}", stderr(&refused));
        assert!(stderr(&refused).contains("read-only"), "{}", stderr(&refused));
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
}
