//! Clusters of very many quantised vectors: k-means in two steps, of all vectors into a few groups and of each group into its share of
//! clusters, and then some rounds among all.
//!
//! Under cosine, directions are clustered, else vectors as they are.

use super::BATCH;
use super::finder::{Finder, columns};
use crate::lookalike::kernels::{Compare, Level, Rows, best, best_exact};
use crate::lookalike::quantise::{Scale, low_of, norm_of, step_of};
use crate::lookalike::random::Random;
use crate::lookalike::vector::{Metric, norm};

/// Rounds in which clusters are moved with the vectors of a group, and then with all.
const ROUNDS: usize = 6;
const ROUNDS_AMONG_ALL: usize = 2;
/// Up to so many clusters are made in one step.
const AT_ONCE: usize = 256;
/// The most clusters of a group.
const OF_GROUP_MAX: usize = 1_024;
/// Among so many the nearest is looked for to stand next.
const CHAINED: usize = 1_024;

/// What is to be clustered.
pub(super) struct Clustering<'a> {
    pub(super) metric: Metric,
    pub(super) dimension: usize,
    /// As many a vector as there are dimensions, one vector behind the other.
    pub(super) codes: &'a [u8],
    /// One a vector.
    pub(super) scales: &'a [Scale],
}

/// Sums over the vectors of a cluster.
#[derive(Clone)]
pub(super) struct Sums {
    count: u64,
    numbers: Vec<f64>,
    squares: f64,
}

impl Clustering<'_> {
    /// About `wanted` clusters; those that nobody is in are left out.
    pub(super) fn run(&self, wanted: usize) -> Vec<Sums> {
        let all: Vec<usize> = (0..self.scales.len()).collect();
        if all.is_empty() {
            return Vec::new();
        }
        let wanted = wanted.clamp(1, all.len());
        let mut random = Random::new(all.len() as u64);
        let mut centres = if wanted <= AT_ONCE {
            self.moved(&all, wanted, &mut random)
        } else {
            let groups = in_chain(self.moved(&all, wanted.isqrt(), &mut random), Vec::as_slice);
            let mut of_groups: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
            self.each(&all, &groups, |row, group| of_groups[group].push(row));
            // Many who are nearly the same are not told apart by more, which would take very long.
            let share = |rows: &Vec<usize>| (rows.len() * wanted).div_ceil(all.len()).min(OF_GROUP_MAX);
            of_groups
                .iter()
                .filter(|rows| !rows.is_empty())
                .flat_map(|rows| self.moved(rows, share(rows), &mut random))
                .collect()
        };
        let mut sums = Vec::new();
        for round in 0..ROUNDS_AMONG_ALL {
            let finder = Finder::new(self.metric, self.dimension, &centres);
            sums = self.nothing(centres.len());
            for batch in all.chunks(BATCH) {
                let (codes, scales) = self.gathered(batch);
                let sides = finder.nearest(Rows { dimension: self.dimension, codes: &codes, scales: &scales });
                batch.iter().zip(sides).for_each(|(row, side)| self.add(*row, &mut sums[side as usize]));
            }
            if round + 1 < ROUNDS_AMONG_ALL {
                centres = sums.iter().filter_map(|sums| Some(sums.centre()?.0)).collect();
            }
            // Damaged numbers may leave none.
            if centres.is_empty() {
                return Vec::new();
            }
        }
        sums
    }

    /// So many centres, moved with some of the vectors, of which there are some.
    pub(super) fn moved(&self, rows: &[usize], count: usize, random: &mut Random) -> Vec<Vec<f32>> {
        let count = count.clamp(1, rows.len());
        // One of each of as many equal parts, so that the order of users does not matter.
        let place = |index: usize| index * rows.len() / count;
        let mut first = |index: usize| rows[place(index) + random.below(place(index + 1) - place(index))];
        let mut centres: Vec<Vec<f32>> = (0..count).map(|index| self.vector(first(index))).collect();
        for _ in 0..ROUNDS {
            let mut sums = self.nothing(count);
            self.each(rows, &centres, |row, side| self.add(row, &mut sums[side]));
            for (centre, sums) in centres.iter_mut().zip(&sums) {
                // Where nobody is near, another vector is tried.
                *centre = match sums.centre() {
                    Some((mean, _)) => mean,
                    None => self.vector(rows[random.below(rows.len())]),
                };
            }
        }
        centres
    }

    /// Tells the nearest centre of each of some vectors.
    fn each(&self, rows: &[usize], centres: &[Vec<f32>], mut take: impl FnMut(usize, usize)) {
        let columns = columns(self.metric, self.dimension, centres.iter());
        for batch in rows.chunks(BATCH) {
            let (codes, scales) = self.gathered(batch);
            let list: Vec<u32> = (0..batch.len() as u32).collect();
            let (mut values, mut sides) = (vec![0.0; batch.len()], vec![0; batch.len()]);
            let gathered = Rows { dimension: self.dimension, codes: &codes, scales: &scales };
            best(Level::detect(), gathered, &list, &columns, &mut values, &mut sides);
            batch.iter().zip(sides).for_each(|(row, side)| take(*row, side as usize));
        }
    }

    fn gathered(&self, rows: &[usize]) -> (Vec<u8>, Vec<Scale>) {
        let mut codes = Vec::with_capacity(rows.len() * self.dimension);
        rows.iter().for_each(|row| codes.extend_from_slice(self.codes_of(*row)));
        (codes, rows.iter().map(|row| self.scales[*row]).collect())
    }

    fn nothing(&self, count: usize) -> Vec<Sums> {
        vec![Sums { count: 0, numbers: vec![0.0; self.dimension], squares: 0.0 }; count]
    }

    fn add(&self, row: usize, sums: &mut Sums) {
        let scale = &self.scales[row];
        let long = f64::from(norm_of(scale));
        let part = self.part(long);
        let (low, step) = (f64::from(low_of(scale)) * part, f64::from(step_of(scale)) * part);
        sums.count += 1;
        sums.squares += (long * part).powi(2);
        for (sum, code) in sums.numbers.iter_mut().zip(self.codes_of(row)) {
            *sum += low + step * f64::from(*code);
        }
    }

    /// What a vector is multiplied with to be as it is compared.
    fn part(&self, long: f64) -> f64 {
        if self.metric == Metric::Cosine && long > 0.0 { 1.0 / long } else { 1.0 }
    }

    fn codes_of(&self, row: usize) -> &[u8] {
        &self.codes[row * self.dimension..][..self.dimension]
    }

    /// A vector as it is compared.
    pub(super) fn vector(&self, row: usize) -> Vec<f32> {
        let scale = &self.scales[row];
        let part = self.part(norm_of(scale).into());
        let (low, step) = (f64::from(low_of(scale)) * part, f64::from(step_of(scale)) * part);
        self.codes_of(row).iter().map(|code| (low + step * f64::from(*code)) as f32).collect()
    }
}

