//! A write: logged, applied to the memtables, and noted with where its source goes on.

use super::manifest::Encoder;
use super::memtable::TypeOf;
use super::once::{Known, Remembered};
use super::snapshot::Audience;
use super::verdict::{Settled, Verdict};
use super::wal::Kind;
use super::{Once, Place, Store, WriteError, Writer, Written, held};
use crate::catalog::Catalog;
use crate::dictionary::{HashedId, hash_of};
use crate::error::ReadError;
use crate::ids::{ShardId, Slot, TagId, shard_of_hash};
use crate::update::{Change, UpdateBatch, read_event};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What an id in memory costs besides its bytes: its record's header, its place in the hash table.
const ID_BYTES_MORE: usize = 16;

/// Memory of ids that waits for a checkpoint whatever the options say: a shard's dictionary has room for 4 GiB, of which
/// one half may be on its way to disk.
const ID_BYTES_MAX: usize = 1 << 30;

/// The place of who has none; no slot is so large.
const NOWHERE: Place = (ShardId(0), Slot::MAX);

impl Store {
    /// Appends a batch to the log and applies it; visible after the next publish, durable after [`Store::sync`].
    ///
    /// # Errors
    /// [`WriteError`]; nothing was acknowledged.
    pub fn write(&self, batch: &UpdateBatch, once: Option<Once>) -> Result<Written, WriteError> {
        self.write_logged(batch, once, None, None)
    }

    /// The same of a batch that was made by `catalog`. Changes of what was dropped since are passed over otherwise; here they
    /// refuse the batch, also if something of the same name is there again.
    ///
    /// # Errors
    /// [`WriteError::Dropped`], also for a batch that came before; else as [`Store::write`].
    pub fn write_declared(
        &self,
        batch: &UpdateBatch,
        once: Option<Once>,
        catalog: &Arc<Catalog>,
    ) -> Result<Written, WriteError> {
        self.write_logged(batch, once, None, Some(catalog))
    }

    /// Whether a tag, fact or vector space is declared, by what was applied.
    pub fn declares(&self, id: TagId) -> bool {
        held(&self.writer).types.get(id).is_some()
    }

    /// Whether a step's key was seen and is remembered at a time, in seconds since 1970.
    pub fn remembers(&self, key: u128, now_seconds: u64) -> bool {
        held(&self.writer).once.remembers(key, now_seconds)
    }

    /// The same for what a source sent: from now on `source` goes on at `offset`, and this is as durable as the batch. A batch
    /// that ends before where the source goes on already came before and changes nothing.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was acknowledged.
    pub fn write_from(&self, batch: &UpdateBatch, source: &str, offset: u64) -> Result<Written, WriteError> {
        self.write_logged(batch, None, Some((source, offset)), None)
    }

    fn write_logged(
        &self,
        batch: &UpdateBatch,
        once: Option<Once>,
        origin: Option<(&str, u64)>,
        made_by: Option<&Arc<Catalog>>,
    ) -> Result<Written, WriteError> {
        self.make_room()?;
        let mut writer = held(&self.writer);
        self.log.check()?;
        if let Some(catalog) = made_by {
            writer.check_declared(batch, catalog)?;
        }
        let repeated = |note| Written { lsn: self.log.end(), repeated: true, note };
        if origin.is_some_and(|(source, offset)| writer.sources.get(source).is_some_and(|known| offset <= *known)) {
            return Ok(repeated(0));
        }
        let remembered = match once {
            None => None,
            Some(once) => match writer.once.look_up(&once) {
                Known::Repeated(note) => return Ok(repeated(note)),
                Known::Different => return Err(WriteError::KeyReused),
                Known::New => Some(Remembered {
                    key: once.key,
                    digest: once.digest,
                    expires: once.now_seconds.saturating_add(once.remember_seconds),
                    note: once.note,
                }),
            },
        };
        let now = self.options.clock.now();
        let head = encode_head(now, remembered, origin);
        // What can fail without harm comes before the log, so that what is logged is applied.
        let (places, left) = self.places(&mut writer, batch)?;
        let batch = left.as_ref().unwrap_or(batch);
        let settled = writer.settle(batch, &places, now)?;
        let lsn = self.log.append(Kind::Tags, &[&head, batch.as_bytes()])?;
        if let (Some(remembered), Some(once)) = (remembered, once) {
            writer.once.remember(remembered, once.now_seconds);
        }
        if let Some((source, offset)) = origin {
            writer.go_on(source, offset);
        }
        writer.apply(batch, &places, settled, true);
        Ok(Written { lsn, repeated: false, note: 0 })
    }

    /// Applies a batch that its source can send again: it is not logged, and is durable with the next checkpoint,
    /// which records `offset` as where `source` goes on.
    ///
    /// # Errors
    /// [`WriteError`]; the source goes on at the last checkpointed offset after a restart.
    pub fn write_replayable(&self, batch: &UpdateBatch, source: &str, offset: u64) -> Result<(), WriteError> {
        self.write_replayable_noting(batch, &[(source, offset)], None)
    }

