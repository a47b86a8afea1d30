//! The list behind one lock: questions that are open, and the newest of those that ended.
//!
//! Nothing is copied under the lock, and no text is made: a question is put in and taken out in less than a microsecond. Statements and
//! questions about audiences are forgotten apart from each other: thousands of counts a second leave the last statements to be seen.

use super::watch::Watched;
use super::{Asks, Progress, Query};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Statements that are remembered after their end, and as many other questions.
pub const ENDED_MAX: usize = 1_000;
/// Bytes that are remembered of a statement or an expression.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// By number, so that they are told in the order in which they came.
    open: BTreeMap<u64, Arc<Watched>>,
    statements: VecDeque<Arc<Ended>>,
    questions: VecDeque<Arc<Ended>>,
    /// How many have ended.
    ended: u64,
}

/// A question that is over.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which of all that ended.
    place: u64,
    pub(super) watched: Arc<Watched>,
    pub(super) how: Progress,
    elapsed: Duration,
}

impl Ended {
    pub(super) fn told(&self) -> Query {
        Query { elapsed: self.elapsed, ..self.watched.told(self.how.clone()) }
    }
}

impl Log {
    /// A question came.
    pub(super) fn open(&mut self, watched: Arc<Watched>) {
        self.open.insert(watched.number, watched);
    }

    /// A question is over; what is forgotten instead, to be dropped behind the lock.
    pub(super) fn end(&mut self, watched: &Arc<Watched>, how: Progress, elapsed: Duration) -> Option<Arc<Ended>> {
        self.open.remove(&watched.number);
        self.ended += 1;
        let ended = Arc::new(Ended { place: self.ended, watched: Arc::clone(watched), how, elapsed });
        let ring = if watched.asks == Asks::Sql { &mut self.statements } else { &mut self.questions };
        let forgotten = if ring.len() >= ENDED_MAX { ring.pop_front() } else { None };
        ring.push_back(ended);
        forgotten
    }

    /// Those that are open and those that ended, newest first.
    pub(super) fn all(&self) -> (Vec<Arc<Watched>>, Vec<Arc<Ended>>) {
        let mut ended: Vec<_> = self.statements.iter().chain(&self.questions).map(Arc::clone).collect();
        ended.sort_unstable_by_key(|ended| Reverse(ended.place));
        (self.open.values().rev().map(Arc::clone).collect(), ended)
    }
}

/// The begin of a long text, at the border of a character.
pub fn begin_of(text: &str) -> String {
    match text.len() > TEXT_BYTES_MAX {
        false => text.to_owned(),
        true => format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]),
    }
}
