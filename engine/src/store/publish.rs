//! Making writes visible: memtables become the newest layers, and a new snapshot is swapped in.

use super::compaction::OwnedRules;
use super::erasure::Erasures;
use super::memtable::{Memtable, Types};
use super::once::Remembered;
use super::snapshot::{Audience, ShardSnapshot, Snapshot};
use super::wal::Kind;
use super::{Layers, RowLog, ShardLayers, Shown, Store, WriteError, held, install};
use crate::catalog::Catalog;
use crate::dictionary::Dictionary;
use crate::events::{EventIds, Recent as RecentIds};
use crate::ids::{Epoch, Lsn, TagId};
use crate::segment::merge::merge;
use crate::segment::{Segment, SegmentWriter};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Layers kept only in memory fall in size at least by this factor, newest first, so that there are few of them and each update
/// is merged in memory only a few times before it is written: of 80 layers there are 2.6 on average and an update is
/// merged 4 times; with a factor of 3 it would be 2.2, and 5.5 times.
const MEMORY_RATIO: u64 = 2;

/// What was written since the last publish.
struct Taken {
    /// Per shard, with its number of slots.
    shards: Vec<(Memtable, u32)>,
    rows: BTreeMap<TagId, RowLog>,
    row_numbers: BTreeMap<TagId, u64>,
    erasures: Arc<Erasures>,
}

/// Layers as they were published one by one, before they are merged with others.
#[derive(Debug, Default)]
pub struct PublishedLayers {
    /// Per shard, oldest first.
    pub shards: Vec<Vec<Arc<Segment>>>,
    /// Users who were erased, as slots per shard; empty if there are none.
    pub erased: Vec<RoaringBitmap>,
    /// There were more than are kept; the others were let go.
    pub overflown: bool,
    bytes: u64,
}

/// Bytes of published layers that are kept for who follows them.
const FOLLOWED_BYTES_MAX: u64 = 64 << 20;

/// A consistent point in the stream of writes, and what has to be saved for it.
pub(super) struct Cut {
    pub(super) position: Lsn,
    /// The number of the view that shows it.
    pub(super) epoch: u64,
    pub(super) rules: OwnedRules,
    pub(super) catalog: Arc<Catalog>,
    pub(super) audiences: Arc<BTreeMap<String, Audience>>,
    pub(super) sources: BTreeMap<String, u64>,
    pub(super) row_numbers: BTreeMap<TagId, u64>,
    pub(super) once: Vec<Remembered>,
    pub(super) erasures: Arc<Erasures>,
    /// Per shard.
    pub(super) event_ids: Vec<Arc<RecentIds>>,
    pub(super) now: u64,
}

impl Store {
    /// Makes every write so far durable and visible. Answers the epoch that shows them.
    ///
    /// # Errors
    /// [`WriteError::ReadOnly`]; the snapshot stays as it was.
    pub fn publish(&self) -> Result<Epoch, WriteError> {
        let mut layers = held(&self.layers);
        let mut writer = held(&self.writer);
        self.log.check()?;
        if !writer.dirty {
            return Ok(Epoch(layers.epoch));
        }
        let end = self.log_next_epoch(&layers)?;
        let tables = self.take_tables(&mut writer);
        let (catalog, audiences) = (writer.catalog.clone(), writer.audiences.clone());
        drop(writer);
        self.log.sync(end)?;
        self.show(&mut layers, tables, catalog, audiences);
        Ok(Epoch(layers.epoch))
    }

    /// A number that was shown is never given to another view, also after a crash: so it is logged before it is shown.
    fn log_next_epoch(&self, layers: &Layers) -> Result<Lsn, WriteError> {
        self.log.append(Kind::Published, &[&(layers.epoch + 1).to_le_bytes()])
    }

