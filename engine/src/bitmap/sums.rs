//! Adds up bit slices user by user, a chunk at a time: the side that writes, for bitmaps of some users.
//!
//! A chunk's numbers stand in one array that is empty in between, so a member costs an addition where a bitmap would cost
//! a search; above some thousand members a slice, bitmaps are faster ([`super::counter`]).

use super::rising::BitLists;
use super::view::BitmapView;

/// The highest bit of a number that is added up here, so that a sum of any slices fits.
pub(crate) const BIT_MAX: u8 = 47;

const CHUNK_SLOTS: usize = 1 << 16;

/// Sums of the users of a chunk; all 0 between calls, and without memory before the first one.
#[derive(Debug, Default)]
pub(crate) struct ChunkSums {
    sums: Vec<i64>,
    /// A bit per user of whom there is a sum, and a bit per word of those.
    touched: Vec<u64>,
    words: Vec<u64>,
}

impl ChunkSums {
    /// Adds up slices, each a bit of numbers or of what is taken off; appends those above 0 to `plus` and those below to
    /// `minus`.
    ///
    /// The slices are of fewer than 2^14 numbers of a user.
    pub(crate) fn add_up(&mut self, slices: &[Slice<'_>], plus: &mut BitLists, minus: &mut BitLists) {
        if self.sums.is_empty() {
            self.sums = vec![0; CHUNK_SLOTS];
            self.touched = vec![0; CHUNK_SLOTS / 64];
            self.words = vec![0; CHUNK_SLOTS / 64 / 64];
        }
        let mut order: Vec<(u16, usize, usize)> = Vec::with_capacity(slices.len());
        for (number, Slice { users, .. }) in slices.iter().enumerate() {
            order.extend((0..users.container_count()).map(|index| (users.key(index), number, index)));
        }
        order.sort_unstable();
        for of_chunk in order.chunk_by(|a, b| a.0 == b.0) {
            for (_, number, index) in of_chunk {
                let Slice { users, bit, is_negative } = slices[*number];
                let one = 1_i64 << bit;
                let container = users.container(*index);
                container.iter().for_each(|position| self.add(position, if is_negative { -one } else { one }));
            }
            self.take(u32::from(of_chunk[0].0) << 16, plus, minus);
        }
    }

    #[inline]
    fn add(&mut self, position: u16, number: i64) {
        let position = usize::from(position);
        self.sums[position] += number;
        let touched = &mut self.touched[position / 64];
        if *touched == 0 {
            self.words[position / 64 / 64] |= 1 << (position / 64 % 64);
        }
        *touched |= 1 << (position % 64);
    }

    /// Moves the sums to the lists.
    fn take(&mut self, chunk: u32, plus: &mut BitLists, minus: &mut BitLists) {
        for (number, words) in self.words.iter_mut().enumerate() {
            for word in ones(std::mem::take(words)) {
                let word = number * 64 + word;
                for position in ones(std::mem::take(&mut self.touched[word])) {
                    let position = word * 64 + position;
                    let sum = std::mem::take(&mut self.sums[position]);
                    let lists = if sum < 0 { &mut *minus } else { &mut *plus };
                    lists.push(chunk | position as u32, sum.unsigned_abs().into());
                }
            }
        }
    }
}

/// A bit of the numbers of these users.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice<'a> {
    pub(crate) users: BitmapView<'a>,
    /// At most [`BIT_MAX`] where it is added up user by user.
    pub(crate) bit: u8,
    /// It is taken off.
    pub(crate) is_negative: bool,
}

/// The places of the bits that are set, rising.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(place as usize)
    })
}
