//! `POST /v1/users/{id}/explain`: why a user is in an audience, or is not.

use super::count::elapsed_us;
use super::expression::Where;
use super::number::Number;
use super::users::{TagValue, tag_value};
use crate::error::{Failure, Kind};
use crate::queries::{Asks, begin_of};
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::{Path, State};
use engine::audience::expr::Figure;
use engine::audience::ops::{self, Behind, FigureValue, Judgement, Part, QueryContext};
use engine::catalog::{Catalog, Unit};
use engine::clock::Clock;
use engine::store::Snapshot;
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// What to explain of a user.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "gender = 'f' AND did('purchase', count >= 2, within => '30 days')"}))]
pub struct JudgeRequest {
    /// The audience.
    pub r#where: Where,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What an audience expression says of a user.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JudgeAnswer {
    /// The user.
    pub user_id: String,
    /// Whether the user belongs to the audience: the expression is true.
    pub member: bool,
    /// The expression, part by part.
    pub explanation: Reason,
    /// The same for people.
    pub text: String,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// What a part of an expression says of a user.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// The part; of one that is longer than 2,000 bytes the begin, with `…`.
    pub expression: String,
    /// `and`, `or`, `not`, `xor`, `at_least`, `audience`, `uploaded`, `did`, `similar_to`, `tag`, `user_id` or `literal`.
    pub kind: String,
    /// What it says; `null` is unknown, as SQL has it: of a tag that the user has no value of.
    pub truth: Option<bool>,
    /// Of a tag: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Of a tag: what the user has; left out if that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<TagValue>,
    /// Of `did`: what the events that are meant come to: `count`, and each sum that is tested, which is left out without events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<BTreeMap<String, Number>>,
    /// Of `at_least`: how many of its parts are true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<u32>,
    /// Of `similar_to`: how alike the user is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar: Option<SimilarReason>,
    /// Of an audience: it is opened up where it stands before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_before: bool,
    /// Its parts; of a saved audience what it is defined as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub of: Vec<Reason>,
}

