//! What the times of a condition mean now: `'30 days ago'`, `within => '24 hours'`, dates and instants.

use super::{Binder, Bound};
use crate::audience::error::{ExprError, ExprErrorKind};
use crate::audience::expr::Literal;
use crate::audience::literal::{self, Exact};
use crate::behavior::Window;
use crate::behavior::calendar::Date;
use crate::behavior::slice::{HOUR_MICROS, hour_of};
use crate::bitmap::bsi::NumberRange;

/// A time that a literal stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// A day, or an hour, by the clocks of the fact's zone.
    Hours(Window),
    /// Microseconds since 1970.
    Instant(Exact),
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Hours(i32),
    Days(i32),
    Months(i32),
}

impl Binder<'_> {
    /// The hours up to now: `30 days` are today and the 29 days before.
    pub(super) fn hours_within(&self, text: &str) -> Bound<Window> {
        let (from, to) = match length(text)? {
            Period::Hours(hours) => (self.now_hour.saturating_sub(hours) + 1, self.now_hour + 1),
            period => {
                let after = self.day_earlier(period).saturating_add(1);
                (after.saturating_mul(24), (self.now_hour.div_euclid(24) + 1) * 24)
            }
        };
        Ok(Window { from, to })
    }

    /// The instants behind the one so much earlier, up to now. A day is 24 hours; a month leads to the same time of the clock
    /// on the same day of another month, or on its last one.
    pub(super) fn instants_within(&self, text: &str) -> Bound<NumberRange> {
        let hours = |hours: i64| self.now.saturating_sub(hours.saturating_mul(HOUR_MICROS));
        let before = match length(text)? {
            Period::Hours(count) => hours(count.into()),
            Period::Days(days) => hours(i64::from(days) * 24),
            Period::Months(months) => self.months_earlier(months.into()),
        };
        Ok(NumberRange { min: before.saturating_add(1), max: self.now })
    }

    fn months_earlier(&self, months: i64) -> i64 {
        const DAY_MICROS: i64 = 24 * HOUR_MICROS;
        let zone = &self.fact.zone;
        let local = zone.local(self.now);
        let day = Date::of(local.div_euclid(DAY_MICROS)).months_earlier(months).days_since_1970();
        let wanted = day.saturating_mul(DAY_MICROS).saturating_add(local.rem_euclid(DAY_MICROS));
        // The offset at an instant near by, then the one that holds there; where clocks were changed in between, the later.
        let at_offset_of = |near: i64| wanted.saturating_sub(zone.local(near).saturating_sub(near));
        at_offset_of(at_offset_of(wanted))
    }

    /// The day so much earlier than today.
    fn day_earlier(&self, period: Period) -> i32 {
        let today = self.now_hour.div_euclid(24);
        match period {
            Period::Hours(hours) => self.now_hour.saturating_sub(hours).div_euclid(24),
            Period::Days(days) => today.saturating_sub(days),
            Period::Months(months) => {
                let day = Date::of(today.into()).months_earlier(months.into()).days_since_1970();
                day.clamp((i32::MIN / 24).into(), i32::MAX.into()) as i32
            }
        }
    }

    /// What a literal means as a time: a date is that whole day, '3 days ago' the day three days before today; a time of day is
    /// an instant.
    pub(super) fn moment(&self, value: &Literal) -> Bound<Moment> {
        let wrong = || {
            ExprError::new(ExprErrorKind::Value, format!("{value} is not a time"))
                .suggest("write '2026-11-20', '2026-11-20T10:00:00Z' or '30 days ago'")
        };
        let Literal::Text(text) = value else { return Err(wrong()) };
        let day = |day: i32| {
            let from = day.saturating_mul(24);
            Moment::Hours(Window { from, to: from.saturating_add(24) })
        };
        if let Some(ago) = text.trim().strip_suffix("ago") {
            return Ok(match period(ago).ok_or_else(wrong)? {
                Period::Hours(hours) => {
                    let hour = self.now_hour.saturating_sub(hours);
                    Moment::Hours(Window { from: hour, to: hour.saturating_add(1) })
                }
                period => day(self.day_earlier(period)),
            });
        }
        let exact = literal::timestamp(text).ok_or_else(wrong)?;
        if text.contains(':') {
            return Ok(Moment::Instant(exact));
        }
        // A date: the day of that name by the zone's clocks.
        let micros = exact.number().ok_or_else(wrong)?;
        Ok(day(hour_of(micros).div_euclid(24)))
    }
}

fn length(text: &str) -> Bound<Period> {
    period(text).ok_or_else(|| {
        ExprError::new(ExprErrorKind::Value, format!("'{text}' is not a length of time"))
            .suggest("write within => '30 days', '24 hours', '6 weeks', '3 months' or '1 year'")
    })
}

/// Reads `30 days`.
fn period(text: &str) -> Option<Period> {
    let mut words = text.split_whitespace();
    let (count, unit) = (words.next()?, words.next()?);
    let count: i32 = count.parse().ok().filter(|count| *count > 0 && words.next().is_none())?;
    let times = |times: i32| count.checked_mul(times);
    Some(match unit.to_ascii_lowercase().as_str() {
        "hour" | "hours" => Period::Hours(count),
        "day" | "days" => Period::Days(count),
        "week" | "weeks" => Period::Days(times(7)?),
        "month" | "months" => Period::Months(count),
        "year" | "years" => Period::Months(times(12)?),
        _ => return None,
    })
}
