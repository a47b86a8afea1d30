//! Groups that gather events, as DataFusion asks for them: one, or many at once.

use super::Tells;
use super::arguments::{Conditions, Layout};
use super::events::{Event, Events, decode, encode, of_each};
use super::time::Unit;
use crate::functions::constant::constant;
use crate::functions::waiting::Waiting;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeBinaryBuilder};
use datafusion::common::{ScalarValue, exec_err, internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use engine::journey::funnel::{Funnel, Modes};
use engine::journey::pattern::Pattern;
use engine::journey::{CONDITIONS_MAX, sequence};
use std::sync::Arc;

/// What is asked of the events of a group.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Level(Funnel),
    IsThere(Pattern),
    Count(Pattern),
}

impl Question {
    /// Reads what is the same for all rows.
    ///
    /// # Errors
    /// If a mode, a window or a pattern is wrong.
    pub(super) fn of(tells: Tells, layout: &Layout, args: &AccumulatorArgs<'_>) -> Result<Question> {
        let Some(time) = layout.time else { return internal_err!("{} has no times", tells.name()) };
        let unit = Unit::of(args.expr_fields[time].data_type());
        if tells == Tells::Level {
            let window = constant(args, 0, tells.name(), "how long the window is")?;
            let window = unit.window(&window, tells.name())?;
            return Ok(Question::Level(Funnel { window, modes: modes(layout, args)? }));
        }
        let ScalarValue::Utf8(Some(text)) = constant(args, 0, tells.name(), "a pattern such as '(?1).*(?2)'")? else {
            return internal_err!("a pattern is no text");
        };
        let conditions = match &layout.conditions {
            Conditions::Each(places) => places.len(),
            // How many they are is known with the rows.
            Conditions::List(_) => CONDITIONS_MAX,
        };
        let pattern = Pattern::parse(&text, conditions, unit.per_number());
        let pattern = pattern.map_err(|error| DataFusionError::Plan(error.to_string()))?;
        Ok(if tells == Tells::Count { Question::Count(pattern) } else { Question::IsThere(pattern) })
    }

    /// Whether events are asked for that fulfil nothing: they stand between others.
    fn wants_all(&self) -> bool {
        matches!(self, Question::Level(Funnel { modes: Modes { order: true, .. }, .. }))
    }

    /// Bytes that an event takes.
    fn event_bytes(&self) -> usize {
        match self {
            Question::Level(_) => size_of::<Event>(),
            Question::IsThere(_) | Question::Count(_) => size_of::<Event>() + sequence::BYTES_BESIDE,
        }
    }

    fn answer(&self, events: &[Event], waiting: &Waiting) -> Result<i64> {
        Ok(match self {
            Question::Level(funnel) => funnel.level(events, || waiting.check())? as i64,
            Question::IsThere(pattern) => sequence::follow(pattern, events, 1, || waiting.check())?.chains as i64,
            Question::Count(pattern) => sequence::follow(pattern, events, u64::MAX, || waiting.check())?.chains as i64,
        })
    }
}

fn modes(layout: &Layout, args: &AccumulatorArgs<'_>) -> Result<Modes> {
    let name = Tells::Level.name();
    if let Some(at) = layout.mode_bits {
        let ScalarValue::Int64(Some(bits)) = constant(args, at, name, "modes as a number")? else {
            return internal_err!("modes are no number");
        };
        let modes = Modes::of_bits(bits).map(Ok);
        return modes.unwrap_or_else(|| {
            plan_err!(
                "`{name}` has no mode {bits}; it has 0, 1 (deduplication), 2 (fixed), 4 (increase) and their sums"
            )
        });
    }
    let mut modes = Modes::default();
    for at in layout.modes.clone() {
        let ScalarValue::Utf8(Some(names)) = constant(args, at, name, "a mode such as 'strict_order'")? else {
            return internal_err!("a mode is no text");
        };
        if let Err(error) = modes.add(&names) {
            return plan_err!("`{name}` has {error}");
        }
    }
    Ok(modes)
}

