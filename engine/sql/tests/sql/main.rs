//! SQL over users and facts, asked as everybody asks it.

mod bitmaps;
mod facts;
mod guard;
mod slt;
mod support;
mod users;
