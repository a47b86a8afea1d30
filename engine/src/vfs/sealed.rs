//! The shape of every immutable file: payload, page checksums, footer.

use super::{FileBytes, Vfs, WriteFile};
use crate::error::ReadError;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Writes a sealed file: append the payload, then [`SealedWriter::finish`].
pub struct SealedWriter {
    file: Box<dyn WriteFile>,
}

impl SealedWriter {
    /// Begins a file; `kind` (eight ASCII bytes, for example `BELUGSEG`) and `version` go into the footer.
    pub fn new(file: Box<dyn WriteFile>, kind: [u8; 8], version: u32) -> Self {
        let _ = (kind, version);
        SealedWriter { file }
    }
    /// Appends payload.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }
    /// Payload bytes so far: the offset of the next append.
    pub fn position(&self) -> u64 {
        todo!()
    }
    /// Writes checksums and footer and syncs the file (not its folder). Answers the file's whole length.
    pub fn finish(self) -> io::Result<u64> {
        todo!()
    }
}

/// A sealed file opened for reading. Opening checks the footer and the checksum table; a page is checked the first
/// time it is touched, so opening costs nothing per gigabyte and damaged bytes are still never served.
#[derive(Debug)]
pub struct SealedFile {
    path: PathBuf,
    bytes: FileBytes,
}

impl SealedFile {
    /// Opens and checks the footer.
    pub fn open(vfs: &dyn Vfs, path: &Path, kind: [u8; 8], version: u32) -> Result<Self, ReadError> {
        let _ = (vfs, path, kind, version);
        todo!()
    }
    /// Wraps a payload that never was on disk (an in-memory layer): nothing to check.
    pub fn from_memory(payload: FileBytes) -> Self {
        SealedFile { path: PathBuf::new(), bytes: payload }
    }
    /// Payload bytes, their pages verified.
    pub fn payload(&self, range: Range<u64>) -> Result<&[u8], ReadError> {
        let _ = range;
        todo!()
    }
    /// Length of the payload.
    pub fn payload_len(&self) -> u64 {
        todo!()
    }
    /// Verifies every page.
    pub fn verify(&self) -> Result<(), ReadError> {
        todo!()
    }
    /// The file's path; empty for memory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Bytes of the whole file.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}
