//! `ORDER BY number LIMIT k` over users: the first ones are found by bit slices, and only their columns are read.
//!
//! The sort stays above, over few rows instead of all: it puts them in order, settles equal numbers by what else is sorted by, and
//! leaves out those too many. What is read is shared by the parts: where the last of the `k` is, is looked up once.

use super::aggregate::source::{Part, Source};
use super::users::UsersExec;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use engine::audience::ops::{self, Best, ColumnOf, QueryContext, QueryError};
use engine::audience::predicate::Predicate;
use engine::catalog::{Catalog, TagType};
use engine::store::Snapshot;
use std::sync::{Arc, OnceLock};

/// More are left to the sort, which spills.
const FIRST_MAX: usize = 1_000_000;

/// The first users in an order.
#[derive(Clone, Debug)]
pub(super) struct Top {
    best: Best,
    found: Arc<OnceLock<std::result::Result<Vec<Found>, QueryError>>>,
}

/// Some of the first users, and how many of them are enough.
type Found = (Predicate, Option<usize>);

impl Top {
    /// Where they are; looked up by whoever asks first.
    pub(super) fn found(
        &self,
        snapshot: &Snapshot,
        predicate: &Predicate,
        context: &QueryContext,
    ) -> std::result::Result<&[Found], QueryError> {
        let found = self.found.get_or_init(|| ops::best(snapshot, predicate, &self.best, context));
        found.as_deref().map_err(Clone::clone)
    }

    /// For a plan that is shown.
    pub(super) fn describe(&self, catalog: &Catalog) -> String {
        let Best { by, descending, unknown_first, k, .. } = self.best;
        let name = catalog.name_of(by).unwrap_or_default();
        let order = if descending { "DESC" } else { "ASC" };
        let nulls = if unknown_first { "FIRST" } else { "LAST" };
        format!("first={k} by {name} {order} NULLS {nulls}")
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct TopUsers;

impl PhysicalOptimizerRule for TopUsers {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let restrict = |plan: Arc<dyn ExecutionPlan>| match plan.downcast_ref::<SortExec>().and_then(restricted) {
            Some(input) => Ok(Transformed::yes(replace_children_if_necessary(plan, vec![input?])?)),
            None => Ok(Transformed::no(plan)),
        };
        plan.transform_down(restrict).data()
    }

    fn name(&self) -> &str {
        "TopUsers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The sort's input with fewer users, if those are enough.
fn restricted(sort: &SortExec) -> Option<Result<Arc<dyn ExecutionPlan>>> {
    let k = sort.fetch().filter(|k| *k <= FIRST_MAX)?;
    let source = Source::of(sort.input())?;
    let first = sort.expr().first();
    let Part::Column(ColumnOf::Tag(by)) = source.part(&first.expr)? else { return None };
    let catalog = source.users.question().snapshot.catalog();
    let tag_type = catalog.tags().find(|(_, tag)| tag.id == by).map(|(_, tag)| tag.tag_type);
    if source.unnested().is_some() || !matches!(tag_type, Some(TagType::Number(_))) {
        return None;
    }
    let best = Best {
        by,
        descending: first.options.descending,
        unknown_first: first.options.nulls_first,
        k,
        any_of_equals: sort.expr().len() == 1,
    };
    let users: Arc<dyn ExecutionPlan> = Arc::new(source.users.first(Top { best, found: Arc::default() })?);
    let replace = |plan: Arc<dyn ExecutionPlan>| match plan.downcast_ref::<UsersExec>() {
        Some(_) => Ok(Transformed::yes(Arc::clone(&users))),
        None => Ok(Transformed::no(plan)),
    };
    Some(Arc::clone(sort.input()).transform_up(replace).data())
}
