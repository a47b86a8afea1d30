//! Recent vectors of one space and shard, as they came, and how they become blocks of a layer.

use super::memtable::{CHANGE_BYTES, LAYERS_ARE_SMALL, Output, last_of_each, slots};
use crate::catalog::Space;
use crate::ids::{CHUNK_SLOTS, Slot, TagId};
use crate::segment::{BlockKey, Form, Key, Part};
use crate::update::Change;

/// See the module.
#[derive(Debug)]
pub(super) struct VectorLog {
    dimension: u16,
    /// `None`: taken away. Else where the vector stands in `numbers`, counted in vectors.
    log: Vec<(Slot, Option<u32>)>,
    /// Vectors, one behind another.
    numbers: Vec<[u8; 4]>,
}

impl VectorLog {
    pub(super) fn new(space: &Space) -> VectorLog {
        VectorLog { dimension: space.dimension, log: Vec::new(), numbers: Vec::new() }
    }

    /// Appends a change; one that does not fit the space is ignored. Adds what it costs to `bytes`.
    pub(super) fn push(&mut self, slot: Slot, change: Change<'_>, bytes: &mut usize) {
        let place = match change {
            Change::Unset => None,
            Change::Vector(numbers) if numbers.len() == usize::from(self.dimension) => {
                // A memtable is sealed long before it has as many.
                let place = (self.numbers.len() / usize::from(self.dimension)) as u32;
                self.numbers.extend_from_slice(numbers);
                *bytes += size_of_val(numbers);
                Some(place)
            }
            _ => return,
        };
        self.log.push((slot, place));
        *bytes += CHANGE_BYTES;
    }

    /// Writes the postings and blocks of the space `tag`.
    pub(super) fn seal(self, out: &mut Output, tag: TagId) {
        let last = last_of_each(self.log);
        out.put(tag, Part::Touched, 0, &slots(&last, |_| true));
        out.put(tag, Part::Exists, 0, &slots(&last, Option::is_some));
        let kept: Vec<(Slot, u32)> = last.into_iter().filter_map(|(slot, place)| Some((slot, place?))).collect();
        let width = usize::from(self.dimension);
        for of_chunk in kept.chunk_by(|a, b| a.0 / CHUNK_SLOTS == b.0 / CHUNK_SLOTS) {
            let chunk = (of_chunk[0].0 / CHUNK_SLOTS) as u16;
            let key = Key { tag, part: Part::Block(BlockKey { form: Form::Full, chunk }) };
            let added = out.0.add_block::<std::io::Error>(key, of_chunk.len() as u64, |put| {
                let vector = |place: u32| &self.numbers[place as usize * width..][..width];
                of_chunk.iter().try_for_each(|(_, place)| put(vector(*place).as_flattened()))
            });
            added.expect(LAYERS_ARE_SMALL);
        }
    }
}
