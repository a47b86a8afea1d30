//! The partitions that a source has met, found fast by what a message carries.

use super::connection::Message;
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Debug)]
pub(super) struct Partition {
    /// `topic/3`.
    pub(super) name: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    /// The offset of the next record; of use while active.
    pub(super) next: u64,
    /// Ours and begun. Messages of others are dropped.
    pub(super) active: bool,
    /// Its index in the batch that is being filled.
    pub(super) in_batch: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    partitions: Vec<Partition>,
    by_topic: HashMap<Arc<str>, HashMap<i32, usize>>,
}

impl Table {
    /// Its index, which stays; it is added if it is new.
    pub(super) fn intern(&mut self, topic: &str, number: i32) -> usize {
        if let Some(index) = self.find(topic, number) {
            return index;
        }
        let topic: Arc<str> = topic.into();
        let index = self.partitions.len();
        let name = format!("{topic}/{number}").into();
        self.by_topic.entry(topic.clone()).or_default().insert(number, index);
        self.partitions.push(Partition { name, topic, number, next: 0, active: false, in_batch: None });
        index
    }

    pub(super) fn find(&self, topic: &str, number: i32) -> Option<usize> {
        self.by_topic.get(topic)?.get(&number).copied()
    }

    /// The active partition of this name.
    pub(super) fn find_active(&self, name: &str) -> Option<usize> {
        let (topic, number) = name.rsplit_once('/')?;
        self.find(topic, number.parse().ok()?).filter(|index| self.partitions[*index].active)
    }

    pub(super) fn get(&self, index: usize) -> &Partition {
        &self.partitions[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Partition {
        &mut self.partitions[index]
    }

    pub(super) fn name(&self, index: usize) -> Arc<str> {
        self.partitions[index].name.clone()
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(|partition| partition.active)
    }

    /// Begins a new batch.
    pub(super) fn clear_batch(&mut self) {
        self.partitions.iter_mut().for_each(|partition| partition.in_batch = None);
    }
}

/// The library's form of some partitions.
///
/// # Errors
/// The library's, if it has no form for an offset: above `i64::MAX`.
pub(super) fn list<'a>(
    partitions: impl IntoIterator<Item = (&'a Partition, Offset)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(&partition.topic, partition.number, offset)?;
    }
    Ok(list)
}

/// The library's form of an offset; one above `i64::MAX` becomes one that it refuses.
pub(super) fn offset(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(-1))
}

/// Finds the partitions of the messages of one chunk, of which neighbours mostly are of the same.
#[derive(Debug, Default)]
pub(super) struct Finder {
    last: Option<((usize, i32), Option<usize>)>,
}

impl Finder {
    pub(super) fn find(&mut self, table: &Table, message: &Message<'_>) -> Option<usize> {
        let key = (message.topic_key(), message.partition());
        match self.last {
            Some((last, found)) if last == key => found,
            _ => {
                let found = table.find(message.topic(), message.partition());
                self.last = Some((key, found));
                found
            }
        }
    }
}
