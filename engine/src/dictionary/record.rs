//! How an id stands among others, in memory and on disk: one after another by slot, each as
//! `slot u32 | length u16 | bytes`, little-endian. An erased id has length 0.
//!
//! The slot beside the id lets a look-up end where the id is compared: it waits for memory twice, once for the index
//! and once for the record. The way back, from a slot to its id, begins at the record of every eighth slot.

use crate::ids::{Slot, USER_ID_BYTES_MAX};

/// Bytes of a record before the id's.
pub(super) const HEADER_BYTES: usize = 6;

/// Slots of which the first one's position is kept.
pub(super) const GROUP: u32 = 8;

const _: () = assert!(USER_ID_BYTES_MAX <= u16::MAX as usize, "a record has 16 bits for the length");

/// What stands before an id's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) slot: Slot,
    pub(super) id_len: u16,
}

impl Header {
    /// Of an id, which the decoders have refused if it is longer than [`USER_ID_BYTES_MAX`].
    pub(super) fn of(slot: Slot, id: &[u8]) -> Self {
        Header { slot, id_len: id.len() as u16 }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.slot.to_le_bytes());
        bytes[4..].copy_from_slice(&self.id_len.to_le_bytes());
        bytes
    }

    /// The header a record begins with.
    #[inline]
    pub(super) fn read(record: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f] = *record;
        Header { slot: u32::from_le_bytes([a, b, c, d]), id_len: u16::from_le_bytes([e, f]) }
    }

    /// Bytes of the whole record.
    #[inline]
    pub(super) fn record_len(self) -> usize {
        HEADER_BYTES + usize::from(self.id_len)
    }
}
