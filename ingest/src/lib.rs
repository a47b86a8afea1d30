//! Beluga's ingest: from records of any source to the engine's store.
//!
//! * [`decode`]: NDJSON lines, Arrow batches and records of text to tag updates and events, checked against the catalog,
//!   errors by line; lists of user ids.
//! * [`source`]: sources (Kafka topics, files): replayable logs and where to go on in them.
//! * [`enrich`]: look-ups in other systems while a source streams.
//! * [`pipeline`]: from sources to the store, while a server serves.
//! * [`sink`]: from the store to others: changes of audiences and rows of facts, as they come.
//! * [`backfill`]: files (Parquet, Arrow, CSV, NDJSON) to tag updates or events, resumable.
//! * [`live`]: live audiences: who enters, who leaves, and their sizes over time.
//! * [`objects`]: files in object stores, behind a seam.
//! * [`keeper`]: the thread that publishes, checkpoints and compacts a store while it serves.
//! * [`clock`]: the machine's clock.

#[cfg(feature = "backfill")]
pub mod backfill;
pub mod clock;
pub mod decode;
pub mod enrich;
pub mod keeper;
pub mod live;
#[cfg(feature = "files")]
pub mod objects;
pub mod pipeline;
pub mod sink;
pub mod source;
mod stop;
