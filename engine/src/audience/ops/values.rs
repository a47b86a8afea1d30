//! Which values a tag has.

use super::QueryError;
use crate::catalog::TagType;
use crate::ids::TagId;
use crate::segment::Part;
use crate::store::Snapshot;
use std::collections::BTreeSet;

/// The values of a `set` or an `enum` that some layer knows, rising; some of them may have no users any more. Other tags have none.
/// Costs a look at each value of each layer; no bitmap is read.
///
/// # Errors
/// [`QueryError::Invalid`] if there is no such tag.
pub fn values(snapshot: &Snapshot, tag: TagId) -> Result<Vec<String>, QueryError> {
    let known = snapshot.catalog().tags().find(|(_, known)| known.id == tag);
    let Some((_, known)) = known else { return Err(QueryError::Invalid(format!("there is no tag {tag}"))) };
    if !matches!(known.tag_type, TagType::Set | TagType::Enum) {
        return Ok(Vec::new());
    }
    let parts = snapshot.shards().iter().flat_map(|shard| shard.layers()).flat_map(|segment| segment.parts(tag));
    let values: BTreeSet<&[u8]> =
        parts.filter_map(|(part, _)| if let Part::Value(value) = part { Some(value) } else { None }).collect();
    // Values come in as text; bytes that are not would be damage the checksums have missed.
    Ok(values.into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect())
}
