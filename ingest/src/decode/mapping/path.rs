//! The text of a path: `a.b`, `a[0].b`, `a."b.c"`, `$key`.

use super::context::Beside;
use crate::decode::error::{LineError, LineErrorKind};
use crate::decode::json::{DEPTH_MAX, Json};
use engine::audience::suggest::closest;

/// A path, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Into the record, at most [`DEPTH_MAX`] steps; none is the whole record.
    Record(Vec<Step>),
    /// To what belongs to the record.
    Beside(Beside),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// # Errors
    /// [`LineError`] with a column of `text`.
    pub(super) fn parse(text: &str) -> Result<Path, LineError> {
        if let Some(name) = text.strip_prefix('$') {
            return parse_dollar(name);
        }
        let (mut steps, mut at) = (Vec::new(), 0);
        while let Some(byte) = text.as_bytes().get(at) {
            if steps.len() == DEPTH_MAX {
                return Err(refuse(format!("more than {DEPTH_MAX} steps"), at).suggest("no record nests so deep"));
            }
            let (step, end) = match byte {
                b'[' => parse_index(text, at)?,
                b'.' if !steps.is_empty() => parse_key(text, at + 1)?,
                _ if steps.is_empty() => parse_key(text, at)?,
                _ => return Err(refuse("`.` or `[` is expected here", at).suggest(EXAMPLE)),
            };
            steps.push(step);
            at = end;
        }
        match steps.is_empty() {
            true => Err(refuse("a path cannot be empty", 0).suggest(EXAMPLE)),
            false => Ok(Path::Record(steps)),
        }
    }
}

const EXAMPLE: &str = "write a.b, a[0].b, or a.\"b.c\" if a key has other characters";

fn refuse(what: impl Into<String>, at: usize) -> LineError {
    LineError::new(LineErrorKind::Syntax, what).at(at)
}

/// A path that begins with a dollar sign; `name` is what follows.
fn parse_dollar(name: &str) -> Result<Path, LineError> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (name, rest) = name.split_at(end);
    if name.is_empty() {
        let suggestion = match rest.strip_prefix('.').unwrap_or(rest) {
            "" => "write $record for the whole record".to_owned(),
            rest => format!("leave out what stands before it: {rest}"),
        };
        return Err(refuse("a path begins with a field", 0).suggest(suggestion));
    }
    let known = if name == "record" { Some(Path::Record(Vec::new())) } else { Beside::named(name).map(Path::Beside) };
    match known {
        Some(known) if rest.is_empty() => Ok(known),
        Some(Path::Record(_)) => {
            Err(refuse("`$record` is the whole record", 1 + end).suggest("write the field alone, as in a.b"))
        }
        Some(_) => Err(refuse(format!("`${name}` is one value and has no fields"), 1 + end)
            .suggest(format!("write ${name} alone"))),
        None => {
            let names = Beside::ALL.into_iter().map(Beside::name).chain(["record"]);
            let error = refuse(format!("there is no `${name}`"), 0);
            Err(match closest(name, names) {
                Some(near) => error.suggest(format!("did you mean `${near}`?")),
                None => error.suggest(format!("a field of this name is written \"${name}\"{rest}, in double quotes")),
            })
        }
    }
}

/// A key from `at` on, and where it ends.
fn parse_key(text: &str, at: usize) -> Result<(Step, usize), LineError> {
    let rest = &text[at..];
    if rest.starts_with('"') {
        let (mut json, mut key) = (Json::new(text, at), String::new());
        json.push_string(&mut key)?;
        return Ok((Step::Key(key), json.position()));
    }
    let len = rest.find(['.', '[']).unwrap_or(rest.len());
    let key = &rest[..len];
    if key.is_empty() {
        return Err(refuse("a field is expected here", at).suggest(EXAMPLE));
    }
    match key.find(|c| !is_plain(c)) {
        None => Ok((Step::Key(key.to_owned()), at + len)),
        Some(bad) => Err(refuse("this character stands in a path only inside double quotes", at + bad)
            .suggest(format!("write {} for a key that has it", quoted(key)))),
    }
}

/// An item's number in brackets from `at` on, and where it ends.
fn parse_index(text: &str, at: usize) -> Result<(Step, usize), LineError> {
    let Some(len) = text[at..].find(']') else {
        return Err(refuse("a bracket without its closing one", at).suggest("write items[0] for the first item"));
    };
    let digits = &text[at + 1..at + len];
    let is_index = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(index) if is_index => Ok((Step::Index(index), at + len + 1)),
        _ => Err(refuse("in brackets stands the number of an item, from 0", at + 1)
            .suggest("write items[0] for the first item, and fields behind a point")),
    }
}

