//! Values that expressions compute, many records at a time.
//!
//! What an expression reads of a record is gathered here; once it has been gathered of many, all expressions are computed at
//! once ([`Programs::run`]), conditions before fields, and fields only for the records that pass. Then the records are mapped one
//! by one, and what was computed of each is asked for by its row.

use super::error::MappingError;
use super::find::{Finder, Findings, Found, Slot};
use super::number::{self, Unfit};
use super::write::{mistyped, to_boolean};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind, is_number};
use crate::decode::tags::shown;
use engine::computed::{
    ANSWER_BYTES_MAX, Answer, Answers, Column, Computation, ExpressionError, Language, Rows, Wanted,
};
use std::fmt;
use std::sync::Arc;

const _: () = assert!(ANSWER_BYTES_MAX == crate::decode::LINE_BYTES_MAX, "an answer is as long as a line may be");

/// An expression and its language. Two are equal if their texts are.
#[derive(Clone)]
pub struct Expression {
    text: String,
    language: Arc<dyn Language>,
}

impl Expression {
    /// Not checked yet.
    pub fn new(text: impl Into<String>, language: Arc<dyn Language>) -> Self {
        Expression { text: text.into(), language }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

/// The expressions of a mapping.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs {
    /// A record is taken if all of these are true of it.
    conditions: Vec<Program>,
    fields: Vec<Program>,
    /// Of each record that was gathered, in order.
    gathered: Vec<Gathered>,
    /// The next of them that is asked for.
    next: usize,
}

/// The number of a field's expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldProgram(usize);

/// Where the values of a record stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    /// In the conditions; none if the record is not wanted anyway, or cannot be read.
    condition_row: Option<usize>,
    /// In the fields; none if it is not wanted, too.
    field_row: Option<usize>,
}

/// One expression, and what it is computed of.
#[derive(Clone, Debug)]
struct Program {
    /// For messages: `amount`, `where[0]`.
    name: String,
    computation: Arc<dyn Computation>,
    slots: Vec<Slot>,
    rows: Rows,
    answers: Answers,
    /// Rows that have something else than what is read, rising.
    misread: Vec<(usize, LineError)>,
    /// Reused for strings with escapes.
    scratch: String,
}

