//! The mapping against another reader: what it finds is what walking over a tree of the record finds.

use super::path::{Path, shown_key};
use super::tests::{at, event, fact};
use super::*;
use crate::decode::EventDecoder;
use engine::update::UpdateBatch;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Few keys, so that paths lead somewhere.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "b.c", "", "\"", "\u{fc} d", "$set", "[0]"]).prop_map(str::to_owned)
}

fn record() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        (-1e300..1e300).prop_map(|value: f64| json!(value)),
        "\\PC{0,6}|[\\x00-\\x1f\"\\\\]{0,3}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            prop::collection::btree_map(key(), inner, 0..5).prop_map(|fields| json!(fields)),
        ]
    })
}

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// A way to a value of the record: each turn chooses a member or item. A last step, if any, most often leads nowhere.
fn way(record: &Value, turns: &[prop::sample::Index], last: Option<Step>) -> Vec<Step> {
    let (mut steps, mut value) = (Vec::new(), record);
    for turn in turns {
        let (step, next) = match value {
            Value::Object(members) if !members.is_empty() => {
                let (key, next) = members.iter().nth(turn.index(members.len())).expect("within");
                (Step::Key(key.clone()), next)
            }
            Value::Array(items) if !items.is_empty() => {
                let index = turn.index(items.len());
                (Step::Index(index), &items[index])
            }
            _ => break,
        };
        steps.push(step);
        value = next;
    }
    steps.extend(last);
    steps
}

fn turns() -> impl Strategy<Value = (Vec<prop::sample::Index>, Option<Step>)> {
    let step = prop_oneof![3 => key().prop_map(Step::Key), 1 => (0usize..4).prop_map(Step::Index)];
    let last = prop_oneof![3 => Just(None), 1 => step.prop_map(Some)];
    (prop::collection::vec(any::<prop::sample::Index>(), 0..6), last)
}

fn written(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) if path.is_empty() => path += &shown_key(key),
            Step::Key(key) => path += &format!(".{}", shown_key(key)),
            Step::Index(index) => path += &format!("[{index}]"),
        }
    }
    if path.is_empty() { "$record".to_owned() } else { path }
}

fn walked<'v>(record: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(record, |value, step| match step {
        Step::Key(key) => value.as_object()?.get(key),
        Step::Index(index) => value.as_array()?.get(*index),
    })
}

fn is_scalar(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_boolean()
}

/// The same JSON with some white space and escapes that need not be.
fn disguised(text: &str) -> String {
    text.replace("\"a\"", "\"\\u0061\"").replace("\":", "\" : ").replace("[0]", "\\u005b0]")
}

