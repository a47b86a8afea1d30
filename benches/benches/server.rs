//! A server from outside: events over HTTP until they are on disk, in their table and seen by questions; then killed.
//!
//! Runs the release binary (`BELUGA_BINARY`, by default `target/release/beluga`) on a folder of its own and shares the machine
//! with it: what the figures count is both. The peer is the physical limit: the same bytes appended to a file and
//! synced as often as the server acknowledges.

use benches::server::Server;
use benches::{percentile, setting};
use datasets::population::{Population, purchases};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bodies made beforehand, so that making them costs the figure nothing; sent in turn.
const BODIES: usize = 200;
/// How often one request waits until its events are seen.
const PROBE: Duration = Duration::from_millis(250);
const SETTINGS: [&str; 1] = ["checkpoint_interval_ms=30000"];
const CATALOG: &str = r#"{"facts":{"purchase":{"columns":{"category":"string","channel":"string","amount":{"decimal":[12,2]}},
    "activity":{"dimensions":["category","channel"],"measures":["amount"]},"retention":"400 days"}}}"#;

fn main() {
    let users = setting("BELUGA_BENCH_USERS", 1_000_000);
    let events = setting("BELUGA_BENCH_EVENTS", 5_000_000);
    let lines = setting("BELUGA_BENCH_LINES", 2_000);
    let connections = setting("BELUGA_BENCH_CONNECTIONS", 4) as usize;
    // Events a second to hold; 0: as many as go.
    let rate = setting("BELUGA_BENCH_RATE", 0);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let bodies = bodies(users, lines);
    let bytes: usize = bodies.iter().map(String::len).sum::<usize>() / BODIES;
    println!("{events} events of {users} users, {lines} a request ({bytes} bytes), {connections} connections");
    println!(
        "limit: {:.0} events a second appended and synced alike",
        limit(folder.path(), &bodies, lines, connections)
    );

    let mut server = Server::start(&data, &SETTINGS);
    server.call("PUT", "/v1/catalog", CATALOG);
    let (next, probing, begun) = (AtomicUsize::new(0), AtomicBool::new(true), Instant::now());
    let requests = events.div_ceil(lines) as usize;
    let (mut acknowledged, mut seen) = (Vec::new(), Vec::new());
    let before = server.cpu();
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let mut connection = server.connect();
            let mut seen = Vec::new();
            while probing.load(Ordering::Relaxed) {
                std::thread::sleep(PROBE);
                let line = bodies[0].lines().next().expect("a line");
                seen.push(connection.call("POST", "/v1/facts/purchase?visible=true", line));
            }
            seen
        });
        let senders: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let (mut connection, mut took) = (server.connect(), Vec::new());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= requests {
                            return took;
                        }
                        if rate > 0 {
                            let due = Duration::from_secs_f64(number as f64 * lines as f64 / rate as f64);
                            std::thread::sleep(due.saturating_sub(begun.elapsed()));
                        }
                        took.push(connection.call("POST", "/v1/facts/purchase", &bodies[number % BODIES]));
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| acknowledged.extend(sender.join().expect("sent")));
        probing.store(false, Ordering::Relaxed);
        seen = probe.join().expect("probed");
    });
    let elapsed = begun.elapsed();
    let total = requests as u64 * lines;
    println!(
        "acknowledged: {:.0} events a second; p50 {:.1?}, p99 {:.1?}",
        total as f64 / elapsed.as_secs_f64(),
        percentile(&mut acknowledged, 0.5),
        percentile(&mut acknowledged, 0.99)
    );
    println!("seen: p50 {:.1?}, p99 {:.1?}", percentile(&mut seen, 0.5), percentile(&mut seen, 0.99));
    println!(
        "server: {:.2} µs of processor time an event, {} MiB resident at most",
        (server.cpu() - before).as_secs_f64() * 1e6 / total as f64,
        server.peak_memory() >> 20
    );
    server.kill();
    let begun = Instant::now();
    let server = Server::start(&data, &SETTINGS);
    println!("killed and started: ready after {:.1?}", begun.elapsed());
    drop(server);
}

fn bodies(users: u64, lines: u64) -> Vec<String> {
    let population = Population { seed: 1, user_count: users };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let body = |number: u64| {
        let mut body = String::new();
        (number * lines..(number + 1) * lines)
            .for_each(|index| purchases::write_line(&population, index, now, &mut body));
        body
    };
    (0..BODIES as u64).map(body).collect()
}

/// The same bytes appended to one file, which is synced when each connection has brought a request.
fn limit(folder: &Path, bodies: &[String], lines: u64, connections: usize) -> f64 {
    let mut file = File::create(folder.join("limit")).expect("a file");
    let begun = Instant::now();
    for some in bodies.chunks(connections) {
        some.iter().for_each(|body| file.write_all(body.as_bytes()).expect("written"));
        file.sync_data().expect("synced");
    }
    (bodies.len() as u64 * lines) as f64 / begun.elapsed().as_secs_f64()
}
