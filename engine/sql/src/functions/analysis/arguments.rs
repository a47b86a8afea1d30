//! Arguments: the forms in which other engines write the same call, and the conditions that rows fulfil.

use super::Tells;
use super::time;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use std::ops::Range;
use std::sync::Arc;

pub(super) use engine::journey::CONDITIONS_MAX;

/// Where arguments stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    tells: Tells,
    /// Names of modes.
    pub(super) modes: Range<usize>,
    /// Modes as a number.
    pub(super) mode_bits: Option<usize>,
    /// Times.
    pub(super) time: Option<usize>,
    pub(super) conditions: Conditions,
}

/// Where conditions stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conditions {
    /// One by one.
    Each(Range<usize>),
    /// In a list.
    List(usize),
}

impl Layout {
    /// Reads a call by the types of what stands in it.
    ///
    /// # Errors
    /// If it is no form of a call; tells the forms.
    pub(super) fn of(tells: Tells, given: &[DataType]) -> Result<Layout> {
        let mut at = usize::from(tells != Tells::Returned);
        let begun = at;
        while tells == Tells::Level && given.get(at).is_some_and(is_text) {
            at += 1;
        }
        let modes = begun..at;
        let time = (tells != Tells::Returned).then_some(at);
        at += usize::from(time.is_some());
        let has_bits = tells == Tells::Level
            && modes.is_empty()
            && at + 2 == given.len()
            && given[at].is_integer()
            && item(&given[at + 1]).is_some();
        let mode_bits = has_bits.then_some(at);
        at += usize::from(has_bits);
        if at >= given.len() {
            return plan_err!("`{}` takes {}; conditions are missing", tells.name(), told(tells));
        }
        let is_list = at + 1 == given.len() && item(&given[at]).is_some();
        let conditions = if is_list { Conditions::List(at) } else { Conditions::Each(at..given.len()) };
        let count = given.len() - at;
        if count > CONDITIONS_MAX {
            return plan_err!("`{}` takes at most {CONDITIONS_MAX} conditions, not {count}", tells.name());
        }
        Ok(Layout { tells, modes, mode_bits, time, conditions })
    }

    /// Times of rows, as numbers; all NULL if there is no column of them.
    ///
    /// # Errors
    /// If one is too large.
    pub(super) fn times(&self, values: &[ArrayRef]) -> Result<Int64Array> {
        match self.time {
            Some(at) => time::numbers(&values[at], self.tells.name()),
            None => Ok(Int64Array::new_null(values.first().map_or(0, |values| values.len()))),
        }
    }

    /// For each row, the conditions that it fulfils, the first one in the lowest bit, and how many it was asked.
    ///
    /// # Errors
    /// If a list is too long.
    pub(super) fn fulfilled(&self, values: &[ArrayRef]) -> Result<Vec<(u32, u8)>> {
        let rows = values.first().map_or(0, |values| values.len());
        match &self.conditions {
            Conditions::Each(places) => {
                let mut fulfilled = vec![(0, places.len() as u8); rows];
                for (bit, condition) in values[places.clone()].iter().enumerate() {
                    for row in true_of(condition.as_boolean()).set_indices() {
                        fulfilled[row].0 |= 1 << bit;
                    }
                }
                Ok(fulfilled)
            }
            Conditions::List(place) => self.of_lists(&values[*place]),
        }
    }

    fn of_lists(&self, lists: &ArrayRef) -> Result<Vec<(u32, u8)>> {
        let lists = lists.as_list::<i32>();
        let is_true = true_of(lists.values().as_boolean());
        let offsets = lists.value_offsets();
        let mut fulfilled = vec![(0, 0); lists.len()];
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
            if end - start > CONDITIONS_MAX {
                let name = self.tells.name();
                return exec_err!(
                    "{name}: at most {CONDITIONS_MAX} conditions are taken, not a list of {}",
                    end - start
                );
            }
            let bits = (start..end).filter(|at| is_true.value(*at)).map(|at| 1 << (at - start));
            fulfilled[row] = (bits.fold(0, |all: u32, bit: u32| all | bit), (end - start) as u8);
        }
        Ok(fulfilled)
    }
}

/// Where a condition is true: NULL is not.
fn true_of(condition: &BooleanArray) -> BooleanBuffer {
    match condition.nulls() {
        Some(valid) => condition.values() & valid.inner(),
        None => condition.values().clone(),
    }
}

/// The types to which arguments are brought.
///
/// # Errors
/// If one is of another type; tells what is taken.
pub(super) fn coerced(tells: Tells, given: &[DataType]) -> Result<Vec<DataType>> {
    let layout = Layout::of(tells, given)?;
    let name = tells.name();
    let mut types = given.to_vec();
    let wrong = |at: usize, wanted: &str| {
        plan_err!("`{name}` takes {wanted} as argument {}, not {}; write {name}({})", at + 1, given[at], told(tells))
    };
    match tells {
        Tells::Level => match window(&given[0]) {
            Some(window) => types[0] = window,
            None => return wrong(0, "an integer or an INTERVAL, how long the window is,"),
        },
        Tells::IsThere | Tells::Count if !is_text(&given[0]) && !given[0].is_null() => {
            return wrong(0, "a pattern such as '(?1).*(?2)'");
        }
        Tells::IsThere | Tells::Count => types[0] = DataType::Utf8,
        Tells::Returned => {}
    }
    types[layout.modes].fill(DataType::Utf8);
    if let Some(at) = layout.mode_bits {
        types[at] = DataType::Int64;
    }
    if let Some(at) = layout.time {
        match time::coerced(&given[at]) {
            Some(time) => types[at] = time,
            None if is_text(&given[at]) => {
                return wrong(at, "a timestamp, a date or an integer (of text, CAST(… AS TIMESTAMP))");
            }
            None => return wrong(at, "a timestamp, a date or an integer"),
        }
    }
    match layout.conditions {
        Conditions::Each(places) => {
            for at in places {
                if !is_condition(&given[at]) {
                    return wrong(at, "a condition such as event = 'buy'");
                }
                types[at] = DataType::Boolean;
            }
        }
        Conditions::List(at) => {
            if !item(&given[at]).is_some_and(is_condition) {
                return wrong(at, "a list of conditions such as [event = 'visit', event = 'buy']");
            }
            types[at] = DataType::List(Arc::new(Field::new_list_field(DataType::Boolean, true)));
        }
    }
    Ok(types)
}

/// How a call is written.
fn told(tells: Tells) -> &'static str {
    match tells {
        Tells::Level => "window, 'mode', time, condition, … or window, time, mode, [condition, …]",
        Tells::IsThere | Tells::Count => "'pattern', time, condition, …",
        Tells::Returned => "condition, … or [condition, …]",
    }
}

fn is_text(given: &DataType) -> bool {
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// A flag; also 0 and 1, which some engines have for it.
fn is_condition(given: &DataType) -> bool {
    given.is_integer() || matches!(given, DataType::Boolean | DataType::Null)
}

fn window(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Interval(_) => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
        given if given.is_integer() || given.is_null() => Some(DataType::Int64),
        _ => None,
    }
}

fn item(given: &DataType) -> Option<&DataType> {
    match given {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}
