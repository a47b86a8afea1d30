use super::*;
use apache_avro::schema::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Days, Decimal, Duration, Millis, Months, Uuid};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::sync::Mutex;

fn encoded(schema: &Json, value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(&schema.to_string()).unwrap_or_else(|error| panic!("{schema}: {error}"));
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    writer.write_value_to_vec(value).expect("written")
}

fn reader(schema: &Json) -> AvroReader {
    let schema = AvroSchema::parse(&schema.to_string(), &[]).unwrap_or_else(|error| panic!("{schema}: {error}"));
    AvroReader::new(&AvroFormat::Schema(Arc::new(schema)))
}

fn line(schema: &Json, record: &[u8]) -> Result<String, LineError> {
    let mut reader = reader(schema);
    reader.line(record).map(|line| String::from_utf8(line.to_vec()).expect("text"))
}

/// A record with one field.
fn record(field_type: &Json) -> Json {
    json!({"type": "record", "name": "R", "namespace": "a.b", "fields": [{"name": "x", "type": field_type}]})
}

#[track_caller]
fn check(field_type: Json, value: Value, expected: &str) {
    let schema = record(&field_type);
    let bytes = encoded(&schema, Value::Record(vec![("x".to_owned(), value)]));
    assert_eq!(line(&schema, &bytes).expect("read"), format!("{{\"x\":{expected}}}"), "{field_type}");
}

#[test]
fn logical_types_are_what_they_mean() {
    let long = |logical: &str| json!({"type": "long", "logicalType": logical});
    let int = |logical: &str| json!({"type": "int", "logicalType": logical});
    check(int("date"), Value::Date(0), "\"1970-01-01T00:00:00Z\"");
    check(int("date"), Value::Date(20_777), "\"2026-11-20T00:00:00Z\"");
    check(int("date"), Value::Date(-1), "\"1969-12-31T00:00:00Z\"");
    check(int("time-millis"), Value::TimeMillis(36_000_125), "\"10:00:00.125\"");
    check(long("time-micros"), Value::TimeMicros(1), "\"00:00:00.000001\"");
    check(long("timestamp-millis"), Value::TimestampMillis(1_795_168_800_000), "\"2026-11-20T10:00:00Z\"");
    check(long("timestamp-millis"), Value::TimestampMillis(-1), "\"1969-12-31T23:59:59.999Z\"");
    check(long("timestamp-micros"), Value::TimestampMicros(1_500_001), "\"1970-01-01T00:00:01.500001Z\"");
    check(long("timestamp-nanos"), Value::TimestampNanos(1), "\"1970-01-01T00:00:00.000000001Z\"");
    check(long("local-timestamp-micros"), Value::LocalTimestampMicros(0), "\"1970-01-01T00:00:00Z\"");
    check(long("timestamp-millis"), Value::TimestampMillis(i64::MAX), "\"9223372036854775807/1000 s since 1970\"");
    let uuid = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);
    let fixed =
        |size: usize, logical: &str| json!({"type": "fixed", "name": "F", "size": size, "logicalType": logical});
    check(json!({"type": "string", "logicalType": "uuid"}), Value::Uuid(uuid), &format!("\"{uuid}\""));
    check(fixed(16, "uuid"), Value::Uuid(uuid), &format!("\"{uuid}\""));
    let duration = Duration::new(Months::new(1), Days::new(2), Millis::new(3_004));
    check(fixed(12, "duration"), Value::Duration(duration), "\"P1M2DT3.004S\"");
    // Nothing that is known: the type itself.
    check(json!({"type": "int", "logicalType": "moon-phase"}), Value::Int(7), "7");
    check(json!({"type": "int", "logicalType": "timestamp-millis"}), Value::Int(7), "7");
}

#[test]
fn plain_types_are_what_they_are() {
    check(json!("null"), Value::Null, "null");
    check(json!("boolean"), Value::Boolean(true), "true");
    check(json!("long"), Value::Long(i64::MIN), "-9223372036854775808");
    check(json!("float"), Value::Float(0.1), "0.1");
    check(json!("double"), Value::Double(f64::NAN), "\"NaN\"");
    check(json!("bytes"), Value::Bytes(vec![0, 0xff]), "\"00ff\"");
    check(json!("string"), Value::String("a\"ü".to_owned()), "\"a\\\"ü\"");
    check(json!({"type": "enum", "name": "E", "symbols": ["A", "B"]}), Value::Enum(1, "B".to_owned()), "\"B\"");
    check(json!(["null", "int"]), Value::Union(1, Box::new(Value::Int(-3))), "-3");
    check(json!(["null", "int"]), Value::Union(0, Box::new(Value::Null)), "null");
    check(json!({"type": "array", "items": "int"}), Value::Array(vec![Value::Int(1), Value::Int(2)]), "[1,2]");
    check(json!({"type": "array", "items": "null"}), Value::Array(vec![]), "[]");
}

