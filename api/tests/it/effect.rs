//! Effect of campaigns, through REST and the command line.

use crate::support::{TestServer, beluga, catalog, stderr, stdout};
use serde_json::{Value, json};

/// Five users, what they were shown over which channel, what they clicked and what they bought.
fn campaigns() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    with["facts"] = json!({
        "impression": {"columns": {"channel": "string", "price": {"decimal": [12, 4]}, "place": "integer"}, "deduplicate": "400 days",
            "activity": {"dimensions": ["channel"], "measures": ["price"]}},
        "click": {"columns": {"channel": "string", "price": "float", "place": "integer", "note": "string"}},
        "purchase": {"columns": {"amount": {"decimal": [12, 2]}}}});
    server.put_catalog(&with);
    server.post_tags(crate::support::PEOPLE);
    let shown = |id: &str, channel: &str, price: f64| json!({"event_id": id, "channel": channel, "price": price});
    server.post_events(
        "impression",
        &[
            ("u1", "2026-11-02T10:00:00Z", shown("a", "tv", 0.5)),
            ("u1", "2026-11-02T23:30:00Z", shown("b", "tv", 0.5)),
            ("u1", "2026-11-09T10:00:00Z", shown("c", "search", 0.25)),
            ("u2", "2026-11-03T10:00:00Z", shown("d", "tv", 0.5)),
            ("u2", "2026-11-03T11:00:00Z", shown("e", "video", 0.1)),
            ("u3", "2026-11-03T10:00:00Z", shown("f", "search", 0.25)),
            ("u3", "2026-11-10T10:00:00Z", json!({"event_id": "g"})),
            ("u4", "2026-11-10T10:00:00Z", shown("h", "video", 0.1)),
            ("u5", "2026-11-02T10:00:00Z", shown("i", "social", 0.2)),
        ],
    );
    let back = json!({"event_id": "h", "retract": true, "channel": "video", "price": 0.1});
    server.post_events("impression", &[("u4", "2026-11-10T10:00:00Z", back)]);
    let clicked = |channel: &str, price: f64| json!({"channel": channel, "price": price, "place": 1});
    server.post_events(
        "click",
        &[
            ("u1", "2026-11-02T11:00:00Z", clicked("tv", 1.0)),
            ("u1", "2026-11-02T12:00:00Z", clicked("tv", 1.5)),
            ("u3", "2026-11-03T12:00:00Z", clicked("search", 2.0)),
        ],
    );
    server.post_events(
        "purchase",
        &[
            ("u3", "2026-11-12T10:00:00Z", json!({"amount": 2.5})),
            ("u1", "2026-11-16T10:00:00Z", json!({"amount": 10.0})),
        ],
    );
    server.settle();
    server
}

fn request(more: &Value) -> Value {
    let mut request = json!({"impressions": {"fact": "impression"}, "clicks": {"fact": "click"}, "conversions": {"fact": "purchase"},
        "cost": "price", "value": "amount", "by": "channel", "cap": 2});
    request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    request
}

/// Some fields of some objects.
fn told(of: &Value, keys: &[&str]) -> Vec<Value> {
    let row = |one: &Value| {
        let field = |key: &&str| if one.get(*key).is_some() { one[*key].clone() } else { one["figures"][*key].clone() };
        Value::Array(keys.iter().map(field).collect())
    };
    of.as_array().expect("a list").iter().map(row).collect()
}

