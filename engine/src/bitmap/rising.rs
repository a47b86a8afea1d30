//! Bitmaps straight from rising slots to bytes, for the many small ones that events make.
//!
//! A bitmap in memory costs a few allocations, and its bytes are made of it again; what is only written needs neither. The bytes
//! are those that `roaring` gives of the same slots after `optimize`.
//!
//! Source: the format's specification at <https://github.com/RoaringBitmap/RoaringFormatSpec>.

use super::view::{ARRAY_LEN_MAX, COOKIE_WITH_RUNS, COOKIE_WITHOUT_RUNS, OFFSETS_FROM_CONTAINERS, WORDS_BYTES};

/// What a container becomes.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) chunk: u16,
    pub(super) len: usize,
    /// How many runs it is; `None` if it is not kept as runs.
    pub(super) runs: Option<usize>,
}

impl Shape {
    /// The smallest, of so many slots in so many runs.
    pub(super) fn new(chunk: u16, len: usize, runs: usize) -> Shape {
        let plain = Shape { chunk, len, runs: None };
        let runs = Some(runs).filter(|runs| 2 + runs * 4 < plain.size_bytes());
        Shape { runs, ..plain }
    }

    /// Of the slots of one chunk.
    fn of(slots: &[u32]) -> Shape {
        let breaks = slots.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
        Shape::new((slots[0] >> 16) as u16, slots.len(), breaks + 1)
    }

    fn size_bytes(&self) -> usize {
        match self.runs {
            Some(runs) => 2 + runs * 4,
            None if self.len > ARRAY_LEN_MAX => WORDS_BYTES,
            None => self.len * 2,
        }
    }
}

/// Appends the bitmap of these slots, which must rise.
pub(crate) fn serialize(slots: &[u32], out: &mut Vec<u8>) {
    debug_assert!(slots.is_sorted_by(|a, b| a < b), "slots rise");
    let (one, many): (Shape, Vec<Shape>);
    let shapes = match (slots.first(), slots.last()) {
        // Most have one chunk, and then nothing is allocated.
        (Some(first), Some(last)) if first >> 16 == last >> 16 => {
            one = Shape::of(slots);
            std::slice::from_ref(&one)
        }
        _ => {
            many = slots.chunk_by(|a, b| a >> 16 == b >> 16).map(Shape::of).collect();
            &many
        }
    };
    let begin = out.len();
    push_head(shapes, begin, out);
    let mut rest = slots;
    for shape in shapes {
        let (of_chunk, behind) = rest.split_at(shape.len);
        push_container(shape, of_chunk, out);
        rest = behind;
    }
}

/// Appends what stands before the containers of a bitmap whose bytes begin at `begin`.
pub(super) fn push_head(shapes: &[Shape], begin: usize, out: &mut Vec<u8>) {
    let has_runs = shapes.iter().any(|shape| shape.runs.is_some());
    if has_runs {
        out.extend_from_slice(&COOKIE_WITH_RUNS.to_le_bytes());
        out.extend_from_slice(&((shapes.len() - 1) as u16).to_le_bytes());
        for eight in shapes.chunks(8) {
            let flag = |(at, shape): (usize, &Shape)| u8::from(shape.runs.is_some()) << at;
            out.push(eight.iter().enumerate().map(flag).sum());
        }
    } else {
        out.extend_from_slice(&COOKIE_WITHOUT_RUNS.to_le_bytes());
        out.extend_from_slice(&(shapes.len() as u32).to_le_bytes());
    }
    for shape in shapes {
        out.extend_from_slice(&shape.chunk.to_le_bytes());
        out.extend_from_slice(&((shape.len - 1) as u16).to_le_bytes());
    }
    if has_runs && shapes.len() < OFFSETS_FROM_CONTAINERS {
        return;
    }
    let mut at = out.len() - begin + shapes.len() * 4;
    for shape in shapes {
        out.extend_from_slice(&(at as u32).to_le_bytes());
        at += shape.size_bytes();
    }
}

