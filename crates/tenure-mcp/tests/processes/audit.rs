//! Holds what was acknowledged, and what the tools did, against what is stored in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;
use tenure::tasks::{Status, Task};

use crate::clients::Story;
use crate::ledger::{Entry, Event};

/// All there is to know, once the last server has had the time to settle everything.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) stories: Vec<Story>,
    /// Every task that a client knows of, as the server tells of it in the end.
    pub(crate) told: BTreeMap<String, Value>,
    /// Every task in the store.
    pub(crate) stored: BTreeMap<String, Task>,
    pub(crate) ledger: Vec<Entry>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) tasks: usize,
    pub(crate) creates: usize,
    pub(crate) creates_lost: usize,
    pub(crate) inputs: usize,
    pub(crate) cancels: usize,
    pub(crate) outcomes: usize,
    pub(crate) completed: usize,
    pub(crate) failed: usize,
    pub(crate) bodies: usize,
    pub(crate) retakes: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acknowledged = self.creates + self.inputs + self.cancels + self.outcomes;
        write!(
            f,
            "{} tasks ({} completed, {} failed honestly); {acknowledged} acknowledged operations \
             checked: {} creates, {} inputs, {} cancels, {} outcomes; {} creates without a reply; \
             {} tool bodies begun, {} of them retakes",
            self.tasks,
            self.completed,
            self.failed,
            self.creates,
            self.inputs,
            self.cancels,
            self.outcomes,
            self.creates_lost,
            self.bodies,
            self.retakes,
        )
    }
}

impl Evidence {
    /// Everything that is not as it must be.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for story in &self.stories {
            let mut wrong = |what: &str| found.push(format!("{what}: {story:?}"));
            for surprise in &story.surprises {
                wrong(surprise);
            }
            if let Some(id) = story.ids.first() {
                if story.ids.iter().any(|other| other != id) {
                    wrong("one call became two tasks");
                }
                match (self.told.get(id), self.stored.get(id)) {
                    (Some(told), Some(stored)) => self.judge(story, told, stored, &mut wrong),
                    _ => wrong("an acknowledged create is lost"),
                }
            }
        }
        for task in self.stored.values().filter(|task| task.status == Status::Working) {
            found.push(format!("works for ever: {task:?}"));
        }
        self.judge_ledger(&mut found);
        found
    }

    fn judge(&self, story: &Story, told: &Value, stored: &Task, wrong: &mut impl FnMut(&str)) {
        if story.ended.as_ref().is_none_or(|ended| ended != told) {
            wrong("the outcome is not the acknowledged one");
        }
        for (key, text) in &story.answers {
            let response = stored.inputs.get(key).and_then(|input| input.response.as_ref());
            if response.is_none_or(|response| response["content"]["text"] != **text) {
                wrong("an acknowledged input is lost");
            }
        }
        if let Some(cancelled_us) = story.cancelled_us
            && (!stored.status.is_terminal() || micros(stored) > cancelled_us)
        {
            wrong("a task went on after its cancellation was acknowledged");
        }
        match stored.status {
            Status::Completed => {
                let text = told["result"]["content"][0]["text"].as_str().unwrap_or_default();
                let right = match story.tool.as_str() {
                    "once" => text == story.label && self.ended(&story.label) == 1,
                    // Its result may not have been on record when the server was killed.
                    "steps" => text == story.label && self.ended(&story.label) >= 1,
                    _ => {
                        let mut parts = text.split(' ');
                        story.answers.len() == 2
                            && story.answers.values().all(|answer| parts.any(|it| it == answer))
                    }
                };
                if !right {
                    wrong("the result is wrong");
                }
            }
            Status::Failed => {
                let honest = stored.status_message.as_deref().unwrap_or_default();
                let may = matches!(story.tool.as_str(), "once" | "rounds");
                if !may || !honest.contains("may not run twice") {
                    wrong("it failed without need");
                }
            }
            Status::Cancelled if !story.unwanted => wrong("nobody cancelled it"),
            _ => {}
        }
    }

    /// How often the body of the call came to its end.
    fn ended(&self, label: &str) -> usize {
        let ends = |entry: &&Entry| entry.label == label && entry.event == Event::End;
        self.ledger.iter().filter(ends).count()
    }

    /// What ran is judged by the ledger alone, the tasks that no client knows of included.
    fn judge_ledger(&self, found: &mut Vec<String>) {
        let tools: BTreeMap<&str, &str> =
            self.stories.iter().map(|story| (&*story.label, &*story.tool)).collect();
        let mut pages = BTreeMap::<&str, Vec<&Entry>>::new();
        for entry in &self.ledger {
            pages.entry(&entry.label).or_default().push(entry);
        }
        for (label, page) in pages {
            let tool = tools.get(label).copied().unwrap_or_default();
            let tasks: BTreeSet<&str> = page.iter().map(|entry| &*entry.task).collect();
            if tasks.len() > 1 {
                found.push(format!("one call ran as two tasks: {page:?}"));
            }
            let (mut starts, mut rounds) = (Vec::new(), BTreeSet::new());
            let (mut saved, mut twice, mut redone) = (0, false, false);
            for entry in &page {
                match entry.event {
                    Event::Start => starts.push(entry.attempt),
                    Event::Round(round) => twice |= !rounds.insert(round),
                    Event::Step(step) => redone |= step <= saved,
                    Event::Saved(step) => saved = step,
                    _ => {}
                }
            }
            twice |= tool == "once" && starts.len() > 1;
            if twice {
                found.push(format!("it ran twice and may not: {page:?}"));
            }
            if redone {
                found.push(format!("a saved step was done again: {page:?}"));
            }
            if !starts.is_sorted_by(|a, b| a < b) {
                found.push(format!("attempts out of order: {page:?}"));
            }
        }
    }

    /// Whether each check has something to check, in what clients were told and tools did.
    pub(crate) fn is_telling(&self) -> bool {
        let figures = self.figures();
        let ended = |status: &str| {
            let mut ends = self.stories.iter().filter_map(|story| story.ended.as_ref());
            ends.any(|task| task["status"] == status)
        };
        let acknowledged = figures.inputs > 0 && figures.cancels > 0;
        acknowledged && figures.retakes > 0 && ended("completed") && ended("failed")
    }

    pub(crate) fn figures(&self) -> Figures {
        let of = |test: &dyn Fn(&Story) -> bool| self.stories.iter().filter(|it| test(it)).count();
        let with = |status| self.stored.values().filter(|task| task.status == status).count();
        let starts = || self.ledger.iter().filter(|entry| entry.event == Event::Start);
        let rounds: BTreeSet<&str> = self
            .ledger
            .iter()
            .filter(|entry| matches!(entry.event, Event::Round(_)))
            .map(|entry| &*entry.label)
            .collect();
        // Each round is an attempt too.
        let retaken = |entry: &&Entry| entry.attempt > 1 && !rounds.contains(&*entry.label);
        Figures {
            tasks: self.stored.len(),
            creates: self.stories.iter().map(|story| story.ids.len()).sum(),
            creates_lost: of(&|story| story.ids.is_empty()),
            inputs: self.stories.iter().map(|story| story.answers.len()).sum(),
            cancels: of(&|story| story.cancelled_us.is_some()),
            outcomes: of(&|story| story.ended.is_some()),
            completed: with(Status::Completed),
            failed: with(Status::Failed),
            bodies: starts().count(),
            retakes: starts().filter(retaken).count(),
        }
    }
}

fn micros(task: &Task) -> u64 {
    task.updated_at.as_millis() * 1_000
}
