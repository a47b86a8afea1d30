//! Beginning a queue, and the end of one.

use super::format::{BlockBuilder, Record};
use super::{BLOCK_BYTES, CURSOR, Queue, QueuePlace, State, lock};
use engine::ids::TagId;
use engine::vfs::Vfs;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

impl Queue {
    /// Begins a queue in a folder, whatever lies there: with rows of a fact from a number on, behind the `initial` records. The
    /// queue is there as a whole, or not at all.
    ///
    /// # Errors
    /// The disk's, and what `initial` fails with.
    pub(crate) fn begin(
        place: &QueuePlace<'_>,
        id: u64,
        (fact, next_row): (TagId, u64),
        now: i64,
        initial: impl FnOnce(&mut InitialRecords<'_>) -> io::Result<()>,
    ) -> io::Result<Queue> {
        place.vfs.create_folder(place.folder)?;
        clear(&**place.vfs, place.folder)?;
        let queue = Queue::empty(place, id, fact);
        {
            let mut state = lock(&queue.state);
            state.next_rows = BTreeMap::from([(fact, next_row)]);
            let builder = BlockBuilder::default();
            let mut records = InitialRecords { queue: &queue, state: &mut state, builder, now };
            initial(&mut records)?;
            records.flush()?;
            queue.sync(&mut state)?;
            if state.files.is_empty() || state.end > 0 {
                // So the members are files of their own.
                queue.begin_file(&mut state, false)?;
            }
        }
        queue.write_cursor(*lock(&queue.cursor))?;
        Ok(queue)
    }
}

/// Takes the members who are there when a sink begins.
pub(crate) struct InitialRecords<'a> {
    queue: &'a Queue,
    state: &'a mut State,
    builder: BlockBuilder,
    now: i64,
}

impl InitialRecords<'_> {
    /// Takes one.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn push(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.builder.push(record);
        if self.builder.size_bytes() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.append_held(self.state, &mut self.builder, self.now, true)
    }
}

/// Removes what is in the folder of a queue, the cursor first: without it the rest is nothing.
///
/// # Errors
/// The disk's.
pub(crate) fn clear(vfs: &dyn Vfs, folder: &Path) -> io::Result<()> {
    let mut names = vfs.list(folder)?;
    if names.is_empty() {
        return Ok(());
    }
    if names.iter().any(|name| name == CURSOR) {
        vfs.remove(&folder.join(CURSOR))?;
        vfs.sync_folder(folder)?;
        names.retain(|name| name != CURSOR);
    }
    for name in names {
        vfs.remove(&folder.join(name))?;
    }
    vfs.sync_folder(folder)
}
