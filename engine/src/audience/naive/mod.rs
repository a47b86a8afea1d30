//! The same meaning on plain maps: slow, obvious, and the oracle of the tests of every package.

mod event;

pub use event::{Event, NOW, meant, scan_figure, told_events, told_kinds};

use super::expr::{CompareOp, Expr, ExprKind, Literal};
use super::literal::{decimal, timestamp};
use super::parse::parse;
use super::predicate::Predicate;
use crate::catalog::{Catalog, TagType, Unit};
use crate::ids::TagId;
use crate::store::{Audience, Definition};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// A user of [`sample_catalog`], as plain values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: String,
    /// Values by tag name; a tag that is not there is NULL, empty or false.
    pub tags: BTreeMap<String, Value>,
    /// Uploaded lists the user is in, by list id.
    pub lists: BTreeSet<String>,
    /// The user's purchases.
    pub events: Vec<Event>,
}

/// A value of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "one per tag type")]
pub enum Value {
    Set(BTreeSet<String>),
    Enum(String),
    Flag(bool),
    Number(i64),
}

/// Two enums, a set, a flag, a number of every unit, and purchases.
pub fn sample_catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, tag_type) in [
        ("gender", TagType::Enum),
        ("city", TagType::Enum),
        ("interest", TagType::Set),
        ("member", TagType::Flag),
        ("age", TagType::Number(Unit::Integer)),
        ("spend", TagType::Number(Unit::Decimal { scale: 2 })),
        ("seen_at", TagType::Number(Unit::Timestamp)),
    ] {
        catalog.declare(name, tag_type).expect("good names");
    }
    catalog.declare_fact("purchase", event::sample_fact()).expect("a good fact");
    catalog
}

/// What SQL says of the expression for this user at [`NOW`]: true, false or NULL.
#[expect(clippy::manual_try_fold, reason = "NULL does not end AND and OR: a later operand may settle them")]
pub fn truth(expr: &Expr, user: &User, audiences: &BTreeMap<String, Audience>) -> Option<bool> {
    let inner = |expr: &Expr| truth(expr, user, audiences);
    match &expr.kind {
        ExprKind::Literal(value) => Some(*value),
        ExprKind::Flag(tag) => Some(user.tags.get(tag) == Some(&Value::Flag(true))),
        ExprKind::Not(of) => inner(of).map(|value| !value),
        ExprKind::And(of) => of.iter().map(inner).fold(Some(true), |all, one| match (all, one) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }),
        ExprKind::Or(of) => of.iter().map(inner).fold(Some(false), |any, one| match (any, one) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }),
        ExprKind::Xor(a, b) => Some(inner(a)? != inner(b)?),
        ExprKind::AtLeast { k, of } => {
            Some(of.iter().filter(|operand| inner(operand) == Some(true)).count() >= *k as usize)
        }
        ExprKind::UserIn { ids, negated } => Some(ids.contains(&user.id) != *negated),
        ExprKind::InAudience(name) => Some(match &audiences[name].definition {
            Definition::Uploaded { list_id, .. } => user.lists.contains(list_id),
            Definition::Expression(text) | Definition::Live { expression: text, .. } => {
                inner(&parse(text).expect("a saved audience parses")) == Some(true)
            }
        }),
        ExprKind::Did(did) => Some(event::did(did, user)),
        ExprKind::SimilarTo(_) => panic!("who is most like others cannot be told of one user alone"),
        ExprKind::IsNull { tag, negated } => {
            let never = tag == "interest" || tag == "member";
            Some((!never && !user.tags.contains_key(tag)) != *negated)
        }
        ExprKind::Compare { tag, op: CompareOp::IsDistinctFrom, value } => {
            Some(compare(user, tag, CompareOp::Equal, value) != Some(true))
        }
        ExprKind::Compare { tag, op: CompareOp::IsNotDistinctFrom, value } => {
            Some(compare(user, tag, CompareOp::Equal, value) == Some(true))
        }
        ExprKind::Compare { tag, op, value } => compare(user, tag, *op, value),
        ExprKind::In { tag, values, negated } => {
            let equal: Option<Vec<bool>> =
                values.iter().map(|value| compare(user, tag, CompareOp::Equal, value)).collect();
            Some(equal?.contains(&true) != *negated)
        }
        ExprKind::Between { tag, low, high, negated } => {
            let above = compare(user, tag, CompareOp::GreaterOrEqual, low)?;
            Some((above && compare(user, tag, CompareOp::LessOrEqual, high)?) != *negated)
        }
    }
}

