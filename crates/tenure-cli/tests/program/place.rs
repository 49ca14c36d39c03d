//! Where `tenure resources` is run.

use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{Server, code, command, stderr};

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

    pub(crate) fn server_with(arguments: &[&str]) -> Self {
        let mut this = Self::store();
        this.start("127.0.0.1:0", arguments);
        this
    }

    pub(crate) fn start(&mut self, listen: &str, arguments: &[&str]) {
        self.server = Some(Server::start_at(listen, self.folder.path(), arguments));
    }

    pub(crate) fn kill(&mut self) {
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
