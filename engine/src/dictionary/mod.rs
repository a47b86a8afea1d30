//! External user id ↔ slot, for one shard.
