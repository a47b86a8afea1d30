//! Events of files give the same store as the same events sent as lines, however they are written, cut or killed.

use super::*;
use crate::decode::{BodyReader, EventDecoder, LINE_BYTES_MAX, LineDecoder};
use arrow::array::*;
use engine::catalog::{Activity, Catalog, Column, ColumnType, Fact, Zone};
use engine::clock::ManualClock;
use engine::ids::TagId;
use engine::store::{FactRow, FactTables, Options, Store, TableError};
use engine::update::UpdateBatch;
use engine::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

fn catalog() -> Catalog {
    let columns = [
        ("category", ColumnType::String),
        ("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ("gift", ColumnType::Boolean),
        ("paid_at", ColumnType::Timestamp),
    ];
    let columns = columns.map(|(name, column_type)| Column { name: name.to_owned(), column_type });
    let fact = Fact {
        id: TagId(0),
        columns: columns.into(),
        activity: Activity { dimensions: vec![0, 2], measures: vec![1] },
        retention_days: Some(400),
        deduplicate_days: Some(30),
        zone: Zone::default(),
    };
    let mut catalog = Catalog::default();
    catalog.declare_fact("purchase", fact).expect("a fact that can be");
    catalog
}

/// Tables whose rows are text, by epoch.
#[derive(Debug, Default)]
struct TextTables(Mutex<BTreeMap<u64, Vec<String>>>);

impl FactTables for TextTables {
    fn stage(&self, _: &str, _: &Fact, _: u64, rows: &[FactRow<'_>]) -> Result<Vec<u8>, TableError> {
        let line = |row: &FactRow<'_>| {
            let values: Vec<_> = row.event.values().collect();
            format!("{} {} {:?} {values:?}\n", row.user_id, row.weight, row.event.head)
        };
        Ok(rows.iter().map(line).collect::<String>().into_bytes())
    }

    fn commit(&self, _: &str, _: &Fact, epoch: u64, staged: &[u8]) -> Result<u64, TableError> {
        let lines = String::from_utf8(staged.to_vec()).expect("what was staged").lines().map(str::to_owned).collect();
        self.0.lock().expect("no panic").entry(epoch).or_insert(lines);
        Ok(epoch)
    }

    fn remove(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn erase(&self, _: &str, _: &Fact, _: &[RoaringBitmap], _: &Arc<AtomicBool>) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_history(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }

    fn forget_staged(&self, _: &str) -> Result<(), TableError> {
        Ok(())
    }
}

/// A disk and the tables on it.
#[derive(Clone, Debug, Default)]
struct Disk {
    vfs: MemoryVfs,
    tables: Arc<TextTables>,
}

impl Disk {
    fn open(&self) -> Store {
        let options = Options {
            shard_count: 2,
            clock: Arc::new(ManualClock::at(NOW)),
            tables: Some(self.tables.clone()),
            ..Options::default()
        };
        Store::open(Arc::new(self.vfs.clone()), Path::new("/data"), options).expect("opens")
    }

    fn new_store(&self) -> Store {
        let store = self.open();
        store.put_catalog(catalog()).expect("taken");
        store
    }
}

/// All that a store keeps of events: every posting of every shard, and the rows of the tables.
fn everything(disk: &Disk, store: &Store) -> (Vec<String>, Vec<String>) {
    store.checkpoint().expect("saved");
    while store.compact_fully().expect("merged").is_some() {}
    let mut postings = Vec::new();
    for (number, shard) in store.snapshot().shards().iter().enumerate() {
        assert!(shard.layers().len() <= 1, "merged into one");
        for segment in shard.layers() {
            for entry in 0..segment.entry_count() {
                let slots: Vec<u32> = segment.posting_at(entry).expect("good").bitmap.iter().collect();
                postings.push(format!("{number} {:?} {slots:?}", segment.key_at(entry)));
            }
        }
    }
    let tables = disk.tables.0.lock().expect("no panic");
    let mut rows: Vec<String> = tables.values().flatten().cloned().collect();
    rows.sort_unstable();
    (postings, rows)
}

/// An event as a source table has it.
#[derive(Clone, Debug)]
struct Row {
    user: u32,
    millis: i64,
    id: Option<u32>,
    retract: bool,
    category: Option<&'static str>,
    cents: Option<i64>,
    gift: Option<bool>,
    paid_millis: Option<i64>,
    shop: Option<String>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        0u32..12,
        0..300 * 86_400_000i64,
        prop::option::of(0u32..9),
        prop::bool::weighted(0.2),
        prop::option::of(prop::sample::select(vec!["shoes", "hats", "a,b", "q\"x"])),
        prop::option::of(-100_000i64..100_000),
        prop::option::of(any::<bool>()),
        prop::option::of(0..4_000_000_000_000i64),
        prop::option::of("[a-z\"\\\\ü]{1,5}"),
    );
    let row = row.prop_map(|(user, back, id, retract, category, cents, gift, paid_millis, shop)| {
        let (millis, retract) = (NOW / 1000 - back, retract && id.is_some());
        Row { user, millis, id, retract, category, cents, gift, paid_millis, shop }
    });
    prop::collection::vec(row, 0..60)
}

/// Many events, so long that they come in several batches.
fn some_rows(numbers: std::ops::Range<u32>) -> Vec<Row> {
    let row = |number: u32| Row {
        user: number % 701,
        millis: NOW / 1000 - i64::from(number) * 600_000,
        id: (!number.is_multiple_of(3)).then_some(number % 2_000),
        retract: number.is_multiple_of(7) && !number.is_multiple_of(3),
        category: [Some("shoes"), Some("hats"), None][number as usize % 3],
        cents: Some(i64::from(number)),
        gift: Some(number.is_multiple_of(2)),
        paid_millis: None,
        shop: Some("x".repeat(300)),
    };
    numbers.map(row).collect()
}

fn decimal(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

/// By the fact's names and types.
fn members(row: &Row) -> [(&'static str, Option<String>); 9] {
    let quoted = |text: &str| serde_json::to_string(text).expect("JSON");
    [
        ("user_id", Some(row.user.to_string())),
        ("ts", Some(row.millis.to_string())),
        ("event_id", row.id.map(|id| format!("\"{id}\""))),
        ("retract", row.retract.then(|| "true".to_owned())),
        ("category", row.category.map(quoted)),
        ("amount", row.cents.map(decimal)),
        ("gift", row.gift.map(|value| value.to_string())),
        ("paid_at", row.paid_millis.map(|millis| millis.to_string())),
        ("shop", row.shop.as_deref().map(quoted)),
    ]
}

fn as_lines(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let members = members(row).into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
        format!("{{{}}}\n", members.collect::<Vec<_>>().join(","))
    };
    rows.iter().map(line).collect()
}

fn as_csv(rows: &[Row]) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = ["gift", "user_id", "ts", "event_id", "retract", "category", "amount", "paid_at", "shop"];
    writer.write_record(names).expect("memory");
    for row in rows {
        let text = |value: Option<String>| value.unwrap_or_default();
        let cells = [
            text(row.gift.map(|value| value.to_string())),
            row.user.to_string(),
            row.millis.to_string(),
            text(row.id.map(|id| id.to_string())),
            text(row.retract.then(|| "yes".to_owned())),
            text(row.category.map(str::to_owned)),
            text(row.cents.map(decimal)),
            text(row.paid_millis.map(|millis| millis.to_string())),
            text(row.shop.clone()),
        ];
        writer.write_record(cells).expect("memory");
    }
    writer.into_inner().expect("memory")
}

fn as_columns(rows: &[Row]) -> RecordBatch {
    let amount: Decimal128Array = rows.iter().map(|row| row.cents.map(i128::from)).collect();
    let ts: TimestampMillisecondArray = rows.iter().map(|row| Some(row.millis)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("category", Arc::new(rows.iter().map(|row| row.category).collect::<StringArray>())),
        ("user_id", Arc::new(rows.iter().map(|row| Some(row.user)).collect::<UInt32Array>())),
        ("ts", Arc::new(ts.with_timezone("UTC"))),
        ("event_id", Arc::new(rows.iter().map(|row| row.id).collect::<UInt32Array>())),
        ("retract", Arc::new(rows.iter().map(|row| Some(row.retract)).collect::<BooleanArray>())),
        ("amount", Arc::new(amount.with_precision_and_scale(12, 2).expect("fits"))),
        ("gift", Arc::new(rows.iter().map(|row| row.gift).collect::<BooleanArray>())),
        ("paid_at", Arc::new(rows.iter().map(|row| row.paid_millis).collect::<TimestampMillisecondArray>())),
        ("shop", Arc::new(rows.iter().map(|row| row.shop.as_deref()).collect::<StringArray>())),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Writes the rows in the format that the file's name says.
fn write(rows: &[Row], path: &Path) {
    let columns = as_columns(rows);
    let create = || std::fs::File::create(path).expect("created");
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => {
            let properties = ::parquet::file::properties::WriterProperties::builder()
                .set_max_row_group_row_count(Some(5_000))
                .build();
            let mut writer = ::parquet::arrow::ArrowWriter::try_new(create(), columns.schema(), Some(properties));
            writer.as_mut().expect("writer").write(&columns).expect("written");
            writer.expect("writer").close().expect("closed");
        }
        Some("arrow") => {
            let options = arrow::ipc::writer::IpcWriteOptions::default()
                .try_with_compression(Some(arrow::ipc::CompressionType::LZ4_FRAME))
                .expect("known");
            let writer = arrow::ipc::writer::FileWriter::try_new_with_options(create(), &columns.schema(), options);
            let mut writer = writer.expect("writer");
            writer.write(&columns).expect("written");
            writer.finish().expect("finished");
        }
        Some("arrows") => {
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(create(), &columns.schema()).expect("writer");
            let half = rows.len() / 2;
            writer.write(&columns.slice(0, half)).expect("written");
            writer.write(&columns.slice(half, rows.len() - half)).expect("written");
            writer.finish().expect("finished");
        }
        Some("csv") => std::fs::write(path, as_csv(rows)).expect("written"),
        _ => std::fs::write(path, as_lines(rows)).expect("written"),
    }
}

fn job(files: &[&Path]) -> BackfillJob {
    let files = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let target = FactTarget { fact: "purchase".to_owned(), ..FactTarget::default() };
    BackfillJob { into: Target::Fact(target), ..BackfillJob::new("job", files, "user_id") }
}

fn load(store: &Store, job: &BackfillJob) -> Result<BackfillReport, BackfillError> {
    run(store, job, &AtomicBool::new(false), &mut |_| {})
}

/// As the lines come over HTTP.
fn stream(store: &Store, lines: &str) {
    let decoder = EventDecoder::new(catalog().fact("purchase").expect("declared"), NOW);
    let mut reader = BodyReader::new(LineDecoder::Events(Box::new(decoder)), LINE_BYTES_MAX);
    let (mut batch, mut lines) = (UpdateBatch::new(), lines.as_bytes());
    while reader.feed(&mut lines, &mut batch) {
        store.write(&batch, None).expect("written");
        batch.clear();
    }
    assert_eq!(reader.finish(&mut batch).errors, []);
    store.write(&batch, None).expect("written");
}

const NAMES: [&str; 5] = ["e.parquet", "e.arrow", "e.arrows", "e.csv", "e.ndjson"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_format_is_as_streaming(rows in rows()) {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::default();
        let streamed = disk.new_store();
        stream(&streamed, &as_lines(&rows));
        let expected = everything(&disk, &streamed);
        for name in NAMES {
            let (disk, path) = (Disk::default(), folder.path().join(name));
            write(&rows, &path);
            let loaded = disk.new_store();
            let report = load(&loaded, &job(&[&path])).expect("loads");
            prop_assert_eq!(report.errors, []);
            prop_assert_eq!((report.progress.events, report.progress.values), (rows.len() as u64, 0));
            let counts = |store: &Store| {
                let counts = store.statistics();
                (counts.events, counts.events_repeated, counts.events_taken_back)
            };
            prop_assert_eq!(counts(&loaded), counts(&streamed));
            prop_assert!(everything(&disk, &loaded) == expected, "{}: {:?}", name, everything(&disk, &loaded));
        }
    }
}

/// The batches of a job, and where it goes on behind each.
fn batches(job: &BackfillJob) -> Vec<(UpdateBatch, u64)> {
    let (catalog, files) = (catalog(), files::find_all(job).expect("found"));
    let mut batches = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let task = plan::Task { job, catalog: &catalog, now: NOW };
        let mut open = rows::OpenFile::open(file, 0, &task).expect("opens");
        loop {
            let (mut batch, mut refused) = (UpdateBatch::new(), rows::Refused::default());
            let goes_on = open.fill(file, rows::BatchSize::default(), &mut batch, &mut refused).expect("decoded");
            assert_eq!(refused.samples, []);
            let place = if goes_on { (number, open.position()) } else { (number + 1, 0) };
            batches.push((batch, (place.0 as u64) << 40 | place.1));
            if !goes_on {
                break;
            }
        }
    }
    batches
}

#[test]
fn a_job_stopped_anywhere_counts_each_event_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<_> = NAMES.iter().map(|name| folder.path().join(name)).collect();
    let mut all = String::new();
    for (number, path) in (0..).zip(&paths) {
        let rows = some_rows(number * 3_600..(number + 1) * 3_600 + 1_000);
        write(&rows, path);
        all += &as_lines(&rows);
    }
    let job = job(&paths.iter().map(|path| path.as_path()).collect::<Vec<_>>());
    let disk = Disk::default();
    let streamed = disk.new_store();
    stream(&streamed, &all);
    let expected = everything(&disk, &streamed);

    let batches = batches(&job);
    let fingerprint = files::fingerprint(&job, &files::find_all(&job).expect("found"));
    assert!(batches.len() >= 2 * paths.len(), "every file is cut");
    for (stopped_behind, loses_power) in (0..batches.len()).zip([true, false].into_iter().cycle()) {
        let disk = Disk::default();
        let mut store = disk.new_store();
        store.write_replayable(&UpdateBatch::new(), "backfill/job#files", fingerprint).expect("taken");
        for (number, (batch, next)) in batches[..=stopped_behind].iter().enumerate() {
            // The last batch is in no checkpoint.
            if number == stopped_behind || number % 4 == 3 {
                store.checkpoint().expect("saved");
            }
            store.write_replayable(batch, "backfill/job", *next).expect("taken");
        }
        if loses_power {
            drop(store);
            disk.vfs.power_cut(stopped_behind as u64);
            store = disk.open();
        }
        let report = load(&store, &job).expect("goes on");
        // Behind the last file there is nothing to go on with.
        let goes_on = if loses_power { stopped_behind > 0 } else { stopped_behind + 1 < batches.len() };
        assert_eq!(report.resumed_at.is_some(), goes_on, "{report:?}");
        assert!(everything(&disk, &store) == expected, "stopped behind batch {stopped_behind}");
        assert_eq!(store.source_offset("backfill/job"), None);
    }
}

