//! Vectors of several segments as those of one: of each user the newest, unless something newer took it away.

use super::{TagMerger, load};
use crate::error::{MergeError, ReadError};
use crate::ids::{CHUNK_SLOTS, Slot};
use crate::lookalike::cells::{Centres, Sorter};
use crate::lookalike::quantise::{Most, Scale};
use crate::segment::{BlockKey, Form, Part, Segment, SegmentWriter};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::io;

/// What one input has of a space.
struct Input<'m> {
    segment: &'m Segment,
    /// Users whose vectors it stores.
    stored: RoaringBitmap,
    /// Those of them of whom nothing newer says anything.
    left: RoaringBitmap,
}

/// The rows of a chunk, by rising slot.
type Rows<'m> = Vec<(Slot, &'m [u8])>;

impl TagMerger<'_> {
    /// Writes the blocks of a vector space; with cells, if there are centres and as many vectors at least.
    pub(super) fn blocks(&self, writer: &mut SegmentWriter) -> Result<(), MergeError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (segment, newer) in self.inputs.iter().zip(&self.hidden.newer) {
            let stored = load(segment, self.key(Part::Exists))?;
            inputs.push(Input { segment, left: &stored - newer, stored });
        }
        let parts = self.inputs.iter().flat_map(|input| input.parts(self.tag));
        let mut keys: BTreeSet<BlockKey> = parts
            .filter_map(|(part, _)| match part {
                // Cells are those of the vectors that are left, and so made anew.
                Part::Block(key) if Form::OF_VECTORS.contains(&key.form) => Some(key),
                _ => None,
            })
            .collect();
        // Also those that should be there: one that is missing is damage, not nothing.
        let full = |chunk| BlockKey { form: Form::Full, chunk };
        inputs.iter().for_each(|input| keys.extend(chunks(&input.left).map(full)));
        for key in &keys {
            let rows = self.rows(*key, &inputs)?;
            let number = match key.form {
                Form::Scale => Most::among(rows.iter().filter_map(|(_, row)| row.as_array())).to_number(),
                _ => 0,
            };
            writer.add_block(self.key(Part::Block(*key)), number, rows.len() as u64, |put| {
                rows.iter().try_for_each(|(_, row)| put(row)).map_err(MergeError::from)
            })?;
        }
        let rows: u64 = inputs.iter().map(|input| input.left.len()).sum();
        match (self.rules.centres)(self.tag).filter(|centres| centres.count() as u64 <= rows) {
            Some(centres) => self.cells(&centres, keys.iter().map(|key| key.chunk).collect(), &inputs, writer),
            None => Ok(()),
        }
    }

    /// What is left of a chunk in one form.
    fn rows<'m>(&self, key: BlockKey, inputs: &[Input<'m>]) -> Result<Rows<'m>, MergeError> {
        let from = u32::from(key.chunk) * CHUNK_SLOTS;
        let chunk = from..=from + (CHUNK_SLOTS - 1);
        let mut rows: Rows<'m> = Vec::new();
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
        Ok(rows)
    }

    /// Writes which vectors are near each other.
    fn cells(
        &self,
        centres: &Centres,
        chunks: BTreeSet<u16>,
        inputs: &[Input<'_>],
        writer: &mut SegmentWriter,
    ) -> Result<(), MergeError> {
        let mut sorter = Sorter::new(centres);
        // Where what is scanned of each vector lies.
        let mut scanned: Vec<(&[u8], &[u8])> = Vec::new();
        for chunk in chunks {
            let [codes, scales] = [Form::Codes, Form::Scale].map(|form| self.rows(BlockKey { form, chunk }, inputs));
            let (codes, scales) = (codes?, scales?);
            let slots = codes.iter().map(|(slot, _)| *slot);
            let rows: Vec<&[u8]> = codes.iter().map(|(_, row)| *row).collect();
            let as_scales: Vec<Scale> = scales.iter().filter_map(|(_, row)| row.as_array().copied()).collect();
            if as_scales.len() != rows.len() || rows.iter().any(|row| row.len() != centres.dimension()) {
                let path = self.inputs.first().map(|input| input.path().to_owned()).unwrap_or_default();
                let what =
                    format!("space {}, chunk {chunk}: its vectors have another length than their space says", self.tag);
                return Err(ReadError::Corrupt { path, offset_bytes: 0, what }.into());
            }
            sorter.add(slots, &rows, &as_scales);
            scanned.extend(scales.iter().map(|(_, scale)| *scale).zip(rows));
        }
        let made = sorter.finish();
        let mut add = |form, number, rows: usize, all: &dyn Fn(Put<'_>) -> io::Result<()>| {
            let key = self.key(Part::Block(BlockKey { form, chunk: 0 }));
            writer.add_block(key, number, rows as u64, |put| all(put).map_err(MergeError::from))
        };
        add(Form::Centres, centres.id() as i64, centres.count(), &|put| put(centres.bytes()))?;
        add(Form::Ends, centres.trained_on() as i64, centres.count(), &|put| put(&made.ends))?;
        add(Form::Members, 0, scanned.len(), &|put| put(&made.members))?;
        add(Form::Copies, 0, scanned.len(), &|put| {
            made.order.iter().map(|at| scanned[*at as usize]).try_for_each(|(scale, codes)| {
                put(scale)?;
                put(codes)
            })
        })
    }
}

/// Takes bytes of a block.
type Put<'p> = &'p mut dyn FnMut(&[u8]) -> io::Result<()>;

