//! What can be set, and where from: flags, then the environment (`BELUGA_…`), then the file, then the defaults.
//!
//! [`SETTINGS`] is the one list of settings; the file's keys, the names in the environment and `--help` come from it.
//! A key that is not in it is an error with a suggestion, so that a misspelt setting never goes unnoticed. (Names in
//! the environment cannot be refused: other programs share the prefix.)

use crate::audit::Auditing;
use crate::error::{Failure, Kind};
use crate::objects::read_stores;
use engine::audience::suggest::closest;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Whether it may be reached from elsewhere although its connections are not encrypted.
    pub insecure: Insecure,
    /// The server's certificate, and those between it and its authority, where TLS is spoken.
    pub tls_certificate: Option<PathBuf>,
    /// The key of that.
    pub tls_key: Option<PathBuf>,
    /// The authorities of clients, who all need a certificate of one then.
    pub tls_client_ca: Option<PathBuf>,
    /// Who signs tokens beside our own.
    pub jwt_issuer: Option<String>,
    /// For whom those tokens are, if they are for us.
    pub jwt_audience: Option<String>,
    /// The issuer's keys: a file, or an address.
    pub jwt_keys: Option<String>,
    /// What those tokens call the tenant.
    pub jwt_tenant_claim: String,
    /// Where Flight SQL listens; `None` if it does not.
    pub flight: Option<SocketAddr>,
    /// Where PostgreSQL's protocol is spoken; `None` if it is not.
    pub postgres: Option<SocketAddr>,
    /// Connections of that which are open at a time; more are refused.
    pub postgres_connections_max: usize,
    /// Shards of a new data directory.
    pub shard_count: u16,
    /// Memory of not yet checkpointed updates at which writes wait.
    pub memory_bytes_max: usize,
    /// How long a write may stay invisible.
    pub publish_interval: Duration,
    /// How often is looked who enters and who leaves live audiences.
    pub live_interval: Duration,
    /// How long a write may stay out of a checkpoint.
    pub checkpoint_interval: Duration,
    /// Memory of updates outside a checkpoint at which one is made earlier.
    pub checkpoint_memory_bytes: u64,
    /// How long bytes of erased users may stay on the disk.
    pub erase_within: Duration,
    /// The time of a query that names no `timeout_ms`.
    pub query_timeout: Duration,
    /// The longest `timeout_ms`.
    pub query_timeout_max: Duration,
    /// Queries that run at a time.
    pub concurrent_queries: usize,
    /// Calls of a token in a second; `None`: as many as come.
    pub token_calls_per_second: Option<NonZeroU32>,
    /// Queries that may wait for their turn; more are refused with 429.
    pub queued_queries: usize,
    /// Memory of all scans of events that run at once; a question that needs more is refused.
    pub scan_memory_bytes: usize,
    /// Memory of all SQL statements that run at once; what does not fit goes to disk.
    pub sql_memory_bytes: usize,
    /// Bytes on disk of all SQL statements that run at once; a statement that needs more is refused.
    pub sql_spill_bytes: u64,
    /// Bodies of updates read at a time; more are refused with 429.
    pub concurrent_uploads: usize,
    /// Questions and statements that take as long are logged.
    pub slow_query: Duration,
    /// How long nothing may come of a body of updates; it is refused with 408 then.
    pub upload_idle: Duration,
    /// The largest body of a question.
    pub body_bytes_max: usize,
    /// The longest line of a body of updates.
    pub line_bytes_max: usize,
    /// The largest message of an Arrow body of updates.
    pub arrow_message_bytes_max: usize,
    /// Snapshots held for cursors.
    pub cursors_max: usize,
    /// How long an unused cursor is kept.
    pub cursor_idle: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency: Duration,
    /// Whether who asks what is told in the audit log.
    pub audit: Auditing,
    /// How long files of that are kept.
    pub audit_keep: Duration,
    /// How long a stop waits for requests in flight.
    pub drain: Duration,
    /// Folders whose files sources and jobs may read.
    pub source_folders: Vec<PathBuf>,
    /// Object stores that sources and jobs may read: buckets, or prefixes of them, as URLs.
    pub source_stores: Vec<String>,
    /// Folders that sinks may write files to.
    pub sink_folders: Vec<PathBuf>,
    /// Folders whose files may be secrets of a source or a sink.
    pub secret_folders: Vec<PathBuf>,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
}

/// Whether a server may be reached from elsewhere although its connections are not encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Insecure {
    /// No: it listens on loopback only.
    #[default]
    Off,
    /// Yes, for who has a token: something in front of it speaks TLS, or the network is closed.
    Plaintext,
    /// Yes, for everybody who reaches it.
    Open,
}

