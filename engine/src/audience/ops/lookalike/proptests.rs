//! The operator and the leaf against plain users and a sorted scan.

use super::*;
use crate::audience::ops::{count, explain};
use crate::audience::{bind, parse};
use crate::catalog::{Catalog, Metric, TagType, Unit};
use crate::ids::shard_of;
use crate::lookalike::vector::checked;
use crate::store::{Options, Store};
use crate::update::{Change, UpdateBatch};
use crate::vfs::memory::MemoryVfs;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const DIMENSION: u16 = 4;

#[derive(Clone, Debug, Default)]
struct User {
    vector: Option<Vec<f32>>,
    /// Tags `a` to `d`.
    flags: [bool; 4],
    spend: Option<i64>,
}

fn user() -> impl Strategy<Value = User> {
    let vector = proptest::option::weighted(0.8, [-4..5_i8, -4..5, -4..5, 1..5]);
    let spend = proptest::option::of(-3..9_i64);
    (vector, any::<[bool; 4]>(), spend).prop_map(|(vector, flags, spend)| User {
        vector: vector.map(|vector| vector.iter().map(|number| f32::from(*number) / 2.0).collect()),
        flags,
        spend,
    })
}

struct World {
    _store: Store,
    snapshot: Snapshot,
    users: BTreeMap<String, User>,
}

fn catalog(metric: Metric) -> Catalog {
    let mut catalog = Catalog::default();
    for name in ["a", "b", "c", "d"] {
        catalog.declare(name, TagType::Flag).expect("a good name");
    }
    catalog.declare("spend", TagType::Number(Unit::Integer)).expect("a good name");
    catalog.declare_space("taste", DIMENSION, metric).expect("a good name");
    catalog
}

impl World {
    /// Written in several steps, so that there are layers; whoever comes again is replaced.
    fn new(metric: Metric, shard_count: u16, steps: &[Vec<(u8, User)>]) -> World {
        let options = Options { shard_count, ..Options::default() };
        let store = Store::open(Arc::new(MemoryVfs::default()), Path::new("/data"), options).expect("open");
        let catalog = catalog(metric);
        store.put_catalog(catalog.clone()).expect("catalog");
        let id = |name: &str| catalog.tag(name).expect("declared").id;
        let space = catalog.space("taste").expect("declared").id;
        let mut users = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            let mut batch = UpdateBatch::new();
            for (name, user) in step {
                let name = format!("u{name}");
                batch.begin_user(name.as_bytes());
                for (tag, flag) in ["a", "b", "c", "d"].into_iter().zip(user.flags) {
                    batch.push(id(tag), Change::Flag(flag));
                }
                batch.push(id("spend"), user.spend.map_or(Change::Unset, Change::Number));
                match &user.vector {
                    Some(vector) => batch.push_vector(space, vector),
                    None => batch.push(space, Change::Unset),
                }
                users.insert(name, user.clone());
            }
            store.write(&batch, None).expect("write");
            store.publish().expect("publish");
            if at % 2 == 1 {
                store.checkpoint().expect("checkpoint");
            }
        }
        World { snapshot: store.snapshot(), _store: store, users }
    }

    fn predicate(&self, text: &str) -> Predicate {
        let expr = parse(text).expect("parses");
        assert_eq!(parse(&expr.to_string()).expect("canonical text parses"), expr);
        bind(&expr, self.snapshot.catalog(), &BTreeMap::new(), 0).expect("binds")
    }

    fn place(&self, name: &str) -> (usize, u32) {
        let shard = usize::from(shard_of(name.as_bytes(), self.snapshot.shards().len() as u16).0);
        (shard, self.snapshot.shards()[shard].slot_of(name.as_bytes()).expect("sound").expect("known"))
    }

    /// Everybody of whom a condition holds that only looks at flags.
    fn who(&self, fits: impl Fn(&User) -> bool) -> BTreeSet<&str> {
        self.users.iter().filter(|(_, user)| fits(user)).map(|(name, _)| name.as_str()).collect()
    }

    /// Candidates in order.
    fn ranked<'w>(&'w self, scorer: &Scorer, candidates: &BTreeSet<&'w str>) -> Vec<(f32, usize, u32, &'w str)> {
        let scored = |name: &&'w str| {
            let vector = self.users[*name].vector.as_ref()?;
            let (shard, slot) = self.place(name);
            Some((scorer.score(vector), shard, slot, *name))
        };
        let mut ranked: Vec<_> = candidates.iter().filter_map(scored).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        ranked
    }

    fn names(&self, members: &[RoaringBitmap]) -> BTreeSet<&str> {
        let of = |name: &&str| {
            let (shard, slot) = self.place(name);
            members[shard].contains(slot)
        };
        self.users.keys().map(String::as_str).filter(of).collect()
    }
}

