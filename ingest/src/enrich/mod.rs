//! Look-ups while streaming: each record gets one more member, what another system knows of a key that stands in it.
//!
//! ```text
//! polled ──► slices, one a partition ──► keys ──► cache ──► requests, many in flight ──► slices whose records are all
//!                                                                                       decided ──► decoder
//! ```
//!
//! Look-ups stand between the poll and the decoder, in the reader's thread. Nothing of a slice leaves before all its records
//! are decided, and slices of a partition leave in the order in which they were read; so an offset that is noted with a
//! slice is behind records that are all decided, and a record counts once however often the other system failed. What is
//! under way when the source is stopped, rewound or killed is forgotten: nothing of it was noted, so it is read again.
//!
//! * Equal keys that wait are asked once, and what was found may be kept for a while (`cache`).
//! * A request has a timeout; one that failed is tried again after a growing, jittered wait.
//! * After several failures in a row nothing is asked for a while, then one request tries (`breaker`; Nygard,
//!   "Release It!", 2007). What becomes of records meanwhile is declared: they wait, go on without, or are refused.
//!
//! The other system is behind the trait [`Lookup`], whose implementor needs no thread for a request: it is given a [`Reply`],
//! to be sent from anywhere.
//!
//! * `definition`: what a look-up is told. `lookup`: the seam to the other system.
//! * `stage`: the queue of slices. `asker`: the keys that wait, and the requests. `cache`, `breaker`.
//! * `splice`: a record and its key; a record and what was found. `report`: how the look-ups are.

mod asker;
mod breaker;
mod cache;
mod definition;
mod lookup;
mod report;
mod splice;
mod stage;

#[cfg(test)]
mod tests;

pub use definition::{
    CachePolicy, Enrichment, EnrichmentError, IN_FLIGHT_MAX, NAME_CHARS_MAX, OnFailure, OnMissing, Order,
};
pub use lookup::{ANSWER_BYTES_MAX, Answer, Asking, Lookup, LookupError, Reply};
pub use report::LookupReport;

pub(crate) use splice::{Fate, splice};
pub(crate) use stage::{Mark, Ready, Stage};
