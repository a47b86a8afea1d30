//! Expressions as JSON trees, for programs that build them.
//!
//! | tree | text |
//! |---|---|
//! | `{"all": […]}`, `{"any": […]}`, `{"not": …}`, `{"xor": [a, b]}` | `AND`, `OR`, `NOT`, `XOR` |
//! | `{"at_least": {"k": 2, "of": […]}}` | `at_least(2, …)` |
//! | `{"tag": "gender", "is": "f"}` | `gender = 'f'` |
//! | `{"tag": "gender", "is_not": "f"}` | `gender IS DISTINCT FROM 'f'`: what a person means by "is not" |
//! | `{"tag": "age", "op": ">=", "value": 25}` | `age >= 25`; `op` is any comparison of the language |
//! | `{"tag": "age", "between": [25, 34]}`, `not_between` | `age BETWEEN 25 AND 34`, `NOT BETWEEN` |
//! | `{"tag": "interest", "in": ["yoga", "golf"]}`, `not_in` | `interest IN (…)`, `NOT IN` |
//! | `{"tag": "age", "known": false}` | `age IS NULL`; `true`: `IS NOT NULL` |
//! | `{"tag": "is_member"}` | `is_member` |
//! | `{"user_id": {"in": ["u1"]}}`, `not_in` | `user_id IN ('u1')` |
//! | `{"in_audience": "vip"}` | `in_audience('vip')` |
//! | `{"did": "purchase", "where": […], "having": […], "within": "30 days"}` | `did('purchase', …, within => '30 days')` |
//! | `{"similar_to": "taste", "seed": "vip", "size": 1000}` | `similar_to('taste', seed => in_audience('vip'), size => 1000)` |
//! | `true`, `false` | `TRUE`, `FALSE` |
//!
//! `similar_to` takes the options of the text as keys. `seed`, `within` and `exclude` are trees as above, or names of audiences.
//!
//! Of `did` all but the fact may be left out. `where` is a list of trees as above about an event, with `"column"` in the
//! place of `"tag"`; `ts` is one of the columns, `undeclared.extra.\"Coupon\"` a value in JSON. `"exact_window": true` goes
//! with `within`. `having` is a list of what the events come to:
//!
//! | tree | text |
//! |---|---|
//! | `{"figure": "count", "op": ">=", "value": 2}` | `count >= 2` |
//! | `{"figure": "sum", "column": "amount", "between": [1, 2]}`, `not_between` | `sum(amount) BETWEEN 1 AND 2` |
//! | `{"figure": "first", …}`, `{"figure": "last", "op": "<", "value": "7 days ago"}` | `last < '7 days ago'` |
//!
//! A key that stands for nothing is an error, not passed over; errors tell the JSON pointer.

pub(in crate::rest) mod similar;

use crate::error::Failure;
use engine::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use engine::audience::parse::EXPRESSION_DEPTH_MAX;
use engine::audience::suggest::closest;
use serde_json::{Map, Value, json};

/// Why a tree is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TreeError {
    /// JSON pointer of the place, from the tree's root: `/all/1/tag`.
    pub pointer: String,
    /// What is wrong, and what to write instead, unless that is told apart.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Failure {
        let failure = Failure::field(error.pointer, error.message);
        Failure { suggestion: error.suggestion, ..failure }
    }
}

type Parsed<T> = Result<T, TreeError>;

const KEYS: [&str; 23] = [
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
    "not_between",
    "in",
    "not_in",
    "known",
    "user_id",
    "in_audience",
    "similar_to",
    "did",
    "where",
    "having",
    "within",
    "exact_window",
];

/// The keys of what events come to.
const FIGURE_KEYS: [&str; 6] = ["figure", "column", "op", "value", "between", "not_between"];

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
    Place::root().expr(tree)
}

/// The key of what a condition is about: of users, and of events.
const TAG: &str = "tag";
const COLUMN: &str = "column";

/// A place in the tree.
struct Place {
    pointer: String,
    depth: usize,
    /// What conditions here are about: [`TAG`] or [`COLUMN`].
    subject: &'static str,
}

impl Place {
    fn root() -> Place {
        Place { pointer: String::new(), depth: 0, subject: TAG }
    }

    fn at(&self, key: &str) -> Place {
        Place { pointer: format!("{}/{key}", self.pointer), depth: self.depth + 1, subject: self.subject }
    }

    /// The same place, where conditions are about events.
    fn of_events(self) -> Place {
        Place { subject: COLUMN, ..self }
    }

