//! The stage over a table in memory whose answers the test gives by hand, and against a join in memory.

use super::*;
use crate::decode::LineErrorKind;
use crate::source::{Record, RecordBatch, Started};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Keeps requests until the test answers them.
#[derive(Debug, Default)]
struct ByHand {
    keys_max: usize,
    asked: Mutex<Vec<(Vec<Arc<str>>, Reply)>>,
    given_up: Arc<AtomicUsize>,
}

struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Lookup for ByHand {
    fn keys_max(&self) -> usize {
        self.keys_max
    }

    fn ask(&self, keys: Vec<Arc<str>>, reply: Reply) -> Asking {
        self.asked.lock().expect("lock").push((keys, reply));
        Asking::new(Guard(Arc::clone(&self.given_up)))
    }
}

impl ByHand {
    fn new(keys_max: usize) -> Arc<ByHand> {
        Arc::new(ByHand { keys_max, ..ByHand::default() })
    }

    /// The keys of the requests that wait.
    fn waiting(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("lock");
        asked.iter().map(|(keys, _)| keys.join(",")).collect()
    }

    fn take(&self, index: usize) -> (Vec<Arc<str>>, Reply) {
        self.asked.lock().expect("lock").remove(index)
    }

    /// Answers a request: keys that begin with `x` are not known.
    fn answer(&self, index: usize) {
        let (keys, reply) = self.take(index);
        reply.send(Ok(keys.iter().map(|key| Ok(known(key))).collect()));
    }

    fn fail(&self, index: usize) {
        self.take(index).1.send(Err(LookupError::passing("it is down")));
    }
}

fn known(key: &str) -> Option<String> {
    (!key.starts_with('x')).then(|| json!({"is": key}).to_string())
}

fn enrichment(lookup: Arc<dyn Lookup>) -> Enrichment {
    Enrichment {
        name: "product".to_owned(),
        key: "sku".to_owned(),
        lookup,
        cache: None,
        timeout: Duration::from_secs(20),
        retries: 0,
        in_flight: 100,
        order: Order::Ordered,
        on_missing: OnMissing::Keep,
        on_failure: OnFailure::Wait,
    }
}

fn stage(enrichments: impl IntoIterator<Item = Enrichment>) -> Stage {
    Stage::new(&enrichments.into_iter().map(Arc::new).collect::<Vec<_>>()).expect("right")
}

/// Records of `partition:key` each, with offsets from `first` on.
fn records(first: u64, texts: &[&str]) -> RecordBatch {
    let mut batch = RecordBatch::new();
    for (offset, text) in (first..).zip(texts) {
        let (partition, key) = text.split_once(':').expect("partition:key");
        let known = batch.partition_names().position(|name| **name == *partition);
        let partition = known.unwrap_or_else(|| batch.add_partition(partition.into()));
        let payload = if key.is_empty() { "{}".to_owned() } else { json!({"sku": key}).to_string() };
        let payload = Some(payload.as_bytes());
        batch.push(Record { partition, offset, timestamp_ms: None, key: None, payload });
    }
    batch
}

fn shown(ready: Ready) -> String {
    match ready {
        Ready::Mark(mark) => format!("{mark:?}"),
        Ready::Records(records, fates) => {
            let shown = records.iter().zip(&fates).map(|(record, fate)| match fate {
                Fate::Dropped => format!("{} dropped", record.offset),
                Fate::Refused(error) => format!("{} refused: {error}", record.offset),
                Fate::Taken(members) => {
                    let mut text = Vec::new();
                    splice(record.payload.unwrap_or_default(), members, &mut text);
                    format!("{} {}", record.offset, String::from_utf8_lossy(&text))
                }
            });
            format!("{}: {}", records.partition_name(0), shown.collect::<Vec<_>>().join("; "))
        }
    }
}

/// What has its turn by now.
fn ready(stage: &mut Stage) -> Vec<String> {
    stage.wait(Duration::ZERO);
    std::iter::from_fn(|| stage.next()).map(shown).collect()
}

const TAKEN: &str = "\"sku\":\"a\",\"product\":{\"is\":\"a\"}";

