use super::EventDecoder;
use super::undeclared::UNDECLARED_BYTES_MAX;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, TAG_VALUE_BYTES_MAX, Zone};
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch, Value};
use proptest::prelude::*;
use serde_json::json;

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;
const DAY: i64 = 86_400_000_000;

fn fact() -> Fact {
    let columns = [
        ("category", ColumnType::String),
        ("note", ColumnType::String),
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
        activity: Activity { dimensions: vec![0], measures: vec![3] },
        retention_days: Some(400),
        deduplicate_days: Some(30),
        zone: Zone::default(),
    };
    let mut catalog = Catalog::default();
    catalog.declare_fact("purchase", fact).expect("a fact that can be");
    catalog.fact("purchase").expect("declared").clone()
}

/// The line's event as text: `u1 @1795168800000000 category="shoes" amount=1250`, or the error.
fn decode(line: &str) -> String {
    decode_as(&fact(), line)
}

fn decode_as(fact: &Fact, line: &str) -> String {
    let mut batch = UpdateBatch::new();
    match EventDecoder::new(fact, NOW).decode(line.as_bytes(), &mut batch) {
        Ok(()) => printed(fact, &batch),
        Err(error) => {
            assert!(batch.is_empty() && batch.as_bytes().is_empty(), "nothing of a bad line stays");
            format!("{:?}: {error}", error.kind)
        }
    }
}

fn printed(fact: &Fact, batch: &UpdateBatch) -> String {
    let mut lines = Vec::new();
    for user in batch.users() {
        let mut out = String::from_utf8_lossy(user.user_id).into_owned();
        for (id, change) in user.changes() {
            let Change::Event(event) = change else { panic!("an event decoder makes events") };
            assert_eq!((id, event.values().count()), (fact.id, fact.columns.len()));
            let sign = if event.head.is_retraction { '-' } else { '@' };
            out += &format!(" {sign}{}", event.head.ts);
            if !event.head.event_id.is_empty() {
                out += &format!(" #{}", event.head.event_id);
            }
            for (column, value) in fact.columns.iter().zip(event.values()) {
                out += &match value {
                    Value::Null => continue,
                    Value::Text(text) => format!(" {}={text:?}", column.name),
                    Value::Integer(number) => format!(" {}={number}", column.name),
                    Value::Float(number) => format!(" {}={number}", column.name),
                    Value::Boolean(value) => format!(" {}={value}", column.name),
                };
            }
            out += event.head.undeclared;
        }
        lines.push(out);
    }
    lines.join("\n")
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(decode(line), expected, "{line}");
}

