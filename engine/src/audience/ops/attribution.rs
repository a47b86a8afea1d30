//! To which campaigns conversions are credited.
//!
//! Touches and conversions are read once, of users who may have converted; then each user's are walked in order
//! ([`crate::journey::attribution`]), and credits are added up as whole parts, so that an answer does not depend on who adds what first.

use super::kinds::{GatheredKinds, KindMeant, gathered_kinds, value_digits, worth};
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{EventValue, EventsMeant, ScanStats};
use crate::behavior::Window;
use crate::behavior::slice::HOUR_MICROS;
use crate::journey::Event;
use crate::journey::attribution::{Crediting, MODELS, Parts};
use crate::store::Snapshot;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// The most kinds of touches.
pub const TOUCHES_MAX: usize = 31;
/// The most campaigns that conversions are credited to.
pub const CAMPAIGNS_MAX: usize = 100_000;
/// How far clocks are apart.
const CLOCKS_HOURS: i32 = 48;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct AttributionQuestion<'q> {
    /// What counts as a conversion; its column, a number, is what one is worth.
    pub conversion: &'q KindMeant,
    /// What conversions can be credited to, at most [`TOUCHES_MAX`]. An event is a conversion if it can be, else the first of these that it
    /// can be.
    pub touches: &'q [KindMeant],
    /// Whether touches of one value are one campaign, whichever touches they are. Otherwise each of `touches` is one.
    pub by_value: bool,
    /// How; times are in microseconds.
    pub crediting: Crediting,
    /// Of whom.
    pub whom: &'q Predicate,
}

/// What conversions are credited to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Campaign {
    /// A touch, by its place.
    Touch(usize),
    /// A value.
    Value(EventValue),
}

/// What a campaign is credited with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Conversions that it has any touch of.
    pub conversions: u64,
    /// Their users.
    pub users: u64,
    /// Parts of conversions ([`crate::journey::attribution::PARTS`]), by model.
    pub parts: [i128; MODELS],
    /// Values times parts, by model.
    pub values: [i128; MODELS],
}

/// Conversions, of whom, and what they are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Conversions.
    pub conversions: u64,
    /// Users with any.
    pub users: u64,
    /// What they are worth; those without a value nothing.
    pub value: i128,
}

/// To which campaigns conversions are credited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// All conversions.
    pub all: Converted,
    /// Those without a touch.
    pub untouched: Converted,
    /// What the others are credited to, in order.
    pub credits: BTreeMap<Campaign, Credit>,
    /// Digits of values that stand behind the point.
    pub value_digits: u8,
    /// Events that were looked at.
    pub events: u64,
    /// How they were read.
    pub stats: ScanStats,
}

impl Credit {
    /// Adds what another one has.
    pub fn add(&mut self, other: &Credit) {
        self.conversions += other.conversions;
        self.users += other.users;
        for model in 0..MODELS {
            self.parts[model] += other.parts[model];
            self.values[model] += other.values[model];
        }
    }
}

impl Converted {
    fn add(&mut self, other: &Converted) {
        self.conversions += other.conversions;
        self.users += other.users;
        self.value += other.value;
    }
}

/// What some users come to; campaigns by number.
#[derive(Default)]
struct Sums {
    all: Converted,
    untouched: Converted,
    credits: BTreeMap<u32, Credit>,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.all.add(&other.all);
        self.untouched.add(&other.untouched);
        for (campaign, credit) in &other.credits {
            self.credits.entry(*campaign).or_default().add(credit);
        }
    }
}

/// Credits conversions of `whom`. Holds the touches and conversions, 16 bytes each, and as many values as their columns have.
///
/// # Errors
/// [`QueryError`], also if there are no touches, too many, or too many campaigns, or if a value is beyond what can be added up.
pub fn attribution(
    snapshot: &Snapshot,
    asked: &AttributionQuestion<'_>,
    context: &QueryContext,
) -> Result<Attribution, QueryError> {
    let AttributionQuestion { conversion, touches, crediting, .. } = *asked;
    if touches.is_empty() || touches.len() > TOUCHES_MAX {
        let why = format!("conversions are credited to from 1 to {TOUCHES_MAX} touches, not {}", touches.len());
        return Err(QueryError::Invalid(why));
    }
    let shares: u64 = crediting.position.iter().map(|share| u64::from(*share)).sum();
    if crediting.half_life <= 0 || shares != 100 {
        return Err(QueryError::Invalid(
            "a half-life is more than 0, and shares of positions add up to 100".to_owned(),
        ));
    }
    let touches: Vec<KindMeant> = touches
        .iter()
        .map(|touch| KindMeant { events: near(&touch.events, &conversion.events, crediting.lookback), ..touch.clone() })
        .collect();
    // A conversion stands behind the touches of its moment.
    let number_of_conversion = touches.len() as u32;
    let kinds: Vec<(u32, &KindMeant)> =
        std::iter::once((number_of_conversion, conversion)).chain((0..).zip(&touches)).collect();
    let GatheredKinds { shards, things, stats, held: _held } =
        gathered_kinds(snapshot, &kinds, asked.whom, &conversion.events, context)?;
    let first_conversion = things.partition_point(|(number, _)| *number < number_of_conversion);
    let value_type = conversion.column.and_then(|at| {
        let fact = snapshot.catalog().fact_of(conversion.events.fact)?;
        fact.columns.get(usize::from(at)).map(|column| column.column_type)
    });
    let worth = things[first_conversion..].iter().map(|(_, value)| worth(value, value_type));
    let worth: Vec<i64> = worth.collect::<Result<_, QueryError>>()?;
    let (campaigns, campaign_of) = campaigns(&things[..first_conversion], asked.by_value)?;
    let events = shards.iter().map(|events| events.len() as u64).sum();
    let sums = Mutex::new(Sums::default());
    shards.into_par_iter().try_for_each(|events| {
        let mut own = Sums::default();
        for of_user in events.chunk_by(|a, b| a.group == b.group) {
            own.add_user(of_user, first_conversion as u32, &worth, &campaign_of, &crediting, context)?;
        }
        // A thread's own are put in here before it goes on, so that they are no more than threads.
        sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&own);
        Ok::<(), QueryError>(())
    })?;
    let Sums { all, untouched, credits } = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let credits = credits.into_iter().map(|(campaign, credit)| (campaigns[campaign as usize].clone(), credit));
    let value_digits = value_digits(value_type);
    Ok(Attribution { all, untouched, credits: credits.collect(), value_digits, events, stats })
}

