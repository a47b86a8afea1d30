//! Files of statements and their answers, asked of a few users that do not change: `tests/slt`.

use crate::support::World;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use engine::audience::naive::{User, Value};
use engine::update::UpdateBatch;
use engine_sql::session::SqlError;
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

struct Session(World);

/// What a user is called, gender, interests, age, and whether they are a member.
type Told = (&'static str, Option<&'static str>, &'static [&'static str], Option<i64>, bool);

const USERS: [Told; 5] = [
    ("ann", Some("f"), &["golf", "yoga"], Some(31), true),
    ("bob", Some("m"), &["yoga"], Some(25), false),
    ("cat", Some("f"), &[], None, false),
    ("dan", Some("m"), &["golf"], Some(40), true),
    ("eve", None, &["golf", "tennis", "yoga"], Some(31), false),
];

impl Session {
    fn new() -> Session {
        let world = World::new(4);
        let mut batch = UpdateBatch::new();
        for (id, gender, interests, age, is_member) in USERS {
            let mut tags = BTreeMap::from([("member".to_owned(), Value::Flag(is_member))]);
            tags.extend(gender.map(|gender| ("gender".to_owned(), Value::Enum(gender.to_owned()))));
            tags.extend(age.map(|age| ("age".to_owned(), Value::Number(age))));
            let interests: BTreeSet<String> = interests.iter().map(|interest| (*interest).to_owned()).collect();
            tags.insert("interest".to_owned(), Value::Set(interests));
            world.push(&mut batch, &User { id: id.to_owned(), tags, ..User::default() });
        }
        world.store.write(&batch, None).expect("write");
        world.store.publish().expect("publish");
        Session(world)
    }
}

impl DB for Session {
    type Error = SqlError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, text: &str) -> Result<DBOutput<DefaultColumnType>, SqlError> {
        let batches = self.0.try_ask(text)?;
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let columns: Vec<ArrayFormatter<'_>> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options).expect("a type that is shown"))
                .collect();
            let cell = |column: &ArrayFormatter<'_>, row: usize| match column.value(row).to_string() {
                text if text.is_empty() => "(empty)".to_owned(),
                text => text,
            };
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(column, row)).collect()));
        }
        let width = batches.first().map_or(0, |batch| batch.num_columns());
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; width], rows })
    }
}

#[test]
fn files_of_statements_have_their_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let (mut count, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "slt") {
            let mut runner = Runner::new(|| async { Ok(Session::new()) });
            let records = sqllogictest::parse_file::<DefaultColumnType>(&path).expect("a file of statements");
            let failed = records.into_iter().filter_map(|record| runner.run(record).err());
            failures.extend(failed.map(|error| error.display(false).to_string()));
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 0, "{} has no files", folder.display());
}