impl Insecure {
    /// All of them.
    pub const ALL: [Insecure; 3] = [Insecure::Off, Insecure::Plaintext, Insecure::Open];

    /// As it is set.
    pub fn name(self) -> &'static str {
        match self {
            Insecure::Off => "off",
            Insecure::Plaintext => "plaintext",
            Insecure::Open => "open",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let engine = engine::store::Options::default();
        let keeper = ingest::keeper::KeeperOptions::default();
        Config {
            data: PathBuf::from("./beluga-data"),
            http: SocketAddr::from(([127, 0, 0, 1], 7700)),
            insecure: Insecure::default(),
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            jwt_issuer: None,
            jwt_audience: None,
            jwt_keys: None,
            jwt_tenant_claim: "tenant".to_owned(),
            flight: Some(SocketAddr::from(([127, 0, 0, 1], 7701))),
            postgres: None,
            postgres_connections_max: 100,
            shard_count: engine.shard_count,
            memory_bytes_max: engine.memory_bytes_max,
            publish_interval: keeper.publish_interval,
            live_interval: Duration::from_millis(500),
            checkpoint_interval: keeper.checkpoint_interval,
            checkpoint_memory_bytes: keeper.checkpoint_memory_bytes,
            erase_within: keeper.erase_within,
            query_timeout: Duration::from_secs(30),
            query_timeout_max: Duration::from_secs(600),
            concurrent_queries: cores * 2,
            token_calls_per_second: None,
            queued_queries: 256,
            scan_memory_bytes: engine_sql::scan::MEMORY_BYTES_DEFAULT,
            sql_memory_bytes: engine_sql::session::MEMORY_BYTES_DEFAULT,
            sql_spill_bytes: engine_sql::session::SPILL_BYTES_DEFAULT,
            concurrent_uploads: 64,
            slow_query: Duration::from_secs(1),
            upload_idle: Duration::from_secs(60),
            body_bytes_max: 4 << 20,
            line_bytes_max: ingest::decode::LINE_BYTES_MAX,
            arrow_message_bytes_max: ingest::decode::arrow_stream::Limits::default().body_bytes_max,
            cursors_max: 256,
            cursor_idle: Duration::from_secs(300),
            idempotency: Duration::from_secs(24 * 3600),
            audit: Auditing::default(),
            audit_keep: Duration::from_secs(400 * 24 * 3600),
            drain: Duration::from_secs(10),
            source_folders: Vec::new(),
            source_stores: Vec::new(),
            sink_folders: Vec::new(),
            secret_folders: Vec::new(),
            log: "info".to_owned(),
            log_format: "text".to_owned(),
        }
    }
}

/// One thing that can be set.
pub struct Setting {
    /// Its key in the file; in the environment `BELUGA_` and the same in capitals.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
    show: fn(&Config) -> String,
}

macro_rules! settings {
    ($($name:literal, $help:literal, $field:ident, $read:expr, $show:expr;)*) => {
        /// Every setting, in the order of `--help`.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            help: $help,
            set: |config, text| {
                config.$field = $read(text)?;
                Ok(())
            },
            show: |config| $show(&config.$field),
        },)*];
    };
}

