//! Expressions as JSON trees, for programs that build them.
//!
//! | tree | text |
//! |---|---|
//! | `{"all": […]}`, `{"any": […]}`, `{"not": …}`, `{"xor": [a, b]}` | `AND`, `OR`, `NOT`, `XOR` |
//! | `{"at_least": {"k": 2, "of": […]}}` | `at_least(2, …)` |
//! | `{"tag": "gender", "is": "f"}` | `gender = 'f'` |
//! | `{"tag": "gender", "is_not": "f"}` | `gender IS DISTINCT FROM 'f'`: what a person means by "is not" |
//! | `{"tag": "age", "op": ">=", "value": 25}` | `age >= 25`; `op` is any comparison of the language |
//! | `{"tag": "age", "between": [25, 34]}` | `age BETWEEN 25 AND 34` |
//! | `{"tag": "interest", "in": ["yoga", "golf"]}`, `not_in` | `interest IN (…)`, `NOT IN` |
//! | `{"tag": "age", "known": false}` | `age IS NULL`; `true`: `IS NOT NULL` |
//! | `{"tag": "is_member"}` | `is_member` |
//! | `{"user_id": {"in": ["u1"]}}`, `not_in` | `user_id IN ('u1')` |
//! | `{"in_audience": "vip"}` | `in_audience('vip')` |
//! | `true`, `false` | `TRUE`, `FALSE` |
//!
//! A key that stands for nothing is an error, not passed over; errors tell the JSON pointer.

use engine::audience::expr::{CompareOp, Expr, ExprKind, Literal};
use engine::audience::parse::EXPRESSION_DEPTH_MAX;
use engine::audience::suggest::closest;
use serde_json::{Map, Value, json};

/// Why a tree is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TreeError {
    /// JSON pointer of the place, from the tree's root: `/all/1/tag`.
    pub pointer: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

type Parsed<T> = Result<T, TreeError>;

const KEYS: [&str; 16] = [
    "all",
    "any",
    "not",
    "xor",
    "at_least",
    "tag",
    "is",
    "is_not",
    "op",
    "value",
    "between",
    "in",
    "not_in",
    "known",
    "user_id",
    "in_audience",
];

const OPERATORS: [(&str, CompareOp); 9] = [
    ("=", CompareOp::Equal),
    ("<>", CompareOp::NotEqual),
    ("!=", CompareOp::NotEqual),
    ("<", CompareOp::Less),
    ("<=", CompareOp::LessOrEqual),
    (">", CompareOp::Greater),
    (">=", CompareOp::GreaterOrEqual),
    ("is distinct from", CompareOp::IsDistinctFrom),
    ("is not distinct from", CompareOp::IsNotDistinctFrom),
];

/// The expression a tree stands for.
///
/// # Errors
/// [`TreeError`] with the place.
pub fn from_json(tree: &Value) -> Parsed<Expr> {
    Place { pointer: String::new(), depth: 0 }.expr(tree)
}

/// A place in the tree.
struct Place {
    pointer: String,
    depth: usize,
}

impl Place {
    fn at(&self, key: &str) -> Place {
        Place { pointer: format!("{}/{key}", self.pointer), depth: self.depth + 1 }
    }

