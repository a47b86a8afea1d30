//! The seam to the disk.
//!
//! Files are written only whole and in order, and a change is made durable by an explicit sync of the file *and* its
//! directory; so the seam is small, and a disk that fails, lies or loses power can be put in its place. The store reads its
//! files mapped; tables of facts, which others may change, are read into memory.
//!
//! * [`real`]: the operating system's files.
//! * [`memory`]: a disk in memory that can lose power (unsynced data gone or torn) and fail the n-th call.
//! * [`sealed`]: the shape every immutable file has: payload, page checksums, footer; verified as it is touched.

pub mod memory;
pub mod real;
pub mod sealed;

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder tree of append-only files. Paths are absolute or relative to the process, as the caller likes.
pub trait Vfs: Debug + Send + Sync {
    /// Makes a new, empty file; fails with `AlreadyExists` if there is one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;
    /// Maps a whole file for reading. The mapping stays valid when the file is removed.
    fn map(&self, path: &Path) -> io::Result<FileBytes>;
    /// Reads a whole file. Unlike a mapping this is safe on a file that somebody else may cut short.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// What is at a path; `NotFound` if there is nothing.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// Renames a file over whatever is at `to`, or a folder to a name that is free.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails with `AlreadyExists` if the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it, one name after the other: what a crash leaves is part of it.
    fn remove_tree(&self, folder: &Path) -> io::Result<()>;
    /// The names in a folder, in no order; empty if there is no such folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes a folder and its parents, each durable in its parent; also if it is there already, since whoever made it may
    /// have been stopped before the sync.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Makes the content of a file durable that somebody else may have written.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the folder's entries (creations, renames, removals) durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Takes the exclusive lock at `path`, held until the guard is dropped; `WouldBlock` if another process has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// What a disk says of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Whether it is a folder.
    pub is_folder: bool,
    /// The length of a file; of a folder it means nothing.
    pub size_bytes: u64,
    /// When it was last written, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// A file being written. One thread appends; others may sync meanwhile, which covers what was appended before.
pub trait WriteFile: Send + Sync {
    /// Appends all of `bytes`.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended so far durable (data and length; the directory entry is the folder's affair).
    fn sync(&self) -> io::Result<()>;
}

/// Immutable bytes of a file or of memory, cheap to clone.
#[derive(Clone)]
pub struct FileBytes(Arc<dyn Deref<Target = [u8]> + Send + Sync>);

impl FileBytes {
    /// Wraps any owner of bytes: a memory map, a vector.
    pub fn new(owner: impl Deref<Target = [u8]> + Send + Sync + 'static) -> Self {
        FileBytes(Arc::new(owner))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileBytes({} bytes)", self.len())
    }
}

/// Writes `bytes` to `path` so that after a crash the file has either its old content or all of the new: a temporary
/// file, synced, renamed, folder synced.
///
/// # Errors
/// The first failing call. The temporary file may be left; it is overwritten next time.
pub fn write_atomically(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary: PathBuf = path.with_extension("tmp");
    match vfs.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = vfs.create(&temporary)?;
    file.append(bytes)?;
    file.sync()?;
    drop(file);
    vfs.rename(&temporary, path)?;
    vfs.sync_folder(path.parent().unwrap_or(Path::new(".")))
}
