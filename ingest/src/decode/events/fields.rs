//! Which column of a source is which field of an event.
//!
//! A line of JSON names its fields as it goes; a table has a name for each column before its first row. Both may call
//! things otherwise than the fact does, which a [`FieldNames`] puts right.

use engine::audience::suggest::closest;
use engine::catalog::Fact;
use std::collections::{BTreeMap, HashMap};

pub(super) const USER_ID: usize = 0;
pub(super) const TS: usize = 1;
pub(super) const EVENT_ID: usize = 2;
pub(super) const RETRACT: usize = 3;
/// The field of the first column. Behind the columns stand the fields that are left out.
pub(super) const COLUMNS: usize = 4;

/// The fields before the columns.
pub(super) const HEAD: [&str; COLUMNS] = ["user_id", "ts", "event_id", "retract"];

/// What the columns of a source are in a fact. A column that is not named here is what its own name says, or, if that
/// says nothing to the fact or means another column now, an undeclared field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldNames {
    fields: BTreeMap<String, Option<String>>,
}

impl FieldNames {
    /// By column of the source: `user_id`, `ts`, `event_id`, `retract` or a column of the fact; `None` leaves it out.
    pub fn new(fields: BTreeMap<String, Option<String>>) -> Self {
        FieldNames { fields }
    }
}

/// Why the columns of a source cannot be events of a fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}`: {what}; {suggestion}")]
pub struct BindError {
    /// The column, by its name in the source.
    pub column: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do instead.
    pub suggestion: String,
}

impl BindError {
    pub(super) fn new(column: &str, what: impl Into<String>, suggestion: impl Into<String>) -> BindError {
        BindError { column: column.to_owned(), what: what.into(), suggestion: suggestion.into() }
    }
}

/// The fields of an event by their names in the source.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// By field.
    pub(super) names: Vec<String>,
    by_name: HashMap<String, usize>,
    column_count: usize,
}

impl Fields {
    /// Under the fact's own names.
    pub(super) fn of(fact: &Fact) -> Fields {
        let columns = fact.columns.iter().map(|column| column.name.as_str());
        let names: Vec<String> = HEAD.into_iter().chain(columns).map(str::to_owned).collect();
        let knows_ids = fact.deduplicate_days.is_some();
        let is_field = |field: &usize| knows_ids || !(EVENT_ID..COLUMNS).contains(field);
        let by_name = (0..names.len()).filter(is_field).map(|field| (names[field].clone(), field)).collect();
        Fields { names, by_name, column_count: fact.columns.len() }
    }

    /// Under the names of a mapping.
    pub(super) fn mapped(fact: &Fact, mapping: &FieldNames) -> Result<Fields, BindError> {
        let own = Fields::of(fact);
        let mut fields = own.clone();
        for (column, target) in &mapping.fields {
            fields.by_name.remove(column);
            if let Some(target) = target {
                own.check_target(column, target)?;
                fields.by_name.remove(target);
            }
        }
        for (column, target) in &mapping.fields {
            let field = match target {
                Some(target) => own.by_name[target],
                None => {
                    fields.names.push(String::new());
                    fields.names.len() - 1
                }
            };
            if let Some(other) = fields.by_name.iter().find(|(_, known)| **known == field) {
                let what = format!("it is mapped to `{}`, and so is `{}`", own.names[field], other.0);
                return Err(BindError::new(column, what, "map one of them to something else"));
            }
            fields.names[field].clone_from(column);
            fields.by_name.insert(column.clone(), field);
        }
        Ok(fields)
    }

    fn check_target(&self, column: &str, target: &str) -> Result<(), BindError> {
        if self.by_name.contains_key(target) {
            return Ok(());
        }
        if HEAD.contains(&target) {
            let what = format!("it is mapped to `{target}`, but the fact knows no events by their ids");
            return Err(BindError::new(column, what, "declare `deduplicate`, or map the column to something else"));
        }
        let what = format!("it is mapped to `{target}`, which the fact does not have");
        let suggestion = match closest(target, self.by_name.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "leave the mapping out to keep it as an undeclared field".to_owned(),
        };
        Err(BindError::new(column, what, suggestion))
    }

    /// The field of a name; `None` if it is undeclared.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn is_left_out(&self, field: usize) -> bool {
        field >= COLUMNS + self.column_count
    }
}

/// Where the fields of an event stand among the columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) user_id: usize,
    pub(super) ts: usize,
    pub(super) event_id: Option<usize>,
    pub(super) retract: Option<usize>,
    /// By column of the fact; those that the table does not have are NULL.
    pub(super) columns: Vec<Option<usize>>,
    /// Columns that are kept though the fact does not declare them.
    pub(super) undeclared: Vec<usize>,
}

impl Places {
    pub(super) fn of(fields: &Fields, mapping: &FieldNames, columns: &[&str]) -> Result<Places, BindError> {
        for (place, name) in columns.iter().enumerate() {
            if columns[..place].contains(name) {
                return Err(BindError::new(name, "there are two columns of this name", "give one another name"));
            }
        }
        for (column, field) in &mapping.fields {
            // What is left out may as well be absent.
            if field.is_some() && !columns.contains(&column.as_str()) {
                return Err(missing(column, "there is no such column", columns));
            }
        }
        let mut by_field = vec![None; COLUMNS + fields.column_count];
        let mut undeclared = Vec::new();
        for (place, name) in columns.iter().enumerate() {
            match fields.get(name) {
                Some(field) if fields.is_left_out(field) => {}
                Some(field) => by_field[field] = Some(place),
                None => undeclared.push(place),
            }
        }
        let needed = |field: usize, what| by_field[field].ok_or_else(|| missing(&fields.names[field], what, columns));
        Ok(Places {
            user_id: needed(USER_ID, "it is missing; every event has a user")?,
            ts: needed(TS, "it is missing; every event has a time")?,
            event_id: by_field[EVENT_ID],
            retract: by_field[RETRACT],
            columns: by_field.split_off(COLUMNS),
            undeclared,
        })
    }
}

fn missing(column: &str, what: &str, columns: &[&str]) -> BindError {
    /// Names of columns in a message.
    const SHOWN_MAX: usize = 20;
    let others = columns.iter().copied().filter(|other| *other != column);
    let suggestion = match closest(column, others) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let more = if columns.len() > SHOWN_MAX { ", …" } else { "" };
            format!("the columns are {}{more}", columns[..columns.len().min(SHOWN_MAX)].join(", "))
        }
    };
    BindError::new(column, what, suggestion)
}
