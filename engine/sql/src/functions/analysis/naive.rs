//! The slow twin of sequences by the words of the documentation: every choice of events is tried.

use engine::journey::naive::in_order;
use std::collections::BTreeSet;

pub(super) use engine::journey::naive::{Row, level};

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Condition(usize),
    Any,
    Skip,
    Time(&'static str, i64),
}

/// The pattern as it is written.
pub(super) fn written(parts: &[Part]) -> String {
    let write = |part: &Part| match part {
        Part::Condition(number) => format!("(?{})", number + 1),
        Part::Any => ".".to_owned(),
        Part::Skip => ".*".to_owned(),
        Part::Time(operator, number) => format!("(?t{operator}{number})"),
    };
    parts.iter().map(write).collect()
}

/// The most chains that do not overlap.
pub(super) fn count(rows: &[Row], parts: &[Part]) -> u64 {
    let rows = in_order(rows);
    let begun = parts.iter().take_while(|part| **part == Part::Skip).count();
    let mut chains = Vec::new();
    for start in 0..rows.len() {
        let mut ends = BTreeSet::new();
        follow(&rows, &parts[begun..], start, start, &[], &mut ends);
        chains.extend(ends.into_iter().map(|end| (start, end)));
    }
    most(&chains, 0)
}

fn most(chains: &[(usize, usize)], from: usize) -> u64 {
    chains.iter().filter(|(start, _)| *start >= from).map(|(_, end)| 1 + most(chains, *end)).max().unwrap_or(0)
}

/// Finds where chains end whose next event is this one or, behind what passes over events, a later one; `end` is behind the last taken.
fn follow(
    rows: &[Row],
    parts: &[Part],
    at: usize,
    end: usize,
    times: &[(&'static str, i64)],
    ends: &mut BTreeSet<usize>,
) {
    let Some((part, rest)) = parts.split_first() else {
        ends.insert(end);
        return;
    };
    match part {
        Part::Skip => (at..=rows.len()).for_each(|at| follow(rows, rest, at, end, times, ends)),
        Part::Time(operator, number) => {
            let times = [times, &[(*operator, *number)]].concat();
            (at..=rows.len()).for_each(|at| follow(rows, rest, at, end, &times, ends));
        }
        Part::Condition(_) | Part::Any => {
            let Some((time, fulfils)) = rows.get(at) else { return };
            let is_meant = !matches!(part, Part::Condition(number) if !fulfils.contains(number));
            let holds = |(operator, number): &(&str, i64)| {
                let since = time - rows[end - 1].0;
                match *operator {
                    ">=" => since >= *number,
                    ">" => since > *number,
                    "<=" => since <= *number,
                    "<" => since < *number,
                    _ => since == *number,
                }
            };
            if is_meant && times.iter().all(holds) {
                follow(rows, rest, at + 1, at + 1, &[], ends);
            }
        }
    }
}
