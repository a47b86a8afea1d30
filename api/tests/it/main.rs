//! End to end: real HTTP, the real binary.

mod answers;
mod asking;
mod audiences;
mod binary;
mod cli;
mod crash;
mod cursors;
mod facts;
mod formats;
mod hostile;
mod jobs;
#[cfg(feature = "kafka")]
mod kafka;
mod openapi;
mod oracle;
mod process;
mod questions;
mod scans;
mod sources;
mod support;
mod tags;
mod victim;
