//! Users as numbers of bitmaps: shard × 2^32 + slot, in one snapshot.

use arrow::array::{Array, StringArray};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use engine::audience::ops::{self, QueryContext, QueryError};
use engine::audience::predicate::Predicate;
use engine::dictionary::{HashedId, hash_of};
use engine::ids::shard_of;
use engine::store::{ShardSnapshot, Snapshot};
use roaring::RoaringTreemap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that calls with constants give in a statement, in bytes and in members that are listed.
const CONSTANT_BYTES_MAX: usize = 64 << 20;
const CONSTANT_LISTED_MAX: usize = 1 << 20;
/// Members of a list between two looks at whether anybody still waits.
const LOOK_EACH: usize = 4096;

/// The users of a snapshot, and whether anybody still waits for the answer.
#[derive(Debug)]
pub(super) struct People {
    snapshot: Snapshot,
    context: QueryContext,
    everybody: OnceLock<RoaringTreemap>,
    /// Of what calls with constants gave while the statement was planned: it is kept in the plan.
    constant_bytes: AtomicUsize,
    constant_listed: AtomicUsize,
}

/// An error of the engine.
pub(super) fn failed(error: impl Into<QueryError>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}

/// What is wrong with an id that nobody has.
pub(super) fn nobody<T>(id: &str) -> Result<T> {
    exec_err!("there is no user '{id}'; if it is meant as a number, write CAST(… AS BIGINT)")
}

impl People {
    pub(super) fn new(snapshot: Snapshot, context: QueryContext) -> People {
        People {
            snapshot,
            context,
            everybody: OnceLock::new(),
            constant_bytes: AtomicUsize::new(0),
            constant_listed: AtomicUsize::new(0),
        }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// If the statement was cancelled.
    pub(super) fn check(&self) -> Result<()> {
        if self.context.cancelled.load(Ordering::Relaxed) { Err(failed(QueryError::Cancelled)) } else { Ok(()) }
    }

    /// The number of a user; `None` if there is no such user.
    ///
    /// # Errors
    /// If the dictionary is damaged.
    pub(super) fn number_of(&self, id: &str) -> Result<Option<u64>> {
        let shards = self.snapshot.shards();
        let shard = shard_of(id.as_bytes(), shards.len() as u16);
        let slot = shards[usize::from(shard.0)].slot_of(id.as_bytes()).map_err(failed)?;
        Ok(slot.map(|slot| number(usize::from(shard.0), slot)))
    }

    /// The numbers of users, NULL where the id is NULL; faster than one by one.
    ///
    /// # Errors
    /// If there is no such user, or the dictionary is damaged.
    pub(super) fn numbers_of(&self, ids: &StringArray) -> Result<Vec<Option<u64>>> {
        let shards = self.snapshot.shards();
        let mut by_shard: Vec<(Vec<HashedId<'_>>, Vec<usize>)> = vec![Default::default(); shards.len()];
        for row in (0..ids.len()).filter(|row| ids.is_valid(*row)) {
            let id = ids.value(row).as_bytes();
            let (hashed, rows) = &mut by_shard[usize::from(shard_of(id, shards.len() as u16).0)];
            hashed.push((id, hash_of(id)));
            rows.push(row);
        }
        let mut numbers = vec![None; ids.len()];
        for (shard, (hashed, rows)) in by_shard.into_iter().enumerate() {
            let slots = shards[shard].slots_of(&hashed).map_err(failed)?;
            for (slot, row) in slots.into_iter().zip(rows) {
                let Some(slot) = slot else { return nobody(ids.value(row)) };
                numbers[row] = Some(number(shard, slot));
            }
        }
        Ok(numbers)
    }

    /// The same, of a place in a long list; not at each.
    ///
    /// # Errors
    /// If the statement was cancelled.
    pub(super) fn check_at(&self, at: usize) -> Result<()> {
        if at.is_multiple_of(LOOK_EACH) { self.check() } else { Ok(()) }
    }

    /// Counts what a constant call gave, with all those of the statement; `bytes` and `listed` are 0 if that is no new one.
    ///
    /// # Errors
    /// If they are too large together, then and from then on.
    pub(super) fn take_constant(&self, bytes: usize, listed: usize) -> Result<()> {
        let bytes = self.constant_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let listed = self.constant_listed.fetch_add(listed, Ordering::Relaxed) + listed;
        if bytes > CONSTANT_BYTES_MAX || listed > CONSTANT_LISTED_MAX {
            return exec_err!(
                "what functions make of constants takes more than {} MiB in this statement, or lists more than \
                 {CONSTANT_LISTED_MAX} members; take them in pages by sub_bitmap(b, offset, count)",
                CONSTANT_BYTES_MAX >> 20
            );
        }
        Ok(())
    }

    /// Writes the id of a user in place of what is there; false if the user was erased.
    ///
    /// # Errors
    /// If no user ever had the number, or the dictionary is damaged.
    pub(super) fn id_of(&self, number: u64, id: &mut Vec<u8>) -> Result<bool> {
        let slot = number as u32;
        let shard = usize::try_from(number >> 32).ok().and_then(|shard| self.snapshot.shards().get(shard));
        let Some(shard) = shard.filter(|shard: &&ShardSnapshot| slot < shard.slot_count()) else {
            // How many there are is not told to one who is not shown all of them.
            if !self.snapshot.shows_everybody() {
                return Ok(false);
            }
            return exec_err!("{number} is the number of no user; bitmap_to_array tells numbers that are not users");
        };
        id.clear();
        shard.user_id(slot, id).map_err(failed)
    }

    /// All known users.
    ///
    /// # Errors
    /// If they cannot be read, or the statement was cancelled.
    pub(super) fn everybody(&self) -> Result<&RoaringTreemap> {
        if let Some(known) = self.everybody.get() {
            return Ok(known);
        }
        let slots = ops::slots(&self.snapshot, &Predicate::All, &self.context).map_err(failed)?;
        Ok(self.everybody.get_or_init(|| RoaringTreemap::from_bitmaps((0..).zip(slots))))
    }
}

fn number(shard: usize, slot: u32) -> u64 {
    (shard as u64) << 32 | u64::from(slot)
}
