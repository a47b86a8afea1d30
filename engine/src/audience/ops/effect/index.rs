//! What the activity index tells of a stage, so that no event is read: of each user how many events, by slice of time, of the whole fact
//! and of each value of a dimension.
//!
//! Events without a value are those of the whole fact without those of any value. A measure is added up over users at once, for sums of
//! sums are sums; numbers of events are added up user by user, a chunk at a time.

use super::grain::{Periods, TimeGrain};
use super::sums::{ShardSums, Summing, check_groups};
use super::{Figures, Stage, StageMeant};
use crate::audience::ops::QueryError;
use crate::audience::plan::{activity_postings, activity_values};
use crate::audience::predicate::Selection;
use crate::audience::scan::EventValue;
use crate::behavior::Window;
use crate::bitmap::view::BitmapView;
use crate::catalog::{ColumnType, Fact};
use crate::segment::{Segment, Series};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Positions of a chunk.
const CHUNK_LEN: usize = 1 << 16;
/// The group of all events; it comes behind the others.
const ALL: u32 = u32::MAX;

/// The value of each group, by its place, as scanners tell values.
type GroupValues = Vec<(u32, EventValue)>;

/// What of a stage the index covers: all of it.
pub(super) struct Covered<'q> {
    fact: &'q Fact,
    of: &'q Selection,
    window: Window,
    /// The dimension whose values are groups: its place, from 0, and the type of its values.
    dimension: Option<(u16, ColumnType)>,
    /// The figure that the measure is, from 1.
    measure: Option<u8>,
    periods: Option<Periods<'q>>,
}

/// Some users of a slice of time whose number of events, or sum of a measure, has a bit.
struct Term<'s> {
    group: u32,
    period: i32,
    is_measure: bool,
    is_negative: bool,
    bit: u8,
    users: BitmapView<'s>,
}

impl<'q> Covered<'q> {
    /// `None` if events have to be read.
    pub(super) fn of(fact: &'q Fact, meant: &'q StageMeant, summing: &Summing<'q>) -> Option<Covered<'q>> {
        let periods = summing.periods;
        let (of, window) = meant.events.counted.as_ref()?;
        // Of what is older than some days there are no hours, and days are those of the fact's clocks.
        if periods.is_some_and(|periods| periods.grain == TimeGrain::Hour || *periods.zone != fact.zone) {
            return None;
        }
        let place = |column: u16| {
            let dimension = fact.dimension(column.into())?;
            Some((u16::try_from(dimension).ok()?, fact.columns.get(usize::from(column))?.column_type))
        };
        let dimension = meant.by.filter(|_| summing.is_grouped).map(place);
        if dimension.is_some_and(|place| place.is_none()) {
            return None;
        }
        let dimension = dimension.flatten();
        match (dimension, of) {
            (Some((own, _)), Selection::Values(other, _) | Selection::Others(other, _)) if own != *other => {
                return None;
            }
            _ => {}
        }
        let measure = meant.measure.map(|column| fact.measure(column.into()).and_then(|at| u8::try_from(at + 1).ok()));
        if measure.is_some_and(|figure| figure.is_none()) {
            return None;
        }
        Some(Covered { fact, of, window: *window, dimension, measure: measure.flatten(), periods })
    }

    /// What the events of a shard's users come to, and the values of the groups.
    pub(super) fn of_shard(
        &self,
        layers: &[Arc<Segment>],
        within: Option<&RoaringBitmap>,
        stage: Stage,
        summing: &Summing<'_>,
    ) -> Result<(ShardSums, GroupValues), QueryError> {
        let (terms, values) = self.terms(layers, summing)?;
        // Containers of one chunk, group and period stand together.
        let mut order: Vec<(u16, u32, i32, usize, usize)> = Vec::new();
        for (at, term) in terms.iter().enumerate() {
            let containers = 0..term.users.container_count();
            order.extend(containers.map(|index| (term.users.key(index), term.group, term.period, at, index)));
        }
        order.sort_unstable();
        let mut adding = Adding {
            terms: &terms,
            sums: ShardSums::default(),
            counts: Counts::default(),
            totals: Counts::default(),
            groups_of: if stage == Stage::Impressions { vec![(0, 0); CHUNK_LEN] } else { Vec::new() },
            summing,
        };
        for of_chunk in order.chunk_by(|a, b| a.0 == b.0) {
            adding.add_chunk(of_chunk, within)?;
        }
        Ok((adding.sums, values))
    }

    /// The postings that are added up, by group; and the value of each group.
    fn terms<'s>(
        &self,
        layers: &'s [Arc<Segment>],
        summing: &Summing<'_>,
    ) -> Result<(Vec<Term<'s>>, GroupValues), QueryError> {
        let mut terms = Vec::new();
        let mut groups: BTreeMap<&'s [u8], u32> = BTreeMap::new();
        let (is_whole, is_grouped) = (*self.of == Selection::All, self.dimension.is_some());
        // The first group is that of events without a value.
        let mut values = vec![(0, EventValue::None)];
        for segment in layers {
            summing.context.check()?;
            if is_whole {
                let own: &[(u32, bool)] = if is_grouped { &[(ALL, false), (0, false)] } else { &[(ALL, false)] };
                self.add_series(segment, Series::WHOLE, own, &mut terms)?;
            }
            for series in self.series(segment) {
                let Some((_, column_type)) = self.dimension else {
                    self.add_series(segment, series, &[(ALL, false)], &mut terms)?;
                    continue;
                };
                let group = *groups.entry(series.value).or_insert_with(|| {
                    values.push((0, value_of(series.value, column_type)));
                    values.len() as u32 - 1
                });
                let own = if is_whole { [(group, false), (0, true)] } else { [(group, false), (ALL, false)] };
                self.add_series(segment, series, &own, &mut terms)?;
            }
            check_groups(values.len() - 1)?;
        }
        Ok((terms, values))
    }

