//! What a Kafka source is told, and the library's settings that follow.

use super::super::SourceError;
use super::security::{Secret, Security};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a topic is read from when nothing of it was read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// All that there is.
    #[default]
    Earliest,
    /// Only what comes from now on.
    Latest,
    /// Records of this time and later, in milliseconds since 1970.
    Timestamp(i64),
}

/// What to do when the records that come next are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// Stop with an error that says how many.
    #[default]
    Fail,
    /// Go on with what is left; told by [`super::super::Polled::Skipped`] and counted.
    Earliest,
    /// Go on with what comes from now on; told and counted likewise.
    Latest,
}

/// Which partitions are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Those that this group gives us; partitions that a topic gains later come along.
    Group(String),
    /// These numbers of every topic, whoever else reads them.
    Partitions(Vec<i32>),
}

/// What a Kafka source is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Addresses of some brokers, `host:port`; the others are learned from them.
    pub brokers: Vec<String>,
    /// Names of topics; one that begins with `^` is a pattern, for a group only.
    pub topics: Vec<String>,
    /// Which partitions; default: group `beluga`.
    pub reading: Reading,
    /// Where an unknown topic begins; default: earliest. A partition that a known topic gained is always read from its
    /// first record, which nobody can have read.
    pub start: StartAt,
    /// What to do when records are gone; default: fail.
    pub on_missing: OnMissing,
    /// Protection and name; default: none.
    pub security: Security,
    /// More settings of librdkafka by their names there; not those that would break a promise, and no secrets.
    pub properties: BTreeMap<String, String>,
    /// More settings of librdkafka whose values are secrets.
    pub secrets: BTreeMap<String, Secret>,
    /// Records of a batch; default 16,384.
    pub batch_records_max: usize,
    /// Bytes of a batch (the last record may go over); default 8 MiB.
    pub batch_bytes_max: usize,
    /// Bytes to fetch ahead (the last fetch may go over); default 64 MiB.
    pub buffer_bytes_max: usize,
    /// How long an answer of the brokers is awaited in [`super::super::Source::start`]; default 10 s.
    pub request_timeout: Duration,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        KafkaOptions {
            brokers: Vec::new(),
            topics: Vec::new(),
            reading: Reading::Group("beluga".to_owned()),
            start: StartAt::default(),
            on_missing: OnMissing::default(),
            security: Security::default(),
            properties: BTreeMap::new(),
            secrets: BTreeMap::new(),
            batch_records_max: 16_384,
            batch_bytes_max: 8 << 20,
            buffer_bytes_max: 64 << 20,
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// Settings of ours, each with what to use instead.
const RESERVED: [(&str, &str); 16] = [
    ("bootstrap.servers", "say it in `brokers`"),
    ("metadata.broker.list", "say it in `brokers`"),
    ("group.id", "say it in `group`"),
    ("security.protocol", "say it in `security`"),
    ("enable.auto.commit", "offsets are committed when their records are durable, not before"),
    ("auto.commit.enable", "offsets are committed when their records are durable, not before"),
    ("enable.auto.offset.store", "offsets are committed when their records are durable, not before"),
    ("auto.offset.reset", "it would skip records silently; say it in `start` and `on_missing`"),
    ("enable.partition.eof", "a topic has no end"),
    ("queued.max.messages.kbytes", "say it in `buffer_bytes_max`"),
    ("plugin.library.paths", "no code is loaded from settings"),
    ("ssl.providers", "no code is loaded from settings"),
    ("ssl.engine.location", "no code is loaded from settings"),
    ("ssl.engine.id", "no code is loaded from settings"),
    ("sasl.kerberos.kinit.cmd", "no command is run from settings"),
    ("test.mock.num.brokers", "it is for tests of the library"),
];

/// Whether a setting's value is a secret.
fn is_secret(name: &str) -> bool {
    ["password", "secret", ".pem", "sasl.oauthbearer.config", "private.key", "assertion.jwt"]
        .iter()
        .any(|part| name.contains(part))
}

fn invalid(setting: impl Into<String>, what: impl Into<String>) -> SourceError {
    SourceError::Invalid { setting: setting.into(), what: what.into() }
}

impl KafkaOptions {
    /// Checks them and makes the library's settings. The result holds secrets.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub(crate) fn client_config(&self) -> Result<ClientConfig, SourceError> {
        self.check()?;
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        // These may be overridden.
        for (name, value) in [
            ("client.id", "beluga"),
            ("isolation.level", "read_committed"),
            // Soon enough for new partitions and topics; the library's 5 minutes are long for people who watch.
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("check.crcs", "true"),
            ("socket.keepalive.enable", "true"),
            // What is buffered is bounded by bytes. The library's own bound of records counts those of all partitions together here, since
            // they share a queue; and beyond a bound it asked for no more for a second, in which the queue ran dry.
            ("queued.min.messages", "10000000"),
            ("fetch.queue.backoff.ms", "10"),
        ] {
            config.set(name, value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, secret) in &self.secrets {
            config.set(name, secret.read(&format!("secrets.{name}"))?);
        }
        for (name, value) in self.security.properties()? {
            config.set(name, value);
        }
        config.set("bootstrap.servers", self.brokers.join(","));
        // Reading fixed partitions without one is refused by the library; it is told to nobody then.
        config.set("group.id", if let Reading::Group(group) = &self.reading { group } else { "beluga" });
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error");
        config.set("queued.max.messages.kbytes", (self.buffer_bytes_max >> 10).clamp(1, 2_097_151).to_string());
        Ok(config)
    }

    /// Whether they can be; reads no secret and asks no broker.
    ///
    /// # Errors
    /// [`SourceError::Invalid`].
    pub fn check(&self) -> Result<(), SourceError> {
        if self.brokers.iter().all(|broker| broker.trim().is_empty()) {
            return Err(invalid("brokers", "none is given; write `host:port`"));
        }
        if self.topics.is_empty() {
            return Err(invalid("topics", "none is given"));
        }
        for topic in &self.topics {
            let is_pattern = topic.starts_with('^') && matches!(self.reading, Reading::Group(_));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !is_pattern && (topic.is_empty() || topic.len() > 249 || !topic.bytes().all(is_plain)) {
                let what = format!("`{topic}` is no topic's name: letters, digits, `.`, `_` and `-`, 249 at most");
                return Err(invalid("topics", what));
            }
        }
        match &self.reading {
            Reading::Group(group) if group.trim().is_empty() => return Err(invalid("group", "the name is empty")),
            Reading::Partitions(numbers) if numbers.is_empty() => return Err(invalid("partitions", "none is given")),
            Reading::Partitions(numbers) => {
                if let Some(number) = numbers.iter().find(|number| **number < 0) {
                    return Err(invalid("partitions", format!("{number} is below 0")));
                }
            }
            Reading::Group(_) => {}
        }
        if self.batch_records_max == 0 || self.batch_bytes_max == 0 {
            return Err(invalid("batch", "a batch must hold something"));
        }
        self.security.check()?;
        self.check_properties()
    }

    fn check_properties(&self) -> Result<(), SourceError> {
        for name in self.properties.keys().chain(self.secrets.keys()) {
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(invalid(format!("properties.{name}"), *instead));
            }
        }
        match self.properties.keys().find(|name| is_secret(name)) {
            Some(name) => Err(invalid(
                format!("properties.{name}"),
                "its value is a secret; give the place where it stands (environment or file), in `security` or `secrets`",
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::security::{Sasl, SaslMechanism};
    use super::*;

    fn options() -> KafkaOptions {
        KafkaOptions { brokers: vec!["a:1".into()], topics: vec!["t".into()], ..Default::default() }
    }

    #[track_caller]
    fn refused(options: &KafkaOptions, expected: &str) {
        let error = options.client_config().expect_err("refused").to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn wrong_settings_are_named() {
        refused(&KafkaOptions { brokers: vec![], ..options() }, "brokers: none");
        refused(&KafkaOptions { topics: vec![], ..options() }, "topics: none");
        refused(&KafkaOptions { topics: vec!["a/b".into()], ..options() }, "topics: `a/b`");
        refused(&KafkaOptions { reading: Reading::Partitions(vec![1, -1]), ..options() }, "partitions: -1");
        let with = |name: &str| KafkaOptions { properties: [(name.into(), "x".into())].into(), ..options() };
        refused(&with("auto.offset.reset"), "properties.auto.offset.reset: it would skip");
        refused(&with("sasl.password"), "properties.sasl.password: its value is a secret");
        refused(&with("ssl.key.pem"), "properties.ssl.key.pem: its value is a secret");
    }

    #[test]
    fn no_option_brings_back_silent_skips_or_commits() {
        let config = options().client_config().expect("valid");
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("enable.auto.offset.store"), Some("false"));
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn a_secret_is_read_where_it_stands_and_shown_nowhere() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "tiger-4711\n").expect("written");
        let sasl = Sasl { mechanism: SaslMechanism::Plain, user: "ann".into(), password: Secret::File(file.clone()) };
        let security = Security { tls: None, sasl: Some(sasl) };
        let options = KafkaOptions { security, ..options() };
        let config = options.client_config().expect("valid");
        assert_eq!(config.get("sasl.password"), Some("tiger-4711"));
        assert!(!format!("{options:?} {config:?}").contains("tiger"));

        std::fs::remove_file(&file).expect("removed");
        refused(&options, "security.sasl.password: read ");
        let unset = Secret::Environment("BELUGA_TEST_NO_SUCH_VARIABLE".into());
        let secrets = [("sasl.oauthbearer.client.secret".to_owned(), unset)].into();
        refused(&KafkaOptions { security: Security::default(), secrets, ..options }, "secrets.sasl.oauthbearer");
    }
}
