//! What the audit log tells of a question or a call.

use crate::access::Principal;
use crate::error::Failure;
use crate::queries::{Door, Progress, Query};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of the longest name of a thing that is kept.
const OBJECT_BYTES_MAX: usize = 256;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happened {
    /// The server began to tell.
    Started,
    /// It ended, and told all.
    Stopped,
    /// A question was answered, or was not.
    Question,
    /// Something was sent or changed, or was to be.
    Call,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was answered or done.
    Done,
    /// It could not be.
    Failed,
    /// Somebody cancelled it, or went away.
    Cancelled,
    /// Whoever asked may not.
    Refused,
}

/// A record. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When.
    pub at: i64,
    /// What happened.
    pub happened: Happened,
    /// Where it came in: `rest`, `cli`, `flight` or `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<String>,
    /// The token's name; none of who needs none, or has none that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Whose token it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Where the call came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What was asked or called: `count`, `PUT /v1/audiences/{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The name of the thing it was about; of a user its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The hash of the expression or statement, see [`text_hash`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How many rows were answered: `0`, `1-9`, `10-99`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// What the privacy policy of the tenant came to, each verdict that there was: `exact`, `noised`, `snapped`, `below`, `over budget`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<String>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The status of the answer over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The number of the question, or of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Calls of nobody known before this one that were too many to be told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What tells a text from others without telling it: the first half of its SHA-256, in hexadecimal digits.
pub fn text_hash(text: &str) -> String {
    crate::access::hex(&digest(&SHA256, text.as_bytes()).as_ref()[..16])
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Record {
    fn new(happened: Happened) -> Record {
        Record {
            at: now(),
            happened,
            door: None,
            principal: None,
            tenant: None,
            from: None,
            action: None,
            object: None,
            text: None,
            rows: None,
            privacy: None,
            outcome: None,
            status: None,
            id: None,
            left_out: 0,
        }
    }

    /// Of the server itself.
    pub fn of_server(happened: Happened) -> Record {
        Record::new(happened)
    }

    /// A question that is over.
    pub fn of_question(query: Query) -> Record {
        let outcome = match query.progress {
            Progress::Done => Outcome::Done,
            Progress::Failed(_) => Outcome::Failed,
            _ => Outcome::Cancelled,
        };
        Record {
            door: Some(query.door.name().to_owned()),
            action: Some(query.asks.name().to_owned()),
            text: Some(text_hash(&query.text)),
            rows: Some(bucket(query.rows)),
            privacy: query.verdict,
            outcome: Some(outcome),
            id: Some(query.id),
            ..Record::new(Happened::Question).by(&query.principal)
        }
    }

    /// A call that began; until it is told how it ended, its client went away. `object` is what it is about.
    pub fn of_call(door: Door, action: &str, object: Option<&str>) -> Record {
        let begin = |text: &str| text[..text.floor_char_boundary(OBJECT_BYTES_MAX)].to_owned();
        Record {
            door: Some(door.name().to_owned()),
            action: Some(begin(action)),
            object: object.map(begin),
            outcome: Some(Outcome::Cancelled),
            ..Record::new(Happened::Call)
        }
    }

    /// The same, answered with a status of HTTP.
    pub fn answered(self, status: u16) -> Record {
        let outcome = match status {
            401 | 403 => Outcome::Refused,
            200..=399 => Outcome::Done,
            _ => Outcome::Failed,
        };
        Record { outcome: Some(outcome), status: Some(status), ..self }
    }

    /// The same, done or failed with this.
    pub fn ended<T>(self, result: &Result<T, Failure>) -> Record {
        match result {
            Ok(_) => Record { outcome: Some(Outcome::Done), ..self },
            Err(failure) => self.answered(failure.kind.status().as_u16()),
        }
    }

    /// The same, by somebody.
    pub fn by(self, principal: &Principal) -> Record {
        let tenant = principal.tenant_name().map(str::to_owned);
        Record { principal: principal.token.clone(), tenant, ..self }
    }

    /// The same, from somewhere, as the request of this id.
    pub fn from(self, from: Option<String>, id: Option<String>) -> Record {
        Record { from, id, ..self }
    }

    /// Whether somebody without a token that is known was refused.
    pub(super) fn is_of_stranger(&self) -> bool {
        self.status == Some(401)
    }
}

/// A number by its power of ten.
fn bucket(rows: u64) -> String {
    match rows.checked_ilog10() {
        None => "0".to_owned(),
        Some(power) => {
            let from = 10u64.pow(power);
            let to = from.checked_mul(10).map_or(u64::MAX, |next| next - 1);
            format!("{from}-{to}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_by_their_power_of_ten() {
        let told = [0, 1, 9, 10, 99, 100, u64::MAX].map(bucket);
        let last = format!("10000000000000000000-{}", u64::MAX);
        assert_eq!(told, ["0", "1-9", "1-9", "10-99", "10-99", "100-999", last.as_str()]);
    }

    #[test]
    fn texts_are_told_apart_and_not_told() {
        let (one, other) = (text_hash("age > 3"), text_hash("age > 4"));
        assert!(one != other && one.len() == 32 && one == text_hash("age > 3"));
    }
}
