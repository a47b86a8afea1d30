//! Writes a table of facts, and says how fast; what a reader should find in it goes to `expected.json` beside it.
//!
//! `cargo run --release -p engine-sql --example stage -- FOLDER [ROWS]`

use engine::catalog::{Activity, Column, ColumnType, Fact, Zone};
use engine::ids::{ShardId, TagId};
use engine::store::{FactRow, FactTables};
use engine::update::{Change, EventHead, UpdateBatch, Value};
use engine_sql::facts::DeltaTables;
use std::path::Path;
use std::time::Instant;

const EPOCHS: u64 = 3;
/// 2024-05-01T00:00:00Z.
const BEGIN: i64 = 1_714_521_600_000_000;
const DAY_MICROS: i64 = 86_400_000_000;
const CATEGORIES: [&str; 5] = ["shoes", "bags", "tents", "stoves", "maps"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("say which folder: stage FOLDER [ROWS]")?;
    let row_count: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    let fact = Fact {
        id: TagId(16),
        columns: vec![
            column("category", ColumnType::String),
            column("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    };
    let tables = DeltaTables::open(Path::new(&folder))?;
    let (mut cents, mut slots) = (0i64, 0u64);
    for epoch in 1..=EPOCHS {
        let batch = events(epoch, row_count);
        let ids: Vec<String> = batch.users().map(|user| String::from_utf8_lossy(user.user_id).into_owned()).collect();
        let mut rows = Vec::with_capacity(ids.len());
        for (user, user_id) in batch.users().zip(&ids) {
            for (_, change) in user.changes() {
                let Change::Event(event) = change else { continue };
                let slot: u32 = user_id[1..].parse()?;
                slots += u64::from(slot);
                cents += event
                    .values()
                    .filter_map(|value| if let Value::Integer(n) = value { Some(n) } else { None })
                    .sum::<i64>();
                rows.push(FactRow { shard: ShardId((slot % 8) as u16), slot, user_id, weight: 1, event });
            }
        }
        let begin = Instant::now();
        let staged = tables.stage("purchase", &fact, epoch, &rows)?;
        let stage = begin.elapsed();
        let begin = Instant::now();
        tables.commit("purchase", &fact, epoch, &staged)?;
        let rate = rows.len() as f64 / stage.as_secs_f64() / 1e6;
        println!(
            "epoch {epoch}: {} rows staged in {stage:.2?} ({rate:.2} million a second), committed in {:.2?}",
            rows.len(),
            begin.elapsed()
        );
    }
    let begin = Instant::now();
    if let Some(report) = tables.compact("purchase", 1 << 28)? {
        let rate = report.row_count as f64 / begin.elapsed().as_secs_f64() / 1e6;
        println!("merged {} files of {}, {rate:.2} million rows a second", report.file_count, report.day);
    }
    let expected = format!("{{\"rows\": {}, \"cents\": {cents}, \"slots\": {slots}}}\n", EPOCHS * row_count);
    std::fs::write(Path::new(&folder).join("expected.json"), expected)?;
    Ok(())
}

/// Events of users in no order, over two days.
fn events(epoch: u64, row_count: u64) -> UpdateBatch {
    let mut batch = UpdateBatch::new();
    let mut state = epoch;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).cast_signed()
    };
    for _ in 0..row_count {
        batch.begin_user(format!("u{}", random() % 2_000_000).as_bytes());
        let head = EventHead { ts: BEGIN + random() % 2 * DAY_MICROS + random() % DAY_MICROS, ..EventHead::default() };
        let values = [Value::Text(CATEGORIES[(random() % 5) as usize]), Value::Integer(random() % 100_000)];
        batch.push_event(TagId(16), &head, &values);
    }
    batch
}
