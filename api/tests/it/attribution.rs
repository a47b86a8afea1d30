//! Attribution, through REST and the command line.

use crate::support::{TestServer, beluga, catalog, stderr, stdout};
use serde_json::{Value, json};

/// Four users who saw and clicked campaigns, and what they bought.
fn campaigns() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    let touch = json!({"columns": {"campaign": "string", "ms": "float"}});
    with["facts"] = json!({"impression": touch, "click": touch,
        "purchase": {"columns": {"amount": {"decimal": [12, 2]}, "kilos": "float", "note": "string"}, "deduplicate": "400 days"}});
    server.put_catalog(&with);
    server.post_tags(crate::support::PEOPLE);
    let of = |campaign: &str| json!({"campaign": campaign});
    let bought = |id: &str, amount: f64| json!({"event_id": id, "amount": amount, "kilos": 0.1});
    server.post_events(
        "impression",
        &[
            // A fortnight, a week and no time before the first purchase; long before it; and after it.
            ("u1", "2026-10-01T10:00:00Z", of("autumn")),
            ("u1", "2026-11-02T10:00:00Z", of("spring")),
            ("u1", "2026-11-09T10:00:00Z", of("summer")),
            ("u1", "2026-11-16T10:00:01Z", of("winter")),
            ("u2", "2026-11-10T10:00:00Z", json!({})),
            ("u4", "2026-11-10T10:00:00Z", of("summer")),
        ],
    );
    server.post_events("click", &[("u1", "2026-11-16T10:00:00Z", of("spring"))]);
    server.post_events(
        "purchase",
        &[
            ("u1", "2026-11-16T10:00:00Z", bought("a", 10.0)),
            ("u2", "2026-11-11T10:00:00Z", bought("b", 4.0)),
            ("u2", "2026-11-10T09:00:00Z", bought("c", 1.5)),
            ("u3", "2026-11-11T10:00:00Z", json!({"event_id": "d"})),
            ("u4", "2026-11-11T10:00:00Z", bought("e", 7.0)),
        ],
    );
    server.post_events(
        "purchase",
        &[("u4", "2026-11-11T10:00:00Z", json!({"event_id": "e", "retract": true, "amount": 7.0, "kilos": 0.1}))],
    );
    server.settle();
    server
}

fn request(more: &Value) -> Value {
    let mut request = json!({"conversion": {"fact": "purchase"}, "touches": [{"fact": "impression"}, {"fact": "click"}],
        "by": "campaign", "lookback": "30 days"});
    request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    request
}

#[test]
fn conversions_are_credited_by_each_model() {
    let mut server = campaigns();
    let ask = |server: &TestServer, more: Value| server.ask("/v1/attribution", &request(&more));
    let answer = ask(&server, json!({"value": "amount"}));
    assert_eq!(answer["all"], json!({"conversions": 4, "users": 3, "value": 15.5}), "{answer}");
    assert_eq!(answer["untouched"], json!({"conversions": 2, "users": 2, "value": 1.5}));
    let campaigns = answer["campaigns"].as_array().expect("campaigns");
    // Spring had the first and the last of three touches, the last one at the moment of the purchase.
    let none = json!({"campaign": null, "conversions": 1, "users": 1,
        "credited": {"first": 1, "last": 1, "linear": 1, "decay": 1, "position": 1},
        "value": {"first": 4, "last": 4, "linear": 4, "decay": 4, "position": 4}});
    let spring = json!({"campaign": "spring", "conversions": 1, "users": 1,
        "credited": {"first": 1, "last": 1, "linear": 0.666666667, "decay": 0.714285715, "position": 0.8},
        "value": {"first": 10, "last": 10, "linear": 6.66666667, "decay": 7.14285715, "position": 8}});
    let summer = json!({"campaign": "summer", "conversions": 1, "users": 1,
        "credited": {"first": 0, "last": 0, "linear": 0.333333333, "decay": 0.285714285, "position": 0.2},
        "value": {"first": 0, "last": 0, "linear": 3.33333333, "decay": 2.85714285, "position": 2}});
    assert_eq!(*campaigns, [none.clone(), spring.clone(), summer.clone()]);
    assert_eq!(answer["more"], Value::Null);

    let told = |answer: &Value, key: &str| -> Vec<Value> {
        let campaigns = answer["campaigns"].as_array().expect("campaigns").iter();
        campaigns.map(|campaign| json!([campaign["campaign"], campaign["credited"][key]])).collect()
    };
    let long = ask(&server, json!({"lookback": "60 days"}));
    assert_eq!(
        told(&long, "first"),
        [json!([null, 1]), json!(["spring", 0]), json!(["autumn", 1]), json!(["summer", 0])],
        "{long}"
    );
    let short = ask(&server, json!({"lookback": "7 days", "position": [30, 60, 10], "order": "position"}));
    assert_eq!(told(&short, "position"), [json!([null, 1]), json!(["summer", 0.75]), json!(["spring", 0.25])]);
    let half = ask(&server, json!({"lookback": "7 days", "half_life": "1 day"}));
    assert_eq!(told(&half, "decay")[2], json!(["summer", 0.007_751_937]));
    // What is not listed is told together.
    let one = ask(&server, json!({"campaigns": 1, "value": "amount"}));
    assert_eq!(one["campaigns"].as_array().map(Vec::len), Some(1));
    assert_eq!((&one["more"]["campaigns"], &one["more"]["credited"]["linear"]), (&json!(2), &json!(1)));
    assert_eq!(one["more"]["value"]["decay"], json!(10));
    // Without a column each touch is a campaign.
    let touches = json!([{"fact": "impression", "name": "seen"}, {"fact": "click"}]);
    let by_touch = ask(&server, json!({"by": null, "touches": touches, "where": "gender = 'f'"}));
    assert_eq!(told(&by_touch, "last"), [json!(["seen", 0]), json!(["click", 1])], "{by_touch}");
    assert_eq!(ask(&server, json!({"where": "gender = 'm'"}))["all"], json!({"conversions": 2, "users": 1}));
    // Floats are added up to a millionth.
    let kilos = ask(&server, json!({"value": "kilos"}));
    assert_eq!((&kilos["all"]["value"], &kilos["campaigns"][1]["value"]["last"]), (&json!(0.3), &json!(0.1)));
    // The time is that of conversions; touches may be older.
    let narrowed = json!({"fact": "purchase", "where": "ts >= '2026-11-16'"});
    let late = ask(&server, json!({"conversion": narrowed, "value": "amount"}));
    assert_eq!((late["all"]["conversions"].clone(), late["campaigns"][0].clone()), (json!(1), spring));

    // The same from rows in their tables, which a stop brings there.
    server.restart();
    let again = ask(&server, json!({"value": "amount"}));
    assert_eq!((&again["campaigns"], &again["all"]), (&answer["campaigns"], &answer["all"]));
}

