//! Opening a queue after a start: what is there, and where it ends.

use super::format::{self, Content, Cursor, Unreadable};
use super::{CURSOR, EXTENSION, Queue, QueueError, QueueFile, QueuePlace};
use engine::ids::TagId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

impl Queue {
    /// Opens a queue; `None` if it never began, or is of another life of the sink.
    ///
    /// # Errors
    /// [`QueueError`].
    pub(crate) fn open(place: &QueuePlace<'_>) -> Result<Option<Queue>, QueueError> {
        let QueuePlace { vfs, folder, .. } = *place;
        let names = vfs.list(folder).map_err(QueueError::disk(format!("list {}", folder.display())))?;
        if !names.iter().any(|name| name == CURSOR) {
            return Ok(None);
        }
        let path = folder.join(CURSOR);
        let bytes = vfs.map(&path).map_err(QueueError::disk(format!("read {}", path.display())))?;
        let cursor = Cursor::read(&bytes).ok_or_else(|| QueueError::damaged(&path.display().to_string(), 0))?;
        if cursor.life != place.life {
            return Ok(None);
        }
        let mut queue = Queue::empty(place, cursor.id, cursor.fact);
        queue.cursor = Mutex::new(cursor);
        queue.load(&names, cursor)?;
        Ok(Some(queue))
    }

    fn load(&mut self, names: &[String], cursor: Cursor) -> Result<(), QueueError> {
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
        firsts.sort_unstable();
        let missing = |offset| QueueError::Missing { sink: self.name.clone(), offset };
        let delivered = firsts.windows(2).take_while(|pair| pair[1] <= cursor.delivered).count();
        for first in firsts.drain(..delivered) {
            self.remove_file(first)?;
        }
        let (Some(first), Some(last)) = (firsts.first().copied(), firsts.last().copied()) else {
            return Err(missing(cursor.delivered));
        };
        if first > cursor.delivered {
            return Err(missing(cursor.delivered));
        }
        let mut files = VecDeque::new();
        for first in firsts {
            let bytes = self.map(first)?;
            let header = match format::block(&bytes, 0) {
                Ok(format::Block { content: Content::Header(header), .. })
                    if header.first == first && header.id == self.id =>
                {
                    header
                }
                _ => return Err(QueueError::damaged(&self.file_name(first), 0)),
            };
            files.push_back(QueueFile { first, bytes: bytes.len() as u64, is_initial: header.is_initial });
        }
        let (end, next_rows) = self.scan(last)?;
        if end < cursor.delivered.max(cursor.sent) {
            return Err(missing(end));
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        (state.files, state.end, state.next_rows) = (files, end, next_rows);
        Ok(())
    }

    /// Reads the last file to its end, which a crash may have torn.
    fn scan(&self, first: u64) -> Result<(u64, BTreeMap<TagId, u64>), QueueError> {
        let bytes = self.map(first)?;
        let damaged = |at| QueueError::damaged(&self.file_name(first), at);
        let (mut at, mut end, mut next_rows) = (0, first, BTreeMap::new());
        loop {
            let block = match format::block(&bytes, at) {
                Ok(block) => block,
                Err(Unreadable::End) => return Ok((end, next_rows)),
                Err(Unreadable::Damaged) if format::is_corrupt(&bytes, at) => return Err(damaged(at)),
                Err(Unreadable::Damaged) => {
                    tracing::info!(sink = self.name, file = self.file_name(first), at, "passed over a torn end");
                    return Ok((end, next_rows));
                }
            };
            match block.content {
                Content::Header(header) => next_rows = header.next_rows,
                Content::Records(records) if records.first == end => {
                    for record in records.iter() {
                        if let Some((fact, row)) = record.ok_or_else(|| damaged(at))?.row {
                            next_rows.insert(fact, row + 1);
                        }
                    }
                    end += u64::from(records.count);
                }
                Content::Records(_) => return Err(damaged(at)),
            }
            at = block.next;
        }
    }
}

fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()
}
