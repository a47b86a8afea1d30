//! Values in JSON, row by row.

use super::condition::row_test;
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::prelude::ident;
use engine::audience::scan::{JsonKind, JsonPath, float_key};
use serde_json::Value;
use std::sync::Arc;

/// The path's value, if it is there and of its kind.
fn value_at<'v>(whole: &'v Value, path: &JsonPath) -> Option<&'v Value> {
    let value = path.keys.iter().try_fold(whole, |value, key| match value {
        Value::Object(fields) => fields.get(key),
        Value::Array(items) => key.parse::<usize>().ok().and_then(|at| items.get(at)),
        _ => None,
    })?;
    let is_of_kind = match path.kind {
        JsonKind::Any => !value.is_null(),
        JsonKind::Text => value.is_string(),
        JsonKind::Number => value.is_number(),
        JsonKind::Boolean => value.is_boolean(),
    };
    is_of_kind.then_some(value)
}

/// Whether a text can have the path at all, without reading it: each key that is no place in an array stands in it as it is, if
/// nothing in it is escaped.
fn can_have(text: &str, path: &JsonPath) -> bool {
    let is_place = |key: &String| key.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('\\') || path.keys.iter().all(|key| is_place(key) || text.contains(key.as_str()))
}

/// The key of a number, see [`float_key`].
pub(super) fn number_key(value: &Value) -> Option<i64> {
    value.as_f64().map(float_key)
}

/// An expression that is true where `test` is of the path's value, else false. Text that is no JSON has no values.
pub(super) fn tested(column: &str, path: &JsonPath, test: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Expr {
    let path = path.clone();
    let of_text = move |text: &str| {
        can_have(text, &path)
            && serde_json::from_str::<Value>(text).is_ok_and(|whole| value_at(&whole, &path).is_some_and(&test))
    };
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

    #[test]
    fn paths_lead_to_values_of_their_kind() {
        let found = |text: &str, keys: &[&str], kind| {
            let path = JsonPath { column: None, keys: keys.iter().map(|key| (*key).to_owned()).collect(), kind };
            let whole: Value = serde_json::from_str(text).expect("JSON");
            let value = value_at(&whole, &path).map(Value::to_string);
            assert!(value.is_none() || can_have(text, &path), "{text}");
            value
        };
        let text = r#"{"a":{"b":[1,{"c":"x"}],"":null},"é\u0065":true,"0":7}"#;
        assert_eq!(found(text, &["a", "b", "1", "c"], JsonKind::Text).as_deref(), Some("\"x\""));
        assert_eq!(found(text, &["a", "b", "1", "c"], JsonKind::Number), None);
        assert_eq!(found(text, &["a", "b", "0"], JsonKind::Any).as_deref(), Some("1"));
        assert_eq!(found(text, &["a", "b", "2"], JsonKind::Any), None);
        assert_eq!(found(text, &["a", ""], JsonKind::Any), None, "null is no value");
        assert_eq!(found(text, &["ée"], JsonKind::Boolean).as_deref(), Some("true"));
        assert_eq!(found(text, &["0"], JsonKind::Number).as_deref(), Some("7"));
        assert!(!can_have(
            "{\"colour\":1}",
            &JsonPath { column: None, keys: vec!["coupon".into()], kind: JsonKind::Any }
        ));
    }
}
