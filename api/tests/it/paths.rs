//! Paths, through REST and the command line.

use crate::process::wait_until;
use crate::support::{TestServer, beluga, catalog, stderr, stdout};
use serde_json::{Value, json};

/// Four users on a few pages, and what two of them bought.
fn site() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    with["facts"] = json!({
        "visit": {"columns": {"page": "string", "ms": "float"}, "deduplicate": "400 days"},
        "purchase": {"columns": {"amount": {"decimal": [12, 2]}}}});
    server.put_catalog(&with);
    server.post_tags(crate::support::PEOPLE);
    let page = |page: &str| json!({"page": page});
    server.post_events(
        "visit",
        &[
            ("u1", "2026-11-02T07:59:00Z", page("blog")),
            ("u1", "2026-11-02T08:00:00Z", page("home")),
            ("u1", "2026-11-02T08:00:10Z", page("pricing")),
            ("u1", "2026-11-02T08:00:20Z", page("pricing")),
            // Of one moment what was bought comes behind the page, for it is named behind it.
            ("u1", "2026-11-02T08:01:00Z", page("terms")),
            ("u2", "2026-11-02T09:00:00Z", page("home")),
            ("u2", "2026-11-02T09:00:30Z", page("pricing")),
            ("u2", "2026-11-02T12:00:00Z", page("pricing")),
            ("u3", "2026-11-02T10:00:00Z", page("home")),
            ("u3", "2026-11-02T10:00:05Z", json!({})),
            ("u3", "2026-11-02T10:00:07Z", json!({"page": "gone", "event_id": "x"})),
            ("u4", "2026-11-02T10:00:00Z", page("pricing")),
        ],
    );
    server.post_events("visit", &[("u3", "2026-11-02T10:00:07Z", json!({"event_id": "x", "retract": true}))]);
    server.post_events(
        "purchase",
        &[("u1", "2026-11-02T08:01:00Z", json!({"amount": 30})), ("u4", "2026-11-02T10:00:00Z", json!({}))],
    );
    server.settle();
    server
}

fn members(server: &TestServer, audience: &str) -> Vec<String> {
    let mut found = server.members(&format!("in_audience('{audience}')"));
    found.sort();
    found
}

/// Links as `from > to`, with users and the middle of times.
fn links(answer: &Value) -> Vec<(String, u64, f64)> {
    let name = |at: &Value| {
        let place = &answer["places"][at.as_u64().expect("a place") as usize];
        let value = match (&place["value"], &place["others"]) {
            (Value::String(value), _) => format!(" {value}"),
            (_, Value::Number(others)) => format!(" {others} others"),
            _ => String::new(),
        };
        format!("{} {}{value}", place["depth"], place["step"].as_str().expect("a name"))
    };
    let link = |link: &Value| {
        let text = format!("{} > {}", name(&link["from"]), name(&link["to"]));
        (text, link["users"].as_u64().expect("a number"), link["median_seconds"].as_f64().expect("seconds"))
    };
    answer["links"].as_array().expect("links").iter().map(link).collect()
}

fn expected(links: &[(&str, u64, f64)]) -> Vec<(String, u64, f64)> {
    links.iter().map(|(text, users, seconds)| ((*text).to_owned(), *users, *seconds)).collect()
}

