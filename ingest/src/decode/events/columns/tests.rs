use super::ColumnDecoder;
use crate::decode::EventDecoder;
use crate::decode::events::fields::FieldNames;
use crate::decode::events::undeclared::UNDECLARED_BYTES_MAX;
use arrow::array::*;
use arrow::datatypes::*;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::ids::TagId;
use engine::update::{Change, Event, UpdateBatch, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

fn fact() -> Fact {
    let columns = [
        ("category", ColumnType::String),
        ("count_of", ColumnType::Integer),
        ("amount", ColumnType::Decimal { precision: 6, scale: 2 }),
        ("score", ColumnType::Float),
        ("gift", ColumnType::Boolean),
        ("paid_at", ColumnType::Timestamp),
        ("extra", ColumnType::Json),
    ];
    let columns = columns.map(|(name, column_type)| Column { name: name.to_owned(), column_type });
    let fact = Fact {
        id: TagId(0),
        columns: columns.into(),
        activity: Activity { dimensions: vec![0], measures: vec![2] },
        retention_days: Some(400),
        deduplicate_days: Some(30),
        zone: Zone::default(),
    };
    let mut catalog = Catalog::default();
    catalog.declare_fact("purchase", fact).expect("a fact that can be");
    catalog.fact("purchase").expect("declared").clone()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn bind(rows: &RecordBatch, mapping: &[(&str, Option<&str>)]) -> Result<ColumnDecoder, String> {
    let mapping = mapping.iter().map(|(column, field)| ((*column).to_owned(), field.map(str::to_owned)));
    let mapping = FieldNames::new(mapping.collect::<BTreeMap<_, _>>());
    ColumnDecoder::bind(&fact(), NOW, &mapping, &rows.schema()).map_err(|error| error.to_string())
}

fn decode(rows: &RecordBatch) -> (UpdateBatch, Vec<(usize, String)>) {
    let (mut batch, mut refused) = (UpdateBatch::new(), Vec::new());
    let mut decoder = bind(rows, &[]).expect("binds");
    let mut refuse = |row, error: crate::decode::LineError| refused.push((row, format!("{:?}: {error}", error.kind)));
    decoder.decode(rows, &mut batch, &mut refuse).expect("the schema that was bound");
    (batch, refused)
}

/// The value of a column that is the only one besides the user and the time, or the error.
fn one(name: &str, array: ArrayRef) -> String {
    let rows = batch(vec![("user_id", text(["u"])), ("ts", millis([NOW / 1000])), (name, array)]);
    let (batch, mut refused) = decode(&rows);
    if let Some((0, error)) = refused.pop() {
        assert!(batch.as_bytes().is_empty(), "nothing of a bad row stays");
        return error;
    }
    let shown = with_event(&batch, |event| {
        let column = fact().column(name)?;
        Some(match event.values().nth(column)? {
            Value::Null => "NULL".to_owned(),
            Value::Text(text) => text.to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Boolean(value) => value.to_string(),
        })
    });
    shown.unwrap_or_else(|| with_event(&batch, |event| event.head.undeclared.to_owned()))
}

fn with_event<T>(batch: &UpdateBatch, of: impl FnOnce(&Event<'_>) -> T) -> T {
    let user = batch.users().next().expect("a user");
    let Some((_, Change::Event(event))) = user.changes().next() else { panic!("an event") };
    of(&event)
}

fn text<const N: usize>(values: [&str; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn millis<const N: usize>(values: [i64; N]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[test]
fn numbers_are_exact_or_refused() {
    assert_eq!(one("count_of", Arc::new(Int8Array::from(vec![-3]))), "-3");
    assert_eq!(one("count_of", Arc::new(UInt64Array::from(vec![7]))), "7");
    assert_eq!(one("count_of", Arc::new(Float64Array::from(vec![31.0]))), "31");
    assert_eq!(
        one("count_of", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        "Value: `count_of`: `18446744073709551615` is beyond -9223372036854775808 … 9223372036854775807; choose a unit in \
         which the numbers are smaller"
    );
    let decimal = |value, precision, scale| -> ArrayRef {
        let array = Decimal128Array::from(vec![value]).with_precision_and_scale(precision, scale);
        Arc::new(array.expect("a decimal"))
    };
    assert_eq!(one("amount", decimal(125_000, 20, 4)), "1250");
    assert_eq!(one("amount", decimal(12, 20, -2)), "120000");
    assert_eq!(one("count_of", decimal(300, 20, 2)), "3");
    let wide = Decimal256Array::from(vec![i256::from_i128(-1250)]).with_precision_and_scale(60, 2).expect("a decimal");
    assert_eq!(one("amount", Arc::new(wide)), "-1250");
    let small = Decimal32Array::from(vec![1250]).with_precision_and_scale(9, 2).expect("a decimal");
    assert_eq!(one("amount", Arc::new(small)), "1250");
    assert_eq!(
        one("amount", decimal(12_505, 20, 3)),
        "Value: `amount`: `12.505` has more than 2 digits behind the point; round it, or send it to a column with more of them"
    );
    assert_eq!(
        one("amount", Arc::new(Int32Array::from(vec![10_000]))),
        "Value: `amount`: `10000` has more than 6 digits; the column is a decimal(6, 2)"
    );
    assert_eq!(one("amount", text(["-12.5"])), "-1250");
    assert_eq!(one("amount", text(["1,5"])), "Type: `amount`: `1,5` is not a number; write digits, as in 31 or -2.50");
    assert_eq!(one("amount", Arc::new(Float64Array::from(vec![0.1]))), "10");
    assert_eq!(one("amount", Arc::new(Float32Array::from(vec![12.34]))), "1234");
    assert_eq!(
        one("amount", Arc::new(Float64Array::from(vec![0.1 + 0.2]))),
        "Value: `amount`: `0.30000000000000004` has more than 2 digits behind the point; round it, or send it to a column \
         with more of them"
    );
    assert!(one("amount", Arc::new(Float64Array::from(vec![f64::NAN]))).contains("`NaN` is not a number"));
    assert_eq!(one("score", Arc::new(Float32Array::from(vec![0.5]))), "0.5");
    assert_eq!(one("score", decimal(1250, 20, 2)), "12.5");
    assert_eq!(one("score", millis([3])), "3.0");
    assert_eq!(
        one("score", Arc::new(Float64Array::from(vec![f64::INFINITY]))),
        "Value: `score`: `inf` is not a number; leave it NULL if it is unknown"
    );
}

#[test]
fn other_values_by_type() {
    assert_eq!(one("gift", Arc::new(BooleanArray::from(vec![false]))), "false");
    assert_eq!(one("paid_at", Arc::new(Date32Array::from(vec![1]))), "86400000000");
    assert_eq!(one("paid_at", Arc::new(Date64Array::from(vec![5]))), "5000");
    assert_eq!(one("paid_at", Arc::new(TimestampNanosecondArray::from(vec![-1]))), "-1");
    let zoned = TimestampSecondArray::from(vec![7]).with_timezone("Europe/Berlin");
    assert_eq!(one("paid_at", Arc::new(zoned)), "7000000");
    assert_eq!(one("paid_at", Arc::new(Int32Array::from(vec![7]))), "7000");
    assert_eq!(one("paid_at", text(["2026-11-20T18:00:00+08:00"])), NOW.to_string());
    assert!(one("paid_at", text(["soon"])).contains("`soon` is not a point in time"));
    assert!(
        one("paid_at", Arc::new(TimestampSecondArray::from(vec![i64::MAX]))).contains("is outside the years 0 to 9999")
    );
    assert_eq!(one("extra", text([r#" {"a" : [1]} "#])), r#"{"a" : [1]}"#);
    assert_eq!(one("extra", text(["null"])), "NULL");
    assert_eq!(
        one("extra", text(["{a:1}"])),
        "Value: `extra`: `{a:1}` is not JSON: a key in double quotes is expected here (column 2)"
    );
    let list = |values: Vec<Option<i32>>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(values)]))
    };
    assert_eq!(one("extra", list(vec![Some(1), None])), "[1,null]");
    assert_eq!(one("extra", millis([5])), "5");
    assert_eq!(one("category", Arc::new(NullArray::new(1))), "NULL");
    assert_eq!(one("extra", Arc::new(NullArray::new(1))), "NULL");
    assert!(one("category", text([&"v".repeat(1025)])).contains("a dimension has at most 1024"));
}

#[test]
fn what_is_not_declared_becomes_json() {
    assert_eq!(one("shop", text(["a\"b\n"])), r#"{"shop":"a\"b\n"}"#);
    assert_eq!(one("a\"b", millis([5])), r#"{"a\"b":5}"#);
    assert_eq!(one("x", Arc::new(BooleanArray::from(vec![true]))), r#"{"x":true}"#);
    assert_eq!(one("x", Arc::new(Float64Array::from(vec![1.5]))), r#"{"x":1.5}"#);
    assert_eq!(one("x", Arc::new(Float64Array::from(vec![f64::NAN]))), r#"{"x":null}"#);
    let decimal = Decimal128Array::from(vec![-1250]).with_precision_and_scale(20, 2).expect("a decimal");
    assert_eq!(one("x", Arc::new(decimal)), r#"{"x":-12.50}"#);
    let zoned = TimestampSecondArray::from(vec![NOW / 1_000_000]).with_timezone("Europe/Berlin");
    assert_eq!(one("x", Arc::new(zoned)), r#"{"x":"2026-11-20T10:00:00Z"}"#);
    assert_eq!(one("x", Arc::new(BinaryArray::from(vec![&b"\x01\xff"[..]]))), r#"{"x":"01ff"}"#);
    let inner: Vec<(FieldRef, ArrayRef)> = vec![
        (Arc::new(Field::new("a", DataType::Int64, true)), millis([1])),
        (Arc::new(Field::new("b", DataType::Utf8, true)), text(["c"])),
    ];
    assert_eq!(one("x", Arc::new(StructArray::from(inner))), r#"{"x":{"a":1,"b":"c"}}"#);
    assert_eq!(one("x", new_null_array(&DataType::Utf8, 1)), "");
    let long = "x".repeat(UNDECLARED_BYTES_MAX - r#"{"x":""}"#.len());
    assert_eq!(one("x", text([&long])).len(), UNDECLARED_BYTES_MAX);
    assert!(one("x", text([&(long + "y")])).contains("have more than 65536 bytes; declare them, or leave them out"));
}

#[test]
fn heads_of_events() {
    let ids: ArrayRef =
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(1), None, Some(3), Some(4), Some(5), Some(6)]));
    let times = TimestampMicrosecondArray::from(vec![
        Some(NOW),
        None,
        Some(NOW),
        Some(NOW + 2 * 86_400_000_000),
        Some(0),
        Some(NOW - 1),
        Some(NOW),
    ]);
    let event_ids = StringArray::from(vec![Some("e"), None, None, None, None, None, Some("")]);
    let retract = BooleanArray::from(vec![Some(true), None, None, None, None, Some(true), None]);
    let rows = batch(vec![
        ("retract", Arc::new(retract)),
        ("event_id", Arc::new(event_ids)),
        ("ts", Arc::new(times)),
        ("user_id", ids),
    ]);
    let (batch, refused) = decode(&rows);
    assert_eq!(batch.users().map(|user| user.user_id).collect::<Vec<_>>(), [b"18446744073709551615"]);
    with_event(&batch, |event| {
        assert_eq!((event.head.ts, event.head.event_id, event.head.is_retraction), (NOW, "e", true));
    });
    let expected = [
        (1, "EventTime: `ts` is NULL; write 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds since 1970"),
        (2, "UserId: `user_id` is NULL"),
        (
            3,
            "EventTime: `ts`: `2026-11-22T10:00:00` is more than a day after now; check the sender's clock and time zone",
        ),
        (
            4,
            "EventTime: `ts`: `1970-01-01T00:00:00` is older than the 400 days that the fact keeps; leave the event out, or \
             declare a longer retention",
        ),
        (5, "EventId: `retract` needs the `event_id` of the event that it takes back"),
        (6, "EventId: the event id is empty; leave it out if the event has none"),
    ];
    assert_eq!(refused, expected.map(|(row, error)| (row, error.to_owned())));
}

#[test]
fn columns_are_mapped_and_checked_once() {
    let (u, t) = (|| text(["u"]), || millis([NOW / 1000]));
    let check = |columns: Vec<(&str, ArrayRef)>, mapping: &[(&str, Option<&str>)], expected: &str| {
        assert_eq!(bind(&batch(columns), mapping).expect_err("refused"), expected);
    };
    check(
        vec![("userid", u()), ("ts", t())],
        &[],
        "column `user_id`: it is missing; every event has a user; did you mean `userid`?",
    );
    check(
        vec![("user_id", u()), ("happened", t())],
        &[],
        "column `ts`: it is missing; every event has a time; the columns are user_id, happened",
    );
    check(
        vec![("user_id", u()), ("ts", t())],
        &[("tss", Some("ts"))],
        "column `tss`: there is no such column; did you mean `ts`?",
    );
    check(
        vec![("user_id", u()), ("ts", t()), ("price", t())],
        &[("price", Some("amuont"))],
        "column `price`: it is mapped to `amuont`, which the fact does not have; did you mean `amount`?",
    );
    check(
        vec![("user_id", u()), ("ts", t()), ("a", t()), ("b", t())],
        &[("a", Some("amount")), ("b", Some("amount"))],
        "column `b`: it is mapped to `amount`, and so is `a`; map one of them to something else",
    );
    check(
        vec![("user_id", u()), ("ts", t()), ("gift", text(["yes"]))],
        &[],
        "column `gift`: its type is Utf8; a boolean takes booleans; cast it, map it to another field, or leave it out",
    );
    check(
        vec![("user_id", Arc::new(BinaryArray::from(vec![&b"u"[..]]))), ("ts", t())],
        &[],
        "column `user_id`: its type is Binary; `user_id` takes text or integers; cast it, map it to another field, or \
         leave it out",
    );
    check(
        vec![("user_id", u()), ("ts", t()), ("count_of", u())],
        &[],
        "column `count_of`: its type is Utf8; an integer takes integers; cast it, map it to another field, or leave it out",
    );
    check(
        vec![("user_id", u()), ("ts", t()), ("extra", Arc::new(BinaryArray::from(vec![&b"{}"[..]])))],
        &[],
        "column `extra`: its type is Binary; a json takes text that is JSON; cast it to text",
    );

    // What is mapped away from its own name is undeclared, what is mapped to nothing is not read.
    let rows =
        batch(vec![("customer", u()), ("ts", millis([7])), ("at", t()), ("price", text(["1.5"])), ("junk", t())]);
    let mapping = [("customer", Some("user_id")), ("at", Some("ts")), ("price", Some("amount")), ("junk", None)];
    let mut decoder = bind(&rows, &mapping).expect("binds");
    assert_eq!(decoder.undeclared().collect::<Vec<_>>(), ["ts"]);
    assert_eq!(decoder.places(), [0, 1, 2, 3]);
    let mut out = UpdateBatch::new();
    decoder.decode(&rows, &mut out, &mut |_, error| panic!("{error}")).expect("the schema that was bound");
    with_event(&out, |event| {
        assert_eq!((event.head.ts, event.head.undeclared), (NOW, r#"{"ts":7}"#));
        assert_eq!(event.values().nth(2), Some(Value::Integer(150)));
    });
    let other = batch(vec![("customer", u()), ("ts", text(["7"]))]);
    let error = decoder.decode(&other, &mut out, &mut |_, _| {}).expect_err("another schema").to_string();
    assert!(error.starts_with("column `ts`: this batch has other columns than the one before"), "{error}");
}

#[test]
fn a_mapping_to_ids_needs_a_fact_that_knows_them() {
    let mut fact = fact();
    fact.deduplicate_days = None;
    let rows = batch(vec![("user_id", text(["u"])), ("ts", millis([NOW / 1000])), ("event_id", millis([7]))]);
    let mapping = FieldNames::new([("event_id".to_owned(), Some("event_id".to_owned()))].into());
    let error = ColumnDecoder::bind(&fact, NOW, &mapping, &rows.schema()).expect_err("refused").to_string();
    assert!(error.contains("knows no events by their ids; declare `deduplicate`"), "{error}");
    let mut decoder = ColumnDecoder::bind(&fact, NOW, &FieldNames::default(), &rows.schema()).expect("binds");
    let mut out = UpdateBatch::new();
    decoder.decode(&rows, &mut out, &mut |_, error| panic!("{error}")).expect("the schema that was bound");
    with_event(&out, |event| assert_eq!(event.head.undeclared, r#"{"event_id":7}"#));
}

/// An event as a source table has it.
#[derive(Clone, Debug)]
struct Row {
    user: u32,
    millis: i64,
    id: Option<u8>,
    category: Option<String>,
    count: Option<i64>,
    cents: Option<i64>,
    score: Option<f64>,
    gift: Option<bool>,
    paid_millis: Option<i64>,
    extra: Option<Vec<i32>>,
    shop: Option<String>,
    shelf: Option<i16>,
}

prop_compose! {
    fn row()(
        (user, back, id) in (0..9u32, 0..30 * 86_400_000i64, prop::option::of(0..5u8)),
        category in prop::option::of("\\PC{0,6}"),
        count in prop::option::of(any::<i64>()),
        cents in prop::option::of(-999_999..=999_999i64),
        score in prop::option::of(-1e300..1e300),
        gift in prop::option::of(any::<bool>()),
        paid_millis in prop::option::of(-60_000_000_000_000..200_000_000_000_000i64),
        extra in prop::option::of(prop::collection::vec(any::<i32>(), 0..3)),
        shop in prop::option::of(any::<String>()),
        shelf in prop::option::of(any::<i16>()),
    ) -> Row {
        let millis = NOW / 1000 - back;
        Row { user, millis, id, category, count, cents, score, gift, paid_millis, extra, shop, shelf }
    }
}

/// The row as a line, NULLs left out.
fn line(row: &Row) -> String {
    let cents = row.cents.map(|cents| serde_json::json!(cents as f64 / 100.0));
    let members = [
        ("user_id", Some(serde_json::json!(row.user))),
        ("ts", Some(serde_json::json!(row.millis))),
        ("event_id", row.id.map(|id| serde_json::json!(id.to_string()))),
        ("category", row.category.as_ref().map(|text| serde_json::json!(text))),
        ("count_of", row.count.map(|number| serde_json::json!(number))),
        ("amount", cents),
        ("score", row.score.map(|number| serde_json::json!(number))),
        ("gift", row.gift.map(|value| serde_json::json!(value))),
        ("paid_at", row.paid_millis.map(|millis| serde_json::json!(millis))),
        ("extra", row.extra.as_ref().map(|values| serde_json::json!(values))),
        ("shop", row.shop.as_ref().map(|text| serde_json::json!(text))),
        ("shelf", row.shelf.map(|number| serde_json::json!(number))),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some(format!("{:?}:{}", name, value?)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The rows as columns; `form` picks among the types that each may have.
fn columns(rows: &[Row], form: usize) -> RecordBatch {
    fn text(form: usize, values: Vec<Option<String>>) -> ArrayRef {
        match form % 4 {
            0 => Arc::new(StringArray::from(values)),
            1 => Arc::new(LargeStringArray::from(values)),
            2 => Arc::new(StringViewArray::from(values)),
            _ => {
                let values: DictionaryArray<Int8Type> = values.iter().map(Option::as_deref).collect();
                Arc::new(values)
            }
        }
    }
    let pick = |arrays: Vec<ArrayRef>| arrays[form % arrays.len()].clone();
    let cents = || rows.iter().map(|row| row.cents);
    let decimal: Decimal128Array = cents().map(|cents| cents.map(i128::from)).collect();
    let wide: Decimal256Array = cents().map(|cents| cents.map(|cents| i256::from(cents * 1000))).collect();
    let paid = || rows.iter().map(|row| row.paid_millis);
    let ids = || rows.iter().map(|row| row.id);
    let lists = rows.iter().map(|row| Some(row.extra.as_ref()?.iter().copied().map(Some).collect::<Vec<_>>()));
    let json = |row: &Row| row.extra.as_ref().map(|values| serde_json::json!(values).to_string());
    batch(vec![
        (
            "user_id",
            pick(vec![
                text(form, rows.iter().map(|row| Some(row.user.to_string())).collect()),
                Arc::new(rows.iter().map(|row| Some(row.user)).collect::<UInt32Array>()),
            ]),
        ),
        (
            "ts",
            pick(vec![
                Arc::new(rows.iter().map(|row| Some(row.millis)).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| Some(row.millis)).collect::<TimestampMillisecondArray>()),
                Arc::new(
                    rows.iter()
                        .map(|row| Some(row.millis * 1000))
                        .collect::<TimestampMicrosecondArray>()
                        .with_timezone("+03:00"),
                ),
            ]),
        ),
        (
            "event_id",
            pick(vec![
                text(form, ids().map(|id| id.map(|id| id.to_string())).collect()),
                Arc::new(ids().collect::<UInt8Array>()),
            ]),
        ),
        ("category", text(form, rows.iter().map(|row| row.category.clone()).collect())),
        ("count_of", Arc::new(rows.iter().map(|row| row.count).collect::<Int64Array>())),
        (
            "amount",
            pick(vec![
                Arc::new(decimal.with_precision_and_scale(10, 2).expect("a decimal")),
                Arc::new(wide.with_precision_and_scale(60, 5).expect("a decimal")),
                Arc::new(cents().map(|cents| cents.map(|cents| cents as f64 / 100.0)).collect::<Float64Array>()),
                text(form, cents().map(|cents| cents.map(|cents| (cents as f64 / 100.0).to_string())).collect()),
            ]),
        ),
        ("score", Arc::new(rows.iter().map(|row| row.score).collect::<Float64Array>())),
        ("gift", Arc::new(rows.iter().map(|row| row.gift).collect::<BooleanArray>())),
        (
            "paid_at",
            pick(vec![
                Arc::new(paid().collect::<TimestampMillisecondArray>()),
                Arc::new(
                    paid().map(|millis| millis.map(|millis| millis * 1000)).collect::<TimestampMicrosecondArray>(),
                ),
                Arc::new(paid().collect::<Int64Array>()),
            ]),
        ),
        (
            "extra",
            pick(vec![
                text(form, rows.iter().map(json).collect()),
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            ]),
        ),
        ("shop", text(form, rows.iter().map(|row| row.shop.clone()).collect())),
        ("shelf", Arc::new(rows.iter().map(|row| row.shelf).collect::<Int16Array>())),
    ])
}

proptest! {
    /// Also from the middle of a batch, where arrays have an offset.
    #[test]
    fn rows_mean_what_lines_mean(rows in prop::collection::vec(row(), 1..8), form in 0..12usize, skip in 0..3usize) {
        let (mut expected, mut lines) = (UpdateBatch::new(), EventDecoder::new(&fact(), NOW));
        let skip = skip.min(rows.len() - 1);
        for row in &rows[skip..] {
            let line = line(row);
            lines.decode(line.as_bytes(), &mut expected).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        let columns = columns(&rows, form);
        let (found, refused) = decode(&columns.slice(skip, rows.len() - skip));
        prop_assert_eq!(refused, []);
        prop_assert_eq!(found, expected);
    }
}
