//! The audience language and its planner: text → tree → predicate → program → answer.
//!
//! * [`expr`]: the tree of the language, as written; [`parse`](mod@parse) makes it of text, `print` writes it canonically.
//! * [`bind`](mod@bind): checks names and types against the catalog and gives a [`predicate::Predicate`].
//! * [`predicate`]: two-valued logic over known tags, in canonical form.
//! * [`scan`]: what is asked of single events where nothing was counted, and the seam to whoever reads them.
//! * [`similar`]: users like others, how many of them, and what that means exactly.
//! * [`plan`]: predicate → one [`crate::bitmap::program::Program`] per shard.
//! * [`ops`]: count, members, profile, overlap, sample, top-k, export, explain.
//! * [`naive`]: the same meaning on plain maps; the tests' oracle.

pub mod bind;
pub mod error;
pub mod expr;
pub mod literal;
pub mod naive;
pub mod ops;
pub mod parse;
mod path;
pub mod plan;
pub mod predicate;
mod print;
pub mod scan;
pub mod similar;
pub mod suggest;

pub use bind::{bind, bind_events};
pub use error::{ExprError, ExprErrorKind};
pub use parse::{parse, parse_event};
