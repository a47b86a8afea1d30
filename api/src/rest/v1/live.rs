//! Live audiences: their size over time, and a stream of who enters and who leaves.

use super::audiences::find;
use super::number::time;
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::live::Listening;
use crate::rest::body::Parameters;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::{Extension, Json};
use engine::store::{Audience, Snapshot};
use futures::Stream;
use ingest::live::{LiveStatus, MembershipChange};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;

/// Points of a page at most, and if the client does not say.
const POINTS_MAX: usize = 10_000;
/// Users of one event of the stream.
const EVENT_USERS: usize = 1_000;
/// How often a stream without changes says that it is alive, and any is ended if its audience is not live any more or its listener may
/// not listen.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How a live audience is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LiveAnswer {
    /// Its members when it was last looked at; null before the first time.
    pub size: Option<u64>,
    /// When that was.
    pub looked_at: Option<String>,
    /// When somebody entered or left last, since the server started.
    pub changed_at: Option<String>,
    /// Users who entered since the server started.
    pub entered: u64,
    /// Users who left since then.
    pub left: u64,
    /// Why it is not kept at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<LiveStatus> for LiveAnswer {
    fn from(status: LiveStatus) -> LiveAnswer {
        let at = |micros: i64| (micros > 0).then(|| time(micros.into()));
        LiveAnswer {
            size: (status.looked_at > 0).then_some(status.size),
            looked_at: at(status.looked_at),
            changed_at: at(status.changed_at),
            entered: status.entered,
            left: status.left,
            error: status.failure,
        }
    }
}

/// How an audience is, if it is live.
pub(super) fn answer_of(state: &AppState, name: &str, audience: &Audience) -> Option<LiveAnswer> {
    audience.is_live().then(|| state.live_status(name).unwrap_or_default().into())
}

/// The size of an audience over time.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SizesAnswer {
    /// Oldest first. The size holds until the next point.
    pub points: Vec<SizeAnswer>,
    /// To be sent as `from` for the next page; null at the end.
    pub next: Option<String>,
}

/// The size of an audience at the end of a span: a minute in the last two days, an hour in the last two months, else a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SizeAnswer {
    /// When it had this size.
    pub at: String,
    /// Members.
    pub size: u64,
    /// Users who entered within the span.
    pub entered: u64,
    /// Users who left within it.
    pub left: u64,
}

/// Which points.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct SizesParameters {
    /// Points of this time (RFC 3339) and later.
    from: Option<String>,
    /// Points before this time.
    to: Option<String>,
    /// Points of a page, at most 10,000; that many if left out.
    limit: Option<usize>,
}

/// Tells the size of a live audience over time.
#[utoipa::path(get, path = "/v1/audiences/{name}/sizes", operation_id = "audience_sizes", tag = "audiences",
    params(("name" = String, Path), SizesParameters), responses((status = 200, body = SizesAnswer)))]
pub(in crate::rest) async fn sizes(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    Parameters(parameters): Parameters<SizesParameters>,
) -> Answer<SizesAnswer> {
    let limit = parameters.limit.unwrap_or(POINTS_MAX);
    if limit == 0 || limit > POINTS_MAX {
        return Err(Failure::new(Kind::InvalidField, format!("`limit` is from 1 to {POINTS_MAX}")).at("limit"));
    }
    let from = moment(parameters.from.as_ref(), "from")?.unwrap_or(i64::MIN);
    let to = moment(parameters.to.as_ref(), "to")?.unwrap_or(i64::MAX);
    let snapshot = state.names(&principal)?;
    check_whole(&principal)?;
    let list_id = list_of(&name, find(&snapshot, &name)?)?;
    let mut points = state.live_sizes(list_id, from, to)?.into_iter();
    let page = points.by_ref().take(limit).map(|point| SizeAnswer {
        at: time(point.at.into()),
        size: point.size,
        entered: point.entered,
        left: point.left,
    });
    let page = page.collect();
    Ok(Json(SizesAnswer { points: page, next: points.next().map(|point| time(point.at.into())) }))
}

/// A time in a parameter, in microseconds since 1970.
pub(super) fn moment(text: Option<&String>, field: &str) -> Result<Option<i64>, Failure> {
    let read = |text: &String| {
        text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).map_err(|error| {
            Failure::new(Kind::InvalidField, format!("`{text}` is not a time: {error}"))
                .at(field)
                .suggest("write it as 2026-11-20T10:00:00Z")
        })
    };
    text.map(read).transpose()
}

/// That somebody may be told what was noted of a live audience, which is of all users, whatever they agreed to.
///
/// # Errors
/// [`Kind::Forbidden`].
pub(super) fn check_whole(principal: &Principal) -> Result<(), Failure> {
    match principal.purposes.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(
            Kind::Forbidden,
            "who enters and who leaves is told of all users, and the token is for a purpose",
        )),
    }
}

/// The list of an audience's members, if it is live.
pub(super) fn list_of<'a>(name: &str, audience: &'a Audience) -> Result<&'a str, Failure> {
    audience.list_id().filter(|_| audience.is_live()).ok_or_else(|| {
        Failure::new(Kind::NotLive, format!("audience `{name}` is not live, so nobody notes who enters and who leaves"))
            .suggest(format!("put it again with \"live\": true: PUT /v1/audiences/{name}"))
    })
}

