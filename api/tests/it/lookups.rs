//! Look-ups of a source through the real doors: a small HTTP service of the test, and a real PostgreSQL, which
//! `BELUGA_POSTGRES_PROGRAMS` (the folder of its programs) names.

use crate::support::{TestServer, success};
use crate::victim::free_port;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lines of a file, and what is looked up for them.
struct World {
    server: TestServer,
    input: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let input = tempfile::tempdir().expect("temporary folder");
        let folder = input.path().to_owned();
        std::fs::write(folder.join("secret"), "Bearer s3cret\n").expect("written");
        let server = TestServer::with(|config| {
            config.source_folders = vec![folder.clone()];
            config.secret_folders = vec![folder];
        });
        World { server, input }
    }

    fn folder(&self) -> &Path {
        self.input.path()
    }

    fn catalog(&self, enrich: Value) -> Value {
        json!({
            "facts": {"view": {"columns": {"category": "string", "price": {"decimal": [8, 2]}},
                "activity": {"dimensions": ["category"], "measures": ["price"]}}},
            "sources": {"lines": {
                "files": {"paths": self.folder().join("*.ndjson"), "every": "20 ms"}, "into": "view", "enrich": [enrich],
                "map": {"user_id": "user", "ts": "at", "price": "product.price",
                    "category": {"path": "product.category", "default": "none"}},
            }},
        })
    }

    fn append(&self, lines: impl IntoIterator<Item = String>) {
        let path = self.folder().join("a.ndjson");
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        lines.into_iter().for_each(|line| writeln!(file, "{line}").expect("written"));
    }

    #[track_caller]
    fn wait(&self, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = success(self.server.get("/v1/sources/lines").send().expect("ask"));
            if done(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "it never happened: {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What there is, against a join in memory: events and prices by category.
    #[track_caller]
    fn assert_join(&self, numbers: std::ops::Range<u64>) {
        self.server.settle();
        let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for number in numbers {
            let (category, cents) = match product(number % KEYS) {
                Some((category, cents)) => (category, cents),
                None => ("none".to_owned(), 0),
            };
            let entry = expected.entry(category).or_default();
            *entry = (entry.0 + 1, entry.1 + cents);
        }
        for (category, (count, cents)) in expected {
            let exact = format!("did('view', category = '{category}', count = {count})");
            assert_eq!(self.server.members(&exact), ["u"], "{exact}");
            if cents > 0 {
                let exact = format!("did('view', category = '{category}', sum(price) = {})", cents as f64 / 100.0);
                assert_eq!(self.server.members(&exact), ["u"], "{exact}");
            }
        }
    }
}

/// Products there could be; every fifth is not.
const KEYS: u64 = 40;

/// A product's category and its price in cents.
fn product(key: u64) -> Option<(String, u64)> {
    (!key.is_multiple_of(5)).then(|| (format!("c{}", key % 3), 100 + key))
}

fn line(number: u64) -> String {
    json!({"user": "u", "at": jiff::Timestamp::now().to_string(), "item": {"sku": number % KEYS}}).to_string()
}

/// A service that knows products, slow and now and then busy.
struct Service {
    address: String,
    is_down: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    /// Requests that came with the secret.
    trusted: Arc<AtomicU64>,
    in_flight_max: Arc<AtomicU64>,
}

impl Service {
    fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let service = Service {
            address,
            is_down: Arc::default(),
            asked: Arc::default(),
            trusted: Arc::default(),
            in_flight_max: Arc::default(),
        };
        let (down, asked, trusted, most) =
            (service.is_down.clone(), service.asked.clone(), service.trusted.clone(), service.in_flight_max.clone());
        let in_flight = Arc::new(AtomicU64::new(0));
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (down, asked, trusted) = (down.clone(), asked.clone(), trusted.clone());
                let (most, in_flight) = (most.clone(), in_flight.clone());
                std::thread::spawn(move || {
                    while let Some((path, is_trusted)) = request(&connection) {
                        most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        trusted.fetch_add(is_trusted.into(), Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(5));
                        let number = asked.fetch_add(1, Ordering::Relaxed);
                        let is_busy = down.load(Ordering::Relaxed) || number % 7 == 3;
                        let answer = if is_busy { busy() } else { found(&path) };
                        in_flight.fetch_sub(1, Ordering::SeqCst);
                        if (&connection).write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        service
    }

    fn enrich(&self, folder: &Path, more: Value) -> Value {
        let mut enrich = json!({"name": "product", "key": "item.sku", "http": {
            "url": format!("{}/products/{{key}}", self.address),
            "headers": {"Authorization": {"file": folder.join("secret")}},
        }});
        enrich.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        enrich
    }
}

/// The path of the next request, and whether it has the secret.
fn request(connection: &TcpStream) -> Option<(String, bool)> {
    let mut lines = BufReader::new(connection).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    Some((path, headers.iter().any(|header| header.eq_ignore_ascii_case("authorization: bearer s3cret"))))
}

fn busy() -> String {
    "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_owned()
}

fn found(path: &str) -> String {
    let key: u64 = path.strip_prefix("/products/").and_then(|key| key.parse().ok()).expect("a key");
    match product(key) {
        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        Some((category, cents)) => {
            let body = json!({"category": category, "price": cents as f64 / 100.0}).to_string();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
    }
}

#[test]
fn a_service_is_asked_with_many_requests_in_flight() {
    let (world, service) = (World::new(), Service::start());
    let cache = json!({"cache": {"entries": 30}, "in_flight": 16});
    world.server.put_catalog(&world.catalog(service.enrich(world.folder(), cache)));
    world.append((0..500).map(line));
    let answer = world.wait(|answer| answer["records"] == 500);
    assert_eq!((&answer["refused"], &answer["filtered"]), (&json!(0), &json!(0)), "{answer}");
    let lookup = &answer["lookups"][0];
    assert_eq!((&lookup["found"], &lookup["missing"]), (&json!(400), &json!(100)), "{answer}");
    assert!(lookup["errors"].as_u64() > Some(0) && lookup["latency_p99_ms"].as_f64() >= Some(5.0), "{answer}");
    assert_eq!(lookup["requests"].as_u64(), Some(service.asked.load(Ordering::Relaxed)), "{answer}");
    assert_eq!(service.trusted.load(Ordering::Relaxed), service.asked.load(Ordering::Relaxed));
    assert!(service.in_flight_max.load(Ordering::SeqCst) > 4);
    world.assert_join(0..500);
    let metrics = world.server.get("/metrics").send().expect("ask").text().expect("text");
    let series = "beluga_lookup_records_total{source=\"lines\",lookup=\"product\",result=\"found\"} 400";
    assert!(metrics.contains(series), "{metrics}");
    assert!(!answer.to_string().contains("s3cret") && !metrics.contains("s3cret"));

    // Down: records wait, and the source can be stopped meanwhile.
    service.is_down.store(true, Ordering::Relaxed);
    world.append((500..600).map(line));
    let answer = world.wait(|answer| answer["state"] == "retrying");
    assert!(answer["error"].as_str().expect("why").contains("look-up `product`: it answered 503"), "{answer}");
    success(world.server.post("/v1/sources/lines/stop").send().expect("ask"));
    world.wait(|answer| answer["state"] == "stopped");
    service.is_down.store(false, Ordering::Relaxed);
    success(world.server.post("/v1/sources/lines/start").send().expect("ask"));
    world.wait(|answer| answer["records"] == 600);
    world.assert_join(0..600);
}

#[test]
fn what_is_wrong_in_a_look_up_is_named_with_its_place() {
    let world = World::new();
    let good = json!({"name": "product", "key": "item.sku", "http": {"url": "http://localhost/{key}"}});
    let postgres = |more: Value| {
        let mut postgres = json!({"url": "postgres://h/d", "query": "SELECT sku FROM p WHERE sku = ANY($1)"});
        postgres.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"name": "product", "key": "item.sku", "postgres": postgres})
    };
    let with = |key: &str, value: Value| {
        let mut enrich = good.clone();
        enrich[key] = value;
        enrich
    };
    for (enrich, pointer, part) in [
        (with("name", json!("a b")), "/name", "write a letter"),
        (with("key", json!("item..sku")), "/key", "a field is expected here (column 6)"),
        (with("key", json!("product.sku")), "/key", "give the look-up another name"),
        (with("in_flight", json!(0)), "/in_flight", "from 1 to 1000"),
        (with("http", json!({"url": "http://localhost/"})), "/http/url", "{key}"),
        (with("http", Value::Null), "", "either `postgres"),
        (postgres(json!({"url": "postgres://u:s3cret@h/d"})), "/postgres/url", "BELUGA_SECRET_"),
        (postgres(json!({"url": {"env": "PGPASSWORD"}})), "/postgres/url", "BELUGA_SECRET_PGPASSWORD"),
        (postgres(json!({"password": {"file": "/etc/shadow"}})), "/postgres/password", "secret_folders"),
        (postgres(json!({"authority_file": "/etc/authorities.pem"})), "/postgres/authority_file", "secret_folders"),
        (postgres(json!({"query": "SELECT 1"})), "/postgres/query", "$1"),
    ] {
        let answer = world.server.put("/v1/catalog").json(&world.catalog(enrich)).send().expect("put");
        assert!(answer.status().is_client_error());
        let problem: Value = answer.json().expect("JSON");
        let text = problem.to_string();
        assert!(text.contains(&format!("/sources/lines/enrich/0{pointer}\"")), "{problem}");
        assert!(text.contains(part) && !text.contains("s3cret"), "{problem}");
    }
    let misspelt = world.server.put("/v1/catalog").json(&world.catalog(with("on_eror", json!("wait")))).send();
    let misspelt: Value = misspelt.expect("put").json().expect("JSON");
    assert!(misspelt.to_string().contains("on_error"), "{misspelt}");
    let mut tags = world.catalog(good);
    let source = tags["sources"]["lines"].as_object_mut().expect("an object");
    source.insert("into".to_owned(), json!("tags"));
    source.remove("map");
    let refused: Value = world.server.put("/v1/catalog").json(&tags).send().expect("put").json().expect("JSON");
    assert!(refused.to_string().contains("into tags it goes with `map`"), "{refused}");
}

/// A real database on a port of its own; it goes with this.
struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl Postgres {
    /// None where there is no PostgreSQL, which in CI is a failure.
    fn start() -> Option<Postgres> {
        let Some(programs) = std::env::var_os("BELUGA_POSTGRES_PROGRAMS") else {
            assert!(
                std::env::var_os("CI").is_none(),
                "BELUGA_POSTGRES_PROGRAMS is to name the folder of PostgreSQL's programs"
            );
            eprintln!("SKIPPED: BELUGA_POSTGRES_PROGRAMS does not name the folder of PostgreSQL's programs");
            return None;
        };
        let folder = tempfile::tempdir().expect("temporary folder");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let open = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(folder.path(), open).expect("permissions");
        }
        let port = free_port();
        let postgres = Postgres { programs: programs.into(), folder, port };
        postgres.run("initdb", &["-A", "trust", "-U", "beluga", "--no-sync", "-D", &postgres.data()]);
        let (key, certificate) = (postgres.data() + "/server.key", postgres.certificate());
        let subject = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        postgres.run_program(
            Path::new("openssl"),
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
                "-addext",
                subject,
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        );
        postgres.up();
        Some(postgres)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn certificate(&self) -> String {
        self.data() + "/server.crt"
    }

    fn up(&self) {
        let options = format!("-p {} -k {} -c fsync=off -c ssl=on", self.port, self.folder.path().display());
        let log = self.folder.path().join("log").display().to_string();
        self.run("pg_ctl", &["start", "-w", "-D", &self.data(), "-l", &log, "-o", &options]);
    }

    fn down(&self) {
        self.run("pg_ctl", &["stop", "-w", "-m", "immediate", "-D", &self.data()]);
    }

    fn sql(&self, sql: &str) {
        let port = self.port.to_string();
        self.run(
            "psql",
            &["-h", "127.0.0.1", "-p", &port, "-U", "beluga", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"],
        );
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        self.run_program(&self.programs.join(program), arguments);
    }

    fn run_program(&self, program: &Path, arguments: &[&str]) {
        // PostgreSQL does not run as root.
        let id = Command::new("id").arg("-u").output().expect("run id");
        let mut command = match id.stdout.trim_ascii() {
            b"0" => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            _ => Command::new(program),
        };
        let log = self.folder.path().join("programs.log");
        let out = OpenOptions::new().create(true).append(true).open(&log).expect("a file");
        let error = out.try_clone().expect("a handle");
        let status = command.args(arguments).current_dir("/").stdout(out).stderr(error).status().expect("it runs");
        let told = std::fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "{} {arguments:?}: {told}", program.display());
    }

    fn url(&self) -> String {
        format!("postgres://beluga@localhost:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.down();
        } else {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.down()));
        }
    }
}

