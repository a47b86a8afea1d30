use super::*;
use crate::decode::body::{BodyReader, LineDecoder};
use crate::decode::{EventDecoder, TagDecoder};
use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Float64Builder, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::Int32Type;
use arrow::ipc::writer::StreamWriter;
use engine::catalog::{Activity, Column, ColumnType, TagType, Unit, Zone};
use engine::ids::TagId;

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

fn fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![
            column("page", ColumnType::String),
            column("price", ColumnType::Decimal { precision: 12, scale: 2 }),
        ],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

fn events() -> RowTarget {
    RowTarget::Events { fact: Box::new(fact()), now: NOW }
}

fn body(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).expect("a writer in memory");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.into_inner().expect("written")
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

/// Rows from one on; every tenth has no user.
fn views(rows: std::ops::Range<i64>) -> RecordBatch {
    let user = |row: i64| (row % 10 != 3).then(|| format!("user-{row}"));
    let pages: DictionaryArray<Int32Type> = rows.clone().map(|row| ["home", "shop"][row as usize % 2]).collect();
    batch(vec![
        ("user_id", Arc::new(rows.clone().map(user).collect::<StringArray>())),
        ("ts", Arc::new(rows.clone().map(|row| Some(NOW / 1000 - row)).collect::<TimestampMillisecondArray>())),
        ("page", Arc::new(pages)),
        ("price", Arc::new(rows.clone().map(|row| (row % 4 > 0).then_some(row)).collect::<Int64Array>())),
        ("shelf", Arc::new(rows.map(Some).collect::<Int64Array>())),
    ])
}

/// The same rows as lines.
fn lines(rows: std::ops::Range<i64>) -> String {
    let line = |row: i64| {
        let user = if row % 10 != 3 { format!("\"user-{row}\"") } else { "null".to_owned() };
        let price = if row % 4 > 0 { row.to_string() } else { "null".to_owned() };
        let (ts, page) = (NOW / 1000 - row, ["home", "shop"][row as usize % 2]);
        format!("{{\"user_id\":{user},\"ts\":{ts},\"page\":\"{page}\",\"price\":{price},\"shelf\":{row}}}\n")
    };
    rows.map(line).collect()
}

fn read(
    target: RowTarget,
    body: &[u8],
    chunk_len: usize,
) -> Result<(LineReport, Vec<UpdateBatch>, Vec<usize>), ColumnBodyError> {
    let mut reader = ColumnBodyReader::new(target, Limits::default());
    // Where in the body each batch ends.
    let (mut batches, mut ends, mut taken) = (vec![UpdateBatch::new()], Vec::new(), 0);
    for mut chunk in body.chunks(chunk_len) {
        loop {
            let before = chunk.len();
            let is_full = reader.feed(&mut chunk, batches.last_mut().expect("one at least"))?;
            taken += before - chunk.len();
            if !is_full {
                break;
            }
            batches.push(UpdateBatch::new());
            ends.push(taken);
        }
        assert!(chunk.is_empty());
    }
    Ok((reader.finish()?, batches, ends))
}

#[test]
fn rows_mean_what_lines_mean_with_the_same_errors() {
    let (report, batches, _) = read(events(), &body(&[views(1..40), views(40..60)]), 100).expect("read");
    let decoder = LineDecoder::Events(Box::new(EventDecoder::new(&fact(), NOW)));
    let (mut reader, mut expected) = (BodyReader::new(decoder, LINE_BYTES_MAX), UpdateBatch::new());
    let text = lines(1..60);
    assert!(!reader.feed(&mut text.as_bytes(), &mut expected));
    let lines = reader.finish(&mut expected);
    assert_eq!((report.accepted, report.rejected), (lines.accepted, lines.rejected));
    let kinds = |report: &LineReport| report.errors.iter().map(|(row, error)| (*row, error.kind)).collect::<Vec<_>>();
    assert_eq!(kinds(&report), kinds(&lines));
    assert_eq!(kinds(&report)[4], (43, LineErrorKind::UserId));
    assert_eq!(batches, [expected]);
}

#[test]
fn batches_end_at_the_same_rows_for_any_chunks() {
    // One message of several batches, then several of one.
    let body = body(&[views(0..60_000), views(0..1), views(0..20_000), views(0..20_000)]);
    let whole = read(events(), &body, body.len()).expect("read");
    assert!(whole.1.len() > 4, "{}", whole.1.len());
    assert_eq!(whole.0.accepted + whole.0.rejected, 100_001);
    for chunk_len in [1000, 77_777, 1 << 20] {
        let cut = read(events(), &body, chunk_len).expect("read");
        assert!(cut.1 == whole.1 && cut.2 == whole.2, "{chunk_len}");
    }
    // Whatever the catalog has become.
    let mut other = fact();
    other.columns.clear();
    let target = RowTarget::Events { fact: Box::new(other), now: NOW };
    assert_eq!(read(target, &body, 5000).expect("read").2, whole.2);
}

