//! `POST /v1/retention`: users by the period of their first event, and how many of them came back in each period from then on.

use super::count::elapsed_us;
use super::expression::Where;
use super::keep::{Found, Keeping, SavedUsers};
use super::steps::Step;
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, PERIODS_MAX, Period, QueryContext, RetentionQuestion};
use engine::audience::predicate::Predicate;
use engine::behavior::calendar::Date;
use engine::clock::Clock;
use engine::store::Snapshot;
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Periods of an answer, unless it is said.
const PERIODS_DEFAULT: usize = 12;
const DAY_MICROS: i64 = 86_400_000_000;

/// Who came back to what, of whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"first": {"fact": "visit"}, "back": {"fact": "purchase"}, "every": "week", "periods": 8}))]
pub struct RetentionRequest {
    /// The event that a user begins with: a user belongs to the period of the first one that is kept.
    pub first: Step,
    /// What counts as coming back; the same event if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Step>,
    /// How long a period is, by the clocks of the fact's zone.
    #[serde(default)]
    pub every: Every,
    /// How many periods, up to the one with `until`: at most 400, and 12 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<usize>,
    /// A day of the last period, as 2026-11-20; today if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Of these users; of all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// Keeps users as an audience. Takes the scope `ingest` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_as: Option<SaveCell>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How long a period is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// A calendar day.
    #[default]
    Day,
    /// Seven days from a Monday on.
    Week,
    /// A calendar month.
    Month,
}

impl From<Every> for Period {
    fn from(every: Every) -> Period {
        match every {
            Every::Day => Period::Day,
            Every::Week => Period::Week,
            Every::Month => Period::Month,
        }
    }
}

/// Which users become an audience.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"audience": "lost_in_week_2", "cohort": "2026-11-02", "after": 2, "lost": true}))]
pub struct SaveCell {
    /// Its name. It is a list, as if it had been uploaded: who they are now.
    pub audience: String,
    /// Users who began in the period that begins on this day.
    pub cohort: String,
    /// And came back so many periods later.
    pub after: usize,
    /// Those instead who did not come back then.
    #[serde(default)]
    pub lost: bool,
}

/// Who came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RetentionAnswer {
    /// A cohort for each period, oldest first.
    pub cohorts: Vec<Cohort>,
    /// What was kept as an audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedUsers>,
    /// Rows of the facts that were read; none if the activity index told all.
    pub rows_read: u64,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// Users who began in a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cohort {
    /// The first day of the period, as 2026-11-20.
    pub from: String,
    /// How many they are.
    pub users: u64,
    /// How many of them came back in that period, in the next one, and so on up to the last, which may not be over yet.
    pub back: Vec<u64>,
    /// The same as shares of them; empty if there are none.
    pub shares: Vec<f64>,
}

/// Answers on a snapshot; keeps nothing.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    snapshot: &Snapshot,
    request: &RetentionRequest,
    context: &QueryContext,
) -> Result<RetentionAnswer, Failure> {
    found(snapshot, request, context).map(|found| found.answer)
}

fn found(
    snapshot: &Snapshot,
    request: &RetentionRequest,
    context: &QueryContext,
) -> Result<Found<RetentionAnswer>, Failure> {
    let started = Instant::now();
    let now = SystemClock.now();
    let first = request.first.bind(snapshot.catalog(), None, now, "/first")?;
    let back = match &request.back {
        Some(back) => back.bind(snapshot.catalog(), None, now, "/back")?,
        None => first.clone(),
    };
    let periods = request.periods.unwrap_or(PERIODS_DEFAULT);
    if periods == 0 || periods > PERIODS_MAX {
        return Err(Failure::field("/periods", format!("`periods` is from 1 to {PERIODS_MAX}")));
    }
    let last_day = match &request.until {
        Some(until) => day(until, "/until")?,
        None => {
            let zone = snapshot.catalog().fact_of(first.fact).map(|fact| fact.zone.local(now));
            zone.unwrap_or(now).div_euclid(DAY_MICROS) as i32
        }
    };
    let whom = match &request.r#where {
        Some(whom) => whom.bind(snapshot, "/where")?.predicate,
        None => Predicate::All,
    };
    let asked =
        RetentionQuestion { first: &first, back: &back, period: request.every.into(), periods, last_day, whom: &whom };
    let found = ops::retention(snapshot, &asked, context)?;
    let kept = match &request.save_as {
        None => None,
        Some(save) => {
            let from = day(&save.cohort, "/save_as/cohort")?;
            let Some(cohort) = found.first_days.iter().position(|first| *first == from) else {
                let days: Vec<String> = found.first_days.iter().map(|day| date(*day)).collect();
                let failure = Failure::field("/save_as/cohort", format!("no period begins on {}", save.cohort));
                return Err(failure.suggest(format!("write one of {}", begin_of(&days.join(", ")))));
            };
            if cohort + save.after >= periods {
                let last = periods - 1 - cohort;
                let detail = format!("the last period is {last} after that of {}", save.cohort);
                return Err(Failure::field("/save_as/after", detail));
            }
            Some(found.members(cohort, cohort + save.after, !save.lost))
        }
    };
    let grid = found.grid(context)?;
    let cohorts = found.first_days.iter().zip(grid).enumerate().map(|(at, (first, back))| {
        let users = found.size(at);
        let shares =
            if users == 0 { Vec::new() } else { back.iter().map(|back| *back as f64 / users as f64).collect() };
        Cohort { from: date(*first), users, back, shares }
    });
    let answer = RetentionAnswer {
        cohorts: cohorts.collect(),
        saved: None,
        rows_read: found.stats.map_or(0, |stats| stats.rows_read),
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    };
    Ok(Found { answer, kept })
}

/// A day since 1970, written as 2026-11-20.
fn date(day: i32) -> String {
    let Date { year, month, day } = Date::of(day.into());
    format!("{year:04}-{month:02}-{day:02}")
}

fn day(text: &str, pointer: &str) -> Result<i32, Failure> {
    let parsed = text.parse::<jiff::civil::Date>().ok().map(|parsed| Date {
        year: parsed.year().into(),
        month: parsed.month().into(),
        day: parsed.day().into(),
    });
    parsed.map(|date| date.days_since_1970() as i32).ok_or_else(|| {
        let failure = Failure::new(Kind::InvalidField, format!("`{text}` is no day")).at(pointer);
        failure.suggest("write it as 2026-11-20")
    })
}

/// Tells who came back: users by the period of their first event, and how many of them did something in each period from then on.
///
/// Exact users, each counted once a cell. Column 0 is the period that the user began in. On request those of one cell are kept as an
/// audience.
#[utoipa::path(post, path = "/v1/retention", operation_id = "retention", tag = "questions", request_body = RetentionRequest,
    responses((status = 200, body = RetentionAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<RetentionRequest>,
) -> Answer<RetentionAnswer> {
    let keeping = Keeping {
        asks: Asks::Retention,
        text: begin_of(&request.first.told()),
        timeout_ms: request.timeout_ms,
        audience: request.save_as.as_ref().map(|save| save.audience.clone()),
    };
    let rows = |answer: &RetentionAnswer| answer.cohorts.len();
    let answered = keeping.ask(&state, &asker, rows, move |snapshot, context| found(snapshot, &request, context));
    let (answer, saved) = answered.await?;
    Ok(Json(RetentionAnswer { saved, ..answer }))
}