#[test]
fn a_file_loaded_again_changes_nothing_if_its_events_have_ids() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("e.parquet");
    let mut rows = some_rows(0..500);
    rows.iter_mut().zip(0..).for_each(|(row, number)| (row.id, row.retract) = (Some(number), false));
    write(&rows, &path);
    let disk = Disk::default();
    let store = disk.new_store();
    load(&store, &job(&[&path])).expect("loads");
    let once = everything(&disk, &store);
    assert_eq!(load(&store, &job(&[&path])).expect("loads").progress.events, 500);
    assert_eq!(store.statistics().events_repeated, 500);
    assert!(everything(&disk, &store) == once);
}

#[test]
fn columns_may_have_other_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let named = |name: &str| folder.path().join(name);
    let line = r#"{"id":7,"at":"2026-11-20T10:00:00Z","ts":"x","price":1.5,"order":"o1","junk":1}"#;
    std::fs::write(named("e.ndjson"), line).expect("written");
    let cells = "id,at,ts,price,order,junk\n7,2026-11-20T10:00:00Z,x,1.5,o1,1\n";
    std::fs::write(named("e.csv"), cells).expect("written");
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let columns = RecordBatch::try_from_iter([
        ("junk", text("1")),
        ("id", text("7")),
        ("at", text("2026-11-20T10:00:00Z")),
        ("ts", text("x")),
        ("price", text("1.5")),
        ("order", text("o1")),
    ]);
    let columns = columns.expect("a row");
    let file = std::fs::File::create(named("e.parquet")).expect("created");
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, columns.schema(), None).expect("writer");
    writer.write(&columns).expect("written");
    writer.close().expect("closed");

    let mapping = [("price", Some("amount")), ("junk", None)];
    let target = FactTarget {
        fact: "purchase".to_owned(),
        ts: Some("at".to_owned()),
        event_id: Some("order".to_owned()),
        columns: mapping.map(|(column, field)| (column.to_owned(), field.map(str::to_owned))).into(),
    };
    for name in ["e.ndjson", "e.csv", "e.parquet"] {
        let disk = Disk::default();
        let store = disk.new_store();
        let job = BackfillJob { user_id: "id".to_owned(), into: Target::Fact(target.clone()), ..job(&[&named(name)]) };
        let report = load(&store, &job).expect("loads");
        assert_eq!(report.errors, [], "{name}");
        let unmatched: &[&str] = if name == "e.ndjson" { &[] } else { &["ts"] };
        assert_eq!(report.unmatched.iter().collect::<Vec<_>>(), unmatched, "{name}");
        assert_eq!(
            everything(&disk, &store).1,
            [format!(
                "7 1 EventHead {{ ts: {NOW}, is_retraction: false, event_id: \"o1\", undeclared: \"{{\\\"ts\\\":\\\"x\\\"}}\" }} \
                 [Null, Integer(150), Null, Null]"
            )],
            "{name}"
        );
    }
}

