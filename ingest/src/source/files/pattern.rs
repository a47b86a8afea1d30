//! Paths and globs: which files there are.
//!
//! A glob is followed component by component, all its possible states at once, so that a walk reads each folder below
//! its fixed begin once, and none where every state names the next component in full. `**` does not follow symbolic
//! links to folders and other components do, so a walk ends however links go in circles.

use glob::MatchOptions;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// What tells whether a file changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size_bytes: u64,
    modified: Option<SystemTime>,
    /// Which file it is, whatever its name; 0 where the system does not tell.
    file_id: (u64, u64),
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
        Stamp { size_bytes: metadata.len(), modified: metadata.modified().ok(), file_id }
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
}

/// A path or glob.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    /// The components before the first with a wildcard.
    base: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Name(String),
    Glob(glob::Pattern),
    /// `**`: any number of folders.
    AnyDepth,
}

const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let has_wildcard = |part: &str| part.contains(['*', '?', '[']);
        // A file that has such characters in its name.
        let is_file = Path::new(text).is_file();
        let mut pattern = Pattern { text: text.to_owned(), base: PathBuf::new(), parts: Vec::new() };
        for component in Path::new(text).components() {
            let part = component.as_os_str().to_str().unwrap_or_default();
            let is_fixed = is_file || !matches!(component, Component::Normal(_)) || !has_wildcard(part);
            if is_fixed && pattern.parts.is_empty() {
                pattern.base.push(component);
            } else if is_fixed {
                pattern.parts.push(Part::Name(part.to_owned()));
            } else if part == "**" {
                if !matches!(pattern.parts.last(), Some(Part::AnyDepth)) {
                    pattern.parts.push(Part::AnyDepth);
                }
            } else {
                let glob = glob::Pattern::new(part).map_err(|error| format!("`{text}` is not a glob: {error}"))?;
                pattern.parts.push(Part::Glob(glob));
            }
        }
        if let Some(Part::AnyDepth) = pattern.parts.last() {
            pattern.parts.push(any_name());
        }
        Ok(pattern)
    }

    /// Adds the files there are now. `must_match`: finding none is worth a complaint.
    pub(super) fn walk(&self, must_match: bool, listing: &mut Listing) {
        let count = listing.files.len();
        let is_glob = !self.parts.is_empty();
        if is_glob {
            Walk { parts: &self.parts, in_folder: false, listing }.folder(&self.base, &[0]);
        } else {
            match fs::metadata(&self.base) {
                Ok(metadata) if metadata.is_dir() => {
                    let parts = [Part::AnyDepth, any_name()];
                    Walk { parts: &parts, in_folder: true, listing }.folder(&self.base, &[0]);
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

fn any_name() -> Part {
    Part::Glob(glob::Pattern::new("*").expect("a star is a glob"))
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

    /// What vanished while the walk was under way, or is no folder, is just not there.
    fn complain(&mut self, doing: &str, path: &Path, error: &io::Error, expected: bool) {
        if expected || !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            self.complaints.push(format!("{doing} {}: {error}", path.display()));
        }
    }
}

struct Walk<'a> {
    parts: &'a [Part],
    in_folder: bool,
    listing: &'a mut Listing,
}

impl Walk<'_> {
    /// Goes through a folder at whose begin the pattern may be in any of these `states`, places in `parts`.
    fn folder(&mut self, folder: &Path, states: &[usize]) {
        let states = self.closed(states);
        if states.iter().all(|state| matches!(self.parts[*state], Part::Name(_))) {
            for state in states {
                let Part::Name(name) = &self.parts[state] else { continue };
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
                    let next = self.next(&states, &name.to_string_lossy(), is_folder);
                    if !next.is_empty() {
                        self.entry(folder.join(name), &next);
                    }
                }
                Err(error) => return self.listing.complain("read the folder", here, &error, false),
            }
        }
    }

    /// The states with those that `**` for no folder at all leads to.
    fn closed(&self, states: &[usize]) -> Vec<usize> {
        let mut closed: Vec<usize> = Vec::with_capacity(states.len() + 1);
        for state in states {
            let behind = matches!(self.parts[*state], Part::AnyDepth).then_some(state + 1);
            closed.extend([*state].into_iter().chain(behind));
        }
        closed.sort_unstable();
        closed.dedup();
        closed
    }

    /// The states behind an entry of a folder.
    fn next(&self, states: &[usize], name: &str, is_folder: bool) -> Vec<usize> {
        let step = |state: &usize| match &self.parts[*state] {
            Part::Name(wanted) => (wanted == name).then_some(state + 1),
            Part::Glob(glob) => glob.matches_with(name, MATCH).then_some(state + 1),
            Part::AnyDepth => (is_folder && !name.starts_with('.')).then_some(*state),
        };
        states.iter().filter_map(step).collect()
    }

    fn entry(&mut self, path: PathBuf, next: &[usize]) {
        let deeper: Vec<usize> = next.iter().copied().filter(|state| *state < self.parts.len()).collect();
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
        pattern.walk(false, &mut listing);
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
            Pattern::parse(pattern).expect("a pattern").walk(true, &mut listing);
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
