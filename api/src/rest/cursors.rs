//! Cursors: where a list goes on, on the snapshot it began with.
//!
//! A cursor names a held question (snapshot and predicate) and a position in it, so pages never overlap or miss a
//! member whatever is written in between. Held snapshots keep files and memory alive; therefore they are few: unused
//! ones expire, and when there are too many the one unused for longest goes. Its cursors then answer
//! [`Kind::CursorExpired`], never wrong pages.
//!
//! Text form: 16 hex digits question, 4 shard, 8 slot, 8 checksum.

use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::state::lock;
use engine::audience::ops::Position;
use engine::audience::predicate::Predicate;
use engine::ids::ShardId;
use engine::store::Snapshot;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A question whose pages are being read.
pub struct Held {
    /// Its number in cursors.
    pub id: u64,
    /// Who asked, as they were: nobody else goes on with it.
    principal: Principal,
    /// The view that all of its pages are of.
    pub snapshot: Snapshot,
    /// Whose members are listed.
    pub predicate: Predicate,
    /// The canonical text, to refuse a cursor that comes with another question.
    pub text: String,
}

/// The held questions.
pub struct Cursors {
    held: Mutex<HashMap<u64, (Arc<Held>, Instant)>>,
    held_max: usize,
    idle_max: Duration,
    /// Random numbers, so that cursors of an earlier run of the server are expired, not somebody else's.
    random: RandomState,
}

impl Cursors {
    /// Holds at most `held_max` questions, each at most `idle_max` after its last use.
    pub fn new(held_max: usize, idle_max: Duration) -> Cursors {
        Cursors { held: Mutex::default(), held_max, idle_max, random: RandomState::new() }
    }

    /// How many questions are held.
    pub fn len(&self) -> usize {
        lock(&self.held).len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Holds a question.
    pub fn hold(&self, principal: &Principal, snapshot: Snapshot, predicate: Predicate, text: String) -> Arc<Held> {
        self.expire();
        let mut held = lock(&self.held);
        if held.len() >= self.held_max {
            let oldest = held.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| held.remove(&id));
        }
        let id = (0u64..).map(|n| self.random.hash_one((n, Instant::now()))).find(|id| !held.contains_key(id));
        let id = id.expect("there are more numbers than held questions");
        let question = Arc::new(Held { id, principal: principal.clone(), snapshot, predicate, text });
        held.insert(id, (Arc::clone(&question), Instant::now()));
        question
    }

    /// The question and position of a cursor that was given to somebody.
    ///
    /// # Errors
    /// [`Kind::InvalidCursor`] or [`Kind::CursorExpired`].
    pub fn resume(&self, cursor: &str, principal: &Principal) -> Result<(Arc<Held>, Position), Failure> {
        let (id, position) = parse(cursor).ok_or_else(|| {
            Failure::new(Kind::InvalidCursor, "this is not a cursor; send `next` of the page before as it is")
                .at("/cursor")
        })?;
        self.expire();
        match lock(&self.held).get_mut(&id) {
            Some((question, used)) if question.principal == *principal => {
                *used = Instant::now();
                Ok((Arc::clone(question), position))
            }
            _ => Err(Failure::new(
                Kind::CursorExpired,
                "the list's snapshot is no longer held (unused for too long, too many lists at once, or the server was restarted); begin again without a cursor",
            )
            .at("/cursor")),
        }
    }

    /// Lets go of what was unused for too long.
    pub fn expire(&self) {
        lock(&self.held).retain(|_, (_, used)| used.elapsed() < self.idle_max);
    }
}

/// A cursor's text.
pub fn print(id: u64, position: Position) -> String {
    let text = format!("{id:016x}{:04x}{:08x}", position.shard.0, position.slot);
    format!("{text}{:08x}", checksum(&text))
}

fn parse(cursor: &str) -> Option<(u64, Position)> {
    if cursor.len() != 36 || !cursor.is_ascii() {
        return None;
    }
    let (text, check) = cursor.split_at(28);
    if u32::from_str_radix(check, 16).ok()? != checksum(text) {
        return None;
    }
    let id = u64::from_str_radix(&text[..16], 16).ok()?;
    let shard = ShardId(u16::from_str_radix(&text[16..20], 16).ok()?);
    let slot = u32::from_str_radix(&text[20..], 16).ok()?;
    Some((id, Position { shard, slot }))
}

/// Tells a mistyped cursor from an expired one; it protects from nothing else.
fn checksum(text: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_any_change_is_noticed() {
        let position = Position { shard: ShardId(7), slot: u32::MAX };
        let cursor = print(u64::MAX - 1, position);
        assert_eq!(parse(&cursor), Some((u64::MAX - 1, position)));
        for at in 0..cursor.len() {
            let mut bytes = cursor.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(parse(std::str::from_utf8(&bytes).expect("ascii")), None, "changed at {at}");
        }
        for bad in ["", "x", "é234567890123456789012345678901234"] {
            assert_eq!(parse(bad), None);
        }
    }
}