/// How alike a user is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SimilarReason {
    /// The user's score; `null` without a vector.
    pub score: Option<f32>,
    /// Nobody in the set scores less; `null` if nobody is in it, or all who could be are.
    pub at_least: Option<f32>,
    /// Users in the set.
    pub members: u64,
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Kind::NotFound`] if the user is not known, and what the expression or the query fails with.
pub fn answer(
    snapshot: &Snapshot,
    user_id: &str,
    request: &JudgeRequest,
    context: &QueryContext,
) -> Result<JudgeAnswer, Failure> {
    let started = Instant::now();
    // Told with its place if it is wrong.
    request.r#where.bind(snapshot, "/where")?;
    let expr = request.r#where.expr("/where")?;
    let Some(judgement) = ops::judge(snapshot, &expr, user_id, SystemClock.now(), context)? else {
        return Err(Failure::new(Kind::NotFound, format!("user `{user_id}` is not known")));
    };
    let explanation = Reason::of(snapshot.catalog(), judgement);
    let mut text = String::new();
    print(&explanation, "", "", &mut text);
    Ok(JudgeAnswer {
        user_id: user_id.to_owned(),
        member: explanation.truth == Some(true),
        explanation,
        text,
        epoch: snapshot.epoch().0,
        elapsed_us: elapsed_us(started),
    })
}

impl Reason {
    fn of(catalog: &Catalog, judgement: Judgement) -> Reason {
        let kind = match (judgement.part, &judgement.behind) {
            (Part::Audience, Some(Behind::Uploaded)) => "uploaded",
            (Part::Audience, _) => "audience",
            (Part::And, _) => "and",
            (Part::Or, _) => "or",
            (Part::Not, _) => "not",
            (Part::Xor, _) => "xor",
            (Part::AtLeast, _) => "at_least",
            (Part::Did, _) => "did",
            (Part::SimilarTo, _) => "similar_to",
            (Part::UserId, _) => "user_id",
            (Part::Literal, _) => "literal",
            (Part::Tag, _) => "tag",
        };
        let mut reason = Reason {
            expression: judgement.text,
            kind: kind.to_owned(),
            truth: judgement.truth,
            tag: None,
            value: None,
            events: None,
            holding: None,
            similar: None,
            told_before: false,
            of: judgement.of.into_iter().map(|of| Reason::of(catalog, of)).collect(),
        };
        match judgement.behind {
            Some(Behind::Tag(tag, value)) => {
                let tag_type = catalog.tag(&tag).map(|tag| tag.tag_type);
                reason.value = value.zip(tag_type).map(|(value, tag_type)| tag_value(tag_type, value));
                reason.tag = Some(tag);
            }
            Some(Behind::Events(figures)) => reason.events = Some(figures.into_iter().filter_map(figure).collect()),
            Some(Behind::Holding(count)) => reason.holding = Some(count),
            Some(Behind::Similar { score, at_least, members }) => {
                reason.similar = Some(SimilarReason { score, at_least, members });
            }
            Some(Behind::ToldBefore) => reason.told_before = true,
            Some(Behind::Uploaded) | None => {}
        }
        reason
    }

    /// What its truth rests on, in a few words.
    pub(crate) fn because(&self) -> String {
        let mut told = Vec::new();
        match (&self.tag, &self.value) {
            (Some(tag), Some(value)) => told.push(format!("{tag} is {}", plain(value))),
            (Some(tag), None) => told.push(format!("{tag} is not known")),
            (None, _) => {}
        }
        for (figure, value) in self.events.iter().flatten() {
            told.push(format!("{figure} is {value}"));
        }
        told.extend(self.holding.map(|count| format!("{count} hold")));
        if let Some(similar) = self.similar {
            told.push(similar.score.map_or_else(|| "no vector".to_owned(), |score| format!("scores {score}")));
            told.extend(similar.at_least.map(|least| format!("the set from {least} on")));
        }
        if self.told_before {
            told.push("see above".to_owned());
        }
        told.join(", ")
    }
}

/// `None` if there is no such figure.
fn figure((figure, value): (Figure, FigureValue)) -> Option<(String, Number)> {
    let name = match figure {
        Figure::Sum(column) => format!("sum({column})"),
        _ => "count".to_owned(),
    };
    let number = match value {
        FigureValue::Exact(number, 0) => Number::of(Unit::Integer, number),
        FigureValue::Exact(number, scale) => Number::of(Unit::Decimal { scale }, number),
        FigureValue::Float(number) => Number(serde_json::value::to_raw_value(&number).ok()?),
        FigureValue::None => return None,
    };
    Some((name, number))
}

fn plain(value: &TagValue) -> String {
    match value {
        TagValue::Flag(value) => value.to_string(),
        TagValue::Set(values) => values.join(", "),
        TagValue::Enum(value) => value.clone(),
        TagValue::Number(number) => number.to_string(),
    }
}

/// A line a part, its own parts below with a line to them.
fn print(reason: &Reason, first: &str, rest: &str, out: &mut String) {
    let truth = match reason.truth {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    };
    out.push_str(&format!("{first}{truth}: {}", reason.expression));
    let because = reason.because();
    if !because.is_empty() {
        out.push_str(&format!("  ({because})"));
    }
    out.push('\n');
    for (index, of) in reason.of.iter().enumerate() {
        let is_last = index + 1 == reason.of.len();
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        print(of, &format!("{rest}{branch}"), &format!("{rest}{below}"), out);
    }
}

/// Explains why a user is in an audience, or is not.
///
/// Each part of the expression is told with its truth (true, false, or unknown) and what that rests on: the value of a tag, what
/// events come to, how alike the user is.
#[utoipa::path(post, path = "/v1/users/{id}/explain", operation_id = "explain_user", tag = "questions", params(("id" = String, Path)),
    request_body = JudgeRequest, responses((status = 200, body = JudgeAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(request): JsonBody<JudgeRequest>,
) -> Answer<JudgeAnswer> {
    let (text, timeout_ms) = (begin_of(&format!("{}: {}", begin_of(&id), request.r#where.told())), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Explain, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &id, &request, context)?;
        running.add_rows(1);
        Ok(answer)
    });
    answered.await.map(Json)
}
