//! The line: found values under the names they are mapped to.

use super::computed::{FieldProgram, Gathered, Programs};
use super::definition::{Cast, TimeUnit};
use super::find::{Findings, Found, Slot};
use super::number::push_shifted;
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind, is_number};
use crate::decode::tags::shown;
use std::ops::Range;

/// Writes lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    /// The line's own members.
    pub(super) head: Vec<Target>,
    /// Objects among them, by name.
    pub(super) sections: Vec<(String, Vec<Target>)>,
    /// Further members, the same in all lines.
    pub(super) tail: String,
    /// What of the last line stands in the record, in the line's order.
    pub(super) copied: Vec<Copied>,
}

/// A member of the line.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// For messages: `amount`, `set.age`.
    pub(super) name: String,
    /// As it is written, with its colon.
    pub(super) key: String,
    pub(super) value: TargetValue,
}

/// Where its value comes from.
#[derive(Clone, Debug)]
pub(super) enum TargetValue {
    /// JSON.
    Constant(String),
    Computed {
        program: FieldProgram,
        missing: Missing,
    },
    Found {
        slot: Slot,
        /// For messages.
        path: String,
        cast: Option<Cast>,
        /// The power of ten that makes milliseconds of a number.
        shift: i8,
        missing: Missing,
    },
}

/// What becomes of a missing value or null.
#[derive(Clone, Debug)]
pub(super) enum Missing {
    LeaveOut,
    /// This JSON is written.
    Write(String),
    /// The record is refused.
    Refuse(LineErrorKind),
}

/// What was computed of the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Computed<'p> {
    pub(super) programs: &'p Programs,
    pub(super) gathered: Gathered,
}

/// A part of the line that was made of a part of the record.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    line: Range<usize>,
    record: Range<usize>,
}

/// Turns found values of one target into what it takes.
struct Caster<'w> {
    target: &'w Target,
    cast: Option<Cast>,
    shift: i8,
    scratch: &'w mut String,
}

impl TimeUnit {
    /// The power of ten that makes milliseconds of it.
    pub(super) fn shift(self) -> i8 {
        match self {
            TimeUnit::Seconds => 3,
            TimeUnit::Milliseconds => 0,
            TimeUnit::Microseconds => -3,
        }
    }
}

impl Writer {
    /// Appends the line of what was found.
    pub(super) fn write(
        &mut self,
        findings: &Findings<'_>,
        computed: Computed<'_>,
        scratch: &mut String,
        line: &mut String,
    ) -> Result<(), LineError> {
        self.copied.clear();
        line.push('{');
        for target in &self.head {
            target.write(findings, computed, &mut self.copied, scratch, line)?;
        }
        for (name, targets) in &self.sections {
            begin_member(line, name);
            line.push('{');
            for target in targets {
                target.write(findings, computed, &mut self.copied, scratch, line)?;
            }
            line.push('}');
        }
        if !self.tail.is_empty() {
            begin_member(line, &self.tail);
        }
        for (member, at) in findings.others() {
            begin_member(line, "");
            copy(member, at, &mut self.copied, line);
        }
        line.push('}');
        Ok(())
    }

    /// Where in the record a byte of the last line comes from.
    pub(super) fn record_index(&self, line_index: usize) -> Option<usize> {
        let after = self.copied.partition_point(|copied| copied.line.end <= line_index);
        let copied = self.copied.get(after).filter(|copied| copied.line.contains(&line_index))?;
        // What was cast may be longer than what it was.
        Some((copied.record.start + line_index - copied.line.start).min(copied.record.end - 1))
    }
}

impl Target {
    fn write(
        &self,
        findings: &Findings<'_>,
        computed: Computed<'_>,
        copied: &mut Vec<Copied>,
        scratch: &mut String,
        line: &mut String,
    ) -> Result<(), LineError> {
        let (slot, path, cast, shift, missing) = match &self.value {
            TargetValue::Constant(json) => {
                begin_member(line, &self.key);
                line.push_str(json);
                return Ok(());
            }
            TargetValue::Computed { program, missing } => {
                let value = computed.programs.value(*program, computed.gathered)?;
                return self.write_computed(value, missing, line);
            }
            TargetValue::Found { slot, path, cast, shift, missing } => (*slot, path, *cast, *shift, missing),
        };
        let found = findings.get(slot);
        match (found.filter(|found| found.kind != Kind::Null), missing) {
            (Some(value), _) => {
                begin_member(line, &self.key);
                let start = line.len();
                Caster { target: self, cast, shift, scratch }.push(value, line)?;
                if let Some(at) = value.at {
                    copied.push(Copied { line: start..line.len(), record: at..at + value.text.len() });
                }
                Ok(())
            }
            (None, Missing::LeaveOut) => Ok(()),
            (None, Missing::Write(json)) => {
                begin_member(line, &self.key);
                line.push_str(json);
                Ok(())
            }
            (None, Missing::Refuse(kind)) => Err(self.refuse_missing(*kind, path, found)),
        }
    }

