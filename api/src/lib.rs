//! Beluga's doors: REST, the command line and the server.
//!
//! * [`rest`]: the HTTP door; [`rest::v1`] holds the resources.
//! * [`cli`]: the command line, a file per command.
//! * [`server`], [`state`], [`config`]: a running server, what its requests share, what can be set.
//! * [`flight`]: the Flight SQL door, for ADBC, JDBC and what is built on them.
//! * [`access`]: who may do what, by tokens. [`queries`]: which statements run and which ran.
//! * [`jobs`]: backfills that a server runs beside its live updates.
//! * [`live`]: what live audiences tell those who listen.
//! * [`objects`]: object stores, for sources and jobs.
//! * [`signals`]: being told to end.
//! * [`sinks`]: sinks: how they are declared, and how what is declared comes to run.
//! * [`sources`]: streaming sources: how they are declared, and how what is declared comes to run.
//! * [`tls`]: certificates, and connections that are encrypted. What is read again when files change is in `watched`.
//! * [`error`]: what goes wrong, and what a client is told about it; the one table of statuses.

pub mod access;
pub mod audit;
pub mod cli;
pub mod config;
pub mod error;
pub mod flight;
pub mod jobs;
pub mod live;
pub mod objects;
pub mod postgres;
pub mod privacy;
pub mod queries;
pub mod rest;
pub mod server;
pub mod signals;
pub mod sinks;
pub mod sources;
pub mod state;
pub mod tls;
pub mod upkeep;
mod watched;
pub mod zones;
