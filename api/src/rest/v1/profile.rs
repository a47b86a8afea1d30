//! `POST /v1/profile`: how an audience is spread over the values of tags, against a baseline.
//!
//! The *index* of a value is 100 times its share in the audience over its share in the baseline (TGI): 100 is as
//! everywhere, 200 twice as often. It is left out where the baseline has nobody with the value.

use super::count::elapsed_us;
use super::expression::{self, Where};
use super::number::Number;
use crate::error::Failure;
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, NumberProfile, QueryContext, TagProfile, ValueCount};
use engine::audience::predicate::Predicate;
use engine::catalog::{TagType, Unit};
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Most tags in one profile.
pub const PROFILE_TAGS_MAX: usize = 100;
/// Values of a tag that are listed when `values` is not given.
pub const PROFILE_VALUES_DEFAULT: usize = 100;

/// Whose profile, over which tags, against whom.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "interest = 'yoga'", "by": ["gender", "age"]}))]
pub struct ProfileRequest {
    /// The audience.
    pub r#where: Where,
    /// The tags, at most 100, in the order of the answer.
    pub by: Vec<String>,
    /// The baseline; everybody if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Where>,
    /// Values listed of each tag, the most frequent first; 100 if left out. `more_values` tells how many there are
    /// beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<usize>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A profile.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProfileAnswer {
    /// Users in the audience.
    pub count: u64,
    /// Users in the baseline.
    pub baseline_count: u64,
    /// In the order asked.
    pub tags: Vec<TagAnswer>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// One tag of a profile; `values` for `set`, `enum` and `flag`, `number` for `number`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TagAnswer {
    /// The tag.
    pub tag: String,
    /// Its type.
    pub r#type: String,
    /// Members without a value: NULL, or an empty set.
    pub unknown: u64,
    /// Baseline members without a value.
    pub baseline_unknown: u64,
    /// The values, most frequent first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<ValueAnswer>>,
    /// How many values were left out behind the last one listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_values: Option<usize>,
    /// The numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<NumberAnswer>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ValueAnswer {
    /// The value.
    pub value: String,
    /// Members with it.
    pub count: u64,
    /// `count` over all members.
    pub share: f64,
    /// Baseline members with it.
    pub baseline_count: u64,
    /// `baseline_count` over all baseline members.
    pub baseline_share: f64,
    /// 100 × share / baseline share.
    pub index: Option<f64>,
}

/// A number tag over the audience.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NumberAnswer {
    /// Members with a number.
    pub count: u64,
    /// Sum; left out for times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<Number>,
    /// Mean.
    pub mean: Option<Number>,
    /// Least.
    pub min: Option<Number>,
    /// Greatest.
    pub max: Option<Number>,
    /// The least number that at least this share of the numbers does not exceed.
    pub quantiles: Vec<Quantile>,
    /// Bins of equal width.
    pub histogram: Vec<Bin>,
    /// Baseline members with a number.
    pub baseline_count: u64,
    /// Mean of the baseline.
    pub baseline_mean: Option<Number>,
    /// 100 × mean / baseline mean; left out for times, and unless the baseline mean is above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<f64>,
}

/// A quantile.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Quantile {
    /// From 0 to 1.
    pub q: f64,
    /// The number there.
    pub value: Number,
}