impl Sums {
    /// Adds a user's conversions; the events stand in order.
    fn add_user(
        &mut self,
        events: &[Event],
        first_conversion: u32,
        worth: &[i64],
        campaign_of: &[u32],
        crediting: &Crediting,
        context: &QueryContext,
    ) -> Result<(), QueryError> {
        let mut of_user = BTreeSet::new();
        let mut of_conversion = Vec::new();
        let (mut converted, mut untouched) = (Converted::default(), Converted::default());
        let credit = |conversion: &Event, touches: &[Event], parts: &[Parts]| {
            let value = worth[(conversion.fulfils - first_conversion) as usize].into();
            let one = Converted { conversions: 1, users: 0, value };
            converted.add(&one);
            if touches.is_empty() {
                untouched.add(&one);
            }
            of_conversion.clear();
            for (touch, parts) in touches.iter().zip(parts) {
                let campaign = campaign_of[touch.fulfils as usize];
                of_conversion.push(campaign);
                let credit = self.credits.entry(campaign).or_default();
                for (model, parts) in parts.iter().enumerate() {
                    // As many as there can be are far from the end of 128 bits.
                    credit.parts[model] += i128::from(*parts);
                    credit.values[model] += value * i128::from(*parts);
                }
            }
            of_conversion.sort_unstable();
            of_conversion.dedup();
            for campaign in &of_conversion {
                let credit = self.credits.entry(*campaign).or_default();
                credit.conversions += 1;
                credit.users += u64::from(of_user.insert(*campaign));
            }
        };
        crediting.each(events, |event| event.fulfils >= first_conversion, credit, || context.check())?;
        converted.users = u64::from(converted.conversions > 0);
        untouched.users = u64::from(untouched.conversions > 0);
        self.all.add(&converted);
        self.untouched.add(&untouched);
        Ok(())
    }
}

/// Touches as far as they can be near enough to a conversion that is meant.
fn near(touch: &EventsMeant, conversion: &EventsMeant, lookback: i128) -> EventsMeant {
    let instants = conversion.condition.instants();
    let hour = |micros: i64| micros.div_euclid(HOUR_MICROS).clamp(i32::MIN.into(), i32::MAX.into()) as i32;
    let first = if instants.min == i64::MIN { i32::MIN } else { hour(instants.min) };
    let last = if instants.max == i64::MAX { i32::MAX } else { hour(instants.max).saturating_add(1) };
    let hours = i32::try_from(lookback / i128::from(HOUR_MICROS) + 1).unwrap_or(i32::MAX);
    let (from, to) = (conversion.window.from.max(first), conversion.window.to.min(last));
    let near = Window {
        from: if from == i32::MIN { from } else { from.saturating_sub(hours).saturating_sub(CLOCKS_HOURS) },
        to: if to == i32::MAX { to } else { to.saturating_add(CLOCKS_HOURS) },
    };
    // What the index counts is more than this, and nobody asks it.
    EventsMeant { window: touch.window.and(near), ..touch.clone() }
}

/// The campaigns of touches, and the number of each thing's.
fn campaigns(touches: &[(u32, EventValue)], by_value: bool) -> Result<(Vec<Campaign>, Vec<u32>), QueryError> {
    let campaign = |(touch, value): &(u32, EventValue)| match by_value {
        true => Campaign::Value(value.clone()),
        false => Campaign::Touch(*touch as usize),
    };
    let distinct: BTreeSet<Campaign> = touches.iter().map(campaign).collect();
    if distinct.len() > CAMPAIGNS_MAX {
        let why = format!(
            "the touches have {} values, and conversions are credited to at most {CAMPAIGNS_MAX}; name a column with fewer values, or fewer touches",
            distinct.len()
        );
        return Err(QueryError::Invalid(why));
    }
    let all: Vec<Campaign> = distinct.into_iter().collect();
    let number = |touch: &(u32, EventValue)| all.binary_search(&campaign(touch)).unwrap_or_default() as u32;
    let numbers = touches.iter().map(number).collect();
    Ok((all, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaigns_have_a_limit_that_is_told() {
        let things = |count: usize| -> Vec<(u32, EventValue)> {
            (0..count).map(|at| ((at % 2) as u32, EventValue::Number(at as i64 / 2))).collect()
        };
        // One value of two touches is one campaign.
        let (all, numbers) = campaigns(&things(2 * CAMPAIGNS_MAX), true).expect("as many as there may be");
        assert_eq!((all.len(), numbers[2 * CAMPAIGNS_MAX - 1]), (CAMPAIGNS_MAX, CAMPAIGNS_MAX as u32 - 1));
        let error = campaigns(&things(2 * CAMPAIGNS_MAX + 1), true).expect_err("one more");
        assert!(error.to_string().contains("the touches have 100001 values"), "{error}");
        assert_eq!(campaigns(&things(2 * CAMPAIGNS_MAX + 1), false).expect("two touches").0.len(), 2);
    }
}
