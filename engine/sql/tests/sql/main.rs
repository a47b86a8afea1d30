//! SQL over users and facts, asked as everybody asks it.

mod aggregates;
mod facts;
mod functions;
mod guard;
mod joins;
mod parameters;
mod support;
mod tpch;
mod users;
