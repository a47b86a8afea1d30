//! What goes wrong at the doors, and what a client is told about it.
//!
//! Every failure of the engine, of ingest and of a request itself becomes one [`Failure`]: a stable [`Kind`], a
//! sentence for the client and, where there is one, a position and a suggestion. REST writes it as RFC 9457
//! `application/problem+json`, the command line as text with a caret; reading it back gives the same failure, so a
//! command says the same whether it asked a server or opened the directory itself.
//!
//! [`status`] is the only table from the engine's classes to HTTP statuses. It has no `_` arm: a new class does not
//! compile until somebody decides.

use axum::http::StatusCode;
use engine::audience::error::{ExprError, ExprErrorKind};
use engine::audience::ops::QueryError;
use engine::catalog::CatalogError;
use engine::error::{Class, ReadError};
use engine::store::{OpenError, PurgeError, TableError, WriteError};
use engine_sql::session::{SqlError, SqlErrorKind};
use serde::{Deserialize, Serialize};

/// The HTTP status of a class.
pub fn status(class: Class) -> StatusCode {
    match class {
        Class::Invalid => StatusCode::BAD_REQUEST,
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Conflict => StatusCode::CONFLICT,
        Class::Exhausted => StatusCode::PAYLOAD_TOO_LARGE,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        Class::Corrupt | Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident, $slug:literal, $title:literal, $status:expr;)*) => {
        /// The stable kinds of failure: the `type` of a problem is `urn:beluga:problem:` and the kind's slug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them, for documentation and tests.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The stable name, as in `urn:beluga:problem:<slug>`.
            pub fn slug(self) -> &'static str {
                match self { $(Kind::$name => $slug,)* }
            }

            /// For people; the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Kind::$name => $title,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                match self { $(Kind::$name => $status,)* }
            }
        }
    };
}

