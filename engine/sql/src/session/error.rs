//! Why a statement has no answer: what is wrong, where, and what to write instead.

use super::calls;
use super::columns::USER_ID;
use super::places::byte_at;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;
use engine::audience::ops::QueryError;
use engine::audience::suggest::closest;
use std::io::ErrorKind;
use std::ops::Range;

/// The longest message, and the longest suggestion, in bytes: they may repeat what stands in the statement.
const MESSAGE_BYTES_MAX: usize = 2 << 10;

/// Why a statement has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}{}", suggestion.as_ref().map(|text| format!("; {text}")).unwrap_or_default())]
pub struct SqlError {
    /// Stable kind.
    pub kind: SqlErrorKind,
    /// What is wrong, in a sentence.
    pub message: String,
    /// Where: bytes of the statement; `None` if it concerns the whole.
    pub span: Option<Range<usize>>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

/// The kinds of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlErrorKind {
    /// Not in the grammar.
    Syntax,
    /// In the grammar, but not taken.
    Refused,
    /// No such table.
    UnknownTable,
    /// No such column.
    UnknownColumn,
    /// What is asked cannot be: of types, of functions, of a value that came up.
    Invalid,
    /// Too long, too deep, too many operators.
    TooLarge,
    /// It takes more memory, or more of the disk, than statements may use.
    Exhausted,
    /// It was cancelled, or ran out of time.
    Cancelled,
    /// Stored data is damaged.
    Corrupt,
    /// A fault of ours.
    Internal,
}

/// The names that a statement may have meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) tables: Vec<String>,
    pub(super) columns: Vec<String>,
}

impl SqlError {
    pub(super) fn new(kind: SqlErrorKind, message: impl Into<String>) -> SqlError {
        SqlError { kind, message: cut(message.into()), span: None, suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> SqlError {
        self.suggestion = Some(cut(suggestion.into()));
        self
    }

    /// From a place on to the end of the word that stands there.
    pub(super) fn at(mut self, text: &str, location: Location) -> SqlError {
        if location.line > 0 {
            let start = byte_at(text, location);
            let is_of_word = |character: &char| character.is_alphanumeric() || *character == '_';
            let len: usize =
                text.get(start..).unwrap_or_default().chars().take_while(is_of_word).map(char::len_utf8).sum();
            self.span = Some(start..start + len);
        }
        self
    }

    pub(super) fn cancelled() -> SqlError {
        SqlError::new(SqlErrorKind::Cancelled, "the statement was cancelled or ran out of time")
    }

    /// What DataFusion says of a statement.
    pub(super) fn from_datafusion(error: &DataFusionError, text: &str, names: &Names) -> SqlError {
        let told = told(error, names, text);
        let place = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let told = match place {
            Some(span) if told.span.is_none() => {
                let (line, column) = (span.start.line, span.start.column);
                told.at(text, Location { line, column })
            }
            _ => told,
        };
        told.of_call(text)
    }

    /// Whom a call of the audience language asks about is the `user_id` that stands in its place.
    fn of_call(self, text: &str) -> SqlError {
        let name = self.span.clone().and_then(|span| text.get(span)).unwrap_or_default();
        if !calls::NAMES.iter().any(|own| name.eq_ignore_ascii_case(own)) || !self.message.contains(USER_ID) {
            return self;
        }
        let name = name.to_ascii_lowercase();
        let told = if self.message.to_ascii_lowercase().contains("ambiguous") {
            let message = format!("`{name}` may be about the `{USER_ID}` of several tables");
            SqlError::new(self.kind, message).suggest(format!("say which one: users.{name}(…), or by its alias"))
        } else {
            let message = format!("`{name}` is about users, and no table here has a `{USER_ID}`");
            SqlError::new(self.kind, message).suggest("ask it of `users` or of a fact")
        };
        SqlError { span: self.span, ..told }
    }
}

fn told(error: &DataFusionError, names: &Names, text: &str) -> SqlError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => told(inner, names, text),
        DataFusionError::Shared(inner) => told(inner, names, text),
        DataFusionError::Collection(errors) if !errors.is_empty() => told(&errors[0], names, text),
        DataFusionError::SQL(error, _) => syntax(error, text),
        DataFusionError::SchemaError(error, _) => of_schema(error, names),
        DataFusionError::Plan(message) => of_plan(message, names),
        DataFusionError::NotImplemented(message) => SqlError::new(SqlErrorKind::Refused, plain(message)),
        DataFusionError::ResourcesExhausted(message) => SqlError::new(
            SqlErrorKind::Exhausted,
            format!("it takes more than statements may use: {}", first_line(message)),
        )
        .suggest("ask for fewer rows or columns, or set `sql_memory_bytes` or `sql_spill_bytes` higher"),
        DataFusionError::IoError(error) if error.kind() == ErrorKind::StorageFull => {
            let message = format!("the disk is full, and a large statement needs it for a while: {error}");
            SqlError::new(SqlErrorKind::Exhausted, message).suggest("free some, or ask for fewer rows")
        }
        DataFusionError::External(error) => {
            match (error.downcast_ref::<QueryError>(), error.downcast_ref::<SqlError>()) {
                (Some(error), _) => of_query(error),
                (_, Some(error)) => error.clone(),
                (None, None) => SqlError::new(SqlErrorKind::Internal, error.to_string()),
            }
        }
        DataFusionError::ArrowError(error, _) => SqlError::new(SqlErrorKind::Invalid, plain(&error.to_string())),
        DataFusionError::Execution(message) | DataFusionError::Configuration(message) => {
            SqlError::new(SqlErrorKind::Invalid, plain(message))
        }
        other => SqlError::new(SqlErrorKind::Internal, first_line(&other.to_string())),
    }
}

