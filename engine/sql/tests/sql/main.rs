//! SQL over users and facts, asked as everybody asks it.

mod aggregates;
mod analysis;
mod bitmap_limits;
mod bitmaps;
mod by_audience;
mod facts;
mod functions;
mod guard;
mod joins;
mod lambdas;
mod others;
mod parameters;
mod sketches;
mod slt;
mod support;
mod tpch;
mod users;
