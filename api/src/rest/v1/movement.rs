//! `GET /v1/audiences/{name}/movement`: who entered and who left a live audience between two moments.
//!
//! Told from the rows of the fact `audience_change`, by the same SQL that anybody can ask. Of a user's changes within the time, taken in
//! order, the first and the last decide: who entered first and last is a member at the end and was none at the begin, and so on.

use super::count::elapsed_us;
use super::live::{list_of, moment};
use super::number::time;
use super::sql::{self, SqlRequest};
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::Parameters;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use engine::audience::ops::QueryContext;
use engine::catalog::AUDIENCE_CHANGES;
use engine::clock::Clock;
use engine::store::Snapshot;
use engine_sql::session::Sql;
use ingest::clock::SystemClock;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;

/// Users of the longest page.
pub const MOVEMENT_USERS_MAX: usize = 10_000;
/// Users of a page, unless it is said.
const USERS_DEFAULT: usize = 1_000;
/// The most days that are told one by one: as long as changes are kept.
const DAYS_MAX: usize = 401;

/// Between when, and which page.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MovementParameters {
    /// The begin (RFC 3339), which belongs to the time.
    pub from: String,
    /// The end, which does not; now if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only users of this movement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movement: Option<Movement>,
    /// Users of a page, at most 10,000; 1,000 if left out. 0: figures only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What became of a user between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Movement {
    /// No member at the begin, a member at the end.
    Entered,
    /// A member at the begin, none at the end.
    Left,
    /// Entered and left again.
    Passed,
    /// Left and entered again.
    Returned,
}

/// Who entered and who left.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MovementAnswer {
    /// The audience.
    pub audience: String,
    /// The begin.
    pub from: String,
    /// The end.
    pub to: String,
    /// Members at the end who were none at the begin.
    pub entered: u64,
    /// Members at the begin who were none at the end.
    pub left: u64,
    /// Users who entered and left again.
    pub passed: u64,
    /// Users who left and entered again.
    pub returned: u64,
    /// How often users entered and left on each day on which any did, oldest first; days of UTC. Who does so several times counts several
    /// times.
    pub days: Vec<MovementDay>,
    /// A page of the users, by id.
    pub users: Vec<MovedUser>,
    /// To be sent as `after` for the next page; null at the end.
    pub next: Option<String>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// Changes of a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MovementDay {
    /// The day, as 2026-11-20.
    pub day: String,
    /// How often somebody entered.
    pub entered: u64,
    /// How often somebody left.
    pub left: u64,
}

