use super::*;
use crate::decode::{EventDecoder, TagDecoder};
use engine::catalog::{Activity, Column, ColumnType, TagType, Unit, Zone};
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch};

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

pub(super) fn fact() -> Fact {
    let columns = [
        ("category", ColumnType::String),
        ("count_of", ColumnType::Integer),
        ("amount", ColumnType::Decimal { precision: 6, scale: 2 }),
        ("score", ColumnType::Float),
        ("gift", ColumnType::Boolean),
        ("paid_at", ColumnType::Timestamp),
        ("extra", ColumnType::Json),
        ("more", ColumnType::Json),
    ];
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: columns.map(|(name, column_type)| Column { name: name.to_owned(), column_type }).into(),
        activity: Activity { dimensions: vec![0], measures: vec![2] },
        retention_days: Some(400),
        deduplicate_days: Some(30),
        zone: Zone::default(),
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, tag_type) in [
        ("gender", TagType::Enum),
        ("age", TagType::Number(Unit::Integer)),
        ("seen_at", TagType::Number(Unit::Timestamp)),
        ("interest", TagType::Set),
        ("is_member", TagType::Flag),
    ] {
        catalog.declare(name, tag_type).expect("good names");
    }
    catalog
}

const CONTEXT: RecordContext<'static> = RecordContext {
    key: Some(b"k\"1\\\n"),
    timestamp_ms: Some(1_795_168_800_000),
    partition: "shop/orders/7",
    offset: 18_446_744_073_709_551_615,
};

pub(super) fn at(path: &str) -> MappedField {
    MappedField::path(path)
}

fn cast(path: &str, cast: Cast) -> MappedField {
    MappedField { cast: Some(cast), ..at(path) }
}

fn unit(path: &str, unit: TimeUnit) -> MappedField {
    MappedField { unit: Some(unit), ..at(path) }
}

fn default(path: &str, json: &str) -> MappedField {
    MappedField { default: Some(json.to_owned()), ..at(path) }
}

/// To the fact, the user and the time besides the fields.
pub(super) fn event(fields: &[(&str, MappedField)]) -> FactMapping {
    let mut definition = FactMapping::default();
    for (name, field) in [("user_id", at("u"))].iter().chain(fields) {
        definition.fields.push(((*name).to_owned(), field.clone()));
    }
    definition
}

fn where_(path: &str, test: Test) -> FactMapping {
    let conditions = vec![Condition::Field { path: path.to_owned(), test }];
    FactMapping { conditions, ..event(&[]) }
}

/// The line of a record, or why there is none.
fn apply(mapping: &mut Mapping, record: &str, context: &RecordContext<'_>) -> String {
    let mut line = String::from("of before");
    match mapping.apply(record.as_bytes(), context, &mut line) {
        Ok(Mapped::Line) => line,
        Ok(Mapped::FilteredOut) => "filtered out".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind),
    }
}

