//! Clusters of very many quantised vectors: k-means of an even sample, then every vector goes to the nearest centre.
//!
//! Under cosine, directions are clustered, else vectors as they are.

use crate::lookalike::kernels::{Columns, Level, Rows, best};
use crate::lookalike::quantise::{Scale, low_of, norm_of, step_of};
use crate::lookalike::random::Random;
use crate::lookalike::vector::{Metric, norm};

/// Vectors that centres are moved with, a cluster.
const SAMPLE_PER_CLUSTER: usize = 16;
const ROUNDS: usize = 6;
/// Vectors whose cluster is looked for at once, so that memory stays small.
const BATCH: usize = 4_096;

/// What is to be clustered.
pub(super) struct Clustering<'a> {
    pub(super) metric: Metric,
    pub(super) dimension: usize,
    /// As many a vector as there are dimensions.
    pub(super) codes: &'a [&'a [u8]],
    /// One a vector.
    pub(super) scales: &'a [Scale],
}

/// Who belongs together.
pub(super) struct Clusters {
    /// The cluster of each vector.
    pub(super) sides: Vec<u32>,
    /// A cluster each; some may have nobody.
    pub(super) sums: Vec<Sums>,
}

/// Sums over the vectors of a cluster.
#[derive(Clone)]
pub(super) struct Sums {
    pub(super) count: u64,
    numbers: Vec<f64>,
    squares: f64,
}

impl Clustering<'_> {
    /// About `wanted` clusters.
    pub(super) fn run(&self, wanted: usize) -> Clusters {
        let rows = self.codes.len();
        let centres = self.trained(wanted);
        let columns = self.columns(&centres);
        let mut sides = Vec::with_capacity(rows);
        let mut sums = self.nothing(centres.len());
        let all: Vec<usize> = (0..rows).collect();
        for batch in all.chunks(BATCH) {
            let nearest = self.nearest(batch, &columns);
            self.add(batch, &nearest, &mut sums);
            sides.extend(nearest);
        }
        Clusters { sides, sums }
    }

    /// Centres that are moved with a sample.
    fn trained(&self, wanted: usize) -> Vec<Vec<f32>> {
        let rows = self.codes.len();
        let cells = wanted.max(1);
        let size = rows.min(cells * SAMPLE_PER_CLUSTER);
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

    /// The cluster of each of some vectors.
    fn nearest(&self, rows: &[usize], columns: &Columns) -> Vec<u32> {
        let mut codes = Vec::with_capacity(rows.len() * self.dimension);
        let mut scales = Vec::with_capacity(rows.len());
        for row in rows {
            codes.extend_from_slice(self.codes[*row]);
            scales.push(self.scales[*row]);
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
            let scale = &self.scales[*row];
            let long = f64::from(norm_of(scale));
            let part = self.part(long);
            let (low, step) = (f64::from(low_of(scale)) * part, f64::from(step_of(scale)) * part);
            let sums = &mut sums[*side as usize];
            sums.count += 1;
            sums.squares += (long * part).powi(2);
            for (sum, code) in sums.numbers.iter_mut().zip(self.codes[*row]) {
                *sum += low + step * f64::from(*code);
            }
        }
    }

    /// What a vector is multiplied with to be as it is compared.
    fn part(&self, long: f64) -> f64 {
        if self.metric == Metric::Cosine && long > 0.0 { 1.0 / long } else { 1.0 }
    }

    fn vector(&self, row: usize) -> Vec<f32> {
        let scale = &self.scales[row];
        let part = self.part(norm_of(scale).into());
        let (low, step) = (f64::from(low_of(scale)) * part, f64::from(step_of(scale)) * part);
        self.codes[row].iter().map(|code| (low + step * f64::from(*code)) as f32).collect()
    }
}

impl Sums {
    /// The mean, and how far vectors are from it in one direction: a standard deviation, if all directions are alike. Damaged numbers
    /// may leave none: then zeros.
    pub(super) fn centre(&self, dimension: usize) -> (Vec<f32>, f32) {
        let centre = self.mean().unwrap_or_else(|| vec![0.0; dimension]);
        let apart = (self.squares / self.count as f64 - norm(&centre).powi(2)).max(0.0);
        (centre, (apart / dimension as f64).sqrt() as f32)
    }

    fn mean(&self) -> Option<Vec<f32>> {
        let mean = |sum: &f64| (sum / self.count as f64) as f32;
        let mean: Vec<f32> = (self.count > 0).then(|| self.numbers.iter().map(mean).collect())?;
        mean.iter().all(|number| number.is_finite()).then_some(mean)
    }
}
