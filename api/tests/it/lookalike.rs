//! Users like others through every door: REST, the audience language, SQL and the command line.

use crate::process::wait_until;
use crate::support::{TestServer, beluga, catalog, stderr, stdout, success};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Users of three tastes, twenty of each; every fifth has no vector.
const USERS: usize = 60;
const SEED: &str = "user_id IN ('u0', 'u3', 'u6', 'u9', 'u5')";

fn taste(user: usize) -> usize {
    user % 3
}

fn has_vector(user: usize) -> bool {
    user == 0 || !user.is_multiple_of(5)
}

fn server() -> TestServer {
    let server = TestServer::start();
    let mut with = catalog();
    with["spaces"] = json!({"taste": {"dimension": 4, "metric": "cosine"}});
    server.put_catalog(&with);
    let (mut tags, mut vectors) = (String::new(), String::new());
    for user in 0..USERS {
        let gender = if user % 2 == 0 { "f" } else { "m" };
        tags += &format!("{}\n", json!({"user_id": format!("u{user}"), "set": {"gender": gender, "age": user}}));
        if has_vector(user) {
            let mut vector = [0.01 * user as f64, 0.02, 0.03, 0.04];
            vector[1 + taste(user)] += 1.0;
            vectors += &format!("{}\n", json!({"user_id": format!("u{user}"), "vector": vector}));
        }
    }
    server.post_tags(&tags);
    success(server.post("/v1/spaces/taste?visible=true").body(vectors).send().expect("post"));
    server.settle();
    server
}

fn ask(server: &TestServer, request: &Value) -> Value {
    success(server.post("/v1/lookalike").json(request).send().expect("ask"))
}

fn asked_for(server: &TestServer, arguments: &[&str]) -> std::process::Output {
    beluga(&[&["lookalike", "--url", &server.url(""), "--space", "taste", "--seed", SEED], arguments].concat())
}

fn ids(answer: &Value) -> Vec<usize> {
    let id = |user: &Value| user["user_id"].as_str().expect("an id")[1..].parse().expect("a number");
    answer["users"].as_array().expect("users").iter().map(id).collect()
}

#[test]
fn the_most_alike_come_first_and_filters_are_exact() {
    let server = server();
    let base = json!({"space": "taste", "seed": SEED, "size": 10, "method": "mean"});
    let with = |more: Value| {
        let mut request = base.clone();
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        request
    };
    let answer = ask(&server, &base);
    let found = ids(&answer);
    assert_eq!((found.len(), &answer["count"], &answer["wanted"]), (10, &json!(10), &json!(10)), "{answer}");
    // Of the seed, u5 has no vector.
    assert_eq!((&answer["seed_users"], &answer["seed_with_vector"]), (&json!(5), &json!(4)), "{answer}");
    assert!(
        found.iter().all(|user| taste(*user) == 0 && has_vector(*user) && ![0, 3, 6, 9].contains(user)),
        "{found:?}"
    );
    let scores: Vec<f64> =
        answer["users"].as_array().expect("users").iter().filter_map(|user| user["score"].as_f64()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores.len() == 10, "{scores:?}");

    let women = ids(&ask(&server, &with(json!({"within": "gender = 'f'", "size": 5}))));
    assert!(women.len() == 5 && women.iter().all(|user| user % 2 == 0), "{women:?}");
    let others = ids(&ask(&server, &with(json!({"exclude": "age >= 30", "size": 60}))));
    assert!(others.iter().all(|user| *user < 30), "{others:?}");
    let candidates = (0..30).filter(|user| has_vector(*user) && ![0, 3, 6, 9].contains(user)).count();
    assert_eq!(others.len(), candidates, "everybody there is");

    // The next ones are those behind the first ones.
    let next = ids(&ask(&server, &with(json!({"after": 10}))));
    let both = ids(&ask(&server, &with(json!({"size": 20}))));
    assert_eq!([found.clone(), next].concat(), both);
    let kept = ids(&ask(&server, &with(json!({"include_seed": true, "size": 14, "exact": true}))));
    assert!([0, 3, 6, 9].iter().all(|user| kept.contains(user)), "{kept:?}");
    let share = ask(&server, &json!({"space": "taste", "seed": SEED, "share": 0.25, "recall": true, "prototypes": 2}));
    assert_eq!((&share["count"], &share["recall"]), (&json!(12), &json!(1.0)), "a quarter of 45, rounded up: {share}");
    let like = json!({"space": "taste", "vectors": [[0, 0, 1, 0]], "size": 3, "limit": 2});
    let like = ask(&server, &like);
    assert_eq!((ids(&like).len(), &like["count"]), (2, &json!(3)), "{like}");
    assert!(ids(&like).iter().all(|user| taste(*user) == 1), "{like}");
}

