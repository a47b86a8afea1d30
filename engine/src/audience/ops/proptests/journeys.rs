//! Funnels, sequences and retention against every choice of plain events.

use super::*;
use crate::audience::bind_events;
use crate::audience::expr::Did;
use crate::audience::naive::meant;
use crate::audience::scan::EventsMeant;
use crate::behavior::calendar::Date;
use crate::journey::funnel::{Funnel, Modes};
use crate::journey::naive::{Part, Row, chains, times, written};
use crate::journey::pattern::Pattern;

pub(super) const DAY_MICROS: i64 = 86_400_000_000;

pub(super) fn step(world: &World, random: &mut Random) -> (Did, EventsMeant) {
    let did = Did { figures: Vec::new(), ..random.did() };
    let meant = bind_events(&did, &world.catalog, NOW).expect("binds");
    (did, meant)
}

pub(super) fn ids(world: &World, users: &[RoaringBitmap]) -> BTreeSet<String> {
    let snapshot = world.snapshot();
    let mut ids = BTreeSet::new();
    for (shard, slots) in snapshot.shards().iter().zip(users) {
        for slot in slots {
            let mut id = Vec::new();
            assert!(shard.user_id(slot, &mut id).expect("read"), "a known user");
            ids.insert(String::from_utf8(id).expect("text"));
        }
    }
    ids
}

fn check_funnel(world: &World, whom: &Predicate, random: &mut Random) {
    let steps: Vec<(Did, EventsMeant)> = (0..1 + random.below(4)).map(|_| step(world, random)).collect();
    let [deduplication, order, increase, once] = std::array::from_fn(|_| random.one_in(4));
    let window = [0, DAY_MICROS, 20 * DAY_MICROS, 1_000 * DAY_MICROS][random.below(4) as usize];
    let asked = Funnel { window: window.into(), modes: Modes { deduplication, order, increase, once } };
    let bound: Vec<EventsMeant> = steps.iter().map(|(_, meant)| meant.clone()).collect();
    let found = funnel(&world.snapshot(), &bound, asked, whom, &world.context()).expect("a funnel");
    let took: Vec<(&str, Vec<i64>)> =
        world.who(whom).into_iter().map(|id| (id, times(&rows_of(world, id, &steps), &asked))).collect();
    let came = took.iter().map(|(id, times)| (*id, times.len()));
    check_reached(world, &found.funnel, came, &format!("{steps:?}, {asked:?}"));
    let context = world.context();
    let some = world.predicate(random);
    let among = slots(&world.snapshot(), &some, &context).expect("users");
    let fitting: BTreeSet<&str> = world.who(&some).into_iter().collect();
    for step in 0..steps.len() {
        let told = |is_meant: &dyn Fn(&str) -> bool| {
            let meant = took.iter().filter(|(id, times)| step > 0 && times.len() > step && is_meant(id));
            step_time(meant.map(|(_, times)| times[step] - times[step - 1]).collect())
        };
        let time_to = |among| found.time_to(step, among, &context).expect("a time");
        assert_eq!(time_to(None), told(&|_| true), "step {step} of {steps:?}, {asked:?}");
        assert_eq!(time_to(Some(&among)), told(&|id| fitting.contains(id)), "step {step} of {steps:?}, {asked:?}");
    }
}

fn step_time(mut times: Vec<i64>) -> Option<StepTime> {
    times.sort_unstable();
    let count = times.len();
    let middle = |at: usize| times.get(at).map(|time| *time as f64);
    let median = (middle((count.checked_sub(1)?) / 2)? + middle(count / 2)?) / 2.0;
    let p90 = times.iter().find(|time| times.iter().filter(|one| one <= time).count() * 10 >= count * 9)?;
    Some(StepTime { median, p90: *p90 })
}

