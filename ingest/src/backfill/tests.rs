//! A backfill gives the same store as streaming the same rows, however it is written, cut or killed.

use super::*;
use crate::decode::{BodyReader, LINE_BYTES_MAX, LineDecoder, TagDecoder};
use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use engine::audience::ops::{UserValue, user_tags};
use engine::catalog::{Catalog, Metric, Space, TagType, Unit};
use engine::store::{Options, Store};
use engine::update::UpdateBatch;
use engine::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, tag_type) in [
        ("gender", TagType::Enum),
        ("age", TagType::Number(Unit::Integer)),
        ("spend", TagType::Number(Unit::Decimal { scale: 2 })),
        ("seen_at", TagType::Number(Unit::Timestamp)),
        ("interest", TagType::Set),
        ("is_member", TagType::Flag),
    ] {
        catalog.declare(name, tag_type).expect("good names");
    }
    catalog
}

fn open(vfs: &MemoryVfs) -> Store {
    let options = Options { shard_count: 2, ..Options::default() };
    Store::open(Arc::new(vfs.clone()), Path::new("/data"), options).expect("opens")
}

pub(super) fn new_store() -> Store {
    let store = open(&MemoryVfs::default());
    store.put_catalog(catalog()).expect("taken");
    store.publish().expect("published");
    store
}

/// A row as a source table has it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    id: u32,
    gender: Option<&'static str>,
    age: Option<i64>,
    cents: Option<i64>,
    seen_micros: Option<i64>,
    interests: Option<Vec<&'static str>>,
    is_member: Option<bool>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let interest = prop::sample::select(vec!["yoga", "golf", "a,b", "q\"x"]);
    let row = (
        0u32..12,
        prop::option::of(prop::sample::select(vec!["f", "m"])),
        prop::option::of(-5i64..100),
        prop::option::of(-100_000i64..100_000),
        prop::option::of(-10_000_000_000_000i64..2_000_000_000_000_000),
        prop::option::of(prop::collection::vec(interest, 0..3)),
        prop::option::of(any::<bool>()),
    );
    let row = row.prop_map(|(id, gender, age, cents, seen_micros, interests, is_member)| Row {
        id,
        gender,
        age,
        cents,
        seen_micros,
        interests,
        is_member,
    });
    prop::collection::vec(row, 0..40)
}

fn decimal(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

/// Milliseconds with their fraction, as a JSON number.
fn millis(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", micros.abs() / 1000, micros.abs() % 1000)
}

/// The members of a JSON row.
fn members(row: &Row) -> String {
    let mut members = Vec::new();
    let mut add = |name: &str, value: Option<String>| members.extend(value.map(|value| format!("\"{name}\":{value}")));
    add("gender", row.gender.map(|value| format!("\"{value}\"")));
    add("age", row.age.map(|value| value.to_string()));
    add("spend", row.cents.map(decimal));
    add("seen_at", row.seen_micros.map(millis));
    add("interest", row.interests.as_ref().map(|values| serde_json::to_string(values).expect("JSON")));
    add("is_member", row.is_member.map(|value| value.to_string()));
    members.join(",")
}

fn as_tag_lines(rows: &[Row]) -> String {
    rows.iter().map(|row| format!("{{\"user_id\":{},\"set\":{{{}}}}}\n", row.id, members(row))).collect()
}

pub(super) fn as_json_rows(rows: &[Row]) -> String {
    let comma = |text: String| if text.is_empty() { text } else { format!(",{text}") };
    rows.iter().map(|row| format!("{{\"user_id\":\"{}\"{}}}\n", row.id, comma(members(row)))).collect()
}

/// Interests separated by `|`. CSV cannot tell an empty set from NULL.
pub(super) fn as_csv(rows: &[Row]) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(["age", "user_id", "gender", "spend", "seen_at", "hobbies", "is_member"]).expect("memory");
    for row in rows {
        let text = |value: Option<String>| value.unwrap_or_default();
        let cells = [
            text(row.age.map(|value| value.to_string())),
            row.id.to_string(),
            text(row.gender.map(str::to_owned)),
            text(row.cents.map(decimal)),
            text(row.seen_micros.map(millis)),
            text(row.interests.as_ref().map(|values| values.join("|"))),
            text(row.is_member.map(|value| value.to_string())),
        ];
        writer.write_record(cells).expect("memory");
    }
    writer.into_inner().expect("memory")
}