pub(super) fn push_container(shape: &Shape, slots: &[u32], out: &mut Vec<u8>) {
    if let Some(runs) = shape.runs {
        out.extend_from_slice(&(runs as u16).to_le_bytes());
        for run in slots.chunk_by(|a, b| a + 1 == *b) {
            out.extend_from_slice(&(run[0] as u16).to_le_bytes());
            out.extend_from_slice(&((run.len() - 1) as u16).to_le_bytes());
        }
        return;
    }
    let begin = out.len();
    out.resize(begin + shape.size_bytes(), 0);
    let to = &mut out[begin..];
    if shape.len > ARRAY_LEN_MAX {
        slots.iter().for_each(|slot| to[usize::from(*slot as u16 >> 3)] |= 1 << (slot & 7));
    } else {
        to.as_chunks_mut().0.iter_mut().zip(slots).for_each(|(to, slot)| *to = (*slot as u16).to_le_bytes());
    }
}

/// Bit slices of numbers, as rising slots; keeps its memory when it is emptied.
#[derive(Debug, Default)]
pub(crate) struct BitLists {
    /// Those behind the last one used are empty.
    lists: Vec<Vec<u32>>,
    used: usize,
}

impl BitLists {
    /// Adds a user's number; slots must rise.
    pub(crate) fn push(&mut self, slot: u32, number: u128) {
        let mut bits = number;
        while bits != 0 {
            let bit = bits.trailing_zeros() as usize;
            if bit >= self.lists.len() {
                self.lists.resize_with(bit + 1, Vec::new);
            }
            self.used = self.used.max(bit + 1);
            self.lists[bit].push(slot);
            bits &= bits - 1;
        }
    }

    /// Who has each bit, least significant first; some have nobody.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &[u32])> {
        self.lists[..self.used].iter().enumerate().map(|(bit, slots)| (bit as u8, slots.as_slice()))
    }

    pub(crate) fn clear(&mut self) {
        self.lists[..self.used].iter_mut().for_each(Vec::clear);
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use roaring::RoaringBitmap;

    #[track_caller]
    fn check(slots: impl IntoIterator<Item = u32>) {
        let mut bitmap: RoaringBitmap = slots.into_iter().collect();
        bitmap.optimize();
        let (mut expected, mut found) = (Vec::new(), vec![7]);
        bitmap.serialize_into(&mut expected).expect("memory does not fail");
        serialize(&bitmap.iter().collect::<Vec<u32>>(), &mut found);
        assert!(found[1..] == expected, "of {} slots", bitmap.len());
    }

    #[test]
    fn bytes_are_those_of_the_library() {
        check([]);
        check([u32::MAX]);
        for len in [1, 2, 3, 4, 5, 4_095, 4_096, 4_097, 8_192, 65_535, 65_536, 65_537, 300_000] {
            for step in [1, 2, 3] {
                check((0..len).map(|at| at * step));
                check((0..len).map(|at| 60_000 + at * step + at / 7));
                check((0..len).flat_map(|at| [at * 5, at * 5 + 1, at * 5 + 2]));
            }
        }
        for chunks in 1..40 {
            check((0..chunks).map(|chunk| chunk << 16 | chunk));
            check((0..chunks).flat_map(|chunk| chunk << 16..(chunk << 16) + chunk));
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_slots_are_those_of_the_library(
            runs in proptest::collection::vec((0..4u32, any::<u16>(), 1..300u32), 0..60),
        ) {
            check(runs.into_iter().flat_map(|(chunk, from, len)| {
                let from = chunk << 16 | u32::from(from);
                from..from + len
            }));
        }

        #[test]
        fn lists_are_the_bits_of_the_numbers(numbers in proptest::collection::btree_map(0..50_u32, any::<u128>(), 0..20)) {
            let mut lists = BitLists::default();
            lists.push(1, u128::MAX);
            lists.clear();
            numbers.iter().for_each(|(slot, number)| lists.push(*slot, *number));
            for (bit, slots) in lists.iter() {
                let expected = numbers.iter().filter(|(_, number)| *number >> bit & 1 == 1).map(|(slot, _)| *slot);
                prop_assert!(slots.iter().copied().eq(expected));
            }
            let bits: u32 = numbers.values().map(|number| number.count_ones()).sum();
            prop_assert_eq!(lists.iter().map(|(_, slots)| slots.len() as u32).sum::<u32>(), bits);
        }
    }
}
