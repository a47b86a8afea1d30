//! End to end: real HTTP, the real binary.

mod audiences;
mod cli;
mod crash;
mod cursors;
mod formats;
mod hostile;
mod openapi;
mod oracle;
mod questions;
mod support;
mod tags;