    /// Shows what was replayed, without writing anything.
    pub(super) fn show_replayed(&self) {
        let mut layers = held(&self.layers);
        let mut writer = held(&self.writer);
        if writer.dirty {
            let tables = self.take_tables(&mut writer);
            let (catalog, audiences) = (writer.catalog.clone(), writer.audiences.clone());
            drop(writer);
            self.show(&mut layers, tables, catalog, audiences);
        }
    }

    /// Publishes, and answers the point up to which everything is in the layers, which are returned still held.
    pub(super) fn cut(&self) -> Result<(Cut, MutexGuard<'_, Layers>), WriteError> {
        let mut layers = held(&self.layers);
        let mut writer = held(&self.writer);
        if writer.dirty {
            self.log_next_epoch(&layers)?;
        }
        let position = self.log.rotate()?;
        let cut = Cut {
            position,
            epoch: layers.epoch + u64::from(writer.dirty),
            rules: writer.merge_rules(None, self.options.clock.now()),
            catalog: writer.catalog.clone(),
            audiences: writer.audiences.clone(),
            sources: writer.sources.clone(),
            row_numbers: writer.row_numbers.clone(),
            once: writer.once.take_fresh(),
            erasures: writer.erasures.clone(),
            event_ids: writer.event_ids.iter_mut().map(EventIds::freeze).collect(),
            now: writer.once.now(),
        };
        let dirty = writer.dirty;
        let tables = self.take_tables(&mut writer);
        writer.unsaved = false;
        writer.id_bytes = 0;
        writer.event_id_bytes = 0;
        drop(writer);
        self.log.sync(position)?;
        if dirty {
            self.show(&mut layers, tables, cut.catalog.clone(), cut.audiences.clone());
        }
        Ok((cut, layers))
    }

    fn take_tables(&self, writer: &mut super::Writer) -> Taken {
        writer.memtable_bytes = 0;
        writer.dirty = false;
        let tables = writer.memtables.iter_mut().map(std::mem::take);
        Taken {
            shards: tables
                .zip(&self.dictionaries)
                .map(|(table, dictionary)| (table, dictionary.slot_count()))
                .collect(),
            rows: writer.rows.as_mut().map(std::mem::take).unwrap_or_default(),
            row_numbers: writer.row_numbers.clone(),
            erasures: writer.erasures.clone(),
        }
    }

    /// The layers that were published since the last call, for one who follows what changes. The first call only begins that,
    /// and says that there may have been others.
    pub fn take_published(&self) -> PublishedLayers {
        let mut layers = held(&self.layers);
        let next = PublishedLayers { shards: vec![Vec::new(); layers.shards.len()], ..PublishedLayers::default() };
        let begun = PublishedLayers { overflown: true, ..PublishedLayers::default() };
        layers.followed.replace(next).unwrap_or(begun)
    }

    /// Puts sealed tables on the stacks and swaps the new snapshot in.
    fn show(
        &self,
        layers: &mut Layers,
        taken: Taken,
        catalog: Arc<Catalog>,
        audiences: Arc<BTreeMap<String, Audience>>,
    ) {
        let now = self.options.clock.now();
        let rules = OwnedRules::new(&catalog, now, std::iter::empty()).in_memory();
        let types = Types::of(&catalog);
        let shards: Vec<_> = layers.shards.iter_mut().zip(taken.shards).collect();
        let seal = |(shard, (table, slot_count)): (&mut ShardLayers, (Memtable, u32))| {
            shard.slot_count = slot_count;
            let layer = Arc::new(table.seal(&types, now)?);
            shard.memory.insert(0, layer.clone());
            shard.merge_memory(&rules);
            Some(layer)
        };
        let sealed: Vec<Option<Arc<Segment>>> =
            install(&self.options.publishers, || shards.into_par_iter().map(seal).collect());
        if let Some(followed) = &mut layers.followed {
            followed.push(sealed);
        }
        for (fact, log) in taken.rows {
            layers.rows.entry(fact).or_default().push(Arc::new(log));
        }
        layers.row_numbers = taken.row_numbers;
        if !Arc::ptr_eq(&layers.erased, &taken.erasures) {
            if let Some(followed) = &mut layers.followed {
                followed.note_erased(&layers.erased, &taken.erasures);
            }
            layers.erased = taken.erasures;
            layers.hide_erased();
        }
        layers.epoch += 1;
        self.swap_in(layers, catalog, audiences);
    }

