//! SQL over users and facts, asked as everybody asks it.

mod aggregates;
mod facts;
mod guard;
mod parameters;
mod support;
mod tpch;
mod users;
