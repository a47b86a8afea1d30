//! The layout of a segment, told here only. All numbers little-endian.
//!
//! The payload of a sealed file of kind `BELUGSEG` (or the same bytes in memory):
//!
//! ```text
//! postings     bitmaps in the portable Roaring format, each at a multiple of 4
//! keys         encoded keys one after another, rising
//! entries      per key, 16 bytes: end of its key u32 (from the begin of `keys`) | posting at u32, in units of 4 |
//!              length of the posting u32 | cardinality u32
//! numbers      per posting with one, 12 bytes: entry u32 | number i64, by rising entry
//! hash index   u32 each, a power of two of them: entry + 1, or 0 if free; by xxh3 of the key, linear probing
//! trailer      40 bytes: keys at u64 | entries at u64 | numbers at u64 | hash index at u64 | entry count u32 | 0 u32
//!
//! key          tag u32 big-endian | part u8 | slice u8, or the value's bytes
//! ```

use super::{Key, Part};
use crate::ids::TagId;

pub(super) const KIND: [u8; 8] = *b"BELUGSEG";
pub(super) const VERSION: u32 = 1;
pub(super) const ENTRY_BYTES: usize = 16;
pub(super) const NUMBER_BYTES: usize = 12;
pub(super) const TRAILER_BYTES: usize = 40;
pub(super) const POSTING_ALIGN: u64 = 4;

/// Appends the encoded key; encoded keys sort as keys do.
pub(super) fn encode_key(key: Key<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&key.tag.0.to_be_bytes());
    match key.part {
        Part::Touched => out.push(0),
        Part::Exists => out.push(1),
        Part::Slice(bit) => out.extend_from_slice(&[2, bit]),
        Part::Value(value) => {
            out.push(3);
            out.extend_from_slice(value);
        }
        Part::Removed(value) => {
            out.push(4);
            out.extend_from_slice(value);
        }
    }
}

/// The key behind encoded bytes, if they are one.
pub(super) fn decode_key(bytes: &[u8]) -> Option<Key<'_>> {
    let (tag, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_first()?;
    let part = match (part, rest) {
        (0, []) => Part::Touched,
        (1, []) => Part::Exists,
        (2, [bit]) if *bit < 64 => Part::Slice(*bit),
        (3, value) => Part::Value(value),
        (4, value) => Part::Removed(value),
        _ => return None,
    };
    Some(Key { tag: TagId(u32::from_be_bytes(*tag)), part })
}

/// Slots of the hash index for this many entries: at most three in four are taken.
pub(super) fn index_len(entry_count: usize) -> usize {
    (entry_count * 4 / 3 + 1).next_power_of_two()
}
