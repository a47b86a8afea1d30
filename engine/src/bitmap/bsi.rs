//! Bit-sliced numbers.
//!
//! A [`NumberView`] holds `value - base` of each user in `exists` as unsigned bit slices, least significant first;
//! `base` is at most the smallest value present. Arithmetic wraps in 64 bits, so all of `i64` is covered.
//!
//! Source: O'Neil and Quass, "Improved Query Performance with Variant Indexes" (1997); Rinfret, O'Neil and O'Neil,
//! "Bit-sliced index arithmetic" (2001). A comparison with a constant takes one operation per slice: from the least
//! significant bit up, `x <= c` is `!s | r` where the constant's bit is one and `!s & r` where it is zero.

use super::kernels::{self, Level};
use super::scratch::ChunkSet;
use super::stack::Cursor;
use super::view::{BitmapView, Le16, Words};
use roaring::RoaringBitmap;

/// One layer's numbers of one tag.
#[derive(Clone, Debug)]
pub struct NumberView<'a> {
    /// Users with a number in this layer.
    pub exists: BitmapView<'a>,
    /// What is added to every slice sum.
    pub base: i64,
    /// Bit `i` of `value - base`; at most 64.
    pub slices: Vec<BitmapView<'a>>,
}

/// A closed range of numbers; every comparison is one (or a complement within `exists`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NumberRange {
    /// Least number in the range.
    pub min: i64,
    /// Greatest number in the range; below `min` the range is empty.
    pub max: i64,
}

impl NumberRange {
    /// All numbers.
    pub const ALL: NumberRange = NumberRange { min: i64::MIN, max: i64::MAX };

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }

    /// Whether it holds this number.
    pub fn contains(&self, number: i64) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// A range in terms of one layer's slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// No number of the layer can be in it.
    Nobody,
    /// Every number of the layer is in it.
    Everybody,
    /// Slice sums `low..=high`; `None` where that side does not restrict.
    Between { low: Option<u64>, high: Option<u64> },
}

impl Bounds {
    pub(super) fn new(base: i64, slice_count: usize, range: NumberRange) -> Bounds {
        let top = if slice_count >= 64 { u64::MAX } else { (1 << slice_count) - 1 };
        if range.is_empty() || range.max < base {
            return Bounds::Nobody;
        }
        let above_base = |number: i64| number.wrapping_sub(base) as u64;
        let low = if range.min <= base { 0 } else { above_base(range.min) };
        let high = above_base(range.max);
        if low > top {
            return Bounds::Nobody;
        }
        match ((low > 0).then_some(low), (high < top).then_some(high)) {
            (None, None) => Bounds::Everybody,
            (low, high) => Bounds::Between { low, high },
        }
    }

    pub(super) fn contain(&self, sum: u64) -> bool {
        match self {
            Bounds::Nobody => false,
            Bounds::Everybody => true,
            Bounds::Between { low, high } => low.is_none_or(|low| sum >= low) && high.is_none_or(|high| sum <= high),
        }
    }

    /// `words &= within bounds`, by the slices' words (`None`: no bit set).
    pub(super) fn restrict(&self, words: &mut Words, slices: &[Option<&Words>]) {
        match self {
            Bounds::Nobody => words.fill([0; 8]),
            Bounds::Everybody => {}
            Bounds::Between { low: None, high: None } => {}
            Bounds::Between { low: Some(low), high: None } => restrict_low(words, slices, *low),
            Bounds::Between { low: None, high: Some(high) } => restrict_high(words, slices, *high),
            Bounds::Between { low: Some(low), high: Some(high) } => restrict_both(words, slices, *low, *high),
        }
    }
}

/// Words worked on at once: one AVX-512 register, so that a block's results stay in registers across all slices.
const BLOCK: usize = 8;

#[inline(always)]
fn block(slice: Option<&Words>, at: usize) -> [u64; BLOCK] {
    match slice {
        None => [0; BLOCK],
        Some(words) => {
            let words: &[[u8; 8]; BLOCK] = words[at..at + BLOCK].try_into().expect("a block is BLOCK words");
            words.map(u64::from_le_bytes)
        }
    }
}

#[inline(always)]
fn keep(words: &mut Words, at: usize, kept: [u64; BLOCK]) {
    for (word, kept) in words[at..at + BLOCK].iter_mut().zip(kept) {
        *word = (u64::from_le_bytes(*word) & kept).to_le_bytes();
    }
}

