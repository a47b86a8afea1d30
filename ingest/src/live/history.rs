//! The size of a live audience over time, and the file that keeps it.
//!
//! A point is a span of time: the size at its end, and who entered and left within it. Spans are minutes for two days, hours for two
//! months, then days; so years take some thousands of points, which are held in memory and written as a whole. What a crash takes
//! is the last minute of the curve: the members themselves are in the store.

use engine::vfs::Vfs;
use engine::vfs::sealed::{SealedFile, SealedWriter};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// How long points of a minute, and of an hour, stay as fine.
const MINUTES_KEPT: i64 = 2 * DAY;
const HOURS_KEPT: i64 = 60 * DAY;

const KIND: [u8; 8] = *b"BELUGSIZ";
const VERSION: u32 = 1;
const POINT_BYTES: usize = 32;

/// The size of an audience at the end of a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizePoint {
    /// The last look within the span, in microseconds since 1970.
    pub at: i64,
    /// Members then.
    pub size: u64,
    /// Users who entered within the span.
    pub entered: u64,
    /// Users who left within it.
    pub left: u64,
}

/// Points, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    points: Vec<SizePoint>,
    is_unsaved: bool,
}

impl History {
    /// Takes in a look. One that shows nothing new only begins a span if the last one was an hour ago.
    pub(super) fn note(&mut self, point: SizePoint) {
        let last = self.points.last_mut();
        let is_news = point.entered > 0 || point.left > 0;
        match last {
            Some(last) if !is_news && point.size == last.size && point.at - last.at < HOUR => return,
            Some(last) if point.at.div_euclid(MINUTE) <= last.at.div_euclid(MINUTE) => last.take(point),
            last => {
                let is_new_hour = last.is_none_or(|last| point.at.div_euclid(HOUR) > last.at.div_euclid(HOUR));
                self.points.push(point);
                if is_new_hour {
                    self.thin(point.at);
                }
            }
        }
        self.is_unsaved = true;
    }

    /// Makes older points coarser.
    fn thin(&mut self, now: i64) {
        let span = |at: i64| match now - at {
            age if age < MINUTES_KEPT => (MINUTE, at.div_euclid(MINUTE)),
            age if age < HOURS_KEPT => (HOUR, at.div_euclid(HOUR)),
            _ => (DAY, at.div_euclid(DAY)),
        };
        self.points.dedup_by(|later, earlier| {
            let same = span(later.at) == span(earlier.at);
            if same {
                earlier.take(*later);
            }
            same
        });
    }

    pub(super) fn between(&self, from: i64, to: i64) -> Vec<SizePoint> {
        let place = |at: i64| self.points.partition_point(|point| point.at < at);
        self.points[place(from)..place(to).max(place(from))].to_vec()
    }

    /// What to write, if there is something new.
    pub(super) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.is_unsaved) {
            return None;
        }
        let numbers = self.points.iter().flat_map(|point| [point.at as u64, point.size, point.entered, point.left]);
        Some(numbers.flat_map(u64::to_le_bytes).collect())
    }

    pub(super) fn set_unsaved(&mut self) {
        self.is_unsaved = true;
    }

    fn decode(bytes: &[u8]) -> Option<History> {
        let (points, rest) = bytes.as_chunks::<POINT_BYTES>();
        let number = |point: &[u8; POINT_BYTES], at: usize| {
            u64::from_le_bytes(point[at * 8..at * 8 + 8].try_into().expect("8 bytes"))
        };
        let point = |point| SizePoint {
            at: number(point, 0) as i64,
            size: number(point, 1),
            entered: number(point, 2),
            left: number(point, 3),
        };
        let points: Vec<SizePoint> = points.iter().map(point).collect();
        let whole = rest.is_empty() && points.is_sorted_by_key(|point| point.at);
        whole.then_some(History { points, is_unsaved: false })
    }
}

impl SizePoint {
    /// Becomes the span of both.
    fn take(&mut self, later: SizePoint) {
        self.entered += later.entered;
        self.left += later.left;
        (self.at, self.size) = (later.at.max(self.at), later.size);
    }
}

/// The files, one a list.
#[derive(Debug)]
pub(super) struct HistoryFolder {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    /// Names of the files that may be there.
    names: HashSet<String>,
}

impl HistoryFolder {
    pub(super) fn open(vfs: Arc<dyn Vfs>, folder: PathBuf) -> io::Result<HistoryFolder> {
        vfs.create_folder(&folder)?;
        let names = vfs.list(&folder)?.into_iter().collect();
        Ok(HistoryFolder { vfs, folder, names })
    }

