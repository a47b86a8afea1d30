//! What is told is what the slow twins tell, in whatever order and parts rows come.

use super::Tells;
use super::arguments::Layout;
use super::groups::{EventGroups, Question};
use crate::functions::waiting::Waiting;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use engine::journey::funnel::{Funnel, Modes};
use engine::journey::naive::{self, Part, Row};
use engine::journey::pattern::Pattern;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONDITIONS: usize = 4;

fn row() -> impl Strategy<Value = Row> {
    // Few moments, so that many rows share one; rows that fulfil nothing, one condition or several.
    (0..6i64, prop::collection::btree_set(0..CONDITIONS, 0..3))
}

fn modes() -> impl Strategy<Value = Modes> {
    any::<[bool; 4]>().prop_map(|[deduplication, order, increase, once]| Modes { deduplication, order, increase, once })
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => (0..CONDITIONS).prop_map(Part::Condition),
        1 => Just(Part::Any),
        2 => Just(Part::Skip),
        3 => (prop::sample::select(vec![">=", ">", "<=", "<", "=="]), 0..4i64).prop_map(|(op, by)| Part::Time(op, by)),
    ]
}

/// The first arguments, which the groups know by now, then times and conditions.
fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![""; rows.len()])),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
    ];
    for condition in 0..CONDITIONS {
        let fulfilled = rows.iter().map(|row| Some(row.1.contains(&condition)));
        columns.push(Arc::new(BooleanArray::from_iter(fulfilled)));
    }
    columns
}

fn groups(question: Question) -> EventGroups {
    let mut types = vec![DataType::Utf8, DataType::Int64];
    types.extend([const { DataType::Boolean }; CONDITIONS]);
    EventGroups::new(question, Layout::of(Tells::Count, &types).expect("a call"), Waiting::default())
}

/// Rows of group 0 of several parts, which are gathered apart and then together, beside as many rows of group 1.
fn answer_in_parts(question: &Question, parts: &[Vec<Row>]) -> i64 {
    let mut whole = groups(question.clone());
    for (at, part) in parts.iter().enumerate() {
        let twice: Vec<Row> = part.iter().flat_map(|row| [row.clone(), (row.0 + 1, BTreeSet::from([0]))]).collect();
        let group_of: Vec<usize> = (0..twice.len()).map(|row| row % 2).collect();
        let columns = columns(&twice);
        if at % 2 == 0 {
            let mut alone = groups(question.clone());
            GroupsAccumulator::update_batch(&mut alone, &columns, &group_of, None, 2).expect("taken");
            let state = GroupsAccumulator::state(&mut alone, EmitTo::All).expect("a state");
            GroupsAccumulator::merge_batch(&mut whole, &state, &[0, 1], 2).expect("merged");
        } else {
            let state = whole.convert_to_state(&columns, None).expect("a state");
            GroupsAccumulator::merge_batch(&mut whole, &state, &group_of, 2).expect("merged");
        }
    }
    let first = GroupsAccumulator::evaluate(&mut whole, EmitTo::First(1)).expect("an answer");
    let rest = GroupsAccumulator::evaluate(&mut whole, EmitTo::All).expect("an answer");
    assert_eq!((first.len(), rest.len()), (1, 1));
    first.as_primitive_opt::<Int64Type>().map_or_else(|| i64::from(first.as_boolean().value(0)), |first| first.value(0))
}

fn answer(question: &Question, rows: &[Row]) -> i64 {
    let (mut part, mut one) = (groups(question.clone()), groups(question.clone()));
    Accumulator::update_batch(&mut part, &columns(rows)).expect("taken");
    assert!(rows.iter().all(|row| row.1.is_empty()) || Accumulator::size(&part) > Accumulator::size(&one));
    let state = Accumulator::state(&mut part).expect("a state");
    let state: Vec<ArrayRef> = state.iter().map(|value| value.to_array().expect("an array")).collect();
    Accumulator::merge_batch(&mut one, &state).expect("merged");
    match Accumulator::evaluate(&mut one).expect("an answer") {
        datafusion::common::ScalarValue::Boolean(Some(is_there)) => i64::from(is_there),
        datafusion::common::ScalarValue::Int64(Some(number)) => number,
        other => panic!("{other}"),
    }
}

