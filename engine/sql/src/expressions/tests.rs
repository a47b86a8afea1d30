//! What expressions give, and what is told of those that are none.

use super::SqlExpressions;
use engine::computed::{ANSWER_BYTES_MAX, Answer, Answers, Column, Input, Language, Reading, Rows, Wanted};
use serde_json::{Value, json};

/// What stands at a path, as the walk over a record finds it.
fn find<'v>(record: &'v Value, path: &str) -> Option<&'v Value> {
    let pointer = path.replace('[', ".").replace([']', '"'], "");
    record.pointer(&format!("/{}", pointer.replace('.', "/"))).filter(|value| !value.is_null())
}

/// A decimal as its digits are written.
pub(super) fn number(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<18}");
    digits.parse().expect("a number of the tests is plain")
}

pub(super) fn push(column: &mut Column, value: Option<&Value>) {
    match (column, value) {
        (column, None) => column.push_null(),
        (column @ Column::Texts { .. }, Some(Value::String(text))) => column.push_text(text),
        (column @ Column::Texts { .. }, Some(value)) => column.push_text(&value.to_string()),
        (Column::Numbers(values), Some(value)) => {
            let text = value.to_string();
            let text = text.trim_matches('"');
            // What is no number is none, as in a record.
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte));
            values.push(is_number.then(|| number(text)));
        }
        (Column::Booleans(values), Some(value)) => values.push(value.as_bool()),
    }
}

pub(super) fn rows(inputs: &[Input], records: &[Value]) -> Rows {
    let mut rows = Rows::of(inputs);
    rows.count = records.len();
    for (input, column) in inputs.iter().zip(&mut rows.columns) {
        records.iter().for_each(|record| push(column, find(record, &input.path)));
    }
    rows
}

pub(super) fn compute(text: &str, wanted: Wanted, records: &[Value]) -> Vec<String> {
    let computation = match SqlExpressions::shared().compile(text, wanted) {
        Ok(computation) => computation,
        Err(error) => return vec![format!("refused: {error}")],
    };
    let mut answers = Answers::default();
    computation.compute(&rows(computation.inputs(), records), &mut answers);
    let shown = |row| match answers.get(row) {
        Answer::Null => "NULL".to_owned(),
        Answer::Value(value) => value.to_owned(),
        Answer::Refused(why) => format!("error: {why}"),
    };
    (0..answers.len()).map(shown).collect()
}

#[track_caller]
fn check(text: &str, wanted: Wanted, record: Value, expected: &str) {
    assert_eq!(compute(text, wanted, &[record]).join(" | "), expected, "{text}");
}

#[track_caller]
fn gives(text: &str, record: Value, expected: &str) {
    check(text, Wanted::Any, record, expected);
}

#[track_caller]
fn reads(text: &str, wanted: Wanted, expected: &str) {
    let computation = SqlExpressions::shared().compile(text, wanted).expect("an expression");
    let shown = |Input { path, reading }: &Input| match reading {
        Reading::Text => format!("{path} text"),
        Reading::Number => format!("{path} number"),
        Reading::Boolean => format!("{path} boolean"),
    };
    let inputs: Vec<String> = computation.inputs().iter().map(shown).collect();
    assert_eq!(inputs.join(", "), expected, "{text}");
}

#[test]
fn money_is_exact() {
    let record = json!({"price": 12.1, "quantity": 3, "discount": 0.15, "rate": 7.1234});
    gives("price * quantity", record.clone(), "36.3");
    gives("price * quantity * (1 - coalesce(discount, 0))", record.clone(), "30.855");
    gives("price * quantity * (1 - discount) * rate", record.clone(), "219.792507");
    gives("price * quantity * (1 - coalesce(nothing, 0))", record.clone(), "36.3");
    gives("price + nothing", record.clone(), "NULL");
    gives("price * 0.1", record.clone(), "1.21");
    gives("round(price / quantity, 2)", record.clone(), "4.03");
    gives("price / quantity", record.clone(), "4.033333333333333333");
    gives("quantity / 2", record.clone(), "1.5");
    gives("1 / 2", json!({}), "0.5");
    gives("7 / 2 * 2", json!({}), "7");
    gives("-price", record.clone(), "-12.1");
    gives("- 5 - quantity", record.clone(), "-8");
    gives("quantity % 2", record.clone(), "1");
    gives("abs(0 - price)", record.clone(), "12.1");
    gives("floor(price)", record.clone(), "12");
    gives("price > 12.0999 AND price < 12.1001", record.clone(), "true");
    gives("price::double * 2", record, "24.2");
    gives("9223372036854775807 + 1", json!({}), "9223372036854775808");
    gives("a + b", json!({"a": 0.1, "b": 0.2}), "0.3");
}