    fn write_computed(&self, value: Option<&str>, missing: &Missing, line: &mut String) -> Result<(), LineError> {
        let json = match (value, missing) {
            (Some(json), _) => json,
            (None, Missing::Write(json)) => json,
            (None, Missing::LeaveOut) => return Ok(()),
            (None, Missing::Refuse(kind)) => {
                let error = LineError::new(*kind, format!("`{}`: the expression gives NULL", self.name));
                return Err(error.suggest("say with coalesce what else it is, or leave such records out with `where`"));
            }
        };
        begin_member(line, &self.key);
        line.push_str(json);
        Ok(())
    }

    fn refuse_missing(&self, kind: LineErrorKind, path: &str, found: Option<Found<'_>>) -> LineError {
        let name = &self.name;
        let message = match found {
            Some(_) => format!("`{name}`: `{path}` is null"),
            None => format!("`{name}`: the record has no `{path}`"),
        };
        let error = LineError::new(kind, message);
        let error = match found.and_then(|found| found.at) {
            Some(at) => error.at(at),
            None => error,
        };
        error.suggest(format!("map `{name}` to what every record has, or leave such records out with `where`"))
    }
}

impl Caster<'_> {
    /// Appends a value, or each item of a list.
    fn push(&mut self, value: Found<'_>, line: &mut String) -> Result<(), LineError> {
        if self.cast.is_none() || value.kind != Kind::Array {
            return self.push_one(value, line);
        }
        let (mut json, mut first) = (Json::new(value.text, 0), true);
        json.begin_array()?;
        line.push('[');
        while json.item(&mut first)? {
            let kind = json.kind()?;
            let at = value.at.map(|at| at + json.position());
            let text = json.verbatim(self.scratch)?;
            if !line.ends_with('[') {
                line.push(',');
            }
            self.push_one(Found { text, kind, at }, line)?;
        }
        line.push(']');
        Ok(())
    }

    fn push_one(&mut self, value: Found<'_>, line: &mut String) -> Result<(), LineError> {
        match (self.cast, value.kind) {
            (None | Some(Cast::Number), Kind::Number) => push_shifted_or_same(value.text, self.shift, line),
            (None, _) | (_, Kind::Null) | (Some(Cast::String), Kind::String) | (Some(Cast::Boolean), Kind::Bool) => {
                line.push_str(value.text)
            }
            (Some(Cast::String), Kind::Number | Kind::Bool) => {
                line.push('"');
                line.push_str(value.text);
                line.push('"');
            }
            (Some(Cast::Number), Kind::Bool) => line.push(if value.text == "true" { '1' } else { '0' }),
            (Some(Cast::Number), Kind::String) => {
                let text = Json::new(value.text, 0).string(self.scratch)?;
                if !is_number(text) {
                    let error = not_a(&self.target.name, text, "a number", value);
                    return Err(error.suggest("only text such as 31 or -2.50 can become one"));
                }
                push_shifted_or_same(text, self.shift, line);
            }
            (Some(Cast::Boolean), Kind::String | Kind::Number) => {
                let text = match value.kind {
                    Kind::String => Json::new(value.text, 0).string(self.scratch)?,
                    _ => value.text,
                };
                let Some(boolean) = to_boolean(text) else {
                    let error = not_a(&self.target.name, text, "true or false", value);
                    return Err(error.suggest("only true, false, 1 and 0 can become one"));
                };
                line.push_str(if boolean { "true" } else { "false" });
            }
            (Some(cast), Kind::Array | Kind::Object) => return Err(self.refuse_nested(cast, value)),
        }
        Ok(())
    }

    fn refuse_nested(&self, cast: Cast, value: Found<'_>) -> LineError {
        let message = format!("`{}`: {} cannot become a {}", self.target.name, value.kind.noun(), cast.name());
        let TargetValue::Found { path, .. } = &self.target.value else { return mistyped(message, value) };
        mistyped(message, value).suggest(format!("map a value inside `{path}`, or leave `type` out"))
    }
}

fn not_a(name: &str, text: &str, noun: &str, value: Found<'_>) -> LineError {
    mistyped(format!("`{name}`: `{}` is not {noun}", shown(text)), value)
}

pub(super) fn mistyped(message: String, value: Found<'_>) -> LineError {
    let error = LineError::new(LineErrorKind::Type, message);
    match value.at {
        Some(at) => error.at(at),
        None => error,
    }
}

pub(super) fn to_boolean(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn push_shifted_or_same(number: &str, shift: i8, line: &mut String) {
    match shift {
        0 => line.push_str(number),
        shift => push_shifted(number, shift, line),
    }
}

/// Appends a comma, unless it is the first member, and the key. No value ends with an opening brace.
fn begin_member(line: &mut String, key: &str) {
    if !line.ends_with('{') {
        line.push(',');
    }
    line.push_str(key);
}

fn copy(text: &str, at: usize, copied: &mut Vec<Copied>, line: &mut String) {
    let start = line.len();
    line.push_str(text);
    copied.push(Copied { line: start..line.len(), record: at..at + text.len() });
}

/// Appends text as a JSON string.
pub(crate) fn push_string(text: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes all that is written"),
            c => out.push(c),
        }
    }
    out.push('"');
}
