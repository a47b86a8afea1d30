//! How a file comes to be on the disk whole or not at all.
//!
//! A file is written under another name, synced, and then gets its name by a link (if there must be none yet) or a rename
//! (over whatever is there); then the folder is synced. So a name never stands for a torn file, whatever is cut off
//! when. Folders are made and synced from the root down, before anything is put into them.
//!
//! After a sync has failed nobody knows what the disk holds, and a second sync may succeed without having written: so
//! every later change is refused until the process starts anew.
//!
//! Every step is first told to a [`Watch`], if there is one: a test fails it there.

use std::collections::HashSet;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A change to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A folder is made.
    MakeFolder(PathBuf),
    /// A new file gets its content.
    Write(PathBuf),
    /// A file's content becomes durable.
    SyncFile(PathBuf),
    /// A file gets a second name, which did not exist.
    Link(PathBuf, PathBuf),
    /// A file gets another name, in place of what had it.
    Rename(PathBuf, PathBuf),
    /// A name goes.
    Remove(PathBuf),
    /// A folder's names become durable.
    SyncFolder(PathBuf),
}

/// Is told every step before it is done.
pub trait Watch: Debug + Send + Sync {
    /// Looks at a step that is about to be done.
    ///
    /// # Errors
    /// Then the step is not done, and has failed so.
    fn before(&self, step: &Step) -> io::Result<()>;
}

/// Files below one root.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    watch: Option<Arc<dyn Watch>>,
    /// Folders whose names are durable, as far as this process knows.
    folders: Mutex<HashSet<PathBuf>>,
    sync_failed: AtomicBool,
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

/// Whether a name is that of a file we were writing when we were stopped.
pub(super) fn is_temporary(name: &str) -> bool {
    let digits = name.rsplit_once('#').map(|(_, digits)| digits);
    digits.is_some_and(|digits| digits.len() == TEMPORARY_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Disk {
    /// Files below `root`, which need not exist yet; its parent must.
    pub(super) fn new(root: PathBuf, watch: Option<Arc<dyn Watch>>) -> Self {
        Disk { root, watch, folders: Mutex::default(), sync_failed: AtomicBool::new(false) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a folder below the root, and the root, durable.
    pub(super) fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if self.known_folders().contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().filter(|_| folder.starts_with(&self.root));
        let Some(parent) = parent else { return Ok(()) };
        self.make_folder(parent)?;
        if !folder.is_dir() {
            self.step(Step::MakeFolder(folder.to_owned()))?;
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        // Also if it was there: whoever made it may have been stopped before the sync.
        self.sync_folder(parent)?;
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
        let (mut file, temporary) = self.create_beside(path)?;
        let written = self.write_new(&mut file, content, &temporary, path, taken);
        if written.is_err() {
            // If this fails too, the next start removes it.
            let _ = self.remove(&temporary);
        }
        written?;
        self.sync_folder(folder)
    }

    fn write_new<'a>(
        &self,
        file: &mut File,
        content: impl Iterator<Item = &'a [u8]>,
        temporary: &Path,
        path: &Path,
        taken: Taken,
    ) -> io::Result<()> {
        for bytes in content {
            file.write_all(bytes)?;
        }
        self.step(Step::SyncFile(temporary.to_owned()))?;
        self.sync(file)?;
        match taken {
            Taken::Refuse => {
                self.step(Step::Link(temporary.to_owned(), path.to_owned()))?;
                std::fs::hard_link(temporary, path)?;
                self.step(Step::Remove(temporary.to_owned()))?;
                std::fs::remove_file(temporary)
            }
            Taken::Replace => {
                self.step(Step::Rename(temporary.to_owned(), path.to_owned()))?;
                std::fs::rename(temporary, path)
            }
        }
    }

    fn create_beside(&self, path: &Path) -> io::Result<(File, PathBuf)> {
        loop {
            let number: u64 = rand::random();
            let mut name = path.as_os_str().to_owned();
            name.push(format!("#{number:0TEMPORARY_DIGITS$}"));
            let temporary = PathBuf::from(name);
            self.step(Step::Write(temporary.clone()))?;
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
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
        self.step(Step::Remove(path.to_owned()))?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes a folder of the root with all that is in it: first its name, durably, so that no half of it is found. What a
    /// crash leaves of the rest has a name of its own and goes with the next call.
    pub(super) fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        self.known_folders().clear();
        if folder.exists() {
            let number: u64 = rand::random();
            let gone = self.root.join(format!("{GONE}{number:0TEMPORARY_DIGITS$}"));
            self.step(Step::Rename(folder.to_owned(), gone.clone()))?;
            std::fs::rename(folder, gone)?;
            self.sync_folder(&self.root)?;
        }
        self.remove_gone()
    }

    /// Removes what is left of removed folders.
    pub(super) fn remove_gone(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(GONE) {
                self.step(Step::Remove(entry.path()))?;
                match std::fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.step(Step::SyncFolder(folder.to_owned()))?;
        self.sync(&File::open(folder)?)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all().inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))
    }

    fn step(&self, step: Step) -> io::Result<()> {
        if self.sync_failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("an earlier sync of this disk failed: check the disk, then start again"));
        }
        let Some(watch) = &self.watch else { return Ok(()) };
        watch.before(&step).inspect_err(|_| {
            if matches!(step, Step::SyncFile(_) | Step::SyncFolder(_)) {
                self.sync_failed.store(true, Ordering::SeqCst);
            }
        })
    }

    fn known_folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
