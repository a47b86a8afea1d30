//! Reading a queue, batch by batch.

use super::format::{self, Content, Unreadable};
use super::{Batch, BatchRecord, Queue, QueueError};
use engine::vfs::FileBytes;

/// What a batch may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
}

/// Reads on where it was, so that a long file is not searched again for each batch.
#[derive(Debug, Default)]
pub(crate) struct QueueReader {
    place: Option<Place>,
    mapped: Option<(u64, FileBytes)>,
}

/// A block of a file.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first offset of the file.
    file: u64,
    /// Where in the file the block begins.
    at: usize,
    /// The offset of its first record.
    first: u64,
}

impl QueueReader {
    /// The records from `from` on: all up to `end`, if it is said, else as many as `limits` allow. At least one.
    ///
    /// # Errors
    /// [`QueueError`] if a file is damaged or cannot be read.
    pub(crate) fn read(
        &mut self,
        queue: &Queue,
        from: u64,
        end: Option<u64>,
        limits: BatchLimits,
    ) -> Result<Batch, QueueError> {
        let mut batch = Batch { first: from, ..Batch::default() };
        let (until, records_max, bytes_max) = match end {
            Some(end) => (end, usize::MAX, usize::MAX),
            None => (queue.end(), limits.records_max.max(1), limits.bytes_max.max(1)),
        };
        let mut bytes = 0;
        while batch.end() < until {
            let next = batch.end();
            let is_full = self.with_block(queue, next, |records, name, at| {
                let skipped = (next - records.first) as usize;
                for record in records.iter().skip(skipped) {
                    let record = record.ok_or_else(|| QueueError::damaged(name, at))?;
                    let size = record.json.len();
                    let is_over = batch.records.len() >= records_max || bytes + size > bytes_max;
                    if batch.end() == until || (is_over && !batch.records.is_empty()) {
                        return Ok(true);
                    }
                    bytes += size;
                    batch.queued_at.get_or_insert(records.queued_at);
                    batch.records.push(BatchRecord {
                        id: record.id.to_owned(),
                        user_id: record.user_id.to_owned(),
                        json: record.json.to_owned(),
                    });
                }
                Ok(false)
            })?;
            if is_full {
                break;
            }
        }
        Ok(batch)
    }

    /// When the record at an offset came.
    pub(crate) fn queued_at(&mut self, queue: &Queue, offset: u64) -> Result<i64, QueueError> {
        self.with_block(queue, offset, |records, _, _| Ok(records.queued_at))
    }

    /// Finds the block that has the record at `offset`, which is below the queue's end.
    fn with_block<T>(
        &mut self,
        queue: &Queue,
        offset: u64,
        then: impl FnOnce(&format::Records<'_>, &str, usize) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        let file =
            queue.file_of(offset).ok_or_else(|| QueueError::Missing { sink: queue.name().to_owned(), offset })?;
        let mut place = match self.place {
            Some(place) if place.file == file && place.first <= offset => place,
            _ => Place { file, at: 0, first: file },
        };
        let mapped = self.mapped.take().filter(|(mapped, bytes)| *mapped == file && place.at < bytes.len());
        let (mut bytes, mut is_fresh) = match mapped {
            Some((_, bytes)) => (bytes, false),
            None => (queue.map(file)?, true),
        };
        let name = queue.file_name(file);
        loop {
            match format::block(&bytes, place.at) {
                // What was mapped before ends where the file ended then.
                Err(_) if !is_fresh => {
                    bytes = queue.map(file)?;
                    is_fresh = true;
                }
                Err(Unreadable::End | Unreadable::Damaged) => return Err(QueueError::damaged(&name, place.at)),
                Ok(block) => match &block.content {
                    Content::Header(header) if header.first == file && header.id == queue.id() => place.at = block.next,
                    Content::Records(records) if records.first == place.first => {
                        let end = records.first + u64::from(records.count);
                        if offset < end {
                            let answer = then(records, &name, place.at);
                            self.place = Some(place);
                            self.mapped = Some((file, bytes));
                            return answer;
                        }
                        place.at = block.next;
                        place.first = end;
                    }
                    _ => return Err(QueueError::damaged(&name, place.at)),
                },
            }
        }
    }
}
