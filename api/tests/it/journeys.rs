//! Funnels, sequences and retention, through REST and the command line.

use crate::process::wait_until;
use crate::support::{TestServer, beluga, catalog, stderr, stdout, success};
use serde_json::{Value, json};

/// Four users who visit, fill a cart and buy, in November 2026; clocks of Berlin.
fn shop() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    let fact = |retract: bool| {
        let mut fact = json!({"columns": {"page": "string", "amount": {"decimal": [12, 2]}},
            "activity": {"dimensions": ["page"]}, "time_zone": "Europe/Berlin"});
        if retract {
            fact["deduplicate"] = json!("400 days");
        }
        fact
    };
    with["facts"] = json!({"visit": fact(false), "cart": fact(false), "purchase": fact(true)});
    server.put_catalog(&with);
    server.post_tags(crate::support::PEOPLE);
    let none = || json!({});
    server.post_events(
        "visit",
        &[
            ("u1", "2026-11-02T08:00:00Z", json!({"page": "home"})),
            ("u1", "2026-11-09T08:00:00Z", json!({"page": "home"})),
            ("u2", "2026-11-02T09:00:00Z", json!({"page": "home"})),
            ("u2", "2026-11-16T09:00:00Z", json!({"page": "sale"})),
            ("u3", "2026-11-03T09:00:00Z", json!({"page": "sale"})),
            // The tenth in Berlin.
            ("u4", "2026-11-09T23:30:00Z", json!({"page": "home"})),
        ],
    );
    let amount = |amount: f64| json!({"amount": amount});
    server.post_events(
        "cart",
        &[
            ("u1", "2026-11-02T08:05:00Z", amount(30.0)),
            ("u2", "2026-11-12T09:00:00Z", amount(5.0)),
            ("u3", "2026-11-03T09:01:00Z", amount(8.0)),
            ("u4", "2026-11-09T22:30:00Z", none()),
        ],
    );
    let bought = |id: &str, amount: f64| json!({"event_id": id, "amount": amount});
    server.post_events(
        "purchase",
        &[("u1", "2026-11-02T08:10:00Z", bought("a", 30.0)), ("u3", "2026-11-03T09:02:00Z", bought("b", 8.0))],
    );
    server.post_events("purchase", &[("u3", "2026-11-03T09:02:00Z", json!({"event_id": "b", "retract": true}))]);
    server.settle();
    server
}

fn users(answer: &Value) -> Vec<u64> {
    answer["steps"].as_array().expect("steps").iter().map(|step| step["users"].as_u64().expect("a number")).collect()
}

fn members(server: &TestServer, audience: &str) -> Vec<String> {
    let mut found = server.members(&format!("in_audience('{audience}')"));
    found.sort();
    found
}

fn tag_is(tag: &str, value: &str) -> String {
    if value == "true" { tag.to_owned() } else { format!("{tag} = '{value}'") }
}

fn tag_is_nothing(tag: &str) -> String {
    if tag == "is_member" { "NOT is_member OR is_member IS NULL".to_owned() } else { format!("{tag} IS NULL") }
}

