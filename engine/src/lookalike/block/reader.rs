//! The validated view of a block's bytes.

use super::writer::Quantised;
use super::{ALIGN, BlockError, ERROR_PARTS, HEADER_BYTES, VERSION, error_most, metric_of};
use crate::bitmap::view::{BitmapView, Container};
use crate::ids::Slot;
use crate::lookalike::kernels::Rows;
use crate::lookalike::vector::{DIMENSIONS, Metric, norm};

/// A block over borrowed bytes. What is where was checked; numbers of rows are taken as they are, so damaged ones give wrong
/// answers, never undefined behaviour or a panic.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    metric: Metric,
    dimension: usize,
    presence: BitmapView<'a>,
    removed: BitmapView<'a>,
    /// The first row of each container of `presence`.
    first_rows: Vec<u32>,
    norm_max: f32,
    error_max: f32,
    low: &'a [[u8; 4]],
    step: &'a [[u8; 4]],
    norm: &'a [[u8; 4]],
    error: &'a [[u8; 2]],
    codes: &'a [u8],
    vectors: &'a [[u8; 4]],
}

impl<'a> Block<'a> {
    /// Checks the header, the bitmaps and all lengths. O(presence), whatever the number of dimensions.
    ///
    /// # Errors
    /// [`BlockError`] with the offset of the first thing that is wrong.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BlockError> {
        let refuse = |offset_bytes, what| Err(BlockError { offset_bytes, what });
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return refuse(0, "shorter than a header") };
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(0) != VERSION {
            return refuse(0, "another version than 1");
        }
        let Some(metric) = metric_of(word(4)) else { return refuse(4, "no metric has this number") };
        let (dimension, rows) = (word(8) as usize, word(12) as usize);
        if !DIMENSIONS.contains(&dimension) {
            return refuse(8, "no space has this dimension");
        }
        let (norm_max, error_max) = (f32::from_bits(word(32)), f32::from_bits(word(36)));
        if !(norm_max >= 0.0 && error_max >= 0.0) {
            return refuse(32, "the greatest norm or error is not a length");
        }
        if header[40..].iter().any(|byte| *byte != 0) {
            return refuse(40, "the rest of the header is not zero");
        }
        let mut at = HEADER_BYTES;
        let mut part = |len: u64| {
            let begin = at.next_multiple_of(ALIGN);
            let end = usize::try_from(len).ok().and_then(|len| begin.checked_add(len));
            let found = end.and_then(|end| bytes.get(begin..end));
            at = begin + found.map_or(0, <[u8]>::len);
            found.map(|found| (begin, found)).ok_or(BlockError { offset_bytes: begin, what: "a part is cut short" })
        };
        let bitmap = |(begin, bytes): (usize, &'a [u8])| {
            let moved = |error: crate::bitmap::view::FormatError| BlockError {
                offset_bytes: begin + error.offset_bytes,
                what: error.what,
            };
            BitmapView::new(bytes).map_err(moved)
        };
        let presence = bitmap(part(long(16))?)?;
        let removed = bitmap(part(long(24))?)?;
        if presence.len() != rows as u64 {
            return refuse(12, "another number of rows than slots with a vector");
        }
        let (rows, wide) = (rows as u64, dimension as u64);
        let [low, step, norm] = [part(rows * 4)?.1, part(rows * 4)?.1, part(rows * 4)?.1];
        let (error, codes, vectors) = (part(rows * 2)?.1, part(rows * wide)?.1, part(rows * wide * 4)?.1);
        if at != bytes.len() {
            return refuse(at, "bytes follow the last vector");
        }
        let mut first_rows = Vec::with_capacity(presence.container_count());
        let mut row = 0_u32;
        for index in 0..presence.container_count() {
            first_rows.push(row);
            // Their sum is the number of rows, which is a `u32`; only behind the last may it be one more.
            row = row.wrapping_add(presence.cardinality(index));
        }
        Ok(Block {
            metric,
            dimension,
            presence,
            removed,
            first_rows,
            norm_max,
            error_max,
            low: low.as_chunks().0,
            step: step.as_chunks().0,
            norm: norm.as_chunks().0,
            error: error.as_chunks().0,
            codes,
            vectors: vectors.as_chunks().0,
        })
    }

    /// The space's metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The space's dimension.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of vectors.
    pub fn row_count(&self) -> usize {
        self.norm.len()
    }

    /// Slots with a vector here.
    pub fn presence(&self) -> &BitmapView<'a> {
        &self.presence
    }

    /// Slots that have none any more in older blocks.
    pub fn removed(&self) -> &BitmapView<'a> {
        &self.removed
    }

    /// Bytes of what is scanned: all but the header and the vectors in full precision.
    pub fn scanned_bytes(&self) -> usize {
        self.presence.as_bytes().len() + self.removed.as_bytes().len() + self.row_count() * 14 + self.codes.len()
    }

    /// The vector of a slot, as it is kept.
    pub fn vector(&self, slot: Slot) -> Option<Vec<f32>> {
        let index = self.presence.find((slot >> 16) as u16)?;
        let place = place(self.presence.container(index), slot as u16)?;
        let begin = (self.first_rows[index] as usize + place) * self.dimension;
        let numbers = self.vectors.get(begin..begin + self.dimension)?;
        Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }

    /// Looks whether every row's numbers are those that its vector gives.
    ///
    /// # Errors
    /// [`BlockError`] that says which part is wrong first; the offset is the row's number.
    pub fn check(&self) -> Result<(), BlockError> {
        let mut codes = Vec::new();
        for row in 0..self.row_count() {
            let span = row * self.dimension..(row + 1) * self.dimension;
            let vector: Vec<f32> =
                self.vectors[span.clone()].iter().map(|number| f32::from_le_bytes(*number)).collect();
            let refuse = |what| Err(BlockError { offset_bytes: row, what });
            if vector.iter().any(|number| !number.is_finite()) {
                return refuse("a vector is not finite");
            }
            codes.clear();
            let quantised = Quantised::new(&vector, &mut codes);
            if codes != self.codes[span]
                || quantised.low.to_le_bytes() != self.low[row]
                || quantised.step.to_le_bytes() != self.step[row]
                || (norm(&vector) as f32).to_le_bytes() != self.norm[row]
            {
                return refuse("a row is not what its vector gives");
            }
            if !(self.norm(row as u32) <= self.norm_max && self.error(row as u32) <= self.error_max) {
                return refuse("a row exceeds what the header says is the greatest");
            }
        }
        Ok(())
    }

    /// The first row of the container of `presence` with this index.
    pub(in crate::lookalike) fn first_row(&self, index: usize) -> u32 {
        self.first_rows[index]
    }

    pub(in crate::lookalike) fn rows(&self) -> Rows<'a> {
        Rows { dimension: self.dimension, codes: self.codes, low: self.low, step: self.step }
    }

    pub(in crate::lookalike) fn vectors(&self) -> &'a [[u8; 4]] {
        self.vectors
    }

    /// The longest vector's length.
    pub(in crate::lookalike) fn norm_max(&self) -> f32 {
        self.norm_max
    }

    /// The greatest error.
    pub(in crate::lookalike) fn error_max(&self) -> f32 {
        self.error_max
    }

    /// Length of the vector of a row.
    #[inline]
    pub(in crate::lookalike) fn norm(&self, row: u32) -> f32 {
        f32::from_le_bytes(self.norm[row as usize])
    }

    /// At least the length of what a row's codes leave out.
    #[inline]
    pub(in crate::lookalike) fn error(&self, row: u32) -> f32 {
        let parts = f32::from(u16::from_le_bytes(self.error[row as usize]));
        error_most(f32::from_le_bytes(self.step[row as usize]), self.dimension) * parts / ERROR_PARTS
    }

    #[cfg(test)]
    pub(in crate::lookalike) fn approximate(&self, row: u32, dimension: usize) -> f64 {
        let number = |of: &[[u8; 4]]| f64::from(f32::from_le_bytes(of[row as usize]));
        number(self.low) + number(self.step) * f64::from(self.codes[row as usize * self.dimension + dimension])
    }
}

/// How many positions of a container stand before this one; `None` if it is not among them.
fn place(container: Container<'_>, position: u16) -> Option<usize> {
    match container {
        Container::Array(array) => array.binary_search_by(|other| u16::from_le_bytes(*other).cmp(&position)).ok(),
        Container::Words(words) => {
            let (before, bit) = (usize::from(position >> 6), position & 63);
            let word = u64::from_le_bytes(words[before]);
            let ones = |word: u64| word.count_ones() as usize;
            let all: usize = words[..before].iter().map(|word| ones(u64::from_le_bytes(*word))).sum();
            (word >> bit & 1 == 1).then(|| all + ones(word & ((1 << bit) - 1)))
        }
        Container::Runs(runs) => {
            let mut before = 0;
            for run in runs {
                let first = u16::from_le_bytes([run[0], run[1]]);
                let more = u16::from_le_bytes([run[2], run[3]]);
                if position < first {
                    return None;
                }
                if position - first <= more {
                    return Some(before + usize::from(position - first));
                }
                before += usize::from(more) + 1;
            }
            None
        }
    }
}
