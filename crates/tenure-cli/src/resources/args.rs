//! The command line of `tenure resources`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use tenure::resources::Condition;

use crate::error::CliError;
use crate::location::Location;

/// In whose name to write if nothing is said.
const LOCAL: &str = "local";

#[derive(Debug, Subcommand)]
pub(crate) enum ResourcesCommand {
    /// Write a resource, and print its ETag.
    Put {
        /// The project.
        project: String,
        /// KIND/ID. In the kind a slash is written %2F, a star %2A and a percent sign %25.
        #[arg(value_name = "KIND/ID")]
        address: String,
        /// The value: a .yaml, .yml or .json file, or - for standard input.
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        expected: Expected,
        /// Only if there is none.
        #[arg(long, conflicts_with = "expected")]
        create: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print a resource as YAML, its ETag in the first line.
    Get {
        /// The project.
        project: String,
        /// KIND/ID
        #[arg(value_name = "KIND/ID")]
        address: String,
        /// A former version.
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// List resources, by kind and id.
    List {
        /// The project.
        project: String,
        /// Only this kind, written as in the list: KIND or KIND/.
        kind: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a resource with its history, if there is one.
    Delete {
        /// The project.
        project: String,
        /// KIND/ID
        #[arg(value_name = "KIND/ID")]
        address: String,
        #[command(flatten)]
        expected: Expected,
        #[command(flatten)]
        common: Common,
    },
    /// Change a resource with $EDITOR. Nothing is overwritten that somebody else wrote meanwhile.
    Edit {
        /// The project.
        project: String,
        /// KIND/ID
        #[arg(value_name = "KIND/ID")]
        address: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show what is there, then every change, until Ctrl-C.
    Watch {
        /// The project.
        project: String,
        /// KIND/ID for one resource, KIND/ for one kind, KIND* for those that match: a star stands
        /// for any characters, and %2A for a star.
        pattern: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List the versions of a resource that are kept, newest first.
    History {
        /// The project.
        project: String,
        /// KIND/ID
        #[arg(value_name = "KIND/ID")]
        address: String,
        #[command(flatten)]
        common: Common,
    },
    /// Write a former version again.
    Revert {
        /// The project.
        project: String,
        /// KIND/ID
        #[arg(value_name = "KIND/ID")]
        address: String,
        /// The number of the version.
        version: u64,
        #[command(flatten)]
        expected: Expected,
        #[command(flatten)]
        common: Common,
    },
    /// Write all resources of a project to a folder, as KIND/ID.yaml.
    Export {
        /// The project.
        project: String,
        /// The folder.
        folder: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Read resources from a folder, as export writes it. What is there already stays as it is.
    Import {
        /// The project.
        project: String,
        /// The folder.
        folder: PathBuf,
        /// Replace what is there and different.
        #[arg(long)]
        overwrite: bool,
        /// Only tell what would be done. Each change is judged without being made: its size, and the
        /// right to make it. How many resources the project may have is not looked at.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// What a change may replace.
#[derive(Debug, ClapArgs)]
#[group(id = "expected", multiple = false)]
pub(crate) struct Expected {
    /// Only if this is still its ETag; * is any.
    #[arg(long, value_name = "ETAG", allow_hyphen_values = true)]
    if_match: Option<String>,
    /// Only if nobody wrote since this version, which history --json tells. An ETag is back when
    /// the value is.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<String>,
}

impl Expected {
    /// The same wherever the resource is: no ETag and no version is anybody's that has not this form.
    pub(crate) fn condition(&self) -> Result<Condition, CliError> {
        let malformed =
            |text: &str, name| CliError::Usage(format!("{text:?} is not {name} of a resource"));
        match (self.if_match.as_deref(), self.if_version.as_deref()) {
            (Some("*"), _) => Ok(Condition::Present),
            (Some(text), _) => {
                let etag = text.trim_matches('"').parse();
                etag.map(Condition::ETag).map_err(|_| malformed(text, "the ETag"))
            }
            (None, Some(text)) => {
                let version = text.parse();
                version.map(Condition::Version).map_err(|_| malformed(text, "the version"))
            }
            (None, None) => Ok(Condition::Always),
        }
    }
}

/// Where the resources are: in a store, or behind a running server.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) location: Location,
    /// In whose name to write to the store; local if not given.
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
    pub(crate) by: Option<String>,
    /// Print JSON, one document a line.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Common {
    pub(crate) fn by(&self) -> &str {
        self.by.as_deref().unwrap_or(LOCAL)
    }

    /// The arguments that have another command do its work in the same place and name.
    pub(crate) fn arguments(&self) -> Result<Vec<String>, CliError> {
        let mut arguments = self.location.arguments()?;
        if let Some(by) = &self.by {
            arguments.extend(["--by".into(), by.clone()]);
        }
        Ok(arguments)
    }
}
