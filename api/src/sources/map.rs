//! The mapping of a source's records, as a catalog document declares it.
//!
//! What it means is told in [`ingest::decode::mapping`]; here JSON becomes its structures. A field is a path, or
//! `{ path: …, default: …, type: …, unit: … }`, or `{ value: … }`, or `{ sql: …, default: … }`. A condition is `{ path: …, in:
//! … }` with one of several tests, or an expression. Expressions are those of [`engine_sql::expressions`].

use super::declaration::Place;
use engine::audience::suggest::closest;
use engine_sql::expressions::SqlExpressions;
use ingest::decode::mapping::{
    Cast, Comparison, Condition, Expression, FactMapping, FieldValue, MappedField, TagMapping, Test, TimeUnit,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A JSON object as it was written.
pub type Object = Map<String, Value>;

/// To events: a field for each column.
///
/// # Errors
/// The first thing that is wrong.
pub fn to_fact(map: &Object, keep_others: bool, conditions: &[Value]) -> Result<FactMapping, Place> {
    let conditions = read_conditions(conditions)?;
    Ok(FactMapping { fields: fields("/map", map)?, keep_others, conditions })
}

/// Events as they are, of which some are not wanted.
///
/// # Errors
/// The first thing that is wrong.
pub fn filtered(conditions: &[Value]) -> Result<FactMapping, Place> {
    let as_it_is = |name: &str| (name.to_owned(), MappedField::path(name));
    let fields = vec![as_it_is("user_id"), as_it_is("ts")];
    let conditions = read_conditions(conditions)?;
    Ok(FactMapping { fields, keep_others: true, conditions })
}

/// To tags: `user_id`, and tags under `set`, `add`, `remove`, `unset`.
///
/// # Errors
/// The first thing that is wrong.
pub fn to_tags(map: &Object, conditions: &[Value]) -> Result<TagMapping, Place> {
    let conditions = read_conditions(conditions)?;
    let mut mapping = TagMapping { conditions, ..TagMapping::default() };
    for (key, value) in map {
        let at = format!("/map/{key}");
        match key.as_str() {
            "user_id" => mapping.user_id = Some(field(&at, value)?),
            "set" => mapping.set = fields(&at, object(&at, value)?)?,
            "add" => mapping.add = fields(&at, object(&at, value)?)?,
            "remove" => mapping.remove = fields(&at, object(&at, value)?)?,
            "unset" => mapping.unset = list(&at, value)?.iter().map(|tag| text(&at, tag)).collect::<Result<_, _>>()?,
            "nulls" => {
                mapping.unset_nulls = match text(&at, value)?.as_str() {
                    "keep" => false,
                    "unset" => true,
                    other => return Err(unknown(&at, other, &["keep", "unset"])),
                }
            }
            other => return Err(unknown(&at, other, &["user_id", "set", "add", "remove", "unset", "nulls"])),
        }
    }
    Ok(mapping)
}

fn fields(at: &str, map: &Object) -> Result<Vec<(String, MappedField)>, Place> {
    map.iter().map(|(name, value)| Ok((name.clone(), field(&format!("{at}/{name}"), value)?))).collect()
}

fn field(at: &str, value: &Value) -> Result<MappedField, Place> {
    if let Value::String(path) = value {
        return Ok(MappedField::path(path));
    }
    let advice = "write a path such as `customer.id`, or { path: …, default: … }, or { value: … }, or { sql: … }";
    let Value::Object(said) = value else { return Err(Place::new(at, advice)) };
    let mut field = match (said.get("path"), said.get("value"), said.get("sql")) {
        (Some(path), None, None) => MappedField::path(text(&format!("{at}/path"), path)?),
        (None, Some(value), None) => MappedField::constant(value.to_string()),
        (None, None, Some(sql)) => MappedField::computed(expression(&format!("{at}/sql"), sql)?),
        _ => return Err(Place::new(at, advice)),
    };
    for (key, value) in said {
        let at = format!("{at}/{key}");
        match key.as_str() {
            "path" | "value" | "sql" => {}
            "default" => field.default = Some(value.to_string()),
            "type" => field.cast = Some(one_of(&at, value, &CASTS)?),
            "unit" => field.unit = Some(one_of(&at, value, &UNITS)?),
            other => return Err(unknown(&at, other, &["path", "value", "sql", "default", "type", "unit"])),
        }
    }
    if matches!(field.value, FieldValue::Constant(_)) && said.len() > 1 {
        return Err(Place::new(at, "a constant `value` has nothing beside it"));
    }
    Ok(field)
}

const CASTS: [(&str, Cast); 5] = [
    ("string", Cast::String),
    ("number", Cast::Number),
    ("integer", Cast::Number),
    ("decimal", Cast::Number),
    ("boolean", Cast::Boolean),
];

const UNITS: [(&str, TimeUnit); 3] = [
    ("seconds", TimeUnit::Seconds),
    ("milliseconds", TimeUnit::Milliseconds),
    ("microseconds", TimeUnit::Microseconds),
];

const TESTS: [&str; 10] = ["equals", "not", "in", "not_in", "exists", "null", "less", "at_most", "more", "at_least"];

fn read_conditions(conditions: &[Value]) -> Result<Vec<Condition>, Place> {
    conditions.iter().enumerate().map(|(index, value)| condition(&format!("/where/{index}"), value)).collect()
}

fn expression(at: &str, value: &Value) -> Result<Expression, Place> {
    Ok(Expression::new(text(at, value)?, SqlExpressions::shared()))
}

/// Reads `where`: a list, or one expression.
///
/// # Errors
/// If it is neither.
pub fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Value>, D::Error> {
    match Value::deserialize(from)? {
        Value::Array(conditions) => Ok(conditions),
        expression @ Value::String(_) => Ok(vec![expression]),
        _ => Err(serde::de::Error::custom(
            "an expression, as in \"amount > 0\", or a list of conditions is expected here",
        )),
    }
}

fn condition(at: &str, value: &Value) -> Result<Condition, Place> {
    if value.is_string() {
        return expression(at, value).map(Condition::Computed);
    }
    let said = object(at, value)?;
    if let (Some(sql), 1) = (said.get("sql"), said.len()) {
        return expression(&format!("{at}/sql"), sql).map(Condition::Computed);
    }
    let path = text(&format!("{at}/path"), said.get("path").unwrap_or(&Value::Null))?;
    let mut tests = said.iter().filter(|(key, _)| *key != "path");
    let (Some((key, value)), None) = (tests.next(), tests.next()) else {
        return Err(Place::new(at, format!("write one test beside `path`: {}; or {{ sql: … }}", TESTS.join(", "))));
    };
    let at = format!("{at}/{key}");
    let values = || Ok(list(&at, value)?.iter().map(Value::to_string).collect());
    let compare = |comparison| Test::Compare(comparison, value.to_string());
    let test = match key.as_str() {
        "equals" => Test::Equals(value.to_string()),
        "not" => Test::NotEquals(value.to_string()),
        "in" => Test::In(values()?),
        "not_in" => Test::NotIn(values()?),
        "exists" => Test::Exists(boolean(&at, value)?),
        "null" => Test::IsNull(boolean(&at, value)?),
        "less" => compare(Comparison::Less),
        "at_most" => compare(Comparison::LessOrEqual),
        "more" => compare(Comparison::Greater),
        "at_least" => compare(Comparison::GreaterOrEqual),
        other => return Err(unknown(&at, other, &TESTS)),
    };
    Ok(Condition::Field { path, test })
}

fn object<'a>(at: &str, value: &'a Value) -> Result<&'a Object, Place> {
    value.as_object().ok_or_else(|| Place::new(at, "an object is expected here"))
}

