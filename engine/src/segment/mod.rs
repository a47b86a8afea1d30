//! An immutable file of one shard: key → posting (a bitmap in the portable Roaring format).
//!
//! Knows keys and layers but no audiences. The same bytes serve as a file (mapped) and as an in-memory layer.
//!
//! * [`format`]: the layout, told here only.
//! * [`writer`], [`reader`], [`merge`]: makes one, opens one, makes one of several by the layering rule.

pub mod format;
pub mod merge;
pub mod reader;
pub mod writer;

pub use reader::{Posting, Segment};
pub use writer::SegmentWriter;

use crate::ids::TagId;

/// What a posting is of. Keys sort by tag, then part in the order below, then value.
///
/// A layer decides, per tag type (the one layering rule; `mask` always includes the value itself):
///
/// | tag | value of `tag = v` | mask |
/// |---|---|---|
/// | set | `Value(v)` | `Removed(v)`, `Touched` (users whose whole set was cleared or replaced in this layer) |
/// | enum | `Value(v)` | `Touched` (users whose value was set or unset in this layer) |
/// | flag | `Exists` (users for whom it is true) | `Touched` |
/// | number | `Exists` (users with a number) and `Slice(0..)` | `Touched` |
/// | universe | `Exists` (known users) | `Touched` (users erased) |
///
/// An `enum` also keeps `Exists`, the union of its values. A bottom segment (one that covers all older data) has no
/// masks: there every absence is final. `Exists` of a number carries the slices' base as the posting's `aux`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    /// The tag.
    pub tag: TagId,
    /// Which of its postings.
    pub part: Part<'a>,
}

/// See [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part<'a> {
    /// Users this layer decides for the whole tag.
    Touched,
    /// Users with a value.
    Exists,
    /// Users whose number (less the base) has this bit.
    Slice(u8),
    /// Users with this value.
    Value(&'a [u8]),
    /// Users who lost this value of a set.
    Removed(&'a [u8]),
}
