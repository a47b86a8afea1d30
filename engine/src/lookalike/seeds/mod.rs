//! From example users to a scorer.
//!
//! Three methods, from plain to elaborate: the *mean* of the examples; *prototypes*, the centres of as many clusters as find
//! hidden examples best; and a *linear* model, trained to tell the examples from a random background. Unless one is asked for,
//! the choice is measured: a tenth of the examples is hidden, each method learns from the rest, and the one that ranks the hidden
//! ones highest among users of the background (area under the curve, on a half of the background that no method saw) then learns
//! from all. A more elaborate one must be better by more than chance moves the figure.

mod gather;
mod kmeans;
mod linear;

#[cfg(test)]
mod tests;

pub use gather::{Gathered, gather};

use super::quality::area_under_curve;
use super::random::Random;
use super::recall::RecallError;
use super::scorer::{PROTOTYPES_MAX, Scorer};
use super::vector::{Metric, VectorError};
use crate::error::Class;
use rayon::prelude::*;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// More examples, or users of the background, than this are sampled; of many dimensions fewer: see [`examples_max`].
pub const EXAMPLES_MAX: usize = 20_000;
/// The most numbers of their vectors, so that what is learned from stays within some dozens of megabytes.
const NUMBERS_MAX: usize = 1 << 23;
/// So many are learned from while ways are tried: what is tried is to be told apart, not to be the answer.
const TRIED_EXAMPLES: usize = 4_000;
/// Fewer examples are too few to hide some of them.
const HIDDEN_FROM: usize = 20;
/// Examples a prototype has on average, at least.
const PER_PROTOTYPE: usize = 8;
/// The most prototypes that are tried unasked.
const TRIED_MAX: usize = 64;

/// As many examples as are learned from.
pub fn examples_max(dimension: usize) -> usize {
    EXAMPLES_MAX.min(NUMBERS_MAX / dimension)
}

/// How a scorer is made of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Similarity to their mean.
    Mean,
    /// Similarity to the nearest of this many centres of clusters.
    Prototypes(usize),
    /// A regularised logistic regression against the background.
    Linear,
}

impl Method {
    /// What [`Method::prototypes`] asks for.
    pub const PROTOTYPES_RULE: &'static str = "between 1 and 256 prototypes can be had";

    /// So many centres; `None` if there are none or too many.
    pub fn prototypes(count: usize) -> Option<Method> {
        (1..=PROTOTYPES_MAX).contains(&count).then_some(Method::Prototypes(count))
    }
}

const _: () = assert!(PROTOTYPES_MAX == 256, "the rule says so");

/// As an option of the audience language: `method => 'mean'`, `prototypes => 8`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::Mean => f.write_str("method => 'mean'"),
            Method::Prototypes(count) => write!(f, "prototypes => {count}"),
            Method::Linear => f.write_str("method => 'linear'"),
        }
    }
}

/// A scorer, and how it was chosen.
#[derive(Clone, Debug)]
pub struct Learned {
    /// Scores by similarity to the examples.
    pub scorer: Scorer,
    /// How it was made.
    pub method: Method,
    /// Each method that was tried and the area under the curve that it reached on hidden examples; empty if there were too few of
    /// them, or a method was asked for.
    pub tried: Vec<(Method, f64)>,
}

/// Vectors of a space as they are compared ([`super::vector::checked`]), one behind the other, with weights above zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// Numbers of all vectors.
    pub vectors: Vec<f32>,
    /// One a vector; none at all: all count the same.
    pub weights: Vec<f32>,
}

