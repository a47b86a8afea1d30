//! Conditions on behaviour: which postings of a shard's layers add up to the figure.
//!
//! A month is taken where the window holds all of it and the segment has its sum, else the days and hours. Each segment is
//! looked at on its own, since what it holds is not in another.

use super::decimal_text;
use crate::audience::predicate::{Did, Selection};
use crate::behavior::calendar::Date;
use crate::behavior::{Grain, Window};
use crate::bitmap::bsi::NumberRange;
use crate::bitmap::program::{SumOf, Term};
use crate::catalog::{Catalog, Fact};
use crate::error::ReadError;
use crate::ids::{Slot, TagId};
use crate::segment::merge::{dimension_series, keys_within};
use crate::segment::{ActivityKey, Segment, Series};
use std::sync::Arc;

/// The sum of a shard.
pub(super) fn sum_of<'p>(layers: &'p [Arc<Segment>], did: &Did) -> Result<SumOf<'p>, ReadError> {
    let mut terms = Vec::new();
    for segment in layers {
        for (entry, key) in postings(segment, did) {
            let users = segment.posting_at(entry)?.bitmap;
            terms.push(Term { bit: key.bit, is_negative: key.figure.is_negative, users });
        }
    }
    Ok(SumOf { terms, range: did.range })
}

/// The figure of one user: what the range is compared with. 0 of a user without such events.
pub(crate) fn activity_of(layers: &[Arc<Segment>], did: &Did, slot: Slot) -> Result<i128, ReadError> {
    let mut sum = 0;
    for term in sum_of(layers, did)?.terms {
        if term.users.contains(slot) {
            let part = 1_i128 << term.bit;
            sum += if term.is_negative { -part } else { part };
        }
    }
    Ok(sum)
}

/// At most how many users of a segment fit, from its key directory.
pub(super) fn estimate(segment: &Segment, did: &Did) -> u64 {
    let added = postings(segment, did).into_iter().filter(|(_, key)| key.figure.is_negative == (did.range.max < 0));
    added.map(|(entry, _)| segment.cardinality_at(entry)).sum()
}

/// The postings of a segment that are added up.
fn postings<'s>(segment: &'s Segment, did: &Did) -> Vec<(usize, ActivityKey<'s>)> {
    let mut found = Vec::new();
    let mut take =
        |series: Series<'_>| found.extend(activity_postings(segment, (did.fact, series, did.figure), did.window, true));
    match &did.of {
        Selection::All => take(Series::WHOLE),
        Selection::Values(dimension, values) => {
            for value in values {
                take(Series { dimension: dimension + 1, value: value.as_bytes() });
            }
        }
        Selection::Others(dimension, values) => {
            let is_other = |series: &Series<'_>| !values.iter().any(|value| value.as_bytes() == series.value);
            dimension_series(segment, did.fact, dimension + 1).into_iter().filter(is_other).for_each(take);
        }
    }
    found
}

/// The postings of one figure of a series in a window; those of months, where the segment has them, or of days and hours only.
pub(crate) fn activity_postings<'s>(
    segment: &'s Segment,
    of: (TagId, Series<'_>, u8),
    window: Window,
    by_month: bool,
) -> Vec<(usize, ActivityKey<'s>)> {
    let within = |grain| keys_within(segment, of, grain, window);
    let (mut found, mut summed): (Vec<_>, Vec<i32>) = (Vec::new(), Vec::new());
    for (entry, key) in within(Grain::Month).filter(|_| by_month) {
        if summed.last() != Some(&key.slice.number) {
            summed.push(key.slice.number);
        }
        found.push((entry, key));
    }
    for grain in [Grain::Day, Grain::Hour] {
        found.extend(within(grain).filter(|(_, key)| summed.binary_search(&key.slice.month()).is_err()));
    }
    found
}

/// The values of a dimension, by its place from 0, that a segment counts.
pub(crate) fn activity_values(segment: &Segment, fact: TagId, dimension: u16) -> Vec<Series<'_>> {
    dimension_series(segment, fact, dimension + 1)
}

/// The condition in the words of the audience language.
pub(super) fn describe(did: &Did, catalog: &Catalog) -> String {
    let name = catalog.name_of(did.fact).unwrap_or("dropped");
    let Some(fact) = catalog.fact_of(did.fact) else { return format!("did('{name}')") };
    let mut parts = vec![format!("'{name}'")];
    let column = |place: &u16| &fact.columns[usize::from(fact.activity.dimensions[usize::from(*place)])].name;
    let listed = |values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
        quoted.join(", ")
    };
    match &did.of {
        Selection::All => {}
        Selection::Values(dimension, values) => parts.push(format!("{} IN ({})", column(dimension), listed(values))),
        Selection::Others(dimension, values) if values.is_empty() => {
            parts.push(format!("{} IS NOT NULL", column(dimension)));
        }
        Selection::Others(dimension, values) => {
            parts.push(format!("{} NOT IN ({})", column(dimension), listed(values)));
        }
    }
    parts.push(describe_figure(did, fact));
    parts.extend(describe_window(did.window));
    format!("did({})", parts.join(", "))
}

fn describe_figure(did: &Did, fact: &Fact) -> String {
    let (name, scale) = match did.figure.checked_sub(1) {
        None => ("count".to_owned(), 0),
        Some(measure) => {
            let column = &fact.columns[usize::from(fact.activity.measures[usize::from(measure)])];
            (format!("sum({})", column.name), column.column_type.scale())
        }
    };
    describe_range(&name, did.range, |number| decimal_text(number, scale))
}

/// A window as conditions on the time.
pub(super) fn describe_window(window: Window) -> Vec<String> {
    let hour = |hour: i32| {
        let date = Date::of(hour.div_euclid(24).into());
        if hour.rem_euclid(24) == 0 { date.to_string() } else { format!("{date}T{:02}", hour.rem_euclid(24)) }
    };
    let from = (window.from > i32::MIN).then(|| format!("ts >= '{}'", hour(window.from)));
    let to = (window.to < i32::MAX).then(|| format!("ts < '{}'", hour(window.to)));
    from.into_iter().chain(to).collect()
}

/// A range of numbers as a comparison.
pub(super) fn describe_range(name: &str, range: NumberRange, number: impl Fn(i64) -> String) -> String {
    match (range.min, range.max) {
        (i64::MIN, max) => format!("{name} <= {}", number(max)),
        (min, i64::MAX) => format!("{name} >= {}", number(min)),
        (min, max) if min == max => format!("{name} = {}", number(min)),
        (min, max) => format!("{name} BETWEEN {} AND {}", number(min), number(max)),
    }
}