#[test]
fn a_database_is_asked_for_many_keys_at_once() {
    let Some(postgres) = Postgres::start() else { return };
    let world = World::new();
    postgres.sql(
        "CREATE TABLE product (sku integer PRIMARY KEY, category text, price numeric(8,2), tags text[], odd point)",
    );
    for key in 0..KEYS {
        if let Some((category, cents)) = product(key) {
            let price = format!("{}.{:02}", cents / 100, cents % 100);
            postgres.sql(&format!("INSERT INTO product VALUES ({key}, '{category}', {price}, '{{a,b}}')"));
        }
    }
    let authority_file = world.folder().join("authority.pem");
    std::fs::copy(postgres.certificate(), &authority_file).expect("copied");
    let enrich = |more: Value| {
        let mut declared = json!({
            "url": postgres.url() + "?sslmode=require", "authority_file": authority_file, "batch": 16,
            "query": "SELECT category, price, sku, tags FROM product WHERE sku = ANY($1)", "key_column": "sku",
        });
        declared.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"name": "product", "key": "item.sku", "postgres": declared, "timeout": "1 s"})
    };
    // What only the database knows is told by the source.
    world.append([line(1)]);
    for (more, part) in [
        (
            json!({"query": "SELECT sku, odd FROM product WHERE sku = ANY($1)"}),
            "column `odd` is a point, which is not read",
        ),
        (json!({"key_column": "skus"}), "did you mean `sku`?"),
        (
            json!({"query": "SELECT sku FROM products WHERE sku = ANY($1)"}),
            "relation \"products\" does not exist (42P01)",
        ),
        (
            json!({"query": "WITH gone AS (DELETE FROM product WHERE sku = ANY($1) RETURNING sku) SELECT sku FROM gone"}),
            "read-only transaction (25006)",
        ),
        (json!({"url": postgres.url() + "?sslmode=require", "authority_file": null}), "certificate"),
    ] {
        world.server.put_catalog(&world.catalog(enrich(more.clone())));
        world.wait(|answer| answer["error"].as_str().is_some_and(|why| why.contains(part)));
    }
    world.server.put_catalog(&world.catalog(enrich(json!({}))));
    world.append((2..300).map(line));
    let answer = world.wait(|answer| answer["records"] == 299);
    let lookup = &answer["lookups"][0];
    let requests = lookup["requests"].as_u64().expect("a number");
    assert!(requests < 150, "keys are asked together: {answer}");
    world.assert_join(1..300);

    // It crashes and comes back; nothing is lost, nothing counts twice.
    postgres.down();
    world.append((300..340).map(line));
    world.wait(|answer| answer["state"] == "retrying");
    assert_eq!(world.wait(|_| true)["records"], 299);
    postgres.up();
    world.wait(|answer| answer["records"] == 339 && answer["state"] == "running");
    world.append((340..400).map(line));
    world.wait(|answer| answer["records"] == 399);
    world.assert_join(1..400);

    // The columns of the query get other types: it is prepared again.
    postgres.sql("ALTER TABLE product ALTER COLUMN price TYPE numeric(10,2), ALTER COLUMN sku TYPE bigint");
    world.append((400..420).map(line));
    world.wait(|answer| answer["records"] == 419 && answer["state"] == "running");

    // One key a query.
    let single = json!({"query": "SELECT category, price FROM product WHERE sku = $1", "key_column": null});
    world.server.put_catalog(&world.catalog(enrich(single)));
    world.append((420..500).map(line));
    world.wait(|answer| answer["lookups"][0]["lookups"] == 80 && answer["lag"] == 0);
    world.assert_join(1..500);
}

/// Slow answers, a source that is stopped and started, a server that is killed: each record counts once.
#[test]
fn a_kill_while_look_ups_are_under_way_loses_nothing() {
    let (mut world, service) = (World::new(), Service::start());
    let enrich = service.enrich(world.folder(), json!({"in_flight": 2, "order": "unordered", "cache": {"entries": 5}}));
    world.server.put_catalog(&world.catalog(enrich));
    let folder = world.folder().to_owned();
    let mut written = 0;
    let seen: Mutex<HashSet<u64>> = Mutex::default();
    for round in 1..=6 {
        world.append((written..written + 150).map(line));
        written += 150;
        std::thread::sleep(Duration::from_millis(40 * round));
        let answer = world.wait(|_| true);
        seen.lock().expect("lock").insert(answer["records"].as_u64().unwrap_or_default());
        world.server.kill();
        world.server.restart_with(|config| {
            config.source_folders = vec![folder.clone()];
            config.secret_folders = vec![folder.clone()];
        });
    }
    world.wait(|answer| answer["lag"] == 0 && answer["state"] == "running" && answer["lookups"][0]["waiting"] == 0);
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.server.count(&format!("did('view', count = {written})")) == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    world.assert_join(0..written);
}
