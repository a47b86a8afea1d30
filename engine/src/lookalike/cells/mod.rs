//! Cells: the vectors of a space by the nearest of some thousand centres, so that the best few are found without scoring all.
//!
//! A partitioned index (inverted file). All shards of a space have the same centres, so that a question scores each of them once, and a
//! cell is as narrow as the vectors of all shards make it. What is in the cells belongs to a layer: merges write it beside the
//! vectors, which stay where they are in slot order, and it is never out of date. What is scanned is written once more cell by cell, since
//! the few vectors of a cell would else each lie on a page of their own. Centres are the space's, trained now and then
//! by a sample of all its vectors ([`Centres::train`]); a layer has a copy of those it is sorted by, so it needs no other file, and layers
//! with the same [`CentresView::id`] have the same.
//!
//! ```text
//! centres  per cell, column behind column:  codes u8 a dimension | scale 14 bytes | spread f32
//! ends     per cell:                        where its vectors end in `members`, u32
//! members  per vector, cell by cell, rising: slot u32 | row u16 (among its chunk's vectors); all little-endian
//! copies   per member:                       scale 14 bytes | codes u8 a dimension
//! ```
//!
//! Numbers are taken as they are, so damaged ones give wrong answers, never a panic.
//!
//! Source: J. Sivic and A. Zisserman, "Video Google: a text retrieval approach to object matching in videos" (2003); H. Jégou, M.
//! Douze and C. Schmid, "Product quantization for nearest neighbor search" (2011).

mod centres;
mod clustering;
mod finder;

pub use centres::{Centres, CentresView, centre_bytes};

use super::kernels::prefetch;
use super::quantise::{SCALE_BYTES, Scale};
use crate::ids::Slot;

/// A space with fewer vectors has no cells: they are scanned as quickly.
pub const VECTORS_MIN: u64 = 1 << 16;

/// Bytes of a cell in [`Made::ends`].
pub const END_BYTES: usize = 4;
/// Bytes of a vector in [`Made::members`].
pub const MEMBER_BYTES: usize = 6;

/// Vectors whose cell is looked for at once, so that memory stays small.
const BATCH: usize = 4_096;

/// Bytes of a vector in the copies, of so many numbers.
pub fn copy_bytes(dimension: usize) -> usize {
    SCALE_BYTES + dimension
}

/// Who is in which cell of a layer, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// [`END_BYTES`] a cell.
    pub ends: Vec<u8>,
    /// [`MEMBER_BYTES`] a vector.
    pub members: Vec<u8>,
    /// Which vector each member is, in the order in which they were given: [`copy_bytes`] of each are written.
    pub order: Vec<u32>,
}

/// Sorts the vectors of a layer into cells.
#[derive(Debug)]
pub struct Sorter<'c> {
    centres: &'c Centres,
    slots: Vec<Slot>,
    /// The cell of each.
    sides: Vec<u32>,
}

impl<'c> Sorter<'c> {
    /// Into the cells of these centres.
    pub fn new(centres: &'c Centres) -> Self {
        Sorter { centres, slots: Vec::new(), sides: Vec::new() }
    }

    /// Takes more vectors, by rising slot: codes, as many a vector as there are dimensions, and scales.
    ///
    /// # Panics
    /// If there are not as many of one thing as of the others, or codes have other lengths.
    pub fn add(&mut self, slots: impl Iterator<Item = Slot>, codes: &[&[u8]], scales: &[Scale]) {
        self.slots.extend(slots);
        for (codes, scales) in codes.chunks(BATCH).zip(scales.chunks(BATCH)) {
            self.sides.extend(self.centres.nearest(&codes.concat(), scales));
        }
        assert_eq!(self.sides.len(), self.slots.len(), "one of each a vector");
    }

    /// What to write.
    pub fn finish(self) -> Made {
        // Where the next member of each cell goes.
        let mut next = vec![0_usize; self.centres.count()];
        self.sides.iter().for_each(|side| next[*side as usize] += 1);
        let mut end = 0;
        for count in &mut next {
            end += std::mem::replace(count, end);
        }
        let mut members = vec![0; self.slots.len() * MEMBER_BYTES];
        let mut order = vec![0; self.slots.len()];
        let mut row = 0_u16;
        for (at, (slot, side)) in self.slots.iter().zip(&self.sides).enumerate() {
            let is_first = at == 0 || self.slots[at - 1] >> 16 != slot >> 16;
            // A chunk has at most 65,536 vectors.
            row = if is_first { 0 } else { row + 1 };
            let next = &mut next[*side as usize];
            let member = &mut members[*next * MEMBER_BYTES..][..MEMBER_BYTES];
            member[..4].copy_from_slice(&slot.to_le_bytes());
            member[4..].copy_from_slice(&row.to_le_bytes());
            order[*next] = at as u32;
            *next += 1;
        }
        Made { ends: next.iter().flat_map(|end| (*end as u32).to_le_bytes()).collect(), members, order }
    }
}

