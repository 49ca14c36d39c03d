//! One file, as the disk keeps it and as it was written.

use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// What a disk writes in one go.
const SECTOR: usize = 512;

/// What becomes of that which was not synced.
#[derive(Debug)]
pub enum Fate {
    /// All of it is lost.
    Lost,
    /// All of it is there.
    Kept,
    /// Each write is lost, whole, or there up to some sector.
    Chance(Box<StdRng>),
}

/// A change that the disk has taken and need not keep.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>, sectors: Option<usize>) {
        match self {
            Self::Write { at, bytes } => {
                let length = sectors.map_or(bytes.len(), |it| bytes.len().min(it * SECTOR));
                let end = at + length;
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(&bytes[..length]);
            }
            Self::Truncate(length) => content.truncate(*length),
        }
    }

    fn sectors(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len().div_ceil(SECTOR),
            Self::Truncate(_) => 0,
        }
    }
}

/// A file: what a loss of power leaves for certain, and the changes since.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Nothing as long as the file was never synced.
    synced: Option<Arc<Vec<u8>>>,
    changes: Vec<Change>,
    /// Changes before those.
    settled: usize,
}

impl Image {
    pub(crate) fn new(synced: Option<Vec<u8>>) -> Self {
        Self { synced: synced.map(Arc::new), changes: Vec::new(), settled: 0 }
    }

    pub(crate) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// How many changes there have been.
    pub(crate) fn changes(&self) -> usize {
        self.settled + self.changes.len()
    }

    /// The first `count` changes are on the disk. Another sync may have said so of some already.
    pub(crate) fn sync(&mut self, count: usize) {
        let content = Arc::make_mut(self.synced.get_or_insert_default());
        let count = count.saturating_sub(self.settled).min(self.changes.len());
        self.settled += count;
        for change in self.changes.drain(..count) {
            change.apply(content, None);
        }
    }

    /// What is there after a loss of power, if the file is.
    pub(crate) fn after(&self, fate: &mut Fate) -> Option<Vec<u8>> {
        let mut content = self.synced.as_deref().cloned();
        for change in &self.changes {
            let sectors = match fate {
                Fate::Lost => continue,
                Fate::Kept => None,
                Fate::Chance(random) => match random.random_range(0..4) {
                    0 | 1 => continue,
                    2 => None,
                    _ => Some(random.random_range(0..=change.sectors())),
                },
            };
            change.apply(content.get_or_insert_default(), sectors);
        }
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_there_and_nothing_else_for_certain() {
        let write = |at, byte| Change::Write { at, bytes: Arc::from([byte; 2]) };
        let mut image = Image::new(None);
        image.change(write(0, 1));
        assert_eq!(image.after(&mut Fate::Lost), None);
        assert_eq!(image.after(&mut Fate::Kept), Some(vec![1, 1]));
        image.sync(1);
        image.change(write(3, 2));
        image.change(Change::Truncate(4));
        assert_eq!(image.after(&mut Fate::Lost), Some(vec![1, 1]));
        assert_eq!(image.after(&mut Fate::Kept), Some(vec![1, 1, 0, 2]));
    }

    #[test]
    fn of_two_syncs_at_the_same_time_each_keeps_what_came_before_it() {
        let write = |at, byte| Change::Write { at, bytes: Arc::from([byte; 2]) };
        let mut image = Image::new(None);
        image.change(write(0, 1));
        let first = image.changes();
        image.change(write(2, 2));
        let second = image.changes();
        image.sync(second);
        image.change(write(4, 3));
        image.sync(first);
        assert_eq!(image.after(&mut Fate::Lost), Some(vec![1, 1, 2, 2]));
        assert_eq!(image.after(&mut Fate::Kept), Some(vec![1, 1, 2, 2, 3, 3]));
    }
}