    /// Makes the layers the published snapshot.
    pub(super) fn swap_in(&self, layers: &Layers, catalog: Arc<Catalog>, audiences: Arc<BTreeMap<String, Audience>>) {
        let segments = layers.shards.iter().flat_map(|shard| &shard.memory).map(|layer| layer.size_bytes());
        let rows = layers.rows.values().flatten().map(|log| log.heap_bytes() as u64);
        self.layer_bytes.store(segments.chain(rows).sum(), Ordering::Relaxed);
        let snapshot = self.snapshot_of(layers, catalog, audiences);
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    fn snapshot_of(
        &self,
        layers: &Layers,
        catalog: Arc<Catalog>,
        audiences: Arc<BTreeMap<String, Audience>>,
    ) -> Snapshot {
        let shards = layers.shards.iter().zip(&self.dictionaries).zip(&layers.shown);
        let shard = |((shard, dictionary), shown): ((&ShardLayers, &Arc<Dictionary>), &Shown)| {
            ShardSnapshot::new(shard.stack(), dictionary.clone(), shard.slot_count, shown.clone())
        };
        Snapshot {
            epoch: Epoch(layers.epoch),
            catalog,
            audiences,
            rows: Arc::new(layers.rows.clone()),
            tables: Arc::new(layers.tables.clone()),
            row_numbers: Arc::new(layers.row_numbers.clone()),
            searched: Arc::default(),
            is_part: false,
            shards: shards.map(shard).collect(),
        }
    }
}

impl PublishedLayers {
    fn note_erased(&mut self, before: &Erasures, now: &Erasures) {
        self.erased.resize_with(now.pending().len(), RoaringBitmap::new);
        let none = RoaringBitmap::new();
        for (shard, (erased, pending)) in self.erased.iter_mut().zip(now.pending()).enumerate() {
            *erased |= pending - before.pending().get(shard).unwrap_or(&none);
        }
    }

    fn push(&mut self, layers: Vec<Option<Arc<Segment>>>) {
        let size = |layer: &Option<Arc<Segment>>| layer.as_ref().map_or(0, |layer| layer.size_bytes());
        self.bytes += layers.iter().map(size).sum::<u64>();
        self.overflown |= self.bytes > FOLLOWED_BYTES_MAX;
        if self.overflown {
            self.shards.iter_mut().for_each(Vec::clear);
            return;
        }
        for (kept, layer) in self.shards.iter_mut().zip(layers) {
            kept.extend(layer);
        }
    }
}

impl ShardLayers {
    /// All layers, newest first.
    pub(super) fn stack(&self) -> Arc<[Arc<Segment>]> {
        self.memory.iter().chain(self.disk.iter().map(|disk| &disk.segment)).cloned().collect()
    }

    /// Merges the newest layers while they are not much smaller than the next one.
    fn merge_memory(&mut self, rules: &OwnedRules) {
        let free = self.memory.len() - self.frozen;
        let mut run = 1;
        let mut bytes = self.memory[0].size_bytes();
        while run < free && bytes * MEMORY_RATIO >= self.memory[run].size_bytes() {
            bytes += self.memory[run].size_bytes();
            run += 1;
        }
        if run == 1 {
            return;
        }
        let mut writer = SegmentWriter::in_memory_for(bytes as usize);
        let merged = rules.apply(|rules| merge(&self.memory[..run], rules, &mut writer));
        // Only a layer that would grow past what the format can address is left as several.
        if merged.is_ok() {
            self.memory.splice(..run, [Arc::new(writer.into_segment())]);
        }
    }
}
