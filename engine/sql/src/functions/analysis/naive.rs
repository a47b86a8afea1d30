//! Slow twins by the words of the documentation: every choice of events is tried.

use super::funnel::Funnel;
use std::collections::BTreeSet;

/// A row: its time and the conditions that it fulfils, from 0 on.
pub(super) type Row = (i64, BTreeSet<usize>);

/// Rows in the order of their times; of one moment in the order of their conditions, and last what fulfils none.
pub(super) fn in_order(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|(time, fulfils)| (*time, fulfils.is_empty(), fulfils.iter().copied().collect::<Vec<_>>()));
    rows
}

/// How far the longest chain comes.
pub(super) fn level(rows: &[Row], funnel: &Funnel) -> usize {
    furthest(&in_order(rows), &[], funnel)
}

fn furthest(rows: &[Row], chain: &[usize], funnel: &Funnel) -> usize {
    let next = (0..rows.len()).filter(|next| may_follow(rows, chain, *next, funnel));
    next.map(|next| furthest(rows, &[chain, &[next]].concat(), funnel)).max().unwrap_or(chain.len())
}

fn may_follow(rows: &[Row], chain: &[usize], next: usize, funnel: &Funnel) -> bool {
    let condition = chain.len();
    let (time, fulfils) = &rows[next];
    if !fulfils.contains(&condition) {
        return false;
    }
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return true };
    let modes = funnel.modes;
    let is_behind = if modes.once { next > *last } else { next >= *last };
    if !is_behind || i128::from(time - rows[*first].0) > funnel.window || (modes.increase && *time <= rows[*last].0) {
        return false;
    }
    let between = rows.get(last + 1..next).unwrap_or_default();
    let is_known = |row: &Row| row.1.iter().any(|fulfilled| *fulfilled <= condition);
    let repeats = modes.deduplication && between.iter().any(is_known);
    let is_out_of_turn = modes.order && !between.iter().all(is_known);
    !repeats && !is_out_of_turn
}

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
