//! Nothing acknowledged is lost, nothing is made up, nothing happens twice: the real binary is killed at random moments
//! (also while it recovers) under a stream of updates, vectors and events, reopened, and compared with what it had acknowledged.
//!
//! The oracle lives outside the process under test. Every request carries an idempotency key; a request that was in
//! flight at the kill is either sent again (and must then have happened exactly once) or looked up (and must have
//! happened whole or not at all). In the end each event has one row in its table. A process kill leaves the page cache in place; power cuts are simulated in the
//! engine's own tests.
//!
//! 30 rounds by default; `BELUGA_CRASH_ROUNDS=1000` runs more, `BELUGA_CRASH_SEED` repeats a failed run's choices.

use crate::extremes::row_count;
use crate::victim::{Random, Server, beluga, client, from_environment};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const WRITERS: u64 = 3;
const USERS_PER_WRITER: u64 = 150;
const COLOURS: [&str; 4] = ["red", "green", "blue", "violet"];
/// When events happened: 14 November 2023, and the days behind it.
const EVENT_TIME_MS: u64 = 1_700_000_000_000;
const LIKES: [&str; 5] = ["yoga", "golf", "tennis", "chess", "go"];

#[test]
fn killed_at_random_moments_it_loses_nothing_and_doubles_nothing() {
    let rounds = from_environment("BELUGA_CRASH_ROUNDS").unwrap_or(30);
    let seed = from_environment("BELUGA_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("crash test: {rounds} rounds, BELUGA_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, seed)).collect();

    let mut server = Server::start(folder.path());
    server.put(&json!({"tags": {
        "colour": {"type": "enum"}, "score": {"type": "number"}, "vip": {"type": "flag"}, "likes": {"type": "set"},
    }, "facts": {"view": {"columns": {"page": "string"}, "activity": {"dimensions": ["page"]}}},
        "spaces": {"taste": {"dimension": 3, "metric": "cosine"}}}));
    for round in 0..rounds {
        let url = server.url.clone();
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let url = &url;
                scope.spawn(move || writer.write_until_refused(url));
            }
            std::thread::sleep(Duration::from_millis(random.below(400)));
            server.kill();
        });
        while random.below(3) == 0 {
            let mut recovering = Server::spawn(folder.path());
            std::thread::sleep(Duration::from_millis(random.below(40)));
            recovering.kill();
        }
        server = Server::start(folder.path());
        for writer in &mut writers {
            writer.settle(&server, &mut random);
        }
        server.make_visible();
        compare(&server, &writers, round);
    }
    let acknowledged: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    assert!(acknowledged > rounds, "the writers got too little through to prove anything: {acknowledged} requests");
    server.stop_well();
    let events: u64 = writers.iter().flat_map(|writer| writer.views.values()).sum();
    assert_eq!(row_count(folder.path(), "view"), events, "each event has one row");
    let check = beluga().arg("check").arg("--data").arg(folder.path()).output().expect("run beluga check");
    assert!(check.status.success(), "beluga check: {}", String::from_utf8_lossy(&check.stderr));
    println!("crash test: {acknowledged} acknowledged requests survived, with {events} events");
}

/// A user as the oracle knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    colour: Option<&'static str>,
    score: Option<i64>,
    vip: bool,
    likes: BTreeSet<&'static str>,
    /// Its numbers in halves.
    taste: Option<[i64; 3]>,
}

/// One client with users of its own, so that the order of its requests is the order of their effects.
struct Writer {
    number: u64,
    random: Random,
    users: BTreeMap<String, User>,
    /// How many events they have.
    views: BTreeMap<String, u64>,
    /// The request whose fate the last kill left open.
    in_flight: Option<Request>,
    /// An earlier, acknowledged request, to be sent again later.
    earlier: Option<Request>,
    next_request: u64,
    acknowledged: u64,
}

#[derive(Clone)]
struct Request {
    path: &'static str,
    key: String,
    body: String,
    /// The users it changes, as they are afterwards.
    after: BTreeMap<String, User>,
    /// Events of users.
    events: BTreeMap<String, u64>,
}

