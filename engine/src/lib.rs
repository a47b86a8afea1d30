//! Beluga's engine: who, right now, fits this?
//!
//! Every user is a small number (a *slot* of a *shard*), every tag value a compressed set of slots, every numeric
//! tag a bit-sliced set of sets. An audience question is set algebra over them, evaluated 65,536 users at a time
//! straight over memory-mapped files.
//!
//! The crate is pure and synchronous: it knows no async runtime, no Arrow, no HTTP, no JSON, no environment and no
//! wall clock. Files come in through [`vfs`], time and randomness as arguments.
//!
//! In reading order:
//!
//! * [`ids`], [`catalog`], [`update`]: the nouns — shards, slots, tags, and what a writer says about a user.
//! * [`behavior`]: slices of time in which events are counted.
//! * [`bitmap`]: zero-copy Roaring views and the fused evaluator. Knows nothing of tags.
//! * [`clock`]: the seam to the wall clock. [`computed`]: the seam to a language of expressions over records.
//! * [`vfs`]: the seam to the disk, and the sealed (checksummed, immutable) file.
//! * [`segment`], [`dictionary`], [`events`]: the kinds of immutable file a shard is made of.
//! * [`lookalike`]: vectors of users, and the users most like others.
//! * [`journey`]: what users did in which order.
//! * [`store`]: log, in-memory layers, manifests, checkpoints, compaction; publishes [`store::Snapshot`]s.
//! * [`audience`]: the audience language, its planner and the operators that answer questions on a snapshot.

pub mod audience;
pub mod behavior;
pub mod bitmap;
pub mod catalog;
pub mod clock;
pub mod computed;
pub mod dictionary;
pub mod error;
pub mod events;
pub mod ids;
pub mod journey;
pub mod lookalike;
pub mod segment;
pub mod store;
pub mod update;
pub mod vfs;
