//! Version 1: the resources.
//!
//! Each file holds what goes over the wire, a plain function from snapshot and request to answer, and the handler
//! around it. The command line calls the same functions when it opens a directory itself.

pub mod attribution;
pub mod audiences;
pub mod catalog;
pub mod count;
pub mod distinguish;
pub mod effect;
pub mod erasures;
pub mod experiment;
pub mod explain;
pub mod export;
pub mod expression;
pub mod fact_declaration;
pub mod facts;
pub mod funnel;
pub mod jobs;
pub mod judge;
pub mod keep;
pub mod live;
pub mod lookalike;
pub mod members;
pub mod movement;
pub mod number;
pub mod overlap;
mod page;
pub mod path;
pub mod profile;
pub mod purposes;
pub mod queries;
pub mod retention;
pub mod sample;
pub mod scores;
pub mod sequence;
pub mod sinks;
pub mod sources;
pub mod space_declaration;
pub mod spaces;
pub mod sql;
pub mod status;
pub mod steps;
pub mod tags;
pub mod tenants;
pub mod tokens;
pub mod top;
pub mod translate;
pub mod tree;
pub mod upload;
pub mod users;
