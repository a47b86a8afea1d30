//! MurmurHash3, as Doris and StarRocks hash what is no integer into bitmaps.
//!
//! Source: A. Appleby, MurmurHash3, `MurmurHash3_x86_32`; the 64-bit one is its `x64` rounds on one lane, as Doris has it.

/// The seed of the 32-bit hash.
const SEED: u32 = 104_729;

/// 32 bits; different texts often have the same ones.
pub(super) fn murmur3_32(bytes: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, tail) = bytes.as_chunks::<4>();
    let mut hash = SEED;
    for word in words {
        hash = (hash ^ mix(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    // Nothing is mixed in of an empty tail: its word is 0.
    hash ^= mix(u32::from_le_bytes(last));
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// 64 bits.
pub(super) fn murmur3_64(bytes: &[u8]) -> u64 {
    let mix = |word: u64| word.wrapping_mul(0x87c3_7b91_1142_53d5).rotate_left(31).wrapping_mul(0x4cf5_ad43_2745_937f);
    let (words, tail) = bytes.as_chunks::<8>();
    let mut hash = 0u64;
    for word in words {
        hash = (hash ^ mix(u64::from_le_bytes(*word))).rotate_left(27).wrapping_mul(5).wrapping_add(0x52dc_e729);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    hash ^= mix(u64::from_le_bytes(last));
    hash ^= bytes.len() as u64;
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}
