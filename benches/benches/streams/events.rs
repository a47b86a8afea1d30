//! The events, and what must be known of them afterwards.

use datasets::population::{Population, purchases};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time that the events took.
const SPAN_MS: u64 = 20 * 60_000;
const MINUTE_MS: u64 = 60_000;
/// Where a line's user id stands, behind `{"user_id":"`.
const USER_ID: std::ops::Range<usize> = 12..28;

/// A sequence of purchases in the order of their times.
pub(crate) struct Purchases {
    population: Population,
    count: u64,
    first_ms: u64,
}

/// What a stream of them must come to.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) events: u64,
    pub(crate) users: u64,
    /// Pairs of a user and a minute.
    pub(crate) windows: u64,
    /// Events of the category `end`, each the last of its partition: what stands in front of them was read when they are seen.
    pub(crate) ends: u64,
}

impl Purchases {
    pub(crate) fn new(user_count: u64, count: u64) -> Purchases {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        Purchases { population: Population { seed: 1, user_count }, count, first_ms: now_ms - SPAN_MS }
    }

    /// Hands out each line with its number, without the line feed; what they come to, but for ends.
    pub(crate) fn each(&self, mut take: impl FnMut(u64, &str)) -> Expected {
        let mut tally = Tally::default();
        let mut line = String::new();
        for index in 0..self.count {
            line.clear();
            let ts = self.first_ms + index * SPAN_MS / self.count;
            purchases::write_line(&self.population, index, ts as i64, &mut line);
            tally.add(&line, ts);
            take(index, line.trim_end());
        }
        tally.finish()
    }

    /// The last line of a partition, of a user of its own.
    pub(crate) fn end(&self, partition: u64) -> String {
        let ts = self.first_ms + SPAN_MS;
        format!(
            "{{\"user_id\":\"end-{partition:012}\",\"ts\":{ts},\"category\":\"end\",\"channel\":\"app\",\"amount\":2.00}}"
        )
    }

    /// Writes a file that ends with an end.
    pub(crate) fn write_file(&self, path: &Path) -> Expected {
        let mut file = BufWriter::new(File::create(path).expect("a file"));
        let mut expected = self.each(|_, line| writeln!(file, "{line}").expect("written"));
        writeln!(file, "{}", self.end(0)).expect("written");
        file.into_inner().expect("written").sync_all().expect("synced");
        expected.add_ends(1);
        expected
    }
}

impl Expected {
    /// So many partitions have an end.
    pub(crate) fn add_ends(&mut self, partitions: u64) {
        self.ends += partitions;
        self.events += partitions;
        self.users += partitions;
        self.windows += partitions;
    }
}

/// Counts while lines are made.
#[derive(Default)]
struct Tally {
    expected: Expected,
    users: HashSet<String>,
    minute: u64,
    in_minute: HashSet<String>,
}

impl Tally {
    fn add(&mut self, line: &str, ts_ms: u64) {
        let user = &line[USER_ID];
        if ts_ms / MINUTE_MS != self.minute {
            self.minute = ts_ms / MINUTE_MS;
            self.close_minute();
        }
        self.expected.events += 1;
        if !self.in_minute.contains(user) {
            self.in_minute.insert(user.to_owned());
            if !self.users.contains(user) {
                self.users.insert(user.to_owned());
            }
        }
    }

    fn close_minute(&mut self) {
        self.expected.windows += self.in_minute.len() as u64;
        self.in_minute.clear();
    }

    fn finish(mut self) -> Expected {
        self.close_minute();
        self.expected.users = self.users.len() as u64;
        self.expected
    }
}
