//! Makes the bytes of a block.

use super::{ALIGN, ERROR_PARTS, HEADER_BYTES, VERSION, error_most, number_of};
use crate::bitmap::rising;
use crate::ids::Slot;
use crate::lookalike::vector::{Metric, VectorError, checked, norm};
use std::collections::BTreeSet;

/// Takes vectors in rising order of slots, then gives the block.
#[derive(Debug)]
pub struct BlockWriter {
    metric: Metric,
    dimension: usize,
    slots: Vec<Slot>,
    removed: BTreeSet<Slot>,
    low: Vec<u8>,
    step: Vec<u8>,
    norm: Vec<u8>,
    error: Vec<u8>,
    codes: Vec<u8>,
    vectors: Vec<u8>,
    norm_max: f32,
    error_max: f32,
}

impl BlockWriter {
    /// An empty block of a space.
    ///
    /// # Panics
    /// If no space can have this dimension.
    pub fn new(metric: Metric, dimension: usize) -> Self {
        assert!(crate::lookalike::DIMENSIONS.contains(&dimension), "the catalog checks the dimension");
        BlockWriter {
            metric,
            dimension,
            slots: Vec::new(),
            removed: BTreeSet::new(),
            low: Vec::new(),
            step: Vec::new(),
            norm: Vec::new(),
            error: Vec::new(),
            codes: Vec::new(),
            vectors: Vec::new(),
            norm_max: 0.0,
            error_max: 0.0,
        }
    }

    /// Adds the vector of a slot.
    ///
    /// # Errors
    /// [`VectorError`] if it is none of this space; nothing is added then.
    ///
    /// # Panics
    /// If the slot is not greater than the one before.
    pub fn push(&mut self, slot: Slot, vector: &[f32]) -> Result<(), VectorError> {
        let vector = checked(self.metric, self.dimension, vector)?;
        assert!(self.slots.last() < Some(&slot), "slots rise");
        self.slots.push(slot);
        let quantised = Quantised::new(&vector, &mut self.codes);
        self.low.extend_from_slice(&quantised.low.to_le_bytes());
        self.step.extend_from_slice(&quantised.step.to_le_bytes());
        let length = norm(&vector) as f32;
        self.norm.extend_from_slice(&length.to_le_bytes());
        self.error.extend_from_slice(&quantised.error_parts.to_le_bytes());
        vector.iter().for_each(|number| self.vectors.extend_from_slice(&number.to_le_bytes()));
        self.norm_max = self.norm_max.max(length);
        self.error_max = self.error_max.max(quantised.error);
        Ok(())
    }

    /// Says that a slot has no vector any more, whatever older blocks say.
    pub fn remove(&mut self, slot: Slot) {
        self.removed.insert(slot);
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        let (mut presence, mut removed) = (Vec::new(), Vec::new());
        rising::serialize(&self.slots, &mut presence);
        rising::serialize(&self.removed.iter().copied().collect::<Vec<_>>(), &mut removed);
        let mut out = Vec::with_capacity(HEADER_BYTES + presence.len() + self.codes.len() * 5 + self.slots.len() * 16);
        for number in [VERSION, number_of(self.metric), self.dimension as u32, self.slots.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(presence.len() as u64).to_le_bytes());
        out.extend_from_slice(&(removed.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.norm_max.to_le_bytes());
        out.extend_from_slice(&self.error_max.to_le_bytes());
        for part in [presence, removed, self.low, self.step, self.norm, self.error, self.codes, self.vectors] {
            out.resize(out.len().next_multiple_of(ALIGN), 0);
            out.extend_from_slice(&part);
        }
        out
    }
}

/// What stands beside a row's codes.
pub(in crate::lookalike) struct Quantised {
    pub(in crate::lookalike) low: f32,
    pub(in crate::lookalike) step: f32,
    error_parts: u16,
    error: f32,
}

impl Quantised {
    /// Appends the codes of a vector: 256 even steps from its least to its greatest number.
    pub(in crate::lookalike) fn new(vector: &[f32], codes: &mut Vec<u8>) -> Self {
        let low = vector.iter().copied().fold(f32::INFINITY, f32::min);
        let high = vector.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = ((f64::from(high) - f64::from(low)) / 255.0) as f32;
        let mut squares = 0.0_f64;
        for number in vector {
            let above = f64::from(*number) - f64::from(low);
            let code = if step > 0.0 { (above / f64::from(step)).round().clamp(0.0, 255.0) } else { 0.0 };
            squares += (above - code * f64::from(step)).powi(2);
            codes.push(code as u8);
        }
        let most = error_most(step, vector.len());
        let parts = if most > 0.0 { (squares.sqrt() / f64::from(most) * f64::from(ERROR_PARTS)).ceil() } else { 0.0 };
        let error_parts = parts.min(f64::from(ERROR_PARTS)) as u16;
        Quantised { low, step, error_parts, error: most * f32::from(error_parts) / ERROR_PARTS }
    }
}
