//! Paths and globs: which files there are, here and in object stores.
//!
//! A glob is followed component by component, all its possible states at once, so that a walk reads each folder below
//! its fixed begin once, and none where every state names the next component in full. `**` does not follow symbolic
//! links to folders and other components do, so a walk ends however links go in circles.

use super::parts::{Parts, has_wildcard};
use crate::objects::{Found, Object, ObjectPattern, Opener, is_object_name, odd_name};
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What tells whether a file changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size_bytes: u64,
    modified: Option<SystemTime>,
    /// Which file it is, whatever its name; 0 where the system does not tell.
    file_id: (u64, u64),
    /// Of an object, if its store tells.
    version: Option<Arc<str>>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let file_id = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let file_id = (0, 0);
        Stamp { size_bytes: metadata.len(), modified: metadata.modified().ok(), file_id, version: None }
    }

    /// An object is known by its name alone: what has its name is that object, changed.
    fn of_object(object: &Object) -> Stamp {
        let Object { size_bytes, version, modified, .. } = object.clone();
        Stamp { size_bytes, modified, file_id: (0, 0), version }
    }

    /// The file of this name, as it had this stamp.
    pub(super) fn object(&self, name: &Arc<str>) -> Object {
        let Stamp { size_bytes, modified, version, .. } = self.clone();
        Object { name: name.clone(), size_bytes, version, modified }
    }

    /// Whether another file has come by the same name.
    pub(super) fn is_of_another(&self, other: &Stamp) -> bool {
        self.file_id != other.file_id
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By name; with whether only its folder was named.
    pub(super) files: BTreeMap<String, (Stamp, bool)>,
    /// What could not be looked at.
    pub(super) complaints: Vec<String>,
    /// A store could not be listed to its end, so what was not found may still be there.
    pub(super) is_partial: bool,
}

/// A path or glob.
#[derive(Debug)]
pub(super) enum Pattern {
    Local(LocalPattern),
    Object(ObjectPattern),
}

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        if is_object_name(text) {
            return ObjectPattern::parse(text).map(Pattern::Object);
        }
        LocalPattern::parse(text).map(Pattern::Local)
    }

    /// Adds the files there are now. `must_match`: finding none is worth a complaint.
    pub(super) fn walk(&self, opener: &Opener, must_match: bool, listing: &mut Listing) {
        match self {
            Pattern::Local(pattern) => pattern.walk(must_match, listing),
            Pattern::Object(pattern) => listing.add_objects(pattern, opener, must_match),
        }
    }
}

/// Of the machine.
#[derive(Debug)]
pub(super) struct LocalPattern {
    text: String,
    /// The components before the first with a wildcard.
    base: PathBuf,
    parts: Parts,
}

impl LocalPattern {
    fn parse(text: &str) -> Result<LocalPattern, String> {
        // A file that has such characters in its name.
        let is_file = Path::new(text).is_file();
        let mut pattern = LocalPattern { text: text.to_owned(), base: PathBuf::new(), parts: Parts::default() };
        for component in Path::new(text).components() {
            let part = component.as_os_str().to_str().unwrap_or_default();
            let is_fixed = is_file || !matches!(component, Component::Normal(_)) || !has_wildcard(part);
            if is_fixed && pattern.parts.is_empty() {
                pattern.base.push(component);
            } else if is_fixed {
                pattern.parts.push_name(part);
            } else {
                pattern.parts.push_glob(part).map_err(|error| format!("`{text}` is not a glob: {error}"))?;
            }
        }
        pattern.parts.close();
        Ok(pattern)
    }

    fn walk(&self, must_match: bool, listing: &mut Listing) {
        let count = listing.files.len();
        let is_glob = !self.parts.is_empty();
        if is_glob {
            Walk { parts: &self.parts, in_folder: false, listing }.folder(&self.base, &[0]);
        } else {
            match fs::metadata(&self.base) {
                Ok(metadata) if metadata.is_dir() => {
                    Walk { parts: &Parts::anything(), in_folder: true, listing }.folder(&self.base, &[0]);
                }
                Ok(metadata) => listing.add(&self.base, &metadata, false),
                Err(error) => listing.complain("read", &self.base, &error, true),
            }
        }
        if is_glob && must_match && listing.files.len() == count {
            listing.complaints.push(format!("no file matches `{}`", self.text));
        }
    }
}

impl Listing {
    fn add(&mut self, path: &Path, metadata: &Metadata, in_folder: bool) {
        if !metadata.is_file() {
            return;
        }
        match path.to_str() {
            // A position is kept as a line a file.
            Some(name) if !name.contains(['\n', '\r']) => {
                self.files.entry(name.to_owned()).or_insert((Stamp::of(metadata), in_folder));
            }
            _ => self.complaints.push(format!("{path:?}: the name is not UTF-8 or holds a line feed; rename the file")),
        }
    }

    fn add_objects(&mut self, pattern: &ObjectPattern, opener: &Opener, must_match: bool) {
        let mut found = Found::default();
        if let Err(error) = pattern.find(opener, &|| opener.is_stopped(), None, &mut found) {
            self.complaints.push(format!("list {}: {error}", pattern.text()));
            self.is_partial = true;
        } else if must_match && found.objects.is_empty() {
            self.complaints.push(format!("no object matches `{}`", pattern.text()));
        }
        self.complaints.append(&mut found.complaints);
        for (object, in_folder) in found.objects {
            match odd_name(&object.name) {
                Some(complaint) => self.complaints.push(complaint),
                None => {
                    let name = object.name.to_string();
                    self.files.entry(name).or_insert_with(|| (Stamp::of_object(&object), in_folder));
                }
            }
        }
    }

