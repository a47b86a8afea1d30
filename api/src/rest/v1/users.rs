//! `GET /v1/users/{id}`: one user's tags, vectors and audiences, the online look-up.

use super::count::elapsed_us;
use super::expression::Where;
use super::number::Number;
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use engine::audience::ops::{self, QueryContext, UserValue};
use engine::audience::predicate::Predicate;
use engine::catalog::{TagType, Unit};
use engine::store::{Definition, Snapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserAnswer {
    /// The id.
    pub user_id: String,
    /// The tags that have a value: a string, a number, `true`, or a list of strings.
    pub tags: BTreeMap<String, TagValue>,
    /// The vectors that the user has, by the name of their space.
    #[serde(default)]
    pub vectors: BTreeMap<String, UserVector>,
    /// The audiences that the user belongs to, by name.
    pub audiences: Vec<String>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A vector of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UserVector {
    /// How many numbers it has.
    pub dimension: u16,
    /// Its numbers, as they are kept: 32 bits each.
    pub values: Vec<f32>,
}

/// The value of a tag.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum TagValue {
    /// Of a `flag`.
    Flag(bool),
    /// Of a `set`.
    Set(Vec<String>),
    /// Of an `enum`.
    Enum(String),
    /// Of a `number`.
    Number(Number),
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Kind::NotFound`] if the user is not known.
pub fn answer(snapshot: &Snapshot, user_id: &str, context: &QueryContext) -> Result<UserAnswer, Failure> {
    let started = Instant::now();
    let Some(found) = ops::user_tags(snapshot, user_id)? else {
        return Err(Failure::new(Kind::NotFound, format!("user `{user_id}` is not known")));
    };
    let mut values: BTreeMap<_, _> = found.into_iter().collect();
    let tags = snapshot
        .catalog()
        .tags()
        .filter_map(|(name, tag)| Some((name.to_owned(), tag_value(tag.tag_type, values.remove(&tag.id)?))));
    let mut vectors = BTreeMap::new();
    for (name, space) in snapshot.catalog().spaces() {
        if let Some(values) = snapshot.vector(space, user_id)? {
            vectors.insert(name.to_owned(), UserVector { dimension: space.dimension, values });
        }
    }
    Ok(UserAnswer {
        user_id: user_id.to_owned(),
        tags: tags.collect(),
        vectors,
        audiences: audiences_of(snapshot, user_id, context)?,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

pub(super) fn tag_value(tag_type: TagType, value: UserValue) -> TagValue {
    match (value, tag_type) {
        (UserValue::Flag(value), _) => TagValue::Flag(value),
        (UserValue::Set(values), _) => TagValue::Set(values),
        (UserValue::Enum(value), _) => TagValue::Enum(value),
        (UserValue::Number(value), TagType::Number(unit)) => TagValue::Number(Number::of(unit, value.into())),
        (UserValue::Number(value), _) => TagValue::Number(Number::of(Unit::Integer, value.into())),
    }
}

/// Asks each audience about this one user; the user's own bitmap rules out all chunks but one.
fn audiences_of(snapshot: &Snapshot, user_id: &str, context: &QueryContext) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for (name, audience) in snapshot.audiences().iter().filter(|(name, _)| !name.starts_with('.')) {
        let members = match &audience.definition {
            Definition::Uploaded { list_id, .. } => Predicate::Listed(list_id.clone()),
            Definition::Expression(text) | Definition::Live { expression: text, .. } => {
                match Where::Text(text.clone()).bind(snapshot, "") {
                    Ok(bound) => bound.predicate,
                    Err(failure) => {
                        tracing::warn!(audience = name, %failure, "an audience means nothing any more");
                        continue;
                    }
                }
            }
        };
        let is_member = Predicate::And(vec![Predicate::Users(vec![user_id.to_owned()]), members]);
        if ops::count(snapshot, &is_member, context)? > 0 {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// Tells a user's tags, vectors and audiences.
#[utoipa::path(get, path = "/v1/users/{id}", operation_id = "get_user", tag = "data", params(("id" = String, Path)),
    responses((status = 200, body = UserAnswer)))]
pub(in crate::rest) async fn get(
    State(state): State<AppState>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<UserAnswer> {
    let answered = asker.ask(&state, Asks::User, begin_of(&id), None, move |snapshot, context, running| {
        let answer = answer(snapshot, &id, context)?;
        running.add_rows(1);
        Ok(answer)
    });
    answered.await.map(Json)
}
