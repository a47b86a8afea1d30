//! What is declared: the tags and their types, the facts and their columns, the vector spaces, the sources and the sinks.
//!
//! A catalog is a value: a change makes a new one, and a snapshot holds the one it was published with.

pub mod fact;
pub mod sink;
pub mod source;
pub mod space;
pub mod zone;

pub use fact::{AUDIENCE_CHANGES, Activity, Column, ColumnType, DEAD_LETTERS, Fact};
pub use sink::Sink;
pub use source::{Source, Wanted};
pub use space::{Metric, Space, VectorError};
pub use zone::Zone;

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

/// The declared tags, facts, vector spaces, sources and sinks by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    tags: BTreeMap<String, Tag>,
    /// Also the engine's own.
    facts: BTreeMap<String, Fact>,
    spaces: BTreeMap<String, Space>,
    sources: BTreeMap<String, Source>,
    sinks: BTreeMap<String, Sink>,
    next_id: TagId,
}

/// Why a catalog change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The name cannot be written as an SQL identifier or is taken.
    #[error("name `{name}`: {why}")]
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
    /// What is said of a fact cannot be, or cannot become of what it is.
    #[error("fact `{fact}`: {why}")]
    Fact {
        /// The fact.
        fact: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// What is said of a vector space cannot be, or cannot become of what it is.
    #[error("space `{space}`: {why}")]
    Space {
        /// The space.
        space: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog::from_parts([], [], [], [], TagId::FIRST_DECLARED)
    }
}

impl Catalog {
    /// The tag of this name.
    pub fn tag(&self, name: &str) -> Option<&Tag> {
        self.tags.get(name)
    }

    /// The name of a tag, fact or vector space; cost is linear in their number.
    pub fn name_of(&self, id: TagId) -> Option<&str> {
        let (tags, facts) = (self.tags(), self.facts());
        let names = tags.map(|(name, tag)| (name, tag.id)).chain(facts.map(|(name, fact)| (name, fact.id)));
        let mut names = names.chain(self.spaces().map(|(name, space)| (name, space.id)));
        names.find(|(_, known)| *known == id).map(|(name, _)| name)
    }

