//! `POST /v1/overlap`: how much audiences share, pair by pair, and in every choice of a few.

use super::count::elapsed_us;
use super::expression::{Bound, Where};
use crate::error::{Failure, escape_pointer};
use crate::privacy::{Asked, Guard, Told, Users, both};
use crate::queries::{Asks, Running, TEXT_BYTES_MAX, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, QueryContext};
use engine::audience::predicate::Predicate;
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
    /// Users in both; the diagonal holds each audience's own count. Null where a privacy policy tells no number of so few.
    pub counts: Vec<Vec<Option<u64>>>,
    /// Users in both, divided by users in either; 0 where both are empty, null where one of the counts is.
    pub jaccard: Vec<Vec<Option<f64>>>,
    /// They are fewer than this where no number is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u64>,
    /// Every choice of audiences, with how many users are in all of these and in no other; also those that are empty. If they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<RegionAnswer>>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds; 0 under a privacy policy.
    pub elapsed_us: u64,
}

/// A region of a Venn diagram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegionAnswer {
    /// The audiences that its users are in, in the order asked; of all others they are in none.
    pub r#in: Vec<String>,
    /// How many they are; null where a privacy policy tells no number of so few.
    pub count: Option<u64>,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &OverlapRequest, context: &QueryContext) -> Result<OverlapAnswer, Failure> {
    let started = Instant::now();
    let predicates: Vec<Predicate> = bound(snapshot, request)?.into_iter().map(|bound| bound.predicate).collect();
    let regions = request.regions.then(|| ops::regions(snapshot, &predicates, context)).transpose()?;
    let counts = match &regions {
        Some(regions) => ops::overlap_of_regions(regions, predicates.len()),
        None => ops::overlap(snapshot, &predicates, context)?,
    };
    let all = |counts: Vec<u64>| -> Vec<Option<u64>> { counts.into_iter().map(Some).collect() };
    let numbers = Numbers { counts: counts.into_iter().map(all).collect(), regions: regions.map(all), below: None };
    Ok(numbers.told(request, snapshot, elapsed_us(started)))
}

/// Answers under a privacy policy: each pair, and each region, is a set of its own.
fn guarded(
    snapshot: &Snapshot,
    request: &OverlapRequest,
    context: &QueryContext,
    guard: &Guard,
    running: &Running,
) -> Result<OverlapAnswer, Failure> {
    let bound = bound(snapshot, request)?;
    let users = bound.iter().map(|bound| guard.users(snapshot, &bound.predicate, context));
    let users: Vec<Users> = users.collect::<Result<_, _>>()?;
    let size = users.len();
    let pairs: Vec<(usize, usize)> = (0..size).flat_map(|a| (a..size).map(move |b| (a, b))).collect();
    let mut sets: Vec<Asked> = Vec::with_capacity(pairs.len());
    for (a, b) in &pairs {
        context.check()?;
        let words = match a == b {
            true => bound[*a].text.clone(),
            false => format!("({}) AND ({})", bound[*a].text, bound[*b].text),
        };
        sets.push(guard.asked(&both(&users[*a], &users[*b]), &words));
    }
    let regions_end = if request.regions { 1usize << size } else { 1 };
    for region in 1..regions_end {
        let part = |(at, bound): (usize, &Bound)| {
            let not = if region >> at & 1 == 1 { "" } else { "NOT " };
            format!("{not}({})", bound.text)
        };
        let words = bound.iter().enumerate().map(part).collect::<Vec<_>>().join(" AND ");
        context.check()?;
        sets.push(guard.asked(&only_in(&users, region), &words));
    }
    let told = guard.tell(&sets, context, running)?;
    let mut numbers: Vec<Option<u64>> = told.into_iter().map(Told::number).collect();
    let below = numbers.contains(&None).then(|| guard.few());
    // The region of users in no audience is not listed.
    let regions = request.regions.then(|| std::iter::once(None).chain(numbers.split_off(pairs.len())).collect());
    let mut counts = vec![vec![None; size]; size];
    for ((a, b), number) in pairs.into_iter().zip(numbers) {
        (counts[a][b], counts[b][a]) = (number, number);
    }
    Ok(Numbers { counts, regions, below }.told(request, snapshot, 0))
}

