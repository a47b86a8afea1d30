//! What is written is read: every type, NULL, and columns declared later.

use crate::support::{DAY_MICROS, Row, add, fact, lines, query, row, stage, with_rows};
use engine::catalog::{ColumnType, Zone};
use engine::store::FactTables;
use engine::update::Value;
use engine_sql::facts::{DeltaTables, RowError, rows_to_batches};

const EVERY: [(&str, ColumnType); 7] = [
    ("sku", ColumnType::String),
    ("pieces", ColumnType::Integer),
    ("price", ColumnType::Decimal { precision: 9, scale: 2 }),
    ("score", ColumnType::Float),
    ("gift", ColumnType::Boolean),
    ("due", ColumnType::Timestamp),
    ("basket", ColumnType::Json),
];

#[test]
fn every_type_comes_back_and_so_does_null() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(&folder.path().join("facts")).expect("opens");
    let fact = fact(&EVERY);
    let full = Row {
        event_id: "e-1",
        undeclared: r#"{"colour":"red"}"#,
        weight: -1,
        ..row(
            7,
            1_500_000,
            &[
                Value::Text("boot"),
                Value::Integer(i64::MIN),
                Value::Integer(-1_999_999),
                Value::Float(0.1),
                Value::Boolean(true),
                Value::Integer(1_700_000_000_123_456),
                Value::Text(r#"[1,{"a":null}]"#),
            ],
        )
    };
    let rows = [full, row(4_000_000_000, -1, &[Value::Null; 7])];
    let expected = [
        "user-4000000000 | 1969-12-31T23:59:59.999999Z | NULL | 1 | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | 0 | 4000000000 | 1969-12-31",
        "user-7 | 1970-01-01T00:00:01.500Z | e-1 | -1 | boot | -9223372036854775808 | -19999.99 | 0.1 | true | 2023-11-14T22:13:20.123456Z | [1,{\"a\":null}] | {\"colour\":\"red\"} | 3 | 7 | 1970-01-01",
    ];
    let in_memory = with_rows(&rows, |rows| rows_to_batches(&fact, rows)).expect("rows of the fact");
    assert_eq!(lines(&in_memory), expected);
    add(&tables, &fact, 1, &rows);
    assert_eq!(query(&tables, &fact, None, "SELECT * FROM purchase"), expected);
    let pruned =
        "SELECT user_id FROM purchase WHERE day = '1970-01-01' AND _slot < 10 AND ts >= '1970-01-01T00:00:01.5Z'";
    assert_eq!(query(&tables, &fact, None, pruned), ["user-7"]);
}

#[test]
fn a_day_is_the_zones() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let mut fact = fact(&[]);
    fact.zone = Zone::new("Asia/Shanghai", 8 * 3_600, Vec::new());
    let ends = [i64::MIN, 16 * 3_600_000_000 - 1, 16 * 3_600_000_000, i64::MAX];
    let rows: Vec<Row> = ends.iter().map(|ts| row(1, *ts, &[])).collect();
    let staged = stage(&tables, &fact, 1, &rows);
    tables.commit("purchase", &fact, 1, &staged).expect("commits");
    let days = query(&tables, &fact, None, "SELECT day, count(*) FROM purchase GROUP BY day");
    assert_eq!(days, ["0001-01-01 | 1", "1970-01-01 | 1", "1970-01-02 | 1", "9999-12-31 | 1"]);
}

#[test]
fn columns_declared_later_are_null_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let (old, new) = (fact(&EVERY[..1]), fact(&EVERY[..2]));
    let first = add(&tables, &old, 1, &[row(1, 0, &[Value::Text("a")])]);
    // Declared and not committed yet: the column is there for SQL.
    let sql = "SELECT user_id, sku, pieces FROM purchase WHERE pieces IS NULL OR pieces > 1";
    assert_eq!(query(&tables, &new, None, sql), ["user-1 | a | NULL"]);
    let late = [row(2, 0, &[Value::Text("b")]), row(3, 0, &[Value::Text("c"), Value::Integer(3)])];
    add(&tables, &new, 2, &late);
    assert_eq!(query(&tables, &new, None, sql), ["user-1 | a | NULL", "user-2 | b | NULL", "user-3 | c | 3"]);
    assert_eq!(query(&tables, &new, Some(first), sql), ["user-1 | a | NULL"]);
    // A crash may bring an older state of the fact back for one more commit.
    add(&tables, &old, 3, &[row(4, 0, &[Value::Text("d")])]);
    assert_eq!(query(&tables, &new, None, sql).len(), 4);
    // Files without the column and with it merge.
    let merged = tables.compact("purchase", 1 << 20).expect("merges").expect("there are three files");
    assert_eq!((merged.file_count, merged.row_count), (3, 4));
    assert_eq!(query(&tables, &new, None, sql).len(), 4);
    let reopened = DeltaTables::open(folder.path()).expect("opens");
    assert_eq!(query(&reopened, &new, None, "SELECT pieces FROM purchase WHERE _slot = 3"), ["3"]);
}

#[test]
fn a_value_of_another_type_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    let fact = fact(&EVERY[2..3]);
    for wrong in [Value::Text("x"), Value::Integer(1_000_000_000), Value::Integer(i64::MIN)] {
        let error = with_rows(&[row(1, 0, &[wrong])], |rows| tables.stage("purchase", &fact, 1, rows));
        let text = error.expect_err("is refused").to_string();
        assert!(text.contains("`price`") && text.contains("decimal(9, 2)"), "{text}");
    }
    let more = with_rows(&[row(1, 0, &[Value::Null; 2])], |rows| rows_to_batches(&fact, rows));
    assert_eq!(more.expect_err("is refused"), RowError::Count { expected: 1, found: 2 });
}

#[test]
fn a_table_of_other_columns_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = DeltaTables::open(folder.path()).expect("opens");
    add(&tables, &fact(&EVERY[..1]), 1, &[row(1, DAY_MICROS, &[Value::Text("a")])]);
    let other = fact(&[("sku", ColumnType::Integer)]);
    let staged = with_rows(&[row(1, 0, &[Value::Integer(1)])], |rows| tables.stage("purchase", &other, 2, rows));
    let text = staged.expect_err("is refused").to_string();
    assert!(text.contains("column `sku` of the table is a string and should be a long"), "{text}");
}
