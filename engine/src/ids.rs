//! One newtype per number, so that a shard is never mistaken for a slot.

use std::fmt;

/// Dense number of a user inside its shard, given on first sight and never reused.
///
/// A plain `u32` because it is the element type of every bitmap.
pub type Slot = u32;

/// Slots per chunk: one Roaring container position.
pub const CHUNK_SLOTS: u32 = 1 << 16;

/// The longest user id, in bytes.
pub const USER_ID_BYTES_MAX: usize = 1024;

/// The longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 1024;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(/// Number of a tag or a fact in the catalog; never reused after it is dropped.
    TagId(u32));
number!(/// A fixed share of all users, by the hash of the user id.
    ShardId(u16));
number!(/// Number of an immutable file (segment or dictionary part) of the store; rises over the whole store.
    FileId(u64));
number!(/// Rising number of a published view of the store.
    Epoch(u64));
number!(/// Position in the write-ahead log: the number of records before it.
    Lsn(u64));

impl TagId {
    /// Users that are known and countable: the set that `NOT` complements against.
    pub const UNIVERSE: TagId = TagId(0);
    /// Lists of users, uploaded or kept of a live audience: a `set` whose values are list ids. Being listed does not make a user
    /// known.
    pub const UPLOADS: TagId = TagId(1);
    /// Records that could not be taken: a fact, see [`crate::catalog::DEAD_LETTERS`].
    pub const DEAD_LETTERS: TagId = TagId(2);
    /// Users who enter and leave live audiences: a fact, see [`crate::catalog::AUDIENCE_CHANGES`].
    pub const AUDIENCE_CHANGES: TagId = TagId(3);
    /// The last of the engine's own that this version has.
    pub(crate) const LAST_OWN: TagId = TagId::AUDIENCE_CHANGES;
    /// The first id a declared tag can have; those below are the engine's own.
    pub const FIRST_DECLARED: TagId = TagId(16);
}

/// The shard of a user: `xxh3(user id) % shard_count`. `shard_count` is a power of two.
pub fn shard_of(user_id: &[u8], shard_count: u16) -> ShardId {
    shard_of_hash(xxhash_rust::xxh3::xxh3_64(user_id), shard_count)
}

/// The same by the id's hash.
pub(crate) fn shard_of_hash(hash: u64, shard_count: u16) -> ShardId {
    debug_assert!(shard_count.is_power_of_two());
    ShardId((hash & u64::from(shard_count - 1)) as u16)
}