    /// What is known of a list. Nothing, if its file is damaged: then the curve begins anew.
    pub(super) fn read(&self, list_id: &str) -> History {
        let name = file_name(list_id);
        if !self.names.contains(&name) {
            return History::default();
        }
        let path = self.folder.join(name);
        let read = SealedFile::open(&*self.vfs, &path, KIND, VERSION).and_then(|file| {
            let bytes = file.payload(0..file.payload_len())?;
            History::decode(bytes).ok_or_else(|| file.corrupt(0, "not the sizes of an audience"))
        });
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "the sizes of a live audience begin anew");
            History::default()
        })
    }

    pub(super) fn write(&mut self, list_id: &str, bytes: &[u8]) -> io::Result<()> {
        let name = file_name(list_id);
        let (path, temporary) = (self.folder.join(&name), self.folder.join("next.tmp"));
        remove(&*self.vfs, &temporary)?;
        let mut writer = SealedWriter::new(self.vfs.create(&temporary)?, KIND, VERSION);
        writer.append(bytes)?;
        writer.finish()?;
        self.vfs.rename(&temporary, &path)?;
        self.vfs.sync_folder(&self.folder)?;
        self.names.insert(name);
        Ok(())
    }

    /// Removes the files of other lists.
    pub(super) fn keep_only(&mut self, lists: &[&str]) {
        let kept: HashSet<String> = lists.iter().map(|list| file_name(list)).collect();
        let (vfs, folder) = (&*self.vfs, &self.folder);
        // What cannot be removed now goes next time.
        self.names.retain(|name| kept.contains(name) || remove(vfs, &folder.join(name)).is_err());
    }
}

fn remove(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    match vfs.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lists are named as people name audiences, which not every disk takes.
fn file_name(list_id: &str) -> String {
    format!("{:032x}.sizes", xxh3_128(list_id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::vfs::memory::MemoryVfs;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_by_thinning(steps in proptest::collection::vec((1..6 * HOUR, 0u64..5, 0u64..5), 1..300)) {
            let (mut history, mut at, mut size) = (History::default(), 1_700_000_000_000_000, 1_000u64);
            let (mut entered_all, mut left_all) = (0, 0);
            let mut seen = Vec::new();
            for (step, entered, left) in steps {
                at += step;
                size = size + entered - left.min(size);
                (entered_all, left_all) = (entered_all + entered, left_all + left);
                history.note(SizePoint { at, size, entered, left });
                seen.push((at, size));
            }
            let points = history.between(i64::MIN, i64::MAX);
            prop_assert_eq!(points.iter().map(|point| point.entered).sum::<u64>(), entered_all);
            prop_assert_eq!(points.iter().map(|point| point.left).sum::<u64>(), left_all);
            prop_assert!(points.is_sorted_by(|a, b| a.at < b.at));
            // Every point is a size that was seen then, and the last one is the newest that was new.
            prop_assert!(points.iter().all(|point| seen.contains(&(point.at, point.size))));
            prop_assert_eq!(points.last().map(|point| point.size), Some(size));
            let old = points.iter().filter(|point| at - point.at > HOURS_KEPT + DAY);
            let mut days: Vec<i64> = old.map(|point| point.at.div_euclid(DAY)).collect();
            let count = days.len();
            days.dedup();
            prop_assert_eq!(days.len(), count, "one a day of what is old");
        }
    }

    #[test]
    fn what_is_saved_is_read_again_and_others_go() {
        let vfs = Arc::new(MemoryVfs::default());
        let open = || HistoryFolder::open(vfs.clone(), "/data/live".into()).expect("opens");
        let mut history = History::default();
        for (at, size) in [(10 * MINUTE, 5), (11 * MINUTE, 7)] {
            history.note(SizePoint { at, size, entered: size, left: 0 });
        }
        let bytes = history.take_unsaved().expect("it is new");
        assert_eq!(history.take_unsaved(), None);
        open().write("a list/@1", &bytes).expect("writes");
        open().write("other", &bytes).expect("writes");
        vfs.power_cut(1);
        let mut files = open();
        assert_eq!(files.read("a list/@1"), history);
        files.keep_only(&["a list/@1"]);
        assert_eq!(open().read("other"), History::default());
        assert_eq!(open().read("a list/@1"), history);
    }

    #[test]
    fn a_damaged_file_begins_anew() {
        let vfs = Arc::new(MemoryVfs::default());
        let folder = || HistoryFolder::open(vfs.clone(), "/data/live".into()).expect("opens");
        folder().write("a", &[1; POINT_BYTES]).expect("writes");
        let path = Path::new("/data/live").join(file_name("a"));
        vfs.truncate(&path, 20);
        assert_eq!(folder().read("a"), History::default());
    }
}
