//! Objects against files of the machine with the same bytes: whatever a store does, the same records come.

use super::memory::{Fault, MemoryObjects};
use super::*;
use crate::source::files::{FilesFormat, FilesOptions, FilesSource, OnMissing, StartAt};
use crate::source::{Polled, RecordBatch, Source, SourceError, SourcePosition};
use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{Int64Array, RecordBatch as Rows, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::file::reader::{ChunkReader, Length};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};

/// Records by file: the offset and the payload.
type Records = BTreeMap<String, Vec<(u64, String)>>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

/// Columns of unlike sizes, in several row groups of several pages.
fn parquet_rows(count: i64, group_rows: usize, width: usize) -> Vec<u8> {
    let numbers = Int64Array::from_iter_values(0..count);
    let texts = StringArray::from_iter_values((0..count).map(|n| format!("{n}").repeat(width)));
    let squares = Int64Array::from_iter_values((0..count).map(|n| n * n));
    let columns = [("n", Arc::new(numbers) as _), ("text", Arc::new(texts) as _), ("square", Arc::new(squares) as _)];
    let rows = Rows::try_from_iter(columns).expect("a batch");
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(group_rows.div_ceil(3))
        .set_write_batch_size(16)
        .set_dictionary_enabled(false)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a writer");
    writer.write(&rows).expect("written");
    writer.close().expect("closed");
    bytes
}

fn options(paths: &str, objects: Option<Arc<MemoryObjects>>) -> FilesOptions {
    FilesOptions {
        paths: vec![paths.to_owned()],
        objects: objects.map(|objects| objects as Arc<dyn ObjectFiles>),
        poll_interval: Duration::from_millis(1),
        batch_records_max: 7,
        ..FilesOptions::default()
    }
}

/// A reader of a source, and where it is.
struct Reader {
    options: FilesOptions,
    source: FilesSource,
    position: SourcePosition,
    records: Records,
    told: Vec<String>,
}

impl Reader {
    fn new(options: FilesOptions) -> Reader {
        let source = FilesSource::open(options.clone()).expect("valid");
        Reader { options, source, position: SourcePosition::new(), records: Records::new(), told: Vec::new() }
    }

    /// As after a crash: what counts is the position.
    fn restart(&mut self) {
        self.source = FilesSource::open(self.options.clone()).expect("valid");
    }

