//! What becomes of the events of a batch: which count, which were seen before, and what is taken back.
//!
//! Settled before a batch is logged, because what is known of older ids is read from files, and a damaged one must not be met
//! behind the log; remembered only behind it, because what is not logged never came. The log keeps the time of settling, so
//! that replaying it settles the same again.

use super::Writer;
use super::memtable::TypeOf;
use crate::catalog::Fact;
use crate::error::ReadError;
use crate::events::{EventKey, Known, Seen};
use crate::ids::{ShardId, Slot};
use crate::update::{Change, Event, UpdateBatch};
use hashbrown::HashMap;

/// What becomes of an event that does not simply count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It came before, or was taken back; or takes back what never came.
    Nothing,
    /// It takes back an event; its bytes.
    TakesBack(Vec<u8>),
}

/// The verdicts on a batch's events by their place among them, rising; those that are missing count.
pub(super) type Verdicts = Vec<(usize, Verdict)>;

/// What was found out about a batch, and what is to be remembered of it.
#[derive(Debug, Default)]
pub(super) struct Settled<'b> {
    verdicts: Verdicts,
    /// What is known of ids behind the batch.
    ids: HashMap<(ShardId, EventKey), Note<'b>>,
    repeated: u64,
    taken_back: u64,
}

#[derive(Clone, Copy, Debug)]
struct Note<'b> {
    last_day: i32,
    /// `None`: it was taken back.
    event: Option<&'b [u8]>,
}

impl Writer {
    /// Settles a batch's events; changes nothing. `now`: microseconds since 1970.
    pub(super) fn settle<'b>(
        &self,
        batch: &'b UpdateBatch,
        places: &[(ShardId, Slot)],
        now: i64,
    ) -> Result<Settled<'b>, ReadError> {
        let mut settled = Settled::default();
        if self.catalog.declared_facts().next().is_none() {
            return Ok(settled);
        }
        let mut index = 0;
        for (user, place) in batch.users().zip(places) {
            for (id, change) in user.changes() {
                let Change::Event(event) = change else { continue };
                if let Some(TypeOf::Fact(fact)) = self.types.get(id)
                    && let Some(verdict) = self.settle_event(&mut settled, fact, *place, &event, now)?
                {
                    settled.verdicts.push((index, verdict));
                }
                index += 1;
            }
        }
        Ok(settled)
    }

    fn settle_event<'b>(
        &self,
        settled: &mut Settled<'b>,
        fact: &Fact,
        (shard, slot): (ShardId, Slot),
        event: &Event<'b>,
        now: i64,
    ) -> Result<Option<Verdict>, ReadError> {
        let head = &event.head;
        let Some(days) = fact.deduplicate_days.filter(|_| !head.event_id.is_empty()) else {
            return Ok(head.is_retraction.then_some(Verdict::Nothing));
        };
        let today = fact.day_of(now);
        // Known for as long after it came as after it happened, so that old events of a backfill are known too.
        let last_day = fact.day_of(head.ts).max(today).saturating_add_unsigned(days);
        let key = EventKey::of(fact.id, slot, head.event_id);
        let of_batch = settled
            .ids
            .get(&(shard, key))
            .map(|note| Known { last_day: note.last_day, seen: note.event.map_or(Seen::TakenBack, Seen::Event) });
        let known = match of_batch {
            Some(known) => Some(known),
            None => self.event_ids[usize::from(shard.0)].get(key, today)?,
        };
        // Never forgotten earlier than what is known already.
        let last_day = known.map_or(last_day, |known| last_day.max(known.last_day));
        let (verdict, event) = match (known.map(|known| known.seen), head.is_retraction) {
            (None, false) => (None, Some(event.as_bytes())),
            (None, true) => (Some(Verdict::Nothing), None),
            (Some(Seen::Event(bytes)), true) => {
                settled.taken_back += 1;
                (Some(Verdict::TakesBack(bytes.to_vec())), None)
            }
            (Some(_), false) | (Some(Seen::TakenBack), true) => {
                settled.repeated += 1;
                return Ok(Some(Verdict::Nothing));
            }
        };
        settled.ids.insert((shard, key), Note { last_day, event });
        Ok(verdict)
    }

    /// Remembers what was settled of a batch that is logged now.
    pub(super) fn remember(&mut self, settled: Settled<'_>) -> Verdicts {
        for ((shard, key), note) in settled.ids {
            let ids = &mut self.event_ids[usize::from(shard.0)];
            self.event_id_bytes += match note.event {
                Some(event) => ids.note_event(key, note.last_day, event),
                None => ids.note_taken_back(key, note.last_day),
            };
        }
        self.events.repeated += settled.repeated;
        self.events.taken_back += settled.taken_back;
        settled.verdicts
    }
}
