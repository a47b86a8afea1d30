//! Joins by user as bitmaps.
//!
//! A rule of the optimizer looks at joins on `user_id` of which one side is read from `users` or from a fact, with nothing in
//! between that a choice of users would change. What the join does to that side is then told to its table as a [`Restriction`]:
//!
//! * `user_id [NOT] IN (SELECT …)` and `[NOT] EXISTS (…)` are that and nothing else, so the join is gone.
//! * A join with `users` for which nothing of them is shown is the same, since each is there once.
//! * An inner join of a fact with `members` looks each row's user up in the audiences ([`super::by_audience`]).
//! * Any other join with some of the users stays, but of the fact only their rows are read.

use super::by_audience::{AudienceRows, Audiences, by_audience};
use super::columns::USER_ID;
use super::facts::{FactTable, PLACES};
use super::late::{By, Restriction, check_columns};
use super::members::MembersTable;
use super::users::UsersTable;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias, TableScan,
    TableScanBuilder,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct JoinsAsBitmaps;

impl OptimizerRule for JoinsAsBitmaps {
    fn name(&self) -> &str {
        "joins_as_bitmaps"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = &plan else { return Ok(Transformed::no(plan)) };
        let rewritten = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti => filtered(join)?,
            JoinType::Inner => match without_users(join)? {
                Some(plan) => Some(plan),
                None => match by_audience(join)? {
                    Some(plan) => Some(plan),
                    None => narrowed(join)?,
                },
            },
            JoinType::Left | JoinType::Right => narrowed(join)?,
            _ => None,
        };
        Ok(rewritten.map_or_else(|| Transformed::no(plan), Transformed::yes))
    }
}

/// A side of a join, and what it is joined by.
pub(super) struct Side<'j> {
    pub(super) plan: &'j Arc<LogicalPlan>,
    pub(super) key: &'j Expr,
}

/// Left and right, if one pair of texts is all that they are joined by, or part of it.
pub(super) fn sides(join: &Join, only: bool) -> Option<(Side<'_>, Side<'_>)> {
    if only && (join.on.len() != 1 || join.filter.is_some()) || join.null_equality != NullEquality::NullEqualsNothing {
        return None;
    }
    let is_text = |key: &Expr, plan: &LogicalPlan| key.get_type(plan.schema()).ok() == Some(DataType::Utf8);
    let is_id = |key: &Expr| matches!(key, Expr::Column(column) if column.name == USER_ID);
    let pair = if only { join.on.first() } else { join.on.iter().find(|(left, right)| is_id(left) && is_id(right)) };
    let (left, right) = pair?;
    (is_text(left, &join.left) && is_text(right, &join.right))
        .then_some((Side { plan: &join.left, key: left }, Side { plan: &join.right, key: right }))
}

/// What is left of a semi or anti join: the side that it shows, restricted.
fn filtered(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((left, right)) = sides(join, true) else { return Ok(None) };
    let is_left = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
    let negated = matches!(join.join_type, JoinType::LeftAnti | JoinType::RightAnti);
    let (shown, other) = if is_left { (left, right) } else { (right, left) };
    let Expr::Column(column) = shown.key else { return Ok(None) };
    if !can_run_first(other.plan)? {
        return Ok(None);
    }
    let restriction = restriction(other.plan, other.key, negated, join.null_aware)?;
    restrict(shown.plan, column, &restriction)
}

/// An inner join with users of whom nothing but the id is shown.
fn without_users(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((left, right)) = sides(join, true) else { return Ok(None) };
    for (shown, users) in [(&left, &right), (&right, &left)] {
        let (Expr::Column(column), Expr::Column(id)) = (shown.key, users.key) else { continue };
        if users.plan.schema().fields().len() != 1 || users_of(users.plan, id)?.is_none_or(|rows| rows.may_repeat) {
            continue;
        }
        let restriction = restriction(users.plan, users.key, false, false)?;
        let Some(restricted) = restrict(shown.plan, column, &restriction)? else { continue };
        // The id of the user stands in both sides.
        let columns = join.schema.iter().map(|(table, field)| {
            let own = Column::new(table.cloned(), field.name());
            if own == *id {
                Expr::Column(column.clone()).alias_qualified(table.cloned(), field.name())
            } else {
                own.into()
            }
        });
        let plan = Projection::try_new(columns.collect(), Arc::new(restricted))?;
        return Ok(Some(LogicalPlan::Projection(plan)));
    }
    Ok(None)
}