fn mapped(definition: &FactMapping, record: &str) -> String {
    let mut mapping = Mapping::to_fact(definition, &fact()).expect("a mapping that can be");
    let line = apply(&mut mapping, record, &CONTEXT);
    // What was remembered of one record does not show in another.
    apply(&mut mapping, r#"{"a":{"b":[{"c":1}]},"x":"y","status":"paid"}"#, &RecordContext::default());
    assert_eq!(apply(&mut mapping, record, &CONTEXT), line);
    line
}

/// One column of a record of user `"v"`, as the line has it.
#[track_caller]
fn check_field(name: &str, field: MappedField, fields: &str, expected: &str) {
    let line =
        mapped(&event(&[("ts", MappedField::path("t")), (name, field)]), &format!(r#"{{"u":"v","t":1,{fields}}}"#));
    let member = line.strip_prefix(r#"{"user_id":"v","ts":1"#).and_then(|rest| rest.strip_suffix('}'));
    assert_eq!(member.unwrap_or(&line), expected, "{fields}");
}

#[track_caller]
fn check_refused(definition: &FactMapping, expected: &str) {
    let error = Mapping::to_fact(definition, &fact()).expect_err("a mapping that cannot be");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_record_becomes_the_line_of_an_event() {
    let mut definition = event(&[
        ("ts", unit("created_at", TimeUnit::Seconds)),
        ("event_id", at("order.id")),
        ("category", default("item.kind", "\"other\"")),
        ("amount", cast("item.price", Cast::Number)),
        ("gift", MappedField::constant(" true ")),
    ]);
    definition.fields[0].1 = at("customer.id");
    let record = r#" {"customer":{"name":"A","id":"u\u0031"}, "created_at":1795168800, "order":{"id":17},
        "item":{"price":"12.50","kind":null}, "status":"paid"} "#;
    let line =
        r#"{"user_id":"u\u0031","ts":1795168800000,"event_id":17,"category":"other","amount":12.50,"gift": true }"#;
    assert_eq!(mapped(&definition, record), line);

    let mut batch = UpdateBatch::new();
    EventDecoder::new(&fact(), NOW).decode(line.as_bytes(), &mut batch).expect("a line of ours");
    let user = batch.users().next().expect("one");
    assert_eq!(user.user_id, b"u1");
    let Some((_, Change::Event(event))) = user.changes().next() else { panic!("an event") };
    assert_eq!((event.head.ts, event.head.event_id), (NOW, "17"));
}

#[test]
fn a_record_becomes_the_line_of_a_user() {
    let fields = |fields: &[(&str, MappedField)]| -> Vec<(String, MappedField)> {
        fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect()
    };
    let mut definition = TagMapping {
        user_id: Some(at("$key")),
        set: fields(&[
            ("gender", at("profile.sex")),
            ("age", cast("profile.age", Cast::Number)),
            ("seen_at", unit("seen", TimeUnit::Microseconds)),
        ]),
        add: fields(&[("interest", cast("likes", Cast::String))]),
        remove: fields(&[("interest", at("dislikes"))]),
        unset: vec!["is_member".to_owned()],
        unset_nulls: false,
        conditions: Vec::new(),
    };
    let line = |definition: &TagMapping, record: &str| {
        let mut mapping = Mapping::to_tags(definition, &catalog()).expect("a mapping that can be");
        let line = apply(&mut mapping, record, &CONTEXT);
        TagDecoder::new(&catalog()).decode(line.as_bytes(), &mut UpdateBatch::new()).expect("a line of ours");
        line
    };
    let full = r#"{"profile":{"sex":"f","age":"31"},"likes":["yoga",7],"dislikes":"golf","seen":1795168800000123}"#;
    assert_eq!(
        line(&definition, full),
        r#"{"user_id":"k\"1\\\u000a","set":{"gender":"f","age":31,"seen_at":1795168800000.123},"remove":{"interest":"golf"},"add":{"interest":["yoga","7"]},"unset":["is_member"]}"#
    );
    let sparse = r#"{"profile":{"sex":null},"likes":null}"#;
    assert_eq!(
        line(&definition, sparse),
        r#"{"user_id":"k\"1\\\u000a","set":{},"remove":{},"add":{},"unset":["is_member"]}"#
    );
    definition.unset_nulls = true;
    definition.set[1].1.default = Some("18".to_owned());
    definition.unset.clear();
    assert_eq!(
        line(&definition, sparse),
        r#"{"user_id":"k\"1\\\u000a","set":{"gender":null,"age":18,"seen_at":null},"remove":{},"add":{}}"#
    );
}

#[test]
fn paths_lead_to_members_and_items() {
    let check = |path: &str, expected: &str| {
        let record = r#""a":{"b.c":[{"d":1},[2,{"d":3}],"x"],"":{"\"":4}},"$set":5,"e":{}"#;
        let expected = if expected.is_empty() { String::new() } else { format!(",\"extra\":{expected}") };
        check_field("extra", at(path), record, &expected);
    };
    check(r#"a."b.c""#, r#"[{"d":1},[2,{"d":3}],"x"]"#);
    check(r#"a."b.c"[0].d"#, "1");
    check(r#"a."b.c"[1][1].d"#, "3");
    check(r#"a."b.c"[2]"#, r#""x""#);
    check(r#"a."b.c"[3]"#, "");
    check(r#"a."b.c"[2].d"#, "");
    check(r#"a."b.c".d"#, "");
    check("a[0]", "");
    check("e[0].a", "");
    check(r#"a.""."\"""#, "4");
    check(r#""$set""#, "5");
    check("e", "{}");
    check("nowhere.at.all", "");
}

#[test]
fn one_value_may_go_to_several_places() {
    let definition = event(&[("ts", at("t")), ("extra", at("a")), ("more", at("a.b")), ("category", at("a.b"))]);
    let line = r#"{"user_id":1,"ts":2,"extra":{ "b" : "c" },"more":"c","category":"c"}"#;
    assert_eq!(mapped(&definition, r#"{"u":1,"t":2,"a":{ "b" : "c" }}"#), line);
}

#[test]
fn what_belongs_to_a_record_has_paths() {
    let definition = event(&[
        ("event_id", at("$offset")),
        ("category", at("$topic")),
        ("extra", at("$record")),
        ("count_of", at("$partition")),
        ("more", cast("$offset", Cast::String)),
    ]);
    assert_eq!(
        mapped(&definition, r#" {"u":"v"} "#),
        r#"{"user_id":"v","event_id":18446744073709551615,"category":"shop/orders","extra":{"u":"v"},"count_of":7,"more":"18446744073709551615","ts":1795168800000}"#
    );
    let mut definition = event(&[("ts", at("[1]")), ("category", at("$partition")), ("extra", at("$topic"))]);
    definition.fields[0].1 = at("[0]");
    let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
    let context = RecordContext { partition: "file.ndjson", ..RecordContext::default() };
    assert_eq!(apply(&mut mapping, "[7,8]", &context), r#"{"user_id":7,"ts":8,"category":"file.ndjson"}"#);
    definition.fields[0].1 = at("$record");
    definition.fields[1].1 = at("$timestamp");
    let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
    assert_eq!(
        apply(&mut mapping, "\"v\"", &context),
        "EventTime: `ts`: the record has no `$timestamp`; map `ts` to what every record has, or leave such records out with `where`"
    );
}

#[test]
fn missing_fields_and_nulls() {
    check_field("category", at("a.b"), r#""a":{"b":null}"#, "");
    check_field("category", at("a.b"), r#""a":null"#, "");
    check_field("category", at("a.b"), r#""a":{}"#, "");
    check_field("category", default("a", "\"o\""), r#""b":1"#, r#","category":"o""#);
    check_field("category", default("a", "null"), r#""a":null"#, r#","category":null"#);
    check_field("category", default("a", "\"o\""), r#""a":"b""#, r#","category":"b""#);
    let instead = "map `user_id` to what every record has, or leave such records out with `where`";
    assert_eq!(mapped(&event(&[]), "{}"), format!("UserId: `user_id`: the record has no `u`; {instead}"));
    assert_eq!(mapped(&event(&[]), r#"{"u":null}"#), format!("UserId: `user_id`: `u` is null (column 6); {instead}"));
    assert_eq!(mapped(&event(&[]), "[]"), format!("UserId: `user_id`: the record has no `u`; {instead}"));
    assert_eq!(
        mapped(&event(&[("ts", at("t"))]), r#"{"u":1}"#),
        "EventTime: `ts`: the record has no `t`; map `ts` to what every record has, or leave such records out with `where`"
    );
}

#[test]
fn casts_are_exact_or_refused() {
    let number = |value: &str, expected: &str| {
        check_field("amount", cast("a", Cast::Number), &format!("\"a\":{value}"), expected);
    };
    number("\"12.50\"", ",\"amount\":12.50");
    number("\"\\u0031e-1\"", ",\"amount\":1e-1");
    number("12.50", ",\"amount\":12.50");
    number("true", ",\"amount\":1");
    number("[\"1\",2,null,false]", ",\"amount\":[1,2,null,0]");
    for text in ["", " 1", "1 ", "1,5", "NaN", "0x1", "+1", "01", "1\\u0000"] {
        let shown = text.replace("\\u0000", "\0");
        number(
            &format!("\"{text}\""),
            &format!(
                "Type: `amount`: `{shown}` is not a number (column 20); only text such as 31 or -2.50 can become one"
            ),
        );
    }
    number(
        "{\"b\":1}",
        "Type: `amount`: an object cannot become a number (column 20); map a value inside `a`, or leave `type` out",
    );
    number(
        "[1, [2]]",
        "Type: `amount`: a list cannot become a number (column 24); map a value inside `a`, or leave `type` out",
    );

    let string = |value: &str, expected: &str| {
        check_field("category", cast("a", Cast::String), &format!("\"a\":{value}"), expected);
    };
    string("17", r#","category":"17""#);
    string("-1.50E3", r#","category":"-1.50E3""#);
    string("true", r#","category":"true""#);
    string(r#""a\"b""#, r#","category":"a\"b""#);
    string("[ 1 , \"a\" ]", r#","category":["1","a"]"#);
    string("[]", r#","category":[]"#);

    let boolean = |value: &str, expected: &str| {
        check_field("gift", cast("a", Cast::Boolean), &format!("\"a\":{value}"), expected);
    };
    for (value, expected) in [("true", true), ("0", false), ("1", true), ("\"False\"", false), ("\"1\"", true)] {
        boolean(value, &format!(",\"gift\":{expected}"));
    }
    boolean(
        "\"yes\"",
        "Type: `gift`: `yes` is not true or false (column 20); only true, false, 1 and 0 can become one",
    );
    boolean("1.0", "Type: `gift`: `1.0` is not true or false (column 20); only true, false, 1 and 0 can become one");
}

#[test]
fn units_are_of_numbers() {
    let seconds = |cast| MappedField { cast, ..unit("a", TimeUnit::Seconds) };
    check_field("paid_at", seconds(None), r#""a":17.25"#, r#","paid_at":17.25e3"#);
    check_field("paid_at", seconds(None), r#""a":"2026-11-20""#, r#","paid_at":"2026-11-20""#);
    check_field("paid_at", seconds(Some(Cast::Number)), r#""a":"17""#, r#","paid_at":17000"#);
    check_field("paid_at", unit("a", TimeUnit::Milliseconds), r#""a":17.25"#, r#","paid_at":17.25"#);
    check_field("paid_at", unit("a", TimeUnit::Microseconds), r#""a":1725"#, r#","paid_at":1.725"#);
}

#[test]
fn other_fields_stay_if_wanted() {
    let mut definition =
        event(&[("category", at("item.kind")), ("extra", at("raw")), ("gift", MappedField::constant("true"))]);
    definition.conditions.push(Condition::Field { path: "status".to_owned(), test: Test::Exists(true) });
    definition.keep_others = true;
    let record = r#"{"u":"v", "item":{"kind":"k"} ,"raw":1,"status": 2,"category":3,"ts":4,"gift":5,"user_id":6,"n\u0065w":[7], "amount":8}"#;
    assert_eq!(
        mapped(&definition, record),
        r#"{"user_id":"v","category":"k","extra":1,"gift":true,"ts":1795168800000,"item":{"kind":"k"},"status": 2,"n\u0065w":[7],"amount":8}"#
    );
    definition.keep_others = false;
    assert_eq!(
        mapped(&definition, record),
        r#"{"user_id":"v","category":"k","extra":1,"gift":true,"ts":1795168800000}"#
    );
}

#[test]
fn conditions_hold_or_not() {
    let json = |text: &str| text.to_owned();
    let holds =
        |path: &str, test: Test, fields: &str| match mapped(&where_(path, test), &format!(r#"{{"u":1{fields}}}"#))
            .as_str()
        {
            "filtered out" => false,
            line => line.starts_with('{') || panic!("{line}"),
        };
    let check = |test: Test, values: &[&str], others: &[&str]| {
        let fields = |value: &str| if value.is_empty() { String::new() } else { format!(",\"a\":{value}") };
        for value in values {
            assert!(holds("a", test.clone(), &fields(value)), "{test:?} {value}");
        }
        for value in others {
            assert!(!holds("a", test.clone(), &fields(value)), "{test:?} {value}");
        }
    };
    check(Test::Equals(json("\"p\\u0061id\"")), &["\"paid\"", "\"pa\\u0069d\""], &["\"Paid\"", "1", "null", ""]);
    check(Test::Equals(json("1.0")), &["1", "10e-1", "1.00"], &["1.1", "-1", "\"1\"", "true", "[1]", "null", ""]);
    check(Test::Equals(json("true")), &["true"], &["false", "1", "\"true\"", "{}", "null", ""]);
    check(Test::NotEquals(json("\"test\"")), &["\"x\"", "1", "null", "", "[]"], &["\"test\""]);
    let list = vec![json("\"b\""), json("20"), json("false"), json("\"a\""), json("-3")];
    check(Test::In(list.clone()), &["\"a\"", "\"b\"", "2e1", "-3", "false"], &["\"c\"", "3", "true", "null", "", "[]"]);
    check(Test::NotIn(list), &["\"c\"", "3", "true", "null", "", "[]"], &["\"a\"", "\"b\"", "2e1", "-3", "false"]);
    check(Test::Exists(true), &["1", "null", "{}"], &[""]);
    check(Test::Exists(false), &[""], &["1", "null", "{}"]);
    check(Test::IsNull(true), &["null", ""], &["0", "\"\"", "[]"]);
    check(Test::IsNull(false), &["0", "\"\"", "[]"], &["null", ""]);
    let compare = |comparison, value: &str| Test::Compare(comparison, json(value));
    check(compare(Comparison::Less, "10"), &["9.99", "-1e9"], &["10", "1e2", "null", ""]);
    check(compare(Comparison::LessOrEqual, "10"), &["10.0", "2"], &["10.000000000000000000001", ""]);
    check(compare(Comparison::Greater, "10"), &["100"], &["10", "9", "null"]);
    check(compare(Comparison::GreaterOrEqual, "9007199254740993"), &["9007199254740993"], &["9007199254740992"]);
    check(compare(Comparison::GreaterOrEqual, "\"2026-01\""), &["\"2026-01-01\"", "\"2026-01\""], &["\"2025\"", ""]);
    assert!(holds("$topic", Test::Equals(json("\"shop/orders\"")), ""));
    assert!(holds("$offset", compare(Comparison::Greater, "5"), ""));

    // All of them must hold, and they are asked before the line is made.
    let mut both = where_("a", Test::Exists(true));
    both.conditions.extend(where_("b", Test::Exists(true)).conditions);
    assert_eq!(mapped(&both, r#"{"a":1}"#), "filtered out");
    assert!(mapped(&both, r#"{"a":1,"b":1}"#).starts_with("UserId: `user_id`: the record has no `u`"));
}

#[test]
fn comparing_different_kinds_is_an_error() {
    let less = |value: &str| where_("a.b", Test::Compare(Comparison::Less, value.to_owned()));
    assert_eq!(
        mapped(&less("10"), r#"{"u":1,"a":{"b":"9"}}"#),
        "Type: `where[0]`: `a.b` is a string, and `10` a number (column 17); compare a field that is a number in every record that has it"
    );
    assert_eq!(
        mapped(&less("\"10\""), r#"{"u":1,"a":{"b":9}}"#),
        "Type: `where[0]`: `a.b` is a number, and `10` a string (column 17); compare a field that is a string in every record that has it"
    );
}

#[test]
fn records_that_cannot_be_read_are_refused() {
    let definition = event(&[("extra", at("a.b"))]);
    let check = |record: &str, expected: &str| assert_eq!(mapped(&definition, record), expected, "{record}");
    check(r#"{"u":1,"a":{},"\u0061":2}"#, "Key: `a` is given twice (column 15); keep one of them");
    check(r#"{"u":1,"a":{"b":1,"c":2,"b":1}}"#, "Key: `a.b` is given twice (column 25); keep one of them");
    check(r#"{"u":1,"x":1,"x":2}"#, r#"{"user_id":1,"ts":1795168800000}"#);
    let whole = "one whole JSON object stands on each line";
    check("", &format!("Syntax: the line ends in the middle of a value (column 1); {whole}"));
    check(r#"{"u":1"#, &format!("Syntax: the line ends in the middle of a value (column 7); {whole}"));
    check(r#"{"u":1} {}"#, "Syntax: more text behind the value (column 9); one JSON object stands on each line");
    check(r#"{"u":NaN}"#, "Syntax: NaN and infinity are not JSON (column 6); leave it out, or write null");

    let mut mapping = Mapping::to_fact(&event(&[("category", at("$key"))]), &fact()).expect("a mapping that can be");
    let context = RecordContext { key: Some(b"\xff"), timestamp_ms: Some(1), ..RecordContext::default() };
    assert_eq!(
        apply(&mut mapping, r#"{"u":1}"#, &context),
        "Syntax: the record's key is not UTF-8; map a field of the record instead of `$key`"
    );
    let error = mapping.apply(b"{\"u\":\"\xff\"}", &CONTEXT, &mut String::new()).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "the line is not UTF-8 (column 7); send UTF-8");

    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"a\":{\"b\":", "}}"), ("[{\"a\":", "}]")] {
        for depth in [40, 100_000] {
            let deep = format!("{{\"u\":1,\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
            let error = mapped(&definition, &deep);
            assert!(error.starts_with("Syntax: more than 32 levels of nesting"), "{error}");
        }
    }
}

#[test]
fn errors_about_the_line_are_found_in_the_record() {
    let definition = FactMapping { keep_others: true, ..event(&[("amount", cast("item.price", Cast::Number))]) };
    let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
    let mut decoder = EventDecoder::new(&fact(), NOW);
    let mut column = |record: &str| {
        let mut line = String::new();
        assert_eq!(mapping.apply(record.as_bytes(), &CONTEXT, &mut line), Ok(Mapped::Line));
        let error = decoder.decode(line.as_bytes(), &mut UpdateBatch::new()).expect_err("a bad value");
        mapping.in_record(error).column
    };
    assert_eq!(column(r#"{"item":{"price":"1.005"},"u":"v"}"#), Some(18));
    assert_eq!(column(r#"{"item":{"price":1},"u":""}"#), Some(25));
    assert_eq!(column(r#"{"x":1,"u":"v","count_of":1.5}"#), Some(27));
    assert_eq!(column(r#"{"x":1,"u":"v","x":2}"#), Some(16));
    let mapping = Mapping::to_fact(&event(&[]), &fact()).expect("a mapping that can be");
    let elsewhere = LineError {
        kind: crate::decode::LineErrorKind::Key,
        message: String::new(),
        column: Some(9),
        suggestion: None,
    };
    assert_eq!(mapping.in_record(elsewhere).column, None);
}

#[test]
fn mappings_that_cannot_be_are_refused() {
    let field = |name: &str, field: MappedField| event(&[(name, field)]);
    check_refused(
        &FactMapping::default(),
        "`map`: `user_id` is not mapped; write which field has it, as in `user_id: customer.id`, or `user_id: $key`",
    );
    check_refused(&field("amonut", at("a")), "`map.amonut`: the fact has no column `amonut`; did you mean `amount`?");
    check_refused(
        &field("colour", at("a")),
        "`map.colour`: the fact has no column `colour`; declare it in the catalog first",
    );
    check_refused(&event(&[("gift", at("a")), ("gift", at("b"))]), "`map.gift`: it is mapped twice; keep one of them");
    check_refused(
        &field("gift", at("a..b")),
        "`map.gift`: the path `a..b`: a field is expected here (column 3); write a.b, a[0].b, or a.\"b.c\" if a key has other characters",
    );
    check_refused(
        &field("category", cast("a", Cast::Number)),
        "`map.category`: it does not take a number; the column is a string; write `type: string`, or leave `type` out",
    );
    check_refused(
        &field("amount", unit("a", TimeUnit::Seconds)),
        "`map.amount`: `unit` is for times; the column is a decimal(6, 2); leave `unit` out",
    );
    check_refused(
        &field("amount", MappedField::constant("1.005")),
        "`map.amount.value`: `1.005` has more than 2 digits behind the point; round it, or send it to a column with more of them",
    );
    check_refused(
        &field("category", default("a", "1")),
        "`map.category.default`: the column is a string, the value is a number; write \"1\" with quotes",
    );
    check_refused(
        &field("category", MappedField::constant("web")),
        "`map.category.value`: the JSON `web`: a value is expected here (column 1); text stands in double quotes",
    );
    check_refused(
        &field("category", MappedField::constant("\"a\",\"user_id\":\"x\"")),
        "`map.category.value`: the JSON `\"a\",\"user_id\":\"x\"`: more text behind the value (column 4); one JSON object stands on each line",
    );
    check_refused(
        &field("category", MappedField { cast: Some(Cast::String), ..MappedField::constant("\"a\"") }),
        "`map.category`: a constant is written as it is; leave `default`, `type` and `unit` out",
    );
    check_refused(
        &field("ts", default("a", "0")),
        "`map.ts.default`: all these events would have the same time; map `ts` to a path, or leave it out for the record's own time",
    );
    check_refused(
        &event(&[("retract", MappedField::constant("1"))]),
        "`map.retract.value`: `retract` cannot be a number; write true or false",
    );
    let error = Mapping::to_fact(&field("event_id", at("a")), &Fact { deduplicate_days: None, ..fact() });
    assert_eq!(
        error.expect_err("no ids").to_string(),
        "`map.event_id`: the fact does not know its events by their ids; declare it with `deduplicate: 30 days`, or leave this out"
    );

    check_refused(
        &where_("a b", Test::Exists(true)),
        "`where[0]`: the path `a b`: this character stands in a path only inside double quotes (column 2); write \"a b\" for a key that has it",
    );
    check_refused(
        &where_("a", Test::Equals("null".to_owned())),
        "`where[0]`: null equals nothing; ask whether the field `is_null`",
    );
    check_refused(
        &where_("a", Test::In(Vec::new())),
        "`where[0]`: a list without values; write at least one, as in [paid, shipped]",
    );
    check_refused(
        &where_("a", Test::Equals("[1]".to_owned())),
        "`where[0]`: a field cannot be compared with a list; write a string, a number, true or false",
    );
    check_refused(
        &where_("a", Test::Compare(Comparison::Less, "true".to_owned())),
        "`where[0]`: true and false have no order; compare with a number or a string, or say which value it equals",
    );

    let tags = |definition: TagMapping| {
        let definition = TagMapping { user_id: definition.user_id.or(Some(at("u"))), ..definition };
        Mapping::to_tags(&definition, &catalog()).expect_err("a mapping that cannot be").to_string()
    };
    let one = |name: &str, field: MappedField| vec![(name.to_owned(), field)];
    let none = TagMapping::default;
    assert!(
        Mapping::to_tags(&none(), &catalog()).expect_err("no user").to_string().starts_with("`map`: `user_id` is not")
    );
    assert_eq!(
        tags(TagMapping { set: one("gendre", at("a")), ..none() }),
        "`map.set.gendre`: there is no tag `gendre`; did you mean `gender`?"
    );
    assert_eq!(
        tags(TagMapping { add: one("gender", at("a")), ..none() }),
        "`map.add.gender`: the tag is an enum; `add` is for sets; map it in `set`"
    );
    assert_eq!(
        tags(TagMapping { unset: vec!["shoe".to_owned()], ..none() }),
        "`map.unset`: there is no tag `shoe`; declare it in the catalog first"
    );
    assert_eq!(
        tags(TagMapping { unset: vec!["age".to_owned(), "age".to_owned()], ..none() }),
        "`map.unset.age`: it is mapped twice; keep one of them"
    );
    assert_eq!(
        tags(TagMapping { set: one("age", MappedField::constant("\"x\"")), ..none() }),
        "`map.set.age.value`: the tag is a number, the value is a string; write a number without quotes, or null to unset it"
    );
    assert_eq!(
        tags(TagMapping { set: one("is_member", cast("a", Cast::Number)), ..none() }),
        "`map.set.is_member`: it does not take a number; the tag is a flag; write `type: boolean`, or leave `type` out"
    );
    assert_eq!(
        tags(TagMapping { user_id: Some(MappedField::constant("\"\"")), ..none() }),
        "`map.user_id.value`: the user id is empty"
    );
}
