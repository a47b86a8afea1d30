//! Vectors made from what users did, through the doors: jobs over REST and the command line, generated files, and the proof on real
//! purchases that they find people.

use crate::support::{TestServer, beluga, catalog, stderr, stdout, success};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

/// Users of two tastes; each buys three things of the own one.
const USERS: usize = 60;
const MINE: [[&str; 4]; 2] = [["shoes", "hats", "belts", "gloves"], ["tea", "coffee", "cups", "sugar"]];

fn with_space(dimension: u16) -> Value {
    let mut with = catalog();
    with["facts"] = json!({"purchase": {"columns": {"category": "string", "campaign": "string", "pieces": "integer",
        "amount": {"decimal": [12, 2]}}, "deduplicate": "30 days"}});
    with["spaces"] = json!({"taste": {"dimension": dimension, "metric": "cosine"}});
    with
}

fn server(dimension: u16) -> TestServer {
    let server = TestServer::start();
    server.put_catalog(&with_space(dimension));
    server
}

fn ago(days: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days)).to_string()
}

fn purchase(user: &str, days: i64, category: &str, amount: f64) -> String {
    format!("{}\n", json!({"user_id": user, "ts": ago(days), "category": category, "amount": amount}))
}

fn purchases() -> String {
    let of = |user: usize| {
        let mine = MINE[user % 2];
        let bought = (0..3).map(move |nth| mine[(user / 2 + nth * nth) % 4]);
        bought.map(move |category| purchase(&format!("u{user}"), 3, category, 10.0 + user as f64))
    };
    (0..USERS).flat_map(of).collect()
}

fn send(server: &TestServer, lines: &str) {
    let answer = success(server.post("/v1/facts/purchase?visible=true").body(lines.to_owned()).send().expect("post"));
    assert_eq!(answer["rejected"], 0, "{answer}");
}

fn backfill(from: Value) -> Value {
    json!({"backfill": {"into": "spaces/taste", "from_fact": from}})
}