/// A change, or a part of one, as the stream tells it.
#[derive(Debug, Serialize)]
struct ChangeEvent<'a> {
    audience: &'a str,
    at: String,
    entered: &'a [String],
    left: &'a [String],
    /// Members after the whole change.
    size: u64,
}

/// Streams who enters and who leaves a live audience, as server-sent events.
///
/// It begins with an event `size`: `{"audience":…,"size":…}`. Each change is one or more events `change`:
/// `{"audience":…,"at":…,"entered":[…],"left":[…],"size":…}`, of up to 1,000 users each. A client that comes back sends the last
/// `id` it saw as `Last-Event-ID`, as browsers do, and gets what it missed; if that is not known any more, an event `reset` says
/// so first: then read the members again. When the audience ceases to be live, the token is revoked or expires, or the server stops, the
/// stream ends.
#[utoipa::path(get, path = "/v1/audiences/{name}/changes", operation_id = "audience_changes", tag = "audiences",
    params(("name" = String, Path), ("Last-Event-ID" = Option<String>, Header, description = "The last id that was seen")),
    responses((status = 200, description = "Events until either side ends", body = String, content_type = "text/event-stream")))]
pub(in crate::rest) async fn changes(
    State(state): State<AppState>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let after = match headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.trim().parse().ok())) {
        None => None,
        Some(Some(after)) => Some(after),
        Some(None) => {
            let detail = "this is not an id of this stream; send the last `id` that was seen, or leave it out";
            return Err(Failure::new(Kind::InvalidField, detail).at("Last-Event-ID"));
        }
    };
    let snapshot = state.names(&principal)?;
    check_whole(&principal)?;
    let list_id = list_of(&name, find(&snapshot, &name)?)?.to_owned();
    let stopping = || Failure::new(Kind::NotReady, "the server is stopping").retry_after(1);
    let listening = state.feeds.listen(&list_id, after).ok_or_else(stopping)?;
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let follower = Follower::new(Followed { state, principal, authorization, audience: name, list_id }, listening);
    let stream = futures::stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(LOOK_INTERVAL)))
}

/// What somebody listens to.
struct Followed {
    state: AppState,
    principal: Principal,
    /// What they showed of who they are.
    authorization: Option<String>,
    audience: String,
    list_id: String,
}

impl Followed {
    /// Whether the audience is still live, and they may still listen.
    fn is_on(&self) -> bool {
        let is_live = |snapshot: Snapshot| {
            let audience = snapshot.audiences().get(&self.audience)?;
            Some(audience.is_live() && audience.list_id() == Some(&self.list_id))
        };
        let may_listen =
            self.state.access.check(self.authorization.as_deref()).is_ok_and(|principal| principal == self.principal);
        may_listen && self.state.whole().ok().and_then(is_live).unwrap_or(false)
    }
}

/// One who listens.
struct Follower {
    followed: Followed,
    waiting: VecDeque<Event>,
    listening: Listening,
    looked_at: Instant,
}

impl Follower {
    fn new(followed: Followed, mut listening: Listening) -> Follower {
        let audience = &followed.audience;
        let size = followed.state.live_status(audience).unwrap_or_default().size;
        let mut waiting = VecDeque::new();
        if listening.has_gap {
            waiting.push_back(Follower::reset(audience));
        }
        waiting.push_back(event("size", &serde_json::json!({"audience": audience, "size": size})));
        waiting.extend(std::mem::take(&mut listening.missed).iter().flat_map(events_of));
        Follower { followed, waiting, listening, looked_at: Instant::now() }
    }

    fn reset(audience: &str) -> Event {
        let why = "changes were missed that are not known any more; read the members again";
        event("reset", &serde_json::json!({"audience": audience, "reason": why}))
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.looked_at.elapsed() >= LOOK_INTERVAL {
                if !self.followed.is_on() {
                    return None;
                }
                self.looked_at = Instant::now();
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            match tokio::time::timeout(LOOK_INTERVAL, self.listening.receiver.recv()).await {
                Ok(Ok(change)) => self.waiting.extend(events_of(&change)),
                Ok(Err(RecvError::Lagged(_))) => self.waiting.push_back(Follower::reset(&self.followed.audience)),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => {}
            }
        }
    }
}

/// The events of a change; only the last one has an id, so who comes back has seen it whole.
fn events_of(change: &Arc<MembershipChange>) -> Vec<Event> {
    let tell = |entered: &[String], left: &[String]| {
        let at = time(change.at.into());
        event("change", &ChangeEvent { audience: &change.audience, at, entered, left, size: change.size })
    };
    let mut events: Vec<Event> = Vec::new();
    if change.entered.len() + change.left.len() <= EVENT_USERS {
        events.push(tell(&change.entered, &change.left));
    } else {
        events.extend(change.left.chunks(EVENT_USERS).map(|left| tell(&[], left)));
        events.extend(change.entered.chunks(EVENT_USERS).map(|entered| tell(entered, &[])));
    }
    if change.is_last
        && let Some(last) = events.pop()
    {
        events.push(last.id(change.at.to_string()));
    }
    events
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // JSON has no line breaks of its own, so the data is one line.
    let text = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(text)
}
