//! A store with real tables, and statements asked of it.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use engine::audience::naive::{NOW, User, Value, sample_catalog};
use engine::audience::ops::QueryContext;
use engine::catalog::Catalog;
use engine::clock::ManualClock;
use engine::store::{FactTables, Options, Store};
use engine::update::{Change, UpdateBatch};
use engine::vfs::real::RealVfs;
use engine_sql::facts::DeltaTables;
use engine_sql::scan::TableScanner;
use engine_sql::session::{Sql, SqlError, SqlOptions};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) sql: Sql,
    pub(crate) scanner: Arc<TableScanner>,
    _folder: TempDir,
}

impl World {
    pub(crate) fn new(shard_count: u16) -> World {
        World::with_memory(shard_count, 256 << 20)
    }

    pub(crate) fn with_memory(shard_count: u16, memory_bytes_max: usize) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = Arc::new(DeltaTables::open(&folder.path().join("facts")).expect("tables"));
        let clock = Arc::new(ManualClock::default());
        clock.set(NOW);
        let facts: Arc<dyn FactTables> = Arc::clone(&tables) as _;
        let options = Options { shard_count, clock: clock.clone(), tables: Some(facts), ..Options::default() };
        let store = Store::open(Arc::new(RealVfs), folder.path(), options).expect("opens");
        let mut catalog = sample_catalog();
        let mut fact = catalog.fact("purchase").expect("declared").clone();
        fact.deduplicate_days = Some(200);
        catalog.declare_fact("purchase", fact).expect("a change that can be");
        store.put_catalog(catalog.clone()).expect("catalog");
        store.publish().expect("publish");
        let options =
            SqlOptions { memory_bytes_max, spill_bytes_max: 64 << 20, spill_folder: folder.path().join("spill") };
        let scanner = Arc::new(TableScanner::new(Arc::clone(&tables), 64 << 20).expect("threads"));
        let sql = Sql::new(tables, clock, &options).expect("threads");
        World { store, catalog, sql, scanner, _folder: folder }
    }

    pub(crate) fn context(&self) -> QueryContext {
        QueryContext { scanner: Some(Arc::clone(&self.scanner) as _), ..QueryContext::default() }
    }

    /// Sets every tag of the user to what it is now.
    pub(crate) fn push(&self, batch: &mut UpdateBatch, user: &User) {
        batch.begin_user(user.id.as_bytes());
        for (name, tag) in self.catalog.tags() {
            match user.tags.get(name) {
                None => batch.push(tag.id, Change::Unset),
                Some(Value::Enum(value)) => batch.push(tag.id, Change::Enum(value)),
                Some(Value::Flag(value)) => batch.push(tag.id, Change::Flag(*value)),
                Some(Value::Number(value)) => batch.push(tag.id, Change::Number(*value)),
                Some(Value::Set(values)) => {
                    batch.push(tag.id, Change::Unset);
                    values.iter().for_each(|value| batch.push(tag.id, Change::Add(value)));
                }
            }
        }
    }

    pub(crate) fn try_ask(&self, text: &str) -> Result<Vec<RecordBatch>, SqlError> {
        let never = AtomicBool::new(false);
        let mut answer = self.sql.ask(self.store.snapshot(), text, Vec::new(), &self.context())?;
        let mut batches = Vec::new();
        while let Some(batch) = answer.next(&never)? {
            assert_eq!(batch.schema().fields().len(), answer.schema().fields().len());
            batches.push(batch);
        }
        Ok(batches)
    }

    /// The rows as text, in order.
    pub(crate) fn ask(&self, text: &str) -> Vec<String> {
        let ask = || rows(&self.try_ask(text).unwrap_or_else(|error| panic!("{text}: {error}")));
        let answer = ask();
        // The plan of a statement over users is kept, and the second answer may come of that.
        if text.contains("users") && !["purchase", "LIMIT", "random", "EXPLAIN"].iter().any(|word| text.contains(word))
        {
            let [mut first, mut second] = [answer.clone(), ask()];
            first.sort();
            second.sort();
            assert_eq!(first, second, "asked again: {text}");
        }
        answer
    }

    /// The physical plan.
    pub(crate) fn plan(&self, text: &str) -> String {
        self.ask(&format!("EXPLAIN {text}")).pop().expect("a plan")
    }

    pub(crate) fn refused(&self, text: &str) -> SqlError {
        match self.try_ask(text) {
            Ok(batches) => panic!("{text}: {:?}", rows(&batches)),
            Err(error) => error,
        }
    }
}

pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("a type that is shown"))
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join(" | "));
        }
    }
    rows
}
