//! Groups that gather values into summaries, as DataFusion asks for them: one, or many at once.

use crate::functions::waiting::Waiting;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, LargeBinaryBuilder};
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;
use std::sync::Arc;

/// The most bytes of answers that a window that grows row by row keeps.
const WINDOW_BYTES_MAX: usize = 64 << 20;

/// A summary of the values of one group.
pub(super) trait Sketch: Debug + Send + Sync + 'static {
    /// What is the same for all groups.
    type Plan: Debug + Send + Sync;
    /// A column of values, prepared for [`Sketch::update`].
    type Column;

    const NAME: &'static str;

    fn new(plan: &Self::Plan) -> Self;
    /// Prepares values of many rows.
    fn prepare(plan: &Self::Plan, values: &ArrayRef) -> Result<Self::Column>;
    /// Takes the value of a row, which is not NULL.
    fn update(&mut self, plan: &Self::Plan, values: &Self::Column, row: usize);
    /// For another part.
    fn encode(&self) -> Vec<u8>;
    /// Takes what another part gathered.
    fn merge(&mut self, plan: &Self::Plan, encoded: &[u8]) -> Result<()>;
    /// The answers of groups.
    fn answers(plan: &Self::Plan, groups: &[Self]) -> Result<ArrayRef>
    where
        Self: Sized;
    /// Bytes of memory beside its own, nearly.
    fn heap_bytes(&self) -> usize;
}

/// Groups of one function.
#[derive(Debug)]
pub(super) struct Groups<S: Sketch> {
    plan: S::Plan,
    waiting: Waiting,
    groups: Vec<S>,
    heap_bytes: usize,
    /// Of the answers after the first one: those of a window.
    window_bytes: Option<usize>,
}

impl<S: Sketch> Groups<S> {
    pub(super) fn none(plan: S::Plan, waiting: Waiting) -> Groups<S> {
        Groups { plan, waiting, groups: Vec::new(), heap_bytes: 0, window_bytes: None }
    }

    pub(super) fn one(plan: S::Plan, waiting: Waiting) -> Groups<S> {
        let mut groups = Groups::none(plan, waiting);
        groups.begin(1);
        groups
    }

    fn begin(&mut self, groups: usize) {
        while self.groups.len() < groups {
            let new = S::new(&self.plan);
            self.heap_bytes += new.heap_bytes();
            self.groups.push(new);
        }
    }

    fn each(
        &mut self,
        rows: impl Iterator<Item = (usize, usize)>,
        mut take: impl FnMut(&mut S, &S::Plan, usize) -> Result<()>,
    ) -> Result<()> {
        for (at, (row, group)) in rows.enumerate() {
            self.waiting.check_at(at)?;
            let group = &mut self.groups[group];
            let before = group.heap_bytes();
            take(group, &self.plan, row)?;
            self.heap_bytes = (self.heap_bytes + group.heap_bytes()).saturating_sub(before);
        }
        Ok(())
    }

    fn update(
        &mut self,
        values: &[ArrayRef],
        rows: impl Iterator<Item = (usize, usize)>,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let values = &values[0];
        let is_taken = taken_of(values, filter);
        let column = S::prepare(&self.plan, values)?;
        self.each(rows.filter(|(row, _)| is_taken(*row)), |group, plan, row| {
            group.update(plan, &column, row);
            Ok(())
        })
    }

    fn merge(&mut self, states: &[ArrayRef], rows: impl Iterator<Item = (usize, usize)>) -> Result<()> {
        let states = states[0].as_binary::<i64>();
        self.each(rows.filter(|(row, _)| states.is_valid(*row)), |group, plan, row| {
            group.merge(plan, states.value(row))
        })
    }

    fn taken(&mut self, emit_to: EmitTo) -> Vec<S> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.heap_bytes = self.groups.iter().map(S::heap_bytes).sum();
        taken
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<S>() + self.heap_bytes
    }
}

/// Which rows have a value and are chosen.
fn taken_of(values: &ArrayRef, filter: Option<&BooleanArray>) -> impl Fn(usize) -> bool {
    let nulls = values.logical_nulls();
    move |row| {
        let is_chosen = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        is_chosen && nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }
}

impl<S: Sketch> GroupsAccumulator for Groups<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.begin(total_num_groups);
        self.update(values, group_indices.iter().copied().enumerate(), opt_filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.waiting.check()?;
        let groups = self.taken(emit_to);
        S::answers(&self.plan, &groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut states = LargeBinaryBuilder::new();
        for (at, group) in self.taken(emit_to).iter().enumerate() {
            self.waiting.check_at(at)?;
            states.append_value(group.encode());
        }
        Ok(vec![Arc::new(states.finish())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.begin(total_num_groups);
        self.merge(values, group_indices.iter().copied().enumerate())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = &values[0];
        let is_taken = taken_of(values, opt_filter);
        let column = S::prepare(&self.plan, values)?;
        let mut states = LargeBinaryBuilder::new();
        for row in 0..values.len() {
            self.waiting.check_at(row)?;
            let mut one = S::new(&self.plan);
            if is_taken(row) {
                one.update(&self.plan, &column, row);
            }
            states.append_value(one.encode());
        }
        Ok(vec![Arc::new(states.finish())])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

impl<S: Sketch> Accumulator for Groups<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |values| values.len());
        self.update(values, (0..rows).map(|row| (row, 0)), None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.waiting.check()?;
        let answer = ScalarValue::try_from_array(&S::answers(&self.plan, &self.groups)?, 0)?;
        // Each answer after the first is one more that is kept.
        let bytes = self.window_bytes.map_or(0, |bytes| bytes + answer.size());
        self.window_bytes = Some(bytes);
        if bytes > WINDOW_BYTES_MAX {
            return exec_err!(
                "{}: the answers of a window take more than {} MiB; ask for fewer rows, or GROUP BY instead of OVER",
                S::NAME,
                WINDOW_BYTES_MAX >> 20
            );
        }
        Ok(answer)
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::LargeBinary(Some(self.groups[0].encode()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        self.merge(states, (0..rows).map(|row| (row, 0)))
    }
}
