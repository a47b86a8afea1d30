//! What a tenant was told: of each set of users that got a number of its own a sketch and that number, in a file of the data directory.
//!
//! The file is a head and records of one length, each sealed with the directory's secret, the tenant's name and its place, so that none
//! can be changed, moved or made up without the secret. Records are appended and synced before what they hold is told. A kill or a power
//! cut may leave the last append broken; it is cut off when the file is opened, as nobody was told what it held. Anything else that is
//! damaged is named, and the
//! tenant is answered nothing until the file was restored: without it, what was told could be told again with a difference.
//!
//! Records older than the period are left out when the file is written anew, so it holds at most about twice what is in the period.

use super::noise::{Key, SEAL_BYTES};
use super::sketch::{SKETCH_BYTES, Sketch};
use super::{Privacy, Told};
use crate::access::failed;
use crate::error::{Failure, Kind};
use engine::vfs::real::RealVfs;
use engine::vfs::write_atomically;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a file begins with; a seal follows.
const HEAD: &[u8; 16] = b"BELUGA PRIVACY 1";
const HEAD_BYTES: usize = HEAD.len() + SEAL_BYTES;
/// Time, number, place of the append's first record, words.
const FIXED_BYTES: usize = 24 + SEAL_BYTES;
const BODY_BYTES: usize = FIXED_BYTES + SKETCH_BYTES;
const RECORD_BYTES: usize = BODY_BYTES + SEAL_BYTES;
/// Records that are not worth writing the file anew for.
const OLD_MAX: usize = 64;
/// Words that are remembered with what they were answered, beside those of the records.
const HEARD_MAX: usize = 100_000;

/// A set of users that somebody asks about.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) sketch: Sketch,
    /// How many they are.
    pub(super) count: u64,
    /// By what words, sealed.
    pub(super) text: [u8; SEAL_BYTES],
}

/// A set that was answered.
#[derive(Clone, Debug)]
struct Entry {
    /// When, in microseconds since 1970.
    at: i64,
    told: u64,
    /// By what words it was asked about first, sealed.
    text: [u8; SEAL_BYTES],
    sketch: Sketch,
}

/// What is asked by, and of whom.
#[derive(Clone, Copy)]
pub(super) struct By<'b> {
    pub(super) key: &'b Key,
    pub(super) tenant: &'b str,
    pub(super) privacy: &'b Privacy,
    /// Microseconds since 1970.
    pub(super) now: i64,
    /// Whether anybody waits; asked for each set, since each is compared with all that were answered.
    pub(super) check: &'b dyn Fn() -> Result<(), Failure>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    /// Oldest first, as they are in the file.
    entries: Vec<Entry>,
    /// What was told last, by what words; since the server started.
    heard: HashMap<[u8; SEAL_BYTES], Told>,
    file: Option<File>,
    /// Why nothing is written any more.
    broken: Option<String>,
}

