//! The files of one folder, and what a loss of power would leave of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::image::{Change, Fate, Image};
use crate::vfs;

static DISKS: RwLock<Vec<Arc<Disk>>> = RwLock::new(Vec::new());

/// Tells how far the program under test has come.
type Witness = Box<dyn Fn() -> Vec<u64> + Send + Sync>;

/// The disk below the databases in one folder.
pub struct Disk {
    folder: PathBuf,
    witness: Witness,
    /// One in so many operations is cut short; `None` for a disk that keeps its power.
    rarity: Option<u32>,
    /// How much longer a sync takes than on the real disk.
    sync_delay: Duration,
    state: Mutex<State>,
}

struct State {
    files: BTreeMap<PathBuf, Image>,
    random: StdRng,
    cuts: Vec<Cut>,
    syncs: BTreeMap<PathBuf, u64>,
}

/// The moment of a loss of power.
pub struct Cut {
    /// What the witness said just before.
    pub witnessed: Vec<u64>,
    files: BTreeMap<PathBuf, Image>,
}

impl Disk {
    /// A disk below all databases of this process in `folder`. About one in `rarity` operations on
    /// a file is the moment of a cut; just before it, `witness` is asked how far things are.
    pub fn below(folder: &Path, rarity: u32, seed: u64, witness: Witness) -> Arc<Self> {
        Self::install(folder, Some(rarity), seed, witness, Duration::ZERO)
    }

    /// A disk below all databases of this process in `folder` that never loses power, and whose
    /// syncs take `sync_delay` longer than they do: a slower disk than this machine has.
    pub fn slow(folder: &Path, sync_delay: Duration) -> Arc<Self> {
        Self::install(folder, None, 0, Box::new(Vec::new), sync_delay)
    }

    fn install(
        folder: &Path,
        rarity: Option<u32>,
        seed: u64,
        witness: Witness,
        sync_delay: Duration,
    ) -> Arc<Self> {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(vfs::install);
        let state = State {
            files: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            cuts: Vec::new(),
            syncs: BTreeMap::new(),
        };
        // Databases name their files in full, whatever links lead to them.
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let disk = Arc::new(Self { folder, witness, rarity, sync_delay, state: Mutex::new(state) });
        DISKS.write().push(Arc::clone(&disk));
        disk
    }

    /// The cuts so far.
    pub fn take_cuts(&self) -> Vec<Cut> {
        std::mem::take(&mut self.state.lock().cuts)
    }

    /// How often the file of this name was synced.
    pub fn syncs(&self, name: &str) -> u64 {
        self.state.lock().syncs.get(&self.folder.join(name)).copied().unwrap_or(0)
    }

    /// The disk that a file is on.
    pub(crate) fn of(file: &Path) -> Option<Arc<Self>> {
        DISKS.read().iter().find(|disk| file.starts_with(&disk.folder)).cloned()
    }

    pub(crate) fn opened(&self, file: &Path, before: Option<Vec<u8>>) {
        if self.rarity.is_none() {
            return;
        }
        self.state.lock().files.entry(file.to_owned()).or_insert_with(|| Image::new(before));
    }

    pub(crate) fn deleted(&self, file: &Path) {
        self.state.lock().files.remove(file);
    }

    pub(crate) fn changed(&self, file: &Path, change: Change) {
        self.now_and_then_cut();
        if let Some(image) = self.state.lock().files.get_mut(file) {
            image.change(change);
        }
    }

    /// Runs a sync. Only what was written before it began is on the disk when it has ended.
    pub(crate) fn synced(&self, file: &Path, sync: impl FnOnce() -> bool) {
        let before = self.state.lock().files.get(file).map_or(0, Image::changes);
        self.now_and_then_cut();
        if !self.sync_delay.is_zero() {
            thread::sleep(self.sync_delay);
        }
        if sync() {
            let mut state = self.state.lock();
            if let Some(image) = state.files.get_mut(file) {
                image.sync(before);
            }
            *state.syncs.entry(file.to_owned()).or_default() += 1;
        }
        self.now_and_then_cut();
    }

    fn now_and_then_cut(&self) {
        let Some(rarity) = self.rarity else { return };
        let mut state = self.state.lock();
        if state.random.random_ratio(1, rarity) {
            // Before the files: what is witnessed has to be there, not the other way round.
            let witnessed = (self.witness)();
            let files = state.files.clone();
            state.cuts.push(Cut { witnessed, files });
        }
    }
}

impl Cut {
    /// Writes what is left of the files into `folder`.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn restore(&self, folder: &Path, mut fate: Fate) -> io::Result<()> {
        for (path, image) in &self.files {
            if let (Some(name), Some(content)) = (path.file_name(), image.after(&mut fate)) {
                fs::write(folder.join(name), content)?;
            }
        }
        Ok(())
    }
}
