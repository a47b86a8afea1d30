//! What stands between the engine and SQL: the tables of facts, kept as Delta Lake tables that any reader of the format opens.
//!
//! * [`expressions`]: SQL expressions over the fields of one record.
//! * [`facts`]: writes rows of facts durably and once, reads them at a version, merges their files.
//! * `functions`: functions of SQL that DataFusion does not have.
//! * [`scan`]: searches the rows for conditions that no activity index covers.
//! * [`session`]: answers SQL statements over users, facts and what the process tells of itself.

#![deny(missing_docs)]

mod distinct_from;
pub mod expressions;
pub mod facts;
mod functions;
pub mod scan;
pub mod session;
mod threads;