proptest! {
    #[test]
    fn finds_what_another_reader_finds(records in prop::collection::vec(record(), 1..4), extra in turns(), more in turns()) {
        let [extra, more] = [extra, more].map(|(turns, last)| way(&records[0], &turns, last));
        let mut definition = event(&[("extra", at(&written(&extra))), ("more", at(&written(&more)))]);
        definition.fields[0].1 = at("$key");
        let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
        let context = RecordContext { key: Some(b"u"), timestamp_ms: Some(0), ..RecordContext::default() };
        let mut decoder = EventDecoder::new(&fact(), 0);
        for record in &records {
            let text = serde_json::to_string(record).expect("JSON");
            for text in [disguised(&text), text] {
                let mut line = String::new();
                prop_assert_eq!(mapping.apply(text.as_bytes(), &context, &mut line), Ok(Mapped::Line), "{}", text);
                let read: Value = serde_json::from_str(&line).expect("a line is JSON");
                let mut expected = json!({"user_id": "u", "ts": 0});
                // The same numbers, read again.
                let record: Value = serde_json::from_str(&text).expect("JSON");
                for (name, steps) in [("extra", &extra), ("more", &more)] {
                    if let Some(value) = walked(&record, steps).filter(|value| !value.is_null()) {
                        expected[name] = value.clone();
                    }
                }
                prop_assert_eq!(read, expected);
                prop_assert!(decoder.decode(line.as_bytes(), &mut UpdateBatch::new()).is_ok(), "{}", line);
            }
        }
    }

    #[test]
    fn conditions_agree_with_another_reader(record in record(), (turns, last) in turns(), value in any::<i8>()) {
        let steps = way(&record, &turns, last);
        let path = written(&steps);
        let found = walked(&record, &steps);
        let tests = [
            (Test::Exists(true), found.is_some()),
            (Test::IsNull(true), found.is_none_or(Value::is_null)),
            (Test::Equals(found.filter(|found| is_scalar(found)).unwrap_or(&json!(value)).to_string()), found.is_some_and(is_scalar) || found == Some(&json!(value))),
            (Test::Equals(value.to_string()), found == Some(&json!(value))),
            (Test::In(vec!["true".to_owned(), "\"\"".to_owned()]), [Some(&json!(true)), Some(&json!(""))].contains(&found)),
        ];
        for (test, expected) in tests {
            let mut definition = event(&[]);
            definition.fields[0].1 = at("$key");
            definition.conditions.push(Condition::Field { path: path.clone(), test });
            let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
            let context = RecordContext { key: Some(b"u"), timestamp_ms: Some(0), ..RecordContext::default() };
            let mapped = mapping.apply(record.to_string().as_bytes(), &context, &mut String::new()).expect("JSON");
            prop_assert_eq!(mapped == Mapped::Line, expected, "{:?}", definition.conditions);
        }
    }

    /// A record that is taken is JSON and makes a line that is; none panics.
    #[test]
    fn takes_only_json(damage in "[{}\\[\\]\",:a-z_0-9u\\\\.-]{0,6}", at_byte in 0usize..120, cut in 0usize..4) {
        let good = r#"{"u":"u1","t":1795168800000,"a":{"b":["sho\u0065s",{"c":"12.50"}],"d":null},"e":[1,"2",true],"x":-0.5e3}"#;
        let at_byte = at_byte.min(good.len());
        let record = format!("{}{damage}{}", &good[..at_byte], good.get(at_byte + cut..).unwrap_or(""));
        let as_text = MappedField { cast: Some(Cast::String), ..at("e") };
        let as_number = MappedField { cast: Some(Cast::Number), ..at("a.b[1].c") };
        let seconds = MappedField { unit: Some(TimeUnit::Seconds), ..at("t") };
        let mut definition = event(&[("ts", seconds), ("extra", as_text), ("amount", as_number), ("category", at("a.b[0]"))]);
        definition.keep_others = true;
        definition.conditions.push(Condition::Field { path: "x".to_owned(), test: Test::Compare(Comparison::Less, "1".to_owned()) });
        let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
        let mut line = String::new();
        // The other reader refuses numbers beyond a float, which a field may have.
        let is_json = |text: &str| match serde_json::from_str::<Value>(text) {
            Ok(_) => true,
            Err(error) => error.to_string().contains("number out of range"),
        };
        match mapping.apply(record.as_bytes(), &RecordContext::default(), &mut line) {
            Ok(Mapped::Line) => {
                prop_assert!(is_json(&record) && is_json(&line), "{} {}", record, line);
                if let Err(error) = EventDecoder::new(&fact(), 0).decode(line.as_bytes(), &mut UpdateBatch::new()) {
                    let column = mapping.in_record(error).column;
                    prop_assert!(column.is_none_or(|column| column <= record.len()), "{} {:?}", record, column);
                }
            }
            Ok(Mapped::FilteredOut) => prop_assert!(is_json(&record)),
            Err(error) => prop_assert!(error.column.is_none_or(|column| column <= record.len() + 1), "{:?}", error),
        }
    }

    #[test]
    fn no_path_panics(text in "[ab.\\[\\]0-9\"\\\\$*\u{fc} -]{0,12}|\\PC{0,12}") {
        if let Err(error) = Path::parse(&text) {
            prop_assert!(error.column.is_some_and(|column| column <= text.len() + 1), "{:?} {:?}", text, error);
        }
    }
}
