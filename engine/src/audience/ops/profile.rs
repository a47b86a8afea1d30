//! How an audience is spread over the values of tags, against a baseline.

use super::number::{at_ranks, range_counts, sum};
use super::run::run;
use super::{QueryContext, QueryError};
use crate::audience::plan::{exclusive, value_layers};
use crate::audience::predicate::Predicate;
use crate::bitmap::bsi::NumberRange;
use crate::bitmap::count_each::CountEach;
use crate::bitmap::program::Layer;
use crate::catalog::TagType;
use crate::error::ReadError;
use crate::ids::TagId;
use crate::segment::Part;
use crate::store::{ShardSnapshot, Snapshot};
use std::collections::BTreeSet;

/// What is told of one tag in a profile.
#[derive(Clone, Debug, PartialEq)]
pub enum TagProfile {
    /// `set`, `enum`, `flag` (values `true` and `false`): per value, most frequent first.
    Values {
        /// The cells.
        values: Vec<ValueCount>,
        /// Audience members for whom the tag is NULL (`enum`) or empty (`set`).
        unknown: u64,
        /// The same in the baseline.
        baseline_unknown: u64,
    },
    /// `number`.
    Number(Box<NumberProfile>),
}

/// One cell of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueCount {
    /// The tag value.
    pub value: String,
    /// Audience members with it.
    pub count: u64,
    /// Baseline members with it.
    pub baseline_count: u64,
}

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
    /// Bins of equal width: from, to (inclusive), count, baseline count.
    pub histogram: Vec<(i64, i64, u64, u64)>,
    /// Baseline members with a number.
    pub baseline_count: u64,
    /// Sum of the baseline's numbers.
    pub baseline_sum: i128,
}

/// A profile: the audience against a baseline, tag by tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Audience size.
    pub count: u64,
    /// Baseline size.
    pub baseline_count: u64,
    /// In the order asked.
    pub tags: Vec<(TagId, TagProfile)>,
}

/// The quantiles a profile tells.
const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];
/// Bins of a histogram.
const BINS: i128 = 20;

/// How the audience is spread over the values of the tags `by`, against a baseline. All values of all tags are counted in one
/// pass.
///
/// # Errors
/// [`QueryError`].
pub fn profile(
    snapshot: &Snapshot,
    predicate: &Predicate,
    by: &[TagId],
    against: &Predicate,
    context: &QueryContext,
) -> Result<Profile, QueryError> {
    let tag_type =
        |tag: &TagId| snapshot.catalog().tags().find(|(_, known)| known.id == *tag).map(|(_, known)| known.tag_type);
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for tag in by {
        match tag_type(tag) {
            None => return Err(QueryError::Invalid(format!("there is no tag {tag}"))),
            Some(TagType::Number(_)) => {}
            Some(tag_type) => cells.extend(cells_of(snapshot, *tag, tag_type)),
        }
    }
    let (count, baseline_count, counts) = count_cells(snapshot, predicate, against, &cells, context)?;
    let mut profile = Profile { count, baseline_count, tags: Vec::new() };
    for tag in by {
        let told = match tag_type(tag) {
            Some(TagType::Number(_)) => {
                TagProfile::Number(Box::new(number_profile(snapshot, predicate, *tag, against, &profile, context)?))
            }
            Some(TagType::Set) => {
                let mut told = values_profile(&profile, *tag, &cells, &counts);
                count_empty(snapshot, [predicate, against], *tag, &mut told, &profile, context)?;
                told
            }
            _ => values_profile(&profile, *tag, &cells, &counts),
        };
        profile.tags.push((*tag, told));
    }
    Ok(profile)
}

/// Something to count: a value of a tag, or (without a value) the users who have one.
struct Cell<'s> {
    tag: TagId,
    tag_type: TagType,
    value: Option<&'s [u8]>,
}

