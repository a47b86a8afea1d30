//! Records of Avro and Arrow.

use super::*;
use crate::decode::avro::{AvroFormat, AvroSchema, FetchError, RegisteredSchema, SchemaSource};
use arrow::array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray};
use arrow::ipc::writer::StreamWriter;
use std::sync::atomic::AtomicU32;

const VIEW: &str = r#"{"type":"record","name":"View","fields":[{"name":"page","type":["null","string"]},
    {"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"user_id","type":"string"}]}"#;

const NOW_MILLIS: i64 = 1_767_225_600_000;

fn avro(user: &str, page: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let long = |mut zigzag: u64, bytes: &mut Vec<u8>| {
        while zigzag > 0x7f {
            bytes.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        bytes.push(zigzag as u8);
    };
    let text = |text: &str, bytes: &mut Vec<u8>| {
        long(text.len() as u64 * 2, bytes);
        bytes.extend_from_slice(text.as_bytes());
    };
    long(2, &mut bytes);
    text(page, &mut bytes);
    long(NOW_MILLIS as u64 * 2, &mut bytes);
    text(user, &mut bytes);
    bytes
}

fn push(world: &World, records: impl IntoIterator<Item = Vec<u8>>) {
    let mut partitions = world.topic.partitions.lock().expect("lock");
    partitions.entry("t/0".into()).or_default().extend(records);
}

fn arrow(users: Vec<Option<&str>>, pages: Vec<&str>) -> Vec<u8> {
    let columns: [(&str, ArrayRef); 3] = [
        ("user_id", Arc::new(StringArray::from(users))),
        ("ts", Arc::new(Int64Array::from(vec![NOW_MILLIS; pages.len()]))),
        ("page", Arc::new(StringArray::from(pages))),
    ];
    let rows = arrow::array::RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer in memory");
    writer.write(&rows).and_then(|()| writer.write(&rows)).expect("written");
    writer.into_inner().expect("written")
}

#[test]
fn avro_records_are_lines_like_others() {
    let mut world = World::new(true);
    let schema = AvroSchema::parse(VIEW, &[]).expect("a schema");
    world.payload = PayloadFormat::Avro(AvroFormat::Schema(Arc::new(schema)));
    push(&world, [avro("ann", "home"), vec![2, 0xff], avro("", "home"), Vec::new(), avro("bob", " ")]);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused, report.empty), (5, 2, 1));
    assert_eq!(report.watermark, Some(NOW_MILLIS * 1000));
    assert_eq!(world.rows("view"), ["ann [Text(\"home\")]", "bob [Text(\" \")]"]);
    let letters = world.rows("dead_letter");
    let damaged = letters.iter().find(|letter| letter.contains("`page`:")).expect("damaged");
    assert!(damaged.contains("Text(\"02ff\")") && damaged.contains("Text(\"hex\")"), "{damaged}");
    // Of one that was read and refused, the record itself is kept too.
    assert!(letters.iter().any(|letter| letter.contains("user_id") && letter.contains("Integer(2)")), "{letters:?}");
}

/// Away when it is asked first.
#[derive(Debug, Default)]
struct Registry(AtomicU32);

impl SchemaSource for Registry {
    fn fetch(&self, id: u32) -> Result<RegisteredSchema, FetchError> {
        match (self.0.fetch_add(1, Ordering::Relaxed), id) {
            (0, _) => Err(FetchError::Unavailable("the registry is away".to_owned())),
            (_, 3) => Ok(RegisteredSchema { text: VIEW.to_owned(), references: Vec::new() }),
            _ => Err(FetchError::None(format!("there is no schema {id}"))),
        }
    }
}

#[test]
fn a_registry_that_is_away_is_asked_again_and_nothing_is_lost() {
    let mut world = World::new(true);
    let registry = Arc::new(Registry::default());
    world.payload = PayloadFormat::Avro(AvroFormat::Registry(registry.clone()));
    let framed = |id: u8, record: Vec<u8>| [&[0, 0, 0, 0, id], &record[..]].concat();
    push(&world, (0..20).map(|user| framed(3, avro(&format!("u{user}"), "home"))));
    push(&world, [framed(4, avro("x", "y")), avro("x", "y")]);
    world.set(Wanted::Running);
    world.wait(|report| {
        report.state == SourceState::Retrying && report.error.as_deref() == Some("the registry is away")
    });
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused), (22, 2));
    assert!(report.refused_last.iter().any(|refused| refused.error.message == "there is no schema 4"));
    assert!(report.refused_last.iter().any(|refused| refused.error.to_string().contains("zero byte")));
    assert_eq!(world.rows("view").len(), 20);
    assert_eq!(registry.0.load(Ordering::Relaxed), 3);
}

