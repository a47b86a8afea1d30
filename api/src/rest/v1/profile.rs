//! `POST /v1/profile`: how an audience is spread over the values of tags, against a baseline.
//!
//! The *index* of a value is 100 times its share in the audience over its share in the baseline (TGI): 100 is as
//! everywhere, 200 twice as often. It is left out where the baseline has nobody with the value. How sure a difference is, and how far
//! apart the audience is from the rest of the baseline, is worked out by [`engine::audience::ops::profile::difference`].

mod guarded;

use super::count::elapsed_us;
use super::distinguish::{Distinguish, DistinguishingAnswer, distinguishing};
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
use engine::audience::ops::profile::Cut;
use engine::audience::ops::{self, NumberProfile, QueryContext, TagProfile, ValueCount};
use engine::audience::predicate::Predicate;
use engine::catalog::{Tag, TagType, Unit};
use engine::ids::TagId;
use engine::store::Snapshot;
use guarded::guarded;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Most tags that are named in one profile.
pub const PROFILE_TAGS_MAX: usize = 100;
/// Values of a tag that are listed when `values` is not given.
pub const PROFILE_VALUES_DEFAULT: usize = 100;

/// Most values of a tag that are listed.
pub const PROFILE_VALUES_MAX: usize = 10_000;
/// Most values that are listed of all tags together.
pub const PROFILE_LISTED_MAX: usize = 100_000;

/// Whose profile, over which tags, against whom.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "interest = 'yoga'", "by": ["gender", "age"], "distinguish": 10}))]
pub struct ProfileRequest {
    /// The audience.
    pub r#where: Where,
    /// The tags, at most 100, in the order of the answer; all there are if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// The baseline; everybody if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Where>,
    /// Values listed of each tag, at most 10,000, and 100,000 of all tags together; 100 if left out. `more_values` tells how many there are beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<usize>,
    /// Which values come first.
    #[serde(default)]
    pub order: ValueOrder,
    /// Tells, over all tags, what most distinguishes the audience from the rest of the baseline.
    #[serde(default, skip_serializing_if = "Distinguish::is_none")]
    pub distinguish: Distinguish,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Which values of a tag come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ValueOrder {
    /// Those that most members have.
    #[default]
    Count,
    /// Those that distinguish the audience most.
    Distinction,
}

/// A profile.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProfileAnswer {
    /// Users in the audience.
    pub count: u64,
    /// Users in the baseline.
    pub baseline_count: u64,
    /// Users in the baseline who are not in the audience: the rest, whom the audience is tested against.
    pub rest_count: u64,
    /// In the order asked; by name if none was.
    pub tags: Vec<TagAnswer>,
    /// What most distinguishes the audience, farthest first; only what is significant. If it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinguishing: Option<Vec<DistinguishingAnswer>>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds; 0 under a privacy policy.
    pub elapsed_us: u64,
}

/// One tag of a profile; `values` for `set`, `enum` and `flag`, `number` for `number`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TagAnswer {
    /// The tag.
    pub tag: String,
    /// Its type.
    pub r#type: String,
    /// Members without a value: NULL, or an empty set. Null under a privacy policy.
    pub unknown: Option<u64>,
    /// Baseline members without a value. Null under a privacy policy.
    pub baseline_unknown: Option<u64>,
    /// The values, in the order asked.
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
    /// How likely chance makes the audience's share differ as much from that of the rest of the baseline: Fisher's exact test, two-sided.
    /// `null` if audience or rest is empty.
    pub p_value: Option<f64>,
    /// The same, corrected for the number of values and tags in this profile: of those at 0.05 or less, one in twenty is
    /// expected to be chance (Benjamini and Hochberg).
    pub q_value: Option<f64>,
    /// How far apart the shares of audience and rest are at least: the nearer end of the 95 % interval of Cohen's h; below 0 if the value is
    /// less frequent in the audience, 0 if the q-value is above 0.05. 0.2 is little, 0.5 can be seen, 0.8 is much.
    pub distinction: Option<f64>,
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
    /// Bins of equal width, from the least to the greatest number of the audience.
    pub histogram: Vec<Bin>,
    /// Baseline members with a number.
    pub baseline_count: u64,
    /// Mean of the baseline.
    pub baseline_mean: Option<Number>,
    /// Least of the baseline.
    pub baseline_min: Option<Number>,
    /// Greatest of the baseline.
    pub baseline_max: Option<Number>,
    /// Quantiles of the baseline.
    pub baseline_quantiles: Vec<Quantile>,
    /// Baseline members below the histogram.
    pub baseline_below: u64,
    /// Baseline members above the histogram.
    pub baseline_above: u64,
    /// How audience and rest of the baseline differ; `null` if one of them has no numbers.
    pub difference: Option<NumberDifference>,
    /// 100 × mean / baseline mean; left out for times, and unless the baseline mean is above zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<f64>,
}

