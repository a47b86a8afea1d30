//! How a source is, for people and monitors.

use super::dead_letter::RefusedRecord;
use crate::enrich::LookupReport;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a source is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// It begins.
    #[default]
    Starting,
    /// It reads.
    Running,
    /// It was told to read nothing.
    Paused,
    /// It was told to be away.
    Stopped,
    /// The other side is away; it is tried again.
    Retrying,
    /// It cannot go on by itself; its error says what to do.
    Failed,
    /// It was finite and has been read to its end.
    Finished,
}

/// How a source is. Counts are since the server was started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceReport {
    /// What it is doing.
    pub state: SourceState,
    /// What it or the other side ails from.
    pub error: Option<String>,
    /// Records read.
    pub records: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Records a second, over the last ten seconds.
    pub rate: f64,
    /// Records that were refused and are dead letters now.
    pub refused: u64,
    /// Records that the source's conditions do not want.
    pub filtered: u64,
    /// Records without a payload, which say nothing.
    pub empty: u64,
    /// Records that were gone before they were read.
    pub lost: u64,
    /// The event time up to which all partitions have come, in microseconds since 1970.
    pub watermark: Option<i64>,
    /// The partitions, by name.
    pub partitions: Vec<PartitionReport>,
    /// Its look-ups, in their order.
    pub lookups: Vec<LookupReport>,
    /// The records refused last, newest first.
    pub refused_last: Vec<RefusedRecord>,
}

impl SourceReport {
    /// Records between where it is and the ends of its partitions, where these are known.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().filter_map(|partition| partition.lag).sum()
    }
}

/// A partition and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionReport {
    /// Its name.
    pub partition: Arc<str>,
    /// The offset of the next record.
    pub position: u64,
    /// The offset behind its last one, as of the last answer of the other side.
    pub end: Option<u64>,
    /// Records between the two.
    pub lag: Option<u64>,
    /// The latest event time it brought, in microseconds since 1970.
    pub watermark: Option<i64>,
    /// It brought nothing for a while and does not hold back the source's watermark.
    pub idle: bool,
}

/// Over how long a rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Measures a rate.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Events a second over the window that ends now, `count` being all of them so far.
    pub(super) fn at(&mut self, now: Instant, count: u64) -> f64 {
        self.0.push_back((now, count));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(then, _)| now.duration_since(*then) >= RATE_WINDOW) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some((then, before)) if now > *then => (count - before) as f64 / now.duration_since(*then).as_secs_f64(),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_was_long_ago() {
        let (mut rate, begin) = (Rate::default(), Instant::now());
        assert_eq!(rate.at(begin, 0), 0.0);
        assert_eq!(rate.at(begin + Duration::from_secs(5), 500), 100.0);
        for second in 6..=60 {
            rate.at(begin + Duration::from_secs(second), 500);
        }
        assert_eq!(rate.at(begin + Duration::from_secs(61), 500), 0.0);
    }
}
