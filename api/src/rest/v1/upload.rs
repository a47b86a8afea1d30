//! Bodies of records, of any length: decoded as they arrive, written in batches, acknowledged once on disk.
//!
//! A body is lines (NDJSON) or columns (an Arrow stream); what is said here of batches and of keys holds for both.
//!
//! Batches end where [`BodyReader`] or [`ColumnBodyReader`] says, which depends on the body alone. With an idempotency key each batch is a step
//! that the store does once: (key, number of the batch) with a digest of the body's bytes in it and of whether it is the
//! last one. So a body sent again after a crash in its middle goes on exactly where it stopped, and a body that
//! differs anywhere, or is longer or shorter, is noticed before anything of the difference is written.
//!
//! What became of a step's records is kept with it, since the same bytes may be decoded to something else later: the catalog
//! changes, and time goes on. What was refused then is told as refused, though it would be taken now.

mod outcome;

use crate::access::Principal;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::rest::body::body_failure;
use crate::rest::limits;
use crate::state::{AppState, KeyInUse};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use engine::catalog::{Catalog, Fact, Space};
use engine::ids::{Lsn, TagId};
use engine::store::{Once, Snapshot, Store, WriteError};
use engine::update::UpdateBatch;
use futures::StreamExt;
use ingest::decode::LineError;
use ingest::decode::arrow_stream::Limits;
use ingest::decode::body::{BodyReader, LineDecoder, LineReport};
use ingest::decode::column_body::{ColumnBodyError, ColumnBodyReader, RowTarget};
use outcome::{Counts, Outcome};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Chunks of a body that are decoded in one go if they have arrived.
const CHUNKS_AT_ONCE: usize = 32;

/// What became of the records of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UploadAnswer {
    /// Records taken; they are on disk.
    pub accepted: u64,
    /// Records refused; nothing of them was applied.
    pub rejected: u64,
    /// Records passed over, since their users were erased.
    #[serde(default)]
    pub suppressed: u64,
    /// The first refused ones, at most 100. Of what came before under this idempotency key only where the same would be refused now.
    pub errors: Vec<LineFailure>,
    /// The body came before under this idempotency key; nothing was changed, and what was taken and refused is told as it was then.
    pub repeated: bool,
    /// Number of a view that shows the records; only with `visible=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LineFailure {
    /// The line, or the row of an Arrow stream, from 1.
    pub line: u64,
    /// What is wrong.
    pub error: String,
    /// The byte of the line, from 1, where it was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl LineFailure {
    fn of((line, error): (u64, LineError)) -> LineFailure {
        LineFailure { line, error: error.message, column: error.column, suggestion: error.suggestion }
    }
}

/// A client's idempotency key, reserved while its request runs.
pub struct IdempotencyKey {
    hash: u128,
    now_seconds: u64,
    remember_seconds: u64,
    _in_use: KeyInUse,
}

impl IdempotencyKey {
    /// The key in the headers, for bodies that go into one thing.
    ///
    /// # Errors
    /// [`Kind::InvalidField`] for a key that cannot be, [`Kind::KeyInUse`], and those of the store.
    pub(crate) fn of(
        state: &AppState,
        headers: &HeaderMap,
        destination: &Destination,
    ) -> Result<Option<IdempotencyKey>, Failure> {
        let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
        if value.is_empty() || value.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let detail = format!("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
            return Err(Failure::new(Kind::InvalidField, detail).at("Idempotency-Key"));
        }
        let now_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let in_scope = |scope: &str| xxh3_128(&[scope.as_bytes(), b"\0", value.as_bytes()].concat());
        let earlier = match destination.earlier_scope().map(|scope| in_scope(&scope)) {
            Some(hash) if state.store()?.remembers(step_key(hash, 0), now_seconds) => Some(hash),
            _ => None,
        };
        let hash = earlier.unwrap_or_else(|| in_scope(&destination.scope()));
        Ok(Some(IdempotencyKey {
            hash,
            now_seconds,
            remember_seconds: state.config.idempotency.as_secs().max(1),
            _in_use: state.use_key(hash)?,
        }))
    }

