//! Asking the brokers what there is of some partitions: two or three requests a broker, however many partitions.

use super::super::{SourceError, SourcePosition};
use super::connection::Connection;
use super::options::StartAt;
use super::start::Found;
use super::table::{self, Partition};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::time::Duration;

/// What there is of `partitions`, and what `known` has of them.
///
/// # Errors
/// [`SourceError::Unavailable`] if a broker did not answer for one of them.
pub(super) fn ask(
    connection: &Connection,
    partitions: &[&Partition],
    known: &SourcePosition,
    start: StartAt,
    timeout: Duration,
) -> Result<Vec<Found>, SourceError> {
    let ask = |what: Offset| offsets(connection, partitions, what, timeout);
    let earliest = ask(Offset::Beginning)?;
    let end = ask(Offset::End)?;
    let at_time = match start {
        StartAt::Timestamp(time_ms) if partitions.iter().any(|partition| known.get(&partition.name).is_none()) => {
            // Before 1970 there is nothing that could be left out; below 0 the numbers mean other things.
            Some(ask(Offset::Offset(time_ms.max(0)))?)
        }
        _ => None,
    };
    let mut found = Vec::with_capacity(partitions.len());
    for (index, partition) in partitions.iter().enumerate() {
        let bound = |offset: Option<u64>| {
            offset.ok_or_else(|| unavailable(&partition.name, "the broker told no first or last offset"))
        };
        found.push(Found {
            partition: partition.name.clone(),
            known: known.get(&partition.name),
            topic_known: knows_topic(known, &partition.topic),
            earliest: bound(earliest[index])?,
            end: bound(end[index])?,
            at_time: at_time.as_ref().and_then(|at_time| at_time[index]),
        });
    }
    Ok(found)
}

fn knows_topic(known: &SourcePosition, topic: &str) -> bool {
    known.iter().any(|(name, _)| name.rsplit_once('/').is_some_and(|(of, _)| of == topic))
}

/// For each partition the offset of `what`, none where the broker has none.
fn offsets(
    connection: &Connection,
    partitions: &[&Partition],
    what: Offset,
    timeout: Duration,
) -> Result<Vec<Option<u64>>, SourceError> {
    let failed = |error: rdkafka::error::KafkaError| {
        let names: Vec<&str> = partitions.iter().take(3).map(|partition| &*partition.name).collect();
        let more = if partitions.len() > 3 { format!(" and {} more", partitions.len() - 3) } else { String::new() };
        unavailable(&format!("{}{more}", names.join(", ")), &error.to_string())
    };
    let list = table::list(partitions.iter().map(|partition| (*partition, what))).map_err(failed)?;
    let answer = connection.consumer().offsets_for_times(list, timeout).map_err(failed)?;
    let mut offsets: HashMap<(String, i32), Option<u64>> = HashMap::with_capacity(partitions.len());
    for element in answer.elements() {
        element.error().map_err(|error| {
            unavailable(&format!("{}/{}", element.topic(), element.partition()), &error.to_string())
        })?;
        let offset = match element.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        offsets.insert((element.topic().to_owned(), element.partition()), offset);
    }
    let each = partitions.iter().map(|partition| offsets.get(&(partition.topic.to_string(), partition.number)));
    Ok(each.map(|offset| offset.copied().flatten()).collect())
}

fn unavailable(partitions: &str, why: &str) -> SourceError {
    SourceError::Unavailable { doing: format!("ask the brokers for the offsets of {partitions}"), why: why.to_owned() }
}
