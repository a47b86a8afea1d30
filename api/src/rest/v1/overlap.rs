//! `POST /v1/overlap`: how much audiences share, pair by pair, and in every choice of a few.

use super::count::elapsed_us;
use super::expression::Where;
use crate::error::{Failure, escape_pointer};
use crate::queries::{Asks, TEXT_BYTES_MAX, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, QueryContext};
use engine::bitmap::evaluate::regions::REGION_SETS_MAX;
use engine::store::Snapshot;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Most audiences in one matrix.
pub const OVERLAP_AUDIENCES_MAX: usize = 100;

/// The audiences to compare.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"audiences": {"women": "gender = 'f'", "yoga": "interest = 'yoga'"}}))]
pub struct OverlapRequest {
    /// A name for each, and who belongs to it; at most 100.
    #[schema(value_type = std::collections::BTreeMap<String, Where>)]
    pub audiences: Named,
    /// Tells the regions of a Venn diagram too; of at most 6 audiences.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub regions: bool,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Named expressions in the order written.
#[derive(Clone, Debug, Default)]
pub struct Named(pub Vec<(String, Where)>);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, expression)| (name, expression)))
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Named;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with a name and an expression for each audience")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Named, M::Error> {
                let mut named: Vec<(String, Where)> = Vec::new();
                while let Some((name, expression)) = map.next_entry::<String, Where>()? {
                    if named.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom(format!("the name `{name}` comes twice")));
                    }
                    named.push((name, expression));
                }
                Ok(Named(named))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Two square matrices in the order of `audiences`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OverlapAnswer {
    /// The names, in the order asked.
    pub audiences: Vec<String>,
    /// Users in both; the diagonal holds each audience's own count.
    pub counts: Vec<Vec<u64>>,
    /// Users in both, divided by users in either; 0 where both are empty.
    pub jaccard: Vec<Vec<f64>>,
    /// Every choice of audiences, with how many users are in all of these and in no other; also those that are empty. If they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<RegionAnswer>>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A region of a Venn diagram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegionAnswer {
    /// The audiences that its users are in, in the order asked; of all others they are in none.
    pub r#in: Vec<String>,
    /// How many they are.
    pub count: u64,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &OverlapRequest, context: &QueryContext) -> Result<OverlapAnswer, Failure> {
    let started = Instant::now();
    let named = &request.audiences.0;
    if named.is_empty() || named.len() > OVERLAP_AUDIENCES_MAX {
        return Err(Failure::field("/audiences", format!("name from 1 to {OVERLAP_AUDIENCES_MAX} audiences")));
    }
    if request.regions && named.len() > REGION_SETS_MAX {
        let failure = Failure::field("/regions", format!("regions are told of at most {REGION_SETS_MAX} audiences"));
        return Err(failure.suggest(format!(
            "leave `regions` out, or {} of the {} audiences",
            named.len() - REGION_SETS_MAX,
            named.len()
        )));
    }
    let mut predicates = Vec::with_capacity(named.len());
    for (name, expression) in named {
        let pointer = format!("/audiences/{}", escape_pointer(name));
        predicates.push(expression.bind(snapshot, &pointer)?.predicate);
    }
    let regions = request.regions.then(|| ops::regions(snapshot, &predicates, context)).transpose()?;
    let counts = match &regions {
        Some(regions) => ops::overlap_of_regions(regions, named.len()),
        None => ops::overlap(snapshot, &predicates, context)?,
    };
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
    Ok(OverlapAnswer {
        regions: regions.map(|regions| told_regions(&names, &regions)),
        audiences: names,
        jaccard: jaccard(&counts),
        counts,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

/// All regions but that of users in no audience; those of few audiences first.
fn told_regions(names: &[String], counts: &[u64]) -> Vec<RegionAnswer> {
    let named = |region: usize| names.iter().enumerate().filter(move |(at, _)| region >> at & 1 == 1);
    let regions = counts.iter().enumerate().skip(1);
    let told = regions.map(|(region, count)| RegionAnswer {
        r#in: named(region).map(|(_, name)| name.clone()).collect(),
        count: *count,
    });
    let mut told: Vec<RegionAnswer> = told.collect();
    told.sort_by_key(|region| region.r#in.len());
    told
}

fn jaccard(counts: &[Vec<u64>]) -> Vec<Vec<f64>> {
    let share = |i: usize, j: usize| {
        let both = counts[i][j];
        let either = counts[i][i] + counts[j][j] - both;
        if either == 0 { 0.0 } else { both as f64 / either as f64 }
    };
    (0..counts.len()).map(|i| (0..counts.len()).map(|j| share(i, j)).collect()).collect()
}

/// The question for lists of what was asked, as far as it is shown.
fn told(request: &OverlapRequest) -> String {
    let mut text = String::new();
    for (name, expression) in &request.audiences.0 {
        if text.len() > TEXT_BYTES_MAX {
            break;
        }
        let between = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!("{between}{}: {}", begin_of(name), expression.told()));
    }
    begin_of(&text)
}

/// Compares audiences pair by pair, and tells on request the regions of their Venn diagram.
#[utoipa::path(post, path = "/v1/overlap", operation_id = "overlap", tag = "questions", request_body = OverlapRequest,
    responses((status = 200, body = OverlapAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<OverlapRequest>,
) -> Answer<OverlapAnswer> {
    let (text, timeout_ms) = (told(&request), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Overlap, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.counts.len());
        Ok(answer)
    });
    answered.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaccard_is_both_of_either() {
        let counts = vec![vec![4, 2, 0], vec![2, 2, 0], vec![0, 0, 0]];
        assert_eq!(jaccard(&counts), [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn names_keep_their_order_and_come_once() {
        let read = |text: &str| serde_json::from_str::<OverlapRequest>(text);
        let request = read(r#"{"audiences":{"z":"TRUE","a":"FALSE"}}"#).expect("valid");
        let names: Vec<_> = request.audiences.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a"]);
        assert!(read(r#"{"audiences":{"a":"TRUE","a":"FALSE"}}"#).is_err());
    }
}
