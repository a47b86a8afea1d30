//! The fields of an event that are not declared, kept as they are written.

use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::tags::twice;
use std::ops::Range;

/// The most bytes of all such fields of an event together.
pub(super) const UNDECLARED_BYTES_MAX: usize = 64 << 10;

/// Of a line.
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
            return Err(match self.keys.last() {
                Some(key) => too_long().at(key.at),
                None => too_long(),
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

fn too_long() -> LineError {
    let message = format!("the fields that are not declared have more than {UNDECLARED_BYTES_MAX} bytes");
    LineError::new(LineErrorKind::Value, message).suggest("declare them, or leave them out")
}

/// Of a row: the keys are known before it.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    /// As they stand in the object, the colon included.
    keys: Vec<String>,
    object: Vec<u8>,
}

impl Members {
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Members {
        let key = |name| {
            let mut key = Vec::new();
            push_string(name, &mut key);
            key.push(b':');
            String::from_utf8_lossy(&key).into_owned()
        };
        Members { keys: names.map(key).collect(), object: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.object.clear();
    }

    /// A member begins; its value is to be appended to what this answers.
    pub(super) fn begin(&mut self, index: usize) -> &mut Vec<u8> {
        self.object.push(if self.object.is_empty() { b'{' } else { b',' });
        self.object.extend_from_slice(self.keys[index].as_bytes());
        &mut self.object
    }

    /// The object of the row; empty if it has no members.
    pub(super) fn finish(&mut self) -> Result<&str, LineError> {
        if !self.object.is_empty() {
            self.object.push(b'}');
        }
        if self.object.len() > UNDECLARED_BYTES_MAX {
            return Err(too_long());
        }
        std::str::from_utf8(&self.object)
            .map_err(|_| LineError::new(LineErrorKind::Syntax, "the fields that are not declared are not UTF-8"))
    }
}

/// Appends text as a JSON string.
pub(super) fn push_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_read_back(name in "\\PC{0,4}", text: String) {
            let mut members = Members::new([name.as_str()].into_iter());
            push_string(&text, members.begin(0));
            let object: serde_json::Value = serde_json::from_str(members.finish().expect("short")).expect("JSON");
            prop_assert_eq!(&object[&name], &serde_json::Value::String(text));
        }
    }
}
