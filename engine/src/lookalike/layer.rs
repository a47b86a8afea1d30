//! The vectors of one layer of a shard, as they lie in a segment: the validated view that is searched.

use super::cells::Cells;
use super::kernels::Rows;
use super::quantise::{Most, Scale};
use crate::bitmap::view::BitmapView;
use crate::ids::Slot;

/// Vectors of the users of a chunk, by rising slot, in all their forms.
///
/// What is where is checked by [`Layer::new`]; numbers are taken as they are, so damaged ones give wrong answers, never
/// undefined behaviour or a panic.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRows<'a> {
    /// One a vector.
    pub scales: &'a [Scale],
    /// As many a vector as the space has dimensions.
    pub codes: &'a [u8],
    /// The vectors themselves: `f32`, little-endian.
    pub vectors: &'a [[u8; 4]],
    /// The greatest of the scales.
    pub most: Most,
}

/// What one layer says of a space in one shard.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    dimension: usize,
    presence: BitmapView<'a>,
    touched: BitmapView<'a>,
    /// One a container of `presence`.
    rows: Vec<ChunkRows<'a>>,
    cells: Option<Cells<'a>>,
}

/// The vectors of a layer are not as many as its users with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunk {chunk} has other vectors than users with one")]
pub struct LayerError {
    /// Where.
    pub chunk: u16,
}

impl<'a> Layer<'a> {
    /// Of the users who have a vector here, all users this layer speaks of (layers below it are not asked about them; of the
    /// lowest layer that does not matter), and the vectors, chunk by chunk.
    ///
    /// # Errors
    /// [`LayerError`] if there are not as many vectors as users.
    pub fn new(
        dimension: usize,
        presence: BitmapView<'a>,
        touched: BitmapView<'a>,
        rows: Vec<ChunkRows<'a>>,
    ) -> Result<Self, LayerError> {
        for index in 0..presence.container_count() {
            let count = presence.cardinality(index) as usize;
            let fits = |rows: &ChunkRows<'_>| {
                let numbers = count * dimension;
                rows.scales.len() == count && rows.codes.len() == numbers && rows.vectors.len() == numbers
            };
            if !rows.get(index).is_some_and(fits) {
                return Err(LayerError { chunk: presence.key(index) });
            }
        }
        Ok(Layer { dimension, presence, touched, rows, cells: None })
    }

    /// The same with its cells.
    pub fn with_cells(self, cells: Option<Cells<'a>>) -> Self {
        Layer { cells, ..self }
    }

    /// Which vectors are near each other, if that was written.
    pub fn cells(&self) -> Option<&Cells<'a>> {
        self.cells.as_ref()
    }

    /// Numbers a vector has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Users with a vector here.
    pub fn presence(&self) -> &BitmapView<'a> {
        &self.presence
    }

    /// Users this layer speaks of.
    pub fn touched(&self) -> &BitmapView<'a> {
        &self.touched
    }

    /// Bytes of what is scanned: all but the vectors in full precision.
    pub fn scanned_bytes(&self) -> usize {
        let rows = self.rows.iter().map(|rows| rows.codes.len() + rows.scales.as_flattened().len());
        rows.sum::<usize>() + self.presence.as_bytes().len() + self.touched.as_bytes().len()
    }

    /// The vector of a slot, as it came.
    pub fn vector(&self, slot: Slot) -> Option<Vec<f32>> {
        let index = self.presence.find((slot >> 16) as u16)?;
        let place = self.presence.container(index).rank(slot as u16)?;
        let numbers = self.rows[index].vectors.get(place * self.dimension..(place + 1) * self.dimension)?;
        Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }

    /// The vectors of a container of [`Layer::presence`].
    pub(super) fn rows(&self, index: usize) -> &ChunkRows<'a> {
        &self.rows[index]
    }
}

impl<'a> ChunkRows<'a> {
    pub(super) fn quantised(&self, dimension: usize) -> Rows<'a> {
        Rows { dimension, codes: self.codes, scales: self.scales }
    }
}

#[cfg(test)]
mod tests {
    use crate::lookalike::naive::OwnedLayer;
    use crate::lookalike::random::Random;

    fn layer(dimension: usize, slots: impl IntoIterator<Item = u32>) -> OwnedLayer {
        let mut random = Random::new(7);
        let mut vector = |_| -> Vec<f32> { (0..dimension).map(|_| random.unit() as f32 - 0.4).collect() };
        OwnedLayer::new(dimension, slots.into_iter().map(|slot| (slot, Some(vector(slot)))))
    }

    #[test]
    fn finds_vectors_in_every_kind_of_container() {
        let sparse = [0, 3, 65_535, 65_536, 70_000, 1 << 20, u32::MAX];
        let run = (1 << 17..(1 << 17) + 5_000).chain((1 << 17) + 5_001..(1 << 17) + 5_005);
        let words = (1 << 18..(1 << 18) + 20_000).filter(|slot| slot % 3 != 0);
        let mut slots: Vec<u32> = sparse.into_iter().chain(run).chain(words).collect();
        slots.sort_unstable();
        let owned = layer(3, slots.iter().copied());
        let layer = owned.view();
        let mut random = Random::new(7);
        for slot in &slots {
            let given: Vec<f32> = (0..3).map(|_| random.unit() as f32 - 0.4).collect();
            assert_eq!(layer.vector(*slot), Some(given));
        }
        for other in [1, 65_534, (1 << 17) + 5_000, (1 << 17) + 5_005, 1 << 17 | 60_000, (1 << 18) + 2] {
            let expected = slots.contains(&other);
            assert_eq!(layer.vector(other).is_some(), expected, "{other}");
        }
    }

    #[test]
    fn resident_bytes_a_vector_are_at_most_the_dimension_and_16() {
        for every in [1, 2, 15, 17, 100] {
            let owned = layer(8, (0..20_000).map(|slot| slot * every));
            // Heads of the bitmap's containers do not grow with the rows of a chunk.
            let heads = 1_000 + 16 * (20_000 * every as usize).div_ceil(1 << 16);
            let touched = owned.view().touched().as_bytes().len();
            let scanned = owned.view().scanned_bytes() - touched;
            assert!(scanned <= 20_000 * (8 + 16) + heads, "{every}: {scanned}");
        }
    }
}
