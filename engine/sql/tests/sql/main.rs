//! SQL over users and facts, asked as everybody asks it.

mod facts;
mod functions;
mod guard;
mod joins;
mod support;
mod users;
