//! End to end: real HTTP, the real binary.

mod audiences;
mod catalog;
mod cli;
mod lifecycle;
mod members;
mod openapi;
mod problems;
mod questions;
mod support;
mod tags;
mod users;