impl Cell<'_> {
    fn layers<'p>(&self, shard: &'p ShardSnapshot) -> Result<Vec<Layer<'p>>, ReadError> {
        match self.value {
            Some(value) => value_layers(shard.layers(), self.tag_type == TagType::Set, self.tag, value),
            None => exclusive(shard.layers(), self.tag, Part::Exists),
        }
    }
}

fn cells_of(snapshot: &Snapshot, tag: TagId, tag_type: TagType) -> Vec<Cell<'_>> {
    let parts = snapshot.shards().iter().flat_map(|shard| shard.layers()).flat_map(|segment| segment.parts(tag));
    let values: BTreeSet<&[u8]> =
        parts.filter_map(|(part, _)| if let Part::Value(value) = part { Some(value) } else { None }).collect();
    let mut cells: Vec<Cell<'_>> = values.into_iter().map(|value| Cell { tag, tag_type, value: Some(value) }).collect();
    if tag_type != TagType::Set {
        cells.push(Cell { tag, tag_type, value: None });
    }
    cells
}

/// Audience size, baseline size, and both counts of every cell.
#[expect(clippy::type_complexity, reason = "a local result, taken apart at once")]
fn count_cells(
    snapshot: &Snapshot,
    predicate: &Predicate,
    against: &Predicate,
    cells: &[Cell<'_>],
    context: &QueryContext,
) -> Result<(u64, u64, Vec<(u64, u64)>), QueryError> {
    let parts = run(snapshot, &[predicate, against], context, |task| {
        let [audience, baseline] = &mut task.evaluators()[..] else { unreachable!("two predicates were given") };
        let shard = &snapshot.shards()[task.shard];
        let targets: Result<Vec<_>, _> = cells.iter().map(|cell| cell.layers(shard)).collect();
        let targets = targets?;
        let mut each = CountEach::new(targets.iter().map(Vec::as_slice));
        let mut sizes = (0, 0);
        let (mut counts, mut baseline_counts) = (vec![0; cells.len()], vec![0; cells.len()]);
        for chunk in &task.chunks {
            context.check()?;
            let members = audience.members(*chunk);
            sizes.0 += u64::from(members.len());
            each.add(*chunk, members, &mut counts);
            let members = baseline.members(*chunk);
            sizes.1 += u64::from(members.len());
            each.add(*chunk, members, &mut baseline_counts);
        }
        Ok((sizes, counts, baseline_counts))
    })?;
    let mut total = vec![(0, 0); cells.len()];
    let mut sizes = (0, 0);
    for (size, counts, baseline_counts) in parts {
        sizes = (sizes.0 + size.0, sizes.1 + size.1);
        for ((sum, count), baseline) in total.iter_mut().zip(counts).zip(baseline_counts) {
            *sum = (sum.0 + count, sum.1 + baseline);
        }
    }
    Ok((sizes.0, sizes.1, total))
}

fn values_profile(profile: &Profile, tag: TagId, cells: &[Cell<'_>], counts: &[(u64, u64)]) -> TagProfile {
    let own = || cells.iter().zip(counts).filter(|(cell, _)| cell.tag == tag);
    let mut values: Vec<ValueCount> = own()
        .filter_map(|(cell, (count, baseline_count))| {
            let value = String::from_utf8_lossy(cell.value?).into_owned();
            Some(ValueCount { value, count: *count, baseline_count: *baseline_count })
        })
        .filter(|cell| cell.count + cell.baseline_count > 0)
        .collect();
    let known = own().find(|(cell, _)| cell.value.is_none()).map(|(cell, counts)| (cell.tag_type, *counts));
    let (mut unknown, mut baseline_unknown) = (0, 0);
    match known {
        Some((TagType::Flag, (yes, baseline_yes))) => {
            let cell =
                |value: &str, count, baseline_count| ValueCount { value: value.to_owned(), count, baseline_count };
            values.push(cell("true", yes, baseline_yes));
            values.push(cell("false", profile.count - yes, profile.baseline_count - baseline_yes));
        }
        Some((_, (known, baseline_known))) => {
            unknown = profile.count - known;
            baseline_unknown = profile.baseline_count - baseline_known;
        }
        None => {}
    }
    values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    TagProfile::Values { values, unknown, baseline_unknown }
}

/// Fills in how many members of audience and baseline have no value of a `set`.
fn count_empty(
    snapshot: &Snapshot,
    of: [&Predicate; 2],
    tag: TagId,
    told: &mut TagProfile,
    profile: &Profile,
    context: &QueryContext,
) -> Result<(), QueryError> {
    let TagProfile::Values { values, unknown, baseline_unknown } = told else { return Ok(()) };
    let any = Predicate::HasAny(tag, values.iter().map(|cell| cell.value.clone()).collect());
    let with_any = |predicate: &Predicate| {
        let both = Predicate::And(vec![predicate.clone(), any.clone()]).canonical();
        super::count(snapshot, &both, context)
    };
    *unknown = profile.count - with_any(of[0])?;
    *baseline_unknown = profile.baseline_count - with_any(of[1])?;
    Ok(())
}

fn number_profile(
    snapshot: &Snapshot,
    predicate: &Predicate,
    tag: TagId,
    against: &Predicate,
    profile: &Profile,
    context: &QueryContext,
) -> Result<NumberProfile, QueryError> {
    let own = sum(snapshot, predicate, tag, context)?;
    let baseline = sum(snapshot, against, tag, context)?;
    let mut told = NumberProfile {
        count: own.count,
        unknown: profile.count - own.count,
        sum: own.sum,
        baseline_count: baseline.count,
        baseline_sum: baseline.sum,
        ..NumberProfile::default()
    };
    if own.count == 0 {
        return Ok(told);
    }
    let rank = |q: f64| ((q * own.count as f64).ceil() as u64).clamp(1, own.count);
    let ranks: BTreeSet<u64> = QUANTILES.iter().map(|q| rank(*q)).chain([1, own.count]).collect();
    let numbers = at_ranks(snapshot, predicate, tag, &ranks, context)?;
    let (min, max) = (numbers[&1], numbers[&own.count]);
    told.min = Some(min);
    told.max = Some(max);
    told.quantiles = QUANTILES.iter().map(|q| (*q, numbers[&rank(*q)])).collect();
    let bins = bins(min, max);
    let counts = range_counts(snapshot, predicate, tag, &bins, context)?;
    let baseline_counts = range_counts(snapshot, against, tag, &bins, context)?;
    let cells = bins.iter().zip(counts).zip(baseline_counts);
    told.histogram = cells.map(|((bin, count), baseline)| (bin.min, bin.max, count, baseline)).collect();
    Ok(told)
}

/// Bins of equal width (the last may be narrower) that cover `min..=max`.
fn bins(min: i64, max: i64) -> Vec<NumberRange> {
    let (low, high) = (i128::from(min), i128::from(max));
    let width = (high - low) / BINS + 1;
    let starts = (0..BINS).map(|bin| low + bin * width).take_while(|start| *start <= high);
    starts.map(|start| NumberRange { min: start as i64, max: (start + width - 1).min(high) as i64 }).collect()
}

/// How surely a value's share in the audience differs from its share in the baseline: the two-sided p-value of a test of two
/// proportions. The audience is taken as a sample of the baseline's kind.
///
/// Source: the pooled z-test; the normal tail by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7).
pub fn significance(count: u64, size: u64, baseline_count: u64, baseline_size: u64) -> Option<f64> {
    if size == 0 || baseline_size == 0 {
        return None;
    }
    let [count, size, baseline_count, baseline_size] =
        [count, size, baseline_count, baseline_size].map(|number| number as f64);
    let pooled = (count + baseline_count) / (size + baseline_size);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / size + 1.0 / baseline_size)).sqrt();
    if deviation == 0.0 {
        return Some(1.0);
    }
    let z = ((count / size - baseline_count / baseline_size) / deviation).abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = series.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    Some((tail * (-z * z).exp()).clamp(0.0, 1.0))
}