/// One step of `x >= c` from the least significant bit up.
#[inline(always)]
fn step_low(result: &mut [u64; BLOCK], slice: &[u64; BLOCK], bit: bool) {
    for (result, slice) in result.iter_mut().zip(slice) {
        *result = if bit { *result & slice } else { *result | slice };
    }
}

/// One step of `x <= c` from the least significant bit up.
#[inline(always)]
fn step_high(result: &mut [u64; BLOCK], slice: &[u64; BLOCK], bit: bool) {
    for (result, slice) in result.iter_mut().zip(slice) {
        *result = if bit { *result | !slice } else { *result & !slice };
    }
}

kernels::kernels! {
    /// `words &= sum >= low`.
    fn restrict_low / restrict_low_at(words: &mut Words, slices: &[Option<&Words>], low: u64) -> () {
        for at in (0..words.len()).step_by(BLOCK) {
            let mut result = [u64::MAX; BLOCK];
            for (bit, slice) in slices.iter().enumerate() {
                step_low(&mut result, &block(*slice, at), low >> bit & 1 == 1);
            }
            keep(words, at, result);
        }
    }

    /// `words &= sum <= high`.
    fn restrict_high / restrict_high_at(words: &mut Words, slices: &[Option<&Words>], high: u64) -> () {
        for at in (0..words.len()).step_by(BLOCK) {
            let mut result = [u64::MAX; BLOCK];
            for (bit, slice) in slices.iter().enumerate() {
                step_high(&mut result, &block(*slice, at), high >> bit & 1 == 1);
            }
            keep(words, at, result);
        }
    }

    /// `words &= low <= sum <= high`; each slice is read once for both sides.
    fn restrict_both / restrict_both_at(words: &mut Words, slices: &[Option<&Words>], low: u64, high: u64) -> () {
        for at in (0..words.len()).step_by(BLOCK) {
            let (mut above, mut below) = ([u64::MAX; BLOCK], [u64::MAX; BLOCK]);
            for (bit, slice) in slices.iter().enumerate() {
                let slice = block(*slice, at);
                step_low(&mut above, &slice, low >> bit & 1 == 1);
                step_high(&mut below, &slice, high >> bit & 1 == 1);
            }
            for (above, below) in above.iter_mut().zip(below) {
                *above &= below;
            }
            keep(words, at, above);
        }
    }
}

/// Calls `hit` with the index in the rising `positions` of each one that is in `set`.
pub(super) fn gather(positions: &[Le16], set: ChunkSet<'_>, mut hit: impl FnMut(usize)) {
    match set {
        ChunkSet::Empty => {}
        ChunkSet::Full => (0..positions.len()).for_each(hit),
        ChunkSet::Some(container) => kernels::for_common(positions, container, &mut hit),
    }
}

/// One layer of a number tag.
#[derive(Clone, Debug)]
pub struct NumberLayer<'a> {
    /// The users this layer decides besides those with a number in it; [`super::program::Mask::All`] at the bottom.
    pub mask: super::program::Mask<'a>,
    /// Their numbers.
    pub numbers: Option<NumberView<'a>>,
}

/// Reads the numbers of a layered tag chunk by chunk, without spreading them out to a number per user.
#[derive(Debug)]
pub struct NumberReader<'a> {
    layers: Vec<ReaderLayer<'a>>,
}

#[derive(Debug)]
struct ReaderLayer<'a> {
    mask: Option<Vec<Cursor<'a>>>,
    numbers: Option<(Cursor<'a>, i64, Vec<Cursor<'a>>)>,
}

/// How many numbers, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Users with a number.
    pub count: u64,
    /// Sum of the numbers; 2^64 numbers of 64 bits fit.
    pub sum: i128,
}

