//! Judgements of single users against what SQL says of plain users, part by part.

use super::*;
use crate::audience::expr::{CompareOp, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::naive::truth;

fn check_judgement(world: &World, user: &User, told: &Judgement) {
    let says = |expr: &Expr| truth(expr, user, &world.audiences);
    assert_eq!(told.truth, says(&told.expr), "{} of {user:?}", told.expr);
    match (&told.behind, &told.expr.kind) {
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
                assert_eq!(is(figure, op, number), Some(expected), "{figure:?} {value:?} of {} of {user:?}", told.expr);
            }
        }
        (Some(Behind::Holding(count)), _) => {
            assert_eq!(told.of.iter().filter(|of| of.truth == Some(true)).count(), *count as usize);
        }
        (Some(Behind::ToldBefore), _) => assert!(told.of.is_empty()),
        (Some(Behind::Uploaded | Behind::Similar { .. }) | None, _) => {}
        (behind, kind) => panic!("{behind:?} of {kind:?}"),
    }
    told.of.iter().for_each(|of| check_judgement(world, user, of));
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
                check_judgement(&world, user, &told);
            }
        }
    }
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
