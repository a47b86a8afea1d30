//! A source of files against real ones: whatever happens to them, each record comes once or is told missing.

use super::*;
use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::types::Int32Type;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array, Int64Array,
    ListArray, MapBuilder, RecordBatch as ArrowBatch, StringArray, StringBuilder, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, i256};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Long enough for a walk.
const WAIT: Duration = Duration::from_millis(10);

/// A folder, a source of what is in it, and where its reader is.
struct Reader {
    folder: TempDir,
    options: FilesOptions,
    source: FilesSource,
    position: SourcePosition,
}

/// What a poll told besides records.
#[derive(Debug, PartialEq)]
enum Told {
    Assigned(Vec<String>),
    Revoked(Vec<String>),
    Skipped(String, u64),
    Missing(String, u64),
}

impl Reader {
    fn new(options: FilesOptions, files: &[(&str, &[u8])]) -> Reader {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = if options.paths.is_empty() { vec!["**".to_owned()] } else { options.paths };
        let paths = paths.iter().map(|path| format!("{}/{path}", folder.path().display())).collect();
        let options = FilesOptions { paths, poll_interval: Duration::from_millis(1), ..options };
        let source = FilesSource::open(options.clone()).expect("valid");
        let reader = Reader { folder, options, source, position: SourcePosition::new() };
        files.iter().for_each(|(name, bytes)| reader.write(name, bytes));
        reader
    }

    fn watched(files: &[(&str, &[u8])]) -> Reader {
        Reader::new(FilesOptions { watch: true, ..FilesOptions::default() }, files)
    }

    fn once(files: &[(&str, &[u8])]) -> Reader {
        Reader::new(FilesOptions::default(), files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn short(&self, name: &str) -> String {
        let folder = format!("{}/", self.folder.path().display());
        name.strip_prefix(&folder).expect("in the folder").to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.path(name)).expect("opened");
        file.write_all(bytes).expect("written");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).expect("removed");
    }

    /// As after a crash: what counts is the position.
    fn restart(&mut self) {
        self.source = FilesSource::open(self.options.clone()).expect("valid");
    }