kinds! {
    /// The text is not in the audience language's grammar.
    Syntax, "syntax", "Not an audience expression", status(Class::Invalid);
    /// SQL, but not in the audience language.
    Unsupported, "unsupported", "Not in the audience language", status(Class::Invalid);
    /// A tag that the catalog does not have.
    UnknownTag, "unknown-tag", "Unknown tag", status(Class::Invalid);
    /// A fact that the catalog does not have, inside an expression.
    UnknownFact, "unknown-fact", "Unknown fact", status(Class::Invalid);
    /// A column that the fact does not have.
    UnknownColumn, "unknown-column", "Unknown column", status(Class::Invalid);
    /// A vector space that the catalog does not have, inside an expression.
    UnknownSpace, "unknown-space", "Unknown vector space", status(Class::Invalid);
    /// An audience that is not defined, inside an expression.
    UnknownAudience, "unknown-audience", "Unknown audience", status(Class::Invalid);
    /// The tag's type does not allow the operation.
    TagType, "tag-type", "The tag's type does not allow this", status(Class::Invalid);
    /// A literal is not a value of the tag's type.
    TagValue, "tag-value", "Not a value of the tag", status(Class::Invalid);
    /// An audience contains itself.
    Cycle, "audience-cycle", "The audience contains itself", status(Class::Invalid);
    /// The expression is too long, too deep or has too many terms.
    ExpressionTooLarge, "expression-too-large", "The expression is too large", status(Class::Exhausted);
    /// The text is not in SQL's grammar.
    SqlSyntax, "sql-syntax", "Not a SQL statement", status(Class::Invalid);
    /// A statement that is not taken: one that writes, or reaches files or settings.
    SqlRefused, "sql-refused", "This statement is not taken", status(Class::Invalid);
    /// A statement that cannot be answered: of types, functions or values that come up.
    SqlInvalid, "sql-invalid", "The statement cannot be answered", status(Class::Invalid);
    /// A table that there is not.
    UnknownTable, "unknown-table", "Unknown table", status(Class::Invalid);
    /// The statement is too long, too deep, or needs more memory or disk than statements may use.
    SqlTooLarge, "sql-too-large", "The statement is too large", status(Class::Exhausted);
    /// The body is not JSON, or not in the encoding that it says.
    MalformedBody, "malformed-body", "The body cannot be read", status(Class::Invalid);
    /// A field of the body or a parameter is unknown, missing or of the wrong type.
    InvalidField, "invalid-field", "A field is not valid", status(Class::Invalid);
    /// A cursor that this server never gave.
    InvalidCursor, "invalid-cursor", "Not a cursor", status(Class::Invalid);
    /// A cursor whose snapshot is no longer held.
    CursorExpired, "cursor-expired", "The cursor has expired", StatusCode::GONE;
    /// A catalog change that would lose data or break audiences.
    UnsafeChange, "unsafe-change", "The change is not safe", status(Class::Conflict);
    /// A tag name or declaration that cannot be.
    InvalidCatalog, "invalid-catalog", "Not a valid catalog", status(Class::Invalid);
    /// Something documented for later.
    NotAvailable, "not-available", "Not available yet", StatusCode::NOT_IMPLEMENTED;
    /// No such user, audience or shard.
    NotFound, "not-found", "Not found", status(Class::NotFound);
    /// No such route.
    NoRoute, "no-such-route", "No such route", status(Class::NotFound);
    /// The route exists for other methods.
    MethodNotAllowed, "method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED;
    /// None of the formats in `Accept` can be given.
    NotAcceptable, "not-acceptable", "None of these formats can be given", StatusCode::NOT_ACCEPTABLE;
    /// The body's format or encoding is not understood.
    UnsupportedMedia, "unsupported-media-type", "This format is not understood", StatusCode::UNSUPPORTED_MEDIA_TYPE;
    /// What came to a port that speaks TLS was not encrypted.
    TlsNeeded, "tls-needed", "TLS is needed", status(Class::Invalid);
    /// No token, or none that is known.
    Unauthorized, "unauthorized", "A token is needed", StatusCode::UNAUTHORIZED;
    /// The token may not be used for this.
    Forbidden, "forbidden", "The token may not do this", StatusCode::FORBIDDEN;
    /// Another site's page tried to use the reader's browser.
    CrossSite, "cross-site", "Refused from another site", StatusCode::FORBIDDEN;
    /// The body is larger than its limit.
    BodyTooLarge, "body-too-large", "The body is too large", status(Class::Exhausted);
    /// The same key came with another body.
    KeyReused, "idempotency-key-reused", "The idempotency key came before with another body", StatusCode::UNPROCESSABLE_ENTITY;
    /// The same key's first request still runs.
    KeyInUse, "idempotency-key-in-use", "A request with this idempotency key is still running", status(Class::Conflict);
    /// Nothing of the body came for too long.
    Stalled, "body-stalled", "The body stopped coming", StatusCode::REQUEST_TIMEOUT;
    /// What records go into was dropped while they came.
    Dropped, "dropped", "It was dropped in the meantime", status(Class::Conflict);
    /// `If-Match` names another version.
    VersionChanged, "version-changed", "It was changed in the meantime", StatusCode::PRECONDITION_FAILED;
    /// Others use it.
    NotLive, "not-live", "The audience is not live", status(Class::Conflict);
    StillUsed, "still-used", "It is still used", status(Class::Conflict);
    /// A token or a tenant calls more often than it may.
    TooManyCalls, "too-many-calls", "Too many calls", StatusCode::TOO_MANY_REQUESTS;
    /// A tenant was given all different answers that its privacy policy grants for now.
    PrivacyBudget, "privacy-budget", "No more different answers for now", StatusCode::TOO_MANY_REQUESTS;
    /// So few users that a tenant is told nothing of them.
    TooFewUsers, "too-few-users", "Too few users", StatusCode::FORBIDDEN;
    /// Too many queries at once.
    TooManyQueries, "too-many-queries", "Too many queries at once", StatusCode::TOO_MANY_REQUESTS;
    /// Too many jobs wait.
    TooManyJobs, "too-many-jobs", "Too many jobs wait", StatusCode::TOO_MANY_REQUESTS;
    /// The query ran out of its time.
    Timeout, "timeout", "The query ran out of time", status(Class::Cancelled);
    /// A condition on events that no index covers needs more memory than scans may use.
    ScanTooLarge, "scan-too-large", "Too many events to search", status(Class::Exhausted);
    /// The rows of a fact could not be read.
    ScanFailed, "scan-failed", "Events could not be read", status(Class::Internal);
    /// A source could not do what it was told.
    SourceStuck, "source-stuck", "The source could not do that", status(Class::Conflict);
    /// The store takes no writes since one failed.
    ReadOnly, "read-only", "The store is read-only", status(Class::Unavailable);
    /// The server starts or stops.
    NotReady, "not-ready", "The server is not ready", status(Class::Unavailable);
    /// The server would be reached by those who should not.
    Exposed, "exposed", "The server would be open to others", status(Class::Conflict);
    /// What happens cannot be written to the audit log.
    NotAudited, "not-audited", "The audit log cannot be written", status(Class::Unavailable);
    /// The data directory is another process's.
    InUse, "in-use", "The data directory is in use", status(Class::Conflict);
    /// Bytes on disk are damaged.
    Corrupt, "corrupt", "Stored data is damaged", status(Class::Corrupt);
    /// A fault of the machine or a bug.
    Internal, "internal", "Internal error", status(Class::Internal);
    /// The server could not be reached (command line only).
    Unreachable, "unreachable", "The server cannot be reached", status(Class::Unavailable);
    /// A local file could not be read or written (command line only).
    LocalFile, "local-file", "A file cannot be used", status(Class::Internal);
}

