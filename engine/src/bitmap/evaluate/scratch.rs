//! Buffers that an evaluation borrows and gives back, so that a chunk allocates nothing once the first ones are through.

use crate::bitmap::kernels::{ARRAY_ROOM, Level, Tally};
use crate::bitmap::view::{ARRAY_LEN_MAX, Le16, Words};
use std::ops::{Deref, DerefMut};

/// A bit set on cache lines of its own.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct WordBuffer(Words);

impl Deref for WordBuffer {
    type Target = Words;
    fn deref(&self) -> &Words {
        &self.0
    }
}

impl DerefMut for WordBuffer {
    fn deref_mut(&mut self) -> &mut Words {
        &mut self.0
    }
}

/// Rising positions, with room for vector stores behind them.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct ArrayBuffer {
    pub(crate) room: [Le16; ARRAY_ROOM],
    pub(crate) len: usize,
}

impl Deref for ArrayBuffer {
    type Target = [Le16];
    fn deref(&self) -> &[Le16] {
        &self.room[..self.len]
    }
}

impl DerefMut for ArrayBuffer {
    fn deref_mut(&mut self) -> &mut [Le16] {
        &mut self.room[..self.len]
    }
}

/// A bit for each of up to 4,096 candidates.
pub(crate) type MaskBuffer = [u64; ARRAY_LEN_MAX.div_ceil(64)];

/// An operand of a conjunction: what it costs to evaluate before the others, the node, and whether its members are kept
/// or dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    pub(crate) rank: f32,
    pub(crate) node: usize,
    pub(crate) keep: bool,
}

/// Spare buffers.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) level: Level,
    words: Vec<Box<WordBuffer>>,
    arrays: Vec<Box<ArrayBuffer>>,
    #[expect(clippy::vec_box, reason = "buffers go in and out of the pool without being copied")]
    masks: Vec<Box<MaskBuffer>>,
    #[expect(clippy::vec_box, reason = "as above")]
    notes: Vec<Box<MaskBuffer>>,
    orders: Vec<Vec<Operand>>,
    tallies: Vec<Box<Tally>>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            level: Level::detect(),
            words: vec![],
            arrays: vec![],
            masks: vec![],
            notes: vec![],
            orders: vec![],
            tallies: vec![],
        }
    }
}

impl Scratch {
    /// A buffer with whatever was left in it.
    pub(crate) fn take_words(&mut self) -> Box<WordBuffer> {
        self.words.pop().unwrap_or_else(|| Box::new(WordBuffer([[0; 8]; _])))
    }
    pub(crate) fn give_words(&mut self, words: Box<WordBuffer>) {
        self.words.push(words);
    }
    /// An empty array.
    pub(crate) fn take_array(&mut self) -> Box<ArrayBuffer> {
        let mut array = self.arrays.pop().unwrap_or_else(|| Box::new(ArrayBuffer { room: [[0; 2]; _], len: 0 }));
        array.len = 0;
        array
    }
    pub(crate) fn give_array(&mut self, array: Box<ArrayBuffer>) {
        self.arrays.push(array);
    }
    /// A mask with whatever was left in it.
    pub(crate) fn take_mask(&mut self) -> Box<MaskBuffer> {
        self.masks.pop().unwrap_or_else(|| Box::new([0; _]))
    }
    pub(crate) fn give_mask(&mut self, mask: Box<MaskBuffer>) {
        self.masks.push(mask);
    }
    /// An empty list for masks.
    #[expect(clippy::vec_box, reason = "buffers go in and out of the pool without being copied")]
    pub(crate) fn take_notes(&mut self) -> Vec<Box<MaskBuffer>> {
        std::mem::take(&mut self.notes)
    }
    #[expect(clippy::vec_box, reason = "buffers go in and out of the pool without being copied")]
    pub(crate) fn give_notes(&mut self, mut notes: Vec<Box<MaskBuffer>>) {
        self.masks.append(&mut notes);
        self.notes = notes;
    }
    /// All zero.
    pub(crate) fn take_tally(&mut self) -> Box<Tally> {
        self.tallies.pop().unwrap_or_else(|| vec![0; 1 << 16].try_into().expect("65,536 counts"))
    }
    /// Takes back a tally that is all zero again.
    pub(crate) fn give_tally(&mut self, tally: Box<Tally>) {
        self.tallies.push(tally);
    }
    pub(crate) fn take_order(&mut self) -> Vec<Operand> {
        self.orders.pop().unwrap_or_default()
    }
    pub(crate) fn give_order(&mut self, mut order: Vec<Operand>) {
        order.clear();
        self.orders.push(order);
    }
}
