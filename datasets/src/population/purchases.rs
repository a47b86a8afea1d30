//! What users of the population buy: an endless sequence of events, any of which is computable from the seed and its number.

use super::person::{power_law, user_id};
use super::tables::{CATEGORIES, CHANNELS};
use super::{Population, generator};
use crate::random::Random;
use crate::user::push_decimal;
use engine::catalog::{Activity, Column, ColumnType, Fact, Zone};
use engine::ids::TagId;
use std::fmt::Write;

/// Sets the events apart from the users of the same seed.
const SALT: u64 = 0x6275_7973;

/// The fact `purchase` of the population.
pub(crate) fn fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![
            column("category", ColumnType::String),
            column("channel", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ],
        activity: Activity { dimensions: vec![0, 1], measures: vec![2] },
        retention_days: Some(400),
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

/// Appends purchase number `index` of a population as a line of `POST /v1/facts/purchase`. `ts`: milliseconds since 1970.
///
/// Some users buy far more often than others; most buy what they are known to like, by their own channel.
pub fn write_line(population: &Population, index: u64, ts: i64, out: &mut String) {
    const NO_FAILURE: &str = "writing to a string does not fail";
    let random = &mut Random::of(population.seed ^ SALT, index);
    // Squaring a uniform draw makes the first users of the population the busy ones.
    let unit = 1.0 - random.unit();
    let user = (unit * unit * population.user_count as f64) as u64;
    let person = generator().person(population.seed, user);
    let liked = person.categories.count_ones();
    let category = if liked > 0 && random.chance(800) {
        super::bits(person.categories.into()).nth(random.below(liked) as usize).unwrap_or(0)
    } else {
        random.below(CATEGORIES.len() as u32) as usize
    };
    let channel =
        if random.chance(900) { usize::from(person.channel) } else { random.below(CHANNELS.len() as u32) as usize };
    let id = user_id(user);
    out.push_str("{\"user_id\":\"");
    out.extend(id.iter().map(|digit| char::from(*digit)));
    let (category, channel) = (CATEGORIES[category].0, CHANNELS[channel]);
    write!(out, "\",\"ts\":{ts},\"category\":\"{category}\",\"channel\":\"{channel}\",\"amount\":").expect(NO_FAILURE);
    push_decimal(power_law(random), 2, out);
    out.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fixes_the_event() {
        let population = Population { seed: 7, user_count: 1_000 };
        let line = |index| {
            let mut line = String::new();
            write_line(&population, index, 5, &mut line);
            line
        };
        assert_eq!(line(3), line(3));
        assert_ne!(line(3), line(4));
        for index in 0..500 {
            let event: serde_json::Value = serde_json::from_str(&line(index)).expect("JSON");
            assert_eq!(event["user_id"].as_str().map(str::len), Some(16));
            assert!(event["amount"].as_f64().is_some_and(|amount| amount > 0.0), "{event}");
        }
    }
}