#[test]
fn equal_keys_are_asked_once_and_kept_for_a_while() {
    let table = ByHand::new(10);
    let cache = CachePolicy { entries: 10, ttl: Duration::from_secs(3), missing_ttl: Duration::from_secs(3) };
    let mut stage = stage([Enrichment { cache: Some(cache), ..enrichment(table.clone()) }]);
    stage.push(&mut records(0, &["t:a", "t:xb", "t:a", "t:"]));
    stage.push(&mut records(4, &["t:a"]));
    assert_eq!(table.waiting(), ["a,xb"]);
    assert_eq!(ready(&mut stage), [""; 0]);
    table.answer(0);
    let first = format!("t: 0 {{{TAKEN}}}; 1 {{\"sku\":\"xb\"}}; 2 {{{TAKEN}}}; 3 {{}}");
    assert_eq!(ready(&mut stage), [first, format!("t: 4 {{{TAKEN}}}")]);
    stage.push(&mut records(5, &["t:a", "t:xb"]));
    assert_eq!(ready(&mut stage).len(), 1);
    let report = &stage.reports()[0];
    assert_eq!((report.lookups, report.cached, report.found, report.missing, report.failed), (6, 2, 4, 2, 0));
    assert_eq!((report.requests, report.keys, report.cache_entries, report.in_flight), (1, 2, 2, 0));
    assert!(report.latency_p99_us.is_some());
    std::thread::sleep(Duration::from_millis(3_100));
    stage.push(&mut records(7, &["t:a"]));
    assert_eq!(table.waiting(), ["a"]);
}

/// A small record may wait with much that was found for it.
#[test]
fn what_was_found_takes_room() {
    let table = ByHand::new(1);
    // One partition waits for a key that nobody answers; the other's records are decided and wait behind it.
    let mut stage = stage([enrichment(table.clone())]);
    stage.push(&mut records(0, &["t0:late"]));
    let large = json!({"is": "x".repeat(ANSWER_BYTES_MAX - 100)}).to_string();
    let mut pushed = 0;
    while stage.has_room() {
        stage.push(&mut records(pushed, &["t1:a"]));
        table.take(1).1.send(Ok(vec![Ok(Some(large.clone()))]));
        assert_eq!(ready(&mut stage), [""; 0]);
        pushed += 1;
        assert!(pushed < 1000, "nothing of it counts");
    }
    assert!(pushed > 400, "{pushed}");
    stage.discard(&["t1".into()]);
    assert!(stage.has_room());
    table.answer(0);
    assert_eq!(ready(&mut stage).len(), 1);
    assert!(stage.is_empty() && stage.has_room());
}

#[test]
fn requests_are_as_large_and_as_many_as_allowed() {
    let table = ByHand::new(2);
    let mut stage = stage([Enrichment { in_flight: 2, ..enrichment(table.clone()) }]);
    stage.push(&mut records(0, &["t:a", "t:b", "t:c", "t:d", "t:e"]));
    assert_eq!(table.waiting(), ["a,b", "c,d"]);
    table.answer(1);
    assert_eq!(ready(&mut stage), [""; 0]);
    assert_eq!(table.waiting(), ["a,b", "e"]);
    table.answer(1);
    table.answer(0);
    assert_eq!(ready(&mut stage).len(), 1);
}

#[test]
fn slices_leave_in_order_or_do_not_wait_for_other_partitions() {
    let (ordered, unordered) = (ByHand::new(1), ByHand::new(1));
    let mut stages = [
        stage([enrichment(ordered.clone())]),
        stage([Enrichment { order: Order::Unordered, ..enrichment(unordered.clone()) }]),
    ];
    for (stage, table) in stages.iter_mut().zip([&ordered, &unordered]) {
        stage.push(&mut records(0, &["t0:a", "t1:b"]));
        stage.push(&mut records(2, &["t1:c", "t0:d"]));
        stage.mark(Mark::Gone(vec!["t0".into()]));
        assert_eq!(table.waiting(), ["a", "b", "c", "d"]);
        table.answer(3);
        table.answer(2);
        table.answer(1);
    }
    assert_eq!(ready(&mut stages[0]), [""; 0]);
    let early = ready(&mut stages[1]);
    assert_eq!(early.iter().map(|text| &text[..5]).collect::<Vec<_>>(), ["t1: 1", "t1: 2"]);
    ordered.answer(0);
    unordered.answer(0);
    let begins = |texts: Vec<String>| texts.iter().map(|text| text[..5].to_owned()).collect::<Vec<_>>();
    assert_eq!(begins(ready(&mut stages[0])), ["t0: 0", "t1: 1", "t1: 2", "t0: 3", "Gone("]);
    assert_eq!(begins(ready(&mut stages[1])), ["t0: 0", "t0: 3", "Gone("]);
}