/// A line of these fields besides the user and the time.
#[track_caller]
fn check_fields(fields: &str, expected: &str) {
    check(&format!(r#"{{"user_id":"u","ts":"2026-11-20T10:00:00Z",{fields}}}"#), expected);
}

#[test]
fn takes_the_documented_line() {
    check(
        r#"{"user_id":"u1","ts":"2026-11-20T10:00:00Z","category":"shoes","amount":12.50}"#,
        "u1 @1795168800000000 category=\"shoes\" amount=1250",
    );
    check(r#" { "ts" : 1795168800000 , "user_id" : 17 } "#, "17 @1795168800000000");
    check(r#"{"user_id":"u","ts":1795168800000.125}"#, "u @1795168800000125");
}

#[test]
fn values_by_type() {
    let at = "u @1795168800000000";
    check_fields(r#""category":"\u00fc\n","note":"a\"b""#, &format!("{at} category=\"\u{fc}\\n\" note=\"a\\\"b\""));
    check_fields(r#""count_of":9223372036854775807"#, &format!("{at} count_of=9223372036854775807"));
    check_fields(r#""count_of":-1e3"#, &format!("{at} count_of=-1000"));
    check_fields(r#""amount":"-12.5""#, &format!("{at} amount=-1250"));
    check_fields(r#""amount":9999.99"#, &format!("{at} amount=999999"));
    check_fields(r#""score":1e-3,"gift":false"#, &format!("{at} score=0.001 gift=false"));
    check_fields(r#""paid_at":"2026-11-20","gift":true"#, &format!("{at} gift=true paid_at=1795132800000000"));
    check_fields(r#""extra":{"a" : [1, "\u00e9"]}"#, &format!("{at} extra=\"{{\\\"a\\\" : [1, \\\"\\\\u00e9\\\"]}}\""));
    check_fields(r#""extra":"text""#, &format!("{at} extra=\"\\\"text\\\"\""));
    check_fields(r#""extra":null,"category":null,"amount":null,"ignored":null"#, &format!("{at}{{\"ignored\":null}}"));
}

#[test]
fn what_is_not_declared_is_kept_as_written() {
    check_fields(
        r#""shop" : {"no": 7.0} ,"category":"hats","\u0062rand":"x""#,
        r#"u @1795168800000000 category="hats"{"shop" : {"no": 7.0},"\u0062rand":"x"}"#,
    );
    let fields = |bytes: usize| format!(r#"{{"user_id":"u","ts":0,"paid_at":1,"a":1,"more":"{}"}}"#, "x".repeat(bytes));
    let mut kept_for_ever = fact();
    kept_for_ever.retention_days = None;
    let frame = r#"{"a":1,"more":""}"#.len();
    let decode = |bytes| decode_as(&kept_for_ever, &fields(bytes));
    assert!(decode(UNDECLARED_BYTES_MAX - frame).starts_with("u @0 paid_at=1000{"));
    assert_eq!(
        decode(UNDECLARED_BYTES_MAX - frame + 1),
        "Value: the fields that are not declared have more than 65536 bytes (column 41); declare them, or leave them out"
    );
}

#[test]
fn ids_and_retractions() {
    let at = r#"{"user_id":"u","ts":1795168800000"#;
    check(&format!(r#"{at},"event_id":"e1"}}"#), "u @1795168800000000 #e1");
    check(&format!(r#"{at},"event_id":-0}}"#), "u @1795168800000000 #0");
    check(&format!(r#"{at},"event_id":null,"retract":null}}"#), "u @1795168800000000");
    check(&format!(r#"{at},"retract":true,"event_id":7}}"#), "u -1795168800000000 #7");
    check(&format!(r#"{at},"retract":false}}"#), "u @1795168800000000");
    check(
        &format!(r#"{at},"retract":true}}"#),
        "EventId: `retract` needs the `event_id` of the event that it takes back",
    );
    check(&format!(r#"{at},"retract":1}}"#), "Type: `retract` cannot be a number (column 45); write true or false");
    check(
        &format!(r#"{at},"event_id":""}}"#),
        "EventId: the event id is empty (column 46); leave it out if the event has none",
    );
    check(
        &format!(r#"{at},"event_id":1.5}}"#),
        "EventId: `event_id`: 1.5 is not an integer of 64 bits (column 46); write other ids as strings",
    );
    check(
        &format!(r#"{at},"event_id":"{}"}}"#, "e".repeat(1025)),
        "EventId: the event id has 1025 bytes; at most 1024 are allowed (column 46); use a shorter id, or a hash of it",
    );
    let mut without_ids = fact();
    without_ids.deduplicate_days = None;
    let line = format!(r#"{at},"event_id":{{}},"retract":7}}"#);
    assert_eq!(decode_as(&without_ids, &line), "u @1795168800000000{\"event_id\":{},\"retract\":7}");
}

#[test]
fn times_that_cannot_be() {
    let ts = |ts: &str| decode(&format!(r#"{{"user_id":"u","ts":{ts}}}"#));
    assert_eq!(ts(&((NOW + DAY) / 1000).to_string()), format!("u @{}", NOW + DAY));
    assert_eq!(
        ts(r#""2026-11-21T10:00:00.001Z""#),
        "EventTime: `ts`: `2026-11-21T10:00:00.001Z` is more than a day after now (column 21); check the sender's clock and time zone"
    );
    assert_eq!(
        ts("1795168800000000"),
        "EventTime: `ts`: `1795168800000000` is outside the years 0 to 9999 (column 21); a number is read as milliseconds since 1970"
    );
    assert_eq!(
        ts("1795168800"),
        "EventTime: `ts`: `1795168800` is older than the 400 days that the fact keeps (column 21); a number is read as milliseconds since 1970"
    );
    assert_eq!(ts(r#""1969-12-31""#), "EventTime: `ts`: `1969-12-31` is before 1970 (column 21); leave the event out");
    // 400 days before 2026-11-20.
    assert_eq!(ts(r#""2025-10-16""#), "u @1760572800000000");
    assert_eq!(
        ts(r#""2025-10-15T23:59:59Z""#),
        "EventTime: `ts`: `2025-10-15T23:59:59Z` is older than the 400 days that the fact keeps (column 21); leave the event out, or declare a longer retention"
    );
    assert_eq!(
        ts(r#""soon""#),
        "EventTime: `ts`: `soon` is not a point in time (column 21); write 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds since 1970"
    );
    assert_eq!(
        ts("null"),
        "EventTime: `ts` cannot be null (column 21); write 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds since 1970"
    );
}

#[test]
fn refusals_say_what_where_and_what_instead() {
    check(
        r#"{"ts":1795168800000}"#,
        "UserId: `user_id` is missing; write {\"user_id\":\"u1\",\"ts\":\"2026-11-20T10:00:00Z\",…}",
    );
    check(
        r#"{"user_id":"u"}"#,
        "EventTime: `ts` is missing; write {\"user_id\":\"u1\",\"ts\":\"2026-11-20T10:00:00Z\",…}",
    );
    check(r#"{"user_id":"","ts":1}"#, "UserId: the user id is empty (column 12)");
    check(
        "[1]",
        "Syntax: a line is a JSON object (column 1); write {\"user_id\":\"u1\",\"ts\":\"2026-11-20T10:00:00Z\",…}",
    );
    check_fields(
        r#""category":1"#,
        "Type: `category`: the column is a string, the value is a number (column 55); write \"1\" with quotes",
    );
    check_fields(
        r#""count_of":"31""#,
        "Type: `count_of`: the column is an integer, the value is a string (column 55); write 31 without quotes",
    );
    check_fields(
        r#""count_of":3.5"#,
        "Value: `count_of`: `3.5` is not a whole number (column 55); round it, or send it to a decimal column",
    );
    check_fields(
        r#""count_of":1e30"#,
        "Value: `count_of`: `1e30` is beyond -9223372036854775808 … 9223372036854775807 (column 55); choose a unit in which the numbers are smaller",
    );
    check_fields(
        r#""amount":1.005"#,
        "Value: `amount`: `1.005` has more than 2 digits behind the point (column 53); round it, or send it to a column with more of them",
    );
    check_fields(
        r#""amount":10000"#,
        "Value: `amount`: `10000` has more than 6 digits (column 53); the column is a decimal(6, 2)",
    );
    check_fields(
        r#""amount":1e400"#,
        "Value: `amount`: `1e400` has more than 6 digits (column 53); the column is a decimal(6, 2)",
    );
    check_fields(
        r#""amount":" 1""#,
        "Type: `amount`: ` 1` is not a number (column 53); write digits, as in 31 or -2.50",
    );
    check_fields(
        r#""amount":true"#,
        "Type: `amount`: the column is a decimal(6, 2), the value is true or false (column 53); write a number",
    );
    check_fields(r#""score":1e400"#, "Value: `score`: `1e400` is beyond a float of 64 bits (column 52)");
    check_fields(r#""score":NaN"#, "Syntax: NaN and infinity are not JSON (column 52); leave it out, or write null");
    check_fields(
        r#""gift":"yes""#,
        "Type: `gift`: the column is a boolean, the value is a string (column 51); write true or false",
    );
    check_fields(
        r#""paid_at":[]"#,
        "Type: `paid_at`: the column is a timestamp, the value is a list (column 54); write an RFC 3339 time or milliseconds since 1970",
    );
    check_fields(r#""gift":true,"gift":true"#, "Key: `gift` is given twice (column 56); keep one of them");
    check_fields(r#""user_id":"v""#, "Key: `user_id` is given twice (column 44); keep one of them");
    check_fields(r#""x":1,"y":2,"\u0078":3"#, "Key: `x` is given twice (column 56); keep one of them");
    check_fields(r#""gift":true"#.repeat(2).as_str(), "Syntax: `,` or `}` is expected here (column 55)");
}

#[test]
fn only_the_values_of_dimensions_have_a_limit() {
    let line = |name: &str, bytes: usize| {
        decode(&format!(r#"{{"user_id":"u","ts":1795168800000,"{name}":"{}"}}"#, "v".repeat(bytes)))
    };
    assert!(line("category", TAG_VALUE_BYTES_MAX).starts_with("u @"));
    assert_eq!(
        line("category", TAG_VALUE_BYTES_MAX + 1),
        "Value: `category`: a value of 1025 bytes; a dimension has at most 1024 (column 46); shorten it, or send a hash of it"
    );
    assert!(line("note", 100_000).starts_with("u @"));
}

#[test]
fn lines_do_not_leak_into_each_other() {
    let fact = fact();
    let (mut decoder, mut batch) = (EventDecoder::new(&fact, NOW), UpdateBatch::new());
    let at = r#""ts":1795168800000"#;
    let mut decode = |line: String| decoder.decode(line.as_bytes(), &mut batch).is_ok();
    assert!(decode(format!(r#"{{"user_id":"a",{at},"category":"x","new":1,"event_id":"e","retract":true}}"#)));
    assert!(!decode(format!(r#"{{"user_id":"b",{at},"category":"y","other":2,"gift":7}}"#)));
    assert!(!decode(r#"{"user_id":"c"}"#.to_owned()));
    assert!(decode(format!(r#"{{{at},"gift":true,"user_id":"d"}}"#)));
    assert!(decode(format!(r#"{{"user_id":"e",{at}}}"#)));
    assert_eq!(
        printed(&fact, &batch),
        "a -1795168800000000 #e category=\"x\"{\"new\":1}\nd @1795168800000000 gift=true\ne @1795168800000000"
    );
}

/// What another reader makes of the same line: the columns' values by name.
fn expected(line: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let mut values = Vec::new();
    for column in fact().columns {
        let value = &line[&column.name];
        values.push(match (column.column_type, value) {
            (_, serde_json::Value::Null) => "null".to_owned(),
            (ColumnType::String, value) => value.as_str().expect("text").to_owned(),
            (ColumnType::Integer, value) => value.as_i64().expect("an integer").to_string(),
            (ColumnType::Decimal { .. }, value) => {
                let number = value.as_f64().or_else(|| value.as_str()?.parse().ok()).expect("a number");
                ((number * 100.0).round() as i64).to_string()
            }
            (ColumnType::Float, value) => value.as_f64().expect("a number").to_string(),
            (ColumnType::Boolean, value) => value.as_bool().expect("a boolean").to_string(),
            (ColumnType::Timestamp, value) => (value.as_i64().expect("milliseconds") * 1000).to_string(),
            (ColumnType::Json, value) => value.to_string(),
        });
    }
    values
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        ".{0,8}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
}

fn or_null(value: impl Strategy<Value = serde_json::Value> + 'static) -> BoxedStrategy<serde_json::Value> {
    prop_oneof![1 => Just(json!(null)), 4 => value].boxed()
}

prop_compose! {
    fn line()(
        category in or_null(".{0,12}".prop_map(|text| json!(text))),
        note in or_null("[\\x00-\\x7f\u{e9}\u{1f600}]{0,12}".prop_map(|text| json!(text))),
        count_of in or_null(any::<i64>().prop_map(|number| json!(number))),
        cents in or_null((-999_999i64..=999_999).prop_map(|cents| json!(cents as f64 / 100.0))),
        as_text: bool,
        score in or_null((-1e300..1e300).prop_map(|number: f64| json!(number))),
        gift in or_null(any::<bool>().prop_map(|value| json!(value))),
        paid_at in or_null((0..4_000_000_000_000i64).prop_map(|millis| json!(millis))),
        extra in any_json(),
        undeclared in prop::collection::btree_map("[a-z]{12,14}", any_json(), 0..4),
        user in "[a-z]{1,8}",
        millis in 0..30 * 86_400_000i64,
    ) -> serde_json::Map<String, serde_json::Value> {
        let amount = if as_text && !cents.is_null() { json!(cents.to_string()) } else { cents };
        let declared = json!({
            "user_id": user, "ts": NOW / 1000 - millis, "category": category, "note": note, "count_of": count_of,
            "amount": amount, "score": score, "gift": gift, "paid_at": paid_at, "extra": extra,
        });
        let mut fields = declared.as_object().expect("an object").clone();
        fields.extend(undeclared);
        fields
    }
}

proptest! {
    /// One decoder for many lines, so that what it remembers of one line does not show in another.
    #[test]
    fn agrees_with_another_reader(lines in prop::collection::vec(line(), 1..5)) {
        let fact = fact();
        let (mut decoder, mut batch) = (EventDecoder::new(&fact, NOW), UpdateBatch::new());
        for line in &lines {
            let text = serde_json::to_string(line).expect("JSON");
            decoder.decode(text.as_bytes(), &mut batch).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for (line, user) in lines.iter().zip(batch.users()) {
            prop_assert_eq!(user.user_id, line["user_id"].as_str().expect("text").as_bytes());
            let Some((_, Change::Event(event))) = user.changes().next() else { panic!("an event") };
            prop_assert_eq!(event.head.ts, line["ts"].as_i64().expect("milliseconds") * 1000);
            let values: Vec<String> = event.values().map(|value| match value {
                Value::Null => "null".to_owned(),
                Value::Text(text) => text.to_owned(),
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(value) => value.to_string(),
            }).collect();
            prop_assert_eq!(values, expected(line));
            let kept: serde_json::Map<String, serde_json::Value> = match event.head.undeclared {
                "" => serde_json::Map::new(),
                object => serde_json::from_str(object).expect("a JSON object"),
            };
            let known = |name: &str| super::fields::HEAD.contains(&name) || fact.column(name).is_some();
            prop_assert_eq!(kept, line.clone().into_iter().filter(|(name, _)| !known(name)).collect());
        }
    }

    /// A line that is taken is JSON; no line panics.
    #[test]
    fn takes_only_json(damage in "[{}\\[\\]\",:a-z_0-9u\\\\.-]{0,6}", at in 0usize..120, cut in 0usize..4) {
        let good = r#"{"user_id":"u1","ts":1795168800000,"category":"sho\u0065s","amount":12.50,"gift":true,"extra":{"a":[1]},"x":null}"#;
        let at = at.min(good.len());
        let line = format!("{}{damage}{}", &good[..at], good.get(at + cut..).unwrap_or(""));
        let mut batch = UpdateBatch::new();
        if EventDecoder::new(&fact(), NOW).decode(line.as_bytes(), &mut batch).is_ok() {
            // The other reader refuses numbers beyond a float, which an undeclared field may have.
            let read = serde_json::from_str::<serde_json::Value>(&line);
            let is_json = read.is_ok() || read.is_err_and(|error| error.to_string().contains("number out of range"));
            prop_assert!(is_json, "{}", line);
            prop_assert!(UpdateBatch::from_bytes(batch.as_bytes().to_vec()).is_ok());
        }
    }
}
