//! The vectors of one shard as bytes: a byte a dimension to scan, and full precision beside it.
//!
//! ```text
//! header       64 bytes: version u32 | metric u32 | dimension u32 | row count u32 | presence bytes u64 | removed bytes u64
//!              | greatest norm f32 | greatest error f32 | 0 ...
//! presence     portable Roaring bitmap: slots with a vector; row 0 is the first of them, and so on
//! removed      the same: slots whose vector in older blocks is no more
//! low          f32 a row      number d of a row is about low + step * code[d]
//! step         f32 a row
//! norm         f32 a row      Euclidean length of the vector
//! error        u16 a row      length of what the codes leave out, in 1/65,535 of step * sqrt(dimension) / 2, rounded up
//! codes        u8 a row and dimension
//! vectors      f32 a row and dimension
//! ```
//!
//! Each part begins at a multiple of 64 bytes. All numbers are little-endian. Checksums are the business of the file that the
//! bytes lie in. Up to the vectors a row costs its dimension and 14 bytes, and what presence takes (next to nothing where most
//! slots have a vector, at most 2 bytes where few do).

mod reader;
mod writer;

pub use reader::Block;
pub use writer::BlockWriter;

use super::vector::Metric;

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const ALIGN: usize = 64;
/// What the error of a row is counted in.
const ERROR_PARTS: f32 = 65_535.0;

/// Why bytes are not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a block of vectors: at byte {offset_bytes}: {what}")]
pub struct BlockError {
    /// Offset in the block.
    pub offset_bytes: usize,
    /// What is wrong.
    pub what: &'static str,
}

fn number_of(metric: Metric) -> u32 {
    match metric {
        Metric::Cosine => 0,
        Metric::Dot => 1,
        Metric::L2 => 2,
    }
}

fn metric_of(number: u32) -> Option<Metric> {
    [Metric::Cosine, Metric::Dot, Metric::L2].into_iter().find(|metric| number_of(*metric) == number)
}

/// The greatest error that rounding to the nearest code can make of a row.
fn error_most(step: f32, dimension: usize) -> f32 {
    step * (dimension as f32).sqrt() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookalike::random::Random;

    fn block(metric: Metric, dimension: usize, slots: &[u32]) -> Vec<u8> {
        let mut random = Random::new(7);
        let mut writer = BlockWriter::new(metric, dimension);
        for slot in slots {
            let vector: Vec<f32> = (0..dimension).map(|_| random.unit() as f32 - 0.4).collect();
            writer.push(*slot, &vector).expect("a vector");
        }
        writer.remove(5);
        writer.finish()
    }

    #[test]
    fn shows_what_was_written() {
        for (metric, dimension) in [(Metric::Cosine, 3), (Metric::Dot, 64), (Metric::L2, 100)] {
            let slots = [0, 3, 65_535, 65_536, 70_000, 1 << 20, u32::MAX];
            let bytes = block(metric, dimension, &slots);
            let block = Block::new(&bytes).expect("a block");
            assert_eq!((block.metric(), block.dimension(), block.row_count()), (metric, dimension, slots.len()));
            assert!(block.presence().iter().eq(slots));
            assert!(block.removed().iter().eq([5]));
            let mut random = Random::new(7);
            for (row, slot) in slots.iter().enumerate() {
                let given: Vec<f32> = (0..dimension).map(|_| random.unit() as f32 - 0.4).collect();
                let expected = crate::lookalike::vector::checked(metric, dimension, &given).expect("a vector");
                assert_eq!(block.vector(*slot), Some(expected.clone()));
                let left: f64 = (0..dimension)
                    .map(|d| (f64::from(expected[d]) - block.approximate(row as u32, d)).powi(2))
                    .sum::<f64>()
                    .sqrt();
                let error = f64::from(block.error(row as u32));
                assert!(left <= error * (1.0 + 1e-6) && error <= left + 1e-3, "{left} {error}");
            }
            assert_eq!(block.vector(4), None);
            assert_eq!(block.check(), Ok(()));
        }
    }

    #[test]
    fn resident_bytes_a_vector_are_at_most_the_dimension_and_16() {
        for every in [1, 2, 15, 17, 100] {
            let slots: Vec<u32> = (0..20_000).map(|slot| slot * every).collect();
            let bytes = block(Metric::Cosine, 8, &slots);
            let scanned = Block::new(&bytes).expect("a block").scanned_bytes();
            // Heads of the parts and of the bitmap's containers do not grow with the rows of a chunk.
            let heads = 1_000 + 8 * (20_000 * every as usize).div_ceil(1 << 16);
            assert!(scanned <= 20_000 * (8 + 16) + heads, "{every}: {scanned}");
        }
    }

    #[test]
    fn refuses_or_understands_any_damage() {
        let good = block(Metric::L2, 5, &[1, 2, 3, 9, 70_000]);
        for cut in 0..good.len() {
            assert!(Block::new(&good[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(block) = Block::new(&bad) {
                let rows: Vec<u32> = (0..block.row_count() as u32).collect();
                assert_eq!(rows.len() as u64, block.presence().len());
                for slot in block.presence().iter() {
                    assert!(block.vector(slot).is_some());
                }
                let _ = block.check();
            }
        }
    }

    #[test]
    fn bad_order_and_bad_vectors_are_refused_and_change_nothing() {
        let mut writer = BlockWriter::new(Metric::Cosine, 2);
        writer.push(4, &[1.0, 0.0]).expect("a vector");
        assert!(writer.push(5, &[0.0, 0.0]).is_err());
        assert!(writer.push(5, &[0.0, f32::NAN]).is_err());
        assert!(writer.push(5, &[0.0]).is_err());
        writer.push(5, &[0.0, 2.0]).expect("a vector");
        let bytes = writer.finish();
        let block = Block::new(&bytes).expect("a block");
        assert!(block.presence().iter().eq([4, 5]));
        assert_eq!(block.vector(5), Some(vec![0.0, 1.0]));
    }
}
