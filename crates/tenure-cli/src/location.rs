//! Where the state is: in a store, or behind a running server. And how to say so again.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tenure::clock::Clock;
use tenure::store::{StorageBackend, StoreError};

use crate::error::CliError;
use crate::output::note;
use crate::progress::Progress;

const STORE: &str = "TENURE_STORE";
const SERVER: &str = "TENURE_SERVER";
const TOKEN: &str = "TENURE_TOKEN";

/// A store.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The store: file:PATH · redis://HOST · rediss:// · redis+cluster:// · memory: for one run
    #[arg(
        long = "store",
        id = "store",
        value_name = "URL",
        env = STORE,
        hide_env_values = true,
        default_value = "file:./tenure.db"
    )]
    pub(crate) url: String,
}

impl StoreArgs {
    /// That it is being opened, which may take long.
    pub(crate) fn opening(&self) -> String {
        let store = tenure::without_credentials(&self.url);
        let Some(path) = path(&self.url) else { return format!("opening the store {store}") };
        // What was written last may still lie beside the file, and is read through first.
        let sizes = ["", "-wal"].map(|end| std::fs::metadata(format!("{path}{end}")));
        let bytes: u64 = sizes.into_iter().flatten().map(|it| it.len()).sum();
        format!("opening the store {store}, {} MiB", bytes >> 20)
    }
}

/// A store, which a server may be running on, or a running server.
#[derive(Debug, Args)]
pub(crate) struct Location {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Ask a running server instead, such as http://127.0.0.1:8765
    #[arg(long, value_name = "URL", env = SERVER, hide_env_values = true)]
    pub(crate) server: Option<String>,
    /// The bearer token for the server.
    #[arg(long, env = TOKEN, hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl Location {
    /// Opens the store.
    pub(crate) async fn open(
        &self,
        if_absent: IfAbsent,
    ) -> Result<(Arc<dyn StorageBackend>, Clock), CliError> {
        let url = match (absent(&self.store.url), if_absent) {
            (None, _) | (Some(_), IfAbsent::Make) => self.store.url.as_str(),
            // Where no file can be made there is no empty store either.
            (Some(path), IfAbsent::AsEmpty) if has_folder(path) => {
                note(&format!("there is no file {path} yet, which counts as an empty store"));
                "memory:"
            }
            (Some(path), _) => {
                return Err(StoreError::InvalidLocation(format!("there is no file {path}")).into());
            }
        };
        let clock = Clock::system();
        let opened = tenure::open(url, clock.clone());
        let opened = Progress::new(clock.clone()).of(|| self.store.opening(), opened).await?;
        Ok((opened, clock))
    }

    /// The arguments that name this location to another command in the same environment. What is
    /// secret is left for the reader to fill in.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |variable: &str, name: &str, value: &str, shown: String| {
            if std::env::var(variable).as_deref() != Ok(value) {
                arguments.extend([name.to_owned(), shown]);
            }
        };
        if let Some(server) = &self.server {
            add(SERVER, "--server", server, tenure::without_credentials(server));
            if let Some(token) = &self.token {
                add(TOKEN, "--token", token, "TOKEN".into());
            }
        } else {
            let store = &self.store.url;
            add(STORE, "--store", store, tenure::without_credentials(store));
        }
        arguments
    }
}

/// What to do where there is no store yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfAbsent {
    Make,
    /// Looking into one does not make it.
    Refuse,
    /// As if it were there and empty.
    AsEmpty,
}

/// The file of a store.
fn path(store: &str) -> Option<&str> {
    store.strip_prefix("file:").map(|it| it.split('?').next().unwrap_or(it))
}

/// The file of a store that is not there.
fn absent(store: &str) -> Option<&str> {
    path(store).filter(|path| !path.is_empty() && !Path::new(path).exists())
}

fn has_folder(path: &str) -> bool {
    Path::new(path).parent().is_some_and(|it| it.as_os_str().is_empty() || it.is_dir())
}
