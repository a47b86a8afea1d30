//! `POST /v1/path`: what users did next, after a chosen event or before it.

use super::count::elapsed_us;
use super::expression::Where;
use super::keep::{Found, Keeping, SavedUsers};
use super::steps::{Step, ValuedStep, length_of_time, value_text};
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{
    self, KindMeant, PATH_DEPTH_MAX, PATH_STEPS_MAX, PATH_VALUES_MAX, PathAnswer as Paths, PathLink, PathNode,
    PathQuestion, QueryContext,
};
use engine::audience::predicate::Predicate;
use engine::clock::Clock;
use engine::journey::path::Walk;
use engine::store::Snapshot;
use ingest::clock::SystemClock;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Steps from the chosen event, unless it is said.
const DEPTH_DEFAULT: usize = 5;
/// Values of a step that are told apart, unless it is said.
const VALUES_DEFAULT: usize = 10;
/// The most places of an answer that values of columns can make.
const PLACES_MAX: usize = 20_000;
/// Links of an answer, unless it is said.
const LINKS_DEFAULT: usize = 100;
/// The most links of an answer.
pub const PATH_LINKS_MAX: usize = 10_000;

/// From where or to where, over which steps, of whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "from": {"fact": "visit", "where": "page = 'home'", "name": "home"},
    "steps": [{"fact": "visit", "by": "page"}, {"fact": "purchase"}], "window": "1 hour", "fold": true, "where": "gender = 'f'"
}))]
pub struct PathRequest {
    /// The event that paths begin with; either this or `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Step>,
    /// The event that paths lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Step>,
    /// What else is looked at, at most 31. An event is the chosen one if it can be, else the first of these that it can be.
    pub steps: Vec<ValuedStep>,
    /// How far from the chosen event the last one may be: `30 minutes`, `7 days`.
    pub window: String,
    /// How many steps from the chosen event: at most 20, and 5 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Which of several chosen events of a user: each user has one path.
    #[serde(default)]
    pub occurrence: Occurrence,
    /// What repeats without anything in between is one step.
    #[serde(default)]
    pub fold: bool,
    /// How many values of a step are told apart, those with most events: at most 100, and 10 if it is left out. The others are put together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<usize>,
    /// How many links are told, those with most users: at most 10,000, and 100 if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<usize>,
    /// Only events of the time up to now: `30 days` are today and the 29 days before. All that are kept if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Of these users; of all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// Keeps users as an audience. Takes the scope `ingest` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_as: Option<SavePlace>,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Which of several chosen events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Occurrence {
    /// The first one.
    #[default]
    First,
    /// The last one.
    Last,
}

/// Which users become an audience: those who came to a place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"audience": "looked_and_left", "depth": 1, "at": {"step": "visit", "value": "pricing"}, "stopped": true}))]
pub struct SavePlace {
    /// Its name. It is a list, as if it had been uploaded: who they are now.
    pub audience: String,
    /// How many steps the place is away from the chosen event.
    pub depth: usize,
    /// What stands there.
    pub at: PlaceName,
    /// And one step further away this: who went over a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<PlaceName>,
    /// And nothing further away.
    #[serde(default)]
    pub stopped: bool,
}

/// What stands at a place, as an answer names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceName {
    /// The name of the step.
    pub step: String,
    /// The value of its column; null or left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is put together of the step.
    #[serde(default)]
    pub others: bool,
}

/// Where users went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PathAnswer {
    /// Users with a chosen event: each has one path.
    pub users: u64,
    /// Places, those nearest to the chosen event first, then those with most users.
    pub places: Vec<PathPlace>,
    /// From one place to the next, in the order of time; those with most users first.
    pub links: Vec<PathHop>,
    /// How many more links there are.
    pub more_links: u64,
    /// What was kept as an audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedUsers>,
    /// Events of those users that were looked at.
    pub events: u64,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// Something that users did, so many steps from the chosen event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PathPlace {
    /// How many steps away: 0 is the chosen event.
    pub depth: usize,
    /// The name of the step.
    pub step: String,
    /// The value of its column; null: it has none, or values are put together.
    pub value: Option<String>,
    /// How many values are put together here; left out if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<u64>,
    /// Users who came here.
    pub users: u64,
    /// Those of them who went no further away from the chosen event in time; of the last depth 0, for nothing behind it is looked at.
    pub stopped: u64,
}

/// From one place to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PathHop {
    /// What came first, by its place in `places`, counted from 0.
    pub from: usize,
    /// What came next.
    pub to: usize,
    /// Users who went here.
    pub users: u64,
    /// Of the users of the end that is nearer to the chosen event.
    pub share: f64,
    /// The middle of the times from one to the other, in seconds.
    pub median_seconds: f64,
}

