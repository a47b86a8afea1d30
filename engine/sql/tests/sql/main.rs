//! SQL over users and facts, asked as everybody asks it.

mod aggregates;
mod analysis;
mod bitmap_limits;
mod bitmaps;
mod facts;
mod functions;
mod guard;
mod joins;
mod others;
mod parameters;
mod sketches;
mod slt;
mod support;
mod tpch;
mod users;