/// Who of a layer is in which cell, as it lies in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    centres: CentresView<'a>,
    ends: &'a [[u8; END_BYTES]],
    members: &'a [[u8; MEMBER_BYTES]],
    copies: &'a [u8],
}

/// The vectors of a cell, by rising slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a> {
    /// The place of the first one among those of all cells.
    first: usize,
    of: &'a [[u8; MEMBER_BYTES]],
}

impl<'a> Members<'a> {
    /// Asks memory for the first ones.
    pub(super) fn prefetch(self) {
        let bytes = self.of.as_flattened();
        prefetch(&bytes[..bytes.len().min(128)]);
    }

    pub(super) fn len(self) -> usize {
        self.of.len()
    }

    /// With their places among those of all cells.
    pub(super) fn iter(self) -> impl Iterator<Item = (u32, Member)> + use<'a> {
        (self.first as u32..).zip(self.of.iter().map(member_of))
    }
}

/// A vector of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) slot: Slot,
    /// Where it stands among the vectors of its chunk.
    pub(super) row: u16,
}

impl<'a> Cells<'a> {
    /// Takes the cells of a layer with so many vectors; `None` if the bytes are none.
    pub fn new(
        centres: CentresView<'a>,
        ends: &'a [u8],
        members: &'a [u8],
        copies: &'a [u8],
        rows: u64,
    ) -> Option<Self> {
        let is_whole = |bytes: &[u8], count: u64, of_one: usize| bytes.len() as u64 == count * of_one as u64;
        let is_each_whole = is_whole(ends, centres.count() as u64, END_BYTES)
            && is_whole(members, rows, MEMBER_BYTES)
            && is_whole(copies, rows, copy_bytes(centres.dimension()));
        if !is_each_whole {
            return None;
        }
        let cells = Cells { centres, ends: ends.as_chunks().0, members: members.as_chunks().0, copies };
        (cells.ends.last().map(end_of) == Some(members.len() / MEMBER_BYTES)).then_some(cells)
    }

    /// What they are the cells of.
    pub fn centres(&self) -> CentresView<'a> {
        self.centres
    }

    /// Asks memory for where a cell begins and ends.
    pub(super) fn prefetch(&self, cell: u32) {
        prefetch(self.ends.get(cell as usize).map_or(&[], |end| &end[..]));
    }

    /// The vectors of a cell, by rising slot.
    pub(super) fn members(&self, cell: u32) -> Members<'a> {
        let cell = cell as usize;
        let begin = cell.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, end_of);
        let end = self.ends.get(cell).map_or(0, end_of);
        Members { first: begin, of: self.members.get(begin..end).unwrap_or_default() }
    }

    /// What is scanned of the member at a place: its scale, and its codes.
    ///
    /// # Panics
    /// If there is no such place.
    pub(super) fn copy(&self, place: u32) -> (&'a Scale, &'a [u8]) {
        let wide = copy_bytes(self.centres.dimension());
        self.copies[place as usize * wide..][..wide].split_first_chunk().expect("a scale comes first")
    }

    /// Asks memory for what is scanned of the member at a place.
    pub(super) fn prefetch_copy(&self, place: u32) {
        let wide = copy_bytes(self.centres.dimension());
        prefetch(self.copies.get(place as usize * wide..).map_or(&[], |from| &from[..wide.min(from.len())]));
    }

    /// Whether each of the layer's vectors, which these slots have, is in one cell, and copied as it is: `scanned` tells the scale and
    /// codes of a slot's vector by its chunk and its place there.
    pub fn is_partition<'r>(
        &self,
        slots: impl Iterator<Item = Slot>,
        scanned: impl Fn(u16, u16) -> Option<(&'r [u8], &'r [u8])>,
    ) -> bool {
        let rises = self.ends.iter().map(end_of).is_sorted();
        let mut members: Vec<(u32, Member)> = (0..).zip(self.members.iter().map(member_of)).collect();
        let is_copied = |(place, member): &(u32, Member)| {
            let (scale, codes) = self.copy(*place);
            scanned((member.slot >> 16) as u16, member.row) == Some((&scale[..], codes))
        };
        members.sort_unstable_by_key(|(_, member)| member.slot);
        let rows = members.chunk_by(|(_, a), (_, b)| a.slot >> 16 == b.slot >> 16);
        let mut places = rows.flat_map(|of_chunk| of_chunk.iter().enumerate());
        rises
            && places.all(|(place, (_, member))| place == usize::from(member.row))
            && slots.eq(members.iter().map(|(_, member)| member.slot))
            && members.iter().all(is_copied)
    }
}

fn end_of(bytes: &[u8; END_BYTES]) -> usize {
    u32::from_le_bytes(*bytes) as usize
}

fn member_of(bytes: &[u8; MEMBER_BYTES]) -> Member {
    let [a, b, c, d, e, f] = *bytes;
    Member { slot: u32::from_le_bytes([a, b, c, d]), row: u16::from_le_bytes([e, f]) }
}

#[cfg(test)]
mod tests;
