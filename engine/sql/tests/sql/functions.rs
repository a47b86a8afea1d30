//! `did(…)`, `at_least(…)` and `in_audience(…)` in SQL mean what they mean in the audience language.

use crate::joins::{Plain, on_event, on_user, some_world, sorted};
use crate::support::World;
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use engine::audience::expr::{Expr, ExprKind};
use engine::audience::naive::{NOW, Random};
use engine::audience::{bind, ops, parse};
use engine::store::{Audience, Definition};
use engine_sql::session::{SqlError, SqlErrorKind};
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;

pub(crate) fn save(world: &World, name: &str, text: &str) {
    let definition = Definition::Expression(parse(text).expect("parses").to_string());
    world.store.put_audience(name, Audience { definition, description: String::new(), changed_at: 0 }).expect("saved");
    world.store.publish().expect("publish");
}

/// Who fits, by the engine's own way.
fn members(world: &World, text: &str) -> HashSet<String> {
    let snapshot = world.store.snapshot();
    let predicate = bind(&parse(text).expect("parses"), snapshot.catalog(), snapshot.audiences(), NOW).expect("binds");
    let page = ops::members(&snapshot, &predicate, None, usize::MAX, &world.context()).expect("answers");
    page.users.into_iter().collect()
}

/// A call, in the words of the audience language.
fn call(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("in_audience('{}')", if random.one_in(2) { "vip" } else { "buyers" }),
        1 => {
            let of: Vec<Expr> =
                (0..3).map(|_| random.expression(1)).filter(|of| !has_audience(&of.to_string())).collect();
            match of.len() {
                0 => "at_least(1, member, gender = 'f')".to_owned(),
                count => Expr::from(ExprKind::AtLeast { k: 1 + random.below(count as u64) as u32, of }).to_string(),
            }
        }
        _ => Expr::from(ExprKind::Did(Box::new(random.did()))).to_string(),
    }
}

/// The random ones are of audiences that are not saved here.
fn has_audience(text: &str) -> bool {
    text.contains("in_audience")
}

