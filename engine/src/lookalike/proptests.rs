//! Recall against the slow twin.

use super::naive::{Model, OwnedLayer, similarity, vector};
use super::random::Random;
use super::recall::{RecallError, Size, Space, Way, nearest, nearest::misled, scores, top};
use super::scorer::Scorer;
use super::vector::Metric;
use crate::bitmap::rising;
use crate::bitmap::view::BitmapView;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

/// Random vectors that are prototypes of the space, or weights.
fn scorer(metric: Metric, dimension: usize, random: &mut Random) -> Scorer {
    loop {
        let many: Vec<Vec<f32>> = (0..1 + random.below(11)).map(|_| vector(dimension, random)).collect();
        let made = if random.below(4) == 0 {
            Scorer::linear(metric, dimension, &many[0])
        } else {
            Scorer::nearest(metric, dimension, &many)
        };
        if let Ok(scorer) = made {
            return scorer;
        }
    }
}

fn bitmaps(model: &Model, users: &[(f32, usize, u32)]) -> Vec<RoaringBitmap> {
    let mut members = vec![RoaringBitmap::new(); model.layers.len()];
    for (_, shard, slot) in users {
        members[*shard].insert(*slot);
    }
    members
}

fn bytes(sets: &[BTreeSet<u32>]) -> Vec<Vec<u8>> {
    let serialized = |set: &BTreeSet<u32>| {
        let mut out = Vec::new();
        rising::serialize(&set.iter().copied().collect::<Vec<_>>(), &mut out);
        out
    };
    sets.iter().map(serialized).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn recall_is_a_sorted_scan(
        metric in 0..3_usize,
        dimension in prop_oneof![2..20_usize, Just(64), Just(67)],
        shards in 1..4_usize,
        layers in 1..4_usize,
        rows in prop_oneof![Just(8_usize), Just(400)],
        keep in prop_oneof![Just(1.1), Just(0.5), Just(0.1), Just(0.001)],
        seed in any::<u64>(),
    ) {
        let (metric, mut random) = (METRICS[metric], Random::new(seed));
        let model = Model::random(metric, dimension, shards, layers, rows, &mut random);
        let space = Space::new(metric, dimension, model.views()).expect("layers of one space");
        let never = AtomicBool::new(false);
        for shard in 0..shards {
            for slot in [0, 60_001, 65_535, 65_536 * 5 + 7] {
                let found = space.vector(shard, slot);
                prop_assert_eq!(found.as_ref(), model.vectors.get(&(shard, slot)));
            }
        }
        // Some have no vector, and all pass above 1.
        let mut kept = vec![BTreeSet::from([3, 1 << 20]); shards];
        for (shard, slot) in model.vectors.keys() {
            if random.unit() < keep {
                kept[*shard].insert(*slot);
            }
        }
        let kept_bytes = bytes(&kept);
        let views: Vec<BitmapView<'_>> = kept_bytes.iter().map(|bytes| BitmapView::new(bytes).expect("valid")).collect();
        let filtered = keep < 1.0;
        let filter = filtered.then_some(&views[..]);
        let scorer = scorer(metric, dimension, &mut random);
        let ranked = model.ranked(&scorer, filtered.then_some(&kept[..]));
        let count = ranked.len();
        for size in [0, 1, 2, count / 20, count / 2, count.saturating_sub(1), count, count + 5] {
            let best = &ranked[..size.min(count)];
            for way in [Way::Quick, Way::Scan, Way::Full] {
                let found = nearest(&space, &scorer, filter, Size::Count(size as u64), way, &never).expect("found");
                prop_assert_eq!(found.candidates, count as u64);
                prop_assert_eq!(&found.members, &bitmaps(&model, best), "{} of {}", size, count);
                if let (Some(least), Some(last)) = (found.at_least, best.last()) {
                    prop_assert!(least <= last.0);
                }
            }
            let hits = top(&space, &scorer, filter, size as u64, Way::Scan, &never).expect("found");
            let hits: Vec<_> = hits.iter().map(|hit| (hit.score, hit.shard, hit.slot)).collect();
            prop_assert_eq!(&hits[..], best);
            if (1..count).contains(&size) {
                let mut limit = || [f32::NEG_INFINITY, f32::INFINITY, ranked[random.below(count)].0][random.below(3)];
                let window = (limit(), limit());
                let found = misled::nearest(&space, &scorer, filter, size as u64, window);
                prop_assert_eq!(&found.members, &bitmaps(&model, best), "{} of {}, {:?}", size, count, window);
                prop_assert!(found.passes <= 3);
            }
        }
        let share = random.unit();
        let found = nearest(&space, &scorer, filter, Size::Share(share), Way::Scan, &never).expect("found");
        let wanted = (share * count as f64).ceil() as usize;
        prop_assert_eq!(&found.members, &bitmaps(&model, &ranked[..wanted]));
        let all = scores(&space, &scorer, &found.members, &never).expect("scored");
        prop_assert_eq!(all.len(), wanted);
        prop_assert!(all.iter().is_sorted_by_key(|hit| (hit.shard, hit.slot)));
    }

    #[test]
    fn scores_are_similarities(metric in 0..3_usize, dimension in 2..80_usize, seed in any::<u64>()) {
        let (metric, mut random) = (METRICS[metric], Random::new(seed));
        let (a, b) = (vector(dimension, &mut random), vector(dimension, &mut random));
        let (Ok(()), Ok(scorer)) = (
            super::vector::check(metric, dimension, &a),
            Scorer::nearest(metric, dimension, std::slice::from_ref(&b)),
        ) else { return Ok(()) };
        let expected = similarity(metric, &a, &b);
        let long = if metric == Metric::Cosine { 1.0 } else { super::vector::norm(&a) };
        let long = long + super::vector::norm(scorer.prototypes());
        let found = f64::from(scorer.score(&a));
        prop_assert!((expected - found).abs() <= 1e-6 * long * long, "{} {}", expected, found);
    }
}