    /// Polls once, answers, and keeps the position; the records of a batch with their files.
    fn poll(&mut self, told: &mut Vec<Told>) -> Option<Vec<(String, String)>> {
        let mut batch = RecordBatch::new();
        let looked_at = self.source.looked_at;
        let polled = self.source.poll(&mut batch, WAIT);
        let short = |names: &[Arc<str>]| names.iter().map(|name| self.short(name)).collect();
        match polled {
            Ok(Polled::Batch) => {
                let mut records = Vec::new();
                for record in batch.iter() {
                    let payload = record.payload.expect("always one");
                    let name = self.short(batch.partition_name(record.partition));
                    records.push((name, String::from_utf8_lossy(payload).into_owned()));
                }
                self.position.advance(&batch);
                return Some(records);
            }
            Ok(Polled::Assigned(names)) => {
                told.push(Told::Assigned(short(&names)));
                let started = self.source.start(&self.position).expect("started");
                self.position.begin(&started);
            }
            Ok(Polled::Revoked(revoked)) => {
                assert!(!revoked.lost);
                told.push(Told::Revoked(short(&revoked.partitions)));
                for name in &revoked.partitions {
                    self.position.remove(name);
                }
            }
            Ok(Polled::Skipped(started)) => {
                for one in &started {
                    told.push(Told::Skipped(self.short(&one.partition), one.offset));
                }
                self.position.begin(&started);
            }
            // A slow machine only says that nothing came in time, perhaps without a look at what there is.
            Ok(Polled::Idle) if self.source.looked_at == looked_at => {}
            Ok(Polled::Idle) if !self.source.status.paused && self.source.files.values().any(Partition::is_due) => {}
            Ok(Polled::Idle | Polled::End) => return None,
            Err(SourceError::Missing(missing)) => {
                told.push(Told::Missing(self.short(&missing.partition), missing.needed));
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        Some(Vec::new())
    }

    /// Polls until nothing comes.
    fn read(&mut self) -> (Vec<(String, String)>, Vec<Told>) {
        let (mut records, mut told) = (Vec::new(), Vec::new());
        while let Some(more) = self.poll(&mut told) {
            records.extend(more);
        }
        (records, told)
    }

    fn records(&mut self) -> Vec<String> {
        self.read().0.into_iter().map(|(_, payload)| payload).collect()
    }

    fn told(&mut self) -> Vec<Told> {
        let (records, told) = self.read();
        assert_eq!(records, []);
        told
    }

    fn last_error(&self) -> String {
        self.source.status().last_error.unwrap_or_default()
    }

    fn ends(&mut self) -> bool {
        self.source.poll(&mut RecordBatch::new(), WAIT).expect("polled") == Polled::End
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>, group_rows: usize) -> Vec<u8> {
    let batch = ArrowBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.expect("a batch");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    bytes
}

fn numbered(count: i64, group_rows: usize) -> Vec<u8> {
    parquet_of(vec![("n", Arc::new(Int64Array::from_iter_values(0..count)))], group_rows)
}

#[test]
fn every_format_gives_objects() {
    let csv = b"\xef\xbb\xbfa,b\r\n1,\"x \"\"y\"\"\r\n\"\r\n,2\r\n\r\n3,4";
    let lines = b"\xef\xbb\xbf{\"n\":1}\r\n\n  \n{\"n\": 2}";
    let mut reader = Reader::once(&[
        ("a.ndjson", lines),
        ("b.JSONL.gz", &gzip(b"{}\n")),
        ("c.csv", csv),
        ("d.csv.gz", &gzip(csv)),
        ("e.parquet", &numbered(2, 10)),
    ]);
    let rows = [r#"{"a":"1","b":"x \"y\"\u000d\n"}"#, r#"{"a":null,"b":"2"}"#, r#"{"a":"3","b":"4"}"#];
    let expected = [&["{\"n\":1}\r", "{\"n\": 2}", "{}"][..], &rows, &rows, &[r#"{"n":0}"#, r#"{"n":1}"#]].concat();
    assert_eq!(reader.records(), expected);
    assert!(reader.ends());
    assert_eq!(reader.source.status().record_count, 11);
    let lags: Vec<_> = reader.source.partitions().iter().map(|file| (file.end, file.lag)).collect();
    let ends = [lines.len(), 3, csv.len(), csv.len(), 2].map(|end| (Some(end as u64), Some(0)));
    assert_eq!(lags, ends);
}

#[test]
fn columns_of_parquet_keep_their_meaning() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("v");
    map.append(true).expect("an entry");
    map.append(false).expect("no entry");
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let fields = vec![Field::new("x", DataType::Int64, true)].into();
    let validity = NullBuffer::from(vec![true, true]);
    let decimal = Decimal128Array::from(vec![Some(-1250), None]).with_precision_and_scale(10, 3).expect("fits");
    let wide = i256::from_string("123456789012345678901234567890123456789012").expect("a number");
    let wide = Decimal256Array::from(vec![Some(wide), None]).with_precision_and_scale(60, 2).expect("fits");
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("large", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("float", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)]))),
        ("decimal", Arc::new(decimal)),
        ("wide", Arc::new(wide)),
        ("text", Arc::new(StringArray::from(vec![Some("a\"\u{1f}é"), None]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"ok"[..]), Some(&[0xff, 0])]))),
        ("day", Arc::new(Date32Array::from(vec![Some(20_000), Some(-1)]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("+02:00"))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None]))),
        ("list", Arc::new(lists)),
        ("map", Arc::new(map.finish())),
        ("struct", Arc::new(StructArray::new(fields, vec![inner], Some(validity)))),
    ];
    let mut reader = Reader::once(&[("a.parquet", &parquet_of(columns, 10))]);
    let records = reader.records();
    assert_eq!(reader.last_error(), "");
    let first = concat!(
        r#"{"flag":true,"large":18446744073709551615,"float":0.1,"decimal":-1.250,"#,
        r#""wide":1234567890123456789012345678901234567890.12,"text":"a\"\u001fé","bytes":"ok","#,
        r#""day":"2024-10-04T00:00:00Z","at":"1970-01-01T00:00:01.500Z","nanos":"1969-12-31T23:59:59.999999999Z","#,
        r#""list":[1,null],"map":{"k":"v"},"struct":{"x":1}}"#
    );
    assert_eq!(records[0], first);
    let second = json!({"float": "NaN", "bytes": "ff00", "day": "1969-12-31T00:00:00Z", "struct": {}});
    assert_eq!(serde_json::from_str::<Value>(&records[1]).expect("JSON"), second);
}

