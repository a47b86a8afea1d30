//! The vectors of users, as many as are worth learning from.

use super::{Examples, examples_max};
use crate::lookalike::random::Random;
use crate::lookalike::recall::Space;
use roaring::RoaringBitmap;

/// Vectors of a sample of users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Of those that have a vector.
    pub examples: Examples,
    /// Shard and slot of each.
    pub users: Vec<(usize, u32)>,
    /// Users that were looked up: all, or a sample of [`examples_max`].
    pub asked: u64,
}

/// Looks up the vectors of users (a bitmap a shard): of all, or of an even sample of [`examples_max`] that follows from
/// `random_seed`.
///
/// # Panics
/// If there are more bitmaps than shards.
pub fn gather(space: &Space<'_>, users: &[RoaringBitmap], random_seed: u64) -> Gathered {
    let total: u64 = users.iter().map(RoaringBitmap::len).sum();
    let sample = total.min(examples_max(space.dimension()) as u64);
    let mut random = Random::new(random_seed);
    let place = |index: u64| (u128::from(index) * u128::from(total) / u128::from(sample)) as u64;
    let mut gathered = Gathered { asked: sample, ..Gathered::default() };
    let (mut shard, mut before) = (0, 0);
    for index in 0..sample {
        let (from, to) = (place(index), place(index + 1));
        let pick = from + random.below((to - from) as usize) as u64;
        while pick >= before + users[shard].len() {
            before += users[shard].len();
            shard += 1;
        }
        let Some(slot) = users[shard].select((pick - before) as u32) else { continue };
        if let Some(vector) = space.compared(shard, slot) {
            gathered.examples.vectors.extend(vector);
            gathered.users.push((shard, slot));
        }
    }
    gathered
}