/// Enough candidates to be sampled, on several shards.
#[test]
fn large_spaces_are_sampled_and_right() {
    let (dimension, mut random) = (6, Random::new(11));
    for metric in METRICS {
        let mut model = Model::random(metric, dimension, 3, 1, 0, &mut random);
        for shard in 0..3 {
            let mut changes = Vec::new();
            for slot in 0..40_000 {
                // Sorted by size, so that the first slots look nothing like the rest; and one in eight a copy.
                let size = 1.0 + slot as f32 / 9_000.0;
                let mut made: Vec<f32> = (0..dimension).map(|_| (random.unit() as f32 - 0.5) * size).collect();
                if slot % 8 == 0 {
                    made = vec![size.floor(); dimension];
                }
                changes.push((slot * 3, Some(made.clone())));
                model.vectors.insert((shard, slot * 3), made);
            }
            model.layers[shard].insert(0, OwnedLayer::new(dimension, changes));
        }
        let space = Space::new(metric, dimension, model.views()).expect("layers of one space");
        let never = AtomicBool::new(false);
        let half: Vec<BTreeSet<u32>> = vec![(0..120_000).filter(|slot| slot % 2 == 0).collect(); 3];
        let half_bytes = bytes(&half);
        let views: Vec<BitmapView<'_>> =
            half_bytes.iter().map(|bytes| BitmapView::new(bytes).expect("valid")).collect();
        let prototypes = [vec![1.0; dimension], vec![-1.0, 1.0, 0.5, 0.0, 0.0, 2.0]];
        let scorer = Scorer::nearest(metric, dimension, &prototypes).expect("prototypes");
        for filter in [None, Some(&views[..])] {
            let ranked = model.ranked(&scorer, filter.map(|_| &half[..]));
            for size in [1, 100, 3_000, ranked.len() / 2, ranked.len() - 1] {
                let found =
                    nearest(&space, &scorer, filter, Size::Count(size as u64), Way::Scan, &never).expect("found");
                assert!(found.members == bitmaps(&model, &ranked[..size]), "{metric:?} {size} of {}", ranked.len());
                assert!(found.passes <= 3);
            }
        }
    }
}