impl Programs {
    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.fields.is_empty()
    }

    pub(super) fn add_condition(
        &mut self,
        place: &str,
        expression: &Expression,
        finder: &mut Finder,
    ) -> Result<(), MappingError> {
        self.conditions.push(Program::new(place, place, expression, Wanted::Boolean, finder)?);
        Ok(())
    }

    pub(super) fn add_field(
        &mut self,
        place: &str,
        name: &str,
        expression: &Expression,
        wanted: Wanted,
        finder: &mut Finder,
    ) -> Result<FieldProgram, MappingError> {
        self.fields.push(Program::new(place, name, expression, wanted, finder)?);
        Ok(FieldProgram(self.fields.len() - 1))
    }

    /// Whether the expression of a field that was just added reads anything.
    pub(super) fn reads(&self, FieldProgram(field): FieldProgram) -> bool {
        !self.fields[field].slots.is_empty()
    }

    /// Forgets the records before.
    pub(super) fn clear(&mut self) {
        self.gathered.clear();
        self.next = 0;
        self.conditions.iter_mut().chain(&mut self.fields).for_each(Program::clear);
    }

    /// Gathers what is read of a record.
    pub(super) fn gather(&mut self, findings: &Findings<'_>) {
        let row = Some(self.fields.first().or(self.conditions.first()).map_or(0, |program| program.rows.count));
        self.conditions.iter_mut().chain(&mut self.fields).for_each(|program| program.gather(findings));
        self.gathered.push(Gathered { condition_row: row, field_row: row });
    }

    /// Makes the place of a record of which nothing is needed.
    pub(super) fn skip(&mut self) {
        self.gathered.push(Gathered::default());
    }

    /// Computes everything for what was gathered.
    pub(super) fn run(&mut self) {
        self.conditions.iter_mut().for_each(Program::run);
        let (mut kept, mut kept_count) = (Vec::with_capacity(self.gathered.len()), 0);
        for gathered in &mut self.gathered {
            let Some(row) = gathered.condition_row else { continue };
            let passes = self.conditions.iter().all(|condition| matches!(condition.holds(row), Ok(true)));
            gathered.field_row = passes.then_some(kept_count);
            kept_count += usize::from(passes);
            kept.push(passes);
        }
        for field in &mut self.fields {
            field.keep(&kept);
            field.run();
        }
    }

    /// The next record that was gathered; none if there is no other.
    pub(super) fn take_next(&mut self) -> Option<Gathered> {
        let gathered = self.gathered.get(self.next).copied();
        self.next += usize::from(gathered.is_some());
        gathered
    }

    /// Leaves no record to be asked for; what was computed stays until the next is gathered.
    pub(super) fn forget(&mut self) {
        self.gathered.clear();
    }

    /// Whether all conditions are true of a record.
    pub(super) fn hold(&self, gathered: Gathered) -> Result<bool, LineError> {
        let Some(row) = gathered.condition_row else { return Ok(self.conditions.is_empty()) };
        for condition in &self.conditions {
            if !condition.holds(row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a field's expression gives of a record; `None` for NULL.
    pub(super) fn value(
        &self,
        FieldProgram(field): FieldProgram,
        gathered: Gathered,
    ) -> Result<Option<&str>, LineError> {
        match gathered.field_row {
            Some(row) => self.fields[field].value(row),
            None => Ok(None),
        }
    }
}

impl Program {
    fn new(
        place: &str,
        name: &str,
        expression: &Expression,
        wanted: Wanted,
        finder: &mut Finder,
    ) -> Result<Program, MappingError> {
        let compiled = expression.language.compile(&expression.text, wanted);
        let computation = compiled.map_err(|error| refused(place, error))?;
        let slots = computation.inputs().iter().map(|input| {
            let path = super::check::parse_path(place, &input.path)?;
            Ok(finder.want(&path))
        });
        Ok(Program {
            name: name.to_owned(),
            slots: slots.collect::<Result<_, MappingError>>()?,
            rows: Rows::of(computation.inputs()),
            answers: Answers::default(),
            misread: Vec::new(),
            scratch: String::new(),
            computation,
        })
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.answers.clear();
        self.misread.clear();
    }

    fn gather(&mut self, findings: &Findings<'_>) {
        let Program { rows, computation, scratch, name, misread, .. } = self;
        for ((column, slot), input) in rows.columns.iter_mut().zip(&self.slots).zip(computation.inputs()) {
            let found = findings.get(*slot).filter(|found| found.kind != Kind::Null);
            let Some(found) = found else {
                column.push_null();
                continue;
            };
            if let Err(error) = read(found, column, scratch, name, &input.path) {
                column.push_null();
                if misread.last().is_none_or(|(row, _)| *row != rows.count) {
                    misread.push((rows.count, error));
                }
            }
        }
        rows.count += 1;
    }

    fn run(&mut self) {
        if self.rows.count > 0 {
            self.computation.compute(&self.rows, &mut self.answers);
        }
    }

    /// Drops the rows that are not wanted.
    fn keep(&mut self, kept: &[bool]) {
        if kept.iter().all(|kept| *kept) {
            return;
        }
        self.rows.keep(kept);
        self.misread.retain(|(row, _)| kept[*row]);
        let (mut counted, mut kept_before) = (0, 0);
        for (row, _) in &mut self.misread {
            kept_before += kept[counted..*row].iter().filter(|kept| **kept).count();
            counted = *row;
            *row = kept_before;
        }
    }

    fn value(&self, row: usize) -> Result<Option<&str>, LineError> {
        if let Ok(at) = self.misread.binary_search_by_key(&row, |(row, _)| *row) {
            return Err(self.misread[at].1.clone());
        }
        match self.answers.get(row) {
            Answer::Null => Ok(None),
            Answer::Value(value) => Ok(Some(value)),
            Answer::Refused(why) => {
                let error = LineError::new(LineErrorKind::Value, format!("`{}`: {why}", self.name));
                Err(error.suggest("leave such records out with `where`, or say with CASE what they give"))
            }
        }
    }

    fn holds(&self, row: usize) -> Result<bool, LineError> {
        Ok(self.value(row)? == Some("true"))
    }
}

fn refused(place: &str, error: ExpressionError) -> MappingError {
    let ExpressionError { message, column, suggestion } = error;
    MappingError { place: place.to_owned(), message, column, suggestion }
}

/// Appends a value as what it is read, by the rules of `type`; a list or an object is text as it is written.
fn read(found: Found<'_>, column: &mut Column, scratch: &mut String, name: &str, path: &str) -> Result<(), LineError> {
    let refuse =
        |text: &str, noun: &str| mistyped(format!("`{name}`: `{path}` is `{}`, not {noun}", shown(text)), found);
    match column {
        Column::Texts { .. } => match found.kind {
            Kind::String => column.push_text(Json::new(found.text, 0).string(scratch)?),
            _ => column.push_text(found.text),
        },
        Column::Numbers(values) => {
            let text = match found.kind {
                Kind::String => Json::new(found.text, 0).string(scratch)?,
                Kind::Bool => {
                    if found.text == "true" {
                        "1"
                    } else {
                        "0"
                    }
                }
                _ => found.text,
            };
            if !is_number(text) {
                let error = refuse(text, "a number");
                return Err(error.suggest(format!("say what becomes of it, as in try_cast({path} AS decimal)")));
            }
            values.push(Some(number::scaled(text).map_err(|unfit| {
                let what = match unfit {
                    Unfit::BehindPoint => "18 digits behind",
                    Unfit::BeforePoint => "20 digits before",
                };
                let message = format!("`{name}`: `{path}` is `{}`, with more than {what} the point", shown(text));
                let error = LineError { kind: LineErrorKind::Value, ..mistyped(message, found) };
                error.suggest(format!("write {path}::double for a float"))
            })?));
        }
        Column::Booleans(values) => {
            let text = match found.kind {
                Kind::String => Json::new(found.text, 0).string(scratch)?,
                _ => found.text,
            };
            let Some(value) = to_boolean(text) else { return Err(refuse(text, "true or false")) };
            values.push(Some(value));
        }
    }
    Ok(())
}
