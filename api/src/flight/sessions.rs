//! Sessions: options that a client sets once, kept under a cookie that it sends with every call.
//!
//! The messages are those of Flight's `SetSessionOptions`, `GetSessionOptions` and `CloseSession`, which the library does not have.

use super::Caller;
use super::door::Flight;
use super::held::{HandleKind, Id};
use super::status::{invalid, status};
use crate::access::Principal;
use crate::state::lock;
use engine_sql::session::{CATALOG, PUBLIC, SCHEMAS};
use prost::Message;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

/// Sessions that are kept for each principal.
pub(super) const SESSIONS_MAX: usize = 1_024;
/// How long an unused one is kept.
pub(super) const SESSION_IDLE: Duration = Duration::from_secs(3_600);
/// The cookie, by the name that servers of Arrow give it.
const COOKIE: &str = "arrow_flight_session_id";

/// What a client set.
#[derive(Debug)]
pub(super) struct Session {
    /// Whose it is.
    owner: String,
    options: Mutex<Options>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Where tables are looked for that are named without a schema.
    pub(super) schema: Option<String>,
    /// How long a statement may take.
    pub(super) timeout_ms: Option<u64>,
}

impl Session {
    /// What is set now.
    pub(super) fn options(&self) -> Options {
        lock(&self.options).clone()
    }
}

impl Flight {
    /// The session whose cookie came with a call.
    ///
    /// # Errors
    /// If it has ended: what the client set no longer holds.
    pub(super) fn session(
        &self,
        metadata: &MetadataMap,
        principal: &Principal,
    ) -> Result<Option<(Id, Arc<Session>)>, Status> {
        let cookies = metadata.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
        let mut named = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let Some((_, value)) = named.find(|(name, _)| *name == COOKIE) else { return Ok(None) };
        let handle = from_hex(value.trim().trim_matches('"'));
        let id = handle.and_then(|handle| self.seal.open(HandleKind::Session, &handle, principal));
        let session = id.and_then(|id| Some((id, self.sessions.get(&id)?)));
        session.map(Some).ok_or_else(|| {
            Status::not_found(
                "there is no such session: it was closed or unused for too long, too many were begun, or the server was restarted; leave its cookie out, and set the options again",
            )
        })
    }

    /// Sets options. Tells what it could not, and the cookie of a session that was begun for them.
    pub(super) fn set_options(&self, caller: &Caller, body: &[u8]) -> Result<(Vec<u8>, Option<Cookie>), Status> {
        let asked = SetSessionOptionsRequest::decode(body).map_err(malformed)?;
        let (session, cookie) = match &caller.session {
            Some((_, session)) => (Arc::clone(session), None),
            None => {
                let id = self.seal.id().map_err(|failure| status(&failure))?;
                let owner = caller.principal.id().to_owned();
                let session = Arc::new(Session { owner, options: Mutex::default() });
                self.sessions.keep_among(id, Arc::clone(&session), |other| other.owner == session.owner);
                let handle = to_hex(&self.seal.handle(HandleKind::Session, id, &caller.principal));
                (session, Some(cookie(&format!("{COOKIE}={handle}; HttpOnly"))?))
            }
        };
        let timeout_max = self.state.config.query_timeout_max;
        let mut options = lock(&session.options);
        let set = asked.session_options.into_iter().filter_map(|(name, value)| {
            let why = set(&mut options, &name, value.option_value, timeout_max).err()?;
            Some((name, OptionError { value: why as i32 }))
        });
        let errors = set.collect();
        Ok((SetSessionOptionsResult { errors }.encode_to_vec(), cookie))
    }

    /// Tells the options as they are for this caller.
    pub(super) fn get_options(&self, caller: &Caller) -> Vec<u8> {
        let options = caller.options();
        let timeout_ms = options.timeout_ms.unwrap_or(self.state.config.query_timeout.as_millis() as u64);
        let text = |text: String| Value::Text(text);
        let told = [
            ("catalog", text(CATALOG.to_owned())),
            ("schema", text(options.schema.unwrap_or_else(|| PUBLIC.to_owned()))),
            ("timeout_ms", Value::Integer(timeout_ms.cast_signed())),
        ];
        let told = told.map(|(name, value)| (name.to_owned(), OptionValue { option_value: Some(value) }));
        GetSessionOptionsResult { session_options: told.into() }.encode_to_vec()
    }

    /// Ends a session; the cookie takes itself away.
    pub(super) fn close_session(&self, caller: &Caller) -> Result<(Vec<u8>, Option<Cookie>), Status> {
        if let Some((id, _)) = &caller.session {
            self.sessions.take(id);
        }
        let gone = cookie(&format!("{COOKIE}=; Max-Age=0"))?;
        Ok((CloseSessionResult { status: CLOSED }.encode_to_vec(), Some(gone)))
    }
}

/// The value of `set-cookie`.
pub(super) type Cookie = MetadataValue<tonic::metadata::Ascii>;

fn cookie(text: &str) -> Result<Cookie, Status> {
    text.parse().map_err(|_| Status::internal("the cookie cannot be written"))
}

pub(super) fn malformed(error: prost::DecodeError) -> Status {
    invalid(format!("the message cannot be read: {error}"))
}

/// Why an option is not set.
#[derive(Clone, Copy)]
enum Refusal {
    Name = 1,
    Value = 2,
}

/// Without a value an option is as it was at first.
fn set(options: &mut Options, name: &str, value: Option<Value>, timeout_max: Duration) -> Result<(), Refusal> {
    match (name, value) {
        ("catalog", None) => {}
        ("catalog", Some(Value::Text(catalog))) if catalog == CATALOG => {}
        ("schema", None) => options.schema = None,
        ("schema", Some(Value::Text(schema))) if SCHEMAS.contains(&schema.as_str()) => options.schema = Some(schema),
        ("timeout_ms", None) => options.timeout_ms = None,
        ("timeout_ms", Some(value)) => {
            // JDBC has texts only.
            let millis = match value {
                Value::Integer(millis) => u64::try_from(millis).ok(),
                Value::Text(text) => text.parse().ok(),
                _ => None,
            };
            let allowed = 1..=timeout_max.as_millis() as u64;
            options.timeout_ms = Some(millis.filter(|millis| allowed.contains(millis)).ok_or(Refusal::Value)?);
        }
        ("catalog" | "schema", Some(_)) => return Err(Refusal::Value),
        _ => return Err(Refusal::Name),
    }
    Ok(())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// `CloseSessionResult.Status.CLOSED`.
const CLOSED: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    option_value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Float(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}