/// Answers on a snapshot; keeps nothing.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &PathRequest, context: &QueryContext) -> Result<PathAnswer, Failure> {
    found(snapshot, request, context).map(|found| found.answer)
}

fn found(snapshot: &Snapshot, request: &PathRequest, context: &QueryContext) -> Result<Found<PathAnswer>, Failure> {
    let started = Instant::now();
    let (chosen_step, pointer, backwards) = request.chosen()?;
    request.check(chosen_step)?;
    let (catalog, now, within) = (snapshot.catalog(), SystemClock.now(), request.within.as_ref());
    let chosen = KindMeant { events: chosen_step.bind(catalog, within, now, pointer)?, column: None };
    let steps = request.steps.iter().enumerate();
    let steps: Vec<KindMeant> = steps
        .map(|(at, step)| step.bind(catalog, within, now, &format!("/steps/{at}")))
        .collect::<Result<_, Failure>>()?;
    let walk = Walk {
        window: length_of_time(&request.window, "/window")?.into(),
        depth: request.depth.unwrap_or(DEPTH_DEFAULT),
        backwards,
        last: request.occurrence == Occurrence::Last,
        fold: request.fold,
    };
    let whom = match &request.r#where {
        Some(whom) => whom.bind(snapshot, "/where")?.predicate,
        None => Predicate::All,
    };
    let values = request.values.unwrap_or(VALUES_DEFAULT);
    let asked = PathQuestion { chosen: &chosen, steps: &steps, walk, values, whom: &whom };
    let found = ops::path(snapshot, &asked, context)?;
    let kept = request.save_as.as_ref().map(|save| request.kept(save, chosen_step, &found)).transpose()?;

    let counts = found.places();
    let mut order: Vec<(usize, usize)> = counts.keys().copied().collect();
    order.sort_by_key(|(depth, node)| (*depth, std::cmp::Reverse(counts[&(*depth, *node)].0), *node));
    let position: BTreeMap<(usize, usize), usize> = order.iter().enumerate().map(|(at, place)| (*place, at)).collect();
    let places = order.iter().map(|place| {
        let (users, stopped) = counts[place];
        let (name, others) = request.told(chosen_step, &found.nodes[place.1]);
        PathPlace { depth: place.0, step: name.step, value: name.value, others, users, stopped }
    });
    let hop = |(link, users): &(PathLink, u64)| {
        context.check()?;
        let (near, far) = ((link.depth, link.near), (link.depth + 1, link.far));
        let (from, to) = if backwards { (far, near) } else { (near, far) };
        let median_seconds = found.median_micros(*link).unwrap_or_default() / 1e6;
        let share = *users as f64 / counts[&near].0 as f64;
        Ok(PathHop { from: position[&from], to: position[&to], users: *users, share, median_seconds })
    };
    let limit = request.links.unwrap_or(LINKS_DEFAULT);
    let answer = PathAnswer {
        users: found.users.iter().map(RoaringBitmap::len).sum(),
        places: places.collect(),
        links: found.links.iter().take(limit).map(hop).collect::<Result<_, Failure>>()?,
        more_links: found.links.len().saturating_sub(limit) as u64,
        saved: None,
        events: found.events,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    };
    Ok(Found { answer, kept })
}

impl PathRequest {
    /// The chosen event, where it stands, and whether paths lead to it.
    fn chosen(&self) -> Result<(&Step, &'static str, bool), Failure> {
        match (&self.from, &self.to) {
            (Some(from), None) => Ok((from, "/from", false)),
            (None, Some(to)) => Ok((to, "/to", true)),
            (Some(_), Some(_)) => {
                let failure = Failure::field("/to", "paths begin with one chosen event, or lead to one, not both");
                Err(failure.suggest("leave `from` or `to` out; who did one and then the other is a funnel"))
            }
            (None, None) => {
                let failure = Failure::field("/from", "a path begins with a chosen event, or leads to one");
                Err(failure.suggest("name it as `from` or as `to`"))
            }
        }
    }

    fn check(&self, chosen: &Step) -> Result<(), Failure> {
        for (value, most, pointer) in [
            (Some(self.steps.len()), PATH_STEPS_MAX, "/steps"),
            (self.depth, PATH_DEPTH_MAX, "/depth"),
            (self.values, PATH_VALUES_MAX, "/values"),
            (self.links, PATH_LINKS_MAX, "/links"),
        ] {
            if let Some(value) = value.filter(|value| *value == 0 || value > &most) {
                return Err(Failure::field(pointer, format!("there may be from 1 to {most}, not {value}")));
            }
        }
        let valued = self.steps.iter().filter(|step| step.by.is_some()).count();
        let (values, depth) = (self.values.unwrap_or(VALUES_DEFAULT), self.depth.unwrap_or(DEPTH_DEFAULT));
        if valued * values * depth > PLACES_MAX {
            let detail =
                format!("{valued} steps with {values} values each, {depth} deep, are more than {PLACES_MAX} places");
            return Err(Failure::field("/values", detail).suggest("ask for fewer values, or less deep"));
        }
        let mut names = BTreeSet::from([chosen.told()]);
        for (at, step) in self.steps.iter().enumerate() {
            if !names.insert(step.told()) {
                let detail = format!("two steps are called `{}`", step.told());
                let failure = Failure::new(Kind::InvalidField, detail).at(format!("/steps/{at}"));
                return Err(failure.suggest("give one of them a `name`"));
            }
        }
        Ok(())
    }