#[test]
fn paths_tell_what_users_did_next_and_before() {
    let mut server = site();
    let home = json!({"fact": "visit", "where": "page = 'home'", "name": "home"});
    let steps = json!([{"fact": "visit", "by": "page"}, {"fact": "purchase"}]);
    let ask = |server: &TestServer, more: &Value| {
        let mut request = json!({"from": home, "steps": steps, "window": "1 hour", "fold": true});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        server.ask("/v1/path", &request)
    };
    let next = expected(&[
        ("0 home > 1 visit pricing", 2, 20.0),
        ("0 home > 1 visit", 1, 5.0),
        ("1 visit pricing > 2 visit terms", 1, 50.0),
        ("2 visit terms > 3 purchase", 1, 0.0),
    ]);
    let answer = ask(&server, &json!({}));
    assert_eq!(links(&answer), next, "{answer}");
    assert_eq!((&answer["users"], &answer["events"], &answer["more_links"]), (&json!(3), &json!(11), &json!(0)));
    let place = |depth: u64, step: &str, value: Value, users: u64, stopped: u64| json!({"depth": depth, "step": step, "value": value, "users": users, "stopped": stopped});
    assert_eq!(answer["places"][0], place(0, "home", Value::Null, 3, 0));
    assert_eq!(answer["places"][1], place(1, "visit", json!("pricing"), 2, 1));
    // An event without a page is one of no page.
    assert_eq!(answer["places"][2], place(1, "visit", Value::Null, 1, 1));
    assert_eq!(answer["links"][1]["share"], json!(1.0 / 3.0));
    // What repeats is a step of its own, and three hours later is in time.
    let all = ask(&server, &json!({"fold": false, "window": "4 hours"}));
    assert!(links(&all).contains(&("1 visit pricing > 2 visit pricing".to_owned(), 2, 5_390.0)), "{all}");
    let short = ask(&server, &json!({"depth": 1, "links": 1}));
    assert_eq!((links(&short), &short["more_links"]), (next[..1].to_vec(), &json!(1)));
    assert_eq!(short["places"][1], place(1, "visit", json!("pricing"), 2, 0));
    // Of the pages of those who were at home, pricing has most visits.
    let grouped = ask(&server, &json!({"values": 1}));
    assert_eq!(
        links(&grouped),
        expected(&[
            ("0 home > 1 visit pricing", 2, 20.0),
            ("0 home > 1 visit 3 others", 1, 5.0),
            ("1 visit pricing > 2 visit 3 others", 1, 50.0),
            ("2 visit 3 others > 3 purchase", 1, 0.0),
        ]),
        "{grouped}"
    );
    assert_eq!(links(&ask(&server, &json!({"where": "gender = 'f'", "window": "15 seconds"})))[0].1, 1);

    // What led to a purchase: a visit of the same moment did.
    let before = json!({"from": null, "to": {"fact": "purchase"}, "steps": [{"fact": "visit", "by": "page"}]});
    let answer = ask(&server, &before);
    assert_eq!(
        links(&answer),
        expected(&[
            ("1 visit pricing > 0 purchase", 1, 0.0),
            ("1 visit terms > 0 purchase", 1, 0.0),
            ("2 visit pricing > 1 visit terms", 1, 40.0),
            ("3 visit home > 2 visit pricing", 1, 20.0),
            ("4 visit blog > 3 visit home", 1, 60.0),
        ]),
        "{answer}"
    );
    // The same from rows in their tables, which a stop brings there.
    server.restart();
    assert_eq!(links(&ask(&server, &json!({}))), next);
}

#[test]
fn who_came_to_a_place_becomes_an_audience() {
    let server = site();
    let save = |save: Value| {
        let request = json!({"from": {"fact": "visit", "where": "page = 'home'", "name": "home"}, "window": "1 hour", "fold": true,
            "steps": [{"fact": "visit", "by": "page"}, {"fact": "purchase"}], "values": 1, "save_as": save});
        server.ask("/v1/path", &request)
    };
    let pricing = json!({"step": "visit", "value": "pricing"});
    let answer = save(json!({"audience": "looked", "depth": 1, "at": pricing}));
    assert_eq!(answer["saved"], json!({"audience": "looked", "users": 2}));
    assert_eq!(members(&server, "looked"), ["u1", "u2"]);
    save(json!({"audience": "looked", "depth": 1, "at": pricing, "stopped": true}));
    assert_eq!(members(&server, "looked"), ["u2"]);
    let others = json!({"step": "visit", "others": true});
    save(json!({"audience": "looked", "depth": 1, "at": pricing, "then": others}));
    assert_eq!(members(&server, "looked"), ["u1"]);
    save(json!({"audience": "looked", "depth": 0, "at": {"step": "home"}}));
    assert_eq!(members(&server, "looked"), ["u1", "u2", "u3"]);
    save(json!({"audience": "looked", "depth": 1, "at": {"step": "purchase"}}));
    assert_eq!(members(&server, "looked"), [] as [&str; 0]);
}

