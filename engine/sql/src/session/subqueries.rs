//! Scalar subqueries are told apart.
//!
//! DataFusion computes scalar subqueries that are equal once. It does not look at what their tables read, which is where the rules of this
//! session write down who is asked for ([`super::joins`]): the purchases of two audiences would be one number. So each subquery gets a
//! name of its own before any rule. One that refers to what is around it becomes a join, under a name that DataFusion gives it.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, SubqueryAlias};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SubqueriesApart {
    next: AtomicU64,
}

impl AnalyzerRule for SubqueriesApart {
    fn name(&self) -> &str {
        "subqueries_apart"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let name = |part: Expr| match part {
            Expr::ScalarSubquery(mut subquery) if subquery.outer_ref_columns.is_empty() => {
                let name = format!("__subquery_{}", self.next.fetch_add(1, Ordering::Relaxed));
                let named = SubqueryAlias::try_new(subquery.subquery, name)?;
                subquery.subquery = Arc::new(LogicalPlan::SubqueryAlias(named));
                Ok(Transformed::yes(Expr::ScalarSubquery(subquery)))
            }
            other => Ok(Transformed::no(other)),
        };
        plan.transform_up_with_subqueries(|node| node.map_expressions(|part| part.transform_up(name))).data()
    }
}
