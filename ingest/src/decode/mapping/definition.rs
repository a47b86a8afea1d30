//! What a mapping says, as its user wrote it: names, paths, expressions and JSON values are text here, and nothing is checked
//! yet.

use super::computed::Expression;

/// A mapping to events of a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactMapping {
    /// By name: `user_id`; `ts`, or none for the record's own time; `event_id` and `retract`, of facts that know events by
    /// their ids; columns.
    pub fields: Vec<(String, MappedField)>,
    /// Whether the record's other fields stay in the line: those of its outermost object that no path here names as a
    /// whole and whose name is not mapped. One that is named like a column goes there, any other is kept undeclared.
    pub keep_others: bool,
    /// What must hold of a record.
    pub conditions: Vec<Condition>,
}

/// A mapping to changes of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagMapping {
    /// Whose tags; needed.
    pub user_id: Option<MappedField>,
    /// Tags that get a value.
    pub set: Vec<(String, MappedField)>,
    /// Tags of type set that get further values.
    pub add: Vec<(String, MappedField)>,
    /// Tags of type set that lose values.
    pub remove: Vec<(String, MappedField)>,
    /// Tags that every record unsets.
    pub unset: Vec<String>,
    /// Whether a tag in `set` whose field is missing or null is unset; else it stays as it is.
    pub unset_nulls: bool,
    /// What must hold of a record.
    pub conditions: Vec<Condition>,
}

/// Where a value comes from and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedField {
    /// Where it comes from.
    pub value: FieldValue,
    /// JSON to write, as it is, when the field is missing or null.
    pub default: Option<String>,
    /// What it is turned into; `None`: it is copied as written.
    pub cast: Option<Cast>,
    /// What a number counts since 1970, where a time goes; `None`: milliseconds.
    pub unit: Option<TimeUnit>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// The field at a path.
    Path(String),
    /// The same for all records: JSON, written as it is.
    Constant(String),
    /// What an expression gives; NULL is a missing field.
    Computed(Expression),
}

/// What a value is turned into, exactly or not at all. Of a list, each item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cast {
    /// Numbers (as written), true and false to text.
    String,
    /// Text of a number as JSON writes it; true is 1, false is 0.
    Number,
    /// The texts `true` and `false` in any case, `1`, `0`, and the numbers 1 and 0.
    Boolean,
}

/// What a number counts since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    /// Seconds, which may have a fraction.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
}

/// What must hold of a record to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A test of one field.
    Field {
        /// Where it stands.
        path: String,
        /// What must hold of it.
        test: Test,
    },
    /// An expression, which must be true.
    Computed(Expression),
}

/// What must hold of a field. Values are JSON: strings, numbers, true or false.
///
/// Values of different kinds are not equal; numbers are compared as numbers, however they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this value.
    Equals(String),
    /// It is another value, or missing or null.
    NotEquals(String),
    /// It is one of these values.
    In(Vec<String>),
    /// It is none of these values; it may be missing or null.
    NotIn(Vec<String>),
    /// Whether the record has it, be it null.
    Exists(bool),
    /// Whether it is missing or null.
    IsNull(bool),
    /// How it compares with a number, or with a string (by code points, so RFC 3339 times of one offset and precision
    /// compare as times). It does not hold of a missing field or null; another kind of value is an error.
    Compare(Comparison, String),
}

/// How values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl MappedField {
    /// The field at a path, as it is.
    pub fn path(path: impl Into<String>) -> Self {
        MappedField { value: FieldValue::Path(path.into()), default: None, cast: None, unit: None }
    }

    /// What an expression gives.
    pub fn computed(expression: Expression) -> Self {
        MappedField { value: FieldValue::Computed(expression), default: None, cast: None, unit: None }
    }

    /// The same JSON for all records.
    pub fn constant(json: impl Into<String>) -> Self {
        MappedField { value: FieldValue::Constant(json.into()), default: None, cast: None, unit: None }
    }
}

impl Cast {
    /// Its name, as `type` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Cast::String => "string",
            Cast::Number => "number",
            Cast::Boolean => "boolean",
        }
    }
}
