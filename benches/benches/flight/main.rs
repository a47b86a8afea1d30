//! The release binary over Arrow Flight SQL: a count beyond the engine's own call, ids exported, and facts joined with an audience against
//! a hash join in plain DataFusion over the same files and in DuckDB over its own tables; asked in turns, warm.
//!
//! ```sh
//! pip install duckdb
//! BELUGA_BENCH_USERS=10_000_000 BELUGA_BENCH_ROWS=50_000_000 BELUGA_DUCKDB_PYTHON=python3 cargo bench -p benches --bench flight
//! ```
//!
//! The defaults are 2,000,000 users and 10,000,000 purchases of 90 days. Without `BELUGA_DUCKDB_PYTHON` DuckDB is left out.

mod client;
mod plain;

use arrow::array::RecordBatch;
use benches::peer::Peer;
use benches::rows::text;
use benches::server::Server;
use benches::{is_asked, percentile, setting};
use client::Client;
use datasets::population::purchases::History;
use datasets::population::{AS_OF, Population};
use engine::catalog::{TagType, Unit};
use plain::Plain;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const TEN_TAGS: &str = "gender = 'f' AND age BETWEEN 25 AND 44 AND province IN ('zhejiang','jiangsu','shanghai') AND \
                        (interest = 'running' OR interest = 'yoga') AND device = 'ios' AND city_tier <= 3 AND ads_consent AND NOT \
                        is_member AND category = 'shoes' AND spend >= 10";
const TEN_COLUMNS: &str = "gender = 'f' AND age BETWEEN 25 AND 44 AND province IN ('zhejiang','jiangsu','shanghai') AND \
                           array_has_any(interest, ['running', 'yoga']) AND device = 'ios' AND city_tier <= 3 AND ads_consent AND NOT \
                           is_member AND array_has(category, 'shoes') AND spend >= 10";
/// About one user in a hundred.
const AUDIENCE: &str = "u.gender = 'f' AND u.age BETWEEN 25 AND 29 AND u.province IN ('zhejiang', 'jiangsu')";
/// Ids that are exported at a time.
const EXPORTED: usize = 1_000_000;
const DAYS: u32 = 90;

