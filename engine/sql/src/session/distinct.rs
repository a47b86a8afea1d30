//! `count(DISTINCT user_id)` over users: a user has one row, so it is a count, as long as no join or list has made more rows of it.

use super::columns::USER_ID;
use super::users::UsersTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct DistinctUsers;

impl AnalyzerRule for DistinctUsers {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_down_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => plain(aggregate),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "distinct_users"
    }
}

/// The aggregation without a DISTINCT that changes nothing; its columns keep their names.
fn plain(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let is_of_users = |expr: &Expr| match expr {
        Expr::AggregateFunction(AggregateFunction { func, params }) => match params.args.as_slice() {
            [Expr::Column(column)] if func.name() == "count" && params.distinct => {
                let place = aggregate.input.schema().maybe_index_of_column(column);
                place.is_some_and(|place| is_user_id(&aggregate.input, place))
            }
            _ => false,
        },
        _ => false,
    };
    if !aggregate.aggr_expr.iter().any(is_of_users) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let aggregates = aggregate.aggr_expr.iter().map(|expr| {
        let mut changed = expr.clone();
        if is_of_users(expr)
            && let Expr::AggregateFunction(AggregateFunction { params, .. }) = &mut changed
        {
            params.distinct = false;
        }
        NamePreserver::new_for_projection().save(expr).restore(changed)
    });
    let aggregates = aggregates.collect();
    let aggregate = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), aggregates)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}

/// Whether a column is the ids of users, each in one row at most.
fn is_user_id(plan: &LogicalPlan, mut place: usize) -> bool {
    let mut plan = plan;
    loop {
        plan = match plan {
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Limit(limit) => &limit.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Projection(projection) => {
                let Some(column) = projection.expr.get(place).map(|expr| expr.clone().unalias()) else { return false };
                let Expr::Column(column) = column else { return false };
                let Some(below) = projection.input.schema().maybe_index_of_column(&column) else { return false };
                place = below;
                &projection.input
            }
            LogicalPlan::TableScan(scan) => {
                let is_users = source_as_provider(&scan.source).is_ok_and(|table| table.is::<UsersTable>());
                return is_users && plan.schema().fields().get(place).is_some_and(|field| field.name() == USER_ID);
            }
            _ => return false,
        };
    }
}
