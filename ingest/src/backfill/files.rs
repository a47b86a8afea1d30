//! The files of a job, in a fixed order, and how they are written.

use super::{BackfillError, BackfillJob, FileFormat, Target};
use crate::objects::{
    Enough, FileBytes, Found, Object, ObjectError, ObjectErrorKind, ObjectPattern, Opener, Place, is_object_name,
};
use crate::source::files::check_within;
use std::collections::HashSet;
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::Xxh3;

/// A file to load.
#[derive(Clone, Debug)]
pub(super) struct JobFile {
    pub(super) place: Place,
    pub(super) format: FileFormat,
    pub(super) size_bytes: u64,
    /// Of an object, if its store tells.
    pub(super) version: Option<Arc<str>>,
}

impl JobFile {
    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// What an error means, if it comes of an object that could not be got.
    pub(super) fn explain(&self, error: BackfillError) -> BackfillError {
        match self.place.trouble() {
            Some(trouble) => object_error(self.path(), &trouble),
            None => error,
        }
    }
}

/// Where a job's files are looked for, and how far that goes.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) opener: &'a Opener,
    /// Asked while a store is waited for.
    pub(super) is_over: &'a dyn Fn() -> bool,
    /// One object of each URL is enough to know.
    pub(super) first_only: bool,
}

/// The job's files: as listed, a glob's by name, none twice.
pub(super) fn find(job: &BackfillJob, search: Search<'_>) -> Result<Vec<JobFile>, BackfillError> {
    let wrong = |what: String| BackfillError::Job { job: job.name.clone(), what };
    let mut files: Vec<JobFile> = Vec::new();
    let mut known: HashSet<PathBuf> = HashSet::new();
    for pattern in &job.files {
        let found = match is_object_name(pattern) {
            true => find_objects(job, pattern, search)?,
            false => find_local(job, pattern)?,
        };
        for (place, size_bytes, version) in found {
            let path = place.path().to_owned();
            if !known.insert(path.clone()) {
                continue;
            }
            let format = job.format.or_else(|| format_of(&path)).ok_or_else(|| {
                wrong(format!(
                    "{}: its name does not tell the format; state `format`: parquet, arrow, csv, ndjson or tags",
                    path.display()
                ))
            })?;
            files.push(JobFile { place, format, size_bytes, version });
        }
    }
    if files.is_empty() {
        return Err(wrong("no files are given".to_owned()));
    }
    Ok(files)
}

/// A file with its size and its version.
type Located = (Place, u64, Option<Arc<str>>);

fn find_local(job: &BackfillJob, pattern: &str) -> Result<Vec<Located>, BackfillError> {
    let wrong = |what: String| BackfillError::Job { job: job.name.clone(), what };
    let mut paths = Vec::new();
    if Path::new(pattern).is_file() {
        paths.push(PathBuf::from(pattern));
    } else {
        let matches = glob::glob(pattern).map_err(|error| wrong(format!("`{pattern}` is not a glob: {error}")))?;
        for path in matches {
            let path = path.map_err(|error| wrong(format!("{}: {}", error.path().display(), error.error())))?;
            if path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
    }
    if paths.is_empty() {
        let hint =
            if Path::new(pattern).is_dir() { "; it is a folder: write for example `folder/*.parquet`" } else { "" };
        return Err(wrong(format!("no file matches `{pattern}`{hint}")));
    }
    let located = |path: PathBuf| {
        check_within(&path, &job.within).map_err(&wrong)?;
        let size_bytes = path.metadata().map_err(|error| file_error(&path, error))?.len();
        Ok((Place::Local(path), size_bytes, None))
    };
    paths.into_iter().map(located).collect()
}

fn find_objects(job: &BackfillJob, text: &str, search: Search<'_>) -> Result<Vec<Located>, BackfillError> {
    let wrong = |what: String| BackfillError::Job { job: job.name.clone(), what };
    let pattern = ObjectPattern::parse(text).map_err(&wrong)?;
    let mut found = Found::default();
    // What lies below a URL and is of no format, the marks of other programs say, is not meant; nor are empty ones that mark folders.
    let is_meant = |(object, is_below): &(Object, bool)| {
        let is_marker = object.size_bytes == 0 && *object.name != *text;
        (!is_below || job.format.is_some()) && !is_marker || format_of(Path::new(&*object.name)).is_some()
    };
    let enough: Option<&Enough<'_>> = if search.first_only { Some(&is_meant) } else { None };
    match pattern.find(search.opener, search.is_over, enough, &mut found) {
        Ok(()) => {}
        Err(error) if error.kind == ObjectErrorKind::Stopped => {
            return Err(BackfillError::Cancelled { job: job.name.clone() });
        }
        Err(error) => return Err(object_error(Path::new(text), &error)),
    }
    if let Some(complaint) = found.complaints.first() {
        // Left out unsaid, its rows would be missed by nobody.
        return Err(wrong(complaint.clone()));
    }
    found.objects.retain(is_meant);
    if found.objects.is_empty() {
        return Err(wrong(format!("no object matches `{text}`")));
    }
    let mut objects: Vec<Object> = found.objects.into_iter().map(|found| found.0).collect();
    objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let located = |object: Object| {
        let (size_bytes, version) = (object.size_bytes, object.version.clone());
        (search.opener.place(object), size_bytes, version)
    };
    Ok(objects.into_iter().map(located).collect())
}

/// All of them, whatever that takes.
#[cfg(test)]
pub(super) fn find_all(job: &BackfillJob) -> Result<Vec<JobFile>, BackfillError> {
    let opener = Opener::new(job.objects.clone());
    find(job, Search { opener: &opener, is_over: &|| false, first_only: false })
}

pub(super) fn object_error(path: &Path, error: &ObjectError) -> BackfillError {
    let (path, what) = (path.to_owned(), error.what.clone());
    match error.kind {
        ObjectErrorKind::Unavailable => BackfillError::Unavailable { path, what },
        _ => BackfillError::File { path, what },
    }
}

pub(super) fn file_error(path: &Path, error: impl std::fmt::Display) -> BackfillError {
    BackfillError::File { path: path.to_owned(), what: error.to_string() }
}

/// The format by the file's name; a `.gz` behind it does not count.
fn format_of(path: &Path) -> Option<FileFormat> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "parquet" => Some(FileFormat::Parquet),
        "arrow" | "arrows" | "feather" | "ipc" => Some(FileFormat::Arrow),
        "csv" => Some(FileFormat::Csv),
        "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
        _ => None,
    }
}

