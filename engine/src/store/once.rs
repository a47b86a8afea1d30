//! Steps that must happen once although their sender may send them again.
//!
//! Keys are remembered for as long as their sender asked. A step's key is in the same log record as its content; at a
//! checkpoint the keys learnt since the last one go into a file of their own, which is dropped when its last key has
//! expired. So remembering costs what is new, not what is remembered.
//!
//! `once/<id>.once`, a sealed file of kind `BELUGONC`: per key `key u128 | digest u128 | expires u64 | note u128`, little-endian.
//! Version 1 has no notes.

use super::Once;
use super::manifest::Decoder;
use crate::error::ReadError;
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use std::collections::HashMap;
use std::io;
use std::path::Path;

const KIND: [u8; 8] = *b"BELUGONC";
const VERSION: u32 = 2;
const WITHOUT_NOTES: u32 = 1;

/// A remembered step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) key: u128,
    pub(super) digest: u128,
    pub(super) expires: u64,
    pub(super) note: u128,
}

/// All remembered steps.
#[derive(Debug, Default)]
pub(super) struct OnceTable {
    /// By their keys.
    known: HashMap<u128, Remembered>,
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
    /// With its note.
    Repeated(u128),
    /// The key came with other content.
    Different,
}

impl OnceTable {
    pub(super) fn look_up(&self, once: &Once) -> Known {
        match self.known.get(&once.key) {
            Some(step) if step.expires <= once.now_seconds => Known::New,
            Some(step) if step.digest == once.digest => Known::Repeated(step.note),
            Some(_) => Known::Different,
            None => Known::New,
        }
    }

    pub(super) fn remembers(&self, key: u128, now_seconds: u64) -> bool {
        self.known.get(&key).is_some_and(|step| step.expires > now_seconds)
    }

    pub(super) fn remember(&mut self, step: Remembered, now: u64) {
        self.now = self.now.max(now);
        self.known.insert(step.key, step);
        self.fresh.push(step);
        if self.known.len() > self.sweep_at.max(10_000) {
            let now = self.now;
            self.known.retain(|_, step| step.expires > now);
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
        let file = SealedFile::open_since(vfs, path, KIND, WITHOUT_NOTES..=VERSION)?;
        let has_notes = file.version() > WITHOUT_NOTES;
        let mut bytes = Decoder(file.payload(0..file.payload_len())?);
        while !bytes.0.is_empty() {
            let Some(step) = Remembered::decode(&mut bytes, has_notes) else {
                return Err(file.corrupt(0, "ends in the middle of a key"));
            };
            self.known.insert(step.key, step);
        }
        Ok(())
    }
}

impl Remembered {
    /// The step as it stands in the log, and in files of remembered steps.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&self.expires.to_le_bytes());
        out.extend_from_slice(&self.note.to_le_bytes());
    }

    pub(super) fn decode(bytes: &mut Decoder<'_>, has_note: bool) -> Option<Remembered> {
        let (key, digest, expires) = (bytes.u128()?, bytes.u128()?, bytes.u64()?);
        let note = if has_note { bytes.u128()? } else { 0 };
        Some(Remembered { key, digest, expires, note })
    }
}

/// Writes a file of remembered steps and syncs it (not its folder).
pub(super) fn write(vfs: &dyn Vfs, path: &Path, steps: &[Remembered]) -> io::Result<u64> {
    let mut writer = SealedWriter::new(vfs.create(path)?, KIND, VERSION);
    let mut encoded = Vec::new();
    for step in steps {
        encoded.clear();
        step.encode(&mut encoded);
        writer.append(&encoded)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::memory::MemoryVfs;

    #[test]
    fn steps_are_read_back_also_those_of_before_there_were_notes() {
        let (vfs, new, old) = (MemoryVfs::default(), Path::new("/new.once"), Path::new("/old.once"));
        let step = Remembered { key: 7, digest: 8, expires: 900, note: 1 << 100 };
        write(&vfs, new, &[step]).expect("written");
        let mut writer = SealedWriter::new(vfs.create(old).expect("created"), KIND, WITHOUT_NOTES);
        for key in [9_u128, 10] {
            writer.append(&key.to_le_bytes()).expect("written");
            writer.append(&8_u128.to_le_bytes()).expect("written");
            writer.append(&900_u64.to_le_bytes()).expect("written");
        }
        writer.finish().expect("written");
        let mut table = OnceTable::default();
        table.load(&vfs, new).expect("good");
        table.load(&vfs, old).expect("good");
        let known = |key, digest| table.look_up(&Once { key, digest, now_seconds: 899, remember_seconds: 1, note: 0 });
        assert_eq!((known(7, 8), known(7, 9)), (Known::Repeated(1 << 100), Known::Different));
        assert_eq!((known(9, 8), known(10, 8), known(11, 8)), (Known::Repeated(0), Known::Repeated(0), Known::New));
    }
}
