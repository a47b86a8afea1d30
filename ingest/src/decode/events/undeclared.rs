//! The fields of an event that are not declared, kept as they are written.

use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::tags::twice;
use std::ops::Range;

/// The most bytes of all such fields of an event together.
pub(super) const UNDECLARED_BYTES_MAX: usize = 64 << 10;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Undeclared {
    /// One JSON object; without its closing brace until the end of the line.
    object: String,
    /// The keys as they read, one after another, for telling one given twice.
    key_text: String,
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    text: Range<usize>,
    /// Where it begins in the line.
    at: usize,
}

impl Undeclared {
    pub(super) fn clear(&mut self) {
        self.object.clear();
        self.key_text.clear();
        self.keys.clear();
    }

    /// A field begins; `at` is where its key stands in the line.
    pub(super) fn begin(&mut self, key: &str, at: usize) {
        let start = self.key_text.len();
        self.key_text.push_str(key);
        self.keys.push(Key { text: start..self.key_text.len(), at });
    }

    /// Key and value of the field that began last, as written.
    pub(super) fn push(&mut self, member: &str) -> Result<(), LineError> {
        // With the brace or comma before it, and the closing brace.
        if self.object.len() + member.len() + 2 > UNDECLARED_BYTES_MAX {
            let message = format!("the fields that are not declared have more than {UNDECLARED_BYTES_MAX} bytes");
            let error = LineError::new(LineErrorKind::Value, message).suggest("declare them, or leave them out");
            return Err(match self.keys.last() {
                Some(key) => error.at(key.at),
                None => error,
            });
        }
        self.object.push(if self.object.is_empty() { '{' } else { ',' });
        self.object.push_str(member);
        Ok(())
    }

    /// The end of the line.
    pub(super) fn finish(&mut self) -> Result<(), LineError> {
        if self.object.is_empty() {
            return Ok(());
        }
        self.object.push('}');
        // Sorted, since a hostile line has thousands.
        let text = |key: &Key| &self.key_text[key.text.clone()];
        self.keys.sort_unstable_by(|a, b| text(a).cmp(text(b)).then(a.at.cmp(&b.at)));
        match self.keys.windows(2).find(|pair| text(&pair[0]) == text(&pair[1])) {
            Some(pair) => Err(twice(text(&pair[1]), pair[1].at)),
            None => Ok(()),
        }
    }

    /// The object; empty if there are no such fields.
    pub(super) fn object(&self) -> &str {
        &self.object
    }
}