    /// The same for several offsets at once, such as a place and what was counted up to it: a checkpoint has all of them or
    /// none. With the catalog that a batch was made by, changes of what was dropped since refuse it, as [`Store::write_declared`] does.
    ///
    /// # Errors
    /// [`WriteError::Dropped`]; else as [`Store::write_replayable`].
    pub fn write_replayable_noting(
        &self,
        batch: &UpdateBatch,
        offsets: &[(&str, u64)],
        made_by: Option<&Arc<Catalog>>,
    ) -> Result<(), WriteError> {
        self.log.check()?;
        self.make_room()?;
        let mut writer = held(&self.writer);
        if let Some(catalog) = made_by {
            writer.check_declared(batch, catalog)?;
        }
        let (places, left) = self.places(&mut writer, batch)?;
        let batch = left.as_ref().unwrap_or(batch);
        let settled = writer.settle(batch, &places, self.options.clock.now())?;
        writer.apply(batch, &places, settled, false);
        for (source, offset) in offsets {
            writer.go_on(source, *offset);
        }
        Ok(())
    }

    /// Sets where sources go on, whatever was applied: one begins, is rewound, or passes over what is lost. Durable when this
    /// returns.
    ///
    /// # Errors
    /// [`WriteError`]; some of them may then still go on where they were.
    pub fn set_source_offsets(&self, offsets: &[(String, u64)]) -> Result<(), WriteError> {
        let mut writer = held(&self.writer);
        let mut last = None;
        for (source, offset) in offsets {
            let mut encoded = Encoder::default();
            encoded.text(source);
            encoded.u64(*offset);
            last = Some(self.log.append(Kind::SourceOffset, &[&encoded.0])?);
            writer.go_on(source, *offset);
        }
        drop(writer);
        last.map_or(Ok(()), |lsn| self.log.sync(lsn))
    }

    /// Where the sources go on whose names begin with `prefix`, by what was applied.
    pub fn source_offsets(&self, prefix: &str) -> Vec<(String, u64)> {
        let writer = held(&self.writer);
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let ours = writer.sources.range::<str, _>(from).take_while(|(name, _)| name.starts_with(prefix));
        ours.map(|(name, offset)| (name.clone(), *offset)).collect()
    }

    /// Where `source` goes on, by what was applied.
    pub fn source_offset(&self, source: &str) -> Option<u64> {
        held(&self.writer).sources.get(source).copied()
    }

    /// Forgets the offset of a source whose batches are not logged and which came to its end; durable with the checkpoint that
    /// has the last of them.
    pub fn forget_source(&self, source: &str) {
        held(&self.writer).forget_source(source);
    }

    /// Forgets the offsets of sources whose batches are logged and which will not go on. Logged; durable with the next sync.
    ///
    /// # Errors
    /// [`WriteError`]; some of them may then still be known.
    pub fn forget_sources<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> Result<(), WriteError> {
        let mut writer = held(&self.writer);
        for source in sources {
            if writer.sources.contains_key(source) {
                let mut encoded = Encoder::default();
                encoded.text(source);
                self.log.append(Kind::ForgetSource, &[&encoded.0])?;
                writer.forget_source(source);
            }
        }
        Ok(())
    }

    /// Makes a checkpoint if the updates held in memory have reached their limit: backpressure.
    fn make_room(&self) -> Result<(), WriteError> {
        if !self.is_full() {
            return Ok(());
        }
        let checkpointed = held(&self.checkpointing);
        // Many writers may have waited for one checkpoint.
        if self.is_full() {
            self.checkpoint_held(checkpointed)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let writer = held(&self.writer);
        let layers = self.layer_bytes.load(Ordering::Relaxed) as usize;
        let most_ids = self.options.memory_bytes_max.min(ID_BYTES_MAX);
        let held = writer.memtable_bytes + writer.id_bytes + writer.event_id_bytes + layers;
        writer.id_bytes >= most_ids || held >= self.options.memory_bytes_max
    }

    /// The shard and slot of each user of a batch; new ids get theirs now. If users of it are suppressed, also the batch without
    /// them, whose places these are.
    pub(super) fn places(
        &self,
        writer: &mut Writer,
        batch: &UpdateBatch,
    ) -> Result<(Vec<Place>, Option<UpdateBatch>), ReadError> {
        let shard_count = self.dictionaries.len() as u16;
        let users: Vec<HashedId<'_>> = batch.users().map(|user| (user.user_id, hash_of(user.user_id))).collect();
        let shard_of = |index: &u32| shard_of_hash(users[*index as usize].1, shard_count);
        let mut places: Vec<Place> = vec![NOWHERE; users.len()];
        let erasures = writer.erasures.clone();
        let admits = |id: &[u8]| !erasures.suppresses() || erasures.admits(id);
        let mut left_out = 0;
        // Users by shard, in their order.
        let mut order: Vec<u32> = (0..users.len() as u32).collect();
        order.sort_by_key(shard_of);
        let mut ids: Vec<HashedId<'_>> = Vec::new();
        for of_shard in order.chunk_by(|a, b| shard_of(a) == shard_of(b)) {
            let shard = shard_of(&of_shard[0]);
            let mut dictionary = self.dictionaries[usize::from(shard.0)].writer();
            let mut known = dictionary.slot_count();
            ids.clear();
            ids.extend(of_shard.iter().map(|index| users[*index as usize]));
            for ((index, (id, _)), slot) in of_shard.iter().zip(&ids).zip(dictionary.get_or_insert_each(&ids, admits)?)
            {
                let Some(slot) = slot else {
                    left_out += 1;
                    continue;
                };
                if slot >= known {
                    known = slot + 1;
                    writer.id_bytes += id.len() + ID_BYTES_MORE;
                }
                places[*index as usize] = (shard, slot);
            }
        }
        if left_out == 0 {
            return Ok((places, None));
        }
        writer.suppressed_updates += left_out;
        let left = batch.retained(|index| places[index] != NOWHERE);
        places.retain(|place| *place != NOWHERE);
        Ok((places, Some(left)))
    }
}

impl Writer {
    /// That what a batch is about is still declared; costs nothing while the catalog is the one it was made by.
    fn check_declared(&self, batch: &UpdateBatch, catalog: &Arc<Catalog>) -> Result<(), WriteError> {
        if Arc::ptr_eq(catalog, &self.catalog) {
            return Ok(());
        }
        for user in batch.users() {
            let mut ids = user.changes().map(|(id, _)| id);
            if let Some(id) = ids.find(|id| *id >= TagId::FIRST_DECLARED && self.types.get(*id).is_none()) {
                return Err(WriteError::Dropped { id });
            }
        }
        Ok(())
    }

