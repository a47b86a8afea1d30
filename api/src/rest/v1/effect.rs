//! `POST /v1/effect`: what campaigns came to: impressions, clicks, conversions, cost, reach, frequency, and what one more channel adds.

mod bound;
mod figures;

pub use figures::EffectFigures;

use super::count::elapsed_us;
use super::expression::Where;
use super::steps::{ValuedStep, value_text};
use crate::error::Failure;
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use bound::Bound;
use engine::audience::ops::{
    self, EFFECT_FREQUENCY_MAX, EffectQuestion, Figures, GroupEffect, Periods, QueryContext, STAGES, TimeGrain,
};
use engine::audience::predicate::Predicate;
use engine::audience::scan::EventValue;
use engine::behavior::calendar::Date;
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Groups of an answer, unless it is said.
const GROUPS_DEFAULT: usize = 100;
/// The most groups of an answer.
pub const EFFECT_GROUPS_LISTED_MAX: usize = 10_000;
/// The most periods of groups in an answer.
const PERIODS_LISTED_MAX: usize = 100_000;
/// The most numbers of the distributions of groups in an answer.
const NUMBERS_LISTED_MAX: usize = 1_000_000;
/// Numbers of impressions that users are told apart by, unless it is said.
const CAP_DEFAULT: usize = 10;

/// Which events, told apart by what, of whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "impressions": {"fact": "impression"}, "clicks": {"fact": "click"}, "conversions": {"fact": "purchase", "where": "amount >= 20"},
    "cost": "price", "value": "amount", "by": "channel", "grain": "day", "within": "30 days", "where": "gender = 'f'"
}))]
pub struct EffectRequest {
    /// What is shown.
    pub impressions: ValuedStep,
    /// What counts as taking it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clicks: Option<ValuedStep>,
    /// What it was for. An event counts in every one of the three that means it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversions: Option<ValuedStep>,
    /// A column of the impressions, or of what `cost_of` says, that tells what one costs: an integer, a decimal or a float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Whose column `cost` is.
    #[serde(default, skip_serializing_if = "CostOf::is_impressions")]
    pub cost_of: CostOf,
    /// A column of the conversions that tells what one is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A column (string, integer or boolean) each of whose values is a group: a campaign, a channel. Where it has another name, the step
    /// says so with its own `by`; clicks and conversions without the column are told of all together only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Each period for itself, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grain: Option<Grain>,
    /// By whose clocks: `Asia/Shanghai`; those of the impressions' fact if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Only events of the time up to now: `30 days` are today and the 29 days before. All that are kept if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Only events from one time to another, days with all their hours: `["2026-11-01", "2026-11-14"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<[String; 2]>,
    /// Of these users; of all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// How many numbers of impressions users are told apart by, the last one with all above: at most 1,000, and 10 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<usize>,
    /// By what groups are ordered, those with most first.
    #[serde(default)]
    pub order: EffectOrder,
    /// How many groups are listed: at most 10,000, and 100 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Groups that come first in the incremental reach, in this order; the others follow, always the one that adds most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Option<String>>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Whose column the cost is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CostOf {
    /// Each impression costs something.
    #[default]
    Impressions,
    /// Each click costs something.
    Clicks,
}

impl CostOf {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_impressions(&self) -> bool {
        *self == CostOf::Impressions
    }
}

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// An hour of the clock; one that is shown twice, when clocks are set back, is one.
    Hour,
    /// A calendar day.
    Day,
    /// Seven days from a Monday on.
    Week,
    /// A calendar month.
    Month,
}

impl From<Grain> for TimeGrain {
    fn from(grain: Grain) -> TimeGrain {
        match grain {
            Grain::Hour => TimeGrain::Hour,
            Grain::Day => TimeGrain::Day,
            Grain::Week => TimeGrain::Week,
            Grain::Month => TimeGrain::Month,
        }
    }
}

/// By what groups are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EffectOrder {
    /// Impressions.
    #[default]
    Impressions,
    /// Users with any impression.
    Reach,
    /// Clicks.
    Clicks,
    /// Conversions.
    Conversions,
    /// What it cost.
    Cost,
    /// What conversions are worth.
    Value,
}

