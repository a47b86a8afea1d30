//! Judgements of single users against what SQL says of plain users, part by part.

use super::*;
use crate::audience::expr::{CompareOp, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::naive::truth;

/// Of an expression, the parts that it should have been told in.
fn parts(world: &World, expr: &Expr, told: &Judgement) -> Vec<Expr> {
    match &expr.kind {
        ExprKind::And(of) | ExprKind::Or(of) | ExprKind::AtLeast { of, .. } => of.clone(),
        ExprKind::Not(of) => vec![(**of).clone()],
        ExprKind::Xor(a, b) => vec![(**a).clone(), (**b).clone()],
        ExprKind::InAudience(name) if told.behind.is_none() => match &world.audiences[name].definition {
            Definition::Expression(text) => vec![parse(text).expect("parses")],
            other => panic!("{other:?}"),
        },
        _ => Vec::new(),
    }
}

fn check_judgement(world: &World, user: &User, told: &Judgement, expr: &Expr) {
    let says = |expr: &Expr| truth(expr, user, &world.audiences);
    assert_eq!(told.truth, says(expr), "{expr} of {user:?}");
    let text = expr.to_string();
    match told.text.strip_suffix('…') {
        Some(beginning) if text.len() > PART_BYTES_MAX => {
            assert!(text.starts_with(beginning) && beginning.len() + 4 > PART_BYTES_MAX, "{beginning} of {text}");
        }
        _ => assert_eq!(told.text, text),
    }
    match (&told.behind, &expr.kind) {
        (Some(Behind::Tag(tag, value)), _) => {
            let value = value.clone().map(|value| match value {
                UserValue::Set(values) => Value::Set(values.into_iter().collect()),
                UserValue::Enum(value) => Value::Enum(value),
                UserValue::Flag(value) => Value::Flag(value),
                UserValue::Number(value) => Value::Number(value),
            });
            let known = user.tags.get(tag).filter(|value| **value != Value::Set(BTreeSet::new()));
            assert_eq!(value.as_ref(), known, "{tag}");
        }
        (Some(Behind::Events(figures)), ExprKind::Did(did)) => {
            let is = |figure: &Figure, op: CompareOp, number: String| {
                let test = Test::Compare(op, Literal::Number(number));
                let figures = vec![FigureTest { figure: figure.clone(), test }];
                says(&ExprKind::Did(Box::new(crate::audience::expr::Did { figures, ..(**did).clone() })).into())
            };
            assert_eq!(figures[0].0, Figure::Count);
            for (figure, value) in figures {
                let (op, number, expected) = match value {
                    FigureValue::Exact(value, scale) => (CompareOp::Equal, format!("{value}e-{scale}"), true),
                    FigureValue::Float(value) => (CompareOp::Equal, value.to_string(), true),
                    FigureValue::None => (CompareOp::Greater, "-1e12".to_owned(), false),
                };
                assert_eq!(is(figure, op, number), Some(expected), "{figure:?} {value:?} of {expr} of {user:?}");
            }
        }
        (Some(Behind::Holding(count)), _) => {
            assert_eq!(told.of.iter().filter(|of| of.truth == Some(true)).count(), *count as usize);
        }
        (Some(Behind::ToldBefore), _) => assert!(told.of.is_empty()),
        (Some(Behind::Uploaded | Behind::Similar { .. }) | None, _) => {}
        (behind, kind) => panic!("{behind:?} of {kind:?}"),
    }
    let parts = parts(world, expr, told);
    assert_eq!(told.of.len(), parts.len(), "{expr}");
    told.of.iter().zip(&parts).for_each(|(of, part)| check_judgement(world, user, of, part));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_part_says_of_a_user_what_sql_says(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << shards);
        let snapshot = {
            world.store.put_audience("kept", world.audiences["kept"].clone()).expect("put");
            world.store.put_audience("nested", world.audiences["nested"].clone()).expect("put");
            world.store.publish().expect("publish");
            world.snapshot()
        };
        for _ in 0..6 {
            let expr = random.expression(3);
            prop_assert!(judge(&snapshot, &expr, "a stranger", NOW, &world.context()).expect("judged").is_none());
            for user in world.users.values().take(4) {
                let told = judge(&snapshot, &expr, &user.id, NOW, &world.context()).expect("judged").expect("known");
                check_judgement(&world, user, &told, &expr);
            }
        }
    }
}