#[test]
fn what_cannot_be_asked_of_paths_says_why() {
    let server = site();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut request =
            json!({"from": {"fact": "visit"}, "steps": [{"fact": "purchase"}], "window": "1 hour", "save_as": null});
        change(&mut request);
        let answer = server.post("/v1/path").json(&request).send().expect("post");
        assert_eq!(answer.status(), 400, "{request}");
        let problem = answer.json::<Value>().expect("a problem");
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        (text("pointer"), text("detail") + " " + &text("suggestion"))
    };
    let check = |change: &dyn Fn(&mut Value), pointer: &str, what: &str| {
        let (found, text) = refused(change);
        assert!(found == pointer && text.contains(what), "{found}: {text}");
    };
    check(&|request| request["to"] = json!({"fact": "purchase"}), "/to", "is a funnel");
    check(&|request| request["from"] = Value::Null, "/from", "as `to`");
    check(&|request| request["steps"] = json!([]), "/steps", "from 1 to 31, not 0");
    check(&|request| request["steps"] = json!([{"fact": "visit"}]), "/steps/0", "give one of them a `name`");
    check(&|request| request["steps"][0]["fact"] = json!("purchse"), "/steps/0/fact", "did you mean 'purchase'?");
    check(&|request| request["steps"][0]["by"] = json!("amont"), "/steps/0/by", "did you mean `amount`?");
    check(
        &|request| request["steps"][0]["by"] = json!("amount"),
        "/steps/0/by",
        "name a string, an integer or a boolean",
    );
    check(&|request| request["from"]["where"] = json!("pag = 'home'"), "/from/where", "did you mean `page`?");
    check(&|request| request["window"] = json!("a while"), "/window", "write `30 minutes`");
    check(&|request| request["depth"] = json!(21), "/depth", "from 1 to 20");
    check(&|request| request["values"] = json!(101), "/values", "from 1 to 100");
    check(&|request| request["links"] = json!(10_001), "/links", "from 1 to 10000");
    let many: Vec<Value> = (0..11).map(|at| json!({"fact": "visit", "name": format!("v{at}"), "by": "page"})).collect();
    let much = |request: &mut Value| {
        request["steps"] = json!(many);
        (request["values"], request["depth"]) = (json!(100), json!(20));
    };
    check(&much, "/values", "ask for fewer values");
    let save = |save: Value| move |request: &mut Value| request["save_as"] = save.clone();
    let visit = json!({"step": "visit"});
    check(&save(json!({"audience": "x", "depth": 6, "at": visit})), "/save_as/depth", "for 5 steps");
    check(
        &save(json!({"audience": "x", "depth": 5, "at": visit, "stopped": true})),
        "/save_as/depth",
        "greater `depth`",
    );
    check(
        &save(json!({"audience": "x", "depth": 1, "at": {"step": "vist"}})),
        "/save_as/at",
        "as `places` of the answer",
    );
    check(
        &save(json!({"audience": "x", "depth": 1, "at": visit, "then": visit, "stopped": true})),
        "/save_as/then",
        "leave `then` or `stopped` out",
    );
}

#[test]
fn the_command_line_tells_paths() {
    let server = site();
    let url = server.url("");
    let run = |arguments: &[&str]| {
        let done = beluga(&[arguments, &["--url", &url]].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        stdout(&done)
    };
    let home = "visit where page = 'home'";
    let path = ["path", "visit by page", "purchase", "--from", home, "--window", "1 hour", "--fold"];
    let csv = run(&[&path[..], &["-o", "csv"]].concat());
    assert!(
        csv.starts_with("depth,from,to,users,share,median_seconds\n0,visit where page = 'home',visit: pricing,2,"),
        "{csv}"
    );
    let table = run(&[&path[..], &["--values", "1"]].concat());
    assert!(table.contains("visit: 3 others") && table.contains("median seconds"), "{table}");
    let to = run(&["path", "visit by page", "--to", "purchase", "--window", "1 hour", "--depth", "1", "-o", "csv"]);
    assert!(to.contains("0,visit: terms,purchase,1,0.5,0"), "{to}");
    run(&[&path[..], &["--save-as", "left", "--at", "1", "--step", "visit", "--value", "pricing", "--stopped"]]
        .concat());
    wait_until("the list is there", || members(&server, "left") == ["u2"]);
    let pricing = ["--save-as", "went_on", "--at", "1", "--step", "visit", "--value", "pricing"];
    run(&[&path[..], &pricing, &["--then", "visit", "--then-value", "terms"]].concat());
    wait_until("the list is there", || members(&server, "went_on") == ["u1"]);
    run(&[&path[..], &["--values", "1", "--save-as", "rare", "--at", "1", "--step", "visit", "--others"]].concat());
    wait_until("the list is there", || members(&server, "rare") == ["u3"]);
    let wrong = beluga(&["path", "visit", "--window", "1 hour", "--url", &url]);
    assert!(!wrong.status.success() && stderr(&wrong).contains("--from"), "{}", stderr(&wrong));
}
