//! How time is divided into periods: by the clocks and the calendar of a zone.

use crate::behavior::slice::{Grain, Slice, hour_of};
use crate::catalog::Zone;

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeGrain {
    /// An hour of the clock; where clocks are set back, the hour that they show twice is one.
    Hour,
    /// A calendar day.
    Day,
    /// Seven days from a Monday on.
    Week,
    /// A calendar month.
    Month,
}

/// Periods by the clocks of a zone.
#[derive(Clone, Copy, Debug)]
pub struct Periods<'q> {
    /// How long they are.
    pub grain: TimeGrain,
    /// Whose clocks.
    pub zone: &'q Zone,
}

impl TimeGrain {
    /// The first hour of the period that holds an hour, both since 1970.
    pub fn first_hour(self, hour: i32) -> i32 {
        let day = hour.div_euclid(24);
        match self {
            TimeGrain::Hour => hour,
            TimeGrain::Day => day.saturating_mul(24),
            // 1970 began on a Thursday.
            TimeGrain::Week => ((day + 3).div_euclid(7) * 7 - 3).saturating_mul(24),
            TimeGrain::Month => {
                let month = Slice { grain: Grain::Day, number: day }.month();
                Slice { grain: Grain::Month, number: month }.hours().from
            }
        }
    }
}

impl Periods<'_> {
    /// The first hour of the period that holds an instant (microseconds since 1970).
    pub(super) fn first_hour(&self, micros: i64) -> i32 {
        self.grain.first_hour(hour_of(self.zone.local(micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behavior::calendar::Date;

    #[test]
    fn periods_begin_where_calendars_say() {
        let hour = |year, month, day| Date { year, month, day }.days_since_1970() as i32 * 24;
        let noon = hour(2026, 11, 22) + 12;
        assert_eq!(TimeGrain::Hour.first_hour(noon), noon);
        assert_eq!(TimeGrain::Day.first_hour(noon), noon - 12);
        // A Sunday; weeks begin on the Monday before.
        assert_eq!(TimeGrain::Week.first_hour(noon), hour(2026, 11, 16));
        assert_eq!(TimeGrain::Month.first_hour(noon), hour(2026, 11, 1));
        assert_eq!(TimeGrain::Week.first_hour(-1), hour(1969, 12, 29));
        assert_eq!(TimeGrain::Month.first_hour(-1), hour(1969, 12, 1));
        // Times that no calendar has do not overflow.
        for grain in [TimeGrain::Day, TimeGrain::Week, TimeGrain::Month] {
            assert!(grain.first_hour(i32::MIN) < 0 && grain.first_hour(i32::MAX) > 0);
        }
    }

    #[test]
    fn clocks_are_those_of_the_zone() {
        let zone = Zone::new("Test/East", 8 * 3_600, Vec::new());
        let periods = Periods { grain: TimeGrain::Day, zone: &zone };
        let hour = 3_600_000_000;
        assert_eq!([periods.first_hour(0), periods.first_hour(15 * hour), periods.first_hour(16 * hour)], [0, 0, 24]);
    }
}
