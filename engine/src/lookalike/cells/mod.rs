//! Cells: the vectors of a chunk by the nearest of up to a thousand centres, so that the best few are found without scoring all.
//!
//! A partitioned index (inverted file) per chunk, made when a merge writes the chunk. It lies beside the vectors and copies none: a
//! cell is a list of four bytes a vector, which stay where they are in slot order. Being the chunk's own it is never out of date, and
//! nothing has to be trained or rebuilt for the space as a whole.
//!
//! Centres are those of k-means (`clustering`).
//!
//! ```text
//! centres  per cell, column behind column:  codes u8 a dimension | scale 14 bytes | spread f32 | end u32 (in `members`)
//! members  per vector, cell by cell:        position u16 (in the chunk) | row u16 (among the chunk's vectors); little-endian
//! ```
//!
//! Numbers are taken as they are, so damaged ones give wrong answers, never a panic.
//!
//! Source: J. Sivic and A. Zisserman, "Video Google: a text retrieval approach to object matching in videos" (2003); H. Jégou, M.
//! Douze and C. Schmid, "Product quantization for nearest neighbor search" (2011).

mod clustering;

use super::kernels::Rows;
use super::quantise::{SCALE_BYTES, Scale, norm_of, quantise};
use super::vector::Metric;
use clustering::{Clustering, Clusters};

/// A chunk with fewer vectors has no cells: they are scanned as quickly.
pub const ROWS_MIN: usize = 4_096;
/// Vectors of a cell, about: fewer find more precisely, but have more centres to score.
pub(super) const ROWS_PER_CELL: usize = 64;
/// Bytes of a cell beside its centre.
const TAIL_BYTES: usize = 8;

/// Bytes of a vector in [`Made::members`].
pub const MEMBER_BYTES: usize = 4;

/// Bytes of a cell in [`Made::centres`].
pub fn cell_bytes(dimension: usize) -> usize {
    dimension + SCALE_BYTES + TAIL_BYTES
}

/// Cells as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// [`cell_bytes`] a cell.
    pub centres: Vec<u8>,
    /// How many cells there are.
    pub count: usize,
    /// [`MEMBER_BYTES`] a vector.
    pub members: Vec<u8>,
}

/// The quantised vectors of a chunk, by rising position.
#[derive(Clone, Copy, Debug)]
pub struct Quantised<'a> {
    /// As many a vector as there are dimensions.
    pub codes: &'a [&'a [u8]],
    /// One a vector.
    pub scales: &'a [Scale],
    /// Where each stands in the chunk.
    pub positions: &'a [u16],
}

/// Makes the cells of a chunk; `None` if it has too few vectors.
///
/// # Panics
/// If there are not as many of one thing as of the others, or codes have other lengths.
pub fn make(metric: Metric, dimension: usize, vectors: Quantised<'_>) -> Option<Made> {
    let count = vectors.codes.len();
    assert!(vectors.scales.len() == count && vectors.positions.len() == count, "one of each a vector");
    let clustering = Clustering { metric, dimension, codes: vectors.codes, scales: vectors.scales };
    (count >= ROWS_MIN).then(|| written(dimension, &clustering.run(count / ROWS_PER_CELL), vectors.positions))
}

/// Writes what was clustered.
fn written(dimension: usize, clusters: &Clusters, positions: &[u16]) -> Made {
    let (mut codes, mut scales, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    // Where the next member of each cell goes.
    let mut next = Vec::with_capacity(clusters.sums.len());
    let mut end = 0_usize;
    let mut count = 0;
    for sums in &clusters.sums {
        next.push(end);
        if sums.count == 0 {
            continue;
        }
        end += sums.count as usize;
        count += 1;
        let (centre, spread) = sums.centre(dimension);
        scales.push(quantise(&centre, &mut codes));
        tails.extend_from_slice(&spread.to_le_bytes());
        tails.extend_from_slice(&(end as u32).to_le_bytes());
    }
    let mut members = vec![0; positions.len() * MEMBER_BYTES];
    for (row, (cell, position)) in clusters.sides.iter().zip(positions).enumerate() {
        let at = &mut next[*cell as usize];
        let member = &mut members[*at * MEMBER_BYTES..][..MEMBER_BYTES];
        member[..2].copy_from_slice(&position.to_le_bytes());
        // A chunk has at most 65,536 vectors.
        member[2..].copy_from_slice(&(row as u16).to_le_bytes());
        *at += 1;
    }
    let centres = [&codes[..], scales.as_flattened(), &tails].concat();
    Made { centres, count, members }
}

/// The cells of a chunk as they lie in a segment.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    dimension: usize,
    codes: &'a [u8],
    scales: &'a [Scale],
    tails: &'a [[u8; TAIL_BYTES]],
    members: &'a [[u8; MEMBER_BYTES]],
}

