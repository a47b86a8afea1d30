//! Facts, rows and a way to read them back.

use arrow::array::{AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use engine::catalog::{Activity, Column, ColumnType, Fact, Zone};
use engine::ids::{ShardId, TagId};
use engine::store::{FactRow, FactTables};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use engine_sql::facts::DeltaTables;

pub(crate) const DAY_MICROS: i64 = 86_400_000_000;

pub(crate) fn fact(columns: &[(&str, ColumnType)]) -> Fact {
    let columns =
        columns.iter().map(|(name, column_type)| Column { name: (*name).to_owned(), column_type: *column_type });
    Fact {
        id: TagId(16),
        columns: columns.collect(),
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: Some(1),
        zone: Zone::default(),
    }
}

/// A row to write. `values` are as many as the writer knew columns.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) user: String,
    pub(crate) slot: u32,
    pub(crate) ts: i64,
    pub(crate) weight: i8,
    pub(crate) event_id: &'static str,
    pub(crate) undeclared: &'static str,
    pub(crate) values: Vec<Value<'static>>,
}

pub(crate) fn row(slot: u32, ts: i64, values: &[Value<'static>]) -> Row {
    let user = format!("user-{slot}");
    Row { user, slot, ts, weight: 1, event_id: "", undeclared: "", values: values.to_vec() }
}

/// The rows as the store has them: in a batch of updates.
pub(crate) fn with_rows<T>(rows: &[Row], then: impl FnOnce(&[FactRow<'_>]) -> T) -> T {
    let mut batch = UpdateBatch::new();
    for row in rows {
        batch.begin_user(row.user.as_bytes());
        let head = EventHead { ts: row.ts, is_retraction: false, event_id: row.event_id, undeclared: row.undeclared };
        batch.push_event(TagId(16), &head, &row.values);
    }
    let mut made = Vec::new();
    for (user, row) in batch.users().zip(rows) {
        for (_, change) in user.changes() {
            let Change::Event(event) = change else { panic!("only events were pushed") };
            let shard = ShardId((row.slot % 4) as u16);
            made.push(FactRow { shard, slot: row.slot, user_id: &row.user, weight: row.weight, event });
        }
    }
    then(&made)
}

pub(crate) fn stage(tables: &DeltaTables, fact: &Fact, epoch: u64, rows: &[Row]) -> Vec<u8> {
    with_rows(rows, |rows| tables.stage("purchase", fact, epoch, rows)).expect("rows are staged")
}

pub(crate) fn add(tables: &DeltaTables, fact: &Fact, epoch: u64, rows: &[Row]) -> u64 {
    let staged = stage(tables, fact, epoch, rows);
    tables.commit("purchase", fact, epoch, &staged).expect("rows are committed")
}

/// All rows of a query over `purchase`, each as text, sorted.
pub(crate) fn query(tables: &DeltaTables, fact: &Fact, version: Option<u64>, sql: &str) -> Vec<String> {
    let table = tables.read("purchase", fact, version).expect("the table is read");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let batches = runtime.block_on(async {
        let session = SessionContext::new();
        session.register_table("purchase", table).expect("a new name");
        session.sql(sql).await.expect("valid SQL").collect().await.expect("the table is scanned")
    });
    lines(&batches)
}

pub(crate) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("a type with a text"))
            .collect();
        for row in 0..batch.num_rows() {
            let texts: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(texts.join(" | "));
        }
    }
    lines.sort();
    lines
}

/// What the table has, as `slot ts`, sorted.
pub(crate) fn contents(tables: &DeltaTables, fact: &Fact) -> Vec<(i64, i64)> {
    let table = tables.read("purchase", fact, None).expect("the table is read");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let batches = runtime.block_on(async {
        let session = SessionContext::new();
        session.register_table("purchase", table).expect("a new name");
        let sql = "SELECT _slot, arrow_cast(ts, 'Int64') AS ts FROM purchase";
        session.sql(sql).await.expect("valid SQL").collect().await.expect("the table is scanned")
    });
    let mut rows = Vec::new();
    for batch in &batches {
        let column = |at: usize| batch.column(at).as_primitive::<arrow::datatypes::Int64Type>();
        rows.extend((0..batch.num_rows()).map(|row| (column(0).value(row), column(1).value(row))));
    }
    rows.sort_unstable();
    rows
}

pub(crate) fn data_files(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(days) = std::fs::read_dir(root.join("purchase")) else { return found };
    for day in days {
        let day = day.expect("an entry").path();
        if day.file_name().is_some_and(|name| name.to_string_lossy().starts_with("day=")) {
            for file in std::fs::read_dir(&day).expect("a day's folder") {
                found.push(file.expect("an entry").path().display().to_string());
            }
        }
    }
    found.sort();
    found
}