#[test]
fn a_funnel_counts_users_who_did_steps_in_order_and_in_time() {
    let mut server = shop();
    let steps = json!([{"fact": "visit"}, {"fact": "cart"}, {"fact": "purchase"}]);
    let ask = |more: &Value| {
        let mut request = json!({"steps": steps, "window": "7 days"});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        server.ask("/v1/funnel", &request)
    };
    let answer = ask(&json!({}));
    // u4 filled the cart before the visit, u2 ten days after it, and what u3 bought was taken back.
    assert_eq!(users(&answer), [4, 2, 1], "{answer}");
    assert_eq!(answer["steps"][1]["name"], "cart");
    assert_eq!((&answer["steps"][1]["of_first"], &answer["steps"][2]["of_previous"]), (&json!(0.5), &json!(0.5)));
    assert_eq!((&answer["steps"][0]["stopped"], &answer["steps"][2]["stopped"]), (&json!(2), &json!(0)));
    assert_eq!(answer["events"], 11, "{answer}");
    // u1 took five minutes to the cart, u3 one; u2 took ten days.
    let times = |answer: &Value, key: &str| -> Vec<Option<f64>> {
        answer["steps"].as_array().expect("steps").iter().map(|step| step[key].as_f64()).collect()
    };
    assert_eq!(times(&answer, "median_seconds"), [None, Some(180.0), Some(300.0)], "{answer}");
    assert_eq!(times(&answer, "p90_seconds"), [None, Some(300.0), Some(300.0)], "{answer}");
    assert_eq!(answer["steps"][0].get("median_seconds"), None);
    let longer = ask(&json!({"window": "2 weeks"}));
    assert_eq!(times(&longer, "median_seconds"), [None, Some(300.0), Some(300.0)], "{longer}");
    assert_eq!(times(&longer, "p90_seconds"), [None, Some(864_000.0), Some(300.0)], "{longer}");
    assert_eq!(times(&ask(&json!({"where": "TRUE AND FALSE"})), "median_seconds"), [None; 3]);
    assert_eq!(users(&ask(&json!({"window": "2 weeks"}))), [4, 3, 1]);
    assert_eq!(users(&ask(&json!({"window": "5 minutes"}))), [4, 2, 0]);
    assert_eq!(users(&ask(&json!({"window": "0 seconds"}))), [4, 0, 0]);
    assert_eq!(users(&ask(&json!({"where": "gender = 'f'"}))), [2, 2, 1]);
    let narrowed = json!({"steps": [{"fact": "visit", "where": "page = 'home' AND ts < '2026-11-05'"}, {"fact": "cart", "where": "amount >= 6", "name": "full"}]});
    let answer = ask(&narrowed);
    assert_eq!(users(&answer), [2, 1], "{answer}");
    assert_eq!(answer["steps"][0]["name"], "visit where page = 'home' AND ts < '2026-11-05'");
    assert_eq!(answer["steps"][1]["name"], "full");
    let twice = json!({"steps": [{"fact": "visit"}, {"fact": "visit"}]});
    assert_eq!(users(&ask(&twice)), [4, 4], "one event may be several steps");
    let mut strict = twice.clone();
    strict["mode"] = json!(["strict_once"]);
    assert_eq!(users(&ask(&strict)), [4, 1]);
    strict["mode"] = json!(["strict_increase"]);
    strict["window"] = json!("20 days");
    assert_eq!(users(&ask(&strict)), [4, 2]);

    let told = ask(&json!({"by": "gender"}));
    let group = |value: Option<&str>, users: [u64; 3], median: [Option<f64>; 3], p90: [Option<f64>; 3]| json!({"value": value, "users": users, "median_seconds": median, "p90_seconds": p90});
    let went = ([None, Some(180.0), Some(300.0)], [None, Some(300.0), Some(300.0)]);
    let stayed = |value| group(value, [1, 0, 0], [None; 3], [None; 3]);
    assert_eq!(told["groups"], json!([group(Some("f"), [2, 2, 1], went.0, went.1), stayed(Some("m")), stayed(None)]));
    let told = ask(&json!({"by": "interest"}));
    assert_eq!(told["groups"][0], group(Some("yoga"), [2, 2, 1], went.0, went.1));
    // Users without a value, of each type of tag.
    for (tag, value) in [("interest", "yoga"), ("is_member", "true"), ("gender", "f")] {
        let told = ask(&json!({"by": tag, "window": "2 weeks"}));
        for (value, whom) in [(json!(value), tag_is(tag, value)), (Value::Null, tag_is_nothing(tag))] {
            let alone = ask(&json!({"where": whom, "window": "2 weeks"}));
            let group = told["groups"].as_array().expect("groups").iter().find(|group| group["value"] == value);
            let Some(group) = group else {
                assert_eq!(users(&alone), [0, 0, 0], "{told}");
                continue;
            };
            assert_eq!(group["users"], json!(users(&alone)), "{tag} {value}");
            assert_eq!(group["median_seconds"], json!(times(&alone, "median_seconds")), "{tag} {value}");
            assert_eq!(group["p90_seconds"], json!(times(&alone, "p90_seconds")), "{tag} {value}");
        }
    }

    // The same from rows in their tables, which a stop brings there.
    server.restart();
    let answer = server.ask("/v1/funnel", &json!({"steps": steps, "window": "7 days"}));
    assert_eq!((users(&answer), &answer["events"]), (vec![4, 2, 1], &json!(11)));
}

#[test]
fn who_stopped_at_a_step_becomes_an_audience() {
    let server = shop();
    let steps = json!([{"fact": "visit"}, {"fact": "cart"}, {"fact": "purchase"}]);
    let save = |name: &str, step: usize, stopped: bool| {
        let save = json!({"audience": name, "step": step, "stopped": stopped});
        server.ask("/v1/funnel", &json!({"steps": steps, "window": "7 days", "save_as": save}))
    };
    let answer = save("left_the_cart", 2, true);
    assert_eq!(answer["saved"], json!({"audience": "left_the_cart", "users": 1}));
    assert_eq!(members(&server, "left_the_cart"), ["u3"]);
    save("visitors", 1, false);
    assert_eq!(members(&server, "visitors"), ["u1", "u2", "u3", "u4"]);
    // Asked again, the name means those of now.
    save("visitors", 3, false);
    assert_eq!(members(&server, "visitors"), ["u1"]);
    let kept = success(server.get("/v1/audiences/visitors").send().expect("get"));
    assert_eq!(kept["uploaded"]["ids"], 1, "{kept}");
}

