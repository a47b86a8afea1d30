//! A disk in memory that can lose power and fail.
//!
//! It keeps what was written apart from what was synced, for contents and for the names in each folder, so that
//! [`MemoryVfs::power_cut`] can leave any state that a real disk may leave: unsynced bytes gone, or kept up to a torn
//! end; unsynced creations, renames and removals gone or kept, each on its own; a folder whose name was not synced gone with
//! all that is in it. Every call that writes is counted and the n-th can be made to fail. Files have the time that
//! [`MemoryVfs::set_now_ms`] says, so that a seed always gives the same history.

use super::{FileBytes, Metadata, Vfs, WriteFile};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// A disk in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryVfs(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    /// Files and folders; the first is the root. What no folder names any more stays here, since it may come back.
    nodes: Vec<Node>,
    locked: BTreeSet<PathBuf>,
    calls: u64,
    failure: Option<Failure>,
    /// Rises with every power cut; files opened before are dead.
    boot: u64,
    now_ms: i64,
}

#[derive(Debug)]
enum Node {
    File(Content),
    Folder(Names),
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced_len: usize,
    modified_ms: i64,
}

/// The names in a folder, each with its node.
#[derive(Debug, Default)]
struct Names {
    /// What a reader sees.
    seen: BTreeMap<OsString, usize>,
    /// What survives a power cut.
    synced: BTreeMap<OsString, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    call: u64,
    lasting: bool,
    kind: io::ErrorKind,
}

const ROOT: usize = 0;

impl Default for Disk {
    fn default() -> Self {
        let nodes = vec![Node::Folder(Names::default())];
        Disk { nodes, locked: BTreeSet::new(), calls: 0, failure: None, boot: 0, now_ms: 0 }
    }
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

