//! What is declared: the tags and their types.
//!
//! A catalog is a value: a change makes a new one, and a snapshot holds the one it was published with.

use crate::ids::TagId;
use std::collections::BTreeMap;

/// The longest tag name, in bytes.
pub const TAG_NAME_BYTES_MAX: usize = 128;
/// The longest value of an `enum` or `set` tag, in bytes.
pub const TAG_VALUE_BYTES_MAX: usize = 1024;
/// The largest scale of a decimal number tag: 10^18 still fits 64 bits.
pub const SCALE_MAX: u8 = 18;

/// How a tag's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TagType {
    /// Many values at a time; never NULL, only empty.
    Set,
    /// One value at a time, or NULL.
    Enum,
    /// True or false; never NULL.
    Flag,
    /// A signed 64-bit number, or NULL.
    Number(Unit),
}

/// What the 64 bits of a number tag mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The integer itself.
    Integer,
    /// The number times `10^scale`; `scale` from 1 to [`SCALE_MAX`].
    Decimal {
        /// Digits behind the point.
        scale: u8,
    },
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp,
}

/// A declared tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its number; the key of its postings.
    pub id: TagId,
    /// Its type.
    pub tag_type: TagType,
}

/// The declared tags by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    tags: BTreeMap<String, Tag>,
    next_tag_id: TagId,
}

/// Why a catalog change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The name cannot be written as an SQL identifier or is taken.
    #[error("tag name `{name}`: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// The tag exists with another type.
    #[error(
        "tag `{name}` is declared as {declared}; its type cannot become {wanted}: declare a new tag and backfill it"
    )]
    TypeChange {
        /// The tag.
        name: String,
        /// The type it has.
        declared: String,
        /// The type asked for.
        wanted: String,
    },
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog { tags: BTreeMap::new(), next_tag_id: TagId::FIRST_DECLARED }
    }
}

impl Catalog {
    /// The tag of this name.
    pub fn tag(&self, name: &str) -> Option<&Tag> {
        self.tags.get(name)
    }

    /// The name of a tag; cost is linear in the number of tags.
    pub fn name_of(&self, id: TagId) -> Option<&str> {
        self.tags.iter().find(|(_, tag)| tag.id == id).map(|(name, _)| name.as_str())
    }

    /// All tags, by name.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &Tag)> {
        self.tags.iter().map(|(name, tag)| (name.as_str(), tag))
    }

    /// The number the next new tag will get.
    pub fn next_tag_id(&self) -> TagId {
        self.next_tag_id
    }

    /// Declares a tag; declaring it again with the same type changes nothing. Answers its id.
    ///
    /// # Errors
    /// [`CatalogError`] if the name is not usable or the tag has another type.
    pub fn declare(&mut self, name: &str, tag_type: TagType) -> Result<TagId, CatalogError> {
        if let Some(tag) = self.tags.get(name) {
            if tag.tag_type == tag_type {
                return Ok(tag.id);
            }
            return Err(CatalogError::TypeChange {
                name: name.to_owned(),
                declared: tag.tag_type.to_string(),
                wanted: tag_type.to_string(),
            });
        }
        check_name(name)?;
        let id = self.next_tag_id;
        self.next_tag_id = TagId(id.0 + 1);
        self.tags.insert(name.to_owned(), Tag { id, tag_type });
        Ok(id)
    }

    /// Forgets a tag. Its postings go with the next compaction; its id is never given again.
    pub fn drop_tag(&mut self, name: &str) -> Option<Tag> {
        self.tags.remove(name)
    }

    /// Puts a catalog together again from what [`Catalog::tags`] and [`Catalog::next_tag_id`] told.
    pub fn from_parts(tags: impl IntoIterator<Item = (String, Tag)>, next_tag_id: TagId) -> Catalog {
        Catalog { tags: tags.into_iter().collect(), next_tag_id }
    }
}

/// Names that mean something else in the audience language, or in SQL.
const RESERVED: [&str; 45] = [
    "all",
    "and",
    "any",
    "as",
    "asc",
    "at_least",
    "between",
    "by",
    "case",
    "cast",
    "desc",
    "did",
    "distinct",
    "else",
    "end",
    "exists",
    "false",
    "from",
    "group",
    "having",
    "in",
    "in_audience",
    "interval",
    "is",
    "join",
    "like",
    "limit",
    "not",
    "null",
    "on",
    "or",
    "order",
    "select",
    "similar_to",
    "table",
    "then",
    "true",
    "ts",
    "union",
    "upload",
    "user_id",
    "users",
    "when",
    "where",
    "xor",
];

/// Whether a tag can have this name: it stands in an expression as it is, without quotes.
pub fn is_name(name: &str) -> bool {
    check_name(name).is_ok()
}

fn check_name(name: &str) -> Result<(), CatalogError> {
    let refuse = |why: &str| Err(CatalogError::Name { name: name.to_owned(), why: why.to_owned() });
    if name.is_empty() {
        return refuse("a name cannot be empty");
    }
    if name.len() > TAG_NAME_BYTES_MAX {
        return refuse(&format!("a name has at most {TAG_NAME_BYTES_MAX} bytes"));
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !starts_well || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return refuse("write it with lower-case letters, digits and `_`, beginning with a letter");
    }
    if RESERVED.contains(&name) {
        return refuse("this name is reserved by the audience language; choose another");
    }
    Ok(())
}

impl std::fmt::Display for TagType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TagType::Set => f.write_str("set"),
            TagType::Enum => f.write_str("enum"),
            TagType::Flag => f.write_str("flag"),
            TagType::Number(Unit::Integer) => f.write_str("number"),
            TagType::Number(Unit::Decimal { scale }) => write!(f, "number (scale {scale})"),
            TagType::Number(Unit::Timestamp) => f.write_str("number (timestamp)"),
        }
    }
}
