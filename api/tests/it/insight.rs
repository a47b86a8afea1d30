//! Why a user is in an audience, and who moved in and out of one, through REST and the command line.

use crate::process::wait_until;
use crate::support::{PURCHASES, TestServer, beluga, catalog, stderr, stdout, success};
use serde_json::{Value, json};
use std::time::Duration;

fn with_purchases() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    with["facts"]["purchase"] = json!({"columns": {"category": "string", "amount": {"decimal": [12, 2]}, "rating": "float"},
        "activity": {"dimensions": ["category"], "measures": ["amount"]}});
    with["spaces"]["taste"] = json!({"dimension": 2, "metric": "cosine"});
    server.put_catalog(&with);
    server.post_tags(crate::support::PEOPLE);
    let more =
        "{\"user_id\":\"u1\",\"ts\":\"2026-11-21T10:00:00Z\",\"category\":\"hats\",\"amount\":4.25,\"rating\":0.5}\n";
    success(server.post("/v1/facts/purchase").body(format!("{PURCHASES}{more}")).send().expect("post"));
    let vectors = "{\"user_id\":\"u1\",\"vector\":[1,0]}\n{\"user_id\":\"u2\",\"vector\":[1,0.1]}\n{\"user_id\":\"u3\",\"vector\":[0,1]}\n";
    success(server.post("/v1/spaces/taste").body(vectors).send().expect("post"));
    success(server.put("/v1/audiences/young").json(&json!({"where": "age < 30 OR gender = 'x'"})).send().expect("put"));
    let list = server.put("/v1/audiences/listed").header("content-type", "text/plain").body("u1\n");
    success(list.send().expect("put"));
    server.settle();
    server
}

fn explained(server: &TestServer, user: &str, expression: &str) -> Value {
    server.ask(&format!("/v1/users/{user}/explain"), &json!({"where": expression}))
}

#[test]
fn every_part_of_an_audience_is_explained_for_a_user() {
    let server = with_purchases();
    let answer =
        explained(&server, "u1", "gender = 'f' AND (age < 30 OR spend > 100) AND interest = 'yoga' AND NOT is_member");
    assert_eq!((&answer["user_id"], &answer["member"]), (&json!("u1"), &json!(false)), "{answer}");
    let root = &answer["explanation"];
    assert_eq!((&root["kind"], &root["truth"]), (&json!("and"), &json!(false)), "{answer}");
    let parts: Vec<(&str, &Value, &Value)> = root["of"]
        .as_array()
        .expect("parts")
        .iter()
        .map(|part| (part["kind"].as_str().expect("text"), &part["truth"], &part["value"]))
        .collect();
    let (yes, no, none) = (json!(true), json!(false), Value::Null);
    let interests = json!(["running", "yoga"]);
    assert_eq!(
        parts,
        [("tag", &yes, &json!("f")), ("or", &yes, &none), ("tag", &yes, &interests), ("not", &no, &none)]
    );
    assert_eq!((&root["of"][1]["of"][0]["truth"], &root["of"][1]["of"][0]["value"]), (&no, &json!(31)), "{answer}");
    assert_eq!(root["of"][1]["of"][1]["value"], json!(129.9), "{answer}");
    assert_eq!(
        (&root["of"][3]["of"][0]["tag"], &root["of"][3]["of"][0]["value"]),
        (&json!("is_member"), &yes),
        "{answer}"
    );
    let text = answer["text"].as_str().expect("text");
    assert!(text.starts_with("false: ") && text.contains("├─ true: gender = 'f'  (gender is f)"), "{text}");

    // What is not known is neither true nor false, and stays so under a NOT.
    let unknown = explained(&server, "u4", "NOT age > 30 OR is_member");
    let root = &unknown["explanation"];
    assert_eq!((&unknown["member"], &root["truth"], &root["of"][0]["truth"]), (&no, &none, &none), "{unknown}");
    let age = &root["of"][0]["of"][0];
    assert_eq!((&age["truth"], &age["tag"], age.get("value")), (&none, &json!("age"), None), "{unknown}");
    assert!(
        unknown["text"].as_str().is_some_and(|text| text.contains("unknown: age > 30  (age is not known)")),
        "{unknown}"
    );
}

