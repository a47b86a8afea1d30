//! Numbers by key, added up or merged.

use super::super::call::{decoded_sliced, integer, natural};
use super::super::sliced::{number, refused};
use super::groups::Group;
use super::{Gathers, Plan};
use arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use engine::bitmap::sliced::{Sliced, SlicedError};

/// Numbers are added so many at a time, at least.
const PENDING_MIN: usize = 2048;
/// Numbers wait until they take this part of the memory of the others: adding costs as much as there is.
const PENDING_SHARE: usize = 64;

/// What a group gathers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// `None` until there is a row.
    sum: Option<Sliced>,
    /// Those that are not added yet.
    pending: Vec<(u64, i64)>,
    sum_bytes: usize,
}

impl Numbers {
    fn settle(&mut self, gathers: Gathers) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        if gathers == Gathers::Merged {
            pending.sort_unstable_by_key(|(key, _)| *key);
            if let Some(same) = pending.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(refused(SlicedError::Common { key: same[0].0 }));
            }
        }
        self.join(Sliced::from_pairs(pending).map_err(refused)?, gathers)
    }

    /// How many numbers wait before they are added.
    fn pending_max(&self) -> usize {
        PENDING_MIN.max(self.sum_bytes / PENDING_SHARE)
    }

    /// Few numbers wait for others, many are added at once.
    fn take(&mut self, other: Sliced, gathers: Gathers) -> Result<()> {
        let max = self.pending_max();
        if other.exists().len() >= max as u64 {
            return self.join(other, gathers);
        }
        self.pending.extend(other.iter());
        if self.pending.len() >= max { self.settle(gathers) } else { Ok(()) }
    }

    fn join(&mut self, other: Sliced, gathers: Gathers) -> Result<()> {
        let joined = match (&self.sum, gathers) {
            (None, _) => other,
            (Some(sum), Gathers::Merged) => sum.merge(&other).map_err(refused)?,
            (Some(sum), _) => sum.add(&other).map_err(refused)?,
        };
        self.sum_bytes = joined.heap_bytes();
        self.sum = Some(joined);
        Ok(())
    }
}

impl Group for Numbers {
    fn update(&mut self, plan: &Plan, values: &[ArrayRef], row: usize) -> Result<()> {
        if values.iter().any(|values| values.is_null(row)) {
            return Ok(());
        }
        if plan.function.gathers != Gathers::Pairs {
            return self.take(decoded_sliced(values[0].as_binary::<i32>().value(row), 1)?, plan.function.gathers);
        }
        self.pending.push((natural(integer(&values[0], row))?, number(integer(&values[1], row))?));
        if self.pending.len() >= self.pending_max() { self.settle(plan.function.gathers) } else { Ok(()) }
    }

    fn merge(&mut self, plan: &Plan, states: &[ArrayRef], row: usize) -> Result<()> {
        let states = states[0].as_binary::<i32>();
        if states.is_valid(row) {
            self.take(decoded_sliced(states.value(row), 1)?, plan.function.gathers)?;
        }
        Ok(())
    }

    fn state(&mut self, plan: &Plan) -> Result<Vec<ScalarValue>> {
        self.settle(plan.function.gathers)?;
        Ok(vec![ScalarValue::Binary(self.sum.as_ref().map(Sliced::encode))])
    }

    fn evaluate(&mut self, plan: &Plan) -> Result<ScalarValue> {
        self.settle(plan.function.gathers)?;
        Ok(ScalarValue::Binary(Some(self.sum.as_ref().unwrap_or(&Sliced::default()).encode())))
    }

    fn heap_bytes(&self) -> usize {
        self.sum_bytes + self.pending.capacity() * size_of::<(u64, i64)>()
    }
}
