//! Values computed from a record: the seam between who reads records and who knows a language of expressions.
//!
//! A [`Language`] checks a text once and makes a [`Computation`] of it. That says which fields of a record it reads, and how
//! ([`Input`]); who reads records fills [`Rows`] with them, many records at a time, and gets [`Answers`].
//!
//! Of one row the answer is always the same, whatever rows stand beside it: so a replay gives what was, and an error of one
//! record is of that record alone.

use std::fmt;
use std::sync::Arc;

/// Digits behind the point of a number in [`Column::Numbers`].
pub const NUMBER_SCALE: u8 = 18;

/// Digits of such a number in all.
pub const NUMBER_DIGITS: u32 = 38;

/// Bytes of an answer, at most: what is longer is in no line.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Checks expressions and makes them ready.
pub trait Language: fmt::Debug + Send + Sync {
    /// Makes an expression ready. This is slow (about a millisecond), computing is not.
    ///
    /// # Errors
    /// [`ExpressionError`] if it is none, or does not give what is wanted.
    fn compile(&self, text: &str, wanted: Wanted) -> Result<Arc<dyn Computation>, ExpressionError>;
}

/// An expression that was checked.
pub trait Computation: fmt::Debug + Send + Sync {
    /// What it reads of a record, each once.
    fn inputs(&self) -> &[Input];

    /// Appends the answer for each of the rows, whose columns are the inputs in order.
    fn compute(&self, rows: &Rows, answers: &mut Answers);
}

/// What an expression is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A text.
    Text,
    /// A text or a list of them.
    Texts,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time: a timestamp, a date, its text, or milliseconds since 1970.
    Time,
    /// A text or a number that names something.
    Id,
    /// Whatever it is.
    Any,
}

/// A field that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it stands, in the words of the one who reads records.
    pub path: String,
    /// As what it is read.
    pub reading: Reading,
}

/// As what a field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// Text; a number, true and false as they are written.
    Text,
    /// A number, exactly.
    Number,
    /// True or false.
    Boolean,
}

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// What is wrong, in a sentence.
    pub message: String,
    /// Character of the text, from 1, if it concerns one place.
    pub column: Option<usize>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

/// What was read of some records: a column for each input, a value of each for each row.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// How many rows; needed where there is no column.
    pub count: usize,
    /// By input.
    pub columns: Vec<Column>,
}

/// The values of one input, row by row.
#[derive(Clone, Debug)]
pub enum Column {
    /// Texts, one behind the other.
    Texts {
        /// All of them.
        bytes: String,
        /// Where each ends.
        ends: Vec<usize>,
        /// Whether there is one.
        valid: Vec<bool>,
    },
    /// Numbers, in units of `10^-`[`NUMBER_SCALE`], below `10^`[`NUMBER_DIGITS`] of them; `None` for none.
    Numbers(Vec<Option<i128>>),
    /// `None` for none.
    Booleans(Vec<Option<bool>>),
}

/// What came out, row by row. Buffers are used again.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    text: String,
    ends: Vec<(Kind, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Value,
    Refused,
}