/// The chunks that have slots of a bitmap, rising.
fn chunks(slots: &RoaringBitmap) -> impl Iterator<Item = u16> {
    let next = |from: u32| slots.range(from..).next().map(|slot| (slot / CHUNK_SLOTS) as u16);
    std::iter::successors(next(0), move |chunk| next((u32::from(*chunk) + 1).checked_mul(CHUNK_SLOTS)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TagId;
    use crate::segment::Key;
    use crate::segment::merge::{MergeKind, MergeRules, merge};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const SPACE: TagId = TagId(20);
    /// At both sides of where chunks begin.
    const SLOTS: [Slot; 8] = [0, 7, 65_535, 65_536, 65_537, 131_071, 131_072, 500_000];

    /// What a layer says of users: their vector, or that they have none any more.
    type Said = BTreeMap<Slot, Option<[u8; 8]>>;

    fn said() -> impl Strategy<Value = Said> {
        let entry = (proptest::sample::select(&SLOTS[..]), proptest::option::weighted(0.7, any::<[u8; 8]>()));
        proptest::collection::btree_map(entry.0, entry.1, 0..SLOTS.len())
    }

    fn segment(said: &Said, is_bottom: bool) -> Arc<Segment> {
        let mut writer = SegmentWriter::in_memory();
        let (touched, exists): (RoaringBitmap, RoaringBitmap) =
            (said.keys().collect(), said.iter().filter(|(_, vector)| vector.is_some()).map(|(slot, _)| slot).collect());
        if !is_bottom {
            writer.add(Key { tag: SPACE, part: Part::Touched }, 0, &touched).expect("memory");
        }
        writer.add(Key { tag: SPACE, part: Part::Exists }, 0, &exists).expect("memory");
        let chunks: BTreeSet<u16> = exists.iter().map(|slot| (slot / CHUNK_SLOTS) as u16).collect();
        for chunk in chunks {
            let of_chunk = said.iter().filter(|(slot, _)| (*slot / CHUNK_SLOTS) as u16 == chunk);
            let rows: Vec<[u8; 8]> = of_chunk.filter_map(|(_, vector)| *vector).collect();
            let key = Key { tag: SPACE, part: Part::Block(BlockKey { form: Form::Full, chunk }) };
            let put = |put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| rows.iter().try_for_each(|row| put(row));
            writer.add_block::<std::io::Error>(key, 0, rows.len() as u64, put).expect("memory");
        }
        Arc::new(Segment::from_memory(writer.finish_in_memory()).expect("good"))
    }

    fn merged(inputs: &[Arc<Segment>], bottom: bool) -> Result<Arc<Segment>, MergeError> {
        let mut writer = SegmentWriter::in_memory();
        let (kind, erased) = (&|_: TagId| Some(MergeKind::Vectors), &RoaringBitmap::new());
        let rules = MergeRules { bottom, kind, wanted: &|_, _| true, centres: &|_| None, erased };
        merge(inputs, &rules, &mut writer)?;
        Ok(Arc::new(Segment::from_memory(writer.finish_in_memory()).expect("good")))
    }

    /// What a segment says, read vector by vector.
    fn told(segment: &Segment, is_bottom: bool) -> Said {
        segment.verify().expect("good");
        let load = |part| load(segment, Key { tag: SPACE, part }).expect("good");
        let users = if is_bottom { load(Part::Exists) } else { load(Part::Touched) };
        let vector = |slot| segment.vector(SPACE, Form::Full, slot).expect("good");
        let row = |slot| vector(slot).map(|row: &[u8]| row.try_into().expect("8 bytes"));
        users.iter().map(|slot| (slot, row(slot))).collect()
    }

    proptest! {
        #[test]
        fn the_newest_vector_of_each_user_is_left(layers in proptest::collection::vec(said(), 1..5), bottom: bool) {
            let oldest = layers.len() - 1;
            let inputs: Vec<_> =
                layers.iter().enumerate().map(|(at, said)| segment(said, bottom && at == oldest)).collect();
            let mut expected = Said::new();
            layers.iter().rev().for_each(|said| expected.extend(said));
            if bottom {
                expected.retain(|_, vector| vector.is_some());
            }
            let merged = merged(&inputs, bottom).expect("good");
            prop_assert_eq!(told(&merged, bottom), expected);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_damage() {
        let two = Said::from([(1, Some([1; 8])), (2, Some([2; 8]))]);
        let newer = segment(&Said::from([(3, Some([3; 8])), (70_000, Some([3; 8]))]), false);
        let with_blocks = |blocks: &[(u16, u64, usize)]| {
            let mut writer = SegmentWriter::in_memory();
            let exists: RoaringBitmap = two.keys().collect();
            writer.add(Key { tag: SPACE, part: Part::Exists }, 0, &exists).expect("memory");
            for (chunk, row_count, row_bytes) in blocks {
                let key = Key { tag: SPACE, part: Part::Block(BlockKey { form: Form::Full, chunk: *chunk }) };
                let rows = |put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| {
                    (0..*row_count).try_for_each(|_| put(&[9; 12][..*row_bytes]))
                };
                writer.add_block::<std::io::Error>(key, 0, *row_count, rows).expect("memory");
            }
            Arc::new(Segment::from_memory(writer.finish_in_memory()).expect("good"))
        };
        for (blocks, what) in [
            (&[][..], "vectors are missing"),
            (&[(1, 2, 8)], "vectors are missing"),
            (&[(0, 1, 8)], "not as many vectors"),
            (&[(0, 3, 8)], "not as many vectors"),
            (&[(0, 2, 12)], "another length"),
        ] {
            let damaged = with_blocks(blocks);
            let error = merged(&[Arc::clone(&newer), Arc::clone(&damaged)], true).expect_err(what);
            assert!(error.to_string().contains(what) || format!("{error:?}").contains(what), "{what}: {error:?}");
            if blocks.first().is_none_or(|block| block.1 != 2) {
                assert!(damaged.vector(SPACE, Form::Full, 2).is_err());
            }
        }
    }
}
