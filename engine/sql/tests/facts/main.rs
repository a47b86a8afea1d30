//! Tables of facts against a list of rows kept by hand.

mod columns;
mod crash;
mod erase;
mod history;
mod others;
mod support;