impl Ledger {
    /// Reads the file of a tenant, if there is one.
    ///
    /// # Errors
    /// [`Kind::LocalFile`]; [`Kind::Corrupt`] if it is damaged.
    pub(super) fn open(path: &Path, key: &Key, tenant: &str) -> Result<Ledger, Failure> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(path, &error)),
        };
        let entries = read(&bytes, key, tenant).map_err(|what| {
            let failure = Failure::new(Kind::Corrupt, format!("{}: {what}", path.display()));
            failure.suggest(
                "restore the file from a backup: it says what the tenant was told, against which answers are checked",
            )
        })?;
        let whole = HEAD_BYTES + entries.len() * RECORD_BYTES;
        let mut ledger = Ledger { path: path.to_owned(), entries, heard: HashMap::new(), file: None, broken: None };
        if bytes.len() > whole {
            tracing::warn!(path = %path.display(), "cut what a crash left of answers that nobody was told");
            ledger.write_anew(key, tenant)?;
        }
        Ok(ledger)
    }

    /// Answers in the period.
    pub(super) fn used(&self, privacy: &Privacy, now: i64) -> u64 {
        self.live(privacy, now).count() as u64
    }

    /// What is told of each set. What is told anew is on disk when this returns.
    ///
    /// Where nothing is left, what was asked before is told as it was then, and nobody looks at what it means now: whether a set would get
    /// a number of its own tells something of it, and is to be had only for one of the answers. So whoever asks for more than is left uses up what is.
    ///
    /// # Errors
    /// [`Kind::PrivacyBudget`] if more answers are needed than are left; the disk's.
    pub(super) fn tell(&mut self, by: By<'_>, asked: &[Asked]) -> Result<Vec<Told>, Failure> {
        if let Some(why) = &self.broken {
            let detail = format!("what is answered cannot be written down any more: {why}");
            return Err(
                Failure::new(Kind::LocalFile, detail).suggest("make room on the disk and start the server again")
            );
        }
        if self.left(by.privacy, by.now) == 0 {
            return asked.iter().map(|asked| self.told_before(by, asked)).collect();
        }
        let before = self.entries.len();
        let told: Result<Vec<Told>, Failure> = asked.iter().map(|asked| self.told(by, asked)).collect();
        if self.entries.len() > before {
            self.append(by, before)?;
        }
        for (asked, told) in asked.iter().zip(told.iter().flatten()) {
            if self.heard.len() < HEARD_MAX || self.heard.contains_key(&asked.text) {
                self.heard.insert(asked.text, *told);
            }
        }
        told
    }

    /// # Errors
    /// [`Kind::PrivacyBudget`] if no answer is left.
    pub(super) fn check_left(&self, by: By<'_>) -> Result<(), Failure> {
        if self.left(by.privacy, by.now) > 0 { Ok(()) } else { Err(self.over_budget(by)) }
    }

    /// Answers that are left.
    pub(super) fn left(&self, privacy: &Privacy, now: i64) -> u64 {
        u64::from(privacy.answers).saturating_sub(self.used(privacy, now))
    }

    /// What a set was told with before, by the same words.
    fn told_before(&self, by: By<'_>, asked: &Asked) -> Result<Told, Failure> {
        let kept = self.live(by.privacy, by.now).find(|entry| entry.text == asked.text);
        let least = u64::from(by.privacy.min_users);
        match self.heard.get(&asked.text).copied().or(kept.map(|entry| Told::Again(entry.told))) {
            Some(told) if told.number().is_some_and(|number| number < least) => Ok(Told::Few),
            Some(told) => Ok(told),
            None => Err(self.over_budget(by)),
        }
    }

    fn live(&self, privacy: &Privacy, now: i64) -> impl Iterator<Item = &Entry> {
        let from = now.saturating_sub(privacy.period_micros());
        self.entries.iter().filter(move |entry| entry.at > from)
    }

    /// What is told of a set that is looked at; to be written down by who calls.
    pub(super) fn told(&mut self, by: By<'_>, asked: &Asked) -> Result<Told, Failure> {
        (by.check)()?;
        let Asked { sketch, count, text } = asked;
        let least = by.privacy.far_from(by.key, by.tenant, sketch);
        // Nobody is a set that is always known: whatever is near it is told to be few.
        if *count < least {
            return Ok(Told::Few);
        }
        let near = self.live(by.privacy, by.now).find(|entry| entry.sketch.difference(sketch) < least);
        if let Some(entry) = near {
            // It may be of a time with another policy.
            return Ok(match entry.told < u64::from(by.privacy.min_users) {
                true => Told::Few,
                false if entry.sketch == *sketch => Told::Again(entry.told),
                false => Told::Near(entry.told),
            });
        }
        if self.left(by.privacy, by.now) == 0 {
            return Err(self.over_budget(by));
        }
        let told = by.privacy.noised(by.key, by.tenant, asked);
        self.entries.push(Entry { at: by.now, told, text: *text, sketch: sketch.clone() });
        Ok(Told::New(told))
    }

    fn over_budget(&self, by: By<'_>) -> Failure {
        let Privacy { answers, every_hours, .. } = *by.privacy;
        let detail = format!(
            "the tenant `{}` was given {answers} different answers within {every_hours} hours, all that its privacy policy grants",
            by.tenant
        );
        let oldest = self.live(by.privacy, by.now).map(|entry| entry.at).min().unwrap_or(by.now);
        let wait = oldest.saturating_add(by.privacy.period_micros()).saturating_sub(by.now) / 1_000_000 + 1;
        Failure::new(Kind::PrivacyBudget, detail)
            .suggest("what was answered before is still answered; for more, wait, or ask the operator of the server")
            .retry_after(u64::try_from(wait).unwrap_or(1))
    }

    /// Writes the entries from one on.
    fn append(&mut self, by: By<'_>, from: usize) -> Result<(), Failure> {
        let live = self.used(by.privacy, by.now) as usize;
        let written = match self.entries.len() - live > live.max(OLD_MAX) {
            true => {
                let period = by.now.saturating_sub(by.privacy.period_micros());
                self.entries.retain(|entry| entry.at > period);
                self.write_anew(by.key, by.tenant)
            }
            false => self.write_more(by, from).map_err(|error| failed(&self.path, &error)),
        };
        // Whether it is on disk is not known, and it is not tried again.
        written.inspect_err(|failure| self.broken = Some(failure.detail.clone()))
    }

    fn write_more(&mut self, by: By<'_>, from: usize) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (at, entry) in self.entries.iter().enumerate().skip(from) {
            put_record(&mut bytes, by.key, by.tenant, at, from, entry);
        }
        if self.file.is_none() {
            if from == 0 {
                write_atomically(&RealVfs, &self.path, &head(by.key, by.tenant))?;
            }
            self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        }
        let file = self.file.as_mut().expect("it was opened");
        file.write_all(&bytes)?;
        file.sync_data()
    }

    /// Puts a file with the entries in the place of the one there is.
    fn write_anew(&mut self, key: &Key, tenant: &str) -> Result<(), Failure> {
        self.file = None;
        let mut bytes = head(key, tenant);
        for (at, entry) in self.entries.iter().enumerate() {
            put_record(&mut bytes, key, tenant, at, at, entry);
        }
        write_atomically(&RealVfs, &self.path, &bytes).map_err(|error| failed(&self.path, &error))
    }
}

