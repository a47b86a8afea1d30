//! `count(*)` over users, without rows: DataFusion's aggregation of each part becomes a count of the part's members.

use super::users::UsersExec;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct CountUsers;

impl PhysicalOptimizerRule for CountUsers {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let count = |plan: Arc<dyn ExecutionPlan>| {
            let counted = plan.downcast_ref::<AggregateExec>().and_then(counted);
            Ok(match counted {
                Some(counted) => Transformed::yes(Arc::new(counted) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(plan),
            })
        };
        plan.transform_down(count).data()
    }

    fn name(&self) -> &str {
        "CountUsers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What stands for the aggregation, if all it does is to count the rows of a part.
fn counted(aggregate: &AggregateExec) -> Option<UsersExec> {
    let is_first = matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::Single);
    let is_plain = aggregate.group_expr().is_empty()
        && !aggregate.group_expr().has_grouping_set()
        && aggregate.filter_expr().iter().all(Option::is_none)
        && !aggregate.aggr_expr().is_empty();
    let counts_rows = aggregate.aggr_expr().iter().all(|of| {
        let is_of_row = |argument: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
            argument.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null())
        };
        of.fun().name() == "count" && !of.is_distinct() && of.expressions().iter().all(is_of_row)
    });
    let schema = aggregate.schema();
    let is_number = schema.fields().iter().all(|field| *field.data_type() == DataType::Int64);
    if !(is_first && is_plain && counts_rows && is_number) {
        return None;
    }
    // One column of one row a part, whether it is the state of the count or the count itself.
    aggregate.input().downcast_ref::<UsersExec>()?.counted(schema)
}