impl Writer {
    fn new(number: u64, seed: u64) -> Writer {
        Writer {
            number,
            random: Random(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            users: BTreeMap::new(),
            views: BTreeMap::new(),
            in_flight: None,
            earlier: None,
            next_request: 0,
            acknowledged: 0,
        }
    }

    fn write_until_refused(&mut self, url: &str) {
        let client = client();
        loop {
            let request = self.request();
            self.in_flight = Some(request.clone());
            if !send(&client, url, &request) {
                return;
            }
            self.acknowledge(request);
        }
    }

    fn acknowledge(&mut self, request: Request) {
        self.apply(&request);
        self.acknowledged += 1;
        if self.earlier.is_none() || self.random.below(10) == 0 {
            self.earlier = Some(request);
        }
        self.in_flight = None;
    }

    fn apply(&mut self, request: &Request) {
        self.users.extend(request.after.clone());
        request.events.iter().for_each(|(id, count)| *self.views.entry(id.clone()).or_default() += count);
    }

    /// A request of up to 40 events; whoever has one is known.
    fn event_request(&mut self) -> Request {
        let (mut after, mut events, mut body) = (BTreeMap::new(), BTreeMap::new(), String::new());
        for _ in 0..=self.random.below(40) {
            let id = format!("w{}-{}", self.number, self.random.below(USERS_PER_WRITER));
            let ts = EVENT_TIME_MS + self.random.below(4 * 86_400_000);
            let page = LIKES[self.random.below(5) as usize];
            body.push_str(&json!({"user_id": id, "ts": ts, "page": page}).to_string());
            body.push('\n');
            after.insert(id.clone(), self.users.get(&id).cloned().unwrap_or_default());
            *events.entry(id).or_default() += 1;
        }
        self.next_request += 1;
        let key = format!("w{}-r{}", self.number, self.next_request);
        Request { path: "/v1/facts/view", key, body, after, events }
    }

    /// A request of up to 40 lines over this writer's users; one user may come several times.
    fn request(&mut self) -> Request {
        if self.random.below(3) == 0 {
            return self.event_request();
        }
        let path = if self.random.below(3) == 0 { "/v1/spaces/taste" } else { "/v1/tags" };
        let mut after = BTreeMap::new();
        let mut body = String::new();
        for _ in 0..=self.random.below(40) {
            let id = format!("w{}-{}", self.number, self.random.below(USERS_PER_WRITER));
            let mut user = after.get(&id).or(self.users.get(&id)).cloned().unwrap_or_default();
            let line = if path == "/v1/tags" { self.change(&id, &mut user) } else { self.vector(&id, &mut user) };
            body.push_str(&line.to_string());
            body.push('\n');
            after.insert(id, user);
        }
        self.next_request += 1;
        let key = format!("w{}-r{}", self.number, self.next_request);
        Request { path, key, body, after, events: BTreeMap::new() }
    }

    /// A vector for a user, or that it has none any more: the line to send, and its effect.
    fn vector(&mut self, id: &str, user: &mut User) -> Value {
        let random = &mut self.random;
        // Never without a length.
        let mut number = || random.below(200) as i64 - 100;
        let numbers = [number(), number(), 1];
        user.taste = (random.below(4) > 0).then_some(numbers);
        json!({"user_id": id, "vector": user.taste.map(|numbers| numbers.map(|number| number as f64 / 2.0))})
    }

    /// A random change of one user: the line to send, and its effect.
    fn change(&mut self, id: &str, user: &mut User) -> Value {
        let random = &mut self.random;
        let like = LIKES[random.below(5) as usize];
        match random.below(7) {
            0 => {
                user.colour = Some(COLOURS[random.below(4) as usize]);
                json!({"user_id": id, "set": {"colour": user.colour}})
            }
            1 => {
                user.score = Some(random.below(2_000) as i64 - 1_000);
                json!({"user_id": id, "set": {"score": user.score}})
            }
            2 => {
                user.vip = random.below(2) == 0;
                json!({"user_id": id, "set": {"vip": user.vip}})
            }
            3 => {
                user.likes.insert(like);
                json!({"user_id": id, "add": {"likes": [like]}})
            }
            4 => {
                user.likes.remove(like);
                json!({"user_id": id, "remove": {"likes": [like]}})
            }
            5 => {
                user.likes = BTreeSet::from([like]);
                json!({"user_id": id, "set": {"likes": [like]}})
            }
            _ => {
                user.colour = None;
                user.score = None;
                json!({"user_id": id, "unset": ["colour", "score"]})
            }
        }
    }

    /// Finds out what became of the request in flight, and sends an old one again, which must change nothing.
    fn settle(&mut self, server: &Server, random: &mut Random) {
        if let Some(request) = self.in_flight.take() {
            // What became of events is not told of one user, so they are sent again.
            if !request.events.is_empty() || random.below(2) == 0 {
                assert!(send(&server.client, &server.url, &request), "a repeated request is accepted: {}", request.key);
                self.apply(&request);
            } else if self.happened(server, &request) {
                self.apply(&request);
            }
        }
        if let Some(request) = &self.earlier {
            assert!(send(&server.client, &server.url, request), "an old request is accepted again: {}", request.key);
        }
    }

    /// Whether a request happened; it must be whole or not at all.
    fn happened(&self, server: &Server, request: &Request) -> bool {
        let mut seen = BTreeSet::new();
        for (id, after) in &request.after {
            let before = self.users.get(id);
            if before == Some(after) {
                continue;
            }
            let found = look_up(server, id);
            match &found {
                Some(user) if user == after => seen.insert(true),
                found if found.as_ref() == before => seen.insert(false),
                other => panic!("{id} is {other:?}, neither {before:?} nor {after:?} ({})", request.key),
            };
        }
        assert!(seen.len() <= 1, "request {} happened in part", request.key);
        seen.contains(&true)
    }
}

/// Compares everything the server answers with everything that was acknowledged.
fn compare(server: &Server, writers: &[Writer], round: u64) {
    let users: BTreeMap<&String, &User> = writers.iter().flat_map(|writer| &writer.users).collect();
    let expect = |question: &str, fits: &dyn Fn(&User) -> bool| {
        let expected: BTreeSet<&str> = users.iter().filter(|(_, user)| fits(user)).map(|(id, _)| id.as_str()).collect();
        let found = server.members(question);
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        let made_up: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && made_up.is_empty(),
            "round {round}, {question}: lost {missing:?}, made up {made_up:?}"
        );
        assert_eq!(server.count(question), expected.len() as u64, "round {round}, count of {question}");
    };
    expect("TRUE", &|_| true);
    expect("vip", &|user| user.vip);
    expect("colour IS NULL", &|user| user.colour.is_none());
    for colour in COLOURS {
        expect(&format!("colour = '{colour}'"), &|user| user.colour == Some(colour));
    }
    for like in LIKES {
        expect(&format!("likes = '{like}'"), &|user| user.likes.contains(like));
    }
    for (low, high) in [(-1_000, -500), (-499, -1), (0, 0), (1, 999)] {
        expect(&format!("score BETWEEN {low} AND {high}"), &|user| {
            user.score.is_some_and(|score| (low..=high).contains(&score))
        });
    }
    let views = |id: &str| writers.iter().find_map(|writer| writer.views.get(id)).copied().unwrap_or_default();
    let counts: BTreeSet<u64> = users.keys().map(|id| views(id)).collect();
    // Enough of them, as they become many.
    for count in counts.into_iter().take(25) {
        let expected: BTreeSet<String> = users.keys().filter(|id| views(id) == count).map(|id| (*id).clone()).collect();
        let found: BTreeSet<String> = server.members(&format!("did('view', count = {count})")).into_iter().collect();
        assert_eq!(found, expected, "round {round}, users with {count} events");
    }
    // No question is about vectors, so users are looked up: each in one of some rounds.
    let (step, turn) = (5, round as usize % 5);
    for (id, user) in users.iter().take(20).chain(users.iter().skip(turn).step_by(step)) {
        assert_eq!(look_up(server, id).as_ref(), Some(*user), "round {round}, {id}");
    }
}

