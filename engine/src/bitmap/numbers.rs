//! Figures over the numbers of a filtered chunk, straight from bit slices.
//!
//! A number tag has layers, each with a base and slices of its own. The filter is split by layer (the one layering rule:
//! the newest layer that decides a user owns its number), then each part is worked on within its layer:
//!
//! * sum: `Σ 2^i · |slice i ∩ part| + base · |part|`;
//! * least and greatest: slices from the top, going on with whom the bit leaves, if there are any;
//! * counts below many thresholds at once: the same descent, splitting the thresholds as the bits split the users, so
//!   that thresholds with a common prefix share the work. Quantiles, histograms and top-k come from these counts.
//!
//! Few users are cheaper one by one; then their numbers are assembled from bits looked up in each slice.
//!
//! Source: P. O'Neil and D. Quass, "Improved query performance with variant indexes", sections 3 and 4.

use super::bsi::NumberView;
use super::chunk_set::ChunkSet;
use super::evaluate::cursor::Cursor;
use super::evaluate::leaf;
use super::evaluate::scratch::{Scratch, WordBuffer};
use super::kernels;
use super::program::Mask;
use super::view::{Container, Le16};
use std::cell::RefCell;

/// One layer of a number tag.
#[derive(Clone, Debug)]
pub struct NumberLayer<'a> {
    /// The users this layer decides besides those with a number in it.
    pub mask: Mask<'a>,
    /// Their numbers.
    pub numbers: Option<NumberView<'a>>,
}

/// How many numbers, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Users with a number.
    pub count: u64,
    /// Sum of the numbers; 2^64 numbers of 64 bits fit.
    pub sum: i128,
}

/// How many numbers, their sum, the least and the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberSummary {
    /// Users with a number.
    pub count: u64,
    /// Sum of the numbers; 2^64 numbers of 64 bits fit.
    pub sum: i128,
    /// Least number.
    pub min: Option<i64>,
    /// Greatest number.
    pub max: Option<i64>,
}

impl NumberSummary {
    /// Joins the summary of other users.
    pub fn merge(&mut self, other: &NumberSummary) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.into_iter().chain(other.min).min();
        self.max = self.max.into_iter().chain(other.max).max();
    }
}

/// Reads the numbers of a layered tag chunk by chunk; scratch memory of its own, one per thread.
#[derive(Debug)]
pub struct NumberReader<'a> {
    /// Newest first.
    layers: Vec<NumberCursors<'a>>,
    buffers: RefCell<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    scratch: Scratch,
    decode: Decode,
}

/// What decoding users one by one needs.
#[derive(Debug, Default)]
struct Decode {
    /// Users no layer has decided yet.
    open: Vec<Le16>,
    /// Users whose number the current layer owns.
    own: Vec<Le16>,
    bits: Vec<u64>,
    decoded: Vec<(u16, i64)>,
}

#[derive(Debug)]
struct NumberCursors<'a> {
    hides_all: bool,
    mask: Vec<Cursor<'a>>,
    numbers: Option<(Cursor<'a>, i64, Vec<Cursor<'a>>)>,
}

/// Up to this many users are decoded one by one.
const DECODED_LEN_MAX: usize = 192;

