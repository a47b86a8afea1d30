//! One live audience: who is in it, and whom to ask about again.

use super::{LiveOptions, LiveStatus, LookError, MembershipChange, Shared};
use engine::audience::ops::{self, QueryContext, Reads};
use engine::audience::predicate::Predicate;
use engine::audience::{bind, parse};
use engine::catalog::Catalog;
use engine::ids::{Slot, TagId};
use engine::store::{PublishedLayers, Snapshot, Store};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Users of one write and of one part of a change.
const BATCH_USERS: usize = 10_000;

/// An audience is left alone for so many times as long as the last look at it took: so looking at it takes no more than a tenth of
/// a processor, however expensive it is.
const REST: u32 = 9;

/// How often a text is bound again, since time goes on.
const BIND_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Tracked {
    name: String,
    list_id: String,
    bound: Option<Bound>,
    /// Per shard, as the store's list has them; none before the first look.
    members: Option<Vec<RoaringBitmap>>,
    pending: Pending,
    rests_until: Instant,
    /// Of the newest change.
    last_at: i64,
    status: LiveStatus,
}

/// Whom to ask about again.
#[derive(Debug)]
enum Pending {
    Everybody,
    /// Slots per shard; empty: nobody.
    These(Vec<RoaringBitmap>),
}

/// What the expression means.
#[derive(Debug)]
struct Bound {
    expression: String,
    catalog: Arc<Catalog>,
    epoch: u64,
    at: Instant,
    predicate: Predicate,
    reads: Reads,
}

impl Tracked {
    pub(super) fn new(name: &str, list_id: &str) -> Tracked {
        Tracked {
            name: name.to_owned(),
            list_id: list_id.to_owned(),
            bound: None,
            members: None,
            pending: Pending::Everybody,
            rests_until: Instant::now(),
            last_at: 0,
            status: LiveStatus::default(),
        }
    }

    pub(super) fn list_id(&self) -> &str {
        &self.list_id
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.rests_until
    }

    #[cfg(test)]
    pub(super) fn wake(&mut self) {
        self.rests_until = Instant::now();
        // The clock of a test moves faster than that of the machine.
        if let Some(bound) = &mut self.bound {
            bound.epoch = u64::MAX;
        }
    }

    /// How many users are to be asked about again; `None`: all.
    #[cfg(test)]
    pub(super) fn pending_count(&self) -> Option<u64> {
        match &self.pending {
            Pending::Everybody => None,
            Pending::These(pending) => Some(pending.iter().map(RoaringBitmap::len).sum()),
        }
    }

    /// Takes in what was published, with the users who became known by it; `None`: something that is not known.
    pub(super) fn note(&mut self, published: Option<(&PublishedLayers, &[RoaringBitmap])>) {
        let (Pending::These(pending), Some(bound)) = (&mut self.pending, &self.bound) else { return };
        // Damage is told by the look at everybody.
        let touched = published
            .and_then(|(layers, newcomers)| Some((bound.reads.touched(layers).ok()?, newcomers, &layers.erased)));
        let Some((touched, newcomers, erased)) = touched else {
            self.pending = Pending::Everybody;
            return;
        };
        // One user's change may move any other, but where nothing changed nobody moves.
        let changed = touched.iter().chain(newcomers).chain(erased).any(|users| !users.is_empty());
        if changed && bound.reads.concerns_everybody() {
            self.pending = Pending::Everybody;
            return;
        }
        pending.resize_with(newcomers.len(), RoaringBitmap::new);
        for (pending, (touched, newcomers)) in pending.iter_mut().zip(touched.iter().zip(newcomers)) {
            *pending |= touched;
            *pending |= newcomers;
        }
        pending.iter_mut().zip(erased).for_each(|(pending, erased)| *pending |= erased);
    }

    /// Writes down who entered and who left.
    pub(super) fn look(
        &mut self,
        store: &Store,
        snapshot: &Snapshot,
        expression: &str,
        shared: &Shared,
    ) -> Result<LiveStatus, LookError> {
        let begin = Instant::now();
        let options = &shared.options;
        let context = QueryContext { cancelled: shared.cancelled.clone(), scanner: options.scanner.clone() };
        let searches = self.bound.as_ref().is_none_or(|bound| bound.reads.searches());
        let looked = match store.workers() {
            // A search waits for other threads, and would keep one of these from checkpoints meanwhile.
            Some(workers) if !searches => workers.install(|| self.differences(store, snapshot, expression, &context)),
            _ => self.differences(store, snapshot, expression, &context),
        };
        self.status.took = begin.elapsed();
        let looked = looked.and_then(|(entered, left)| self.write(store, snapshot, options, entered, left));
        // Writing may have had to wait for others, which costs nobody anything.
        self.rests_until = Instant::now() + self.status.took * REST;
        if looked.is_err() {
            // What was asked about before is not known any more.
            self.pending = Pending::Everybody;
        }
        looked?;
        self.status.looked_at = self.last_at.max(store.now());
        self.status.failure = None;
        Ok(self.status.clone())
    }