/// Facts joined with an audience.
fn joins() -> [(&'static str, String); 3] {
    let from = "FROM purchase p JOIN users u ON p.user_id = u.user_id WHERE";
    [
        (
            "join: sum by channel of an audience",
            format!("SELECT p.channel, count(*), sum(p.amount) {from} {AUDIENCE} GROUP BY p.channel"),
        ),
        (
            "join: the same, with its users by IN",
            format!(
                "SELECT channel, count(*), sum(amount) FROM purchase WHERE user_id IN (SELECT user_id FROM users u WHERE {AUDIENCE}) \
                 GROUP BY channel"
            ),
        ),
        (
            "join: by a column of the user",
            format!("SELECT u.province, count(*), sum(p.amount) {from} {AUDIENCE} GROUP BY u.province"),
        ),
    ]
}

fn main() {
    let population = Population { seed: 1, user_count: setting("BELUGA_BENCH_USERS", 2_000_000) };
    let rows = setting("BELUGA_BENCH_ROWS", 10_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [users, purchases] = ["users.parquet", "purchases.parquet"].map(|name| folder.path().join(name));
    population.write_parquet(0..population.user_count, &users).expect("written");
    let history = History { population, count: rows, until: AS_OF, days: DAYS };
    history.write_parquet(0..rows, &purchases).expect("written");

    let data = folder.path().join("data");
    let folders = format!("source_folders={}", folder.path().display());
    let server = Server::start(&data, &[&folders, "query_timeout_max_ms=600000"]);
    let begun = Instant::now();
    load(&server, &users, &purchases);
    println!("{} users and {rows} purchases loaded in {:.1?}", population.user_count, begun.elapsed());

    let client = Client::connect(server.flight());
    count_of_ten(&server, &client);
    export(&client, population.user_count);
    let mut plain = Plain::open(&users, &data.join("facts/purchase"));
    let mut peer = std::env::var("BELUGA_DUCKDB_PYTHON").ok().map(|python| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        Peer::start(&python, "wide.py", [users.as_os_str(), threads.as_ref(), purchases.as_os_str()])
    });
    let share = client.ask(&format!("SELECT avg(CASE WHEN {AUDIENCE} THEN 100.0 ELSE 0.0 END) FROM users u")).1;
    println!("\nthe audience has {} % of the users", text(&share));
    for (title, statement) in joins().into_iter().filter(|(title, _)| is_asked(title)) {
        join(title, &statement, &client, &mut plain, peer.as_mut());
    }
    println!("peak memory of the server {} MiB", server.peak_memory() >> 20);
}

/// Users and purchases, as jobs.
fn load(server: &Server, users: &Path, purchases: &Path) {
    let tags = datasets::DataSet::Population.tags().iter();
    let tags: serde_json::Map<_, _> = tags.map(|(name, tag_type)| ((*name).to_owned(), declared(*tag_type))).collect();
    let fact = json!({"columns": {"category": "string", "channel": "string", "amount": {"decimal": [12, 2]}}});
    server.call("PUT", "/v1/catalog", &json!({"tags": tags, "facts": {"purchase": fact}}).to_string());
    server.backfill(users, "tags");
    server.backfill(purchases, "purchase");
}

fn declared(tag_type: TagType) -> Value {
    match tag_type {
        TagType::Set => json!({"type": "set"}),
        TagType::Enum => json!({"type": "enum"}),
        TagType::Flag => json!({"type": "flag"}),
        TagType::Number(Unit::Integer) => json!({"type": "number"}),
        TagType::Number(Unit::Decimal { scale }) => json!({"type": "number", "scale": scale}),
        TagType::Number(Unit::Timestamp) => json!({"type": "number", "unit": "timestamp"}),
    }
}

/// What a statement over Flight takes beyond the engine's own call, which the server tells of the same question over REST.
fn count_of_ten(server: &Server, client: &Client) {
    let title = "count(*) of ten tags over Flight, and the engine";
    if !is_asked(title) {
        return;
    }
    let statement = format!("SELECT count(*) FROM users WHERE {TEN_COLUMNS}");
    let question = json!({ "where": TEN_TAGS }).to_string();
    let mut connection = server.connect();
    let (mut engine, mut rest, mut flight) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..300 {
        rest.push(connection.call("POST", "/v1/count", &question));
        let answer: Value = serde_json::from_slice(connection.answer_body()).expect("JSON");
        engine.push(Duration::from_micros(answer["elapsed_us"].as_u64().expect("a time")));
        let (time, rows) = client.ask(&statement);
        assert_eq!(text(&rows), answer["count"].to_string(), "both count the same");
        flight.push(time);
    }
    for share in [0.5, 0.95] {
        let [engine, rest, flight] = [&mut engine, &mut rest, &mut flight].map(|times| percentile(times, share));
        println!(
            "{title}: p{:.0} {flight:.1?}, {engine:.1?}: {:.1?} more (REST: {rest:.1?})",
            share * 100.0,
            flight.saturating_sub(engine)
        );
    }
}

fn export(client: &Client, users: u64) {
    let title = "export of ids over Flight";
    if !is_asked(title) {
        return;
    }
    let statements = [
        ("a million", format!("SELECT user_id FROM users LIMIT {EXPORTED}"), EXPORTED.min(users as usize)),
        ("all", "SELECT user_id FROM users".to_owned(), users as usize),
        ("an audience", "SELECT user_id FROM users WHERE gender = 'f' AND age >= 25".to_owned(), 0),
    ];
    for (what, statement, expected) in statements {
        let (mut times, mut count) = (Vec::new(), 0);
        for _ in 0..9 {
            let (time, batches) = client.ask(&statement);
            count = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
            assert!(expected == 0 || count == expected, "{count} of {expected} ids");
            times.push(time);
        }
        let time = percentile(&mut times, 0.5);
        println!(
            "{title}, {what}: {count} in {time:.1?}, {:.1} million a second",
            count as f64 / time.as_secs_f64() / 1e6
        );
    }
}

fn join(title: &str, statement: &str, client: &Client, plain: &mut Plain, mut peer: Option<&mut Peer>) {
    let [mut ours, mut plains, mut peers] = [const { Vec::new() }; 3];
    let found = text(&client.ask(statement).1);
    for _ in 0..7 {
        ours.push(client.ask(statement).0);
        let (time, answer) = plain.ask(statement);
        assert_eq!(text(&answer), found, "DataFusion answers the same: {title}");
        plains.push(time);
        if let Some(peer) = &mut peer {
            let (time, answer) = peer.ask(statement);
            assert_eq!(answer, found, "DuckDB answers the same: {title}");
            peers.push(time);
        }
    }
    let ours = percentile(&mut ours, 0.5);
    print!("{title:<52} {ours:>11.1?}");
    for (name, times) in [("DataFusion", &mut plains), ("DuckDB", &mut peers)] {
        if !times.is_empty() {
            let time = percentile(times, 0.5);
            print!("  {name} {time:>9.1?} {:>5.1}x", time.as_secs_f64() / ours.as_secs_f64());
        }
    }
    println!();
}