/// What came out of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Nothing.
    Null,
    /// A value, as a line that our decoders read has it: text in double quotes, numbers, `true`, lists in brackets.
    Value(&'a str),
    /// It cannot be computed; why.
    Refused(&'a str),
}

impl ExpressionError {
    /// Without a place or a suggestion.
    pub fn new(message: impl Into<String>) -> Self {
        ExpressionError { message: message.into(), column: None, suggestion: None }
    }

    /// With what to write instead.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(column) = self.column {
            write!(f, " (column {column})")?;
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ExpressionError {}

impl Rows {
    /// Without rows, for these inputs.
    pub fn of(inputs: &[Input]) -> Rows {
        Rows { count: 0, columns: inputs.iter().map(|input| Column::of(input.reading)).collect() }
    }

    /// Takes the rows out and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.columns.iter_mut().for_each(Column::clear);
    }

    /// Drops the rows that are not to be kept.
    ///
    /// # Panics
    /// If `kept` does not say it of each row.
    pub fn keep(&mut self, kept: &[bool]) {
        assert_eq!(kept.len(), self.count, "it is said of each row");
        self.count = kept.iter().filter(|kept| **kept).count();
        self.columns.iter_mut().for_each(|column| column.keep(kept));
    }
}

impl Column {
    /// Without values.
    pub fn of(reading: Reading) -> Column {
        match reading {
            Reading::Text => Column::Texts { bytes: String::new(), ends: Vec::new(), valid: Vec::new() },
            Reading::Number => Column::Numbers(Vec::new()),
            Reading::Boolean => Column::Booleans(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Column::Texts { bytes, ends, valid } => {
                bytes.clear();
                ends.clear();
                valid.clear();
            }
            Column::Numbers(values) => values.clear(),
            Column::Booleans(values) => values.clear(),
        }
    }

    fn keep(&mut self, kept: &[bool]) {
        match self {
            Column::Texts { bytes, ends, valid } => {
                let mut texts = String::with_capacity(bytes.len());
                let (mut begin, mut row) = (0, 0);
                ends.retain_mut(|end| {
                    let text = begin..*end;
                    (begin, row) = (*end, row + 1);
                    if kept[row - 1] {
                        texts.push_str(&bytes[text]);
                        *end = texts.len();
                    }
                    kept[row - 1]
                });
                *bytes = texts;
                keep(valid, kept);
            }
            Column::Numbers(values) => keep(values, kept),
            Column::Booleans(values) => keep(values, kept),
        }
    }

    /// Appends a missing value.
    pub fn push_null(&mut self) {
        match self {
            Column::Texts { bytes, ends, valid } => {
                ends.push(bytes.len());
                valid.push(false);
            }
            Column::Numbers(values) => values.push(None),
            Column::Booleans(values) => values.push(None),
        }
    }

    /// Appends a text to a column of texts.
    ///
    /// # Panics
    /// If it is another column.
    pub fn push_text(&mut self, text: &str) {
        let Column::Texts { bytes, ends, valid } = self else { panic!("a text for a column of texts") };
        bytes.push_str(text);
        ends.push(bytes.len());
        valid.push(true);
    }
}

fn keep<T>(values: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| kept.next().is_some_and(|kept| *kept));
}

impl Answers {
    /// Takes the answers out and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes back those behind the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().map_or(0, |(_, end)| *end));
    }

    /// Appends nothing.
    pub fn push_null(&mut self) {
        self.ends.push((Kind::Null, self.text.len()));
    }

    /// Appends a value that `write` writes.
    ///
    /// # Errors
    /// That of `write`; then nothing is appended.
    pub fn push_value<E>(&mut self, write: impl FnOnce(&mut String) -> Result<(), E>) -> Result<(), E> {
        let begin = self.text.len();
        let written = write(&mut self.text);
        match &written {
            Ok(()) => self.ends.push((Kind::Value, self.text.len())),
            Err(_) => self.text.truncate(begin),
        }
        written
    }

    /// Appends why there is no answer.
    pub fn push_refused(&mut self, why: &str) {
        self.text.push_str(why);
        self.ends.push((Kind::Refused, self.text.len()));
    }

    /// The answer of a row.
    ///
    /// # Panics
    /// If it was not computed.
    pub fn get(&self, row: usize) -> Answer<'_> {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (kind, end) = self.ends[row];
        let text = &self.text[begin..end];
        match kind {
            Kind::Null => Answer::Null,
            Kind::Value => Answer::Value(text),
            Kind::Refused => Answer::Refused(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_dropped_from_all_columns() {
        let input = |reading| Input { path: "a".to_owned(), reading };
        let mut rows = Rows::of(&[Reading::Text, Reading::Number, Reading::Boolean].map(input));
        for (text, number) in [(Some("a"), 1), (None, 2), (Some("bcd"), 3), (Some(""), 4), (Some("ef"), 5)] {
            let [texts, Column::Numbers(numbers), Column::Booleans(booleans)] = rows.columns.as_mut_slice() else {
                panic!("columns as they are read")
            };
            match text {
                Some(text) => texts.push_text(text),
                None => texts.push_null(),
            }
            numbers.push(Some(number));
            booleans.push(None);
            rows.count += 1;
        }
        rows.keep(&[false, true, true, false, true]);
        let [Column::Texts { bytes, ends, valid }, Column::Numbers(numbers), Column::Booleans(booleans)] =
            rows.columns.as_slice()
        else {
            panic!("columns as they are read")
        };
        assert_eq!(
            (bytes.as_str(), ends.as_slice(), valid.as_slice()),
            ("bcdef", &[0, 3, 5][..], &[false, true, true][..])
        );
        assert_eq!((numbers.as_slice(), booleans.len(), rows.count), (&[Some(2), Some(3), Some(5)][..], 3, 3));
    }

    #[test]
    fn answers_come_out_as_they_went_in() {
        let mut answers = Answers::default();
        for _ in 0..2 {
            answers.clear();
            answers.push_null();
            answers
                .push_value(|out| {
                    out.push_str("1.5");
                    Ok::<(), ()>(())
                })
                .expect("written");
            let failed = answers.push_value(|out| {
                out.push_str("half");
                Err("no")
            });
            assert_eq!(failed, Err("no"));
            answers.push_refused("why");
            assert_eq!(answers.len(), 3);
            let all: Vec<Answer<'_>> = (0..3).map(|row| answers.get(row)).collect();
            assert_eq!(all, [Answer::Null, Answer::Value("1.5"), Answer::Refused("why")]);
            answers.truncate(1);
            answers.push_refused("other");
            assert_eq!((answers.get(1), answers.len()), (Answer::Refused("other"), 2));
        }
    }
}