/// The users of a region: in those of its audiences, and in no other.
fn only_in(users: &[Users], region: usize) -> Users {
    let is_in = |at: usize| region >> at & 1 == 1;
    let first = (0..users.len()).find(|at| is_in(*at)).expect("a region is in some");
    let mut found = users[first].clone();
    for (at, others) in users.iter().enumerate() {
        for (found, others) in found.iter_mut().zip(others) {
            match is_in(at) {
                true => *found &= others,
                false => *found -= others,
            }
        }
    }
    found
}

/// Figures in the order of the audiences.
struct Numbers {
    counts: Vec<Vec<Option<u64>>>,
    regions: Option<Vec<Option<u64>>>,
    below: Option<u64>,
}

impl Numbers {
    fn told(self, request: &OverlapRequest, snapshot: &Snapshot, elapsed_us: u64) -> OverlapAnswer {
        let names: Vec<String> = request.audiences.0.iter().map(|(name, _)| name.clone()).collect();
        OverlapAnswer {
            regions: self.regions.map(|regions| told_regions(&names, &regions)),
            audiences: names,
            jaccard: jaccard(&self.counts),
            counts: self.counts,
            below: self.below,
            epoch: snapshot.epoch().0,
            elapsed_us,
        }
    }
}

fn bound(snapshot: &Snapshot, request: &OverlapRequest) -> Result<Vec<Bound>, Failure> {
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
    let mut all = Vec::with_capacity(named.len());
    for (name, expression) in named {
        let pointer = format!("/audiences/{}", escape_pointer(name));
        all.push(expression.bind(snapshot, &pointer)?);
    }
    Ok(all)
}

/// All regions but that of users in no audience; those of few audiences first.
fn told_regions(names: &[String], counts: &[Option<u64>]) -> Vec<RegionAnswer> {
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

fn jaccard(counts: &[Vec<Option<u64>>]) -> Vec<Vec<Option<f64>>> {
    let share = |i: usize, j: usize| {
        let both = counts[i][j]?;
        // Numbers with noise may say that more users are in both than in one.
        let either = (counts[i][i]? + counts[j][j]?).saturating_sub(both).max(both);
        Some(if either == 0 { 0.0 } else { both as f64 / either as f64 })
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
    let guards = asker.guards(&state);
    let answered = asker.ask(&state, Asks::Overlap, text, timeout_ms, move |snapshot, context, running| {
        let answer = match guards.guard()? {
            None => answer(snapshot, &request, context)?,
            Some(guard) => guarded(snapshot, &request, context, &guard, running)?,
        };
        running.add_rows(answer.counts.len());
        Ok(answer)
    });
    answered.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roaring::RoaringBitmap;

    #[test]
    fn jaccard_is_both_of_either() {
        let counts = [[4, 2, 0], [2, 2, 0], [0, 0, 0]].map(|row| row.map(Some).to_vec());
        assert_eq!(jaccard(&counts), [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]].map(|row| row.map(Some)));
        let counts = vec![vec![Some(4), None], vec![None, Some(2)]];
        assert_eq!(jaccard(&counts), [[Some(1.0), None], [None, Some(1.0)]]);
    }

    #[test]
    fn a_region_has_users_of_its_audiences_and_of_no_other() {
        let users = [[1u32, 2, 3, 4].as_slice(), &[2, 3], &[3, 4]]
            .map(|users| vec![users.iter().copied().collect::<RoaringBitmap>()]);
        let told = (1..8).map(|region| only_in(&users, region)[0].iter().collect::<Vec<u32>>());
        let expected: [&[u32]; 7] = [&[1], &[], &[2], &[], &[4], &[], &[3]];
        assert_eq!(told.collect::<Vec<_>>(), expected);
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