/// The record at a place, appended together with those from `first` on.
fn put_record(out: &mut Vec<u8>, key: &Key, tenant: &str, at: usize, first: usize, entry: &Entry) {
    let begin = out.len();
    out.extend_from_slice(&entry.at.to_le_bytes());
    out.extend_from_slice(&entry.told.to_le_bytes());
    out.extend_from_slice(&(first as u64).to_le_bytes());
    out.extend_from_slice(&entry.text);
    out.extend_from_slice(entry.sketch.bytes());
    let seal = seal(key, tenant, at, &out[begin..]);
    out.extend_from_slice(&seal);
}

fn seal(key: &Key, tenant: &str, at: usize, body: &[u8]) -> [u8; SEAL_BYTES] {
    key.seal("record", &[tenant.as_bytes(), &(at as u64).to_le_bytes(), body])
}

fn number(bytes: &[u8], at: usize) -> [u8; 8] {
    bytes[at..at + 8].try_into().expect("eight bytes")
}

/// The entry of a record and the place where its append began; `None` if it is not sealed.
fn record(bytes: &[u8], key: &Key, tenant: &str, at: usize) -> Option<(Entry, u64)> {
    let (body, sealed) = bytes.split_at_checked(BODY_BYTES)?;
    if seal(key, tenant, at, body)[..] != *sealed {
        return None;
    }
    let sketch = Sketch::from_bytes(&body[FIXED_BYTES..]);
    let (time, told) = (i64::from_le_bytes(number(body, 0)), u64::from_le_bytes(number(body, 8)));
    let text = body[FIXED_BYTES - SEAL_BYTES..FIXED_BYTES].try_into().expect("as long as a seal");
    Some((Entry { at: time, told, text, sketch }, u64::from_le_bytes(number(body, 16))))
}

