//! One line of `POST /v1/tags` to the changes of one user.
//!
//! ```json
//! {"user_id":"u1","set":{"gender":"f","age":31},"add":{"interest":["yoga"]},"remove":{"interest":["golf"]},"unset":["age"]}
//! ```
//!
//! * `user_id`: a string, or an integer of 64 bits (the same user as its decimal text).
//! * `set`: per tag its value. `enum`: a string. `number`: a JSON number, never rounded. A timestamp: an RFC 3339
//!   string, or milliseconds since 1970. `flag`: true or false. `set`: a list of strings (or one string) that
//!   replaces what the user has. `null` is the same as naming the tag in `unset`.
//! * `add`, `remove`: per `set` tag a list of strings, or one string.
//! * `unset`: names of tags.
//!
//! Whatever the order of the keys, the effects come in the order `unset`, `set`, `remove`, `add`. All of a line is
//! applied or nothing. A line is read twice: once to find its parts and check that it is JSON, once to push the
//! changes behind the user id, which may stand last.

use super::error::{LineError, LineErrorKind};
use super::json::{Json, Kind};
use super::value::{NumberError, parse_number, parse_time};
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, TAG_VALUE_BYTES_MAX, TagType, Unit};
use engine::ids::{TagId, USER_ID_BYTES_MAX};
use engine::update::{Change, UpdateBatch};
use std::collections::HashMap;

/// Decodes lines against one catalog.
#[derive(Clone, Debug)]
pub struct TagDecoder {
    tags: HashMap<String, KnownTag>,
    /// Per tag, the section (see `Sections::serial`) that named it last: tells a tag named twice.
    named_in: Vec<u64>,
    section_serial: u64,
    /// Reused buffers for strings with escapes: of keys, of values, of the user id.
    key: String,
    value: String,
    user_id: String,
}

#[derive(Clone, Copy, Debug)]
struct KnownTag {
    id: TagId,
    tag_type: TagType,
    /// Its place in `named_in`.
    index: usize,
}

/// Where the parts of a line begin.
#[derive(Clone, Copy, Debug, Default)]
struct Sections {
    user_id_was_given: bool,
    starts: [Option<usize>; 4],
}

/// The sections in the order of their effects.
const SECTIONS: [&str; 4] = ["unset", "set", "remove", "add"];

impl TagDecoder {
    /// A decoder for the tags of `catalog` as it is now.
    pub fn new(catalog: &Catalog) -> Self {
        let known = |(index, (name, tag)): (usize, (&str, &engine::catalog::Tag))| {
            (name.to_owned(), KnownTag { id: tag.id, tag_type: tag.tag_type, index })
        };
        let tags: HashMap<_, _> = catalog.tags().enumerate().map(known).collect();
        let (key, value, user_id) = <(String, String, String)>::default();
        TagDecoder { named_in: vec![0; tags.len()], tags, section_serial: 0, key, value, user_id }
    }

    /// Appends the line's user and changes to `batch`; on an error the batch is as before.
    ///
    /// # Errors
    /// [`LineError`] saying what is wrong and where.
    pub fn decode(&mut self, line: &[u8], batch: &mut UpdateBatch) -> Result<(), LineError> {
        let line = utf8(line)?;
        let sections = self.find_sections(line)?;
        if !sections.user_id_was_given {
            return Err(LineError::new(LineErrorKind::UserId, "`user_id` is missing")
                .suggest("each line says whose tags it changes: {\"user_id\":\"u1\", …}"));
        }
        let mark = batch.mark();
        batch.begin_user(self.user_id.as_bytes());
        let pushed = self.push_sections(line, &sections, batch);
        if pushed.is_err() {
            batch.truncate(mark);
        }
        pushed
    }

