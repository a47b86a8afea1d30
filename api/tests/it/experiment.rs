//! Experiments, through REST and the command line.

use crate::support::{TestServer, beluga, catalog, stderr, stdout};
use serde_json::{Value, json};

/// Eighty users, half of whom saw something new; one saw both. Of those who saw the old, a quarter bought for 10 each, of the others half.
fn experiment() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    with["tags"]["variant"] = json!({"type": "set"});
    with["facts"] = json!({"purchase": {"columns": {"amount": {"decimal": [12, 2]}, "note": "string"}}});
    server.put_catalog(&with);
    let user = |at: usize| {
        let variant = ["old", "new"][at % 2];
        json!({"user_id": format!("e{at}"), "set": {"variant": [variant]}})
    };
    let mut lines: Vec<String> = (0..80).map(|at| user(at).to_string()).collect();
    lines.push(json!({"user_id": "both", "set": {"variant": ["old", "new"]}}).to_string());
    server.post_tags(&lines.join("\n"));
    let ids: Vec<(String, f64)> = (0..80)
        .filter(|at| if at % 2 == 0 { at % 8 == 0 } else { at % 4 == 1 })
        .map(|at| (format!("e{at}"), 10.0))
        .chain([("both".to_owned(), 1_000.0), ("e1".to_owned(), 2.5), ("nobody".to_owned(), 7.0)])
        .collect();
    let bought: Vec<(&str, &str, Value)> =
        ids.iter().map(|(id, amount)| (&**id, "2026-11-16T10:00:00Z", json!({"amount": amount}))).collect();
    server.post_events("purchase", &bought);
    server.settle();
    server
}

fn request(more: &Value) -> Value {
    let mut request = json!({
        "groups": [{"name": "old", "where": "variant = 'old'"}, {"name": "new", "where": "variant = 'new'"}],
        "metrics": [{"fact": "purchase"}, {"fact": "purchase", "measure": "events"},
            {"fact": "purchase", "measure": "sum", "value": "amount", "name": "revenue"}]});
    request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    request
}

