//! How many different values there are: HyperLogLog, of Apache DataSketches.
//!
//! What is kept are hashes of values as long as there are few of them, and then 2^precision counters of a byte. Both are settled by the
//! set of values, whatever the order; the estimate too, for the one that learns from the order is left aside. The bounds are two
//! standard deviations.

use super::answer;
use super::groups::Sketch;
use crate::functions::constant::integer_within;
use arrow::array::{ArrayRef, Int64Array};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datasketches::common::NumStdDev;
use datasketches::hll::{HllSketch, HllType, HllUnion};
use std::sync::Arc;

pub(super) const NAME: &str = "approx_count_distinct";

/// 16 KiB a group, and bounds that are 1.6 % away.
const PRECISION_DEFAULT: i64 = 14;

#[derive(Debug)]
pub(super) struct Plan {
    precision: u8,
    /// Writes values as bytes that are the same if the values are.
    rows: RowConverter,
}

impl Plan {
    /// # Errors
    /// If the precision is not one.
    pub(super) fn of(args: &AccumulatorArgs<'_>) -> Result<Plan> {
        let precision = match args.exprs.len() {
            1 => PRECISION_DEFAULT,
            _ => integer_within(args, 1, NAME, "a precision", 4..=21)?,
        };
        let rows = RowConverter::new(vec![SortField::new(args.expr_fields[0].data_type().clone())])?;
        Ok(Plan { precision: precision as u8, rows })
    }

    fn empty(&self) -> HllUnion {
        HllUnion::new(self.precision).expect("a precision that was checked")
    }
}

/// The values of a group; nothing is kept before the first one.
#[derive(Debug)]
pub(super) struct Distinct(Option<Box<HllUnion>>);

impl Distinct {
    /// The estimate, and the whole numbers that bound it.
    fn answer(&self) -> (i64, i64, i64) {
        let Some(values) = &self.0 else { return (0, 0, 0) };
        let values = values.to_sketch(HllType::Hll8);
        // A union of more than one has forgotten the order, and so have its bounds.
        let mut union = HllUnion::new(values.lg_config_k()).expect("a precision that is in use");
        union.update(&values);
        union.update(&values);
        let lower = union.lower_bound(NumStdDev::Two).ceil() as i64;
        let upper = union.upper_bound(NumStdDev::Two).floor() as i64;
        let estimate = union.estimate().round() as i64;
        (estimate, lower.min(estimate), upper.max(estimate))
    }
}

/// Answers of groups: estimate, lower and upper bound.
///
/// # Errors
/// None.
pub(super) fn answers(groups: &[(i64, i64, i64)]) -> Result<ArrayRef> {
    let column =
        |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(groups.iter().map(of))) };
    answer::answers([column(|group| group.0), column(|group| group.1), column(|group| group.2)], None)
}

impl Sketch for Distinct {
    type Plan = Plan;
    type Column = Rows;

    const NAME: &'static str = NAME;

    fn new(_: &Plan) -> Distinct {
        Distinct(None)
    }

    fn prepare(plan: &Plan, values: &ArrayRef) -> Result<Rows> {
        Ok(plan.rows.convert_columns(&[Arc::clone(values)])?)
    }

    fn update(&mut self, plan: &Plan, values: &Rows, row: usize) {
        self.0.get_or_insert_with(|| Box::new(plan.empty())).update_value(values.row(row).data());
    }

    fn encode(&self) -> Vec<u8> {
        self.0.as_ref().map(|values| values.to_sketch(HllType::Hll8).serialize()).unwrap_or_default()
    }

    fn merge(&mut self, plan: &Plan, encoded: &[u8]) -> Result<()> {
        if !encoded.is_empty() {
            let other = HllSketch::deserialize(encoded).map_err(|error| internal_datafusion_err!("{NAME}: {error}"))?;
            self.0.get_or_insert_with(|| Box::new(plan.empty())).update(&other);
        }
        Ok(())
    }

    fn answers(_: &Plan, groups: &[Distinct]) -> Result<ArrayRef> {
        answers(&groups.iter().map(Distinct::answer).collect::<Vec<_>>())
    }

    fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |values| size_of::<HllUnion>() + values.estimated_size())
    }
}
