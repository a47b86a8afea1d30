//! `POST /v1/lookalike`: the users most like others.

use super::audiences;
use super::count::elapsed_us;
use super::distinguish::{Distinguish, DistinguishingAnswer, distinguishing};
use super::expression::{self, Where};
use super::scores::{Claims, ScoreTag, ScoresAnswer};
use super::tree::similar::extent_and_method;
use crate::access::Scope;
use crate::audit::Telling;
use crate::error::Failure;
use crate::privacy::{self, Guard};
use crate::queries::{Asks, Running, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::bind;
use engine::audience::error::ExprErrorKind;
use engine::audience::expr::{Expr, ExprKind, SimilarTo};
use engine::audience::ops::{self, Holdout, Likeness, Lookalike, LookalikeReport, Measure, QueryContext, Seed};
use engine::audience::predicate::Predicate;
use engine::audience::scan::Given;
use engine::audience::similar::Extent;
use engine::clock::Clock;
use engine::ids::TagId;
use engine::lookalike::recall::Probed;
use engine::lookalike::seeds::Method;
use engine::store::{Snapshot, Store};
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// The longest list of users in an answer; `save_as` keeps any number.
pub const LOOKALIKE_USERS_MAX: usize = 10_000;
/// Users in an answer, unless it is said.
pub const LOOKALIKE_USERS_DEFAULT: usize = 100;

/// Like whom, how many, and of whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({"seed": "in_audience('vip')", "space": "taste", "share": 0.02, "within": "ads_consent", "limit": 10}))]
pub struct LookalikeRequest {
    /// The vector space.
    pub space: String,
    /// Like whom; this or `vectors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<Where>,
    /// Like these vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vectors: Option<Vec<Vec<f32>>>,
    /// How many users; this or `share`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub size: Option<Number>,
    /// Which share of the candidates: 0.02 are the most similar 2 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub share: Option<Number>,
    /// Those behind so many, or behind such a share: the next ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub after: Option<Number>,
    /// Candidates are of these; of all users if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Where>,
    /// And not of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Where>,
    /// Users of the seed are candidates, too.
    pub include_seed: bool,
    /// How likeness is learned; whichever way finds hidden users of the seed best if neither this nor `prototypes` is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<LearnedBy>,
    /// Likeness to the nearest of so many centres, up to 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prototypes: Option<usize>,
    /// A number tag by which users of the seed count for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Scan all vectors in full precision; the answer is the same, later.
    pub exact: bool,
    /// Hide a tenth of the seed and tell how well it is found; takes about as long again.
    pub holdout: bool,
    /// Tell what share of a scan in full precision was found; takes that long again.
    pub recall: bool,
    /// How many users to tell with their scores, best first: at most 10,000, and 100 if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Tell what most distinguishes the users found from the others of `within`, or from everybody else: `true`, or how many things at most.
    #[serde(skip_serializing_if = "Distinguish::is_none")]
    pub distinguish: Distinguish,
    /// Keep the score of every user found in this number tag, and take it from all others. The tag has digits behind the point, to
    /// which scores are rounded, halves away from zero. Takes the scope `ingest` too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores_to: Option<String>,
    /// Keep the question as an audience of this name: whoever is most alike whenever it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_as: Option<String>,
    /// Longest time, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A way to learn likeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LearnedBy {
    /// Likeness to the seed's mean.
    Mean,
    /// A linear model of the seed against others.
    Linear,
}

/// The users found, and how.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LookalikeAnswer {
    /// The first of them, most alike first.
    pub users: Vec<Scored>,
    /// How many were found.
    pub count: u64,
    /// How many were asked for: more than `count` if there were too few to choose from.
    pub wanted: u64,
    /// Users there were to choose from: with a vector, and fitting. Null under a privacy policy, as are the figures of the seed.
    pub candidates: Option<u64>,
    /// Nobody found scores less; `null` if the last one found is the last candidate.
    pub at_least: Option<f32>,
    /// Users of the seed, or vectors.
    pub seed_users: Option<u64>,
    /// Those of them with a vector.
    pub seed_with_vector: Option<u64>,
    /// How likeness was learned, as the audience language writes it.
    pub method: String,
    /// The ways that were tried; empty if one was asked for.
    pub tried: Vec<Tried>,
    /// How the first few were looked for by cells; left out if all candidates were scanned, which is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<CellsAnswer>,
    /// What share of a scan in full precision was found, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// How well hidden users of the seed are found, if that was asked and there are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<HoldoutAnswer>,
    /// What most distinguishes the users found, over all tags, farthest first; only what is significant. If it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinguishing: Option<Vec<DistinguishingAnswer>>,
    /// What was kept of the scores, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoresAnswer>,
    /// The question in the audience language; none if it was asked with vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A user, and how alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Scored {
    /// The user.
    pub user_id: String,
    /// More is more alike; scores of one question can be compared, and no others.
    pub score: f32,
}