#[test]
fn bad_rows_are_named_by_file_and_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let named = |name: &str| folder.path().join(name);
    let mut rows = some_rows(0..6);
    (rows[1].millis, rows[4].cents) = (NOW / 1000 + 2 * 86_400_000, Some(12));
    write(&rows, &named("a.parquet"));
    let cells = "user_id,ts,amount,gift,retract,x\n\
        1,2026-11-20T10:00:00Z,1.005,,,\n,1795168800000,,,,\n3,,,,,\n4,1795168800000,,maybe,,\n5,1795168800000,1,1,true,\n\
        6,1795168800,,,,\n7,1795168800000,1\n8,1795168800000, 7 ,no,no,x\n";
    std::fs::write(named("b.csv"), cells).expect("written");
    std::fs::write(named("c.ndjson"), "\n{\"user_id\":1}\n").expect("written");
    let store = Disk::default().new_store();
    let files = [named("a.parquet"), named("b.csv"), named("c.ndjson")];
    let report = load(&store, &job(&files.each_ref().map(|path| path.as_path()))).expect("loads");
    assert_eq!((report.progress.events, report.progress.rejected), (6, 9));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let errors: Vec<_> =
        report.errors.iter().map(|row| format!("{} {}: {}", name(&row.file), row.row, row.error)).collect();
    assert_eq!(
        errors,
        [
            "a.parquet 2: `ts`: `2026-11-22T10:00:00Z` is more than a day after now; check the sender's clock and time zone",
            "b.csv 1: `amount`: `1.005` has more than 2 digits behind the point; round it, or send it to a column with more \
             of them",
            "b.csv 2: the user id is empty",
            "b.csv 3: `ts` is empty; write 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds since 1970",
            "b.csv 4: `gift`: `maybe` is neither true nor false; write true, false, 1, 0, yes or no",
            "b.csv 5: `retract` needs the `event_id` of the event that it takes back",
            "b.csv 6: `ts`: `1795168800` is older than the 400 days that the fact keeps; a number is read as milliseconds \
             since 1970",
            "b.csv 7: 3 cells, the header has 6",
            "c.ndjson 2: `ts` is missing; write {\"user_id\":\"u1\",\"ts\":\"2026-11-20T10:00:00Z\",…}",
        ]
    );
}

