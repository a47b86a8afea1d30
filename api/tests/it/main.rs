//! End to end: real HTTP, the real binary.

mod answers;
mod asking;
mod attribution;
mod audiences;
mod binary;
mod cli;
mod console;
mod crash;
mod cursors;
mod effect;
mod experiment;
mod extremes;
mod factors;
mod facts;
mod flight;
mod formats;
mod hostile;
mod insight;
mod jobs;
mod journeys;
#[cfg(feature = "kafka")]
mod kafka;
mod live;
mod lookalike;
mod lookups;
mod objects;
mod openapi;
mod oracle;
mod paths;
#[cfg(feature = "kafka")]
mod payloads;
mod postgres;
mod process;
mod prompt;
mod queries;
mod questions;
mod scans;
mod sinks;
mod sources;
mod spaces;
mod sql;
mod support;
mod tables;
mod tags;
mod tokens;
mod victim;
