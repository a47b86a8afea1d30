//! Which tables there are: what names mean in a statement, on one snapshot.

use super::calls::Calls;
use super::columns::USER_ID;
use super::error::Names;
use super::facts::FactTable;
use super::members::{MEMBERS, MembersTable};
use super::system::{self, SystemTable};
use super::tag_values::TagValuesTable;
use super::users::UsersTable;
use crate::facts::DeltaTables;
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{LogicalPlanBuilder, ident, lit};
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use std::sync::{Arc, Weak};

/// The only catalog.
pub const CATALOG: &str = "beluga";
/// The schema of users and facts, in which a table without one is looked for.
pub const PUBLIC: &str = "public";
/// The schema of what the process tells of itself.
const SYSTEM: &str = "system";
const INFORMATION: &str = "information_schema";
/// All schemas, by name.
pub const SCHEMAS: [&str; 3] = [INFORMATION, PUBLIC, SYSTEM];
/// Tables that are made of a snapshot, in the schema `public`.
const OWN: [&str; 4] = ["audiences", "tag_values", "tags", "users"];
/// The same in the schema `system`.
const OWN_SYSTEM: [&str; 2] = ["segments", "shards"];
/// A table of the information schema that is not shown: it tells how the process was set up.
const SETTINGS: &str = "df_settings";
/// The column of the information schema that names tables.
const TABLE_NAME: &str = "table_name";

/// What a statement is asked of.
#[derive(Debug)]
pub(super) struct World {
    pub(super) calls: Arc<Calls>,
    pub(super) snapshot: Snapshot,
    pub(super) context: QueryContext,
    pub(super) tables: Arc<DeltaTables>,
    pub(super) system: Vec<Arc<dyn SystemTable>>,
}

impl World {
    /// The catalogs of a statement.
    pub(super) fn catalogs(self) -> Arc<dyn CatalogProviderList> {
        let world = Arc::new(self);
        let list: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        let catalog = Catalog { world, list: Arc::downgrade(&list) };
        list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        list
    }

    /// The names that a statement may have meant.
    pub(super) fn names(&self) -> Names {
        let of_system = self.system_names().into_iter().map(|name| format!("{SYSTEM}.{name}"));
        let catalog = self.snapshot.catalog();
        let of_facts = catalog.facts().flat_map(|(_, fact)| fact.columns.iter().map(|column| column.name.clone()));
        let of_users = catalog.tags().map(|(name, _)| name.to_owned());
        Names {
            tables: self.public_names().into_iter().chain(of_system).collect(),
            columns: of_users.chain([USER_ID.to_owned()]).chain(of_facts).collect(),
        }
    }

    fn public_names(&self) -> Vec<String> {
        let facts = self.snapshot.catalog().facts().map(|(name, _)| name.to_owned());
        let members = self.snapshot.catalog().fact(MEMBERS).is_none().then(|| MEMBERS.to_owned());
        OWN.map(str::to_owned).into_iter().chain(members).chain(facts).collect()
    }

    fn system_names(&self) -> Vec<String> {
        let others = self.told(SYSTEM).map(|table| table.name().to_owned());
        // Who knows of a part is told nothing of the whole.
        let own = OWN_SYSTEM.iter().filter(|_| !self.snapshot.is_part()).map(|name| (*name).to_owned());
        own.chain(others).collect()
    }

    /// The tables that only the caller knows, of a schema.
    fn told<'w>(&'w self, schema: &'w str) -> impl Iterator<Item = &'w Arc<dyn SystemTable>> {
        self.system.iter().filter(move |table| table.schema_name() == schema)
    }

    fn public(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(match name {
            "users" => Arc::new(UsersTable::new(self.snapshot.clone(), self.context.clone(), Arc::clone(&self.calls))),
            "tags" => system::table(system::tags(&self.snapshot)?)?,
            "tag_values" => Arc::new(TagValuesTable::new(self.snapshot.clone(), self.context.clone())),
            "audiences" => system::table(system::audiences(&self.snapshot)?)?,
            name => match self.snapshot.catalog().fact(name) {
                Some(fact) => Arc::new(FactTable::new(name, fact, Arc::clone(&self.calls), Arc::clone(&self.tables))),
                None if name == MEMBERS => Arc::new(MembersTable::new(Arc::clone(&self.calls))),
                None => return Ok(None),
            },
        }))
    }

    async fn system(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if OWN_SYSTEM.contains(&name) && self.snapshot.is_part() {
            return Ok(None);
        }
        Ok(Some(match name {
            "shards" => system::table(system::shards(&self.snapshot)?)?,
            "segments" => system::table(system::segments(&self.snapshot)?)?,
            name => return self.told_table(SYSTEM, name).await,
        }))
    }

    async fn told_table(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.told(schema).find(|table| table.name() == name).cloned() else {
            return Ok(None);
        };
        // Whoever tells may wait for a lock.
        let told = tokio::task::spawn_blocking(move || (table.schema(), table.rows())).await;
        let (schema, rows) = told.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let rows = rows.map_err(|why| DataFusionError::External(why.into()))?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![rows]])?)))
    }
}

#[derive(Debug)]
struct Catalog {
    world: Arc<World>,
    /// Which holds this one.
    list: Weak<dyn CatalogProviderList>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        [PUBLIC, SYSTEM].map(str::to_owned).into()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            PUBLIC => Some(Arc::new(Public(Arc::clone(&self.world)))),
            SYSTEM => Some(Arc::new(System(Arc::clone(&self.world)))),
            INFORMATION => Some(Arc::new(Information(InformationSchemaProvider::new(self.list.upgrade()?)))),
            name => {
                let table = self.world.told(name).next()?;
                Some(Arc::new(Told { world: Arc::clone(&self.world), schema: table.schema_name() }))
            }
        }
    }
}

/// A schema of tables that only the caller knows.
#[derive(Debug)]
struct Told {
    world: Arc<World>,
    schema: &'static str,
}

#[async_trait]
impl SchemaProvider for Told {
    fn table_names(&self) -> Vec<String> {
        self.world.told(self.schema).map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.world.told_table(self.schema, name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.world.told(self.schema).any(|table| table.name() == name)
    }
}

#[derive(Debug)]
struct Public(Arc<World>);

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        self.0.public_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.0.public(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.public_names().iter().any(|known| known == name)
    }
}

#[derive(Debug)]
struct System(Arc<World>);

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        self.0.system_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.0.system(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.system_names().iter().any(|known| known == name)
    }
}

/// The information schema, but for the settings.
#[derive(Debug)]
struct Information(InformationSchemaProvider);

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names().into_iter().filter(|name| name != SETTINGS).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name.eq_ignore_ascii_case(SETTINGS) {
            return Ok(None);
        }
        let Some(table) = self.0.table(name).await? else { return Ok(None) };
        if table.schema().column_with_name(TABLE_NAME).is_none() {
            return Ok(Some(table));
        }
        let is_shown = ident(TABLE_NAME).not_eq(lit(SETTINGS));
        let shown = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.filter(is_shown)?.build()?;
        Ok(Some(Arc::new(ViewTable::new(shown, None))))
    }

    fn table_exist(&self, name: &str) -> bool {
        !name.eq_ignore_ascii_case(SETTINGS) && self.0.table_exist(name)
    }
}
