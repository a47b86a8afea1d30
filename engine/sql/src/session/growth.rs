//! What a few words of a statement may become.
//!
//! * Each column is written out as what it is computed of, by rules of the optimizer, and `x + x` on top of `x + x`, forty times over, has
//!   a million million operands. So a plan is measured before it is optimized.
//! * Constants are computed while that happens, and what they come to is written out for each row of a batch.
//! * A recursive query computes with what it computed before: `s || s` is twice as long each time, and no pool counts what an expression
//!   makes.

use super::guard::STATEMENT_OPERATORS_MAX;
use super::parameters::is_long;
use super::{STATEMENT_MADE_BYTES_MAX, SqlError, SqlErrorKind};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

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
        return Err(too_large(what, "use fewer columns that are computed of each other"));
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

/// Refuses an optimized plan with a text that was computed and has become too long.
pub(super) fn check_texts(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|part| {
                let len = match part {
                    Expr::Literal(
                        ScalarValue::Utf8(Some(text))
                        | ScalarValue::LargeUtf8(Some(text))
                        | ScalarValue::Utf8View(Some(text)),
                        _,
                    ) => text.len(),
                    _ => 0,
                };
                if len > STATEMENT_MADE_BYTES_MAX {
                    let what =
                        format!("constants make a text of {len} bytes; at most {STATEMENT_MADE_BYTES_MAX} are taken");
                    return Err(too_large(what, "join fewer of them"));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map(drop)
}

/// Refuses a plan with a recursive query that makes texts or lists of those it made before.
pub(super) fn check_recursion(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::RecursiveQuery(query) = plan {
            query.recursive_term.apply_with_subqueries(check_step).map(drop)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

/// Whether all that a step of a recursive query computes is of a size that its type says; what it only hands on may have any.
fn check_step(plan: &LogicalPlan) -> Result<TreeNodeRecursion> {
    let computed = match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => plan.expressions(),
        _ => Vec::new(),
    };
    let inputs = plan.inputs();
    let schemas: Vec<&DFSchema> = inputs.iter().map(|input| input.schema().as_ref()).collect();
    let Some(input) = schemas.first() else { return Ok(TreeNodeRecursion::Continue) };
    for expr in computed {
        if !is_handed_on(&expr) && is_long(&expr.get_type(*input)?) {
            let what = format!("`{}` would make ever longer values", expr.human_display());
            let advice = "let what stands behind UNION in WITH RECURSIVE compute numbers and times, and hand texts and lists on as they are";
            let error = SqlError::new(
                SqlErrorKind::Refused,
                format!("a recursive query cannot compute texts or lists: {what}"),
            );
            return Err(DataFusionError::External(Box::new(error.suggest(advice))));
        }
    }
    Ok(TreeNodeRecursion::Continue)
}

fn is_handed_on(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_handed_on(&alias.expr),
        Expr::Cast(cast) => is_handed_on(&cast.expr),
        Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::Literal(..) => true,
        _ => false,
    }
}

fn too_large(what: String, advice: &str) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(SqlErrorKind::TooLarge, what).suggest(advice)))
}
