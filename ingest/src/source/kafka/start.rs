//! Where a partition begins: the decision, apart from asking the brokers.

use super::super::{MissingRecords, Started};
use super::options::{OnMissing, StartAt};
use std::sync::Arc;

/// What is known of a partition when it is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) partition: Arc<str>,
    /// The offset of the next record, from our own position.
    pub(super) known: Option<u64>,
    /// Other partitions of its topic were read before: it was added to the topic later.
    pub(super) topic_known: bool,
    /// The first offset there is.
    pub(super) earliest: u64,
    /// The offset behind the last there is.
    pub(super) end: u64,
    /// The first offset of the time to start at, where that was asked; none if there is none of that time or later.
    pub(super) at_time: Option<u64>,
}

/// Where it begins.
///
/// # Errors
/// The missing records, if its position lies outside what there is and that is to be an error.
pub(super) fn decide(found: &Found, start: StartAt, on_missing: OnMissing) -> Result<Started, MissingRecords> {
    let partition = found.partition.clone();
    let Some(needed) = found.known else {
        let offset = match start {
            _ if found.topic_known => found.earliest,
            StartAt::Earliest => found.earliest,
            StartAt::Latest => found.end,
            StartAt::Timestamp(_) => found.at_time.unwrap_or(found.end),
        };
        return Ok(Started { partition, offset, skipped: None });
    };
    if (found.earliest..=found.end).contains(&needed) {
        return Ok(Started { partition, offset: needed, skipped: None });
    }
    let missing = MissingRecords { partition: partition.clone(), needed, earliest: found.earliest, end: found.end };
    match on_missing {
        OnMissing::Fail => Err(missing),
        OnMissing::Earliest => Ok(Started { partition, offset: found.earliest, skipped: Some(missing) }),
        OnMissing::Latest => Ok(Started { partition, offset: found.end, skipped: Some(missing) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(known: Option<u64>) -> Found {
        Found { partition: "t/0".into(), known, topic_known: false, earliest: 100, end: 200, at_time: Some(150) }
    }

    #[track_caller]
    fn begins(found: &Found, start: StartAt, offset: u64) {
        let started = decide(found, start, OnMissing::Fail).expect("nothing is missing");
        assert_eq!((started.offset, started.skipped), (offset, None));
    }

    #[test]
    fn an_unknown_topic_begins_as_it_is_told() {
        begins(&found(None), StartAt::Earliest, 100);
        begins(&found(None), StartAt::Latest, 200);
        begins(&found(None), StartAt::Timestamp(7), 150);
        begins(&Found { at_time: None, ..found(None) }, StartAt::Timestamp(7), 200);
    }

    #[test]
    fn a_partition_added_to_a_known_topic_is_read_whole() {
        let added = Found { topic_known: true, ..found(None) };
        begins(&added, StartAt::Latest, 100);
        begins(&added, StartAt::Timestamp(7), 100);
    }

    #[test]
    fn a_position_inside_the_log_is_kept() {
        for known in [100, 150, 200] {
            begins(&found(Some(known)), StartAt::Latest, known);
        }
    }

    #[test]
    fn missing_records_are_never_skipped_silently() {
        for (known, lost) in [(40, Some(60)), (201, None)] {
            let missing = decide(&found(Some(known)), StartAt::Earliest, OnMissing::Fail).expect_err("missing");
            assert_eq!((missing.needed, missing.lost()), (known, lost));
            for (on_missing, offset) in [(OnMissing::Earliest, 100), (OnMissing::Latest, 200)] {
                let started = decide(&found(Some(known)), StartAt::Earliest, on_missing).expect("told to go on");
                assert_eq!((started.offset, started.skipped.as_ref()), (offset, Some(&missing)));
            }
        }
    }
}