#[test]
fn columns_fill_the_tags_of_their_names() {
    let mut catalog = Catalog::default();
    for (name, tag_type) in [
        ("gender", TagType::Enum),
        ("age", TagType::Number(Unit::Integer)),
        ("interest", TagType::Set),
        ("member", TagType::Flag),
    ] {
        catalog.declare(name, tag_type).expect("good names");
    }
    let mut interest = ListBuilder::new(StringBuilder::new());
    interest.append_value([Some("yoga"), Some("golf")]);
    interest.append_null();
    interest.append_value([Some("x")]);
    let rows = batch(vec![
        ("age", Arc::new(Int64Array::from(vec![Some(31), Some(44), None]))),
        ("user_id", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]))),
        ("gender", Arc::new(StringArray::from(vec![Some("f"), None, Some("m")]))),
        ("interest", Arc::new(interest.finish())),
    ]);
    let target = || RowTarget::Tags(Arc::new(catalog.clone()));
    let (report, batches, _) = read(target(), &body(std::slice::from_ref(&rows)), 100).expect("read");
    assert_eq!((report.accepted, report.rejected), (2, 1));
    assert!(report.errors[0].0 == 3 && report.errors[0].1.message.contains("user id is NULL"), "{report:?}");
    let mut expected = UpdateBatch::new();
    let mut decoder = TagDecoder::new(&catalog);
    for line in [
        r#"{"user_id":"a","set":{"age":31,"gender":"f","interest":["yoga","golf"]}}"#,
        r#"{"user_id":"b","set":{"age":44}}"#,
    ] {
        decoder.decode(line.as_bytes(), &mut expected).expect("a line");
    }
    assert_eq!((batches[0].user_count(), batches[0].change_count()), (expected.user_count(), expected.change_count()));

    let misfit = |name: &str| {
        let rows = rows.rename_columns(&["age", "user_id", "gender", name]);
        read(target(), &body(&[rows]), 1000).expect_err("refused").to_string()
    };
    assert_eq!(misfit("intrest"), "there is no tag `intrest`; did you mean `interest`?");
    assert_eq!(misfit("age"), "column `age` is there twice");
    let rows = rows.rename_columns(&["age", "id", "gender", "interest"]);
    let error = read(target(), &body(&[rows]), 1000).expect_err("refused").to_string();
    assert!(error.contains("no column `user_id`"), "{error}");
}

/// 123 as a float would be the user `123.0`.
#[test]
fn floats_fill_numbers_alone() {
    let mut catalog = Catalog::default();
    let number = TagType::Number(Unit::Decimal { scale: 2 });
    for (name, tag_type) in [("kind", TagType::Enum), ("groups", TagType::Set), ("score", number)] {
        catalog.declare(name, tag_type).expect("good names");
    }
    let catalog = Arc::new(catalog);
    let floats = || Float64Array::from(vec![123.0, 4.5]);
    let words = || Arc::new(DictionaryArray::new(Int32Array::from(vec![0, 1]), Arc::new(floats()))) as ArrayRef;
    let mut lists = ListBuilder::new(Float64Builder::new());
    lists.append_value([Some(1.0)]);
    lists.append_value([None, Some(2.0)]);
    let lists = Arc::new(lists.finish()) as ArrayRef;
    let ids = || Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
    let read = |columns: Vec<(&str, ArrayRef)>| read(RowTarget::Tags(catalog.clone()), &body(&[batch(columns)]), 1000);
    for column in [Arc::new(floats()) as ArrayRef, words()] {
        let (report, ..) = read(vec![("user_id", ids()), ("score", column.clone())]).expect("numbers");
        assert_eq!((report.accepted, report.rejected), (2, 0));
        let error = read(vec![("user_id", column.clone())]).expect_err("no ids").to_string();
        assert!(error.contains("column `user_id`: a user id is text or an integer, not "), "{error}");
        for tag in ["kind", "groups"] {
            let error = read(vec![("user_id", ids()), (tag, column.clone())]).expect_err("no values").to_string();
            assert!(error.contains(&format!("column `{tag}`")) && error.contains("cannot fill"), "{error}");
        }
    }
    let error = read(vec![("user_id", ids()), ("groups", lists)]).expect_err("no values").to_string();
    assert!(error.contains("column `groups`") && error.contains("cannot fill"), "{error}");
}

/// A row that is refused unseen leaves no batch behind.
#[test]
fn rows_that_are_too_long_fill_no_batches() {
    let text = "x".repeat(LINE_BYTES_MAX);
    let pages = DictionaryArray::new(Int32Array::from(vec![0; 100]), Arc::new(StringArray::from(vec![text])));
    let rows = batch(vec![
        ("user_id", Arc::new(StringArray::from(vec!["u"; 100]))),
        ("ts", Arc::new(Int64Array::from(vec![NOW / 1000; 100]))),
        ("page", Arc::new(pages)),
    ]);
    let (report, batches, _) = read(events(), &body(&[rows]), 1 << 16).expect("read");
    assert_eq!((report.accepted, report.rejected, batches.len()), (0, 100, 1));
}

/// Renamed columns, for tests of names.
trait Rename {
    fn rename_columns(&self, names: &[&str]) -> RecordBatch;
}

impl Rename for RecordBatch {
    fn rename_columns(&self, names: &[&str]) -> RecordBatch {
        let schema = self.schema();
        let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(*name));
        let schema = arrow::datatypes::Schema::new(fields.collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), self.columns().to_vec()).expect("other names")
    }
}

#[test]
fn a_body_without_rows_is_told_of_its_columns_too() {
    let rows = views(0..0);
    let (report, ..) = read(events(), &body(std::slice::from_ref(&rows)), 10).expect("no rows");
    assert_eq!(report, LineReport::default());
    let error = read(events(), &body(&[rows.rename_columns(&["user_id", "at", "page", "price", "shelf"])]), 10);
    assert!(error.expect_err("refused").to_string().contains("`ts`"));
}
