//! The slow twins by the words of the documentation, which tests compare with: of a funnel, every choice of events is tried.

use super::attribution::{Crediting, MODELS};
use super::funnel::Funnel;
use super::path::Walk;
use std::collections::BTreeSet;

/// A row: its time and the conditions that it fulfils, from 0 on.
pub type Row = (i64, BTreeSet<usize>);

/// Rows in the order of their times; of one moment in the order of their conditions, and last what fulfils none.
pub fn in_order(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|(time, fulfils)| (*time, fulfils.is_empty(), fulfils.iter().copied().collect::<Vec<_>>()));
    rows
}

/// How far the longest chain comes.
pub fn level(rows: &[Row], funnel: &Funnel) -> usize {
    furthest(&in_order(rows), &[], funnel)
}

/// The times of the chain that is told of: of the longest ones, those whose last event comes first, and of these the one with the latest
/// times, the first one before the others.
pub fn times(rows: &[Row], funnel: &Funnel) -> Vec<i64> {
    let rows = in_order(rows);
    let longest = furthest(&rows, &[], funnel);
    let mut whole = Vec::new();
    of_length(&rows, &[], longest, funnel, &mut whole);
    let first = whole.iter().filter_map(|chain| chain.last().copied()).min();
    let told = whole.iter().filter(|chain| chain.last().copied() == first);
    told.map(|chain| chain.iter().map(|at| rows[*at].0).collect()).max().unwrap_or_default()
}

fn of_length(rows: &[Row], chain: &[usize], length: usize, funnel: &Funnel, found: &mut Vec<Vec<usize>>) {
    if chain.len() == length {
        found.push(chain.to_vec());
        return;
    }
    for next in (0..rows.len()).filter(|next| may_follow(rows, chain, *next, funnel)) {
        of_length(rows, &[chain, &[next]].concat(), length, funnel, found);
    }
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
pub enum Part {
    /// An event that fulfils this condition, counted from 0.
    Condition(usize),
    /// Any event.
    Any,
    /// Any number of events.
    Skip,
    /// The same, and how the time between compares with this.
    Time(&'static str, i64),
}

/// The pattern as it is written.
pub fn written(parts: &[Part]) -> String {
    let write = |part: &Part| match part {
        Part::Condition(number) => format!("(?{})", number + 1),
        Part::Any => ".".to_owned(),
        Part::Skip => ".*".to_owned(),
        Part::Time(operator, number) => format!("(?t{operator}{number})"),
    };
    parts.iter().map(write).collect()
}

/// The most chains of a pattern that do not overlap.
pub fn chains(rows: &[Row], parts: &[Part]) -> u64 {
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

/// The path from the chosen thing, or to it, as times and what happened: by the words of the documentation.
pub fn path<T: Ord + Clone>(rows: &[(i64, T)], chosen: &T, walk: &Walk) -> Vec<(i64, T)> {
    let mut rows = rows.to_vec();
    rows.sort();
    let places: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].1 == *chosen).collect();
    let Some(begin) = (if walk.last { places.last() } else { places.first() }) else { return Vec::new() };
    let mut away: Vec<(i64, T)> =
        if walk.backwards { rows[..=*begin].iter().rev().cloned().collect() } else { rows[*begin..].to_vec() };
    let time = away[0].0;
    away.retain(|(at, _)| i128::from((at - time).abs()) <= walk.window);
    if walk.fold {
        away.dedup_by(|next, before| next.1 == before.1);
    }
    away.truncate(walk.depth + 1);
    away
}

/// A conversion's time, and the time, the thing and the shares of each touch that it is credited to.
pub type Credited<T> = (i64, Vec<(i64, T, [f64; MODELS])>);

/// What each conversion is credited to: by the words of the documentation, in floating point.
pub fn credits<T: Ord + Clone>(rows: &[(i64, T)], conversion: &T, crediting: &Crediting) -> Vec<Credited<T>> {
    let mut rows = rows.to_vec();
    // A conversion stands behind the touches of its moment.
    rows.sort_by_key(|(time, thing)| (*time, thing == conversion, thing.clone()));
    let shares = |own: usize, times: &[i64]| -> [f64; MODELS] {
        let count = times.len();
        let weight = |time: i64| 2f64.powf(-((times[count - 1] - time) as f64) / crediting.half_life as f64);
        let [first, middle, last] = crediting.position.map(f64::from);
        let (is_first, is_last) = (own == 0, own == count - 1);
        let by_position = match count {
            1 => 1.0,
            2 if first + last == 0.0 => 0.5,
            2 => {
                if is_first {
                    first / (first + last)
                } else {
                    last / (first + last)
                }
            }
            _ if is_first => first / 100.0,
            _ if is_last => last / 100.0,
            _ => middle / 100.0 / (count - 2) as f64,
        };
        let decay = weight(times[own]) / times.iter().map(|time| weight(*time)).sum::<f64>();
        [f64::from(u8::from(is_first)), f64::from(u8::from(is_last)), 1.0 / count as f64, decay, by_position]
    };
    let mut credited = Vec::new();
    for (at, (time, _)) in rows.iter().enumerate().filter(|(_, (_, thing))| thing == conversion) {
        let is_near =
            |(touched, thing): &&(i64, T)| thing != conversion && i128::from(time - touched) <= crediting.lookback;
        let touches: Vec<&(i64, T)> = rows[..at].iter().filter(is_near).collect();
        let times: Vec<i64> = touches.iter().map(|(time, _)| *time).collect();
        let of_touch = |(own, (touched, thing)): (usize, &&(i64, T))| (*touched, thing.clone(), shares(own, &times));
        credited.push((*time, touches.iter().enumerate().map(of_touch).collect()));
    }
    credited
}
