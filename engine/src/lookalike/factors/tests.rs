use super::sample::{ENTRIES_MAX, Sample};
use super::*;
use crate::lookalike::random::Random;

pub(super) fn learn(events: &[(u32, u32, f64)], dimension: usize) -> Result<Factors, FactorError> {
    let mut sample = Sample::new(ENTRIES_MAX, 1);
    for (user, item, weight) in events {
        sample.add(&user.to_le_bytes(), &item.to_le_bytes(), *weight);
    }
    Factors::learn(&Setting { dimension, random_seed: 1, cancelled: &AtomicBool::new(false) }, sample)
}

/// The vector of a user of these events.
pub(super) fn vector(factors: &Factors, events: &[(u32, u32, f64)], user: u32) -> Option<Vec<f32>> {
    let of = events.iter().filter(|event| event.0 == user);
    let deal = |event: &(u32, u32, f64)| Some(Deal { item: factors.item(&event.1.to_le_bytes())?, weight: event.2 });
    let mut out = vec![0.0; factors.dimension];
    factors.vector(&mut of.filter_map(deal).collect(), &mut out).then_some(out)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// Users of clusters, who deal mostly with items of their own.
fn clusters(users: u32, items: u32, clusters: u32, per_user: u32) -> Vec<(u32, u32, f64)> {
    let mut random = Random::new(4);
    let mut events = Vec::new();
    for user in 0..users {
        for _ in 0..per_user {
            let own = random.unit() < 0.8;
            let item = random.below((items / clusters) as usize) as u32 * clusters;
            let of = if own { user % clusters } else { random.below(clusters as usize) as u32 };
            events.push((user, item + of, 1.0 + random.below(20) as f64));
        }
    }
    events
}

#[test]
fn planted_clusters_are_found_again() {
    // More items than directions, so that the subspace is a random one.
    let events = clusters(600, 300, 5, 8);
    let factors = learn(&events, 8).expect("factors");
    assert_eq!((factors.learned().users, factors.learned().one_of, factors.learned().items), (600, 1, 300));
    let vectors: Vec<Vec<f32>> = (0..600).map(|user| vector(&factors, &events, user).expect("a vector")).collect();
    let mut right = 0;
    for (user, own) in vectors.iter().enumerate() {
        let others = vectors.iter().enumerate().filter(|(other, _)| *other != user);
        let near = others.max_by(|a, b| cosine(own, a.1).total_cmp(&cosine(own, b.1))).expect("another").0;
        right += usize::from(near % 5 == user % 5);
    }
    assert!(right > 570, "{right} of 600 have their nearest in their own cluster");
    // Who was not in the sample, and did less, is put with his like.
    let few = [(9_000, 0, 1.0), (9_000, 5, 1.0), (9_000, 10, 1.0)];
    let folded = vector(&factors, &few, 9_000).expect("a vector");
    let mean = |cluster: usize| -> Vec<f32> {
        let of = || vectors.iter().skip(cluster).step_by(5);
        (0..8).map(|at| of().map(|vector| vector[at]).sum()).collect()
    };
    let near = (0..5).max_by(|a, b| cosine(&folded, &mean(*a)).total_cmp(&cosine(&folded, &mean(*b))));
    assert_eq!(near, Some(0));
}

#[test]
fn a_random_subspace_holds_what_the_dense_decomposition_does() {
    let events = clusters(200, 120, 6, 6);
    let rows: Vec<Vec<f64>> = naive::matrix(&events).into_values().collect();
    for dimension in [2, 6, 20] {
        assert!(decomposition::directions(dimension) < 120, "the subspace is a random one");
        let held = learn(&events, dimension).expect("factors").learned().explained;
        let best = naive::explained(&rows, dimension);
        assert!(held <= best + 1e-9 && held > best * 0.995, "{dimension}: {held} of {best}");
    }
}

#[test]
fn a_sample_of_users_gives_nearly_the_same_space() {
    let events = clusters(4_000, 60, 4, 10);
    let all = learn(&events, 4).expect("factors");
    let mut sample = Sample::new(4_000, 1);
    for (user, item, weight) in &events {
        sample.add(&user.to_le_bytes(), &item.to_le_bytes(), *weight);
    }
    let setting = Setting { dimension: 4, random_seed: 1, cancelled: &AtomicBool::new(false) };
    let some = Factors::learn(&setting, sample).expect("factors");
    assert!(some.learned().one_of >= 8 && some.learned().users < 600, "{:?}", some.learned());
    let of = |factors: &Factors, user| vector(factors, &events, user).expect("a vector");
    let (mut apart, mut near) = (0.0, 0.0);
    for user in 0..200 {
        let alike = |factors: &Factors, other| cosine(&of(factors, user), &of(factors, other));
        near += (alike(&all, user + 4) - alike(&some, user + 4)).abs();
        apart += (alike(&all, user + 1) - alike(&some, user + 1)).abs();
    }
    assert!(near / 200.0 < 0.15 && apart / 200.0 < 0.15, "{near} {apart}");
}

#[test]
fn dimensions_that_items_cannot_carry_are_told() {
    let events = [(1, 1, 1.0), (2, 2, 1.0), (3, 1, 2.0), (3, 2, 1.0)];
    let error = FactorError::Dimension { wanted: 3, rank: 2, items: 2, users: 3 };
    assert_eq!(learn(&events, 3).expect_err("two items"), error);
    assert_eq!(error.to_string(), "2 items of 3 users carry 2 numbers a user, not 3");
    // Two users have no third direction either, whatever they bought.
    let wide: Vec<(u32, u32, f64)> = (0..40).map(|item| (item % 2, item, 1.0)).collect();
    assert!(matches!(learn(&wide, 3), Err(FactorError::Dimension { rank: 2, items: 40, .. })));
    for nothing in [vec![], vec![(1, 1, 0.0)], vec![(1, 1, 1.0), (1, 1, -1.0)], vec![(1, 1, f64::NAN)]] {
        assert_eq!(learn(&nothing, 2).expect_err("nothing"), FactorError::Empty);
    }
}

#[test]
fn who_has_no_known_item_has_no_vector() {
    let events = clusters(50, 20, 2, 5);
    let factors = learn(&events, 2).expect("factors");
    assert_eq!(factors.item(b"never seen"), None);
    let known = factors.item(&0_u32.to_le_bytes()).expect("known");
    let mut out = [0.0; 2];
    let deal = |weight| Deal { item: known, weight };
    for deals in [vec![], vec![deal(0.0)], vec![deal(1.0), deal(-1.0)], vec![deal(f64::NAN)], vec![deal(f64::INFINITY)]]
    {
        assert!(!factors.vector(&mut deals.clone(), &mut out), "{deals:?}");
    }
    assert!(factors.vector(&mut vec![deal(f64::MAX), deal(f64::MAX)], &mut out));
    assert!(out.iter().all(|number| number.is_finite()) && out != [0.0; 2], "{out:?}");
}

#[test]
fn learning_ends_when_it_is_cancelled() {
    let mut sample = Sample::new(ENTRIES_MAX, 1);
    sample.add(b"u", b"a", 1.0);
    let setting = Setting { dimension: 2, random_seed: 1, cancelled: &AtomicBool::new(true) };
    let error = Factors::learn(&setting, sample).expect_err("cancelled");
    assert_eq!((error.clone(), error.class()), (FactorError::Cancelled, Class::Cancelled));
}

#[test]
fn deals_of_an_item_add_up_to_one() {
    let deal = |item, weight| Deal { item, weight };
    let mut deals = vec![
        deal(7, 1.5),
        deal(2, f64::NAN),
        deal(7, -0.5),
        deal(0, f64::MAX),
        deal(0, f64::MAX),
        deal(7, f64::INFINITY),
        deal(3, -2.0),
    ];
    Deal::add_up(&mut deals);
    assert_eq!(deals, [deal(0, f64::MAX), deal(2, 0.0), deal(3, -2.0), deal(7, 1.0)]);
    Deal::add_up(&mut deals);
    assert_eq!(deals.len(), 4);
    let mut none = Vec::new();
    Deal::add_up(&mut none);
    assert!(none.is_empty());
}
