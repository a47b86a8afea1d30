//! The layout of a segment, told here only. All numbers little-endian.
//!
//! The payload of a sealed file of kind `BELUGSEG` (or the same bytes in memory):
//!
//! ```text
//! postings     bitmaps in the portable Roaring format, and blocks of rows, each at a multiple of 4
//! keys         encoded keys one after another, rising
//! entries      per key, 16 bytes: end of its key u32 (from the begin of `keys`) | posting at u32, in units of 4 |
//!              length of the posting u32 | cardinality (of a block: rows) u32
//! numbers      per posting with one, 12 bytes: entry u32 | number i64, by rising entry
//! hash index   u32 each, a power of two of them: entry + 1, or 0 if free; by xxh3 of the key, linear probing
//! trailer      40 bytes: keys at u64 | entries at u64 | numbers at u64 | hash index at u64 | entry count u32 | 0 u32
//!
//! key          tag u32 big-endian | part u8 | slice u8, or the value's bytes, or form u8 | chunk u16 big-endian, or
//!              dimension u16 | value length u16 | value | figure u8 | grain u8 | slice u32 | negative u8 | bit u8, all big-endian
//! ```

use super::{ActivityKey, BITS_MAX, BlockKey, Figure, Form, Key, Part, Series};
use crate::behavior::{Grain, Slice};
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
        Part::Activity(key) => {
            out.push(ACTIVITY);
            encode_series(key.series, out);
            encode_slice(key.figure.of, key.slice, out);
            out.extend_from_slice(&[u8::from(key.figure.is_negative), key.bit]);
        }
        Part::Block(BlockKey { form, chunk }) => {
            out.extend_from_slice(&[BLOCK, form as u8]);
            out.extend_from_slice(&chunk.to_be_bytes());
        }
    }
}

const ACTIVITY: u8 = 5;
const BLOCK: u8 = 6;
/// Turned, so that negative numbers sort first.
const SIGN: u32 = 1 << 31;
const ACTIVITY_TAIL_BYTES: usize = 8;

fn encode_series(series: Series<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&series.dimension.to_be_bytes());
    out.extend_from_slice(&(series.value.len() as u16).to_be_bytes());
    out.extend_from_slice(series.value);
}

fn encode_slice(figure: u8, slice: Slice, out: &mut Vec<u8>) {
    out.extend_from_slice(&[figure, slice.grain as u8]);
    out.extend_from_slice(&(slice.number as u32 ^ SIGN).to_be_bytes());
}

/// What the keys of a figure of a series in a slice begin with.
pub(super) fn slice_prefix(fact: TagId, series: Series<'_>, figure: u8, slice: Slice) -> Vec<u8> {
    let mut prefix = series_prefix(fact, series);
    encode_slice(figure, slice, &mut prefix);
    prefix
}

/// What the keys of a series begin with.
pub(super) fn series_prefix(fact: TagId, series: Series<'_>) -> Vec<u8> {
    let mut prefix = dimension_prefix(fact, series.dimension);
    prefix.truncate(5);
    encode_series(series, &mut prefix);
    prefix
}

/// What the keys of a dimension begin with.
pub(super) fn dimension_prefix(fact: TagId, dimension: u16) -> Vec<u8> {
    let mut prefix = fact.0.to_be_bytes().to_vec();
    prefix.push(ACTIVITY);
    prefix.extend_from_slice(&dimension.to_be_bytes());
    prefix
}

fn decode_activity(bytes: &[u8]) -> Option<ActivityKey<'_>> {
    let (dimension, rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let [figure, grain, a, b, c, d, negative, bit] = *rest.as_array::<ACTIVITY_TAIL_BYTES>()?;
    let grain = match grain {
        0 => Grain::Month,
        1 => Grain::Day,
        2 => Grain::Hour,
        _ => return None,
    };
    let number = (u32::from_be_bytes([a, b, c, d]) ^ SIGN) as i32;
    (bit < BITS_MAX && negative < 2).then_some(ActivityKey {
        series: Series { dimension: u16::from_be_bytes(*dimension), value },
        slice: Slice { grain, number },
        figure: Figure { of: figure, is_negative: negative == 1 },
        bit,
    })
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
        (&ACTIVITY, rest) => Part::Activity(decode_activity(rest)?),
        (&BLOCK, [form, a, b]) => {
            Part::Block(BlockKey { form: *Form::ALL.get(usize::from(*form))?, chunk: u16::from_be_bytes([*a, *b]) })
        }
        _ => return None,
    };
    Some(Key { tag: TagId(u32::from_be_bytes(*tag)), part })
}

/// Slots of the hash index for this many entries: at most three in four are taken.
pub(super) fn index_len(entry_count: usize) -> usize {
    (entry_count * 4 / 3 + 1).next_power_of_two()
}