pub(super) fn write_parquet(rows: &[Row], path: &Path, rows_per_group: usize) {
    let mut interests = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.interests.iter().flatten().for_each(|value| interests.values().append_value(value));
        interests.append(row.interests.is_some());
    }
    let gender: DictionaryArray<Int32Type> = rows.iter().map(|row| row.gender).collect();
    let spend: Decimal128Array = rows.iter().map(|row| row.cents.map(i128::from)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("interest", Arc::new(interests.finish())),
        ("user_id", Arc::new(rows.iter().map(|row| Some(row.id)).collect::<UInt32Array>())),
        ("gender", Arc::new(gender)),
        ("age", Arc::new(rows.iter().map(|row| row.age.map(|age| age as i16)).collect::<Int16Array>())),
        ("spend", Arc::new(spend.with_precision_and_scale(12, 2).expect("fits"))),
        ("seen_at", Arc::new(rows.iter().map(|row| row.seen_micros).collect::<TimestampMicrosecondArray>())),
        ("is_member", Arc::new(rows.iter().map(|row| row.is_member).collect::<BooleanArray>())),
        ("unrelated", Arc::new(rows.iter().map(|row| Some(row.id)).collect::<UInt32Array>())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.expect("columns of one length");
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .build();
    let file = std::fs::File::create(path).expect("created");
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

fn mapping(column: &str, tag: &str) -> ColumnMapping {
    ColumnMapping { column: column.to_owned(), tag: tag.to_owned(), separator: None, add: false }
}

pub(super) fn job(path: &Path) -> BackfillJob {
    BackfillJob::new("job", vec![path.to_string_lossy().into_owned()], "user_id")
}

fn csv_job(path: &Path) -> BackfillJob {
    let mut columns: Vec<_> =
        ["gender", "age", "spend", "seen_at", "is_member"].iter().map(|name| mapping(name, name)).collect();
    columns.push(ColumnMapping { separator: Some("|".to_owned()), ..mapping("hobbies", "interest") });
    BackfillJob { columns, ..job(path) }
}

pub(super) fn load(store: &Store, job: &BackfillJob) -> Result<BackfillReport, BackfillError> {
    run(store, job, &AtomicBool::new(false), &mut |_| {})
}

fn stream(store: &Store, lines: &str) {
    let decoder = TagDecoder::new(store.snapshot().catalog());
    let (mut reader, mut batch) = (BodyReader::new(LineDecoder::Tags(decoder), LINE_BYTES_MAX), UpdateBatch::new());
    reader.feed(&mut lines.as_bytes(), &mut batch);
    let report = reader.finish(&mut batch);
    assert_eq!(report.errors, []);
    store.write(&batch, None).expect("written");
    store.publish().expect("published");
}

/// A user's tags by name; none if it is not known.
pub(super) type Known = Option<Vec<(String, UserValue)>>;

/// Every user with its tags.
pub(super) fn state(store: &Store, ids: impl Iterator<Item = u32>) -> Vec<(u32, Known)> {
    let snapshot = store.snapshot();
    let named = |tags: Vec<(engine::ids::TagId, UserValue)>| {
        let name = |id| snapshot.catalog().name_of(id).expect("declared").to_owned();
        tags.into_iter().map(|(id, value)| (name(id), value)).collect()
    };
    ids.map(|id| (id, user_tags(&snapshot, &id.to_string()).expect("readable").map(named))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_format_is_as_streaming(rows in rows(), group in 1usize..20) {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let streamed = new_store();
        stream(&streamed, &as_tag_lines(&rows));
        let expected = state(&streamed, 0..12);
        let count = rows.len() as u64;

        write_parquet(&rows, &at("rows.parquet"), group);
        std::fs::write(at("rows.ndjson"), as_json_rows(&rows)).expect("written");
        std::fs::write(at("lines.ndjson"), as_tag_lines(&rows)).expect("written");
        let jobs = [
            job(&at("rows.parquet")),
            job(&at("rows.ndjson")),
            BackfillJob { format: Some(FileFormat::Tags), ..job(&at("lines.ndjson")) },
        ];
        for job in jobs {
            let loaded = new_store();
            let report = load(&loaded, &job).expect("loads");
            prop_assert_eq!((report.progress.rows_done, report.progress.rejected), (count, 0), "{:?}", report.errors);
            prop_assert_eq!(state(&loaded, 0..12), expected.clone());
        }
    }

    /// In CSV an empty cell is NULL, and a `|` would part a value.
    #[test]
    fn csv_is_as_streaming(mut rows in rows()) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.csv.gz");
        rows.iter_mut().for_each(|row| row.interests = row.interests.take().filter(|values| !values.is_empty()));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, &as_csv(&rows)).expect("packed");
        std::fs::write(&path, gz.finish().expect("packed")).expect("written");
        let (streamed, loaded) = (new_store(), new_store());
        stream(&streamed, &as_tag_lines(&rows));
        let report = load(&loaded, &csv_job(&path)).expect("loads");
        prop_assert_eq!(report.errors, []);
        prop_assert_eq!(state(&loaded, 0..12), state(&streamed, 0..12));
    }
}

pub(super) fn some_rows(count: u32) -> Vec<Row> {
    let row = |id: u32| Row {
        id,
        gender: [Some("f"), Some("m"), None][id as usize % 3],
        age: Some(i64::from(id % 90)),
        cents: None,
        seen_micros: None,
        interests: Some(vec!["yoga"]),
        is_member: Some(id.is_multiple_of(2)),
    };
    (0..count).map(row).collect()
}

/// A run that loads the first batch, makes a checkpoint, loads the second, and loses power.
fn begin_and_lose_power(job: &BackfillJob, vfs: &MemoryVfs) -> u64 {
    let store = open(vfs);
    store.put_catalog(catalog()).expect("taken");
    store.publish().expect("published");
    let files = files::find_all(job).expect("found");
    let mut first =
        rows::OpenFile::open(&files[0], 0, &plan::Task { job, catalog: &catalog(), now: 0 }).expect("opens");
    let (mut batch, mut refused) = (UpdateBatch::new(), rows::Refused::default());
    store.write_replayable(&batch, "backfill/job#files", files::fingerprint(job, &files)).expect("taken");
    assert!(first.fill(&files[0], rows::BatchSize::default(), &mut batch, &mut refused).expect("decoded"));
    let saved = first.position();
    store.write_replayable(&batch, "backfill/job", saved).expect("taken");
    store.checkpoint().expect("saved");
    batch.clear();
    assert!(first.fill(&files[0], rows::BatchSize::default(), &mut batch, &mut refused).expect("decoded"));
    store.write_replayable(&batch, "backfill/job", first.position()).expect("taken");
    drop(store);
    vfs.power_cut(7);
    saved
}

#[test]
fn a_killed_job_goes_on_at_its_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = some_rows(60_000);
    write_parquet(&rows[..50_000], &folder.path().join("1.parquet"), 7_000);
    write_parquet(&rows[50_000..], &folder.path().join("2.parquet"), 100_000);
    let job = job(&folder.path().join("*.parquet"));
    let vfs = MemoryVfs::default();
    let saved = begin_and_lose_power(&job, &vfs);

    let store = open(&vfs);
    let report = load(&store, &job).expect("goes on");
    assert_eq!(report.resumed_at, Some((folder.path().join("1.parquet"), saved)));
    assert_eq!((report.progress.rows_done, report.progress.rows_total), (60_000 - saved, Some(60_000 - saved)));
    let all = new_store();
    load(&all, &job).expect("loads");
    let ids = || (0..60_000).step_by(997);
    assert_eq!(state(&store, ids()), state(&all, ids()));
    // Finished: a next run begins anew.
    assert_eq!(store.source_offset("backfill/job"), None);
}