    /// The values that a segment knows, of those that are meant.
    fn series<'s>(&self, segment: &'s Segment) -> Vec<Series<'s>> {
        let known = |dimension: u16| activity_values(segment, self.fact.id, dimension).into_iter();
        let is_one = |of: &[String], series: &Series<'_>| {
            of.binary_search_by(|value| value.as_bytes().cmp(series.value)).is_ok()
        };
        match (self.of, self.dimension) {
            (Selection::All, None) => Vec::new(),
            (Selection::All, Some((dimension, _))) => known(dimension).collect(),
            (Selection::Values(dimension, of), _) => known(*dimension).filter(|series| is_one(of, series)).collect(),
            (Selection::Others(dimension, of), _) => known(*dimension).filter(|series| !is_one(of, series)).collect(),
        }
    }

    /// The postings of a series for some groups, to which they are added or from which they are taken off.
    fn add_series<'s>(
        &self,
        segment: &'s Segment,
        series: Series<'_>,
        groups: &[(u32, bool)],
        terms: &mut Vec<Term<'s>>,
    ) -> Result<(), QueryError> {
        let by_month = self.periods.is_none_or(|periods| periods.grain == TimeGrain::Month);
        for figure in [Some(0), self.measure].into_iter().flatten() {
            for (entry, key) in activity_postings(segment, (self.fact.id, series, figure), self.window, by_month) {
                let users = segment.posting_at(entry)?.bitmap;
                let period = self.periods.map_or(0, |periods| periods.grain.first_hour(key.slice.hours().from));
                terms.extend(groups.iter().map(|(group, is_taken_off)| Term {
                    group: *group,
                    period,
                    is_measure: figure > 0,
                    is_negative: key.figure.is_negative != *is_taken_off,
                    bit: key.bit,
                    users,
                }));
            }
        }
        Ok(())
    }
}

/// The place of a group; all have none.
fn place(group: u32) -> Option<u32> {
    (group != ALL).then_some(group)
}

/// The value of a dimension that the index counts by its text.
fn value_of(text: &[u8], column_type: ColumnType) -> EventValue {
    let text = String::from_utf8_lossy(text);
    let value = match column_type {
        ColumnType::Integer => text.parse().ok().map(EventValue::Number),
        ColumnType::Boolean => text.parse().ok().map(EventValue::Flag),
        _ => None,
    };
    value.unwrap_or_else(|| EventValue::Text(text.into()))
}

/// The sums of a shard while they are made.
struct Adding<'a, 's> {
    terms: &'a [Term<'s>],
    sums: ShardSums,
    /// Of the period at hand.
    counts: Counts,
    /// Of the group at hand.
    totals: Counts,
    /// Of each position in how many groups it is, and the first of them; all 0 between chunks. Nothing if nobody asks.
    groups_of: Vec<(u32, u32)>,
    summing: &'a Summing<'a>,
}