    fn step(&self, number: u64, digest: u128, note: u128) -> Once {
        let key = step_key(self.hash, number);
        Once { key, digest, now_seconds: self.now_seconds, remember_seconds: self.remember_seconds, note }
    }
}

fn step_key(hash: u128, number: u64) -> u128 {
    xxh3_128(&[hash.to_le_bytes().as_slice(), &number.to_le_bytes()].concat())
}

/// What a body goes into, as it is declared when the body begins.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    catalog: Arc<Catalog>,
    target: Target,
    /// Of whose body.
    tenant: Option<String>,
}

#[derive(Clone, Debug)]
enum Target {
    /// Whatever tags the records name; or a list, which is not declared.
    Tags,
    Fact(String, TagId),
    Space(String, TagId),
}

impl Destination {
    /// Tags of users; or a list of them.
    pub(crate) fn tags(snapshot: &Snapshot) -> Destination {
        Destination::new(snapshot, Target::Tags)
    }

    /// A fact of this name.
    pub(crate) fn fact(snapshot: &Snapshot, name: &str, fact: &Fact) -> Destination {
        Destination::new(snapshot, Target::Fact(name.to_owned(), fact.id))
    }

    /// A vector space of this name.
    pub(crate) fn space(snapshot: &Snapshot, name: &str, space: &Space) -> Destination {
        Destination::new(snapshot, Target::Space(name.to_owned(), space.id))
    }

    fn new(snapshot: &Snapshot, target: Target) -> Destination {
        Destination { catalog: snapshot.shared_catalog(), target, tenant: None }
    }

    /// The same, of a body that somebody sends.
    pub(crate) fn of(self, principal: &Principal) -> Destination {
        // A tenant that is made anew under a name has nothing of the one before.
        let tenant = principal.tenant.as_ref().map(|tenant| format!("{}@{}", tenant.name, tenant.created_at));
        Destination { tenant, ..self }
    }

    /// What tells an idempotency key apart from the same one of other bodies, and of other tenants. It has the id: what is declared anew
    /// under a name has nothing of what came before.
    fn scope(&self) -> String {
        let target = match &self.target {
            Target::Tags => "tags".to_owned(),
            Target::Fact(_, id) => format!("fact/{}", id.0),
            Target::Space(_, id) => format!("space/{}", id.0),
        };
        match &self.tenant {
            None => target,
            Some(tenant) => format!("tenant/{tenant}/{target}"),
        }
    }

    /// What it was when keys were told apart by name. Such a key counts until it is forgotten, a day later: a body that is
    /// repeated over the change would count twice else. Vectors do not add up.
    fn earlier_scope(&self) -> Option<String> {
        match &self.target {
            Target::Fact(name, _) if self.tenant.is_none() => Some(format!("facts/{name}")),
            _ => None,
        }
    }

    /// That the records are where they went, also if the last of them came to nothing.
    fn check(&self, store: &Store) -> Result<(), Failure> {
        match self.target {
            Target::Fact(_, id) | Target::Space(_, id) if !store.declares(id) => Err(self.dropped(id)),
            _ => Ok(()),
        }
    }

    /// That what steps that came before changed is still there, when others are to follow them. Those of facts and spaces came under
    /// a key of the same one. Tags are looked at together: a client that is refused in vain sends them again.
    fn check_since(&self, then: &Outcome) -> Result<(), Failure> {
        if !matches!(self.target, Target::Tags) || then.dropped_before == self.catalog.dropped_count() {
            return Ok(());
        }
        let detail = "the begin of this body came before, and since then something was dropped from the catalog, so not all of its \
                      records may be there any more";
        Err(Failure::new(Kind::Dropped, detail).suggest(SEND_ALL_AGAIN))
    }

    fn failure(&self, error: WriteError) -> Failure {
        match error {
            WriteError::Dropped { id } => self.dropped(id),
            error => error.into(),
        }
    }

    fn dropped(&self, id: TagId) -> Failure {
        let what = match &self.target {
            Target::Tags => format!("the tag `{}`", self.catalog.name_of(id).unwrap_or_default()),
            Target::Fact(name, _) => format!("the fact `{name}`"),
            Target::Space(name, _) => format!("the vector space `{name}`"),
        };
        let detail =
            format!("{what} was dropped from the catalog while the body came, so not all of its records are there");
        Failure::new(Kind::Dropped, detail).suggest(SEND_ALL_AGAIN)
    }
}

