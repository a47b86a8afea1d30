//! Columns into tags, for files and Arrow streams: which column goes into which tag, and what its cells mean.
//!
//! A column fills the tag of its name (or the one that a job says), a row sets the tags of the user in the user column:
//!
//! | tag | Arrow |
//! |---|---|
//! | `set` | text or a list of text or integers; it replaces what the user has |
//! | `enum` | text, integers |
//! | `flag` | booleans; text and integers that say true or false |
//! | `number` | integers, decimals, floats and text of a number, exactly, or the row is refused; times |
//!
//! * `cells`: the values of an Arrow array. This file: the mapping, and text.

mod cells;

pub(crate) use cells::{id_texts, push_columns};

use super::tags::shown;
use super::value::{parse_flag, parse_text};
use engine::catalog::{Catalog, TAG_VALUE_BYTES_MAX, TagType};
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch};

/// What a NULL (an empty CSV cell, a JSON null or a missing key) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NullMeaning {
    /// Nothing: the tag stays as it was.
    #[default]
    Keep,
    /// The user has no such value any more.
    Unset,
}

/// One column into one tag, settled against the catalog.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) column: String,
    pub(crate) tag: TagId,
    pub(crate) tag_type: TagType,
    pub(crate) separator: Option<String>,
    pub(crate) add: bool,
}

/// What to do with each row.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) user_id: String,
    pub(crate) bounds: Vec<Bound>,
    /// Columns that no tag has the name of, where columns are matched by name.
    pub(crate) unmatched: Vec<String>,
    pub(crate) nulls: NullMeaning,
}

impl Plan {
    /// Each of `columns` into the tag of its name; if they are not known yet, all tags from the columns of their names.
    pub(crate) fn by_name(catalog: &Catalog, user_id: &str, columns: Option<&[String]>, nulls: NullMeaning) -> Plan {
        let is_unmatched = |name: &&String| **name != user_id && catalog.tag(name).is_none();
        let unmatched = columns.unwrap_or_default().iter().filter(is_unmatched).cloned().collect();
        let wanted =
            |name: &str| name != user_id && columns.is_none_or(|columns| columns.iter().any(|column| column == name));
        let tags = catalog.tags().filter(|(name, _)| wanted(name));
        let bounds = tags.map(|(name, tag)| {
            let column = name.to_owned();
            Bound { column, tag: tag.id, tag_type: tag.tag_type, separator: None, add: false }
        });
        Plan { user_id: user_id.to_owned(), bounds: bounds.collect(), unmatched, nulls }
    }
}

impl Bound {
    /// A NULL cell.
    pub(crate) fn push_null(&self, nulls: NullMeaning, batch: &mut UpdateBatch) {
        if nulls == NullMeaning::Unset && !self.add {
            batch.push(self.tag, Change::Unset);
        }
    }

    /// Begins the values of a set cell.
    pub(crate) fn begin_set(&self, batch: &mut UpdateBatch) {
        if !self.add {
            batch.push(self.tag, Change::Unset);
        }
    }

    /// One value of a set, or the value of an enum.
    pub(crate) fn push_value(&self, value: &str, batch: &mut UpdateBatch) -> Result<(), String> {
        if value.len() > TAG_VALUE_BYTES_MAX {
            let len = value.len();
            return Err(self.error(format!("a value of {len} bytes; at most {TAG_VALUE_BYTES_MAX} are allowed")));
        }
        let change = if self.tag_type == TagType::Set { Change::Add(value) } else { Change::Enum(value) };
        batch.push(self.tag, change);
        Ok(())
    }

    /// A cell of text that is not NULL.
    pub(crate) fn push_text(&self, text: &str, batch: &mut UpdateBatch) -> Result<(), String> {
        match self.tag_type {
            TagType::Enum => self.push_value(text, batch),
            TagType::Set => {
                self.begin_set(batch);
                match &self.separator {
                    None => self.push_value(text, batch),
                    Some(separator) => {
                        let mut values = text.split(separator.as_str()).filter(|value| !value.is_empty());
                        values.try_for_each(|value| self.push_value(value, batch))
                    }
                }
            }
            TagType::Flag => {
                let flag = parse_flag(text).ok_or_else(|| {
                    self.error(format!(
                        "`{}` is neither true nor false; write true, false, 1, 0, yes or no",
                        shown(text)
                    ))
                })?;
                batch.push(self.tag, Change::Flag(flag));
                Ok(())
            }
            TagType::Number(unit) => {
                let number = parse_text(text.trim(), unit)
                    .map_err(|error| self.error(format!("`{}` {error}; {}", shown(text), error.suggestion())))?;
                batch.push(self.tag, Change::Number(number));
                Ok(())
            }
        }
    }

    /// A refusal that names the column.
    pub(crate) fn error(&self, what: String) -> String {
        format!("column `{}`: {what}", self.column)
    }
}