fn similar(predicate: &Predicate) -> &Similar {
    match predicate {
        Predicate::Similar(similar) => similar,
        other => panic!("{other:?}"),
    }
}

fn amount() -> impl Strategy<Value = (String, Extent)> {
    let count = |(size, after): (u64, Option<u64>)| (Amount::Count(size), after.map(Amount::Count));
    let shares = (1..60_u32, proptest::option::of(0..41_u32)).prop_map(|(share, after)| {
        let of = |hundredths: u32| Amount::share_of(&format!("{}", f64::from(hundredths) / 100.0)).expect("a share");
        (of(share), after.map(of))
    });
    prop_oneof![(1..30_u64, proptest::option::of(0..10_u64)).prop_map(count), shares].prop_map(|(amount, after)| {
        let extent = Extent::new(amount, after).expect("an extent");
        (extent.to_string(), extent)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn members_are_the_first_of_a_sorted_scan(
        metric in 0..3_usize,
        shard_count in prop_oneof![Just(1_u16), Just(4)],
        steps in proptest::collection::vec(proptest::collection::vec((0..90_u8, user()), 0..60), 1..5),
        (extent_text, extent) in amount(),
        method in prop_oneof![Just(""), Just(", method => 'mean'"), Just(", method => 'linear'"), Just(", prototypes => 3")],
        weighted in any::<bool>(),
        include_seed in any::<bool>(),
        restricted in any::<bool>(),
    ) {
        let metric = Metric::ALL[metric];
        let world = World::new(metric, shard_count, &steps);
        let context = QueryContext::default();
        let mut text = format!("similar_to('taste', seed => a, {extent_text}{method}");
        text.push_str(if weighted { ", weights => spend" } else { "" });
        text.push_str(if include_seed { ", include_seed => TRUE" } else { "" });
        text.push_str(if restricted { ", within => b, exclude => c" } else { "" });
        text.push(')');
        let predicate = world.predicate(&text);
        let likeness = Likeness::of(similar(&predicate));
        let found = lookalike(&world.snapshot, &likeness, Measure { recall: true, holdout: true }, &context);
        let seed = world.who(|user| user.flags[0]);
        let learned_of: Vec<&User> = seed
            .iter()
            .map(|name| &world.users[*name])
            .filter(|user| user.vector.is_some() && (!weighted || user.spend.is_some_and(|spend| spend > 0)))
            .collect();
        if learned_of.is_empty() {
            let error = found.expect_err("nothing to learn from");
            prop_assert!(matches!(error, QueryError::Invalid(_)), "{}", error);
            prop_assert!(count(&world.snapshot, &predicate, &context).is_err());
            return Ok(());
        }
        let found = match found {
            Ok(found) => found,
            // Opposites, or nobody else to tell the seed from.
            Err(QueryError::Invalid(error)) => {
                prop_assert!(error.contains("nothing in common") || error.contains("background"), "{}", error);
                return Ok(());
            }
            Err(error) => panic!("{error}"),
        };
        let fits = |user: &User| {
            user.vector.is_some()
                && (include_seed || !user.flags[0])
                && (!restricted || user.flags[1] && !user.flags[2])
        };
        let candidates = world.who(fits);
        let ranked = world.ranked(found.scorer(), &candidates);
        let places = extent.places(ranked.len() as u64);
        let expected = &ranked[places.start as usize..places.end as usize];
        let names: BTreeSet<&str> = expected.iter().map(|(.., name)| *name).collect();
        prop_assert_eq!(&world.names(&found.members), &names);
        let report = &found.report;
        prop_assert_eq!(report.candidates, candidates.len() as u64);
        prop_assert_eq!(report.members, names.len() as u64);
        prop_assert_eq!(report.seed_users, seed.len() as u64);
        prop_assert_eq!(report.seed_with_vector, world.who(|user| user.flags[0] && user.vector.is_some()).len() as u64);
        prop_assert_eq!(report.seed_learned, learned_of.len() as u64);
        prop_assert_eq!(report.recall, (!names.is_empty()).then_some(1.0));
        prop_assert!(report.members <= report.wanted);
        if let Some(holdout) = &report.holdout {
            prop_assert!((0.0..=1.0).contains(&holdout.area_under_curve));
            prop_assert!(holdout.found <= holdout.hidden && holdout.hidden <= learned_of.len() as u64 / 10);
        }
        // In order, page by page.
        let mut pages = Vec::new();
        for from in (0..expected.len() as u64 + 1).step_by(4) {
            pages.extend(found.best(&world.snapshot, from, 4, &context).expect("found"));
        }
        let best: Vec<ScoredUser> =
            expected.iter().map(|(score, .., name)| ScoredUser { user: (*name).to_owned(), score: *score }).collect();
        prop_assert_eq!(pages, best);
        let mut scores: Vec<(String, u32)> = Vec::new();
        for shard in 0..world.snapshot.shards().len() {
            for user in found.scores(&world.snapshot, shard, &context).expect("scored") {
                prop_assert_eq!(user.shard, shard);
                scores.push((user.id(&world.snapshot).expect("read").expect("known"), user.score.to_bits()));
            }
        }
        let all = expected.iter().map(|(score, .., name)| ((*name).to_owned(), score.to_bits()));
        let mut all: Vec<(String, u32)> = all.collect();
        scores.sort();
        all.sort();
        prop_assert_eq!(scores, all);
        let again = found.again(&world.snapshot, &likeness, Measure::default(), &context).expect("found");
        prop_assert_eq!(&again.members, &found.members);
        // A mean is a mean.
        if report.method == Method::Mean {
            let mut sums = vec![0.0_f64; DIMENSION.into()];
            for user in &learned_of {
                let vector = checked(metric, DIMENSION.into(), user.vector.as_ref().expect("has one")).expect("a vector");
                let weight = if weighted { user.spend.unwrap_or(0) as f64 } else { 1.0 };
                sums.iter_mut().zip(vector).for_each(|(sum, number)| *sum += weight * f64::from(number));
            }
            let long = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
            let weights: f64 = learned_of.iter().map(|user| if weighted { user.spend.unwrap_or(0) as f64 } else { 1.0 }).sum();
            let scale = if metric == Metric::Cosine { long } else { weights };
            for (sum, number) in sums.iter().zip(found.scorer().prototypes()) {
                prop_assert!((sum / scale - f64::from(*number)).abs() < 1e-4, "{} {}", sum / scale, number);
            }
        }
        // The leaf is that set, whatever stands beside it.
        let in_leaf = |name: &str| names.contains(name);
        let all = |text: &str| count(&world.snapshot, &world.predicate(text), &context).expect("counted");
        let with = |fits: &dyn Fn(&str, &User) -> bool| {
            world.users.iter().filter(|(name, user)| fits(name, user)).count() as u64
        };
        prop_assert_eq!(all(&text), names.len() as u64);
        prop_assert_eq!(all(&format!("NOT {text}")), (world.users.len() - names.len()) as u64);
        prop_assert_eq!(all(&format!("d AND {text}")), with(&|name, user| user.flags[3] && in_leaf(name)));
        prop_assert_eq!(all(&format!("d OR NOT ({text} AND b)")), with(&|name, user| user.flags[3] || !(in_leaf(name) && user.flags[1])));
        prop_assert_eq!(all(&format!("({text}) XOR (d)")), with(&|name, user| in_leaf(name) != user.flags[3]));
        prop_assert_eq!(
            all(&format!("at_least(2, {text}, d, {text}, b)")),
            with(&|name, user| in_leaf(name) || user.flags[3] && user.flags[1])
        );
    }
}

fn small() -> World {
    let user = |at: u8| User {
        vector: (at < 60).then(|| vec![f32::from(at), 1.0, f32::from(at % 7), -1.0]),
        flags: [at.is_multiple_of(3), at.is_multiple_of(2), at == 5, at >= 60],
        spend: at.is_multiple_of(2).then(|| i64::from(at)),
    };
    World::new(Metric::Cosine, 2, &[(0..70).map(|at| (at, user(at))).collect()])
}

#[test]
fn bad_seeds_are_told() {
    let world = small();
    let context = QueryContext::default();
    let refused = |text: &str| count(&world.snapshot, &world.predicate(text), &context).expect_err(text).to_string();
    let nobody = refused("similar_to('taste', seed => user_id = 'nobody', size => 3)");
    assert!(nobody.contains("the seed has no users"), "{nobody}");
    let none = refused("similar_to('taste', seed => d, size => 3)");
    assert!(none.contains("none of the seed's 10 users has a vector in space 'taste'"), "{none}");
    let weightless = refused("similar_to('taste', seed => a AND NOT b, size => 3, weights => spend)");
    assert!(weightless.contains("`spend` above 0"), "{weightless}");
    let all = Predicate::All;
    let nobody = Predicate::Nobody;
    let extent = Extent::new(Amount::Count(3), None).expect("an extent");
    let asked = |seed, vectors| Likeness {
        space: world.snapshot.catalog().space("taste").expect("declared").id,
        seed: if let Some(seed) = seed { Seed::Users(seed) } else { Seed::Vectors(vectors) },
        weights: None,
        method: None,
        extent,
        within: &all,
        exclude: &nobody,
        include_seed: false,
        exact: false,
    };
    let told = |likeness: &Likeness<'_>| {
        lookalike(&world.snapshot, likeness, Measure::default(), &context).expect_err("refused").to_string()
    };
    assert!(told(&asked(None, &[])).contains("no vectors"));
    let short = [vec![1.0; 4], vec![1.0; 3]];
    assert!(told(&asked(None, &short)).contains("vector 2 of the seed (from 1): a vector of this space has 4 numbers"));
    let zero = [vec![0.0; 4]];
    assert!(told(&asked(None, &zero)).contains("no cosine"));
    let given = [vec![59.0, 1.0, 3.0, -1.0]];
    let found = lookalike(&world.snapshot, &asked(None, &given), Measure::default(), &context).expect("found");
    let best = found.best(&world.snapshot, 0, 1, &context).expect("found");
    assert_eq!(best[0].user, "u59");
    let mut gone = asked(Some(&all), &[]);
    gone.space = TagId(9_999);
    assert!(told(&gone).contains("dropped"));
    let cancelled = QueryContext { cancelled: Arc::new(AtomicBool::new(true)), ..QueryContext::default() };
    let ended =
        lookalike(&world.snapshot, &asked(Some(&all), &[]), Measure::default(), &cancelled).expect_err("cancelled");
    assert!(matches!(ended, QueryError::Cancelled));
}

#[test]
fn names_and_depth_are_checked() {
    let world = small();
    let refused = |text: &str| {
        let expr = parse(text).expect("parses");
        let error = bind(&expr, world.snapshot.catalog(), &BTreeMap::new(), 0).expect_err(text);
        assert!(error.span.is_some(), "{text}");
        error.to_string()
    };
    let misspelt = refused("similar_to('tast', seed => a, size => 3)");
    assert_eq!(misspelt, "unknown vector space 'tast'; did you mean 'taste'?");
    assert!(refused("similar_to('taste', seed => nothing, size => 3)").contains("unknown tag"));
    assert!(refused("similar_to('taste', seed => a, size => 3, weights => b)").contains("weights are numbers"));
    assert!(refused("did('x', similar_to('taste', seed => a, size => 3))").contains("unknown fact"));
    let mut deep = "a".to_owned();
    for depth in 1..=5 {
        deep = format!("similar_to('taste', seed => {deep}, size => 3)");
        let bound = bind(&parse(&deep).expect("parses"), world.snapshot.catalog(), &BTreeMap::new(), 0);
        assert_eq!(bound.is_ok(), depth <= 4, "{depth}");
    }
    let many = |count: usize| {
        let each = |size: usize| format!("similar_to('taste', seed => a, size => {size}, method => 'mean')");
        world.predicate(&(1..=count).map(each).collect::<Vec<_>>().join(" OR "))
    };
    let context = QueryContext::default();
    assert_eq!(count(&world.snapshot, &many(16), &context).expect("counted"), 16);
    let error = count(&world.snapshot, &many(17), &context).expect_err("too many").to_string();
    assert!(error.contains("17 different similar_to(…), and may have 16"), "{error}");
}

/// Seeds and bounds may themselves be of users like others; and explain tells what was done.
#[test]
fn nested_and_explained() {
    let world = small();
    let context = QueryContext::default();
    let inner = "similar_to('taste', seed => a, size => 5, method => 'mean')";
    let text = format!("similar_to('taste', seed => b, size => 50, within => {inner}) AND NOT c");
    let predicate = world.predicate(&text);
    let members = crate::audience::ops::slots(&world.snapshot, &predicate, &context).expect("found");
    let within = crate::audience::ops::slots(&world.snapshot, &world.predicate(inner), &context).expect("found");
    assert!(members.iter().zip(&within).all(|(members, within)| members.is_subset(within)));
    let sketch = explain(&world.snapshot, &predicate, None, &context).expect("explained").to_string();
    assert!(
        sketch.contains("similar similar_to('taste', seed => b, size => 50, within => similar_to('taste'"),
        "{sketch}"
    );
    assert!(sketch.contains("the method that finds hidden users of the seed best"), "{sketch}");
    let run = explain(&world.snapshot, &predicate, Some(|| 0), &context).expect("explained").to_string();
    assert!(run.contains("30 of 35 users of the seed have a vector"), "{run}");
    let asked = world.predicate("similar_to('taste', seed => b, share => 0.5, prototypes => 2, exact => TRUE)");
    let told = explain(&world.snapshot, &asked, Some(|| 0), &context).expect("explained").to_string();
    assert!(told.contains("prototypes => 2 as asked; all vectors in full precision as asked"), "{told}");
    let touched = crate::audience::ops::Reads::of(&predicate);
    assert!(touched.concerns_everybody());
}