/// A join with some of the users, of whose other side only their rows are read.
fn narrowed(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((left, right)) = sides(join, false) else { return Ok(None) };
    for (narrow, users, is_left) in [(&left, &right, true), (&right, &left, false)] {
        // Rows of the side that an outer join keeps are shown in any case.
        let is_kept = matches!((join.join_type, is_left), (JoinType::Left, true) | (JoinType::Right, false));
        let (Expr::Column(column), Expr::Column(id)) = (narrow.key, users.key) else { continue };
        if is_kept || !users_of(users.plan, id)?.is_some_and(|rows| rows.are_chosen) || !reads_fact(narrow.plan)? {
            continue;
        }
        // They are asked for twice.
        if !is_same_each_time(users.plan, true)? {
            continue;
        }
        let restriction = restriction(users.plan, users.key, false, false)?;
        let Some(restricted) = restrict(narrow.plan, column, &restriction)? else { continue };
        let restricted = Arc::new(restricted);
        let mut join = join.clone();
        *(if is_left { &mut join.left } else { &mut join.right }) = restricted;
        return Ok(Some(LogicalPlan::Join(join)));
    }
    Ok(None)
}

/// Rows that are users, or members of audiences.
struct UserRows {
    /// Only some of the users.
    are_chosen: bool,
    /// A user may be there several times.
    may_repeat: bool,
}

/// Whether the rows of a plan are users, told by this column.
fn users_of(plan: &LogicalPlan, id: &Column) -> Result<Option<UserRows>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() && id.name == USER_ID => {
            let table = source_as_provider(&scan.source)?;
            let is_chosen = |users: &UsersTable| users.is_restricted() || !scan.filters.is_empty();
            let users = table.downcast_ref::<UsersTable>();
            let members = || table.downcast_ref::<MembersTable>();
            match users.map(|users| UserRows { are_chosen: is_chosen(users), may_repeat: false }) {
                None => members().map(|_| UserRows { are_chosen: true, may_repeat: true }),
                users => users,
            }
        }
        LogicalPlan::Filter(filter) => users_of(&filter.input, id)?.map(|rows| UserRows { are_chosen: true, ..rows }),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) | LogicalPlan::Projection(Projection { input, .. }) => {
            match below(plan, id) {
                Some(id) => users_of(input, &id)?,
                None => None,
            }
        }
        _ => None,
    })
}

/// The column of the only input that a column of the plan is.
fn below(plan: &LogicalPlan, column: &Column) -> Option<Column> {
    let at = plan.schema().maybe_index_of_column(column)?;
    match plan {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => Some(input.schema().qualified_field(at).into()),
        LogicalPlan::Projection(Projection { expr, .. }) => match expr.get(at)?.clone().unalias_nested().data {
            Expr::Column(column) => Some(column),
            _ => None,
        },
        _ => Some(column.clone()),
    }
}

/// Whether a plan has the same rows whenever it is run, and is planned in no time worth telling. `may_be_restricted`: its tables may
/// have only users of other plans, that have no such tables themselves: what stands within each other would be planned twice
/// as often with each level.
fn is_same_each_time(plan: &LogicalPlan, may_be_restricted: bool) -> Result<bool> {
    let mut is_same = true;
    plan.apply_with_subqueries(|node| {
        is_same &= match node {
            LogicalPlan::TableScan(scan) => {
                let table = source_as_provider(&scan.source)?;
                if let Some(rows) = table.downcast_ref::<AudienceRows>() {
                    is_same &= is_same_each_time(rows.plan(), may_be_restricted)?;
                }
                let restrictions = match (table.downcast_ref::<UsersTable>(), table.downcast_ref::<FactTable>()) {
                    (Some(users), _) => users.restrictions(),
                    (_, Some(fact)) => fact.restrictions(),
                    _ => &[],
                };
                let mut each = restrictions.iter().map(|of| is_same_each_time(&of.plan, false));
                scan.fetch.is_none()
                    && (may_be_restricted || restrictions.is_empty())
                    && each.try_fold(true, |all, one| one.map(|one| all && one))?
            }
            LogicalPlan::Aggregate(groups) => groups.aggr_expr.iter().all(counts),
            LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            | LogicalPlan::Union(_)
            | LogicalPlan::Join(_) => true,
            // The first rows, of those that are equal, are others each time.
            _ => false,
        } && !node.expressions().iter().any(Expr::is_volatile);
        Ok(if is_same { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_same)
}

/// Whether an aggregate is the same in whatever order rows come.
fn counts(aggregate: &Expr) -> bool {
    match aggregate {
        Expr::Alias(alias) => counts(&alias.expr),
        Expr::AggregateFunction(of) => matches!(of.func.name(), "count" | "min" | "max"),
        _ => false,
    }
}

/// Whether a plan can be run by itself.
pub(super) fn can_run_first(plan: &LogicalPlan) -> Result<bool> {
    let depends = plan.exists(|node| {
        Ok(match node {
            LogicalPlan::RecursiveQuery(_) => true,
            LogicalPlan::TableScan(scan) => source_as_provider(&scan.source)?.downcast_ref::<CteWorkTable>().is_some(),
            node => node.contains_outer_reference(),
        })
    })?;
    Ok(!depends)
}

fn reads_fact(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(false) };
        let table = source_as_provider(&scan.source)?;
        Ok(table.downcast_ref::<FactTable>().is_some() || table.downcast_ref::<AudienceRows>().is_some())
    })
}

