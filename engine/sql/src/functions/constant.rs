//! Arguments of aggregates that are the same for all rows.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::sync::Arc;

/// The value of the argument at this place, from 0 on.
///
/// # Errors
/// If it is NULL or depends on the row; tells what is wanted.
pub(super) fn constant(args: &AccumulatorArgs<'_>, at: usize, function: &str, wanted: &str) -> Result<ScalarValue> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    // A column is not there, so that what reads one has no value.
    match args.exprs.get(at).map(|expr| expr.evaluate(&nothing)) {
        Some(Ok(ColumnarValue::Scalar(value))) if !value.is_null() => Ok(value),
        Some(Ok(ColumnarValue::Scalar(_))) => plan_err!("`{function}`: argument {} is NULL; it takes {wanted}", at + 1),
        _ => plan_err!(
            "`{function}`: argument {} has to be the same for all rows; it takes {wanted}, not a column",
            at + 1
        ),
    }
}

/// The same of an integer within bounds.
///
/// # Errors
/// If it is none, or out of bounds.
pub(super) fn integer_within(
    args: &AccumulatorArgs<'_>,
    at: usize,
    function: &str,
    wanted: &str,
    bounds: std::ops::RangeInclusive<i64>,
) -> Result<i64> {
    match constant(args, at, function, wanted)? {
        ScalarValue::Int64(Some(value)) if bounds.contains(&value) => Ok(value),
        other => plan_err!(
            "`{function}` takes {wanted} as argument {}: an integer from {} to {}, not {other}",
            at + 1,
            bounds.start(),
            bounds.end()
        ),
    }
}
