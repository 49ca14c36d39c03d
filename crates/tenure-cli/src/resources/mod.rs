//! `tenure resources`.

mod args;
mod drafts;
mod edit;
mod export;
mod file;
mod folder;
mod import;
mod merge;
mod output;
mod place;
mod server;
mod together;
mod yaml;

use std::pin::pin;

use futures::StreamExt as _;
use tenure::resources::{Condition, Document};

use args::Common;
pub(crate) use args::ResourcesCommand;
use output::Output;
use place::{Address, Resources};

use crate::error::CliError;
use crate::location::IfAbsent;
use crate::output::note;

pub(crate) async fn run(command: ResourcesCommand) -> Result<(), CliError> {
    match command {
        ResourcesCommand::Put { project, address, file, expected, create, common } => {
            let address = Address::new(&project, &address)?;
            let document = file::read(&file)?;
            let condition = if create { Condition::Absent } else { expected.condition()? };
            let resources = Resources::at(&common, IfAbsent::Make).await?;
            let written = resources.put(&address, &document, condition).await;
            let written = written.map_err(|it| if create { it.creating() } else { it })?;
            Output::new(common.json).written(&written)
        }
        ResourcesCommand::Get { project, address, version, common } => {
            let address = Address::new(&project, &address)?;
            let resources = Resources::at(&common, IfAbsent::Refuse).await?;
            let found = resources.get(&address, version).await?;
            Output::new(common.json).value(&found)
        }
        ResourcesCommand::List { project, kind, limit, common } => {
            list(&project, kind.as_deref(), limit, &common).await
        }
        ResourcesCommand::Delete { project, address, expected, common } => {
            let address = Address::new(&project, &address)?;
            let condition = expected.condition()?;
            let resources = Resources::at(&common, IfAbsent::Refuse).await?;
            resources.delete(&address, condition).await
        }
        ResourcesCommand::Edit { project, address, common } => {
            let address = Address::new(&project, &address)?;
            let resources = Resources::at(&common, IfAbsent::Make).await?;
            edit::edit(&resources, &address, &common).await
        }
        ResourcesCommand::Watch { project, pattern, common } => {
            watch(&project, pattern.as_deref(), &common).await
        }
        ResourcesCommand::History { project, address, common } => {
            let address = Address::new(&project, &address)?;
            let history = Resources::at(&common, IfAbsent::Refuse).await?.history(&address).await?;
            Output::new(common.json).history(&history)
        }
        ResourcesCommand::Revert { project, address, version, expected, common } => {
            let address = Address::new(&project, &address)?;
            let condition = expected.condition()?;
            let resources = Resources::at(&common, IfAbsent::Refuse).await?;
            let written = resources.revert(&address, version, condition).await?;
            Output::new(common.json).written(&written)
        }
        ResourcesCommand::Export { project, folder, common } => {
            let resources = Resources::at(&common, IfAbsent::Refuse).await?;
            export::export(&resources, &project, &folder).await
        }
        ResourcesCommand::Import { project, folder, overwrite, dry_run, common } => {
            let if_absent = if dry_run { IfAbsent::AsEmpty } else { IfAbsent::Make };
            let resources = Resources::at(&common, if_absent).await?;
            import::import(&resources, &project, &folder, overwrite, dry_run).await
        }
    }
}

async fn list(
    project: &str,
    kind: Option<&str>,
    limit: usize,
    common: &Common,
) -> Result<(), CliError> {
    let kind = kind.map(place::kind).transpose()?;
    let resources = Resources::at(common, IfAbsent::Refuse).await?;
    let output = Output::new(common.json);
    let (mut shown, mut cursor) = (0, None);
    loop {
        let page = resources.page(project, kind.as_deref(), cursor, false).await?;
        for unreadable in &page.unreadable {
            note(unreadable);
        }
        for resource in &page.resources {
            if shown == limit {
                // How many is not told: no store counts them, and to walk through all is dear.
                note("there are more; --limit shows them");
                return Ok(());
            }
            output.row(resource)?;
            shown += 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            output.total(shown);
            return Ok(());
        }
    }
}

async fn watch(project: &str, pattern: Option<&str>, common: &Common) -> Result<(), CliError> {
    let resources = Resources::at(common, IfAbsent::Refuse).await?;
    let output = Output::new(common.json);
    let mut events = resources.watch(project, pattern).await?;
    // One for all rounds, so that none is missed in between.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            biased;
            interrupted = &mut interrupted => return Ok(interrupted?),
            event = events.next() => match event {
                Some(event) => output.event(&event?)?,
                None => return Ok(()),
            },
        }
    }
}

/// A value as it was read, with its name.
pub(crate) struct Found {
    pub(crate) document: Document,
}

impl Found {
    fn new(text: &[u8]) -> Result<Self, CliError> {
        let document = Document::parse(text).map_err(|error| CliError::Answer(error.into()))?;
        Ok(Self { document })
    }
}