const SEND_ALL_AGAIN: &str =
    "see GET /v1/catalog; where it is declared again, send the whole body again, under another Idempotency-Key";

/// How to write.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct WriteParameters {
    /// Answer only once queries see the updates (they do within a second anyway).
    #[serde(default)]
    visible: bool,
}

/// Of Arrow's streaming format.
pub(in crate::rest) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// Whether a body is an Arrow stream. Refuses one that says to be something else than that or text before it is read; anything
/// else is taken for NDJSON.
///
/// # Errors
/// [`Kind::UnsupportedMedia`].
pub(in crate::rest) fn is_arrow(headers: &HeaderMap, what: &str, suggestion: &str) -> Result<bool, Failure> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return Ok(false);
    };
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let others = [
        "text/csv",
        "multipart/form-data",
        "application/vnd.apache.parquet",
        "application/vnd.apache.arrow.file",
        "application/avro",
        "avro/binary",
    ];
    if others.contains(&name.as_str()) {
        let failure = Failure::new(Kind::UnsupportedMedia, format!("{what} are NDJSON or Arrow streams, not `{name}`"));
        return Err(failure.suggest(suggestion));
    }
    Ok(name == ARROW_STREAM)
}

/// What decodes a body.
pub(crate) enum Decoder {
    /// One of lines.
    Lines(LineDecoder),
    /// One of columns.
    Columns(RowTarget),
}

impl Decoder {
    fn reader(self, config: &Config) -> Reader {
        match self {
            Decoder::Lines(decoder) => Reader::Lines(Box::new(BodyReader::new(decoder, config.line_bytes_max))),
            Decoder::Columns(target) => {
                let limits = Limits::of_body(config.arrow_message_bytes_max);
                Reader::Columns(Box::new(ColumnBodyReader::new(target, limits)))
            }
        }
    }
}

/// Takes the records of a request.
///
/// # Errors
/// As [`IdempotencyKey::of`] and [`receive`].
pub(in crate::rest) async fn answer(
    state: &AppState,
    destination: Destination,
    parameters: WriteParameters,
    headers: &HeaderMap,
    body: Body,
    decoder: Decoder,
) -> Result<UploadAnswer, Failure> {
    let key = IdempotencyKey::of(state, headers, &destination)?;
    let mut answer = receive(state, destination, body, decoder, key).await?;
    if parameters.visible {
        let store = Arc::clone(state.store()?);
        answer.epoch = Some(limits::blocking(move || Ok(store.publish()?.0)).await?);
    }
    Ok(answer)
}

/// Reads a body to its end; what is answered is on disk.
///
/// # Errors
/// [`Kind::TooManyQueries`] if too many bodies are being read, [`Kind::Stalled`] if nothing of it comes for too long,
/// [`Kind::MalformedBody`] if the body breaks off or is not what its format and encoding say, [`Kind::BodyTooLarge`] for a
/// message of columns beyond its limit, [`Kind::InvalidField`] for columns that do not fit, [`Kind::Dropped`] if what it goes
/// into is dropped meanwhile, and those of the store. Batches written before are kept; with an idempotency key, sending the
/// body again goes on behind them.
pub(crate) async fn receive(
    state: &AppState,
    destination: Destination,
    body: Body,
    decoder: Decoder,
    key: Option<IdempotencyKey>,
) -> Result<UploadAnswer, Failure> {
    let _permit = state.uploads.try_acquire().map_err(|_| {
        Failure::new(Kind::TooManyQueries, "too many bodies are being read; try again a little later").retry_after(1)
    })?;
    let store = Arc::clone(state.store()?);
    let mut reception = Reception::new(store, destination, decoder.reader(&state.config), key);
    let mut chunks = body.into_data_stream().ready_chunks(CHUNKS_AT_ONCE);
    let idle = state.config.upload_idle;
    while let Some(arrived) = tokio::time::timeout(idle, chunks.next()).await.map_err(|_| stalled(idle))? {
        let arrived: Result<Vec<Bytes>, axum::Error> = arrived.into_iter().collect();
        let arrived = arrived.map_err(|error| body_failure(&error, usize::MAX))?;
        reception = limits::blocking(move || reception.take(&arrived)).await?;
    }
    let observer = state.clone();
    limits::blocking(move || reception.finish(&observer)).await
}