    /// Applies a batch; the last writer wins within a user and tag. Users mentioned at all become known, except by lists and
    /// what is said of them.
    pub(super) fn apply(&mut self, batch: &UpdateBatch, places: &[Place], settled: Settled<'_>, is_logged: bool) {
        let verdicts = self.remember(settled);
        let mut events = 0..;
        let mut verdicts = verdicts.iter().peekable();
        for (user, (shard, slot)) in batch.users().zip(places) {
            let memtable = &mut self.memtables[usize::from(shard.0)];
            let before = memtable.heap_bytes();
            let (mut known, mut listed) = (false, false);
            for (tag, change) in user.changes() {
                if tag >= TagId::FIRST_DECLARED {
                    known = true;
                } else {
                    listed = true;
                    note_list(&mut self.pending_lists, &self.audiences, change);
                }
                match (self.types.get(tag), change) {
                    (of, Change::Event(event)) => {
                        let index = events.next();
                        let verdict = verdicts.next_if(|(at, _)| Some(*at) == index).map(|(_, verdict)| verdict);
                        let Some(TypeOf::Fact(fact)) = of else { continue };
                        // Every logged event has a number, whatever becomes of it: that may be another thing after a crash,
                        // if what a backfill brought, which is not logged, is not there yet.
                        let number = is_logged.then(|| next_number(&mut self.row_numbers, tag));
                        let (event, weight) = match verdict {
                            None => (event, 1),
                            Some(Verdict::Nothing) => continue,
                            Some(Verdict::TakesBack(bytes)) => (read_event(bytes), -1),
                        };
                        self.events.counted += u64::from(weight == 1);
                        memtable.count_event(*slot, fact, &event, weight);
                        if let Some(rows) = &mut self.rows {
                            let log = rows.entry(tag).or_default();
                            let before = log.heap_bytes();
                            log.push((*shard, *slot), user.user_id, weight, &event, number);
                            self.memtable_bytes += log.heap_bytes() - before;
                        }
                    }
                    (Some(TypeOf::Tag(tag_type)), change) => memtable.apply(*slot, tag, *tag_type, change),
                    (Some(TypeOf::Space(space)), change) => memtable.put_vector(*slot, space, change),
                    _ => {}
                }
            }
            if known || !listed {
                memtable.know(*slot);
            }
            self.memtable_bytes += memtable.heap_bytes() - before;
        }
        if !batch.is_empty() {
            self.changed();
        }
    }
}

/// The number of the next logged event of a fact.
fn next_number(row_numbers: &mut BTreeMap<TagId, u64>, fact: TagId) -> u64 {
    let next = row_numbers.entry(fact).or_default();
    *next += 1;
    *next - 1
}

/// Notes a list that no audience has yet.
fn note_list(pending: &mut HashSet<String>, audiences: &BTreeMap<String, Audience>, change: Change<'_>) {
    let Change::Add(list) = change else { return };
    if !pending.contains(list) && !audiences.values().any(|audience| audience.list_id() == Some(list)) {
        pending.insert(list.to_owned());
    }
}

/// See [`Kind::Tags`].
fn encode_head(now: i64, once: Option<Remembered>, origin: Option<(&str, u64)>) -> Vec<u8> {
    // A step has a note since there are notes.
    let of_step = if once.is_some() { 1 | 4 } else { 0 };
    let mut head = Encoder(vec![of_step | u8::from(origin.is_some()) << 1]);
    head.u64(now as u64);
    if let Some(once) = once {
        once.encode(&mut head.0);
    }
    if let Some((source, offset)) = origin {
        head.text(source);
        head.u64(offset);
    }
    head.0
}
