//! When an event happened, and when it cannot have.

use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind};
use crate::decode::tags::shown;
use crate::decode::value::{NumberError, parse_number, parse_time};
use engine::behavior::slice::hour_of;
use engine::catalog::{Fact, Unit, Zone};

const DAY_MICROS: i64 = 86_400_000_000;

/// Which times an event of a fact can have.
#[derive(Clone, Debug)]
pub(super) struct Times {
    zone: Zone,
    now: i64,
    /// The first hour that is kept, by the zone's clocks.
    kept_from: i32,
    retention_days: Option<u32>,
}

impl Times {
    pub(super) fn of(fact: &Fact, now: i64) -> Times {
        let (_, kept_from) = fact.hours_at(now);
        Times { zone: fact.zone.clone(), now, kept_from, retention_days: fact.retention_days }
    }

    /// Reads `ts`, in microseconds since 1970.
    pub(super) fn read(&self, json: &mut Json<'_>, scratch: &mut String) -> Result<i64, LineError> {
        let kind = json.kind()?;
        let at = json.position();
        let (text, parsed) = match kind {
            Kind::String => {
                let text = json.string(scratch)?;
                (text, parse_time(text))
            }
            Kind::Number => {
                let text = json.number()?;
                (text, parse_number(text, Unit::Timestamp))
            }
            kind => {
                return Err(LineError::new(LineErrorKind::EventTime, format!("`ts` cannot be {}", kind.noun()))
                    .at(at)
                    .suggest(NumberError::NotATime.suggestion()));
            }
        };
        let taken = self.take(parsed, kind == Kind::Number, || shown(text).into_owned());
        taken.map_err(|error| error.at(at))
    }

    /// Takes a time that was read, or says why no event can be then. `text` shows it as it was written.
    pub(super) fn take(
        &self,
        parsed: Result<i64, NumberError>,
        is_number: bool,
        text: impl FnOnce() -> String,
    ) -> Result<i64, LineError> {
        let (why, suggestion) = match parsed {
            Ok(ts) => match self.impossible(ts) {
                None => return Ok(ts),
                Some((why, _)) if is_number => (why, "a number is read as milliseconds since 1970"),
                Some(impossible) => impossible,
            },
            Err(error) => (error.to_string(), error.suggestion()),
        };
        Err(LineError::new(LineErrorKind::EventTime, format!("`ts`: `{}` {why}", text())).suggest(suggestion))
    }

    /// Why no event can be then, and what to do.
    fn impossible(&self, ts: i64) -> Option<(String, &'static str)> {
        if ts < 0 {
            return Some(("is before 1970".to_owned(), "leave the event out"));
        }
        if ts > self.now.saturating_add(DAY_MICROS) {
            return Some(("is more than a day after now".to_owned(), "check the sender's clock and time zone"));
        }
        match self.retention_days {
            Some(days) if hour_of(self.zone.local(ts)) < self.kept_from => {
                let why = format!("is older than the {days} days that the fact keeps");
                Some((why, "leave the event out, or declare a longer retention"))
            }
            _ => None,
        }
    }
}
