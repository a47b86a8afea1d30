//! `POST /v1/attribution`: to which campaigns conversions are credited.

use super::count::elapsed_us;
use super::expression::Where;
use super::number::Number;
use super::steps::{Step, column_by, length_of_time, number_column, value_text};
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{
    self, Attribution, AttributionQuestion, Campaign, Credit, KindMeant, QueryContext, TOUCHES_MAX,
};
use engine::audience::predicate::Predicate;
use engine::clock::Clock;
use engine::journey::attribution::{Crediting, MODELS, Model, PARTS};
use engine::store::Snapshot;
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Instant;

/// Campaigns of an answer, unless it is said.
const CAMPAIGNS_DEFAULT: usize = 100;
/// The most campaigns of an answer.
pub const CAMPAIGNS_LISTED_MAX: usize = 10_000;
const DAY_MICROS: i64 = 86_400_000_000;
/// After how long a touch has half as much, unless it is said.
const HALF_LIFE_MICROS: i64 = 7 * DAY_MICROS;
/// What the first touch, those in between and the last one have of 100, unless it is said.
const POSITION: [u32; 3] = [40, 20, 40];
/// A conversion's parts are these digits.
const PARTS_DIGITS: u8 = PARTS.ilog10() as u8;

/// Which conversions, credited to what.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "conversion": {"fact": "purchase"}, "value": "amount", "touches": [{"fact": "impression"}, {"fact": "click"}], "by": "campaign",
    "lookback": "30 days", "within": "90 days", "half_life": "7 days", "position": [40, 20, 40]
}))]
pub struct AttributionRequest {
    /// What counts as a conversion.
    pub conversion: Step,
    /// A column of it that tells what one is worth: an integer, a decimal or a float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What conversions can be credited to, at most 31. An event is a conversion if it can be, else the first of these that it can be.
    pub touches: Vec<Step>,
    /// A column that all touches have: each of its values is a campaign, whichever touch has it. If it is left out, each touch is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How long before a conversion a touch may be: `30 days`.
    pub lookback: String,
    /// After how long a touch has half as much, in the model `decay`; 7 days if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life: Option<String>,
    /// What the first touch, all in between, and the last one have of 100, in the model `position`; 40, 20 and 40 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<[u32; 3]>,
    /// Only conversions of the time up to now: `30 days` are today and the 29 days before. All that are kept if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Of these users; of all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// The model by which campaigns are ordered, those with most conversions first.
    #[serde(default)]
    pub order: ModelName,
    /// How many campaigns are listed: at most 10,000, and 100 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaigns: Option<usize>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How a conversion is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModelName {
    /// The first touch has all.
    First,
    /// The last touch has all.
    Last,
    /// All have as much.
    #[default]
    Linear,
    /// A touch that is a half-life older has half as much.
    Decay,
    /// The first and the last touch have so much, and those in between share the rest.
    Position,
}

impl From<ModelName> for Model {
    fn from(name: ModelName) -> Model {
        match name {
            ModelName::First => Model::First,
            ModelName::Last => Model::Last,
            ModelName::Linear => Model::Linear,
            ModelName::Decay => Model::Decay,
            ModelName::Position => Model::Position,
        }
    }
}

/// To which campaigns conversions are credited.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttributionAnswer {
    /// All conversions.
    pub all: ConvertedAnswer,
    /// Those without a touch; to the campaigns the others are credited.
    pub untouched: ConvertedAnswer,
    /// What each campaign is credited with.
    pub campaigns: Vec<CreditAnswer>,
    /// What campaigns beyond those are credited with; left out if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreCampaigns>,
    /// Events of touches and conversions that were looked at.
    pub events: u64,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// Conversions.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConvertedAnswer {
    /// How many.
    pub conversions: u64,
    /// Users with any of them.
    pub users: u64,
    /// What they are worth together, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
}

/// What a campaign is credited with.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreditAnswer {
    /// The value of the column, or the name of the touch; null: touches without a value.
    pub campaign: Option<String>,
    /// Conversions that it has any touch of.
    pub conversions: u64,
    /// Their users.
    pub users: u64,
    /// Conversions that it is credited with, by model.
    pub credited: Credits,
    /// What these are worth, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Credits>,
}

/// What is credited, by model: exactly, so that all campaigns have all together.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Credits {
    /// The first touch has all.
    pub first: Number,
    /// The last touch has all.
    pub last: Number,
    /// All have as much.
    pub linear: Number,
    /// A touch that is a half-life older has half as much.
    pub decay: Number,
    /// The first and the last touch have so much, and those in between share the rest.
    pub position: Number,
}