/// A way to learn likeness that was tried.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tried {
    /// As the audience language writes it.
    pub method: String,
    /// How likely it puts a hidden user of the seed before another: a half is chance, 1 always.
    pub area_under_curve: f64,
}

/// How users were looked for by cells, the parts of a space that are near each other.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CellsAnswer {
    /// Cells whose vectors were scored.
    pub looked_into: u64,
    /// Of so many.
    pub of: u64,
    /// Vectors that were scored.
    pub vectors: u64,
}

impl From<Probed> for CellsAnswer {
    fn from(of: Probed) -> CellsAnswer {
        CellsAnswer { looked_into: of.cells, of: of.of, vectors: of.vectors }
    }
}

/// What hiding a tenth of the seed came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HoldoutAnswer {
    /// How likely a hidden user is put before another: a half is chance, 1 always.
    pub area_under_curve: f64,
    /// Hidden users that are candidates.
    pub hidden: u64,
    /// Those of them that were found.
    pub found: u64,
    /// How much more often they are found than by choosing as many users at random; `null` if none is a candidate.
    pub lift: Option<f64>,
}

impl From<Holdout> for HoldoutAnswer {
    fn from(of: Holdout) -> HoldoutAnswer {
        HoldoutAnswer { area_under_curve: of.area_under_curve, hidden: of.hidden, found: of.found, lift: of.lift }
    }
}

/// Answers on a snapshot; `store` is where scores are kept, by whoever has a claim.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(
    snapshot: &Snapshot,
    store: &Store,
    claims: &Claims,
    request: &LookalikeRequest,
    context: &QueryContext,
    guarded: Option<(&Guard, &Running)>,
) -> Result<LookalikeAnswer, Failure> {
    let started = Instant::now();
    if guarded.is_some() {
        request.check_guarded()?;
    }
    let things = request.distinguish.limit()?;
    let tag = request.scores_to.as_ref().map(|name| ScoreTag::of(snapshot.catalog(), name)).transpose()?;
    let claim = tag.as_ref().map(|tag| tag.claim(claims)).transpose()?;
    let limit = request.limit.unwrap_or(LOOKALIKE_USERS_DEFAULT);
    if limit > LOOKALIKE_USERS_MAX {
        let failure = Failure::field("/limit", format!("`limit` is at most {LOOKALIKE_USERS_MAX}"));
        return Err(failure.suggest("keep them with `save_as`, and list the members of that audience"));
    }
    let expr = request.expression(snapshot)?;
    let Predicate::Similar(similar) = bound(&expr, snapshot)? else {
        return Err(Failure::internal("a question for users like others has become another"));
    };
    if let Some((guard, running)) = guarded {
        for part in [&similar.within, &similar.exclude] {
            guard.check(part)?;
        }
        let seed = guard.users(snapshot, &similar.seed, context)?;
        if request.vectors.is_none() {
            guard.list(&seed, running).map_err(|failure| failure.at("/seed"))?;
        }
    }
    // Asked twice where users found are compared with others of it, and answered once.
    let within =
        if things > 0 { ops::resolve(snapshot, &similar.within, context)? } else { Cow::Borrowed(&similar.within) };
    let mut asked = Likeness { within: &within, ..Likeness::of(&similar) };
    if let Some(vectors) = &request.vectors {
        asked.seed = Seed::Vectors(vectors);
    }
    let measure = Measure { recall: request.recall, holdout: request.holdout };
    let found = ops::lookalike(snapshot, &asked, measure, context)?;
    if let Some((guard, running)) = guarded {
        guard.list(&found.members, running)?;
    }
    let best = found.best(snapshot, 0, limit, context)?;
    let distinguishing = match things {
        0 => None,
        things => Some(distinguishing_of(snapshot, &found, &within, tag.as_ref().map(|tag| tag.id), things, context)?),
    };
    let claimed = tag.as_ref().zip(claim.as_ref());
    let scores = claimed.map(|(tag, claim)| tag.keep(claim, store, snapshot, &found, context)).transpose()?;
    let LookalikeReport {
        method,
        tried,
        probed,
        seed_users,
        seed_with_vector,
        candidates,
        wanted,
        members,
        at_least,
        ..
    } = found.report;
    // How many they are is told of whom is listed alone.
    let is_told = guarded.is_none();
    let tried = tried.into_iter().filter(|_| is_told);
    Ok(LookalikeAnswer {
        users: best.into_iter().map(|user| Scored { user_id: user.user, score: user.score }).collect(),
        count: members,
        wanted,
        candidates: is_told.then_some(candidates),
        at_least,
        seed_users: is_told.then_some(seed_users),
        seed_with_vector: is_told.then_some(seed_with_vector),
        method: method.to_string(),
        cells: probed.filter(|_| is_told).map(CellsAnswer::from),
        tried: tried.map(|(method, area_under_curve)| Tried { method: method.to_string(), area_under_curve }).collect(),
        recall: found.report.recall,
        holdout: found.report.holdout.map(HoldoutAnswer::from),
        distinguishing,
        scores,
        expression: request.vectors.is_none().then(|| expr.to_string()),
        epoch: snapshot.epoch().0,
        elapsed_us: if is_told { elapsed_us(started) } else { 0 },
    })
}