#[test]
fn text_keeps_how_a_number_is_written() {
    gives("'c-' || id", json!({"id": 123}), r#""c-123""#);
    gives("'c-' || id", json!({"id": "x\"\n"}), r#""c-x\"\n""#);
    gives("id::text", json!({"id": 1.50}), r#""1.5""#);
    gives("(price * 2)::text", json!({"price": 1.25}), r#""2.5""#);
    gives("concat('a', price * 2, 'b')", json!({"price": 1.25}), r#""a2.5b""#);
    gives("'n' || (length(name) + 1)", json!({"name": "abc"}), r#""n4""#);
}

#[test]
fn functions_take_what_they_take() {
    let record = json!({"item": {"path": "A/Shoes/Red"}, "items": [{"sku": "s1"}], "at": 3, "t": 1_795_168_800_000i64,
        "odd name": "o", "day": "2026-11-20", "tags": "a,b", "flag": true, "n": 255});
    gives("lower(split_part(item.path, '/', 2))", record.clone(), r#""shoes""#);
    gives("items[0].sku", record.clone(), r#""s1""#);
    gives("items[1].sku", record.clone(), "NULL");
    gives("\"odd name\" || item['path']", record.clone(), r#""oA/Shoes/Red""#);
    gives("substr(item.path, at)", record.clone(), r#""Shoes/Red""#);
    gives("substr(item.path, at + 1)", record.clone(), r#""hoes/Red""#);
    gives("substr(item.path, at / 2)", record.clone(), "error: 1.5 stands where a whole number is needed");
    gives("substr(item.path, strpos(item.path, '/') + 1)", record.clone(), r#""Shoes/Red""#);
    gives("to_timestamp_millis(t)", record.clone(), r#""2026-11-20T10:00:00Z""#);
    gives("to_timestamp_seconds(t / 1000) + INTERVAL '1 day'", record.clone(), r#""2026-11-21T10:00:00Z""#);
    gives("date_trunc('month', to_timestamp_millis(t))", record.clone(), r#""2026-11-01T00:00:00Z""#);
    gives("extract(year FROM to_timestamp_millis(t))", record.clone(), "2026");
    gives("date_part('dow', day::date)", record.clone(), "5");
    gives("day::date", record.clone(), r#""2026-11-20""#);
    gives("regexp_replace(item.path, '[^A-Z]', '', 'g')", record.clone(), r#""ASR""#);
    gives("item.path ~ 'Sh.es'", record.clone(), "true");
    gives("item.path LIKE '%/Red'", record.clone(), "true");
    gives("CASE WHEN at >= 3 THEN 'many' WHEN at > 0 THEN 'few' END", record.clone(), r#""many""#);
    gives("CASE item.path WHEN 'x' THEN 1 ELSE 2 END", record.clone(), "2");
    gives("CASE WHEN flag THEN 1 ELSE 0 END", record.clone(), "1");
    gives("string_to_array(tags, ',')", record.clone(), r#"["a","b"]"#);
    gives("string_to_array(tags, ',')[1]", record.clone(), r#""a""#);
    check("make_array(tags, nothing)", Wanted::Texts, record.clone(), r#"["a,b"]"#);
    gives("md5(tags)", record.clone(), r#""b345e1dc09f20fdefdea469f09167892""#);
    gives("sqrt(at * 3)", record.clone(), "3.0");
    gives("power(at, 2)", record.clone(), "9.0");
    gives("to_hex(n)", record.clone(), r#""ff""#);
    gives("greatest(at, 7)", record.clone(), "7");
    gives("nullif(day, '2026-11-20')", record.clone(), "NULL");
    gives("item", record.clone(), r#""{\"path\":\"A/Shoes/Red\"}""#);
    gives("item IS NOT NULL AND nothing IS NULL", record, "true");
}

#[test]
fn paths_are_read_as_they_are_used() {
    reads("price * quantity", Wanted::Number, "price number, quantity number");
    reads("status IN ('paid', 'shipped') AND amount > 0", Wanted::Boolean, "status text, amount number");
    reads("NOT robot", Wanted::Boolean, "robot boolean");
    reads("robot", Wanted::Boolean, "robot boolean");
    reads("coalesce(a, b)", Wanted::Number, "a number, b number");
    reads("coalesce(a, b)", Wanted::Text, "a text, b text");
    reads("a = b AND b = 1", Wanted::Boolean, "a number, b number");
    reads("a::decimal < b::decimal", Wanted::Boolean, "a number, b number");
    reads("a::text || a::double", Wanted::Text, "a text");
    reads("a::decimal + try_cast(a AS double)", Wanted::Number, "a number, a text");
    reads("lpad(code, 5, '0')", Wanted::Text, "code text");
    reads("substr(name, start, len)", Wanted::Text, "name text, start number, len number");
    reads("round(a, 2) + abs(b)", Wanted::Number, "a number, b number");
    reads("coalesce(x, round(y, 2))", Wanted::Any, "x number, y number");
    reads("coalesce(x, length(y))", Wanted::Any, "x number, y text");
    reads("at > to_timestamp('2026-01-01')", Wanted::Boolean, "at text");
    reads("to_timestamp_millis($timestamp)", Wanted::Time, "$timestamp number");
    reads("user || customerId || _id.\"$oid\"", Wanted::Text, "user text, customerId text, _id.\"$oid\" text");
    reads("concat_ws('-', a, b)", Wanted::Text, "a text, b text");
    reads("date_trunc('day', at)", Wanted::Time, "at text");
    reads("x BETWEEN 1 AND y", Wanted::Boolean, "x number, y number");
    reads("starts_with(a, 'x') OR contains(b, 'y')", Wanted::Boolean, "a text, b text");
    reads("chr(n)", Wanted::Text, "n number");
}

#[test]
fn an_error_is_of_its_record() {
    let records: Vec<Value> = (0..100).map(|n| json!({"a": 100, "b": n % 25})).collect();
    let answers = compute("a / b", Wanted::Number, &records);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer == "error: division by zero", n % 25 == 0, "{n}: {answer}");
    }
    // What a condition guards is not computed for the record it guards.
    for guarded in
        ["b <> 0 AND a / b > 10", "b <> 0 AND (a / b > 10 AND b <> 0)", "NOT (b = 0 OR (a / b <= 10 OR b = 0))"]
    {
        let answers = compute(guarded, Wanted::Boolean, &records);
        assert!(answers.iter().enumerate().all(|(n, answer)| *answer == (n % 25 != 0 && n % 25 < 10).to_string()));
    }
    let answers = compute("CASE WHEN b = 0 THEN -1 ELSE a / b END", Wanted::Number, &records);
    assert!(!answers.iter().any(|answer| answer.contains("error")));
    let words = [json!({"x": "12"}), json!({"x": "abc"}), json!({"x": null})];
    let answers = compute("x::bigint + 1", Wanted::Number, &words);
    assert_eq!(answers[0], "13");
    assert!(answers[1].starts_with("error: Cannot cast string 'abc'"), "{answers:?}");
    assert_eq!(answers[2], "NULL");
    assert_eq!(compute("try_cast(x AS bigint) + 1", Wanted::Number, &words), ["13", "NULL", "NULL"]);
    let huge = json!({"x": 99_999_999_999_999_999_999u128.to_string()});
    let more = "error: the result has more than 20 digits before the point; write ::double for floats";
    check("x * 2", Wanted::Number, huge.clone(), more);
    check("x + x", Wanted::Number, huge, more);
    let tiny =
        "error: the result has more than 18 digits behind the point; round what it is made of, or write ::double";
    check("x * x", Wanted::Number, json!({"x": "0.0000000001"}), tiny);
    check("ln(x - 1)", Wanted::Number, json!({"x": 1}), "error: the result is -inf, which is no number");
}

#[test]
fn refusals_say_what_to_write() {
    let refused = |text: &str, wanted: Wanted, expected: &str| {
        check(text, wanted, json!({}), &format!("refused: {expected}"));
    };
    let any = Wanted::Any;
    refused("lowr(x)", any, "there is no function `lowr` (column 1); did you mean `lower`?");
    refused(
        "1 + sum(x)",
        any,
        "`sum` is of many records, and an expression sees one (column 5); count and sum with `did`, \
        or declare measures of the fact's activity",
    );
    refused("price * ", any, "SQL: Expected: an expression, found: EOF");
    refused("(a + 1", any, "SQL: Expected: ), found: EOF");
    refused(
        "a ) b",
        any,
        "the expression ends before `)` (column 3); put an operator between, or quotes around an odd name",
    );
    refused(
        "odd name",
        any,
        "the expression ends before `name` (column 5); put an operator between, or quotes around an odd \
        name",
    );
    refused("'abc", any, "SQL: Unterminated string literal (column 1)");
    refused("", any, "an expression cannot be empty; write one, as in price * quantity");
    refused("(SELECT 1)", any, "an expression has no subqueries; it sees one record alone");
    refused("x IN (SELECT 1)", any, "an expression has no subqueries; it sees one record alone");
    refused(
        "row_number() OVER ()",
        any,
        "`row_number` is of many records, and an expression sees one (column 1); count and \
        sum with `did`, or declare measures of the fact's activity",
    );
    for text in ["now()", "current_timestamp", "current_date()", "CURRENT_DATE"] {
        let told = compute(text, any, &[]).join("");
        assert!(told.contains("gives another time whenever it is asked"), "{text}: {told}");
        assert!(told.contains("$timestamp"), "{text}: {told}");
    }
    for text in ["random()", "uuid()"] {
        assert!(compute(text, any, &[]).join("").contains("gives another value whenever"), "{text}");
    }
    refused("version()", any, "`version` is not for expressions over a record (column 1)");
    refused(
        "repeat('x', n)",
        any,
        "the second argument of `repeat` is not a number up to 100 (column 1); write the number \
        itself; it cannot come from the record",
    );
    refused(
        "repeat(x, 101)",
        any,
        "the second argument of `repeat` is not a number up to 100 (column 1); write the number \
        itself; it cannot come from the record",
    );
    for outer in ["repeat(lower(repeat(x, 9)), 9)", "replace(x, 'a', repeat(y, 9))", "Replace(repeat(y, 9), 'a', 'b')"]
    {
        let told = compute(outer, any, &[]).join("");
        assert!(told.contains("`repeat` cannot stand inside `rep"), "{outer}: {told}");
    }
    refused(
        "a < b",
        Wanted::Boolean,
        "whether `a` is text or a number is not told by what it is compared with; say it: \
        a::decimal or a::text",
    );
    refused(
        "x = 'n/a' OR x > 2",
        Wanted::Boolean,
        "`x` is used as text and as a number; say it where it is used: x::text, \
        x::decimal, x::boolean",
    );
    refused(
        "price * 2",
        Wanted::Text,
        "the expression gives a number, and text is needed; put it in parentheses and write \
        ::text behind it",
    );
    refused(
        "lower(x)",
        Wanted::Number,
        "the expression gives text, and a number is needed; put it in parentheses and write \
        ::decimal or ::double behind it",
    );
}

#[test]
fn results_fit_into_a_line() {
    let text = "x".repeat(ANSWER_BYTES_MAX / 100);
    let told = compute("repeat(x, 100)", Wanted::Text, &[json!({"x": format!("{text}y")}), json!({"x": "ab"})]);
    assert_eq!(
        told[0],
        format!("error: the result has {} bytes; at most 1048576 are in a line", (text.len() + 1) * 100)
    );
    assert_eq!(told[1], format!("\"{}\"", "ab".repeat(100)));
    let told = compute("[repeat(x, 99), repeat(x, 99)]", Wanted::Texts, &[json!({"x": text})]).join("");
    assert!(told.starts_with("error: the result has 2"), "{}", &told[..60]);
}

/// What functions write again and again is not written before it is known to be short.
#[test]
fn texts_that_multiply_are_refused() {
    let nested = |text: &str| {
        let with = |letter: &str| letter.repeat(1_000);
        let (b, c, d) = (with("b"), with("c"), with("d"));
        format!("length(replace(replace(replace({text}, 'a', '{b}'), 'b', '{c}'), 'c', '{d}'))::text")
    };
    let told = compute(&nested(&format!("'{}'", "a".repeat(1_000))), Wanted::Text, &[json!({})]).join("");
    assert!(told.starts_with("refused: `replace` of constants makes up to 1000000000 bytes"), "{told}");
    let records = [json!({"x": "a"}), json!({"x": "a".repeat(1_000)}), json!({"x": "z"})];
    let told = compute(&nested("x"), Wanted::Text, &records);
    assert!(told[0].starts_with("error: `replace` makes up to 1000000000 bytes of a row"), "{told:?}");
    assert!(told[1].starts_with("error: `replace` makes up to 1000000000 bytes of a row"), "{told:?}");
    assert_eq!(told[2], r#""1""#, "the record beside it is computed");
    let body = [json!({"body": ",".repeat(100_000)}), json!({"body": "a,b"})];
    for (text, short) in [
        ("length(replace(body, ',', body))::text", "5"),
        ("length(regexp_replace(body, ',', body, 'g'))::text", "5"),
        ("length(array_to_string(string_to_array(body, ','), body))::text", "5"),
        ("length(list_join(string_to_list(body, ','), body))::text", "5"),
        (
            "length(concat_ws(concat_ws(body, body, body, body, body, body, body, body, body, body, body, body), \
             body, body, body, body, body, body, body))::text",
            "399",
        ),
    ] {
        let told = compute(text, Wanted::Text, &body);
        assert!(told[0].starts_with("error: `") && told[0].contains("bytes of a row; at most 4194304"), "{told:?}");
        assert_eq!(told[1], format!("\"{short}\""), "{text}");
    }
    // As much as many records make at once is made in parts.
    let many: Vec<Value> = (0..40).map(|_| json!({"x": "x".repeat(9_000)})).collect();
    assert_eq!(compute("length(repeat(x, 100))", Wanted::Number, &many), vec!["900000"; 40]);
}

#[test]
fn a_function_is_refused_by_any_of_its_names() {
    for name in ["array_sort", "list_sort", "array_repeat", "list_repeat", "array_resize", "list_resize", "range"] {
        let told = compute(&format!("{name}(x, 3)"), Wanted::Any, &[]).join("");
        assert_eq!(told, format!("refused: `{name}` is not for expressions over a record (column 1)"));
    }
}

#[test]
fn nothing_that_is_written_crashes() {
    let long = vec!["x"; 501].join("+");
    assert!(compute(&long, Wanted::Number, &[json!({"x": 1})]).join("").contains("at most 1000"));
    let long = vec!["x"; 65].join("+");
    assert!(compute(&long, Wanted::Number, &[json!({"x": 1})]).join("").contains("more than 64 deep"));
    let long = vec!["x"; 64].join("+");
    assert_eq!(compute(&long, Wanted::Number, &[json!({"x": 1})]), ["64"]);
    let list = format!("x IN ({})", vec!["7"; 490].join(","));
    assert_eq!(compute(&list, Wanted::Boolean, &[json!({"x": 7})]), ["true"]);
    let deep = "(".repeat(240) + "x" + &")".repeat(240);
    assert!(compute(&deep, Wanted::Number, &[json!({"x": 1})]).join("").contains("nests too deep"));
    for text in [
        "a.*",
        "*",
        "$",
        "$$a$$",
        "a[b]",
        "a[0:1]",
        "x -> y",
        "?",
        ":a",
        "@x",
        "f.g(x)",
        "{'a': 1}",
        "[1,2]",
        "interval '1 day'",
        "x'ff'",
        "ARRAY[1]",
        "a IS JSON",
        "EXISTS (SELECT 1)",
        "CAST(a AS nonsense)",
        "a::struct<b int>",
        "1e400",
        "TRIM(a)",
        "a AT TIME ZONE 'nowhere'",
        "date_trunc(a, b)",
        "decode(a, 'hex')",
        "get_field(a, 'b')",
    ] {
        for wanted in [Wanted::Any, Wanted::Boolean] {
            compute(text, wanted, &[json!({"a": "1", "b": "x"}), json!({})]);
        }
    }
}