    /// What vanished while the walk was under way, or is no folder, is just not there.
    fn complain(&mut self, doing: &str, path: &Path, error: &io::Error, expected: bool) {
        if expected || !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            self.complaints.push(format!("{doing} {}: {error}", path.display()));
        }
    }
}

struct Walk<'a> {
    parts: &'a Parts,
    in_folder: bool,
    listing: &'a mut Listing,
}

impl Walk<'_> {
    /// Goes through a folder at whose begin the pattern may be in any of these `states`, places in `parts`.
    fn folder(&mut self, folder: &Path, states: &[usize]) {
        let states = self.parts.closed(states);
        if let Some(names) = self.parts.names(&states) {
            for (state, name) in names {
                self.entry(folder.join(name), &[state + 1]);
            }
            return;
        }
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = match fs::read_dir(here) {
            Ok(entries) => entries,
            Err(error) => return self.listing.complain("read the folder", here, &error, false),
        };
        for entry in entries {
            match entry {
                Ok(entry) => {
                    let name = entry.file_name();
                    let is_folder = entry.file_type().is_ok_and(|file_type| file_type.is_dir());
                    let next = self.parts.next(&states, &name.to_string_lossy(), is_folder);
                    if !next.is_empty() {
                        self.entry(folder.join(name), &next);
                    }
                }
                Err(error) => return self.listing.complain("read the folder", here, &error, false),
            }
        }
    }

    fn entry(&mut self, path: PathBuf, next: &[usize]) {
        let deeper: Vec<usize> = next.iter().copied().filter(|state| self.parts.goes_on(*state)).collect();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => return self.listing.complain("read", &path, &error, false),
        };
        if metadata.is_dir() && !deeper.is_empty() {
            self.folder(&path, &deeper);
        } else if deeper.len() < next.len() {
            self.listing.add(&path, &metadata, self.in_folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path, pattern: &str) -> Vec<String> {
        let pattern = Pattern::parse(&format!("{}/{pattern}", root.display())).expect("a pattern");
        let mut listing = Listing::default();
        pattern.walk(&Opener::default(), false, &mut listing);
        assert_eq!(listing.complaints, Vec::<String>::new());
        let root = format!("{}/", root.display());
        listing.files.keys().map(|name| name.strip_prefix(&root).expect("below the root").to_owned()).collect()
    }

    #[test]
    fn wildcards_stand_for_names_and_folders() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for file in ["a.csv", "b.csv", ".c.csv", "x/a.csv", "x/y/a.csv", "x/y/z/b.csv", ".h/a.csv", "z/[1].csv"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "x").expect("written");
        }
        assert_eq!(names(root, "*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(names(root, ".*.csv"), [".c.csv"]);
        assert_eq!(names(root, "**/a.csv"), ["a.csv", "x/a.csv", "x/y/a.csv"]);
        assert_eq!(names(root, "x/**/y/**/*.csv"), ["x/y/a.csv", "x/y/z/b.csv"]);
        assert_eq!(names(root, "*/a.csv"), ["x/a.csv"]);
        assert_eq!(names(root, "*/y/?.csv"), ["x/y/a.csv"]);
        assert_eq!(names(root, "x/**"), ["x/a.csv", "x/y/a.csv", "x/y/z/b.csv"]);
        assert_eq!(names(root, "x/**/**/a.csv"), ["x/a.csv", "x/y/a.csv"]);
        assert_eq!(names(root, "x/y"), ["x/y/a.csv", "x/y/z/b.csv"]);
        assert_eq!(names(root, "z/[1].csv"), ["z/[1].csv"]);
        assert_eq!(names(root, "nothing/*/a.csv"), Vec::<String>::new());
        assert!(Pattern::parse("a/b**c").expect_err("refused").contains("`a/b**c` is not a glob"));
    }

    #[test]
    fn relative_paths_stay_so() {
        // Tests run in the package's folder.
        for (pattern, name) in
            [("*.toml", "Cargo.toml"), ("./s*c/lib.rs", "./src/lib.rs"), ("src/lib.rs", "src/lib.rs")]
        {
            let mut listing = Listing::default();
            Pattern::parse(pattern).expect("a pattern").walk(&Opener::default(), true, &mut listing);
            assert_eq!(listing.files.keys().collect::<Vec<_>>(), [name]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_in_circles_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir(root.join("x")).expect("made");
        fs::write(root.join("x/a.csv"), "x").expect("written");
        std::os::unix::fs::symlink(root, root.join("x/up")).expect("linked");
        std::os::unix::fs::symlink(root.join("x/a.csv"), root.join("link.csv")).expect("linked");
        std::os::unix::fs::symlink(root.join("no"), root.join("dangling.csv")).expect("linked");
        assert_eq!(names(root, "**/*.csv"), ["link.csv", "x/a.csv"]);
        assert_eq!(names(root, "x/*/*/a.csv"), ["x/up/x/a.csv"]);
        assert_eq!(names(root, "**/*/*.csv"), ["x/a.csv", "x/up/link.csv"]);
    }
}
