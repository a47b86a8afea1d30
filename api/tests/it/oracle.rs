//! The audience language is SQL: whatever it is asked, Beluga and a plain SQL engine agree.
//!
//! The same random users go into a server through its REST door and into DataFusion as a wide table, NULLs included;
//! random expressions are put to both. What differs is spelling only: in SQL a set tag is a list column, and `at_least`
//! is a sum of cases.

use crate::support::TestServer;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use engine::audience::expr::{CompareOp, Expr, ExprKind, Literal};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

const GENDERS: [&str; 3] = ["f", "m", "it's x"];
const CITIES: [&str; 5] = ["hangzhou", "ningbo", "wenzhou", "", "湖州"];
const INTERESTS: [&str; 6] = ["yoga", "golf", "tennis", "chess", "go", "Yoga"];

#[derive(Clone, Debug, Default)]
struct User {
    id: String,
    gender: Option<&'static str>,
    city: Option<&'static str>,
    age: Option<i64>,
    /// Hundredths.
    spend: Option<i64>,
    /// Microseconds since 1970.
    seen_at: Option<i64>,
    member: bool,
    interest: BTreeSet<&'static str>,
}

#[test]
fn a_plain_sql_engine_agrees() {
    let seed = std::env::var("BELUGA_ORACLE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_120);
    let rounds = std::env::var("BELUGA_ORACLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut random = StdRng::seed_from_u64(seed);
    let users: Vec<User> = (0..1_500).map(|number| user(&mut random, number)).collect();

    let server = TestServer::start();
    server.put_catalog(&json!({"tags": {
        "gender": {"type": "enum"}, "city": {"type": "enum"}, "age": {"type": "number"},
        "spend": {"type": "number", "scale": 2}, "seen_at": {"type": "number", "unit": "timestamp"},
        "member": {"type": "flag"}, "interest": {"type": "set"},
    }}));
    load(&server, &users, &mut random);

    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    // Without optimizer rules: one of them folds `a IN (1) AND a IN (2)` to FALSE, though it is NULL where `a` is, and under
    // a further `<>` that is another answer.
    let plain = SessionStateBuilder::new().with_default_features().with_optimizer_rules(Vec::new()).build();
    let table = SessionContext::new_with_state(plain);
    table.register_batch("users", wide_table(&users)).expect("register the table");

    let mut nonempty = 0;
    for round in 0..rounds {
        let expr = boolean(&mut random, 4);
        let (ours, theirs) = (expr.to_string(), sql(&expr));
        let query = format!("SELECT user_id FROM users WHERE {theirs}");
        let expected = runtime.block_on(ids(&table, &query));
        let found: BTreeSet<String> = server.members(&ours).into_iter().collect();
        assert_eq!(found, expected, "seed {seed}, round {round}:\n  ours   {ours}\n  theirs {theirs}");
        assert_eq!(server.count(&ours), expected.len() as u64, "seed {seed}, round {round}: {ours}");
        nonempty += usize::from(!expected.is_empty() && expected.len() < users.len());
    }
    assert!(nonempty > rounds / 3, "the questions were too dull to prove anything: {nonempty} of {rounds}");
}

fn user(random: &mut StdRng, number: usize) -> User {
    let maybe = |random: &mut StdRng| random.random_bool(0.75);
    User {
        id: if number.is_multiple_of(3) { number.to_string() } else { format!("user-{number}") },
        gender: maybe(random).then(|| *GENDERS.choose(random).expect("not empty")),
        city: maybe(random).then(|| *CITIES.choose(random).expect("not empty")),
        age: maybe(random).then(|| random.random_range(-3..90)),
        spend: maybe(random).then(|| random.random_range(-5_000..50_000)),
        seen_at: maybe(random).then(|| random.random_range(0..40) * 43_200_000_000 + 1_790_000_000_000_000),
        member: random.random_bool(0.3),
        interest: INTERESTS.iter().filter(|_| random.random_bool(0.25)).copied().collect(),
    }
}

/// Sends the users in a random order and in two steps, of which the first is partly wrong, so that layers matter.
fn load(server: &TestServer, users: &[User], random: &mut StdRng) {
    let mut order: Vec<&User> = users.iter().collect();
    order.shuffle(random);
    let wrong: String = order
        .iter()
        .filter(|_| random.random_bool(0.5))
        .map(|user| {
            let set = json!({"gender": "m", "age": 1, "spend": 0.01, "member": true, "interest": ["golf", "tea"]});
            format!("{}\n", json!({"user_id": user.id, "set": set}))
        })
        .collect();
    server.post_tags(&wrong);
    server.settle();
    let right: String = order.iter().map(|user| format!("{}\n", line(user))).collect();
    server.post_tags(&right);
    server.settle();
}

fn line(user: &User) -> serde_json::Value {
    let mut set = serde_json::Map::new();
    set.insert("gender".into(), json!(user.gender));
    set.insert("city".into(), json!(user.city));
    set.insert("age".into(), json!(user.age));
    set.insert("spend".into(), json!(user.spend.map(|cents| cents as f64 / 100.0)));
    let seen_at = user.seen_at.map(|micros| jiff::Timestamp::from_microsecond(micros).expect("in range").to_string());
    set.insert("seen_at".into(), json!(seen_at));
    set.insert("member".into(), json!(user.member));
    set.insert("interest".into(), json!(user.interest));
    json!({"user_id": user.id, "set": set})
}

fn wide_table(users: &[User]) -> RecordBatch {
    let mut interest = ListBuilder::new(StringBuilder::new());
    for user in users {
        user.interest.iter().for_each(|value| interest.values().append_value(value));
        interest.append(true);
    }
    let decimals = users.iter().map(|user| user.spend.map(i128::from)).collect::<Decimal128Array>();
    let times = users.iter().map(|user| user.seen_at).collect::<TimestampMicrosecondArray>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(users.iter().map(|user| Some(user.id.as_str())).collect::<StringArray>())),
        ("gender", Arc::new(users.iter().map(|user| user.gender).collect::<StringArray>())),
        ("city", Arc::new(users.iter().map(|user| user.city).collect::<StringArray>())),
        ("age", Arc::new(users.iter().map(|user| user.age).collect::<Int64Array>())),
        ("spend", Arc::new(decimals.with_precision_and_scale(18, 2).expect("fits"))),
        ("seen_at", Arc::new(times.with_timezone("+00:00"))),
        ("member", Arc::new(users.iter().map(|user| Some(user.member)).collect::<BooleanArray>())),
        ("interest", Arc::new(interest.finish())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    debug_assert_eq!(fields[5].data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
        .expect("columns fit the schema")
}

async fn ids(table: &SessionContext, query: &str) -> BTreeSet<String> {
    let batches = table.sql(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let batches = batches.collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut found = BTreeSet::new();
    for batch in &batches {
        let ids = datafusion::arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("text");
        let ids = ids.as_any().downcast_ref::<StringArray>().expect("text");
        found.extend(ids.iter().flatten().map(str::to_owned));
    }
    found
}

// ---- random expressions

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: Default::default() }
}

fn boolean(random: &mut StdRng, depth: u32) -> Expr {
    if depth == 0 || random.random_bool(0.2) {
        return leaf(random);
    }
    let several = |random: &mut StdRng| {
        let count = random.random_range(2..=4);
        (0..count).map(|_| boolean(random, depth - 1)).collect::<Vec<_>>()
    };
    expr(match random.random_range(0..9) {
        0..=2 => ExprKind::And(several(random)),
        3..=5 => ExprKind::Or(several(random)),
        6 => ExprKind::Not(Box::new(boolean(random, depth - 1))),
        7 => ExprKind::Xor(Box::new(boolean(random, depth - 1)), Box::new(boolean(random, depth - 1))),
        _ => {
            let of = several(random);
            ExprKind::AtLeast { k: random.random_range(1..=of.len() as u32), of }
        }
    })
}

fn leaf(random: &mut StdRng) -> Expr {
    let negated = random.random_bool(0.3);
    let (tag, literal): (&str, fn(&mut StdRng) -> Literal) = *[
        ("gender", gender as fn(&mut StdRng) -> Literal),
        ("city", city),
        ("age", age),
        ("spend", spend),
        ("seen_at", time),
        ("interest", interest),
        ("member", flag),
        ("user_id", id),
    ]
    .choose(random)
    .expect("not empty");
    let ordered = ["age", "spend", "seen_at"].contains(&tag);
    let nullable = ordered || ["gender", "city"].contains(&tag);
    let tag = tag.to_owned();
    expr(match (tag.as_str(), random.random_range(0..5)) {
        ("member", 0..=2) => ExprKind::Flag(tag),
        ("member", _) => ExprKind::Compare { tag, op: CompareOp::Equal, value: Literal::Bool(random.random_bool(0.5)) },
        ("user_id", _) => {
            let ids = (0..random.random_range(1..5)).map(|_| random.random_range(0..1_600_usize));
            ExprKind::UserIn {
                ids: ids.map(|n| if n.is_multiple_of(3) { n.to_string() } else { format!("user-{n}") }).collect(),
                negated,
            }
        }
        (_, 0) if nullable => ExprKind::IsNull { tag, negated },
        (_, 1) if ordered => ExprKind::Between { tag, low: literal(random), high: literal(random), negated },
        (_, 2) => {
            ExprKind::In { tag, values: (0..random.random_range(1..4)).map(|_| literal(random)).collect(), negated }
        }
        _ => {
            use CompareOp::*;
            let all = [Equal, NotEqual, IsDistinctFrom, IsNotDistinctFrom, Less, LessOrEqual, Greater, GreaterOrEqual];
            let usable = match (ordered, nullable) {
                (true, _) => &all[..],
                (false, true) => &all[..4],
                (false, false) => &all[..2],
            };
            ExprKind::Compare { tag, op: *usable.choose(random).expect("not empty"), value: literal(random) }
        }
    })
}

fn text(values: &[&str], random: &mut StdRng) -> Literal {
    Literal::Text(if random.random_bool(0.05) {
        "nowhere".into()
    } else {
        (*values.choose(random).expect("not empty")).into()
    })
}

fn gender(random: &mut StdRng) -> Literal {
    text(&GENDERS, random)
}

fn city(random: &mut StdRng) -> Literal {
    text(&CITIES, random)
}

fn interest(random: &mut StdRng) -> Literal {
    text(&INTERESTS, random)
}

fn age(random: &mut StdRng) -> Literal {
    Literal::Number(random.random_range(-5..95).to_string())
}

fn spend(random: &mut StdRng) -> Literal {
    let cents: i64 = random.random_range(-6_000..52_000);
    let sign = if cents < 0 { "-" } else { "" };
    Literal::Number(format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100))
}

fn time(random: &mut StdRng) -> Literal {
    let micros = random.random_range(0..40) * 43_200_000_000 + 1_790_000_000_000_000;
    Literal::Text(jiff::Timestamp::from_microsecond(micros).expect("in range").to_string())
}

fn flag(random: &mut StdRng) -> Literal {
    Literal::Bool(random.random_bool(0.5))
}

fn id(random: &mut StdRng) -> Literal {
    Literal::Text(random.random_range(0..1_600).to_string())
}

// ---- the same in plain SQL

fn sql(expr: &Expr) -> String {
    let joined = |of: &[Expr], word: &str| format!("({})", of.iter().map(sql).collect::<Vec<_>>().join(word));
    match &expr.kind {
        ExprKind::Literal(value) => value.to_string(),
        ExprKind::Flag(tag) => tag.clone(),
        ExprKind::Compare { tag, op, value } if tag == "interest" => {
            let has = format!("array_has(interest, {})", literal(tag, value));
            if *op == CompareOp::Equal { has } else { format!("NOT {has}") }
        }
        // In parentheses: the parser takes everything behind `IS DISTINCT FROM` as its operand.
        ExprKind::Compare { tag, op, value } => format!("({tag} {} {})", operator(*op), literal(tag, value)),
        ExprKind::Between { tag, low, high, negated } => {
            format!("{tag} {}BETWEEN {} AND {}", not(*negated), literal(tag, low), literal(tag, high))
        }
        ExprKind::In { tag, values, negated } if tag == "interest" => {
            let has: Vec<_> =
                values.iter().map(|value| format!("array_has(interest, {})", literal(tag, value))).collect();
            format!("{}({})", not(*negated), has.join(" OR "))
        }
        ExprKind::In { tag, values, negated } => {
            let values: Vec<_> = values.iter().map(|value| literal(tag, value)).collect();
            format!("{tag} {}IN ({})", not(*negated), values.join(", "))
        }
        ExprKind::IsNull { tag, negated } => format!("{tag} IS {}NULL", not(*negated)),
        ExprKind::UserIn { ids, negated } => {
            let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
            format!("user_id {}IN ({})", not(*negated), ids.join(", "))
        }
        ExprKind::AtLeast { k, of } => {
            let cases: Vec<_> = of.iter().map(|one| format!("CASE WHEN {} THEN 1 ELSE 0 END", sql(one))).collect();
            format!("({}) >= {k}", cases.join(" + "))
        }
        ExprKind::And(of) => joined(of, " AND "),
        ExprKind::Or(of) => joined(of, " OR "),
        // `<>` on booleans, written out: DataFusion gives NULL if either side is NULL.
        ExprKind::Xor(a, b) => format!("(({}) <> ({}))", sql(a), sql(b)),
        ExprKind::Not(of) => format!("NOT ({})", sql(of)),
        other => unreachable!("not generated: {other:?}"),
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn operator(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "<>",
        CompareOp::Less => "<",
        CompareOp::LessOrEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterOrEqual => ">=",
        CompareOp::IsDistinctFrom => "IS DISTINCT FROM",
        CompareOp::IsNotDistinctFrom => "IS NOT DISTINCT FROM",
    }
}

fn literal(tag: &str, literal: &Literal) -> String {
    match literal {
        Literal::Text(text) if tag == "seen_at" => format!("TIMESTAMP '{text}'"),
        Literal::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Literal::Number(digits) if tag == "spend" => format!("CAST('{digits}' AS DECIMAL(18, 2))"),
        Literal::Number(digits) => digits.clone(),
        Literal::Bool(value) => value.to_string(),
    }
}
