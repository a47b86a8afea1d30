//! The other side: a seam, behind which are a broker, a folder, an address.

use crate::stop::Stop;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Opens the other side, as often as needed.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Opens it for a sink.
    ///
    /// # Errors
    /// [`DeliveryError::Later`] if it is away, any other if a setting is wrong: the sink then waits to be told something else.
    fn open(&self, sink: &SinkIdentity) -> Result<Box<dyn Deliver>, DeliveryError>;
}

/// Which sink it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkIdentity {
    /// Its name.
    pub name: String,
    /// Its life: another number for a sink that was dropped and declared again, whose offsets begin anew.
    pub id: u64,
}

impl SinkIdentity {
    /// What names it among all sinks of all servers: `crm-00000123abcd4567`.
    pub fn key(&self) -> String {
        format!("{}-{:016x}", self.name, self.id)
    }
}

/// Brings batches to the other side, one at a time and in order.
pub trait Deliver: Send {
    /// The offset up to which the other side has all records, if it keeps that itself together with them. It wins over what
    /// is kept here.
    ///
    /// # Errors
    /// [`DeliveryError`], as in opening.
    fn committed(&mut self) -> Result<Option<u64>, DeliveryError> {
        Ok(None)
    }

    /// Delivers a batch: when this returns the other side has its records for good, but for those it answers, which the other
    /// side does not take and which become dead letters. The same batch may come again, after an error and after a crash.
    ///
    /// One that delivers a batch as a whole or not at all answers [`DeliveryError::Refused`] instead, and gets the batch again
    /// with what it refused left out: so there is a dead letter of it before the rest of its batch is there.
    ///
    /// It looks at `stop` while it waits and then returns with [`DeliveryError::Later`].
    ///
    /// # Errors
    /// [`DeliveryError`]; but for [`DeliveryError::Refused`], what became of the batch may then be unknown.
    fn deliver(&mut self, delivery: &Delivery<'_>, stop: &Stop) -> Result<Vec<Refusal>, DeliveryError>;

    /// The records of a batch that failed, from `first` on, become dead letters: the other side is to have none of them.
    fn pass_over(&mut self, _first: u64) {}

    /// Nothing is to be delivered at present: all before `end` was, and is noted.
    ///
    /// # Errors
    /// [`DeliveryError`]; it is called again.
    fn rest(&mut self, _end: u64) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// A batch under way.
#[derive(Clone, Debug)]
pub struct Delivery<'a> {
    /// The offset of its first record.
    pub first: u64,
    /// The records.
    pub records: Vec<DeliveryRecord<'a>>,
    /// Places of records that are dead letters by now. Only who answers [`DeliveryError::Refused`] meets any.
    pub left_out: BTreeSet<usize>,
    /// What the batch is known by, also when it comes again: `crm-00000123abcd4567/0-100`.
    pub key: String,
}

/// A record under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRecord<'a> {
    /// What it is known by, also when it comes again.
    pub id: &'a str,
    /// The user whom it is about.
    pub user_id: &'a str,
    /// One JSON object, without a line's end.
    pub json: &'a str,
}

impl Delivery<'_> {
    /// The offset behind its last record.
    pub fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

/// A record that the other side does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the batch.
    pub index: usize,
    /// Why.
    pub why: String,
}

/// Why a batch is not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It is to be tried again.
    #[error("{why}")]
    Later {
        /// What happened.
        why: String,
        /// How long the other side wants to be left alone.
        after: Option<Duration>,
    },
    /// It will never be taken.
    #[error("{0}")]
    Never(String),
    /// Nothing of it was delivered, and these records will never be taken; it is to be tried without them.
    #[error("{} records are refused", .0.len())]
    Refused(Vec<Refusal>),
}

impl DeliveryError {
    /// One that is to be tried again soon.
    pub fn later(why: impl Into<String>) -> DeliveryError {
        DeliveryError::Later { why: why.into(), after: None }
    }
}