#[test]
fn a_cancelled_job_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, as_csv(&some_rows(10))).expect("written");
    let stopped = run(&new_store(), &csv_job(&path), &AtomicBool::new(true), &mut |_| {});
    assert!(matches!(stopped, Err(BackfillError::Cancelled { .. })), "{stopped:?}");
}

#[test]
fn changed_files_are_not_resumed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, as_csv(&some_rows(10))).expect("written");
    let store = new_store();
    let fingerprint = files::fingerprint(&csv_job(&path), &files::find_all(&csv_job(&path)).expect("found"));
    store.write_replayable(&UpdateBatch::new(), "backfill/job#files", fingerprint).expect("as a run that began");
    store.write_replayable(&UpdateBatch::new(), "backfill/job", 4).expect("four rows done");
    std::fs::write(&path, as_csv(&some_rows(11))).expect("written");
    let error = load(&store, &csv_job(&path)).expect_err("refused").to_string();
    assert!(error.contains("`restart: true`"), "{error}");
    let report = load(&store, &BackfillJob { restart: true, ..csv_job(&path) }).expect("loads all");
    assert_eq!((report.progress.rows_done, report.resumed_at), (11, None));
}

#[test]
fn a_job_does_not_go_on_in_what_was_declared_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, as_csv(&some_rows(300))).expect("written");
    let pace = Pace { rows_per_second_max: Some(500), memory_bytes_max: u64::MAX };
    let named = BackfillJob { columns: vec![mapping("age", "age")], ..csv_job(&path) };
    let by_name = BackfillJob { columns: Vec::new(), ..named.clone() };
    for (job, anew, is_refused) in
        [(&named, "age", true), (&named, "gender", false), (&by_name, "age", true), (&by_name, "other", true)]
    {
        let store = new_store();
        let cancel = AtomicBool::new(false);
        let stopped = run_beside(&store, job, pace, &cancel, &mut |report| {
            cancel.store(report.progress.rows_done > 0, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(matches!(stopped, Err(BackfillError::Cancelled { .. })), "{stopped:?}");
        let mut catalog = Catalog::clone(store.snapshot().catalog());
        catalog.drop_tag(anew);
        catalog.declare(anew, TagType::Number(Unit::Integer)).expect("a good name");
        store.put_catalog(catalog).expect("taken");
        let never = AtomicBool::new(false);
        let again = run_beside(&store, job, pace, &never, &mut |_| {});
        assert_eq!(again.is_err(), is_refused, "{again:?}");
        let Err(error) = again else { continue };
        let told = error.to_string();
        assert!(
            told.contains(&format!("the tag `{anew}` was declared after")) && told.contains("`restart: true`"),
            "{told}"
        );
        let job = BackfillJob { restart: true, ..job.clone() };
        let report = run_beside(&store, &job, pace, &never, &mut |_| {}).expect("loads all");
        assert_eq!((report.progress.rows_done, report.resumed_at), (300, None));
    }
}

fn with_space() -> (Store, Space) {
    let mut catalog = catalog();
    catalog.declare_space("taste", 2, Metric::L2).expect("a good space");
    let space = *catalog.space("taste").expect("declared");
    let store = open(&MemoryVfs::default());
    store.put_catalog(catalog).expect("taken");
    store.publish().expect("published");
    (store, space)
}

#[test]
fn vectors_of_lines_under_another_key_are_not_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vectors.ndjson");
    let (store, space) = with_space();
    let write = |lines: &[&str]| std::fs::write(&path, lines.join("\n")).expect("written");
    let target = SpaceTarget { space: "taste".to_owned(), vector: None };
    let job = BackfillJob { into: Target::Space(target), nulls: NullMeaning::Unset, ..job(&path) };
    let vector = |user: &str| store.snapshot().vector(&space, user).expect("readable");
    let known = || ["a", "b", "c", "d"].map(|user| user_tags(&store.snapshot(), user).expect("readable").is_some());
    write(&[r#"{"user_id":"a","vector":[1,2],"plan":"x"}"#, r#"{"user_id":"b","vector":[3,4],"note":null}"#]);
    let report = load(&store, &job).expect("loads");
    assert_eq!((report.progress.rows_done, report.progress.rejected), (2, 0));
    assert_eq!(report.unmatched, BTreeSet::from(["plan".to_owned(), "note".to_owned()]));
    assert_eq!((vector("a"), vector("b")), (Some(vec![1.0, 2.0]), Some(vec![3.0, 4.0])));

    write(&[r#"{"user_id":"a","vectors":[5,6]}"#, r#"{"user_id":"c","vectors":[5,6],"plan":"x"}"#]);
    let error = load(&store, &job).expect_err("nothing to load").to_string();
    assert!(error.contains("no line has the key `vector`; did you mean `vectors`?"), "{error}");
    assert_eq!((vector("a"), known()), (Some(vec![1.0, 2.0]), [true, true, false, false]), "nothing was touched");

    // What only some lines do not say stays as it was; an explicit null takes it away.
    let again = BackfillJob { restart: true, ..job.clone() };
    write(&[
        "",
        r#"{"user_id":"a","plan":"x"}"#,
        r#"{"user_id":"b","vector":null}"#,
        r#"{"user_id":"d","vector":[7,8]}"#,
    ]);
    assert_eq!(load(&store, &again).expect("loads").progress.rejected, 0);
    assert_eq!((vector("a"), vector("b"), vector("d")), (Some(vec![1.0, 2.0]), None, Some(vec![7.0, 8.0])));
    write(&[r#"{"user_id":"a","vector":null}"#]);
    load(&store, &again).expect("loads");
    assert_eq!(vector("a"), None);
    // A file without lines, or of lines that were told to be wrong, is not told so again.
    write(&[]);
    load(&store, &again).expect("nothing to do");
    write(&["{", r#"{"vectors":[1,2]}"#]);
    assert_eq!(load(&store, &again).expect("told row by row").progress.rejected, 2);
}

#[test]
fn lines_of_vectors_go_on_behind_the_one_that_has_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vectors.ndjson");
    std::fs::write(&path, "{\"user_id\":\"a\",\"vector\":[1,2]}\n{\"user_id\":\"b\"}\n").expect("written");
    let (store, _) = with_space();
    let target = SpaceTarget { space: "taste".to_owned(), vector: None };
    let job = BackfillJob { into: Target::Space(target), ..job(&path) };
    let fingerprint = files::fingerprint(&job, &files::find_all(&job).expect("found"));
    store.write_replayable(&UpdateBatch::new(), "backfill/job#files", fingerprint).expect("as a run that began");
    store.write_replayable(&UpdateBatch::new(), "backfill/job", 1).expect("a line done");
    assert_eq!(load(&store, &job).expect("goes on").progress.rows_done, 1);
}

#[test]
fn text_goes_on_behind_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, as_csv(&some_rows(10))).expect("written");
    let store = new_store();
    let fingerprint = files::fingerprint(&csv_job(&path), &files::find_all(&csv_job(&path)).expect("found"));
    store.write_replayable(&UpdateBatch::new(), "backfill/job#files", fingerprint).expect("as a run that began");
    store.write_replayable(&UpdateBatch::new(), "backfill/job", 4).expect("four rows done");
    let report = load(&store, &csv_job(&path)).expect("goes on");
    assert_eq!((report.progress.rows_done, report.resumed_at), (6, Some((path, 4))));
    let known: Vec<u32> =
        state(&store, 0..10).into_iter().filter(|(_, tags)| tags.is_some()).map(|(id, _)| id).collect();
    assert_eq!(known, [4, 5, 6, 7, 8, 9]);
}

#[test]
fn bad_rows_are_counted_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    let text =
        "user_id,age,gender,interest\n1,31,f,\n2,old,m,\n,5,f,\n4,1,f\n5,99999999999999999999,f,\n6,7,\"m\",yoga\n";
    std::fs::write(&path, text).expect("written");
    let store = new_store();
    let report = load(&store, &job(&path)).expect("loads");
    assert_eq!((report.progress.rows_done, report.progress.rejected), (6, 4));
    let errors: Vec<String> = report.errors.iter().map(|error| format!("{}: {}", error.row, error.error)).collect();
    assert_eq!(
        errors,
        [
            "2: column `age`: `old` is not a number; write digits, as in 31 or -2.50",
            "3: the user id is empty",
            "4: 3 cells, the header has 4",
            "5: column `age`: `99999999999999999999` is beyond -9223372036854775808 … 9223372036854775807; choose a unit in \
             which the numbers are smaller",
        ]
    );
    let strict = BackfillJob { errors_max: Some(3), ..job(&path) };
    let error = load(&new_store(), &strict).expect_err("too many").to_string();
    assert!(error.contains("4 rows were refused; the first is") && error.contains("row 2: column `age`"), "{error}");
    assert!(load(&new_store(), &BackfillJob { errors_max: Some(4), ..job(&path) }).is_ok());
}

#[test]
fn mappings_are_checked_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.parquet");
    write_parquet(&some_rows(5), &path, 10);
    let refused = |columns: Vec<ColumnMapping>, user_id: &str| {
        let job = BackfillJob { columns, user_id: user_id.to_owned(), ..job(&path) };
        load(&new_store(), &job).expect_err("refused").to_string()
    };
    for (columns, user_id, expected) in [
        (vec![mapping("agee", "age")], "user_id", "there is no column `agee`; did you mean `age`?"),
        (vec![mapping("age", "agee")], "user_id", "there is no tag `agee`; did you mean `age`?"),
        (vec![mapping("age", "age")], "userid", "there is no column `userid`; did you mean `user_id`?"),
        (vec![mapping("is_member", "age")], "user_id", "a column of Boolean cannot fill a number tag"),
        (vec![mapping("interest", "gender")], "user_id", "cannot fill a enum tag"),
        (vec![mapping("age", "age")], "spend", "a user id is text or an integer"),
        (vec![ColumnMapping { add: true, ..mapping("age", "age") }], "user_id", "`add` and `separator` are for sets"),
    ] {
        let error = refused(columns, user_id);
        assert!(error.contains(expected), "{error}");
    }
    std::fs::write(&path, b"PAR1 not really").expect("written");
    assert!(refused(Vec::new(), "user_id").contains("rows.parquet"));
}

#[test]
fn nulls_keep_or_unset() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, "user_id,age,interest\n0,,golf\n").expect("written");
    let before = "{\"user_id\":0,\"set\":{\"age\":5,\"interest\":[\"yoga\"]}}\n";
    let check = |nulls, add, expected: &[(&str, UserValue)]| {
        let store = new_store();
        stream(&store, before);
        let columns = vec![mapping("age", "age"), ColumnMapping { add, ..mapping("interest", "interest") }];
        load(&store, &BackfillJob { nulls, columns, ..job(&path) }).expect("loads");
        let mut tags = state(&store, 0..1).remove(0).1.expect("known");
        tags.retain(|(name, _)| name != "is_member");
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(tags, expected);
    };
    let set = |values: &[&str]| UserValue::Set(values.iter().map(|value| (*value).to_owned()).collect());
    check(NullMeaning::Keep, false, &[("age", UserValue::Number(5)), ("interest", set(&["golf"]))]);
    check(NullMeaning::Unset, true, &[("interest", set(&["golf", "yoga"]))]);
}

#[test]
fn columns_without_a_tag_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, "user_id,age,agee,shoe_size\n0,5,6,7\n").expect("written");
    let report = load(&new_store(), &job(&path)).expect("loads");
    assert_eq!(report.unmatched.iter().collect::<Vec<_>>(), ["agee", "shoe_size"]);
    let columns = vec![mapping("agee", "age")];
    let report = load(&new_store(), &BackfillJob { columns, ..job(&path) }).expect("loads");
    assert!(report.unmatched.is_empty(), "the mapping says what is wanted: {report:?}");
}

