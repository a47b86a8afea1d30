//! How far the event time of a source is.
//!
//! The watermark of a partition is the latest event time it brought. That of a source is the earliest of those of its
//! partitions, because the slowest may still bring events of that time; a partition that brought nothing for a while is
//! *idle* and does not hold the others back (Akidau and others, "The Dataflow Model", 2015).
//!
//! Nothing waits for a watermark: a late event lands in the slice of its own time. It is shown, so that people know what is
//! complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The partitions of one source.
#[derive(Debug, Default)]
pub(super) struct Watermarks(BTreeMap<Arc<str>, Partition>);

#[derive(Clone, Copy, Debug)]
struct Partition {
    /// Microseconds since 1970.
    event_time: i64,
    /// When it brought something last.
    seen: Instant,
}

impl Watermarks {
    /// Notes that a partition brought events up to a time.
    pub(super) fn note(&mut self, partition: &Arc<str>, event_time: i64, now: Instant) {
        match self.0.get_mut(partition) {
            Some(known) => *known = Partition { event_time: known.event_time.max(event_time), seen: now },
            None => drop(self.0.insert(partition.clone(), Partition { event_time, seen: now })),
        }
    }

    /// Forgets a partition that somebody else reads now.
    pub(super) fn forget(&mut self, partition: &str) {
        self.0.remove(partition);
    }

    /// The watermark of a partition, and whether it is idle.
    pub(super) fn of(&self, partition: &str, now: Instant, idle_after: Duration) -> (Option<i64>, bool) {
        match self.0.get(partition) {
            Some(known) => (Some(known.event_time), known.is_idle(now, idle_after)),
            None => (None, true),
        }
    }

    /// That of the source: none before any event came. If all partitions are idle, the latest event time there is.
    pub(super) fn of_all(&self, now: Instant, idle_after: Duration) -> Option<i64> {
        let busy = self.0.values().filter(|partition| !partition.is_idle(now, idle_after));
        let earliest = busy.map(|partition| partition.event_time).min();
        earliest.or_else(|| self.0.values().map(|partition| partition.event_time).max())
    }
}

impl Partition {
    fn is_idle(&self, now: Instant, idle_after: Duration) -> bool {
        now.saturating_duration_since(self.seen) >= idle_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_busy_partition_decides() {
        let (mut marks, begin, idle) = (Watermarks::default(), Instant::now(), Duration::from_secs(60));
        assert_eq!(marks.of_all(begin, idle), None);
        let (a, b): (Arc<str>, Arc<str>) = ("t/0".into(), "t/1".into());
        marks.note(&a, 100, begin);
        marks.note(&b, 50, begin);
        // A late event does not turn time back.
        marks.note(&a, 70, begin);
        assert_eq!(marks.of_all(begin, idle), Some(50));
        let later = begin + idle;
        marks.note(&a, 200, later);
        assert_eq!(marks.of("t/1", later, idle), (Some(50), true));
        assert_eq!(marks.of_all(later, idle), Some(200));
        assert_eq!(marks.of_all(later + idle, idle), Some(200));
        marks.forget("t/0");
        assert_eq!(marks.of_all(later, idle), Some(50));
    }
}
