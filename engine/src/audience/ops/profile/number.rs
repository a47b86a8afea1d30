//! What a profile tells of a number tag.

use super::difference::{Difference, Part, distance_significance};
use super::{Distinguishing, Profile, Saying, Sides};
use crate::audience::ops::number::{at_ranks, range_counts, sum};
use crate::audience::ops::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::bitmap::bsi::NumberRange;
use crate::ids::TagId;
use crate::store::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// A number tag over an audience; in the tag's unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberProfile {
    /// Members with a number.
    pub count: u64,
    /// Members without.
    pub unknown: u64,
    /// Sum of the numbers; 128 bits, so it cannot overflow.
    pub sum: i128,
    /// Least number.
    pub min: Option<i64>,
    /// Greatest number.
    pub max: Option<i64>,
    /// The number at each quantile `q`: the least `x` with at least `ceil(q * count)` numbers `<= x`.
    pub quantiles: Vec<(f64, i64)>,
    /// Bins of equal width from the audience's least to its greatest number: from, to (inclusive), count, baseline count.
    pub histogram: Vec<(i64, i64, u64, u64)>,
    /// Baseline members with a number.
    pub baseline_count: u64,
    /// Sum of the baseline's numbers.
    pub baseline_sum: i128,
    /// Least number of the baseline.
    pub baseline_min: Option<i64>,
    /// Greatest number of the baseline.
    pub baseline_max: Option<i64>,
    /// The baseline's quantiles.
    pub baseline_quantiles: Vec<(f64, i64)>,
    /// Baseline members whose number is below the histogram.
    pub baseline_below: u64,
    /// Baseline members whose number is above the histogram.
    pub baseline_above: u64,
    /// Where audience and rest differ most; `None` if one of them has no numbers.
    pub cut: Option<Cut>,
}

/// Where the distributions of audience and rest are farthest apart, of the places looked at: the quantiles of audience and baseline,
/// and the ends of bins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// The number.
    pub at: i64,
    /// Audience members whose number is at most that, of those with a number.
    pub audience: Part,
    /// The same of the rest.
    pub rest: Part,
    /// Baseline members whose number is at most that.
    pub baseline_count: u64,
    /// How surely the distributions differ, and how far at this place; `distinction` is above 0 if the audience has more small numbers.
    pub difference: Difference,
}

/// The quantiles a profile tells.
const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];
/// Bins of a histogram.
const BINS: i128 = 20;

pub(super) fn profile(
    snapshot: &Snapshot,
    sides: &Sides<'_>,
    tag: TagId,
    profile: &Profile,
    context: &QueryContext,
) -> Result<NumberProfile, QueryError> {
    let own = Spread::of(snapshot, sides.audience, tag, context)?;
    let baseline = match sides.baseline == sides.audience {
        true => own.clone(),
        false => Spread::of(snapshot, sides.baseline, tag, context)?,
    };
    let mut told = NumberProfile {
        count: own.count,
        unknown: profile.count - own.count,
        sum: own.sum,
        min: own.min,
        max: own.max,
        baseline_count: baseline.count,
        baseline_sum: baseline.sum,
        baseline_min: baseline.min,
        baseline_max: baseline.max,
        ..NumberProfile::default()
    };
    if let (Some(min), Some(max)) = (own.min, own.max) {
        let bins = bins(min, max);
        let quantiles = own.quantiles.iter().chain(&baseline.quantiles).map(|(_, number)| *number);
        let before = bins.first().and_then(|bin| bin.min.checked_sub(1));
        let places: BTreeSet<i64> = quantiles.chain(bins.iter().map(|bin| bin.max)).chain(before).collect();
        let up_to = |predicate| up_to(snapshot, predicate, tag, &places, context);
        let (up_to_own, up_to_baseline, up_to_outside) =
            (up_to(sides.audience)?, up_to(sides.baseline)?, up_to(&sides.outside)?);
        let within = |counts: &UpTo, bin: &NumberRange| {
            counts.at[&bin.max] - bin.min.checked_sub(1).map_or(0, |before| counts.at[&before])
        };
        let cell = |bin: &NumberRange| (bin.min, bin.max, within(&up_to_own, bin), within(&up_to_baseline, bin));
        told.histogram = bins.iter().map(cell).collect();
        told.baseline_below = before.map_or(0, |before| up_to_baseline.at[&before]);
        told.baseline_above = baseline.count - up_to_baseline.at[&max];
        told.cut = cut(&up_to_own, &up_to_baseline, &up_to_outside);
    }
    (told.quantiles, told.baseline_quantiles) = (own.quantiles, baseline.quantiles);
    Ok(told)
}

