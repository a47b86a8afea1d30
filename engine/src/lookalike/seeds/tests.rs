//! Hidden members are found, and bad seeds are told.

use super::*;
use crate::lookalike::naive::OwnedLayer;
use crate::lookalike::recall::Space;
use roaring::RoaringBitmap;

const DIMENSION: usize = 12;

static NEVER: AtomicBool = AtomicBool::new(false);

fn setting(metric: Metric) -> Setting<'static> {
    Setting { metric, dimension: DIMENSION, random_seed: 3, cancelled: &NEVER }
}

/// Noise around one of the centres.
fn around(centres: &[[f32; DIMENSION]], count: usize, noise: f32, metric: Metric, random: &mut Random) -> Examples {
    let mut vectors = Vec::new();
    for index in 0..count {
        let centre = &centres[index % centres.len()];
        let made: Vec<f32> = centre.iter().map(|number| number + (random.unit() as f32 - 0.5) * noise).collect();
        vectors.extend(crate::lookalike::vector::checked(metric, DIMENSION, &made).expect("a vector"));
    }
    Examples { vectors, weights: Vec::new() }
}

fn unit(axis: usize, size: f32) -> [f32; DIMENSION] {
    std::array::from_fn(|at| if at == axis { size } else { 0.0 })
}

fn area(scorer: &Scorer, positives: &Examples, negatives: &Examples) -> f64 {
    let score = |of: &Examples| -> Vec<f32> { of.vectors.chunks(DIMENSION).map(|one| scorer.score(one)).collect() };
    area_under_curve(&score(positives), &score(negatives)).expect("both are there")
}

#[test]
fn several_tastes_need_prototypes_and_one_direction_a_line() {
    let mut random = Random::new(8);
    for metric in [Metric::Cosine, Metric::L2] {
        // Near the middle, so that distance from the mean of all tastes ranks it first.
        let noise = around(&[[0.0; DIMENSION]], 2_000, 1.0, metric, &mut random);
        // Four tastes, two of them opposites: their mean says nothing.
        let tastes = [unit(0, 1.0), unit(0, -1.0), unit(1, 1.0), unit(1, -1.0)];
        let examples = around(&tastes, 400, 0.8, metric, &mut random);
        let learned = learn(&setting(metric), &examples, &noise, None).expect("learned");
        assert!(matches!(learned.method, Method::Prototypes(4..)), "{:?}", learned.tried);
        let unseen = around(&tastes, 400, 0.8, metric, &mut random);
        assert!(area(&learned.scorer, &unseen, &noise) > 0.9, "{metric:?} {:?}", learned.tried);
        let again = learn(&setting(metric), &examples, &noise, None).expect("learned");
        assert_eq!(again.scorer.prototypes(), learned.scorer.prototypes(), "the same seed, the same scorer");
    }
    // Whoever has much of the first, whatever the rest, which is most of the length: a line sees it, a mean is drowned.
    let metric = Metric::L2;
    let wide: Vec<[f32; DIMENSION]> = (0..500)
        .map(|_| std::array::from_fn(|at| if at == 0 { 0.0 } else { (random.unit() as f32 - 0.5) * 20.0 }))
        .collect();
    let noise = around(&wide, 2_000, 1.0, metric, &mut random);
    let moved: Vec<[f32; DIMENSION]> =
        wide.iter().map(|one| std::array::from_fn(|at| if at == 0 { 2.0 } else { one[at] })).collect();
    let examples = around(&moved, 500, 1.0, metric, &mut random);
    let learned = learn(&setting(metric), &examples, &noise, None).expect("learned");
    assert_eq!(learned.method, Method::Linear, "{:?}", learned.tried);
    assert!(area(&learned.scorer, &examples, &noise) > 0.95, "{:?}", learned.tried);
}

#[test]
fn weights_pull() {
    let mut examples = Examples { vectors: unit(0, 1.0).to_vec(), weights: vec![1.0, 9.0] };
    examples.vectors.extend(unit(1, 1.0));
    let learned = learn(&setting(Metric::L2), &examples, &Examples::default(), None).expect("learned");
    assert_eq!(learned.method, Method::Mean);
    assert_eq!(&learned.scorer.prototypes()[..3], [0.1, 0.9, 0.0]);
    examples.weights[1] = f32::NAN;
    let refused = learn(&setting(Metric::L2), &examples, &Examples::default(), None).expect_err("refused");
    assert!(matches!(refused, SeedError::Weight { index: 1, .. }));
}

#[test]
fn bad_seeds_are_told() {
    let (none, metric) = (Examples::default(), Metric::Cosine);
    let refused = |examples: &Examples, method| learn(&setting(metric), examples, &none, method).expect_err("refused");
    assert_eq!(refused(&none, None), SeedError::Empty);
    let mut opposites = Examples { vectors: unit(0, 1.0).to_vec(), weights: Vec::new() };
    assert_eq!(refused(&opposites, Some(Method::Linear)), SeedError::NoBackground);
    assert_eq!(refused(&opposites, Some(Method::Prototypes(0))), SeedError::Prototypes { found: 0 });
    opposites.vectors.extend(unit(0, -1.0));
    assert!(matches!(refused(&opposites, Some(Method::Mean)), SeedError::Scorer(VectorError::Zero)));
    // Unasked, a way is found.
    let learned = learn(&setting(metric), &opposites, &none, None).expect("learned");
    assert_eq!(learned.method, Method::Prototypes(2));
    // More centres than examples are as many as there are.
    let learned = learn(&setting(metric), &opposites, &none, Some(Method::Prototypes(9))).expect("learned");
    assert_eq!(learned.scorer.prototype_count(), 2);
    let cancelled = AtomicBool::new(true);
    let setting = Setting { cancelled: &cancelled, ..setting(metric) };
    let ended = learn(&setting, &opposites, &none, None).expect_err("cancelled");
    assert_eq!(ended, SeedError::Recall(RecallError::Cancelled));
}

#[test]
fn vectors_are_gathered_evenly() {
    let of =
        |shard: u32| (0..30_000).filter(move |slot| slot % 2 == shard).map(|slot| (slot, Some(vec![slot as f32, 1.0])));
    let owned = [OwnedLayer::new(2, of(0)), OwnedLayer::new(2, of(1))];
    let layers = owned.iter().map(|layer| vec![layer.view()]).collect();
    let space = Space::new(Metric::L2, 2, layers).expect("a space");
    let few = [RoaringBitmap::from_iter([4, 5, 100_000]), RoaringBitmap::from_iter([7])];
    let gathered = gather(&space, &few, 1);
    assert_eq!((gathered.asked, gathered.users), (4, vec![(0, 4), (1, 7)]));
    assert_eq!(gathered.examples.vectors, [4.0, 1.0, 7.0, 1.0]);
    let all = [RoaringBitmap::from_iter(0..30_000), RoaringBitmap::from_iter(0..30_000)];
    let gathered = gather(&space, &all, 1);
    assert_eq!(gathered.asked, EXAMPLES_MAX as u64);
    // Half of those asked are of the other shard.
    assert!((9_000..11_000).contains(&gathered.users.len()), "{}", gathered.users.len());
    assert!(gathered.users.is_sorted_by(|a, b| a < b), "nobody twice");
    assert_eq!(gather(&space, &[], 1), Gathered::default());
}
