//! Vectors made from behaviour: who dealt with what, as a few numbers a user.
//!
//! Users by items (products, categories, pages) is a sparse matrix: how often, or for how much, a user dealt with an item. Its
//! truncated singular value decomposition gives items and users places in one space of few dimensions, in which users are near each
//! other who dealt with the same items or with items that the same people deal with. It takes no turning of knobs, has one answer, and a user's
//! place follows from the user's own row alone; so items are learned from a bounded sample, and users are *folded in* one by one.
//!
//! * An entry is `ln(1 + w / g)`: a hundred purchases are not a hundred times one. `w` is the user's sum for the item, `g` the geometric
//!   mean of all such sums, so that the unit does not matter. What is not above zero is no entry.
//! * It is multiplied by `ln(1 + N / n)`, where `n` of `N` users have the item: what everybody has tells little.
//! * Rows are scaled to length one, so that busy users do not decide alone what the space is.
//! * With the decomposition `U Σ Vᵀ`, a user's row `x` becomes `x V (Σ / σ₁)^-½`: the half power stands between `U Σ`, in which the
//!   few commonest tastes drown the others, and `U`, in which noise counts as much as they do.
//!
//! Source: N. Halko, P. G. Martinsson and J. A. Tropp, "Finding structure with randomness" (2011), for the decomposition; S. Deerwester
//! et al., "Indexing by latent semantic analysis" (1990), for folding in; O. Levy, Y. Goldberg and I. Dagan, "Improving distributional
//! similarity with lessons learned from word embeddings" (2015), for the half power. Checked against a dense decomposition.
//!
//! * [`sample`]: entries of as many users as are learned from. * `decomposition`: their sparse matrix to directions.
//! * `dense`: what of linear algebra it takes.

mod decomposition;
mod dense;
pub mod sample;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use crate::error::Class;
use decomposition::decompose;
use hashbrown::HashMap;
use sample::{Sample, Sampled};
use std::sync::atomic::AtomicBool;
use xxhash_rust::xxh3::xxh3_64;

/// The most items that are learned. Of more, those that most users of the sample have.
pub const ITEMS_MAX: usize = 100_000;
/// The most numbers of a matrix of items by directions, which bounds the items of wide spaces: three such are held.
const NUMBERS_MAX: usize = 1 << 24;
/// Of a row of length one: shorter projections are rounding, and have no direction.
const LENGTH_MIN: f64 = 1e-6;

/// What is learned, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'s> {
    /// How many numbers a vector is to have.
    pub dimension: usize,
    /// The same number and the same sample give the same factors.
    pub random_seed: u64,
    /// Set to end learning with [`FactorError::Cancelled`].
    pub cancelled: &'s AtomicBool,
}

/// Why there are no factors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactorError {
    /// No user of the sample has any item with a weight above zero.
    #[error("nobody has any item with a weight above zero, so there is nothing to learn from")]
    Empty,
    /// The matrix has fewer independent directions than numbers are asked for.
    #[error("{items} items of {users} users carry {rank} numbers a user, not {wanted}")]
    Dimension {
        /// Numbers that are asked for.
        wanted: usize,
        /// Numbers that can be had.
        rank: usize,
        /// Items there are.
        items: usize,
        /// Users that were learned from.
        users: usize,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
}

impl FactorError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            FactorError::Cancelled => Class::Cancelled,
            _ => Class::Invalid,
        }
    }
}

/// One entry of a user's row, as [`Factors::vector`] takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deal {
    /// What [`Factors::item`] said.
    pub item: u32,
    /// How much of it; deals of one item add up.
    pub weight: f64,
}

impl Deal {
    /// Makes one of all deals of an item, in order of items. What is no finite number is left out.
    pub fn add_up(deals: &mut Vec<Deal>) {
        // In one order, so that sums are the same in whatever order deals come.
        deals.sort_unstable_by(|a, b| a.item.cmp(&b.item).then(a.weight.total_cmp(&b.weight)));
        let (mut kept, mut at) = (0, 0);
        while let Some(Deal { item, .. }) = deals.get(at).copied() {
            let same = deals[at..].iter().take_while(|deal| deal.item == item);
            let count = same.clone().count();
            let weight = sum(same.map(|deal| deal.weight).filter(|weight| weight.is_finite()));
            deals[kept] = Deal { item, weight };
            (kept, at) = (kept + 1, at + count);
        }
        deals.truncate(kept);
    }
}

/// Items in their space: what a user's row becomes a vector by.
#[derive(Clone, Debug)]
pub struct Factors {
    dimension: usize,
    /// By the hash of the item's name.
    places: HashMap<u64, u32>,
    damping: Damping,
    /// One an item, by its place.
    rarity: Vec<f64>,
    /// A row an item: its part of each number of a vector.
    items: Vec<f32>,
    /// Of each dimension, what a projection is multiplied with.
    stretch: Vec<f32>,
    learned: Learned,
}