impl NumberProfile {
    /// What the audience has more of: small numbers or great ones.
    pub(super) fn saying(&self, tag: TagId) -> Option<Distinguishing> {
        let Cut { at, audience, baseline_count, mut difference, .. } = self.cut?;
        let is_small = difference.distinction >= 0.0;
        difference.distinction = difference.distinction.abs();
        let (is, count, baseline_count) = match is_small {
            true => (Saying::AtMost(at), audience.count, baseline_count),
            false => (Saying::Above(at), audience.of - audience.count, self.baseline_count - baseline_count),
        };
        Some(Distinguishing { tag, is, count, baseline_count, difference })
    }
}

/// The numbers of some users.
#[derive(Clone, Default)]
struct Spread {
    count: u64,
    sum: i128,
    min: Option<i64>,
    max: Option<i64>,
    quantiles: Vec<(f64, i64)>,
}

impl Spread {
    fn of(
        snapshot: &Snapshot,
        predicate: &Predicate,
        tag: TagId,
        context: &QueryContext,
    ) -> Result<Spread, QueryError> {
        let total = sum(snapshot, predicate, tag, context)?;
        let mut spread = Spread { count: total.count, sum: total.sum, ..Spread::default() };
        if total.count > 0 {
            let rank = |q: f64| ((q * total.count as f64).ceil() as u64).clamp(1, total.count);
            let ranks: BTreeSet<u64> = QUANTILES.iter().map(|q| rank(*q)).chain([1, total.count]).collect();
            let numbers = at_ranks(snapshot, predicate, tag, &ranks, context)?;
            (spread.min, spread.max) = (Some(numbers[&1]), Some(numbers[&total.count]));
            spread.quantiles = QUANTILES.iter().map(|q| (*q, numbers[&rank(*q)])).collect();
        }
        Ok(spread)
    }
}

/// How many numbers there are up to some places.
struct UpTo {
    at: BTreeMap<i64, u64>,
    total: u64,
}

fn up_to(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    places: &BTreeSet<i64>,
    context: &QueryContext,
) -> Result<UpTo, QueryError> {
    // From one place to the next, and behind the last one.
    let starts = [Some(i64::MIN)].into_iter().chain(places.iter().map(|place| place.checked_add(1)));
    let ends = places.iter().copied().chain([i64::MAX]);
    let ranges: Vec<NumberRange> =
        starts.zip(ends).filter_map(|(min, max)| min.map(|min| NumberRange { min, max })).collect();
    let mut total = 0;
    let counts: Vec<u64> = match predicate {
        Predicate::Nobody => vec![0; ranges.len()],
        _ => range_counts(snapshot, predicate, tag, &ranges, context)?,
    };
    let mut at = BTreeMap::new();
    for (range, count) in ranges.iter().zip(counts) {
        total += count;
        at.insert(range.max, total);
    }
    at.retain(|place, _| places.contains(place));
    Ok(UpTo { at, total })
}

/// See [`Cut`].
fn cut(own: &UpTo, baseline: &UpTo, outside: &UpTo) -> Option<Cut> {
    let rest = |own: u64, baseline: u64, outside: u64| baseline.saturating_sub(own - outside);
    let rest_total = rest(own.total, baseline.total, outside.total);
    let mut best: Option<(f64, Cut)> = None;
    for (place, count) in &own.at {
        let audience = Part { count: *count, of: own.total };
        let rest = Part { count: rest(*count, baseline.at[place], outside.at[place]), of: rest_total };
        let distance = (audience.share() - rest.share()).abs();
        if best.as_ref().is_none_or(|(farthest, _)| distance > *farthest) {
            let p_value = distance_significance(distance, [own.total, rest_total])?;
            // Corrected when all tags are known.
            let difference = Difference { p_value, q_value: p_value, distinction: 0.0 };
            best = Some((distance, Cut { at: *place, audience, rest, baseline_count: baseline.at[place], difference }));
        }
    }
    best.map(|(_, cut)| cut)
}

/// Bins of equal width (the last may be narrower) that cover `min..=max`.
fn bins(min: i64, max: i64) -> Vec<NumberRange> {
    let (low, high) = (i128::from(min), i128::from(max));
    let width = (high - low) / BINS + 1;
    let starts = (0..BINS).map(|bin| low + bin * width).take_while(|start| *start <= high);
    starts.map(|start| NumberRange { min: start as i64, max: (start + width - 1).min(high) as i64 }).collect()
}