impl<'a> NumberReader<'a> {
    /// A reader of these layers, newest first.
    pub fn new(layers: &[NumberLayer<'a>]) -> Self {
        let cursors = |views: &[BitmapView<'a>]| views.iter().copied().map(Cursor::new).collect::<Vec<_>>();
        let layers = layers.iter().map(|layer| ReaderLayer {
            mask: match &layer.mask {
                super::program::Mask::All => None,
                super::program::Mask::Bitmaps(bitmaps) => Some(cursors(bitmaps)),
            },
            numbers: layer
                .numbers
                .as_ref()
                .map(|numbers| (Cursor::new(numbers.exists), numbers.base, cursors(&numbers.slices))),
        });
        NumberReader { layers: layers.collect() }
    }

    /// Adds up the numbers of the users in `filter`: per layer one intersection count a slice.
    pub fn sum(&self, chunk: u16, filter: ChunkSet<'_>, total: &mut Sum) {
        let mut open = super::scratch::Pool::default().words_of(filter);
        let mut users = Box::new([[0; 8]; 1024]);
        for layer in &self.layers {
            if let Some((exists, base, slices)) = &layer.numbers
                && exists.len(chunk) > 0
            {
                users.copy_from_slice(&open[..]);
                super::scratch::and_into(&mut users, exists.set(chunk));
                let count = kernels::count(&users);
                if count > 0 {
                    total.count += u64::from(count);
                    total.sum += i128::from(*base) * i128::from(count);
                    let set = ChunkSet::Some(super::view::Container::Words(&users));
                    for (bit, slice) in slices.iter().enumerate() {
                        total.sum += i128::from(set.common_count(&slice.set(chunk))) << bit;
                    }
                }
                super::scratch::and_not_into(&mut open, exists.set(chunk));
            }
            let Some(mask) = &layer.mask else { break };
            mask.iter().for_each(|cursor| super::scratch::and_not_into(&mut open, cursor.set(chunk)));
        }
    }

    /// The numbers of the users at rising `positions` of a chunk; `None` where there is none.
    pub fn numbers(&self, chunk: u16, positions: &[Le16]) -> Vec<Option<i64>> {
        let mut decided = vec![false; positions.len()];
        let mut found = vec![None; positions.len()];
        for layer in &self.layers {
            let before = decided.clone();
            if let Some((exists, base, slices)) = &layer.numbers {
                let mut sums = vec![0u64; positions.len()];
                for (bit, slice) in slices.iter().enumerate() {
                    gather(positions, slice.set(chunk), |index| sums[index] |= 1 << bit);
                }
                gather(positions, exists.set(chunk), |index| {
                    if !before[index] {
                        found[index] = Some(base.wrapping_add(sums[index] as i64));
                        decided[index] = true;
                    }
                });
            }
            let Some(mask) = &layer.mask else { break };
            for cursor in mask {
                gather(positions, cursor.set(chunk), |index| decided[index] = true);
            }
        }
        found
    }
}

/// Numbers of many users as slices, ready to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// The least number; 0 if there are none.
    pub base: i64,
    /// Users with a number.
    pub exists: RoaringBitmap,
    /// Bit `i` of `number - base`.
    pub slices: Vec<RoaringBitmap>,
}

/// Slices numbers; slots must rise.
pub fn encode(numbers: &[(u32, i64)]) -> Encoded {
    let Some(base) = numbers.iter().map(|(_, number)| *number).min() else { return Encoded::default() };
    let above_base = |number: i64| number.wrapping_sub(base) as u64;
    let top = numbers.iter().map(|(_, number)| above_base(*number)).max().unwrap_or(0);
    let rising = |slots: &mut dyn Iterator<Item = u32>| {
        RoaringBitmap::from_sorted_iter(slots).expect("the caller gives rising slots")
    };
    let slices = (0..u64::BITS - top.leading_zeros()).map(|bit| {
        let ones = numbers.iter().filter(|(_, number)| above_base(*number) >> bit & 1 == 1);
        rising(&mut ones.map(|(slot, _)| *slot))
    });
    Encoded { base, slices: slices.collect(), exists: rising(&mut numbers.iter().map(|(slot, _)| *slot)) }
}

/// All numbers of one layer, by rising slot.
pub fn decode(view: &NumberView<'_>) -> Vec<(u32, i64)> {
    let mut numbers: Vec<(u32, i64)> = view.exists.iter().map(|slot| (slot, 0)).collect();
    for (bit, slice) in view.slices.iter().enumerate() {
        let mut at = 0;
        for slot in slice.iter() {
            while at < numbers.len() && numbers[at].0 < slot {
                at += 1;
            }
            if let Some(entry) = numbers.get_mut(at).filter(|entry| entry.0 == slot) {
                entry.1 |= 1 << bit;
            }
        }
    }
    numbers.iter_mut().for_each(|(_, number)| *number = number.wrapping_add(view.base));
    numbers
}
