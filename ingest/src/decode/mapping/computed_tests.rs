//! Expressions in mappings, in a language of sums: `a + b` of numbers, `a is b` of texts, `a` of true and false, `a > b`.

use super::tests::{event, fact};
use super::*;
use engine::computed::{Answers, Column, Computation, ExpressionError, Input, Language, Reading, Rows, Wanted};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// Knows how many rows its computations were asked for at a time.
#[derive(Debug, Default)]
struct Sums {
    asked: Mutex<Vec<usize>>,
}

#[derive(Debug)]
struct Sum {
    language: Arc<Sums>,
    operator: &'static str,
    inputs: Vec<Input>,
}

/// Shared, so that computations reach the language.
#[derive(Debug)]
struct Shared(Arc<Sums>);

impl Language for Shared {
    fn compile(&self, text: &str, wanted: Wanted) -> Result<Arc<dyn Computation>, ExpressionError> {
        let Some(operator) = [" + ", " is ", " > ", ""].into_iter().find(|operator| text.contains(operator)) else {
            return Err(ExpressionError::new("no operator"));
        };
        if text == "wrong" {
            return Err(ExpressionError {
                column: Some(3),
                ..ExpressionError::new("it is wrong").suggest("write a + b")
            });
        }
        let reading = match operator {
            " is " => Reading::Text,
            "" if wanted == Wanted::Boolean => Reading::Boolean,
            _ => Reading::Number,
        };
        let parts: Vec<&str> = if operator.is_empty() { vec![text] } else { text.split(operator).collect() };
        let inputs = parts.into_iter().map(|path| Input { path: path.to_owned(), reading }).collect();
        Ok(Arc::new(Sum { language: self.0.clone(), operator, inputs }))
    }
}

impl Computation for Sum {
    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn compute(&self, rows: &Rows, answers: &mut Answers) {
        self.language.asked.lock().expect("no test panics here").push(rows.count);
        for row in 0..rows.count {
            match self.compute_row(rows, row) {
                Ok(None) => answers.push_null(),
                Ok(Some(value)) => answers
                    .push_value(|out| {
                        out.push_str(&value);
                        Ok::<(), ()>(())
                    })
                    .expect("written"),
                Err(why) => answers.push_refused(why),
            }
        }
    }
}

impl Sum {
    fn compute_row(&self, rows: &Rows, row: usize) -> Result<Option<String>, &'static str> {
        let one = 10i128.pow(18);
        let numbers: Option<Vec<i128>> = rows
            .columns
            .iter()
            .map(|column| match column {
                Column::Numbers(values) => values[row].map(|value| value / one),
                Column::Booleans(values) => values[row].map(i128::from),
                Column::Texts { valid, .. } => valid[row].then_some(0),
            })
            .collect();
        let Some(numbers) = numbers else { return Ok(None) };
        if numbers.iter().sum::<i128>() == 13 {
            return Err("unlucky");
        }
        Ok(Some(match self.operator {
            " + " => numbers.iter().sum::<i128>().to_string(),
            " > " => (numbers[0] > numbers[1]).to_string(),
            " is " => rows.columns.windows(2).all(|pair| text(&pair[0], row) == text(&pair[1], row)).to_string(),
            _ if matches!(rows.columns[0], Column::Booleans(_)) => (numbers[0] == 1).to_string(),
            _ => numbers[0].to_string(),
        }))
    }
}

fn text(column: &Column, row: usize) -> &str {
    let Column::Texts { bytes, ends, .. } = column else { panic!("texts are read as texts") };
    &bytes[row.checked_sub(1).map_or(0, |before| ends[before])..ends[row]]
}

fn sum(text: &str) -> Expression {
    Expression::new(text, Arc::new(Shared(Arc::default())))
}

fn with(fields: &[(&str, &str)], conditions: &[&str]) -> FactMapping {
    with_language(fields, conditions, &Arc::default())
}