#[test]
fn unknown_keys_and_failures_go_as_declared() {
    let table = ByHand::new(9);
    for (on_missing, expected) in [
        (OnMissing::Keep, "t: 0 {\"sku\":\"x\"}"),
        (OnMissing::Drop, "t: 0 dropped"),
        (OnMissing::DeadLetter, "t: 0 refused: look-up `product`: its key is not known there"),
    ] {
        let mut stage = stage([Enrichment { on_missing, ..enrichment(table.clone()) }]);
        stage.push(&mut records(0, &["t:x"]));
        table.answer(0);
        assert_eq!(ready(&mut stage), [expected]);
    }
    for (on_failure, expected) in [
        (OnFailure::Keep, "t: 0 {\"sku\":\"a\"}"),
        (OnFailure::DeadLetter, "t: 0 refused: look-up `product`: it is down"),
    ] {
        let mut stage = stage([Enrichment { on_failure, retries: 1, ..enrichment(table.clone()) }]);
        stage.push(&mut records(0, &["t:a"]));
        table.fail(0);
        assert_eq!(ready(&mut stage), [""; 0]);
        wait_for(&mut stage, |_| !table.waiting().is_empty());
        table.fail(0);
        assert_eq!(ready(&mut stage), [expected]);
        assert_eq!((stage.reports()[0].errors, stage.reports()[0].failed), (2, 1));
        assert_eq!(stage.trouble(), None);
    }
}

#[track_caller]
fn wait_for(stage: &mut Stage, done: impl Fn(&Stage) -> bool) {
    let begin = Instant::now();
    while !done(stage) {
        stage.wait(Duration::from_millis(20));
        assert!(begin.elapsed() < Duration::from_secs(20), "it never happened: {:?}", stage.reports());
    }
}

#[test]
fn records_wait_until_the_other_side_answers() {
    let table = ByHand::new(1);
    let mut stage = stage([enrichment(table.clone())]);
    stage.push(&mut records(0, &["t:a"]));
    for _ in 0..3 {
        wait_for(&mut stage, |_| !table.waiting().is_empty());
        table.fail(0);
        assert_eq!(ready(&mut stage), [""; 0]);
        assert_eq!(
            stage.trouble().as_deref(),
            Some("look-up `product`: it is down; records wait, and it is tried again")
        );
    }
    wait_for(&mut stage, |_| !table.waiting().is_empty());
    table.answer(0);
    assert_eq!(ready(&mut stage), [format!("t: 0 {{{TAKEN}}}")]);
    assert_eq!((stage.trouble(), stage.reports()[0].last_error.as_deref()), (None, None));
}

#[test]
fn what_takes_too_long_is_given_up_and_asked_again() {
    let table = ByHand::new(1);
    let mut stage = stage([Enrichment { timeout: Duration::from_secs(3), ..enrichment(table.clone()) }]);
    stage.push(&mut records(0, &["t:a"]));
    let (_, late) = table.take(0);
    wait_for(&mut stage, |_| !table.waiting().is_empty());
    assert_eq!(table.given_up.load(Ordering::Relaxed), 1);
    // Nobody hears what comes after.
    late.send(Ok(vec![Ok(Some("{\"is\":\"late\"}".to_owned()))]));
    assert_eq!(ready(&mut stage), [""; 0]);
    assert_eq!(stage.reports()[0].last_error.as_deref(), Some("no answer within 3000 ms"));
    table.answer(0);
    assert_eq!(ready(&mut stage), [format!("t: 0 {{{TAKEN}}}")]);
}