    /// First reading: checks the whole line and remembers the user id and where the sections stand.
    fn find_sections(&mut self, line: &str) -> Result<Sections, LineError> {
        let mut json = Json::new(line, 0);
        let mut sections = Sections::default();
        if json.kind()? != Kind::Object {
            return Err(json.error("a line is a JSON object").suggest("write {\"user_id\":\"u1\",\"set\":{…}}"));
        }
        json.begin_object()?;
        let mut first = true;
        while let Some(key) = json.key(&mut first, &mut self.key)? {
            let key_at = json.key_position();
            if key == "user_id" {
                if std::mem::replace(&mut sections.user_id_was_given, true) {
                    return Err(twice("user_id", key_at));
                }
                read_user_id(&mut json, &mut self.value, &mut self.user_id)?;
                continue;
            }
            let Some(section) = SECTIONS.iter().position(|name| *name == key) else {
                return Err(unknown_key(key, &self.tags).at(key_at));
            };
            json.peek();
            if sections.starts[section].replace(json.position()).is_some() {
                return Err(twice(SECTIONS[section], key_at));
            }
            json.skip(&mut self.value)?;
        }
        json.end()?;
        Ok(sections)
    }

    /// Second reading: the changes, in the order of [`SECTIONS`].
    fn push_sections(&mut self, line: &str, sections: &Sections, batch: &mut UpdateBatch) -> Result<(), LineError> {
        for (section, start) in SECTIONS.into_iter().zip(sections.starts) {
            let Some(start) = start else { continue };
            let mut json = Json::new(line, start);
            self.section_serial += 1;
            match (section, json.kind()?) {
                (_, Kind::Null) => {}
                ("unset", _) => self.unset(&mut json, batch)?,
                (_, Kind::Object) => self.push_members(section, &mut json, batch)?,
                (_, kind) => {
                    return Err(wrong_type(section, "", &format!("an object is expected, not {}", kind.noun()))
                        .at(start)
                        .suggest(format!("write \"{section}\":{{\"tag\":value}}")));
                }
            }
        }
        Ok(())
    }

    fn unset(&mut self, json: &mut Json<'_>, batch: &mut UpdateBatch) -> Result<(), LineError> {
        let refuse = |kind: Kind| {
            wrong_type("unset", "", &format!("a list of tag names is expected, not {}", kind.noun()))
                .suggest("write \"unset\":[\"age\"]")
        };
        each_string(json, &mut self.value, refuse, |name, at| {
            let tag = find(&self.tags, &mut self.named_in, self.section_serial, "unset", name, at)?;
            batch.push(tag.id, Change::Unset);
            Ok(())
        })
    }

    fn push_members(&mut self, section: &str, json: &mut Json<'_>, batch: &mut UpdateBatch) -> Result<(), LineError> {
        json.begin_object()?;
        let mut first = true;
        loop {
            let Some(name) = json.key(&mut first, &mut self.key)? else { return Ok(()) };
            let at = json.key_position();
            let tag = find(&self.tags, &mut self.named_in, self.section_serial, section, name, at)?;
            match section {
                "set" => set_value(json, name, (tag.id, tag.tag_type, false), &mut self.value, batch)?,
                _ => push_set(json, section, name, (tag.id, tag.tag_type), &mut self.value, batch)?,
            }
        }
    }
}

/// The line as text, or where it is not UTF-8.
pub(crate) fn utf8(line: &[u8]) -> Result<&str, LineError> {
    std::str::from_utf8(line).map_err(|error| {
        LineError::new(LineErrorKind::Syntax, "the line is not UTF-8").at(error.valid_up_to()).suggest("send UTF-8")
    })
}

/// Reads a user id into `out`.
pub(crate) fn read_user_id(json: &mut Json<'_>, scratch: &mut String, out: &mut String) -> Result<(), LineError> {
    read_id(json, ("user_id", LineErrorKind::UserId), check_user_id, scratch, out)
}

