//! `POST /v1/top`: the users with the greatest or least number of a tag.

use super::count::elapsed_us;
use super::expression::{self, Where};
use super::number::Number;
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, QueryContext};
use engine::catalog::TagType;
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The longest list.
pub const TOP_MAX: usize = 10_000;

/// Which users, ordered by what.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "gender = 'f'", "by": "spend", "k": 10, "order": "desc"}))]
pub struct TopRequest {
    /// Whom to order.
    pub r#where: Where,
    /// A number tag.
    pub by: String,
    /// How many, at most 10,000.
    pub k: usize,
    /// Greatest or least first.
    #[serde(default)]
    pub order: Order,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Greatest first.
    #[default]
    Desc,
    /// Least first.
    Asc,
}

/// The users at one end.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TopAnswer {
    /// Best first.
    pub users: Vec<Ranked>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A user and the number it is ranked by.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ranked {
    /// The user.
    pub user_id: String,
    /// The tag's number.
    pub value: Number,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &TopRequest, context: &QueryContext) -> Result<TopAnswer, Failure> {
    let started = Instant::now();
    if request.k == 0 || request.k > TOP_MAX {
        return Err(Failure::field("/k", format!("`k` is from 1 to {TOP_MAX}")));
    }
    let tag = expression::tag(snapshot.catalog(), &request.by, "/by")?;
    let TagType::Number(unit) = tag.tag_type else {
        let detail = format!("`{}` is of type {}; only a number tag has an order", request.by, tag.tag_type);
        return Err(Failure::new(Kind::TagType, detail).at("/by"));
    };
    let bound = request.r#where.bind(snapshot, "/where")?;
    let descending = request.order == Order::Desc;
    let ranked = ops::top_k(snapshot, &bound.predicate, tag.id, request.k, descending, context)?;
    let users =
        ranked.into_iter().map(|(user_id, value)| Ranked { user_id, value: Number::of(unit, value.into()) }).collect();
    Ok(TopAnswer { users, epoch: snapshot.epoch().0, elapsed_us: elapsed_us(started) })
}

/// Lists the users with the greatest or least number of a tag.
#[utoipa::path(post, path = "/v1/top", operation_id = "top", tag = "questions", request_body = TopRequest,
    responses((status = 200, body = TopAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<TopRequest>,
) -> Answer<TopAnswer> {
    let (text, timeout_ms) = (format!("{} BY {}", request.r#where.told(), begin_of(&request.by)), request.timeout_ms);
    let guards = asker.guards(&state);
    let answered = asker.ask(&state, Asks::Top, text, timeout_ms, move |snapshot, context, running| {
        guards.list(snapshot, &request.r#where, context, running)?;
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.users.len());
        Ok(answer)
    });
    answered.await.map(Json)
}
