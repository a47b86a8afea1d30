//! Any bytes as a body of `POST /v1/tags`, `POST /v1/facts/{fact}` or `POST /v1/spaces/{space}`, and as a list of users: refused line by line or
//! decoded, never a crash; the same however the body is cut; nothing of a refused line stays; a line that is taken is JSON.

#![no_main]

use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Metric, Space, TagType, Unit, Zone};
use engine::ids::TagId;
use engine::update::UpdateBatch;
use ingest::decode::{
    BodyReader, EventDecoder, LineDecoder, LineError, LineReport, TagDecoder, UserListDecoder, UserListFormat,
    VectorDecoder, VectorFields,
};
use libfuzzer_sys::fuzz_target;

/// Short, so that the fuzzer finds lines over it.
const LINE_BYTES_MAX: usize = 200;

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, tag_type) in [
        ("e", TagType::Enum),
        ("n", TagType::Number(Unit::Integer)),
        ("d", TagType::Number(Unit::Decimal { scale: 2 })),
        ("t", TagType::Number(Unit::Timestamp)),
        ("s", TagType::Set),
        ("f", TagType::Flag),
    ] {
        catalog.declare(name, tag_type).expect("good names");
    }
    catalog
}

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

/// A column of every type, and ids.
fn fact() -> Fact {
    let columns = [
        ("s", ColumnType::String),
        ("i", ColumnType::Integer),
        ("d", ColumnType::Decimal { precision: 6, scale: 2 }),
        ("f", ColumnType::Float),
        ("b", ColumnType::Boolean),
        ("t", ColumnType::Timestamp),
        ("j", ColumnType::Json),
    ];
    let columns = columns.map(|(name, column_type)| Column { name: name.to_owned(), column_type });
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: columns.into(),
        activity: Activity { dimensions: vec![0], measures: vec![2] },
        retention_days: Some(30_000),
        deduplicate_days: Some(30),
        zone: Zone::default(),
    }
}

/// Vectors of lines, and of the lines of a file with other names.
fn vectors() -> [VectorDecoder; 2] {
    let space = Space { id: TagId::FIRST_DECLARED, dimension: 3, metric: Metric::Cosine };
    let names = ("id".to_owned(), "v".to_owned());
    let fields = VectorFields { user_id: names.0, vector: names.1, is_lenient: true, nulls_keep: true };
    [VectorDecoder::new(&space), VectorDecoder::with_fields(&space, fields)]
}

/// Line by line: nothing of a refused one stays, and one that is taken is JSON.
fn check_lines(body: &[u8], mut decode: impl FnMut(&[u8], &mut UpdateBatch) -> Result<(), LineError>) {
    let mut batch = UpdateBatch::new();
    for line in body.split(|byte| *byte == b'\n') {
        let before = batch.as_bytes().len();
        match decode(line, &mut batch) {
            Ok(()) => {
                // The other reader refuses numbers beyond a float, which an undeclared field may have.
                let read = serde_json::from_slice::<serde_json::Value>(line);
                assert!(read.is_ok() || read.is_err_and(|error| error.to_string().contains("number out of range")));
            }
            Err(error) => {
                assert_eq!(batch.as_bytes().len(), before, "{error}");
                assert!(error.column.is_none_or(|column| column <= line.len() + 1), "{error:?}");
            }
        }
    }
}

fn decode<'c>(decoder: LineDecoder, chunks: impl Iterator<Item = &'c [u8]>) -> (LineReport, UpdateBatch) {
    let (mut reader, mut batch) = (BodyReader::new(decoder, LINE_BYTES_MAX), UpdateBatch::new());
    for mut chunk in chunks {
        assert!(!reader.feed(&mut chunk, &mut batch), "a fuzzer's body is small");
    }
    (reader.finish(&mut batch), batch)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, body)) = bytes.split_first() else { return };
    let catalog = catalog();
    let [door, file] = vectors();
    let decoders = [
        LineDecoder::Vectors(door),
        LineDecoder::Vectors(file),
        LineDecoder::Tags(TagDecoder::new(&catalog)),
        LineDecoder::Events(Box::new(EventDecoder::new(&fact(), NOW))),
        LineDecoder::UserList(UserListDecoder::new(UserListFormat::Text, "list")),
        LineDecoder::UserList(UserListDecoder::new(UserListFormat::Csv, "list")),
        LineDecoder::UserList(UserListDecoder::new(UserListFormat::Ndjson, "list")),
    ];
    for decoder in decoders {
        let (report, batch) = decode(decoder.clone(), std::iter::once(body));
        assert_eq!(report.accepted, batch.user_count() as u64);
        let copy = UpdateBatch::from_bytes(batch.as_bytes().to_vec()).expect("what was built is whole");
        assert_eq!((copy.user_count(), copy.change_count()), (batch.user_count(), batch.change_count()));
        let cut = decode(decoder, body.chunks(usize::from(*cut).max(1)));
        assert_eq!(cut, (report, batch));
    }

    let (mut tags, mut events) = (TagDecoder::new(&catalog), EventDecoder::new(&fact(), NOW));
    check_lines(body, |line, batch| tags.decode(line, batch));
    check_lines(body, |line, batch| events.decode(line, batch));
    for mut vectors in vectors() {
        check_lines(body, |line, batch| vectors.decode(line, batch));
    }
});