/// Reads an id, a string or an integer, into `out`; `check` refuses strings that cannot be.
pub(crate) fn read_id(
    json: &mut Json<'_>,
    (field, error_kind): (&str, LineErrorKind),
    check: impl Fn(&[u8]) -> Result<(), LineError>,
    scratch: &mut String,
    out: &mut String,
) -> Result<(), LineError> {
    out.clear();
    let kind = json.kind()?;
    let at = json.position();
    match kind {
        Kind::String => {
            let id = json.string(scratch)?;
            check(id.as_bytes()).map_err(|error| error.at(at))?;
            out.push_str(id);
        }
        Kind::Number => {
            let text = json.number()?;
            let Some(id) = integer_id(text) else {
                let message = format!("`{field}`: {} is not an integer of 64 bits", shown(text));
                return Err(LineError::new(error_kind, message).at(at).suggest("write other ids as strings"));
            };
            out.push_str(id);
        }
        kind => {
            return Err(LineError::new(error_kind, format!("`{field}` cannot be {}", kind.noun()))
                .at(at)
                .suggest("write a string or an integer"));
        }
    }
    Ok(())
}

/// The decimal text of an integer of 64 bits.
fn integer_id(text: &str) -> Option<&str> {
    let canonical = if text == "-0" { "0" } else { text };
    let fits = canonical.parse::<i64>().is_ok() || canonical.parse::<u64>().is_ok();
    fits.then_some(canonical)
}

/// Whether bytes can be a user id.
pub(crate) fn check_user_id(id: &[u8]) -> Result<(), LineError> {
    if id.is_empty() {
        return Err(LineError::new(LineErrorKind::UserId, "the user id is empty"));
    }
    if id.len() > USER_ID_BYTES_MAX {
        let message = format!("the user id has {} bytes; at most {USER_ID_BYTES_MAX} are allowed", id.len());
        return Err(LineError::new(LineErrorKind::UserId, message).suggest("use a shorter id, or a hash of it"));
    }
    Ok(())
}

/// Looks a tag up and notes that this section named it.
fn find(
    tags: &HashMap<String, KnownTag>,
    named_in: &mut [u64],
    serial: u64,
    section: &str,
    name: &str,
    at: usize,
) -> Result<KnownTag, LineError> {
    let Some(&tag) = tags.get(name) else {
        return Err(unknown_tag(section, name, tags.keys().map(String::as_str)).at(at));
    };
    if std::mem::replace(&mut named_in[tag.index], serial) == serial {
        return Err(twice(&format!("{section}.{name}"), at));
    }
    Ok(tag)
}

/// The error for a name the catalog does not have.
pub(crate) fn unknown_tag<'a>(section: &str, name: &str, known: impl Iterator<Item = &'a str>) -> LineError {
    let error = LineError::new(LineErrorKind::UnknownTag, format!("`{section}`: there is no tag `{}`", shown(name)));
    match closest(name, known) {
        Some(near) => error.suggest(format!("did you mean `{near}`?")),
        None => error.suggest("declare it in the catalog first"),
    }
}

fn unknown_key(key: &str, tags: &HashMap<String, KnownTag>) -> LineError {
    let error = LineError::new(LineErrorKind::Key, format!("unknown key `{}`", shown(key)));
    if tags.contains_key(key) {
        return error.suggest(format!("tags stand inside `set`: {{\"set\":{{\"{key}\":…}}}}"));
    }
    match closest(key, SECTIONS.into_iter().chain(["user_id"])) {
        Some(near) => error.suggest(format!("did you mean `{near}`?")),
        None => error.suggest("a line has `user_id`, `set`, `add`, `remove` and `unset`"),
    }
}

pub(crate) fn twice(what: &str, at: usize) -> LineError {
    LineError::new(LineErrorKind::Key, format!("`{what}` is given twice")).at(at).suggest("keep one of them")
}

fn wrong_type(section: &str, name: &str, what: &str) -> LineError {
    let dot = if name.is_empty() { "" } else { "." };
    LineError::new(LineErrorKind::Type, format!("`{section}{dot}{name}`: {what}"))
}

/// Text for a message: cut, so that a hostile line does not come back whole.
pub(crate) fn shown(text: &str) -> std::borrow::Cow<'_, str> {
    const SHOWN_CHARS_MAX: usize = 64;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// `set`: pushes the tag's new value. A set is replaced, or with `add` added to.