/// Types that other programs write.
#[test]
fn arrow_types_are_brought_to_tags() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.parquet");
    let one = |name: &str, column: ArrayRef| {
        let id: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("user_id", id, false), (name, column, true)]).expect("a row");
        let mut writer = ::parquet::arrow::ArrowWriter::try_new(
            std::fs::File::create(&path).expect("created"),
            batch.schema(),
            None,
        )
        .expect("writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let store = new_store();
        let report = load(&store, &job(&path)).expect("loads");
        if let Some(error) = report.errors.first() {
            return error.error.clone();
        }
        let tags = user_tags(&store.snapshot(), &u64::MAX.to_string()).expect("readable").expect("known");
        let id = store.snapshot().catalog().tag(name).expect("declared").id;
        format!("{:?}", tags.into_iter().find(|tag| tag.0 == id).map(|tag| tag.1))
    };
    let text = |value: &str| -> ArrayRef { Arc::new(StringViewArray::from(vec![value])) };
    assert_eq!(one("age", Arc::new(Float64Array::from(vec![31.0]))), "Some(Number(31))");
    assert_eq!(one("spend", Arc::new(Float32Array::from(vec![0.1f32]))), "Some(Number(10))");
    assert!(one("age", Arc::new(Float64Array::from(vec![f64::NAN]))).contains("`NaN` is not a number"));
    assert_eq!(one("age", text("-7")), "Some(Number(-7))");
    assert_eq!(one("gender", Arc::new(Int8Array::from(vec![2]))), "Some(Enum(\"2\"))");
    assert_eq!(one("is_member", Arc::new(Int8Array::from(vec![1]))), "Some(Flag(true))");
    assert_eq!(one("seen_at", Arc::new(Date32Array::from(vec![-1]))), "Some(Number(-86400000000))");
    assert_eq!(one("seen_at", Arc::new(TimestampNanosecondArray::from(vec![-1]))), "Some(Number(-1))");
    assert_eq!(one("seen_at", Arc::new(Int64Array::from(vec![5]))), "Some(Number(5000))");
    assert_eq!(one("seen_at", text("2026-11-20T10:00:00Z")), "Some(Number(1795168800000000))");
    assert!(one("age", Arc::new(UInt64Array::from(vec![u64::MAX]))).contains("is beyond"));
    let mut lists = LargeListBuilder::new(Int32Builder::new());
    lists.append_value([Some(3), None, Some(1)]);
    assert_eq!(one("interest", Arc::new(lists.finish())), "Some(Set([\"1\", \"3\"]))");
    let nulls = new_null_array(&DataType::Utf8, 1);
    assert_eq!(one("gender", nulls), "None");
}