#[test]
fn what_users_did_and_what_is_saved_is_explained_too() {
    let server = with_purchases();
    let events = |user: &str, expression: &str| {
        let answer = explained(&server, user, expression);
        (answer["member"].clone(), answer["explanation"]["events"].clone())
    };
    let told = events("u1", "did('purchase', count >= 3, sum(amount) > 10)");
    assert_eq!(told, (json!(false), json!({"count": 2, "sum(amount)": 24.75})));
    assert_eq!(events("u1", "did('purchase', category = 'shoes', count >= 1)"), (json!(true), json!({"count": 1})));
    // What no index covers is searched.
    let searched = events("u1", "did('purchase', amount < 10, count >= 1, sum(rating) < 1)");
    assert_eq!(searched, (json!(true), json!({"count": 1, "sum(rating)": 0.5})));
    let nothing = events("u3", "did('purchase', amount < 10, count = 0)");
    assert_eq!(nothing, (json!(true), json!({"count": 0})));
    assert_eq!(events("u3", "did('purchase', sum(amount) > 0)"), (json!(false), json!({"count": 0})));

    let answer =
        explained(&server, "u3", "at_least(2, in_audience('young'), in_audience('listed'), NOT in_audience('young'))");
    let root = &answer["explanation"];
    assert_eq!((&root["truth"], &root["holding"]), (&json!(false), &json!(1)), "{answer}");
    let young = &root["of"][0];
    assert_eq!((&young["kind"], &young["truth"]), (&json!("audience"), &json!(true)), "{answer}");
    assert_eq!(young["of"][0]["expression"], "age < 30 OR gender = 'x'", "{answer}");
    assert_eq!((&root["of"][1]["kind"], &root["of"][1]["truth"]), (&json!("uploaded"), &json!(false)), "{answer}");
    assert_eq!(root["of"][2]["of"][0]["told_before"], true, "{answer}");

    let like = "similar_to('taste', seed => user_id IN ('u1'), size => 1)";
    let (near, far, none) =
        (explained(&server, "u2", like), explained(&server, "u3", like), explained(&server, "u4", like));
    assert_eq!([&near["member"], &far["member"], &none["member"]], [&json!(true), &json!(false), &json!(false)]);
    let similar = |answer: &Value| answer["explanation"]["similar"].clone();
    let (score, least) =
        (similar(&near)["score"].as_f64().expect("a score"), similar(&near)["at_least"].as_f64().expect("a score"));
    assert!(score >= least && similar(&far)["score"].as_f64().is_some_and(|score| score < least), "{near} {far}");
    assert_eq!((&similar(&none)["score"], &similar(&none)["members"]), (&Value::Null, &json!(1)), "{none}");
}

#[test]
fn an_explanation_that_cannot_be_says_why() {
    let server = with_purchases();
    let told = |user: &str, body: Value| {
        let answer = server.post(&format!("/v1/users/{user}/explain")).json(&body).send().expect("ask");
        (answer.status().as_u16(), answer.json::<Value>().expect("JSON"))
    };
    let (status, problem) = told("stranger", json!({"where": "TRUE"}));
    assert!(status == 404 && problem["detail"].as_str().is_some_and(|text| text.contains("stranger")), "{problem}");
    let (status, problem) = told("u1", json!({"where": "gendr = 'f'"}));
    assert!(status == 400 && problem["pointer"] == "/where" && problem.to_string().contains("gender"), "{problem}");
    assert_eq!(told("u1", json!({"were": "TRUE"})).0, 400);

    let printed = |output: &str| {
        let url = server.url("");
        beluga(&["explain", "age < 40 AND gender = 'f'", "--user", "u1", "--url", &url, "--output", output])
    };
    let table = stdout(&printed("table"));
    assert!(table.starts_with("true: age < 40 AND gender = 'f'\n├─ true: age < 40  (age is 31)\n"), "{table}");
    let csv = stdout(&printed("csv"));
    assert!(
        csv.starts_with("depth,expression,truth,because\n0,") && csv.contains("\n1,age < 40,true,age is 31\n"),
        "{csv}"
    );
    let wrong = beluga(&["explain", "age <", "--user", "u1", "--url", &server.url("")]);
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
}

