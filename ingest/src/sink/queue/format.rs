//! How a queue stands on disk. This is the only place that says so.
//!
//! ```text
//! file    = block*, the first one a header and all others records
//! block   = magic [u8; 8] | body length u32 | xxh3 of the body u64 | body
//! body    = synced u64 | kind u8 | content
//! header  = version u32 | queue id u64 | first offset u64 | initial u8 | count u32 | (fact u32 | next row u64)*
//! records = first offset u64 | record count u32 | queued at i64 | record*
//! record  = fact u32 | row u64 | id | user id | JSON, each a length u32 and as many bytes
//!
//! cursor  = magic [u8; 8] | version u32 | queue id u64 | life u32 | fact u32 | delivered u64 | sent u64 | stopped u8
//!         | xxh3 of all before u64
//! ```
//!
//! `synced` is how much of the file was durable when the block was written. A crash tears only what was not, so damage that a
//! later good block says was durable is no torn end. All numbers are little-endian, offsets count records.

use engine::ids::TagId;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

const BLOCK_MAGIC: [u8; 8] = *b"\x89BLGQ\r\n\x1a";
const CURSOR_MAGIC: [u8; 8] = *b"\x89BLGC\r\n\x1a";
const VERSION: u32 = 1;
/// Magic, length, checksum.
const FRAME_BYTES: usize = 8 + 4 + 8;
const CURSOR_BYTES: usize = 8 + 4 + 8 + 4 + 4 + 8 + 8 + 1 + 8;
/// The fact of a record that is of no row.
const NO_FACT: TagId = TagId(0);

/// What a file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The queue that the file belongs to.
    pub(super) id: u64,
    /// The offset of its first record.
    pub(super) first: u64,
    /// It holds members who were there when the sink began, for which the bound of the queue does not hold.
    pub(super) is_initial: bool,
    /// The rows that come next, by fact.
    pub(super) next_rows: BTreeMap<TagId, u64>,
}

/// A record of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// The row that it tells; `None` for a member who was there when the sink began.
    pub(crate) row: Option<(TagId, u64)>,
    /// What it is known by.
    pub(crate) id: &'a str,
    /// The user whom it is about.
    pub(crate) user_id: &'a str,
    /// One JSON object, without a line's end.
    pub(crate) json: &'a str,
}

/// Records in one block.
#[derive(Debug)]
pub(super) struct Records<'a> {
    pub(super) first: u64,
    pub(super) count: u32,
    /// When they came, in microseconds since 1970.
    pub(super) queued_at: i64,
    bytes: &'a [u8],
}

#[derive(Debug)]
pub(super) enum Content<'a> {
    Header(Header),
    Records(Records<'a>),
}

/// A whole block, and where the next one begins.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) content: Content<'a>,
    pub(super) next: usize,
}

/// Where a file says no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Here it ends.
    End,
    /// Here it is damaged.
    Damaged,
}

/// Records that become a block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    records: Vec<u8>,
    count: u32,
    /// The row of the last record that tells one.
    last_row: Option<(TagId, u64)>,
}

impl BlockBuilder {
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        self.last_row = record.row.or(self.last_row);
        let (fact, row) = record.row.unwrap_or((NO_FACT, 0));
        self.records.extend_from_slice(&fact.0.to_le_bytes());
        self.records.extend_from_slice(&row.to_le_bytes());
        for text in [record.id, record.user_id, record.json] {
            self.records.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.records.extend_from_slice(text.as_bytes());
        }
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The row of the last record; rows of a block are of one fact, and rise.
    pub(super) fn last_row(&self) -> Option<(TagId, u64)> {
        self.last_row
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.records.len()
    }

    /// The block; the builder is empty then.
    pub(super) fn finish(&mut self, synced: u64, first: u64, queued_at: i64) -> Vec<u8> {
        let mut body = body_of(synced, 1, self.records.len() + 20);
        body.extend_from_slice(&first.to_le_bytes());
        body.extend_from_slice(&self.count.to_le_bytes());
        body.extend_from_slice(&queued_at.to_le_bytes());
        body.append(&mut self.records);
        self.count = 0;
        self.last_row = None;
        framed(&body)
    }
}

impl Header {
    pub(super) fn to_block(&self) -> Vec<u8> {
        let mut body = body_of(0, 0, 64);
        body.extend_from_slice(&VERSION.to_le_bytes());
        body.extend_from_slice(&self.id.to_le_bytes());
        body.extend_from_slice(&self.first.to_le_bytes());
        body.push(u8::from(self.is_initial));
        body.extend_from_slice(&(self.next_rows.len() as u32).to_le_bytes());
        for (fact, row) in &self.next_rows {
            body.extend_from_slice(&fact.0.to_le_bytes());
            body.extend_from_slice(&row.to_le_bytes());
        }
        framed(&body)
    }
}

