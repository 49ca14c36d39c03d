//! What a caller may do with the resources of which project.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a caller may do with a project's resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Rights {
    /// Read them and watch them.
    Read,
    /// Change them too.
    Write,
}

/// The projects that a caller reaches. Every other one looks absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, Rights>")]
pub struct Projects {
    named: BTreeMap<String, Rights>,
    others: Option<Rights>,
}

impl Projects {
    /// Stands for every project that is not named.
    const OTHERS: &str = "*";

    /// None at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every project, to read and to write.
    #[must_use]
    pub fn all() -> Self {
        Self::none().and(Self::OTHERS, Rights::Write)
    }

    /// These, and `project`. The name `*` stands for all that are not named.
    #[must_use]
    pub fn and(mut self, project: impl Into<String>, rights: Rights) -> Self {
        match project.into() {
            name if name == Self::OTHERS => self.others = Some(rights),
            name => drop(self.named.insert(name, rights)),
        }
        self
    }

    /// What is allowed with a project; `None` if it shall look absent.
    #[must_use]
    pub fn rights(&self, project: &str) -> Option<Rights> {
        self.named.get(project).copied().or(self.others)
    }

    /// The projects that are named.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }
}

impl From<BTreeMap<String, Rights>> for Projects {
    fn from(rights: BTreeMap<String, Rights>) -> Self {
        rights.into_iter().fold(Self::none(), |projects, (name, it)| projects.and(name, it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_before_the_star_and_all_else_looks_absent() {
        let some = Projects::none().and("acme", Rights::Read);
        assert_eq!(some.rights("acme"), Some(Rights::Read));
        assert_eq!(some.rights("acme2"), None);
        assert_eq!(some.rights(""), None);
        let others = Projects::all().and("acme", Rights::Read);
        assert_eq!(others.rights("acme"), Some(Rights::Read));
        assert_eq!(others.rights("other"), Some(Rights::Write));
    }
}