#[test]
fn an_unclosed_quote_does_not_swallow_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    let mut text = b"user_id,gender\n1,\"f\n".to_vec();
    text.resize(40 << 20, b'x');
    std::fs::write(&path, text).expect("written");
    let error = load(&new_store(), &job(&path)).expect_err("refused").to_string();
    assert!(error.contains("probably a quote is not closed"), "{error}");
}

#[test]
fn a_job_beside_live_writes_goes_on_with_exact_counts_and_keeps_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    let row = |n: usize| if n.is_multiple_of(3) { format!("{n},x\n") } else { format!("{n},{n}\n") };
    let rows: String = (0..300).map(row).collect();
    std::fs::write(&path, format!("user_id,age\n{rows}")).expect("written");
    let pace = Pace { rows_per_second_max: Some(500), memory_bytes_max: u64::MAX };
    let job = BackfillJob { name: "served/1".to_owned(), columns: vec![mapping("age", "age")], ..csv_job(&path) };
    let store = new_store();
    let cancel = AtomicBool::new(false);
    let mut told = None;
    let stopped = run_beside(&store, &job, pace, &cancel, &mut |report| {
        cancel.store(report.progress.rows_done > 0, std::sync::atomic::Ordering::Relaxed);
        told = Some(report.clone());
    });
    assert!(matches!(stopped, Err(BackfillError::Cancelled { .. })), "{stopped:?}");
    let first = told.expect("told").progress;
    assert!((1..300).contains(&first.rows_done), "{first:?}");
    assert_eq!(unfinished(&store, "served/"), BTreeSet::from(["served/1".to_owned()]));
    let never = AtomicBool::new(false);
    let report = run_beside(&store, &job, pace, &never, &mut |_| {}).expect("goes on");
    let (now, before) = (report.progress, report.progress.earlier);
    let of_first = Earlier { rows: first.rows_done, changes: first.values, rejected: first.rejected };
    assert_eq!(before, of_first);
    assert_eq!((before.rows + now.rows_done, before.rejected + now.rejected), (300, 100));
    assert_eq!(before.changes + now.values, 200);
    assert_eq!(report.errors.len() as u64, now.rejected);
    let again = run_beside(&store, &job, pace, &never, &mut |_| {}).expect("finds nothing to do").progress;
    assert_eq!((again.rows_done, again.earlier.rows, again.files_done), (0, 300, 1));
    forget(&store, &job.name);
    assert_eq!(unfinished(&store, ""), BTreeSet::new());
}