settings! {
    "data", "the data directory", data, path, |path: &PathBuf| path.display().to_string();
    "http", "address of REST, the console, docs and metrics", http, address, ToString::to_string;
    "tls_certificate", "PEM file with the server's certificate and those between it and its authority: all ports speak TLS then", tls_certificate, file, show_file;
    "tls_key", "PEM file with the key of that certificate", tls_key, file, show_file;
    "tls_client_ca", "PEM file with authorities: every client needs a certificate of one then", tls_client_ca, file, show_file;
    "jwt_issuer", "who signs tokens (JWT) beside those of beluga token: the claim iss", jwt_issuer, optional, show_optional;
    "jwt_audience", "for whom those are: the claim aud", jwt_audience, optional, show_optional;
    "jwt_keys", "the issuer's keys (JWKS): a file, or an https:// address", jwt_keys, optional, show_optional;
    "jwt_tenant_claim", "the claim of those that names the tenant", jwt_tenant_claim, claim, |claim: &String| quoted(claim);
    "insecure", "listen elsewhere than on loopback without TLS: plaintext (what stands in front speaks it, and tokens are needed), or without tokens too: open; else off", insecure, insecure, |insecure: &Insecure| format!("\"{}\"", insecure.name());
    "flight", "address of Flight SQL; off if it is not wanted", flight, optional_address, show_address;
    "postgres", "address of PostgreSQL's protocol, which is off unless it is set", postgres, optional_address, show_address;
    "postgres_connections_max", "connections of PostgreSQL's protocol at a time; more are refused", postgres_connections_max, positive, ToString::to_string;
    "shard_count", "shards of a new data directory, a power of two", shard_count, shards, ToString::to_string;
    "memory_bytes_max", "memory of updates before a checkpoint at which writes wait", memory_bytes_max, positive, ToString::to_string;
    "publish_interval_ms", "how long a write may stay invisible", publish_interval, millis, show_millis;
    "live_interval_ms", "how often is looked who enters and leaves live audiences", live_interval, millis, show_millis;
    "checkpoint_interval_ms", "how long a write may stay out of a checkpoint", checkpoint_interval, millis, show_millis;
    "checkpoint_memory_bytes", "memory of updates at which a checkpoint is made earlier", checkpoint_memory_bytes, positive_u64, ToString::to_string;
    "erase_within_ms", "how long bytes of erased users may stay on the disk", erase_within, millis, show_millis;
    "query_timeout_ms", "time of a query that names none", query_timeout, millis, show_millis;
    "query_timeout_max_ms", "the longest time a query may ask for", query_timeout_max, millis, show_millis;
    "concurrent_queries", "queries that run at a time", concurrent_queries, positive, ToString::to_string;
    "queued_queries", "queries that may wait; more are refused with 429", queued_queries, whole, ToString::to_string;
    "token_calls_per_second", "calls of a token in a second, or off: as many as come; more are refused with 429", token_calls_per_second, rate, show_rate;
    "slow_query_ms", "questions and statements that take as long are logged, with what was asked", slow_query, millis, show_millis;
    "scan_memory_bytes", "memory of searching events for conditions that no index covers", scan_memory_bytes, positive, ToString::to_string;
    "sql_memory_bytes", "memory of SQL statements; what does not fit goes to disk", sql_memory_bytes, positive, ToString::to_string;
    "sql_spill_bytes", "disk of SQL statements, in the data directory", sql_spill_bytes, positive_u64, ToString::to_string;
    "concurrent_uploads", "bodies of updates read at a time; more are refused with 429", concurrent_uploads, positive, ToString::to_string;
    "upload_idle_ms", "how long nothing may come of a body of updates; it is refused with 408 then", upload_idle, millis, show_millis;
    "body_bytes_max", "the largest body of a question", body_bytes_max, positive, ToString::to_string;
    "line_bytes_max", "the longest line of a body of updates", line_bytes_max, positive, ToString::to_string;
    "arrow_message_bytes_max", "the largest message (record batch) of an Arrow body of updates; four times that decompressed", arrow_message_bytes_max, positive, ToString::to_string;
    "cursors_max", "snapshots held for cursors", cursors_max, positive, ToString::to_string;
    "cursor_idle_ms", "how long an unused cursor is kept", cursor_idle, millis, show_millis;
    "idempotency_ms", "how long an idempotency key is remembered", idempotency, millis, show_millis;
    "audit", "whether an audit log is written of who asks and changes what: on, off, or required: then nothing is answered while it cannot be", audit, auditing, |auditing: &Auditing| format!("\"{}\"", auditing.name());
    "audit_days", "how long files of the audit log are kept", audit_keep, days, show_days;
    "drain_ms", "how long a stop waits for requests in flight", drain, millis, show_millis;
    "source_folders", "folders whose files sources and jobs may read, with commas", source_folders, folders, show_folders;
    "source_stores", "object stores that sources and jobs may read, such as s3://bucket/prefix, with commas", source_stores, read_stores, |stores: &[String]| format!("\"{}\"", stores.join(","));
    "sink_folders", "folders that sinks may write files to, with commas", sink_folders, folders, show_folders;
    "secret_folders", "folders whose files may be secrets of a source or a sink, with commas", secret_folders, folders, show_folders;
    "log", "what is logged: error, warn, info, debug, or a filter such as info,engine=debug", log, text, Clone::clone;
    "log_format", "text or json", log_format, log_format, Clone::clone;
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No such setting.
    #[error("{}: unknown setting `{key}`{}", path.display(), suggestion.as_ref().map_or(String::new(), |name| format!("; did you mean `{name}`?")))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The setting that may be meant.
        suggestion: Option<String>,
    },
    /// A value that cannot be.
    #[error("{source_name}: `{value}`: {why}")]
    Value {
        /// The flag, the variable or the file and key.
        source_name: String,
        /// As written.
        value: String,
        /// What is expected.
        why: String,
    },
}