/// Campaigns that are not listed.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MoreCampaigns {
    /// How many.
    pub campaigns: u64,
    /// Conversions that they are credited with together.
    pub credited: Credits,
    /// What these are worth, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Credits>,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    snapshot: &Snapshot,
    request: &AttributionRequest,
    context: &QueryContext,
) -> Result<AttributionAnswer, Failure> {
    let started = Instant::now();
    let crediting = request.crediting()?;
    let listed = request.campaigns.unwrap_or(CAMPAIGNS_DEFAULT);
    for (value, most, pointer) in
        [(request.touches.len(), TOUCHES_MAX, "/touches"), (listed, CAMPAIGNS_LISTED_MAX, "/campaigns")]
    {
        if value == 0 || value > most {
            return Err(Failure::field(pointer, format!("there may be from 1 to {most}, not {value}")));
        }
    }
    let (conversion, touches) = request.bound(snapshot)?;
    let whom = match &request.r#where {
        Some(whom) => whom.bind(snapshot, "/where")?.predicate,
        None => Predicate::All,
    };
    let by_value = request.by.is_some();
    let asked = AttributionQuestion { conversion: &conversion, touches: &touches, by_value, crediting, whom: &whom };
    let found = ops::attribution(snapshot, &asked, context)?;
    let model = Model::from(request.order) as usize;
    let mut credits: Vec<(&Campaign, &Credit)> = found.credits.iter().collect();
    // Those with as much stay in the order of their names.
    credits.sort_by_key(|(_, credit)| std::cmp::Reverse(credit.parts[model]));
    let told = Told { of_values: request.value.is_some(), found: &found };
    let converted = |of: &ops::Converted| ConvertedAnswer {
        conversions: of.conversions,
        users: of.users,
        value: told.of_values.then(|| Number::shortest(of.value, found.value_digits)),
    };
    let (listed, others) = credits.split_at(listed.min(credits.len()));
    let campaign = |(campaign, credit): &(&Campaign, &Credit)| CreditAnswer {
        campaign: match campaign {
            Campaign::Touch(touch) => request.touches.get(*touch).map(Step::told),
            Campaign::Value(value) => value_text(value),
        },
        conversions: credit.conversions,
        users: credit.users,
        credited: told.credited(credit),
        value: told.value(credit),
    };
    let mut more = Credit::default();
    others.iter().for_each(|(_, credit)| more.add(credit));
    let more = (!others.is_empty()).then(|| MoreCampaigns {
        campaigns: others.len() as u64,
        credited: told.credited(&more),
        value: told.value(&more),
    });
    Ok(AttributionAnswer {
        all: converted(&found.all),
        untouched: converted(&found.untouched),
        campaigns: listed.iter().map(campaign).collect(),
        more,
        events: found.events,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

/// How credits are told.
struct Told<'a> {
    of_values: bool,
    found: &'a Attribution,
}

impl Told<'_> {
    fn credited(&self, credit: &Credit) -> Credits {
        credits(&credit.parts, PARTS_DIGITS)
    }

    fn value(&self, credit: &Credit) -> Option<Credits> {
        self.of_values.then(|| credits(&credit.values, PARTS_DIGITS + self.found.value_digits))
    }
}

fn credits(parts: &[i128; MODELS], digits: u8) -> Credits {
    let of = |model: Model| Number::shortest(parts[model as usize], digits);
    Credits {
        first: of(Model::First),
        last: of(Model::Last),
        linear: of(Model::Linear),
        decay: of(Model::Decay),
        position: of(Model::Position),
    }
}

impl AttributionRequest {
    fn crediting(&self) -> Result<Crediting, Failure> {
        let half_life = self.half_life.as_ref().map(|text| length_of_time(text, "/half_life")).transpose()?;
        let half_life = half_life.unwrap_or(HALF_LIFE_MICROS);
        if half_life == 0 {
            return Err(Failure::field("/half_life", "a half-life is longer than nothing"));
        }
        let position = self.position.unwrap_or(POSITION);
        if position.iter().map(|share| u64::from(*share)).sum::<u64>() != 100 {
            let detail = "what the first touch, those in between and the last one have adds up to 100";
            return Err(Failure::field("/position", detail).suggest("write [40, 20, 40]"));
        }
        Ok(Crediting { lookback: length_of_time(&self.lookback, "/lookback")?.into(), half_life, position })
    }

    fn bound(&self, snapshot: &Snapshot) -> Result<(KindMeant, Vec<KindMeant>), Failure> {
        let (catalog, now) = (snapshot.catalog(), SystemClock.now());
        let events = self.conversion.bind(catalog, self.within.as_ref(), now, "/conversion")?;
        let worth = |name: &String| number_column(catalog, events.fact, name, "/value");
        let value = self.value.as_ref().map(worth).transpose()?;
        let touch = |(at, touch): (usize, &Step)| {
            let events = touch.bind(catalog, None, now, &format!("/touches/{at}"))?;
            let by = |name: &String| column_by(catalog, events.fact, name, "/by");
            let column = self.by.as_ref().map(by).transpose()?;
            Ok(KindMeant { events, column })
        };
        let touches: Vec<KindMeant> = self.touches.iter().enumerate().map(touch).collect::<Result<_, Failure>>()?;
        let mut names = BTreeSet::new();
        let same = self.touches.iter().position(|touch| !names.insert(touch.told()));
        if let Some(same) = same.filter(|_| self.by.is_none()) {
            let detail = format!("two touches are called `{}`", self.touches[same].told());
            let failure = Failure::new(Kind::InvalidField, detail).at(format!("/touches/{same}"));
            return Err(failure.suggest("give one of them a `name`"));
        }
        Ok((KindMeant { events, column: value }, touches))
    }

    /// The question for lists of what was asked.
    fn text(&self) -> String {
        begin_of(&self.conversion.told())
    }
}

/// Tells to which campaigns conversions are credited, by five models at once.
///
/// A conversion is credited to the touches before it that are no older than `lookback`; each model shares it among them. Credits of a
/// conversion add up to exactly one.
#[utoipa::path(post, path = "/v1/attribution", operation_id = "attribution", tag = "questions", request_body = AttributionRequest,
    responses((status = 200, body = AttributionAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<AttributionRequest>,
) -> Answer<AttributionAnswer> {
    let (text, timeout_ms) = (request.text(), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Attribution, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(answer.campaigns.len());
        Ok(answer)
    });
    Ok(Json(answered.await?))
}