/// Groups of one function; one group if nobody tells of groups.
#[derive(Debug)]
pub(super) struct EventGroups {
    question: Arc<Question>,
    layout: Layout,
    waiting: Waiting,
    events: Events,
    groups: usize,
}

impl EventGroups {
    pub(super) fn new(question: Question, layout: Layout, waiting: Waiting) -> EventGroups {
        EventGroups { question: Arc::new(question), layout, waiting, events: Events::default(), groups: 0 }
    }

    fn begin(&mut self, groups: usize) -> Result<()> {
        if u32::try_from(groups).is_err() {
            return exec_err!("there are more than {} groups; ask for fewer at once", u32::MAX);
        }
        self.groups = groups;
        self.waiting.check()
    }

    fn update(
        &mut self,
        values: &[ArrayRef],
        group_of: impl Fn(usize) -> usize,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let is_taken = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let times = self.layout.times(values)?;
        for (row, (fulfils, _)) in self.layout.fulfilled(values)?.into_iter().enumerate() {
            let is_asked_for = fulfils != 0 || self.question.wants_all();
            if is_asked_for && times.is_valid(row) && is_taken(row) {
                self.events.push(Event { time: times.value(row), fulfils, group: group_of(row) as u32 });
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], group_of: impl Fn(usize) -> usize) -> Result<()> {
        let states = states[0].as_binary::<i64>();
        for row in (0..states.len()).filter(|row| states.is_valid(*row)) {
            decode(states.value(row), group_of(row) as u32, &mut self.events, &self.waiting)?;
        }
        Ok(())
    }

    /// How many groups are asked for.
    fn asked(&self, emit_to: EmitTo) -> usize {
        match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(count) => count.min(self.groups),
        }
    }

    fn answers(&mut self, groups: usize) -> Result<Vec<i64>> {
        let sorted = self.events.sorted(&self.waiting)?;
        let answer = |(at, events)| {
            self.waiting.check_at(at)?;
            self.question.answer(events, &self.waiting)
        };
        of_each(sorted, groups).enumerate().map(answer).collect()
    }

    fn leave_out(&mut self, groups: usize) {
        self.events.leave_out(groups as u32);
        self.groups -= groups;
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.events.capacity() * self.question.event_bytes()
    }
}

impl GroupsAccumulator for EventGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.begin(total_num_groups)?;
        self.update(values, |row| group_indices[row], opt_filter)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.asked(emit_to);
        let answers = self.answers(groups)?;
        self.leave_out(groups);
        Ok(match &*self.question {
            Question::IsThere(_) => Arc::new(BooleanArray::from_iter(answers.iter().map(|answer| Some(*answer > 0)))),
            Question::Level(_) | Question::Count(_) => Arc::new(Int64Array::from(answers)),
        })
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.asked(emit_to);
        let sorted = self.events.sorted(&self.waiting)?;
        let mut states = LargeBinaryBuilder::with_capacity(groups, 0);
        of_each(sorted, groups).for_each(|events| states.append_value(encode(events)));
        self.leave_out(groups);
        Ok(vec![Arc::new(states.finish())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.begin(total_num_groups)?;
        self.merge(values, |row| group_indices[row])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut each = EventGroups {
            question: Arc::clone(&self.question),
            layout: self.layout.clone(),
            waiting: self.waiting.clone(),
            events: Events::default(),
            groups: 0,
        };
        each.begin(rows)?;
        each.update(values, |row| row, opt_filter)?;
        GroupsAccumulator::state(&mut each, EmitTo::All)
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

impl Accumulator for EventGroups {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.begin(1)?;
        self.update(values, |_| 0, None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let answer = self.answers(1)?[0];
        Ok(match &*self.question {
            Question::IsThere(_) => ScalarValue::Boolean(Some(answer > 0)),
            Question::Level(_) | Question::Count(_) => ScalarValue::Int64(Some(answer)),
        })
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        // A state is asked for once, and both together are more than is counted.
        let mut events = std::mem::take(&mut self.events);
        Ok(vec![ScalarValue::LargeBinary(Some(encode(events.sorted(&self.waiting)?)))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.begin(1)?;
        self.merge(states, |_| 0)
    }
}