/// A bin of a histogram.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Bin {
    /// Least number in it.
    pub from: Number,
    /// Greatest number in it.
    pub to: Number,
    /// Members in it.
    pub count: u64,
    /// `count` over members with a number.
    pub share: f64,
    /// Baseline members in it.
    pub baseline_count: u64,
    /// 100 × share / the same share of the baseline.
    pub index: Option<f64>,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &ProfileRequest, context: &QueryContext) -> Result<ProfileAnswer, Failure> {
    let started = Instant::now();
    if request.by.is_empty() || request.by.len() > PROFILE_TAGS_MAX {
        return Err(Failure::field("/by", format!("name from 1 to {PROFILE_TAGS_MAX} tags")));
    }
    let by: Result<Vec<_>, Failure> = request
        .by
        .iter()
        .enumerate()
        .map(|(index, name)| expression::tag(snapshot.catalog(), name, &format!("/by/{index}")))
        .collect();
    let by = by?;
    let bound = request.r#where.bind(snapshot, "/where")?;
    let against = match &request.against {
        Some(expression) => expression.bind(snapshot, "/against")?.predicate,
        None => Predicate::All,
    };
    let ids: Vec<_> = by.iter().map(|tag| tag.id).collect();
    let profile = ops::profile(snapshot, &bound.predicate, &ids, &against, context)?;
    let sizes = (profile.count, profile.baseline_count);
    let values_max = request.values.unwrap_or(PROFILE_VALUES_DEFAULT);
    let told = request.by.iter().zip(&by).zip(profile.tags);
    Ok(ProfileAnswer {
        count: profile.count,
        baseline_count: profile.baseline_count,
        tags: told
            .map(|((name, tag), (_, profile))| tag_answer(name, tag.tag_type, profile, sizes, values_max))
            .collect(),
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

fn tag_answer(
    name: &str,
    tag_type: TagType,
    profile: TagProfile,
    (count, baseline_count): (u64, u64),
    values_max: usize,
) -> TagAnswer {
    let mut answer = TagAnswer {
        tag: name.to_owned(),
        r#type: type_name(tag_type).to_owned(),
        unknown: 0,
        baseline_unknown: 0,
        values: None,
        more_values: None,
        number: None,
    };
    match (profile, tag_type) {
        (TagProfile::Values { values, unknown, baseline_unknown }, _) => {
            answer.more_values = Some(values.len().saturating_sub(values_max));
            let listed = values.into_iter().take(values_max);
            answer.values = Some(listed.map(|value| value_answer(value, count, baseline_count)).collect());
            (answer.unknown, answer.baseline_unknown) = (unknown, baseline_unknown);
        }
        (TagProfile::Number(number), TagType::Number(unit)) => {
            answer.unknown = number.unknown;
            answer.baseline_unknown = baseline_count.saturating_sub(number.baseline_count);
            answer.number = Some(number_answer(unit, &number));
        }
        (TagProfile::Number(_), _) => unreachable!("only number tags have number profiles"),
    }
    answer
}

/// The type as a catalog writes it.
pub(super) fn type_name(tag_type: TagType) -> &'static str {
    match tag_type {
        TagType::Set => "set",
        TagType::Enum => "enum",
        TagType::Flag => "flag",
        TagType::Number(_) => "number",
    }
}

fn value_answer(value: ValueCount, count: u64, baseline_count: u64) -> ValueAnswer {
    let (share, baseline_share) = (share(value.count, count), share(value.baseline_count, baseline_count));
    ValueAnswer {
        index: index(share, baseline_share),
        value: value.value,
        count: value.count,
        share,
        baseline_count: value.baseline_count,
        baseline_share,
    }
}

fn number_answer(unit: Unit, profile: &NumberProfile) -> NumberAnswer {
    let number = |value: i64| Number::of(unit, value.into());
    let is_time = unit == Unit::Timestamp;
    let mean = |sum: i128, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    let baseline_mean = mean(profile.baseline_sum, profile.baseline_count);
    let mean_index = index(mean(profile.sum, profile.count), baseline_mean);
    let bins = profile.histogram.iter().map(|(from, to, count, baseline_count)| {
        let share_here = share(*count, profile.count);
        Bin {
            from: number(*from),
            to: number(*to),
            count: *count,
            share: share_here,
            baseline_count: *baseline_count,
            index: index(share_here, share(*baseline_count, profile.baseline_count)),
        }
    });
    NumberAnswer {
        count: profile.count,
        sum: (!is_time).then(|| Number::of(unit, profile.sum)),
        mean: Number::mean(unit, profile.sum, profile.count),
        min: profile.min.map(number),
        max: profile.max.map(number),
        quantiles: profile.quantiles.iter().map(|(q, value)| Quantile { q: *q, value: number(*value) }).collect(),
        histogram: bins.collect(),
        baseline_count: profile.baseline_count,
        baseline_mean: Number::mean(unit, profile.baseline_sum, profile.baseline_count),
        index: mean_index.filter(|_| !is_time && profile.count > 0),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn index(share: f64, baseline_share: f64) -> Option<f64> {
    (baseline_share > 0.0).then(|| (share / baseline_share * 10_000.0).round() / 100.0)
}

/// The question for lists of what was asked.
fn told(request: &ProfileRequest) -> String {
    let mut text = request.r#where.told();
    if let Some(against) = &request.against {
        text = format!("{text} AGAINST {}", against.told());
    }
    begin_of(&format!("{text} BY {}", request.by.join(", ")))
}

/// Tells how an audience is spread over the values of tags.
#[utoipa::path(post, path = "/v1/profile", operation_id = "profile", tag = "questions", request_body = ProfileRequest,
    responses((status = 200, body = ProfileAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<ProfileRequest>,
) -> Answer<ProfileAnswer> {
    let (text, timeout_ms) = (told(&request), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Profile, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.tags.len());
        Ok(answer)
    });
    answered.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_compares_shares() {
        let value = ValueCount { value: "f".into(), count: 30, baseline_count: 200 };
        let answer = value_answer(value, 50, 1000);
        assert_eq!((answer.share, answer.baseline_share, answer.index), (0.6, 0.2, Some(300.0)));
        assert_eq!(index(0.5, 0.0), None);
    }

    #[test]
    fn times_have_a_mean_but_no_sum() {
        let profile =
            NumberProfile { count: 2, sum: 2_000_000, min: Some(0), max: Some(2_000_000), ..Default::default() };
        let answer = number_answer(Unit::Timestamp, &profile);
        assert!(answer.sum.is_none() && answer.index.is_none());
        assert_eq!(answer.mean.map(|mean| mean.to_string()), Some("1970-01-01T00:00:01Z".to_owned()));
    }
}
