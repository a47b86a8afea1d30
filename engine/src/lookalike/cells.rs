//! Cells: the vectors of a chunk by the nearest of up to a thousand centres, so that the best few are found without scoring all.
//!
//! A partitioned index (inverted file) per chunk, made when a merge writes the chunk. It lies beside the vectors and copies none: a
//! cell is a list of four bytes a vector, which stay where they are in slot order. Being the chunk's own it is never out of date, and
//! nothing has to be trained or rebuilt for the space as a whole.
//!
//! Centres are those of k-means among directions under cosine, else among vectors as they are. They are moved with an even sample
//! of the chunk, then every vector goes to the nearest.
//!
//! ```text
//! centres  per cell, column behind column:  codes u8 a dimension | scale 14 bytes | spread f32 | end u32 (in `members`)
//! members  per vector, cell by cell:        position u16 (in the chunk) | row u16 (among the chunk's vectors); little-endian
//! ```
//!
//! Source: J. Sivic and A. Zisserman, "Video Google: a text retrieval approach to object matching in videos" (2003); H. Jégou, M.
//! Douze and C. Schmid, "Product quantization for nearest neighbor search" (2011).

use super::kernels::{Columns, Level, Rows, best};
use super::quantise::{SCALE_BYTES, Scale, low_of, norm_of, quantise, step_of};
use super::random::Random;
use super::vector::{Metric, norm};

/// A chunk with fewer vectors has no cells: they are scanned as quickly.
pub const ROWS_MIN: usize = 4_096;
/// Vectors of a cell, about: fewer find more precisely, but have more centres to score.
pub(super) const ROWS_PER_CELL: usize = 64;
/// Vectors that centres are moved with, a cell.
const SAMPLE_PER_CELL: usize = 16;
const ROUNDS: usize = 6;
/// Vectors whose cell is looked for at once, so that memory stays small.
const BATCH: usize = 4_096;

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
    (count >= ROWS_MIN).then(|| Maker { metric, dimension, vectors }.make())
}

struct Maker<'a> {
    metric: Metric,
    dimension: usize,
    vectors: Quantised<'a>,
}

/// Sums over the vectors of a cell.
#[derive(Clone)]
struct Sums {
    count: u64,
    numbers: Vec<f64>,
    squares: f64,
}