fn compare(user: &User, tag: &str, op: CompareOp, value: &Literal) -> Option<bool> {
    let equality = |equal: bool| match op {
        CompareOp::Equal => equal,
        CompareOp::NotEqual => !equal,
        other => panic!("{other} between texts"),
    };
    let Literal::Text(text) = value else {
        if let Literal::Bool(value) = value {
            return Some(equality((user.tags.get(tag) == Some(&Value::Flag(true))) == *value));
        }
        return compare_number(user, tag, op, value);
    };
    match (tag, user.tags.get(tag)) {
        ("interest", Some(Value::Set(values))) => Some(equality(values.contains(text))),
        ("interest", _) => Some(equality(false)),
        ("seen_at", _) => compare_number(user, tag, op, value),
        (_, Some(Value::Enum(own))) => Some(equality(own == text)),
        _ => None,
    }
}

fn compare_number(user: &User, tag: &str, op: CompareOp, value: &Literal) -> Option<bool> {
    let Some(Value::Number(own)) = user.tags.get(tag) else { return None };
    let exact = match (tag, value) {
        ("spend", Literal::Number(digits)) => decimal(digits, 2),
        (_, Literal::Number(digits)) => decimal(digits, 0),
        (_, Literal::Text(text)) => timestamp(text),
        _ => None,
    }
    .expect("a literal of the tag's type");
    let order = match i128::from(*own).cmp(&exact.floor) {
        Ordering::Equal if !exact.exact => Ordering::Less,
        order => order,
    };
    Some(match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Less => order.is_lt(),
        CompareOp::LessOrEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterOrEqual => order.is_ge(),
        other => panic!("{other} is settled before"),
    })
}

/// Whether a predicate holds of a user.
pub fn fits(predicate: &Predicate, user: &User, catalog: &Catalog) -> bool {
    let value = |tag: &TagId| user.tags.get(catalog.name_of(*tag).expect("a declared tag"));
    let inner = |of: &Predicate| fits(of, user, catalog);
    match predicate {
        Predicate::All => true,
        Predicate::Nobody => false,
        Predicate::HasAny(tag, values) => match value(tag) {
            Some(Value::Enum(own)) => values.contains(own),
            Some(Value::Set(own)) => values.iter().any(|value| own.contains(value)),
            _ => false,
        },
        Predicate::Flag(tag) => value(tag) == Some(&Value::Flag(true)),
        Predicate::InRange(tag, range) => matches!(value(tag), Some(Value::Number(own)) if range.contains(*own)),
        Predicate::Known(tag) => value(tag).is_some(),
        Predicate::Listed(list) => user.lists.contains(list),
        Predicate::Users(ids) => ids.contains(&user.id),
        Predicate::Did(did) => event::fits(did, user, catalog),
        Predicate::Scan(scan) => event::fits_scan(scan, user, catalog),
        Predicate::Similar(_) => panic!("who is most like others cannot be told of one user alone"),
        Predicate::Given(_) => panic!("what is found in a snapshot says nothing of a user outside of it"),
        Predicate::And(of) => of.iter().all(inner),
        Predicate::Or(of) => of.iter().any(inner),
        Predicate::Xor(a, b) => inner(a) != inner(b),
        Predicate::AtLeast(k, of) => of.iter().filter(|operand| inner(operand)).count() >= *k as usize,
        Predicate::Not(of) => !inner(of),
    }
}

/// A seeded source of users and expressions over [`sample_catalog`] (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

const GENDERS: [&str; 3] = ["f", "m", "it's x"];
const CITIES: [&str; 5] = ["hangzhou", "ningbo", "", "湖州", "nowhere"];
const INTERESTS: [&str; 5] = ["yoga", "golf", "tennis", "chess", "Yoga"];
/// Some numbers at the borders, most of them small.
const NUMBERS: [i64; 4] = [i64::MIN, i64::MAX, -1, 0];

