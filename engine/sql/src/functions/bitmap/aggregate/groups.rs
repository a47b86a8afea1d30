//! Groups that gather rows, as DataFusion asks for them: one, or many at once.

use super::super::answer::ANSWER_BYTES_MAX;
use super::super::scalar::named;
use super::{Gathers, Plan};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt64Array, new_empty_array};
use arrow::compute::{cast, nullif};
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;
use std::sync::Arc;

/// What one group gathers.
pub(super) trait Group: Debug + Default + Send + Sync + 'static {
    /// Takes a row.
    fn update(&mut self, plan: &Plan, values: &[ArrayRef], row: usize) -> Result<()>;
    /// Takes what another part gathered.
    fn merge(&mut self, plan: &Plan, states: &[ArrayRef], row: usize) -> Result<()>;
    /// What was gathered, for another part; it can be gathered on.
    fn state(&mut self, plan: &Plan) -> Result<Vec<ScalarValue>>;
    /// The answer; it can be gathered on.
    fn evaluate(&mut self, plan: &Plan) -> Result<ScalarValue>;
    /// Bytes of memory, nearly.
    fn heap_bytes(&self) -> usize;
}

/// Groups of one function.
#[derive(Debug)]
pub(super) struct Groups<G> {
    plan: Plan,
    groups: Vec<G>,
    heap_bytes: usize,
    /// Of the answers of a window that grows row by row; `None` before the first one.
    answer_bytes: Option<usize>,
}

impl<G: Group> Groups<G> {
    pub(super) fn none(plan: Plan) -> Groups<G> {
        let plan = Plan { parsed: Arc::default(), ..plan };
        Groups { plan, groups: Vec::new(), heap_bytes: 0, answer_bytes: None }
    }

    pub(super) fn one(plan: Plan) -> Groups<G> {
        Groups { groups: vec![G::default()], ..Groups::none(plan) }
    }

    fn each(
        &mut self,
        rows: impl Iterator<Item = (usize, usize)>,
        mut take: impl FnMut(&mut G, &Plan, usize) -> Result<()>,
    ) -> Result<()> {
        for (row, group) in rows {
            self.plan.people.check()?;
            let group = &mut self.groups[group];
            let before = group.heap_bytes();
            let taken = take(group, &self.plan, row);
            self.heap_bytes = (self.heap_bytes + group.heap_bytes()).saturating_sub(before);
            taken.map_err(|error| named(self.plan.function.name, error))?;
        }
        Ok(())
    }

    fn update(
        &mut self,
        values: &[ArrayRef],
        rows: impl Iterator<Item = (usize, usize)>,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let values = self.prepared(values, filter).map_err(|error| named(self.plan.function.name, error))?;
        let is_taken = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.each(rows.filter(|(row, _)| is_taken(*row)), |group, plan, row| group.update(plan, &values, row))
    }

    /// Ids of users are looked up together, and times that are of one type by now become text.
    fn prepared(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut values = values.to_vec();
        if matches!(self.plan.function.gathers, Gathers::AllOf | Gathers::AnyOf) {
            for value in values.iter_mut().skip(1).filter(|value| value.data_type() != &DataType::Utf8) {
                *value = cast(value, &DataType::Utf8)?;
            }
        }
        let of_members = matches!(self.plan.function.gathers, Gathers::Members | Gathers::Pairs);
        if of_members && values[0].data_type() == &DataType::Utf8 {
            let mut ids = Arc::clone(&values[0]);
            if let Some(filter) = filter {
                // Nobody asks whether there are users whose rows are not taken.
                let left_out = filter.iter().map(|is_taken| Some(is_taken != Some(true))).collect();
                ids = nullif(&ids, &left_out)?;
            }
            values[0] = Arc::new(UInt64Array::from(self.plan.people.numbers_of(ids.as_string::<i32>())?));
        }
        Ok(values)
    }

    fn taken(&mut self, emit_to: EmitTo) -> Vec<G> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.heap_bytes = self.groups.iter().map(Group::heap_bytes).sum();
        taken
    }
}

/// One column of values; never more than an array can hold.
fn column(values: Vec<ScalarValue>, kind: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(new_empty_array(kind));
    }
    if kind == &DataType::Binary {
        let bytes: Vec<Option<&[u8]>> = values
            .iter()
            .map(|value| if let ScalarValue::Binary(Some(bytes)) = value { Some(&bytes[..]) } else { None })
            .collect();
        check_size(bytes.iter().flatten().map(|bytes| bytes.len()).sum())?;
        return Ok(Arc::new(BinaryArray::from_iter(bytes)));
    }
    check_size(values.iter().map(ScalarValue::size).sum())?;
    ScalarValue::iter_to_array(values)
}

fn check_size(bytes: usize) -> Result<()> {
    if i32::try_from(bytes).is_err() {
        return exec_err!("the bitmaps of all groups take more than 2 GiB; count them instead, or make fewer groups");
    }
    Ok(())
}

impl<G: Group> GroupsAccumulator for Groups<G> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.resize_with(total_num_groups, G::default);
        Groups::update(self, values, group_indices.iter().copied().enumerate(), opt_filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let plan = self.plan.clone();
        let answer = |group: &mut G| {
            plan.people.check()?;
            group.evaluate(&plan)
        };
        let answers = self.taken(emit_to).iter_mut().map(answer).collect::<Result<_>>()?;
        column(answers, &plan.function.gives.data_type()).map_err(|error| named(plan.function.name, error))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let plan = self.plan.clone();
        // Of a group that gathered nothing: how many columns there are, and of which types.
        let kinds: Vec<DataType> = G::default().state(&plan)?.iter().map(ScalarValue::data_type).collect();
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); kinds.len()];
        for mut group in self.taken(emit_to) {
            plan.people.check()?;
            for (column, value) in columns.iter_mut().zip(group.state(&plan)?) {
                column.push(value);
            }
        }
        let columns = columns.into_iter().zip(&kinds).map(|(values, kind)| column(values, kind));
        columns.collect::<Result<_>>().map_err(|error| named(plan.function.name, error))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.resize_with(total_num_groups, G::default);
        let rows = group_indices.iter().copied().enumerate();
        self.each(rows, |group, plan, row| group.merge(plan, values, row))
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut each = Groups::<G>::none(self.plan.clone());
        each.groups.resize_with(rows, G::default);
        Groups::update(&mut each, values, (0..rows).map(|row| (row, row)), opt_filter)?;
        GroupsAccumulator::state(&mut each, EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<G>() + self.heap_bytes
    }
}

impl<G: Group> Accumulator for Groups<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |values| values.len());
        Groups::update(self, values, (0..rows).map(|row| (row, 0)), None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let answer = self.groups[0].evaluate(&self.plan).map_err(|error| named(self.plan.function.name, error))?;
        // Each answer after the first is one more that is kept.
        let before = self.answer_bytes.map_or(0, |before| before + answer.size());
        self.answer_bytes = Some(before);
        if before > ANSWER_BYTES_MAX {
            return exec_err!(
                "{}: the bitmaps of a window take more than {} MiB; count them instead, by …_count(…) OVER (…)",
                self.plan.function.name,
                ANSWER_BYTES_MAX >> 20
            );
        }
        Ok(answer)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<G>() + self.heap_bytes
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.groups[0].state(&self.plan).map_err(|error| named(self.plan.function.name, error))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        self.each((0..rows).map(|row| (row, 0)), |group, plan, row| group.merge(plan, states, row))
    }
}