#[test]
fn what_is_dropped_under_a_job_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, as_csv(&some_rows(300))).expect("written");
    let pace = Pace { rows_per_second_max: Some(1_000), memory_bytes_max: u64::MAX };
    let job = BackfillJob { columns: vec![mapping("age", "age")], ..csv_job(&path) };
    let store = new_store();
    let ended = run_beside(&store, &job, pace, &AtomicBool::new(false), &mut |_| {
        let mut catalog = catalog();
        catalog.drop_tag("age");
        store.put_catalog(catalog).expect("taken");
        store.publish().expect("published");
    });
    let error = ended.expect_err("nowhere to go").to_string();
    assert!(error.contains("the tag `age` was dropped"), "{error}");
}

/// A tag that a job finds by the name of a column, or in lines, is dropped as one that it names is; nobody has seen it yet, and it
/// may be declared again.
#[test]
fn what_is_dropped_under_a_job_by_names_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows");
    let rows = some_rows(300);
    assert!(rows.iter().any(|row| row.age.is_some()));
    let by_names = BackfillJob { format: Some(FileFormat::Ndjson), ..job(&path) };
    let of_lines = BackfillJob { format: Some(FileFormat::Tags), ..job(&path) };
    for (job, text) in [(by_names, as_json_rows(&rows)), (of_lines, as_tag_lines(&rows))] {
        std::fs::write(&path, text).expect("written");
        for (again, beside) in [(false, true), (true, true), (true, false)] {
            let store = new_store();
            let drop_it = || {
                let mut catalog = store.snapshot().catalog().clone();
                catalog.drop_tag("age");
                if again {
                    catalog.declare("age", TagType::Number(Unit::Integer)).expect("a good name");
                }
                store.put_catalog(catalog).expect("taken");
            };
            // It is told once before anything is written.
            let mut told = false;
            let mut first = || {
                if !std::mem::replace(&mut told, true) {
                    drop_it();
                }
            };
            let never = AtomicBool::new(false);
            let ended = if beside {
                let pace = Pace { rows_per_second_max: None, memory_bytes_max: u64::MAX };
                run_beside(&store, &job, pace, &never, &mut |_| first())
            } else {
                run(&store, &job, &never, &mut |_| first())
            };
            let error = ended.expect_err("nowhere to go");
            let is_told = matches!(&error, BackfillError::Dropped { what, .. } if what == "the tag `age`");
            assert!(is_told, "{error}");
        }
    }
}

