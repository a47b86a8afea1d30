//! Where users are, by their ids.

use super::QueryError;
use super::members::Position;
use crate::dictionary::{HashedId, hash_of};
use crate::ids::shard_of_hash;
use crate::store::Snapshot;

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