    fn refuse<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(TreeError { pointer: self.pointer.clone(), message: message.into(), suggestion: None })
    }

    fn expr(&self, tree: &Value) -> Parsed<Expr> {
        if self.depth > EXPRESSION_DEPTH_MAX {
            return self.refuse(format!("the tree is nested more than {EXPRESSION_DEPTH_MAX} deep"));
        }
        match tree {
            Value::Bool(value) => Ok(ExprKind::Literal(*value).into()),
            Value::Object(fields) => Ok(self.object(fields)?.into()),
            _ => {
                let subject = self.subject;
                self.refuse(format!(
                    "expected an object such as {{\"{subject}\": \"gender\", \"is\": \"f\"}}, true or false"
                ))
            }
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
            [subject] if *subject == self.subject => Ok(ExprKind::Flag(self.text(field(subject))?)),
            _ if fields.contains_key(self.subject) => self.condition(fields, &keys),
            _ if fields.contains_key("similar_to") => {
                Ok(ExprKind::SimilarTo(Box::new(self.similar_to(fields, &keys)?)))
            }
            _ if fields.contains_key("did") => Ok(ExprKind::Did(Box::new(self.did(fields, &keys)?))),
            _ => self.unknown(&keys),
        }
    }

    fn unknown<T>(&self, keys: &[&str]) -> Parsed<T> {
        let other = if self.subject == TAG { COLUMN } else { TAG };
        if keys.contains(&other) {
            return self.at(other).refuse(format!("`{other}` does not belong here; write `{}`", self.subject));
        }
        let of_subject = |key: &'static str| if key == TAG { self.subject } else { key };
        self.unknown_of(keys, &KEYS.map(of_subject))
    }

    fn unknown_of<T>(&self, keys: &[&str], known: &[&str]) -> Parsed<T> {
        let Some(key) = keys.iter().find(|key| !known.contains(key)) else {
            return self.refuse(format!("the keys {} do not go together", keys.join(", ")));
        };
        match closest(key, known.iter().copied()) {
            Some(near) => self.at(key).refuse(format!("unknown key `{key}`; did you mean `{near}`?")),
            None => self.at(key).refuse(format!("unknown key `{key}`; known are {}", known.join(", "))),
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
        let tag = self.text((&fields[self.subject], self.at(self.subject)))?;
        let others: Vec<&str> = keys.iter().copied().filter(|key| *key != self.subject).collect();
        let compare =
            |tag, op, key: &str| Ok(ExprKind::Compare { tag, op, value: self.at(key).literal(&fields[key])? });
        match others.as_slice() {
            ["is"] => compare(tag, CompareOp::Equal, "is"),
            ["is_not"] => compare(tag, CompareOp::IsDistinctFrom, "is_not"),
            ["op", "value"] => {
                let op = self.operator(&fields["op"])?;
                compare(tag, op, "value")
            }
            [key @ ("between" | "not_between")] => {
                let (low, high) = self.at(key).bounds(&fields[*key])?;
                Ok(ExprKind::Between { tag, low, high, negated: *key == "not_between" })
            }
            [key @ ("in" | "not_in")] => {
                let values = self.at(key).literals(&fields[*key])?;
                Ok(ExprKind::In { tag, values, negated: *key == "not_in" })
            }
            ["known"] => match &fields["known"] {
                Value::Bool(known) => Ok(ExprKind::IsNull { tag, negated: *known }),
                _ => self.at("known").refuse("expected true or false"),
            },
            _ => self.unknown(keys),
        }
    }

    fn operator(&self, value: &Value) -> Parsed<CompareOp> {
        let name = self.text((value, self.at("op")))?;
        match OPERATORS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            Some((_, op)) => Ok(*op),
            None => {
                let known: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).collect();
                self.at("op").refuse(format!("unknown operator `{name}`; known are {}", known.join(", ")))
            }
        }
    }

    fn bounds(&self, value: &Value) -> Parsed<(Literal, Literal)> {
        match self.literals(value)?.as_slice() {
            [low, high] => Ok((low.clone(), high.clone())),
            _ => self.refuse("expected [from, to]"),
        }
    }

    fn did(&self, fields: &Map<String, Value>, keys: &[&str]) -> Parsed<Did> {
        const DID_KEYS: [&str; 5] = ["did", "where", "having", "within", "exact_window"];
        if keys.iter().any(|key| !DID_KEYS.contains(key)) {
            return self.unknown_of(keys, &DID_KEYS);
        }
        let field = |key: &str| fields.get(key).map(|value| (value, self.at(key)));
        let events = |(value, place): (&Value, Place)| self.operands((value, place.of_events()));
        let exact_window = match fields.get("exact_window") {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Bool(true)) if fields.contains_key("within") => true,
            Some(Value::Bool(true)) => {
                return self.at("exact_window").refuse("it says how `within` is meant, and there is no `within`");
            }
            Some(_) => return self.at("exact_window").refuse("expected true or false"),
        };
        Ok(Did {
            fact: self.text((&fields["did"], self.at("did")))?,
            events: field("where").map_or(Ok(Vec::new()), events)?,
            figures: field("having").map_or(Ok(Vec::new()), |(value, place)| place.figures(value))?,
            within: field("within").map(|field| self.text(field)).transpose()?,
            exact_window,
        })
    }

    fn figures(&self, value: &Value) -> Parsed<Vec<FigureTest>> {
        let Value::Array(items) = value else { return self.refuse("expected a list of conditions") };
        items.iter().enumerate().map(|(index, item)| self.at(&index.to_string()).figure(item)).collect()
    }

    fn figure(&self, tree: &Value) -> Parsed<FigureTest> {
        let Some(fields) = tree.as_object().filter(|fields| fields.contains_key("figure")) else {
            return self.refuse("expected an object such as {\"figure\": \"count\", \"op\": \">=\", \"value\": 2}");
        };
        let name = self.text((&fields["figure"], self.at("figure")))?;
        let figure = match (name.as_str(), fields.get("column")) {
            ("count", None) => Figure::Count,
            ("first", None) => Figure::First,
            ("last", None) => Figure::Last,
            ("sum", Some(column)) => Figure::Sum(self.text((column, self.at("column")))?),
            ("sum", None) => return self.refuse("a sum needs a `column`"),
            ("count" | "first" | "last", Some(_)) => {
                return self.at("column").refuse(format!("`{name}` has no column"));
            }
            _ => {
                return self.at("figure").refuse(format!("unknown figure `{name}`; known are count, sum, first, last"));
            }
        };
        Ok(FigureTest { figure, test: self.test(fields)? })
    }

    fn test(&self, fields: &Map<String, Value>) -> Parsed<Test> {
        let mut keys: Vec<&str> = fields.keys().map(String::as_str).collect();
        keys.retain(|key| !["figure", "column"].contains(key));
        keys.sort_unstable();
        match keys.as_slice() {
            ["op", "value"] => {
                let op = self.operator(&fields["op"])?;
                if matches!(op, CompareOp::IsDistinctFrom | CompareOp::IsNotDistinctFrom) {
                    return self.at("op").refuse("what events come to is never NULL; write `=` or `<>`");
                }
                Ok(Test::Compare(op, self.at("value").literal(&fields["value"])?))
            }
            [key @ ("between" | "not_between")] => {
                let (low, high) = self.at(key).bounds(&fields[*key])?;
                Ok(Test::Between { low, high, negated: *key == "not_between" })
            }
            [] => self.refuse("a figure needs `op` and `value`, or `between`"),
            keys => self.unknown_of(keys, &FIGURE_KEYS),
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
    tree(expr, TAG)
}

fn tree(expr: &Expr, subject: &'static str) -> Value {
    let all = |of: &[Expr]| of.iter().map(|expr| tree(expr, subject)).collect::<Vec<_>>();
    match &expr.kind {
        ExprKind::Literal(value) => json!(value),
        ExprKind::Flag(tag) => json!({subject: tag}),
        ExprKind::Compare { tag, op: CompareOp::Equal, value } => json!({subject: tag, "is": literal(value)}),
        ExprKind::Compare { tag, op: CompareOp::IsDistinctFrom, value } => {
            json!({subject: tag, "is_not": literal(value)})
        }
        ExprKind::Compare { tag, op, value } => json!({subject: tag, "op": name_of(*op), "value": literal(value)}),
        ExprKind::Between { tag, low, high, negated } => {
            json!({subject: tag, between(*negated): [literal(low), literal(high)]})
        }
        ExprKind::In { tag, values, negated } => {
            let values: Vec<Value> = values.iter().map(literal).collect();
            if *negated { json!({subject: tag, "not_in": values}) } else { json!({subject: tag, "in": values}) }
        }
        ExprKind::IsNull { tag, negated } => json!({subject: tag, "known": negated}),
        ExprKind::Did(did) => did_tree(did),
        ExprKind::SimilarTo(similar) => similar::similar_tree(similar, subject),
        ExprKind::UserIn { ids, negated } => {
            json!({"user_id": if *negated { json!({"not_in": ids}) } else { json!({"in": ids}) }})
        }
        ExprKind::InAudience(name) => json!({"in_audience": name}),
        ExprKind::AtLeast { k, of } => json!({"at_least": {"k": k, "of": all(of)}}),
        ExprKind::And(of) => json!({"all": all(of)}),
        ExprKind::Or(of) => json!({"any": all(of)}),
        ExprKind::Xor(a, b) => json!({"xor": [tree(a, subject), tree(b, subject)]}),
        ExprKind::Not(of) => json!({"not": tree(of, subject)}),
    }
}

fn did_tree(did: &Did) -> Value {
    let mut fields = Map::new();
    fields.insert("did".to_owned(), json!(did.fact));
    if !did.events.is_empty() {
        let events = did.events.iter().map(|event| tree(event, COLUMN));
        fields.insert("where".to_owned(), events.collect());
    }
    if !did.figures.is_empty() {
        fields.insert("having".to_owned(), did.figures.iter().map(figure_tree).collect());
    }
    if let Some(within) = &did.within {
        fields.insert("within".to_owned(), json!(within));
    }
    if did.exact_window {
        fields.insert("exact_window".to_owned(), json!(true));
    }
    Value::Object(fields)
}

fn figure_tree(of: &FigureTest) -> Value {
    let mut fields = Map::new();
    let name = match &of.figure {
        Figure::Count => "count",
        Figure::Sum(column) => {
            fields.insert("column".to_owned(), json!(column));
            "sum"
        }
        Figure::First => "first",
        Figure::Last => "last",
    };
    fields.insert("figure".to_owned(), json!(name));
    match &of.test {
        Test::Compare(op, value) => {
            fields.insert("op".to_owned(), json!(name_of(*op)));
            fields.insert("value".to_owned(), literal(value));
        }
        Test::Between { low, high, negated } => {
            fields.insert(between(*negated).to_owned(), json!([literal(low), literal(high)]));
        }
    }
    Value::Object(fields)
}

fn name_of(op: CompareOp) -> Option<&'static str> {
    OPERATORS.iter().find(|(_, known)| *known == op).map(|(name, _)| *name)
}

