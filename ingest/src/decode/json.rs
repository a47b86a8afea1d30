//! A pull reader over the JSON of one line.
//!
//! Why not a general deserializer: a number must keep the digits it was written with (a 64-bit float would lose
//! some), an error must name the column and the tag, and a line must go straight into the batch without a tree. The
//! accepted language is RFC 8259 with a limit on nesting; a test compares it with `serde_json`.

use super::error::{LineError, LineErrorKind};

/// Deepest nesting of a value; a line of the documented form needs 3.
pub(crate) const DEPTH_MAX: usize = 32;

/// What a value is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// For messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "true or false",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "a list",
            Kind::Object => "an object",
        }
    }
}

/// Reads a line from its begin; every method skips white space first.
#[derive(Clone, Debug)]
pub(crate) struct Json<'a> {
    text: &'a str,
    at: usize,
    /// Where the last key began.
    key_at: usize,
}

impl<'a> Json<'a> {
    /// A reader of `text` from byte `at`.
    pub(crate) fn new(text: &'a str, at: usize) -> Self {
        Json { text, at, key_at: at }
    }

    /// The next byte to be read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Where the key that was read last begins.
    pub(crate) fn key_position(&self) -> usize {
        self.key_at
    }

    pub(crate) fn error(&self, what: impl Into<String>) -> LineError {
        LineError::new(LineErrorKind::Syntax, what).at(self.at)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte behind white space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// What the next value is.
    pub(crate) fn kind(&mut self) -> Result<Kind, LineError> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'N' | b'I') => {
                Err(self.error("NaN and infinity are not JSON").suggest("leave it out, or write null"))
            }
            Some(b'\'') => Err(self.error("a string stands in double quotes, not in single ones")),
            Some(_) => Err(self.error("a value is expected here").suggest("text stands in double quotes")),
            None => Err(self.cut_off()),
        }
    }

    fn cut_off(&self) -> LineError {
        self.error("the line ends in the middle of a value").suggest("one whole JSON object stands on each line")
    }

    fn expect(&mut self, wanted: u8, what: &'static str) -> Result<(), LineError> {
        match self.peek() {
            Some(byte) if byte == wanted => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.error(what)),
            None => Err(self.cut_off()),
        }
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), LineError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("more text behind the value").suggest("one JSON object stands on each line")),
        }
    }

    /// `null`, `true` or `false`: `None` for null.
    pub(crate) fn word(&mut self) -> Result<Option<bool>, LineError> {
        self.peek();
        let rest = &self.text[self.at..];
        let (word, value) = match rest.as_bytes().first() {
            Some(b't') => ("true", Some(true)),
            Some(b'f') => ("false", Some(false)),
            _ => ("null", None),
        };
        if !rest.starts_with(word) {
            return Err(self.error(format!("`{word}` is expected here")));
        }
        self.at += word.len();
        Ok(value)
    }

    /// A number, as written.
    pub(crate) fn number(&mut self) -> Result<&'a str, LineError> {
        self.peek();
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.byte() == Some(b'0');
        if self.digits() == 0 {
            return Err(self.error("a number needs a digit here"));
        }
        let digits_start = start + usize::from(self.text.as_bytes()[start] == b'-');
        if leading_zero && self.at - digits_start > 1 {
            self.at = digits_start;
            return Err(self.error("a number has no leading zeros"));
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.error("a digit is expected behind the point"));
            }
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("the exponent needs a digit"));
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    /// A string; `scratch` holds it if it has escapes.
    pub(crate) fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, LineError>
    where
        'a: 's,
    {
        let plain = self.begin_string()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(plain);
        }
        scratch.clear();
        scratch.push_str(plain);
        self.rest_of_string(scratch)?;
        Ok(scratch)
    }

    /// Appends a string to `out`.
    pub(crate) fn push_string(&mut self, out: &mut String) -> Result<(), LineError> {
        let plain = self.begin_string()?;
        out.push_str(plain);
        self.rest_of_string(out)
    }

    /// The text up to the first escape, or to the closing quote.
    fn begin_string(&mut self) -> Result<&'a str, LineError> {
        self.expect(b'"', "a string in double quotes is expected here")?;
        let start = self.at;
        self.run_of_plain()?;
        Ok(&self.text[start..self.at])
    }

    /// Appends what follows from an escape on, or nothing at the closing quote.
    fn rest_of_string(&mut self, out: &mut String) -> Result<(), LineError> {
        while self.byte() != Some(b'"') {
            self.escape(out)?;
            let start = self.at;
            self.run_of_plain()?;
            out.push_str(&self.text[start..self.at]);
        }
        self.at += 1;
        Ok(())
    }

    /// Moves to the next quote or backslash.
    fn run_of_plain(&mut self) -> Result<(), LineError> {
        let bytes = self.text.as_bytes();
        let stop = bytes[self.at..].iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
        let Some(stop) = stop else {
            self.at = bytes.len();
            return Err(self.error("a string without its closing quote"));
        };
        self.at += stop;
        match bytes[self.at] {
            b'"' | b'\\' => Ok(()),
            byte => Err(self.error(format!("control character {byte:#04x} in a string")).suggest("escape it: \\u00..")),
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), LineError> {
        let start = self.at;
        self.at += 1;
        let plain = match self.byte() {
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex4()?;
                out.push(self.code_point(unit, start)?);
                return Ok(());
            }
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.error("unknown escape in a string").suggest("a backslash is written \\\\")),
        };
        out.push(plain);
        self.at += 1;
        Ok(())
    }

    /// A whole character from its first UTF-16 unit, reading the second of a pair.
    fn code_point(&mut self, unit: u16, start: usize) -> Result<char, LineError> {
        let low = match unit {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                Some(self.hex4()?)
            }
            _ => None,
        };
        let units = [unit, low.unwrap_or(0)];
        let decoded = char::decode_utf16(units[..1 + usize::from(low.is_some())].iter().copied()).next();
        match decoded {
            Some(Ok(decoded)) => Ok(decoded),
            _ => {
                self.at = start;
                Err(self.error("half of a UTF-16 pair in a string"))
            }
        }
    }

    fn hex4(&mut self) -> Result<u16, LineError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let Some(digits) = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)) else {
            return Err(self.error("\\u needs four hexadecimal digits"));
        };
        self.at += 4;
        let value = digits
            .iter()
            .fold(0, |value, &digit| value << 4 | char::from(digit).to_digit(16).expect("is_ascii_hexdigit was asked"));
        Ok(value as u16)
    }

    /// Enters an object.
    pub(crate) fn begin_object(&mut self) -> Result<(), LineError> {
        self.expect(b'{', "an object `{…}` is expected here")
    }

    /// Enters a list.
    pub(crate) fn begin_array(&mut self) -> Result<(), LineError> {
        self.expect(b'[', "a list `[…]` is expected here")
    }

    /// The key of the next member of an object, `None` at its end. `first` is true before the first one.
    pub(crate) fn key<'s>(&mut self, first: &mut bool, scratch: &'s mut String) -> Result<Option<&'s str>, LineError>
    where
        'a: 's,
    {
        if !self.more(b'}', first)? {
            return Ok(None);
        }
        if !matches!(self.peek(), Some(b'"')) {
            return Err(self.error("a key in double quotes is expected here"));
        }
        self.key_at = self.at;
        let key = self.string(scratch)?;
        self.expect(b':', "`:` is expected behind a key")?;
        Ok(Some(key))
    }

    /// Whether a list has another item. `first` is true before the first one.
    pub(crate) fn item(&mut self, first: &mut bool) -> Result<bool, LineError> {
        self.more(b']', first)
    }

    fn more(&mut self, close: u8, first: &mut bool) -> Result<bool, LineError> {
        let before_first = std::mem::replace(first, false);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !before_first => {
                self.at += 1;
                match self.peek() {
                    Some(byte) if byte == close => Err(self.error("a comma before the closing bracket")),
                    _ => Ok(true),
                }
            }
            Some(_) if before_first => Ok(true),
            Some(_) => Err(self.error(format!("`,` or `{}` is expected here", char::from(close)))),
            None => Err(self.cut_off()),
        }
    }

    /// Any value, checked, as written.
    pub(crate) fn verbatim(&mut self, scratch: &mut String) -> Result<&'a str, LineError> {
        self.peek();
        let start = self.at;
        self.skip(scratch)?;
        Ok(&self.text[start..self.at])
    }

    /// Checks and passes over any value.
    pub(crate) fn skip(&mut self, scratch: &mut String) -> Result<(), LineError> {
        self.skip_at_depth(scratch, 0)
    }

    /// The same for a value that already stands so deep in others.
    pub(crate) fn skip_at_depth(&mut self, scratch: &mut String, depth: usize) -> Result<(), LineError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("more than {DEPTH_MAX} levels of nesting")));
        }
        let mut first = true;
        match self.kind()? {
            Kind::Null | Kind::Bool => self.word().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::String => self.string(scratch).map(drop),
            Kind::Array => {
                self.begin_array()?;
                while self.item(&mut first)? {
                    self.skip_at_depth(scratch, depth + 1)?;
                }
                Ok(())
            }
            Kind::Object => {
                self.begin_object()?;
                while self.key(&mut first, scratch)?.is_some() {
                    self.skip_at_depth(scratch, depth + 1)?;
                }
                Ok(())
            }
        }
    }
}

