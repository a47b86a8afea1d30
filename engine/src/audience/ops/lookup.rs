//! What a snapshot has by name: users by their ids, a tag's values.

use super::members::Position;
use super::{QueryContext, QueryError};
use crate::dictionary::{HashedId, hash_of};
use crate::ids::{TagId, shard_of_hash};
use crate::segment::Part;
use crate::store::Snapshot;
use std::collections::BTreeSet;

/// Where each of these users is, in their order; `None`: never seen. An id may come several times.
///
/// # Errors
/// [`QueryError`] if a dictionary is damaged.
pub fn positions(snapshot: &Snapshot, ids: &[&[u8]]) -> Result<Vec<Option<Position>>, QueryError> {
    let shards = snapshot.shards();
    let mut of_shard: Vec<(Vec<HashedId<'_>>, Vec<usize>)> = vec![Default::default(); shards.len()];
    for (at, id) in ids.iter().enumerate() {
        let hash = hash_of(id);
        let (asked, places) = &mut of_shard[usize::from(shard_of_hash(hash, shards.len() as u16).0)];
        asked.push((id, hash));
        places.push(at);
    }
    let mut found = vec![None; ids.len()];
    for (number, (asked, places)) in of_shard.iter().enumerate().filter(|(_, (asked, _))| !asked.is_empty()) {
        let shard = crate::ids::ShardId(number as u16);
        for (at, slot) in places.iter().zip(shards[number].slots_of(asked)?) {
            found[*at] = slot.map(|slot| Position { shard, slot });
        }
    }
    Ok(found)
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
    for segment in snapshot.shards().iter().flat_map(|shard| shard.layers()) {
        context.check()?;
        for (part, _) in segment.parts(tag) {
            if let Part::Value(value) = part {
                values.insert(value);
            }
            if values.len() > max {
                return Ok(None);
            }
        }
    }
    // A value came in as text; bytes that are not would be damage the checksums have missed.
    Ok(Some(values.into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()))
}
