//! Values that come apart from a statement: what is told of them, and that they mean what the same values in the text mean.

use crate::support::{World, rows};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray,
    Float64Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, ListArray, ListBuilder, NullArray,
    RecordBatch, StringArray, StringBuilder, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use engine::audience::naive::{NOW, Random, User};
use engine::audience::ops::QueryContext;
use engine::update::UpdateBatch;
use engine_sql::session::{Question, STATEMENT_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX, SqlError, SqlErrorKind};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn people() -> World {
    let world = World::new(2);
    let mut random = Random::new(5);
    let mut batch = UpdateBatch::new();
    for number in 0..400 {
        let user = User { id: format!("p{number}"), ..random.user() };
        world.push(&mut batch, &user);
    }
    world.store.write(&batch, None).expect("write");
    world.store.publish().expect("publish");
    world
}

fn row(values: &[ArrayRef]) -> RecordBatch {
    let named = values.iter().enumerate().map(|(index, value)| (format!("${}", index + 1), Arc::clone(value), true));
    RecordBatch::try_from_iter_with_nullable(named).expect("a row")
}

fn ask(world: &World, text: &str, values: &[ArrayRef]) -> Result<Vec<String>, SqlError> {
    let question = Question { text: text.to_owned(), parameters: Some(row(values)), ..Question::default() };
    let planned = world.sql.plan(world.store.snapshot(), &question, Vec::new(), &QueryContext::default())?;
    let told = Arc::clone(planned.schema());
    let (mut answer, never) = (planned.start(), AtomicBool::new(false));
    let mut batches = Vec::new();
    while let Some(batch) = answer.next(&never)? {
        assert_eq!(batch.schema().fields().len(), told.fields().len(), "{text}");
        batches.push(batch);
    }
    Ok(rows(&batches))
}

fn int(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

#[test]
fn a_value_means_what_it_means_in_the_text() {
    let world = people();
    let spend: ArrayRef =
        Arc::new(Decimal128Array::from(vec![1_234]).with_precision_and_scale(10, 2).expect("a decimal"));
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![NOW]).with_timezone("UTC"));
    let cases: Vec<(&str, Vec<ArrayRef>, String)> = vec![
        (
            "SELECT count(*) FROM users WHERE age >= $1",
            vec![int(30)],
            "SELECT count(*) FROM users WHERE age >= 30".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE age >= $1",
            vec![Arc::new(Int32Array::from(vec![30]))],
            "SELECT count(*) FROM users WHERE age >= 30".into(),
        ),
        (
            "SELECT user_id FROM users WHERE age BETWEEN ? AND ? ORDER BY user_id LIMIT ?",
            vec![int(20), int(50), int(7)],
            "SELECT user_id FROM users WHERE age BETWEEN 20 AND 50 ORDER BY user_id LIMIT 7".into(),
        ),
        (
            "SELECT user_id FROM users WHERE age BETWEEN $2 AND $1 ORDER BY user_id",
            vec![int(50), int(20)],
            "SELECT user_id FROM users WHERE age BETWEEN 20 AND 50 ORDER BY user_id".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE gender = $1 OR gender IN ($2, $1)",
            vec![text("f"), text("x")],
            "SELECT count(*) FROM users WHERE gender = 'f' OR gender IN ('x', 'f')".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE array_has(interest, $1)",
            vec![text("yoga")],
            "SELECT count(*) FROM users WHERE array_has(interest, 'yoga')".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE spend > $1",
            vec![spend],
            "SELECT count(*) FROM users WHERE spend > 12.34".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE spend > $1",
            vec![Arc::new(Float64Array::from(vec![12.5]))],
            "SELECT count(*) FROM users WHERE spend > 12.5".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE member = $1",
            vec![Arc::new(BooleanArray::from(vec![true]))],
            "SELECT count(*) FROM users WHERE member = true".into(),
        ),
        (
            "SELECT count(*) FROM users WHERE gender = $1",
            vec![Arc::new(NullArray::new(1))],
            "SELECT count(*) FROM users WHERE gender = NULL".into(),
        ),
        (
            "SELECT $1, $2 + 1, $3",
            vec![text("it's"), int(41), Arc::new(Date32Array::from(vec![0]))],
            "SELECT 'it''s', 42, DATE '1970-01-01'".into(),
        ),
        (
            "SELECT count(*) FROM purchase WHERE ts < $1",
            vec![time],
            "SELECT count(*) FROM purchase WHERE ts < now()".into(),
        ),
        (
            "WITH old AS (SELECT * FROM users WHERE age > ?) SELECT count(*) FROM old WHERE gender <> ?",
            vec![int(40), text("m")],
            "WITH old AS (SELECT * FROM users WHERE age > 40) SELECT count(*) FROM old WHERE gender <> 'm'".into(),
        ),
    ];
    for (statement, values, written) in cases {
        let answer = ask(&world, statement, &values).unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert_eq!(answer, world.ask(&written), "{statement}");
    }
    // It is a literal before anything is optimized.
    let plan = ask(&world, "EXPLAIN SELECT count(*) FROM users WHERE age >= $1", &[int(30)]).expect("a plan");
    assert!(plan.concat().contains("age >= 30"), "{plan:?}");
}