#[test]
fn types_may_contain_themselves_and_have_names() {
    let node = json!({"type": "record", "name": "Node", "fields": [
        {"name": "next", "type": ["null", "Node"]}, {"name": "colour", "type": {"type": "enum", "name": "c.Colour", "symbols": ["RED"]}},
        {"name": "again", "type": "c.Colour"}]});
    // next: next: null, then RED RED, then RED RED.
    assert_eq!(
        line(&node, &[2, 0, 0, 0, 0, 0]).expect("read"),
        "{\"next\":{\"next\":null,\"colour\":\"RED\",\"again\":\"RED\"},\"colour\":\"RED\",\"again\":\"RED\"}"
    );
    let deep = [[2; 100].as_slice(), &[0; 300]].concat();
    assert!(line(&node, &deep).expect_err("too deep").message.contains("deeper than 64"));
    let reference = json!({"type": "record", "name": "x.Money", "fields": [{"name": "cents", "type": "int"}]});
    let schema = json!({"type": "record", "name": "x.Order", "fields": [{"name": "paid", "type": "Money"}]});
    let schema = AvroSchema::parse(&schema.to_string(), &[reference.to_string()]).expect("known by reference");
    let mut reader = AvroReader::new(&AvroFormat::Schema(Arc::new(schema)));
    assert_eq!(reader.line(&[14]).expect("read"), b"{\"paid\":{\"cents\":7}}");
}

