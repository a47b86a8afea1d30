//! Any text as a path, any bytes as a record: what cannot be is refused, never a crash; a record that is taken is JSON and
//! makes a line that is JSON; a mapping that is used again says the same.

#![no_main]

use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, TagType, Unit, Zone};
use engine::ids::TagId;
use engine::update::UpdateBatch;
use ingest::decode::mapping::{
    Cast, Comparison, Condition, FactMapping, Mapped, MappedField, RecordContext, TagMapping, Test, TimeUnit,
};
use ingest::decode::{EventDecoder, LineError, Mapping, TagDecoder};
use libfuzzer_sys::fuzz_target;

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, tag_type) in [("n", TagType::Number(Unit::Timestamp)), ("s", TagType::Set), ("f", TagType::Flag)] {
        catalog.declare(name, tag_type).expect("good names");
    }
    catalog
}

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

fn fact() -> Fact {
    let columns = [
        ("s", ColumnType::String),
        ("d", ColumnType::Decimal { precision: 6, scale: 2 }),
        ("b", ColumnType::Boolean),
        ("j", ColumnType::Json),
    ];
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: columns.map(|(name, column_type)| Column { name: name.to_owned(), column_type }).into(),
        activity: Activity { dimensions: vec![0], measures: vec![1] },
        retention_days: Some(30_000),
        deduplicate_days: Some(30),
        zone: Zone::default(),
    }
}

fn named(fields: &[(&str, MappedField)]) -> Vec<(String, MappedField)> {
    fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect()
}

fn cast(path: &str, cast: Cast) -> MappedField {
    MappedField { cast: Some(cast), ..MappedField::path(path) }
}

fn seconds(path: &str) -> MappedField {
    MappedField { unit: Some(TimeUnit::Seconds), ..cast(path, Cast::Number) }
}

/// To the fact, `path` as every kind of field.
fn event(path: &str, keep_others: bool) -> FactMapping {
    let condition = |test| Condition::Field { path: path.to_owned(), test };
    FactMapping {
        fields: named(&[
            ("user_id", MappedField { default: Some("1".to_owned()), ..MappedField::path("u") }),
            ("ts", seconds("t")),
            ("event_id", cast("$key", Cast::String)),
            ("s", cast(path, Cast::String)),
            ("d", cast("a[0].b", Cast::Number)),
            ("b", cast("a[1]", Cast::Boolean)),
            ("j", MappedField::path(path)),
        ]),
        keep_others,
        conditions: match keep_others {
            true => Vec::new(),
            false => vec![
                condition(Test::NotIn(vec!["1".to_owned(), "\"x\"".to_owned(), "true".to_owned()])),
                condition(Test::Compare(Comparison::LessOrEqual, "1e3".to_owned())),
            ],
        },
    }
}

fn tags(path: &str) -> TagMapping {
    TagMapping {
        user_id: Some(MappedField::path("$key")),
        set: named(&[("n", seconds("t")), ("f", cast(path, Cast::Boolean))]),
        add: named(&[("s", cast(path, Cast::String))]),
        unset_nulls: true,
        ..TagMapping::default()
    }
}

fn check(
    mapping: &mut Mapping,
    record: &[u8],
    key: &[u8],
    mut decode: impl FnMut(&[u8], &mut UpdateBatch) -> Result<(), LineError>,
) {
    let context = RecordContext { key: Some(key), timestamp_ms: Some(1), partition: "t/0", offset: 1 };
    let (mut line, mut again) = (String::new(), String::new());
    let mapped = mapping.apply(record, &context, &mut line);
    assert_eq!(mapping.apply(record, &context, &mut again), mapped);
    // The other reader refuses numbers beyond a float, which a field may have.
    let is_json = |bytes: &[u8]| match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(_) => true,
        Err(error) => error.to_string().contains("number out of range"),
    };
    match mapped {
        Ok(Mapped::Line) => {
            assert!(is_json(record) && is_json(line.as_bytes()), "{line}");
            assert_eq!(line, again);
            if let Err(error) = decode(line.as_bytes(), &mut UpdateBatch::new()) {
                assert!(mapping.in_record(error).column.is_none_or(|column| column <= record.len()));
            }
        }
        Ok(Mapped::FilteredOut) => assert!(is_json(record)),
        Err(error) => assert!(error.column.is_none_or(|column| column <= record.len() + 1), "{error:?}"),
    }
}

// A line with the path, then the record.
fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(key), Some(record)) = (parts.next(), parts.next()) else { return };
    let Ok(path) = std::str::from_utf8(key) else { return };
    let mut events = EventDecoder::new(&fact(), NOW);
    for keep_others in [false, true] {
        match Mapping::to_fact(&event(path, keep_others), &fact()) {
            Ok(mut mapping) => check(&mut mapping, record, key, |line, batch| events.decode(line, batch)),
            Err(error) => assert!(error.column.is_some_and(|column| column <= path.len() + 1), "{error:?}"),
        }
    }
    if let Ok(mut mapping) = Mapping::to_tags(&tags(path), &catalog()) {
        let mut decoder = TagDecoder::new(&catalog());
        check(&mut mapping, record, key, |line, batch| decoder.decode(line, batch));
    }
});
