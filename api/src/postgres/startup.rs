//! The begin of a connection: what it speaks, who it is, and what it sets.
//!
//! Until somebody has logged in a connection takes no more than a packet of ten thousand bytes and a password of sixteen thousand, in ten
//! seconds. A password is a token in clear: it is asked for over TLS, and without that on this machine alone, where a proxy that speaks it may
//! stand before us. Where there is TLS nothing else is taken, but for the wish to cancel, which is no secret for long.

use super::connection::Pipe;
use super::errors::Told;
use super::frames::{Fields, FrameError};
use super::keys::{Keys, OpenKey};
use super::messages::{put, put_setting, put_text};
use super::parameters;
use super::settings::{Settings, VALUE_BYTES_MAX};
use super::statements::EXPORT;
use crate::access::Principal;
use crate::audit::Record;
use crate::error::Kind;
use crate::privacy::doors;
use crate::queries::Door;
use crate::state::AppState;
use bytes::BufMut;
use engine_sql::session::CATALOG;
use std::net::SocketAddr;
use std::sync::Arc;

const PROTOCOL: i32 = 3;
const CANCEL: i32 = 80_877_102;
pub(super) const TLS: i32 = 80_877_103;
pub(super) const GSS: i32 = 80_877_104;
/// Bytes of a message with a password: tokens of issuers are long.
const PASSWORD_BYTES_MAX: usize = 16 << 10;
/// Packets that may come before the one that begins a session.
pub(super) const QUESTIONS_MAX: usize = 4;

/// Who has logged in.
pub(super) struct Begun {
    pub(super) principal: Principal,
    /// What is checked again with every statement; the token may have been revoked.
    pub(super) authorization: Option<String>,
    pub(super) settings: Settings,
    pub(super) key: OpenKey,
}

/// Why there is no session.
pub(super) enum Refused {
    /// The client is told.
    Told(Told),
    /// There is nobody to tell, or nothing.
    Quiet,
}

impl From<FrameError> for Refused {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Gone => Refused::Quiet,
            FrameError::Wrong(why) => Refused::Told(Told::new("08P01", why)),
        }
    }
}

impl From<Told> for Refused {
    fn from(told: Told) -> Self {
        Refused::Told(told)
    }
}

/// Brings a connection to where statements are taken.
pub(super) async fn begin(
    pipe: &mut Pipe,
    state: &AppState,
    keys: &Arc<Keys>,
    peer: SocketAddr,
) -> Result<Begun, Refused> {
    let (minor, parameters) = packet(pipe, keys).await?;
    if !pipe.is_encrypted && state.tls().is_some() {
        let told = Told::new("28000", "this server takes encrypted connections only");
        return Err(told.hint("connect with TLS, as in sslmode=require").into());
    }
    let of = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let user = of("user").unwrap_or_default();
    // It is told as a setting is.
    if user.len() > VALUE_BYTES_MAX {
        let message = format!("the name of the user has {} bytes; at most {VALUE_BYTES_MAX} are taken", user.len());
        return Err(Told::new("22023", message).into());
    }
    let database = of("database").filter(|name| !name.is_empty()).unwrap_or(user);
    if of("replication").is_some_and(|value| !["false", "off", "no", "0"].contains(&value)) {
        return Err(Told::new("0A000", "there is no replication here").into());
    }
    if minor > 0 || parameters.iter().any(|(name, _)| name.starts_with("_pq_.")) {
        let unknown: Vec<_> = parameters.iter().filter(|(name, _)| name.starts_with("_pq_.")).collect();
        put(&mut pipe.out, b'v', |out| {
            out.put_i32(PROTOCOL << 16);
            out.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
            unknown.iter().for_each(|(name, _)| put_text(out, name));
        });
    }
    let (principal, authorization) = log_in(pipe, state, peer).await?;
    if ![CATALOG, "postgres", user].contains(&database) {
        let told = Told::new("3D000", format!("there is no database `{database}`"));
        return Err(told.hint(format!("the database is called `{CATALOG}`")).into());
    }
    let mut settings = Settings::new(user);
    set_all(&mut settings, &parameters)?;
    settings.begin();
    let key = keys.open().map_err(|failure| Told::of(&failure, "", 0))?;
    put(&mut pipe.out, b'R', |out| out.put_i32(0));
    settings.reported().for_each(|(name, value)| put_setting(&mut pipe.out, name, value));
    put_setting(&mut pipe.out, "session_authorization", user);
    put(&mut pipe.out, b'K', |out| {
        out.put_i32(key.key.number);
        out.put_i32(key.key.secret);
    });
    Ok(Begun { principal, authorization, settings, key })
}