/// Deep audiences in deep audiences end no thread, and what is explained can be read by whoever asked.
#[test]
fn what_is_too_deep_is_refused_and_what_is_not_is_told() {
    let server = with_purchases();
    let nested =
        |open: &str, inner: &str, levels: usize| format!("{}{inner}{}", open.repeat(levels), ")".repeat(levels));
    let put = |name: &str, body: String| {
        let answer = server.put(&format!("/v1/audiences/{name}")).json(&json!({"where": body})).send().expect("put");
        (answer.status().as_u16(), answer.text().expect("text"))
    };
    let either = "age < 0 OR NOT (";
    let (status, told) = put("x0", nested(either, "is_member", 120));
    assert!((200..300).contains(&status), "{status}: {told}");
    for at in 1..16 {
        let (status, told) = put(&format!("x{at}"), nested(either, &format!("in_audience('x{}')", at - 1), 120));
        // From the third on there is none to be in.
        let expected = if at == 1 { "expression-too-large" } else { "unknown-audience" };
        assert!((400..500).contains(&status) && told.contains(expected), "{at}: {status} {told}");
    }
    let count = |expression: &str| server.ask("/v1/count", &json!({"where": expression}))["count"].clone();
    assert_eq!(count("in_audience('x0')"), count("is_member AND age IS NOT NULL"));
    let explain = |user: &str, expression: &str| {
        let answer = server.post(&format!("/v1/users/{user}/explain")).json(&json!({"where": expression}));
        let answer = answer.send().expect("ask");
        (answer.status().as_u16(), answer.text().expect("text"))
    };
    for expression in ["in_audience('x0')".to_owned(), nested("NOT (", "is_member", 60)] {
        let (status, told) = explain("u1", &expression);
        assert!(status == 400 && told.contains("more than 60 deep in each other"), "{status} {told}");
    }
    let (url, deep) = (server.url(""), nested("NOT (", "is_member", 59));
    let table = stdout(&beluga(&["explain", &deep, "--user", "u1", "--url", &url, "--output", "csv"]));
    assert_eq!(table.lines().count(), 61, "{table}");
    let (status, told) = explain("u1", &nested("NOT (", &format!("age IN ({})", vec!["30"; 60_000].join(",")), 50));
    assert!(status == 200 && told.len() < 500_000, "{status}: {} bytes", told.len());
}

