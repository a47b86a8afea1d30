//! Which objects a URL or glob names.
//!
//! Wildcards stand for what they stand for in paths of files; a `/` ends a part of a name although stores know no folders.
//! Listed is what begins like the text before the first wildcard. A URL without any is an object if there is one, else
//! all objects below it.

use super::{Depth, OBJECTS_MAX, Object, ObjectError, ObjectErrorKind, Opener, is_object_name, wait};
use crate::source::files::parts::Parts;

/// Pages without an object that are taken one after the other: a thousand folders each is what stores leave out of one.
const EMPTY_PAGES_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) struct ObjectPattern {
    text: String,
    /// Up to the bucket, with the slash behind it.
    root: String,
    /// The key, or what of it stands before the first wildcard.
    fixed: String,
    /// All of the key; none without a wildcard.
    parts: Option<Parts>,
}

/// Whether an object, with whether only what lies above was named, tells what was to be known.
pub(crate) type Enough<'a> = dyn Fn(&(Object, bool)) -> bool + 'a;

/// What a look at a store brought.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// With whether only what lies above was named.
    pub(crate) objects: Vec<(Object, bool)>,
    /// Objects that cannot be read because of their names.
    pub(crate) complaints: Vec<String>,
}

impl ObjectPattern {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<ObjectPattern, String> {
        let example = "write one such as s3://bucket/visits/*.parquet";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("`{text}` is no URL; {example}"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if key.starts_with('/') {
            return Err(format!("`{text}`: a key that begins with `/` cannot be read; {example}"));
        }
        if bucket.is_empty() || bucket.contains(['*', '?', '[', '@', ':']) {
            return Err(format!("`{text}` does not say in which bucket; {example}"));
        }
        let root = format!("{scheme}://{bucket}/");
        let pattern =
            |fixed: &str, parts| ObjectPattern { text: text.to_owned(), root, fixed: fixed.to_owned(), parts };
        match key.find(['*', '?', '[']) {
            None => Ok(pattern(key, None)),
            Some(wildcard) => {
                let parts = Parts::parse(key.split('/')).map_err(|error| format!("`{text}` is not a glob: {error}"))?;
                Ok(pattern(&key[..wildcard], Some(parts)))
            }
        }
    }

    /// Adds the objects there are now; with `enough`, not all once one of them is.
    ///
    /// # Errors
    /// Why the store cannot be looked at; then what was found so far is not all there is.
    pub(crate) fn find(
        &self,
        opener: &Opener,
        is_over: &dyn Fn() -> bool,
        enough: Option<&Enough<'_>>,
        found: &mut Found,
    ) -> Result<(), ObjectError> {
        let Some(files) = opener.objects() else {
            return Err(ObjectError::new(ObjectErrorKind::Refused, "there is no access to object stores here"));
        };
        let name = format!("{}{}", self.root, self.fixed);
        let (prefix, depth) = match &self.parts {
            // `*` alone behind the last slash: nothing of what lies deeper can match.
            Some(_) => (name, if self.is_flat() { Depth::Here } else { Depth::Any }),
            None if self.fixed.is_empty() || self.fixed.ends_with('/') => (name, Depth::Any),
            None => match wait(&files.stat(&name), is_over) {
                Ok(object) => {
                    found.objects.push((object, false));
                    return Ok(());
                }
                Err(error) if error.kind == ObjectErrorKind::Gone => (format!("{name}/"), Depth::Any),
                Err(error) => return Err(error),
            },
        };
        let mut next: Option<String> = None;
        let (mut rounds, mut empty_pages) = (Rounds::default(), 0);
        loop {
            let page = wait(&files.list(&prefix, depth, next.as_deref()), is_over)?;
            empty_pages = if page.objects.is_empty() && page.odd_names.is_empty() { empty_pages + 1 } else { 0 };
            let odd = page.odd_names.iter().filter(|name| self.takes(name));
            found.complaints.extend(odd.map(|name| format!("{name:?}: such a name cannot be read; rename the object")));
            let matching = page.objects.into_iter().filter(|object| self.takes(&object.name));
            found.objects.extend(matching.map(|object| (object, self.parts.is_none())));
            if found.objects.len() + found.complaints.len() > OBJECTS_MAX {
                let what = format!("more than {OBJECTS_MAX} objects; name fewer at once, by a longer prefix");
                return Err(ObjectError::new(ObjectErrorKind::Refused, what));
            }
            next = page.next;
            if next.is_some() && (rounds.is_again(next.as_deref()) || empty_pages >= EMPTY_PAGES_MAX) {
                let what = "the store's listing goes on and on without anything new; name a longer prefix";
                return Err(ObjectError::new(ObjectErrorKind::Unavailable, what));
            }
            if next.is_none() || enough.is_some_and(|enough| found.objects.iter().any(enough)) {
                return Ok(());
            }
        }
    }

    fn is_flat(&self) -> bool {
        let behind = &self.text.as_bytes()[self.root.len() + self.fixed.len()..];
        !behind.contains(&b'/') && !behind.windows(2).any(|pair| pair == b"**")
    }

    fn takes(&self, name: &str) -> bool {
        let Some(key) = name.strip_prefix(&self.root) else { return false };
        match &self.parts {
            Some(parts) => parts.match_name(key),
            // As of folders: what begins with a dot is still being written, or nobody's business.
            None => {
                let rest = key.strip_prefix(&self.fixed).unwrap_or(key);
                !rest.split('/').any(|part| part.starts_with('.'))
            }
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Sees a listing that goes in circles, whatever their length: cursors are compared with one kept from before, which is
/// replaced after 1, 2, 4, … pages (R. P. Brent, "An improved Monte Carlo factorization algorithm", 1980).
#[derive(Debug, Default)]
struct Rounds {
    kept: Option<String>,
    /// Pages since then, and after how many the next is kept.
    since: usize,
    span: usize,
}

impl Rounds {
    fn is_again(&mut self, cursor: Option<&str>) -> bool {
        if self.kept.is_some() && self.kept.as_deref() == cursor {
            return true;
        }
        self.since += 1;
        if self.since > self.span {
            self.kept = cursor.map(str::to_owned);
            (self.since, self.span) = (0, (self.span * 2).max(1));
        }
        false
    }
}

/// What is wrong with an object's name, if a position of it cannot be kept.
pub(crate) fn odd_name(name: &str) -> Option<String> {
    debug_assert!(is_object_name(name));
    name.contains(['\n', '\r']).then(|| format!("{name:?}: the name holds a line feed; rename the object"))
}
