//! Expressions against the slow twin, and batches against their rows one by one.

use super::naive::{Fails, Number, Text, Truth, digits};
use super::tests::compute;
use engine::computed::Wanted;
use proptest::prelude::*;
use serde_json::{Value, json};

fn number() -> BoxedStrategy<Number> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["a", "b", "c"]).prop_map(Number::Path),
        (-500i64..500).prop_map(Number::Literal),
        prop::sample::select(vec!["s", "t"]).prop_map(|path| Number::Length(Box::new(Text::Path(path)))),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let pair = (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            pair.clone().prop_map(|(a, b)| Number::Add(a, b)),
            pair.clone().prop_map(|(a, b)| Number::Subtract(a, b)),
            pair.clone().prop_map(|(a, b)| Number::Multiply(a, b)),
            pair.clone().prop_map(|(a, b)| Number::Divide(a, b)),
            pair.clone().prop_map(|(a, b)| Number::Remainder(a, b)),
            pair.clone().prop_map(|(a, b)| Number::Coalesce(a, b)),
            inner.prop_map(|a| Number::Negate(Box::new(a))),
            (truth_of(pair.clone().boxed()), pair).prop_map(|(when, (a, b))| Number::Case(Box::new(when), a, b)),
        ]
    })
    .boxed()
}

fn truth_of(pair: BoxedStrategy<(Box<Number>, Box<Number>)>) -> BoxedStrategy<Truth> {
    prop_oneof![
        prop::sample::select(vec!["f", "g"]).prop_map(Truth::Path),
        pair.clone().prop_map(|(a, b)| Truth::Less(a, b)),
        pair.clone().prop_map(|(a, b)| Truth::Equal(a, b)),
        pair.prop_map(|(a, _)| Truth::IsNull(a)),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<Text> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["s", "t", "a"]).prop_map(Text::Path),
        prop::sample::select(vec!["", "x", "it's", "ü\"\\", "1"]).prop_map(Text::Literal),
        number().prop_map(|number| Text::Digits(Box::new(number))),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Text::Join(Box::new(a), Box::new(b))),
            inner.prop_map(|a| Text::Upper(Box::new(a))),
        ]
    })
    .boxed()
}

fn truth() -> BoxedStrategy<Truth> {
    let numbers = (number().prop_map(Box::new), number().prop_map(Box::new)).boxed();
    let texts = (text(), text()).prop_map(|(a, b)| Truth::SameText(Box::new(a), Box::new(b)));
    prop_oneof![3 => truth_of(numbers), 1 => texts]
        .prop_recursive(3, 8, 2, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Truth::And(Box::new(a), Box::new(b))),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Truth::Or(Box::new(a), Box::new(b))),
                inner.prop_map(|a| Truth::Not(Box::new(a))),
            ]
        })
        .boxed()
}

fn record() -> impl Strategy<Value = Value> {
    let number = || {
        prop_oneof![
            Just(json!(null)),
            Just(json!(0)),
            Just(json!(99_999_999_999_999_999i64)),
            (-3000i64..3000).prop_map(|value| json!(value)),
            (-3000i64..3000).prop_map(|value| json!(value as f64 / 100.0)),
        ]
    };
    let text = || prop::sample::select(vec![json!(null), json!(""), json!("x"), json!("X1"), json!("ü\"\\")]);
    let truth = || prop::sample::select(vec![json!(null), json!(true), json!(false)]);
    (number(), number(), number(), text(), text(), truth(), truth())
        .prop_map(|(a, b, c, s, t, f, g)| json!({"a": a, "b": b, "c": c, "s": s, "t": t, "f": f, "g": g}))
}

/// What the twin says, as an expression's answer is shown; an error is one whatever it says.
fn shown(answer: Result<Option<String>, Fails>) -> String {
    match answer {
        Ok(None) => "NULL".to_owned(),
        Ok(Some(value)) => value,
        Err(Fails) => "error".to_owned(),
    }
}

fn without_reasons(answers: Vec<String>) -> Vec<String> {
    answers.into_iter().map(|answer| if answer.starts_with("error: ") { "error".to_owned() } else { answer }).collect()
}

/// Whether the expression is refused as a whole, rightly: it has a value of no record.
fn is_refused(answers: &[String], expected: &[String]) -> bool {
    let is_whole = matches!(answers, [only] if only.starts_with("refused: "));
    is_whole && expected.iter().all(|value| value == "error" || value == "NULL")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn numbers_agree(number in number(), records in prop::collection::vec(record(), 1..12)) {
        let expected: Vec<String> =
            records.iter().map(|record| shown(number.value(record).map(|value| value.map(digits)))).collect();
        let answers = compute(&format!("0 + {}", number.sql()), Wanted::Number, &records);
        prop_assume!(!is_refused(&answers, &expected));
        prop_assert_eq!(without_reasons(answers), expected, "{}", number.sql());
    }

    #[test]
    fn conditions_agree(truth in truth(), records in prop::collection::vec(record(), 1..12)) {
        let expected: Vec<String> =
            records.iter().map(|record| shown(truth.value(record).map(|value| value.map(|value| value.to_string())))).collect();
        let answers = without_reasons(compute(&truth.sql(), Wanted::Boolean, &records));
        prop_assume!(!is_refused(&answers, &expected));
        prop_assert_eq!(answers.len(), expected.len(), "{}: {:?}", truth.sql(), answers);
        for (answer, expected) in answers.iter().zip(&expected) {
            // What is not needed need not be computed: the other side of AND may tell, or the type of what is asked for NULL.
            prop_assert!(answer == expected || expected == "error", "{}: {} {}", truth.sql(), answer, expected);
        }
    }

    #[test]
    fn texts_agree(text in text(), records in prop::collection::vec(record(), 1..12)) {
        let expected: Vec<String> = (records.iter())
            .map(|record| shown(text.value(record).map(|value| value.map(|value| json!(value).to_string()))))
            .collect();
        let answers = compute(&text.sql(), Wanted::Text, &records);
        prop_assume!(!is_refused(&answers, &expected));
        prop_assert_eq!(without_reasons(answers), expected, "{}", text.sql());
    }

    #[test]
    fn a_row_is_the_same_in_any_batch(truth in truth(), number in number(), records in prop::collection::vec(record(), 1..40)) {
        let sql = format!("CASE WHEN {} THEN 0 + {} ELSE 1 / {} END", truth.sql(), number.sql(), number.sql());
        let together = compute(&sql, Wanted::Number, &records);
        for (record, answer) in records.iter().zip(&together) {
            let alone = compute(&sql, Wanted::Number, std::slice::from_ref(record));
            prop_assert_eq!(&alone[0], answer, "{}", &sql);
        }
    }

    #[test]
    fn no_text_panics(text in "[a-c0-9 ()+*/'\".,:<>=|$\\[\\]-]{0,24}") {
        compute(&text, Wanted::Any, &[json!({"a": 1, "b": "x"})]);
    }
}