fn stalled(idle: Duration) -> Failure {
    let detail = format!("nothing of the body came for {} ms, so it was given up", idle.as_millis());
    Failure::new(Kind::Stalled, detail).suggest(
        "send it again (under the same Idempotency-Key, what was taken of it counts once), in several bodies if it has pauses, \
         or raise the setting `upload_idle_ms`",
    )
}

/// What reads a body.
enum Reader {
    Lines(Box<BodyReader>),
    Columns(Box<ColumnBodyReader>),
}

impl Reader {
    fn feed(&mut self, chunk: &mut &[u8], batch: &mut UpdateBatch) -> Result<bool, Failure> {
        match self {
            Reader::Lines(reader) => Ok(reader.feed(chunk, batch)),
            Reader::Columns(reader) => {
                let fed = reader.feed(chunk, batch);
                fed.map_err(|error| column_failure(error, reader.report().accepted))
            }
        }
    }

    fn report(&self) -> &LineReport {
        match self {
            Reader::Lines(reader) => reader.report(),
            Reader::Columns(reader) => reader.report(),
        }
    }

    fn finish(self, batch: &mut UpdateBatch) -> Result<LineReport, Failure> {
        match self {
            Reader::Lines(reader) => Ok(reader.finish(batch)),
            Reader::Columns(reader) => {
                let accepted = reader.report().accepted;
                reader.finish().map_err(|error| column_failure(error, accepted))
            }
        }
    }
}

/// `accepted`: rows before it.
fn column_failure(error: ColumnBodyError, accepted: u64) -> Failure {
    let kind = match &error {
        ColumnBodyError::Stream(error) if error.is_too_large => Kind::BodyTooLarge,
        ColumnBodyError::Stream(_) => Kind::MalformedBody,
        ColumnBodyError::Columns(_) => Kind::InvalidField,
    };
    let failure = Failure::new(kind, error.to_string());
    match accepted {
        0 => failure,
        rows => failure.suggest(format!(
            "some of the {rows} rows before it may have been taken; with the same Idempotency-Key they count once"
        )),
    }
}

/// A part of a body that is written at once.
struct Step {
    batch: UpdateBatch,
    /// Of its bytes.
    digest: Xxh3,
    counts: Counts,
    /// The places of its errors in the report.
    errors: Range<usize>,
}

/// A body being read.
struct Reception {
    store: Arc<Store>,
    destination: Destination,
    reader: Option<Reader>,
    key: Option<IdempotencyKey>,
    batch: UpdateBatch,
    /// Of the body's bytes in `batch`.
    digest: Xxh3,
    digested: bool,
    /// What was decoded before `batch`, and how many errors were kept.
    before: (Counts, usize),
    /// A full batch that is written once it is known whether it is the last.
    full: Option<Step>,
    steps: u64,
    repeated_steps: u64,
    /// What the last step that came before was then.
    earlier: Option<Outcome>,
    /// What is answered: of steps that came before, as they were then.
    told: Counts,
    /// Without those.
    new: Counts,
    /// Places in the report of errors of steps in which others were refused when they came first.
    untold: Vec<Range<usize>>,
    /// Records whose users are not let in.
    suppressed: u64,
    end: Lsn,
}

impl Reception {
    fn new(store: Arc<Store>, destination: Destination, reader: Reader, key: Option<IdempotencyKey>) -> Reception {
        Reception {
            store,
            destination,
            reader: Some(reader),
            key,
            batch: UpdateBatch::new(),
            digest: Xxh3::new(),
            digested: false,
            before: (Counts::default(), 0),
            full: None,
            steps: 0,
            repeated_steps: 0,
            earlier: None,
            told: Counts::default(),
            new: Counts::default(),
            untold: Vec::new(),
            suppressed: 0,
            end: Lsn(0),
        }
    }