/// How the numbers of the audience differ from those of the rest of the baseline.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NumberDifference {
    /// Where they are farthest apart, among the quantiles of audience and baseline and the ends of bins.
    pub at: Number,
    /// Which share of the audience's numbers is at most that.
    pub share: f64,
    /// Which share of the rest's numbers is at most that.
    pub rest_share: f64,
    /// How likely chance drives them as far apart: Kolmogorov and Smirnov's test of two samples.
    pub p_value: f64,
    /// The same, corrected as that of a value.
    pub q_value: f64,
    /// How far apart these shares are at least, as of a value; above 0 if the audience has more small numbers.
    pub distinction: f64,
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
    let limit = request.distinguish.limit()?;
    let values_max = request.values.unwrap_or(PROFILE_VALUES_DEFAULT);
    if values_max > PROFILE_VALUES_MAX {
        let failure = Failure::field("/values", format!("at most {PROFILE_VALUES_MAX} values of a tag are listed"));
        return Err(failure.suggest("count all of them with SQL: SELECT value, users FROM tag_values"));
    }
    let by = tags(snapshot, request.by.as_deref())?;
    let bound = request.r#where.bind(snapshot, "/where")?;
    let against = match &request.against {
        Some(expression) => expression.bind(snapshot, "/against")?.predicate,
        None => Predicate::All,
    };
    let ids: Vec<_> = by.iter().map(|(_, tag)| tag.id).collect();
    let profile = ops::profile(snapshot, &bound.predicate, &ids, &against, context)?;
    check_listed(&profile.tags, values_max)?;
    let distinguishing = (limit > 0).then(|| distinguishing(snapshot.catalog(), &profile, limit));
    let sizes = (profile.count, profile.baseline_count);
    let told = by.iter().zip(profile.tags);
    Ok(ProfileAnswer {
        count: profile.count,
        baseline_count: profile.baseline_count,
        rest_count: profile.rest_count,
        tags: told.map(|((name, tag), (_, profile))| tag_answer(name, tag.tag_type, profile, sizes, request)).collect(),
        distinguishing,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

/// Refuses an answer with more values than anybody reads.
fn check_listed(tags: &[(TagId, TagProfile)], values_max: usize) -> Result<(), Failure> {
    let listed = |(_, told): &(TagId, TagProfile)| match told {
        TagProfile::Values { values, .. } => values.len().min(values_max),
        TagProfile::Number(_) => 0,
    };
    let listed: usize = tags.iter().map(listed).sum();
    if listed > PROFILE_LISTED_MAX {
        let what =
            format!("the answer would list {listed} values of all tags; at most {PROFILE_LISTED_MAX} are listed");
        return Err(
            Failure::field("/values", what).suggest("ask for fewer values of each tag, or for fewer tags in `by`")
        );
    }
    Ok(())
}

/// The tags that are asked about.
fn tags<'s>(snapshot: &'s Snapshot, by: Option<&'s [String]>) -> Result<Vec<(&'s str, &'s Tag)>, Failure> {
    let Some(by) = by else { return Ok(snapshot.catalog().tags().collect()) };
    if by.is_empty() || by.len() > PROFILE_TAGS_MAX {
        let failure = Failure::field("/by", format!("name from 1 to {PROFILE_TAGS_MAX} tags"));
        return Err(failure.suggest("leave `by` out for all tags"));
    }
    let tag = |(index, name): (usize, &'s String)| {
        Ok((name.as_str(), expression::tag(snapshot.catalog(), name, &format!("/by/{index}"))?))
    };
    by.iter().enumerate().map(tag).collect()
}

fn tag_answer(
    name: &str,
    tag_type: TagType,
    profile: TagProfile,
    (count, baseline_count): (u64, u64),
    request: &ProfileRequest,
) -> TagAnswer {
    let values_max = request.values.unwrap_or(PROFILE_VALUES_DEFAULT);
    let mut answer = TagAnswer {
        tag: name.to_owned(),
        r#type: type_name(tag_type).to_owned(),
        unknown: None,
        baseline_unknown: None,
        values: None,
        more_values: None,
        number: None,
    };
    match (profile, tag_type) {
        (TagProfile::Values { mut values, unknown, baseline_unknown, .. }, _) => {
            if request.order == ValueOrder::Distinction {
                // Stable: values that do not distinguish stay in order of their count.
                values.sort_by(|a, b| distinction(b).total_cmp(&distinction(a)));
            }
            answer.more_values = Some(values.len().saturating_sub(values_max));
            let listed = values.into_iter().take(values_max);
            answer.values = Some(listed.map(|value| value_answer(value, count, baseline_count)).collect());
            (answer.unknown, answer.baseline_unknown) = (Some(unknown), Some(baseline_unknown));
        }
        (TagProfile::Number(number), TagType::Number(unit)) => {
            answer.unknown = Some(number.unknown);
            answer.baseline_unknown = Some(baseline_count.saturating_sub(number.baseline_count));
            answer.number = Some(number_answer(unit, &number));
        }
        (TagProfile::Number(_), _) => unreachable!("only number tags have number profiles"),
    }
    answer
}

/// How far a value sets the audience apart, whichever way.
fn distinction(value: &ValueCount) -> f64 {
    value.difference.map_or(0.0, |difference| difference.distinction.abs())
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
        p_value: value.difference.map(|difference| difference.p_value),
        q_value: value.difference.map(|difference| difference.q_value),
        distinction: value.difference.map(|difference| difference.distinction),
    }
}