/// Rows in the order they come, and the same ones in parts.
fn shuffled() -> impl Strategy<Value = (Vec<Row>, Vec<Vec<Row>>)> {
    prop::collection::vec(row(), 0..9).prop_flat_map(|rows| {
        let parts = prop::collection::vec(0..3usize, rows.len());
        (Just(rows.clone()), Just(rows).prop_shuffle(), parts).prop_map(|(rows, other, part_of)| {
            let of =
                |part| other.iter().zip(&part_of).filter(|(_, of)| **of == part).map(|(row, _)| row.clone()).collect();
            (rows, vec![of(0), of(1), of(2)])
        })
    })
}

#[test]
fn levels_are_those_of_the_slow_twin_in_any_order_and_parts() {
    let mut told = [0u32; CONDITIONS + 1];
    let mut runner = TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() });
    let told = std::cell::RefCell::new(&mut told);
    let cases = (shuffled(), 0..7i128, modes());
    let outcome = runner.run(&cases, |((rows, parts), window, modes)| {
        let funnel = Funnel { window, modes };
        let wanted = naive::level(&rows, &funnel);
        let question = Question::Level(funnel);
        prop_assert_eq!(answer(&question, &rows), wanted as i64);
        prop_assert_eq!(answer_in_parts(&question, &parts), wanted as i64);
        told.borrow_mut()[wanted] += 1;
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // Each level was told often enough to mean something.
    assert!(told.borrow().iter().all(|count| *count > 20), "{told:?}");
}

#[test]
fn sequences_are_those_of_the_slow_twin_in_any_order_and_parts() {
    let told = std::cell::RefCell::new([0u32; 4]);
    let mut runner = TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() });
    let cases = (shuffled(), prop::collection::vec(part(), 1..7));
    let outcome = runner.run(&cases, |((rows, in_parts), parts)| {
        let Ok(pattern) = Pattern::parse(&naive::written(&parts), CONDITIONS, 1) else { return Ok(()) };
        // What fulfils nothing is no event of a sequence.
        let events: Vec<Row> = rows.iter().filter(|row| !row.1.is_empty()).cloned().collect();
        let wanted = naive::chains(&events, &parts) as i64;
        prop_assert_eq!(answer(&Question::Count(pattern.clone()), &rows), wanted);
        prop_assert_eq!(answer_in_parts(&Question::Count(pattern.clone()), &in_parts), wanted);
        prop_assert_eq!(answer(&Question::IsThere(pattern.clone()), &rows), i64::from(wanted > 0));
        prop_assert_eq!(answer_in_parts(&Question::IsThere(pattern), &in_parts), i64::from(wanted > 0));
        told.borrow_mut()[usize::try_from(wanted).expect("a count").min(3)] += 1;
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(told.borrow().iter().all(|count| *count > 20), "{told:?}");
}

/// Tried one after the other, the ways to match this would be more than there are atoms.
#[test]
fn no_pattern_takes_longer_than_events_times_places() {
    let rows: Vec<Row> = (0..20_000).map(|at| (at, BTreeSet::from([0]))).collect();
    for pattern in [
        "(?1).*".repeat(63) + "(?2)",
        "(?1)(?t>=1)".repeat(63) + "(?2)",
        "(?1)(?t>=300)(?t<=400).*.*".repeat(63) + "(?2)",
        ".(?t<=9)".repeat(63) + "(?1)",
    ] {
        let pattern = Pattern::parse(&pattern, CONDITIONS, 1).expect("a pattern");
        let begun = Instant::now();
        let count = answer(&Question::Count(pattern.clone()), &rows);
        assert_eq!(count > 0, pattern.taken[63].fulfils == Some(1));
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_nobody_waits_for_ends() {
    let context = engine::audience::ops::QueryContext::default();
    let waiting = Waiting::new(&context);
    let rows: Vec<Row> = (0..10_000).map(|at| (at, BTreeSet::from([0]))).collect();
    let pattern = Pattern::parse("(?1).*(?2)", CONDITIONS, 1).expect("a pattern");
    let funnel = Funnel { window: 5, modes: Modes::default() };
    for question in [Question::Count(pattern), Question::Level(funnel)] {
        context.cancelled.store(false, std::sync::atomic::Ordering::Relaxed);
        let layout = Layout::of(Tells::Count, &[DataType::Utf8, DataType::Int64, DataType::Boolean]).expect("a call");
        let mut one = EventGroups::new(question, layout, waiting.clone());
        Accumulator::update_batch(&mut one, &columns(&rows)[..3]).expect("taken");
        context.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(Accumulator::update_batch(&mut one, &columns(&rows)[..3]).is_err());
        assert!(Accumulator::evaluate(&mut one).is_err());
    }
}