/// What campaigns came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EffectAnswer {
    /// All together, events in no group included.
    pub all: EffectTotal,
    /// Each value of the column, those with most first.
    pub groups: Vec<EffectGroup>,
    /// What groups beyond those came to together; left out if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<EffectMore>,
    /// What one more channel adds; left out if impressions are not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<IncrementalReach>,
    /// By whose clocks periods are; left out without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Events that were looked at; none of what the activity index tells.
    pub events: u64,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// What all events came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EffectTotal {
    /// In the whole time.
    pub figures: EffectFigures,
    /// How many users had exactly one impression, exactly two, and so on; the last ones so many or more.
    pub frequency: Vec<u64>,
    /// Each period with any event, oldest first, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub periods: Vec<EffectPeriod>,
}

/// What a group came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EffectGroup {
    /// The value of the column; null: events without a value.
    pub group: Option<String>,
    /// In the whole time.
    pub figures: EffectFigures,
    /// How many users had exactly one impression of it, exactly two, and so on; the last ones so many or more.
    pub frequency: Vec<u64>,
    /// Each period with any event, oldest first, if that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub periods: Vec<EffectPeriod>,
}

/// What a period came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EffectPeriod {
    /// Its first day, as 2026-11-20, or its hour, as 2026-11-20T10:00, by the clocks of the zone.
    pub from: String,
    /// What happened in it; a user counts in each period that has an event of theirs.
    pub figures: EffectFigures,
}

/// What groups that are not listed came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EffectMore {
    /// How many.
    pub groups: u64,
    /// Together; a user in several of them counts once.
    pub figures: EffectFigures,
}

/// Channels one after the other, and what each adds to those before it.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IncrementalReach {
    /// First those that were named, then always the one that adds most.
    pub channels: Vec<ChannelReach>,
    /// What channels behind those add; left out if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreChannels>,
}

/// What a channel adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChannelReach {
    /// The group.
    pub channel: Option<String>,
    /// Users whom it reached.
    pub reach: u64,
    /// Those of them whom no other group reached, listed or not.
    pub exclusive: u64,
    /// Those of them whom no channel before it reached.
    pub adds: u64,
    /// Users whom it and those before it reached.
    pub cumulative: u64,
    /// The same as a share of all who were reached; null if nobody was.
    pub share: Option<f64>,
}