#[test]
fn one_that_was_never_answered_is_a_failure() {
    let table = ByHand::new(1);
    let mut stage = stage([Enrichment { on_failure: OnFailure::DeadLetter, ..enrichment(table.clone()) }]);
    stage.push(&mut records(0, &["t:a"]));
    drop(table.take(0));
    assert_eq!(ready(&mut stage), ["t: 0 refused: look-up `product`: the request ended without an answer"]);
    // As is an answer of another length, and what is no object.
    for (answers, part) in [
        (vec![], "0 answers came for 1 keys"),
        (vec![Ok(Some("[1]".to_owned()))], "key `a`: what was found is no JSON object"),
        (vec![Ok(Some("{\"a\":".to_owned()))], "key `a`: what was found is no JSON: "),
        (vec![Ok(Some(format!("{{\"a\":\"{}\"}}", "x".repeat(ANSWER_BYTES_MAX))))], "at most 65536 are taken"),
        (vec![Ok(Some("{\"a\":".repeat(32) + "1" + &"}".repeat(32)))], "32 levels of nesting"),
        (vec![Err("it is odd".to_owned())], "key `a`: it is odd"),
    ] {
        stage.push(&mut records(0, &["t:a"]));
        table.take(0).1.send(Ok(answers));
        let ready = ready(&mut stage).remove(0);
        assert!(ready.contains(part), "{ready}");
    }
}

#[test]
fn what_is_forgotten_is_given_up() {
    let table = ByHand::new(1);
    let mut stage = stage([Enrichment { in_flight: 3, ..enrichment(table.clone()) }]);
    let skipped = Started { partition: "t0".into(), offset: 9, skipped: None };
    stage.push(&mut records(0, &["t1:b", "t1:d", "t0:a", "t0:c"]));
    stage.mark(Mark::Skipped(vec![skipped]));
    assert!(stage.has("t0"));
    assert_eq!(table.waiting(), ["b", "d", "a"]);
    stage.discard(&["t0".into()]);
    assert!(!stage.has("t0") && stage.has("t1"));
    table.answer(2);
    assert_eq!(ready(&mut stage), [""; 0]);
    // Nobody wants `c` any more.
    assert_eq!(table.waiting(), ["b", "d"]);
    stage.push(&mut records(4, &["t1:e"]));
    stage.mark(Mark::Gone(vec!["t1".into()]));
    let given_up = table.given_up.load(Ordering::Relaxed);
    assert_eq!(stage.forget(), ["t1".into()]);
    assert!(stage.is_empty() && stage.has_room());
    assert_eq!(table.given_up.load(Ordering::Relaxed), given_up + 3);
    // What was under way is not mixed up with what comes now.
    stage.push(&mut records(1, &["t1:d"]));
    assert_eq!(table.waiting(), ["b", "d", "e", "d"]);
    table.answer(1);
    assert_eq!(ready(&mut stage), [""; 0]);
    table.answer(2);
    assert_eq!(ready(&mut stage), ["t1: 1 {\"sku\":\"d\",\"product\":{\"is\":\"d\"}}"]);
}

#[test]
fn one_that_is_down_is_left_alone() {
    let table = ByHand::new(1);
    let mut stage = stage([Enrichment { on_failure: OnFailure::Keep, in_flight: 5, ..enrichment(table.clone()) }]);
    stage.push(&mut records(0, &["t:a", "t:b", "t:c", "t:d", "t:e", "t:f", "t:g"]));
    (0..5).for_each(|_| table.fail(0));
    assert_eq!(ready(&mut stage).len(), 1);
    let report = &stage.reports()[0];
    assert_eq!((report.is_resting, report.requests, report.failed), (true, 5, 7));
    // Without a request.
    stage.push(&mut records(7, &["t:h"]));
    assert_eq!(ready(&mut stage), ["t: 7 {\"sku\":\"h\"}"]);
    assert_eq!(table.waiting(), [""; 0]);
    // Then one that tries.
    std::thread::sleep(Duration::from_millis(1_050));
    stage.push(&mut records(8, &["t:a", "t:b"]));
    assert_eq!(table.waiting(), ["a"]);
    table.answer(0);
    assert_eq!(ready(&mut stage), [""; 0]);
    table.answer(0);
    assert_eq!(ready(&mut stage).len(), 1);
    assert!(!stage.reports()[0].is_resting);
}

