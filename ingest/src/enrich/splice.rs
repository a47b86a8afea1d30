//! A record and its key; a record and what was found.

use super::definition::EnrichmentError;
use crate::decode::mapping::{KeyFinder, RecordContext};
use crate::decode::{LineError, LineErrorKind};
use std::sync::Arc;

/// What is to become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on, with these members as well: names and JSON objects, in the order of the look-ups.
    Taken(Vec<(Arc<str>, Arc<str>)>),
    /// It is not wanted.
    Dropped,
    /// It cannot be taken.
    Refused(LineError),
}

impl Fate {
    /// Of a record nobody has looked at.
    pub(crate) const AS_IT_IS: Fate = Fate::Taken(Vec::new());
}

/// Finds the key of one look-up in records.
#[derive(Clone, Debug)]
pub(super) struct KeyReader {
    name: String,
    finder: KeyFinder,
}

impl KeyReader {
    /// `name` is the member that is to be added, `path` where the key stands.
    pub(super) fn new(name: &str, path: &str) -> Result<KeyReader, EnrichmentError> {
        let finder =
            KeyFinder::new(path, name).map_err(|error| EnrichmentError { setting: "key", what: error.to_string() })?;
        Ok(KeyReader { name: name.to_owned(), finder })
    }

    /// The key of a record, if it has one.
    ///
    /// # Errors
    /// The record is no JSON object, has a member of the name already, or its key is a list or an object.
    pub(super) fn key(&mut self, record: &[u8], context: &RecordContext<'_>) -> Result<Option<&str>, LineError> {
        let (name, finder) = (&self.name, &mut self.finder);
        finder
            .find(record, context)
            .map_err(|error| LineError { message: format!("look-up `{name}`: {}", error.message), ..error })
    }
}

/// Appends the record with further members at its end to `out`. The record is a JSON object, as [`KeyReader::key`] made sure.
///
/// What stood in the record stays where it was, so that errors name places in the record as it came.
pub(crate) fn splice(record: &[u8], members: &[(Arc<str>, Arc<str>)], out: &mut Vec<u8>) {
    let record = record.trim_ascii_end();
    let body = record.strip_suffix(b"}").unwrap_or(record);
    out.extend_from_slice(body);
    let mut is_first = body.trim_ascii_end().ends_with(b"{");
    for (name, value) in members {
        if !std::mem::replace(&mut is_first, false) {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

/// Why a record is refused for its look-up.
pub(super) fn refused(name: &str, what: &str) -> LineError {
    LineError::new(LineErrorKind::Lookup, format!("look-up `{name}`: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn spliced(record: &str, members: &[(&str, &str)]) -> String {
        let members: Vec<(Arc<str>, Arc<str>)> =
            members.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut out = b"before ".to_vec();
        splice(record.as_bytes(), &members, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        text.strip_prefix("before ").expect("what was there stays").to_owned()
    }

    #[test]
    fn members_come_behind_those_there_are() {
        assert_eq!(spliced("{}", &[("a", "{\"b\":1}")]), "{\"a\":{\"b\":1}}");
        assert_eq!(spliced(" { } \n", &[("a", "{}"), ("b", "{}")]), " { \"a\":{},\"b\":{}}");
        assert_eq!(spliced("{\"x\":{}}", &[("a", "{}")]), "{\"x\":{},\"a\":{}}");
        assert_eq!(spliced("{\"x\":\"{\" }\t", &[("a", "{}")]), "{\"x\":\"{\" ,\"a\":{}}");
        assert_eq!(spliced("{\"x\":1}", &[]), "{\"x\":1}");
    }

    fn key(record: &str, path: &str) -> Result<Option<String>, String> {
        let mut reader = KeyReader::new("product", path).map_err(|error| error.to_string())?;
        let context = RecordContext { key: Some(b"k"), timestamp_ms: None, partition: "t/0", offset: 7 };
        let found = reader.key(record.as_bytes(), &context);
        found.map(|key| key.map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn finds(record: &str, path: &str, expected: Option<&str>) {
        assert_eq!(key(record, path), Ok(expected.map(str::to_owned)));
    }

    #[test]
    fn keys_are_found_as_text() {
        finds("{\"item\":{\"sku\":\"a\\u00fc\"}}", "item.sku", Some("aü"));
        finds("{\"items\":[{\"id\":1},{\"id\":20}]}", "items[1].id", Some("20"));
        finds("{\"id\":1.50}", "id", Some("1.50"));
        finds("{\"id\":true}", "id", Some("true"));
        finds("{\"id\":null}", "id", None);
        finds("{\"id\":\"\"}", "id", None);
        finds("{\"other\":1}", "id", None);
        finds("{}", "$key", Some("k"));
        finds("{}", "$offset", Some("7"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |record, path, part: &str| {
            let why = key(record, path).expect_err(record);
            assert!(why.contains(part), "{why}");
        };
        refused("[1]", "id", "look-up `product`: a record that gets a member is a JSON object, not a list");
        refused("nonsense", "id", "null");
        refused("{\"id\":1", "id", "ends in the middle");
        refused("{\"id\":[1]}", "id", "its key `id` is a list");
        refused("{\"id\":{}}", "id", "its key `id` is an object");
        refused("{\"id\":1,\"id\":2}", "id", "twice");
        refused("{\"id\":1,\"product\":null}", "id", "the record has a member `product` already");
        refused("\u{0}", "id", "value is expected");
        refused("{}", "product.sku", "the records' own `product` is what it begins with");
        refused("{}", "a..b", "a field is expected here");
        refused("{}", "$record", "the whole record is no key");
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z{}\\[\\]\",\\\\ü]{0,6}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| json!(map)),
            ]
        });
        prop::collection::btree_map("[a-e{}]", value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        /// The naive twin reads the record, puts the members into it and compares.
        #[test]
        fn a_spliced_record_is_the_record_and_the_members(
            record in object(), found in prop::collection::btree_map("[x-z]", object(), 0..3), pretty in any::<bool>(),
        ) {
            let text = if pretty { serde_json::to_string_pretty(&record) } else { serde_json::to_string(&record) };
            let members: Vec<(Arc<str>, Arc<str>)> = found
                .iter()
                .map(|(name, value)| (name.as_str().into(), serde_json::to_string(value).expect("JSON").into()))
                .collect();
            let mut out = Vec::new();
            splice(text.expect("JSON").as_bytes(), &members, &mut out);
            let mut expected = record;
            expected.extend(found.into_iter().map(|(name, value)| (name, Value::Object(value))));
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), Value::Object(expected));
        }
    }
}
