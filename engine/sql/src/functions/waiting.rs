//! Whether anybody still waits for an answer.

use datafusion::error::{DataFusionError, Result};
use engine::audience::ops::{QueryContext, QueryError};
use std::sync::atomic::Ordering;

/// Steps of a long loop between two looks.
const LOOK_EACH: usize = 4096;

/// What long loops ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    context: QueryContext,
}

impl Waiting {
    pub(super) fn new(context: &QueryContext) -> Waiting {
        Waiting { context: context.clone() }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// If the statement was cancelled.
    pub(super) fn check(&self) -> Result<()> {
        if self.context.cancelled.load(Ordering::Relaxed) {
            return Err(DataFusionError::External(Box::new(QueryError::Cancelled)));
        }
        Ok(())
    }

    /// The same, of a step of a long loop; not at each.
    ///
    /// # Errors
    /// If the statement was cancelled.
    pub(super) fn check_at(&self, step: usize) -> Result<()> {
        if step.is_multiple_of(LOOK_EACH) { self.check() } else { Ok(()) }
    }
}
