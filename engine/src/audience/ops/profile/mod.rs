//! How an audience is spread over the values of tags, against a baseline, and what distinguishes it.
//!
//! All values of all tags are counted in one pass over the chunks. The audience is compared with the rest of the baseline
//! ([`difference`]), whose counts follow from those of audience and baseline; only where the audience reaches beyond the baseline, its
//! members outside are counted too.
//!
//! * [`number`]: quantiles, histogram and distance of numbers. * [`difference`]: tests and the order of what they find.

pub mod difference;
#[cfg(test)]
pub(super) mod naive;
mod number;

pub use number::{Cut, NumberProfile};

use super::resolve::resolve_each;
use super::run::run;
use super::values::TagValues;
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::bitmap::count_each::{CountEach, GroupCounts};
use crate::catalog::TagType;
use crate::ids::TagId;
use crate::store::Snapshot;
use difference::{Difference, Part, distinction, q_values, significance};

/// Values between two looks at whether the caller gave up: each is tested, which takes some thousand steps.
const LOOK_VALUES: usize = 1_024;
/// What a flag that is set is told as.
const TRUE: &str = "true";

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
        /// Whether it is a flag.
        is_flag: bool,
    },
    /// `number`.
    Number(Box<NumberProfile>),
}

/// One cell of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueCount {
    /// The tag value.
    pub value: String,
    /// Audience members with it.
    pub count: u64,
    /// Baseline members with it.
    pub baseline_count: u64,
    /// Members of the rest with it.
    pub rest_count: u64,
    /// How the audience's share differs from that of the rest of the baseline; `None` if one of them is empty.
    pub difference: Option<Difference>,
}

/// A profile: the audience against a baseline, tag by tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Audience size.
    pub count: u64,
    /// Baseline size.
    pub baseline_count: u64,
    /// Baseline members who are not in the audience: whom it is compared with.
    pub rest_count: u64,
    /// In the order asked.
    pub tags: Vec<(TagId, TagProfile)>,
}

/// What sets an audience apart from the rest of its baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Distinguishing {
    /// The tag.
    pub tag: TagId,
    /// What is said of it.
    pub is: Saying,
    /// Audience members of whom it is true.
    pub count: u64,
    /// Baseline members of whom it is true.
    pub baseline_count: u64,
    /// How surely, and how far.
    pub difference: Difference,
}

/// What can be said of a user's tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saying {
    /// It has this value; of a flag, `true`.
    Value(String),
    /// The number is at most so great.
    AtMost(i64),
    /// The number is greater.
    Above(i64),
}

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
    let [audience, baseline] = &resolve_each(snapshot, [predicate, against], context)?;
    let sides = Sides { audience, baseline, outside: outside(audience, baseline) };
    let counted = count_groups(snapshot, &sides, &groups, context)?;
    let (count, baseline_count) = (counted.audience.size, counted.baseline.size);
    let rest_count = baseline_count.saturating_sub(count - counted.outside.size);
    let mut profile = Profile { count, baseline_count, rest_count, tags: Vec::new() };
    for tag in by {
        let told = match groups.iter().position(|group| group.tag() == *tag) {
            Some(index) => values_profile(&groups[index], &counted, index, rest_count, context)?,
            None => TagProfile::Number(Box::new(number::profile(snapshot, &sides, *tag, &profile, context)?)),
        };
        profile.tags.push((*tag, told));
    }
    profile.correct(context)?;
    Ok(profile)
}

impl Profile {
    /// What sets the audience apart, farthest first; nothing that may be chance.
    pub fn distinguishing(&self) -> Vec<Distinguishing> {
        let mut all: Vec<Distinguishing> = self.tags.iter().flat_map(|(tag, told)| told.sayings(*tag)).collect();
        all.retain(|saying| saying.difference.distinction != 0.0);
        all.sort_by(|a, b| b.difference.distinction.abs().total_cmp(&a.difference.distinction.abs()));
        all
    }

    /// Settles what depends on how many differences were looked at.
    fn correct(&mut self, context: &QueryContext) -> Result<(), QueryError> {
        let (count, rest) = (self.count, self.rest_count);
        let mut tested: Vec<(&mut Difference, [Part; 2])> = Vec::new();
        for (_, told) in &mut self.tags {
            match told {
                TagProfile::Values { values, .. } => {
                    for value in values {
                        let parts =
                            [Part { count: value.count, of: count }, Part { count: value.rest_count, of: rest }];
                        tested.extend(value.difference.as_mut().map(|difference| (difference, parts)));
                    }
                }
                TagProfile::Number(number) => {
                    let cut = number.cut.as_mut();
                    tested.extend(cut.map(|cut| (&mut cut.difference, [cut.audience, cut.rest])));
                }
            }
        }
        let p_values: Vec<f64> = tested.iter().map(|(difference, _)| difference.p_value).collect();
        context.check()?;
        let corrected = tested.into_iter().zip(q_values(&p_values));
        for (at, ((difference, [audience, rest]), q_value)) in corrected.enumerate() {
            if at % LOOK_VALUES == 0 {
                context.check()?;
            }
            difference.q_value = q_value;
            difference.distinction = distinction(audience, rest, q_value);
        }
        Ok(())
    }
}

impl TagProfile {
    /// What can be said of the tag. That a flag is false is not said beside that it is true.
    fn sayings(&self, tag: TagId) -> Vec<Distinguishing> {
        match self {
            TagProfile::Values { values, is_flag, .. } => {
                let said = values.iter().filter(|value| !is_flag || value.value == TRUE);
                let saying = |value: &ValueCount| {
                    Some(Distinguishing {
                        tag,
                        is: Saying::Value(value.value.clone()),
                        count: value.count,
                        baseline_count: value.baseline_count,
                        difference: value.difference?,
                    })
                };
                said.filter_map(saying).collect()
            }
            TagProfile::Number(number) => number.saying(tag).into_iter().collect(),
        }
    }
}