#[test]
fn retention_counts_who_came_back_by_the_period_of_the_first_time() {
    let server = shop();
    let ask = |request: Value| server.ask("/v1/retention", &request);
    let grid = |answer: &Value| -> Vec<(String, u64, Value)> {
        let cohorts = answer["cohorts"].as_array().expect("cohorts").iter();
        cohorts
            .map(|cohort| {
                (
                    cohort["from"].as_str().expect("a day").to_owned(),
                    cohort["users"].as_u64().expect("n"),
                    cohort["back"].clone(),
                )
            })
            .collect()
    };
    let expected = |rows: &[(&str, u64, Value)]| -> Vec<(String, u64, Value)> {
        rows.iter().map(|(from, users, back)| ((*from).to_owned(), *users, back.clone())).collect()
    };
    let weekly = json!({"first": {"fact": "visit"}, "every": "week", "periods": 3, "until": "2026-11-20"});
    let answer = ask(weekly.clone());
    let wanted = [("2026-11-02", 3, json!([3, 1, 1])), ("2026-11-09", 1, json!([1, 0])), ("2026-11-16", 0, json!([0]))];
    assert_eq!(grid(&answer), expected(&wanted), "{answer}");
    assert_eq!(answer["rows_read"], 0, "the index tells it all: {answer}");
    assert_eq!(answer["cohorts"][0]["shares"], json!([1.0, 1.0 / 3.0, 1.0 / 3.0]));
    assert_eq!(answer["cohorts"][2]["shares"], json!([]));
    // What no index covers is read.
    let mut read = weekly.clone();
    read["first"]["where"] = json!("page < 'z'");
    read["back"] = json!({"fact": "visit", "where": "page >= ''"});
    let answer = ask(read);
    assert_eq!(grid(&answer), expected(&wanted), "{answer}");
    assert!(answer["rows_read"].as_u64().expect("a number") > 0, "{answer}");
    // Days are those of the fact's clocks.
    let daily = json!({"first": {"fact": "visit", "where": "page = 'home'"}, "periods": 2, "until": "2026-11-10", "where": "NOT gender = 'f' OR gender IS NULL"});
    assert_eq!(grid(&ask(daily)), expected(&[("2026-11-09", 0, json!([0, 0])), ("2026-11-10", 1, json!([1]))]));
    let bought = json!({"first": {"fact": "visit"}, "back": {"fact": "purchase"}, "every": "month", "periods": 1, "until": "2026-11-30"});
    assert_eq!(grid(&ask(bought)), expected(&[("2026-11-01", 4, json!([1]))]));

    let mut saved = weekly.clone();
    saved["save_as"] = json!({"audience": "lost", "cohort": "2026-11-02", "after": 1, "lost": true});
    assert_eq!(ask(saved.clone())["saved"], json!({"audience": "lost", "users": 2}));
    assert_eq!(members(&server, "lost"), ["u2", "u3"]);
    saved["save_as"]["lost"] = json!(false);
    ask(saved);
    assert_eq!(members(&server, "lost"), ["u1"]);
}

