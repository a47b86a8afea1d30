//! An immutable file of one shard: key → posting (a bitmap in the portable Roaring format), or block (rows of vectors).
//!
//! Knows keys and layers but no audiences. The same bytes serve as a file (mapped) and as an in-memory layer.
//!
//! * [`format`]: the layout, told here only.
//! * [`writer`], [`reader`], [`merge`]: makes one, opens one, makes one of several by the layering rule.

pub mod format;
pub mod merge;
pub mod reader;
pub mod writer;

pub use reader::{Block, Posting, Segment};
pub use writer::SegmentWriter;

use crate::behavior::Slice as TimeSlice;
use crate::ids::TagId;
use crate::lookalike::cells;
#[cfg(doc)]
use crate::lookalike::quantise::Most;
use crate::lookalike::quantise::SCALE_BYTES;
use std::cmp::Ordering;

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
/// | fact | `Activity`: counts and sums that add up over layers | none |
/// | vector space | `Exists` (users with a vector) and `Block`: their vectors | `Touched` |
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
    /// Users for whom a figure of a fact in a slice of time has this bit.
    Activity(ActivityKey<'a>),
    /// Vectors, one behind another: of the users of a chunk that are in `Exists`, by rising slot. Not a bitmap.
    Block(BlockKey),
}

/// Which vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// How they are written.
    pub form: Form,
    /// Whose: slots of this chunk.
    pub chunk: u16,
}

/// How vectors are written, and what helps to find them; a row of a form has as many bytes as the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As they came: `f32`, little-endian.
    Full,
    /// What stands beside the codes: see [`crate::lookalike::quantise`]. The block's number is [`Most`] of them.
    Scale,
    /// A byte a dimension, to be scanned.
    Codes,
    /// Cells of the vectors of one chunk, as merges made them at first. They are not read, and the next merge leaves them out.
    CentresOfChunk,
    /// Stood with them.
    MembersOfChunk,
    /// Not vectors but the centres that all vectors of the segment are sorted by: a row a centre; the block's number tells them from
    /// others. Made by merges that write for long, of many vectors; see [`crate::lookalike::cells`]. Like what stands with it,
    /// one block of chunk 0.
    Centres,
    /// Where the cell of each centre ends: a row a centre; the block's number tells how many vectors the centres were trained for.
    Ends,
    /// Which cell has which of the vectors: a row a vector, cell by cell.
    Members,
    /// What is scanned of the members of cells, once more: so those of a cell lie together.
    Copies,
}

impl Form {
    /// All of them, by their numbers in files.
    pub const ALL: [Form; 9] = [
        Form::Full,
        Form::Scale,
        Form::Codes,
        Form::CentresOfChunk,
        Form::MembersOfChunk,
        Form::Centres,
        Form::Ends,
        Form::Members,
        Form::Copies,
    ];
    /// Those that every vector has, a row each, by rising slot.
    pub const OF_VECTORS: [Form; 3] = [Form::Full, Form::Scale, Form::Codes];

    /// Those that stand beside many vectors.
    pub const OF_CELLS: [Form; 4] = [Form::Centres, Form::Ends, Form::Members, Form::Copies];

    /// Bytes of a row, of vectors of so many numbers; `None` for what is not read.
    pub fn row_bytes(self, dimension: u16) -> Option<usize> {
        match self {
            Form::Full => Some(usize::from(dimension) * 4),
            Form::Scale => Some(SCALE_BYTES),
            Form::Codes => Some(dimension.into()),
            Form::CentresOfChunk | Form::MembersOfChunk => None,
            Form::Centres => Some(cells::centre_bytes(dimension.into())),
            Form::Ends => Some(cells::END_BYTES),
            Form::Members => Some(cells::MEMBER_BYTES),
            Form::Copies => Some(cells::copy_bytes(dimension.into())),
        }
    }
}

/// A bit of a figure: of whom, what, when. They sort by series, figure and slice, so that a window is a range of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivityKey<'a> {
    /// Which events are counted.
    pub series: Series<'a>,
    /// When they happened.
    pub slice: TimeSlice,
    /// What is counted of them.
    pub figure: Figure,
    /// Which bit of it; at most [`BITS_MAX`] of them.
    pub bit: u8,
}

/// The most bits of a figure.
pub const BITS_MAX: u8 = 127;

/// The events of a fact that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series<'a> {
    /// 0: the whole fact; else the place of the dimension, from 1.
    pub dimension: u16,
    /// The dimension's value; empty for the whole fact.
    pub value: &'a [u8],
}

impl Series<'_> {
    /// All events of the fact.
    pub const WHOLE: Series<'static> = Series { dimension: 0, value: &[] };
}

/// What is counted. What retractions take away is counted apart, so that all parts only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Figure {
    /// 0: the events; else the sum of the measure at this place, from 1.
    pub of: u8,
    /// What is taken off.
    pub is_negative: bool,
}

impl Ord for Series<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by = |series: &Self| (series.dimension, series.value.len());
        by(self).cmp(&by(other)).then_with(|| self.value.cmp(other.value))
    }
}

impl PartialOrd for Series<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ActivityKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = |key: &Self| (key.figure.of, key.slice, key.figure.is_negative, key.bit);
        self.series.cmp(&other.series).then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl PartialOrd for ActivityKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