#[test]
fn groups_are_compared_by_what_their_users_did() {
    let mut server = experiment();
    let answer = server.ask("/v1/experiment", &request(&json!({})));
    assert_eq!(
        answer["groups"],
        json!([{"name": "old", "users": 40, "share": 0.5, "planned": 0.5}, {"name": "new", "users": 40, "share": 0.5, "planned": 0.5}])
    );
    assert_eq!(
        (&answer["in_several"], &answer["sample_ratio"]),
        (&json!(1), &json!({"p_value": 1.0, "mismatch": false}))
    );
    // Who has any purchase is told by the index, and nothing is read for it alone.
    assert!(answer["events"].as_u64() > Some(0), "{answer}");
    let any = server.ask("/v1/experiment", &request(&json!({"metrics": [{"fact": "purchase"}]})));
    let without_q = |answer: &Value| {
        let mut groups = answer["metrics"][0]["groups"].clone();
        groups[1]["q_value"] = Value::Null;
        groups
    };
    assert_eq!((&any["events"], without_q(&any)), (&json!(0), without_q(&answer)));
    let told = |metric: usize, group: usize, key: &str| answer["metrics"][metric]["groups"][group][key].clone();
    let names: Vec<&Value> = (0..3).map(|at| &answer["metrics"][at]["metric"]).collect();
    assert_eq!(names, ["users of purchase", "events of purchase", "revenue"]);
    assert_eq!(
        [told(0, 0, "total"), told(0, 1, "total"), told(0, 0, "mean"), told(0, 1, "mean")],
        [json!(10), json!(20), json!(0.25), json!(0.5)]
    );
    assert_eq!([told(1, 0, "total"), told(1, 1, "total"), told(1, 1, "users")], [json!(10), json!(21), json!(20)]);
    assert_eq!(
        [told(2, 0, "total"), told(2, 1, "total"), told(2, 1, "mean")],
        [json!(100), json!(202.5), json!(5.0625)]
    );
    assert_eq!(
        [told(0, 0, "difference"), told(0, 0, "p_value"), told(0, 0, "q_value")],
        [Value::Null, Value::Null, Value::Null]
    );
    let near = |value: &Value, wanted: f64| {
        let number = value.as_f64().unwrap_or(f64::NAN);
        assert!((number - wanted).abs() < 5e-4, "{value}, not {wanted}");
    };
    // 20 of 40 against 10 of 40: Newcombe's interval and Fisher's test.
    let difference = told(0, 1, "difference");
    near(&difference["estimate"], 0.25);
    near(&difference["low"], 0.0379);
    near(&difference["high"], 0.4333);
    near(&told(0, 1, "p_value"), 0.0368);
    near(&told(0, 1, "relative")["estimate"], 1.0);
    near(&told(2, 1, "difference")["estimate"], 2.5625);
    assert!(told(2, 1, "q_value").as_f64() >= told(2, 1, "p_value").as_f64());
    // Sizes that were not planned.
    let skewed = request(
        &json!({"groups": [{"name": "old", "where": "variant = 'old'", "weight": 9}, {"name": "new", "where": "variant = 'new'"}]}),
    );
    assert_eq!(server.ask("/v1/experiment", &skewed)["sample_ratio"]["mismatch"], json!(true));
    // Nobody did anything that day.
    let before = request(
        &json!({"metrics": [{"fact": "purchase", "where": "ts < '2026-11-01'", "measure": "sum", "value": "amount"}]}),
    );
    let nothing = server.ask("/v1/experiment", &before);
    assert_eq!(nothing["metrics"][0]["groups"][1]["total"], json!(0));
    assert_eq!(nothing["metrics"][0]["groups"][1]["p_value"], json!(1.0));

    let url = server.url("");
    let arguments = [
        "experiment",
        "--url",
        &url,
        "--group",
        "old=variant = 'old'",
        "--group",
        "new=variant = 'new'",
        "--weights",
        "9,1",
        "--metric",
        "purchase",
        "--metric",
        "sum(amount) of purchase where amount > 5",
    ];
    let written = beluga(&arguments);
    let text = stdout(&written) + &stderr(&written);
    assert!(written.status.success(), "{}", stderr(&written));
    for expected in [
        "users of purchase",
        "sum(amount) of purchase where amount > 5",
        "1 users in several groups left out",
        "other sizes than were planned",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    // The same from rows in their tables, which a stop brings there.
    server.restart();
    assert_eq!(server.ask("/v1/experiment", &request(&json!({})))["metrics"], answer["metrics"]);
}

#[test]
fn what_is_no_experiment_is_told() {
    let server = experiment();
    for (more, pointer, why) in [
        (json!({"groups": []}), "/groups", "from 2 to 20"),
        (json!({"metrics": []}), "/metrics", "from 1 to 20"),
        (json!({"control": "gray"}), "/control", "name one of them: old, new"),
        (json!({"confidence": 95}), "/confidence", "write 0.95"),
        (json!({"within": "a while"}), "/within", "a while"),
        (
            json!({"groups": [{"name": "a", "where": "variant = 'old'"}, {"name": "a", "where": "TRUE"}]}),
            "/groups/1/name",
            "two groups",
        ),
        (
            json!({"groups": [{"name": "a", "where": "TRUE", "weight": 0}, {"name": "b", "where": "TRUE"}]}),
            "/groups/0/weight",
            "from 0.000001",
        ),
        (
            json!({"groups": [{"name": "a", "where": "varant = 'old'"}, {"name": "b", "where": "TRUE"}]}),
            "/groups/0/where",
            "variant",
        ),
        (json!({"metrics": [{"fact": "purchas"}]}), "/metrics/0/fact", "purchase"),
        (json!({"metrics": [{"fact": "purchase", "where": "amount >"}]}), "/metrics/0/where", ""),
        (json!({"metrics": [{"fact": "purchase", "measure": "sum"}]}), "/metrics/0/value", "name a column"),
        (
            json!({"metrics": [{"fact": "purchase", "measure": "sum", "value": "note"}]}),
            "/metrics/0/value",
            "name an integer",
        ),
        (json!({"metrics": [{"fact": "purchase", "value": "amount"}]}), "/metrics/0/value", "summed up"),
    ] {
        let answer = server.post("/v1/experiment").json(&request(&more)).send().expect("post");
        assert_eq!(answer.status(), 400, "{more}");
        let told = answer.json::<Value>().expect("a problem");
        assert_eq!(told["pointer"], json!(pointer), "{told}");
        assert!(told.to_string().contains(why), "{why} in {told}");
    }
    let url = server.url("");
    let group = ["--group", "a=TRUE", "--group", "b=TRUE"];
    for (more, why) in [
        (&["--metric", "purchase", "--weights", "1"][..], "--weights has 1 numbers for 2 groups"),
        (&["--metric", "sum(note) of purchase"], "`note` is a string"),
        (&["--metric", "purchase", "--confidence", "nan"], "is no number"),
        (&["--metric", "purchase", "--weights", "1e308,1e308"], "from 0.000001 to 1000000"),
        (&["--metric", "purchase", "--group", "TRUE"], "expected NAME=EXPR"),
    ] {
        let written = beluga(&[&["experiment", "--url", &url][..], &group, more].concat());
        assert!(!written.status.success());
        assert!(stderr(&written).contains(why), "{why} in {}", stderr(&written));
    }
}