impl Config {
    /// Whether the server may listen where it shall; `has_tokens`: it answers nobody without one.
    ///
    /// # Errors
    /// [`Kind::Exposed`], with what to do.
    pub fn check_exposure(&self, has_tokens: bool) -> Result<(), Failure> {
        let addresses = [Some(self.http), self.flight, self.postgres];
        let Some(elsewhere) = addresses.into_iter().flatten().find(|address| !address.ip().is_loopback()) else {
            return Ok(());
        };
        let needed = if has_tokens { Insecure::Plaintext } else { Insecure::Open };
        if self.insecure >= needed || has_tokens && self.tls_certificate.is_some() {
            return Ok(());
        }
        let (detail, suggestion) = match has_tokens {
            true => (
                format!("{elsewhere} is reached from elsewhere, and connections are not encrypted"),
                "set tls_certificate and tls_key; or put a proxy that speaks TLS in front, or close the network, and say so: insecure=plaintext",
            ),
            false => (
                format!(
                    "{elsewhere} is reached from elsewhere, and whoever reaches it may do anything: there is no token"
                ),
                "make one first: beluga token create operator --scope query,export,ingest,admin --data DIR",
            ),
        };
        Err(Failure::new(Kind::Exposed, detail).suggest(suggestion))
    }

    /// Puts a configuration together; later sources win: defaults, `file`, `environment`, `flags` (setting → text).
    ///
    /// # Errors
    /// [`ConfigError`] naming the source of the bad value.
    pub fn load(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some(path) = file {
            config.read_file(path)?;
        }
        for setting in SETTINGS {
            let variable = setting.variable();
            if let Some(value) = environment(&variable) {
                setting.apply(&mut config, &value, || variable)?;
            }
        }
        for setting in SETTINGS {
            if let Some(value) = flags.get(setting.name) {
                setting.apply(&mut config, value, || format!("--{}", setting.name.replace('_', "-")))?;
            }
        }
        Ok(config)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let fail = |why: String| ConfigError::File { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| fail(format!("read: {error}")))?;
        let values: Option<BTreeMap<String, serde_yaml_ng::Value>> =
            serde_yaml_ng::from_str(&text).map_err(|error| fail(error.to_string()))?;
        for (key, value) in values.unwrap_or_default() {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) else {
                let suggestion = closest(&key, SETTINGS.iter().map(|setting| setting.name)).map(str::to_owned);
                return Err(ConfigError::UnknownKey { path: path.to_owned(), key, suggestion });
            };
            let value = match value {
                serde_yaml_ng::Value::String(text) => text,
                serde_yaml_ng::Value::Number(number) => number.to_string(),
                serde_yaml_ng::Value::Bool(yes) => yes.to_string(),
                other => return Err(fail(format!("`{key}`: expected text or a number, found {other:?}"))),
            };
            setting.apply(self, &value, || format!("{}: {key}", path.display()))?;
        }
        Ok(())
    }

    /// All settings as the text of a file.
    pub fn to_text(&self) -> String {
        SETTINGS.iter().map(|setting| format!("{}: {}\n", setting.name, (setting.show)(self))).collect()
    }
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        format!("BELUGA_{}", self.name.to_uppercase())
    }

    fn apply(&self, config: &mut Config, value: &str, source: impl FnOnce() -> String) -> Result<(), ConfigError> {
        (self.set)(config, value).map_err(|why| ConfigError::Value {
            source_name: source(),
            value: value.to_owned(),
            why,
        })
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a folder".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.replace("localhost:", "127.0.0.1:");
    text.parse().map_err(|_| "expected an address and a port, such as 127.0.0.1:7700".to_owned())
}

fn optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" | "false" => Ok(None),
        _ => address(text)
            .map(Some)
            .map_err(|_| "expected an address and a port, such as 127.0.0.1:7701, or off".to_owned()),
    }
}

fn show_address(address: &Option<SocketAddr>) -> String {
    address.map_or_else(|| "\"off\"".to_owned(), |address| address.to_string())
}

fn auditing(text: &str) -> Result<Auditing, String> {
    // YAML reads on and off as true and false.
    let text = match text {
        "true" => "on",
        "false" => "off",
        text => text,
    };
    let found = Auditing::ALL.into_iter().find(|auditing| auditing.name() == text);
    found.ok_or_else(|| "expected on, off or required".to_owned())
}

/// Seconds of a day.
const DAY: u64 = 24 * 3600;