/// What sets the users found apart from the others within, over all tags; but for the tag that their scores go to.
fn distinguishing_of(
    snapshot: &Snapshot,
    found: &Lookalike,
    within: &Predicate,
    scores: Option<TagId>,
    limit: usize,
    context: &QueryContext,
) -> Result<Vec<DistinguishingAnswer>, Failure> {
    let found = Predicate::Given(Arc::new(Given::new(None, snapshot.shards().len(), &found.members)));
    let tags = snapshot.catalog().tags().map(|(_, tag)| tag.id);
    let by: Vec<TagId> = tags.filter(|tag| Some(*tag) != scores).collect();
    let profile = ops::profile(snapshot, &found, &by, within, context)?;
    Ok(distinguishing(snapshot.catalog(), &profile, limit))
}

/// Names and types settled; what is wrong in one of the request's expressions was told before.
fn bound(expr: &Expr, snapshot: &Snapshot) -> Result<Predicate, Failure> {
    bind(expr, snapshot.catalog(), snapshot.audiences(), SystemClock.now()).map_err(|error| {
        let pointer = match error.kind {
            ExprErrorKind::UnknownSpace => "/space",
            ExprErrorKind::UnknownTag | ExprErrorKind::Type => "/weights",
            _ => "",
        };
        // It stands in no text that the client wrote.
        Failure { span: None, ..Failure::from(error).at(pointer) }
    })
}

impl LookalikeRequest {
    /// # Errors
    /// [`Kind::Forbidden`](crate::error::Kind::Forbidden) if it asks for what is not told under a privacy policy.
    fn check_guarded(&self) -> Result<(), Failure> {
        let asked = [
            ("distinguish", !self.distinguish.is_none()),
            ("holdout", self.holdout),
            ("recall", self.recall),
            ("scores_to", self.scores_to.is_some()),
            ("save_as", self.save_as.is_some()),
        ];
        match asked.iter().find(|(_, is_asked)| *is_asked) {
            None => Ok(()),
            Some((name, _)) => {
                Err(privacy::refused(&format!("`{name}`")).at(format!("/{name}")).suggest("leave it out"))
            }
        }
    }

