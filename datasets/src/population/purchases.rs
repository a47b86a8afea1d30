//! What users of the population buy: an endless sequence of events, any of which is computable from the seed and its number;
//! as a stream, and as the history of some days.

use super::files::write_parquet;
use super::person::{Person, UTC_OFFSET_MICROS, power_law, user_id};
use super::tables::{CATEGORIES, CHANNELS, HOUR_WEIGHTS};
use super::{Population, generator};
use crate::random::Random;
use crate::user::push_decimal;
use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::error::ArrowError;
use engine::catalog::{Activity, Column, ColumnType, Fact, Zone};
use engine::ids::TagId;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Sets the events apart from the users of the same seed.
const SALT: u64 = 0x6275_7973;
const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;
const PRECISION: u8 = 12;

/// The fact `purchase` of the population.
pub(crate) fn fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![
            column("category", ColumnType::String),
            column("channel", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: PRECISION, scale: 2 }),
        ],
        activity: Activity { dimensions: vec![0, 1], measures: vec![2] },
        retention_days: Some(400),
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

/// One event.
pub(super) struct Purchase {
    pub(super) user: u64,
    pub(super) category: &'static str,
    pub(super) channel: &'static str,
    cents: i64,
}

impl Purchase {
    /// Whose purchase number `index` is.
    pub(super) fn user_of(population: &Population, index: u64) -> u64 {
        Purchase::drawn_user(population, &mut Random::of(population.seed ^ SALT, index))
    }

    fn drawn_user(population: &Population, random: &mut Random) -> u64 {
        // Squaring a uniform draw makes the first users of the population the busy ones.
        let unit = 1.0 - random.unit();
        (unit * unit * population.user_count as f64) as u64
    }

    /// Purchase number `index`. Some users buy far more often than others; most buy what they are known to like, by their
    /// own channel.
    pub(super) fn of(population: &Population, index: u64) -> Purchase {
        let random = &mut Random::of(population.seed ^ SALT, index);
        let user = Purchase::drawn_user(population, random);
        let person: Person = generator().person(population.seed, user);
        let liked = person.categories.count_ones();
        let category = if liked > 0 && random.chance(800) {
            super::bits(person.categories.into()).nth(random.below(liked) as usize).unwrap_or(0)
        } else {
            random.below(CATEGORIES.len() as u32) as usize
        };
        let channel =
            if random.chance(900) { usize::from(person.channel) } else { random.below(CHANNELS.len() as u32) as usize };
        Purchase { user, category: CATEGORIES[category].0, channel: CHANNELS[channel], cents: power_law(random) }
    }
}

/// Appends purchase number `index` of a population as a line of `POST /v1/facts/purchase`. `ts`: milliseconds since 1970.
pub fn write_line(population: &Population, index: u64, ts: i64, out: &mut String) {
    const NO_FAILURE: &str = "writing to a string does not fail";
    let Purchase { user, category, channel, cents } = Purchase::of(population, index);
    out.push_str("{\"user_id\":\"");
    out.extend(user_id(user).iter().map(|digit| char::from(*digit)));
    write!(out, "\",\"ts\":{ts},\"category\":\"{category}\",\"channel\":\"{channel}\",\"amount\":").expect(NO_FAILURE);
    push_decimal(cents, 2, out);
    out.push_str("}\n");
}

/// The purchases of some days, in the order of their times, which follow the hours of the day.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Whose.
    pub population: Population,
    /// How many.
    pub count: u64,
    /// The end of the last day, in microseconds since 1970.
    pub until: i64,
    /// How many days; at least one.
    pub days: u32,
}

impl History {
    /// When purchase number `index` was, in microseconds since 1970.
    fn time_of(&self, index: u64) -> i64 {
        let days = f64::from(self.days) * (index as f64 + 0.5) / self.count as f64;
        let (day, mut share) = (days.floor(), days.fract() * f64::from(HOUR_WEIGHTS.iter().sum::<u32>()));
        let mut hour = 0;
        // The hours' weights are those of the clocks where people live.
        let weight = |hour: i64| f64::from(HOUR_WEIGHTS[((hour + UTC_OFFSET_MICROS / HOUR_MICROS) % 24) as usize]);
        while hour < 23 && share >= weight(hour) {
            share -= weight(hour);
            hour += 1;
        }
        let in_hour = (share / weight(hour) * HOUR_MICROS as f64) as i64;
        let begin = self.until - i64::from(self.days) * DAY_MICROS;
        begin + day as i64 * DAY_MICROS + hour * HOUR_MICROS + in_hour.min(HOUR_MICROS - 1)
    }

