//! Rows of a fact by the audiences that hold their user: `purchase JOIN members USING (user_id)` without a table of user ids.
//!
//! A rule of the optimizer ([`super::joins`]) finds an inner join of `members` by the user with anything that keeps rows of a fact apart.
//! The fact is then read once, of users in any of the audiences, with where each row's user is; and each row is handed out once for
//! every audience that has the user there ([`super::audiences_exec`]). Whatever else the join asks is a filter above.

use super::audiences_exec::AudiencesExec;
use super::calls::Calls;
use super::columns::USER_ID;
use super::facts::PLACES;
use super::joins::{can_run_first, places, sides, with_places};
use super::late::{Once, Users};
use super::members::{AUDIENCE, MembersTable};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection, TableType, ident};
use datafusion::physical_plan::ExecutionPlan;
use engine::audience::ops::{self, QueryError};
use engine::audience::predicate::Predicate;
use futures::future::FutureExt;
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the table of such rows is called in plans.
const ROWS: &str = "rows_by_audience";
/// Of more audiences, a plan that is shown names the first.
const NAMES_SHOWN: usize = 10;

/// Saved audiences; who is in them is found once, when it is first asked.
#[derive(Debug)]
pub(super) struct Audiences {
    calls: Arc<Calls>,
    names: Vec<String>,
    predicates: Vec<Predicate>,
    found: Once<Arc<Sets>>,
}

/// Who is in audiences.
#[derive(Debug)]
pub(super) struct Sets {
    /// As the names.
    pub(super) each: Vec<Users>,
    /// In one of them at least.
    pub(super) any: Users,
    /// Given back when it is dropped.
    _reserved: MemoryReservation,
}

impl Audiences {
    fn new(audiences: Vec<(String, Predicate)>, calls: Arc<Calls>) -> Audiences {
        let (names, predicates) = audiences.into_iter().unzip();
        Audiences { calls, names, predicates, found: Once::default() }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// For a plan that is shown.
    pub(super) fn describe(&self) -> String {
        let shown = self.names.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.names.len().checked_sub(NAMES_SHOWN) {
            Some(more @ 1..) => format!("{shown}, and {more} more"),
            _ => shown,
        }
    }

    /// Who is in them, however often it is asked.
    pub(super) async fn found(&self, task: &Arc<TaskContext>) -> Result<Arc<Sets>> {
        let find = || {
            let (calls, predicates) = (Arc::clone(&self.calls), self.predicates.clone());
            let reserved = MemoryConsumer::new("users of audiences").register(task.memory_pool());
            let found = SpawnedTask::spawn_blocking(move || find_all(&calls, &predicates, reserved)).join();
            async move { found.await.map_err(|error| DataFusionError::External(Box::new(error)))? }.boxed()
        };
        self.found.get(find).await
    }
}

fn find_all(calls: &Calls, predicates: &[Predicate], reserved: MemoryReservation) -> Result<Arc<Sets>> {
    let mut any = vec![RoaringBitmap::new(); calls.snapshot().shards().len()];
    let mut each = Vec::with_capacity(predicates.len());
    for predicate in predicates {
        let users = ops::slots(calls.snapshot(), predicate, calls.context());
        let users = users.map_err(|error| DataFusionError::External(Box::new(error)))?;
        reserved.try_grow(users.iter().map(RoaringBitmap::serialized_size).sum())?;
        any.iter_mut().zip(&users).for_each(|(any, users)| *any |= users);
        each.push(Arc::new(users));
    }
    reserved.try_grow(any.iter().map(RoaringBitmap::serialized_size).sum())?;
    Ok(Arc::new(Sets { each, any: Arc::new(any), _reserved: reserved }))
}

/// The plan of an inner join of rows of a fact with members of audiences; `None` if it is something else.
pub(super) fn by_audience(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((left, right)) = sides(join, false) else { return Ok(None) };
    for (shown, other, is_left) in [(&left, &right, true), (&right, &left, false)] {
        let (Expr::Column(column), Expr::Column(id)) = (shown.key, other.key) else { continue };
        let Some(members) = Members::of(other.plan)? else { continue };
        if !other.plan.schema().maybe_index_of_column(id).is_some_and(|at| members.columns[at] == ident(USER_ID)) {
            continue;
        }
        if !can_run_first(shown.plan)? {
            continue;
        }
        let audiences = Arc::new(Audiences::new(members.audiences.clone(), Arc::clone(&members.calls)));
        let Some(plan) = with_places(shown.plan, column, Some(&audiences))? else { continue };
        let rows = AudienceRows::new(plan, shown.plan.schema(), audiences);
        return rows.joined(join, is_left, (column, id), &members).map(Some);
    }
    Ok(None)
}

/// What a side of a join shows of `members`.
struct Members {
    audiences: Vec<(String, Predicate)>,
    calls: Arc<Calls>,
    /// In terms of the table's columns, without its name.
    columns: Vec<Expr>,
    /// What must hold of the rows besides, in the same terms.
    filters: Vec<Expr>,
}

impl Members {
    fn of(plan: &LogicalPlan) -> Result<Option<Members>> {
        Ok(match plan {
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                let table = source_as_provider(&scan.source)?;
                let Some(table) = table.downcast_ref::<MembersTable>() else { return Ok(None) };
                let columns = plan.schema().fields().iter().map(|field| ident(field.name())).collect();
                let (audiences, calls) = (table.audiences(&scan.filters)?, table.calls());
                Some(Members { audiences, calls, columns, filters: Vec::new() })
            }
            LogicalPlan::SubqueryAlias(alias) => Members::of(&alias.input)?,
            LogicalPlan::Filter(filter) if is_plain(&filter.predicate) => match Members::of(&filter.input)? {
                Some(mut members) => {
                    members.filters.push(written(&filter.predicate, filter.input.schema(), &members.columns)?);
                    Some(members)
                }
                None => None,
            },
            LogicalPlan::Projection(Projection { expr, input, .. }) if expr.iter().all(is_plain) => {
                match Members::of(input)? {
                    Some(members) => {
                        let of = |expr: &Expr| written(expr, input.schema(), &members.columns);
                        let columns = expr.iter().map(of).collect::<Result<_>>()?;
                        Some(Members { columns, ..members })
                    }
                    None => None,
                }
            }
            _ => None,
        })
    }
}