/// Users whose id a row of the plan has; or all others.
fn restriction(plan: &Arc<LogicalPlan>, key: &Expr, negated: bool, null_aware: bool) -> Result<Restriction> {
    let of_places = match key {
        Expr::Column(column) => with_places(plan, column, None)?,
        _ => None,
    };
    let (plan, by) = match of_places {
        Some(plan) => {
            let places = places(plan.schema()).into_iter().map(Expr::Column);
            (LogicalPlanBuilder::from(plan.clone()).project(places)?.build()?, By::Place)
        }
        None => (LogicalPlanBuilder::from(Arc::clone(plan)).project([key.clone()])?.build()?, By::Id),
    };
    check_columns(&plan, by)?;
    Ok(Restriction { plan: Arc::new(plan), by, negated, null_aware })
}

/// The columns that say where a user is, as they are called in a plan that has them.
pub(super) fn places(schema: &DFSchema) -> Vec<Column> {
    let named = |name: &str| schema.iter().find(|(_, field)| field.name() == name).map(Column::from);
    PLACES.iter().filter_map(|name| named(name)).collect()
}

/// The plan, whose rows are events of a fact, with where their user is; as often as it may be there, if it only matters who is.
///
/// With audiences it does matter how often a row is there: they are the same rows, of users in any of the audiences.
pub(super) fn with_places(
    plan: &LogicalPlan,
    id: &Column,
    audiences: Option<&Arc<Audiences>>,
) -> Result<Option<LogicalPlan>> {
    let with_input = |input: &LogicalPlan| -> Result<Option<LogicalPlan>> {
        let Some(input) = with_places(input, id, audiences)? else { return Ok(None) };
        plan.with_new_exprs(plan.expressions(), vec![input]).map(Some)
    };
    if plan.schema().fields().iter().any(|field| PLACES.contains(&field.name().as_str())) {
        // Somebody calls something else so.
        return Ok(None);
    }
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() && id.name == USER_ID => {
            let table = source_as_provider(&scan.source)?;
            let Some(fact) = table.downcast_ref::<FactTable>() else { return Ok(None) };
            let Some(mut shown) = fact.with_places() else { return Ok(None) };
            if let Some(audiences) = audiences {
                shown = shown.of_audiences(Arc::clone(audiences));
            }
            let count = shown.schema_len();
            let own = scan.projection.clone().unwrap_or_else(|| (0..count - PLACES.len()).collect());
            let projection = own.into_iter().chain(count - PLACES.len()..count).collect();
            let scan = TableScanBuilder::new(scan.table_name.clone(), provider_as_source(Arc::new(shown)))
                .with_projection(Some(projection))
                .with_filters(scan.filters.clone())
                .build()?;
            Ok(Some(LogicalPlan::TableScan(scan)))
        }
        LogicalPlan::Filter(filter) => with_input(&filter.input),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
            let Some(id) = below(plan, id) else { return Ok(None) };
            let Some(input) = with_places(input, &id, audiences)? else { return Ok(None) };
            Ok(Some(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.clone())?)))
        }
        LogicalPlan::Projection(Projection { input, expr, .. }) => {
            let Some(id) = below(plan, id) else { return Ok(None) };
            let Some(input) = with_places(input, &id, audiences)? else { return Ok(None) };
            let places = places(input.schema()).into_iter().map(Expr::Column);
            let expr = expr.iter().cloned().chain(places).collect();
            Ok(Some(LogicalPlan::Projection(Projection::try_new(expr, Arc::new(input))?)))
        }
        LogicalPlan::Join(join) if audiences.is_some() => {
            let Some((is_left, id)) = kept_side(join, id) else { return Ok(None) };
            let side = if is_left { &join.left } else { &join.right };
            let Some(side) = with_places(side, &id, audiences)? else { return Ok(None) };
            let (left, right) = if is_left {
                (Arc::new(side), Arc::clone(&join.right))
            } else {
                (Arc::clone(&join.left), Arc::new(side))
            };
            let (on, filter, kind, constraint) =
                (join.on.clone(), join.filter.clone(), join.join_type, join.join_constraint);
            let join = Join::try_new(left, right, on, filter, kind, constraint, join.null_equality, join.null_aware)?;
            Ok(Some(LogicalPlan::Join(join)))
        }
        LogicalPlan::Distinct(Distinct::All(input)) if audiences.is_none() => with_places(input, id, None),
        LogicalPlan::Aggregate(groups) if groups.aggr_expr.is_empty() && audiences.is_none() => {
            match groups.group_expr.as_slice() {
                [Expr::Column(group)] if group.name == id.name => with_places(&groups.input, group, None),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

/// The plan with those rows only whose column has a user of the restriction; `None` if that cannot be told to a table.
fn restrict(plan: &LogicalPlan, column: &Column, restriction: &Restriction) -> Result<Option<LogicalPlan>> {
    let input = |input: &LogicalPlan| -> Result<Option<LogicalPlan>> {
        let Some(column) = below(plan, column) else { return Ok(None) };
        let Some(input) = restrict(input, &column, restriction)? else { return Ok(None) };
        plan.with_new_exprs(plan.expressions(), vec![input]).map(Some)
    };
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() && column.name == USER_ID => {
            let table = source_as_provider(&scan.source)?;
            let source = if let Some(users) = table.downcast_ref::<UsersTable>() {
                let Some(users) = users.restricted(restriction.clone()) else { return Ok(None) };
                provider_as_source(Arc::new(users))
            } else if let Some(fact) = table.downcast_ref::<FactTable>() {
                let Some(fact) = fact.restricted(restriction.clone()) else { return Ok(None) };
                provider_as_source(Arc::new(fact))
            } else if let Some(rows) = table.downcast_ref::<AudienceRows>() {
                let Some(column) = rows.column(&column.name) else { return Ok(None) };
                let Some(plan) = restrict(rows.plan(), column, restriction)? else { return Ok(None) };
                provider_as_source(Arc::new(rows.with_plan(plan)))
            } else {
                return Ok(None);
            };
            Ok(Some(LogicalPlan::TableScan(TableScan { source, ..scan.clone() })))
        }
        LogicalPlan::Filter(filter) => input(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => input(&alias.input),
        LogicalPlan::Projection(projection) => input(&projection.input),
        LogicalPlan::Distinct(Distinct::All(inner)) => input(inner),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => input(&sort.input),
        LogicalPlan::Join(join) => {
            let Some((is_left, column)) = kept_side(join, column) else { return Ok(None) };
            let side = if is_left { &join.left } else { &join.right };
            let Some(restricted) = restrict(side, &column, restriction)? else { return Ok(None) };
            let mut join = join.clone();
            *(if is_left { &mut join.left } else { &mut join.right }) = Arc::new(restricted);
            Ok(Some(LogicalPlan::Join(join)))
        }
        _ => Ok(None),
    }
}

/// The side that a column of a join comes from (`true`: the left one), and the column there; if rows of that side can be chosen
/// before the join as well as behind it.
fn kept_side(join: &Join, column: &Column) -> Option<(bool, Column)> {
    let at = join.schema.maybe_index_of_column(column)?;
    let left_count = join.left.schema().fields().len();
    let (is_left, at) = match join.join_type {
        JoinType::Inner => (at < left_count, if at < left_count { at } else { at - left_count }),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti if at < left_count => (true, at),
        JoinType::Right if at >= left_count => (false, at - left_count),
        JoinType::RightSemi | JoinType::RightAnti => (false, at),
        _ => return None,
    };
    let side = if is_left { &join.left } else { &join.right };
    Some((is_left, side.schema().qualified_field(at).into()))
}
