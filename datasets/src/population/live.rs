//! The stream of live updates: what users of the population do now.

use super::person::{UTC_OFFSET_MICROS, power_law, user_id};
use super::tables::{CATEGORIES, CHANNELS, HOUR_WEIGHTS, INTERESTS};
use super::{PopulationFiller, TAGS, generator};
use crate::random::Random;
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch};

/// The endless sequence of live updates of a population: one user each. Most say that a user was active; some change
/// interests, record an order, make a member. Some users are far busier than others.
#[derive(Clone, Debug)]
pub struct LiveUpdates {
    filler: PopulationFiller,
    /// How many updates were made.
    position: u64,
}

/// Sets the stream apart from the users of the same seed.
const STREAM_SALT: u64 = 0x6c69_7665;

impl LiveUpdates {
    pub(super) fn new(filler: PopulationFiller) -> Self {
        LiveUpdates { filler, position: 0 }
    }

    /// How many updates were made so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends the next `count` updates as of `now` (microseconds since 1970).
    pub fn fill(&mut self, count: usize, now: i64, batch: &mut UpdateBatch) {
        for _ in 0..count {
            let random = &mut Random::of(self.filler.population.seed ^ STREAM_SALT, self.position);
            self.position += 1;
            // Squaring a uniform draw makes the first users of the population the busy ones.
            let unit = 1.0 - random.unit();
            let index = (unit * unit * self.filler.population.user_count as f64) as u64;
            batch.begin_user(&user_id(index));
            self.push(index, now, random, batch);
        }
    }

    fn push(&self, index: u64, now: i64, random: &mut Random, batch: &mut UpdateBatch) {
        batch.push(self.tag("last_active_at"), Change::Number(now));
        match random.below(100) {
            0..12 => batch.push(self.tag("interest"), Change::Add(INTERESTS[draw_low(random, INTERESTS.len())].0)),
            12..16 => batch.push(self.tag("interest"), Change::Remove(INTERESTS[draw_low(random, INTERESTS.len())].0)),
            16..26 => batch.push(self.tag("category"), Change::Add(CATEGORIES[draw_low(random, CATEGORIES.len())].0)),
            26..32 => {
                // Totals, not differences: what the user had at first and one order more.
                let person = generator().person(self.filler.population.seed, index);
                let spend = person.spend_cents.unwrap_or(0) + power_law(random);
                batch.push(self.tag("spend"), Change::Number(spend));
                batch.push(self.tag("orders"), Change::Number(i64::from(person.orders) + 1));
            }
            32..34 => batch.push(self.tag("is_member"), Change::Flag(random.chance(900))),
            34..35 => batch.push(self.tag("ads_consent"), Change::Flag(random.chance(500))),
            35..36 => {
                batch.push(self.tag("channel"), Change::Enum(CHANNELS[random.below(CHANNELS.len() as u32) as usize]))
            }
            _ => {}
        }
    }

    fn tag(&self, name: &str) -> TagId {
        let position = TAGS.iter().position(|tag| tag.0 == name).expect("a tag of the population");
        self.filler.tags[position]
    }

    /// Updates a second at the time of day of `now`, for a mean of `mean`: quiet at night, a peak in the evening.
    pub fn rate_at(&self, now: i64, mean: f64) -> f64 {
        let hours = (now + UTC_OFFSET_MICROS).rem_euclid(86_400_000_000) as f64 / 3_600_000_000.0;
        let (hour, part) = (hours as usize, hours.fract());
        let weight = |hour: usize| f64::from(HOUR_WEIGHTS[hour % 24]);
        let total: u32 = HOUR_WEIGHTS.iter().sum();
        mean * 24.0 / f64::from(total) * (weight(hour) * (1.0 - part) + weight(hour + 1) * part)
    }
}

/// A position below `len`, low ones (the frequent names) more often.
fn draw_low(random: &mut Random, len: usize) -> usize {
    random.below(len as u32).min(random.below(len as u32)) as usize
}