/// Whether text is a JSON number and nothing else.
pub(crate) fn is_number(text: &str) -> bool {
    Json::new(text, 0).number().is_ok_and(|number| number.len() == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        let mut json = Json::new(text, 0);
        json.skip(&mut String::new()).and_then(|()| json.end()).is_ok()
    }

    fn check(text: &str) {
        let oracle = serde_json::from_str::<serde_json::Value>(text);
        // The oracle also refuses numbers beyond a float, which is our caller's business.
        let out_of_range = oracle.as_ref().is_err_and(|error| error.to_string().contains("number out of range"));
        assert_eq!(accepts(text), oracle.is_ok() || out_of_range, "{text:?}: {oracle:?}");
    }

    #[test]
    fn accepts_what_json_is() {
        for text in [
            "1",
            "-0",
            "01",
            "1.",
            ".5",
            "1e5",
            "1e",
            "1E-05",
            "-",
            "tru",
            "true",
            "nul",
            "\"a\"",
            "\"a",
            "\"\\u12\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83dx\"",
            "\"\\ud83d\\u0041\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "{}",
            "[]",
            "",
            " ",
            "NaN",
            "1 1",
            "[1]]",
            "{\"a\":[{}]}",
            "1e400",
            "\"\t\"",
            "\"\\x\"",
            "'a'",
        ] {
            check(text);
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(accepts(&deep(DEPTH_MAX)));
        assert!(!accepts(&deep(100_000)));
    }

    #[test]
    fn strings_are_unescaped() {
        let text = r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#;
        let mut scratch = String::new();
        let read = Json::new(text, 0).string(&mut scratch).expect("valid").to_owned();
        assert_eq!(read, serde_json::from_str::<String>(text).expect("valid"));
    }

    proptest! {
        #[test]
        fn agrees_with_another_reader(text in "[\\[\\]{}:,\"\\\\ua0-9.eE+ tfn-]{0,24}") {
            check(&text);
        }

        #[test]
        fn agrees_on_damaged_json(cut in 0usize..80, put in "[\\[\\]{}:,\"\\\\u0e.-]{0,1}", drop in 0usize..2) {
            let good = r#"{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00"],"b":{"c":null,"d":true},"e":"f"}"#;
            let cut = cut.min(good.len());
            let tail = good.get(cut + drop..).unwrap_or("");
            check(&format!("{}{put}{tail}", &good[..cut]));
        }
    }
}
