//! How an audience is spread over the values of tags, against a baseline.

use super::number::{at_ranks, range_counts, sum};
use super::resolve::resolve_each;
use super::run::run;
use super::values::TagValues;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::bitmap::bsi::NumberRange;
use crate::bitmap::count_each::{CountEach, GroupCounts};
use crate::catalog::TagType;
use crate::ids::TagId;
use crate::store::Snapshot;
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
    let mut groups: Vec<TagValues> = Vec::new();
    for tag in by {
        match tag_type(tag) {
            None => return Err(QueryError::Invalid(format!("there is no tag {tag}"))),
            Some(TagType::Number(_)) => {}
            Some(_) => groups.push(TagValues::new(snapshot, *tag)?),
        }
    }
    let [predicate, against] = &resolve_each(snapshot, [predicate, against], context)?;
    let counted = count_groups(snapshot, predicate, against, &groups, context)?;
    let mut profile = Profile { count: counted.audience.size, baseline_count: counted.baseline.size, tags: Vec::new() };
    for tag in by {
        let told = match groups.iter().position(|group| group.tag() == *tag) {
            Some(index) => values_profile(&groups[index], &counted, index),
            None => {
                TagProfile::Number(Box::new(number_profile(snapshot, predicate, *tag, against, &profile, context)?))
            }
        };
        profile.tags.push((*tag, told));
    }
    Ok(profile)
}

/// Counts of a set of users.
#[derive(Default)]
struct Counted {
    size: u64,
    /// As the groups.
    groups: Vec<GroupCounts>,
}

#[derive(Default)]
struct BothCounted {
    audience: Counted,
    baseline: Counted,
}

fn count_groups(
    snapshot: &Snapshot,
    predicate: &Predicate,
    against: &Predicate,
    groups: &[TagValues],
    context: &QueryContext,
) -> Result<BothCounted, QueryError> {
    let parts = run(snapshot, &[predicate, against], context, |task| {
        let [audience, baseline] = &mut task.evaluators()[..] else { unreachable!("two predicates were given") };
        let shard = &snapshot.shards()[task.shard];
        let mut each = CountEach::new();
        for group in groups {
            each.group(group.targets(shard)?.iter().map(Vec::as_slice), group.is_exclusive());
        }
        let zeros = || Counted { size: 0, groups: each.zeros() };
        let mut both = BothCounted { audience: zeros(), baseline: zeros() };
        for chunk in &task.chunks {
            context.check()?;
            for (evaluator, counted) in [(&mut *audience, &mut both.audience), (&mut *baseline, &mut both.baseline)] {
                let members = evaluator.members(*chunk);
                counted.size += u64::from(members.len());
                each.add(*chunk, members, &mut counted.groups);
            }
        }
        Ok(both)
    })?;
    let zeros = || {
        let zeros = |group: &TagValues| GroupCounts { each: vec![0; group.target_count()], any: 0 };
        Counted { size: 0, groups: groups.iter().map(zeros).collect() }
    };
    let mut total = BothCounted { audience: zeros(), baseline: zeros() };
    for part in &parts {
        for (sum, part) in [(&mut total.audience, &part.audience), (&mut total.baseline, &part.baseline)] {
            sum.size += part.size;
            sum.groups.iter_mut().zip(&part.groups).for_each(|(sum, part)| sum.add(part));
        }
    }
    Ok(total)
}

fn values_profile(group: &TagValues, counted: &BothCounted, index: usize) -> TagProfile {
    let (own, baseline) = (&counted.audience.groups[index], &counted.baseline.groups[index]);
    let unknown = counted.audience.size - own.any;
    let baseline_unknown = counted.baseline.size - baseline.any;
    let cell = |value: &str, count, baseline_count| ValueCount { value: value.to_owned(), count, baseline_count };
    let (mut values, unknown, baseline_unknown) = if group.tag_type() == TagType::Flag {
        // Never unknown: who does not have it is known not to.
        (vec![cell("true", own.any, baseline.any), cell("false", unknown, baseline_unknown)], 0, 0)
    } else {
        let cells = group.values().zip(&own.each).zip(&baseline.each);
        let cells = cells.filter(|((_, count), baseline_count)| *count + *baseline_count > 0);
        let cells = cells
            .map(|((value, count), baseline_count)| cell(&String::from_utf8_lossy(value), *count, *baseline_count));
        (cells.collect(), unknown, baseline_unknown)
    };
    values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    TagProfile::Values { values, unknown, baseline_unknown }
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
