//! Two-valued logic over known tags: what an expression means, with names, types and NULLs settled.

use crate::bitmap::bsi::NumberRange;
use crate::ids::TagId;

/// A set of users. `Not` is the complement within the universe; NULLs are settled before (see [`super::bind`]), so
/// that `NOT (gender = 'f')` has become `Known(gender) AND NOT gender = 'f'`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Predicate {
    /// Everybody (the universe).
    All,
    /// Nobody.
    Nobody,
    /// An `enum` tag has one of these values, or a `set` tag contains one of them; sorted, without doubles.
    HasAny(TagId, Vec<String>),
    /// A flag is true.
    Flag(TagId),
    /// A number is in the range.
    InRange(TagId, NumberRange),
    /// An `enum` or `number` tag is not NULL.
    Known(TagId),
    /// The users of an uploaded list.
    Listed(String),
    /// These users; sorted, without doubles.
    Users(Vec<String>),
    /// Members of all.
    And(Vec<Predicate>),
    /// Members of any.
    Or(Vec<Predicate>),
    /// Members of exactly one.
    Xor(Box<Predicate>, Box<Predicate>),
    /// Members of at least `k`.
    AtLeast(u32, Vec<Predicate>),
    /// The rest of the universe.
    Not(Box<Predicate>),
}