fn movement(server: &TestServer, parameters: &str) -> Value {
    success(server.get(&format!("/v1/audiences/yogis/movement?{parameters}")).send().expect("get"))
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[test]
fn who_moved_between_two_moments_is_told() {
    let mut server = TestServer::with(|config| config.live_interval = Duration::from_millis(20));
    server.put_people();
    let before = now();
    let body = json!({"where": "interest = 'yoga'", "live": true});
    success(server.put("/v1/audiences/yogis").json(&body).send().expect("put"));
    let become_of = |server: &TestServer, lines: &str, entered: u64| {
        server.post_tags(lines);
        wait_until("the audience has changed", || {
            success(server.get("/v1/audiences/yogis").send().expect("get"))["live"]["entered"] == entered
        });
        server.settle();
        std::thread::sleep(Duration::from_millis(2));
    };
    let line =
        |user: &str, change: &str| format!("{{\"user_id\":\"{user}\",\"{change}\":{{\"interest\":[\"yoga\"]}}}}\n");
    become_of(&server, "", 2);
    let begin = now();
    // u1 leaves and returns, u2 passes, u3 leaves, u4 and u5 enter.
    become_of(&server, &(line("u1", "remove") + &line("u2", "add") + &line("u4", "add")), 4);
    let middle = now();
    become_of(&server, &(line("u1", "add") + &line("u2", "remove") + &line("u3", "remove") + &line("u5", "add")), 6);
    let end = now();

    let told = |answer: &Value| {
        ["entered", "left", "passed", "returned"].map(|figure| answer[figure].as_u64().expect("a count"))
    };
    let users = |answer: &Value| -> Vec<String> {
        let users = answer["users"].as_array().expect("users").iter();
        users
            .map(|user| {
                format!("{} {}", user["user_id"].as_str().expect("an id"), user["movement"].as_str().expect("text"))
            })
            .collect()
    };
    let check = |server: &TestServer| {
        let whole = movement(server, &format!("from={begin}&to={end}"));
        assert_eq!(told(&whole), [2, 1, 1, 1], "{whole}");
        assert_eq!(users(&whole), ["u1 returned", "u2 passed", "u3 left", "u4 entered", "u5 entered"]);
        let days = whole["days"].as_array().expect("days").iter();
        let days = days.fold((0, 0), |sum, day| {
            assert!(day["day"].as_str().is_some_and(|day| begin.starts_with(day) || end.starts_with(day)), "{day}");
            (sum.0 + day["entered"].as_u64().expect("a count"), sum.1 + day["left"].as_u64().expect("a count"))
        });
        assert_eq!(days, (4, 3), "each change counts");
        assert_eq!(
            users(&movement(server, &format!("from={begin}&to={middle}"))),
            ["u1 left", "u2 entered", "u4 entered"]
        );
        assert_eq!(told(&movement(server, &format!("from={before}&to={begin}"))), [2, 0, 0, 0], "who fitted at first");
        assert_eq!(told(&movement(server, &format!("from={end}"))), [0, 0, 0, 0]);
        // Page by page, and of one kind.
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = movement(server, &format!("from={begin}&to={end}&limit=2{after}"));
            all.extend(users(&page));
            assert_eq!(told(&page), [2, 1, 1, 1]);
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(all, users(&whole));
        let entered = movement(server, &format!("from={begin}&to={end}&movement=entered&limit=2"));
        assert_eq!(
            (users(&entered), &entered["next"]),
            (vec!["u4 entered".to_owned(), "u5 entered".to_owned()], &Value::Null)
        );
        assert_eq!(users(&movement(server, &format!("from={begin}&to={end}&limit=0"))), [""; 0]);
    };
    check(&server);

    let url = server.url("");
    let asked =
        |more: &[&str]| beluga(&[&["movement", "yogis", "--from", &begin, "--to", &end, "--url", &url], more].concat());
    assert_eq!(stdout(&asked(&["--users", "left", "-o", "csv"])), "user_id,movement\nu3,left\n");
    assert!(stderr(&asked(&[])).contains("2 entered, 1 left"), "{}", stderr(&asked(&[])));

    for (parameters, status, part) in [
        ("from=yesterday", 400, "2026-11-20T10:00:00Z"),
        ("to=2026-11-20T10:00:00Z", 400, "from"),
        ("from=2026-11-20T10:00:00Z&to=2026-11-20T10:00:00Z", 400, "not before"),
        ("from=2026-11-20T10:00:00Z&limit=10001", 400, "10000"),
        ("from=2026-11-20T10:00:00Z&movement=stayed", 400, "entered"),
    ] {
        let answer = server.get(&format!("/v1/audiences/yogis/movement?{parameters}")).send().expect("get");
        let (found, text) = (answer.status().as_u16(), answer.text().expect("text"));
        assert!(found == status && text.contains(part), "{parameters}: {found} {text}");
    }
    success(server.put("/v1/audiences/still").json(&json!({"where": "TRUE"})).send().expect("put"));
    for (name, status) in [("still", 409), ("nobody", 404)] {
        let answer = server.get(&format!("/v1/audiences/{name}/movement?from={begin}")).send().expect("get");
        assert_eq!(answer.status().as_u16(), status, "{name}");
    }
    // From the table as from memory.
    server.restart_with(|config| config.live_interval = Duration::from_millis(20));
    check(&server);
}
