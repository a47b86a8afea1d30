//! What SQL expressions cost over the paths and conditions that say the same.

use crate::events::Expected;
use crate::intake::take;
use crate::median;
use serde_json::json;
use std::path::Path;

pub(crate) fn run(file: &Path, expected: &Expected, rounds: u64) {
    let folder = file.parent().expect("a file is in a folder");
    let source = |category: &str, amount: serde_json::Value, wanted: serde_json::Value| {
        let category = if category.contains('(') { json!({ "sql": category }) } else { json!(category) };
        let map = json!({"user_id": "user_id", "ts": {"path": "ts", "unit": "milliseconds"}, "category": category,
            "channel": "channel", "amount": amount});
        json!({"files": {"paths": file}, "into": "purchase", "map": map, "where": wanted})
    };
    let paths = source(
        "category",
        json!("amount"),
        json!([{"path": "amount", "more": 0}, {"path": "channel", "exists": true}]),
    );
    let sql = source(
        "lower(category)",
        json!({"sql": "round(amount * (1 - 0.25), 2)"}),
        json!("amount > 0 AND channel IS NOT NULL"),
    );
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let by_paths = take(&paths, folder, expected);
        println!("by paths: {}", by_paths.describe(expected));
        let by_sql = take(&sql, folder, expected);
        println!("by SQL: {}", by_sql.describe(expected));
        rates.push(by_sql.rate(expected) / by_paths.rate(expected));
        costs.push(by_sql.cpu.as_secs_f64() / by_paths.cpu.as_secs_f64());
    }
    println!(
        "expressions: two of them and a condition have {:.2} of the rate of paths, for {:.2} times the processor time",
        median(&mut rates),
        median(&mut costs)
    );
}
