//! Who came back: whether the first condition was fulfilled, and whether each other one was too, by any rows of a group.
//!
//! Of a group 64 bits are kept: which conditions were fulfilled, and how many there are.

use super::arguments::{Conditions, Layout};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, ListBuilder, UInt64Array};
use arrow::datatypes::UInt64Type;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// Where the number of conditions stands in the bits of a group.
const COUNT_SHIFT: u32 = 32;

/// Groups; one if nobody tells of groups.
#[derive(Debug)]
pub(super) struct Returned {
    layout: Layout,
    groups: Vec<u64>,
}

impl Returned {
    pub(super) fn none(layout: Layout) -> Returned {
        Returned { layout, groups: Vec::new() }
    }

    pub(super) fn one(layout: Layout) -> Returned {
        let mut returned = Returned::none(layout);
        returned.begin(1);
        returned
    }

    fn begin(&mut self, groups: usize) {
        // Lists tell how long they are when they come.
        let count = match &self.layout.conditions {
            Conditions::Each(places) => places.len() as u64,
            Conditions::List(_) => 0,
        };
        self.groups.resize(groups, count << COUNT_SHIFT);
    }

    fn add(&mut self, group: usize, fulfilled: u32, count: u64) -> Result<()> {
        let bits = &mut self.groups[group];
        let known = *bits >> COUNT_SHIFT;
        if known != 0 && count != 0 && known != count {
            return exec_err!("retention: a list of {count} conditions stands beside one of {known}");
        }
        *bits |= u64::from(fulfilled) | count << COUNT_SHIFT;
        Ok(())
    }

    fn update(
        &mut self,
        values: &[ArrayRef],
        group_of: impl Fn(usize) -> usize,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let is_taken = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (fulfilled, count)) in self.layout.fulfilled(values)?.into_iter().enumerate() {
            if is_taken(row) {
                self.add(group_of(row), fulfilled, u64::from(count))?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let states = states[0].as_primitive::<UInt64Type>();
        for row in (0..states.len()).filter(|row| states.is_valid(*row)) {
            let bits = states.value(row);
            self.add(group_of(row), bits as u32, bits >> COUNT_SHIFT)?;
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<u64>()
    }
}

/// For each group, whether its users came and came back.
fn answers(groups: &[u64]) -> ArrayRef {
    let mut lists = ListBuilder::new(BooleanBuilder::new());
    for bits in groups {
        let has_come = bits & 1 == 1;
        (0..bits >> COUNT_SHIFT).for_each(|at| lists.values().append_value(has_come && bits >> at & 1 == 1));
        lists.append(true);
    }
    Arc::new(lists.finish())
}

impl GroupsAccumulator for Returned {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.begin(total_num_groups);
        self.update(values, |row| group_indices[row], opt_filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(answers(&emit_to.take_needed(&mut self.groups)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(UInt64Array::from(emit_to.take_needed(&mut self.groups)))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.begin(total_num_groups);
        self.merge(values, |row| group_indices[row])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut each = Returned::none(self.layout.clone());
        each.begin(values.first().map_or(0, |values| values.len()));
        each.update(values, |row| row, opt_filter)?;
        GroupsAccumulator::state(&mut each, EmitTo::All)
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

impl Accumulator for Returned {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.update(values, |_| 0, None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&answers(&self.groups), 0)
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.groups[0]))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(states, |_| 0)
    }
}