#[test]
fn a_row_of_csv_ends_behind_its_quotes() {
    let mut reader = Reader::once(&[("a.csv", b"a;b\n1;\"x\ny\nz\"\n2;y\n")]);
    reader.options.csv_delimiter = b';';
    reader.options.batch_records_max = 1;
    reader.restart();
    let mut told = Vec::new();
    reader.poll(&mut told);
    assert_eq!(reader.poll(&mut told), Some(vec![("a.csv".into(), r#"{"a":"1","b":"x\ny\nz"}"#.into())]));
    assert_eq!(reader.position.get(&reader.name("a.csv")), Some(14));
    reader.restart();
    assert_eq!(reader.records(), [r#"{"a":"2","b":"y"}"#]);
}

#[test]
fn what_is_no_record_is_handed_out_to_be_refused() {
    let long = [b"{\"a\":\"", &*vec![b'x'; 3 << 20], b"\"}\n{}\n"].concat();
    let mut reader = Reader::once(&[("a.ndjson", &long), ("b.csv", b"a,b\n1\n1,2,3\n\xff,2\n1,2\n")]);
    let records = reader.records();
    assert!(records[0].starts_with("line of 3145737 bytes at offset 0"), "{}", records[0]);
    assert_eq!(records[1], "{}");
    assert_eq!(records[2], "row at offset 4: it has 1 cells, the header has 2");
    assert_eq!(records[3], "row at offset 6: it has 3 cells, the header has 2");
    assert_eq!(records[4], "row at offset 12: the cell of \"a\": is not UTF-8");
    assert_eq!(records[5..], [r#"{"a":"1","b":"2"}"#]);
    assert!(reader.ends());
}

#[test]
fn files_that_grow_are_followed() {
    let mut reader = Reader::watched(&[("a.ndjson", b"{\"n\":1}\n{\"n\""), ("b.csv", b"a,b\n1,\"2\n"), ("c.csv", b"")]);
    assert_eq!(reader.records(), ["{\"n\":1}"]);
    reader.append("a.ndjson", b":2}");
    assert_eq!(reader.records(), Vec::<String>::new());
    assert_eq!(reader.source.partitions()[0].lag, Some(7));
    reader.append("a.ndjson", b"\n\n");
    reader.append("b.csv", b"3\"");
    reader.append("c.csv", b"x");
    assert_eq!(reader.records(), ["{\"n\":2}"]);
    assert_eq!(reader.source.partitions()[0].lag, Some(0));
    reader.append("b.csv", b"\r\n");
    reader.append("c.csv", b"\n5\n");
    assert_eq!(reader.records(), [r#"{"a":"1","b":"2\n3"}"#, r#"{"x":"5"}"#]);
    reader.restart();
    reader.append("b.csv", b"6,7\n");
    reader.write("d.ndjson", b"[]\n");
    let (records, told) = reader.read();
    assert_eq!(records, [("b.csv".into(), r#"{"a":"6","b":"7"}"#.into()), ("d.ndjson".into(), "[]".into())]);
    assert_eq!(told, [Told::Assigned(["a.ndjson", "b.csv", "c.csv", "d.ndjson"].map(str::to_owned).to_vec())]);
}

#[test]
fn a_file_that_keeps_growing_keeps_nobody_waiting() {
    let options = FilesOptions { watch: true, batch_records_max: 1, ..FilesOptions::default() };
    let mut reader = Reader::new(options, &[("a.ndjson", b"1\n2\n"), ("b.ndjson", b"3\n")]);
    let mut order = String::new();
    let mut told = Vec::new();
    while order.len() < 5 {
        let records = reader.poll(&mut told).expect("something");
        order.extend(records.iter().map(|(_, payload)| payload.as_str()));
        reader.append("a.ndjson", b"9\n");
    }
    // The walk that found the first growth may come before or after the turn.
    assert!(order.find('3').expect("read") < 5, "{order}");
}

#[test]
fn new_files_are_told_and_old_ones_let_go() {
    let options =
        FilesOptions { watch: true, paths: vec!["**/*.ndjson".into(), "x".into()], ..FilesOptions::default() };
    let mut reader = Reader::new(options, &[("x/b.ndjson", b"1\n"), ("x/y/a.csv", b"a\n2\n"), ("x/README", b"")]);
    let assigned = |names: &[&str]| Told::Assigned(names.iter().map(|name| (*name).to_owned()).collect());
    let (records, told) = reader.read();
    assert_eq!((records.len(), told), (2, vec![assigned(&["x/b.ndjson", "x/y/a.csv"])]));
    reader.write("new.ndjson", b"3\n");
    reader.write("a/b/new.ndjson", b"4\n");
    reader.remove("x/b.ndjson");
    let (records, told) = reader.read();
    assert_eq!(records.len(), 2);
    let expected = [assigned(&["a/b/new.ndjson", "new.ndjson"]), Told::Revoked(vec!["x/b.ndjson".into()])];
    assert_eq!(told, expected);
    reader.write("x/b.ndjson", b"5\n");
    assert_eq!(reader.records(), ["5"]);
    assert_eq!(reader.last_error(), "");
}

#[test]
fn a_file_is_read_to_its_end_while_it_is_open() {
    let mut reader = Reader::watched(&[("a.ndjson", b"1\n2")]);
    assert_eq!(reader.records(), ["1"]);
    reader.append("a.ndjson", b"3\n4");
    reader.remove("a.ndjson");
    let (records, told) = reader.read();
    assert_eq!(records.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>(), ["23", "4"]);
    assert_eq!(told, [Told::Revoked(vec!["a.ndjson".into()])]);
}

#[test]
fn records_that_are_gone_are_never_skipped_silently() {
    for on_missing in [OnMissing::Fail, OnMissing::Earliest] {
        let options = FilesOptions { watch: true, on_missing, ..FilesOptions::default() };
        let files: [(&str, &[u8]); 3] =
            [("a.ndjson", b"1\n2\n3\n"), ("b.ndjson.gz", &gzip(b"1\n2\n")), ("c.parquet", &numbered(5, 2))];
        let mut reader = Reader::new(options, &files);
        assert_eq!(reader.records().len(), 10);
        reader.write("a.ndjson", b"4\n");
        reader.write("b.ndjson.gz", &gzip(b"5\n"));
        reader.write("c.parquet", &numbered(2, 2));
        if on_missing == OnMissing::Earliest {
            let (records, told) = reader.read();
            assert_eq!(records.len(), 4);
            let skipped: Vec<_> = files.iter().map(|(name, _)| Told::Skipped((*name).into(), 0)).collect();
            assert_eq!(told, skipped);
            continue;
        }
        let mut count = 0;
        for (name, needed) in [("a.ndjson", 6), ("b.ndjson.gz", 4), ("c.parquet", 5)] {
            for _ in 0..2 {
                let (records, told) = reader.read();
                count += records.len();
                assert_eq!(told, [Told::Missing(name.into(), needed)]);
            }
            let name = reader.name(name);
            reader.source.seek(&name, 0).expect("sought");
        }
        assert_eq!(count + reader.records().len(), 4);
        assert_eq!(reader.told(), []);
    }
}

#[test]
fn a_file_that_vanishes_unread_is_missing() {
    for on_missing in [OnMissing::Fail, OnMissing::Earliest] {
        let options = FilesOptions { watch: true, on_missing, ..FilesOptions::default() };
        let mut reader = Reader::new(options, &[("a.ndjson", b"1\n"), ("b.ndjson", b"2\n")]);
        let mut told = Vec::new();
        reader.poll(&mut told);
        reader.remove("a.ndjson");
        let (records, told) = reader.read();
        let revoked = Told::Revoked(vec!["a.ndjson".into()]);
        if on_missing == OnMissing::Earliest {
            assert_eq!((records.len(), told), (1, vec![Told::Skipped("a.ndjson".into(), 0), revoked]));
            continue;
        }
        assert_eq!(told, [Told::Missing("a.ndjson".into(), 0)]);
        let name = reader.name("a.ndjson");
        reader.source.seek(&name, 0).expect("sought");
        let (more, told) = reader.read();
        assert_eq!((records.len() + more.len(), told), (1, vec![revoked]));
        assert!(matches!(reader.source.seek(&name, 0), Err(SourceError::NotAssigned { .. })));
    }
}

#[test]
fn latest_skips_what_is_there_and_nothing_later() {
    let options = FilesOptions { watch: true, start: StartAt::Latest, ..FilesOptions::default() };
    let files: [(&str, &[u8]); 4] = [
        ("a.ndjson", b"1\n2"),
        ("b.csv", b"a\n1\n"),
        ("c.ndjson.gz", &gzip(b"1\n2\n")),
        ("d.parquet", &numbered(3, 2)),
    ];
    let mut reader = Reader::new(options, &files);
    assert_eq!(reader.records(), Vec::<String>::new());
    reader.append("a.ndjson", b"3\n");
    reader.append("b.csv", b"2\n");
    reader.write("e.ndjson", b"4\n");
    // Whether the new file is found before the others' turns come is a matter of time.
    let mut records = reader.records();
    records.sort();
    assert_eq!(records, ["23", "4", r#"{"a":"2"}"#]);
    reader.write("f.ndjson", b"5\n");
    reader.restart();
    assert_eq!(reader.records(), ["5"]);
}

#[test]
fn bad_files_are_named_and_hold_up_nobody() {
    let whole = gzip(&b"{\"n\":1}\n".repeat(1000));
    let parquet = numbered(10, 2);
    let mut reader = Reader::watched(&[
        ("a.parquet", &parquet[..parquet.len() - 9]),
        ("b.ndjson.gz", b"no gzip"),
        ("c.csv", b"a,a\n1,2\n"),
        ("d.csv", &[&b"a,b\n1,\""[..], &vec![b'x'; 3 << 20]].concat()),
        ("e.ndjson", b"1\n"),
    ]);
    assert_eq!(reader.records(), ["1"]);
    let error = reader.last_error();
    assert!(error.contains("a.parquet: ") && error.ends_with("until it changes (and 3 more)"), "{error}");
    reader.write("a.parquet", &parquet);
    assert_eq!(reader.records().len(), 10);
    reader.write("b.ndjson.gz", &whole[..whole.len() / 2]);
    assert!(reader.records().len() <= 1000);
    assert!(reader.last_error().contains("the gzip data ends in the middle"), "{}", reader.last_error());
    reader.write("b.ndjson.gz", &whole);
    reader.read();
    assert_eq!(reader.position.get(&reader.name("b.ndjson.gz")), Some(8000));
    assert!(reader.last_error().contains("c.csv: the header names `a` twice"), "{}", reader.last_error());
    reader.remove("c.csv");
    assert_eq!(reader.told(), [Told::Revoked(vec!["c.csv".into()])]);
    assert!(reader.last_error().contains("a quote is not closed"), "{}", reader.last_error());
    reader.write("d.csv", b"a,b\n1,2\n");
    assert_eq!(reader.records(), [r#"{"a":"1","b":"2"}"#]);
    assert_eq!(reader.last_error(), "");
}

#[test]
fn an_unreadable_file_is_tried_again() {
    let mut reader = Reader::once(&[("a.ndjson", b"1\n"), ("b.ndjson", b"2\n")]);
    let mut told = Vec::new();
    reader.poll(&mut told);
    reader.remove("a.ndjson");
    std::fs::create_dir(reader.path("a.ndjson")).expect("made");
    assert_eq!(reader.records(), ["2"]);
    assert!(!reader.ends());
    assert!(reader.last_error().ends_with("it is tried again"), "{}", reader.last_error());
    std::fs::remove_dir(reader.path("a.ndjson")).expect("removed");
    reader.write("a.ndjson", b"1\n");
    assert_eq!(reader.records(), ["1"]);
    assert!(reader.ends());
}

#[test]
fn a_pause_gives_nothing() {
    let mut reader = Reader::watched(&[("a.ndjson", b"1\n")]);
    reader.source.pause();
    assert_eq!(reader.records(), Vec::<String>::new());
    assert!(reader.source.status().paused);
    reader.source.resume();
    assert_eq!(reader.records(), ["1"]);
}

#[test]
fn wrong_options_say_what_to_write() {
    let refused = |options: FilesOptions| FilesSource::open(options).expect_err("refused").to_string();
    assert!(refused(FilesOptions::default()).starts_with("paths: none is given"));
    let paths = vec!["a/b**c".to_owned()];
    assert!(refused(FilesOptions { paths: paths.clone(), ..Default::default() }).starts_with("paths: `a/b**c` is not"));
    assert!(refused(FilesOptions { paths, csv_delimiter: b'"', ..Default::default() }).starts_with("csv_delimiter: "));

    let options = FilesOptions { paths: vec!["*.txt".into(), "no".into()], ..FilesOptions::default() };
    let mut reader = Reader::new(options.clone(), &[("a.txt", b"{}\n")]);
    assert_eq!(reader.told(), []);
    assert!(reader.ends());
    assert!(reader.last_error().contains("(and 1 more)"), "{}", reader.last_error());
    let mut reader = Reader::new(FilesOptions { format: Some(FilesFormat::Ndjson), ..options }, &[("a.txt", b"{}\n")]);
    assert_eq!(reader.records(), ["{}"]);
}

#[test]
fn many_files_are_read_with_few_handles() {
    let mut reader = Reader::watched(&[]);
    (0..300).for_each(|number| reader.write(&format!("x/{number:03}.ndjson"), format!("{number}\n").as_bytes()));
    let expected: Vec<String> = (0..300).map(|number: u32| number.to_string()).collect();
    assert_eq!(reader.records(), expected);
    let open = reader.source.files.values().filter(|file| file.records.is_some()).count();
    assert_eq!(open, OPEN_MAX);
    reader.append("x/007.ndjson", b"again\n");
    assert_eq!(reader.records(), ["again"]);
    assert!(Path::new(&reader.name("x/007.ndjson")).exists());
}

/// The text of a file and its payloads.
fn text() -> impl Strategy<Value = (&'static str, Vec<u8>, Vec<String>)> {
    let line = prop_oneof![Just(String::new()), "[a-z]{1,6}", " {1,3}", "\\{\"a\":[0-9]{1,5}\\}\r?"];
    let lines = (prop::collection::vec(line, 0..30), any::<bool>()).prop_map(|(lines, is_ended)| {
        let text = lines.join("\n") + if is_ended { "\n" } else { "" };
        let payloads = lines.into_iter().filter(|line| !line.trim().is_empty()).collect();
        ("a.ndjson", text.into_bytes(), payloads)
    });
    let row = ("[a-z\",\n\r]{0,5}", "[a-z\"\n]{1,5}", "(\n|\r\n|\n\n|\r)");
    let rows = (prop::collection::vec(row, 0..20), any::<bool>()).prop_map(|(rows, is_ended)| {
        let mut text = "a,b\n".to_owned();
        let mut payloads = Vec::new();
        for (one, other, end) in rows {
            let quoted = |cell: &str| format!("\"{}\"", cell.replace('"', "\"\""));
            text += &format!("{},{}{end}", quoted(&one), quoted(&other));
            let one = if one.is_empty() { Value::Null } else { Value::String(one) };
            payloads.push(json!({"a": one, "b": other}).to_string().replace("\\r", "\\u000d"));
        }
        if !is_ended {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        ("a.csv", text.into_bytes(), payloads)
    });
    let parquet = (0i64..60, 1usize..20).prop_map(|(count, group_rows)| {
        let payloads = (0..count).map(|number| json!({"n": number}).to_string()).collect();
        ("a.parquet", numbered(count, group_rows), payloads)
    });
    prop_oneof![lines, rows, parquet]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restarts_lose_nothing_and_repeat_nothing(
        (name, bytes, payloads) in text(),
        is_packed in any::<bool>(),
        stops in prop::collection::vec((1usize..7, any::<bool>()), 1..30),
    ) {
        let is_packed = is_packed && name != "a.parquet";
        let (name, bytes) = if is_packed { (format!("{name}.gz"), gzip(&bytes)) } else { (name.to_owned(), bytes) };
        let mut reader = Reader::once(&[(&name, &bytes)]);
        let (mut records, mut told) = (Vec::new(), Vec::new());
        for (records_max, restarts) in stops.into_iter().cycle() {
            reader.options.batch_records_max = records_max;
            if restarts {
                reader.restart();
                reader.poll(&mut told);
            }
            match reader.poll(&mut told) {
                Some(more) => records.extend(more.into_iter().map(|(_, payload)| payload)),
                None => break,
            }
        }
        prop_assert_eq!(records, payloads);
        prop_assert_eq!(reader.last_error(), "");
    }

    #[test]
    fn growth_in_pieces_gives_the_same_records(
        (name, bytes, payloads) in text(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        prop_assume!(name != "a.parquet");
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut reader = Reader::watched(&[(name, b"")]);
        let mut records = Vec::new();
        for (index, pair) in cuts.windows(2).enumerate() {
            reader.append(name, &bytes[pair[0]..pair[1]]);
            if index % 2 == 1 {
                reader.restart();
            }
            records.extend(reader.records());
        }
        reader.append(name, b"\n");
        records.extend(reader.records());
        prop_assert_eq!(records, payloads);
    }

    #[test]
    fn damage_is_an_error_at_worst(
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
        format in 0usize..4,
    ) {
        let row = ("[a-z\",\n]{0,5},\n".repeat(20)).into_bytes();
        let (name, mut bytes) = match format {
            0 => ("a.parquet", numbered(40, 7)),
            1 => ("a.ndjson.gz", gzip(&row)),
            2 => ("a.csv.gz", gzip(&row)),
            _ => ("a.csv", row),
        };
        let at = at.index(bytes.len());
        bytes[at] = with;
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len()) + 1));
        let mut reader = Reader::once(&[(name, &bytes)]);
        reader.read();
        prop_assert!(reader.ends());
    }
}