    fn refuse<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(TreeError { pointer: self.pointer.clone(), message: message.into() })
    }

    fn expr(&self, tree: &Value) -> Parsed<Expr> {
        if self.depth > EXPRESSION_DEPTH_MAX {
            return self.refuse(format!("the tree is nested more than {EXPRESSION_DEPTH_MAX} deep"));
        }
        match tree {
            Value::Bool(value) => Ok(ExprKind::Literal(*value).into()),
            Value::Object(fields) => Ok(self.object(fields)?.into()),
            _ => self.refuse("expected an object such as {\"tag\": \"gender\", \"is\": \"f\"}, true or false"),
        }
    }

    fn object(&self, fields: &Map<String, Value>) -> Parsed<ExprKind> {
        let mut keys: Vec<&str> = fields.keys().map(String::as_str).collect();
        keys.sort_unstable();
        let field = |key: &str| (&fields[key], self.at(key));
        match keys.as_slice() {
            ["all"] => Ok(ExprKind::And(self.operands(field("all"))?)),
            ["any"] => Ok(ExprKind::Or(self.operands(field("any"))?)),
            ["not"] => Ok(ExprKind::Not(Box::new(self.at("not").expr(&fields["not"])?))),
            ["xor"] => self.xor(field("xor")),
            ["at_least"] => self.at_least(field("at_least")),
            ["in_audience"] => Ok(ExprKind::InAudience(self.text(field("in_audience"))?)),
            ["user_id"] => self.user_id(field("user_id")),
            ["tag"] => Ok(ExprKind::Flag(self.text(field("tag"))?)),
            _ if fields.contains_key("tag") => self.condition(fields, &keys),
            _ => self.unknown(&keys),
        }
    }

    fn unknown<T>(&self, keys: &[&str]) -> Parsed<T> {
        let Some(key) = keys.iter().find(|key| !KEYS.contains(key)) else {
            return self.refuse(format!("the keys {} do not go together", keys.join(", ")));
        };
        match closest(key, KEYS) {
            Some(near) => self.at(key).refuse(format!("unknown key `{key}`; did you mean `{near}`?")),
            None => self.at(key).refuse(format!("unknown key `{key}`; known are {}", KEYS.join(", "))),
        }
    }

    fn operands(&self, (value, place): (&Value, Place)) -> Parsed<Vec<Expr>> {
        let Value::Array(items) = value else { return place.refuse("expected a list of conditions") };
        if items.is_empty() {
            return place.refuse("expected at least one condition");
        }
        items.iter().enumerate().map(|(index, item)| place.at(&index.to_string()).expr(item)).collect()
    }

    fn xor(&self, field: (&Value, Place)) -> Parsed<ExprKind> {
        let operands = self.operands(field)?;
        match <[Expr; 2]>::try_from(operands) {
            Ok([a, b]) => Ok(ExprKind::Xor(Box::new(a), Box::new(b))),
            Err(_) => self.at("xor").refuse("xor takes two conditions"),
        }
    }

    fn at_least(&self, (value, place): (&Value, Place)) -> Parsed<ExprKind> {
        let fields = value.as_object().filter(|fields| fields.len() == 2);
        let (Some(k), Some(of)) = (fields.and_then(|f| f.get("k")), fields.and_then(|f| f.get("of"))) else {
            return place.refuse("expected {\"k\": 2, \"of\": […]}");
        };
        let of = self.operands((of, place.at("of")))?;
        match k.as_u64().and_then(|k| u32::try_from(k).ok()).filter(|k| (1..=of.len()).contains(&(*k as usize))) {
            Some(k) => Ok(ExprKind::AtLeast { k, of }),
            None => place.at("k").refuse(format!("expected a number from 1 to {}", of.len())),
        }
    }

    fn user_id(&self, (value, place): (&Value, Place)) -> Parsed<ExprKind> {
        let (ids, negated) = match value.as_object().map(|f| (f.len(), f.get("in"), f.get("not_in"))) {
            Some((1, Some(ids), _)) => (ids, false),
            Some((1, _, Some(ids))) => (ids, true),
            _ => return place.refuse("expected {\"in\": […]} or {\"not_in\": […]}"),
        };
        let ids = place.literals(ids)?.into_iter().map(|literal| match literal {
            Literal::Text(id) | Literal::Number(id) => id,
            Literal::Bool(value) => value.to_string(),
        });
        Ok(ExprKind::UserIn { ids: ids.collect(), negated })
    }

    fn condition(&self, fields: &Map<String, Value>, keys: &[&str]) -> Parsed<ExprKind> {
        let field = |key: &str| (&fields[key], self.at(key));
        let tag = self.text(field("tag"))?;
        let compare =
            |tag, op, key: &str| Ok(ExprKind::Compare { tag, op, value: self.at(key).literal(&fields[key])? });
        match keys {
            ["is", "tag"] => compare(tag, CompareOp::Equal, "is"),
            ["is_not", "tag"] => compare(tag, CompareOp::IsDistinctFrom, "is_not"),
            ["op", "tag", "value"] => {
                let name = self.text(field("op"))?;
                match OPERATORS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                    Some((_, op)) => compare(tag, *op, "value"),
                    None => {
                        let known: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
                        self.at("op").refuse(format!("unknown operator `{name}`; known are {}", known.join(", ")))
                    }
                }
            }
            ["between", "tag"] => match self.at("between").literals(&fields["between"])?.as_slice() {
                [low, high] => Ok(ExprKind::Between { tag, low: low.clone(), high: high.clone(), negated: false }),
                _ => self.at("between").refuse("expected [from, to]"),
            },
            ["in", "tag"] => Ok(ExprKind::In { tag, values: self.at("in").literals(&fields["in"])?, negated: false }),
            ["not_in", "tag"] => {
                Ok(ExprKind::In { tag, values: self.at("not_in").literals(&fields["not_in"])?, negated: true })
            }
            ["known", "tag"] => match &fields["known"] {
                Value::Bool(known) => Ok(ExprKind::IsNull { tag, negated: *known }),
                _ => self.at("known").refuse("expected true or false"),
            },
            keys => self.unknown(keys),
        }
    }

    fn text(&self, (value, place): (&Value, Place)) -> Parsed<String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            _ => place.refuse("expected a text"),
        }
    }

    fn literal(&self, value: &Value) -> Parsed<Literal> {
        match value {
            Value::String(text) => Ok(Literal::Text(text.clone())),
            Value::Number(number) => Ok(Literal::Number(number.to_string())),
            Value::Bool(value) => Ok(Literal::Bool(*value)),
            Value::Null => self.refuse("nothing equals null; use \"known\": false"),
            _ => self.refuse("expected a text, a number, true or false"),
        }
    }

    fn literals(&self, value: &Value) -> Parsed<Vec<Literal>> {
        match value {
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().map(|(index, item)| self.at(&index.to_string()).literal(item)).collect()
            }
            _ => self.refuse("expected a list of at least one value"),
        }
    }
}