    /// The question as `similar_to(…)`; with vectors its seed is nobody.
    fn expression(&self, snapshot: &Snapshot) -> Result<Expr, Failure> {
        let users = |of: &Option<Where>, pointer: &str| {
            of.as_ref().map(|of| of.bind(snapshot, pointer).and_then(|_| of.expr(pointer))).transpose()
        };
        let seed = match (users(&self.seed, "/seed")?, &self.vectors) {
            (Some(seed), None) => seed,
            (None, Some(_)) if self.weights.is_some() => {
                let failure = Failure::field("/weights", "vectors are no users, and have no tags to weigh them by");
                return Err(failure.suggest("leave `weights` out, or write `seed`"));
            }
            (None, Some(_)) => ExprKind::Literal(false).into(),
            (Some(_), Some(_)) => return Err(Failure::field("/vectors", "write `seed` or `vectors`, not both")),
            (None, None) => {
                let failure = Failure::field("/seed", "it is not said like whom");
                return Err(failure.suggest("write `seed`: an audience expression, or `vectors`"));
            }
        };
        let (extent, method) = self.extent_and_method()?;
        let similar = SimilarTo {
            space: self.space.clone(),
            seed,
            extent,
            within: users(&self.within, "/within")?,
            exclude: users(&self.exclude, "/exclude")?,
            include_seed: self.include_seed,
            method,
            weights: self.weights.clone(),
            exact: self.exact,
        };
        Ok(ExprKind::SimilarTo(Box::new(similar)).into())
    }

    /// Both are told by the keys that they have in a tree.
    fn extent_and_method(&self) -> Result<(Extent, Option<Method>), Failure> {
        let method = self.method.map(|method| json!(method));
        let keys = [
            ("size", self.size.clone().map(Value::Number)),
            ("share", self.share.clone().map(Value::Number)),
            ("after", self.after.clone().map(Value::Number)),
            ("method", method),
            ("prototypes", self.prototypes.map(|count| json!(count))),
        ];
        let fields = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        extent_and_method(&fields).map_err(Failure::from)
    }

    /// The question for lists of what was asked.
    fn told(&self) -> String {
        let seed = self.seed.as_ref().map_or_else(|| "vectors".to_owned(), Where::told);
        begin_of(&format!("in {} like {seed}", begin_of(&self.space)))
    }
}

/// Finds the users most like others.
///
/// A seed may be of any size; of a large one a sample is learned from. `within` and `exclude` are exact: as many users are found
/// as are asked for if so many fit and have a vector. Beside the users it is told how many of the seed had a vector, and on
/// request how well hidden ones are found.
#[utoipa::path(post, path = "/v1/lookalike", operation_id = "lookalike", tag = "questions", request_body = LookalikeRequest,
    responses((status = 200, body = LookalikeAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<LookalikeRequest>,
) -> Answer<LookalikeAnswer> {
    if let Some(name) = &request.save_as {
        audiences::check_name(name).map_err(|failure| failure.at("/save_as"))?;
        if request.vectors.is_some() {
            let failure = Failure::field("/save_as", "an audience cannot keep vectors");
            return Err(failure.suggest("save who they are of as an audience, and make that the seed"));
        }
    }
    if let Some(tag) = &request.scores_to {
        asker.principal.need(&[Scope::Ingest])?;
        if asker.principal.tenant.is_some() {
            expression::tag(state.writable(&asker.principal)?.catalog(), tag, "/scores_to")?;
        }
    }
    let (text, timeout_ms, save_as) = (request.told(), request.timeout_ms, request.save_as.clone());
    let keeping = request.scores_to.as_ref().map(|tag| Telling::new(state.audit(), asker.keeps("scores_to", tag)));
    let store = Arc::clone(state.store()?);
    let metrics = state.clone();
    let guards = asker.guards(&state);
    let answered = asker.ask(&state, Asks::Lookalike, text, timeout_ms, move |snapshot, context, running| {
        let guard = guards.guard()?;
        if let Some(name) = &request.save_as {
            let expression = Where::Text(request.expression(snapshot)?.to_string());
            audiences::check(snapshot, name, expression).map_err(|failure| failure.at("/save_as"))?;
        }
        let guarded = guard.as_ref().map(|guard| (guard, running));
        let answer = answer(snapshot, &store, &metrics.scores, &request, context, guarded)?;
        if let Some(scores) = &answer.scores {
            metrics.metrics.updates(scores.written + scores.unset, 0);
        }
        running.add_rows(answer.users.len());
        Ok(answer)
    });
    let answer = answered.await;
    if let Some(mut told) = keeping {
        told.change(|record| record.ended(&answer));
    }
    let answer = answer?;
    if let (Some(name), Some(expression)) = (save_as, &answer.expression) {
        let mut told = Telling::new(state.audit(), asker.keeps("save_as", &name));
        let saved = audiences::save(&state, &asker.principal, name, Where::Text(expression.clone())).await;
        told.change(|record| record.ended(&saved));
        saved?;
    }
    Ok(Json(answer))
}
