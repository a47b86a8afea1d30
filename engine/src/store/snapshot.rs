//! An immutable, consistent view of all shards.

use super::shown::Shown;
use super::vectors::Searched;
use super::{RecentRows, RowLog};
use crate::catalog::{Catalog, Space};
use crate::dictionary::{Dictionary, HashedId};
use crate::error::ReadError;
use crate::ids::{Epoch, Slot, TagId, shard_of};
use crate::segment::{Form, Key, Part, Segment};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An immutable, consistent view of all shards; cheap to clone. Holding one keeps its files readable.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) epoch: Epoch,
    pub(super) catalog: Arc<Catalog>,
    pub(super) audiences: Arc<BTreeMap<String, Audience>>,
    pub(super) shards: Arc<[ShardSnapshot]>,
    pub(super) rows: Arc<RecentRows>,
    pub(super) tables: Arc<BTreeMap<TagId, u64>>,
    pub(super) row_numbers: Arc<BTreeMap<TagId, u64>>,
    pub(super) searched: Arc<Searched>,
    pub(super) is_part: bool,
}

/// A named audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// Who belongs to it.
    pub definition: Definition,
    /// For people.
    pub description: String,
    /// When it was defined, in microseconds since 1970.
    pub changed_at: i64,
}

/// Who belongs to an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// Whoever fits this expression (canonical text) when asked.
    Expression(String),
    /// The same, and its members are kept as a list, so that who enters and who leaves is known and told.
    Live {
        /// Canonical text.
        expression: String,
        /// The value of [`crate::ids::TagId::UPLOADS`] that they have.
        list_id: String,
    },
    /// The users of an uploaded list: those with this value of [`crate::ids::TagId::UPLOADS`].
    Uploaded {
        /// The value; a new upload gets a new one, so that replacing a list is atomic.
        list_id: String,
        /// Ids in the list, known or not.
        user_count: u64,
    },
}

/// One shard of a snapshot.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    layers: Arc<[Arc<Segment>]>,
    dictionary: Arc<Dictionary>,
    slot_count: u32,
    pub(super) shown: Shown,
}

impl Audience {
    /// The list its users are in, uploaded or kept, if there is one.
    pub fn list_id(&self) -> Option<&str> {
        match &self.definition {
            Definition::Uploaded { list_id, .. } | Definition::Live { list_id, .. } => Some(list_id),
            Definition::Expression(_) => None,
        }
    }

    /// Whether who enters and leaves is told.
    pub fn is_live(&self) -> bool {
        matches!(self.definition, Definition::Live { .. })
    }

    /// The expression that says who belongs to it, unless that is said by an uploaded list.
    pub fn expression(&self) -> Option<&str> {
        match &self.definition {
            Definition::Expression(expression) | Definition::Live { expression, .. } => Some(expression),
            Definition::Uploaded { .. } => None,
        }
    }
}

impl Snapshot {
    /// The number of this view.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The tags declared in this view.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The same, to be kept.
    pub fn shared_catalog(&self) -> Arc<Catalog> {
        self.catalog.clone()
    }

    /// The same users by a catalog and audiences that are a part of its own, whatever they are called there: what somebody may know
    /// of it.
    pub fn part(&self, catalog: Arc<Catalog>, audiences: Arc<BTreeMap<String, Audience>>) -> Snapshot {
        Snapshot { catalog, audiences, is_part: true, ..self.clone() }
    }

    /// Whether it came of [`Snapshot::part`].
    pub fn is_part(&self) -> bool {
        self.is_part
    }

    /// The audiences defined in this view, by name.
    pub fn audiences(&self) -> &BTreeMap<String, Audience> {
        &self.audiences
    }

    /// The same, to be kept.
    pub fn shared_audiences(&self) -> Arc<BTreeMap<String, Audience>> {
        self.audiences.clone()
    }

    /// The epoch of a fact's table at which it has the rows up to [`Snapshot::recent_rows`]; `None` if it has none yet. Any version
    /// of that epoch has the same rows.
    pub fn table_epoch(&self, fact: TagId) -> Option<u64> {
        self.tables.get(&fact).copied()
    }

    /// The rows of a fact that are not in its table yet, oldest first.
    pub fn recent_rows(&self, fact: TagId) -> &[Arc<RowLog>] {
        self.rows.get(&fact).map_or(&[], Vec::as_slice)
    }

    /// The number that the next logged event of a fact gets; see [`RowLog::numbered`].
    pub fn next_row(&self, fact: TagId) -> u64 {
        self.row_numbers.get(&fact).copied().unwrap_or(0)
    }

    /// The shards, by [`crate::ids::ShardId`].
    pub fn shards(&self) -> &[ShardSnapshot] {
        &self.shards
    }

    /// The numbers of a user's vector in a space, by the user's id.
    ///
    /// # Errors
    /// [`ReadError`] if something is damaged.
    pub fn vector(&self, space: &Space, user_id: &str) -> Result<Option<Vec<f32>>, ReadError> {
        let shard = &self.shards[usize::from(shard_of(user_id.as_bytes(), self.shards.len() as u16).0)];
        shard.slot_of(user_id.as_bytes())?.map_or(Ok(None), |slot| shard.vector(space, slot))
    }
}

impl ShardSnapshot {
    pub(super) fn new(layers: Arc<[Arc<Segment>]>, dictionary: Arc<Dictionary>, slot_count: u32, shown: Shown) -> Self {
        ShardSnapshot { layers, dictionary, slot_count, shown }
    }

    /// Segments, newest first. The last one covers all older data, so a leaf's bottom layer has mask `All`.
    pub fn layers(&self) -> &[Arc<Segment>] {
        &self.layers
    }

    /// Slots given so far; every bitmap is below it.
    pub fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// The slot of a user id; `None` if it was never seen before this snapshot, or is not shown.
    ///
    /// # Errors
    /// [`ReadError`] if the dictionary is damaged.
    pub fn slot_of(&self, user_id: &[u8]) -> Result<Option<Slot>, ReadError> {
        Ok(self.dictionary.slot_of(user_id)?.filter(|slot| self.shows(*slot)))
    }

    /// The same of several ids of this shard with their hashes; faster than one by one.
    ///
    /// # Errors
    /// [`ReadError`] if the dictionary is damaged.
    pub fn slots_of(&self, ids: &[HashedId<'_>]) -> Result<Vec<Option<Slot>>, ReadError> {
        let slots = self.dictionary.slots_of(ids)?.into_iter();
        Ok(slots.map(|slot| slot.filter(|slot| self.shows(*slot))).collect())
    }

    fn shows(&self, slot: Slot) -> bool {
        slot < self.slot_count && self.shown.has(slot)
    }

    /// Whom it shows.
    pub(crate) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// The numbers of a user's vector; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`] if the vector or what leads to it is damaged.
    pub fn vector(&self, space: &Space, slot: Slot) -> Result<Option<Vec<f32>>, ReadError> {
        for layer in self.layers.iter() {
            if let Some(row) = layer.vector(space.id, Form::Full, slot)? {
                return Ok(Some(row.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()));
            }
            let touched = layer.posting(Key { tag: space.id, part: Part::Touched })?;
            if touched.is_some_and(|touched| touched.bitmap.contains(slot)) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Appends the user id of a slot to `out`; false if the slot was erased, or is not shown.
    ///
    /// # Errors
    /// [`ReadError`] if the dictionary is damaged.
    pub fn user_id(&self, slot: Slot, out: &mut Vec<u8>) -> Result<bool, ReadError> {
        if !self.shown.has(slot) {
            return Ok(false);
        }
        self.dictionary.user_id(slot, out)
    }
}