impl Maker<'_> {
    fn make(&self) -> Made {
        let rows = self.vectors.codes.len();
        let centres = self.trained(rows / ROWS_PER_CELL);
        let columns = self.columns(&centres);
        let mut cells = Vec::with_capacity(rows);
        let mut sums = self.nothing(centres.len());
        let all: Vec<usize> = (0..rows).collect();
        for batch in all.chunks(BATCH) {
            let sides = self.nearest(batch, &columns);
            self.add(batch, &sides, &mut sums);
            cells.extend(sides);
        }
        self.written(&cells, &sums)
    }

    /// Centres that are moved with a sample.
    fn trained(&self, wanted: usize) -> Vec<Vec<f32>> {
        let rows = self.vectors.codes.len();
        let cells = wanted.max(1);
        let size = rows.min(cells * SAMPLE_PER_CELL);
        let mut random = Random::new(rows as u64);
        // One of each of as many equal parts, so that the order of users does not matter.
        let place = |index: usize| (index as u64 * rows as u64 / size as u64) as usize;
        let picked = |index: usize, random: &mut Random| {
            let (from, to) = (place(index), place(index + 1));
            from + random.below(to - from)
        };
        let sample: Vec<usize> = (0..size).map(|index| picked(index, &mut random)).collect();
        let mut centres: Vec<Vec<f32>> =
            (0..cells).map(|cell| self.vector(sample[cell * size / cells + random.below(size / cells)])).collect();
        for _ in 0..ROUNDS {
            let columns = self.columns(&centres);
            let mut sums = self.nothing(cells);
            for batch in sample.chunks(BATCH) {
                let sides = self.nearest(batch, &columns);
                self.add(batch, &sides, &mut sums);
            }
            for (centre, sums) in centres.iter_mut().zip(&sums) {
                // Where nobody is near, another vector is tried.
                *centre = sums.mean().unwrap_or_else(|| self.vector(sample[random.below(size)]));
            }
        }
        centres
    }

    /// The centres as what vectors are multiplied with: the greatest value is that of the nearest.
    fn columns(&self, centres: &[Vec<f32>]) -> Columns {
        let mut numbers = Vec::with_capacity(centres.len() * self.dimension);
        let mut biases = Vec::with_capacity(centres.len());
        for centre in centres {
            let long = norm(centre);
            match self.metric {
                // The angle decides, however long the vector is.
                Metric::Cosine if long > 0.0 => {
                    numbers.extend(centre.iter().map(|number| (f64::from(*number) / long) as f32));
                    biases.push(0.0);
                }
                _ => {
                    numbers.extend_from_slice(centre);
                    biases.push((-long * long / 2.0) as f32);
                }
            }
        }
        Columns::new(self.dimension, &numbers, 1.0, biases)
    }

    /// The cell of each of some vectors.
    fn nearest(&self, rows: &[usize], columns: &Columns) -> Vec<u32> {
        let mut codes = Vec::with_capacity(rows.len() * self.dimension);
        let mut scales = Vec::with_capacity(rows.len());
        for row in rows {
            codes.extend_from_slice(self.vectors.codes[*row]);
            scales.push(self.vectors.scales[*row]);
        }
        let list: Vec<u32> = (0..rows.len() as u32).collect();
        let (mut values, mut which) = (vec![0.0; rows.len()], vec![0; rows.len()]);
        let rows = Rows { dimension: self.dimension, codes: &codes, scales: &scales };
        best(Level::detect(), rows, &list, columns, &mut values, &mut which);
        which
    }

    fn nothing(&self, cells: usize) -> Vec<Sums> {
        vec![Sums { count: 0, numbers: vec![0.0; self.dimension], squares: 0.0 }; cells]
    }

    fn add(&self, rows: &[usize], sides: &[u32], sums: &mut [Sums]) {
        for (row, side) in rows.iter().zip(sides) {
            let scale = &self.vectors.scales[*row];
            let long = f64::from(norm_of(scale));
            let part = self.part(long);
            let (low, step) = (f64::from(low_of(scale)) * part, f64::from(step_of(scale)) * part);
            let sums = &mut sums[*side as usize];
            sums.count += 1;
            sums.squares += (long * part).powi(2);
            for (sum, code) in sums.numbers.iter_mut().zip(self.vectors.codes[*row]) {
                *sum += low + step * f64::from(*code);
            }
        }
    }

    /// What a vector is multiplied with to be as it is compared.
    fn part(&self, long: f64) -> f64 {
        if self.metric == Metric::Cosine && long > 0.0 { 1.0 / long } else { 1.0 }
    }

    fn vector(&self, row: usize) -> Vec<f32> {
        let scale = &self.vectors.scales[row];
        let part = self.part(norm_of(scale).into());
        let (low, step) = (f64::from(low_of(scale)) * part, f64::from(step_of(scale)) * part);
        self.vectors.codes[row].iter().map(|code| (low + step * f64::from(*code)) as f32).collect()
    }

    fn written(&self, cells: &[u32], sums: &[Sums]) -> Made {
        let (mut codes, mut scales, mut tails) = (Vec::new(), Vec::new(), Vec::new());
        // Where the next member of each cell goes; damaged numbers may leave a cell without a mean, never without members.
        let mut next = Vec::with_capacity(sums.len());
        let mut end = 0_usize;
        let mut count = 0;
        for sums in sums {
            next.push(end);
            if sums.count == 0 {
                continue;
            }
            end += sums.count as usize;
            count += 1;
            let centre = sums.mean().unwrap_or_else(|| vec![0.0; self.dimension]);
            scales.push(quantise(&centre, &mut codes));
            let apart = (sums.squares / sums.count as f64 - norm(&centre).powi(2)).max(0.0);
            let spread = (apart / self.dimension as f64).sqrt() as f32;
            tails.extend_from_slice(&spread.to_le_bytes());
            tails.extend_from_slice(&(end as u32).to_le_bytes());
        }
        let mut members = vec![0; cells.len() * MEMBER_BYTES];
        for (row, (cell, position)) in cells.iter().zip(self.vectors.positions).enumerate() {
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
}

impl Sums {
    fn mean(&self) -> Option<Vec<f32>> {
        let mean = |sum: &f64| (sum / self.count as f64) as f32;
        let mean: Vec<f32> = (self.count > 0).then(|| self.numbers.iter().map(mean).collect())?;
        mean.iter().all(|number| number.is_finite()).then_some(mean)
    }
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
        let mut ends = (0..count).map(|cell| cells.end(cell));
        let is_whole = ends.clone().is_sorted() && ends.next_back() == Some(rows);
        // A place among the vectors that is none would be asked for later.
        (is_whole && members.iter().all(|member| usize::from(member_of(member).row) < rows)).then_some(cells)
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

    /// How many vectors a cell has.
    pub(super) fn len(&self, cell: usize) -> usize {
        self.end(cell) - cell.checked_sub(1).map_or(0, |before| self.end(before))
    }

    /// The vectors of a cell, by rising position.
    pub(super) fn members(&self, cell: usize) -> impl Iterator<Item = Member> + use<'a> {
        let end = self.end(cell);
        self.members[end - self.len(cell)..end].iter().map(member_of)
    }

    /// Whether each of the chunk's vectors, which stand at these positions, is in one cell.
    pub fn is_partition(&self, positions: impl Iterator<Item = u16>) -> bool {
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
                assert_eq!(members.len(), cells.len(cell));
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
        damaged = good.clone();
        damaged.members[2..4].copy_from_slice(&4_096_u16.to_le_bytes());
        assert!(view(2, &damaged, 4_096).is_none());
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
