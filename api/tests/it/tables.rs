//! The table of a fact, read beside the server.

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use engine::catalog::Fact;
use engine_sql::facts::DeltaTables;
use std::path::Path;

/// What a query answers, where the table is named `fact`.
pub(crate) fn query(data: &Path, name: &str, fact: &Fact, query: &str) -> Vec<RecordBatch> {
    let tables = DeltaTables::open(&data.join("facts")).expect("tables");
    let provider = tables.read(name, fact, None).expect("readable");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let session = SessionContext::new();
        session.register_table("fact", provider).expect("registered");
        session.sql(query).await.expect("planned").collect().await.expect("read")
    })
}

/// The same as text, a row a line, with commas.
pub(crate) fn lines(data: &Path, name: &str, fact: &Fact, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in query(data, name, fact, text) {
        let options = FormatOptions::default();
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("shown")).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(cells.join(","));
        }
    }
    lines
}