/// The start of every problem's `type`.
pub const TYPE_PREFIX: &str = "urn:beluga:problem:";

impl Kind {
    /// The kind of a slug.
    pub fn from_slug(slug: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.slug() == slug)
    }

    /// The nearest kind for a status that some layer answered by itself.
    pub fn from_status(status: StatusCode) -> Kind {
        match status {
            StatusCode::NOT_FOUND => Kind::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Kind::MethodNotAllowed,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::UnsupportedMedia,
            StatusCode::PAYLOAD_TOO_LARGE => Kind::BodyTooLarge,
            StatusCode::REQUEST_TIMEOUT => Kind::Stalled,
            status if status.is_client_error() => Kind::MalformedBody,
            _ => Kind::Internal,
        }
    }

    /// Whether the one who asked wrote something wrong, so that asking again as it is will not help.
    pub fn is_usage(self) -> bool {
        matches!(
            self,
            Kind::Syntax
                | Kind::Unsupported
                | Kind::UnknownTag
                | Kind::UnknownFact
                | Kind::UnknownColumn
                | Kind::UnknownSpace
                | Kind::UnknownAudience
                | Kind::TagType
                | Kind::TagValue
                | Kind::Cycle
                | Kind::ExpressionTooLarge
                | Kind::SqlSyntax
                | Kind::SqlRefused
                | Kind::SqlInvalid
                | Kind::UnknownTable
                | Kind::InvalidField
                | Kind::InvalidCatalog
        )
    }
}

/// A failure as a client is told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What happened, where, and what to do, in a sentence.
    pub detail: String,
    /// Bytes of the expression.
    pub span: Option<(usize, usize)>,
    /// JSON pointer to the field of the body, or the name of a parameter.
    pub pointer: Option<String>,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// Further failures of the same request.
    pub errors: Vec<Item>,
    /// Seconds after which trying again makes sense.
    pub retry_after_seconds: Option<u64>,
}

/// One of several things wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Item {
    /// JSON pointer to the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What is wrong with it.
    pub detail: String,
}

