//! The questions a snapshot answers about a predicate.
//!
//! Each runs one program per shard, chunk by chunk, on as many threads as the work is worth ([`run`]), and looks at the context's
//! flag before every chunk.

mod attribution;
mod columns;
mod count;
mod effect;
mod experiment;
mod explain;
mod funnel;
mod group_ranks;
mod groups;
mod judge;
mod kinds;
mod lookalike;
mod lookup;
mod members;
mod number;
mod overlap;
mod path;
pub mod profile;
mod resolve;
mod retention;
mod run;
mod sequence;
mod similar;
mod touched;
mod user;
mod values;

#[cfg(test)]
mod proptests;

pub use attribution::{
    Attribution, AttributionQuestion, CAMPAIGNS_MAX, Campaign, Converted, Credit, TOUCHES_MAX, attribution,
};
pub use columns::{ColumnOf, ColumnValues, Rows, columns, counts};
pub use count::{count, count_at_most};
pub use effect::{
    EFFECT_CELLS_MAX, EFFECT_FREQUENCY_MAX, EFFECT_GROUPS_MAX, Effect, EffectQuestion, Figures, GroupEffect, Periods,
    ReachStep, STAGES, Stage, StageMeant, TimeGrain, effect, incremental_reach,
};
pub use experiment::{
    Comparison, Experiment, ExperimentGroup, ExperimentQuestion, GROUPS_MAX, GroupRead, Interval, METRICS_MAX,
    Measured, Metric, MetricRead, Summary, WEIGHTS, experiment,
};
pub use explain::{NodeStats, PlanNode, SimilarNode, explain};
pub use funnel::{FunnelAnswer, StepTime, TimedFunnel, funnel};
pub use group_ranks::{AtRanks, RankOf, RankedGroups, Ranking, ranked_groups};
pub use groups::{Figure, FigureOf, Group, Grouping, Told, groups};
pub use judge::{Behind, FigureValue, Judgement, PART_BYTES_MAX, PARTS_DEPTH_MAX, PARTS_MAX, Part, judge};
pub use kinds::KindMeant;
pub use lookalike::{Holdout, Likeness, Lookalike, LookalikeReport, Measure, ScoredSlot, ScoredUser, Seed, lookalike};
pub use lookup::positions;
pub use members::{MemberPage, Position, bitmaps, bitmaps_within, members, sample, slots};
pub use number::{Best, best, ranked, top_k};
pub use overlap::{overlap, overlap_of_regions, regions};
pub use path::{PATH_DEPTH_MAX, PATH_STEPS_MAX, PATH_VALUES_MAX, PathAnswer, PathLink, PathNode, PathQuestion, path};
pub use profile::{NumberProfile, Profile, TagProfile, ValueCount, profile};
pub use resolve::{SCANS_MAX, resolve, resolve_all};
pub use retention::{PERIODS_MAX, Period, Retention, RetentionQuestion, retention};
pub use sequence::{SequenceAnswer, sequence};
pub use similar::SIMILAR_MAX;
pub use touched::{Known, Reads};
pub use user::{UserValue, user_fits, user_lists, user_tags};
pub use values::{TagValues, values};

use super::scan::{FactScanner, ScanError};
use crate::error::{Class, ReadError};
use crate::store::VectorsError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What bounds a query: it looks at `cancelled` before every chunk, which takes well under a millisecond. The caller sets
/// it on a deadline, a lost client or a shutdown; the engine has no clock.
#[derive(Clone, Debug, Default)]
pub struct QueryContext {
    /// Set to end the query with [`QueryError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
    /// Who reads the rows of facts for conditions that no activity index covers; `None`: such conditions are refused.
    pub scanner: Option<Arc<dyn FactScanner>>,
}

impl QueryContext {
    /// Whether to go on.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`].
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(QueryError::Cancelled) } else { Ok(()) }
    }
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
    /// Rows would have to be read, and nobody is there to do it.
    #[error(
        "the activity index of `{fact}` does not cover a condition, and its events cannot be searched here; ask a server, or ask of single dimensions and whole days"
    )]
    NoScanner {
        /// The fact.
        fact: String,
    },
    /// See [`ScanError`].
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<VectorsError> for QueryError {
    fn from(error: VectorsError) -> Self {
        match error {
            VectorsError::Cancelled => QueryError::Cancelled,
            VectorsError::Read(error) => QueryError::Read(error),
        }
    }
}

impl QueryError {
    /// See [`Class`].
    pub fn class(&self) -> Class {
        match self {
            QueryError::Cancelled => Class::Cancelled,
            QueryError::Invalid(_) | QueryError::NoScanner { .. } => Class::Invalid,
            QueryError::Scan(error) => error.class,
            QueryError::Read(error) => error.class(),
        }
    }
}
