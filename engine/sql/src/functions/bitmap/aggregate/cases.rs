//! Bitmaps by the values of another column, and what they come to together.

use super::super::call::decoded;
use super::super::types::list_of;
use super::expression::{Expression, Parsed};
use super::groups::Group;
use super::set::{answer, is_unknown};
use super::{Gathers, Plan};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use engine::bitmap::wide::{encode, heap_bytes};
use roaring::RoaringTreemap;
use std::sync::{Arc, PoisonError};

/// What a group gathers.
#[derive(Debug, Default)]
pub(super) struct Cases {
    /// Of `orthogonal_bitmap_expr_calculate`, once there is a row.
    expression: Option<Arc<Parsed>>,
    /// By value, in the order of the arguments or of the expression.
    sets: Vec<RoaringTreemap>,
    heap_bytes: usize,
    /// Of bitmaps that were joined since the sets were measured.
    joined_bytes: usize,
    /// Of the expression, if this group was the first to have it.
    expression_bytes: usize,
}

impl Cases {
    fn turn_to(&mut self, plan: &Plan, text: &str) -> Result<()> {
        match &self.expression {
            Some(known) if known.text == text => return Ok(()),
            Some(known) => {
                let known = &known.text;
                return exec_err!(
                    "the expression must be the same for all rows of a group, and is '{known}' and '{text}'"
                );
            }
            None => {}
        }
        let mut shared = plan.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = match &*shared {
            Some(known) if known.text == text => Arc::clone(known),
            _ => {
                let parsed = Arc::new(Parsed { text: text.to_owned(), expression: Expression::parse(text)? });
                self.expression_bytes = parsed.heap_bytes();
                *shared = Some(Arc::clone(&parsed));
                parsed
            }
        };
        self.sets.resize_with(parsed.expression.keys().len(), RoaringTreemap::new);
        self.expression = Some(parsed);
        Ok(())
    }

    fn add(&mut self, at: usize, other: &RoaringTreemap) {
        if self.sets.len() <= at {
            self.sets.resize_with(at + 1, RoaringTreemap::new);
        }
        self.sets[at] |= other;
        self.joined_bytes += heap_bytes(other);
        if is_unknown(self.heap_bytes + self.sets.capacity() * size_of::<RoaringTreemap>(), self.joined_bytes) {
            self.heap_bytes = self.sets.iter().map(heap_bytes).sum();
            self.joined_bytes = 0;
        }
    }
}

impl Group for Cases {
    fn update(&mut self, plan: &Plan, values: &[ArrayRef], row: usize) -> Result<()> {
        let (bitmaps, of) = (&values[0], values[1].as_string::<i32>());
        let mut matching = Vec::new();
        if plan.function.gathers == Gathers::Expression {
            let text = values[2].as_string::<i32>();
            if text.is_null(row) {
                return exec_err!("the expression is NULL; write it as '(A|B)&C'");
            }
            self.turn_to(plan, text.value(row))?;
            if let (Some(parsed), true) = (&self.expression, of.is_valid(row)) {
                matching.extend(parsed.expression.find(of.value(row)));
            }
        } else {
            // Every value has its place, with or without a row.
            self.sets.resize_with(values.len() - 2, RoaringTreemap::new);
            let is_same = |wanted: &ArrayRef| {
                let wanted = wanted.as_string::<i32>();
                of.is_valid(row) && wanted.is_valid(row) && wanted.value(row) == of.value(row)
            };
            matching.extend((0..values.len() - 2).filter(|at| is_same(&values[at + 2])));
        }
        if matching.is_empty() || bitmaps.is_null(row) {
            return Ok(());
        }
        let set = decoded(bitmaps.as_binary::<i32>().value(row), 1)?.to_set();
        matching.into_iter().for_each(|at| self.add(at, &set));
        Ok(())
    }

    fn merge(&mut self, plan: &Plan, states: &[ArrayRef], row: usize) -> Result<()> {
        let (texts, sets) = (states[0].as_string::<i32>(), states[1].as_list::<i32>());
        if texts.is_valid(row) {
            self.turn_to(plan, texts.value(row))?;
        }
        if sets.is_valid(row) {
            let sets = sets.value(row);
            let sets = sets.as_binary::<i32>();
            for at in 0..sets.len() {
                self.add(at, &decoded(sets.value(at), 1)?.to_set());
            }
        }
        Ok(())
    }

    fn state(&mut self, _: &Plan) -> Result<Vec<ScalarValue>> {
        let text = self.expression.as_ref().map(|parsed| parsed.text.clone());
        if self.sets.is_empty() {
            return Ok(vec![ScalarValue::Utf8(text), ScalarValue::try_new_null(&list_of(DataType::Binary))?]);
        }
        let sets: Vec<Vec<u8>> = self.sets.iter().map(encode).collect();
        if i32::try_from(sets.iter().map(Vec::len).sum::<usize>()).is_err() {
            return exec_err!("the bitmaps of all values take more than 2 GiB; ask for fewer values");
        }
        let sets: ArrayRef = Arc::new(BinaryArray::from_iter_values(sets));
        let list =
            datafusion::common::utils::SingleRowListArrayBuilder::new(sets).with_nullable(true).build_list_scalar();
        Ok(vec![ScalarValue::Utf8(text), list])
    }

    fn evaluate(&mut self, plan: &Plan) -> Result<ScalarValue> {
        let none = RoaringTreemap::new();
        let result = match (plan.function.gathers, &self.expression) {
            (Gathers::AllOf, _) => {
                let mut sets = self.sets.iter();
                let first = sets.next().unwrap_or(&none).clone();
                sets.fold(first, |all, set| all & set)
            }
            (Gathers::Expression, Some(parsed)) => parsed.expression.evaluate(&self.sets, &plan.people)?,
            (Gathers::Expression, None) => none,
            _ => self.sets.iter().fold(none, |any, set| any | set),
        };
        answer(&result, plan.function.gives)
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes + self.joined_bytes + self.expression_bytes + self.sets.capacity() * size_of::<RoaringTreemap>()
    }
}