/// Why nothing can be learned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SeedError {
    /// No example has a vector.
    #[error("none of the seed's users has a vector in this space; load vectors for them, or choose another seed")]
    Empty,
    /// A linear model has nothing to tell the examples from.
    #[error("a linear model needs a background, but nobody outside the seed has a vector; choose prototypes")]
    NoBackground,
    /// Another number of prototypes than can be.
    #[error("{found} prototypes are asked for; between 1 and {PROTOTYPES_MAX} can be had")]
    Prototypes {
        /// What is asked for.
        found: usize,
    },
    /// A weight is not a number above zero.
    #[error("example {index} (counted from 0) has the weight {value}; weights are finite and above 0")]
    Weight {
        /// Which of the examples.
        index: usize,
        /// Its weight.
        value: f32,
    },
    /// What came out has no direction, or is otherwise no vector of the space: the examples cancel each other out.
    #[error("the seed's users have nothing in common in this space; choose prototypes")]
    Scorer(#[from] VectorError),
    /// The vectors could not be read, or the caller gave up.
    #[error(transparent)]
    Recall(#[from] RecallError),
}

impl SeedError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            SeedError::Recall(error) => error.class(),
            _ => Class::Invalid,
        }
    }
}

impl Examples {
    /// How many there are.
    pub fn len(&self, dimension: usize) -> usize {
        self.vectors.len() / dimension
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    fn weight(&self, index: usize) -> f32 {
        self.weights.get(index).copied().unwrap_or(1.0)
    }

    /// Those at these places.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn choose(&self, dimension: usize, places: &[usize]) -> Examples {
        let row = |place: &usize| &self.vectors[place * dimension..][..dimension];
        let vectors = places.iter().flat_map(row).copied().collect();
        let weights =
            if self.weights.is_empty() { Vec::new() } else { places.iter().map(|at| self.weight(*at)).collect() };
        Examples { vectors, weights }
    }
}

/// What learning is done in, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'s> {
    /// The space's.
    pub metric: Metric,
    /// The space's.
    pub dimension: usize,
    /// The same number gives the same scorer.
    pub random_seed: u64,
    /// Set to end learning with [`RecallError::Cancelled`].
    pub cancelled: &'s AtomicBool,
}

impl Setting<'_> {
    fn look(&self) -> Result<(), SeedError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(RecallError::Cancelled.into()) } else { Ok(()) }
    }
}

/// Learns a scorer from examples, by `method` or by the one that measures best; `background` are users of whom few are examples.
///
/// # Errors
/// [`SeedError`] if there are no examples, the method cannot work with what there is, or it is cancelled.
///
/// # Panics
/// If the vectors are not of the setting's dimension.
pub fn learn(
    setting: &Setting<'_>,
    examples: &Examples,
    background: &Examples,
    method: Option<Method>,
) -> Result<Learned, SeedError> {
    let dimension = setting.dimension;
    assert!(examples.vectors.len().is_multiple_of(dimension), "whole vectors");
    assert!(background.vectors.len().is_multiple_of(dimension), "whole vectors");
    if examples.vectors.is_empty() {
        return Err(SeedError::Empty);
    }
    if let Some(index) = examples.weights.iter().position(|weight| !(weight.is_finite() && *weight > 0.0)) {
        return Err(SeedError::Weight { index, value: examples.weights[index] });
    }
    if let Some(method) = method {
        return Ok(Learned { scorer: make(setting, examples, background, method)?, method, tried: Vec::new() });
    }
    let tried = tried(setting, examples, background)?;
    let method = chosen(&tried, examples.len(dimension)).unwrap_or(Method::Mean);
    let learned = make(setting, examples, background, method);
    match learned {
        // Opposites have no mean, but centres.
        Err(SeedError::Scorer(_)) => {
            let method = Method::Prototypes(examples.len(dimension).min(2));
            Ok(Learned { scorer: make(setting, examples, background, method)?, method, tried })
        }
        learned => Ok(Learned { scorer: learned?, method, tried }),
    }
}

/// Examples by their places, those that are learned from and those that are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Not learned from.
    pub hidden: Vec<usize>,
    /// The others.
    pub known: Vec<usize>,
}