#[test]
fn what_cannot_be_credited_says_why() {
    let server = campaigns();
    let check = |more: Value, pointer: &str, what: &str| {
        let answer = server.post("/v1/attribution").json(&request(&more)).send().expect("post");
        assert_eq!(answer.status(), 400, "{more}");
        let problem = answer.json::<Value>().expect("a problem");
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        assert!(text("pointer") == pointer, "{problem}");
        assert!((text("detail") + " " + &text("suggestion")).contains(what), "{problem}");
    };
    check(json!({"touches": []}), "/touches", "from 1 to 31, not 0");
    check(json!({"touches": [{"fact": "clik"}]}), "/touches/0/fact", "did you mean 'click'?");
    check(
        json!({"touches": [{"fact": "click", "where": "campain = 'x'"}]}),
        "/touches/0/where",
        "did you mean `campaign`?",
    );
    check(
        json!({"by": null, "touches": [{"fact": "click"}, {"fact": "click"}]}),
        "/touches/1",
        "give one of them a `name`",
    );
    check(json!({"by": "campain"}), "/by", "did you mean `campaign`?");
    check(json!({"by": "ms"}), "/by", "name a string, an integer or a boolean");
    check(json!({"value": "amont"}), "/value", "did you mean `amount`?");
    check(json!({"value": "note"}), "/value", "name an integer, a decimal or a float");
    check(json!({"lookback": "long"}), "/lookback", "write `30 minutes`");
    check(json!({"half_life": "0 days"}), "/half_life", "longer than nothing");
    check(json!({"position": [40, 40, 40]}), "/position", "adds up to 100");
    check(json!({"campaigns": 10_001}), "/campaigns", "from 1 to 10000");
    check(json!({"within": "7 moons"}), "/within", "days");
}

#[test]
fn the_command_line_tells_attribution() {
    let server = campaigns();
    let url = server.url("");
    let ask = [
        "attribution",
        "purchase",
        "--touch",
        "impression",
        "--touch",
        "click",
        "--lookback",
        "30 days",
        "--url",
        &url,
    ];
    let run = |more: &[&str]| {
        let done = beluga(&[&ask[..], more].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        (stdout(&done), stderr(&done))
    };
    let (csv, _) = run(&["--by", "campaign", "--value", "amount", "--position", "50,0,50", "-o", "csv"]);
    assert!(csv.starts_with("campaign,conversions,users,first,last,linear,decay,position,value_first,"), "{csv}");
    assert!(csv.contains("spring,1,1,1,1,0.666666667,0.714285715,1,10,10,"), "{csv}");
    let (table, footer) = run(&["--by", "campaign", "--campaigns", "1"]);
    assert!(table.contains("(none)") && !table.contains("value"), "{table}");
    assert!(footer.contains("4 conversions, 2 without a touch, 2 more campaigns"), "{footer}");
    let (touches, _) = run(&["-o", "csv"]);
    assert!(touches.contains("\nclick,1,1,0,1,0.333333334,"), "{touches}");
    let wrong = beluga(&[&ask[..], &["--position", "40,60"]].concat());
    assert!(!wrong.status.success() && stderr(&wrong).contains("three numbers"), "{}", stderr(&wrong));
}
