//! Bulk ingest: rows of a client into a fact, users' tags or a vector space, by the way that HTTP bodies go.
//!
//! Flight's messages are those of Arrow's streaming format without their frame. With the frame put back they are the body that
//! `POST /v1/facts/…` takes as an Arrow stream: decoded as it is, written once under an idempotency key, acknowledged once on disk, and
//! read from the connection no faster than it is written.

use super::Caller;
use super::door::{Flight, Messages};
use super::status::{cut, invalid, status};
use crate::audit::{Record, Telling};
use crate::error::{Failure, Kind};
use crate::queries::Door;
use crate::rest::v1::upload::{Decoder, Destination, IdempotencyKey, UploadAnswer, receive};
use crate::rest::v1::{facts, spaces};
use crate::state::lock;
use arrow_flight::FlightData;
use arrow_flight::sql::{
    CommandStatementIngest, DoPutUpdateResult, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use engine::clock::Clock;
use engine_sql::session::{CATALOG, PUBLIC};
use futures::stream::{self, StreamExt};
use ingest::clock::SystemClock;
use ingest::decode::column_body::RowTarget;
use prost::Message;
use std::sync::{Arc, Mutex};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// The option, and the header of a call, that has the idempotency key.
const KEY: [&str; 2] = ["idempotency_key", "idempotency-key"];
/// The option, and the header of a call, that says what becomes of one with refused rows.
const REFUSED: [&str; 2] = ["refused_rows", "refused-rows"];
/// The schema whose tables are vector spaces, for those that have the name of a fact.
const SPACES: &str = "spaces";
/// What begins each message of the format.
const MARKER: [u8; 4] = [0xff; 4];
/// What the head of a message is filled up to.
const ALIGNED: usize = 8;
/// What an id in a record batch takes with all that stands around it, as a rule.
const ID_BYTES: usize = 64;
/// The largest number of rows in a record batch that is recommended.
const ROWS_TOLD_MAX: usize = 65_536;
/// Refused rows that are told.
const TOLD_MAX: usize = 5;

impl Flight {
    /// Takes rows; answers how many are on disk.
    pub(super) async fn ingest(
        &self,
        caller: &Caller,
        metadata: &MetadataMap,
        command: CommandStatementIngest,
        messages: Messages<FlightData>,
    ) -> Result<Bytes, Status> {
        let mut told = Telling::new(
            self.state.audit(),
            Record::of_call(Door::Flight, "ingest", Some(&command.table)).by(&caller.principal),
        );
        let answer = self.take(caller, metadata, command, messages).await;
        let status = answer
            .as_ref()
            .map_or_else(|status| if status.code() == Code::PermissionDenied { 403 } else { 400 }, |_| 200);
        told.change(|record| record.answered(status));
        answer
    }

    async fn take(
        &self,
        caller: &Caller,
        metadata: &MetadataMap,
        command: CommandStatementIngest,
        messages: Messages<FlightData>,
    ) -> Result<Bytes, Status> {
        check(&command)?;
        let (target, destination) = self.target(caller, &command)?;
        let destination = destination.of(&caller.principal);
        let fails = fails_on_refused(&command, metadata)?;
        let key = key(&command, metadata)?;
        let key = IdempotencyKey::of(&self.state, &key, &destination).map_err(|failure| status(&failure))?;
        // What the connection says is told rather than what a body that broke off looks like.
        let broken = Arc::new(Mutex::new(None));
        let rows = rows_of_a_batch(&target, self.state.config.arrow_message_bytes_max);
        let body = body(messages, Arc::clone(&broken));
        let received = receive(&self.state, destination, body, Decoder::Columns(target), key).await;
        if let Some(why) = lock(&broken).take() {
            return Err(self.broken(why, rows));
        }
        let answer = received.map_err(|failure| status(&failure))?;
        if fails && answer.rejected > 0 {
            return Err(status(&refused(&answer)));
        }
        let record_count = i64::try_from(answer.accepted).unwrap_or(i64::MAX);
        Ok(DoPutUpdateResult { record_count }.encode_to_vec().into())
    }

    /// What rows become, and what they go into.
    fn target(&self, caller: &Caller, command: &CommandStatementIngest) -> Result<(RowTarget, Destination), Status> {
        let snapshot = self.state.writable(&caller.principal).map_err(|failure| status(&failure))?;
        let catalog = snapshot.catalog();
        let in_spaces = command.schema.as_deref() == Some(SPACES);
        let is_table = !in_spaces && (command.table == "users" || catalog.declared_fact(&command.table).is_some());
        let is_space = !is_table && catalog.space(&command.table).is_some();
        modes(command.table_definition_options.as_ref(), &command.table, is_table || is_space)?;
        if is_space || in_spaces {
            let space = spaces::space(catalog, &command.table).map_err(|failure| status(&failure))?;
            return Ok((RowTarget::Vectors(*space), Destination::space(&snapshot, &command.table, space)));
        }
        if command.table == "users" {
            return Ok((RowTarget::Tags(snapshot.shared_catalog()), Destination::tags(&snapshot)));
        }
        let fact = facts::fact(catalog, &command.table).map_err(|failure| status(&failure))?;
        let target = RowTarget::Events { fact: Box::new(fact.clone()), now: SystemClock.now() };
        Ok((target, Destination::fact(&snapshot, &command.table, fact)))
    }

    /// `rows`: as many as a record batch may have.
    fn broken(&self, why: Status, rows: usize) -> Status {
        match why.code() {
            Code::OutOfRange => invalid(format!(
                "a record batch is larger than {} bytes; send smaller ones (with pyarrow: table.to_reader(max_chunksize={rows})), or raise the setting `arrow_message_bytes_max`",
                self.state.config.arrow_message_bytes_max
            )),
            _ => why,
        }
    }
}

/// Rows that a record batch may have. How large a row of facts and tags is nobody knows before; so many bytes are usual.
fn rows_of_a_batch(target: &RowTarget, message_bytes_max: usize) -> usize {
    let row_bytes = match target {
        RowTarget::Vectors(space) => 4 * usize::from(space.dimension) + ID_BYTES,
        RowTarget::Tags(_) | RowTarget::Events { .. } => 4 * ID_BYTES,
    };
    (message_bytes_max / row_bytes).clamp(1, ROWS_TOLD_MAX)
}

/// A message in its frame: Arrow's streaming format again.
pub(super) fn framed(message: FlightData) -> Vec<Bytes> {
    let head = message.data_header;
    // Messages without a head tell of other things than rows.
    if head.is_empty() {
        return Vec::new();
    }
    let filled = head.len().next_multiple_of(ALIGNED);
    // More than this is no message; the reader says so.
    let length = i32::try_from(filled).unwrap_or(i32::MAX);
    let mut frame = Vec::with_capacity(MARKER.len() + size_of::<i32>() + filled);
    frame.extend_from_slice(&MARKER);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&head);
    frame.resize(MARKER.len() + size_of::<i32>() + filled, 0);
    [Bytes::from(frame), message.data_body].into_iter().filter(|piece| !piece.is_empty()).collect()
}