#[test]
fn what_is_no_schema_is_told() {
    for (text, says) in [
        ("{", "EOF"),
        ("\"int\"", "must be a record"),
        ("{\"type\":\"record\",\"fields\":[]}", "without `name`"),
        (
            "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"x\",\"type\":\"strin\"}]}",
            "`x`: there is no type `strin`",
        ),
        (
            "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"x\",\"type\":[[\"int\"]]}]}",
            "directly in a union",
        ),
        (
            "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"x\",\"type\":{\"type\":\"fixed\",\"name\":\"R\",\"size\":1}}]}",
            "taken",
        ),
    ] {
        let error = AvroSchema::parse(text, &[]).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn damage_is_told_with_its_field() {
    let schema = json!({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": {"type": "record", "name": "S", "fields": [{"name": "b", "type": "string"}]}}]});
    let said = |bytes: &[u8]| line(&schema, bytes).expect_err("damaged");
    let error = said(&[20, b'x']);
    assert_eq!(
        error.to_string(),
        "`a.b`: the record ends where 10 bytes were to come (column 2); it is damaged, or was written with another schema"
    );
    assert!(said(&[1]).message.contains("a length cannot be -1"));
    assert!(said(&[2, 0xff]).message.contains("not UTF-8"));
    assert!(said(&[0, 0, 0]).message.contains("2 bytes behind"));
    assert!(said(&[0xff; 11]).message.contains("longer than 64 bits"));
    assert!(said(&[]).message.contains("ends"));
    // A few bytes that stand for very many values.
    let nulls = record(&json!({"type": "array", "items": "null"}));
    let many = [[0xfe, 0xff, 0xff, 0xff, 0xff, 0x0f].as_slice(), &[0]].concat();
    assert_eq!(line(&nulls, &many).expect_err("too many").kind, LineErrorKind::TooLong);
    let wide = record(&json!({"type": "bytes", "logicalType": "decimal", "precision": 9}));
    let record = [[0x82, 0x02].as_slice(), &[1; 129]].concat();
    assert!(line(&wide, &record).expect_err("too wide").message.contains("129 bytes"));
}

#[test]
fn fingerprints_are_those_of_others() {
    let schema = json!({"type": "record", "name": "R", "namespace": "a.b", "doc": "?", "aliases": ["Q"], "fields": [
        {"name": "x", "type": {"type": "string", "logicalType": "uuid"}, "doc": "?", "order": "ignore"},
        {"name": "y", "type": ["null", {"type": "array", "items": {"type": "map", "values": "long"}}]},
        {"name": "z", "type": {"type": "fixed", "size": 12, "name": "F", "logicalType": "decimal", "precision": 9}},
        {"name": "v", "type": {"type": "enum", "name": "other.E", "symbols": ["A", "B"]}},
        {"name": "w", "type": ["F", "other.E", "R"]}]});
    let of = |schema: &Json| AvroSchema::parse(&schema.to_string(), &[]).expect("a schema").fingerprint();
    // By fastavro 1.12; the library of Rust keeps `order` and `precision`, which the specification strips.
    assert_eq!(of(&schema).to_le_bytes(), [0x32, 0x0c, 0x32, 0xdf, 0x63, 0x06, 0xb5, 0x2f]);
    let plain = record(&json!(["null", {"type": "array", "items": "int"}]));
    let theirs = Schema::parse_str(&plain.to_string()).expect("a schema").fingerprint::<apache_avro::rabin::Rabin>();
    assert_eq!(of(&plain).to_le_bytes().as_slice(), theirs.bytes);
    let framed = [&SINGLE_OBJECT_MAGIC[..], &theirs.bytes].concat();
    assert_eq!(without_head(&[&framed[..], b"rest"].concat(), of(&plain)), b"rest");
    assert_eq!(without_head(&framed, of(&schema)), framed);
}

#[derive(Debug, Default)]
struct Shelf {
    asked: Mutex<Vec<u32>>,
}

impl SchemaSource for Shelf {
    fn fetch(&self, id: u32) -> Result<RegisteredSchema, FetchError> {
        self.asked.lock().expect("nobody panicked").push(id);
        match id {
            7 => Ok(RegisteredSchema { text: record(&json!("int")).to_string(), references: Vec::new() }),
            8 => Ok(RegisteredSchema { text: "\"int\"".to_owned(), references: Vec::new() }),
            9 => Err(FetchError::Unavailable("the registry is away".to_owned())),
            _ => Err(FetchError::None(format!("there is no schema {id}"))),
        }
    }
}

#[test]
fn schemas_of_a_registry_are_asked_for_once() {
    let shelf = Arc::new(Shelf::default());
    let mut reader = AvroReader::new(&AvroFormat::Registry(shelf.clone()));
    let mut read = |record: &[u8]| {
        reader.prepare(record)?;
        Ok::<_, String>(reader.line(record).map(<[u8]>::to_vec).map_err(|error| error.message))
    };
    for _ in 0..3 {
        assert_eq!(read(&[0, 0, 0, 0, 7, 10]), Ok(Ok(b"{\"x\":5}".to_vec())));
        assert_eq!(read(&[0, 0, 0, 1, 0, 10]), Ok(Err("there is no schema 256".to_owned())));
        assert!(read(&[0, 0, 0, 0, 8]).is_ok_and(|read| read.is_err_and(|why| why.contains("must be a record"))));
    }
    for record in [&b"{\"x\":5}"[..], &[0, 0, 0], &[]] {
        assert!(read(record).is_ok_and(|read| read.is_err_and(|why| why.contains("zero byte"))));
    }
    assert_eq!(*shelf.asked.lock().expect("nobody panicked"), [7, 256, 8]);
    assert_eq!(read(&[0, 0, 0, 0, 9]), Err("the registry is away".to_owned()));
    assert_eq!(read(&[0, 0, 0, 0, 9]), Err("the registry is away".to_owned()));
}

/// A type, a value of it as others write it, and as JSON.
fn typed() -> impl Strategy<Value = (Json, Value, Json)> {
    let leaf = prop_oneof![
        Just((json!("null"), Value::Null, Json::Null)),
        any::<bool>().prop_map(|value| (json!("boolean"), Value::Boolean(value), json!(value))),
        any::<i32>().prop_map(|value| (json!("int"), Value::Int(value), json!(value))),
        any::<i64>().prop_map(|value| (json!("long"), Value::Long(value), json!(value))),
        (-1e9..1e9f64).prop_map(|value| {
            (json!("double"), Value::Double(value), value.to_string().parse().expect("a number"))
        }),
        any::<String>().prop_map(|value| (json!("string"), Value::String(value.clone()), json!(value))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|value| {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            (json!("bytes"), Value::Bytes(value), json!(hex))
        }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|fields| {
                // Names of records are made distinct below.
                let names = || (0..fields.len()).map(|index| format!("f{index}"));
                let types = names().zip(&fields).map(|(name, field)| json!({"name": name, "type": field.0}));
                let schema = json!({"type": "record", "name": "?", "fields": types.collect::<Vec<_>>()});
                let value = names().zip(&fields).map(|(name, field)| (name, field.1.clone())).collect();
                let expected: serde_json::Map<_, _> =
                    names().zip(&fields).map(|(name, field)| (name, field.2.clone())).collect();
                (schema, Value::Record(value), Json::Object(expected))
            }),
            (inner.clone(), 0..4usize).prop_map(|((item, value, expected), count)| {
                let schema = json!({"type": "array", "items": item});
                (schema, Value::Array(vec![value; count]), json!(vec![expected; count]))
            }),
            (inner.clone(), any::<String>()).prop_map(|((item, value, expected), key)| {
                let schema = json!({"type": "map", "values": item});
                (schema, Value::Map([(key.clone(), value)].into()), json!({key: expected}))
            }),
            inner.prop_filter("a union has each type once", |typed| typed.1 != Value::Null).prop_map(
                |(schema, value, expected)| (json!(["null", schema]), Value::Union(1, Box::new(value)), expected)
            ),
        ]
    })
    .prop_filter("a union stands in no union", |typed| !has_union_in_union(&typed.0))
}

fn has_union_in_union(schema: &Json) -> bool {
    match schema {
        Json::Array(variants) => variants.iter().any(|variant| variant.is_array() || has_union_in_union(variant)),
        Json::Object(object) => object.values().any(|value| match value {
            Json::Array(fields) if fields.iter().all(|field| field.get("name").is_some()) => {
                fields.iter().any(|field| has_union_in_union(&field["type"]))
            }
            value => has_union_in_union(value),
        }),
        _ => false,
    }
}

/// Gives each record a name of its own.
fn name_all(schema: &mut Json, next: &mut usize) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(|item| name_all(item, next)),
        Json::Object(object) => {
            if object.get("name") == Some(&json!("?")) {
                *next += 1;
                object["name"] = json!(format!("R{next}"));
            }
            object.values_mut().for_each(|value| name_all(value, next));
        }
        _ => {}
    }
}

