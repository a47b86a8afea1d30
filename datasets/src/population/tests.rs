//! The population is fixed by its seed, and shaped as its head says.

use super::*;
use crate::DataSet;
use std::collections::HashSet;

const POPULATION: Population = Population { seed: 42, user_count: 20_000 };

fn users() -> Vec<User> {
    POPULATION.users(0..POPULATION.user_count).collect()
}

fn position(name: &str) -> usize {
    TAGS.iter().position(|tag| tag.0 == name).expect("a tag")
}

fn share(users: &[User], tag: &str, wanted: impl Fn(&Option<Value>) -> bool) -> f64 {
    let at = position(tag);
    users.iter().filter(|user| wanted(&user.values[at])).count() as f64 / users.len() as f64
}

fn is_text(text: &'static str) -> impl Fn(&Option<Value>) -> bool {
    move |value| matches!(value, Some(Value::Text(found)) if found == text)
}

fn has(item: &'static str) -> impl Fn(&Option<Value>) -> bool {
    move |value| matches!(value, Some(Value::Set(found)) if found.iter().any(|found| found == item))
}

#[test]
fn a_seed_fixes_every_user() {
    let other = Population { user_count: 5, ..POPULATION };
    assert_eq!(other.user(4), POPULATION.user(4));
    assert_ne!(Population { seed: 43, ..POPULATION }.user(4).values, POPULATION.user(4).values);
    // Pinned: figures and demos of every version speak of the same people.
    let mut line = String::new();
    crate::user::write_ndjson_line(&TAGS, &POPULATION.user(7), &mut line);
    assert_eq!(line, PINNED);
}

const PINNED: &str = concat!(
    r#"{"user_id":"9d86d34ee0fcc57d","set":{"gender":"f","age":39,"province":"sichuan","city_tier":5,"#,
    r#""language":"zh-hans","device":"android","channel":"feed","#,
    r#""interest":["food","news","beauty","finance","health"],"category":["snacks","womenswear","menswear"],"#,
    r#""is_member":false,"ads_consent":true,"spend":37.75,"orders":1,"#,
    r#""registered_at":"2026-01-02T13:51:28Z","last_active_at":"2026-09-21T09:50:04Z"}}"#,
    "\n"
);

#[test]
fn ids_are_distinct() {
    let ids: HashSet<String> = users().into_iter().map(|user| user.id).collect();
    assert_eq!(ids.len() as u64, POPULATION.user_count);
}

#[test]
fn shares_are_skewed_and_correlated() {
    let users = users();
    let (women, men): (Vec<User>, Vec<User>) =
        users.iter().filter(|user| user.values[0].is_some()).cloned().partition(|user| is_text("f")(&user.values[0]));
    let near = |share: f64, expected: f64| assert!((share - expected).abs() < 0.015, "{share}, expected {expected}");
    near(share(&users, "gender", Option::is_none), 0.12);
    near(share(&users, "age", Option::is_none), 0.15);
    near(share(&users, "province", is_text("guangdong")), 0.089);
    near(share(&users, "spend", Option::is_some), 0.36);
    assert!(share(&women, "interest", has("yoga")) > 3.0 * share(&men, "interest", has("yoga")));
    let runners: Vec<User> =
        users.iter().filter(|user| has("running")(&user.values[position("interest")])).cloned().collect();
    assert!(share(&runners, "category", has("shoes")) > 1.5 * share(&users, "category", has("shoes")));
}

#[test]
fn spend_follows_a_power_law() {
    let mut spend: Vec<i64> = users()
        .into_iter()
        .filter_map(|user| match user.values[position("spend")] {
            Some(Value::Number(cents)) => Some(cents),
            _ => None,
        })
        .collect();
    spend.sort_unstable();
    let top = spend.len() / 100;
    let total: i64 = spend.iter().sum();
    let richest: i64 = spend[spend.len() - top..].iter().sum();
    assert!(richest * 100 / total > 15, "the richest hundredth has {} %", richest * 100 / total);
}

#[test]
fn times_are_in_order() {
    for user in users() {
        let (Some(Value::Number(registered)), Some(Value::Number(active))) = (&user.values[13], &user.values[14])
        else {
            panic!("times are known");
        };
        assert!(registered <= active && *active < AS_OF);
    }
}

#[test]
fn the_fast_way_says_the_same() {
    let catalog = DataSet::Population.catalog();
    let filler = POPULATION.filler(&catalog).expect("its own catalog");
    let (mut fast, mut slow) = (UpdateBatch::new(), UpdateBatch::new());
    filler.fill(100..300, &mut fast);
    let plain = crate::BatchFiller::new(DataSet::Population, &catalog).expect("its own catalog");
    POPULATION.users(100..300).for_each(|user| plain.push(&user, &mut slow));
    let printed = |batch: &UpdateBatch| -> Vec<String> {
        let user = |user: engine::update::UserUpdate<'_>| {
            let mut changes: Vec<String> = user.changes().map(|change| format!("{change:?}")).collect();
            // The order of tags does not matter, and new users need no clearing.
            changes.retain(|change| !change.contains("Unset"));
            changes.sort();
            format!("{} {changes:?}", String::from_utf8_lossy(user.user_id))
        };
        batch.users().map(user).collect()
    };
    assert_eq!(printed(&fast), printed(&slow));
    assert!(POPULATION.filler(&Catalog::default()).is_none());
}

#[test]
fn the_day_has_a_rhythm() {
    let live = POPULATION.live(&DataSet::Population.catalog()).expect("its own catalog");
    let hour = 3_600_000_000;
    let rates: Vec<f64> = (0..24).map(|at| live.rate_at(AS_OF + at * hour, 1000.0)).collect();
    let mean = rates.iter().sum::<f64>() / 24.0;
    assert!((mean - 1000.0).abs() < 1.0, "{mean}");
    // 21:00 in China is 13:00 UTC; 03:00 is 19:00 UTC.
    assert!(rates[13] > 2000.0 && rates[19] < 200.0, "{rates:?}");
}

#[test]
fn live_updates_are_of_known_users() {
    let catalog = DataSet::Population.catalog();
    let small = Population { user_count: 50, ..POPULATION };
    let ids: HashSet<String> = small.users(0..50).map(|user| user.id).collect();
    let mut batch = UpdateBatch::new();
    let mut live = small.live(&catalog).expect("its own catalog");
    live.fill(1000, AS_OF, &mut batch);
    assert_eq!((batch.user_count(), live.position()), (1000, 1000));
    assert!(batch.users().all(|user| ids.contains(std::str::from_utf8(user.user_id).expect("text"))));
}

#[test]
fn parquet_has_every_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.parquet");
    POPULATION.write_parquet(10..40_000, &path).expect("written");
    let file = std::fs::File::open(&path).expect("there");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    assert_eq!(reader.schema().fields().len(), TAGS.len() + 1);
    assert_eq!(reader.metadata().file_metadata().num_rows(), 39_990);
}
