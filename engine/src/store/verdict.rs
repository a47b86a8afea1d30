//! What becomes of the events of a batch: which count, which were seen before, and what is taken back.
//!
//! Settled before a batch is logged, because what is known of older ids is read from files, and a damaged one must not be met
//! behind the log. Replaying the log settles the same again.

use super::Writer;
use super::memtable::TypeOf;
use crate::catalog::Fact;
use crate::error::ReadError;
use crate::events::{EventKey, Seen};
use crate::ids::{ShardId, Slot};
use crate::update::{Change, Event, UpdateBatch};

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

impl Writer {
    /// Settles a batch's events, and remembers their ids. `now`: microseconds since 1970.
    pub(super) fn settle(
        &mut self,
        batch: &UpdateBatch,
        places: &[(ShardId, Slot)],
        now: i64,
    ) -> Result<Verdicts, ReadError> {
        let mut verdicts = Verdicts::new();
        if self.catalog.facts().len() == 0 {
            return Ok(verdicts);
        }
        let mut index = 0;
        for (user, place) in batch.users().zip(places) {
            for (id, change) in user.changes() {
                let Change::Event(event) = change else { continue };
                if let Some(TypeOf::Fact(fact)) = self.types.get(id) {
                    let fact = fact.clone();
                    if let Some(verdict) = self.settle_event(&fact, *place, &event, now)? {
                        verdicts.push((index, verdict));
                    }
                }
                index += 1;
            }
        }
        Ok(verdicts)
    }

    fn settle_event(
        &mut self,
        fact: &Fact,
        (shard, slot): (ShardId, Slot),
        event: &Event<'_>,
        now: i64,
    ) -> Result<Option<Verdict>, ReadError> {
        let head = &event.head;
        let Some(days) = fact.deduplicate_days.filter(|_| !head.event_id.is_empty()) else {
            return Ok(head.is_retraction.then_some(Verdict::Nothing));
        };
        let ids = &mut self.event_ids[usize::from(shard.0)];
        let today = fact.day_of(now);
        // Known for as long after it came as after it happened, so that old events of a backfill are known too.
        let last_day = fact.day_of(head.ts).max(today).saturating_add_unsigned(days);
        let key = EventKey::of(fact.id, slot, head.event_id);
        let (verdict, taken_back) = match (ids.get(key, today)?, head.is_retraction) {
            (None, false) => {
                self.id_bytes += ids.note_event(key, last_day, event.as_bytes());
                return Ok(None);
            }
            (Some(_), false) | (Some(Seen::TakenBack), true) => (Verdict::Nothing, false),
            (None, true) => (Verdict::Nothing, true),
            (Some(Seen::Event(bytes)), true) => (Verdict::TakesBack(bytes.to_vec()), true),
        };
        if taken_back {
            self.id_bytes += ids.note_taken_back(key, last_day);
        }
        match &verdict {
            Verdict::Nothing if !taken_back => self.events.repeated += 1,
            Verdict::TakesBack(_) => self.events.taken_back += 1,
            Verdict::Nothing => {}
        }
        Ok(Some(verdict))
    }
}
