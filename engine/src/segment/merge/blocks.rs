//! Vectors of several segments as those of one: of each user the newest, unless something newer took it away.

use super::{TagMerger, load};
use crate::error::{MergeError, ReadError};
use crate::ids::{CHUNK_SLOTS, Slot};
use crate::lookalike::quantise::Most;
use crate::segment::{BlockKey, Form, Part, Segment, SegmentWriter};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;

/// What one input has of a space.
struct Input<'m> {
    segment: &'m Segment,
    /// Users whose vectors it stores.
    stored: RoaringBitmap,
    /// Those of them of whom nothing newer says anything.
    left: RoaringBitmap,
}

impl TagMerger<'_> {
    /// Writes the blocks of a vector space.
    pub(super) fn blocks(&self, writer: &mut SegmentWriter) -> Result<(), MergeError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (segment, newer) in self.inputs.iter().zip(&self.hidden.newer) {
            let stored = load(segment, self.key(Part::Exists))?;
            inputs.push(Input { segment, left: &stored - newer, stored });
        }
        let parts = self.inputs.iter().flat_map(|input| input.parts(self.tag));
        let keys: BTreeSet<BlockKey> = parts
            .filter_map(|(part, _)| match part {
                Part::Block(key) => Some(key),
                _ => None,
            })
            .collect();
        keys.into_iter().try_for_each(|key| self.block(writer, key, &inputs))
    }

    fn block(&self, writer: &mut SegmentWriter, key: BlockKey, inputs: &[Input<'_>]) -> Result<(), MergeError> {
        let from = u32::from(key.chunk) * CHUNK_SLOTS;
        let chunk = from..=from + (CHUNK_SLOTS - 1);
        let mut rows: Vec<(Slot, &[u8])> = Vec::new();
        for input in inputs.iter().filter(|input| input.left.range_cardinality(chunk.clone()) > 0) {
            let damaged = |what: &str| ReadError::Corrupt {
                path: input.segment.path().to_owned(),
                offset_bytes: 0,
                what: format!("space {}, chunk {}: {what}", self.tag, key.chunk),
            };
            let Some(block) = input.segment.block(self.tag, key)? else {
                return Err(damaged("its vectors are missing").into());
            };
            if block.row_count as u64 != input.stored.range_cardinality(chunk.clone()) {
                return Err(damaged("there are not as many vectors as users with one").into());
            }
            if rows.first().is_some_and(|(_, row)| row.len() != block.row_bytes()) {
                return Err(damaged("its vectors have another length than others").into());
            }
            let stored = input.stored.range(chunk.clone()).enumerate();
            rows.extend(
                stored.filter(|(_, slot)| input.left.contains(*slot)).map(|(place, slot)| (slot, block.row(place))),
            );
        }
        rows.sort_unstable_by_key(|(slot, _)| *slot);
        let number = match key.form {
            Form::Scale => Most::among(rows.iter().filter_map(|(_, row)| row.as_array())).to_number(),
            Form::Full | Form::Codes => 0,
        };
        writer.add_block(self.key(Part::Block(key)), number, rows.len() as u64, |put| {
            rows.iter().try_for_each(|(_, row)| put(row)).map_err(MergeError::from)
        })
    }
}