    /// Writes a range of them as lines of `POST /v1/facts/purchase`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_ndjson(&self, range: Range<u64>, out: &mut dyn Write) -> io::Result<()> {
        let mut line = String::new();
        for index in range {
            line.clear();
            write_line(&self.population, index, self.time_of(index) / 1000, &mut line);
            out.write_all(line.as_bytes())?;
        }
        out.flush()
    }

    /// Writes a range of them as one Parquet file: `user_id`, `ts`, and the columns of the fact.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_parquet(&self, range: Range<u64>, path: &Path) -> io::Result<()> {
        write_parquet(path, range, |range| self.record_batch(range))
    }

    fn record_batch(&self, range: Range<u64>) -> Result<RecordBatch, ArrowError> {
        let purchases: Vec<Purchase> = range.clone().map(|index| Purchase::of(&self.population, index)).collect();
        let text = |value: &dyn Fn(&Purchase) -> &'static str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(purchases.iter().map(value)))
        };
        let id = |purchase: &Purchase| user_id(purchase.user).map(char::from).iter().collect::<String>();
        let times = TimestampMicrosecondArray::from_iter_values(range.map(|index| self.time_of(index)));
        let amounts = Decimal128Array::from_iter_values(purchases.iter().map(|purchase| purchase.cents.into()));
        RecordBatch::try_from_iter([
            ("user_id", Arc::new(StringArray::from_iter_values(purchases.iter().map(id))) as ArrayRef),
            ("ts", Arc::new(times.with_timezone("UTC"))),
            ("category", text(&|purchase| purchase.category)),
            ("channel", text(&|purchase| purchase.channel)),
            ("amount", Arc::new(amounts.with_precision_and_scale(PRECISION, 2)?)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::population::AS_OF;
    use arrow::array::AsArray;
    use arrow::datatypes::{Decimal128Type, TimestampMicrosecondType};

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

    #[test]
    fn a_history_fills_its_days_in_order() {
        let population = Population { seed: 7, user_count: 1_000 };
        let history = History { population, count: 24_000, until: AS_OF, days: 10 };
        let times: Vec<i64> = (0..history.count).map(|index| history.time_of(index)).collect();
        assert!(times.is_sorted());
        assert!(times[0] >= AS_OF - 10 * DAY_MICROS && times[23_999] < AS_OF);
        let of_day = |day: i64| {
            let begin = AS_OF - (10 - day) * DAY_MICROS;
            times.iter().filter(|ts| (begin..begin + DAY_MICROS).contains(*ts)).count()
        };
        assert!((0..10).all(|day| of_day(day).abs_diff(2_400) <= 1));
        // 21:00 in China is 13:00 UTC; 03:00 is 19:00 UTC.
        let at = |hour: i64| times.iter().filter(|ts| ts.rem_euclid(DAY_MICROS) / HOUR_MICROS == hour).count();
        assert!(at(13) > 10 * at(19), "{} {}", at(13), at(19));
    }

    #[test]
    fn both_ways_to_write_a_history_say_the_same() {
        let population = Population { seed: 7, user_count: 1_000 };
        let history = History { population, count: 5_000, until: AS_OF, days: 3 };
        let batch = history.record_batch(4_000..4_100).expect("columns");
        let mut text = Vec::new();
        history.write_ndjson(4_000..4_100, &mut text).expect("written");
        let lines = std::str::from_utf8(&text).expect("text").lines();
        for (row, line) in lines.enumerate() {
            let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(event["user_id"], batch["user_id"].as_string::<i32>().value(row));
            assert_eq!(event["category"], batch["category"].as_string::<i32>().value(row));
            assert_eq!(event["channel"], batch["channel"].as_string::<i32>().value(row));
            assert_eq!(event["ts"], batch["ts"].as_primitive::<TimestampMicrosecondType>().value(row) / 1000);
            let cents = batch["amount"].as_primitive::<Decimal128Type>().value(row);
            assert_eq!((event["amount"].as_f64().expect("a number") * 100.0).round() as i128, cents);
        }
        assert_eq!(batch.num_rows(), 100);
    }
}