    /// All tags, by name.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &Tag)> {
        self.tags.iter().map(|(name, tag)| (name.as_str(), tag))
    }

    /// The fact of this name.
    pub fn fact(&self, name: &str) -> Option<&Fact> {
        self.facts.get(name)
    }

    /// The fact of this number; cost is linear in the number of facts.
    pub fn fact_of(&self, id: TagId) -> Option<&Fact> {
        self.facts.values().find(|fact| fact.id == id)
    }

    /// All facts, by name; also [`DEAD_LETTERS`] and [`AUDIENCE_CHANGES`], which are always there.
    pub fn facts(&self) -> impl ExactSizeIterator<Item = (&str, &Fact)> {
        self.facts.iter().map(|(name, fact)| (name.as_str(), fact))
    }

    /// The facts that were declared, by name.
    pub fn declared_facts(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.facts().filter(|(_, fact)| fact.id >= TagId::FIRST_DECLARED)
    }

    /// The declared fact of this name.
    pub fn declared_fact(&self, name: &str) -> Option<&Fact> {
        self.fact(name).filter(|fact| fact.id >= TagId::FIRST_DECLARED)
    }

    /// The vector space of this name.
    pub fn space(&self, name: &str) -> Option<&Space> {
        self.spaces.get(name)
    }

    /// All vector spaces, by name.
    pub fn spaces(&self) -> impl ExactSizeIterator<Item = (&str, &Space)> {
        self.spaces.iter().map(|(name, space)| (name.as_str(), space))
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.get(name)
    }

    /// All sources, by name.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = (&str, &Source)> {
        self.sources.iter().map(|(name, source)| (name.as_str(), source))
    }

    /// The sink of this name.
    pub fn sink(&self, name: &str) -> Option<&Sink> {
        self.sinks.get(name)
    }

    /// All sinks, by name.
    pub fn sinks(&self) -> impl ExactSizeIterator<Item = (&str, &Sink)> {
        self.sinks.iter().map(|(name, sink)| (name.as_str(), sink))
    }

    /// The number the next new tag, fact, vector space or sink will get.
    pub fn next_id(&self) -> TagId {
        self.next_id
    }

    /// How many tags, facts, vector spaces and sinks were dropped since there is a catalog: ids that were given and are of nothing
    /// any more. What was written when the number was the same is still there.
    pub fn dropped_count(&self) -> u32 {
        let declared = self.tags.len() + self.declared_facts().count() + self.spaces.len() + self.sinks.len();
        let given = self.next_id.0.saturating_sub(TagId::FIRST_DECLARED.0);
        given.saturating_sub(declared as u32)
    }

    fn new_id(&mut self) -> TagId {
        let id = self.next_id;
        self.next_id = TagId(id.0 + 1);
        id
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
        let id = self.new_id();
        self.tags.insert(name.to_owned(), Tag { id, tag_type });
        Ok(id)
    }

    /// Forgets a tag. Its postings go with the next compaction; its id is never given again.
    pub fn drop_tag(&mut self, name: &str) -> Option<Tag> {
        self.tags.remove(name)
    }

    /// Declares a fact, or changes what may be changed of one: columns are added at the end; retention and
    /// the window of event ids are what they are said to be now. The id in `wanted` does not matter. Answers the fact's id.
    ///
    /// # Errors
    /// [`CatalogError`] if the declaration cannot be, or would change what stored events mean.
    pub fn declare_fact(&mut self, name: &str, wanted: Fact) -> Result<TagId, CatalogError> {
        let refuse = |why: String| CatalogError::Fact { fact: name.to_owned(), why };
        fact::check(&wanted).map_err(refuse)?;
        if fact::TABLES.contains(&name) {
            return Err(refuse("this name is a table of Beluga's own; choose another".to_owned()));
        }
        if let Some(known) = self.facts.get_mut(name) {
            let changed = fact::change(known, wanted).map_err(refuse)?;
            let id = changed.id;
            *known = changed;
            return Ok(id);
        }
        check_name(name)?;
        let id = self.new_id();
        self.facts.insert(name.to_owned(), Fact { id, ..wanted });
        Ok(id)
    }

    /// Forgets a fact. Its activity goes with the next compaction; its id is never given again.
    pub fn drop_fact(&mut self, name: &str) -> Option<Fact> {
        self.declared_fact(name)?;
        self.facts.remove(name)
    }

    /// Declares a vector space; declaring it again as it is changes nothing. Answers its id.
    ///
    /// # Errors
    /// [`CatalogError`] if the name or the dimension is not usable, or the space is another one.
    pub fn declare_space(&mut self, name: &str, dimension: u16, metric: Metric) -> Result<TagId, CatalogError> {
        let refuse = |why: String| Err(CatalogError::Space { space: name.to_owned(), why });
        if let Some(known) = self.spaces.get(name) {
            if (known.dimension, known.metric) == (dimension, metric) {
                return Ok(known.id);
            }
            return refuse(format!(
                "it has dimension {} and metric {}, which cannot change: declare a new space and load it",
                known.dimension,
                known.metric.name()
            ));
        }
        check_name(name)?;
        let (least, most) = (space::DIMENSIONS.start(), space::DIMENSIONS.end());
        if !space::DIMENSIONS.contains(&dimension) {
            return refuse(format!("dimension {dimension} is not one of {least} to {most}"));
        }
        let id = self.new_id();
        self.spaces.insert(name.to_owned(), Space { id, dimension, metric });
        Ok(id)
    }

    /// Forgets a vector space. Its vectors go with the next compaction; its id is never given again.
    pub fn drop_space(&mut self, name: &str) -> Option<Space> {
        self.spaces.remove(name)
    }

    /// Declares a source, or gives one another definition; what it is to do stays. Whether that changes anything.
    ///
    /// # Errors
    /// [`CatalogError::Name`].
    pub fn declare_source(&mut self, name: &str, definition: String) -> Result<bool, CatalogError> {
        check_name(name)?;
        let wanted = match self.sources.get(name) {
            Some(known) if known.definition == definition => return Ok(false),
            known => known.map_or(Wanted::default(), |known| known.wanted),
        };
        self.sources.insert(name.to_owned(), Source { definition, wanted });
        Ok(true)
    }

    /// Says what a source is to do; false if there is no such source.
    pub fn set_wanted(&mut self, name: &str, wanted: Wanted) -> bool {
        let source = self.sources.get_mut(name);
        source.map(|source| source.wanted = wanted).is_some()
    }

    /// Forgets a source, and where it was.
    pub fn drop_source(&mut self, name: &str) -> Option<Source> {
        self.sources.remove(name)
    }

    /// Declares a sink, or gives one another definition; its life, and what it is to do, stay. Whether that changes anything.
    ///
    /// # Errors
    /// [`CatalogError::Name`].
    pub fn declare_sink(&mut self, name: &str, definition: String) -> Result<bool, CatalogError> {
        check_name(name)?;
        if let Some(known) = self.sinks.get_mut(name) {
            let is_other = known.definition != definition;
            known.definition = definition;
            return Ok(is_other);
        }
        let life = self.new_id();
        self.sinks.insert(name.to_owned(), Sink { definition, life, wanted: Wanted::default() });
        Ok(true)
    }

    /// Says what a sink is to do; false if there is no such sink.
    pub fn set_sink_wanted(&mut self, name: &str, wanted: Wanted) -> bool {
        let sink = self.sinks.get_mut(name);
        sink.map(|sink| sink.wanted = wanted).is_some()
    }

    /// Forgets a sink.
    pub fn drop_sink(&mut self, name: &str) -> Option<Sink> {
        self.sinks.remove(name)
    }

    /// Puts a catalog without vector spaces together again from what [`Catalog::tags`], [`Catalog::declared_facts`],
    /// [`Catalog::sources`], [`Catalog::sinks`] and [`Catalog::next_id`] told.
    pub fn from_parts(
        tags: impl IntoIterator<Item = (String, Tag)>,
        facts: impl IntoIterator<Item = (String, Fact)>,
        sources: impl IntoIterator<Item = (String, Source)>,
        sinks: impl IntoIterator<Item = (String, Sink)>,
        next_id: TagId,
    ) -> Catalog {
        let own = [(DEAD_LETTERS, fact::dead_letters()), (AUDIENCE_CHANGES, fact::audience_changes())];
        let own = own.map(|(name, fact)| (name.to_owned(), fact));
        Catalog {
            tags: tags.into_iter().collect(),
            facts: facts.into_iter().chain(own).collect(),
            spaces: BTreeMap::new(),
            sources: sources.into_iter().collect(),
            sinks: sinks.into_iter().collect(),
            next_id,
        }
    }

    /// The tags, facts and vector spaces whose names are kept, without the engine's own facts, sources and sinks: for one who is to
    /// know of a part only. Not to be stored.
    pub fn part(
        &self,
        keeps_tag: impl Fn(&str) -> bool,
        keeps_fact: impl Fn(&str) -> bool,
        keeps_space: impl Fn(&str) -> bool,
    ) -> Catalog {
        fn kept<T: Clone>(all: &BTreeMap<String, T>, keeps: impl Fn(&str) -> bool) -> BTreeMap<String, T> {
            let kept = all.iter().filter(|(name, _)| keeps(name));
            kept.map(|(name, of)| (name.clone(), of.clone())).collect()
        }
        let is_declared = |name: &str| name != DEAD_LETTERS && name != AUDIENCE_CHANGES;
        let mut part = Catalog {
            tags: kept(&self.tags, keeps_tag),
            facts: kept(&self.facts, |name| is_declared(name) && keeps_fact(name)),
            spaces: kept(&self.spaces, keeps_space),
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            next_id: self.next_id,
        };
        // What is left out was not dropped.
        part.next_id.0 -= part.dropped_count() - self.dropped_count();
        part
    }

    /// The catalog with what [`Catalog::spaces`] told in the place of its vector spaces.
    pub fn with_spaces(mut self, spaces: impl IntoIterator<Item = (String, Space)>) -> Catalog {
        self.spaces = spaces.into_iter().collect();
        self
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

/// Whether a tag, fact or column can have this name: it stands in an expression as it is, without quotes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_counted_and_what_is_declared_does_not_matter() {
        let mut catalog = Catalog::default();
        catalog.declare("a", TagType::Flag).expect("a good name");
        catalog.declare_space("b", 2, Metric::Dot).expect("a good name");
        catalog.declare_sink("c", "{}".to_owned()).expect("a good name");
        catalog.declare_source("d", "{}".to_owned()).expect("a good name");
        assert_eq!(catalog.dropped_count(), 0);
        catalog.drop_tag("a");
        catalog.drop_source("d");
        assert_eq!(catalog.dropped_count(), 1);
        catalog.declare("a", TagType::Flag).expect("a good name");
        assert_eq!(catalog.dropped_count(), 1);
        catalog.drop_space("b");
        catalog.drop_sink("c");
        assert_eq!(catalog.dropped_count(), 3);
    }
}