/// A user who moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MovedUser {
    /// The user.
    pub user_id: String,
    /// What became of them.
    pub movement: Movement,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    sql: &Sql,
    snapshot: &Snapshot,
    name: &str,
    parameters: &MovementParameters,
    context: &QueryContext,
) -> Result<MovementAnswer, Failure> {
    let started = Instant::now();
    let limit = parameters.limit.unwrap_or(USERS_DEFAULT);
    if limit > MOVEMENT_USERS_MAX {
        return Err(Failure::new(Kind::InvalidField, format!("`limit` is at most {MOVEMENT_USERS_MAX}")).at("limit"));
    }
    list_of(name, super::audiences::find(snapshot, name)?)?;
    let from = moment(Some(&parameters.from), "from")?.unwrap_or(i64::MIN);
    let to = moment(parameters.to.as_ref(), "to")?.unwrap_or_else(|| SystemClock.now());
    if from >= to {
        let failure = Failure::new(Kind::InvalidField, "`from` is not before `to`").at("from");
        return Err(failure.suggest("write the earlier moment as `from`; `to` left out is now"));
    }
    let asked = Asked { sql, snapshot, context, name, from, to };
    let mut counts = [0; 4];
    for (movement, count) in asked.counts()? {
        counts[movement as usize] = count;
    }
    let days = asked.days()?;
    let mut users = if limit == 0 { Vec::new() } else { asked.users(parameters, limit)? };
    let more = users.len() > limit;
    users.truncate(limit);
    Ok(MovementAnswer {
        audience: name.to_owned(),
        from: time(from.into()),
        to: time(to.into()),
        entered: counts[Movement::Entered as usize],
        left: counts[Movement::Left as usize],
        passed: counts[Movement::Passed as usize],
        returned: counts[Movement::Returned as usize],
        days,
        next: users.last().filter(|_| more).map(|last| last.user_id.clone()),
        users,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

/// What is asked, of a time.
struct Asked<'a> {
    sql: &'a Sql,
    snapshot: &'a Snapshot,
    context: &'a QueryContext,
    name: &'a str,
    from: i64,
    to: i64,
}

impl Asked<'_> {
    /// The rows of the time, as the end of a statement.
    fn rows(&self) -> String {
        let (from, to) = (self.from, self.to);
        let (from, to) = (format!("to_timestamp_micros({from})"), format!("to_timestamp_micros({to})"));
        format!("FROM {AUDIENCE_CHANGES} WHERE audience = {} AND ts >= {from} AND ts < {to}", quoted(self.name))
    }

    /// A row for each user who changed: the id, and what became of them.
    fn moved(&self) -> String {
        let of = |first: &str, last: &str| format!("begun = '{first}' AND ended = '{last}'");
        format!(
            "SELECT user_id, CASE WHEN {} THEN 'entered' WHEN {} THEN 'left' WHEN {} THEN 'passed' ELSE 'returned' END AS movement \
             FROM (SELECT user_id, first_value(change ORDER BY ts) AS begun, last_value(change ORDER BY ts) AS ended {} GROUP BY user_id)",
            of("entered", "entered"),
            of("left", "left"),
            of("entered", "left"),
            self.rows()
        )
    }

    fn counts(&self) -> Result<Vec<(Movement, u64)>, Failure> {
        let moved = self.moved();
        self.ask(format!("SELECT movement, count(*) FROM ({moved}) GROUP BY movement"), Movement::ALL.len())
    }

    fn days(&self) -> Result<Vec<MovementDay>, Failure> {
        let rows = self.rows();
        let counted = |change: &str| format!("count(*) FILTER (WHERE change = '{change}')");
        let text = format!(
            "SELECT CAST(date_trunc('day', ts) AS DATE) AS at, {}, {} {rows} GROUP BY at ORDER BY at",
            counted("entered"),
            counted("left")
        );
        let days: Vec<(String, u64, u64)> = self.ask(text, DAYS_MAX)?;
        Ok(days.into_iter().map(|(day, entered, left)| MovementDay { day, entered, left }).collect())
    }

    /// One more than the limit, if there are more.
    fn users(&self, parameters: &MovementParameters, limit: usize) -> Result<Vec<MovedUser>, Failure> {
        let after = parameters.after.as_ref().map(|after| format!("user_id > {}", quoted(after)));
        let of = parameters.movement.map(|movement| format!("movement = '{}'", movement.name()));
        let conditions: Vec<String> = after.into_iter().chain(of).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let moved = self.moved();
        let text = format!(
            "SELECT user_id, movement FROM ({moved}){filter} ORDER BY user_id LIMIT {}",
            limit.saturating_add(1)
        );
        let users: Vec<(String, Movement)> = self.ask(text, limit + 1)?;
        Ok(users.into_iter().map(|(user_id, movement)| MovedUser { user_id, movement }).collect())
    }

    fn ask<R: DeserializeOwned>(&self, statement: String, rows_max: usize) -> Result<Vec<R>, Failure> {
        let request = SqlRequest { sql: statement, limit: Some(rows_max), timeout_ms: None };
        let answer = sql::answer(self.sql, self.snapshot, &request, Vec::new(), self.context, |_| {});
        // Where it went wrong in our own statement tells nobody anything.
        let answer = answer.map_err(|failure| Failure { pointer: None, span: None, ..failure })?;
        answer.rows.iter().map(|row| serde_json::from_str(row.get()).map_err(Failure::internal)).collect()
    }
}

impl Movement {
    const ALL: [Movement; 4] = [Movement::Entered, Movement::Left, Movement::Passed, Movement::Returned];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Movement::Entered => "entered",
            Movement::Left => "left",
            Movement::Passed => "passed",
            Movement::Returned => "returned",
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Tells who entered and who left a live audience between two moments, with counts by day.
///
/// Changes are kept 400 days. Who fitted when the audience became live has entered then.
#[utoipa::path(get, path = "/v1/audiences/{name}/movement", operation_id = "audience_movement", tag = "audiences",
    params(("name" = String, Path), MovementParameters), responses((status = 200, body = MovementAnswer)))]
pub(in crate::rest) async fn get(
    State(state): State<AppState>,
    asker: Asker,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<MovementParameters>,
) -> Answer<MovementAnswer> {
    let sql = Arc::clone(state.sql()?);
    let text = begin_of(&name);
    let answered = asker.ask(&state, Asks::Movement, text, None, move |snapshot, context, running| {
        let answer = answer(&sql, snapshot, &name, &parameters, context)?;
        running.add_rows(answer.users.len());
        Ok(answer)
    });
    answered.await.map(Json)
}