/// RFC 9457 problem details.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:beluga:problem:` and a stable name.
    #[schema(example = "urn:beluga:problem:unknown-tag")]
    pub r#type: String,
    /// The same for every occurrence of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, where, and what to do.
    pub detail: String,
    /// Where in the expression: bytes `start..end` of its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanField>,
    /// JSON pointer to the field of the body, or the name of a parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Everything that is wrong, where there is more than one thing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Item>,
}

/// Bytes `start..end` of an expression's text.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SpanField {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Failure {
        Failure {
            kind,
            detail: detail.into(),
            span: None,
            pointer: None,
            suggestion: None,
            errors: Vec::new(),
            retry_after_seconds: None,
        }
    }

    /// A field of the body that cannot be as it is.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Failure {
        Failure::new(Kind::InvalidField, detail).at(pointer)
    }

    /// A failure of ours: the client is told little, the log everything.
    pub fn internal(cause: impl std::fmt::Display) -> Failure {
        tracing::error!(%cause, "internal error");
        Failure::new(Kind::Internal, "an internal error; the server's log says more under this x-request-id")
    }

    /// Adds the JSON pointer.
    pub fn at(mut self, pointer: impl Into<String>) -> Failure {
        self.pointer = Some(pointer.into());
        self
    }

    /// Adds what to write instead.
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Failure {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Adds when to try again.
    pub fn retry_after(mut self, seconds: u64) -> Failure {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// As written on the wire.
    pub fn to_problem(&self) -> Problem {
        Problem {
            r#type: format!("{TYPE_PREFIX}{}", self.kind.slug()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            span: self.span.map(|(start, end)| SpanField { start, end }),
            pointer: self.pointer.clone(),
            suggestion: self.suggestion.clone(),
            errors: self.errors.clone(),
        }
    }

    /// As read from the wire; a type of a newer server becomes the nearest kind by its status.
    pub fn from_problem(problem: Problem) -> Failure {
        let slug = problem.r#type.strip_prefix(TYPE_PREFIX).unwrap_or_default();
        let by_status = || Kind::from_status(StatusCode::from_u16(problem.status).unwrap_or_default());
        Failure {
            kind: Kind::from_slug(slug).unwrap_or_else(by_status),
            detail: problem.detail,
            span: problem.span.map(|span| (span.start, span.end)),
            pointer: problem.pointer,
            suggestion: problem.suggestion,
            errors: problem.errors,
            retry_after_seconds: None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, " ({suggestion})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<ExprError> for Failure {
    fn from(error: ExprError) -> Failure {
        let kind = match error.kind {
            ExprErrorKind::Syntax => Kind::Syntax,
            ExprErrorKind::Unsupported => Kind::Unsupported,
            ExprErrorKind::UnknownTag => Kind::UnknownTag,
            ExprErrorKind::UnknownFact => Kind::UnknownFact,
            ExprErrorKind::UnknownColumn => Kind::UnknownColumn,
            ExprErrorKind::UnknownSpace => Kind::UnknownSpace,
            ExprErrorKind::UnknownAudience => Kind::UnknownAudience,
            ExprErrorKind::Type => Kind::TagType,
            ExprErrorKind::Value => Kind::TagValue,
            ExprErrorKind::Cycle => Kind::Cycle,
            ExprErrorKind::TooLarge => Kind::ExpressionTooLarge,
        };
        let span = error.span.map(|span| (span.start, span.end));
        Failure { span, suggestion: error.suggestion, ..Failure::new(kind, error.message) }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        match error {
            QueryError::Cancelled => Failure::new(Kind::Timeout, "the query was cancelled or ran out of time"),
            QueryError::Invalid(message) => Failure::new(Kind::InvalidField, message),
            QueryError::NoScanner { .. } => Failure::new(Kind::Unsupported, error.to_string()),
            QueryError::Scan(scan) if scan.class == Class::Exhausted => {
                Failure::new(Kind::ScanTooLarge, scan.to_string())
            }
            QueryError::Scan(scan) => {
                tracing::error!(error = %scan, "events could not be read");
                Failure::new(Kind::ScanFailed, scan.to_string())
            }
            QueryError::Read(error) => error.into(),
        }
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Failure {
        let kind = match error.kind {
            SqlErrorKind::Syntax => Kind::SqlSyntax,
            SqlErrorKind::Refused => Kind::SqlRefused,
            SqlErrorKind::Invalid => Kind::SqlInvalid,
            SqlErrorKind::UnknownTable => Kind::UnknownTable,
            SqlErrorKind::UnknownColumn => Kind::UnknownColumn,
            SqlErrorKind::TooLarge | SqlErrorKind::Exhausted => Kind::SqlTooLarge,
            SqlErrorKind::Cancelled => Kind::Timeout,
            SqlErrorKind::Corrupt => {
                tracing::error!(%error, "damage found");
                Kind::Corrupt
            }
            SqlErrorKind::Internal => return Failure::internal(error),
        };
        let span = error.span.map(|span| (span.start, span.end));
        Failure { span, suggestion: error.suggestion, ..Failure::new(kind, error.message) }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        match error.class() {
            Class::Corrupt => {
                tracing::error!(%error, "damage found");
                Failure::new(Kind::Corrupt, error.to_string())
            }
            _ => Failure::internal(error),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Failure {
        match error {
            WriteError::ReadOnly { .. } => Failure::new(Kind::ReadOnly, error.to_string()),
            WriteError::KeyReused => Failure::new(Kind::KeyReused, error.to_string()),
            WriteError::TooLarge { .. } => Failure::new(Kind::BodyTooLarge, error.to_string()),
            WriteError::Dropped { .. } => Failure::new(Kind::Dropped, error.to_string()),
            WriteError::OtherErasures => Failure::new(Kind::InvalidField, error.to_string()),
            WriteError::Read(error) => error.into(),
        }
    }
}

impl From<PurgeError> for Failure {
    fn from(error: PurgeError) -> Failure {
        match error {
            PurgeError::Write(error) => error.into(),
            PurgeError::Table(error) => error.into(),
            PurgeError::Remove(_) | PurgeError::Waits(_) | PurgeError::Stopped => {
                Failure::new(Kind::LocalFile, error.to_string())
            }
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let kind = match error.class() {
            Class::Conflict => Kind::InUse,
            Class::Corrupt => Kind::Corrupt,
            Class::Invalid => Kind::InvalidField,
            Class::NotFound | Class::Exhausted | Class::Unavailable | Class::Cancelled | Class::Internal => {
                Kind::LocalFile
            }
        };
        Failure::new(kind, error.to_string())
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Failure {
        Failure::new(Kind::LocalFile, error.to_string())
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Failure {
        let (kind, part, name) = match &error {
            CatalogError::Name { name, .. } => (Kind::InvalidCatalog, "tags", name),
            CatalogError::TypeChange { name, .. } => (Kind::UnsafeChange, "tags", name),
            CatalogError::Fact { fact, .. } => (Kind::InvalidCatalog, "facts", fact),
            CatalogError::Space { space, .. } => (Kind::InvalidCatalog, "spaces", space),
        };
        Failure::new(kind, error.to_string()).at(format!("/{part}/{}", escape_pointer(name)))
    }
}

/// A name as a JSON pointer's part (RFC 6901).
pub fn escape_pointer(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn slugs_are_distinct_and_read_back() {
        let slugs: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::from_slug(kind.slug()), Some(*kind));
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
        }
    }

    #[test]
    fn a_problem_reads_back_as_the_same_failure() {
        let mut failure = Failure::new(Kind::UnknownTag, "no tag `gendr`").at("/where").suggest("gender");
        failure.span = Some((3, 8));
        failure.errors.push(Item { pointer: None, detail: "more".into() });
        let text = serde_json::to_string(&failure.to_problem()).expect("serialises");
        let read: Problem = serde_json::from_str(&text).expect("parses");
        assert_eq!(Failure::from_problem(read), failure);
    }
}
