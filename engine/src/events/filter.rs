//! A blocked Bloom filter: whether a file may have a key, by one cache line.
//!
//! Source: F. Putze, P. Sanders and J. Singler, "Cache-, hash- and space-efficient Bloom filters" (2007). About 10 bits a key
//! and 6 bits set give one false answer in a hundred.

use super::EventKey;

const BLOCK_BYTES: usize = 64;
const KEYS_PER_BLOCK: usize = BLOCK_BYTES * 8 / 10;
const BITS_SET: u32 = 6;

/// Bytes of a filter for so many keys.
pub(super) fn size_bytes(keys: usize) -> usize {
    keys.div_ceil(KEYS_PER_BLOCK).max(1) * BLOCK_BYTES
}

/// Notes a key; `filter` has [`size_bytes`].
pub(super) fn add(filter: &mut [u8], key: EventKey) {
    let (block, bits) = place(filter.len(), key);
    for bit in bits {
        filter[block * BLOCK_BYTES + bit / 8] |= 1 << (bit % 8);
    }
}

/// Whether the key may have been noted.
pub(super) fn may_have(filter: &[u8], key: EventKey) -> bool {
    let (block, mut bits) = place(filter.len(), key);
    let Some(block) = filter.get(block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES) else { return true };
    bits.all(|bit| block[bit / 8] >> (bit % 8) & 1 == 1)
}

fn place(len: usize, key: EventKey) -> (usize, impl Iterator<Item = usize>) {
    let (high, low) = ((key.0 >> 64) as u64, key.0 as u64);
    let blocks = (len / BLOCK_BYTES) as u128;
    // The lower half of the key, so that neighbours in a sorted file are spread.
    let block = ((u128::from(low) * blocks) >> 64) as usize;
    (block, (0..BITS_SET).map(move |index| (high >> (9 * index) & 511) as usize))
}
