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
use engine::audience::ops::{self, QueryContext, QueryError, UserValue};
use engine::audience::predicate::Predicate;
use engine::catalog::{TagType, Unit};
use engine::error::Class;
use engine::store::{Definition, Snapshot};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
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
    /// The audiences that the user belongs to, by name: live ones as their members are kept. One that cannot be answered, since a
    /// tag of it was dropped or its seed is empty, is left out.
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
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
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

impl<'de> Deserialize<'de> for TagValue {
    /// By how it begins: digits are kept as they are written, which trying one after another would lose. A time is text, as an
    /// `enum` is.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TagValue, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        let read = match value.get().as_bytes().first() {
            Some(b't' | b'f') => serde_json::from_str(value.get()).map(TagValue::Flag),
            Some(b'[') => serde_json::from_str(value.get()).map(TagValue::Set),
            Some(b'"') => serde_json::from_str(value.get()).map(TagValue::Enum),
            _ => Ok(TagValue::Number(Number(value))),
        };
        read.map_err(serde::de::Error::custom)
    }
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

/// The saved audiences that the user belongs to, in the order of their names.
///
/// A live one is asked for the list of its members that is kept; of the others, those for whose sake events or vectors are
/// searched come apart from those that an index answers. One that means nothing any more, or cannot be answered as it stands (its
/// seed has become empty, say), is left out and does not take the look-up with it.
fn audiences_of(snapshot: &Snapshot, user_id: &str, context: &QueryContext) -> Result<Vec<String>, Failure> {
    let (mut indexed, mut searched) = (Vec::new(), Vec::new());
    for (name, audience) in snapshot.audiences().iter().filter(|(name, _)| !name.starts_with('.')) {
        let members = match &audience.definition {
            Definition::Uploaded { list_id, .. } | Definition::Live { list_id, .. } => {
                Predicate::Listed(list_id.clone())
            }
            Definition::Expression(text) => match Where::Text(text.clone()).bind(snapshot, "") {
                Ok(bound) => bound.predicate,
                Err(failure) => {
                    left_out(name, &failure);
                    continue;
                }
            },
        };
        let asked = if members.needs_scan() { &mut searched } else { &mut indexed };
        asked.push((name.as_str(), members));
    }
    let mut names = Vec::new();
    for asked in [indexed, searched] {
        let predicates: Vec<Predicate> = asked.iter().map(|(_, members)| members.clone()).collect();
        let fits = match ops::user_fits(snapshot, user_id, &predicates, context) {
            Err(error) if error.class() == Class::Invalid => one_by_one(snapshot, user_id, &asked, context)?,
            fits => fits?,
        };
        names.extend(asked.iter().zip(fits).filter(|(_, fits)| *fits).map(|((name, _), _)| (*name).to_owned()));
    }
    names.sort_unstable();
    Ok(names)
}

/// Some cannot be answered, or all are too many for one question.
fn one_by_one(
    snapshot: &Snapshot,
    user_id: &str,
    asked: &[(&str, Predicate)],
    context: &QueryContext,
) -> Result<Vec<bool>, QueryError> {
    let fits = |(name, members): &(&str, Predicate)| match ops::user_fits(
        snapshot,
        user_id,
        std::slice::from_ref(members),
        context,
    ) {
        Err(error) if error.class() == Class::Invalid => {
            left_out(name, &error);
            Ok(false)
        }
        fits => Ok(fits?.contains(&true)),
    };
    asked.iter().map(fits).collect()
}

fn left_out(name: &str, why: &dyn std::fmt::Display) {
    tracing::warn!(audience = name, %why, "an audience cannot be asked about a user, and is left out");
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