/// Things with numbers, so that those near each other stand near each other: behind each the nearest of some that are left.
pub(super) fn in_chain<T>(of: Vec<T>, numbers: impl Fn(&T) -> &[f32]) -> Vec<T> {
    let mut chain = Vec::with_capacity(of.len());
    let mut of = of.into_iter().peekable();
    while of.peek().is_some() {
        let mut left: Vec<Option<T>> = of.by_ref().take(CHAINED).map(Some).collect();
        let dimension = left.iter().flatten().next().map_or(0, |first| numbers(first).len());
        let bytes: Vec<[u8; 4]> =
            left.iter().flatten().flat_map(|thing| numbers(thing).iter().map(|number| number.to_le_bytes())).collect();
        let mut list: Vec<u32> = (0..left.len() as u32).collect();
        let mut values = vec![0.0; list.len()];
        while !list.is_empty() {
            let mut next = 0;
            if let Some(last) = chain.last() {
                let values = &mut values[..list.len()];
                best_exact(Level::detect(), Compare::L2, &bytes, &list, numbers(last), dimension, values);
                next = (0..list.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0);
            }
            chain.extend(left[list.swap_remove(next) as usize].take());
        }
    }
    chain
}

impl Sums {
    /// The mean, and how far vectors are from it in one direction: a standard deviation, if all directions are alike. `None` if there are
    /// none, or numbers are damaged.
    pub(super) fn centre(&self) -> Option<(Vec<f32>, f32)> {
        let count = self.count as f64;
        let mean: Vec<f32> = self.numbers.iter().map(|sum| (sum / count) as f32).collect();
        if self.count == 0 || mean.iter().any(|number| !number.is_finite()) {
            return None;
        }
        let apart = (self.squares / count - norm(&mean).powi(2)).max(0.0);
        let spread = (apart / mean.len() as f64).sqrt() as f32;
        Some((mean, spread))
    }
}
