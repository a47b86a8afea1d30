//! Predicate → one program per shard.