/// A statement with `#`, or `u.#`, in place of a call.
fn statement(random: &mut Random) -> String {
    let not = if random.one_in(3) { "NOT " } else { "" };
    let and = if random.one_in(3) { "OR" } else { "AND" };
    match random.below(11) {
        0 => format!("SELECT count(*) FROM users WHERE {not}#"),
        1 => format!("SELECT user_id FROM users WHERE {not}# {and} ({})", on_user(random, "")),
        2 => format!("SELECT user_id, {not}# AS fits FROM users WHERE {}", on_user(random, "")),
        3 => "SELECT # AS fits, count(*) FROM users GROUP BY #".to_owned(),
        4 => format!("SELECT count(*), sum(amount) FROM purchase WHERE {not}# AND ({})", on_event(random, "")),
        5 => format!("SELECT count(*), sum(amount) FROM purchase WHERE {not}# OR ({})", on_event(random, "")),
        6 => format!(
            "SELECT category, sum(p.amount) FROM purchase p JOIN users u USING (user_id) WHERE {not}u.# GROUP BY 1"
        ),
        7 => format!(
            "SELECT p.user_id, u.age, u.# AS fits FROM purchase p LEFT JOIN users u ON u.user_id = p.user_id AND u.age > 30 WHERE {}",
            on_event(random, "p.")
        ),
        8 => format!(
            "SELECT count(*) FILTER (WHERE #) AS n, sum(CASE WHEN # THEN age ELSE 1 END) AS s FROM users WHERE {}",
            on_user(random, "")
        ),
        9 => format!(
            "SELECT count(*) FROM purchase WHERE user_id IN (SELECT user_id FROM users WHERE {not}# {and} age > 20)"
        ),
        _ => format!("SELECT a.user_id, b.user_id FROM users a JOIN users b ON a.age = b.age WHERE a.# AND {not}b.#"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn calls_mean_what_the_audience_language_says(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = some_world(&mut random, 1 << (2 * shards));
        save(&world, "vip", "spend > 5 OR member");
        save(&world, "buyers", "did('purchase', category = 'shoes') AND NOT in_audience('vip')");
        let plain = Plain::of(&world);
        for _ in 0..25 {
            let (call, text) = (call(&mut random), statement(&mut random));
            let expected = members(&world, &call);
            let fits = move |arguments: &[ColumnarValue]| {
                let ids = ColumnarValue::values_to_arrays(arguments)?.remove(0);
                let answers = ids.as_string::<i32>().iter().map(|id| id.map(|id| expected.contains(id)));
                Ok(ColumnarValue::Array(Arc::new(answers.collect::<BooleanArray>()) as ArrayRef))
            };
            plain.session.register_udf(create_udf("fits", vec![DataType::Utf8], DataType::Boolean, Volatility::Stable, Arc::new(fits)));
            let asked = text.replace('#', &call);
            let mut other = text.clone();
            for table in ["a.", "b.", "u."] {
                other = other.replace(&format!("{table}#"), &format!("fits({table}user_id)"));
            }
            let other = other.replace('#', "fits(user_id)");
            let found = world.try_ask(&asked).map(|batches| sorted(&batches)).map_err(|error| error.to_string());
            match (found, plain.ask(&other).map(|batches| sorted(&batches))) {
                (Ok(found), Ok(expected)) => prop_assert_eq!(found, expected, "{}", asked),
                (Ok(_), Err(error)) if error.contains("table 'datafusion.public") => {}
                (found, expected) => prop_assert!(false, "{asked}: {found:?} and not {expected:?}"),
            }
        }
    }
}

fn some() -> World {
    let world = some_world(&mut Random::new(3), 4);
    save(&world, "vip", "spend > 5 OR member");
    world
}

#[test]
fn calls_become_parts_of_the_program() {
    let world = some();
    for (filter, program) in [
        ("did('purchase', count >= 2)", "where=did('purchase', count >= 2"),
        ("NOT DID('purchase')", "NOT did('purchase'"),
        ("in_audience('vip') AND gender = 'f'", "gender = 'f' AND"),
        ("at_least(2, member, gender = 'f', age < 30) OR age > 50", "at_least(2,"),
        ("users.did('purchase', category = 'shoes' , within => '30 days')", "did('purchase', category IN ('shoes')"),
    ] {
        let plan = world.plan(&format!("SELECT count(*) FROM users WHERE {filter}"));
        assert!(plan.contains("UsersExec: count") && plan.contains(program), "{filter}: {plan}");
        assert!(!plan.contains("FilterExec"), "{filter}: {plan}");
    }
    let plan =
        world.plan("SELECT sum(amount) FROM purchase WHERE in_audience('vip') AND NOT did('purchase', count > 5)");
    assert!(plan.contains("FactExec: purchase") && !plan.contains("FilterExec"), "{plan}");
    let names = world.try_ask("SELECT did('purchase', count >= 2) FROM users LIMIT 1").expect("answers");
    assert_eq!(names[0].schema().field(0).name(), "did('purchase', count >= 2)");
}

#[test]
fn a_name_is_not_taken_for_a_call() {
    let world = some();
    assert_eq!(world.ask("SELECT 'did(x)', \"did\" FROM (VALUES (1)) AS t(did)"), ["did(x) | 1"]);
    assert_eq!(world.ask("WITH did(a) AS (SELECT 1) SELECT a FROM did"), ["1"]);
    assert_eq!(world.ask("SELECT did.a FROM (VALUES (1)) AS did(a)"), ["1"]);
}

fn refused(world: &World, text: &str) -> (SqlError, String) {
    let error = world.refused(text);
    let place = error.span.clone().map(|span| text[span].to_owned()).unwrap_or_default();
    (error, place)
}

#[test]
fn what_is_wrong_with_a_call_is_told_where_it_stands() {
    let world = some();
    let check = |text: &str, kind: SqlErrorKind, place: &str, says: &str| {
        let (error, found) = refused(&world, text);
        assert_eq!((error.kind.clone(), found.as_str()), (kind, place), "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    };
    let unknown = SqlErrorKind::UnknownTable;
    check("SELECT 1 FROM users WHERE did('purchases')", unknown, "did('purchases')", "did you mean 'purchase'");
    let text = "SELECT 1\nFROM users WHERE age > 1 AND\n did('purchase', categry = 'shoes')";
    let (error, _) = refused(&world, text);
    assert!(error.kind == SqlErrorKind::UnknownColumn && error.to_string().contains("category"), "{error}");
    assert!(error.span.is_some_and(|span| text[span].contains("categry")), "{text}");
    check("SELECT 1 FROM users WHERE in_audience('vipp')", SqlErrorKind::Invalid, "in_audience('vipp')", "vip");
    check(
        "SELECT count(*) FROM users WHERE at_least(1, gendr = 'f')",
        SqlErrorKind::UnknownColumn,
        "gendr = 'f'",
        "did you mean `gender`",
    );
    let (error, place) = refused(&world, "SELECT did('purchase')");
    assert!(error.to_string().contains("user_id") && place == "did", "{error} {place}");
    let two = "SELECT 1 FROM users a, users b WHERE did('purchase')";
    let (error, place) = refused(&world, two);
    assert!(error.to_string().contains("users.did(") && place == "did", "{error} {place}");
    let (error, _) = refused(&world, "SELECT \"did\"('purchase', user_id) FROM users");
    assert!(error.to_string().contains("without quotes"), "{error}");
    let many = vec!["did('purchase')"; 300].join(" AND ");
    let (error, _) = refused(&world, &format!("SELECT 1 FROM users WHERE {many}"));
    assert_eq!(error.kind, SqlErrorKind::TooLarge, "{error}");
}

#[test]
fn members_are_the_users_of_audiences() {
    let world = some();
    save(&world, "young", "age < 30");
    save(&world, "buyers", "did('purchase', category = 'shoes') AND NOT in_audience('vip')");
    let of = |name: &str| members(&world, &format!("in_audience('{name}')"));
    for name in ["buyers", "vip", "young"] {
        let mut expected: Vec<String> = of(name).into_iter().collect();
        expected.sort();
        assert_eq!(world.ask(&format!("SELECT user_id FROM members WHERE audience = '{name}' ORDER BY 1")), expected);
    }
    let counts =
        "SELECT audience, count(*) FROM members WHERE audience LIKE '%y%' OR audience = 'vip' GROUP BY 1 ORDER BY 1";
    let expected = ["buyers", "vip", "young"].map(|name| format!("{name} | {}", of(name).len()));
    assert_eq!(world.ask(counts), expected.into_iter().filter(|row| !row.ends_with(" 0")).collect::<Vec<_>>());
    assert_eq!(world.ask("SELECT count(*) FROM members WHERE audience = 'nobody'"), ["0"]);
    let joined = "SELECT m.audience, count(*), sum(p.amount) FROM purchase p JOIN members m USING (user_id) WHERE m.audience IN \
                  ('vip', 'young') GROUP BY 1 ORDER BY 1";
    let plan = world.plan(joined);
    assert_eq!(plan.matches("FactExec: purchase").count(), 1, "{plan}");
    let each = ["vip", "young"].map(|name| {
        let text = format!("SELECT '{name}', count(*), sum(amount) FROM purchase WHERE in_audience('{name}')");
        world.ask(&text).remove(0)
    });
    assert_eq!(world.ask(joined), each);
}
