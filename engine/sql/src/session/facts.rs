//! A fact as a table: its Delta Lake table at the version that the snapshot sees, and the rows that are not in it yet.

use super::by_audience::Audiences;
use super::calls::Calls;
use super::fact_exec::{Chosen, FactExec, FactQuestion};
use super::filter::asked_users;
use super::late::{Late, Restriction};
use crate::facts::{DeltaTables, rows_to_batches, schema};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, Operator, TableProviderFilterPushDown, TableType, ident};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use engine::audience::predicate::Predicate;
use engine::catalog::Fact;
use engine::store::{FactRow, Snapshot};
use std::sync::Arc;

/// Columns that say where a user's bits are; nobody but the engine knows what to do with them.
pub(super) const PLACES: [&str; 2] = ["_shard", "_slot"];
/// Rows that are made columns of at once.
const ROWS_AT_ONCE: usize = 8_192;
/// Batches that wait to be taken.
const BATCHES_WAITING: usize = 2;

/// The table.
#[derive(Clone, Debug)]
pub(super) struct FactTable {
    pub(super) name: String,
    calls: Arc<Calls>,
    pub(super) snapshot: Snapshot,
    tables: Arc<DeltaTables>,
    fact: Fact,
    /// All columns that are there.
    pub(super) all: SchemaRef,
    /// The places of those that are shown.
    shown: Vec<usize>,
    schema: SchemaRef,
    restrictions: Vec<Restriction>,
    /// Only rows of users in one of these.
    audiences: Option<Arc<Audiences>>,
}

impl FactTable {
    /// A fact of a snapshot. Nothing is opened yet.
    pub(super) fn new(name: &str, fact: &Fact, calls: Arc<Calls>, tables: Arc<DeltaTables>) -> FactTable {
        let all = schema(fact);
        let shown: Vec<usize> =
            (0..all.fields().len()).filter(|at| !PLACES.contains(&all.field(*at).name().as_str())).collect();
        let schema = chosen(&all, &shown);
        let snapshot = calls.snapshot().clone();
        let (name, fact) = (name.to_owned(), fact.clone());
        FactTable { name, calls, snapshot, tables, fact, all, shown, schema, restrictions: Vec::new(), audiences: None }
    }

    /// The same table with where its users are as the last columns; `None` if it has them already.
    pub(super) fn with_places(&self) -> Option<FactTable> {
        let places = PLACES.iter().map(|name| self.all.index_of(name).ok()).collect::<Option<Vec<usize>>>()?;
        if places.iter().any(|place| self.shown.contains(place)) {
            return None;
        }
        let shown: Vec<usize> = self.shown.iter().copied().chain(places).collect();
        Some(FactTable { schema: chosen(&self.all, &shown), shown, ..self.clone() })
    }

    /// The same table with rows of users in any of these audiences only.
    pub(super) fn of_audiences(self, audiences: Arc<Audiences>) -> FactTable {
        FactTable { audiences: Some(audiences), ..self }
    }

    /// The same table with rows of those users only; `None` if it is that already.
    pub(super) fn restricted(&self, restriction: Restriction) -> Option<FactTable> {
        if self.restrictions.iter().any(|known| known.is_like(&restriction)) {
            return None;
        }
        let restrictions = self.restrictions.iter().cloned().chain([restriction]).collect();
        Some(FactTable { restrictions, ..self.clone() })
    }

    /// Whose rows it has, whatever filters say.
    pub(super) fn restrictions(&self) -> &[Restriction] {
        &self.restrictions
    }