/// The tree of an expression; reads back to an equal one.
pub fn to_json(expr: &Expr) -> Value {
    let all = |of: &[Expr]| of.iter().map(to_json).collect::<Vec<_>>();
    match &expr.kind {
        ExprKind::Literal(value) => json!(value),
        ExprKind::Flag(tag) => json!({"tag": tag}),
        ExprKind::Compare { tag, op: CompareOp::Equal, value } => json!({"tag": tag, "is": literal(value)}),
        ExprKind::Compare { tag, op: CompareOp::IsDistinctFrom, value } => {
            json!({"tag": tag, "is_not": literal(value)})
        }
        ExprKind::Compare { tag, op, value } => {
            let name = OPERATORS.iter().find(|(_, known)| known == op).map(|(name, _)| *name);
            json!({"tag": tag, "op": name, "value": literal(value)})
        }
        ExprKind::Between { tag, low, high, negated } => {
            let between = json!({"tag": tag, "between": [literal(low), literal(high)]});
            if *negated { json!({ "not": between }) } else { between }
        }
        ExprKind::In { tag, values, negated } => {
            let values: Vec<Value> = values.iter().map(literal).collect();
            if *negated { json!({"tag": tag, "not_in": values}) } else { json!({"tag": tag, "in": values}) }
        }
        ExprKind::IsNull { tag, negated } => json!({"tag": tag, "known": negated}),
        ExprKind::UserIn { ids, negated } => {
            json!({"user_id": if *negated { json!({"not_in": ids}) } else { json!({"in": ids}) }})
        }
        ExprKind::InAudience(name) => json!({"in_audience": name}),
        ExprKind::AtLeast { k, of } => json!({"at_least": {"k": k, "of": all(of)}}),
        ExprKind::And(of) => json!({"all": all(of)}),
        ExprKind::Or(of) => json!({"any": all(of)}),
        ExprKind::Xor(a, b) => json!({"xor": [to_json(a), to_json(b)]}),
        ExprKind::Not(of) => json!({"not": to_json(of)}),
    }
}

/// A number keeps its digits where JSON can hold them, else it stands as text would in SQL.
fn literal(literal: &Literal) -> Value {
    match literal {
        Literal::Text(text) => json!(text),
        Literal::Bool(value) => json!(value),
        Literal::Number(digits) => serde_json::from_str(digits).unwrap_or_else(|_| json!(digits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::audience::naive::Random;

    fn refused(tree: Value) -> String {
        let error = from_json(&tree).expect_err("refused");
        format!("{}: {}", error.pointer, error.message)
    }

    #[test]
    fn says_what_the_text_says() {
        let tree = json!({"all": [
            {"tag": "gender", "is": "f"},
            {"tag": "age", "between": [25, 34]},
            {"any": [{"tag": "interest", "in": ["yoga", "golf"]}, {"at_least": {"k": 1, "of": [{"tag": "member"}, true]}}]},
            {"not": {"in_audience": "kept"}},
            {"tag": "city", "is_not": "ningbo"},
            {"tag": "spend", "op": ">=", "value": 12.5},
            {"user_id": {"not_in": ["u1", 7]}},
        ]});
        assert_eq!(
            from_json(&tree).expect("a tree").to_string(),
            "gender = 'f' AND age BETWEEN 25 AND 34 AND (interest IN ('yoga', 'golf') OR at_least(1, member, TRUE)) \
             AND NOT in_audience('kept') AND (city IS DISTINCT FROM 'ningbo') AND spend >= 12.5 \
             AND user_id NOT IN ('u1', '7')"
        );
    }

    #[test]
    fn errors_point_at_the_place() {
        assert_eq!(refused(json!({"al": []})), "/al: unknown key `al`; did you mean `all`?");
        assert_eq!(
            refused(json!({"all": [{"tag": "x", "isnot": 1}]})),
            "/all/0/isnot: unknown key `isnot`; did you mean `is_not`?"
        );
        assert_eq!(refused(json!({"all": []})), "/all: expected at least one condition");
        assert_eq!(
            refused(json!({"any": [true, {"tag": "age", "between": [1]}]})),
            "/any/1/between: expected [from, to]"
        );
        assert_eq!(refused(json!({"tag": "age", "is": null})), "/is: nothing equals null; use \"known\": false");
        let deep = (0..1_000).fold(json!(true), |inner, _| json!({ "not": inner }));
        assert!(refused(deep).contains("nested more than"));
    }

    #[test]
    fn reads_back_what_it_writes() {
        let mut random = Random::new(7);
        for _ in 0..2_000 {
            let expr = random.expression(4);
            let tree = to_json(&expr);
            let back = from_json(&tree).unwrap_or_else(|error| panic!("{tree}: {error}"));
            // A negated BETWEEN comes back as NOT around it.
            assert_eq!(to_json(&back), tree, "{expr}");
        }
    }
}