impl Adding<'_, '_> {
    fn add_chunk(
        &mut self,
        of_chunk: &[(u16, u32, i32, usize, usize)],
        within: Option<&RoaringBitmap>,
    ) -> Result<(), QueryError> {
        let first = u32::from(of_chunk[0].0) << 16;
        let mut asked = [0_u64; CHUNK_LEN / 64];
        match within {
            None => asked.fill(u64::MAX),
            Some(within) => within.range(first..=first | 0xffff).for_each(|slot| {
                let position = (slot - first) as usize;
                asked[position / 64] |= 1 << (position % 64);
            }),
        }
        for of_group in of_chunk.chunk_by(|a, b| a.1 == b.1) {
            self.summing.context.check()?;
            for of_period in of_group.chunk_by(|a, b| a.2 == b.2) {
                self.add_period(of_period, &asked)?;
            }
            self.end_group(of_group[0].1, first);
        }
        self.end_chunk(of_chunk.iter().any(|(_, group, ..)| *group != ALL));
        Ok(())
    }

    /// Adds the containers of a group and period.
    fn add_period(
        &mut self,
        of_period: &[(u16, u32, i32, usize, usize)],
        asked: &[u64; CHUNK_LEN / 64],
    ) -> Result<(), QueryError> {
        let (mut measure, mut is_any) = (0_i128, false);
        for (.., at, index) in of_period {
            let Term { is_measure, is_negative, bit, users, .. } = &self.terms[*at];
            let is_asked = |position: &u16| asked[usize::from(*position) / 64] >> (position % 64) & 1 == 1;
            let positions = users.container(*index).iter().filter(is_asked);
            if *is_measure {
                let part = (positions.count() as i128) << bit;
                measure += if *is_negative { -part } else { part };
            } else {
                let one = if *is_negative { -(1_i64 << bit) } else { 1_i64 << bit };
                positions.for_each(|position| self.counts.add(position, one));
            }
        }
        let (_, group, period, ..) = of_period[0];
        let mut figures = Figures { measure, ..Figures::default() };
        let totals = &mut self.totals;
        self.counts.take(|position, count| {
            is_any = true;
            figures.users += 1;
            figures.events += count;
            totals.add(position, count as i64);
        });
        if !is_any && measure == 0 {
            return Ok(());
        }
        let (sum, cells) = self.sums.of(place(group));
        sum.figures.measure += measure;
        if self.summing.periods.is_some() {
            sum.period(period.into(), cells)?.add(&figures);
        }
        Ok(())
    }

    /// Takes what each user has of a group.
    fn end_group(&mut self, group: u32, first: u32) {
        let Adding { sums, totals, groups_of, summing, .. } = self;
        let mut sum = None;
        totals.take(|position, count| {
            let sum = sum.get_or_insert_with(|| std::mem::take(sums.of(place(group)).0));
            sum.add_count(first | u32::from(position), count, summing);
            if let Some(of) = groups_of.get_mut(usize::from(position)).filter(|_| group != ALL) {
                *of = (of.0 + 1, if of.0 == 0 { group } else { of.1 });
            }
        });
        if let Some(sum) = sum {
            *sums.of(place(group)).0 = sum;
        }
    }

    /// Tells whom one group alone has.
    fn end_chunk(&mut self, is_grouped: bool) {
        let Adding { sums, groups_of, .. } = self;
        if !is_grouped {
            sums.all.exclusive = sums.all.figures.users;
            return;
        }
        for of in groups_of.iter_mut().filter(|of| of.0 > 0) {
            let (groups, group) = std::mem::take(of);
            if groups == 1 {
                sums.of(Some(group)).0.exclusive += 1;
                sums.all.exclusive += 1;
            }
        }
    }
}

/// A number of events of each position of a chunk; all 0 between two uses.
#[derive(Default)]
struct Counts {
    counts: Vec<i64>,
    /// A bit for each that was touched, and one for each word of those.
    touched: Vec<u64>,
    words: Vec<u64>,
}

impl Counts {
    fn add(&mut self, position: u16, count: i64) {
        if self.counts.is_empty() {
            self.counts = vec![0; CHUNK_LEN];
            self.touched = vec![0; CHUNK_LEN / 64];
            self.words = vec![0; CHUNK_LEN / 64 / 64];
        }
        let position = usize::from(position);
        self.counts[position] += count;
        self.touched[position / 64] |= 1 << (position % 64);
        self.words[position / 64 / 64] |= 1 << (position / 64 % 64);
    }

    /// Tells each position with any, rising, and forgets them.
    fn take(&mut self, mut tell: impl FnMut(u16, u64)) {
        for at in 0..self.words.len() {
            for word in ones(std::mem::take(&mut self.words[at])) {
                let word = at * 64 + word;
                for position in ones(std::mem::take(&mut self.touched[word])) {
                    let position = word * 64 + position;
                    // What was taken back more often than it came is none.
                    let count = std::mem::take(&mut self.counts[position]).max(0);
                    if count > 0 {
                        tell(position as u16, count.unsigned_abs());
                    }
                }
            }
        }
    }
}

/// The places of the bits that are set, rising.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(place)
    })
}