fn days(text: &str) -> Result<Duration, String> {
    let days = positive_u64(text)?;
    days.checked_mul(DAY).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

fn show_days(time: &Duration) -> String {
    (time.as_secs() / DAY).to_string()
}

fn rate(text: &str) -> Result<Option<NonZeroU32>, String> {
    match text {
        "off" | "false" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "expected a whole number above 0, or off".to_owned()),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "settings are shown by reference")]
fn show_rate(rate: &Option<NonZeroU32>) -> String {
    rate.map_or_else(|| "\"off\"".to_owned(), |rate| rate.to_string())
}

fn insecure(text: &str) -> Result<Insecure, String> {
    // YAML reads off as false.
    let text = if text == "false" { "off" } else { text };
    let found = Insecure::ALL.into_iter().find(|insecure| insecure.name() == text);
    found.ok_or_else(|| "expected off, plaintext or open".to_owned())
}

fn positive_u64(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number above 0".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    positive_u64(text).map(|number| number as usize)
}

fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

fn shards(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(count) if count.is_power_of_two() => Ok(count),
        _ => Err("expected a power of two, such as 16".to_owned()),
    }
}

fn millis(text: &str) -> Result<Duration, String> {
    positive_u64(text)
        .map(Duration::from_millis)
        .map_err(|_| "expected milliseconds, a whole number above 0".to_owned())
}

fn show_millis(duration: &Duration) -> String {
    duration.as_millis().to_string()
}

fn folders(text: &str) -> Result<Vec<PathBuf>, String> {
    let folders = text
        .split(',')
        .map(str::trim)
        .filter(|folder| !folder.is_empty())
        .map(|folder| std::path::absolute(folder).map_err(|error| format!("`{folder}`: {error}")));
    folders.collect()
}

fn show_folders(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    // In quotes, since no folder at all would otherwise be no text.
    format!("\"{}\"", folders.join(","))
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn file(text: &str) -> Result<Option<PathBuf>, String> {
    optional(text).map(|path| path.map(PathBuf::from))
}

fn show_file(path: &Option<PathBuf>) -> String {
    quoted(&path.as_ref().map_or(String::new(), |path| path.display().to_string()))
}

/// Nothing is what is not set.
fn optional(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn show_optional(text: &Option<String>) -> String {
    quoted(text.as_deref().unwrap_or_default())
}

/// As YAML reads it back, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn claim(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("expected the name of a claim, such as tenant".to_owned()) } else { Ok(text.to_owned()) }
}

fn log_format(text: &str) -> Result<String, String> {
    match text {
        "text" | "json" => Ok(text.to_owned()),
        _ => Err("expected text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("beluga.yaml");
        std::fs::write(&path, file).expect("write");
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Config::load(Some(&path), variable, &flags)
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
        let config = load(
            "queued_queries: 1\nconcurrent_queries: 1\ncursors_max: 1\n",
            &[("BELUGA_CONCURRENT_QUERIES", "2"), ("BELUGA_CURSORS_MAX", "2")],
            &[("cursors_max", "3")],
        )
        .expect("valid");
        assert_eq!((config.queued_queries, config.concurrent_queries, config.cursors_max), (1, 2, 3));
        assert_eq!(config.http.to_string(), "127.0.0.1:7700");
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_source() {
        let message = |result: Result<Config, ConfigError>| result.expect_err("refused").to_string();
        assert!(message(load("htp: x", &[], &[])).contains("did you mean `http`?"));
        assert!(message(load("", &[("BELUGA_HTTP", "7700")], &[])).starts_with("BELUGA_HTTP: `7700`"));
        assert!(message(load("", &[], &[("shard_count", "3")])).starts_with("--shard-count: `3`"));
        assert!(message(load("http: [1]", &[], &[])).contains("expected text or a number"));
        assert!(message(load("- a", &[], &[])).contains("invalid type"));
    }

    #[test]
    fn all_settings_read_back() {
        let config = Config {
            cursors_max: 7,
            flight: None,
            log: "warn".into(),
            tls_key: Some("/etc/a: \"b\"\\.pem".into()),
            jwt_issuer: Some("https://id.example.com/".into()),
            ..Config::default()
        };
        assert_eq!(load(&config.to_text(), &[], &[]).expect("valid"), config);
        // YAML reads some words as true and false.
        assert_eq!(load("flight: off", &[], &[]).expect("valid").flight, None);
        assert_eq!(load("flight: false", &[], &[]).expect("valid").flight, None);
        assert_eq!(load("", &[], &[]).expect("an empty file is valid"), Config::default());
    }
}
