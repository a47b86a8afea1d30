//! Dates, times and intervals as PostgreSQL writes them, with the styles `ISO` and `postgres`.

use engine::behavior::calendar;
use std::fmt::{Display, Formatter, Result};

/// PostgreSQL counts from the first day of 2000.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
const DAY_MICROS: i64 = 86_400_000_000;

/// A day, of those since 1970.
pub(super) struct Date(pub(super) i64);

impl Display for Date {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let calendar::Date { year, month, day } = calendar::Date::of(self.0);
        match year {
            1.. => write!(f, "{year:04}-{month:02}-{day:02}"),
            _ => write!(f, "{:04}-{month:02}-{day:02} BC", 1 - year),
        }
    }
}

/// A time of the day, in microseconds.
pub(super) struct Time(pub(super) i64);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        write!(f, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)?;
        part(f, micros)
    }
}

/// What stands behind the seconds.
fn part(f: &mut Formatter<'_>, micros: i64) -> Result {
    if micros == 0 {
        return Ok(());
    }
    let digits = format!("{micros:06}");
    write!(f, ".{}", digits.trim_end_matches('0'))
}

/// A moment, of microseconds since 1970.
pub(super) struct Timestamp {
    pub(super) micros: i64,
    pub(super) is_utc: bool,
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let zone = if self.is_utc { "+00" } else { "" };
        let day = self.micros.div_euclid(DAY_MICROS);
        let calendar::Date { year, month, day } = calendar::Date::of(day);
        let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
        write!(f, "{year:04}-{month:02}-{day:02} {}{zone}{era}", Time(self.micros.rem_euclid(DAY_MICROS)))
    }
}

/// So many months, days and microseconds.
pub(super) struct Interval {
    pub(super) months: i32,
    pub(super) days: i32,
    pub(super) micros: i64,
}

impl Display for Interval {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let parts = [
            (i64::from(self.months / 12), "year"),
            (i64::from(self.months % 12), "mon"),
            (i64::from(self.days), "day"),
        ];
        let mut between = "";
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number != 0) {
            let plural = if number == 1 { "" } else { "s" };
            write!(f, "{between}{number} {unit}{plural}")?;
            between = " ";
        }
        if self.micros == 0 && !between.is_empty() {
            return Ok(());
        }
        let (seconds, micros) = (self.micros.unsigned_abs() / 1_000_000, self.micros.unsigned_abs() % 1_000_000);
        let sign = if self.micros < 0 { "-" } else { "" };
        write!(f, "{between}{sign}{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)?;
        part(f, micros.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_written_as_postgresql_does() {
        let check = |micros: i64, expected: &str| {
            assert_eq!(Timestamp { micros, is_utc: true }.to_string(), expected);
        };
        check(0, "1970-01-01 00:00:00+00");
        check(EPOCH_MICROS + 1_500_000, "2000-01-01 00:00:01.5+00");
        check(-1, "1969-12-31 23:59:59.999999+00");
        check(-62_135_596_800_000_001, "0001-12-31 23:59:59.999999+00 BC");
        assert_eq!(Date(i64::from(i32::MAX)).to_string(), "5881580-07-11");
        assert!(Date(i64::from(i32::MIN)).to_string().ends_with(" BC"));
        let interval = |months, days, micros| Interval { months, days, micros }.to_string();
        assert_eq!(interval(14, -3, 14_706_500_000), "1 year 2 mons -3 days 04:05:06.5");
        assert_eq!((interval(0, 0, 0), interval(0, 1, 0)), ("00:00:00".to_owned(), "1 day".to_owned()));
        assert_eq!(interval(0, 0, -1_000_000), "-00:00:01");
    }

    proptest! {
        #[test]
        fn days_are_those_of_another_calendar(day in -719_162..2_932_896i64) {
            let expected = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(day);
            prop_assert_eq!(Date(day).to_string(), expected.to_string());
        }

        #[test]
        fn any_moment_is_written(micros: i64, months: i32, days: i32) {
            let _ = (Timestamp { micros, is_utc: false }.to_string(), Interval { months, days, micros }.to_string());
        }
    }
}