    fn take(mut self, chunks: &[Bytes]) -> Result<Reception, Failure> {
        let Some(mut reader) = self.reader.take() else { return Ok(self) };
        for chunk in chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let before = rest;
                let is_full = reader.feed(&mut rest, &mut self.batch)?;
                let used = before.len() - rest.len();
                if self.key.is_some() {
                    self.digest.update(&before[..used]);
                }
                self.digested |= used > 0;
                if is_full {
                    self.seal(reader.report())?;
                }
            }
        }
        self.reader = Some(reader);
        Ok(self)
    }

    /// Sets a full batch aside and writes the one set aside before, which now is known not to be the last.
    fn seal(&mut self, report: &LineReport) -> Result<(), Failure> {
        let step = self.cut(report);
        match self.full.replace(step) {
            Some(step) => self.write(step, false),
            None => Ok(()),
        }
    }

    /// What came since the last cut.
    fn cut(&mut self, report: &LineReport) -> Step {
        let now = (Counts::of(report), report.errors.len());
        let before = std::mem::replace(&mut self.before, now);
        self.digested = false;
        Step {
            batch: std::mem::take(&mut self.batch),
            digest: std::mem::replace(&mut self.digest, Xxh3::new()),
            counts: now.0.since(before.0),
            errors: before.1..now.1,
        }
    }

    fn write(&mut self, step: Step, is_last: bool) -> Result<(), Failure> {
        let Step { batch, mut digest, counts, errors } = step;
        self.suppressed += self.store.suppressed_in(&batch)?;
        let outcome = Outcome::of(&counts, &self.destination.catalog);
        let once = self.key.as_ref().map(|key| {
            digest.update(&[u8::from(is_last)]);
            key.step(self.steps, digest.digest128(), outcome.note())
        });
        if batch.is_empty() && once.is_none() {
            self.told.add(counts);
            self.new.add(counts);
            return Ok(());
        }
        if let (Some(once), Some(earlier)) = (&once, &self.earlier)
            && !self.store.remembers(once.key, once.now_seconds)
        {
            self.destination.check_since(earlier)?;
        }
        let written = self.store.write_declared(&batch, once, &self.destination.catalog);
        let written = written.map_err(|error| self.destination.failure(error))?;
        self.steps += 1;
        self.end = self.end.max(written.lsn);
        if !written.repeated {
            self.told.add(counts);
            self.new.add(counts);
            return Ok(());
        }
        self.repeated_steps += 1;
        match Outcome::of_note(written.note) {
            Some(earlier) => {
                self.earlier = Some(earlier);
                self.told.add(earlier.counts());
                if !earlier.is_as(outcome) {
                    self.untold.push(errors);
                }
            }
            None => self.told.add(counts),
        }
        Ok(())
    }

    fn finish(mut self, state: &AppState) -> Result<UploadAnswer, Failure> {
        let report = self.reader.take().map(|reader| reader.finish(&mut self.batch)).transpose()?.unwrap_or_default();
        let epoch = self.store.snapshot().epoch();
        let has_more = self.digested;
        let last = self.cut(&report);
        match (self.full.take(), has_more) {
            (Some(full), false) => self.write(full, true)?,
            (Some(full), true) => {
                self.write(full, false)?;
                self.write(last, true)?;
            }
            (None, true) => self.write(last, true)?,
            (None, false) => {}
        }
        self.destination.check(&self.store)?;
        let started = Instant::now();
        if self.end > Lsn(0) {
            self.store.sync(self.end)?;
            state.metrics.log_synced(started.elapsed());
            state.metrics.wrote(epoch);
        }
        state.metrics.updates(self.new.accepted.saturating_sub(self.suppressed), self.new.rejected);
        // Whether somebody was erased, perhaps by another tenant, is told to no tenant.
        let suppressed = if self.destination.tenant.is_some() { 0 } else { self.suppressed };
        let is_told = |place: &usize| !self.untold.iter().any(|untold| untold.contains(place));
        let errors = report.errors.into_iter().enumerate().filter(|(place, _)| is_told(place));
        Ok(UploadAnswer {
            accepted: self.told.accepted.saturating_sub(suppressed),
            rejected: self.told.rejected,
            suppressed,
            errors: errors.map(|(_, error)| LineFailure::of(error)).collect(),
            repeated: self.steps > 0 && self.repeated_steps == self.steps,
            epoch: None,
        })
    }
}
