//! The Gregorian calendar: days since 1970-01-01 and back.
//!
//! Years are counted from March, so that the leap day is the last one (H. Hinnant, "chrono-compatible low-level date
//! algorithms", 2013).

/// A date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it; months and days count from 1")]
pub struct Date {
    pub year: i64,
    pub month: i64,
    pub day: i64,
}

impl Date {
    /// The date of a day since 1970-01-01.
    pub fn of(days_since_1970: i64) -> Date {
        let days = days_since_1970 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }

    /// Days since 1970-01-01.
    pub fn days_since_1970(self) -> i64 {
        let (year, month) = if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        year * 365 + leap_days + (month * 153 + 2) / 5 + self.day - 1 - 719_468
    }

    /// Whether there is such a day.
    pub fn exists(self) -> bool {
        (1..=12).contains(&self.month) && self.day >= 1 && self.day <= days_in(self.year, self.month)
    }

    /// The same day so many months earlier, or the last one of that month.
    pub fn months_earlier(self, months: i64) -> Date {
        let count = self.year * 12 + self.month - 1 - months;
        let (year, month) = (count.div_euclid(12), count.rem_euclid(12) + 1);
        Date { year, month, day: self.day.min(days_in(year, month)) }
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Days of a month.
pub fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_go_both_ways() {
        let mut expected = Date { year: 1899, month: 12, day: 28 };
        for days in expected.days_since_1970()..80_000 {
            assert_eq!(Date::of(days), expected);
            assert_eq!(expected.days_since_1970(), days);
            expected.day += 1;
            if expected.day > days_in(expected.year, expected.month) {
                (expected.day, expected.month) = (1, expected.month + 1);
            }
            if expected.month > 12 {
                (expected.month, expected.year) = (1, expected.year + 1);
            }
        }
        assert_eq!(Date::of(0).to_string(), "1970-01-01");
    }

    #[test]
    fn months_end_where_they_end() {
        let date = Date { year: 2026, month: 3, day: 31 };
        assert_eq!(date.months_earlier(1).to_string(), "2026-02-28");
        assert_eq!(date.months_earlier(25).to_string(), "2024-02-29");
        assert_eq!(date.months_earlier(3).to_string(), "2025-12-31");
    }
}