/// The messages as a body; `broken` is told why they ended early. Behind that there is nothing.
fn body(messages: Messages<FlightData>, broken: Arc<Mutex<Option<Status>>>) -> Body {
    let pieces = messages.flat_map(move |message| {
        let mut broken = lock(&broken);
        let pieces = match message {
            _ if broken.is_some() => Vec::new(),
            Ok(message) => framed(message).into_iter().map(Ok).collect(),
            Err(why) => {
                let error = std::io::Error::other(why.message().to_owned());
                *broken = Some(why);
                vec![Err(error)]
            }
        };
        stream::iter(pieces)
    });
    Body::from_stream(pieces)
}

fn check(command: &CommandStatementIngest) -> Result<(), Status> {
    super::statements::no_transaction(command.transaction_id.as_deref())?;
    if command.temporary {
        return Err(invalid("there are no temporary tables; send the rows into a fact, a vector space or `users`"));
    }
    let catalog = command.catalog.as_deref().filter(|name| !name.is_empty());
    if let Some(other) = catalog.filter(|name| *name != CATALOG) {
        return Err(Status::not_found(cut(format!("there is no catalog `{other}`; the only one is `{CATALOG}`"))));
    }
    let schema = command.schema.as_deref().filter(|name| !name.is_empty());
    if let Some(other) = schema.filter(|name| ![PUBLIC, SPACES].contains(name)) {
        return Err(invalid(format!(
            "rows can be sent into the tables of `{PUBLIC}`, and into vector spaces as tables of `{SPACES}`, not of `{other}`"
        )));
    }
    let known = |name: &str| KEY.contains(&name) || REFUSED.contains(&name);
    match command.options.keys().find(|name| !known(name)) {
        Some(name) => Err(invalid(format!("there is no option `{name}`; there are `{}` and `{}`", KEY[0], REFUSED[0]))),
        None => Ok(()),
    }
}