/// A vector of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Where its user stands in the chunk.
    pub(super) position: u16,
    /// Where it stands among the chunk's vectors.
    pub(super) row: u16,
}

impl<'a> Cells<'a> {
    /// Takes so many cells of a chunk with so many vectors; `None` if the bytes are none.
    pub fn new(dimension: usize, count: usize, centres: &'a [u8], members: &'a [u8], rows: usize) -> Option<Self> {
        if centres.len() != count * cell_bytes(dimension) || members.len() != rows * MEMBER_BYTES {
            return None;
        }
        let (codes, rest) = centres.split_at(count * dimension);
        let (scales, tails) = rest.split_at(count * SCALE_BYTES);
        let (scales, tails, members) = (scales.as_chunks().0, tails.as_chunks().0, members.as_chunks().0);
        let cells = Cells { dimension, codes, scales, tails, members };
        (cells.count() > 0 && cells.end(count - 1) == rows).then_some(cells)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.tails.len()
    }

    /// The centres, as quantised rows.
    pub(super) fn centres(&self) -> Rows<'a> {
        Rows { dimension: self.dimension, codes: self.codes, scales: self.scales }
    }

    /// The length of a cell's centre.
    pub(super) fn length(&self, cell: usize) -> f32 {
        norm_of(&self.scales[cell])
    }

    /// How far vectors of a cell are from its centre in one direction: a standard deviation, if all directions are alike.
    pub(super) fn spread(&self, cell: usize) -> f32 {
        let tail = &self.tails[cell];
        f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])
    }

    fn end(&self, cell: usize) -> usize {
        let tail = &self.tails[cell];
        u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]) as usize
    }

    /// The vectors of a cell, by rising position.
    pub(super) fn members(&self, cell: usize) -> impl Iterator<Item = Member> + use<'a> {
        let begin = cell.checked_sub(1).map_or(0, |before| self.end(before));
        self.members.get(begin..self.end(cell)).unwrap_or_default().iter().map(member_of)
    }

    /// Whether each of the chunk's vectors, which stand at these positions, is in one cell.
    pub fn is_partition(&self, positions: impl Iterator<Item = u16>) -> bool {
        if !(0..self.count()).is_sorted_by_key(|cell| self.end(cell)) {
            return false;
        }
        let mut members: Vec<Member> = self.members.iter().map(member_of).collect();
        members.sort_unstable_by_key(|member| member.row);
        let rows = members.iter().enumerate().all(|(row, member)| usize::from(member.row) == row);
        rows && positions.eq(members.iter().map(|member| member.position))
    }
}

