//! Steps that must happen once although their sender may send them again.
//!
//! Keys are remembered for as long as their sender asked. A step's key is in the same log record as its content; at a
//! checkpoint the keys learnt since the last one go into a file of their own, which is dropped when its last key has
//! expired. So remembering costs what is new, not what is remembered.
//!
//! `once/<id>.once`, a sealed file of kind `BELUGONC`: per key `key u128 | digest u128 | expires u64`, little-endian.

use super::Once;
use super::manifest::Decoder;
use crate::error::ReadError;
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use std::collections::HashMap;
use std::io;
use std::path::Path;

const KIND: [u8; 8] = *b"BELUGONC";
const VERSION: u32 = 1;

/// A remembered step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) key: u128,
    pub(super) digest: u128,
    pub(super) expires: u64,
}

/// All remembered steps.
#[derive(Debug, Default)]
pub(super) struct OnceTable {
    known: HashMap<u128, (u128, u64)>,
    /// Learnt since the last checkpoint began.
    fresh: Vec<Remembered>,
    /// The latest time a sender told.
    now: u64,
    /// Size at which the expired are looked for next.
    sweep_at: usize,
}

/// What is known of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    New,
    Repeated,
    /// The key came with other content.
    Different,
}

impl OnceTable {
    pub(super) fn look_up(&self, once: &Once) -> Known {
        match self.known.get(&once.key) {
            Some((_, expires)) if *expires <= once.now_seconds => Known::New,
            Some((digest, _)) if *digest == once.digest => Known::Repeated,
            Some(_) => Known::Different,
            None => Known::New,
        }
    }

    pub(super) fn remembers(&self, key: u128, now_seconds: u64) -> bool {
        self.known.get(&key).is_some_and(|(_, expires)| *expires > now_seconds)
    }

    pub(super) fn remember(&mut self, step: Remembered, now: u64) {
        self.now = self.now.max(now);
        self.known.insert(step.key, (step.digest, step.expires));
        self.fresh.push(step);
        if self.known.len() > self.sweep_at.max(10_000) {
            let now = self.now;
            self.known.retain(|_, (_, expires)| *expires > now);
            self.sweep_at = self.known.len() * 2;
        }
    }

    /// Takes what was learnt since the last call.
    pub(super) fn take_fresh(&mut self) -> Vec<Remembered> {
        std::mem::take(&mut self.fresh)
    }

    /// The latest time a sender told, in seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Remembers what a file holds.
    pub(super) fn load(&mut self, vfs: &dyn Vfs, path: &Path) -> Result<(), ReadError> {
        let file = SealedFile::open(vfs, path, KIND, VERSION)?;
        let mut bytes = Decoder(file.payload(0..file.payload_len())?);
        while !bytes.0.is_empty() {
            let (Some(key), Some(digest), Some(expires)) = (bytes.u128(), bytes.u128(), bytes.u64()) else {
                return Err(file.corrupt(0, "ends in the middle of a key"));
            };
            self.known.insert(key, (digest, expires));
        }
        Ok(())
    }
}

/// Writes a file of remembered steps and syncs it (not its folder).
pub(super) fn write(vfs: &dyn Vfs, path: &Path, steps: &[Remembered]) -> io::Result<u64> {
    let mut writer = SealedWriter::new(vfs.create(path)?, KIND, VERSION);
    for step in steps {
        writer.append(&step.key.to_le_bytes())?;
        writer.append(&step.digest.to_le_bytes())?;
        writer.append(&step.expires.to_le_bytes())?;
    }
    writer.finish()
}