/// Whether an expression may be computed elsewhere.
fn is_plain(expr: &Expr) -> bool {
    let is_other = |part: &Expr| {
        Ok(matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    };
    !expr.is_volatile() && matches!(expr.exists(is_other), Ok(false))
}

/// An expression over the columns of a schema, with what these are.
fn written(expr: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr> {
    let of = |part: Expr| {
        Ok(match &part {
            Expr::Column(column) => match schema.maybe_index_of_column(column) {
                Some(at) => Transformed::yes(columns[at].clone()),
                None => Transformed::no(part),
            },
            _ => Transformed::no(part),
        })
    };
    expr.clone().unalias_nested().data.transform(of).data()
}

/// The rows: the columns of a plan, each row once for every audience that has its user, and the audience's name.
#[derive(Debug)]
pub(super) struct AudienceRows {
    /// With where the users are.
    plan: Arc<LogicalPlan>,
    /// Those of the plan that are shown.
    columns: Vec<Column>,
    audiences: Arc<Audiences>,
    /// No two columns have the same name; the audience is the last.
    schema: SchemaRef,
}

impl AudienceRows {
    fn new(plan: LogicalPlan, shown: &DFSchema, audiences: Arc<Audiences>) -> AudienceRows {
        let mut known = HashSet::new();
        let mut named = |name: &str| {
            let numbered = (2..).map(|number| format!("{name}_{number}"));
            let mut names = std::iter::once(name.to_owned()).chain(numbered);
            names.find(|name| known.insert(name.clone())).unwrap_or_default()
        };
        let own = shown.fields().iter().map(|field| Field::clone(field).with_name(named(field.name())));
        let mut fields: Vec<Field> = own.collect();
        fields.push(Field::new(named(AUDIENCE), DataType::Utf8, false));
        let columns = shown.iter().map(Column::from).collect();
        AudienceRows { plan: Arc::new(plan), columns, audiences, schema: Arc::new(Schema::new(fields)) }
    }

    /// What is read of the fact, and more.
    pub(super) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The column of that plan which has this name here.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(self.schema.index_of(name).ok()?)
    }

    /// The same rows of a plan with the same columns.
    pub(super) fn with_plan(&self, plan: LogicalPlan) -> AudienceRows {
        let (columns, schema) = (self.columns.clone(), Arc::clone(&self.schema));
        AudienceRows { plan: Arc::new(plan), columns, audiences: Arc::clone(&self.audiences), schema }
    }

    /// What the join shows, of these rows.
    fn joined(
        self,
        join: &Join,
        is_left: bool,
        (user, member): (&Column, &Column),
        members: &Members,
    ) -> Result<LogicalPlan> {
        let names: Vec<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
        let own = |at: usize| Expr::Column(Column::new(Some(ROWS), &names[at]));
        let side = if is_left { &join.left } else { &join.right };
        let own_user = side.schema().index_of_column(user)?;
        let of_members = |expr: &Expr| {
            let of = |part: Expr| {
                Ok(match &part {
                    Expr::Column(column) if column.name == USER_ID => Transformed::yes(own(own_user)),
                    Expr::Column(_) => Transformed::yes(own(names.len() - 1)),
                    _ => Transformed::no(part),
                })
            };
            expr.clone().transform(of).data()
        };
        let filters = members.filters.iter().map(of_members).collect::<Result<Vec<_>>>()?;
        let left_count = join.left.schema().fields().len();
        let columns = join.schema.iter().enumerate().map(|(at, (table, field))| {
            let (of_left, at) = if at < left_count { (true, at) } else { (false, at - left_count) };
            let column = if of_left == is_left { own(at) } else { of_members(&members.columns[at])? };
            Ok(column.alias_qualified(table.cloned(), field.name()))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut rows = LogicalPlanBuilder::scan(ROWS, provider_as_source(Arc::new(self)), None)?;
        if let Some(filter) = filters.into_iter().reduce(Expr::and) {
            rows = rows.filter(filter)?;
        }
        let shown = Projection::try_new(columns, Arc::new(rows.build()?))?;
        // The pair that the audiences answered; another of that name may be of another side of a join below.
        let (left, right) = if is_left { (user, member) } else { (member, user) };
        let is = |key: &Expr, column: &Column| matches!(key, Expr::Column(key) if key == column);
        let others = join.on.iter().filter(|pair| !(is(&pair.0, left) && is(&pair.1, right)));
        let others = others.map(|(left, right)| left.clone().eq(right.clone())).chain(join.filter.clone());
        let shown = LogicalPlanBuilder::from(LogicalPlan::Projection(shown));
        match others.reduce(Expr::and) {
            Some(filter) => shown.filter(filter)?.build(),
            None => shown.build(),
        }
    }
}

#[async_trait]
impl TableProvider for AudienceRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Planning is not ended by dropping what waits for it.
        if self.audiences.calls.context().cancelled.load(Ordering::Relaxed) {
            return Err(DataFusionError::External(Box::new(QueryError::Cancelled)));
        }
        let wanted = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let (mut read, mut shown) = (Vec::new(), Vec::new());
        for at in &wanted {
            shown.push(self.columns.get(*at).map(|column| {
                read.push(Expr::Column(column.clone()));
                read.len() - 1
            }));
        }
        let places = places(self.plan.schema());
        debug_assert_eq!(places.len(), PLACES.len(), "with_places adds both");
        let read = read.into_iter().chain(places.into_iter().map(Expr::Column));
        let plan = LogicalPlanBuilder::from(Arc::clone(&self.plan)).project(read)?.build()?;
        let input = state.create_physical_plan(&plan).await?;
        let fields: Vec<FieldRef> = wanted.iter().map(|at| Arc::clone(&self.schema.fields()[*at])).collect();
        AudiencesExec::try_new(input, shown, Arc::new(Schema::new(fields)), Arc::clone(&self.audiences))
    }
}