#[test]
fn what_a_statement_takes_and_answers_is_told_without_running_it() {
    let world = people();
    let describe = |text: &str| {
        let question = Question { text: text.to_owned(), ..Question::default() };
        world.sql.describe(world.store.snapshot(), &question, Vec::new(), &QueryContext::default())
    };
    let of = |text: &str| {
        let told = describe(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let parameters = told.parameters.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        let columns = told.columns.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        (parameters.collect::<Vec<_>>().join(", "), columns.collect::<Vec<_>>().join(", "))
    };
    let told = |parameters: &str, columns: &str| (parameters.to_owned(), columns.to_owned());
    assert_eq!(
        of("SELECT user_id, age FROM users WHERE age > $1 AND gender = $2"),
        told("$1 Int64, $2 Utf8", "user_id Utf8, age Int64")
    );
    assert_eq!(of("SELECT user_id FROM users WHERE age > ? LIMIT ?").0, "$1 Int64, $2 Int64");
    // Numbers that do not stand there are parameters too, and of no known type.
    assert_eq!(of("SELECT user_id FROM users WHERE age > $2").0, "$1 Utf8, $2 Int64");
    assert_eq!(of("SELECT 1 AS one"), told("", "one Int64"));
    assert_eq!(describe("SELECT agee FROM users").expect_err("no column").kind, SqlErrorKind::UnknownColumn);
}

#[test]
fn values_that_do_not_fit_are_told() {
    let world = people();
    let refused = |text: &str, values: &[ArrayRef]| match ask(&world, text, values) {
        Ok(rows) => panic!("{text}: {rows:?}"),
        Err(error) => error,
    };
    for (text, values, said) in [
        ("SELECT $1 + $2", vec![int(1)], "the statement has 2 parameters, and 1 values came with it"),
        ("SELECT 1", vec![int(1)], "the statement has 0 parameters, and 1 values came with it"),
        ("SELECT ? + $2", vec![int(1), int(2)], "`?` and numbered parameters stand in one statement"),
        ("SELECT $x", vec![int(1)], "`$x` is no parameter"),
        ("SELECT $0", vec![int(1)], "`$0` is no parameter"),
        ("SELECT $99999999999999999999", vec![int(1)], "is no parameter"),
        ("SELECT $2000", vec![int(1)], "at most 1000 parameters"),
    ] {
        let error = refused(text, &values);
        assert!(error.to_string().contains(said), "{text}: {error}");
        assert_eq!(error.kind, SqlErrorKind::Invalid, "{text}");
    }
    let long = "x".repeat(STATEMENT_TEXT_BYTES_MAX + 1);
    assert_eq!(refused("SELECT $1", &[text(&long)]).kind, SqlErrorKind::TooLarge);
    // Without values the text alone is no question.
    assert!(world.refused("SELECT count(*) FROM users WHERE age > $1").message.contains("has 1 parameters"));
    let place = refused("SELECT 1,\n $x", &[int(1)]).span.expect("a place");
    assert_eq!(&"SELECT 1,\n $x"[place], "$x");
}

#[test]
fn a_planned_statement_reads_its_snapshot_whenever_it_is_started() {
    let world = people();
    let question = Question { text: "SELECT count(*) FROM users".to_owned(), ..Question::default() };
    let planned =
        world.sql.plan(world.store.snapshot(), &question, Vec::new(), &QueryContext::default()).expect("planned");
    let mut batch = UpdateBatch::new();
    batch.begin_user(b"somebody new");
    world.store.write(&batch, None).expect("write");
    world.store.publish().expect("publish");
    let (mut answer, never) = (planned.start(), AtomicBool::new(false));
    let batch = answer.next(&never).expect("an answer").expect("a row");
    assert_eq!((rows(&[batch]), world.ask(&question.text)), (vec!["400".to_owned()], vec!["401".to_owned()]));
    let listed = world.sql.tables(world.store.snapshot(), Vec::new(), true, &|schema, _| schema == "public");
    let listed: Vec<(String, usize)> = listed
        .expect("tables")
        .into_iter()
        .map(|table| (table.name, table.columns.expect("asked for").fields().len()))
        .collect();
    assert!(
        listed.iter().any(|(name, count)| name == "users" && *count == world.catalog.tags().len() + 1),
        "{listed:?}"
    );
    // Tables without a schema are looked for where the question says.
    let elsewhere = Question { text: "SELECT count(*) FROM shards".into(), schema: Some("system".into()), ..question };
    world
        .sql
        .describe(world.store.snapshot(), &elsewhere, Vec::new(), &QueryContext::default())
        .expect("system.shards");
}

/// As one, in a list, in a struct, and as a dictionary's.
fn wrapped(value: &ArrayRef) -> Vec<ArrayRef> {
    let field = Arc::new(Field::new("item", value.data_type().clone(), true));
    let list = ListArray::new(Arc::clone(&field), OffsetBuffer::from_lengths([1]), Arc::clone(value), None);
    let record = StructArray::new(vec![Arc::clone(&field)].into(), vec![Arc::clone(value)], None);
    let in_both = ListArray::new(
        Arc::new(Field::new("item", record.data_type().clone(), true)),
        OffsetBuffer::from_lengths([1]),
        Arc::new(record.clone()),
        None,
    );
    let named = DictionaryArray::new(Int32Array::from(vec![0]), Arc::clone(value));
    vec![Arc::clone(value), Arc::new(list), Arc::new(record), Arc::new(in_both), Arc::new(named)]
}

#[test]
fn long_values_are_refused_however_they_lie_in_memory() {
    let world = people();
    let long = "x".repeat(STATEMENT_TEXT_BYTES_MAX + 1);
    let values: [ArrayRef; 6] = [
        Arc::new(StringArray::from(vec![long.as_str()])),
        Arc::new(LargeStringArray::from(vec![long.as_str()])),
        Arc::new(StringViewArray::from(vec![long.as_str()])),
        Arc::new(BinaryArray::from(vec![long.as_bytes()])),
        Arc::new(LargeBinaryArray::from(vec![long.as_bytes()])),
        Arc::new(BinaryViewArray::from(vec![long.as_bytes()])),
    ];
    for value in values.iter().flat_map(wrapped) {
        let kind = ask(&world, "SELECT $1", &[Arc::clone(&value)]).err().map(|error| error.kind);
        assert_eq!(kind, Some(SqlErrorKind::TooLarge), "{}", value.data_type());
    }
    let most = "y".repeat(STATEMENT_TEXT_BYTES_MAX);
    let short: ArrayRef = Arc::new(StringViewArray::from(vec![most.as_str()]));
    assert_eq!(ask(&world, "SELECT $1", &[short]).expect("a text"), [most]);
}

#[test]
fn a_value_counts_without_those_beside_it() {
    let world = people();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..1_000 {
        lists.append_value((0..20).map(|number| Some(format!("value {number} of row {row}"))));
    }
    let lists = lists.finish();
    let names = StringArray::from_iter_values((0..5_000).map(|number| format!("name {number}")));
    let names = DictionaryArray::new(Int32Array::from_iter_values(0..1_000), Arc::new(names));
    for row in [0, 1, 999] {
        let list: ArrayRef = Arc::new(lists.slice(row, 1));
        let told = ask(&world, "SELECT array_to_string($1, ',')", &[list]).expect("a list");
        assert!(told[0].contains(&format!("value 19 of row {row}")), "{told:?}");
        let name: ArrayRef = Arc::new(names.slice(row, 1));
        assert_eq!(ask(&world, "SELECT $1", &[name]).expect("a name"), [format!("name {row}")]);
    }
}

#[test]
fn bitmaps_may_be_larger_than_what_can_be_joined() {
    let world = people();
    let numbers: RoaringBitmap = (0..60_000u32).map(|number| number * 7).collect();
    let mut bytes = Vec::new();
    numbers.serialize_into(&mut bytes).expect("bytes");
    assert!(bytes.len() > 2 * STATEMENT_TEXT_BYTES_MAX);
    let bitmap: ArrayRef = Arc::new(BinaryArray::from(vec![bytes.as_slice()]));
    let of = |text: &str| ask(&world, text, &[Arc::clone(&bitmap)]);
    assert_eq!(of("SELECT bitmap_count($1)").expect("a count"), ["60000"]);
    assert_eq!(of("SELECT bitmap_count(bitmap_and($1, bitmap_from_binary($1)))").expect("a count"), ["60000"]);
    assert_eq!(of("SELECT count(*) FROM users WHERE bitmap_contains($1, 14)").expect("a count"), ["400"]);
    for text in [
        "SELECT $1",
        "SELECT bitmap_to_binary($1)",
        "SELECT bitmap_to_base64($1)",
        "SELECT bitmap_count($1), $1",
        "SELECT bitmap_count(b) FROM (SELECT $1 AS b)",
        "SELECT bitmap_count($1) WHERE EXISTS (SELECT $1)",
    ] {
        let kind = of(text).err().map(|error| error.kind);
        assert_eq!(kind, Some(SqlErrorKind::TooLarge), "{text}");
    }
    let large: ArrayRef = Arc::new(BinaryArray::from(vec![vec![0u8; STATEMENT_BYTES_MAX + 1].as_slice()]));
    let kind = ask(&world, "SELECT bitmap_count($1)", &[large]).err().map(|error| error.kind);
    assert_eq!(kind, Some(SqlErrorKind::TooLarge));
}