#[test]
fn campaigns_are_told_by_group_and_all_together() {
    let mut server = campaigns();
    let ask = |server: &TestServer, more: Value| server.ask("/v1/effect", &request(&more));
    let answer = ask(&server, json!({}));
    let all = &answer["all"]["figures"];
    for (key, wanted) in [
        ("impressions", json!(8)),
        ("reach", json!(4)),
        ("frequency", json!(2.0)),
        ("clicks", json!(3)),
        ("clickers", json!(2)),
        ("click_rate", json!(0.375)),
        ("conversions", json!(2)),
        ("converters", json!(2)),
        ("conversion_rate", json!(2.0 / 3.0)),
        ("cost", json!(2.3)),
        ("cost_per_thousand", json!(287.5)),
        ("value", json!(12.5)),
        ("cost_per_conversion", json!(1.15)),
    ] {
        assert_eq!(all[key], wanted, "{key} of {answer}");
    }
    assert_eq!(answer["all"]["frequency"], json!([1, 3]));
    let groups = told(&answer["groups"], &["group", "impressions", "reach", "clicks", "clickers", "cost"]);
    assert_eq!(
        groups,
        [
            json!(["tv", 3, 2, 2, 1, 1.5]),
            json!(["search", 2, 2, 1, 1, 0.5]),
            json!([null, 1, 1, 0, 0, 0]),
            json!(["social", 1, 1, 0, 0, 0.2]),
            json!(["video", 1, 1, 0, 0, 0.1])
        ]
    );
    assert_eq!(answer["groups"][0]["frequency"], json!([1, 1]));
    // Purchases name no channel, so groups are told without them; nothing is divided by no click.
    let social = &answer["groups"][3]["figures"];
    assert!(social.get("conversions").is_none() && social.get("value").is_none(), "{social}");
    assert_eq!([&social["cost_per_click"], &social["return_on_cost"]], [&Value::Null; 2]);
    assert_eq!(
        (&answer["more"], &answer["time_zone"], &answer["all"]["periods"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );

    // Of some users, and some time.
    assert_eq!(ask(&server, json!({"where": "gender = 'f'"}))["all"]["figures"]["impressions"], json!(5));
    let day = ask(&server, json!({"between": ["2026-11-03", "2026-11-03"]}));
    assert_eq!(told(&day["groups"], &["group", "impressions"]).len(), 3);
    assert_eq!((&day["all"]["figures"]["impressions"], &day["all"]["figures"]["conversions"]), (&json!(3), &json!(0)));
    let narrowed = json!({"fact": "impression", "where": "channel = 'tv'"});
    assert_eq!(ask(&server, json!({"impressions": narrowed}))["all"]["figures"]["impressions"], json!(3));
    // Clicks that cost something, in floating point; a column of another name.
    let of_clicks = ask(&server, json!({"cost_of": "clicks", "order": "cost"}));
    assert_eq!(
        (&of_clicks["all"]["figures"]["cost"], &of_clicks["all"]["figures"]["cost_per_click"]),
        (&json!(4.5), &json!(1.5))
    );
    assert_eq!(told(&of_clicks["groups"], &["group", "cost"])[0], json!(["tv", 2.5]));
    let other = json!({"impressions": {"fact": "impression", "by": "channel"}, "clicks": {"fact": "click", "by": "note"}, "by": null});
    assert_eq!(told(&ask(&server, other)["groups"], &["group", "clicks"])[2], json!([null, 3]));
    let bare = server.ask("/v1/effect", &json!({"impressions": {"fact": "impression"}}));
    assert_eq!((&bare["groups"], bare.get("incremental")), (&json!([]), None));
    assert_eq!(
        (&bare["all"]["frequency"], bare["all"]["figures"].get("cost")),
        (&json!([1, 2, 1, 0, 0, 0, 0, 0, 0, 0]), None)
    );

    // What is not listed is told together; a user counts once.
    let one = ask(&server, json!({"limit": 1}));
    let more = &one["more"]["figures"];
    assert_eq!(
        (&one["more"]["groups"], &more["impressions"], &more["reach"], &more["cost"]),
        (&json!(4), &json!(5), &json!(4), &json!(0.8))
    );

    // The same from rows in their tables, which a stop brings there.
    server.restart();
    let again = ask(&server, json!({}));
    assert_eq!(
        (&again["all"], &again["groups"], &again["incremental"]),
        (&answer["all"], &answer["groups"], &answer["incremental"])
    );
}

#[test]
fn periods_are_by_the_clocks_of_a_zone() {
    let server = campaigns();
    let ask = |more: Value| server.ask("/v1/effect", &request(&more));
    let weeks = ask(json!({"grain": "week"}));
    assert_eq!(weeks["time_zone"], "UTC");
    assert_eq!(
        told(&weeks["all"]["periods"], &["from", "impressions", "reach", "clicks", "converters", "value", "cost"]),
        [
            json!(["2026-11-02", 6, 4, 3, 0, 0, 2.05]),
            json!(["2026-11-09", 2, 2, 0, 1, 2.5, 0.25]),
            json!(["2026-11-16", 0, 0, 0, 1, 10, 0])
        ]
    );
    let days = ask(json!({"grain": "day", "time_zone": "asia/shanghai"}));
    assert_eq!(days["time_zone"], "Asia/Shanghai");
    let tv = &days["groups"][0];
    assert_eq!(
        told(&tv["periods"], &["from", "impressions", "reach", "cost"]),
        [json!(["2026-11-02", 1, 1, 0.5]), json!(["2026-11-03", 2, 2, 1])]
    );
    let hours = ask(json!({"grain": "hour"}));
    assert_eq!(told(&hours["groups"][0]["periods"], &["from"])[1], json!(["2026-11-02T11:00"]));
    let month = ask(json!({"grain": "month"}));
    assert_eq!(told(&month["all"]["periods"], &["from", "reach"]), [json!(["2026-11-01", 4])]);
}

#[test]
fn one_more_channel_adds_whom_no_other_reached() {
    let server = campaigns();
    let ask = |more: Value| server.ask("/v1/effect", &request(&more))["incremental"].clone();
    let keys = ["channel", "reach", "exclusive", "adds", "cumulative", "share"];
    let most = ask(json!({}));
    assert_eq!(
        told(&most["channels"], &keys),
        [
            json!(["search", 2, 0, 2, 2, 0.5]),
            json!(["social", 1, 1, 1, 3, 0.75]),
            json!(["tv", 2, 0, 1, 4, 1.0]),
            json!([null, 1, 0, 0, 4, 1.0]),
            json!(["video", 1, 0, 0, 4, 1.0])
        ]
    );
    let named = ask(json!({"channels": ["video", "radio"], "limit": 3}));
    assert_eq!(
        told(&named["channels"], &keys[..5]),
        [json!(["video", 1, 0, 1, 1]), json!(["radio", 0, 0, 0, 1]), json!(["search", 2, 0, 2, 3])]
    );
    assert_eq!(named["more"], json!({"channels": 3, "adds": 1}));
    assert_eq!(told(&ask(json!({"channels": [null]}))["channels"], &["channel", "cumulative"])[0], json!([null, 1]));
    let by_place = ask(json!({"clicks": null, "by": "place", "channels": ["7"]}));
    assert_eq!(told(&by_place["channels"], &["channel", "reach"]), [json!(["7", 0]), json!([null, 4])]);
}

#[test]
fn the_index_tells_what_events_say() {
    let mut server = campaigns();
    let asked = [
        json!({}),
        json!({"by": null}),
        json!({"grain": "week"}),
        json!({"grain": "month", "limit": 1}),
        json!({"grain": "day", "between": ["2026-11-03", "2026-11-09"]}),
        json!({"where": "gender = 'f'", "channels": ["video"]}),
        json!({"impressions": {"fact": "impression", "where": "channel <> 'tv'"}, "grain": "day"}),
        json!({"impressions": {"fact": "impression", "where": "channel IN ('tv', 'social')"}, "by": null}),
    ];
    for is_in_tables in [false, true] {
        if is_in_tables {
            server.restart();
        }
        for more in &asked {
            let mut asked = request(more);
            for key in ["clicks", "conversions", "value"] {
                asked[key] = Value::Null;
            }
            let told = server.ask("/v1/effect", &asked);
            // With a condition that no index knows, and every event fits.
            let condition = asked["impressions"]["where"].as_str().unwrap_or("TRUE");
            asked["impressions"]["where"] = json!(format!("{condition} AND ts IS NOT NULL"));
            let read = server.ask("/v1/effect", &asked);
            assert!(told["events"] == 0 && read["events"].as_u64() > Some(0), "{asked} {told} {read}");
            for key in ["all", "groups", "more", "incremental"] {
                assert_eq!(told[key], read[key], "{key} of {asked}");
            }
        }
    }
    // Hours, other clocks and other columns are read.
    for more in
        [json!({"grain": "hour"}), json!({"grain": "day", "time_zone": "Asia/Shanghai"}), json!({"by": "place"})]
    {
        let asked = json!({"impressions": {"fact": "impression"}, "by": "channel"});
        let mut asked = asked.as_object().expect("an object").clone();
        asked.extend(more.as_object().expect("an object").clone());
        assert_eq!(server.ask("/v1/effect", &Value::Object(asked))["events"], json!(8), "{more}");
    }
}

#[test]
fn what_cannot_be_told_says_why() {
    let server = campaigns();
    let check = |more: Value, pointer: &str, what: &str| {
        let answer = server.post("/v1/effect").json(&request(&more)).send().expect("post");
        assert_eq!(answer.status(), 400, "{more}");
        let problem = answer.json::<Value>().expect("a problem");
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        assert!(text("pointer") == pointer, "{problem}");
        assert!((text("detail") + " " + &text("suggestion")).contains(what), "{problem}");
    };
    check(json!({"impressions": {"fact": "impresion"}}), "/impressions/fact", "did you mean 'impression'?");
    check(json!({"clicks": {"fact": "click", "where": "chanel = 'x'"}}), "/clicks/where", "did you mean `channel`?");
    check(json!({"conversions": {"fact": "purchase", "by": "chanel"}}), "/conversions/by", "no column `chanel`");
    check(json!({"by": "chanel"}), "/by", "did you mean `channel`?");
    check(json!({"by": "price"}), "/by", "name a string, an integer or a boolean");
    check(json!({"clicks": {"fact": "click", "by": "place"}}), "/clicks/by", "name columns of one type");
    check(json!({"by": null, "clicks": {"fact": "click", "by": "place"}}), "/clicks/by", "name their column with `by`");
    check(json!({"cost": "prise"}), "/cost", "did you mean `price`?");
    check(json!({"cost": "channel"}), "/cost", "name an integer, a decimal or a float");
    check(json!({"cost_of": "clicks", "clicks": null}), "/cost_of", "clicks are not asked for");
    check(json!({"cost_of": "clicks", "cost": null}), "/cost", "name a column of clicks");
    check(json!({"conversions": null}), "/value", "conversions are not asked for");
    check(json!({"value": "amont"}), "/value", "did you mean `amount`?");
    check(json!({"order": "value"}), "/order", "told without `value`");
    check(json!({"cap": 0}), "/cap", "from 1 to 1000");
    check(json!({"limit": 10_001}), "/limit", "from 1 to 10000");
    check(json!({"cap": 1_000, "limit": 2_000}), "/cap", "more than the 1000000 that an answer may list");
    check(json!({"by": null, "channels": ["tv"]}), "/channels", "with `by`");
    check(json!({"channels": ["tv", "tv"]}), "/channels/1", "named twice");
    check(
        json!({"clicks": null, "by": "place", "channels": ["left"]}),
        "/channels/0",
        "`left` is no value of a column of type integer",
    );
    check(json!({"time_zone": "Asia/Shanghai"}), "/time_zone", "add `grain`");
    check(json!({"grain": "day", "time_zone": "Asia/Shanghia"}), "/time_zone", "did you mean `Asia/Shanghai`?");
    check(json!({"within": "7 moons"}), "/within", "days");
    check(json!({"between": ["yesterday", "2026-11-20"]}), "/between", "yesterday");
    check(json!({"where": "gendr = 'f'"}), "/where", "gender");
}

#[test]
fn the_command_line_tells_effects() {
    let server = campaigns();
    let url = server.url("");
    let ask = ["effect", "impression", "--clicks", "click", "--cost", "price", "--by", "channel", "--url", &url];
    let run = |more: &[&str]| {
        let done = beluga(&[&ask[..], more].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        (stdout(&done), stderr(&done))
    };
    let (csv, _) =
        run(&["--conversions", "purchase where amount > 3", "--value", "amount", "--limit", "2", "-o", "csv"]);
    assert!(csv.starts_with("group,impressions,reach,frequency,clicks,clickers,click_rate,conversions,converters,conversion_rate,cost,cost_per_thousand,cost_per_user,cost_per_click,cost_per_conversion,value,return_on_cost\n"), "{csv}");
    assert!(csv.contains("\n(all),8,4,2,3,2,0.375,1,1,") && csv.contains("\ntv,3,2,1.5,2,1,"), "{csv}");
    assert!(csv.contains("\n(others),3,3,1,0,0,0,"), "{csv}");
    let (periods, _) = run(&["--grain", "week", "-o", "csv"]);
    assert!(periods.contains("\ntv,2026-11-02,3,2,1.5,2,1,"), "{periods}");
    let (frequency, footer) = run(&["--show", "frequency", "--cap", "2", "--limit", "1", "-o", "csv"]);
    assert_eq!(frequency, "group,impressions,users\n(all),1,1\n(all),2+,3\ntv,1,1\ntv,2+,1\n", "{footer}");
    let (reach, footer) = run(&["--show", "reach", "--channel", "video", "--limit", "2"]);
    assert!(reach.contains("video") && reach.contains("search") && !reach.contains("social"), "{reach}");
    assert!(footer.contains("3 more channels add 1: ask for them with --limit"), "{footer}");
    let (json, _) = run(&["--between", "2026-11-03,2026-11-03", "--where", "gender = 'm'", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["all"]["figures"]["cost"], json!(0.6));
    let wrong = beluga(&[&ask[..], &["--between", "2026-11-03"]].concat());
    assert!(!wrong.status.success() && stderr(&wrong).contains("takes two times"), "{}", stderr(&wrong));
    let wrong = beluga(&["effect", "impression", "--show", "reach", "--url", &url]);
    assert!(!wrong.status.success() && stderr(&wrong).contains("--by"), "{}", stderr(&wrong));
}