/// Posts a job and waits until it ends.
fn run(server: &TestServer, body: &Value) -> Value {
    let taken = success(server.post("/v1/jobs").json(body).send().expect("post"));
    let path = format!("/v1/jobs/{}", taken["id"].as_str().expect("an id"));
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let job = success(server.get(&path).send().expect("ask"));
        if !matches!(job["state"].as_str(), Some("queued" | "running")) {
            return job;
        }
        assert!(Instant::now() < deadline, "it never ended: {job}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn vector(server: &TestServer, user: &str) -> Option<Vec<f64>> {
    let user = success(server.get(&format!("/v1/users/{user}")).send().expect("get"));
    let numbers = user["vectors"]["taste"]["values"].as_array()?;
    Some(numbers.iter().map(|number| number.as_f64().expect("a number")).collect())
}

fn like(server: &TestServer, seed: &str, size: usize) -> Vec<String> {
    let asked = json!({"space": "taste", "seed": seed, "size": size, "method": "mean", "limit": 10_000});
    let answer = success(server.post("/v1/lookalike").json(&asked).send().expect("ask"));
    let users = answer["users"].as_array().expect("users").iter();
    users.map(|user| user["user_id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_job_makes_vectors_of_what_users_bought() {
    let mut server = server(2);
    send(&server, &purchases());
    let job = run(&server, &backfill(json!({"fact": "purchase", "item": "category", "weight": "amount"})));
    assert_eq!((&job["state"], &job["error"]), (&json!("done"), &Value::Null), "{job}");
    let made = &job["made"];
    for (field, count) in [("vectors", 60), ("without_vector", 0), ("removed", 0), ("items", 8), ("one_of", 1)] {
        assert_eq!(made[field], count, "{field}: {job}");
    }
    assert!(made["explained"].as_f64().is_some_and(|share| share > 0.3 && share <= 1.0), "{job}");
    let progress = &job["progress"];
    assert_eq!((&progress["rows_done"], &progress["rows_total"]), (&json!(180), &json!(180)), "{job}");
    assert_eq!((&progress["step"], &progress["values"]), (&json!("writing"), &json!(60)), "{job}");
    server.settle();
    let found = like(&server, "user_id IN ('u0', 'u2', 'u4')", 27);
    assert_eq!(found.len(), 27);
    assert!(found.iter().all(|user| user[1..].parse::<usize>().is_ok_and(|user| user % 2 == 0)), "{found:?}");
    // What is done is on disk, and again the same.
    let before = vector(&server, "u7").expect("a vector");
    server.kill();
    server.restart();
    assert_eq!(vector(&server, "u7"), Some(before.clone()));
    run(&server, &backfill(json!({"fact": "purchase", "item": "category", "weight": "amount"})));
    server.settle();
    assert_eq!(vector(&server, "u7"), Some(before));
}

#[test]
fn only_events_that_count_make_vectors_and_a_new_run_replaces_all() {
    let server = server(4);
    let lines = [
        purchases(),
        purchase("old", 90, "shoes", 5.0),
        purchase("old", 90, "hats", 5.0),
        format!("{}\n", json!({"user_id": "plain", "ts": ago(1), "amount": 5})),
        format!("{}\n", json!({"user_id": "again", "ts": ago(1), "category": "tea", "amount": 5, "event_id": "e"})),
        format!("{}\n", json!({"user_id": "again", "ts": ago(1), "event_id": "e", "retract": true})),
        purchase("negative", 1, "tea", -4.0),
    ];
    send(&server, &lines.concat());
    let sent = success(
        server
            .post("/v1/spaces/taste?visible=true")
            .body("{\"user_id\":\"stranger\",\"vector\":[1,2,3,4]}\n{\"user_id\":\"u1\",\"vector\":[9,9,9,9]}\n")
            .send()
            .expect("post"),
    );
    assert_eq!(sent["accepted"], 2);
    let all = json!({"fact": "purchase", "item": "category", "weight": "amount"});
    let job = run(&server, &backfill(all));
    assert_eq!(job["state"], "done", "{job}");
    server.settle();
    assert_eq!(job["made"]["removed"], 1, "the stranger's is of another factorisation: {job}");
    assert!(["old", "u0", "u1"].iter().all(|user| vector(&server, user).is_some()));
    assert!(vector(&server, "u1").expect("a vector") != [9.0; 4], "it was replaced");
    for user in ["stranger", "plain", "again", "negative"] {
        assert_eq!(vector(&server, user), None, "{user}");
    }
    assert_eq!(job["made"]["without_vector"], 2, "taken back, and negative: {job}");
    // Later, some have no event in the window any more.
    let windowed = json!({"fact": "purchase", "item": ["category"], "within": "30 days", "where": "amount < 60 OR category = 'tea'"});
    let job = run(&server, &backfill(windowed));
    assert_eq!(job["state"], "done", "{job}");
    server.settle();
    assert_eq!(vector(&server, "old"), None);
    assert_eq!(vector(&server, "u58"), None, "too dear, and no tea: {job}");
    assert!(vector(&server, "u49").is_some() && vector(&server, "negative").is_some(), "counted, not added up");
    assert!(job["made"]["removed"].as_u64().expect("a number") >= 2, "{job}");
    server.settle();
    assert_eq!(server.count("TRUE"), 65, "nobody else became known");
}

#[test]
fn combinations_are_items_of_their_own() {
    let server = server(8);
    let lines: String = (0..USERS)
        .map(|user| {
            let campaign = if user % 3 == 0 { Value::Null } else { json!(format!("c{}", user / 2 % 4)) };
            let line = json!({"user_id": format!("u{user}"), "ts": ago(1), "category": MINE[user % 2][user / 2 % 4],
                "campaign": campaign, "pieces": user});
            format!("{line}\n")
        })
        .collect();
    send(&server, &lines);
    let job = run(&server, &backfill(json!({"fact": "purchase", "item": ["category", "campaign"]})));
    assert_eq!((&job["state"], &job["made"]["items"]), (&json!("done"), &json!(16)), "{job}");
    // A whole number is no name, but an item.
    let job = run(&server, &backfill(json!({"fact": "purchase", "item": "pieces"})));
    assert_eq!((&job["state"], &job["made"]["items"]), (&json!("done"), &json!(60)), "{job}");
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    let server = server(4);
    send(&server, &purchases());
    let refused = |body: &Value, pointer: &str, says: &str| {
        let answer = server.post("/v1/jobs").json(body).send().expect("post");
        assert_eq!(answer.status().as_u16(), 400, "{says}");
        let answer: Value = answer.json().expect("JSON");
        let told = format!("{} {}", answer["detail"], answer["suggestion"]);
        assert!(answer["pointer"] == pointer && told.contains(says), "{answer}");
    };
    let from = |more: Value| {
        let mut from = json!({"fact": "purchase", "item": "category"});
        from.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        backfill(from)
    };
    let at = |field: &str| format!("/backfill/from_fact{field}");
    refused(&from(json!({"fact": "purchas"})), &at("/fact"), "did you mean `purchase`?");
    refused(&from(json!({"item": "categry"})), &at("/item"), "did you mean `category`?");
    refused(&from(json!({"item": ["category", "nothing"]})), &at("/item/1"), "its columns are amount, campaign");
    refused(&from(json!({"item": ["category", "category"]})), &at("/item/1"), "named twice");
    refused(&from(json!({"item": []})), &at("/item"), "name the column");
    refused(&from(json!({"weight": "amout"})), &at("/weight"), "did you mean `amount`?");
    refused(&from(json!({"weight": "campaign"})), &at("/weight"), "is no number");
    refused(&from(json!({"within": "soon"})), &at("/within"), "not a length of time; write '30 days'");
    refused(&from(json!({"within": "1 day ago"})), &at("/within"), "not a length of time");
    refused(&from(json!({"where": "amount > $1"})), &at("/where"), "`$1` is a parameter");
    refused(&from(json!({"where": "amont > 3"})), &at("/where"), "amount");
    refused(&from(json!({"where": "amount >"})), &at("/where"), "");
    refused(&from(json!({"where": "TRUE) OR (TRUE"})), &at("/where"), "the condition ends before its text does");
    refused(&from(json!({"where": "TRUE) UNION SELECT 'a', 1.0, 'b' WHERE (TRUE"})), &at("/where"), "condition");
    refused(&from(json!({"where": "TRUE) GROUP BY (user_id"})), &at("/where"), "condition");
    refused(&from(json!({"wher": "TRUE"})), &at("/wher"), "did you mean `where`?");
    let mut body = from(json!({}));
    body["backfill"]["into"] = json!("spaces/tase");
    refused(&body, "/backfill/into", "did you mean `taste`?");
    body["backfill"]["into"] = json!("purchase");
    refused(&body, "/backfill/into", "vectors go into a space");
    for (field, value) in [("files", json!(["/in/a.csv"])), ("nulls", json!("unset")), ("user_id", json!("id"))] {
        let mut body = from(json!({}));
        body["backfill"][field] = value;
        refused(&body, &format!("/backfill/{field}"), "no files are read");
    }
    // A length of time means one thing, wherever it is looked at.
    for within in ["100000 years", "+30 days", "1 year"] {
        let job = run(&server, &from(json!({"within": within})));
        assert_eq!((&job["state"], &job["progress"]["rows_done"]), (&json!("done"), &json!(180)), "{within}: {job}");
    }
    let none = run(&server, &from(json!({"within": "24 hours"})));
    assert!(none["error"].as_str().is_some_and(|error| error.contains("no event of `purchase` counts")), "{none}");
    // What only the events can tell ends the job, and changes nothing.
    let sent = server.post("/v1/spaces/taste?visible=true").body("{\"user_id\":\"u1\",\"vector\":[1,2,3,4]}\n").send();
    success(sent.expect("post"));
    let nothing = run(&server, &from(json!({"where": "amount > 100000"})));
    assert!(
        nothing["error"].as_str().is_some_and(|error| error.contains("no event of `purchase` counts")),
        "{nothing}"
    );
    let few = run(&server, &from(json!({"where": "category IN ('tea', 'cups')"})));
    let why = few["error"].as_str().unwrap_or_default();
    assert!(few["state"] == "failed" && why.contains("2 items of `purchase` carry no more than 2 numbers"), "{few}");
    assert!(why.contains("declare a space with `dimension: 2` or less"), "{few}");
    assert_eq!(vector(&server, "u1"), Some(vec![1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn a_job_that_makes_vectors_is_cancelled() {
    let server = server(4);
    send(&server, &purchases());
    let mut body = backfill(json!({"fact": "purchase", "item": "category"}));
    // A row a second: it would take minutes.
    body["rate"] = json!(1);
    let taken = success(server.post("/v1/jobs").json(&body).send().expect("post"));
    let path = format!("/v1/jobs/{}", taken["id"].as_str().expect("an id"));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let job = success(server.get(&path).send().expect("ask"));
        if job["progress"]["step"] == "writing" {
            break;
        }
        assert!(Instant::now() < deadline, "{job}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let cancelled = success(server.client.delete(server.url(&path)).send().expect("delete"));
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
}

#[test]
fn the_command_line_makes_them_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let job = folder.path().join("taste.yaml");
    let text =
        "into: spaces/taste\nfrom_fact:\n  fact: purchase\n  item: category\n  weight: amount\n  within: 365 days\n";
    std::fs::write(&job, text).expect("written");
    let job = job.to_str().expect("text");
    let mut server = server(4);
    send(&server, &purchases());
    let ran = beluga(&["backfill", "-f", job, "--url", &server.url("")]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    assert!(stdout(&ran).contains("60 vectors of 180 events, learned from 60 users and 8 items"), "{}", stdout(&ran));
    let before = vector(&server, "u3");
    assert!(before.is_some());
    server.stop();
    let data = server.data();
    let data = data.to_str().expect("text");
    let ran = beluga(&["backfill", "-f", job, "--data", data]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    assert!(stdout(&ran).contains("60 vectors of 180 events"), "{}", stdout(&ran));
    let wrong = text.replace("item: category", "item: categorie");
    std::fs::write(job, wrong).expect("written");
    let refused = beluga(&["backfill", "-f", job, "--data", data]);
    assert!(stderr(&refused).contains("from_fact.item") && stderr(&refused).contains("did you mean `category`?"));
    server.restart();
    assert_eq!(vector(&server, "u3"), before);
}

#[test]
fn generated_vectors_are_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let run = |arguments: &[&str]| {
        let output = beluga(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let mut found = Vec::new();
    for format in ["parquet", "ndjson"] {
        let (out, data) = (path(format), path(&format!("data-{format}")));
        let options = ["--scale", "2000", "--events", "6000", "--dimension", "12", "--format", format];
        run(&[&["generate", "population", "--out", &out][..], &options].concat());
        run(&["apply", "-f", &format!("{out}/catalog.yaml"), "--data", &data]);
        run(&["backfill", "-f", &format!("{out}/purchases.yaml"), "--data", &data]);
        let loaded = run(&["backfill", "-f", &format!("{out}/vectors.yaml"), "--data", &data]);
        assert!(loaded.contains("0 rows refused"), "{loaded}");
        let seed = "did('purchase', category = 'shoes')";
        let asked = ["lookalike", "--space", "taste", "--seed", seed, "--share", "0.1", "--data", &data, "-o", "json"];
        let answer: Value = serde_json::from_str(&run(&asked)).expect("JSON");
        assert_eq!(answer["seed_users"], answer["seed_with_vector"], "whoever bought has a vector: {answer}");
        found.push(answer["users"].clone());
    }
    assert_eq!(found[0], found[1]);
    let few = beluga(&[
        "generate",
        "population",
        "--out",
        &path("few"),
        "--scale",
        "100",
        "--events",
        "3",
        "--dimension",
        "12",
    ]);
    assert!(!few.status.success() && stderr(&few).contains("generate more --events"), "{}", stderr(&few));
}

/// Until when purchases make vectors: the ninth month's end. Milliseconds since 1970.
const CUT: i64 = 1_314_835_200_000;
/// Products whose buyers are looked for.
const SEEDS: usize = 24;

/// Of the real purchases of a year: vectors of the first nine months; then a tenth of the later buyers of a product is hidden, and
/// looked for with the others as the seed, among as many users as the seed has. The baseline finds whoever bought most before.
#[test]
fn real_purchases_find_later_buyers_better_than_popularity_does() {
    let Some(file) = datasets::public_data("online-retail/online-retail.csv.gz") else { return };
    let loaded = datasets::load(datasets::DataSet::OnlineRetail, Path::new(&file)).expect("loads");
    let events: Vec<(Value, &String)> =
        loaded.events.iter().map(|line| (serde_json::from_str(line).expect("JSON"), line)).collect();
    let is_early = |event: &Value| event["ts"].as_i64().is_some_and(|ts| ts < CUT);
    let early: Vec<&str> = events.iter().filter(|(event, _)| is_early(event)).map(|(_, line)| line.as_str()).collect();
    let server = TestServer::start();
    server.put_catalog(
        &json!({"tags": {}, "facts": {"purchase": {"columns": {"product": "string", "country": "string",
        "quantity": "integer", "amount": {"decimal": [12, 3]}}, "deduplicate": "400 days"}},
        "spaces": {"taste": {"dimension": 64, "metric": "cosine"}}}),
    );
    early.chunks(20_000).for_each(|lines| send(&server, &lines.concat()));
    let began = Instant::now();
    let job = run(&server, &backfill(json!({"fact": "purchase", "item": "product"})));
    assert_eq!(job["state"], "done", "{job}");
    println!("{} in {:.1} s", job["made"], began.elapsed().as_secs_f64());
    server.settle();

    let user = |event: &Value| event["user_id"].as_str().expect("an id").to_owned();
    let mut lines: HashMap<String, u64> = HashMap::new();
    let mut later: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (event, _) in events.iter().filter(|(event, _)| event["quantity"].as_i64().is_some_and(|count| count > 0)) {
        if is_early(event) {
            *lines.entry(user(event)).or_default() += 1;
        } else {
            later.entry(event["product"].as_str().expect("text").to_owned()).or_default().insert(user(event));
        }
    }
    let have: BTreeSet<String> = lines.keys().filter(|user| vector(&server, user).is_some()).cloned().collect();
    let mut popular: Vec<&String> = have.iter().collect();
    popular.sort_by_key(|user| (std::cmp::Reverse(lines[*user]), *user));
    let mut seeds: Vec<(String, Vec<String>)> = later
        .into_iter()
        .map(|(product, buyers)| (product, buyers.into_iter().filter(|user| have.contains(user)).collect()))
        .collect();
    seeds.sort_by_key(|(product, buyers): &(String, Vec<String>)| (std::cmp::Reverse(buyers.len()), product.clone()));

    let (mut by_vectors, mut by_popularity, mut by_chance, mut hidden_in_all) = (0, 0, 0.0, 0);
    for (product, buyers) in &seeds[..SEEDS] {
        // Ids were given as customers came, so every tenth is an even sample.
        let (hidden, known): (Vec<_>, Vec<_>) = buyers.iter().enumerate().partition(|(at, _)| at % 10 == 5);
        let hidden: BTreeSet<&String> = hidden.into_iter().map(|(_, user)| user).collect();
        let known: BTreeSet<&String> = known.into_iter().map(|(_, user)| user).collect();
        let list: Vec<String> = known.iter().map(|user| format!("'{user}'")).collect();
        let asked = json!({"space": "taste", "seed": format!("user_id IN ({})", list.join(", ")), "size": known.len(),
            "limit": known.len()});
        let answer = success(server.post("/v1/lookalike").json(&asked).send().expect("ask"));
        let found = answer["users"].as_array().expect("users").iter();
        let found = found.filter(|user| hidden.contains(&user["user_id"].as_str().expect("an id").to_owned())).count();
        let others = popular.iter().filter(|user| !known.contains(**user)).take(known.len());
        let of_popular = others.filter(|user| hidden.contains(**user)).count();
        println!(
            "{product}: of {} hidden buyers {found} by vectors ({}), {of_popular} by popularity",
            hidden.len(),
            answer["method"]
        );
        by_vectors += found;
        by_popularity += of_popular;
        hidden_in_all += hidden.len();
        by_chance += hidden.len() as f64 * known.len() as f64 / (have.len() - known.len()) as f64;
    }
    println!(
        "in all, of {hidden_in_all}: {by_vectors} by vectors, {by_popularity} by popularity, {by_chance:.0} by chance"
    );
    assert!(by_vectors * 100 >= by_popularity * 115, "{by_vectors} by vectors, {by_popularity} by popularity");
    assert!(by_vectors as f64 >= 3.0 * by_chance, "{by_vectors} by vectors, {by_chance} by chance");
}