/// Tables are declared, not made by whoever sends rows.
fn modes(options: Option<&TableDefinitionOptions>, table: &str, exists: bool) -> Result<(), Status> {
    let Some(options) = options else { return Ok(()) };
    let if_missing = TableNotExistOption::try_from(options.if_not_exist).unwrap_or(TableNotExistOption::Unspecified);
    let if_there = TableExistsOption::try_from(options.if_exists).unwrap_or(TableExistsOption::Unspecified);
    match (exists, if_there, if_missing) {
        (true, TableExistsOption::Fail, _) => {
            Err(Status::already_exists(cut(format!("the table `{table}` is there; append to it (mode `append`)"))))
        }
        (true, TableExistsOption::Replace, _) => Err(invalid(format!(
            "the table `{table}` cannot be replaced: what is in it stays; append to it (mode `append`)"
        ))),
        (false, _, TableNotExistOption::Create) => Err(invalid(format!(
            "there is no table `{table}`, and none is made by sending rows; declare a fact `{table}` (or a vector space) in the catalog (PUT /v1/catalog), then append"
        ))),
        _ => Ok(()),
    }
}

/// The key, of the command or of the call, as HTTP has it.
fn key(command: &CommandStatementIngest, metadata: &MetadataMap) -> Result<HeaderMap, Status> {
    let of_command = KEY.iter().find_map(|name| command.options.get(*name)).map(String::as_bytes);
    let key = of_command.or_else(|| metadata.get(KEY[1]).map(|value| value.as_bytes()));
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let key = HeaderValue::from_bytes(key).map_err(|_| invalid("an idempotency key is a line of text"))?;
        headers.insert(KEY[1], key);
    }
    Ok(headers)
}

fn fails_on_refused(command: &CommandStatementIngest, metadata: &MetadataMap) -> Result<bool, Status> {
    let of_command = REFUSED.iter().find_map(|name| command.options.get(*name)).map(String::as_str);
    match of_command.or_else(|| metadata.get(REFUSED[1]).and_then(|value| value.to_str().ok())) {
        None | Some("fail") => Ok(true),
        Some("skip") => Ok(false),
        Some(other) => Err(invalid(format!("`{}` is `fail` or `skip`, not `{other}`", REFUSED[0]))),
    }
}

/// Rows were refused: which, why, and what became of the others.
fn refused(answer: &UploadAnswer) -> Failure {
    let rows = answer.errors.iter().take(TOLD_MAX).map(|row| {
        let suggestion = row.suggestion.as_ref().map_or(String::new(), |text| format!(" ({text})"));
        format!("row {}: {}{suggestion}", row.line, row.error)
    });
    let rows = match answer.errors.is_empty() {
        false => rows.collect::<Vec<_>>().join("; "),
        true => {
            "which ones is not known any more, since this came before under its key and others would be refused now"
                .to_owned()
        }
    };
    let message =
        format!("{} rows were taken and are on disk, {} were refused: {rows}", answer.accepted, answer.rejected);
    Failure::new(Kind::InvalidField, message).suggest(format!(
        "send the refused rows again once they are right; with the option `{}` = `skip` they are only left out",
        REFUSED[0]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::catalog::{Metric, Space};
    use engine::ids::TagId;

    #[test]
    fn record_batches_that_are_recommended_fit() {
        let vectors = |dimension| RowTarget::Vectors(Space { id: TagId(16), dimension, metric: Metric::Dot });
        for (dimension, bytes_max) in [(2, 16 << 20), (64, 16 << 20), (1_024, 16 << 20), (4_096, 1 << 16), (4_096, 100)]
        {
            let rows = rows_of_a_batch(&vectors(dimension), bytes_max);
            assert!(rows == 1 || rows * (4 * usize::from(dimension) + ID_BYTES) <= bytes_max, "{dimension}: {rows}");
            assert!((1..=ROWS_TOLD_MAX).contains(&rows), "{dimension}: {rows}");
        }
        assert_eq!(rows_of_a_batch(&vectors(64), 16 << 20), 52_428);
        let tags = RowTarget::Tags(Arc::default());
        assert_eq!(rows_of_a_batch(&tags, 16 << 20), 65_536);
    }
}