fn judged(world: &World, text: &str) -> Result<Judgement, QueryError> {
    let user = world.users.values().next().expect("somebody");
    let expr = parse(text).expect("parses");
    Ok(judge(&world.snapshot(), &expr, &user.id, NOW, &world.context())?.expect("known"))
}

#[test]
fn what_no_question_may_have_no_explanation_has() {
    let world = World::new(&mut Random::new(3), 1);
    let scans = |count: usize| {
        let one = |at: usize| format!("did('purchase', amount > {at}.5, category = 'shoes')");
        (0..count).map(one).collect::<Vec<_>>().join(" OR ")
    };
    assert!(judged(&world, &scans(SCANS_MAX)).is_ok());
    assert!(judged(&world, &format!("{0} OR {0}", scans(SCANS_MAX))).is_ok(), "what stands there twice is asked once");
    for more in [scans(SCANS_MAX + 1), format!("FALSE AND ({})", scans(SCANS_MAX + 1))] {
        let error = judged(&world, &more).expect_err("one more");
        assert_eq!(error.to_string(), "the question needs 65 scans of events, and may need 64");
    }
}

#[test]
fn explanations_have_an_end() {
    let world = World::new(&mut Random::new(3), 1);
    let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "NOT (".repeat(depth), ")".repeat(depth));
    let told = judged(&world, &nested(PARTS_DEPTH_MAX - 1, "member")).expect("judged");
    let depth = std::iter::successors(Some(&told), |told| told.of.first()).count();
    assert_eq!(depth, PARTS_DEPTH_MAX);
    let error = judged(&world, &nested(PARTS_DEPTH_MAX, "member")).expect_err("too deep").to_string();
    assert!(
        error.starts_with("parts to be explained stand more than 60 deep in each other; explain a part"),
        "{error}"
    );
    // An operator does not repeat all that stands in it.
    let values: Vec<String> = (0..60_000).map(|at| format!("'ä{at}'")).collect();
    let long = format!("gender IN ({})", values.join(","));
    let told = judged(&world, &nested(50, &long)).expect("judged");
    let texts: Vec<&String> =
        std::iter::successors(Some(&told), |told| told.of.first()).map(|told| &told.text).collect();
    assert_eq!(texts.len(), 51);
    assert!(texts.iter().all(|text| text.len() <= PART_BYTES_MAX + '…'.len_utf8() && text.ends_with('…')));
    assert!(texts[50].starts_with("gender IN ('ä0', 'ä1'") && texts[0].starts_with("NOT "), "{}", texts[0]);
    let many = vec!["member"; PARTS_MAX].join(" OR ");
    let error = judged(&world, &many).expect_err("too many").to_string();
    assert!(error.starts_with("there are more than 10000 parts to be explained; explain a part"), "{error}");
    let many = vec!["member"; 50].join(" OR ");
    assert_eq!(judged(&world, &many).expect("judged").of.len(), 50);
}

/// The index counts events by value, and none without one: it cannot tell what a condition that is false of NULL leaves.
#[test]
fn events_without_a_value_fit_what_denies_that_they_have_one() {
    let mut random = Random::new(7);
    let world = World::new(&mut random, 2);
    let denied =
        ["category IS NOT NULL", "category IS NOT NULL AND category <> 'hats'", "category IS NOT DISTINCT FROM 'hats'"];
    for denied in denied {
        let expr = parse(&format!("did('purchase', NOT ({denied}))")).expect("parses");
        let predicate = bind(&expr, &world.catalog, &world.audiences, NOW).expect("binds");
        let says = |user: &&User| truth(&expr, user, &world.audiences) == Some(true);
        let expected = world.users.values().filter(says).count();
        let without = |user: &&User| user.events.iter().any(|event| event.category.is_none());
        assert!(world.users.values().any(|user| without(&user)), "somebody has an event without a category");
        let found = count(&world.snapshot(), &predicate, &world.context()).expect("counted");
        assert_eq!(found, expected as u64, "{denied}");
    }
}