/// Hides a random tenth of so many examples; `None` if they are too few.
pub fn hide(count: usize, random_seed: u64) -> Option<Split> {
    split(count, count / 10, random_seed ^ 1)
}

/// Hides a half of so many users of the background; `None` if they are too few.
pub fn halve(count: usize, random_seed: u64) -> Option<Split> {
    split(count, count / 2, random_seed ^ 2)
}

fn split(count: usize, hidden: usize, random_seed: u64) -> Option<Split> {
    if count < HIDDEN_FROM {
        return None;
    }
    let mut places: Vec<usize> = (0..count).collect();
    Random::new(random_seed).shuffle(&mut places);
    let known = places.split_off(hidden);
    Some(Split { hidden: places, known })
}

/// The area under the curve on hidden examples, of each method that can be tried.
fn tried(setting: &Setting<'_>, examples: &Examples, background: &Examples) -> Result<Vec<(Method, f64)>, SeedError> {
    let dimension = setting.dimension;
    let (count, around) = (examples.len(dimension), background.len(dimension));
    let (Some(mut places), Some(mut around)) = (hide(count, setting.random_seed), halve(around, setting.random_seed))
    else {
        return Ok(Vec::new());
    };
    places.known.truncate(TRIED_EXAMPLES);
    around.known.truncate(TRIED_EXAMPLES);
    let (hidden, known) = (examples.choose(dimension, &places.hidden), examples.choose(dimension, &places.known));
    let measured = background.choose(dimension, &around.hidden);
    let trained = background.choose(dimension, &around.known);
    let counts = std::iter::successors(Some(2), |count| Some(count * 2));
    let counts = counts.take_while(|count| *count <= TRIED_MAX && count * PER_PROTOTYPE <= known.len(dimension));
    let methods = [Method::Mean].into_iter().chain(counts.map(Method::Prototypes)).chain([Method::Linear]);
    let measure = |method: Method| {
        let scorer = match make(setting, &known, &trained, method) {
            Err(SeedError::Scorer(_)) => return Ok(None),
            scorer => scorer?,
        };
        let score = |of: &Examples| -> Vec<f32> {
            of.vectors.chunks_exact(dimension).map(|vector| scorer.score(vector)).collect()
        };
        Ok(area_under_curve(&score(&hidden), &score(&measured)).map(|area| (method, area)))
    };
    let methods: Vec<Method> = methods.collect();
    let tried: Result<Vec<_>, SeedError> = methods.into_par_iter().map(measure).collect();
    Ok(tried?.into_iter().flatten().collect())
}

/// The best, or the first that is as good but for chance.
fn chosen(tried: &[(Method, f64)], examples: usize) -> Option<Method> {
    let best = tried.iter().map(|(_, area)| *area).max_by(f64::total_cmp)?;
    // Half the standard error of an area over so many hidden ones, at most (Hanley and McNeil 1982).
    let chance = 0.5 * (best * (1.0 - best) / (examples / 10).max(1) as f64).sqrt();
    tried.iter().find(|(_, area)| *area >= best - chance).map(|(method, _)| *method)
}

fn make(
    setting: &Setting<'_>,
    examples: &Examples,
    background: &Examples,
    method: Method,
) -> Result<Scorer, SeedError> {
    setting.look()?;
    let (metric, dimension) = (setting.metric, setting.dimension);
    match method {
        Method::Mean => Ok(Scorer::nearest(metric, dimension, &kmeans::centres(setting, examples, 1)?)?),
        Method::Prototypes(count) if (1..=PROTOTYPES_MAX).contains(&count) => {
            Ok(Scorer::nearest(metric, dimension, &kmeans::centres(setting, examples, count)?)?)
        }
        Method::Prototypes(found) => Err(SeedError::Prototypes { found }),
        Method::Linear if background.vectors.is_empty() => Err(SeedError::NoBackground),
        Method::Linear => Ok(Scorer::linear(metric, dimension, &linear::weights(setting, examples, background)?)?),
    }
}