/// What else may be asked first, then the packet that begins a session: its minor version and its settings.
pub(super) async fn packet(pipe: &mut Pipe, keys: &Arc<Keys>) -> Result<(i32, Vec<(String, String)>), Refused> {
    for _ in 0..QUESTIONS_MAX {
        let mut fields = Fields::new(pipe.frames.startup().await?);
        match fields.i32()? {
            TLS | GSS => {
                // There is no TLS here, or it is there already. What was sent behind it could be somebody else's, but no more readable than
                // all else is.
                pipe.out.put_u8(b'N');
                pipe.flush().await.map_err(|_| Refused::Quiet)?;
            }
            CANCEL => {
                keys.cancel(fields.i32()?, fields.i32()?);
                return Err(Refused::Quiet);
            }
            version if version >> 16 == PROTOCOL => {
                return Ok((version & 0xffff, parameters::startup(&mut fields)?));
            }
            version => {
                let message = format!("protocol {}.{} is not spoken, but 3.0", version >> 16, version & 0xffff);
                return Err(Told::new("0A000", message).into());
            }
        }
    }
    Err(Told::new("08P01", "a connection asks for encryption over and over").into())
}

/// Who it is, and what proves it. A server without tokens asks nobody.
async fn log_in(pipe: &mut Pipe, state: &AppState, peer: SocketAddr) -> Result<(Principal, Option<String>), Refused> {
    match state.access.check(None) {
        Ok(principal) => {
            may_ask(&principal)?;
            return Ok((principal, None));
        }
        Err(failure) if failure.kind == Kind::Unauthorized => {}
        Err(failure) => return Err(Told::of(&failure, "", 0).into()),
    }
    if !pipe.is_encrypted && !peer.ip().to_canonical().is_loopback() {
        let told = Told::new("28000", "this server asks for a token, which is not taken in clear over a network");
        return Err(told.hint("set tls_certificate at the server, or connect through a tunnel to its machine").into());
    }
    // In clear.
    put(&mut pipe.out, b'R', |out| out.put_i32(3));
    pipe.flush().await.map_err(|_| Refused::Quiet)?;
    let frame = pipe.frames.message(PASSWORD_BYTES_MAX).await?;
    if frame.kind != b'p' {
        return Err(Told::new("08P01", "expected a password").into());
    }
    let token = Fields::new(frame.body).text()?;
    let authorization = format!("Bearer {token}");
    if let Some(keys) = state.access.missing_keys(Some(&authorization)) {
        keys.await;
    }
    let principal = state.access.check(Some(&authorization)).map_err(|failure| {
        let record = Record::of_call(Door::Postgres, "log in", None).ended(&Err::<(), _>(failure.clone()));
        state.audit().note(record.from(Some(peer.ip().to_string()), None));
        let told = Told::of(&failure, "", 0);
        Told { hint: Some("the password is a token; the name of the user is not looked at".to_owned()), ..told }
    })?;
    may_ask(&principal)?;
    Ok((principal, Some(authorization)))
}

/// # Errors
/// If who logs in may not ask statements: there is nothing else to do here.
fn may_ask(principal: &Principal) -> Result<(), Told> {
    let may = principal.need(EXPORT).and_then(|()| doors::check_statements(principal));
    may.map_err(|failure| Told::of(&failure, "", 0))
}

fn set_all(settings: &mut Settings, parameters: &[(String, String)]) -> Result<(), Told> {
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => options(settings, value)?,
            name if name.starts_with("_pq_.") => {}
            name => drop(settings.set(name, value)?),
        }
    }
    Ok(())
}

/// `-c name=value`, as often as one likes.
fn options(settings: &mut Settings, text: &str) -> Result<(), Told> {
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let pair = match word {
            "-c" => words.next(),
            _ => word.strip_prefix("--").or_else(|| word.strip_prefix("-c")),
        };
        let wrong = || Told::new("22023", format!("options are written `-c name=value`, not `{word}`"));
        let (name, value) = pair.and_then(|pair| pair.split_once('=')).ok_or_else(wrong)?;
        settings.set(name, value)?;
    }
    Ok(())
}
