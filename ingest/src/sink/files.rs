//! Files of NDJSON in a folder.
//!
//! Records are appended to `<sink>-<life>-<first offset>.ndjson.part`, which is synced after each batch and becomes `….ndjson` once it
//! is large or old enough: a file of that name is whole and does not change. Which lines were delivered follows from the offset in
//! the name, so after a crash what stands behind them is cut off and each record is in the files once.

use super::deliver::{Connector, Deliver, Delivery, DeliveryError, Refusal, SinkIdentity};
use crate::stop::Stop;
use engine::vfs::{Vfs, WriteFile};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes at which a file is whole, if nothing else is said.
pub const FILE_BYTES: u64 = 64 << 20;
/// The age at which a file is whole, if nothing else is said.
pub const FILE_AGE: Duration = Duration::from_secs(300);

const WHOLE: &str = ".ndjson";
const PART: &str = ".ndjson.part";

/// Files in a folder.
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// The disk.
    pub vfs: Arc<dyn Vfs>,
    /// The folder; it is made if it is not there.
    pub folder: PathBuf,
    /// Bytes at which a file is whole.
    pub max_bytes: u64,
    /// The age at which a file is whole; it begins anew with each start.
    pub max_age: Duration,
}

impl Connector for FilesOptions {
    fn open(&self, sink: &SinkIdentity) -> Result<Box<dyn Deliver>, DeliveryError> {
        self.vfs.create_folder(&self.folder).map_err(|error| self.later("make the folder", &error))?;
        Ok(Box::new(Files { options: self.clone(), prefix: format!("{}-", sink.key()), is_opened: false, part: None }))
    }
}

impl FilesOptions {
    fn later(&self, verb: &str, error: &io::Error) -> DeliveryError {
        DeliveryError::later(format!("{}: {verb}: {error}", self.folder.display()))
    }
}

struct Files {
    options: FilesOptions,
    prefix: String,
    /// What an earlier run left was looked at.
    is_opened: bool,
    part: Option<Part>,
}

/// The file that is written to.
struct Part {
    file: Box<dyn WriteFile>,
    first: u64,
    bytes: u64,
    begun: Instant,
}

impl Files {
    fn path(&self, first: u64, extension: &str) -> PathBuf {
        self.options.folder.join(format!("{}{first:020}{extension}", self.prefix))
    }

    /// Cuts what an earlier attempt or run left to the records before `at`.
    fn open_at(&mut self, at: u64) -> io::Result<()> {
        let vfs = self.options.vfs.clone();
        self.part = None;
        for name in vfs.list(&self.options.folder)? {
            let first = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_suffix(PART)?.parse::<u64>().ok());
            let Some(first) = first else { continue };
            if first >= at {
                vfs.remove(&self.path(first, PART))?;
                continue;
            }
            let bytes = vfs.map(&self.path(first, PART))?;
            let kept = begin_of(&bytes, at - first);
            let is_short = kept.lines < at - first;
            self.part = Some(self.rewrite(first, &bytes[..kept.bytes])?);
            if is_short {
                // Records were given up: lines are no offsets in it any more.
                self.finish()?;
            }
        }
        vfs.sync_folder(&self.options.folder)?;
        self.is_opened = true;
        Ok(())
    }

    fn rewrite(&self, first: u64, bytes: &[u8]) -> io::Result<Part> {
        let (vfs, path) = (&self.options.vfs, self.path(first, PART));
        let temporary = self.path(first, ".tmp");
        match vfs.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = vfs.create(&temporary)?;
        file.append(bytes)?;
        file.sync()?;
        vfs.rename(&temporary, &path)?;
        vfs.sync_folder(&self.options.folder)?;
        Ok(Part { file, first, bytes: bytes.len() as u64, begun: Instant::now() })
    }

    /// Makes the part a whole file.
    fn finish(&mut self) -> io::Result<()> {
        if let Some(part) = &self.part {
            self.options.vfs.rename(&self.path(part.first, PART), &self.path(part.first, WHOLE))?;
            self.options.vfs.sync_folder(&self.options.folder)?;
            self.part = None;
        }
        Ok(())
    }

    /// All of it was delivered when this is called.
    fn finish_if_due(&mut self) -> io::Result<()> {
        let is_due = |part: &Part| {
            part.bytes >= self.options.max_bytes || (part.bytes > 0 && part.begun.elapsed() >= self.options.max_age)
        };
        if self.part.as_ref().is_some_and(is_due) { self.finish() } else { Ok(()) }
    }

    fn write(&mut self, delivery: &Delivery<'_>) -> io::Result<()> {
        if !self.is_opened {
            self.open_at(delivery.first)?;
        }
        self.finish_if_due()?;
        let mut lines = Vec::new();
        for record in &delivery.records {
            lines.extend_from_slice(record.json.as_bytes());
            lines.push(b'\n');
        }
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.rewrite(delivery.first, b"")?,
        };
        part.file.append(&lines)?;
        part.file.sync()?;
        part.bytes += lines.len() as u64;
        self.part = Some(part);
        Ok(())
    }
}

/// The first lines of a file.
struct Kept {
    lines: u64,
    bytes: usize,
}

fn begin_of(bytes: &[u8], lines: u64) -> Kept {
    let ends = memchr::memchr_iter(b'\n', bytes).take(usize::try_from(lines).unwrap_or(usize::MAX));
    ends.fold(Kept { lines: 0, bytes: 0 }, |kept, end| Kept { lines: kept.lines + 1, bytes: end + 1 })
}

impl Deliver for Files {
    fn deliver(&mut self, delivery: &Delivery<'_>, _stop: &Stop) -> Result<Vec<Refusal>, DeliveryError> {
        self.write(delivery).map(|()| Vec::new()).map_err(|error| {
            // What was written of it is cut off before it is written again.
            self.is_opened = false;
            self.options.later("write", &error)
        })
    }

    fn pass_over(&mut self, first: u64) {
        let passed = self.open_at(first).and_then(|()| self.finish());
        if let Err(error) = passed {
            self.is_opened = false;
            tracing::warn!(%error, "a batch that was given up may be in a file in part");
        }
    }

    fn rest(&mut self, end: u64) -> Result<(), DeliveryError> {
        let opened = if self.is_opened { Ok(()) } else { self.open_at(end) };
        opened.and_then(|()| self.finish_if_due()).map_err(|error| {
            self.is_opened = false;
            self.options.later("finish a file", &error)
        })
    }
}