fn number_answer(unit: Unit, profile: &NumberProfile) -> NumberAnswer {
    let number = |value: i64| Number::of(unit, value.into());
    let quantiles = |of: &[(f64, i64)]| of.iter().map(|(q, value)| Quantile { q: *q, value: number(*value) }).collect();
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
        quantiles: quantiles(&profile.quantiles),
        histogram: bins.collect(),
        baseline_count: profile.baseline_count,
        baseline_mean: Number::mean(unit, profile.baseline_sum, profile.baseline_count),
        baseline_min: profile.baseline_min.map(number),
        baseline_max: profile.baseline_max.map(number),
        baseline_quantiles: quantiles(&profile.baseline_quantiles),
        baseline_below: profile.baseline_below,
        baseline_above: profile.baseline_above,
        difference: profile.cut.map(|cut| number_difference(unit, cut)),
        index: mean_index.filter(|_| !is_time && profile.count > 0),
    }
}

fn number_difference(unit: Unit, cut: Cut) -> NumberDifference {
    NumberDifference {
        at: Number::of(unit, cut.at.into()),
        share: cut.audience.share(),
        rest_share: cut.rest.share(),
        p_value: cut.difference.p_value,
        q_value: cut.difference.q_value,
        distinction: cut.difference.distinction,
    }
}

pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(super) fn index(share: f64, baseline_share: f64) -> Option<f64> {
    (baseline_share > 0.0).then(|| (share / baseline_share * 10_000.0).round() / 100.0)
}

/// The question for lists of what was asked.
fn told(request: &ProfileRequest) -> String {
    let mut text = request.r#where.told();
    if let Some(against) = &request.against {
        text = format!("{text} AGAINST {}", against.told());
    }
    let by = request.by.as_ref().map_or_else(|| "all tags".to_owned(), |by| by.join(", "));
    begin_of(&format!("{text} BY {by}"))
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
    let guards = asker.guards(&state);
    let answered = asker.ask(&state, Asks::Profile, text, timeout_ms, move |snapshot, context, running| {
        let answer = match guards.guard()? {
            None => answer(snapshot, &request, context)?,
            Some(guard) => guarded(snapshot, &request, context, &guard, running)?,
        };
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
        let value = ValueCount { value: "f".into(), count: 30, baseline_count: 200, rest_count: 170, difference: None };
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
