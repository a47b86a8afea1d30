//! A disk in memory that can lose power and fail.
//!
//! It keeps what was written apart from what was synced, for contents and for folder entries, so that
//! [`MemoryVfs::power_cut`] can leave any state that a real disk may leave: unsynced bytes gone, or kept up to a torn
//! end; unsynced creations, renames and removals gone or kept, each on its own. Every call is counted and the n-th can be made to
//! fail.

use super::{FileBytes, Vfs, WriteFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// A disk in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryVfs(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Content>,
    /// What a reader sees: path to file.
    entries: BTreeMap<PathBuf, usize>,
    /// What survives a power cut.
    synced_entries: BTreeMap<PathBuf, usize>,
    locked: BTreeSet<PathBuf>,
    calls: u64,
    failure: Option<Failure>,
    /// Rises with every power cut; files opened before are dead.
    boot: u64,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced_len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    call: u64,
    lasting: bool,
    kind: io::ErrorKind,
}

impl Disk {
    /// Counts a call that writes, and fails it if it is the one.
    fn step(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.failure {
            Some(failure) if self.calls == failure.call || (failure.lasting && self.calls > failure.call) => {
                Err(io::Error::new(failure.kind, "the simulated disk fails"))
            }
            _ => Ok(()),
        }
    }
}

impl MemoryVfs {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writing calls so far.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Makes the `call`-th writing call from now (1 is the next) fail, and all later ones if `lasting`.
    pub fn fail_at(&self, call: u64, lasting: bool, kind: io::ErrorKind) {
        let mut disk = self.disk();
        let call = disk.calls + call;
        disk.failure = Some(Failure { call, lasting, kind });
    }

    /// Lets every call succeed again.
    pub fn repair(&self) {
        self.disk().failure = None;
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut disk = self.disk();
        if let Some(file) = disk.entries.get(path).copied() {
            let bytes = &mut disk.files[file].bytes;
            if bit / 8 < bytes.len() {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    /// Cuts a file short.
    pub fn truncate(&self, path: &Path, len: usize) {
        let mut disk = self.disk();
        if let Some(file) = disk.entries.get(path).copied() {
            disk.files[file].bytes.truncate(len);
        }
    }

    /// All files and their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let disk = self.disk();
        disk.entries.iter().map(|(path, file)| (path.clone(), disk.files[*file].bytes.len())).collect()
    }

    /// Loses power: of what was not synced, `seed` decides what is kept. Locks are gone, open files are dead.
    pub fn power_cut(&self, seed: u64) {
        let mut state = seed;
        let mut random = move |bound: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as usize % bound.max(1)
        };
        let mut disk = self.disk();
        let mut entries = disk.synced_entries.clone();
        let paths: BTreeSet<PathBuf> = disk.entries.keys().chain(disk.synced_entries.keys()).cloned().collect();
        for path in paths {
            if disk.entries.get(&path) != disk.synced_entries.get(&path) && random(2) == 0 {
                match disk.entries.get(&path) {
                    Some(file) => entries.insert(path, *file),
                    None => entries.remove(&path),
                };
            }
        }
        for file in &mut disk.files {
            let unsynced = file.bytes.len() - file.synced_len;
            let kept = match random(3) {
                0 => 0,
                1 => unsynced,
                _ => random(unsynced + 1),
            };
            file.bytes.truncate(file.synced_len + kept);
            if kept > 0 && random(3) == 0 {
                // Sectors are written in any order: some were allocated but never written.
                let from = file.synced_len + random(kept);
                let to = (from + 1 + random(512)).min(file.bytes.len());
                file.bytes[from..to].fill(0);
            }
            file.synced_len = file.bytes.len();
        }
        disk.synced_entries = entries.clone();
        disk.entries = entries;
        disk.locked.clear();
        disk.failure = None;
        disk.boot += 1;
    }
}

impl Vfs for MemoryVfs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut disk = self.disk();
        disk.step()?;
        if disk.entries.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.files.push(Content::default());
        let file = disk.files.len() - 1;
        disk.entries.insert(path.to_owned(), file);
        Ok(Box::new(MemoryFile { vfs: self.clone(), file, boot: disk.boot }))
    }

    fn map(&self, path: &Path) -> io::Result<FileBytes> {
        let disk = self.disk();
        let file = disk.entries.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileBytes::new(disk.files[*file].bytes.clone()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let file = disk.entries.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.entries.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.entries.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let mut names: Vec<String> = Vec::new();
        for path in disk.entries.keys() {
            let Ok(rest) = path.strip_prefix(folder) else { continue };
            if let Some(first) = rest.components().next() {
                names.push(first.as_os_str().to_string_lossy().into_owned());
            }
        }
        names.dedup();
        Ok(names)
    }

    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        self.disk().step()
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let file = *disk.entries.get(path).ok_or(io::ErrorKind::NotFound)?;
        let content = &mut disk.files[file];
        content.synced_len = content.bytes.len();
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let within = |path: &Path| path.parent() == Some(folder);
        let mut synced = std::mem::take(&mut disk.synced_entries);
        synced.retain(|path, _| !within(path));
        synced.extend(disk.entries.iter().filter(|(path, _)| within(path)).map(|(path, file)| (path.clone(), *file)));
        disk.synced_entries = synced;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut disk = self.disk();
        if !disk.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { vfs: self.clone(), path: path.to_owned(), boot: disk.boot }))
    }
}