/// Who is counted.
struct Sides<'p> {
    audience: &'p Predicate,
    baseline: &'p Predicate,
    /// Audience members who are not in the baseline, as far as that matters: a baseline of nobody has no rest.
    outside: Predicate,
}

fn outside(audience: &Predicate, baseline: &Predicate) -> Predicate {
    match baseline {
        Predicate::All | Predicate::Nobody => Predicate::Nobody,
        other => Predicate::And(vec![audience.clone(), other.clone().negate()]).canonical(),
    }
}

/// Counts of a set of users.
#[derive(Default)]
struct Counted {
    size: u64,
    /// As the groups.
    groups: Vec<GroupCounts>,
}

#[derive(Default)]
struct AllCounted {
    audience: Counted,
    baseline: Counted,
    outside: Counted,
}

fn count_groups(
    snapshot: &Snapshot,
    sides: &Sides<'_>,
    groups: &[TagValues],
    context: &QueryContext,
) -> Result<AllCounted, QueryError> {
    let parts = run(snapshot, &[sides.audience, sides.baseline, &sides.outside], context, |task| {
        let [audience, baseline, outside] = &mut task.evaluators()[..] else {
            unreachable!("three predicates were given")
        };
        let shard = &snapshot.shards()[task.shard];
        let mut each = CountEach::new();
        for group in groups {
            each.group(group.targets(shard)?.iter().map(Vec::as_slice), group.is_exclusive());
        }
        let zeros = || Counted { size: 0, groups: each.zeros() };
        let mut all = AllCounted { audience: zeros(), baseline: zeros(), outside: zeros() };
        for chunk in &task.chunks {
            context.check()?;
            let counted = [&mut all.audience, &mut all.baseline, &mut all.outside];
            for (evaluator, counted) in [&mut *audience, &mut *baseline, &mut *outside].into_iter().zip(counted) {
                let members = evaluator.members(*chunk);
                counted.size += u64::from(members.len());
                each.add(*chunk, members, &mut counted.groups);
            }
        }
        Ok(all)
    })?;
    let zeros = || {
        let zeros = |group: &TagValues| GroupCounts { each: vec![0; group.target_count()], any: 0 };
        Counted { size: 0, groups: groups.iter().map(zeros).collect() }
    };
    let mut total = AllCounted { audience: zeros(), baseline: zeros(), outside: zeros() };
    for part in &parts {
        let sums = [&mut total.audience, &mut total.baseline, &mut total.outside];
        for (sum, part) in sums.into_iter().zip([&part.audience, &part.baseline, &part.outside]) {
            sum.size += part.size;
            sum.groups.iter_mut().zip(&part.groups).for_each(|(sum, part)| sum.add(part));
        }
    }
    Ok(total)
}

fn values_profile(
    group: &TagValues,
    counted: &AllCounted,
    index: usize,
    rest: u64,
    context: &QueryContext,
) -> Result<TagProfile, QueryError> {
    let [own, baseline, outside] =
        [&counted.audience, &counted.baseline, &counted.outside].map(|counted| &counted.groups[index]);
    let unknown = counted.audience.size - own.any;
    let baseline_unknown = counted.baseline.size - baseline.any;
    let cell = |value: &str, count: u64, baseline_count: u64, outside: u64| {
        let rest_count = baseline_count.saturating_sub(count - outside);
        let audience = Part { count, of: counted.audience.size };
        let p_value = significance(audience, Part { count: rest_count, of: rest });
        // Corrected when all are known.
        let difference = p_value.map(|p_value| Difference { p_value, q_value: p_value, distinction: 0.0 });
        ValueCount { value: value.to_owned(), count, baseline_count, rest_count, difference }
    };
    let is_flag = group.tag_type() == TagType::Flag;
    let (mut values, unknown, baseline_unknown) = if is_flag {
        let outside_false = counted.outside.size - outside.any;
        let values =
            [cell(TRUE, own.any, baseline.any, outside.any), cell("false", unknown, baseline_unknown, outside_false)];
        // Never unknown: who does not have it is known not to.
        (values.into(), 0, 0)
    } else {
        let cells = group.values().enumerate().filter(|(at, _)| own.each[*at] + baseline.each[*at] > 0);
        let mut values = Vec::new();
        for (at, value) in cells {
            if values.len() % LOOK_VALUES == 0 {
                context.check()?;
            }
            values.push(cell(&String::from_utf8_lossy(value), own.each[at], baseline.each[at], outside.each[at]));
        }
        (values, unknown, baseline_unknown)
    };
    values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    Ok(TagProfile::Values { values, unknown, baseline_unknown, is_flag })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn correcting_ends_when_nobody_waits_for_it() {
        let difference = Difference { p_value: 0.5, q_value: 0.5, distinction: 0.0 };
        let value = |count| ValueCount {
            value: format!("v{count}"),
            count,
            baseline_count: 2 * count,
            rest_count: count,
            difference: Some(difference),
        };
        let values = TagProfile::Values {
            values: (0..10).map(value).collect(),
            unknown: 0,
            baseline_unknown: 0,
            is_flag: false,
        };
        let mut profile = Profile { count: 10, baseline_count: 20, rest_count: 10, tags: vec![(TagId(1), values)] };
        let context = QueryContext::default();
        profile.correct(&context).expect("corrected");
        context.cancelled.store(true, Ordering::Relaxed);
        assert!(matches!(profile.correct(&context), Err(QueryError::Cancelled)));
    }
}