    fn node(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for name in names(path) {
            node = *self.names_of(node)?.seen.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn names_of(&self, node: usize) -> io::Result<&Names> {
        match &self.nodes[node] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn folder(&mut self, path: &Path) -> io::Result<&mut Names> {
        let node = self.node(path)?;
        match &mut self.nodes[node] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut Content> {
        let node = self.node(path)?;
        self.content(node)
    }

    fn content(&mut self, node: usize) -> io::Result<&mut Content> {
        match &mut self.nodes[node] {
            Node::File(content) => Ok(content),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The names beside a path, and its own.
    fn beside<'p>(&mut self, path: &'p Path) -> io::Result<(&mut Names, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        let (names, name) = self.beside(path)?;
        if names.seen.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.seen.insert(name.to_owned(), number);
        self.nodes.push(node);
        Ok(number)
    }

    fn sync_names(&mut self, folder: &Path) -> io::Result<()> {
        self.step()?;
        let names = self.folder(folder)?;
        names.synced = names.seen.clone();
        Ok(())
    }

    fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        let Some(parent) = folder.parent() else { return Ok(()) };
        match self.node(folder).map(|node| &self.nodes[node]) {
            Ok(Node::Folder(_)) => return if folder.file_name().is_some() { self.sync_names(parent) } else { Ok(()) },
            Ok(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.make_folder(parent)?,
        }
        self.step()?;
        self.add(folder, Node::Folder(Names::default()))?;
        self.sync_names(parent)
    }

    fn remove_tree(&mut self, folder: &Path) -> io::Result<()> {
        for name in self.folder(folder)?.seen.keys().cloned().collect::<Vec<_>>() {
            let path = folder.join(name);
            match &self.nodes[self.node(&path)?] {
                Node::Folder(_) => self.remove_tree(&path)?,
                Node::File(_) => self.remove_name(&path)?,
            }
        }
        self.remove_name(folder)
    }

    fn remove_name(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        let (names, name) = self.beside(path)?;
        names.seen.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn files_below(&self, folder: &Path, node: usize, found: &mut Vec<(PathBuf, usize)>) {
        let Node::Folder(names) = &self.nodes[node] else { return };
        for (name, node) in &names.seen {
            let path = folder.join(name);
            match &self.nodes[*node] {
                Node::File(content) => found.push((path, content.bytes.len())),
                Node::Folder(_) => self.files_below(&path, *node, found),
            }
        }
    }
}

/// The names on the way from the root.
fn names(path: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
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

    /// The time, in milliseconds since 1970, of files written from now on; 0 until it is said.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.disk().now_ms = now_ms;
    }

    /// Flips one bit of a file.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        if let Ok(content) = self.disk().file(path)
            && let Some(byte) = content.bytes.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Cuts a file short.
    pub fn truncate(&self, path: &Path, len: usize) {
        if let Ok(content) = self.disk().file(path) {
            content.bytes.truncate(len);
        }
    }

    /// All files and their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let mut found = Vec::new();
        self.disk().files_below(Path::new("/"), ROOT, &mut found);
        found
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
        for node in &mut disk.nodes {
            match node {
                Node::File(content) => content.lose(&mut random),
                Node::Folder(names) => names.lose(&mut random),
            }
        }
        disk.locked.clear();
        disk.failure = None;
        disk.boot += 1;
    }
}

impl Names {
    fn lose(&mut self, random: &mut impl FnMut(usize) -> usize) {
        let all: BTreeSet<OsString> = self.seen.keys().chain(self.synced.keys()).cloned().collect();
        for name in all {
            if self.seen.get(&name) != self.synced.get(&name) && random(2) == 0 {
                match self.seen.get(&name) {
                    Some(node) => self.synced.insert(name, *node),
                    None => self.synced.remove(&name),
                };
            }
        }
        self.seen = self.synced.clone();
    }
}

impl Content {
    fn lose(&mut self, random: &mut impl FnMut(usize) -> usize) {
        let unsynced = self.bytes.len().saturating_sub(self.synced_len);
        let kept = match random(3) {
            0 => 0,
            1 => unsynced,
            _ => random(unsynced + 1),
        };
        self.bytes.truncate(self.synced_len + kept);
        if kept > 0 && random(3) == 0 {
            // Sectors are written in any order: some were allocated but never written.
            let from = self.synced_len + random(kept);
            let to = (from + 1 + random(512)).min(self.bytes.len());
            self.bytes[from..to].fill(0);
        }
        self.synced_len = self.bytes.len();
    }
}

impl Vfs for MemoryVfs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut disk = self.disk();
        disk.step()?;
        let content = Content { modified_ms: disk.now_ms, ..Content::default() };
        let node = disk.add(path, Node::File(content))?;
        Ok(Box::new(MemoryFile { vfs: self.clone(), node, boot: disk.boot }))
    }

    fn map(&self, path: &Path) -> io::Result<FileBytes> {
        self.read(path).map(FileBytes::new)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk().file(path).map(|content| content.bytes.clone())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let disk = self.disk();
        Ok(match &disk.nodes[disk.node(path)?] {
            Node::File(Content { bytes, modified_ms, .. }) => {
                Metadata { is_folder: false, size_bytes: bytes.len() as u64, modified_ms: *modified_ms }
            }
            Node::Folder(_) => Metadata { is_folder: true, size_bytes: 0, modified_ms: disk.now_ms },
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let node = disk.node(from)?;
        let (names, name) = disk.beside(to)?;
        names.seen.insert(name.to_owned(), node);
        let (names, name) = disk.beside(from)?;
        names.seen.remove(name);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let node = disk.node(from)?;
        disk.content(node)?;
        let (names, name) = disk.beside(to)?;
        if names.seen.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.seen.insert(name.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let node = disk.node(path);
        if let Ok(node) = node {
            disk.content(node)?;
        }
        disk.remove_name(path)
    }

    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        self.disk().remove_tree(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let node = match disk.node(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            node => node?,
        };
        Ok(disk.names_of(node)?.seen.keys().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk().make_folder(folder)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let content = disk.file(path)?;
        content.synced_len = content.bytes.len();
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk().sync_names(folder)
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
    node: usize,
    boot: u64,
}

impl MemoryFile {
    fn change(&self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut disk = self.vfs.disk();
        disk.step()?;
        if disk.boot != self.boot {
            return Err(io::Error::other("the power was cut since this file was opened"));
        }
        let now_ms = disk.now_ms;
        let content = disk.content(self.node)?;
        change(content);
        content.modified_ms = now_ms;
        Ok(())
    }
}

impl WriteFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.change(|content| content.bytes.extend_from_slice(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|content| content.synced_len = content.bytes.len())
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
        let linked = folder.join("linked");
        vfs.create(&path).expect("create").append(b"12").expect("append");
        vfs.link(&path, &linked).expect("link");
        assert_eq!(vfs.link(&path, &linked).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(vfs.link(&folder.join("none"), &path).expect_err("none").kind(), io::ErrorKind::NotFound);
        vfs.remove(&path).expect("remove");
        assert_eq!(vfs.read(&linked).expect("read"), b"12");
        let found = vfs.metadata(&linked).expect("metadata");
        assert_eq!((found.is_folder, found.size_bytes), (false, 2));
        assert!(vfs.metadata(&folder).expect("metadata").is_folder);
        assert_eq!(vfs.metadata(&path).expect_err("gone").kind(), io::ErrorKind::NotFound);
        assert!(vfs.remove(&folder).is_err(), "a folder is no file");
        assert!(vfs.list(&linked).is_err(), "a file is no folder");
        vfs.rename(&root.join("a"), &root.join("c")).expect("rename a folder");
        assert_eq!(vfs.read(&root.join("c/b/linked")).expect("read"), b"12");
        let nowhere = vfs.create(&linked).err().expect("its folder has another name");
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
        vfs.remove_tree(&root.join("c")).expect("remove a folder");
        assert_eq!(vfs.remove_tree(&root.join("c")).expect_err("gone").kind(), io::ErrorKind::NotFound);
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
            vfs.create_folder(folder).expect("make a folder");
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
    fn a_folder_whose_name_was_not_synced_may_go_with_all_in_it() {
        let mut lost = 0;
        for seed in 0..200 {
            let vfs = MemoryVfs::default();
            vfs.create_folder(Path::new("/d/old")).expect("make a folder");
            let file = vfs.create(Path::new("/d/old/f")).expect("create");
            file.append(b"x").and_then(|()| file.sync()).expect("write");
            vfs.sync_folder(Path::new("/d/old")).expect("sync folder");
            vfs.rename(Path::new("/d/old"), Path::new("/d/new")).expect("rename");
            vfs.power_cut(seed);
            let found = ["/d/old/f", "/d/new/f"].map(|path| vfs.read(Path::new(path)).is_ok());
            lost += u32::from(found == [false, false]);
        }
        assert!((20..180).contains(&lost), "{lost} of 200 folders were lost");
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