fn member_of(bytes: &[u8; MEMBER_BYTES]) -> Member {
    let [a, b, c, d] = *bytes;
    Member { position: u16::from_le_bytes([a, b]), row: u16::from_le_bytes([c, d]) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lookalike::random::Random;

    /// Cells of vectors at these positions.
    pub(in crate::lookalike) fn made(
        metric: Metric,
        dimension: usize,
        vectors: &[Vec<f32>],
        positions: &[u16],
    ) -> Option<Made> {
        let mut codes = Vec::new();
        let scales: Vec<Scale> = vectors.iter().map(|vector| quantise(vector, &mut codes)).collect();
        let codes: Vec<&[u8]> = codes.chunks_exact(dimension).collect();
        make(metric, dimension, Quantised { codes: &codes, scales: &scales, positions })
    }

    fn view(dimension: usize, made: &Made, rows: usize) -> Option<Cells<'_>> {
        Cells::new(dimension, made.count, &made.centres, &made.members, rows)
    }

    #[test]
    fn neighbours_share_a_cell() {
        let (dimension, clusters, mut random) = (8, 20, Random::new(3));
        let mut number = |size: f64| ((random.unit() - 0.5) * size) as f32;
        let middles: Vec<Vec<f32>> = (0..clusters).map(|_| (0..dimension).map(|_| number(2.0)).collect()).collect();
        let vectors: Vec<Vec<f32>> =
            (0..5_000).map(|at| middles[at % clusters].iter().map(|middle| middle + number(0.05)).collect()).collect();
        let positions: Vec<u16> = (0..5_000).map(|at| at * 3).collect();
        for metric in Metric::ALL {
            let made = made(metric, dimension, &vectors, &positions).expect("enough");
            let cells = view(dimension, &made, vectors.len()).expect("whole");
            assert!((clusters..=70).contains(&cells.count()), "{}", cells.count());
            assert!(cells.is_partition(positions.iter().copied()));
            assert!(!cells.is_partition(positions.iter().map(|position| position + 1)));
            for cell in 0..cells.count() {
                let members: Vec<Member> = cells.members(cell).collect();
                assert!(!members.is_empty());
                assert!(members.is_sorted_by_key(|member| member.position));
                let cluster = usize::from(members[0].row) % clusters;
                let same = members.iter().filter(|member| usize::from(member.row) % clusters == cluster).count();
                assert!(same * 10 >= members.len() * 9, "{metric:?}: {same} of {}", members.len());
            }
            assert_eq!(Some(made.clone()), super::tests::made(metric, dimension, &vectors, &positions));
        }
    }

    #[test]
    fn damaged_cells_are_none() {
        let vectors: Vec<Vec<f32>> = (0..4_096).map(|at| vec![at as f32, 1.0]).collect();
        let positions: Vec<u16> = (0..4_096).collect();
        assert_eq!(made(Metric::Dot, 2, &vectors[1..], &positions[1..]), None);
        let good = made(Metric::Dot, 2, &vectors, &positions).expect("enough");
        assert!(view(2, &good, 4_096).is_some());
        assert!(view(2, &good, 4_095).is_none() && view(3, &good, 4_096).is_none());
        let mut damaged = good.clone();
        let last = damaged.centres.len() - 4;
        damaged.centres[last..].copy_from_slice(&4_097_u32.to_le_bytes());
        assert!(view(2, &damaged, 4_096).is_none());
        let is_whole = |made: &Made| view(2, made, 4_096).expect("as many").is_partition(positions.iter().copied());
        assert!(is_whole(&good));
        damaged = good.clone();
        damaged.members[2..4].copy_from_slice(&4_096_u16.to_le_bytes());
        assert!(!is_whole(&damaged));
        damaged = good.clone();
        let tails = good.count * (2 + SCALE_BYTES);
        damaged.centres[tails + 4..tails + 8].copy_from_slice(&5_000_u32.to_le_bytes());
        assert!(!is_whole(&damaged));
        let cells = view(2, &damaged, 4_096).expect("as many");
        assert_eq!((0..2).map(|cell| cells.members(cell).count()).sum::<usize>(), 0);
    }

    #[test]
    fn equal_vectors_and_zeros_have_cells() {
        let positions: Vec<u16> = (0..5_000).collect();
        for vector in [vec![0.0, 0.0], vec![3.0, 4.0]] {
            let made = made(Metric::L2, 2, &vec![vector; 5_000], &positions).expect("enough");
            let cells = view(2, &made, 5_000).expect("whole");
            assert!(cells.is_partition(positions.iter().copied()));
            assert!((0..cells.count()).all(|cell| cells.spread(cell) < 0.01));
        }
    }
}