#[test]
fn the_same_question_is_a_condition_everywhere() {
    let server = server();
    let request = json!({"space": "taste", "seed": SEED, "size": 10, "method": "mean", "save_as": "like_them"});
    let answer = ask(&server, &request);
    let expression = answer["expression"].as_str().expect("an expression");
    let found: HashSet<String> = ids(&answer).iter().map(|user| format!("u{user}")).collect();
    for r#where in [expression, "in_audience('like_them')"] {
        let members = success(server.post("/v1/members").json(&json!({"where": r#where})).send().expect("ask"));
        let members: HashSet<String> = members["users"]
            .as_array()
            .expect("users")
            .iter()
            .map(|user| user.as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(members, found, "{where}");
        let both = json!({"where": format!("gender = 'f' AND {where}")});
        let count = success(server.post("/v1/count").json(&both).send().expect("ask"));
        assert_eq!(
            count["count"],
            found.iter().filter(|user| user[1..].parse::<usize>().is_ok_and(|user| user % 2 == 0)).count()
        );
        let sql = json!({"sql": format!("SELECT count(*) FROM users WHERE {where}")});
        let rows = success(server.post("/v1/sql").json(&sql).send().expect("ask"));
        assert_eq!(rows["rows"][0][0], 10, "{rows}");
    }
    let printed = stdout(&asked_for(&server, &["--size", "10", "--method", "mean", "-o", "json"]));
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(printed["users"], answer["users"]);
    let table = asked_for(&server, &["--share", "0.2"]);
    assert!(stdout(&table).contains("score") && stderr(&table).contains("of 45 candidates"), "{table:?}");
}

#[test]
fn whom_you_got_is_told() {
    let server = server();
    // Users of the first taste are a third of all; tags that follow the taste set them apart.
    let lines = (0..USERS).map(|user| {
        let sport = ["yoga", "golf", "chess"][taste(user)];
        format!("{}\n", json!({"user_id": format!("u{user}"), "set": {"interest": [sport], "spend": user % 2}}))
    });
    server.post_tags(&lines.collect::<String>());
    server.settle();
    let request = json!({"space": "taste", "seed": SEED, "size": 10, "method": "mean", "distinguish": true});
    let answer = ask(&server, &request);
    let list = answer["distinguishing"].as_array().expect("a list");
    assert_eq!((&list[0]["expression"], &list[0]["count"]), (&json!("interest = 'yoga'"), &json!(10)), "{answer}");
    assert_eq!(list[0]["baseline_count"], 20, "everybody is the baseline: {answer}");
    assert!(list.iter().all(|thing| thing["tag"] == "interest"), "neither age, gender nor spend: {answer}");
    // The same as a profile of these users says.
    let found: Vec<String> = ids(&answer).iter().map(|user| format!("'u{user}'")).collect();
    let asked = json!({"where": format!("user_id IN ({})", found.join(", ")), "distinguish": true});
    assert_eq!(server.ask("/v1/profile", &asked)["distinguishing"], answer["distinguishing"]);

    let among = "interest <> 'chess' AND age < 50";
    let mut within = request.clone();
    within["within"] = json!(among);
    let answer = ask(&server, &within);
    assert_eq!(
        answer["distinguishing"][0]["baseline_count"],
        server.count(&format!("interest = 'yoga' AND {among}")),
        "{answer}"
    );
    let told = asked_for(&server, &["--size", "10", "--method", "mean", "--distinguish", "1", "-o", "csv"]);
    assert!(stdout(&told).contains("interest = 'yoga',10,1,20,"), "{told:?}");
    assert!(ask(&server, &json!({"space": "taste", "seed": SEED, "size": 10})).get("distinguishing").is_none());
}

#[test]
fn scores_are_kept_as_a_number_tag() {
    let server = server();
    // Somebody who will not be found has a number there, and somebody who will.
    server.post_tags("{\"user_id\":\"u1\",\"set\":{\"spend\":9.99}}\n{\"user_id\":\"u12\",\"set\":{\"spend\":9.99}}\n");
    server.settle();
    let request = json!({"space": "taste", "seed": SEED, "size": 10, "method": "mean", "scores_to": "spend"});
    let check = |answer: &Value, unset: u64| {
        assert_eq!((&answer["scores"]["tag"], &answer["scores"]["written"]), (&json!("spend"), &json!(10)), "{answer}");
        assert_eq!(answer["scores"]["unset"], unset, "{answer}");
        assert_eq!(server.count("spend IS NOT NULL"), 10, "only of whom was found");
        let mut kept = Vec::new();
        for user in answer["users"].as_array().expect("users") {
            let told =
                server.get(&format!("/v1/users/{}", user["user_id"].as_str().expect("an id"))).send().expect("get");
            let (spend, score) = (success(told)["tags"]["spend"].as_f64(), user["score"].as_f64().expect("a score"));
            let spend = spend.expect("a number");
            assert!((spend - score).abs() <= 0.005 + 1e-6, "{spend} for {score}");
            kept.push(spend);
        }
        let ends = (answer["scores"]["least"].as_f64(), answer["scores"]["greatest"].as_f64());
        assert_eq!(ends, (kept.last().copied(), kept.first().copied()), "best first: {answer}");
    };
    check(&ask(&server, &request), 1);
    check(&ask(&server, &request), 0);
    let mut fewer = request.clone();
    (fewer["size"], fewer["limit"]) = (json!(4), json!(1));
    let answer = ask(&server, &fewer);
    assert_eq!((&answer["scores"]["written"], &answer["scores"]["unset"]), (&json!(4), &json!(6)), "{answer}");
    assert_eq!(server.count("spend IS NOT NULL"), 4);
    let told = asked_for(&server, &["--size", "10", "--method", "mean", "--scores-to", "spend"]);
    assert!(stderr(&told).contains("10 scores are in `spend`, 0 older ones are gone"), "{told:?}");

    for (tag, part) in
        [("spent", "did you mean `spend`"), ("gender", "is not a number"), ("age", "scale: 4"), ("seen_at", "times")]
    {
        let mut wrong = request.clone();
        wrong["scores_to"] = json!(tag);
        let answer = server.post("/v1/lookalike").json(&wrong).send().expect("ask");
        let (status, problem) = (answer.status().as_u16(), answer.text().expect("text"));
        assert!(status == 400 && problem.contains(part) && problem.contains("/scores_to"), "{tag}: {status} {problem}");
    }
}

#[test]
fn keeping_scores_takes_the_right_to_write() {
    let server = server();
    let token = |name: &str, scopes: Value, with: Option<&str>| -> String {
        let mut request = server.post("/v1/tokens").json(&json!({"name": name, "scopes": scopes}));
        if let Some(with) = with {
            request = request.bearer_auth(with);
        }
        success(request.send().expect("post"))["token"].as_str().expect("a token").to_owned()
    };
    let admin = token("admin", json!(["admin"]), None);
    let reader = token("reader", json!(["query", "export"]), Some(&admin));
    let writer = token("writer", json!(["query", "export", "ingest"]), Some(&admin));
    let request = json!({"space": "taste", "seed": SEED, "size": 10, "method": "mean", "scores_to": "spend"});
    let status = |token: &str, request: &Value| {
        server.post("/v1/lookalike").bearer_auth(token).json(request).send().expect("ask").status().as_u16()
    };
    assert_eq!((status(&reader, &request), status(&writer, &request)), (403, 200));
    assert_eq!(status(&reader, &json!({"space": "taste", "seed": SEED, "size": 10})), 200);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let server = server();
    for (request, part) in [
        (json!({"space": "tast", "seed": SEED, "size": 1}), "did you mean 'taste'"),
        (json!({"space": "taste", "size": 1}), "/seed"),
        (json!({"space": "taste", "seed": SEED}), "`size`"),
        (json!({"space": "taste", "seed": SEED, "size": 0}), "nobody is asked for"),
        (json!({"space": "taste", "seed": SEED, "size": 0}), "write size: 1000, or share: 0.02"),
        (json!({"space": "taste", "seed": SEED, "size": 1, "after": 1.5}), "write size: 1000"),
        (json!({"space": "taste", "seed": SEED, "share": 1.5}), "/share"),
        (json!({"space": "taste", "seed": SEED, "size": 1, "share": 0.5}), "not both"),
        (json!({"space": "taste", "seed": "gendr = 'f'", "size": 1}), "did you mean `gender`"),
        (json!({"space": "taste", "seed": "gender = 'x'", "size": 1}), "seed"),
        (json!({"space": "taste", "seed": "user_id IN ('u5')", "size": 1}), "vector"),
        (json!({"space": "taste", "seed": SEED, "size": 1, "weights": "gender"}), "number"),
        (json!({"space": "taste", "vectors": [[1, 2]], "size": 1}), "4"),
        (json!({"space": "taste", "vectors": [[0, 0, 0, 0]], "size": 1}), "vector 1"),
        (json!({"space": "taste", "vectors": [[1, 0, 0, 0]], "size": 1, "save_as": "x"}), "/save_as"),
        (json!({"space": "taste", "vectors": [[1, 0, 0, 0]], "size": 1, "weights": "age"}), "/weights"),
        (json!({"space": "taste", "seed": "in_audience('me')", "size": 1, "save_as": "me"}), "/seed"),
        (json!({"space": "taste", "seed": SEED, "size": 1, "limit": 100_000}), "save_as"),
        (json!({"space": "taste", "seed": SEED, "size": 1, "prototypes": 0}), "prototypes"),
        (json!({"space": "taste", "sed": SEED, "size": 1}), "sed"),
    ] {
        let answer = server.post("/v1/lookalike").json(&request).send().expect("ask");
        let (told, problem) = (answer.status().as_u16(), answer.text().expect("text"));
        assert!((400..=422).contains(&told) && problem.contains(part), "{request}: {told} {problem}, not {part}");
    }
    let said = stderr(&asked_for(&server, &["--size", "1", "--weights", "agee"]));
    assert!(said.contains("did you mean `age`") && !said.contains("user_id"), "{said}");
    let said = stderr(&asked_for(&server, &["--size", "1", "--within", "-", "--exclude", "-"]));
    assert!(said.contains("write it once"), "{said}");
    let said = stderr(&asked_for(&server, &["--size", "1", "--within", "gendr = 'f'"]));
    assert!(said.contains("did you mean `gender`") && said.contains("gendr = 'f'"), "{said}");
}

#[test]
fn a_user_is_looked_up_whatever_became_of_audiences() {
    let server = server();
    let put = |name: &str, audience: Value| {
        success(server.put(&format!("/v1/audiences/{name}")).json(&audience).send().expect("put"));
    };
    let like = |seed: &str, size: usize| json!({"where": format!("similar_to('taste', seed => {seed}, size => {size}, method => 'mean', include_seed => TRUE)")});
    put("women", json!({"where": "gender = 'f'"}));
    put("like_u0", like("user_id = 'u0'", 10));
    put("like_nobody", like("user_id = 'nobody'", 5));
    let mut live = like("user_id = 'u0'", 10);
    live["live"] = json!(true);
    put("live_like_u0", live);
    wait_until("the live one is looked at", || {
        success(server.get("/v1/audiences/live_like_u0").send().expect("get"))["live"]["size"] == 10
    });
    let audiences =
        |id: &str| success(server.get(&format!("/v1/users/{id}")).send().expect("get"))["audiences"].clone();
    let of_u0 = json!(["like_u0", "live_like_u0", "women"]);
    wait_until("the live one's members show", || audiences("u0") == of_u0);
    assert_eq!(audiences("u2"), json!(["women"]));
    // More different ones than one question may have.
    for size in 1..=16 {
        put(&format!("m{size:02}"), like("user_id = 'u1'", size));
    }
    let of_u1 = audiences("u1");
    assert_eq!(of_u1.as_array().expect("a list").len(), 16, "{of_u1}");
    assert_eq!(audiences("u0"), json!(["like_u0", "live_like_u0", "women"]));
}

/// What a plan says of its search for users like others.
fn search(node: &Value) -> Option<&Value> {
    if node["operator"] == "similar" {
        return Some(&node["similar"]);
    }
    node["inputs"].as_array()?.iter().find_map(search)
}

#[test]
fn explain_says_how_likeness_is_found() {
    let server = server();
    let expression = format!("similar_to('taste', seed => {SEED}, size => 10) AND gender = 'f'");
    let asked = server.ask("/v1/explain", &json!({"where": expression}));
    let similar = search(&asked["plan"]).expect("a search");
    assert_eq!((&similar["method"], &similar["method_is_asked"]), (&Value::Null, &json!(false)), "{similar}");
    assert_eq!((&similar["exact"], &similar["found"]), (&json!(false), &Value::Null), "{similar}");
    let run = server.ask("/v1/explain", &json!({"where": expression, "analyze": true}));
    let (similar, text) = (search(&run["plan"]).expect("a search"), run["text"].as_str().expect("text"));
    assert!(similar["method"].is_string() && similar["method_is_asked"] == false, "{similar}");
    let found = &similar["found"];
    assert_eq!((&found["seed_users"], &found["seed_with_vector"]), (&json!(5), &json!(4)), "{similar}");
    assert!(found["candidates"].as_u64() > Some(10) && found["passes"].as_u64() > Some(0), "{similar}");
    assert!(text.contains("4 of 5 users of the seed have a vector"), "{text}");
    let expression = format!("similar_to('taste', seed => {SEED}, size => 10, method => 'mean', exact => TRUE)");
    let said = stdout(&beluga(&["explain", "--analyze", &expression, "--url", &server.url("")]));
    assert!(said.contains("as asked; all vectors in full precision as asked; 4 of 5 users"), "{said}");
}
