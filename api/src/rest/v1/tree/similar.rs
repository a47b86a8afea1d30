//! `{"similar_to": "taste", "seed": …, "size": 1000}`: users like others.

use super::{Parsed, Place, TreeError, tree};
use engine::audience::expr::{Expr, ExprKind, SimilarTo};
use engine::audience::similar::{Amount, Extent, ExtentError};
use engine::lookalike::seeds::Method;
use serde_json::{Map, Value, json};

const SIMILAR_KEYS: [&str; 12] = [
    "similar_to",
    "seed",
    "size",
    "share",
    "after",
    "within",
    "exclude",
    "include_seed",
    "method",
    "prototypes",
    "weights",
    "exact",
];

/// How many users, and how likeness is learned: of a question that has keys as these trees have.
///
/// # Errors
/// [`TreeError`] with the key.
pub(in crate::rest) fn extent_and_method(fields: &Map<String, Value>) -> Parsed<(Extent, Option<Method>)> {
    let place = Place::root();
    Ok((place.extent(fields)?, place.method(fields)?))
}

impl Place {
    pub(super) fn similar_to(&self, fields: &Map<String, Value>, keys: &[&str]) -> Parsed<SimilarTo> {
        if keys.iter().any(|key| !SIMILAR_KEYS.contains(key)) {
            return self.unknown_of(keys, &SIMILAR_KEYS);
        }
        let users = |key: &str| fields.get(key).map(|value| self.at(key).users(value)).transpose();
        let text = |key: &str| fields.get(key).map(|value| self.text((value, self.at(key)))).transpose();
        let Some(seed) = users("seed")? else {
            return self.refuse("similar_to needs a `seed`: a condition, or the name of an audience");
        };
        Ok(SimilarTo {
            space: self.text((&fields["similar_to"], self.at("similar_to")))?,
            seed,
            extent: self.extent(fields)?,
            within: users("within")?,
            exclude: users("exclude")?,
            include_seed: self.boolean(fields, "include_seed")?,
            method: self.method(fields)?,
            weights: text("weights")?,
            exact: self.boolean(fields, "exact")?,
        })
    }

    /// A condition, or the name of an audience.
    fn users(&self, value: &Value) -> Parsed<Expr> {
        match value {
            Value::String(name) => Ok(ExprKind::InAudience(name.clone()).into()),
            tree => self.expr(tree),
        }
    }

    fn extent(&self, fields: &Map<String, Value>) -> Parsed<Extent> {
        let is_share = match (fields.contains_key("size"), fields.contains_key("share")) {
            (true, false) => false,
            (false, true) => true,
            (true, true) => return self.at("share").refuse("write `size` or `share`, not both"),
            (false, false) => return self.refuse("it is not said how many: write `size` or `share`"),
        };
        let of = if is_share { Amount::share_of } else { Amount::count_of };
        let key = if is_share { "share" } else { "size" };
        let amount = |key: &str| match fields.get(key) {
            None => Ok(None),
            Some(Value::Number(number)) => self.at(key).extended(of(&number.to_string())).map(Some),
            Some(_) => self.at(key).refuse("expected a number"),
        };
        let (Some(first), after) = (amount(key)?, amount("after")?) else {
            return self.at(key).refuse("expected a number");
        };
        self.at(key).extended(Extent::new(first, after))
    }

    fn extended<T>(&self, result: Result<T, ExtentError>) -> Parsed<T> {
        result.map_err(|error| TreeError {
            pointer: self.pointer.clone(),
            message: error.message,
            // There it stands in the words of text.
            suggestion: Some(error.suggestion.replace(" => ", ": ")),
        })
    }

    fn boolean(&self, fields: &Map<String, Value>, key: &str) -> Parsed<bool> {
        match fields.get(key) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => self.at(key).refuse("expected true or false"),
        }
    }

    fn method(&self, fields: &Map<String, Value>) -> Parsed<Option<Method>> {
        match (fields.get("method"), fields.get("prototypes")) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => self.at("prototypes").refuse("write `method` or `prototypes`, not both"),
            (Some(Value::String(name)), None) if name == "mean" => Ok(Some(Method::Mean)),
            (Some(Value::String(name)), None) if name == "linear" => Ok(Some(Method::Linear)),
            (Some(_), None) => {
                self.at("method").refuse("expected \"mean\" or \"linear\"; for several centres write `prototypes`")
            }
            (None, Some(count)) => {
                let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
                match count.and_then(Method::prototypes) {
                    Some(method) => Ok(Some(method)),
                    None => self.at("prototypes").refuse(Method::PROTOTYPES_RULE),
                }
            }
        }
    }
}