proptest! {
    /// What another library writes is read as what it meant.
    #[test]
    fn records_of_others_are_read((field, value, expected) in typed()) {
        let mut schema = record(&field);
        name_all(&mut schema, &mut 0);
        let bytes = encoded(&schema, Value::Record(vec![("x".to_owned(), value)]));
        let line = line(&schema, &bytes).expect("read");
        prop_assert_eq!(serde_json::from_str::<Json>(&line).expect("JSON"), json!({"x": expected}));
    }

    /// Decimals keep every digit; beyond 128 bits too.
    #[test]
    fn decimals_are_exact(bytes in prop::collection::vec(any::<u8>(), 1..60), scale in 0..30u32) {
        let schema = record(&json!({"type": "bytes", "logicalType": "decimal", "precision": 200, "scale": scale}));
        let written = encoded(&schema, Value::Record(vec![("x".to_owned(), Value::Decimal(Decimal::from(bytes.clone())))]));
        let line = line(&schema, &written).expect("read");
        let number = line.strip_prefix("{\"x\":").and_then(|rest| rest.strip_suffix('}')).expect("a number");
        let expected = apache_avro::BigDecimal::new(Decimal::from(bytes).into(), scale.into());
        prop_assert_eq!(number.parse::<apache_avro::BigDecimal>().expect("a number"), expected);
        prop_assert_eq!(number.split_once('.').map_or(0, |(_, digits)| digits.len()), scale as usize);
    }

    /// Whatever the bytes are, there is an error or a line of JSON of bounded length.
    #[test]
    fn any_bytes_end((mut field, value, _) in typed(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in any::<prop::sample::Index>()) {
        name_all(&mut field, &mut 0);
        let schema = record(&field);
        let mut bytes = encoded(&schema, Value::Record(vec![("x".to_owned(), value)]));
        for (at, byte) in edits {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1).max(bytes.len() / 2));
        if let Ok(line) = line(&schema, &bytes) {
            prop_assert!(serde_json::from_str::<Json>(&line).is_ok(), "{}", line);
            prop_assert!(line.len() <= 2 * crate::decode::LINE_BYTES_MAX);
        }
    }
}
