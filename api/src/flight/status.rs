//! What goes wrong, as gRPC tells it: a code, a sentence with the place and what to write instead, and details for programs.

use crate::error::{Failure, Kind};
use prost::Message;
use std::collections::HashMap;
use tonic::{Code, Status};

/// The code of a kind: where gRPC has no word of its own for it, that of its HTTP status.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::UnknownTable | Kind::UnknownColumn => return Code::NotFound,
        Kind::KeyReused => return Code::AlreadyExists,
        Kind::KeyInUse => return Code::Aborted,
        Kind::Corrupt => return Code::DataLoss,
        _ => {}
    }
    match kind.status().as_u16() {
        400 | 406 | 415 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        405 | 501 => Code::Unimplemented,
        409 | 412 => Code::FailedPrecondition,
        413 | 429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        408 | 504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

/// Bytes of a sentence: it goes out in headers, twice.
const TOLD_BYTES_MAX: usize = 1 << 10;

/// The begin of a sentence that is too long.
pub(super) fn cut(text: String) -> String {
    match text.len() > TOLD_BYTES_MAX {
        true => format!("{}…", &text[..text.floor_char_boundary(TOLD_BYTES_MAX)]),
        false => text,
    }
}

/// A failure as a status.
pub(super) fn status(failure: &Failure) -> Status {
    told(failure, cut(failure.to_string()))
}

/// The failure of a statement, with its place in the text.
pub(super) fn of_statement(failure: &Failure, text: &str) -> Status {
    // The place is told however long the sentence is.
    let message = cut(failure.to_string());
    let place = failure.span.and_then(|(start, end)| {
        let before = text.get(..start)?;
        let (line, column) =
            (before.matches('\n').count() + 1, before.lines().last().map_or(0, |line| line.chars().count()));
        let column = if before.ends_with('\n') { 1 } else { column + 1 };
        let word = text.get(start..end).filter(|word| !word.is_empty() && word.len() <= 64);
        let word = word.map_or(String::new(), |word| format!(" (`{word}`)"));
        Some(format!("{message}, at line {line}, column {column}{word}"))
    });
    told(failure, place.unwrap_or(message))
}

fn told(failure: &Failure, message: String) -> Status {
    let code = code(failure.kind);
    let mut metadata = HashMap::new();
    if let Some((start, end)) = failure.span {
        metadata.insert("span".to_owned(), format!("{start}..{end}"));
    }
    if let Some(suggestion) = &failure.suggestion {
        metadata.insert("suggestion".to_owned(), cut(suggestion.clone()));
    }
    let reason = failure.kind.slug().to_owned();
    let info = ErrorInfo { reason, domain: DOMAIN.to_owned(), metadata };
    let detail = Detail { type_url: ERROR_INFO.to_owned(), value: info.encode_to_vec() };
    let details = RpcStatus { code: code as i32, message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// An argument that cannot be.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(cut(message.into()))
}

const DOMAIN: &str = "beluga";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_where_it_is_wrong() {
        let mut failure = Failure::new(Kind::UnknownColumn, "there is no column `agee`").suggest("did you mean `age`?");
        let text = "SELECT ä,\n  agee FROM users";
        failure.span = text.find("agee").map(|at| (at, at + 4));
        let told = of_statement(&failure, text);
        assert_eq!(told.code(), Code::NotFound);
        assert_eq!(told.message(), "there is no column `agee` (did you mean `age`?), at line 2, column 3 (`agee`)");
        let details = RpcStatus::decode(told.details()).expect("details");
        let info = ErrorInfo::decode(&*details.details[0].value).expect("information");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("unknown-column", "beluga"));
        // A place that is no place of the text is not told.
        failure.span = Some((8, 9));
        assert_eq!(of_statement(&failure, text).message(), "there is no column `agee` (did you mean `age`?)");
    }

    #[test]
    fn sentences_are_cut_and_places_are_told_all_the_same() {
        let mut failure = Failure::new(Kind::SqlInvalid, "ä".repeat(5_000)).suggest("ö".repeat(5_000));
        failure.span = Some((0, 6));
        for told in [of_statement(&failure, "SELECT agee"), status(&failure), invalid(failure.to_string())] {
            assert!((1_000..1_200).contains(&told.message().len()), "{} bytes", told.message().len());
            assert!(told.details().len() < 4_000, "{} bytes", told.details().len());
        }
        assert!(of_statement(&failure, "SELECT agee").message().ends_with("…, at line 1, column 1 (`SELECT`)"));
    }

    #[test]
    fn every_kind_has_a_code_that_is_no_success() {
        for kind in Kind::ALL {
            assert_ne!(code(*kind), Code::Ok);
            let is_ours = kind.status().is_server_error() && ![501, 503, 504].contains(&kind.status().as_u16());
            assert_eq!(is_ours, matches!(code(*kind), Code::Internal | Code::DataLoss), "{kind:?}");
        }
    }
}