fn of_query(error: &QueryError) -> SqlError {
    match error {
        QueryError::Cancelled => SqlError::cancelled(),
        QueryError::Read(_) => SqlError::new(SqlErrorKind::Corrupt, error.to_string()),
        other => SqlError::new(SqlErrorKind::Invalid, other.to_string()),
    }
}

/// The parser tells a place in words: "… at Line: 1, Column: 9".
fn syntax(error: &ParserError, text: &str) -> SqlError {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            return SqlError::new(SqlErrorKind::TooLarge, "the statement is nested too deep");
        }
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
    };
    let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
    if message.contains("recursion limit") {
        return SqlError::new(SqlErrorKind::TooLarge, "the statement is nested too deep");
    }
    let Some((what, place)) = message.split_once(" at Line: ") else {
        let what = message.replace("found: EOF", "but the statement ends here");
        let told = SqlError::new(SqlErrorKind::Syntax, what);
        return SqlError { span: Some(text.len()..text.len()), ..told };
    };
    let told = SqlError::new(SqlErrorKind::Syntax, what);
    let location = place.split_once(", Column: ").and_then(|(line, column)| {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
        Some(Location { line: digits(line)?, column: digits(column)? })
    });
    match location {
        Some(location) => told.at(text, location),
        None => told,
    }
}

fn of_schema(error: &SchemaError, names: &Names) -> SqlError {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return SqlError::new(SqlErrorKind::Invalid, error.to_string());
    };
    let told = SqlError::new(SqlErrorKind::UnknownColumn, format!("there is no column `{}`", field.name));
    let of_tables = valid_fields.iter().map(|column| column.name.as_str());
    let near =
        closest(&field.name, of_tables).or_else(|| closest(&field.name, names.columns.iter().map(String::as_str)));
    match near {
        Some(name) => told.suggest(format!("did you mean `{name}`?")),
        None => told.suggest("SHOW COLUMNS FROM a table lists its columns"),
    }
}

fn of_plan(message: &str, names: &Names) -> SqlError {
    if let Some((name, near)) = message.strip_prefix("Invalid function '").and_then(|rest| rest.split_once('\'')) {
        let told = SqlError::new(SqlErrorKind::Invalid, format!("there is no function `{name}`"));
        // DataFusion names the nearest one, however far that is.
        let near = near.split('\'').nth(1).and_then(|near| closest(name, [near]));
        return match near {
            Some(near) => told.suggest(format!("did you mean `{near}`?")),
            None => told.suggest("information_schema.routines lists them"),
        };
    }
    // A set tag compared as in the audience language.
    if message.contains("compar") && message.contains("List(Utf8)") {
        let told = SqlError::new(SqlErrorKind::Invalid, plain(message));
        return told.suggest(
            "a set is a list: write array_has(interest, 'yoga'), or array_has_any(interest, ['yoga', 'golf'])",
        );
    }
    let missing = message.strip_prefix("table '").and_then(|rest| rest.split_once("' not found"));
    let Some((name, _)) = missing else {
        return SqlError::new(SqlErrorKind::Invalid, plain(message));
    };
    let name = name.strip_prefix("beluga.").unwrap_or(name);
    let name = name.strip_prefix("public.").unwrap_or(name);
    let told = SqlError::new(SqlErrorKind::UnknownTable, format!("there is no table `{name}`"));
    match closest(name, names.tables.iter().map(String::as_str)) {
        Some(near) => told.suggest(format!("did you mean `{near}`?")),
        None => told.suggest("SHOW TABLES lists them"),
    }
}

/// Of what is very long, the beginning.
fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

/// Without the words of DataFusion about itself.
fn plain(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message).trim();
    let starts = ["Error during planning: ", "Execution error: ", "Arrow error: "];
    starts.iter().fold(message, |message, start| message.strip_prefix(start).unwrap_or(message)).to_owned()
}