    /// How a node is called, and how many values it puts together.
    fn told(&self, chosen: &Step, node: &PathNode) -> (PlaceName, Option<u64>) {
        match node {
            PathNode::Chosen => (PlaceName { step: chosen.told(), ..PlaceName::default() }, None),
            PathNode::Step(step, value) => {
                let name = PlaceName { step: self.steps[*step].told(), value: value_text(value), others: false };
                (name, None)
            }
            PathNode::Others(step, values) => {
                let name = PlaceName { step: self.steps[*step].told(), value: None, others: true };
                (name, Some(*values))
            }
        }
    }

    fn kept(&self, save: &SavePlace, chosen: &Step, found: &Paths) -> Result<Vec<RoaringBitmap>, Failure> {
        let depth = self.depth.unwrap_or(DEPTH_DEFAULT);
        if save.depth > depth {
            return Err(Failure::field("/save_as/depth", format!("paths are followed for {depth} steps")));
        }
        if save.stopped && save.then.is_some() {
            return Err(Failure::field("/save_as/then", "who stopped did nothing then; leave `then` or `stopped` out"));
        }
        if (save.stopped || save.then.is_some()) && save.depth == depth {
            let failure = Failure::field("/save_as/depth", format!("nothing behind step {depth} is looked at"));
            return Err(failure.suggest("ask for a greater `depth`"));
        }
        let at = self.node(&save.at, "/save_as/at", chosen, found)?;
        let then = save.then.as_ref().map(|then| self.node(then, "/save_as/then", chosen, found)).transpose()?;
        let nobody = || vec![RoaringBitmap::new(); found.users.len()];
        Ok(match (at, then) {
            (None, _) | (_, Some(None)) => nobody(),
            (Some(near), Some(Some(far))) => found.users_over(PathLink { depth: save.depth, near, far }),
            (Some(at), None) if save.stopped => found.stopped_at(save.depth, at),
            (Some(at), None) => found.users_at(save.depth, at),
        })
    }

    /// What is called so in the answer; `None`: a step that nobody did.
    fn node(&self, name: &PlaceName, pointer: &str, chosen: &Step, found: &Paths) -> Result<Option<usize>, Failure> {
        let mut names = found.nodes.iter().map(|node| self.told(chosen, node).0);
        if let Some(node) = names.position(|known| known == *name) {
            return Ok(Some(node));
        }
        let is_known = |step: &ValuedStep| step.by.is_none() && step.told() == name.step;
        if name.value.is_none() && !name.others && self.steps.iter().any(is_known) {
            return Ok(None);
        }
        let text = serde_json::to_string(name).unwrap_or_default();
        let failure = Failure::field(pointer, format!("nothing is called {} in the answer", begin_of(&text)));
        Err(failure
            .suggest("name it as `places` of the answer does; values that are put together are `\"others\": true`"))
    }

    /// The question for lists of what was asked.
    fn text(&self) -> String {
        match (&self.from, &self.to) {
            (Some(from), _) => begin_of(&format!("{} → …", from.told())),
            (None, Some(to)) => begin_of(&format!("… → {}", to.told())),
            (None, None) => String::new(),
        }
    }
}

/// Tells what users did next, after a chosen event or before it, and on request keeps those who came to a place as an audience.
///
/// Each user with a chosen event has one path: the events behind it (or before it), one after the other, as far as the window and the depth
/// reach. So the users of a place are those who went on from it and those who stopped there.
#[utoipa::path(post, path = "/v1/path", operation_id = "path", tag = "questions", request_body = PathRequest,
    responses((status = 200, body = PathAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<PathRequest>,
) -> Answer<PathAnswer> {
    let keeping = Keeping {
        asks: Asks::Path,
        text: request.text(),
        timeout_ms: request.timeout_ms,
        audience: request.save_as.as_ref().map(|save| save.audience.clone()),
    };
    let rows = |answer: &PathAnswer| answer.links.len();
    let answered = keeping.ask(&state, &asker, rows, move |snapshot, context| found(snapshot, &request, context));
    let (answer, saved) = answered.await?;
    Ok(Json(PathAnswer { saved, ..answer }))
}