#[test]
fn rows_of_an_arrow_record_are_taken_together() {
    let mut world = World::new(true);
    world.payload = PayloadFormat::Arrow;
    let good = arrow(vec![Some("ann"), None, Some("bob")], vec!["a", "b", "c"]);
    // Its first batch is whole; nothing of it may stay.
    let cut = good[..good.len() - 60].to_vec();
    push(&world, [good, cut, b"{\"user_id\":\"x\"}".to_vec(), arrow(vec![Some("eve")], vec!["d"])]);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused), (4, 4));
    assert_eq!(report.watermark, Some(NOW_MILLIS * 1000));
    let row = |user: &str, page: &str| format!("{user} [Text(\"{page}\")]");
    let taken = [row("ann", "a"), row("ann", "a"), row("bob", "c"), row("bob", "c"), row("eve", "d"), row("eve", "d")];
    assert_eq!(world.rows("view"), taken);
    let letters = world.rows("dead_letter").join("\n");
    assert!(letters.contains("row 2: `user_id` is NULL") && letters.contains("row 5: `user_id` is NULL"), "{letters}");
    assert!(letters.contains("\\\"page\\\":\\\"b\\\""), "the row itself: {letters}");
    assert!(letters.contains("the stream ends inside it") && letters.contains("application/x-ndjson"), "{letters}");
}

#[test]
fn rows_of_an_arrow_record_are_mapped_as_json() {
    let mut world = World::new(true);
    world.payload = PayloadFormat::Arrow;
    world.mapping = Some(MappingDefinition::Fact(FactMapping {
        fields: vec![
            ("user_id".to_owned(), MappedField::path("page")),
            ("ts".to_owned(), MappedField::path("ts")),
            ("page".to_owned(), MappedField::path("user_id")),
        ],
        keep_others: false,
        conditions: vec![Condition::Field { path: "page".to_owned(), test: Test::NotIn(vec!["\"robot\"".to_owned()]) }],
    }));
    push(&world, [arrow(vec![Some("home"), None, Some("x")], vec!["ann", "bob", "robot"])]);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.refused, report.filtered), (0, 2), "{report:?}");
    let rows = ["ann [Text(\"home\")]", "ann [Text(\"home\")]", "bob [Null]", "bob [Null]"];
    assert_eq!(world.rows("view"), rows);
}

#[test]
fn columns_that_do_not_fit_refuse_the_record() {
    let mut world = World::new(true);
    world.payload = PayloadFormat::Arrow;
    let column: ArrayRef = Arc::new(StringArray::from(vec!["ann"]));
    let rows = arrow::array::RecordBatch::try_from_iter([("user_id", column)]).expect("a batch");
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer in memory");
    writer.write(&rows).expect("written");
    push(&world, [writer.into_inner().expect("written")]);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!(report.refused, 1);
    assert!(report.refused_last[0].error.message.contains("`ts`"), "{report:?}");
}

/// Rows that are too long weigh nothing in the update; what is told of each of them does.
#[test]
fn refused_rows_of_a_record_are_bounded() {
    let mut world = World::new(true);
    world.payload = PayloadFormat::Arrow;
    let text = "x".repeat(crate::decode::LINE_BYTES_MAX);
    let count = crate::pipeline::arrow_record::RECORD_WEIGHT_MAX / 512;
    let pages = DictionaryArray::new(Int32Array::from(vec![0; count]), Arc::new(StringArray::from(vec![text])));
    let columns: [(&str, ArrayRef); 3] = [
        ("user_id", Arc::new(StringArray::from(vec!["u"; count]))),
        ("ts", Arc::new(Int64Array::from(vec![NOW_MILLIS; count]))),
        ("page", Arc::new(pages)),
    ];
    let rows = arrow::array::RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer in memory");
    writer.write(&rows).expect("written");
    push(&world, [writer.into_inner().expect("written"), arrow(vec![Some("ann")], vec!["a"])]);
    world.set(Wanted::Running);
    let report = world.wait(|report| report.state == SourceState::Finished);
    assert_eq!((report.records, report.refused), (2, 1));
    let told = report.refused_last[0].error.to_string();
    assert!(told.contains("what is wrong with") && told.contains("row 1: the row has about"), "{told}");
    assert_eq!(world.rows("view").len(), 2);
}
