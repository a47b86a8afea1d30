//! A fact's table at one version, for DataFusion.

use super::DeltaTables;
use super::log::Table;
use super::schema::schema;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{Expr, SessionConfig, SessionContext, ident, lit};
use datafusion::scalar::ScalarValue;
use engine::catalog::Fact;
use engine::store::TableError;
use std::sync::Arc;

impl DeltaTables {
    /// The rows of a fact at a version, or at the newest, with the columns of [`super::schema`]: a column declared after
    /// that version is NULL. Without a version, and before the first commit, there are no rows. Reading goes on
    /// on the threads of the session that scans it.
    ///
    /// # Errors
    /// [`TableError`] if there is no such version, or the table cannot be read.
    pub fn read(&self, name: &str, fact: &Fact, version: Option<u64>) -> Result<Arc<dyn TableProvider>, TableError> {
        let (table, schema) = (self.shared.table(name), schema(fact));
        self.wait(name, "read the table", async move { table.provider(schema, version).await })
    }

    /// The rows of a fact that a snapshot with this epoch of the table sees, but for those that are not in it yet.
    ///
    /// # Errors
    /// What is wrong, for people: the table has no such version any more, or cannot be read.
    pub(crate) fn read_at(&self, name: &str, fact: &Fact, epoch: u64) -> Result<Arc<dyn TableProvider>, String> {
        let version = self.version_at(name, epoch).map_err(|error| error.to_string())?;
        let Some(version) = version else {
            return Err(format!(
                "its table has no version of epoch {epoch} any more, which the question is about; was it moved or rolled back?"
            ));
        };
        self.read(name, fact, Some(version)).map_err(|error| error.to_string())
    }

    /// The newest version of a table that has this epoch as its newest: what a snapshot of the data directory sees, however files
    /// were merged since. `None` if there is none.
    ///
    /// # Errors
    /// [`TableError`] if the table cannot be read.
    pub fn version_at(&self, name: &str, epoch: u64) -> Result<Option<u64>, TableError> {
        let table = self.shared.table(name);
        self.wait(name, "read the table", async move { table.version_at(epoch).await })
    }

    /// The newest version of a table; `None` before the first commit.
    ///
    /// # Errors
    /// [`TableError`] if the table cannot be read.
    pub fn version(&self, name: &str) -> Result<Option<u64>, TableError> {
        let table = self.shared.table(name);
        self.wait(name, "read the table", async move {
            let mut newest = table.newest.lock().await;
            table.refresh(&mut newest).await?;
            Ok(newest.as_ref().and_then(|table| table.version()))
        })
    }
}

impl Table {
    async fn version_at(&self, epoch: u64) -> Result<Option<u64>, String> {
        let mut newest = self.newest.lock().await;
        self.refresh(&mut newest).await?;
        let Some(mut table) = newest.clone() else { return Ok(None) };
        drop(newest);
        loop {
            let Some(version) = table.version() else { return Ok(None) };
            match self.epoch_in(&table).await?.map(i64::cast_unsigned) {
                Some(known) if known == epoch => return Ok(Some(version)),
                Some(known) if known > epoch && version > 0 => {
                    table = self.unloaded()?;
                    table.load_version(version - 1).await.map_err(|error| self.explain(&error))?;
                }
                _ => return Ok(None),
            }
        }
    }

    async fn provider(&self, wanted: SchemaRef, version: Option<u64>) -> Result<Arc<dyn TableProvider>, String> {
        let mut newest = self.newest.lock().await;
        // A version that is known needs no look at the disk.
        let known = newest.as_ref().and_then(|table| table.version());
        if version.is_none() || known.is_none() || version > known {
            self.refresh(&mut newest).await?;
        }
        let table = match (newest.clone(), version) {
            (None, None) => return Ok(Arc::new(EmptyTable::new(wanted))),
            (None, Some(version)) => return Err(format!("there is no version {version}: nothing was committed yet")),
            (Some(table), None) => table,
            (Some(table), Some(version)) if table.version() == Some(version) => table,
            (Some(_), Some(version)) => {
                let mut older = self.unloaded()?;
                older.load_version(version).await.map_err(|error| self.explain(&error))?;
                older
            }
        };
        drop(newest);
        let session = Arc::new(SessionStateBuilder::new().with_config(config()).build());
        let provider = table.table_provider().with_session(session).build().await;
        shaped(Arc::new(provider.map_err(|error| error.to_string())?), &wanted).map_err(|error| error.to_string())
    }
}

/// Text as the rows that are not in the table yet have it.
fn config() -> SessionConfig {
    let mut config = SessionConfig::new();
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().execution.parquet.pushdown_filters = true;
    config
}

/// The table with exactly these columns.
fn shaped(table: Arc<dyn TableProvider>, wanted: &SchemaRef) -> datafusion::error::Result<Arc<dyn TableProvider>> {
    let found = table.schema();
    let is_same = |(a, b): (&Arc<arrow::datatypes::Field>, &Arc<arrow::datatypes::Field>)| {
        a.name() == b.name() && a.data_type() == b.data_type()
    };
    if found.fields().len() == wanted.fields().len() && found.fields().iter().zip(wanted.fields()).all(is_same) {
        return Ok(table);
    }
    let column = |field: &Arc<arrow::datatypes::Field>| -> datafusion::error::Result<Expr> {
        let name = field.name();
        match found.field_with_name(name) {
            Ok(known) if known.data_type() == field.data_type() => Ok(ident(name)),
            Ok(_) => Ok(datafusion::logical_expr::cast(ident(name), field.data_type().clone()).alias(name)),
            Err(_) => Ok(lit(ScalarValue::try_from(field.data_type())?).alias(name)),
        }
    };
    let columns = wanted.fields().iter().map(column).collect::<datafusion::error::Result<Vec<_>>>()?;
    Ok(SessionContext::new().read_table(table)?.select(columns)?.into_view())
}