impl<'a> NumberReader<'a> {
    /// A reader of these layers, newest first.
    pub fn new(layers: &[NumberLayer<'a>]) -> Self {
        NumberReader { layers: layers.iter().map(NumberCursors::new).collect(), buffers: RefCell::default() }
    }

    /// Rising chunks outside of which nobody has a number.
    pub fn chunks(&self) -> Vec<u16> {
        let numbers = self.layers.iter().filter_map(|layer| layer.numbers.as_ref());
        let mut chunks: Vec<u16> = numbers.flat_map(|(exists, ..)| exists.chunks()).collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// Adds up the numbers of the users in `filter`: per layer one intersection count a slice; of few users one by one.
    pub fn sum(&self, chunk: u16, filter: ChunkSet<'_>, total: &mut Sum) {
        if is_short(filter) {
            return self.for_each(chunk, filter, |_, number| {
                total.count += 1;
                total.sum += i128::from(number);
            });
        }
        self.for_each_part(chunk, filter, |part, scratch| {
            total.count += u64::from(part.len);
            total.sum += part.sum(scratch);
        });
    }

    /// Adds the numbers of the users in `filter`.
    pub fn summarize(&self, chunk: u16, filter: ChunkSet<'_>, into: &mut NumberSummary) {
        if is_short(filter) {
            return self.for_each(chunk, filter, |_, number| {
                into.merge(&NumberSummary { count: 1, sum: number.into(), min: Some(number), max: Some(number) });
            });
        }
        self.for_each_part(chunk, filter, |part, scratch| into.merge(&part.summary(scratch)));
    }

    /// For each threshold, adds how many users in `filter` have a number of at most that much.
    ///
    /// `thresholds` rise; `counts` is as long. Thresholds with a common prefix of bits share the work.
    pub fn count_at_most(&self, chunk: u16, filter: ChunkSet<'_>, thresholds: &[i64], counts: &mut [u64]) {
        assert_eq!(thresholds.len(), counts.len(), "a count for each threshold");
        debug_assert!(thresholds.is_sorted());
        if is_short(filter) {
            return self.for_each(chunk, filter, |_, number| {
                let first = thresholds.partition_point(|threshold| *threshold < number);
                counts[first..].iter_mut().for_each(|count| *count += 1);
            });
        }
        self.for_each_part(chunk, filter, |part, scratch| part.count_at_most(thresholds, counts, scratch));
    }

    /// Calls with the position and number of each user in `filter` who has one; rising by position.
    ///
    /// O(users × slices): for results, and where few users are left. `call` must not use this reader.
    pub fn for_each(&self, chunk: u16, filter: ChunkSet<'_>, mut call: impl FnMut(u16, i64)) {
        let Buffers { scratch, decode } = &mut *self.buffers.borrow_mut();
        decode.decoded.clear();
        decode.open.clear();
        decode.open.extend(filter.iter().map(u16::to_le_bytes));
        for layer in &self.layers {
            layer.decode(chunk, decode, scratch);
        }
        if self.layers.len() > 1 {
            decode.decoded.sort_unstable_by_key(|(position, _)| *position);
        }
        for &(position, number) in &decode.decoded {
            call(position, number);
        }
    }

    /// The numbers of the users at rising `positions` of a chunk; `None` where there is none.
    pub fn numbers(&self, chunk: u16, positions: &[Le16]) -> Vec<Option<i64>> {
        let mut numbers = vec![None; positions.len()];
        let mut at = 0;
        self.for_each(chunk, ChunkSet::Some(Container::Array(positions)), |position, number| {
            while positions[at] != position.to_le_bytes() {
                at += 1;
            }
            numbers[at] = Some(number);
        });
        numbers
    }

    /// Splits the filter by the layer that owns each user's number.
    fn for_each_part(&self, chunk: u16, filter: ChunkSet<'_>, mut call: impl FnMut(&Part<'_>, &mut Scratch)) {
        if matches!(filter, ChunkSet::Empty) {
            return;
        }
        let scratch = &mut self.buffers.borrow_mut().scratch;
        let level = scratch.level;
        let mut open = scratch.take_words();
        leaf::load(filter.as_container(), &mut open);
        for layer in &self.layers {
            if let Some((exists, base, slices)) = &layer.numbers
                && let Some(exists) = exists.container(chunk)
            {
                let mut users = scratch.take_words();
                leaf::load(exists.container, &mut users);
                let len = kernels::and_assign(level, &mut users, &open);
                if len > 0 {
                    let slices = slices.iter().map(|slice| Some(slice.container(chunk)?.container)).collect();
                    let part = Part { users: &users, len, base: *base, slices };
                    call(&part, scratch);
                    kernels::and_not_assign(level, &mut open, &users);
                }
                scratch.give_words(users);
            }
            if layer.hides_all {
                break;
            }
            for mask in layer.mask.iter().filter_map(|mask| mask.container(chunk)) {
                leaf::remove(level, &mut open, mask.container);
            }
        }
        scratch.give_words(open);
    }
}

fn is_short(filter: ChunkSet<'_>) -> bool {
    matches!(filter, ChunkSet::Some(Container::Array(array)) if array.len() <= DECODED_LEN_MAX)
}

impl<'a> NumberCursors<'a> {
    fn new(layer: &NumberLayer<'a>) -> Self {
        let (hides_all, mask) = match &layer.mask {
            Mask::All => (true, vec![]),
            Mask::Bitmaps(views) => (false, views.iter().map(|view| Cursor::new(*view)).collect()),
        };
        let numbers = layer.numbers.as_ref().map(|number| {
            let slices = number.slices.iter().map(|slice| Cursor::new(*slice)).collect();
            (Cursor::new(number.exists), number.base, slices)
        });
        NumberCursors { hides_all, mask, numbers }
    }

    /// Decodes those of the open users whose number this layer owns, and closes whom it decides.
    fn decode(&self, chunk: u16, decode: &mut Decode, scratch: &Scratch) {
        let Decode { open, own, bits, decoded } = decode;
        if let Some((exists, base, slices)) = &self.numbers
            && let Some(exists) = exists.container(chunk)
        {
            own.clear();
            own.extend_from_slice(open);
            keep_in(own, exists.container, true);
            keep_in(open, exists.container, false);
            let begin = decoded.len();
            decoded.extend(own.iter().map(|position| (u16::from_le_bytes(*position), 0)));
            for (bit, slice) in slices.iter().enumerate() {
                let Some(slice) = slice.container(chunk) else { continue };
                bits.clear();
                bits.resize(own.len().div_ceil(64), 0);
                kernels::probe(scratch.level, own, slice.container, bits);
                for (index, (_, number)) in decoded[begin..].iter_mut().enumerate() {
                    *number |= ((bits[index / 64] >> (index % 64) & 1) << bit) as i64;
                }
            }
            for (_, number) in &mut decoded[begin..] {
                *number = base.wrapping_add(*number);
            }
        }
        if self.hides_all {
            open.clear();
        }
        for mask in self.mask.iter().filter_map(|mask| mask.container(chunk)) {
            keep_in(open, mask.container, false);
        }
    }
}

fn keep_in(array: &mut Vec<Le16>, container: Container<'_>, keep: bool) {
    let len = kernels::retain(array, container, keep);
    array.truncate(len);
}

/// Users of one chunk whose numbers one layer owns; at least one.
struct Part<'s> {
    users: &'s WordBuffer,
    len: u32,
    base: i64,
    slices: Vec<Option<Container<'s>>>,
}