/// Whether a character stands in a key without quotes. Others would be mistaken for a path of another language, or go
/// unseen.
fn is_plain(c: char) -> bool {
    !matches!(c, '"' | ']' | '*' | '/') && !c.is_whitespace() && !c.is_control()
}

/// A key as a path has it.
pub(super) fn shown_key(key: &str) -> String {
    let is_bare = !key.is_empty() && !key.starts_with('$') && key.chars().all(|c| is_plain(c) && c != '.' && c != '[');
    if is_bare { key.to_owned() } else { quoted(key) }
}

fn quoted(key: &str) -> String {
    let mut quoted = String::new();
    super::write::push_string(key, &mut quoted);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        match Path::parse(text) {
            Ok(Path::Record(steps)) => format!("{steps:?}"),
            Ok(Path::Beside(beside)) => format!("{beside:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text), expected, "{text}");
    }

    #[test]
    fn paths_are_read() {
        check("a", r#"[Key("a")]"#);
        check("a.b_c.d-e", r#"[Key("a"), Key("b_c"), Key("d-e")]"#);
        check("a[0][12].b", r#"[Key("a"), Index(0), Index(12), Key("b")]"#);
        check("[3].a", r#"[Index(3), Key("a")]"#);
        check(r#"a."b.c"[0]."""#, r#"[Key("a"), Key("b.c"), Index(0), Key("")]"#);
        check(r#""\u00fc \"$\"".ü"#, r#"[Key("ü \"$\""), Key("ü")]"#);
        check("_id.$oid", r#"[Key("_id"), Key("$oid")]"#);
        check(r#""$set".age"#, r#"[Key("$set"), Key("age")]"#);
        check("$record", "[]");
        check("$key", "Key");
        check("$timestamp", "Timestamp");
        check("$topic", "Topic");
        check("$partition", "Partition");
        check("$offset", "Offset");
    }

    #[test]
    fn refusals_say_where_and_what_to_write() {
        let example = "write a.b, a[0].b, or a.\"b.c\" if a key has other characters";
        check("", &format!("a path cannot be empty (column 1); {example}"));
        check("a..b", &format!("a field is expected here (column 3); {example}"));
        check(".a", &format!("a field is expected here (column 1); {example}"));
        check("a.", &format!("a field is expected here (column 3); {example}"));
        check("a[0]b", &format!("`.` or `[` is expected here (column 5); {example}"));
        check(r#""a"b"#, &format!("`.` or `[` is expected here (column 4); {example}"));
        let plain = "this character stands in a path only inside double quotes";
        check("a.first name", &format!("{plain} (column 8); write \"first name\" for a key that has it"));
        check("a.*.b", &format!("{plain} (column 3); write \"*\" for a key that has it"));
        check("/a/b", &format!("{plain} (column 1); write \"/a/b\" for a key that has it"));
        check(r#"a"b"#, &format!("{plain} (column 2); write \"a\\\"b\" for a key that has it"));
        check("a.\"b", "a string without its closing quote (column 5)");
        check("a[0", "a bracket without its closing one (column 2); write items[0] for the first item");
        for (text, column) in [("a[*]", 3), ("a[-1]", 3), ("a[]", 3), ("[+1]", 2), ("a[99999999999999999999]", 3)] {
            let what = "in brackets stands the number of an item, from 0";
            let instead = "write items[0] for the first item, and fields behind a point";
            check(text, &format!("{what} (column {column}); {instead}"));
        }
        check("$.a.b", "a path begins with a field (column 1); leave out what stands before it: a.b");
        check("$[0]", "a path begins with a field (column 1); leave out what stands before it: [0]");
        check("$", "a path begins with a field (column 1); write $record for the whole record");
        check("$key.id", "`$key` is one value and has no fields (column 5); write $key alone");
        check("$record.id", "`$record` is the whole record (column 8); write the field alone, as in a.b");
        check("$keys", "there is no `$keys` (column 1); did you mean `$key`?");
        check(
            "$set.age",
            "there is no `$set` (column 1); a field of this name is written \"$set\".age, in double quotes",
        );
        assert!(Path::parse(&"a.".repeat(DEPTH_MAX)[..2 * DEPTH_MAX - 1]).is_ok());
        check(&"[0]".repeat(DEPTH_MAX + 1), "more than 32 steps (column 97); no record nests so deep");
    }

    #[test]
    fn shown_keys_are_read_back() {
        for key in ["a", "", "a.b", "$a", "a b", "a\"b", "ü", "a[0]", "\n", "\\"] {
            assert_eq!(Path::parse(&shown_key(key)), Ok(Path::Record(vec![Step::Key(key.to_owned())])));
        }
    }
}
