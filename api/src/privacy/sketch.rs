//! A set of users in ten kilobytes, such that two of these tell how many users are in one set and not in the other.
//!
//! A secret hash of each user names a *level* (half of all users have level 0, a quarter level 1, …), a bin there, and a byte; a bin holds the
//! exclusive or of its users' bytes. So whoever is in both sets is in neither difference, and the bins that differ count who is not, as in linear
//! counting: 1 for one user, 2 for two, and within a few percent for any number, since where the bins of low levels are crowded the
//! higher ones, which see a part of all users, are counted for all.
//!
//! Slots are never given to another user, so a set of slots is a set of users whenever it is looked at.

use super::noise::Key;
use roaring::RoaringBitmap;
use siphasher::sip::SipHasher13;

/// Levels; the last one has the users of all that would follow.
const LEVELS: usize = 10;
/// Bins of a level.
const BINS: usize = 1024;
/// Bytes of a sketch.
pub(super) const SKETCH_BYTES: usize = LEVELS * BINS;
/// Bins of a level that differ at most where they are counted: beyond that too many users share one.
const CROWDED: usize = BINS * 3 / 4;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sketch(Box<[u8]>);

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sketch")
    }
}

impl Sketch {
    /// Of users, as slots per shard.
    pub(super) fn of(key: &Key, users: &[RoaringBitmap]) -> Sketch {
        let hasher = SipHasher13::new_with_key(key.of_users());
        let mut bins = vec![0; SKETCH_BYTES].into_boxed_slice();
        for (shard, slots) in (0u32..).zip(users) {
            for slot in slots {
                let hash = hasher.hash(&(u64::from(shard) << 32 | u64::from(slot)).to_le_bytes());
                let level = (hash.trailing_zeros() as usize).min(LEVELS - 1);
                let bin = (hash >> 32) as usize % BINS;
                // Not 0, which would be nobody.
                bins[level * BINS + bin] ^= ((hash >> 56) as u8).max(1);
            }
        }
        Sketch(bins)
    }

    /// As it was kept; of [`SKETCH_BYTES`] bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Sketch {
        assert_eq!(bytes.len(), SKETCH_BYTES, "a sketch has its length");
        Sketch(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// About how many users are in one of the sets and not in the other; 0 and 1 are exact.
    pub(super) fn difference(&self, other: &Sketch) -> u64 {
        let levels = self.0.chunks_exact(BINS).zip(other.0.chunks_exact(BINS));
        let differing: Vec<usize> = levels.map(|(a, b)| a.iter().zip(b).filter(|(a, b)| a != b).count()).collect();
        let from = differing.iter().position(|count| *count <= CROWDED).unwrap_or(LEVELS - 1);
        let users: f64 = differing[from..].iter().map(|count| users_in(*count)).sum();
        (users * (1u64 << from) as f64).round() as u64
    }
}

/// About how many users it takes for so many bins to be hit.
fn users_in(bins: usize) -> f64 {
    let free = 1.0 - bins.min(BINS - 1) as f64 / BINS as f64;
    free.ln() / (1.0 - 1.0 / BINS as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(key: &Key, users: impl IntoIterator<Item = u32>) -> Sketch {
        let mut shards = [RoaringBitmap::new(), RoaringBitmap::new()];
        for user in users {
            shards[user as usize % 2].insert(user);
        }
        Sketch::of(key, &shards)
    }

    #[test]
    fn few_users_are_told_exactly_and_many_nearly() {
        let key = Key::of([7; 32]);
        let base = sketch(&key, 0..50_000);
        assert_eq!(base.difference(&base), 0);
        for user in [0, 1, 49_999, 70_000] {
            let other = sketch(&key, (0..50_000).filter(|one| *one != user).chain((user >= 50_000).then_some(user)));
            assert_eq!(base.difference(&other), 1, "{user}");
        }
        for count in [2u32, 5, 20, 100, 300, 1_000, 5_000, 40_000] {
            let told = base.difference(&sketch(&key, count..50_000)) as f64;
            let more = sketch(&key, 0..50_000 + count);
            for told in [told, base.difference(&more) as f64] {
                let off = (told - f64::from(count)).abs();
                assert!(off <= 1.0 + 0.08 * f64::from(count), "{count}: {told}");
            }
        }
        let nobody = sketch(&key, []);
        for count in [200_000u32, 400_000] {
            let told = nobody.difference(&sketch(&key, 0..count)) as f64;
            assert!((told / f64::from(count) - 1.0).abs() < 0.25, "{count}: {told}");
        }
    }

    #[test]
    fn the_same_slot_of_two_shards_is_two_users_and_another_key_hashes_otherwise() {
        let key = Key::of([1; 32]);
        let one = Sketch::of(&key, &[RoaringBitmap::from_iter([5]), RoaringBitmap::new()]);
        let other = Sketch::of(&key, &[RoaringBitmap::new(), RoaringBitmap::from_iter([5])]);
        assert_eq!(one.difference(&other), 2);
        assert_ne!(one, Sketch::of(&Key::of([2; 32]), &[RoaringBitmap::from_iter([5])]));
        assert_eq!(Sketch::from_bytes(one.bytes()), one);
    }
}
