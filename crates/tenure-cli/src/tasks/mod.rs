//! `tenure tasks`.

mod output;
mod place;

use std::pin::pin;

use futures::{StreamExt as _, TryStreamExt as _};
use tenure_mcp::http::tasks::TaskDocument;

use crate::args::{StatusFilter, TaskLocation, TasksCommand};
use crate::error::CliError;
use crate::output::note;
use crate::tasks::output::Output;
use crate::tasks::place::{Sight, Tasks};

pub(crate) async fn run(command: TasksCommand) -> Result<(), CliError> {
    match command {
        TasksCommand::List { place, status, limit } => list(place, status, limit).await,
        TasksCommand::Get { id, place } => {
            let task = Tasks::at(&place).await?.get(&id).await?;
            Output::new(place.json).task(&task)
        }
        TasksCommand::Cancel { id, place } => {
            let task = Tasks::at(&place).await?.cancel(&id).await?;
            Output::new(place.json).task(&task)
        }
        TasksCommand::Watch { id, place } => watch(place, id).await,
    }
}

async fn list(
    place: TaskLocation,
    status: Option<StatusFilter>,
    limit: u64,
) -> Result<(), CliError> {
    let tasks = Tasks::at(&place).await?;
    let mut output = Output::new(place.json);
    let (mut left, mut seen) = (limit, 0_u64);
    let mut cursor = None;
    loop {
        let page = tasks.page(cursor).await?;
        for item in page.tasks {
            let wanted = |task: &TaskDocument| status.is_none_or(|it| it.admits(&task.status));
            seen += 1;
            match item {
                Sight::Task(task) if wanted(&task) => {
                    if left == 0 {
                        note("there are more; --limit shows them");
                        return Ok(());
                    }
                    output.row(&task)?;
                    left -= 1;
                }
                Sight::Task(_) => {}
                Sight::Unreadable(reason) => note(&reason),
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    match seen {
        0 => note(&tasks.none()),
        _ if left == limit && status.is_some() => note("no tasks with this status"),
        _ => {}
    }
    Ok(())
}

async fn watch(place: TaskLocation, id: Option<String>) -> Result<(), CliError> {
    let tasks = Tasks::at(&place).await?;
    let mut output = Output::new(place.json);
    let mut sights = match &id {
        Some(id) => tasks.follow(id).await?.map_ok(|it| Sight::Task(it.into())).boxed(),
        None => tasks.watch().await?,
    };
    let mut last = None;
    // One for all rounds, so that none is missed in between.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let sight = tokio::select! {
            // First, so that it counts before anything is shown.
            biased;
            interrupted = &mut interrupted => {
                interrupted?;
                // Who waits for the end of a task has not seen it.
                return if id.is_some() { Err(CliError::Interrupted) } else { Ok(()) };
            }
            sight = sights.next() => sight,
        };
        match sight {
            Some(Ok(Sight::Task(task))) => {
                output.row(&task)?;
                last = Some(task.status);
            }
            Some(Ok(Sight::Unreadable(reason))) => note(&reason),
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    match last.as_deref() {
        Some("failed") => Err(CliError::TaskFailed),
        Some("cancelled") => Err(CliError::TaskCancelled),
        _ => Ok(()),
    }
}