/// Channels that are not listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MoreChannels {
    /// How many.
    pub channels: u64,
    /// Users whom they reached and none before them did.
    pub adds: u64,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &EffectRequest, context: &QueryContext) -> Result<EffectAnswer, Failure> {
    let started = Instant::now();
    let (cap, listed) = (request.cap.unwrap_or(CAP_DEFAULT), request.limit.unwrap_or(GROUPS_DEFAULT));
    for (value, most, pointer) in [(cap, EFFECT_FREQUENCY_MAX, "/cap"), (listed, EFFECT_GROUPS_LISTED_MAX, "/limit")] {
        if value == 0 || value > most {
            return Err(Failure::field(pointer, format!("there may be from 1 to {most}, not {value}")));
        }
    }
    if cap * listed > NUMBERS_LISTED_MAX {
        let detail = format!(
            "{listed} groups with {cap} numbers each are more than the {NUMBERS_LISTED_MAX} that an answer may list"
        );
        return Err(Failure::field("/cap", detail).suggest("name a smaller `cap` or `limit`"));
    }
    if request.channels.len() > EFFECT_GROUPS_LISTED_MAX {
        let detail = format!("at most {EFFECT_GROUPS_LISTED_MAX} may be named, not {}", request.channels.len());
        return Err(Failure::field("/channels", detail));
    }
    let bound = request.bound(snapshot)?;
    let whom = match &request.r#where {
        Some(whom) => whom.bind(snapshot, "/where")?.predicate,
        None => Predicate::All,
    };
    let asked = EffectQuestion {
        stages: std::array::from_fn(|stage| bound.stages[stage].as_ref()),
        periods: request.grain.map(|grain| Periods { grain: grain.into(), zone: &bound.zone }),
        frequencies: cap,
        whom: &whom,
    };
    let found = ops::effect(snapshot, &asked, context)?;
    let mut groups: Vec<(&EventValue, &GroupEffect)> = found.groups.iter().collect();
    // Those with as much stay in the order of their values.
    groups.sort_by_key(|(_, group)| Reverse(bound.ordered_by(request.order, &group.stages)));
    let (listed, others) = groups.split_at(listed.min(groups.len()));
    let told = listed.iter().map(|(_, group)| group.periods.len()).sum::<usize>();
    if told > PERIODS_LISTED_MAX {
        let detail = format!("{told} periods of groups are more than the {PERIODS_LISTED_MAX} that an answer may list");
        let failure = Failure::field("/limit", detail);
        return Err(failure.suggest("list fewer groups, or ask for longer periods or a shorter time"));
    }
    let (of_all, of_groups) = (bound.told(&found.digits), bound.told_of_groups(&found.digits));
    let frequency = |group: &GroupEffect| {
        let mut frequency = group.frequency.clone();
        frequency.resize(cap, 0);
        frequency
    };
    let periods = |told: &figures::Told, periods: &BTreeMap<i32, [Figures; STAGES]>| {
        let period = |(first_hour, figures): (&i32, &[Figures; STAGES])| EffectPeriod {
            from: begin(*first_hour, request.grain),
            figures: told.figures(figures),
        };
        periods.iter().map(period).collect::<Vec<EffectPeriod>>()
    };
    let group = |(value, group): &(&EventValue, &GroupEffect)| EffectGroup {
        group: value_text(value),
        figures: of_groups.figures(&group.stages),
        frequency: frequency(group),
        periods: periods(&of_groups, &group.periods),
    };
    let more = GroupEffect::together(others.iter().map(|(_, group)| *group), context)?;
    let more = EffectMore { groups: others.len() as u64, figures: of_groups.figures(&more) };
    Ok(EffectAnswer {
        all: EffectTotal {
            figures: of_all.figures(&found.all.stages),
            frequency: frequency(&found.all),
            periods: periods(&of_all, &found.all.periods),
        },
        groups: listed.iter().map(group).collect(),
        more: (more.groups > 0).then_some(more),
        incremental: match bound.is_grouped() {
            true => Some(incremental(&found, &bound, request.limit.unwrap_or(GROUPS_DEFAULT), context)?),
            false => None,
        },
        time_zone: request.grain.map(|_| bound.zone.name.clone()),
        events: found.events,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

/// What one more channel adds, for so many of them.
fn incremental(
    found: &ops::Effect,
    bound: &Bound,
    listed: usize,
    context: &QueryContext,
) -> Result<IncrementalReach, Failure> {
    let steps = ops::incremental_reach(found, &bound.channels, listed, context)?;
    let all = found.all.reach();
    let reached = steps.last().map_or(0, |step| step.cumulative);
    let told: BTreeSet<&EventValue> = steps.iter().map(|step| &step.channel).collect();
    let others = found.groups.iter().filter(|(channel, group)| group.reach() > 0 && !told.contains(channel)).count();
    let channel = |step: &ops::ReachStep| ChannelReach {
        channel: value_text(&step.channel),
        reach: step.reach,
        exclusive: step.exclusive,
        adds: step.adds,
        cumulative: step.cumulative,
        share: (all > 0).then(|| step.cumulative as f64 / all as f64),
    };
    Ok(IncrementalReach {
        channels: steps.iter().map(channel).collect(),
        // Every impression is in a group, so all of them reached whom all groups reached.
        more: (others > 0).then(|| MoreChannels { channels: others as u64, adds: all - reached }),
    })
}

/// When a period begins.
fn begin(first_hour: i32, grain: Option<Grain>) -> String {
    let day = Date::of(first_hour.div_euclid(24).into());
    match grain {
        Some(Grain::Hour) => format!("{day}T{:02}:00", first_hour.rem_euclid(24)),
        _ => day.to_string(),
    }
}

impl EffectRequest {
    /// The question for lists of what was asked.
    fn text(&self) -> String {
        begin_of(&self.impressions.told())
    }
}

/// Tells what campaigns came to: impressions, clicks, conversions, cost, reach and frequency, by the values of a column and by period; and
/// what one more channel adds to the reach of others.
///
/// Exact: users count once in a group, in a period and in all, so what groups and periods reached does not add up to what all did. What was
/// taken back does not count.
#[utoipa::path(post, path = "/v1/effect", operation_id = "effect", tag = "questions", request_body = EffectRequest,
    responses((status = 200, body = EffectAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<EffectRequest>,
) -> Answer<EffectAnswer> {
    let (text, timeout_ms) = (request.text(), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Effect, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.groups.len().max(1));
        Ok(answer)
    });
    Ok(Json(answered.await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_told_by_their_begin() {
        assert_eq!(begin(-1, Some(Grain::Hour)), "1969-12-31T23:00");
        assert_eq!(begin(24 * 20_000 + 7, Some(Grain::Hour)), "2024-10-04T07:00");
        assert_eq!(begin(24 * 20_000, Some(Grain::Month)), "2024-10-04");
    }
}
