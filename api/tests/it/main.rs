//! End to end: real HTTP, the real binary.

mod cli;
mod crash;
mod openapi;
mod oracle;
mod questions;
mod support;
mod tags;
