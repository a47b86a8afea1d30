//! How a file comes to be on the disk whole or not at all.
//!
//! A file is written under another name, synced, and then gets its name by a link (if there must be none yet) or a rename
//! (over whatever is there); then the folder is synced. So a name never stands for a torn file, whatever is cut off
//! when. Folders are made and synced from the root down, before anything is put into them.
//!
//! After a sync has failed nobody knows what the disk holds, and a second sync may succeed without having written: so
//! every later change is refused until the process starts anew.
//!
//! What is below is a [`Vfs`], so that a power cut under tables can be simulated like one under the store.

use engine::vfs::{Metadata, Vfs, WriteFile};
use std::collections::HashSet;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Files below one root.
#[derive(Debug)]
pub(super) struct Disk {
    vfs: Arc<dyn Vfs>,
    root: PathBuf,
    /// Folders whose names are durable, as far as this process knows.
    folders: Mutex<HashSet<PathBuf>>,
    sync_failed: AtomicBool,
    numbers: Numbers,
}

/// Where the numbers in new names come from: no two files have the same.
#[derive(Debug)]
pub(super) enum Numbers {
    Random,
    /// Counted from here, so that a simulation always gives the same names.
    From(AtomicU64),
}

/// What to do if the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Refuse,
    Replace,
}

/// Digits behind the `#` in the name of a file being written. Listings of object stores leave out `#` and digits; that there
/// are so many tells ours from others'.
const TEMPORARY_DIGITS: usize = 20;

/// What the name of a removed folder begins with; no fact has such a name.
const GONE: &str = "#gone-";

/// Whether a folder of this name is one that is being removed.
pub(super) fn is_gone(name: &str) -> bool {
    name.starts_with(GONE)
}

/// Whether a name is that of a file we were writing when we were stopped.
pub(super) fn is_temporary(name: &str) -> bool {
    let digits = name.rsplit_once('#').map(|(_, digits)| digits);
    digits.is_some_and(|digits| digits.len() == TEMPORARY_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Disk {
    /// Files below `root`, which need not exist yet; its parent must.
    pub(super) fn new(vfs: Arc<dyn Vfs>, root: PathBuf, numbers: Numbers) -> Self {
        Disk { vfs, root, folders: Mutex::default(), sync_failed: AtomicBool::new(false), numbers }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether these are no files that another program could open.
    pub(super) fn is_simulated(&self) -> bool {
        matches!(self.numbers, Numbers::From(_))
    }

    /// A number for a new name.
    pub(super) fn number(&self) -> u64 {
        match &self.numbers {
            Numbers::Random => rand::random(),
            Numbers::From(next) => next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Reads a whole file.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.vfs.read(path)
    }

    /// What is at a path; `None` if there is nothing.
    pub(super) fn look(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match self.vfs.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Whether a folder is there.
    pub(super) fn is_folder(&self, path: &Path) -> io::Result<bool> {
        self.look(path).map(|found| found.is_some_and(|found| found.is_folder))
    }

    /// The names in a folder, none if there is no such folder.
    pub(super) fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.vfs.list(folder)
    }

    /// Makes a folder below the root, and the root, durable.
    pub(super) fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if !folder.starts_with(&self.root) || self.known_folders().contains(folder) {
            return Ok(());
        }
        self.check()?;
        if let Some(parent) = folder.parent() {
            self.make_folder(parent)?;
        }
        // It syncs, and does not tell whether that was what failed.
        self.vfs.create_folder(folder).inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))?;
        self.known_folders().insert(folder.to_owned());
        Ok(())
    }

    /// Writes a file, whole or not at all, durably.
    pub(super) fn write<'a>(
        &self,
        path: &Path,
        content: impl Iterator<Item = &'a [u8]>,
        taken: Taken,
    ) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folder(folder)?;
        let (file, temporary) = self.create_beside(path)?;
        let written = self.write_new(&*file, content, &temporary, path, taken);
        if written.is_err() {
            // If this fails too, the next start removes it.
            let _ = self.remove(&temporary);
        }
        written?;
        self.sync_folder(folder)
    }

    fn write_new<'a>(
        &self,
        file: &dyn WriteFile,
        content: impl Iterator<Item = &'a [u8]>,
        temporary: &Path,
        path: &Path,
        taken: Taken,
    ) -> io::Result<()> {
        for bytes in content {
            file.append(bytes)?;
        }
        self.synced(file.sync())?;
        match taken {
            Taken::Refuse => {
                self.vfs.link(temporary, path)?;
                self.vfs.remove(temporary)
            }
            Taken::Replace => self.vfs.rename(temporary, path),
        }
    }

    fn create_beside(&self, path: &Path) -> io::Result<(Box<dyn WriteFile>, PathBuf)> {
        self.check()?;
        loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("#{:0TEMPORARY_DIGITS$}", self.number()));
            let temporary = PathBuf::from(name);
            match self.vfs.create(&temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Somebody removed the folder; the next attempt makes it again.
                    self.known_folders().clear();
                    return Err(error);
                }
                file => return Ok((file?, temporary)),
            }
        }
    }

    /// Makes the names in a folder durable that somebody else may have put there.
    pub(super) fn settle_folder(&self, folder: &Path) -> io::Result<()> {
        self.make_folder(folder)?;
        self.sync_folder(folder)
    }

    /// Removes a file. The removal becomes durable with the folder's next sync; before, the file may come back.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        match self.vfs.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes a folder of the root with all that is in it: first its name, durably, so that no half of it is found. What a
    /// crash leaves of the rest has a name of its own and goes with the next call.
    pub(super) fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        self.check()?;
        self.known_folders().clear();
        if self.look(folder)?.is_some() {
            let gone = self.root.join(format!("{GONE}{:0TEMPORARY_DIGITS$}", self.number()));
            self.vfs.rename(folder, &gone)?;
            self.sync_folder(&self.root)?;
        }
        self.remove_gone()
    }

    /// Removes what is left of removed folders.
    pub(super) fn remove_gone(&self) -> io::Result<()> {
        for name in self.vfs.list(&self.root)? {
            if is_gone(&name) {
                self.check()?;
                match self.vfs.remove_tree(&self.root.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Makes the names in a folder durable, and its own.
    pub(super) fn make_durable(&self, folder: &Path) -> io::Result<()> {
        self.make_folder(folder)?;
        self.sync_folder(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.check()?;
        self.synced(self.vfs.sync_folder(folder))
    }

    fn synced(&self, synced: io::Result<()>) -> io::Result<()> {
        synced.inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))
    }

    /// Refuses changes after a failed sync.
    fn check(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("an earlier sync of this disk failed: check the disk, then start again"));
        }
        Ok(())
    }

    fn known_folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
