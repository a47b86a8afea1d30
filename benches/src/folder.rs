//! Where a bench keeps what it loads.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder of this name in `BELUGA_BENCH_FOLDER`, which is there in the next run again, or else one that goes with it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Folder {
    /// # Panics
    /// If it cannot be made.
    pub fn new(name: &str) -> Folder {
        let (path, temporary) = match std::env::var_os("BELUGA_BENCH_FOLDER") {
            Some(kept) => (PathBuf::from(kept).join(name), None),
            None => {
                let temporary = tempfile::tempdir().expect("a temporary folder");
                (temporary.path().join(name), Some(temporary))
            }
        };
        std::fs::create_dir_all(&path).expect("a folder");
        Folder { path, _temporary: temporary }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does work whose results lie in the folder, unless a run before has done it.
    ///
    /// # Panics
    /// If it cannot be noted that it is done.
    pub fn once(&self, what: &str, work: impl FnOnce()) {
        let done = self.path.join(format!("{what}.done"));
        if !done.exists() {
            work();
            std::fs::write(done, "").expect("written");
        }
    }
}
