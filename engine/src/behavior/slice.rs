//! Slices of time, and windows made of them.
//!
//! All in the local time of the fact's zone. Of the last days there are hours, so that a short window can be asked for;
//! of what is older there are days. Of whole months there are sums besides, so that a long window adds few slices. Every
//! event is in one hour or one day, never in both.

use super::calendar::Date;
use std::ops::Range;

/// Microseconds of an hour.
pub const HOUR_MICROS: i64 = 3_600_000_000;
/// Days before today of which there are hours still: any window of the last 48 hours can be made of hours.
pub const HOURLY_DAYS: i32 = 2;

/// The lengths of slices, in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grain {
    /// A calendar month: a sum of days, kept besides them.
    Month,
    /// A calendar day.
    Day,
    /// An hour of the clock.
    Hour,
}

/// A slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    /// How long it is.
    pub grain: Grain,
    /// Months (days, hours) since the first of 1970.
    pub number: i32,
}

impl Slice {
    /// The slice that an event goes to, by the hours of the zone's clocks: its own and the present one.
    pub fn of_event(hour: i32, now_hour: i32) -> Slice {
        let day = hour.div_euclid(24);
        if is_hourly(day, now_hour) {
            Slice { grain: Grain::Hour, number: hour }
        } else {
            Slice { grain: Grain::Day, number: day }
        }
    }

    /// The slice that this one is kept as at the present hour: hours become days.
    pub fn kept_as(self, now_hour: i32) -> Slice {
        match self.grain {
            Grain::Hour => Slice::of_event(self.number, now_hour),
            Grain::Day | Grain::Month => self,
        }
    }

    /// Its hours.
    pub fn hours(self) -> Window {
        let window = |from: i32, to: i32| Window { from: from.saturating_mul(24), to: to.saturating_mul(24) };
        match self.grain {
            Grain::Hour => Window { from: self.number, to: self.number.saturating_add(1) },
            Grain::Day => window(self.number, self.number.saturating_add(1)),
            Grain::Month => window(first_day(self.number), first_day(self.number.saturating_add(1))),
        }
    }

    /// The month that holds it.
    pub fn month(self) -> i32 {
        match self.grain {
            Grain::Month => self.number,
            Grain::Day => month_of(self.number),
            Grain::Hour => month_of(self.number.div_euclid(24)),
        }
    }
}

/// Whether a day is kept as hours.
fn is_hourly(day: i32, now_hour: i32) -> bool {
    day >= now_hour.div_euclid(24) - HOURLY_DAYS
}

fn month_of(day: i32) -> i32 {
    let date = Date::of(day.into());
    ((date.year - 1970) * 12 + date.month - 1) as i32
}

fn first_day(month: i32) -> i32 {
    let month = i64::from(month);
    let date = Date { year: 1970 + month.div_euclid(12), month: month.rem_euclid(12) + 1, day: 1 };
    date.days_since_1970().clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// The hour of the clock that shows this time (microseconds since 1970, as if it were UTC).
pub fn hour_of(local_micros: i64) -> i32 {
    // An i64 of microseconds spans about 5 billion hours: what lies beyond 240,000 years is cut.
    local_micros.div_euclid(HOUR_MICROS).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Hours since 1970-01-01, `from..to`, by the clocks of a fact's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    /// The first hour.
    pub from: i32,
    /// Behind the last hour.
    pub to: i32,
}

impl Window {
    /// All time.
    pub const ALL: Window = Window { from: i32::MIN, to: i32::MAX };

    /// Whether it holds no hour.
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }

    /// The hours in both.
    pub fn and(self, other: Window) -> Window {
        Window { from: self.from.max(other.from), to: self.to.min(other.to) }
    }

    /// Whether all hours of `other` are in it.
    pub fn covers(self, other: Window) -> bool {
        self.from <= other.from && other.to <= self.to
    }

    /// The slices of this length that lie in it wholly, by number.
    pub fn slices(self, grain: Grain) -> Range<i32> {
        // From the first that begins in it to the first that does not end in it.
        let first = |hour: i32, length: i32| -(-i64::from(hour)).div_euclid(length.into()) as i32;
        match grain {
            Grain::Hour => self.from..self.to,
            Grain::Day => first(self.from, 24)..self.to.div_euclid(24),
            Grain::Month => {
                let begins = |month: i32| Slice { grain: Grain::Month, number: month }.hours().from;
                let holding = |hour: i32| month_of(hour.div_euclid(24));
                let from = holding(self.from);
                from + i32::from(begins(from) < self.from)..holding(self.to)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hour_is_in_its_day_and_month() {
        for hour in (-900_000..900_000).step_by(7) {
            let day = Slice { grain: Grain::Day, number: i32::div_euclid(hour, 24) };
            let month = Slice { grain: Grain::Month, number: day.month() };
            let hour = Slice { grain: Grain::Hour, number: hour };
            assert!(day.hours().covers(hour.hours()) && month.hours().covers(day.hours()));
            assert_eq!(hour.month(), month.number);
        }
        assert_eq!(Slice { grain: Grain::Month, number: 1 }.hours(), Window { from: 31 * 24, to: 59 * 24 });
    }

    #[test]
    fn the_slices_of_a_window_are_those_within() {
        for (from, to) in
            [(-5_000, 9_000), (24, 24 * 31), (0, 24 * 31), (23, 24 * 365 + 1), (744, 744 + 28 * 24), (7, 7)]
        {
            let window = Window { from, to };
            for grain in [Grain::Month, Grain::Day, Grain::Hour] {
                let inside = (-20_000..20_000).filter(|number| window.covers(Slice { grain, number: *number }.hours()));
                assert!(inside.eq(window.slices(grain)), "{window:?} {grain:?}");
            }
        }
        assert!(Window::ALL.slices(Grain::Month).contains(&0) && Window::ALL.slices(Grain::Day).contains(&20_000));
    }

    #[test]
    fn hours_are_kept_as_long_as_a_window_of_48_can_need_them() {
        for now in 1_000..1_100 {
            for hour in now - 47..=now {
                assert_eq!(Slice::of_event(hour, now).grain, Grain::Hour);
            }
            assert_eq!(Slice::of_event(now - 72, now).grain, Grain::Day);
        }
    }
}