    /// Slots per shard of those who are members and not in the list, and the other way round.
    fn differences(
        &mut self,
        store: &Store,
        snapshot: &Snapshot,
        expression: &str,
        context: &QueryContext,
    ) -> Result<(Vec<RoaringBitmap>, Vec<RoaringBitmap>), LookError> {
        self.bind(store, snapshot, expression)?;
        let Some(bound) = &self.bound else { return Ok((Vec::new(), Vec::new())) };
        let members = match &mut self.members {
            Some(members) => members,
            none => none.insert(ops::slots(snapshot, &Predicate::Listed(self.list_id.clone()), context)?),
        };
        let pending = std::mem::replace(&mut self.pending, Pending::These(Vec::new()));
        Ok(match pending {
            Pending::Everybody => {
                let fitting = ops::slots(snapshot, &bound.predicate, context)?;
                let pairs = || fitting.iter().zip(&*members);
                (
                    pairs().map(|(now, before)| now - before).collect(),
                    pairs().map(|(now, before)| before - now).collect(),
                )
            }
            Pending::These(touched) => {
                if touched.iter().all(RoaringBitmap::is_empty) {
                    return Ok((Vec::new(), Vec::new()));
                }
                let fitting = ops::bitmaps_within(snapshot, &bound.predicate, &touched, context)?;
                let entered = fitting.iter().zip(&*members).map(|(now, before)| now - before).collect();
                let before = touched.iter().zip(&*members).map(|(touched, before)| touched & before);
                (entered, before.zip(&fitting).map(|(before, now)| before - now).collect())
            }
        })
    }

    /// Settles what the expression means now. If that is something else, everybody is to be asked about again.
    fn bind(&mut self, store: &Store, snapshot: &Snapshot, expression: &str) -> Result<(), LookError> {
        let catalog = snapshot.shared_catalog();
        let epoch = snapshot.epoch().0;
        if let Some(bound) = &self.bound
            && bound.expression == expression
            && Arc::ptr_eq(&bound.catalog, &catalog)
            && bound.at.elapsed() < BIND_INTERVAL
            && bound.epoch == epoch
        {
            return Ok(());
        }
        let parsed = parse(expression).map_err(LookError::Expression)?;
        let predicate = bind(&parsed, &catalog, snapshot.audiences(), store.now()).map_err(LookError::Expression)?;
        if self.bound.as_ref().is_none_or(|bound| bound.predicate != predicate) {
            self.pending = Pending::Everybody;
        }
        let reads = Reads::of(&predicate);
        self.bound =
            Some(Bound { expression: expression.to_owned(), catalog, epoch, at: Instant::now(), predicate, reads });
        Ok(())
    }

    /// Writes the changes of the list and their rows, batch by batch, each in one step; then tells of them.
    fn write(
        &mut self,
        store: &Store,
        snapshot: &Snapshot,
        options: &LiveOptions,
        entered: Vec<RoaringBitmap>,
        left: Vec<RoaringBitmap>,
    ) -> Result<(), LookError> {
        let count = |slots: &[RoaringBitmap]| slots.iter().map(RoaringBitmap::len).sum::<u64>();
        let members = self.members.iter().flatten().map(RoaringBitmap::len).sum::<u64>();
        let mut rest = count(&entered) + count(&left);
        if rest == 0 {
            self.status.size = members;
            return Ok(());
        }
        self.last_at = store.now().max(self.last_at + 1).max(self.status.changed_at + 1);
        let size_after = members + count(&entered) - count(&left);
        let changes = [(left, false), (entered, true)].into_iter().flat_map(|(shards, enters)| {
            let slots =
                shards.into_iter().enumerate().flat_map(|(shard, slots)| slots.into_iter().map(move |s| (shard, s)));
            slots.map(move |(shard, slot)| (shard, slot, enters))
        });
        let changes: Vec<(usize, Slot, bool)> = changes.collect();
        for part in changes.chunks(BATCH_USERS) {
            rest -= part.len() as u64;
            let change = self.write_part(store, snapshot, part)?;
            let change = MembershipChange { size: size_after, is_last: rest == 0, ..change };
            options.observer.changed(&Arc::new(change));
        }
        Ok(())
    }

    /// One batch; durable when this returns.
    fn write_part(
        &mut self,
        store: &Store,
        snapshot: &Snapshot,
        part: &[(usize, Slot, bool)],
    ) -> Result<MembershipChange, LookError> {
        let mut change = MembershipChange {
            audience: self.name.clone(),
            list_id: self.list_id.clone(),
            at: self.last_at,
            entered: Vec::new(),
            left: Vec::new(),
            size: 0,
            is_last: false,
        };
        let mut batch = UpdateBatch::new();
        let head = EventHead { ts: self.last_at, ..EventHead::default() };
        let mut id = Vec::new();
        for (shard, slot, enters) in part {
            id.clear();
            // One who was erased meanwhile has no id to be told by, and is in no list any more.
            if !snapshot.shards()[*shard].user_id(*slot, &mut id).map_err(|error| LookError::Query(error.into()))? {
                continue;
            }
            batch.begin_user(&id);
            let (of_list, word) = match enters {
                true => (Change::Add(&self.list_id), "entered"),
                false => (Change::Remove(&self.list_id), "left"),
            };
            batch.push(TagId::UPLOADS, of_list);
            batch.push_event(TagId::AUDIENCE_CHANGES, &head, &[Value::Text(&self.name), Value::Text(word)]);
            let told = if *enters { &mut change.entered } else { &mut change.left };
            told.push(String::from_utf8_lossy(&id).into_owned());
        }
        let written = store.write(&batch, None)?;
        if let Some(members) = &mut self.members {
            for (shard, slot, enters) in part {
                if *enters {
                    members[*shard].insert(*slot)
                } else {
                    members[*shard].remove(*slot)
                };
            }
            self.status.size = members.iter().map(RoaringBitmap::len).sum();
        }
        self.status.entered += change.entered.len() as u64;
        self.status.left += change.left.len() as u64;
        self.status.changed_at = self.last_at;
        store.sync(written.lsn)?;
        Ok(change)
    }
}
