//! Which tables there are and what columns they have, for clients that ask without a statement.

use super::calls::Calls;
use super::catalog::{CATALOG, PUBLIC, SCHEMAS, World};
use super::error::{SqlError, SqlErrorKind};
use super::{Sql, SystemTable};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use std::sync::Arc;

/// A table that statements can ask.
#[derive(Clone, Debug)]
pub struct ListedTable {
    /// Its schema.
    pub schema: &'static str,
    /// Its name.
    pub name: String,
    /// Its columns, if they were asked for.
    pub columns: Option<SchemaRef>,
}

impl ListedTable {
    /// Whether it tells of the data's upkeep, rather than of users and what they did.
    pub fn is_of_system(&self) -> bool {
        self.schema != PUBLIC
    }
}

impl Sql {
    /// The tables of a snapshot for which `is_wanted` (schema, name), by schema and name. Blocks, as [`Sql::ask`] does.
    ///
    /// # Errors
    /// [`SqlError`], if a table cannot tell its columns.
    pub fn tables(
        &self,
        snapshot: Snapshot,
        system: Vec<Arc<dyn SystemTable>>,
        with_columns: bool,
        is_wanted: &dyn Fn(&str, &str) -> bool,
    ) -> std::result::Result<Vec<ListedTable>, SqlError> {
        let context = QueryContext::default();
        let calls = Arc::new(Calls::of("", &snapshot, &context, 0)?);
        let world = World { calls, snapshot, context, tables: Arc::clone(&self.tables), system };
        let catalogs = world.catalogs();
        let listed: Result<Vec<ListedTable>> = self.threads.handle().block_on(async {
            let mut listed = Vec::new();
            let Some(catalog) = catalogs.catalog(CATALOG) else { return Ok(listed) };
            for schema in SCHEMAS {
                let Some(provider) = catalog.schema(schema) else { continue };
                let mut names = provider.table_names();
                names.sort();
                for name in names.into_iter().filter(|name| is_wanted(schema, name)) {
                    let columns = match with_columns {
                        // One that went in the meantime is not listed.
                        true => match provider.table(&name).await? {
                            Some(table) => Some(table.schema()),
                            None => continue,
                        },
                        false => None,
                    };
                    listed.push(ListedTable { schema, name, columns });
                }
            }
            Ok(listed)
        });
        listed.map_err(|error| SqlError::new(SqlErrorKind::Internal, error.to_string()))
    }
}