impl Random {
    /// A source that always gives the same for the same seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number from 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, values: &[&'a str]) -> &'a str {
        values[self.below(values.len() as u64) as usize]
    }

    /// A number of a tag, in its unit.
    pub fn number(&mut self, tag: &str) -> i64 {
        match tag {
            "seen_at" => 1_790_000_000_000_000 + self.below(60) as i64 * 43_200_000_000,
            _ if self.one_in(12) => NUMBERS[self.below(4) as usize],
            "spend" => self.below(3_000) as i64 - 500,
            _ => self.below(60) as i64 - 5,
        }
    }

    /// A user with some of the tags; its id is one of 50.
    pub fn user(&mut self) -> User {
        let mut user = User { id: format!("u{}", self.below(50)), ..User::default() };
        let mut put = |name: &str, value: Value| user.tags.insert(name.to_owned(), value);
        for (name, values) in [("gender", &GENDERS[..]), ("city", &CITIES[..4])] {
            if !self.one_in(4) {
                put(name, Value::Enum(self.of(values).to_owned()));
            }
        }
        for name in ["age", "spend", "seen_at"] {
            if !self.one_in(4) {
                put(name, Value::Number(self.number(name)));
            }
        }
        let interests: BTreeSet<String> =
            INTERESTS.iter().filter(|_| self.one_in(3)).map(|value| (*value).to_owned()).collect();
        put("interest", Value::Set(interests));
        put("member", Value::Flag(self.one_in(3)));
        if self.one_in(2) {
            user.events = (0..self.below(8)).map(|_| self.event()).collect();
        }
        user
    }

    /// An expression nested at most `depth` deep; the audiences `kept` and `nested` may occur in it.
    pub fn expression(&mut self, depth: u32) -> Expr {
        if depth == 0 || self.one_in(5) {
            return self.leaf();
        }
        let several = |random: &mut Random| -> Vec<Expr> {
            (0..2 + random.below(3)).map(|_| random.expression(depth - 1)).collect()
        };
        match self.below(9) {
            0..=2 => ExprKind::And(several(self)),
            3..=5 => ExprKind::Or(several(self)),
            6 => ExprKind::Not(Box::new(self.expression(depth - 1))),
            7 => ExprKind::Xor(Box::new(self.expression(depth - 1)), Box::new(self.expression(depth - 1))),
            _ => {
                let of = several(self);
                ExprKind::AtLeast { k: 1 + self.below(of.len() as u64) as u32, of }
            }
        }
        .into()
    }

    fn leaf(&mut self) -> Expr {
        let negated = self.one_in(3);
        let tag = self
            .of(&["gender", "city", "interest", "member", "age", "spend", "seen_at", "user", "audience", "did", "did"]);
        let name = tag.to_owned();
        let several = 1 + self.below(3);
        match (tag, self.below(6)) {
            ("user", _) => {
                let ids = (0..several * 3).map(|_| format!("u{}", self.below(60))).collect();
                ExprKind::UserIn { ids, negated }
            }
            ("did", _) => ExprKind::Did(Box::new(self.did())),
            ("audience", _) => ExprKind::InAudience(self.of(&["kept", "nested"]).to_owned()),
            ("member", 0..=2) => ExprKind::Flag(name),
            ("member", _) => {
                let op = if negated { CompareOp::NotEqual } else { CompareOp::Equal };
                ExprKind::Compare { tag: name, op, value: Literal::Bool(self.one_in(2)) }
            }
            (_, 0) => ExprKind::IsNull { tag: name, negated },
            (_, 1) => {
                let values = (0..several).map(|_| self.literal(tag)).collect();
                ExprKind::In { tag: name, values, negated }
            }
            ("age" | "spend" | "seen_at", 2) => {
                ExprKind::Between { tag: name, low: self.literal(tag), high: self.literal(tag), negated }
            }
            ("age" | "spend" | "seen_at", 3..) => {
                use CompareOp::{Greater, GreaterOrEqual, Less, LessOrEqual};
                let op = [Less, LessOrEqual, Greater, GreaterOrEqual][self.below(4) as usize];
                ExprKind::Compare { tag: name, op, value: self.literal(tag) }
            }
            _ => {
                use CompareOp::{Equal, IsDistinctFrom, IsNotDistinctFrom, NotEqual};
                let op = [Equal, NotEqual, IsDistinctFrom, IsNotDistinctFrom][self.below(4) as usize];
                ExprKind::Compare { tag: name, op, value: self.literal(tag) }
            }
        }
        .into()
    }

    fn literal(&mut self, tag: &str) -> Literal {
        match tag {
            "gender" => Literal::Text(self.of(&GENDERS).to_owned()),
            "city" => Literal::Text(self.of(&CITIES).to_owned()),
            "interest" => Literal::Text(self.of(&INTERESTS).to_owned()),
            "seen_at" => {
                let half_days = self.below(60);
                let hour = if half_days.is_multiple_of(2) { "00" } else { "12" };
                Literal::Text(format!("2026-{:02}-{:02}T{hour}:00:00Z", 9 + half_days / 56, 1 + half_days / 2 % 28))
            }
            "spend" => {
                let cents = self.number(tag);
                let fraction = if self.one_in(6) { "5" } else { "" };
                let sign = if cents < 0 { "-" } else { "" };
                let size = cents.unsigned_abs();
                Literal::Number(format!("{sign}{}.{:02}{fraction}", size / 100, size % 100))
            }
            _ => Literal::Number(self.number(tag).to_string()),
        }
    }
}
