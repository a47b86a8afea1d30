//! Values in JSON, row by row.
//!
//! Only the value on the path is read; what stands beside it is looked over for its syntax alone. So a number that no float can
//! be takes away no value but itself, and nothing is built for what nobody asks.

use super::condition::row_test;
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::prelude::ident;
use engine::audience::scan::{JsonKind, JsonPath};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// A value that is there and of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found<'v> {
    /// Of any kind but null; nobody looks at it.
    Any,
    Text(&'v str),
    /// The nearest floating point number. One beyond the largest is no value.
    Number(f64),
    Boolean(bool),
}

/// Walks down the keys that are left; answers whether the value there is found and passes.
struct Walk<'w, F> {
    keys: &'w [String],
    kind: JsonKind,
    test: &'w F,
}

impl<'w, F: Fn(Found<'_>) -> bool> Walk<'w, F> {
    /// The key that is next, and the walk behind it; `None` at the value.
    fn next(&self) -> Option<(&'w str, Walk<'w, F>)> {
        let (key, keys) = self.keys.split_first()?;
        Some((key, Walk { keys, ..*self }))
    }

    /// Whether this is the value.
    fn ends(&self, kind: JsonKind) -> bool {
        self.keys.is_empty() && self.kind == kind
    }
}

impl<'de, F: Fn(Found<'_>) -> bool> DeserializeSeed<'de> for Walk<'_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        match self.ends(JsonKind::Any) {
            true => deserializer.deserialize_option(self),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de, F: Fn(Found<'_>) -> bool> Visitor<'de> for Walk<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value in JSON")
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok((self.test)(Found::Any))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(self.ends(JsonKind::Boolean) && (self.test)(Found::Boolean(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<bool, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        Ok(self.ends(JsonKind::Number) && (self.test)(Found::Number(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        Ok(self.ends(JsonKind::Text) && (self.test)(Found::Text(value)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(is_next) = map.next_key_seed(Is(self.keys.first().map(String::as_str)))? {
            match self.next().filter(|_| is_next) {
                // Of a key that stands twice, the last value counts.
                Some((_, walk)) => found = map.next_value_seed(walk)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        let mut found = false;
        if let Some((key, walk)) = self.next()
            && let Ok(place) = key.parse::<usize>()
        {
            for _ in 0..place {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(false);
                }
            }
            found = items.next_element_seed(walk)?.unwrap_or(false);
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Whether a key is this one.
struct Is<'k>(Option<&'k str>);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(self.0 == Some(key))
    }
}

/// Whether `test` is true of the path's value. Text that is no JSON has no values.
fn passes(text: &str, path: &JsonPath, test: &impl Fn(Found<'_>) -> bool) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let walk = Walk { keys: &path.keys, kind: path.kind, test };
    walk.deserialize(&mut deserializer).is_ok_and(|found| found && deserializer.end().is_ok())
}

/// Whether a text can have the path at all, without reading it: each key that is no place in an array stands in it as it is, if
/// nothing in it is escaped.
fn can_have(text: &str, path: &JsonPath) -> bool {
    let is_place = |key: &String| key.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('\\') || path.keys.iter().all(|key| is_place(key) || text.contains(key.as_str()))
}

/// An expression that is true where `test` is of the path's value, else false.
pub(super) fn tested(column: &str, path: &JsonPath, test: impl Fn(Found<'_>) -> bool + Send + Sync + 'static) -> Expr {
    let path = path.clone();
    let of_text = move |text: &str| can_have(text, &path) && passes(text, &path, &test);
    let of_array = move |array: &ArrayRef| {
        let texts = array.as_string_opt::<i32>();
        texts.map(|texts| texts.iter().map(|text| Some(text.is_some_and(&of_text))).collect::<BooleanArray>())
    };
    let function = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        match arrays.first().and_then(&of_array) {
            Some(answers) => Ok(ColumnarValue::Array(Arc::new(answers))),
            None => exec_err!("JSON stands in text columns"),
        }
    };
    row_test("json_test", vec![DataType::Utf8], function).call(vec![ident(column)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::cell::RefCell;

    fn path(keys: &[&str], kind: JsonKind) -> JsonPath {
        JsonPath { column: None, keys: keys.iter().map(|key| (*key).to_owned()).collect(), kind }
    }

    /// What the test is asked about, and passes.
    fn found(text: &str, path: &JsonPath) -> Option<String> {
        let seen = RefCell::new(None);
        let test = |found: Found<'_>| {
            *seen.borrow_mut() = Some(match found {
                Found::Any => "something".to_owned(),
                Found::Text(text) => format!("{text:?}"),
                Found::Number(number) => number.to_string(),
                Found::Boolean(value) => value.to_string(),
            });
            true
        };
        let passed = passes(text, path, &test);
        assert!(!passed || can_have(text, path), "{text}");
        seen.into_inner().filter(|_| passed)
    }

    /// The same of JSON read as a whole.
    fn found_in_value(text: &str, path: &JsonPath) -> Option<String> {
        let whole: Value = serde_json::from_str(text).ok()?;
        let value = path.keys.iter().try_fold(&whole, |value, key| match value {
            Value::Object(fields) => fields.get(key),
            Value::Array(items) => key.parse::<usize>().ok().and_then(|at| items.get(at)),
            _ => None,
        })?;
        match (path.kind, value) {
            (JsonKind::Any, value) => (!value.is_null()).then(|| "something".to_owned()),
            (JsonKind::Text, Value::String(text)) => Some(format!("{text:?}")),
            (JsonKind::Number, Value::Number(number)) => number.as_f64().map(|number| number.to_string()),
            (JsonKind::Boolean, Value::Bool(value)) => Some(value.to_string()),
            _ => None,
        }
    }

    #[test]
    fn paths_lead_to_values_of_their_kind() {
        let found = |text: &str, keys: &[&str], kind| found(text, &path(keys, kind));
        let text = r#"{"a":{"b":[1,{"c":"x"}],"":null},"é\u0065":true,"0":7}"#;
        assert_eq!(found(text, &["a", "b", "1", "c"], JsonKind::Text).as_deref(), Some("\"x\""));
        assert_eq!(found(text, &["a", "b", "1", "c"], JsonKind::Number), None);
        assert_eq!(found(text, &["a", "b", "0"], JsonKind::Any).as_deref(), Some("something"));
        assert_eq!(found(text, &["a", "b", "2"], JsonKind::Any), None);
        assert_eq!(found(text, &["a", ""], JsonKind::Any), None, "null is no value");
        assert_eq!(found(text, &["ée"], JsonKind::Boolean).as_deref(), Some("true"));
        assert_eq!(found(text, &["0"], JsonKind::Number).as_deref(), Some("7"));
        assert_eq!(found("{\"a\":1} x", &["a"], JsonKind::Number), None, "no JSON");
        assert_eq!(found("{\"a\":1", &["a"], JsonKind::Number), None, "no JSON");
        assert!(!can_have("{\"colour\":1}", &path(&["coupon"], JsonKind::Any)));
    }

    #[test]
    fn a_number_beyond_floats_hides_no_other_value() {
        let found = |keys: &[&str], kind| {
            let text = r#"{"n":1e999,"coupon":"X","deep":[-1e999,{"n":1e400,"is":true}],"last":2}"#;
            found(text, &path(keys, kind))
        };
        assert_eq!(found(&["coupon"], JsonKind::Text).as_deref(), Some("\"X\""));
        assert_eq!(found(&["deep", "1", "is"], JsonKind::Boolean).as_deref(), Some("true"));
        assert_eq!(found(&["last"], JsonKind::Number).as_deref(), Some("2"));
        assert_eq!(found(&["n"], JsonKind::Any).as_deref(), Some("something"));
        assert_eq!(found(&["n"], JsonKind::Number), None, "no float is it");
        assert_eq!(found(&["n", "n"], JsonKind::Number), None);
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|number| number.to_string()),
            (-1e9..1e9f64).prop_map(|number| format!("{number:e}")),
            prop_oneof![Just("\"x\""), Just("\"\""), Just("\"\\u0061\\n\"")].prop_map(str::to_owned),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop_oneof![Just("a"), Just("\\u0061"), Just("b"), Just("1"), Just("")];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
                proptest::collection::vec((key, inner), 0..4).prop_map(|fields| {
                    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn walking_finds_what_reading_all_finds(
            text in json(),
            keys in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("0"), Just("1"), Just("")], 0..4),
            damage in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let text = match damage {
                Some(at) => text.chars().take(at.index(text.chars().count())).collect(),
                None => text,
            };
            for kind in [JsonKind::Any, JsonKind::Text, JsonKind::Number, JsonKind::Boolean] {
                let path = path(&keys, kind);
                prop_assert_eq!(found(&text, &path), found_in_value(&text, &path), "{} {:?}", text, path);
            }
        }
    }
}