/// A user by the online look-up; `None` if unknown.
fn look_up(server: &Server, id: &str) -> Option<User> {
    let answer = server.client.get(format!("{}/v1/users/{id}", server.url)).send().expect("look up");
    if answer.status() == 404 {
        return None;
    }
    let body: Value = answer.json().expect("JSON");
    let tags = &body["tags"];
    let known = |names: &[&'static str], name: &Value| {
        name.as_str().map(|name| *names.iter().find(|known| **known == name).expect("a value that was sent"))
    };
    let likes = tags["likes"].as_array().into_iter().flatten();
    let taste = body["vectors"]["taste"]["values"].as_array().map(|numbers| {
        let halves = |at: usize| (numbers[at].as_f64().expect("a number") * 2.0) as i64;
        [halves(0), halves(1), halves(2)]
    });
    Some(User {
        taste,
        colour: known(&COLOURS, &tags["colour"]),
        score: tags["score"].as_i64(),
        vip: tags["vip"].as_bool().unwrap_or(false),
        likes: likes.filter_map(|like| known(&LIKES, like)).collect(),
    })
}

/// Sends a request; whether it was acknowledged. An answer other than success is a failure of the test.
fn send(client: &reqwest::blocking::Client, url: &str, request: &Request) -> bool {
    let sent = client
        .post(format!("{url}{}", request.path))
        .header("Idempotency-Key", &request.key)
        .header("Content-Type", "application/x-ndjson")
        .body(request.body.clone())
        .send();
    let Ok(answer) = sent else { return false };
    let status = answer.status();
    let Ok(text) = answer.text() else { return false };
    assert!(status.is_success(), "{status}: {text}");
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(body["rejected"], 0, "{body}");
    true
}