fn body_of(synced: u64, kind: u8, capacity: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(capacity + 9);
    body.extend_from_slice(&synced.to_le_bytes());
    body.push(kind);
    body
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(body.len() + FRAME_BYTES);
    block.extend_from_slice(&BLOCK_MAGIC);
    block.extend_from_slice(&(body.len() as u32).to_le_bytes());
    block.extend_from_slice(&xxh3_64(body).to_le_bytes());
    block.extend_from_slice(body);
    block
}

/// The block that begins at `at`, checked.
pub(super) fn block(bytes: &[u8], at: usize) -> Result<Block<'_>, Unreadable> {
    let (_, body, next) = checked_body(bytes, at)?;
    let content = content(body).ok_or(Unreadable::Damaged)?;
    Ok(Block { content, next })
}

/// Whether damage at `at` is not a torn end: a good block behind it was written when `at` was durable.
pub(super) fn is_corrupt(bytes: &[u8], at: usize) -> bool {
    let mut candidates = memchr::memmem::find_iter(&bytes[at..], &BLOCK_MAGIC);
    candidates.any(|index| checked_body(bytes, at + index).is_ok_and(|(synced, ..)| synced > at as u64))
}

fn checked_body(bytes: &[u8], at: usize) -> Result<(u64, &[u8], usize), Unreadable> {
    let rest = &bytes[at.min(bytes.len())..];
    if rest.is_empty() {
        return Err(Unreadable::End);
    }
    let mut reader = Reader(rest);
    let mut framed = || {
        let magic: [u8; 8] = reader.array()?;
        let length = u32::from_le_bytes(reader.array()?) as usize;
        let checksum = u64::from_le_bytes(reader.array()?);
        let body = reader.take(length)?;
        let is_good = magic == BLOCK_MAGIC && checksum == xxh3_64(body) && body.len() >= 8;
        is_good.then(|| (u64::from_le_bytes(body[..8].try_into().unwrap_or_default()), body, at + FRAME_BYTES + length))
    };
    framed().ok_or(Unreadable::Damaged)
}

fn content(body: &[u8]) -> Option<Content<'_>> {
    let mut reader = Reader(&body[8..]);
    match reader.array()? {
        [0] => {
            if u32::from_le_bytes(reader.array()?) != VERSION {
                return None;
            }
            let id = u64::from_le_bytes(reader.array()?);
            let first = u64::from_le_bytes(reader.array()?);
            let is_initial = reader.array()? == [1];
            let count = u32::from_le_bytes(reader.array()?);
            let next_rows = (0..count)
                .map(|_| Some((TagId(u32::from_le_bytes(reader.array()?)), u64::from_le_bytes(reader.array()?))));
            let next_rows = next_rows.collect::<Option<BTreeMap<_, _>>>()?;
            Some(Content::Header(Header { id, first, is_initial, next_rows }))
        }
        [1] => {
            let first = u64::from_le_bytes(reader.array()?);
            let count = u32::from_le_bytes(reader.array()?);
            let queued_at = i64::from_le_bytes(reader.array()?);
            Some(Content::Records(Records { first, count, queued_at, bytes: reader.0 }))
        }
        _ => None,
    }
}

impl<'a> Records<'a> {
    /// The records; `None` for one that is not as a record is.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<Record<'a>>> + use<'a> {
        let mut reader = Reader(self.bytes);
        (0..self.count).map(move |_| {
            let fact = TagId(u32::from_le_bytes(reader.array()?));
            let row = u64::from_le_bytes(reader.array()?);
            let row = (fact != NO_FACT).then_some((fact, row));
            Some(Record { row, id: reader.text()?, user_id: reader.text()?, json: reader.text()? })
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

/// Whose a queue is, and how far it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Names the queue among all that ever were.
    pub(super) id: u64,
    /// The life of the sink in the catalog.
    pub(super) life: TagId,
    /// The fact whose rows it takes.
    pub(super) fact: TagId,
    /// The offset of the first record that may not have been delivered.
    pub(super) delivered: u64,
    /// The end of the batch that is being sent; it is sent with the same bounds again.
    pub(super) sent: u64,
    /// The sink was stopped, so that rows were passed over.
    pub(super) is_stopped: bool,
}

impl Cursor {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CURSOR_BYTES);
        bytes.extend_from_slice(&CURSOR_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        for number in [self.life.0, self.fact.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.delivered, self.sent] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(u8::from(self.is_stopped));
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Cursor> {
        let (content, checksum) = bytes.split_at_checked(CURSOR_BYTES - 8)?;
        if checksum != xxh3_64(content).to_le_bytes() {
            return None;
        }
        let mut reader = Reader(content);
        let head = (reader.array()?, u32::from_le_bytes(reader.array()?));
        let cursor = Cursor {
            id: u64::from_le_bytes(reader.array()?),
            life: TagId(u32::from_le_bytes(reader.array()?)),
            fact: TagId(u32::from_le_bytes(reader.array()?)),
            delivered: u64::from_le_bytes(reader.array()?),
            sent: u64::from_le_bytes(reader.array()?),
            is_stopped: reader.array()? == [1],
        };
        (head == (CURSOR_MAGIC, VERSION)).then_some(cursor)
    }
}