/// The tree of a `similar_to(…)`.
pub(super) fn similar_tree(similar: &SimilarTo, subject: &'static str) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    let users = |expr: &Expr| match &expr.kind {
        ExprKind::InAudience(name) => json!(name),
        _ => tree(expr, subject),
    };
    put("similar_to", json!(similar.space));
    put("seed", users(&similar.seed));
    let key = if matches!(similar.extent.amount(), Amount::Count(_)) { "size" } else { "share" };
    put(key, number(similar.extent.amount()));
    if let Some(after) = similar.extent.after() {
        put("after", number(after));
    }
    for (key, of) in [("within", &similar.within), ("exclude", &similar.exclude)] {
        if let Some(of) = of {
            put(key, users(of));
        }
    }
    if similar.include_seed {
        put("include_seed", json!(true));
    }
    match similar.method {
        None => {}
        Some(Method::Mean) => put("method", json!("mean")),
        Some(Method::Linear) => put("method", json!("linear")),
        Some(Method::Prototypes(count)) => put("prototypes", json!(count)),
    }
    if let Some(weights) = &similar.weights {
        put("weights", json!(weights));
    }
    if similar.exact {
        put("exact", json!(true));
    }
    Value::Object(fields)
}

/// The amount as a JSON number, which a share's digits are, too.
fn number(amount: Amount) -> Value {
    serde_json::from_str(&amount.to_string()).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::super::{from_json, to_json};
    use super::*;

    #[test]
    fn says_what_the_text_says() {
        for (tree, text) in [
            (
                json!({"similar_to": "taste", "seed": "vip", "size": 1000}),
                "similar_to('taste', seed => in_audience('vip'), size => 1000)",
            ),
            (
                json!({"not": {"similar_to": "taste", "seed": {"any": [{"tag": "a"}, {"tag": "b", "is": 1}]}, "share": 0.02,
                    "after": 0.01, "within": {"tag": "c"}, "exclude": "gone", "include_seed": true, "prototypes": 8,
                    "weights": "spend", "exact": true}}),
                "NOT similar_to('taste', seed => a OR b = 1, share => 0.02, after => 0.01, within => c, \
                 exclude => in_audience('gone'), include_seed => TRUE, prototypes => 8, weights => spend, exact => TRUE)",
            ),
            (
                json!({"similar_to": "t", "seed": true, "share": 0.000000001, "method": "mean"}),
                "similar_to('t', seed => TRUE, share => 0.000000001, method => 'mean')",
            ),
        ] {
            let expr = from_json(&tree).unwrap_or_else(|error| panic!("{tree}: {error}"));
            assert_eq!(expr.to_string(), text);
            assert_eq!(engine::audience::parse(text).expect("parses"), expr);
            assert_eq!(from_json(&to_json(&expr)).expect("reads back"), expr);
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        for (tree, told) in [
            (json!({"similar_to": "t", "size": 1}), ": similar_to needs a `seed`"),
            (json!({"similar_to": "t", "seed": "a"}), ": it is not said how many"),
            (json!({"similar_to": "t", "seed": "a", "size": 1, "share": 1}), "/share: write `size` or `share`"),
            (json!({"similar_to": "t", "seed": "a", "size": 0}), "/size: nobody is asked for"),
            (json!({"similar_to": "t", "seed": "a", "size": "1"}), "/size: expected a number"),
            (json!({"similar_to": "t", "seed": "a", "share": 1.5}), "/share: the share 1.5 is not above 0"),
            (json!({"similar_to": "t", "seed": "a", "share": 0.5, "after": 5}), "/after: the share 5"),
            (json!({"similar_to": "t", "seed": "a", "size": 1, "method": "x"}), "/method: expected \"mean\""),
            (json!({"similar_to": "t", "seed": "a", "size": 1, "prototypes": 0}), "/prototypes: between 1 and 256"),
            (json!({"similar_to": "t", "seed": "a", "size": 1, "exact": 1}), "/exact: expected true or false"),
            (json!({"similar_to": "t", "seed": {"tag": 1}, "size": 1}), "/seed/tag: expected a text"),
            (json!({"similar_to": "t", "sed": "a", "size": 1}), "/sed: unknown key `sed`; did you mean `seed`?"),
        ] {
            let error = from_json(&tree).expect_err(told);
            let error = format!("{}: {}", error.pointer, error.message);
            assert!(error.starts_with(told), "{error}, not {told}");
        }
    }
}