/// What factors were learned from, and how well they describe it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Users of the sample with an item.
    pub users: usize,
    /// Users of whom one is in the sample: 1 if all are.
    pub one_of: u64,
    /// Items that count.
    pub items: usize,
    /// Items of the sample that do not, because there are more than can be held.
    pub items_left_out: usize,
    /// The share of the squares of all entries that the dimensions hold, from 0 to 1.
    pub explained: f64,
}

/// Makes entries of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Damping {
    /// Logarithm of the geometric mean of weights.
    mean: f64,
}

impl Damping {
    /// `ln(1 + weight / mean)` of a weight above zero, for any of them without overflow.
    fn entry(self, weight: f64) -> f64 {
        let over = weight.ln() - self.mean;
        over.max(0.0) + (-over.abs()).exp().ln_1p()
    }
}

/// The hash that items are known by.
fn hash_of(name: &[u8]) -> u64 {
    xxh3_64(name)
}

/// Adds up weights, without leaving what floats can hold.
fn sum(weights: impl Iterator<Item = f64>) -> f64 {
    weights.sum::<f64>().clamp(f64::MIN, f64::MAX)
}

impl Factors {
    /// Learns from a sample.
    ///
    /// Holds three matrices of items by somewhat more than `dimension` numbers beside the sample. Takes time in proportion to entries times
    /// dimension, and to items times the square of the dimension.
    ///
    /// # Errors
    /// [`FactorError`].
    ///
    /// # Panics
    /// If the dimension is 0.
    pub fn learn(setting: &Setting<'_>, sample: Sample) -> Result<Factors, FactorError> {
        let dimension = setting.dimension;
        assert!(dimension > 0, "a vector has numbers");
        let directions = decomposition::directions(dimension);
        let items_max = ITEMS_MAX.min(NUMBERS_MAX / directions).max(directions);
        let Sampled { users, one_of, mut entries, items, items_left_out } = sample.finish(items_max);
        if users == 0 {
            return Err(FactorError::Empty);
        }
        // Below, weights become logarithms, which add up without any limit.
        let mean = entries.values().map(|weight| weight.ln()).sum::<f64>() / entries.len() as f64;
        let damping = Damping { mean };
        let rarity: Vec<f64> = items.iter().map(|item| (users as f64 / f64::from(item.users)).ln_1p()).collect();
        entries.scale_rows(|item, weight| damping.entry(weight) * rarity[item as usize]);
        let found = decompose(setting, &entries)?;
        if found.rank < dimension {
            let (wanted, rank) = (dimension, found.rank);
            return Err(FactorError::Dimension { wanted, rank, items: items.len(), users });
        }
        let first = found.values[0];
        let stretch = found.values.iter().map(|value| (first / value).sqrt() as f32).collect();
        let all = entries.squares();
        let held: f64 = found.values.iter().map(|value| value * value).sum();
        let learned =
            Learned { users, one_of, items: items.len(), items_left_out, explained: (held / all).clamp(0.0, 1.0) };
        let places = items.iter().zip(0..).map(|(item, place)| (item.hash, place)).collect();
        Ok(Factors { dimension, places, damping, rarity, items: found.items, stretch, learned })
    }

    /// What they were learned from.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// The place of the item of this name; `None` if it was not learned.
    pub fn item(&self, name: &[u8]) -> Option<u32> {
        self.places.get(&hash_of(name)).copied()
    }

    /// Folds a user in: writes the user's vector into `out`, whose numbers are finite; its length is that of the user's row, one, less
    /// what the dimensions do not hold and more where they stretch it. False if the user has no vector: no item that was learned with
    /// a weight above zero, or none that the dimensions hold. `deals` are in any order, and are used up.
    ///
    /// # Panics
    /// If `out` has another length than there are dimensions, or an item was not learned here.
    pub fn vector(&self, deals: &mut Vec<Deal>, out: &mut [f32]) -> bool {
        assert_eq!(out.len(), self.dimension, "a number a dimension");
        Deal::add_up(deals);
        let mut sums = vec![0.0_f64; self.dimension];
        let mut squares = 0.0;
        for Deal { item, weight } in deals.drain(..) {
            let item = item as usize;
            if weight <= 0.0 {
                continue;
            }
            let entry = self.damping.entry(weight) * self.rarity[item];
            squares += entry * entry;
            let numbers = &self.items[item * self.dimension..][..self.dimension];
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += entry * f64::from(*number));
        }
        let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        if squares <= 0.0 || length < LENGTH_MIN * squares.sqrt() {
            return false;
        }
        let row = squares.sqrt();
        for ((out, sum), stretch) in out.iter_mut().zip(&sums).zip(&self.stretch) {
            *out = (sum / row) as f32 * stretch;
        }
        true
    }
}