pub(crate) fn set_value(
    json: &mut Json<'_>,
    name: &str,
    (tag, tag_type, add): (TagId, TagType, bool),
    scratch: &mut String,
    batch: &mut UpdateBatch,
) -> Result<(), LineError> {
    let kind = json.kind()?;
    let at = json.position();
    let change = match (tag_type, kind) {
        (_, Kind::Null) => {
            json.word()?;
            Change::Unset
        }
        (TagType::Set, Kind::Array | Kind::String) => {
            if !add {
                batch.push(tag, Change::Unset);
            }
            return push_set(json, "set", name, (tag, tag_type), scratch, batch);
        }
        (TagType::Enum, Kind::String) => Change::Enum(checked(json.string(scratch)?, "set", name, at)?),
        (TagType::Flag, Kind::Bool) => Change::Flag(json.word()?.expect("kind says it is true or false")),
        (TagType::Number(unit), Kind::Number) => {
            let text = json.number()?;
            Change::Number(parse_number(text, unit).map_err(|error| bad_number(name, text, error).at(at))?)
        }
        (TagType::Number(Unit::Timestamp), Kind::String) => {
            let text = json.string(scratch)?;
            Change::Number(parse_time(text).map_err(|error| bad_number(name, text, error).at(at))?)
        }
        (tag_type, kind) => return Err(mismatch(json, name, tag_type, kind, scratch).at(at)),
    };
    batch.push(tag, change);
    Ok(())
}

fn bad_number(name: &str, text: &str, error: NumberError) -> LineError {
    let kind = match error {
        NumberError::NotANumber | NumberError::NotATime => LineErrorKind::Type,
        _ => LineErrorKind::Value,
    };
    LineError::new(kind, format!("`set.{name}`: `{}` {error}", shown(text))).suggest(error.suggestion())
}

fn mismatch(json: &mut Json<'_>, name: &str, tag_type: TagType, kind: Kind, scratch: &mut String) -> LineError {
    let error = wrong_type("set", name, &format!("the tag is {}, the value is {}", article(tag_type), kind.noun()));
    let suggestion = match (tag_type, kind) {
        (TagType::Number(unit), Kind::String) => match json.string(scratch) {
            Ok(text) if parse_number(text, unit).is_ok() => format!("write {text} without quotes"),
            _ => "write a number without quotes, or null to unset it".to_owned(),
        },
        (TagType::Enum, Kind::Number) => match json.number() {
            Ok(text) => format!("write \"{}\" with quotes", shown(text)),
            Err(error) => return error,
        },
        (TagType::Enum, Kind::Array) => {
            "an enum has one value at a time; declare the tag as a set for several".to_owned()
        }
        (TagType::Enum, _) => "write a string".to_owned(),
        (TagType::Set, _) => "write a list of strings".to_owned(),
        (TagType::Flag, _) => "write true or false".to_owned(),
        (TagType::Number(Unit::Timestamp), _) => "write an RFC 3339 time or milliseconds since 1970".to_owned(),
        (TagType::Number(_), _) => "write a number".to_owned(),
    };
    error.suggest(suggestion)
}

fn article(tag_type: TagType) -> String {
    let article = if tag_type == TagType::Enum { "an" } else { "a" };
    format!("{article} {tag_type}")
}

/// Pushes one change per string of a list (or of a single string).
fn push_set(
    json: &mut Json<'_>,
    section: &str,
    name: &str,
    (tag, tag_type): (TagId, TagType),
    scratch: &mut String,
    batch: &mut UpdateBatch,
) -> Result<(), LineError> {
    if tag_type != TagType::Set {
        let what = format!("the tag is {}; `{section}` is for sets", article(tag_type));
        return Err(wrong_type(section, name, &what).at(json.position()).suggest("use `set` or `unset`"));
    }
    let refuse = |kind: Kind| {
        let what = format!("a list of strings is expected, not {}", kind.noun());
        let suggestion = if kind == Kind::Number { "write numbers in quotes" } else { "write [\"a\",\"b\"]" };
        wrong_type(section, name, &what).suggest(suggestion)
    };
    each_string(json, scratch, refuse, |value, at| {
        let value = checked(value, section, name, at)?;
        batch.push(tag, if section == "remove" { Change::Remove(value) } else { Change::Add(value) });
        Ok(())
    })
}