/// Clustered vectors in cells, with newer layers that change some, give some to others and take some away.
#[test]
fn cells_hold_the_best_few_of_many() {
    let (dimension, clusters, mut random) = (12, 60, Random::new(19));
    for metric in METRICS {
        let mut model = Model::random(metric, dimension, 2, 0, 0, &mut random);
        let near = |at: usize, random: &mut Random| -> Vec<f32> {
            let mut middle = Random::new(at as u64);
            (0..dimension).map(|_| (middle.unit() - 0.5 + 0.25 * (random.unit() - 0.5)) as f32).collect()
        };
        let mut centres = None;
        for shard in 0..2 {
            let mut changes: Vec<(u32, Option<Vec<f32>>)> = Vec::new();
            for slot in 0..25_000 {
                // Two chunks.
                let slot = if slot < 23_000 { slot * 2 } else { 65_536 + slot };
                changes.push((slot, Some(near(random.below(clusters), &mut random))));
            }
            model.vectors.extend(changes.iter().map(|(slot, vector)| ((shard, *slot), vector.clone().expect("one"))));
            let layer = OwnedLayer::new(dimension, changes);
            // Both shards have cells of the same centres.
            let centres = centres.get_or_insert_with(|| layer.centres(metric));
            model.layers[shard].insert(0, layer.with_cells(centres));
            let mut newer = Vec::new();
            for slot in (0..40_000).step_by(37) {
                let vector = (random.below(3) > 0).then(|| near(random.below(clusters), &mut random));
                match &vector {
                    Some(vector) => model.vectors.insert((shard, slot), vector.clone()),
                    None => model.vectors.remove(&(shard, slot)),
                };
                newer.push((slot, vector));
            }
            model.layers[shard].insert(0, OwnedLayer::new(dimension, newer));
        }
        let space = Space::new(metric, dimension, model.views()).expect("layers of one space");
        let never = AtomicBool::new(false);
        let (mut found_count, mut wanted_count) = (0, 0);
        for every in [1, 2, 100] {
            let filter: Vec<BTreeSet<u32>> = vec![(0..100_000).filter(|slot| slot / 2 % every == 0).collect(); 2];
            let filter_bytes = bytes(&filter);
            let views: Vec<BitmapView<'_>> =
                filter_bytes.iter().map(|bytes| BitmapView::new(bytes).expect("valid")).collect();
            let views = (every > 1).then_some(&views[..]);
            for query in 0..12 {
                let examples: Vec<Vec<f32>> = (0..1 + query % 3).map(|of| near(query * 5 + of, &mut random)).collect();
                let scorer = match query {
                    0 => Scorer::linear(metric, dimension, &examples[0]).expect("weights"),
                    _ => Scorer::nearest(metric, dimension, &examples).expect("prototypes"),
                };
                let ranked = model.ranked(&scorer, (every > 1).then_some(&filter[..]));
                for size in [1, 20, 100] {
                    let best = bitmaps(&model, &ranked[..size]);
                    let found =
                        nearest(&space, &scorer, views, Size::Count(size as u64), Way::Quick, &never).expect("found");
                    assert_eq!(found.probed.is_some(), every < 100, "cells are for few of many");
                    let all = bitmaps(&model, &ranked);
                    assert!(found.members.iter().zip(&all).all(|(found, all)| found.is_subset(all)));
                    assert_eq!(found.members.iter().map(RoaringBitmap::len).sum::<u64>(), size as u64);
                    found_count += found.members.iter().zip(&best).map(|(a, b)| a.intersection_len(b)).sum::<u64>();
                    wanted_count += size as u64;
                    if let Some(probed) = found.probed {
                        assert!(probed.cells < probed.of / 2, "{probed:?}");
                    }
                    let everywhere = misled::in_all_cells(&space, &scorer, views, size as u64);
                    assert!(everywhere.members == best, "{metric:?} {every} {query} {size}");
                }
            }
        }
        assert!(found_count * 100 >= wanted_count * 95, "{metric:?}: {found_count} of {wanted_count}");
    }
}

#[test]
fn cells_that_keep_no_promise_are_given_up() {
    let (dimension, mut random) = (32, Random::new(11));
    // In so many directions at random everybody is as far from everybody, and a centre tells nothing.
    let mut vector = || -> Vec<f32> { (0..dimension).map(|_| (random.unit() - 0.5) as f32).collect() };
    let changes: Vec<(u32, Option<Vec<f32>>)> = (0..40_000).map(|slot| (slot, Some(vector()))).collect();
    let mut model = Model { vectors: Default::default(), layers: vec![Vec::new()] };
    model.vectors.extend(changes.iter().map(|(slot, vector)| ((0, *slot), vector.clone().expect("one"))));
    let layer = OwnedLayer::new(dimension, changes);
    let centres = layer.centres(Metric::Cosine);
    model.layers[0].push(layer.with_cells(&centres));
    let space = Space::new(Metric::Cosine, dimension, model.views()).expect("layers of one space");
    let mut given_up = 0;
    for _ in 0..4 {
        let scorer = Scorer::nearest(Metric::Cosine, dimension, &[vector()]).expect("a prototype");
        let never = AtomicBool::new(false);
        let found = nearest(&space, &scorer, None, Size::Count(100), Way::Quick, &never).expect("found");
        if found.probed.is_none() {
            given_up += 1;
            assert!(found.members == bitmaps(&model, &model.ranked(&scorer, None)[..100]), "a scan is exact");
        }
    }
    assert!(given_up > 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut random = Random::new(5);
    let model = Model::random(Metric::Dot, 4, 2, 1, 50, &mut random);
    let space = Space::new(Metric::Dot, 4, model.views()).expect("layers of one space");
    let never = AtomicBool::new(false);
    let (four, five) = (
        Scorer::linear(Metric::Dot, 4, &[1.0; 4]).expect("weights"),
        Scorer::linear(Metric::Dot, 5, &[1.0; 5]).expect("weights"),
    );
    let ask =
        |scorer, filter, size, flag| nearest(&space, scorer, filter, size, Way::Quick, flag).expect_err("refused");
    assert_eq!(ask(&five, None, Size::Count(1), &never), RecallError::Dimension { expected: 4, found: 5 });
    let filter = [BitmapView::EMPTY];
    assert_eq!(ask(&four, Some(&filter), Size::Count(1), &never), RecallError::Filters { expected: 2, found: 1 });
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(ask(&four, None, Size::Share(share), &never), RecallError::Share(_)));
    }
    assert_eq!(ask(&four, None, Size::Count(1), &AtomicBool::new(true)), RecallError::Cancelled);
    let other = Space::new(Metric::Dot, 5, model.views()).expect_err("another dimension");
    assert_eq!(other, RecallError::Layer { expected: 5, found: 4 });
}
