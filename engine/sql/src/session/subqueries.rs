//! Scalar subqueries are told apart.
//!
//! DataFusion computes scalar subqueries that are equal once. It does not look at what their tables read, which is where the rules of this
//! session write down who is asked for ([`super::joins`]): the purchases of two audiences would be one number. So each subquery gets a
//! number of its own before any rule. It stands among the places of the text, the one part of a subquery that is compared and means
//! nothing.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Location, Result, Span};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
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
        let number = |part: Expr| {
            Ok(match part {
                Expr::ScalarSubquery(mut subquery) => {
                    // No text has a line 0.
                    let place = Location { line: 0, column: self.next.fetch_add(1, Ordering::Relaxed) + 1 };
                    subquery.spans.add_span(Span::new(place, place));
                    Transformed::yes(Expr::ScalarSubquery(subquery))
                }
                other => Transformed::no(other),
            })
        };
        plan.transform_up_with_subqueries(|node| node.map_expressions(|part| part.transform_up(number))).data()
    }
}
