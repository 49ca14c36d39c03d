//! Whether the tools that were declared durable are tools of the handler at all.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use rmcp::ServerHandler;
use rmcp::model::ListToolsResult;

use crate::mcp::policy::TaskPolicy;
use crate::mcp::wrapper::DurableServer;

/// Reads along while the handler's tools are listed, until the first list has come to its end.
pub(crate) struct Declared(Mutex<Reading>);

enum Reading {
    /// A list that begins anew comes to these.
    Before(BTreeSet<String>),
    /// It goes on with the page under this cursor, and has not named these yet.
    Within {
        names: BTreeSet<String>,
        missing: BTreeSet<String>,
        next: String,
    },
    Done,
}

impl Declared {
    pub(crate) fn new(tools: &HashMap<String, TaskPolicy>) -> Self {
        Self(Mutex::new(Reading::Before(tools.keys().cloned().collect())))
    }

    /// Reads a page, and tells which names were on none, once this was the last. A page of a list
    /// whose beginning another client has read since is not looked at.
    fn read(&self, cursor: Option<&str>, page: &ListToolsResult) -> BTreeSet<String> {
        let mut reading = self.0.lock();
        let (names, mut missing) = match (&*reading, cursor) {
            (Reading::Before(names) | Reading::Within { names, .. }, None) => {
                (names.clone(), names.clone())
            }
            (Reading::Within { names, missing, next }, Some(cursor)) if next == cursor => {
                (names.clone(), missing.clone())
            }
            _ => return BTreeSet::new(),
        };
        for tool in &page.tools {
            missing.remove(tool.name.as_ref());
        }
        match &page.next_cursor {
            Some(next) => {
                *reading = Reading::Within { names, missing, next: next.clone() };
                BTreeSet::new()
            }
            None => {
                *reading = Reading::Done;
                missing
            }
        }
    }
}

impl<H: ServerHandler> DurableServer<H> {
    /// Warns once of names that no tool has.
    pub(super) fn look_for_declared(&self, cursor: Option<&str>, page: &ListToolsResult) {
        for name in self.shared.declared.read(cursor, page) {
            // A handler may list a tool to some callers only.
            if self.shared.inner.get_tool(&name).is_none() {
                tracing::warn!(name, "no tool has this name, which was declared to be a task");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{JsonObject, Tool};

    use super::*;

    fn page(names: &[&'static str], next: Option<&str>) -> ListToolsResult {
        let tool = |name: &&'static str| Tool::new(*name, "", JsonObject::new());
        let mut page = ListToolsResult::with_all_items(names.iter().map(tool).collect());
        page.next_cursor = next.map(Into::into);
        page
    }

    fn declared() -> Declared {
        let tools = ["a", "b", "typo"].map(|name| (name.to_owned(), TaskPolicy::optional()));
        Declared::new(&tools.into())
    }

    #[test]
    fn a_name_is_missing_that_is_on_no_page_and_only_once() {
        let declared = declared();
        assert!(declared.read(None, &page(&["a"], Some("2"))).is_empty());
        let missing = declared.read(Some("2"), &page(&["b", "c"], None));
        assert_eq!(missing, ["typo".to_owned()].into());
        assert!(declared.read(None, &page(&[], None)).is_empty());
    }

    #[test]
    fn a_list_whose_beginning_was_not_read_says_nothing() {
        let declared = declared();
        assert!(declared.read(Some("2"), &page(&[], None)).is_empty());
        assert!(declared.read(None, &page(&["a"], Some("2"))).is_empty());
        assert!(declared.read(None, &page(&["a"], Some("other"))).is_empty());
        assert!(declared.read(Some("2"), &page(&["b"], None)).is_empty());
        assert_eq!(declared.read(Some("other"), &page(&["b"], None)), ["typo".to_owned()].into());
    }
}