    /// Polls once and answers; false at the end, or when nothing comes.
    fn poll(&mut self) -> bool {
        let mut batch = RecordBatch::new();
        match self.source.poll(&mut batch, Duration::from_millis(5)) {
            Ok(Polled::Batch) => {
                for record in batch.iter() {
                    let name = batch.partition_name(record.partition).to_string();
                    let text = String::from_utf8_lossy(record.payload.expect("always one")).into_owned();
                    self.records.entry(name).or_default().push((record.offset, text));
                }
                self.position.advance(&batch);
            }
            Ok(Polled::Assigned(_)) => match self.source.start(&self.position) {
                Ok(started) => self.position.begin(&started),
                Err(SourceError::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Ok(Polled::Revoked(revoked)) => {
                for name in &revoked.partitions {
                    self.told.push(format!("gone {name}"));
                    self.position.remove(name);
                }
            }
            Ok(Polled::Skipped(started)) => {
                self.told.extend(started.iter().map(|one| format!("skipped {} to {}", one.partition, one.offset)));
                self.position.begin(&started);
            }
            Ok(Polled::Idle) if self.options.watch => return false,
            Ok(Polled::Idle) => {}
            Ok(Polled::End) => return false,
            Err(SourceError::Missing(missing)) => {
                self.told.push(format!("missing {} at {}", missing.partition, missing.needed));
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        true
    }

    /// Polls to the end, or until nothing came a few times.
    fn read(&mut self) {
        let mut idle = 0;
        for _ in 0..100_000 {
            if self.poll() {
                idle = 0;
            } else if idle == 3 || !self.options.watch {
                return;
            } else {
                idle += 1;
            }
        }
        panic!("it never ends: {:?}", self.source.status());
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.records.get(name).into_iter().flatten().map(|(_, text)| text.as_str()).collect()
    }
}

/// The records of files of the machine, by their names below a folder.
fn of_files(files: &[(String, Vec<u8>)]) -> Records {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    let root = folder.path().display().to_string();
    let mut reader = Reader::new(options(&format!("{root}/**"), None));
    reader.read();
    let short = |name: &str| name.strip_prefix(&format!("{root}/")).expect("below").to_owned();
    reader.records.into_iter().map(|(name, records)| (short(&name), records)).collect()
}

fn lines(count: usize) -> Vec<u8> {
    (0..count).map(|n| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(n % 50))).collect::<String>().into_bytes()
}

fn cells(count: usize) -> Vec<u8> {
    let row = |n: usize| format!("{n},\"a \"\"b\"\"\n{n}\"\n");
    format!("n,text\n{}", (0..count).map(row).collect::<String>()).into_bytes()
}

fn every_format(count: usize, width: usize) -> Vec<(String, Vec<u8>)> {
    let (text, table) = (lines(count), cells(count));
    // Without its last line feed.
    let open_end = text[..text.len().saturating_sub(1)].to_vec();
    let files = [
        ("a.ndjson", text.clone()),
        ("b/open.jsonl", open_end),
        ("b/c/d.ndjson.gz", gzip(&text)),
        ("e f+%20&ü.csv", table.clone()),
        ("g.csv.gz", gzip(&table)),
        ("h.parquet", parquet_rows(count as i64, 1 + count / 3, width)),
        ("i.csv", Vec::new()),
        ("j.txt", b"of no format".to_vec()),
    ];
    files.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec()
}

fn store(files: &[(String, Vec<u8>)], fault: impl Fn(u64) -> Fault + Send + Sync + 'static) -> Arc<MemoryObjects> {
    let objects = MemoryObjects::new(fault);
    files.iter().for_each(|(name, bytes)| objects.put(&format!("s3://bucket/in/{name}"), bytes.clone()));
    objects
}

fn below(records: &Records) -> Records {
    let short = |name: &String| name.strip_prefix("s3://bucket/in/").expect("below").to_owned();
    records.iter().map(|(name, records)| (short(name), records.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Requests fail in every way that passes, reading is broken off anywhere, and each record comes once.
    #[test]
    fn objects_give_the_records_of_files(
        count in 0_usize..400,
        width in 1_usize..60,
        seed in any::<u64>(),
        fault_rate in 0_u64..40,
        crash_every in 5_u64..200,
    ) {
        let files = every_format(count, width);
        let objects = store(&files, move |request| {
            let roll = xxhash_rust::xxh3::xxh3_64_with_seed(&request.to_le_bytes(), seed);
            if roll % 100 >= fault_rate {
                return Fault::None;
            }
            [Fault::Away, Fault::Refused, Fault::Short, Fault::Lost][(roll >> 32) as usize % 4]
        });
        let mut reader = Reader::new(options("s3://bucket/in/", Some(objects)));
        let mut polls = 0_i32;
        while reader.poll() {
            polls += 1;
            prop_assert!(polls < 100_000, "it never ends: {:?}", reader.source.status());
            if xxhash_rust::xxh3::xxh3_64_with_seed(&i32::to_le_bytes(polls), !seed).is_multiple_of(crash_every) {
                reader.restart();
            }
        }
        prop_assert_eq!(below(&reader.records), of_files(&files));
        prop_assert_eq!(reader.told, Vec::<String>::new());
    }

    /// A reader and blocks give an object's bytes from any place, however they are asked.
    #[test]
    fn bytes_are_those_of_the_object(
        size in 0_usize..3_000_000,
        asks in proptest::collection::vec((0_u64..3_000_000, 0_usize..900_000), 1..12),
        parts in proptest::collection::vec((0_u64..3_000_000, 0_u64..900_000), 0..6),
        columns in 0_usize..1_000,
    ) {
        let bytes: Bytes = (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        let objects = MemoryObjects::new(|_| Fault::None);
        objects.put("s3://b/a", bytes.clone());
        let object = wait(&objects.stat("s3://b/a"), &|| false).expect("there");
        let opener = Opener::new(Some(objects as Arc<dyn ObjectFiles>));
        let place = opener.place(object);
        place.ask_ahead();
        let mut file = place.open().expect("opened");
        let parts = parts.iter().map(|(begin, length)| *begin..begin + length).collect();
        let Ok(ColumnBytes::Object(footer)) = place.open_columns() else { panic!("an object") };
        let blocks = footer.of_parts(parts, columns);
        prop_assert_eq!(blocks.len(), size as u64);
        for (at, length) in asks {
            let begin = (at as usize).min(size);
            let expected = &bytes[begin..(begin + length).min(size)];
            prop_assert_eq!(file.seek(SeekFrom::Start(at)).expect("sought"), at);
            let mut found = Vec::new();
            (&mut file).take(length as u64).read_to_end(&mut found).expect("read");
            prop_assert!(found == expected, "{} bytes at {}", length, at);
            let mut found = Vec::new();
            blocks.get_read(at).expect("a reader").take(length as u64).read_to_end(&mut found).expect("read");
            prop_assert!(found == expected, "{} bytes at {}", length, at);
            match blocks.get_bytes(at, length) {
                Ok(found) => prop_assert!(found == expected && found.len() == length),
                Err(_) => prop_assert!(at as usize + length > size),
            }
        }
    }
}

#[test]
fn what_is_read_ahead_is_bounded() {
    let objects = MemoryObjects::new(|_| Fault::None);
    let (text, rows) = (lines(400_000), parquet_rows(60_000, 20_000, 60));
    objects.put("s3://b/a.ndjson", text.clone());
    objects.put("s3://b/b.parquet", rows.clone());
    for (paths, size, begin) in [("s3://b/a.ndjson", text.len(), 0), ("s3://b/b.parquet", rows.len(), 59_000)] {
        objects.read.lock().expect("unpoisoned").clear();
        let mut reader =
            Reader::new(FilesOptions { batch_records_max: 5_000, ..options(paths, Some(objects.clone())) });
        reader.position.set(paths, begin);
        reader.read();
        let read = objects.read.lock().expect("unpoisoned");
        let most = read.iter().map(|range| range.end - range.start).max().expect("some");
        let all: u64 = read.iter().map(|range| range.end - range.start).sum();
        assert!(most <= 4 << 20, "{most} bytes at once");
        assert!(all <= size as u64 + (128 << 10), "{all} bytes of {size}");
        if begin > 0 {
            // Only the last of three row groups.
            assert!(all < size as u64 / 2, "{all} bytes of {size}");
        }
    }
}

#[test]
fn patterns_are_those_of_files() {
    let names = ["a.csv", "b.csv", ".c.csv", "x/a.csv", "x/y/a.csv", "x/y/z/b.csv", ".h/a.csv", "xa.csv", "z"];
    let folder = tempfile::tempdir().expect("a folder");
    let objects = MemoryObjects::new(|_| Fault::None);
    for name in names {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, "n\n1\n").expect("written");
        objects.put(&format!("s3://b/in/{name}"), "n\n1\n");
        objects.put(&format!("s3://b/in2/{name}"), "n\n2\n");
    }
    let patterns = [
        "*.csv",
        ".*.csv",
        "**/a.csv",
        "x/**/y/**/*.csv",
        "*/a.csv",
        "*/y/?.csv",
        "x/**",
        "x",
        "x/",
        "",
        "a.csv",
        "[ab].csv",
        "x*",
    ];
    for pattern in patterns {
        let names = |root: &str, objects: Option<Arc<MemoryObjects>>| {
            let options =
                FilesOptions { format: Some(FilesFormat::Csv), ..options(&format!("{root}/{pattern}"), objects) };
            let mut reader = Reader::new(options);
            reader.read();
            let short = |name: &String| name.strip_prefix(&format!("{root}/")).expect("below").to_owned();
            reader.records.keys().map(short).collect::<Vec<_>>()
        };
        let of_objects = names("s3://b/in", Some(objects.clone()));
        assert_eq!(of_objects, names(&folder.path().display().to_string(), None), "{pattern}");
        assert!(!of_objects.is_empty(), "{pattern}");
    }
    for wrong in ["s3://", "s3:///a", "s3://b//a", "s3://*/a", "s3://user@b/a", "s3://b/a**b"] {
        let refused = FilesSource::open(options(wrong, Some(objects.clone()))).expect_err("refused").to_string();
        assert!(refused.starts_with("paths: ") && refused.contains(wrong), "{refused}");
    }
    assert!(FilesSource::open(options("s3://b/a", None)).expect_err("refused").to_string().contains("no access"));
}

#[test]
fn an_object_that_is_replaced_is_read_on() {
    let objects = MemoryObjects::new(|_| Fault::None);
    let name = "s3://b/a.ndjson";
    objects.put(name, "1\n2");
    let watched = FilesOptions { watch: true, ..options("s3://b/*", Some(objects.clone())) };
    let mut reader = Reader::new(watched);
    reader.read();
    // It is whole: its last line is a record without its line feed.
    assert_eq!(reader.texts(name), ["1", "2"]);
    objects.put(name, "1\n2\n3\n");
    objects.put("s3://b/b.ndjson", "4\n");
    reader.read();
    assert_eq!((reader.texts(name), reader.texts("s3://b/b.ndjson")), (vec!["1", "2", "3"], vec!["4"]));
    // Other content of the same size is not read again.
    objects.put(name, "5\n6\n7\n");
    reader.read();
    assert_eq!(reader.texts(name).len(), 3);
    objects.put(name, "8\n");
    reader.read();
    let is_missing = |told: &String| *told == format!("missing {name} at 6");
    assert!(!reader.told.is_empty() && reader.told.iter().all(is_missing), "{:?}", reader.told);
    reader.told.clear();
    reader.options.on_missing = OnMissing::Earliest;
    reader.restart();
    reader.read();
    assert_eq!(reader.told, [format!("skipped {name} to 0")]);
    assert_eq!(reader.texts(name), ["1", "2", "3", "8"]);
    objects.remove("s3://b/b.ndjson");
    reader.read();
    assert_eq!(reader.told[1..], ["gone s3://b/b.ndjson".to_owned()]);
}

#[test]
fn an_object_that_changes_while_it_is_read_gives_no_mixture() {
    let objects = MemoryObjects::new(|_| Fault::None);
    let text = |digit: &str| format!("{}\n", digit.repeat(99)).repeat(20_000);
    objects.put("s3://b/a.ndjson", text("1"));
    let options =
        FilesOptions { watch: true, batch_records_max: 100, ..options("s3://b/a.ndjson", Some(objects.clone())) };
    let mut reader = Reader::new(options);
    while reader.records.is_empty() {
        assert!(reader.poll());
    }
    objects.put("s3://b/a.ndjson", text("2"));
    reader.read();
    let texts = reader.texts("s3://b/a.ndjson");
    assert_eq!(texts.len(), 20_000);
    assert!(texts.iter().all(|text| text.len() == 99 && (text.starts_with("11") ^ text.ends_with("22"))));
    assert!(texts[0].starts_with('1') && texts[19_999].starts_with('2'));
    assert_eq!(reader.told, Vec::<String>::new());
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    let away = Arc::new(AtomicBool::new(true));
    let is_away = Arc::clone(&away);
    let objects = MemoryObjects::new(move |_| match is_away.load(Ordering::Relaxed) {
        true => Fault::Away,
        false => Fault::None,
    });
    objects.put("s3://b/a.ndjson", "1\n");
    for (watch, name) in [(true, "s3://b/*"), (false, "s3://b/a.ndjson")] {
        away.store(true, Ordering::Relaxed);
        let mut reader = Reader::new(FilesOptions { watch, ..options(name, Some(objects.clone())) });
        // One that is not watched does not take an answer that failed for the end.
        for _ in 0..5 {
            reader.poll();
        }
        let error = reader.source.status().last_error.expect("told");
        assert!(error.contains(name) && error.contains("away"), "{error}");
        away.store(false, Ordering::Relaxed);
        reader.read();
        assert_eq!((reader.texts("s3://b/a.ndjson"), reader.source.status().last_error), (vec!["1"], None));
        // What is not found because nobody can look is not gone.
        away.store(true, Ordering::Relaxed);
        reader.read();
        assert_eq!(reader.told, Vec::<String>::new());
    }
}

#[test]
fn the_latest_is_what_comes_after_a_whole_listing() {
    for (what, page) in [("the first page", 0), ("the second page", 1)] {
        let objects = MemoryObjects::new(move |request| if request == page { Fault::Away } else { Fault::None });
        for n in 0..5 {
            objects.put(&format!("s3://b/in/{n}.ndjson"), "1\n");
        }
        let latest =
            FilesOptions { watch: true, start: StartAt::Latest, ..options("s3://b/in/", Some(objects.clone())) };
        let mut reader = Reader::new(latest);
        reader.read();
        assert_eq!((&reader.records, reader.position.len()), (&Records::new(), 5), "{what}");
        objects.put("s3://b/in/9.ndjson", "2\n");
        objects.put("s3://b/in/0.ndjson", "1\n3\n");
        reader.read();
        assert_eq!((reader.texts("s3://b/in/0.ndjson"), reader.texts("s3://b/in/9.ndjson")), (vec!["3"], vec!["2"]));
        assert_eq!(reader.records.len(), 2, "{what}");
    }
    // What has a position goes on without the rest.
    let objects = MemoryObjects::new(|request| if request % 2 == 1 { Fault::Away } else { Fault::None });
    (0..5).for_each(|n| objects.put(&format!("s3://b/in/{n}.ndjson"), "1\n2\n"));
    let latest = FilesOptions { watch: true, start: StartAt::Latest, ..options("s3://b/in/", Some(objects)) };
    let mut reader = Reader::new(latest);
    reader.position.set("s3://b/in/0.ndjson", 2);
    reader.read();
    assert_eq!(reader.texts("s3://b/in/0.ndjson"), ["2"]);
}

#[test]
fn an_object_replaced_before_it_is_read_is_looked_at_again() {
    let objects = MemoryObjects::new(|_| Fault::None);
    objects.put("s3://b/a.ndjson", "1\n");
    let mut reader = Reader::new(options("s3://b/*", Some(objects.clone())));
    while reader.position.is_empty() {
        assert!(reader.poll());
    }
    objects.put("s3://b/a.ndjson", "2\n3\n");
    let mut polls = 0;
    while reader.poll() {
        polls += 1;
        assert!(polls < 100, "{:?}", reader.source.status());
    }
    assert_eq!(reader.texts("s3://b/a.ndjson"), ["2", "3"]);
}

#[test]
fn markers_of_folders_are_no_objects() {
    let objects = MemoryObjects::new(|_| Fault::None);
    objects.put("s3://b/in/2026", "");
    objects.put("s3://b/in/2026/a.ndjson", "1\n");
    for paths in ["s3://b/in/*", "s3://b/in/**", "s3://b/in/"] {
        for format in [None, Some(FilesFormat::Parquet)] {
            let mut reader = Reader::new(FilesOptions { format, ..options(paths, Some(objects.clone())) });
            reader.read();
            let error = reader.source.status().last_error.unwrap_or_default();
            assert!(reader.position.get("s3://b/in/2026").is_none() && !error.contains("2026:"), "{paths}: {error}");
        }
    }
    // One that is empty for a while is still the same.
    let mut reader = Reader::new(FilesOptions {
        watch: true,
        on_missing: OnMissing::Earliest,
        ..options("s3://b/in/**", Some(objects.clone()))
    });
    reader.read();
    objects.put("s3://b/in/2026/a.ndjson", "");
    reader.read();
    assert_eq!(reader.told, ["skipped s3://b/in/2026/a.ndjson to 0"]);
}

/// A store whose listing never ends.
#[derive(Debug)]
struct Endless {
    /// Cursors come again after so many.
    round: u64,
    has_objects: bool,
    pages: std::sync::atomic::AtomicU64,
}

impl ObjectFiles for Endless {
    fn list(&self, prefix: &str, _: Depth, _: Option<&str>) -> Answer<Page> {
        let page = self.pages.fetch_add(1, Ordering::Relaxed);
        let object = Object { name: format!("{prefix}x").into(), size_bytes: 1, version: None, modified: None };
        let objects = if self.has_objects { vec![object] } else { Vec::new() };
        let (send, answer) = std::sync::mpsc::channel();
        let next = Some((page % self.round).to_string());
        send.send(Ok(Page { objects, odd_names: Vec::new(), next })).expect("the other end is here");
        answer
    }

    fn stat(&self, _: &str) -> Answer<Object> {
        unreachable!("no object is named")
    }

    fn read(&self, _: &Object, _: Range<u64>) -> Answer<Bytes> {
        unreachable!("nothing is read")
    }
}

#[test]
fn a_listing_without_end_is_given_up() {
    for (round, has_objects) in [(1, true), (2, true), (2, false), (700, true), (u64::MAX, false)] {
        let store = Arc::new(Endless { round, has_objects, pages: std::sync::atomic::AtomicU64::new(0) });
        let opener = Opener::new(Some(Arc::clone(&store) as Arc<dyn ObjectFiles>));
        let pattern = ObjectPattern::parse("s3://b/in/*.csv").expect("a pattern");
        let error = pattern.find(&opener, &|| false, None, &mut Found::default()).expect_err("given up");
        assert!(error.kind == ObjectErrorKind::Unavailable && error.what.contains("on and on"), "{error}");
        let pages = store.pages.load(Ordering::Relaxed);
        assert!(pages <= 1_000.max(3 * round.min(1_000)), "{pages} pages of {round}");
    }
}

#[test]
fn damage_is_told_and_holds_up_no_other() {
    let files = every_format(200, 20);
    let objects = store(&files, |_| Fault::None);
    let mut rows = parquet_rows(300, 100, 20);
    let place = rows.len() / 2;
    rows[place..place + 200].fill(0xff);
    objects.put("s3://bucket/in/damaged.parquet", rows);
    objects.put("s3://bucket/in/torn.ndjson.gz", gzip(&lines(5_000))[..4_000].to_vec());
    let mut reader = Reader::new(options("s3://bucket/in/", Some(objects)));
    reader.read();
    let error = reader.source.status().last_error.expect("told");
    assert!(error.contains("damaged.parquet") && error.contains("and 1 more"), "{error}");
    reader.records.retain(|name, _| !name.contains("damaged") && !name.contains("torn"));
    assert_eq!(below(&reader.records), of_files(&files));
}

#[test]
fn many_names_come_page_by_page() {
    let objects = MemoryObjects::new(|_| Fault::None);
    for n in 0..5_000 {
        objects.put(&format!("s3://b/in/{n:05}.ndjson"), format!("{n}\n"));
    }
    let mut reader =
        Reader::new(FilesOptions { batch_records_max: 1_000, ..options("s3://b/in/", Some(objects.clone())) });
    reader.read();
    assert_eq!(reader.records.len(), 5_000);
    assert!(objects.request_count() > 5_000 + 5_000 / 3, "{}", objects.request_count());
}