fn between(negated: bool) -> &'static str {
    if negated { "not_between" } else { "between" }
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
            {"tag": "age", "not_between": [1, 2]},
            {"did": "visit"},
            {"did": "purchase",
                "where": [
                    {"any": [{"column": "category", "is": "shoes"}, {"column": "category", "is": "hats"}]},
                    {"column": "ts", "op": ">=", "value": "2026-11-01"},
                    {"column": "undeclared.extra.\"Coupon\"", "is": "X"},
                ],
                "having": [
                    {"figure": "count", "op": ">=", "value": 2},
                    {"figure": "sum", "column": "amount", "not_between": [1, 2.5]},
                    {"figure": "last", "op": "<", "value": "7 days ago"},
                ],
                "within": "30 days", "exact_window": true},
        ]});
        assert_eq!(
            from_json(&tree).expect("a tree").to_string(),
            "gender = 'f' AND age BETWEEN 25 AND 34 AND (interest IN ('yoga', 'golf') OR at_least(1, member, TRUE)) \
             AND NOT in_audience('kept') AND (city IS DISTINCT FROM 'ningbo') AND spend >= 12.5 \
             AND user_id NOT IN ('u1', '7') AND age NOT BETWEEN 1 AND 2 AND did('visit') \
             AND did('purchase', category = 'shoes' OR category = 'hats', ts >= '2026-11-01', undeclared.extra.\"Coupon\" = 'X', count >= 2, \
             sum(amount) NOT BETWEEN 1 AND 2.5, last < '7 days ago', within => '30 days', exact_window => TRUE)"
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
        assert_eq!(
            refused(json!({"did": "purchase", "where": [{"tag": "category", "is": "shoes"}]})),
            "/where/0/tag: `tag` does not belong here; write `column`"
        );
        assert_eq!(
            refused(json!({"column": "category", "is": "shoes"})),
            "/column: `column` does not belong here; write `tag`"
        );
        assert_eq!(
            refused(json!({"did": "purchase", "wihtin": "30 days"})),
            "/wihtin: unknown key `wihtin`; did you mean `within`?"
        );
        assert_eq!(
            refused(json!({"did": "purchase", "exact_window": true})),
            "/exact_window: it says how `within` is meant, and there is no `within`"
        );
        let having = |tree: Value| refused(json!({"did": "purchase", "having": [tree]}));
        assert_eq!(
            having(json!({"figure": "sums", "op": ">", "value": 1})),
            "/having/0/figure: unknown figure `sums`; known are count, sum, first, last"
        );
        assert_eq!(having(json!({"figure": "sum", "op": ">", "value": 1})), "/having/0: a sum needs a `column`");
        assert_eq!(
            having(json!({"figure": "count", "column": "a", "op": ">", "value": 1})),
            "/having/0/column: `count` has no column"
        );
        assert_eq!(having(json!({"figure": "count"})), "/having/0: a figure needs `op` and `value`, or `between`");
        assert_eq!(
            having(json!({"figure": "count", "betwen": [1, 2]})),
            "/having/0/betwen: unknown key `betwen`; did you mean `between`?"
        );
        assert_eq!(having(json!({"figure": "count", "between": [1]})), "/having/0/between: expected [from, to]");
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
            assert_eq!(to_json(&back), tree, "{expr}");
        }
    }
}