/// The entries of a file, without what a crash left of the last append; or what is wrong with it.
fn read(bytes: &[u8], key: &Key, tenant: &str) -> Result<Vec<Entry>, String> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    match bytes.split_at_checked(HEAD.len()) {
        Some((head, _)) if head == HEAD => {}
        _ => return Err("its head is damaged at byte 0".to_owned()),
    }
    if bytes.get(HEAD.len()..HEAD_BYTES) != Some(head_seal(key, tenant).as_slice()) {
        return Err("it was not made with the secret of this directory for this tenant".to_owned());
    }
    let records = bytes[HEAD_BYTES..].chunks(RECORD_BYTES);
    let mut records: Vec<_> = (0..).zip(records).map(|(at, bytes)| record(bytes, key, tenant, at)).collect();
    if let Some(bad) = records.iter().position(Option::is_none) {
        // What came with it may be there in any part, what came later shows that it was whole once.
        if records[bad..].iter().flatten().any(|(_, first)| *first > bad as u64) {
            let byte = HEAD_BYTES + bad * RECORD_BYTES;
            return Err(format!("the record at byte {byte} is damaged, and later ones are not"));
        }
        records.truncate(bad);
    }
    Ok(records.into_iter().flatten().map(|(entry, _)| entry).collect())
}

fn head_seal(key: &Key, tenant: &str) -> [u8; SEAL_BYTES] {
    key.seal("ledger", &[tenant.as_bytes()])
}