fn with_language(fields: &[(&str, &str)], conditions: &[&str], language: &Arc<Sums>) -> FactMapping {
    let made = |text: &str| Expression::new(text, Arc::new(Shared(language.clone())));
    let fields: Vec<(&str, MappedField)> =
        fields.iter().map(|(name, text)| (*name, MappedField::computed(made(text)))).collect();
    let conditions = conditions.iter().map(|text| Condition::Computed(made(text))).collect();
    FactMapping { conditions, ..event(&[&[("ts", MappedField::path("t"))], fields.as_slice()].concat()) }
}

fn context() -> RecordContext<'static> {
    RecordContext { offset: 9, partition: "t/0", ..RecordContext::default() }
}

fn apply(mapping: &mut Mapping, record: &str) -> String {
    let mut line = String::new();
    match mapping.apply(record.as_bytes(), &context(), &mut line) {
        Ok(Mapped::Line) => line,
        Ok(Mapped::FilteredOut) => "filtered out".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind),
    }
}

#[track_caller]
fn check(definition: &FactMapping, fields: &str, expected: &str) {
    let mut mapping = Mapping::to_fact(definition, &fact()).expect("a mapping that can be");
    let record = format!("{{\"u\":\"v\",\"t\":1,{fields}}}");
    let line = apply(&mut mapping, &record);
    let member = line.strip_prefix(r#"{"user_id":"v","ts":1"#).and_then(|rest| rest.strip_suffix('}'));
    assert_eq!(member.unwrap_or(&line), expected, "{fields}");
    // Together with others it is the same.
    let other = r#"{"u":"w","t":2,"a":5,"b":6}"#;
    mapping.prepare([other, &record, other].map(|record| (record.as_bytes(), context())));
    let others = [apply(&mut mapping, other), apply(&mut mapping, &record), apply(&mut mapping, other)];
    assert_eq!((&others[1], &others[0]), (&line, &others[2]));
}

#[test]
fn what_is_computed_is_written() {
    let definition = with(&[("amount", "a + b")], &[]);
    check(&definition, r#""a":1,"b":2"#, r#","amount":3"#);
    check(&definition, r#""a":"1.0","b":true"#, r#","amount":2"#);
    check(&definition, r#""a":1,"b":null"#, "");
    check(&definition, r#""b":1"#, "");
    let refused =
        "Type: `amount`: `b` is `x`, not a number (column 26); say what becomes of it, as in try_cast(b AS decimal)";
    check(&definition, r#""a":1,"b":"x""#, refused);
    let refused = "Value: `amount`: `a` is `1e-30`, with more than 18 digits behind the point (column 20); write a::double for a \
        float";
    check(&definition, r#""a":1e-30,"b":1"#, refused);
    let refused = "Value: `amount`: unlucky; leave such records out with `where`, or say with CASE what they give";
    check(&definition, r#""a":6,"b":7"#, refused);
    check(&with(&[("extra", "$offset + a.b[1]")], &[]), r#""a":{"b":[1,2]}"#, r#","extra":11"#);

    let mut definition = with(&[("amount", "a + b")], &[]);
    definition.fields[2].1.default = Some("7".to_owned());
    check(&definition, r#""a":1"#, r#","amount":7"#);
    let mut definition = with(&[], &[]);
    definition.fields[0].1 = MappedField::computed(sum("a + b"));
    check(
        &definition,
        r#""a":1"#,
        "UserId: `user_id`: the expression gives NULL; say with coalesce what else it is, or leave \
        such records out with `where`",
    );
}

#[test]
fn only_records_that_pass_are_computed() {
    let definition = with(&[("amount", "a + b")], &["ok", "a is c"]);
    check(&definition, r#""ok":true,"a":1,"b":2,"c":"1""#, r#","amount":3"#);
    check(&definition, r#""ok":false,"a":1,"b":"x","c":1"#, "filtered out");
    check(&definition, r#""a":1,"b":2,"c":1"#, "filtered out");
    check(&definition, r#""ok":true,"a":1,"b":2,"c":2"#, "filtered out");
    let refused = "Type: `where[0]`: `ok` is `yes`, not true or false (column 21)";
    check(&definition, r#""ok":"yes","a":1"#, refused);
    // An earlier condition that does not hold spares the error of a later one.
    check(&with(&[], &["ok", "a > b"]), r#""ok":false,"a":6,"b":7"#, "filtered out");
    check(
        &with(&[], &["ok", "a > b"]),
        r#""ok":true,"a":6,"b":7"#,
        "Value: `where[1]`: unlucky; leave such records out with \
        `where`, or say with CASE what they give",
    );

    let language = Arc::default();
    let definition = with_language(&[("amount", "a + b")], &["a > b"], &language);
    let mut mapping = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
    let records: Vec<String> = (0..10).map(|n| format!(r#"{{"u":"v","t":1,"a":{n},"b":4}}"#)).collect();
    mapping.prepare(records.iter().map(|record| (record.as_bytes(), context())));
    assert_eq!(*language.asked.lock().expect("no test panics here"), [10, 4]);
    let lines: Vec<String> = records.iter().map(|record| apply(&mut mapping, record)).collect();
    assert_eq!(lines[4], "filtered out");
    assert_eq!(lines[8], r#"{"user_id":"v","ts":1,"amount":12}"#);
    assert!(lines[9].contains("unlucky"), "{}", lines[9]);
}

#[test]
fn mappings_that_cannot_be_say_where() {
    let refused = |definition: &FactMapping| {
        Mapping::to_fact(definition, &fact()).expect_err("a mapping that cannot be").to_string()
    };
    assert_eq!(refused(&with(&[("amount", "wrong")], &[])), "`map.amount.sql`: it is wrong (column 3); write a + b");
    assert_eq!(refused(&with(&[], &["a", "wrong"])), "`where[1]`: it is wrong (column 3); write a + b");
    assert!(refused(&with(&[("amount", "a + b..c")], &[])).starts_with("`map.amount.sql`: the path `b..c`: a field"));
    let mut definition = with(&[("amount", "a + b")], &[]);
    definition.fields[2].1.cast = Some(Cast::Number);
    assert!(refused(&definition).contains("leave `type` and `unit` out"));
}

proptest! {
    #[test]
    fn many_records_at_once_are_as_one_by_one(
        parts in prop::collection::vec((0..8i64, prop::sample::select(vec!["7", "5", "null", "\"x\"", "1e-30"]), 0..6u8), 0..40),
        prepared in prop::collection::vec(1..9usize, 1..20),
    ) {
        let definition = with(&[("amount", "a + b"), ("count_of", "a")], &["a > c"]);
        let records: Vec<String> = parts.iter().map(|(a, b, shape)| match shape {
            0 => "nonsense".to_owned(),
            1 => format!(r#"{{"u":"v","t":1,"a":{a},"b":{b},"c":"y"}}"#),
            _ => format!(r#"{{"u":"v","t":1,"a":{a},"b":{b},"c":{shape}}}"#),
        }).collect();
        let mut alone = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
        let expected: Vec<String> = records.iter().map(|record| apply(&mut alone, record)).collect();
        let mut together = Mapping::to_fact(&definition, &fact()).expect("a mapping that can be");
        let (mut lines, mut rest) = (Vec::new(), records.as_slice());
        for count in prepared.iter().cycle() {
            let (now, later) = rest.split_at((*count).min(rest.len()));
            together.prepare(now.iter().map(|record| (record.as_bytes(), context())));
            lines.extend(now.iter().map(|record| apply(&mut together, record)));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(lines, expected);
    }
}

#[test]
fn expressions_are_equal_by_their_text() {
    assert_eq!(sum("a"), sum("a"));
    assert_ne!(sum("a"), sum("b"));
    assert_eq!(format!("{:?}", sum("a")), "Expression(\"a\")");
}