/// The events of a user that are steps.
fn rows_of(world: &World, id: &str, steps: &[(Did, EventsMeant)]) -> Vec<Row> {
    let user = &world.users[id];
    let is_step = |event: &crate::audience::naive::Event, did: &Did| {
        meant(did, user).iter().any(|meant| std::ptr::eq(*meant, event))
    };
    user.events
        .iter()
        .map(|event| (event.ts, (0..steps.len()).filter(|at| is_step(event, &steps[*at].0)).collect()))
        .filter(|(_, fulfils): &Row| !fulfils.is_empty())
        .collect()
}

/// `came`: who came how far.
fn check_reached<'i>(world: &World, found: &FunnelAnswer, came: impl Iterator<Item = (&'i str, usize)>, asked: &str) {
    let mut expected = vec![BTreeSet::new(); found.reached.len()];
    for (id, level) in came {
        for expected in &mut expected[..level] {
            expected.insert(id.to_owned());
        }
    }
    for (at, expected_here) in expected.iter().enumerate() {
        assert_eq!(ids(world, &found.reached[at]), *expected_here, "level {at} of {asked}");
        assert_eq!(found.users(at), expected_here.len() as u64);
        let stopped: BTreeSet<String> = match expected.get(at + 1) {
            Some(next) => expected_here - next,
            None => expected_here.clone(),
        };
        assert_eq!(ids(world, &found.stopped(at)), stopped);
    }
}

fn check_sequence(world: &World, whom: &Predicate, random: &mut Random) {
    let steps: Vec<(Did, EventsMeant)> = (0..1 + random.below(3)).map(|_| step(world, random)).collect();
    let part = |random: &mut Random| match random.below(6) {
        0 => Part::Any,
        1 => Part::Skip,
        2 => {
            let operator = [">=", ">", "<=", "<", "=="][random.below(5) as usize];
            Part::Time(operator, [0, DAY_MICROS, 20 * DAY_MICROS][random.below(3) as usize])
        }
        _ => Part::Condition(random.below(steps.len() as u64) as usize),
    };
    let parts: Vec<Part> = (0..1 + random.below(5)).map(|_| part(random)).collect();
    let Ok(pattern) = Pattern::parse(&written(&parts), steps.len(), 1) else { return };
    let bound: Vec<EventsMeant> = steps.iter().map(|(_, meant)| meant.clone()).collect();
    let found = sequence(&world.snapshot(), &bound, &pattern, whom, &world.context()).expect("a sequence");
    // Up to each event that is taken, the pattern is one, too.
    let is_taken = |part: &Part| matches!(part, Part::Any | Part::Condition(_));
    let ends: Vec<usize> = (0..parts.len()).filter(|at| is_taken(&parts[*at])).collect();
    assert_eq!(found.funnel.reached.len(), ends.len());
    let mut times = 0;
    let mut came = Vec::new();
    for id in world.who(whom) {
        let rows = rows_of(world, id, &steps);
        times += chains(&rows, &parts);
        came.push((id, ends.iter().take_while(|end| chains(&rows, &parts[..=**end]) > 0).count()));
    }
    assert_eq!(found.times, times, "{steps:?}, {parts:?}");
    check_reached(world, &found.funnel, came.into_iter(), &format!("{steps:?}, {parts:?}"));
}

/// The first day of the period that holds a day.
fn begin(period: Period, day: i64) -> i64 {
    match period {
        Period::Day => day,
        // The third day of 1970 before the first was a Monday.
        Period::Week => (0..7).map(|back| day - back).find(|day| (day + 3).rem_euclid(7) == 0).expect("a Monday"),
        Period::Month => Date { day: 1, ..Date::of(day) }.days_since_1970(),
    }
}