/// Sixty users of two tastes, who dealt with three things each.
#[derive(Debug)]
struct Deals;

impl factors::EventReader for Deals {
    fn read(
        &self,
        _: &engine::store::Snapshot,
        _: factors::EventOrder,
        _: &AtomicBool,
    ) -> Result<Box<dyn factors::EventRows>, factors::EventsError> {
        Ok(Box::new(DealRows { is_over: false }))
    }
}

struct DealRows {
    is_over: bool,
}

impl factors::EventRows for DealRows {
    fn next(
        &mut self,
        _: &AtomicBool,
        take: &mut dyn FnMut(factors::EventOf<'_>),
    ) -> Result<Option<u64>, factors::EventsError> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(None);
        }
        for (user, nth) in (0..60_usize).flat_map(|user| (0..3_usize).map(move |nth| (user, nth))) {
            let item = format!("{}-{}", user % 2, (user / 2 + nth * nth) % 4);
            take(factors::EventOf { user: format!("u{user:02}").as_bytes(), item: item.as_bytes(), weight: 1.0 });
        }
        Ok(Some(180))
    }
}

#[test]
fn a_space_that_is_dropped_under_its_making_ends_it() {
    let (store, _) = with_space();
    let job = factors::FactorJob {
        name: "job".to_owned(),
        space: "taste".to_owned(),
        fact: engine::catalog::AUDIENCE_CHANGES.to_owned(),
        events: Arc::new(Deals),
    };
    let never = AtomicBool::new(false);
    let made = factors::factorise(&store, &job, &never, &mut |_| {}).expect("made").made.expect("told");
    assert!(made.vectors > 0, "{made:?}");
    // Nobody has seen yet that it is gone.
    let ended = factors::factorise(&store, &job, &never, &mut |_| {
        let mut catalog = store.snapshot().catalog().clone();
        catalog.drop_space("taste");
        store.put_catalog(catalog).expect("taken");
    });
    let error = ended.expect_err("nowhere to go").to_string();
    assert!(error.contains("the vector space `taste` was dropped"), "{error}");
}