    /// The users that a filter is about and nothing else: whom it takes, or else whom it leaves out.
    fn of_users(&self, filter: &Expr) -> Option<(Predicate, bool)> {
        match filter {
            Expr::Not(of) => asked_users(of, &self.calls).map(|users| (users, false)),
            of => asked_users(of, &self.calls).map(|users| (users, true)),
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> DataFusionError {
        DataFusionError::External(format!("the rows of `{}` could not be read: {why}", self.name).into())
    }

    /// The rows in the table, pruned by the filters.
    async fn stored(
        &self,
        epoch: u64,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.opened(epoch).await?.scan(state, projection, filters, limit).await
    }

    async fn opened(&self, epoch: u64) -> Result<Arc<dyn TableProvider>> {
        let (tables, name, fact) = (Arc::clone(&self.tables), self.name.clone(), self.fact.clone());
        // Waits for the disk.
        let opened = tokio::task::spawn_blocking(move || tables.read_at(&name, &fact, epoch)).await;
        opened.map_err(|error| self.failed(error))?.map_err(|why| self.failed(why))
    }

    /// The rows of users that were found, in the table as far as it can have some: columns by their places among all.
    pub(super) async fn stored_of(
        &self,
        state: &SessionState,
        columns: &[usize],
        filters: &[Expr],
        users: &Chosen,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(epoch) = self.snapshot.table_epoch(self.fact.id) else { return Ok(None) };
        if users.is_nobody() {
            return Ok(None);
        }
        let table = self.opened(epoch).await?;
        let unqualified = |part: Expr| {
            Ok(match part {
                Expr::Column(column) => Transformed::yes(ident(column.name)),
                other => Transformed::no(other),
            })
        };
        let own = filters.iter().map(|filter| filter.clone().transform(unqualified).data());
        let own = own.collect::<Result<Vec<Expr>>>()?;
        let (rough, exact) = users.conditions();
        let mut rows =
            LogicalPlanBuilder::scan(TableReference::bare(self.name.clone()), provider_as_source(table), None)?;
        // What rules out most is asked first, and what each row has to be looked up for last.
        if let Some(filter) = rough.into_iter().chain(own).chain(exact).reduce(Expr::and) {
            rows = rows.filter(filter)?;
        }
        let shown = rows.project(columns.iter().map(|at| ident(self.all.field(*at).name())))?.build()?;
        state.create_physical_plan(&shown).await.map(Some)
    }

    /// The rows of users that were found and are not in the table yet.
    pub(super) fn recent_of(&self, columns: &[usize], users: Arc<Chosen>) -> Result<Arc<dyn ExecutionPlan>> {
        self.recent(Some(&columns.to_vec()), None, Some(users))
    }

    /// The rows that are not in the table yet.
    fn recent(
        &self,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        users: Option<Arc<Chosen>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = RecentRows {
            name: self.name.clone(),
            snapshot: self.snapshot.clone(),
            fact: self.fact.clone(),
            schema: Arc::clone(&self.all),
            users,
        };
        let parts: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(rows)];
        let read = StreamingTableExec::try_new(Arc::clone(&self.all), parts, projection, [], false, limit)?;
        Ok(Arc::new(read))
    }
}

#[async_trait]
impl TableProvider for FactTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = match projection {
            None => self.shown.clone(),
            Some(projection) => projection.iter().map(|at| self.shown[*at]).collect(),
        };
        // Users who are not shown are not of everybody.
        let shown = (!self.snapshot.shows_everybody()).then_some((Predicate::All, true));
        let (of_users, others): (Vec<_>, Vec<_>) =
            filters.iter().map(|filter| (filter, self.of_users(filter))).partition(|(_, users)| users.is_some());
        if !of_users.is_empty() || shown.is_some() || !self.restrictions.is_empty() || self.audiences.is_some() {
            // A filter that fails tells of the row that it failed at, which may be hidden; all are asked again above.
            let is_asked = |filter: &&Expr| self.snapshot.shows_everybody() || cannot_fail(filter);
            let filters = others.into_iter().map(|(filter, _)| filter).filter(is_asked).cloned().collect();
            let users = of_users.into_iter().filter_map(|(_, users)| users).chain(shown).collect();
            let late = Late::plan(&self.restrictions, &self.snapshot, self.calls.context(), state).await?;
            let audiences = self.audiences.clone();
            let asked = FactQuestion { columns: projection, filters, users, late, audiences };
            return FactExec::try_new(self.clone(), asked, &self.calls, state);
        }
        let projection = Some(&projection);
        let mut parts = Vec::new();
        if let Some(epoch) = self.snapshot.table_epoch(self.fact.id) {
            parts.push(self.stored(epoch, state, projection, filters, limit).await?);
        }
        if parts.is_empty() || self.snapshot.recent_rows(self.fact.id).iter().any(|log| log.rows().len() > 0) {
            parts.push(self.recent(projection, limit, None)?);
        }
        UnionExec::try_new(parts)
    }

    /// What files, row groups and pages cannot have is not read; which rows fit is decided above, for recent rows too.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match self.of_users(filter) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(of).collect())
    }
}

/// Whether a filter has a value for every row: comparisons of columns with constants, and what AND, OR and NOT make of them.
fn cannot_fail(filter: &Expr) -> bool {
    let is_plain = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
    match filter {
        Expr::BinaryExpr(of) if matches!(of.op, Operator::And | Operator::Or) => {
            cannot_fail(&of.left) && cannot_fail(&of.right)
        }
        Expr::BinaryExpr(of) => of.op.supports_propagation() && is_plain(&of.left) && is_plain(&of.right),
        Expr::Not(of) => cannot_fail(of),
        Expr::IsNull(of) | Expr::IsNotNull(of) => is_plain(of),
        Expr::Between(of) => [&of.expr, &of.low, &of.high].into_iter().all(|expr| is_plain(expr)),
        Expr::InList(of) => is_plain(&of.expr) && of.list.iter().all(is_plain),
        other => is_plain(other),
    }
}

/// These columns of a schema.
pub(super) fn chosen(all: &SchemaRef, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|at| Arc::clone(&all.fields()[*at])).collect::<Vec<_>>()))
}

/// Makes columns of rows as they are read.
#[derive(Debug)]
struct RecentRows {
    name: String,
    snapshot: Snapshot,
    fact: Fact,
    schema: SchemaRef,
    /// Whose; `None`: all.
    users: Option<Arc<Chosen>>,
}

impl PartitionStream for RecentRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_WAITING);
        let sender = builder.tx();
        let (snapshot, fact, name) = (self.snapshot.clone(), self.fact.clone(), self.name.clone());
        let users = self.users.clone();
        builder.spawn_blocking(move || {
            let is_asked =
                |row: &FactRow<'_>| users.as_ref().is_none_or(|users| users.has(usize::from(row.shard.0), row.slot));
            for log in snapshot.recent_rows(fact.id) {
                let mut rows = log.rows().filter(is_asked);
                loop {
                    let some: Vec<FactRow<'_>> = rows.by_ref().take(ROWS_AT_ONCE).collect();
                    if some.is_empty() {
                        break;
                    }
                    let batches = rows_to_batches(&fact, &some).map_err(|error| {
                        DataFusionError::External(format!("recent rows of `{name}`: {error}").into())
                    })?;
                    for batch in batches {
                        // Whoever does not listen any more has enough.
                        if sender.blocking_send(Ok(batch)).is_err() {
                            return Ok(());
                        }
                    }
                }
            }
            Ok(())
        });
        builder.build()
    }
}