#[test]
fn a_key_may_be_what_another_look_up_found() {
    let (products, makers) = (ByHand::new(5), ByHand::new(5));
    let maker = Enrichment {
        name: "maker".to_owned(),
        key: "product.is".to_owned(),
        on_missing: OnMissing::Drop,
        ..enrichment(makers.clone())
    };
    let mut stage = stage([enrichment(products.clone()), maker]);
    stage.push(&mut records(0, &["t:a", "t:x", "t:b"]));
    products.answer(0);
    assert_eq!(ready(&mut stage), [""; 0]);
    assert_eq!(makers.waiting(), ["a,b"]);
    makers.answer(0);
    let product =
        |key: &str| format!("{{\"sku\":\"{key}\",\"product\":{{\"is\":\"{key}\"}},\"maker\":{{\"is\":\"{key}\"}}}}");
    assert_eq!(ready(&mut stage), [format!("t: 0 {}; 1 {{\"sku\":\"x\"}}; 2 {}", product("a"), product("b"))]);
}

#[test]
fn what_is_no_record_is_refused_and_what_waits_is_bounded() {
    let table = ByHand::new(1_000_000);
    let mut stage = stage([enrichment(table.clone())]);
    let mut batch = RecordBatch::new();
    let partition = batch.add_partition("t".into());
    for (offset, payload) in (0..).zip([Some(&b"[1]"[..]), Some(b"\xff"), None, Some(b" ")]) {
        batch.push(Record { partition, offset, timestamp_ms: None, key: None, payload });
    }
    stage.push(&mut batch);
    match stage.next() {
        Some(Ready::Records(_, fates)) => {
            let kinds = fates.iter().map(|fate| match fate {
                Fate::Refused(error) => Some(error.kind),
                _ => None,
            });
            let expected = [Some(LineErrorKind::Type), Some(LineErrorKind::Syntax), None, None];
            assert_eq!(kinds.collect::<Vec<_>>(), expected);
        }
        other => panic!("{other:?}"),
    }
    let keys: Vec<String> = (0..1_000).map(|key| format!("t:{key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut polls = 0;
    while stage.has_room() {
        stage.push(&mut records(polls * 1_000, &keys));
        polls += 1;
    }
    assert_eq!(polls, 33);
    table.answer(0);
    assert_eq!(ready(&mut stage).len(), 33);
    assert!(stage.has_room() && stage.is_empty());
}

#[test]
fn what_cannot_be_declared_is_named() {
    let wrong = |change: &dyn Fn(&mut Enrichment)| {
        let mut enrichment = enrichment(ByHand::new(1));
        change(&mut enrichment);
        enrichment.check().expect_err("wrong").to_string()
    };
    for (text, part) in [
        (wrong(&|it| it.name = "a.b".to_owned()), "name: `a.b`: write a letter"),
        (wrong(&|it| it.name = String::new()), "name: ``: write a letter"),
        (wrong(&|it| it.name = "x".repeat(65)), "at most 64"),
        (wrong(&|it| it.key = "a[".to_owned()), "key: the path `a[`: a bracket without"),
        (wrong(&|it| it.key = "product.id".to_owned()), "key: the records' own `product`"),
        (wrong(&|it| it.timeout = Duration::ZERO), "timeout: "),
        (wrong(&|it| it.in_flight = 0), "in_flight: write a number from 1 to 1000"),
        (wrong(&|it| it.in_flight = 1_001), "in_flight: "),
        (
            wrong(&|it| {
                it.cache = Some(CachePolicy { entries: 0, ttl: Duration::MAX, missing_ttl: Duration::MAX });
            }),
            "cache: ",
        ),
    ] {
        assert!(text.contains(part), "{text}");
    }
}

/// What the test does next.
#[derive(Clone, Debug)]
enum Action {
    Poll(Vec<(u8, u8)>),
    Answer(usize),
    Fail(usize),
    LoseAnswer(usize),
    Revoke(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => prop::collection::vec((0_u8..3, 0_u8..12), 1..8).prop_map(Action::Poll),
        8 => any::<prop::sample::Index>().prop_map(|index| Action::Answer(index.index(1_000))),
        1 => any::<prop::sample::Index>().prop_map(|index| Action::Fail(index.index(1_000))),
        1 => any::<prop::sample::Index>().prop_map(|index| Action::LoseAnswer(index.index(1_000))),
        1 => (0_u8..3).prop_map(Action::Revoke),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is answered in whatever order, lost, or revoked and read again: each record comes out once, those of a
    /// partition in their order, as a join in memory has them.
    #[test]
    fn it_is_a_join(actions in prop::collection::vec(action(), 1..40), unordered in any::<bool>(), keys_max in 1_usize..4) {
        let table = ByHand::new(keys_max);
        let order = if unordered { Order::Unordered } else { Order::Ordered };
        let cache = CachePolicy { entries: 4, ttl: Duration::from_secs(60), missing_ttl: Duration::from_secs(60) };
        let mut stage = stage([Enrichment { order, cache: Some(cache), in_flight: 3, ..enrichment(table.clone()) }]);
        let mut log: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut out: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        let collect = |stage: &mut Stage, out: &mut BTreeMap<u8, Vec<String>>| {
            stage.wait(Duration::ZERO);
            while let Some(ready) = stage.next() {
                let Ready::Records(records, fates) = ready else { panic!("no marks were made") };
                let partition: u8 = records.partition_name(0).parse().expect("a number");
                let taken = out.entry(partition).or_default();
                for (record, fate) in records.iter().zip(&fates) {
                    let Fate::Taken(members) = fate else { panic!("{fate:?}") };
                    assert_eq!(record.offset as usize, taken.len());
                    let mut text = Vec::new();
                    splice(record.payload.expect("some"), members, &mut text);
                    taken.push(String::from_utf8(text).expect("UTF-8"));
                }
            }
        };
        let push = |stage: &mut Stage, records: &[(u8, u64, u8)]| {
            let mut batch = RecordBatch::new();
            for (partition, offset, key) in records {
                let name: Arc<str> = partition.to_string().into();
                let known = batch.partition_names().position(|known| *known == name);
                let index = known.unwrap_or_else(|| batch.add_partition(name));
                let payload = json!({"sku": key_text(*key)}).to_string();
                let payload = Some(payload.as_bytes());
                batch.push(Record { partition: index, offset: *offset, timestamp_ms: None, key: None, payload });
            }
            stage.push(&mut batch);
        };
        for action in actions {
            let waiting = table.waiting().len();
            match action {
                Action::Poll(records) => {
                    let records: Vec<(u8, u64, u8)> = records.into_iter().map(|(partition, key)| {
                        let log = log.entry(partition).or_default();
                        log.push(key);
                        (partition, log.len() as u64 - 1, key)
                    }).collect();
                    push(&mut stage, &records);
                }
                Action::Answer(index) if waiting > 0 => table.answer(index % waiting),
                Action::Fail(index) if waiting > 0 => table.fail(index % waiting),
                Action::LoseAnswer(index) if waiting > 0 => drop(table.take(index % waiting)),
                Action::Revoke(partition) => {
                    // It comes back, and is read again from behind what came out.
                    stage.discard(&[partition.to_string().into()]);
                    let from = out.get(&partition).map_or(0, Vec::len);
                    let log = log.get(&partition).map_or(&[][..], Vec::as_slice);
                    let again: Vec<_> = (from..log.len()).map(|at| (partition, at as u64, log[at])).collect();
                    if !again.is_empty() {
                        push(&mut stage, &again);
                    }
                }
                _ => {}
            }
            collect(&mut stage, &mut out);
        }
        let begin = Instant::now();
        while !stage.is_empty() {
            while !table.waiting().is_empty() {
                table.answer(0);
            }
            stage.wait(Duration::from_millis(10));
            collect(&mut stage, &mut out);
            prop_assert!(begin.elapsed() < Duration::from_secs(20), "it hangs: {:?}", stage.reports());
        }
        for (partition, keys) in log {
            let expected: Vec<Value> = keys.into_iter().map(|key| {
                let key = key_text(key);
                match known(&key) {
                    Some(_) => json!({"sku": key, "product": {"is": key}}),
                    None => json!({"sku": key}),
                }
            }).collect();
            let taken = &out[&partition];
            let taken: Vec<Value> = taken.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
            prop_assert_eq!(taken, expected);
        }
    }
}

fn key_text(key: u8) -> String {
    if key.is_multiple_of(4) { format!("x{key}") } else { format!("k{key}") }
}
