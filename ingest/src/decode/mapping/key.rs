//! One value of a record, as text: the key of a look-up.

use super::context::RecordContext;
use super::find::{Finder, Slot};
use super::path::{Path, Step};
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{Json, Kind};
use crate::decode::tags::utf8;

/// Finds the value at a path in records that are to get one more member.
#[derive(Clone, Debug)]
pub struct KeyFinder {
    finder: Finder,
    path: String,
    member: String,
    key: Slot,
    record: Slot,
    /// A member of the name that is to be added.
    clash: Slot,
    text: String,
}

impl KeyFinder {
    /// `path`: as in a mapping. `member`: what the records are to get.
    ///
    /// # Errors
    /// [`LineError`] with a column of `path` if it is none, or leads into that member.
    pub fn new(path: &str, member: &str) -> Result<KeyFinder, LineError> {
        let parsed = Path::parse(path)
            .map_err(|error| LineError { message: format!("the path `{path}`: {}", error.message), ..error })?;
        let refused = |what: String| LineError::new(LineErrorKind::Key, what);
        if let Path::Record(steps) = &parsed {
            match steps.first() {
                None => {
                    let error = refused("the whole record is no key".to_owned());
                    return Err(error.suggest("write a path such as item.sku"));
                }
                Some(Step::Key(first)) if first == member => {
                    let what = format!("the records' own `{member}` is what it begins with");
                    return Err(refused(what).suggest("give the look-up another name"));
                }
                Some(_) => {}
            }
        }
        let mut finder = Finder::new();
        let key = finder.want(&parsed);
        let record = finder.want(&Path::Record(Vec::new()));
        let clash = finder.want(&Path::Record(vec![Step::Key(member.to_owned())]));
        let (path, member) = (path.to_owned(), member.to_owned());
        Ok(KeyFinder { finder, path, member, key, record, clash, text: String::new() })
    }

    /// The value as text: a string without its quotes, anything else as it is written. None if it is missing, null or
    /// empty.
    ///
    /// # Errors
    /// [`LineError`] if the record is no JSON object, has the member already, or the value is a list or an object.
    pub fn find(&mut self, record: &[u8], context: &RecordContext<'_>) -> Result<Option<&str>, LineError> {
        let findings = self.finder.find(utf8(record)?, context)?;
        if let Some(found) = findings.get(self.record)
            && found.kind != Kind::Object
        {
            let what = format!("a record that gets a member is a JSON object, not {}", found.kind.noun());
            return Err(LineError::new(LineErrorKind::Type, what));
        }
        if let Some(found) = findings.get(self.clash) {
            let error =
                LineError::new(LineErrorKind::Key, format!("the record has a member `{}` already", self.member));
            let error = error.suggest("give the look-up another name");
            return Err(LineError { column: found.at.map(|at| at + 1), ..error });
        }
        let Some(found) = findings.get(self.key) else { return Ok(None) };
        self.text.clear();
        match found.kind {
            Kind::Null => {}
            Kind::String => Json::new(found.text, 0).push_string(&mut self.text)?,
            Kind::Number | Kind::Bool => self.text.push_str(found.text),
            Kind::Array | Kind::Object => {
                let what = format!("its key `{}` is {}; a key is text or a number", self.path, found.kind.noun());
                let error = LineError::new(LineErrorKind::Type, what);
                return Err(LineError { column: found.at.map(|at| at + 1), ..error });
            }
        }
        Ok((!self.text.is_empty()).then_some(self.text.as_str()))
    }
}