fn list<'a>(at: &str, value: &'a Value) -> Result<&'a Vec<Value>, Place> {
    value.as_array().ok_or_else(|| Place::new(at, "a list is expected here"))
}

fn text(at: &str, value: &Value) -> Result<String, Place> {
    value.as_str().map(str::to_owned).ok_or_else(|| Place::new(at, "a text is expected here"))
}

fn boolean(at: &str, value: &Value) -> Result<bool, Place> {
    value.as_bool().ok_or_else(|| Place::new(at, "true or false is expected here"))
}

fn one_of<T: Copy>(at: &str, value: &Value, known: &[(&str, T)]) -> Result<T, Place> {
    let name = text(at, value)?;
    let found = known.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| unknown(at, &name, &known.iter().map(|(known, _)| *known).collect::<Vec<_>>()))
}

fn unknown(at: &str, name: &str, known: &[&str]) -> Place {
    let advice = match closest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    Place::new(at, format!("`{name}` is not known here; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn every_form_is_read() {
        let said = json!({"user_id": "customer.id", "ts": {"path": "at", "unit": "seconds"},
            "category": {"path": "kind", "default": "other"}, "amount": {"path": "price", "type": "decimal"},
            "channel": {"value": "web"}});
        let conditions = [json!({"path": "status", "in": ["paid", 1]}), json!({"path": "age", "at_least": 18})];
        let mapping = to_fact(&map(said), true, &conditions).expect("a mapping");
        let field = |name: &str| &mapping.fields.iter().find(|(known, _)| known == name).expect("there").1;
        assert_eq!(field("user_id"), &MappedField::path("customer.id"));
        assert_eq!(field("ts").unit, Some(TimeUnit::Seconds));
        assert_eq!(field("category").default.as_deref(), Some("\"other\""));
        assert_eq!(field("amount").cast, Some(Cast::Number));
        assert_eq!(field("channel"), &MappedField::constant("\"web\""));
        let condition = |path: &str, test| Condition::Field { path: path.to_owned(), test };
        let paid = condition("status", Test::In(vec!["\"paid\"".to_owned(), "1".to_owned()]));
        let grown_up = condition("age", Test::Compare(Comparison::GreaterOrEqual, "18".to_owned()));
        assert_eq!(mapping.conditions, [paid, grown_up]);

        let said = json!({"user_id": "id", "set": {"age": "age"}, "add": {"interest": "likes"}, "unset": ["old"],
            "nulls": "unset"});
        let mapping = to_tags(&map(said), &[]).expect("a mapping");
        assert_eq!((mapping.set.len(), mapping.add.len(), mapping.unset_nulls), (1, 1, true));
    }

    #[test]
    fn expressions_are_read_as_fields_and_conditions() {
        let said = json!({"user_id": "id", "amount": {"sql": "price * 2", "default": 0}});
        let conditions = [json!("a > 1"), json!({"path": "b", "exists": true}), json!({"sql": "c"})];
        let mapping = to_fact(&map(said), false, &conditions).expect("a mapping");
        let amount = &mapping.fields[0].1;
        assert_eq!(amount.value, FieldValue::Computed(Expression::new("price * 2", SqlExpressions::shared())));
        assert_eq!(amount.default.as_deref(), Some("0"));
        let computed = |text: &str| Condition::Computed(Expression::new(text, SqlExpressions::shared()));
        let exists = Condition::Field { path: "b".to_owned(), test: Test::Exists(true) };
        assert_eq!(mapping.conditions, [computed("a > 1"), exists, computed("c")]);
        let refused = |said: Value| to_fact(&map(said), false, &[]).expect_err("refused").pointer;
        assert_eq!(refused(json!({"a": {"sql": 1}})), "/map/a/sql");
        assert_eq!(refused(json!({"a": {"sql": "b", "path": "c"}})), "/map/a");
    }

    #[test]
    fn what_cannot_be_is_named_with_its_place() {
        let refused = |said: Value| to_tags(&map(said), &[]).expect_err("refused");
        let place = refused(json!({"user-id": "id"}));
        assert_eq!((place.pointer.as_str(), place.why.contains("did you mean `user_id`?")), ("/map/user-id", true));
        let place = refused(json!({"set": {"age": {"path": "a", "units": "seconds"}}}));
        assert_eq!((place.pointer.as_str(), place.why.contains("`unit`")), ("/map/set/age/units", true));
        assert_eq!(refused(json!({"set": {"age": 5}})).pointer, "/map/set/age");
        let place = filtered(&[json!({"path": "a", "equal": 1})]).expect_err("refused");
        assert_eq!((place.pointer.as_str(), place.why.contains("`equals`")), ("/where/0/equal", true));
        assert_eq!(filtered(&[json!({"path": "a"})]).expect_err("refused").pointer, "/where/0");
    }
}