#[test]
fn a_sequence_counts_users_who_followed_a_pattern() {
    let mut server = shop();
    let steps = json!([{"fact": "visit"}, {"fact": "cart"}, {"fact": "purchase", "name": "sale"}]);
    let ask = |server: &TestServer, pattern: &str, more: &Value| {
        let mut request = json!({"steps": steps, "pattern": pattern});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        server.ask("/v1/sequence", &request)
    };
    let told = |answer: &Value| {
        let taken = answer["taken"].as_array().expect("a list").iter();
        let taken: Vec<_> = taken.map(|step| json!([step["name"], step["users"], step["stopped"]])).collect();
        (taken, answer["users"].clone(), answer["times"].clone())
    };
    for restarted in [false, true] {
        // u2 took ten days, and u4 filled the cart before the visit.
        let answer = ask(&server, "(?1)(?t<=600)(?2)", &json!({}));
        let expected = (vec![json!(["visit", 4, 2]), json!(["cart", 2, 0])], json!(2), json!(2));
        assert_eq!(told(&answer), expected, "{restarted}: {answer}");
        assert_eq!(answer["taken"][1]["of_first"], json!(0.5));
        server.restart();
    }
    let all = &json!({});
    let next = ask(&server, "(?2).", all);
    assert_eq!(told(&next), (vec![json!(["cart", 4, 1]), json!(["any", 3, 0])], json!(3), json!(3)), "{next}");
    let sold = ask(&server, "(?1)(?2)(?3)", all);
    assert_eq!((&sold["taken"][2]["name"], &sold["users"]), (&json!("sale"), &json!(1)), "what was taken back is none");
    assert_eq!(ask(&server, "(?1)(?1)", all)["users"], 0, "a cart lies between");
    assert_eq!(ask(&server, "(?1).*(?1)", all)["users"], 2);
    assert_eq!(ask(&server, "(?1)(?1)", &json!({"steps": [{"fact": "visit"}]}))["users"], 2, "none is looked at");
    let visits = ask(&server, "(?1)", &json!({"steps": [{"fact": "visit"}], "where": "gender = 'f'"}));
    assert_eq!((&visits["users"], &visits["times"]), (&json!(2), &json!(3)), "{visits}");

    let save = json!({"save_as": {"audience": "left_the_cart", "step": 1, "stopped": true}});
    let answer = ask(&server, "(?1)(?t<=600)(?2)", &save);
    assert_eq!(answer["saved"], json!({"audience": "left_the_cart", "users": 2}));
    assert_eq!(members(&server, "left_the_cart"), ["u2", "u4"]);

    for (change, pointer, words) in [
        (json!({"pattern": "(?1)(?4)"}), "/pattern", "there is no condition 4, only 1 to 3"),
        (json!({"pattern": ""}), "/pattern", "takes no event"),
        (json!({"steps": []}), "/steps", "1 to 32 steps"),
        (json!({"steps": [{"fact": "vist"}]}), "/steps/0/fact", "vist"),
        (json!({"save_as": {"audience": "x", "step": 2}}), "/save_as/step", "counted from 1 to 1"),
    ] {
        let mut request = json!({"steps": steps, "pattern": "(?1)"});
        request.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let answer = server.post("/v1/sequence").json(&request).send().expect("post");
        assert_eq!(answer.status(), 400, "{request}");
        let problem: Value = answer.json().expect("a problem");
        assert_eq!(problem["pointer"], pointer, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{problem}");
    }
}

#[test]
fn what_cannot_be_asked_of_steps_says_why() {
    let server = shop();
    let funnel = |change: &dyn Fn(&mut Value)| {
        let mut request = json!({"steps": [{"fact": "visit"}, {"fact": "purchase"}], "window": "7 days"});
        change(&mut request);
        let answer = server.post("/v1/funnel").json(&request).send().expect("post");
        assert_eq!(answer.status(), 400, "{request}");
        answer.json::<Value>().expect("a problem")
    };
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap_or_else(|| panic!("{problem}")).to_owned();
    let unknown = funnel(&|request| request["steps"][1]["fact"] = json!("purchse"));
    assert_eq!(
        (text(&unknown, "pointer"), text(&unknown, "suggestion")),
        ("/steps/1/fact".into(), "did you mean 'purchase'?".into())
    );
    let column = funnel(&|request| request["steps"][0]["where"] = json!("pge = 'home'"));
    assert_eq!(
        (text(&column, "pointer"), text(&column, "suggestion")),
        ("/steps/0/where".into(), "did you mean `page`?".into())
    );
    let syntax = funnel(&|request| request["steps"][0]["where"] = json!("page ="));
    assert_eq!(text(&syntax, "pointer"), "/steps/0/where");
    let window = funnel(&|request| request["window"] = json!("a while"));
    assert_eq!(text(&window, "pointer"), "/window");
    let within = funnel(&|request| request["within"] = json!("7 moons"));
    assert_eq!(text(&within, "pointer"), "/within");
    let by = funnel(&|request| request["by"] = json!("age"));
    assert!(text(&by, "detail").contains("is a number"), "{by}");
    let step = funnel(&|request| request["save_as"] = json!({"audience": "x", "step": 3}));
    assert_eq!(text(&step, "pointer"), "/save_as/step");
    let none = funnel(&|request| request["steps"] = json!([]));
    assert_eq!(text(&none, "pointer"), "/steps");
    let mode = funnel(&|request| request["mode"] = json!(["strict"]));
    assert!(text(&mode, "detail").contains("strict_order"), "{mode}");

    let retention = |request: Value| {
        let answer = server.post("/v1/retention").json(&request).send().expect("post");
        assert_eq!(answer.status(), 400, "{request}");
        answer.json::<Value>().expect("a problem")
    };
    let until = retention(json!({"first": {"fact": "visit"}, "until": "yesterday"}));
    assert_eq!(
        (text(&until, "pointer"), text(&until, "suggestion")),
        ("/until".into(), "write it as 2026-11-20".into())
    );
    let periods = retention(json!({"first": {"fact": "visit"}, "periods": 401}));
    assert_eq!(text(&periods, "pointer"), "/periods");
    let cell = json!({"audience": "x", "cohort": "2026-11-03", "after": 0});
    let cohort = retention(
        json!({"first": {"fact": "visit"}, "every": "week", "periods": 1, "until": "2026-11-03", "save_as": cell}),
    );
    assert!(text(&cohort, "suggestion").contains("2026-11-02"), "{cohort}");
    let cell = json!({"audience": "x", "cohort": "2026-11-02", "after": 1});
    let after = retention(
        json!({"first": {"fact": "visit"}, "every": "week", "periods": 1, "until": "2026-11-03", "save_as": cell}),
    );
    assert_eq!(text(&after, "pointer"), "/save_as/after");
}

#[test]
fn the_command_line_tells_funnels_sequences_and_retention() {
    let server = shop();
    let url = server.url("");
    let run = |arguments: &[&str]| {
        let done = beluga(&[arguments, &["--url", &url]].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        stdout(&done)
    };
    let funnel = run(&["funnel", "visit where page = 'home'", "cart", "--window", "7 days"]);
    assert!(funnel.contains("visit where page = 'home'") && funnel.contains("of previous"), "{funnel}");
    assert!(funnel.contains("median seconds"), "{funnel}");
    let csv = run(&["funnel", "visit", "cart", "purchase", "--window", "7 days", "-o", "csv"]);
    assert!(csv.contains("cart,2,0.5,0.5,1,180,300") && csv.contains("stopped,median_seconds,p90_seconds"), "{csv}");
    let by = run(&["funnel", "visit", "cart", "--window", "7 days", "--by", "gender", "-o", "csv"]);
    assert!(by.contains("f,cart,2,1,180,300") && by.contains("(none),visit,1"), "{by}");
    run(&["funnel", "visit", "cart", "--window", "7 days", "--save-as", "stopped", "--step", "1", "--stopped"]);
    wait_until("the list is there", || members(&server, "stopped") == ["u2", "u4"]);
    let sequence = run(&["sequence", "visit", "cart", "--pattern", "(?1)(?t<=600)(?2)", "-o", "csv"]);
    assert!(sequence.contains("visit,4,1,1,2") && sequence.contains("cart,2,0.5,0.5,0"), "{sequence}");
    run(&["sequence", "visit", "cart", "--pattern", "(?1)(?t<=600)(?2)", "--save-as", "quick", "--step", "2"]);
    wait_until("the list is there", || members(&server, "quick") == ["u1", "u3"]);
    let retention =
        run(&["retention", "visit", "--every", "week", "--periods", "3", "--until", "2026-11-20", "-o", "csv"]);
    assert!(retention.contains("2026-11-02,3,2,1,0.3"), "{retention}");
    let wrong = beluga(&["funnel", "visit", "--window", "long", "--url", &url]);
    assert!(!wrong.status.success() && stderr(&wrong).contains("write `30 minutes`"), "{}", stderr(&wrong));
}

#[test]
fn nobody_is_kept_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let [declared, data] = ["catalog.yaml", "data"].map(|name| folder.path().join(name).display().to_string());
    std::fs::write(&declared, "facts: { visit: { columns: { page: string } } }").expect("written");
    let applied = beluga(&["apply", "-f", &declared, "--data", &data]);
    assert!(applied.status.success(), "{}", stderr(&applied));
    for question in [
        &["funnel", "visit", "--window", "1 day", "--step", "1"][..],
        &["sequence", "visit", "--pattern", "(?1)", "--step", "1"],
        &["retention", "visit", "--periods", "1", "--cohort", "2026-11-02", "--after", "0"],
        &["path", "visit", "--from", "visit", "--window", "1 day", "--at", "0", "--step", "visit"],
    ] {
        let asked = beluga(&[question, &["--save-as", "x", "--data", &data]].concat());
        assert!(!asked.status.success(), "{question:?}: {}", stdout(&asked));
        assert!(stderr(&asked).contains("kept by a server"), "{question:?}: {}", stderr(&asked));
    }
}
