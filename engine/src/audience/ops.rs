//! The questions a snapshot answers about a predicate.

use super::predicate::Predicate;
use crate::error::{Class, ReadError};
use crate::ids::{ShardId, Slot, TagId};
use crate::store::Snapshot;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What bounds a query: it looks at `cancelled` at least every millisecond of work. The caller sets it on a deadline,
/// a lost client or a shutdown; the engine has no clock.
#[derive(Clone, Debug, Default)]
pub struct QueryContext {
    /// Set to end the query with [`QueryError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The context was cancelled.
    #[error("the query was cancelled or ran out of time")]
    Cancelled,
    /// The question does not fit the tag.
    #[error("{0}")]
    Invalid(String),
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl QueryError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            QueryError::Cancelled => Class::Cancelled,
            QueryError::Invalid(_) => Class::Invalid,
            QueryError::Read(error) => error.class(),
        }
    }
}

/// How many users fit.
pub fn count(snapshot: &Snapshot, predicate: &Predicate, context: &QueryContext) -> Result<u64, QueryError> {
    let _ = (snapshot, predicate, context);
    todo!()
}

/// Where a page of members goes on: the next slot to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The shard.
    pub shard: ShardId,
    /// The slot.
    pub slot: Slot,
}

/// A page of members in (shard, slot) order.
#[derive(Clone, Debug, Default)]
pub struct MemberPage {
    /// User ids.
    pub users: Vec<String>,
    /// Where the next page begins on the same snapshot; `None` at the end.
    pub next: Option<Position>,
}

/// Up to `limit` members from `from` on.
pub fn members(
    snapshot: &Snapshot,
    predicate: &Predicate,
    from: Option<Position>,
    limit: usize,
    context: &QueryContext,
) -> Result<MemberPage, QueryError> {
    let _ = (snapshot, predicate, from, limit, context);
    todo!()
}

/// Members per shard as serialised portable Roaring bitmaps of slots.
pub fn bitmaps(snapshot: &Snapshot, predicate: &Predicate, context: &QueryContext) -> Result<Vec<Vec<u8>>, QueryError> {
    let _ = (snapshot, predicate, context);
    todo!()
}

/// Up to `size` members chosen uniformly, the same for the same seed and snapshot.
pub fn sample(
    snapshot: &Snapshot,
    predicate: &Predicate,
    size: usize,
    seed: u64,
    context: &QueryContext,
) -> Result<Vec<String>, QueryError> {
    let _ = (snapshot, predicate, size, seed, context);
    todo!()
}

/// The `k` members with the greatest (or least) number of a tag, best first; ties by (shard, slot).
pub fn top_k(
    snapshot: &Snapshot,
    predicate: &Predicate,
    by: TagId,
    k: usize,
    descending: bool,
    context: &QueryContext,
) -> Result<Vec<(String, i64)>, QueryError> {
    let _ = (snapshot, predicate, by, k, descending, context);
    todo!()
}

/// Pairwise intersection counts; the diagonal holds the audiences' own counts.
pub fn overlap(
    snapshot: &Snapshot,
    predicates: &[Predicate],
    context: &QueryContext,
) -> Result<Vec<Vec<u64>>, QueryError> {
    let _ = (snapshot, predicates, context);
    todo!()
}

/// What is told of one tag in a profile.
#[derive(Clone, Debug, PartialEq)]
pub enum TagProfile {
    /// `set`, `enum`, `flag` (values `true` and `false`): per value, most frequent first.
    Values {
        /// The cells.
        values: Vec<ValueCount>,
        /// Audience members for whom the tag is NULL (`enum`) or empty (`set`).
        unknown: u64,
        /// The same in the baseline.
        baseline_unknown: u64,
    },
    /// `number`.
    Number(Box<NumberProfile>),
}

/// One cell of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueCount {
    /// The tag value.
    pub value: String,
    /// Audience members with it.
    pub count: u64,
    /// Baseline members with it.
    pub baseline_count: u64,
}

/// A number tag over an audience; in the tag's unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberProfile {
    /// Members with a number.
    pub count: u64,
    /// Members without.
    pub unknown: u64,
    /// Sum of the numbers; 128 bits, so it cannot overflow.
    pub sum: i128,
    /// Least number.
    pub min: Option<i64>,
    /// Greatest number.
    pub max: Option<i64>,
    /// The number at each asked quantile `q`: the least `x` with at least `ceil(q * count)` numbers `<= x`.
    pub quantiles: Vec<(f64, i64)>,
    /// Equal-width bins: `(from, to inclusive, count, baseline count)`.
    pub histogram: Vec<(i64, i64, u64, u64)>,
    /// Baseline members with a number, and the sum of theirs.
    pub baseline_count: u64,
    /// See `baseline_count`.
    pub baseline_sum: i128,
}

/// A profile: the audience against a baseline, tag by tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Audience size.
    pub count: u64,
    /// Baseline size.
    pub baseline_count: u64,
    /// In the order asked.
    pub tags: Vec<(TagId, TagProfile)>,
}

/// How the audience is spread over the values of the tags `by`, against a baseline (everybody by default).
pub fn profile(
    snapshot: &Snapshot,
    predicate: &Predicate,
    by: &[TagId],
    against: &Predicate,
    context: &QueryContext,
) -> Result<Profile, QueryError> {
    let _ = (snapshot, predicate, by, against, context);
    todo!()
}

/// The value of one tag of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "one per tag type")]
pub enum UserValue {
    Set(Vec<String>),
    Enum(String),
    Flag(bool),
    Number(i64),
}

/// The tags of one user that have a value; `None` if the user is not known.
pub fn user_tags(snapshot: &Snapshot, user_id: &str) -> Result<Option<Vec<(TagId, UserValue)>>, QueryError> {
    let _ = (snapshot, user_id);
    todo!()
}

/// A node of an explained plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanNode {
    /// The operator: `and`, `or`, `leaf`, `range`, …
    pub operator: String,
    /// What it is of, in the language's words: `gender = 'f'`.
    pub detail: String,
    /// Estimated members.
    pub estimate: u64,
    /// What a run found; `None` without `analyze`.
    pub actual: Option<NodeStats>,
    /// Operands, in the order they are evaluated.
    pub inputs: Vec<PlanNode>,
}

/// What a node did in a run, summed over shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Members.
    pub members: u64,
    /// Chunks evaluated.
    pub chunks_visited: u64,
    /// Chunks not read because another operand ruled them out.
    pub chunks_skipped: u64,
    /// Container bytes read.
    pub bytes_touched: u64,
    /// Time in the node and its operands, by the `clock` given.
    pub nanoseconds: u64,
}

/// The plan of a predicate; with `analyze`, a monotonic clock in nanoseconds, it is run and measured as well.
pub fn explain(
    snapshot: &Snapshot,
    predicate: &Predicate,
    analyze: Option<fn() -> u64>,
    context: &QueryContext,
) -> Result<PlanNode, QueryError> {
    let _ = (snapshot, predicate, analyze, context);
    todo!()
}