struct MemoryFile {
    vfs: MemoryVfs,
    file: usize,
    boot: u64,
}

impl MemoryFile {
    fn content(&self) -> io::Result<(MutexGuard<'_, Disk>, usize)> {
        let mut disk = self.vfs.disk();
        disk.step()?;
        if disk.boot != self.boot {
            return Err(io::Error::other("the power was cut since this file was opened"));
        }
        Ok((disk, self.file))
    }
}

impl WriteFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let (mut disk, file) = self.content()?;
        disk.files[file].bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (mut disk, file) = self.content()?;
        let content = &mut disk.files[file];
        content.synced_len = content.bytes.len();
        Ok(())
    }
}

struct MemoryLock {
    vfs: MemoryVfs,
    path: PathBuf,
    boot: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.vfs.disk();
        if disk.boot == self.boot {
            disk.locked.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::real::RealVfs;

    /// What both disks must do.
    fn conforms(vfs: &dyn Vfs, root: &Path) {
        let folder = root.join("a/b");
        vfs.create_folder(&folder).expect("make folders");
        vfs.create_folder(&folder).expect("again");
        assert_eq!(vfs.list(&root.join("nowhere")).expect("list"), Vec::<String>::new());
        let path = folder.join("one");
        let file = vfs.create(&path).expect("create");
        assert_eq!(vfs.create(&path).err().expect("there already").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(&*vfs.map(&path).expect("map an empty file"), b"");
        file.append(b"hello ").expect("append");
        file.append(b"world").expect("append");
        file.sync().expect("sync");
        vfs.sync_file(&path).expect("sync by name");
        assert_eq!(vfs.sync_file(&folder.join("none")).expect_err("no such file").kind(), io::ErrorKind::NotFound);
        vfs.sync_folder(&folder).expect("sync folder");
        let bytes = vfs.map(&path).expect("map");
        assert_eq!(&*bytes, b"hello world");
        vfs.rename(&path, &folder.join("two")).expect("rename");
        assert_eq!(vfs.list(&folder).expect("list"), ["two"]);
        vfs.remove(&folder.join("two")).expect("remove");
        assert_eq!(&*bytes, b"hello world", "a mapping outlives its file");
        assert_eq!(vfs.map(&path).expect_err("gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(vfs.remove(&path).expect_err("gone").kind(), io::ErrorKind::NotFound);
        let guard = vfs.lock(&root.join("LOCK")).expect("lock");
        assert_eq!(vfs.lock(&root.join("LOCK")).err().expect("held").kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        vfs.lock(&root.join("LOCK")).expect("free again");
        super::super::write_atomically(vfs, &root.join("x.bin"), b"1").expect("write");
        super::super::write_atomically(vfs, &root.join("x.bin"), b"22").expect("replace");
        assert_eq!(&*vfs.map(&root.join("x.bin")).expect("map"), b"22");
    }

    #[test]
    fn both_disks_conform() {
        conforms(&MemoryVfs::default(), Path::new("/disk"));
        let folder = tempfile::tempdir().expect("temporary folder");
        conforms(&RealVfs, folder.path());
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_may_lose_the_rest() {
        let mut lost = 0;
        for seed in 0..200 {
            let vfs = MemoryVfs::default();
            let (folder, path) = (Path::new("/d"), Path::new("/d/f"));
            let file = vfs.create(path).expect("create");
            file.append(b"synced").expect("append");
            file.sync().expect("sync");
            vfs.sync_folder(folder).expect("sync folder");
            file.append(b"unsynced").expect("append");
            vfs.create(Path::new("/d/g")).expect("create");
            vfs.power_cut(seed);
            assert!(vfs.map(path).expect("the entry was synced").starts_with(b"synced"));
            lost += u32::from(vfs.map(Path::new("/d/g")).is_err());
            assert!(file.append(b"x").is_err(), "an open file does not survive");
        }
        assert!((20..180).contains(&lost), "{lost} of 200 unsynced files were lost");
    }

    #[test]
    fn the_chosen_call_fails() {
        let vfs = MemoryVfs::default();
        vfs.fail_at(2, false, io::ErrorKind::StorageFull);
        let file = vfs.create(Path::new("/f")).expect("first call");
        assert_eq!(file.append(b"x").expect_err("second call").kind(), io::ErrorKind::StorageFull);
        file.append(b"x").expect("third call");
    }
}
