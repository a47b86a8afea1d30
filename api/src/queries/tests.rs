//! Tests of the module above.

use super::*;
use crate::access::Scope;
use std::sync::atomic::AtomicBool;

fn states(queries: &Queries) -> Vec<(String, &'static str)> {
    queries.all(&Principal::anyone()).into_iter().map(|query| (query.text, query.progress.name())).collect()
}

#[test]
fn what_runs_and_what_ran_is_told_newest_first() {
    let queries = Arc::new(Queries::default());
    let who = Principal::anyone();
    let first = queries.begin(Door::Rest, &who, "SELECT 1");
    let second = queries.begin(Door::Flight, &who, "SELECT 2");
    let third = queries.begin(Door::Flight, &who, "SELECT 3");
    first.add_rows(3);
    first.end(Progress::Done);
    drop(third);
    let told = [("SELECT 2", "running"), ("SELECT 3", "cancelled"), ("SELECT 1", "done")];
    assert_eq!(states(&queries), told.map(|(text, state)| (text.to_owned(), state)));
    assert_eq!(queries.all(&Principal::anyone())[2].rows, 3);
    let id = second.id().to_owned();
    let flag = Arc::new(AtomicBool::new(false));
    second.sets(Arc::clone(&flag));
    assert_eq!(queries.cancel(&id, &who).expect("it runs").id, id);
    assert!(flag.load(Ordering::Relaxed) && second.cancellation().is_cancelled());
    // What came of it does not matter any more.
    second.end(Progress::Done);
    assert_eq!(states(&queries)[0], ("SELECT 2".to_owned(), "cancelled"));
    assert!(queries.cancel(&id, &who).expect_err("it is over").detail.contains("is over: cancelled"));
    assert_eq!(queries.cancel("7", &who).expect_err("never was").kind, Kind::NotFound);
}

#[test]
fn those_of_one_token_are_cancelled_together() {
    let queries = Arc::new(Queries::default());
    let who = Principal::anyone();
    let token = CancellationToken::new();
    let waiting = queries.begin_with(Door::Flight, &who, "SELECT 1", token.clone());
    let second = queries.begin_with(Door::Flight, &who, "SELECT 2", token);
    let id = waiting.id().to_owned();
    waiting.set_waiting(true);
    let running = waiting.running();
    // What waits goes with that: its end takes the lock of the list.
    running.on_cancel(move || drop(waiting));
    assert_eq!(queries.cancel(&id, &who).expect("it waits").progress, Progress::Waiting);
    assert!(second.cancellation().is_cancelled());
    let told = [("SELECT 2", "running"), ("SELECT 1", "cancelled")];
    assert_eq!(states(&queries), told.map(|(text, state)| (text.to_owned(), state)));
}

#[test]
fn each_sees_their_own() {
    let queries = Arc::new(Queries::default());
    let ann = Principal::with_token("ann", "1", &[Scope::Query]);
    // Somebody else, who was given a token of the same name.
    let bob = Principal::with_token("ann", "2", &[Scope::Query]);
    let admin = Principal::with_token("root", "3", &[Scope::Admin]);
    let of_ann = queries.begin(Door::Rest, &ann, "SELECT 1");
    queries.begin(Door::Rest, &ann, "SELECT 2").end(Progress::Done);
    assert_eq!([&ann, &bob, &admin].map(|by| queries.all(by).len()), [2, 0, 2]);
    assert_eq!(queries.cancel(of_ann.id(), &bob).expect_err("not theirs").kind, Kind::NotFound);
    assert!(!of_ann.cancellation().is_cancelled());
    queries.cancel(of_ann.id(), &admin).expect("sees all");
    assert!(of_ann.cancellation().is_cancelled());
}

#[test]
fn memory_is_bounded() {
    let queries = Arc::new(Queries::default());
    let who = Principal::anyone();
    let long = "ä".repeat(TEXT_BYTES_MAX);
    for _ in 0..ENDED_MAX + 5 {
        queries.begin(Door::Rest, &who, &long).end(Progress::Failed(long.clone()));
    }
    let all = queries.all(&Principal::anyone());
    assert_eq!(all.len(), ENDED_MAX);
    let is_short = |text: &str| text.len() <= TEXT_BYTES_MAX + '…'.len_utf8();
    assert!(all.iter().all(|query| is_short(&query.text)));
    assert!(all.iter().all(|query| matches!(&query.progress, Progress::Failed(why) if is_short(why))));
}

#[test]
fn questions_about_audiences_do_not_push_statements_out() {
    let queries = Arc::new(Queries::default());
    let who = Principal::anyone();
    queries.begin(Door::Rest, &who, "SELECT 1").end(Progress::Done);
    for number in 0..ENDED_MAX + 5 {
        let watch = queries.begin_question(Door::Rest, Asks::Count, &who, number.to_string());
        watch.end(Progress::Done);
    }
    queries.begin_question(Door::Cli, Asks::Members, &who, String::new()).says("later");
    let all = queries.all(&who);
    assert_eq!(all.len(), ENDED_MAX + 1);
    assert_eq!((all[0].text.as_str(), all[0].asks, all[0].memory_bytes), ("later", Asks::Members, None));
    assert_eq!(all[1].text, (ENDED_MAX + 4).to_string());
    assert_eq!((all[ENDED_MAX].text.as_str(), all[ENDED_MAX].memory_bytes), ("SELECT 1", Some(0)));
}

#[test]
fn watching_costs_next_to_nothing() {
    let queries = Arc::new(Queries::default());
    let who = Principal::anyone();
    let expression = "gender = 'f' AND age BETWEEN 25 AND 34";
    let begin = std::time::Instant::now();
    const TIMES: u32 = 100_000;
    for _ in 0..TIMES {
        let watch = queries.begin_question(Door::Rest, Asks::Count, &who, begin_of(expression));
        watch.end(Progress::Done);
    }
    let each = begin.elapsed() / TIMES;
    println!("{each:?} a question");
    // A hundred times what it takes without optimization on a busy machine.
    assert!(each < Duration::from_micros(500), "{each:?}");
}
