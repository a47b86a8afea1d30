//! How large a statement's expressions become when each column is written out as what it is computed of.
//!
//! Rules of the optimizer do write them out, and `x + x` on top of `x + x`, forty times over, has a million million operands. So a
//! plan is measured before it is optimized.

use super::guard::STATEMENT_OPERATORS_MAX;
use super::{SqlError, SqlErrorKind};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The most parts of an expression that was written out: as many as could stand in a statement anyway.
const PARTS_MAX: u64 = 10 * STATEMENT_OPERATORS_MAX as u64;

/// Refuses a plan with expressions that grow too large.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    measure(plan).map(drop)
}

/// The parts of each column that a plan gives.
fn measure(plan: &LogicalPlan) -> Result<Vec<u64>> {
    // Plans within expressions are measured by themselves.
    plan.apply_subqueries(|inner| {
        measure(inner)?;
        Ok(TreeNodeRecursion::Jump)
    })?;
    let inputs = plan.inputs();
    let mut below = Vec::new();
    for input in &inputs {
        below.extend(measure(input)?);
    }
    let schemas: Vec<&DFSchema> = inputs.iter().map(|input| input.schema().as_ref()).collect();
    let size_of = |expr: &Expr| size(expr, &schemas, &below);
    let expressions = plan.expressions();
    let sizes = expressions.iter().map(size_of).collect::<Result<Vec<u64>>>()?;
    if sizes.iter().any(|size| *size > PARTS_MAX) {
        let what = format!("an expression has more than {PARTS_MAX} parts once its columns are written out");
        let error =
            SqlError::new(SqlErrorKind::TooLarge, what).suggest("use fewer columns that are computed of each other");
        return Err(datafusion::error::DataFusionError::External(Box::new(error)));
    }
    let width = plan.schema().fields().len();
    Ok(match plan {
        LogicalPlan::Projection(_) if sizes.len() == width => sizes,
        LogicalPlan::Window(_) if below.len() + sizes.len() == width => [below, sizes].concat(),
        // Groups and aggregates are computed by themselves: nothing is written out beyond them.
        LogicalPlan::Aggregate(_) => vec![1; width],
        _ if below.len() == width => below,
        _ => vec![below.iter().copied().max().unwrap_or(1); width],
    })
}

fn size(expr: &Expr, schemas: &[&DFSchema], below: &[u64]) -> Result<u64> {
    let mut total = 0_u64;
    expr.apply(|part| {
        total = total.saturating_add(match part {
            Expr::Column(column) => of_column(column, schemas, below),
            // They come with what they stand in; a list may have many.
            Expr::Literal(..) => 0,
            _ => 1,
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(total)
}

fn of_column(column: &Column, schemas: &[&DFSchema], below: &[u64]) -> u64 {
    let mut before = 0;
    for schema in schemas {
        if let Some(at) = schema.maybe_index_of_column(column) {
            return below.get(before + at).copied().unwrap_or(1);
        }
        before += schema.fields().len();
    }
    1
}
