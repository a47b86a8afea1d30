//! `members` as a table: a row for each user of each saved audience.
//!
//! An audience is evaluated once, as a program over users; which ones is decided by the filters on their names. A fact joined with it
//! is read once, however many audiences there are ([`super::by_audience`]).

use super::calls::Calls;
use super::columns::USER_ID;
use super::users::UsersTable;
use super::values;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use engine::audience::expr::ExprKind;
use engine::audience::predicate::Predicate;
use std::sync::Arc;

/// Its name, unless a fact has it.
pub(super) const MEMBERS: &str = "members";
/// The column of the names.
pub(super) const AUDIENCE: &str = "audience";

/// The table.
#[derive(Debug)]
pub(super) struct MembersTable {
    users: UsersTable,
    calls: Arc<Calls>,
    schema: SchemaRef,
}

impl MembersTable {
    /// The members of all audiences of the snapshot.
    pub(super) fn new(calls: Arc<Calls>) -> MembersTable {
        let users = UsersTable::new(calls.snapshot().clone(), calls.context().clone(), Arc::clone(&calls));
        let columns = [AUDIENCE, USER_ID].map(|name| Field::new(name, DataType::Utf8, false));
        MembersTable { users, calls, schema: Arc::new(Schema::new(columns.to_vec())) }
    }

    fn names(&self) -> Vec<String> {
        self.calls.snapshot().audiences().keys().cloned().collect()
    }

    /// The names that filters leave, all of which are on names.
    fn chosen(&self, filters: &[Expr]) -> Vec<String> {
        let mut names = self.names();
        for filter in filters {
            if let Some(fit) = values::fitting(filter, AUDIENCE, &names) {
                let mut fit = fit.into_iter();
                names.retain(|_| fit.next().unwrap_or(true));
            }
        }
        names
    }

    /// What the statement's audiences mean.
    pub(super) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// The audiences that filters leave, all of which are on names, and who is in them.
    pub(super) fn audiences(&self, filters: &[Expr]) -> Result<Vec<(String, Predicate)>> {
        let of = |name: String| Ok((name.clone(), self.calls.settle(&ExprKind::InAudience(name).into())?));
        self.chosen(filters).into_iter().map(of).collect()
    }

    /// The users of an audience, with these columns of ours.
    fn of(&self, name: String, columns: &[usize], partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = self.calls.settle(&ExprKind::InAudience(name.clone()).into())?;
        let own: &[usize] = if columns.contains(&1) { &[0] } else { &[] };
        let users: Arc<dyn ExecutionPlan> = Arc::new(self.users.of(predicate, own, partitions));
        if !columns.contains(&0) {
            return Ok(users);
        }
        let named = |at: &usize| -> ProjectionExpr {
            let expr: Arc<dyn PhysicalExpr> = match at {
                0 => Arc::new(Literal::new(ScalarValue::Utf8(Some(name.clone())))),
                _ => Arc::new(Column::new(USER_ID, 0)),
            };
            ProjectionExpr { expr, alias: self.schema.field(*at).name().clone() }
        };
        let columns: Vec<ProjectionExpr> = columns.iter().map(named).collect();
        Ok(Arc::new(ProjectionExec::try_new(columns, users)?))
    }
}

#[async_trait]
impl TableProvider for MembersTable {
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
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| vec![0, 1]);
        let names = self.chosen(filters);
        if names.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&columns)?))));
        }
        // Several audiences run beside each other anyway.
        let partitions = (state.config().target_partitions() / names.len()).max(1);
        let parts = names.into_iter().map(|name| self.of(name, &columns, partitions));
        UnionExec::try_new(parts.collect::<Result<_>>()?)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let names = self.names();
        let of = |filter: &&Expr| match values::fitting(filter, AUDIENCE, &names) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }
}