fn check_retention(world: &World, whom: &Predicate, random: &mut Random) {
    let first = step(world, random);
    let back = if random.one_in(3) { first.clone() } else { step(world, random) };
    let period = [Period::Day, Period::Week, Period::Month][random.below(3) as usize];
    let last_day = (NOW / DAY_MICROS) as i32 - random.below(20) as i32;
    let periods = 1 + random.below(12) as usize;
    let asked = RetentionQuestion { first: &first.1, back: &back.1, period, periods, last_day, whom };
    let found = retention(&world.snapshot(), &asked, &world.context()).expect("an answer");
    assert_eq!(found.first_days.len(), periods);
    assert!(found.first_days.is_sorted_by(|a, b| a < b));
    assert!(found.first_days.iter().all(|day| begin(period, (*day).into()) == i64::from(*day)));
    assert_eq!(i64::from(found.first_days[periods - 1]), begin(period, last_day.into()));
    let place = |day: i64| found.first_days.iter().position(|first| i64::from(*first) == begin(period, day));
    let grid = found.grid(&world.context()).expect("figures");
    let mut cohorts: Vec<BTreeSet<String>> = vec![BTreeSet::new(); periods];
    let mut active = cohorts.clone();
    for id in world.who(whom) {
        let user = &world.users[id];
        let days = |did: &Did| meant(did, user).into_iter().map(|event| event.local_day()).collect::<Vec<i64>>();
        if let Some(cohort) = days(&first.0).into_iter().min().and_then(place) {
            cohorts[cohort].insert(id.to_owned());
        }
        for period in days(&back.0).into_iter().filter_map(place) {
            active[period].insert(id.to_owned());
        }
    }
    for cohort in 0..periods {
        assert_eq!(ids(world, &found.cohorts[cohort]), cohorts[cohort], "{first:?} {asked:?}");
        assert_eq!(found.size(cohort), cohorts[cohort].len() as u64);
        let row: Vec<u64> =
            (cohort..periods).map(|period| cohorts[cohort].intersection(&active[period]).count() as u64).collect();
        assert_eq!(grid[cohort], row, "{back:?} {asked:?}");
        for (period, active) in active.iter().enumerate().skip(cohort) {
            assert_eq!(ids(world, &found.members(cohort, period, true)), &cohorts[cohort] & active);
            assert_eq!(ids(world, &found.members(cohort, period, false)), &cohorts[cohort] - active);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn funnels_sequences_and_retention_are_what_plain_events_say(seed in any::<u64>(), shards in 0..3u32) {
        let mut random = Random::new(seed);
        let world = World::new(&mut random, 1 << shards);
        for _ in 0..6 {
            let whom = if random.one_in(2) { Predicate::All } else { world.predicate(&mut random) };
            check_funnel(&world, &whom, &mut random);
            check_sequence(&world, &whom, &mut random);
            check_retention(&world, &whom, &mut random);
        }
    }
}

#[test]
fn what_is_no_funnel_is_refused() {
    let world = World::new(&mut Random::new(3), 1);
    let asked = Funnel { window: 0, modes: Modes::default() };
    assert!(funnel(&world.snapshot(), &[], asked, &Predicate::All, &world.context()).is_err());
    let did =
        Did { fact: "purchase".to_owned(), events: Vec::new(), figures: Vec::new(), within: None, exact_window: false };
    let meant = bind_events(&did, &world.catalog, NOW).expect("binds");
    let many = vec![meant.clone(); 33];
    assert!(funnel(&world.snapshot(), &many, asked, &Predicate::All, &world.context()).is_err());
    let pattern = Pattern::parse("(?1)", 1, 1).expect("a pattern");
    for steps in [&many[..], &[]] {
        assert!(sequence(&world.snapshot(), steps, &pattern, &Predicate::All, &world.context()).is_err());
    }
    let question = RetentionQuestion {
        first: &meant,
        back: &meant,
        period: Period::Day,
        periods: 401,
        last_day: 0,
        whom: &Predicate::All,
    };
    assert!(retention(&world.snapshot(), &question, &world.context()).is_err());
    let figures = match parse("did('purchase', count > 1)").expect("parses").kind {
        crate::audience::expr::ExprKind::Did(did) => *did,
        other => panic!("{other:?}"),
    };
    assert!(bind_events(&figures, &world.catalog, NOW).is_err());
    let gone = QueryContext { cancelled: Arc::new(AtomicBool::new(true)), ..world.context() };
    assert!(matches!(funnel(&world.snapshot(), &[meant], asked, &Predicate::All, &gone), Err(QueryError::Cancelled)));
}
