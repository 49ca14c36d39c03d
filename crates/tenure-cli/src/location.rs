//! Where the state is: in a store, or behind a running server. And how to say so again.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tenure::clock::Clock;
use tenure::store::StorageBackend;

use crate::error::CliError;
use crate::output::note;
use crate::progress::Progress;

const STORE: &str = "TENURE_STORE";
const SERVER: &str = "TENURE_SERVER";
const TOKEN: &str = "TENURE_TOKEN";

/// The store where nothing names one.
const DEFAULT: &str = "file:./tenure.db";

/// A store.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The store: file:PATH · redis://HOST · rediss:// · redis+cluster:// · redis+unix:///PATH ·
    /// memory: for one run. To back up or move a file, copy PATH while no process has it open, and
    /// PATH-wal if it is there.
    #[arg(
        long = "store",
        id = "store",
        value_name = "URL",
        env = STORE,
        hide_env_values = true,
        default_value = DEFAULT
    )]
    pub(crate) url: StoreUrl,
}

/// What names a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreUrl(String);

impl From<String> for StoreUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl StoreUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As it may be shown.
    pub(crate) fn shown(&self) -> String {
        tenure::without_credentials(&self.0)
    }

    /// That it is being opened, which may take long.
    pub(crate) fn opening(&self) -> String {
        let store = self.shown();
        let Some(path) = path(&self.0) else { return format!("opening the store {store}") };
        // What was written last may still lie beside the file, and is read through first.
        let sizes = ["", "-wal"].map(|end| std::fs::metadata(format!("{path}{end}")));
        let bytes: u64 = sizes.into_iter().flatten().map(|it| it.len()).sum();
        format!("opening the store {store}, {} MiB", bytes >> 20)
    }

    /// Opens the store.
    pub(crate) async fn open(
        &self,
        if_absent: IfAbsent,
    ) -> Result<(Arc<dyn StorageBackend>, Clock), CliError> {
        let url = match (absent(&self.0), if_absent) {
            (None, _) | (Some(_), IfAbsent::Make) => self.as_str(),
            // Where no file can be made there is no empty store either.
            (Some(path), IfAbsent::AsEmpty) if has_folder(path) => {
                note(&format!("there is no file {path} yet, which counts as an empty store"));
                "memory:"
            }
            (Some(path), _) => {
                return Err(CliError::NoStore(path.into()));
            }
        };
        let clock = Clock::system();
        let opened = tenure::open(url, clock.clone());
        let opened = Progress::new(clock.clone()).of(|| self.opening(), opened).await;
        let opened = opened.map_err(|error| CliError::from(error).opening(self.shown()))?;
        Ok((opened, clock))
    }
}

/// A store, which a server may be running on, or a running server.
///
/// The variables are not clap's to read: they would contradict the flag that is to count instead.
#[derive(Debug, Args)]
pub(crate) struct Location {
    /// The store: file:PATH · redis://HOST · rediss:// · redis+cluster:// · redis+unix:///PATH
    /// [env: TENURE_STORE] [default: file:./tenure.db]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Ask a running server instead, such as http://127.0.0.1:8765 [env: TENURE_SERVER, which counts
    /// before TENURE_STORE; a flag counts before both]
    #[arg(long, value_name = "URL", conflicts_with = "store")]
    server: Option<String>,
    /// The bearer token for the server.
    #[arg(long, env = TOKEN, hide_env_values = true)]
    pub(crate) token: Option<String>,
}

/// What a location comes to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Store(StoreUrl),
    Server(String),
}

/// A target, and the variable that names it if no flag does.
struct Chosen {
    target: Target,
    variable: Option<&'static str>,
}

impl Location {
    fn chosen(&self) -> Result<Chosen, CliError> {
        let chosen = |target, variable| Ok(Chosen { target, variable });
        if let Some(url) = &self.store {
            return chosen(Target::Store(url.clone().into()), None);
        }
        if let Some(url) = &self.server {
            return chosen(Target::Server(url.clone()), None);
        }
        if let Some(url) = variable(SERVER)? {
            return chosen(Target::Server(url), Some(SERVER));
        }
        match variable(STORE)? {
            Some(url) => chosen(Target::Store(url.into()), Some(STORE)),
            None => chosen(Target::Store(DEFAULT.to_owned().into()), None),
        }
    }

    /// Where to look. `for_stores` is a flag that was given and means nothing to a server.
    pub(crate) fn target(&self, for_stores: Option<&str>) -> Result<Target, CliError> {
        match (self.chosen()?, for_stores) {
            (Chosen { target: Target::Server(_), variable: Some(variable) }, Some(flag)) => {
                Err(CliError::Usage(format!(
                    "{flag} is for a store, and {variable} names a server; name the store with \
                     --store"
                )))
            }
            (Chosen { target, .. }, _) => Ok(target),
        }
    }

    /// The arguments that name this location to another command in the same environment. What is
    /// secret is left for the reader to fill in.
    pub(crate) fn arguments(&self) -> Result<Vec<String>, CliError> {
        let Chosen { target, variable } = self.chosen()?;
        let (flag, shown, token) = match &target {
            Target::Store(url) => ("--store", url.shown(), None),
            Target::Server(url) => {
                ("--server", tenure::without_credentials(url), self.token.as_ref())
            }
        };
        let mut arguments = Vec::new();
        if variable.is_none() {
            arguments.extend([flag.to_owned(), shown]);
        }
        if token.is_some_and(|token| std::env::var(TOKEN).as_ref() != Ok(token)) {
            arguments.extend(["--token".to_owned(), "TOKEN".to_owned()]);
        }
        Ok(arguments)
    }
}

/// A variable of the environment.
pub(crate) fn variable(name: &str) -> Result<Option<String>, CliError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(CliError::Usage(format!("the variable {name} is no text")))
        }
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
    // What may not be looked at is there, for all that can be told.
    let exists = |path: &str| Path::new(path).try_exists().unwrap_or(true);
    path(store).filter(|path| !path.is_empty() && !exists(path))
}

fn has_folder(path: &str) -> bool {
    Path::new(path).parent().is_some_and(|it| it.as_os_str().is_empty() || it.is_dir())
}