fn head(key: &Key, tenant: &str) -> Vec<u8> {
    [HEAD.as_slice(), &head_seal(key, tenant)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roaring::RoaringBitmap;

    const DAY: i64 = 24 * 3_600_000_000;

    fn asked(key: &Key, users: std::ops::Range<u32>) -> Asked {
        let count = u64::from(users.end - users.start);
        let text = key.seal("text", &[format!("{users:?}").as_bytes()]);
        Asked { sketch: Sketch::of(key, &[RoaringBitmap::from_iter(users)]), count, text }
    }

    fn opened(path: &Path, key: &Key) -> Ledger {
        Ledger::open(path, key, "acme").expect("opens")
    }

    fn by<'b>(key: &'b Key, privacy: &'b Privacy, now: i64) -> By<'b> {
        By { key, tenant: "acme", privacy, now, check: &|| Ok(()) }
    }

    #[test]
    fn what_was_told_is_told_again_after_a_restart_and_counts_against_the_budget() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, key) = (folder.path().join("acme.ledger"), Key::of([5; 32]));
        let privacy = Privacy { answers: 2, ..Privacy::of(10) };
        let mut ledger = opened(&path, &key);
        let [a, near, b, c] = [0..100, 3..100, 0..200, 0..400].map(|users| asked(&key, users));
        let few = asked(&key, 0..9);
        let told = ledger.tell(by(&key, &privacy, DAY), &[a.clone(), near.clone(), few.clone()]).expect("told");
        let Told::New(first) = told[0] else { panic!("{told:?}") };
        assert_eq!(told[1..], [Told::Near(first), Told::Few]);
        let mut ledger = opened(&path, &key);
        let again = ledger.tell(by(&key, &privacy, 2 * DAY), &[near.clone(), a.clone(), b]).expect("told");
        assert_eq!(again[..2], [Told::Near(first), Told::Again(first)]);
        assert!(matches!(again[2], Told::New(_)), "{again:?}");
        assert_eq!(ledger.used(&privacy, 2 * DAY), 2);
        let mut ledger = opened(&path, &key);
        // What was not asked before, in these words, is refused whatever it means.
        let [e, f] = [0..5, 0..101].map(|users| asked(&key, users));
        for one in [&c, &near, &few, &e, &f] {
            let refused = ledger.tell(by(&key, &privacy, 3 * DAY), &[a.clone(), one.clone()]).expect_err("over budget");
            assert_eq!(refused.kind, Kind::PrivacyBudget);
            assert_eq!(refused.retry_after_seconds, Some(28 * 24 * 3600 + 1));
        }
        assert_eq!(
            ledger.tell(by(&key, &privacy, 3 * DAY), std::slice::from_ref(&a)).expect("old"),
            [Told::Again(first)]
        );
        // The first is of another period, but noise is of the set.
        let later = ledger.tell(by(&key, &privacy, 31 * DAY + 1), std::slice::from_ref(&a)).expect("there is room");
        assert_eq!(later, [Told::New(first)]);
        assert_eq!(opened(&path, &key).used(&privacy, 31 * DAY + 1), 2);
    }

    #[test]
    fn who_asks_for_more_than_is_left_uses_up_what_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, key) = (folder.path().join("acme.ledger"), Key::of([5; 32]));
        let privacy = Privacy { answers: 2, ..Privacy::of(10) };
        let mut ledger = opened(&path, &key);
        let [a, b, c, few, near] = [0..100, 200..400, 1_000..2_000, 0..3, 1_000..1_998].map(|users| asked(&key, users));
        let told = ledger.tell(by(&key, &privacy, DAY), &[a.clone(), few.clone()]).expect("told");
        let refused = ledger.tell(by(&key, &privacy, DAY), &[b.clone(), c.clone()]).expect_err("two are not left");
        assert_eq!((refused.kind, ledger.left(&privacy, DAY)), (Kind::PrivacyBudget, 0));
        for one in [c, near] {
            ledger.tell(by(&key, &privacy, DAY), &[one]).expect_err("nothing is left");
        }
        let again = ledger.tell(by(&key, &privacy, DAY), &[a, few]).expect("was told before");
        assert_eq!((again[0].number(), again[1]), (told[0].number(), Told::Few));
        assert_eq!(opened(&path, &key).left(&privacy, DAY), 0);
    }

    #[test]
    fn old_answers_leave_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, key) = (folder.path().join("acme.ledger"), Key::of([5; 32]));
        let privacy = Privacy { answers: 10_000, every_hours: 24, ..Privacy::of(2) };
        let mut ledger = opened(&path, &key);
        for day in 1..=4i64 {
            for nth in 0..30u32 {
                let one = asked(&key, nth * 1_000..nth * 1_000 + 500);
                ledger.tell(by(&key, &privacy, 2 * day * DAY), std::slice::from_ref(&one)).expect("told");
            }
        }
        assert_eq!(ledger.used(&privacy, 8 * DAY), 30);
        let kept = opened(&path, &key);
        assert_eq!(kept.used(&privacy, 8 * DAY), 30);
        assert!(kept.entries.len() <= 30 + OLD_MAX, "{}", kept.entries.len());
    }

    #[test]
    fn a_broken_end_is_cut_and_other_damage_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, key) = (folder.path().join("acme.ledger"), Key::of([5; 32]));
        let privacy = Privacy::of(10);
        let mut ledger = opened(&path, &key);
        for nth in 0..3u32 {
            let of = |from: u32| asked(&key, from..from + 100);
            ledger.tell(by(&key, &privacy, DAY), &[of(nth * 1_000), of(nth * 1_000 + 500)]).expect("told");
        }
        let whole = std::fs::read(&path).expect("there");
        assert_eq!(whole.len(), HEAD_BYTES + 6 * RECORD_BYTES);
        let after = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            Ledger::open(&path, &key, "acme").map(|ledger| ledger.entries.len())
        };
        for (cut, kept) in [(1, 5), (RECORD_BYTES, 5), (RECORD_BYTES + 7, 4), (2 * RECORD_BYTES + 1, 3)] {
            assert_eq!(after(&whole[..whole.len() - cut]), Ok(kept), "{cut}");
            assert_eq!(opened(&path, &key).entries.len(), kept, "and stays cut");
        }
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        // Of the last append any part may be missing.
        assert_eq!(after(&flipped(HEAD_BYTES + 4 * RECORD_BYTES + 9)), Ok(4));
        for at in [0, 20, HEAD_BYTES + 3, HEAD_BYTES + 3 * RECORD_BYTES + BODY_BYTES] {
            let refused = after(&flipped(at)).expect_err("damaged");
            assert!(refused.kind == Kind::Corrupt && refused.detail.contains("acme.ledger"), "{at}: {refused:?}");
        }
        after(&whole).expect("whole again");
        for refused in [Ledger::open(&path, &Key::of([6; 32]), "acme"), Ledger::open(&path, &key, "bolt")] {
            assert_eq!(refused.map(drop).expect_err("another's").kind, Kind::Corrupt);
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, key) = (folder.path().join("gone/acme.ledger"), Key::of([5; 32]));
        let privacy = Privacy::of(10);
        let mut ledger = Ledger::open(&path, &key, "acme").expect("nothing is there");
        let one = asked(&key, 0..100);
        for _ in 0..2 {
            let failed = ledger.tell(by(&key, &privacy, DAY), std::slice::from_ref(&one)).expect_err("no folder");
            assert_eq!(failed.kind, Kind::LocalFile, "{failed:?}");
        }
    }
}