/// A value that is not too long.
fn checked<'v>(value: &'v str, section: &str, name: &str, at: usize) -> Result<&'v str, LineError> {
    if value.len() <= TAG_VALUE_BYTES_MAX {
        return Ok(value);
    }
    let message =
        format!("`{section}.{name}`: a value of {} bytes; at most {TAG_VALUE_BYTES_MAX} are allowed", value.len());
    Err(LineError::new(LineErrorKind::Value, message).at(at).suggest("shorten it, or send a hash of it"))
}

/// Calls `each` with every string of a list, or with a single string, and its position; `refuse` makes the error for
/// what is neither.
fn each_string(
    json: &mut Json<'_>,
    scratch: &mut String,
    refuse: impl Fn(Kind) -> LineError,
    mut each: impl FnMut(&str, usize) -> Result<(), LineError>,
) -> Result<(), LineError> {
    let mut one = |json: &mut Json<'_>, kind: Kind| {
        let at = json.position();
        match kind {
            Kind::String => each(json.string(scratch)?, at),
            kind => Err(refuse(kind).at(at)),
        }
    };
    let kind = json.kind()?;
    if kind != Kind::Array {
        return one(json, kind);
    }
    json.begin_array()?;
    let mut first = true;
    while json.item(&mut first)? {
        let kind = json.kind()?;
        one(json, kind)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        for (name, tag_type) in [
            ("gender", TagType::Enum),
            ("age", TagType::Number(Unit::Integer)),
            ("spend", TagType::Number(Unit::Decimal { scale: 2 })),
            ("seen_at", TagType::Number(Unit::Timestamp)),
            ("interest", TagType::Set),
            ("is_member", TagType::Flag),
        ] {
            catalog.declare(name, tag_type).expect("good names");
        }
        catalog
    }

    /// The line's effect as text: `u1: gender=f age=31 interest+yoga`, or the error.
    fn decode(line: &str) -> String {
        let catalog = catalog();
        let mut batch = UpdateBatch::new();
        match TagDecoder::new(&catalog).decode(line.as_bytes(), &mut batch) {
            Ok(()) => printed(&catalog, &batch),
            Err(error) => {
                assert!(batch.is_empty() && batch.as_bytes().is_empty(), "nothing of a bad line stays");
                format!("{:?}: {error}", error.kind)
            }
        }
    }

    fn printed(catalog: &Catalog, batch: &UpdateBatch) -> String {
        let mut out = String::new();
        for user in batch.users() {
            out += &format!("{}:", String::from_utf8_lossy(user.user_id));
            for (tag, change) in user.changes() {
                let name = catalog.name_of(tag).expect("declared");
                out += &match change {
                    Change::Unset => format!(" {name}-"),
                    Change::Enum(value) => format!(" {name}={value}"),
                    Change::Number(value) => format!(" {name}={value}"),
                    Change::Flag(value) => format!(" {name}={value}"),
                    Change::Add(value) => format!(" {name}+{value}"),
                    Change::Remove(value) => format!(" {name}-{value}"),
                    Change::Event(_) | Change::Vector(_) => panic!("a tag decoder makes changes of tags"),
                };
            }
        }
        out
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(decode(line), expected, "{line}");
    }

    #[test]
    fn takes_the_documented_line() {
        check(
            r#"{"user_id":"u1","set":{"gender":"f","age":31},"add":{"interest":["yoga"]},"remove":{"interest":["golf"]},"unset":["spend"]}"#,
            "u1: spend- gender=f age=31 interest-golf interest+yoga",
        );
        check(r#" { "set" : { "is_member" : true } , "user_id" : 17 } "#, "17: is_member=true");
        check(r#"{"user_id":"u1"}"#, "u1:");
        check(r#"{"user_id":"u1","set":null,"add":{},"unset":[]}"#, "u1:");
    }

    #[test]
    fn integer_ids_are_their_text() {
        check(r#"{"user_id":18446744073709551615}"#, "18446744073709551615:");
        check(r#"{"user_id":-9223372036854775808}"#, "-9223372036854775808:");
        check(r#"{"user_id":-0}"#, "0:");
        assert!(
            decode(r#"{"user_id":18446744073709551616}"#).starts_with("UserId: `user_id`: 18446744073709551616 is not")
        );
        assert!(decode(r#"{"user_id":1.5}"#).starts_with("UserId:"));
    }

    #[test]
    fn values_by_type() {
        check(r#"{"user_id":"u","set":{"spend":12.5,"age":-3}}"#, "u: spend=1250 age=-3");
        check(r#"{"user_id":"u","set":{"seen_at":"2026-11-20T10:00:00Z"}}"#, "u: seen_at=1795168800000000");
        check(r#"{"user_id":"u","set":{"seen_at":1795168800000}}"#, "u: seen_at=1795168800000000");
        check(r#"{"user_id":"u","set":{"interest":["a","b"]}}"#, "u: interest- interest+a interest+b");
        check(r#"{"user_id":"u","set":{"interest":[]}}"#, "u: interest-");
        check(r#"{"user_id":"u","set":{"interest":"a"}}"#, "u: interest- interest+a");
        check(r#"{"user_id":"u","set":{"age":null,"interest":null,"gender":""}}"#, "u: age- interest- gender=");
        check(r#"{"user_id":"\u00fc\n","set":{"gender":"\"x\""}}"#, "\u{fc}\n: gender=\"x\"");
    }

    #[test]
    fn refusals_say_what_where_and_what_instead() {
        check(
            r#"{"user_id":"u","set":{"gendre":"f"}}"#,
            "UnknownTag: `set`: there is no tag `gendre` (column 23); did you mean `gender`?",
        );
        check(
            r#"{"user_id":"u","set":{"shoe":1}}"#,
            "UnknownTag: `set`: there is no tag `shoe` (column 23); declare it in the catalog first",
        );
        check(
            r#"{"user_id":"u","set":{"age":"31"}}"#,
            "Type: `set.age`: the tag is a number, the value is a string (column 29); write 31 without quotes",
        );
        check(
            r#"{"user_id":"u","set":{"age":3.5}}"#,
            "Value: `set.age`: `3.5` is not a whole number (column 29); round it, or declare the tag with a scale",
        );
        check(
            r#"{"user_id":"u","set":{"spend":1.005}}"#,
            "Value: `set.spend`: `1.005` has more than 2 digits behind the point (column 31); round it, or declare the tag with a larger scale",
        );
        check(
            r#"{"user_id":"u","set":{"age":1e30}}"#,
            "Value: `set.age`: `1e30` is beyond -9223372036854775808 … 9223372036854775807 (column 29); choose a unit in which the numbers are smaller",
        );
        check(
            r#"{"user_id":"u","set":{"age":NaN}}"#,
            "Syntax: NaN and infinity are not JSON (column 29); leave it out, or write null",
        );
        check(
            r#"{"user_id":"u","set":{"gender":1}}"#,
            "Type: `set.gender`: the tag is an enum, the value is a number (column 32); write \"1\" with quotes",
        );
        check(
            r#"{"user_id":"u","set":{"is_member":1}}"#,
            "Type: `set.is_member`: the tag is a flag, the value is a number (column 35); write true or false",
        );
        check(
            r#"{"user_id":"u","set":{"interest":[1]}}"#,
            "Type: `set.interest`: a list of strings is expected, not a number (column 35); write numbers in quotes",
        );
        check(
            r#"{"user_id":"u","add":{"gender":"f"}}"#,
            "Type: `add.gender`: the tag is an enum; `add` is for sets (column 32); use `set` or `unset`",
        );
        check(
            r#"{"user_id":"u","set":{"seen_at":"soon"}}"#,
            "Type: `set.seen_at`: `soon` is not a point in time (column 33); write 2026-11-20T10:00:00Z, 2026-11-20, or milliseconds since 1970",
        );
        check(
            r#"{"user_id":"u","unset":["agee"]}"#,
            "UnknownTag: `unset`: there is no tag `agee` (column 25); did you mean `age`?",
        );
        check(
            r#"{"user_id":"u","unset":[1]}"#,
            "Type: `unset`: a list of tag names is expected, not a number (column 25); write \"unset\":[\"age\"]",
        );
        check(
            r#"{"user_id":"u","set":[1]}"#,
            "Type: `set`: an object is expected, not a list (column 22); write \"set\":{\"tag\":value}",
        );
        check(
            r#"{"set":{}}"#,
            "UserId: `user_id` is missing; each line says whose tags it changes: {\"user_id\":\"u1\", …}",
        );
        check(r#"{"user_id":""}"#, "UserId: the user id is empty (column 12)");
        check(
            r#"{"user_id":true}"#,
            "UserId: `user_id` cannot be true or false (column 12); write a string or an integer",
        );
        check(
            r#"{"user_id":"u","age":31}"#,
            "Key: unknown key `age` (column 16); tags stand inside `set`: {\"set\":{\"age\":…}}",
        );
        check(r#"{"user_id":"u","sets":{}}"#, "Key: unknown key `sets` (column 16); did you mean `set`?");
        check(r#"{"user_id":"u","user_id":"v"}"#, "Key: `user_id` is given twice (column 16); keep one of them");
        check(
            r#"{"user_id":"u","set":{"age":1,"age":2}}"#,
            "Key: `set.age` is given twice (column 31); keep one of them",
        );
        check(
            r#"{"user_id":"u""#,
            "Syntax: the line ends in the middle of a value (column 15); one whole JSON object stands on each line",
        );
        check(
            r#"{"user_id":"u"} {}"#,
            "Syntax: more text behind the value (column 17); one JSON object stands on each line",
        );
        check("[1]", "Syntax: a line is a JSON object (column 1); write {\"user_id\":\"u1\",\"set\":{…}}");
    }

    #[test]
    fn lengths_have_limits() {
        let line = |id: usize, value: usize| {
            decode(&format!(r#"{{"user_id":"{}","set":{{"gender":"{}"}}}}"#, "i".repeat(id), "v".repeat(value)))
        };
        assert!(line(USER_ID_BYTES_MAX, TAG_VALUE_BYTES_MAX).starts_with("iii"));
        assert!(line(10_240, 1).starts_with("UserId: the user id has 10240 bytes; at most 1024"));
        assert!(line(1, TAG_VALUE_BYTES_MAX + 1).starts_with("Value: `set.gender`: a value of 1025 bytes"));
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let mut batch = UpdateBatch::new();
        let error = TagDecoder::new(&catalog()).decode(b"{\"user_id\":\"\xff\"}", &mut batch).expect_err("not UTF-8");
        assert_eq!((error.kind, error.column), (LineErrorKind::Syntax, Some(13)));
    }

    #[test]
    fn a_bad_line_leaves_the_lines_before_it() {
        let catalog = catalog();
        let (mut decoder, mut batch) = (TagDecoder::new(&catalog), UpdateBatch::new());
        decoder.decode(br#"{"user_id":"a","set":{"age":1}}"#, &mut batch).expect("good");
        decoder.decode(br#"{"user_id":"b","set":{"age":1,"gender":7}}"#, &mut batch).expect_err("bad");
        decoder.decode(br#"{"user_id":"c"}"#, &mut batch).expect("good");
        assert_eq!(printed(&catalog, &batch), "a: age=1c:");
    }

    proptest! {
        /// The order of the keys does not change what a line does, and neither do escapes.
        #[test]
        fn key_order_is_free(order in Just(vec![0, 1, 2, 3, 4]).prop_shuffle()) {
            let parts = [
                r#""user_id":"u\u0031""#, r#""set":{"interest":["a"]}"#, r#""add":{"interest":["b"]}"#,
                r#""remove":{"interest":["a","c"]}"#, r#""unset":["age"]"#,
            ];
            let line = order.into_iter().map(|index: usize| parts[index]).collect::<Vec<_>>().join(",");
            let expected = "u1: age- interest- interest+a interest-a interest-c interest+b";
            prop_assert_eq!(decode(&format!("{{{line}}}")), expected);
        }

        #[test]
        fn no_line_panics(line in "[{}\\[\\]\",:a-z_0-9u\\\\]{0,60}") {
            let _ = decode(&line);
        }
    }
}
