//! What a writer says about users: a batch of tag updates and events in one flat buffer.
//!
//! A decoder fills a batch once; the same bytes are appended to the write-ahead log, applied to the in-memory layers
//! and, after a crash, replayed. So a batch is built without an allocation per user and is never encoded twice.
//!
//! Layout, little-endian, users one after another until the end:
//!
//! ```text
//! user   = id length u16 | id | change count u32 | change*
//! change = tag u32 | kind u8 | payload
//! kind   = 0 unset: nothing | 1 enum, 4 add, 5 remove: length u32, value | 2 number: i64 | 3 flag: u8, 0 or 1
//!          | 6 event (`tag` is the fact): length u32, see `event` | 7 vector (`tag` is the space): length u32, f32*
//! ```

mod event;

pub(crate) use event::read_event;
pub use event::{Event, EventHead, Value};

use crate::ids::{TagId, USER_ID_BYTES_MAX};

/// What happens to one tag of one user, where later changes win over earlier ones; or what the user did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change<'a> {
    /// The user has no value any more: NULL for `enum` and `number`, false for `flag`, empty for `set`.
    Unset,
    /// An `enum` gets this value.
    Enum(&'a str),
    /// A `number` gets this value, in the tag's unit.
    Number(i64),
    /// A `flag` becomes true or false.
    Flag(bool),
    /// A `set` gains a value.
    Add(&'a str),
    /// A `set` loses a value.
    Remove(&'a str),
    /// An event of a fact.
    Event(Event<'a>),
    /// The user's vector in a space: its numbers, little-endian. [`Change::Unset`] takes it away.
    Vector(&'a [[u8; 4]]),
}

/// Tag updates of many users, in arrival order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateBatch {
    bytes: Vec<u8>,
    user_count: usize,
    change_count: usize,
    /// Where the open user's change count stands, if a user is open.
    open_count_at: Option<usize>,
}

/// One user of a batch.
#[derive(Clone, Copy, Debug)]
pub struct UserUpdate<'a> {
    /// The user's id; never empty.
    pub user_id: &'a [u8],
    changes: &'a [u8],
}

/// Why bytes are not a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("update batch damaged at byte {offset_bytes}: {what}")]
pub struct BatchDamage {
    /// Offset in the batch.
    pub offset_bytes: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl UpdateBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the next user; the changes pushed from now on are this user's. A user without changes becomes known.
    ///
    /// # Panics
    /// If the id is empty or longer than [`USER_ID_BYTES_MAX`]: the decoder has refused such ids with a better error.
    pub fn begin_user(&mut self, user_id: &[u8]) {
        assert!(!user_id.is_empty() && user_id.len() <= USER_ID_BYTES_MAX, "the decoder checks id lengths");
        self.bytes.extend_from_slice(&(user_id.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(user_id);
        self.open_count_at = Some(self.bytes.len());
        self.bytes.extend_from_slice(&0u32.to_le_bytes());
        self.user_count += 1;
    }

    /// Adds a change to the user begun last.
    ///
    /// # Panics
    /// If no user was begun.
    pub fn push(&mut self, tag: TagId, change: Change<'_>) {
        let at = self.open_count_at.expect("begin_user comes before push");
        self.bytes.extend_from_slice(&tag.0.to_le_bytes());
        match change {
            Change::Unset => self.bytes.push(0),
            Change::Enum(value) => self.push_text(1, value),
            Change::Number(value) => {
                self.bytes.push(2);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            Change::Flag(value) => self.bytes.extend_from_slice(&[3, u8::from(value)]),
            Change::Add(value) => self.push_text(4, value),
            Change::Remove(value) => self.push_text(5, value),
            Change::Event(event) => {
                let values: Vec<Value<'_>> = event.values().collect();
                self.push_event_payload(&event.head, &values);
            }
            Change::Vector(numbers) => self.push_vector_payload(numbers.iter().copied()),
        }
        self.count_change(at);
    }

    /// Adds an event of the user begun last, with a value for each column of the fact, in order.
    ///
    /// # Panics
    /// If no user was begun, or the event's id is longer than [`crate::ids::EVENT_ID_BYTES_MAX`].
    pub fn push_event(&mut self, fact: TagId, head: &EventHead<'_>, values: &[Value<'_>]) {
        let at = self.open_count_at.expect("begin_user comes before push");
        self.bytes.extend_from_slice(&fact.0.to_le_bytes());
        self.push_event_payload(head, values);
        self.count_change(at);
    }

    /// Gives the user begun last a vector, which its space has checked.
    ///
    /// # Panics
    /// If no user was begun.
    pub fn push_vector(&mut self, space: TagId, numbers: &[f32]) {
        let at = self.open_count_at.expect("begin_user comes before push");
        self.bytes.extend_from_slice(&space.0.to_le_bytes());
        self.push_vector_payload(numbers.iter().map(|number| number.to_le_bytes()));
        self.count_change(at);
    }

    fn push_vector_payload(&mut self, numbers: impl ExactSizeIterator<Item = [u8; 4]>) {
        self.bytes.push(VECTOR);
        self.bytes.extend_from_slice(&(numbers.len() as u32 * 4).to_le_bytes());
        self.bytes.extend(numbers.flatten());
    }

    fn push_event_payload(&mut self, head: &EventHead<'_>, values: &[Value<'_>]) {
        self.bytes.push(EVENT);
        let len_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        event::push(&mut self.bytes, head, values);
        let len = (self.bytes.len() - len_at - 4) as u32;
        self.bytes[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn count_change(&mut self, at: usize) {
        let count = &mut self.bytes[at..at + 4];
        let next = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) + 1;
        count.copy_from_slice(&next.to_le_bytes());
        self.change_count += 1;
    }

    fn push_text(&mut self, kind: u8, value: &str) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// A mark to come back to with [`UpdateBatch::truncate`], taken before a user that may turn out bad.
    pub fn mark(&self) -> BatchMark {
        BatchMark { bytes: self.bytes.len(), user_count: self.user_count, change_count: self.change_count }
    }

    /// Takes back everything since `mark`.
    pub fn truncate(&mut self, mark: BatchMark) {
        self.bytes.truncate(mark.bytes);
        self.user_count = mark.user_count;
        self.change_count = mark.change_count;
        self.open_count_at = None;
    }

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.truncate(BatchMark { bytes: 0, user_count: 0, change_count: 0 });
    }

    /// The encoded batch.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks and takes encoded bytes.
    ///
    /// # Errors
    /// [`BatchDamage`] if they are not a batch.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, BatchDamage> {
        let (mut user_count, mut change_count) = (0, 0);
        let mut reader = Reader { bytes: &bytes, at: 0 };
        while reader.at < bytes.len() {
            let id = reader.user_id()?;
            if id.is_empty() || id.len() > USER_ID_BYTES_MAX {
                return Err(reader.damage("user id length out of range"));
            }
            for _ in 0..reader.u32()? {
                if let (_, Change::Event(event)) = reader.change()? {
                    event.check()?;
                }
                change_count += 1;
            }
            user_count += 1;
        }
        Ok(UpdateBatch { bytes, user_count, change_count, open_count_at: None })
    }

    /// The users, in arrival order; one user may come several times.
    pub fn users(&self) -> impl Iterator<Item = UserUpdate<'_>> {
        let mut reader = Reader { bytes: &self.bytes, at: 0 };
        std::iter::from_fn(move || (reader.at < reader.bytes.len()).then(|| reader.user().expect(CHECKED)))
    }

    /// The same without the user entries that are not wanted, told by their places.
    pub fn retained(&self, mut is_wanted: impl FnMut(usize) -> bool) -> UpdateBatch {
        let mut kept = UpdateBatch::new();
        let mut reader = Reader { bytes: &self.bytes, at: 0 };
        for index in 0.. {
            let from = reader.at;
            if from >= self.bytes.len() {
                break;
            }
            let user = reader.user().expect(CHECKED);
            if is_wanted(index) {
                kept.bytes.extend_from_slice(&self.bytes[from..reader.at]);
                kept.user_count += 1;
                kept.change_count += user.changes().count();
            }
        }
        kept
    }

    /// How many user entries the batch has.
    pub fn user_count(&self) -> usize {
        self.user_count
    }

    /// How many changes the batch has.
    pub fn change_count(&self) -> usize {
        self.change_count
    }

    /// Whether the batch has no users.
    pub fn is_empty(&self) -> bool {
        self.user_count == 0
    }
}

/// See [`UpdateBatch::mark`].
#[derive(Clone, Copy, Debug)]
pub struct BatchMark {
    bytes: usize,
    user_count: usize,
    change_count: usize,
}

/// The kind of change that is an event.
const EVENT: u8 = 6;
/// The kind of change that is a vector.
const VECTOR: u8 = 7;

const CHECKED: &str = "a batch is built by push or checked by from_bytes";

impl<'a> UserUpdate<'a> {
    /// The user's changes, in arrival order.
    pub fn changes(&self) -> impl Iterator<Item = (TagId, Change<'a>)> + use<'a> {
        let mut reader = Reader { bytes: self.changes, at: 0 };
        std::iter::from_fn(move || (reader.at < reader.bytes.len()).then(|| reader.change().expect(CHECKED)))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn damage(&self, what: &'static str) -> BatchDamage {
        BatchDamage { offset_bytes: self.at, what }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], BatchDamage> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| self.damage("ends in the middle of an entry"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchDamage> {
        Ok(self.take(N)?.try_into().expect("take gives exactly N bytes"))
    }

    fn u32(&mut self) -> Result<u32, BatchDamage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, BatchDamage> {
        let len = self.u32()? as usize;
        self.utf8(len)
    }

    fn utf8(&mut self, len: usize) -> Result<&'a str, BatchDamage> {
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.damage("value is not UTF-8"))
    }

    fn user_id(&mut self) -> Result<&'a [u8], BatchDamage> {
        let len = u16::from_le_bytes(self.array()?);
        self.take(len.into())
    }

    fn user(&mut self) -> Result<UserUpdate<'a>, BatchDamage> {
        let user_id = self.user_id()?;
        let count = self.u32()?;
        let from = self.at;
        for _ in 0..count {
            self.skip_change()?;
        }
        Ok(UserUpdate { user_id, changes: &self.bytes[from..self.at] })
    }

    fn skip_change(&mut self) -> Result<(), BatchDamage> {
        let head: [u8; 5] = self.array()?;
        let len = match head[4] {
            1 | 4 | 5 | EVENT | VECTOR => self.u32()? as usize,
            2 => 8,
            3 => 1,
            _ => 0,
        };
        self.take(len).map(|_| ())
    }

    fn change(&mut self) -> Result<(TagId, Change<'a>), BatchDamage> {
        let tag = TagId(self.u32()?);
        let [kind] = self.array()?;
        let change = match kind {
            0 => Change::Unset,
            1 => Change::Enum(self.text()?),
            2 => Change::Number(i64::from_le_bytes(self.array()?)),
            3 => Change::Flag(self.array::<1>()? != [0]),
            4 => Change::Add(self.text()?),
            5 => Change::Remove(self.text()?),
            EVENT => {
                let len = self.u32()? as usize;
                Change::Event(event::read(self.take(len)?)?)
            }
            VECTOR => {
                let len = self.u32()? as usize;
                match self.take(len)?.as_chunks() {
                    (numbers, []) => Change::Vector(numbers),
                    _ => return Err(self.damage("a vector is not made of whole numbers")),
                }
            }
            _ => return Err(self.damage("unknown kind of change")),
        };
        Ok((tag, change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> UpdateBatch {
        let mut batch = UpdateBatch::new();
        batch.begin_user(b"u1");
        batch.push(TagId(16), Change::Enum("f"));
        batch.push(TagId(17), Change::Number(-3));
        batch.begin_user(b"u2");
        batch.begin_user("ü".as_bytes());
        for change in [Change::Unset, Change::Flag(true), Change::Add("yoga"), Change::Remove("golf")] {
            batch.push(TagId(18), change);
        }
        let head = EventHead { ts: -5, is_retraction: true, event_id: "e1", undeclared: "{\"a\":1}" };
        batch.push_event(TagId(19), &head, &VALUES);
        batch.push_vector(TagId(20), &VECTOR_NUMBERS);
        batch
    }

    const VECTOR_NUMBERS: [f32; 3] = [0.5, -1.0, 3.25];
    const VALUES: [Value<'_>; 5] =
        [Value::Null, Value::Text("shoes"), Value::Integer(-1250), Value::Float(0.5), Value::Boolean(true)];

    #[test]
    fn reads_back_what_was_pushed() {
        let batch = UpdateBatch::from_bytes(sample().as_bytes().to_vec()).expect("valid");
        assert_eq!((batch.user_count(), batch.change_count()), (3, 8));
        let users: Vec<_> = batch.users().collect();
        assert_eq!(users[0].user_id, b"u1");
        assert_eq!(users[0].changes().nth(1), Some((TagId(17), Change::Number(-3))));
        assert_eq!(users[1].changes().count(), 0);
        assert_eq!(users[2].changes().nth(3), Some((TagId(18), Change::Remove("golf"))));
        let Some((TagId(19), Change::Event(event))) = users[2].changes().nth(4) else { panic!("an event") };
        assert_eq!((event.head.ts, event.head.event_id, event.head.undeclared), (-5, "e1", "{\"a\":1}"));
        assert!(event.head.is_retraction);
        assert!(event.values().eq(VALUES));
        let Some((TagId(20), Change::Vector(numbers))) = users[2].changes().last() else { panic!("a vector") };
        assert!(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).eq(VECTOR_NUMBERS));
        let mut again = UpdateBatch::new();
        again.begin_user(b"u");
        again.push(TagId(19), Change::Event(event));
        assert_eq!(
            again.users().next().and_then(|user| user.changes().next()),
            Some((TagId(19), Change::Event(event)))
        );
    }

    #[test]
    fn takes_back_to_a_mark() {
        let mut batch = sample();
        let mark = batch.mark();
        batch.begin_user(b"bad");
        batch.push(TagId(16), Change::Enum("x"));
        batch.truncate(mark);
        assert_eq!(batch.as_bytes(), sample().as_bytes());
        assert_eq!(batch.change_count(), 8);
    }

    fn walk((_, change): (TagId, Change<'_>)) {
        if let Change::Event(event) = change {
            event.values().for_each(drop);
        }
    }

    #[test]
    fn no_damage_panics() {
        let good = sample();
        for cut in 0..good.as_bytes().len() {
            let _ = UpdateBatch::from_bytes(good.as_bytes()[..cut].to_vec());
        }
        for at in 0..good.as_bytes().len() {
            for bit in 0..8 {
                let mut bytes = good.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(batch) = UpdateBatch::from_bytes(bytes) {
                    batch.users().for_each(|user| user.changes().for_each(walk));
                }
            }
        }
    }
}