/// What a resumed job must find unchanged: its files with their sizes, and what it does with them.
pub(super) fn fingerprint(job: &BackfillJob, files: &[JobFile]) -> u64 {
    let mut hash = Xxh3::new();
    let mut text = |text: &str| {
        hash.write_u64(text.len() as u64);
        hash.write(text.as_bytes());
    };
    for file in files {
        text(&file.path().to_string_lossy());
        text(&format!("{:?} {}", file.format, file.size_bytes));
        // Of files nothing, as of old.
        if let Some(version) = &file.version {
            text(version);
        }
    }
    text(&job.user_id);
    text(&format!("{:?} {:?} {}", job.columns, job.nulls, job.csv_delimiter));
    // Of tags nothing, so that what an older release began goes on.
    match &job.into {
        Target::Tags => {}
        Target::Fact(target) => text(&format!("{target:?}")),
        Target::Space(target) => text(&format!("{target:?}")),
    }
    hash.finish()
}

const BUFFER_BYTES: usize = 1 << 18;

/// A file; counts the bytes read of it.
pub(super) fn open_counted(place: &Place, bytes_read: &Arc<AtomicU64>) -> io::Result<BufReader<Counted>> {
    let file = Counted { file: place.open()?, bytes_read: bytes_read.clone() };
    Ok(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// The same of a text file, as a stream, unpacked if it is gzipped.
pub(super) fn open_text(place: &Place, bytes_read: &Arc<AtomicU64>) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = open_counted(place, bytes_read)?;
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(BUFFER_BYTES, flate2::read::MultiGzDecoder::new(file))),
        _ => Box::new(file),
    })
}

pub(super) struct Counted {
    file: FileBytes,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(files: &[&Path]) -> BackfillJob {
        let files = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        BackfillJob::new("j", files, "user_id")
    }

    #[test]
    fn globs_are_sorted_and_doubles_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.csv", "a.csv.gz", "c.parquet", "d.jsonl"] {
            std::fs::write(folder.path().join(name), "x").expect("written");
        }
        let at = |name: &str| folder.path().join(name);
        let found = find_all(&job(&[&at("c.parquet"), &at("*"), &at("b.csv")])).expect("found");
        let names: Vec<_> =
            found.iter().map(|file| (file.path().file_name().expect("a name").to_owned(), file.format)).collect();
        let expected = [
            ("c.parquet", FileFormat::Parquet),
            ("a.csv.gz", FileFormat::Csv),
            ("b.csv", FileFormat::Csv),
            ("d.jsonl", FileFormat::Ndjson),
        ];
        assert_eq!(names, expected.map(|(name, format)| (name.into(), format)));
        let before = fingerprint(&job(&[]), &found);
        std::fs::write(at("b.csv"), "xy").expect("written");
        let changed = find_all(&job(&[&at("c.parquet"), &at("*")])).expect("found");
        assert_ne!(fingerprint(&job(&[]), &changed), before);
    }

    #[test]
    fn refusals_say_what_to_write() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("x.dat"), "x").expect("written");
        let refused = |path: &Path| find_all(&job(&[path])).expect_err("refused").to_string();
        assert!(refused(folder.path()).contains("it is a folder: write for example"));
        assert!(refused(&folder.path().join("x.dat")).contains("state `format`"));
        assert!(refused(&folder.path().join("*.csv")).contains("no file matches"));
        assert!(find_all(&job(&[])).is_err());
    }
}
