//! The same statements over the same rows through DuckDB, which another team made.
//!
//! Runs where `BELUGA_DUCKDB_PYTHON` names a Python with the package `duckdb`.

use crate::joins::{self, some_world};
use crate::support::World;
use crate::users;
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use engine::audience::naive::Random;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Worlds, and statements asked of each.
const WORLDS: u64 = 6;
const STATEMENTS: usize = 80;

/// What DataFusion by itself reads otherwise.
const DISTINCT: [&str; 5] = [
    "SELECT user_id FROM users WHERE member IS DISTINCT FROM TRUE AND age > 30",
    "SELECT user_id FROM users WHERE gender IS NOT DISTINCT FROM city OR member",
    "SELECT user_id FROM users WHERE NOT gender IS DISTINCT FROM 'f' AND spend IS NOT NULL OR age < 10",
    "SELECT count(*) FROM users WHERE spend <> 12.30 OR member IS DISTINCT FROM TRUE AND spend IS NOT NULL",
    "SELECT user_id, CASE WHEN gender IS DISTINCT FROM 'f' AND member THEN 1 ELSE 2 END FROM users",
];

/// All rows of a table as a file.
fn write(world: &World, table: &str, file: &Path) {
    let batches = world.try_ask(&format!("SELECT * FROM {table}")).expect("all rows");
    let schema = batches.first().expect("some rows").schema();
    let mut writer = ArrowWriter::try_new(File::create(file).expect("a file"), schema, None).expect("a writer");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.close().expect("written");
}

/// Rows as lists of texts and nulls.
fn cells(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let options = FormatOptions::default();
    let mut all = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("shown")).collect();
        for row in 0..batch.num_rows() {
            let cell = |(at, column): (usize, &ArrayFormatter<'_>)| match batch.column(at).is_null(row) {
                true => Value::Null,
                false => column.value(row).to_string().into(),
            };
            all.push(columns.iter().enumerate().map(cell).collect());
        }
    }
    all
}

#[test]
fn duckdb_says_the_same() {
    let Some(python) = std::env::var_os("BELUGA_DUCKDB_PYTHON") else {
        eprintln!("skipped: BELUGA_DUCKDB_PYTHON is not set");
        return;
    };
    for number in 0..WORLDS {
        let folder = tempfile::tempdir().expect("a folder");
        let mut random = Random::new(100 + number);
        let world = some_world(&mut random, [1, 4, 16][number as usize % 3]);
        for table in ["users", "purchase"] {
            write(&world, table, &folder.path().join(format!("{table}.parquet")));
        }
        let answered = |sql: &str, batches: &[RecordBatch]| json!({"sql": sql, "rows": cells(batches)});
        let mut asked: Vec<Value> =
            DISTINCT.iter().map(|sql| answered(sql, &world.try_ask(sql).expect("an answer"))).collect();
        while asked.len() < STATEMENTS {
            let sql = match asked.len() % 2 {
                0 => joins::statement(&mut random),
                _ => users::statement(&mut random),
            };
            // The largest age and one more wraps around here, and is an error or simplified away there.
            if sql.contains("age + 1") {
                continue;
            }
            // What is an error here is tried against plain DataFusion elsewhere.
            if let Ok(batches) = world.try_ask(&sql) {
                asked.push(answered(&sql, &batches));
            }
        }
        let text = serde_json::to_vec(&asked).expect("JSON");
        std::fs::write(folder.path().join("statements.json"), text).expect("written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/others.py");
        let told = Command::new(&python).arg(script).arg(folder.path()).output().expect("run Python");
        assert!(
            told.status.success(),
            "world {number}: {}{}",
            String::from_utf8_lossy(&told.stdout),
            String::from_utf8_lossy(&told.stderr)
        );
    }
}