#[test]
fn jobs_are_checked_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("e.csv");
    write(&some_rows(0..3), &path);
    let refused = |change: &dyn Fn(&mut BackfillJob, &mut FactTarget), expected: &str| {
        let (mut job, mut target) =
            (job(&[&path]), FactTarget { fact: "purchase".to_owned(), ..FactTarget::default() });
        change(&mut job, &mut target);
        job.into = Target::Fact(target);
        let error = load(&Disk::default().new_store(), &job).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let map = |column: &str, field: &str| BTreeMap::from([(column.to_owned(), Some(field.to_owned()))]);
    refused(&|_, target| target.fact = "purchse".to_owned(), "there is no fact `purchse`; did you mean `purchase`?");
    refused(&|job, _| job.nulls = NullMeaning::Unset, "are for tags; leave them out");
    refused(&|job, _| job.format = Some(FileFormat::Tags), "lines of events are `ndjson`");
    refused(&|job, _| job.user_id = "user".to_owned(), "column `user`: there is no such column");
    refused(&|_, target| target.event_id = Some("order".to_owned()), "column `order`: there is no such column");
    refused(&|_, target| target.columns = map("shop", "catgory"), "did you mean `category`?");
    refused(
        &|_, target| (target.ts, target.columns) = (Some("shop".to_owned()), map("shop", "category")),
        "column `shop` cannot be `ts` and `category`; choose one",
    );
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["e.parquet", "e.arrow", "e.arrows"] {
        let path = folder.path().join(name);
        write(&some_rows(0..20), &path);
        let good = std::fs::read(&path).expect("written");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            let job = job(&[&path]);
            let (catalog, files) = (catalog(), files::find_all(&job).expect("found"));
            let task = plan::Task { job: &job, catalog: &catalog, now: NOW };
            let mut open = rows::OpenFile::open(&files[0], 0, &task)?;
            open.fill(&files[0], rows::BatchSize::default(), &mut UpdateBatch::new(), &mut rows::Refused::default())
        };
        assert!(matches!(read(&good), Ok(false)), "{name}");
        for cut in (0..good.len() - 1).step_by(127) {
            let result = read(&good[..cut]);
            // A stream may end anywhere between two batches.
            assert!(result.is_err() || name == "e.arrows", "{name} cut to {cut} bytes: {result:?}");
        }
        // Arrow's reader believes any length that a damaged message states, and then runs out of memory.
        for at in (0..good.len()).step_by(61).filter(|_| name == "e.parquet") {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let _ = read(&bytes);
        }
    }
}