impl Part<'_> {
    fn sum(&self, scratch: &Scratch) -> i128 {
        let users = Container::Words(self.users);
        let slices = self.slices.iter().enumerate().filter_map(|(bit, slice)| Some((bit, (*slice)?)));
        let counts = slices.map(|(bit, slice)| i128::from(kernels::common_count(scratch.level, users, slice)) << bit);
        i128::from(self.base) * i128::from(self.len) + counts.sum::<i128>()
    }

    fn summary(&self, scratch: &mut Scratch) -> NumberSummary {
        let (min, max) = (self.extreme(false, scratch), self.extreme(true, scratch));
        NumberSummary { count: self.len.into(), sum: self.sum(scratch), min: Some(min), max: Some(max) }
    }

    /// The least or the greatest number.
    fn extreme(&self, greatest: bool, scratch: &mut Scratch) -> i64 {
        let level = scratch.level;
        let mut left = scratch.take_words();
        left.copy_from_slice(&self.users[..]);
        let mut bits = 0_u64;
        let mut with_bit = scratch.take_words();
        let mut without = scratch.take_words();
        for (bit, slice) in self.slices.iter().enumerate().rev() {
            let Some(slice) = slice else { continue };
            leaf::load(*slice, &mut with_bit);
            if greatest {
                if kernels::and_assign(level, &mut with_bit, &left) > 0 {
                    bits |= 1 << bit;
                    std::mem::swap(&mut left, &mut with_bit);
                }
            } else if kernels::and_not(level, &mut without, &left, &with_bit) > 0 {
                std::mem::swap(&mut left, &mut without);
            } else {
                bits |= 1 << bit;
            }
        }
        [left, with_bit, without].into_iter().for_each(|words| scratch.give_words(words));
        self.base.wrapping_add(bits as i64)
    }

    fn count_at_most(&self, thresholds: &[i64], counts: &mut [u64], scratch: &mut Scratch) {
        let reachable = thresholds.partition_point(|threshold| *threshold < self.base);
        let (thresholds, counts) = (&thresholds[reachable..], &mut counts[reachable..]);
        let greatest = if self.slices.len() < 64 { (1_u64 << self.slices.len()) - 1 } else { u64::MAX };
        let unsigned = |threshold: &i64| threshold.wrapping_sub(self.base) as u64;
        let within = thresholds.partition_point(|threshold| unsigned(threshold) < greatest);
        counts[within..].iter_mut().for_each(|count| *count += u64::from(self.len));
        let thresholds: Vec<u64> = thresholds[..within].iter().map(unsigned).collect();
        self.descend(self.slices.len(), self.users, self.len, &thresholds, &mut counts[..within], 0, scratch);
    }

    /// Counts at most each threshold; all thresholds share the bits above `height`, and so do `users`, whose
    /// number is `len`; `below` have smaller bits above.
    #[expect(clippy::too_many_arguments, reason = "a recursion's state")]
    fn descend(
        &self,
        height: usize,
        users: &WordBuffer,
        len: u32,
        thresholds: &[u64],
        counts: &mut [u64],
        below: u64,
        scratch: &mut Scratch,
    ) {
        if thresholds.is_empty() {
            return;
        }
        if height == 0 || len == 0 {
            return counts.iter_mut().for_each(|count| *count += below + u64::from(len));
        }
        let bit = height - 1;
        let with_bit = thresholds.partition_point(|threshold| threshold >> bit & 1 == 0);
        let (low, high) = thresholds.split_at(with_bit);
        let (low_counts, high_counts) = counts.split_at_mut(with_bit);
        let Some(slice) = self.slices[bit] else {
            self.descend(bit, users, len, low, low_counts, below, scratch);
            return high_counts.iter_mut().for_each(|count| *count += below + u64::from(len));
        };
        let mut split = scratch.take_words();
        leaf::load(slice, &mut split);
        let ones = kernels::and_assign(scratch.level, &mut split, users);
        let zeros = len - ones;
        self.descend(bit, &split, ones, high, high_counts, below + u64::from(zeros), scratch);
        if !low.is_empty() {
            let mut without = scratch.take_words();
            kernels::and_not(scratch.level, &mut without, users, &split);
            self.descend(bit, &without, zeros, low, low_counts, below, scratch);
            scratch.give_words(without);
        }
        scratch.give_words(split);
    }
}
