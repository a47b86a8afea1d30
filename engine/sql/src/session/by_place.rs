//! Joins by where users are, two numbers, instead of by their ids, which then need not be read.
//!
//! It comes last: what else is known of a join ([`super::joins`]) is known by its ids.

use super::joins::{Placed, places, sides, with_places};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use std::sync::Arc;

/// The optimized plan with its joins by place.
pub(super) fn by_places(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let joined = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        let rewritten = match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => by_place(join)?,
            _ => None,
        };
        Ok(rewritten.map_or_else(|| Transformed::no(plan), Transformed::yes))
    })?;
    if !joined.transformed {
        return Ok(joined.data);
    }
    // Ids that nobody asks for any more are not read.
    Optimizer::with_rules(vec![Arc::new(OptimizeProjections::new())]).optimize(joined.data, state, |_, _| {})
}

fn by_place(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((left, right)) = sides(join, false) else { return Ok(None) };
    let (Expr::Column(left_id), Expr::Column(right_id)) = (left.key, right.key) else { return Ok(None) };
    let Some(left_rows) = with_places(left.plan, left_id, Placed::Rows)? else { return Ok(None) };
    let Some(right_rows) = with_places(right.plan, right_id, Placed::Rows)? else { return Ok(None) };
    let is_other = |pair: &&(Expr, Expr)| (&pair.0, &pair.1) != (left.key, right.key);
    let [left_places, right_places] =
        [&left_rows, &right_rows].map(|rows| places(rows.schema()).into_iter().map(Expr::Column));
    let on = left_places.zip(right_places).chain(join.on.iter().filter(is_other).cloned()).collect();
    let (left_rows, right_rows) = (Arc::new(left_rows), Arc::new(right_rows));
    let (filter, kind, constraint) = (join.filter.clone(), join.join_type, join.join_constraint);
    let by_place =
        Join::try_new(left_rows, right_rows, on, filter, kind, constraint, join.null_equality, join.null_aware);
    // Two sides whose columns cannot be told apart.
    let Ok(by_place) = by_place else { return Ok(None) };
    let shown =
        join.schema.iter().map(|(table, field)| Expr::Column(Column::new(table.cloned(), field.name()))).collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(LogicalPlan::Join(by_place)))?)))
}
