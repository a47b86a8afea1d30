//! The values of a tag, and the leaf of each: what profiles, groups and distinct values are counted by.

use super::{QueryContext, QueryError};
use crate::audience::plan::{exclusive, value_layers};
use crate::bitmap::program::Layer;
use crate::catalog::TagType;
use crate::error::ReadError;
use crate::ids::TagId;
use crate::segment::Part;
use crate::store::{ShardSnapshot, Snapshot};
use std::collections::BTreeSet;

/// The values of an `enum`, `flag` or `set` tag in a snapshot; a flag has none, only users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagValues {
    tag: TagId,
    tag_type: TagType,
    values: Vec<Box<[u8]>>,
}

impl TagValues {
    /// Reads the key directories of all shards.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] if there is no such tag, or it is a number.
    pub fn new(snapshot: &Snapshot, tag: TagId) -> Result<TagValues, QueryError> {
        let all = TagValues::at_most(snapshot, tag, usize::MAX, &QueryContext::default())?;
        all.ok_or(QueryError::Cancelled)
    }

    /// The same, or `None` if there are more values than `max` in a layer of a shard, or altogether.
    ///
    /// # Errors
    /// As [`TagValues::new`], and [`QueryError::Cancelled`].
    pub fn at_most(
        snapshot: &Snapshot,
        tag: TagId,
        max: usize,
        context: &QueryContext,
    ) -> Result<Option<TagValues>, QueryError> {
        let tag_type = match snapshot.catalog().tags().find(|(_, known)| known.id == tag) {
            Some((_, known)) => known.tag_type,
            None => return Err(QueryError::Invalid(format!("there is no tag {tag}"))),
        };
        if let TagType::Number(_) = tag_type {
            return Err(QueryError::Invalid(format!("tag {tag} is a number and has no values that are told apart")));
        }
        let mut values: Vec<&[u8]> = Vec::new();
        for segment in snapshot.shards().iter().flat_map(|shard| shard.layers()) {
            context.check()?;
            add_rising(&mut values, segment.parts(tag).filter_map(value_of).take(max.saturating_add(1)));
            if values.len() > max {
                return Ok(None);
            }
        }
        Ok(Some(TagValues { tag, tag_type, values: values.into_iter().map(Box::from).collect() }))
    }

    /// The tag.
    pub fn tag(&self) -> TagId {
        self.tag
    }

    /// Its type.
    pub fn tag_type(&self) -> TagType {
        self.tag_type
    }

    /// The values, rising by their bytes; of a flag none.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.values.iter().map(|value| &**value)
    }

    /// How many leaves there are: one a value, and one of a flag.
    pub fn target_count(&self) -> usize {
        if self.tag_type == TagType::Flag { 1 } else { self.values.len() }
    }

    /// Whether nobody has two of the values.
    pub(super) fn is_exclusive(&self) -> bool {
        self.tag_type != TagType::Set
    }

    /// The leaves of a shard: in the order of the values; of a flag those who have it.
    pub(super) fn targets<'p>(&self, shard: &'p ShardSnapshot) -> Result<Vec<Vec<Layer<'p>>>, ReadError> {
        if self.tag_type == TagType::Flag {
            return Ok(vec![self.any(shard)?]);
        }
        let is_set = !self.is_exclusive();
        self.values.iter().map(|value| value_layers(shard.layers(), is_set, self.tag, value)).collect()
    }

    /// Those who have any value, of a tag whose values exclude each other.
    pub(super) fn any<'p>(&self, shard: &'p ShardSnapshot) -> Result<Vec<Layer<'p>>, ReadError> {
        exclusive(shard.layers(), self.tag, Part::Exists)
    }
}

/// Adds what a layer has, each once and rising, to what others have. Most layers have the same.
fn add_rising<'s>(known: &mut Vec<&'s [u8]>, values: impl Iterator<Item = &'s [u8]>) {
    let (mut at, mut new) = (0, Vec::new());
    for value in values {
        while known.get(at).is_some_and(|known| *known < value) {
            at += 1;
        }
        if known.get(at) != Some(&value) {
            new.push(value);
        }
    }
    if !new.is_empty() {
        known.append(&mut new);
        // Two rising runs.
        known.sort();
    }
}

/// The values that some user has, or had, of an `enum` or `set`, rising; `None` if there are more than `max`.
///
/// # Errors
/// [`QueryError::Cancelled`].
pub fn values(
    snapshot: &Snapshot,
    tag: TagId,
    max: usize,
    context: &QueryContext,
) -> Result<Option<Vec<String>>, QueryError> {
    let mut values: BTreeSet<&[u8]> = BTreeSet::new();
    for value in in_layers(snapshot, tag) {
        context.check()?;
        values.insert(value);
        if values.len() > max {
            return Ok(None);
        }
    }
    // A value came in as text; bytes that are not would be damage the checksums have missed.
    Ok(Some(values.into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()))
}

/// The values of a tag in every layer, one layer behind the other.
fn in_layers(snapshot: &Snapshot, tag: TagId) -> impl Iterator<Item = &[u8]> {
    let parts = snapshot.shards().iter().flat_map(|shard| shard.layers()).flat_map(move |segment| segment.parts(tag));
    parts.filter_map(value_of)
}

fn value_of<'s, P>((part, _): (Part<'s>, P)) -> Option<&'s [u8]> {
    if let Part::Value(value) = part { Some(value) } else { None }
}
