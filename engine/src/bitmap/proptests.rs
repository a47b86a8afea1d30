//! Random layers, programs and numbers against the plainest possible evaluation over `BTreeSet`s and maps.

use super::bsi::{self, NumberRange, NumberView};
use super::chunk_set::ChunkSet;
use super::count_each::CountEach;
use super::evaluate::Evaluator;
use super::numbers::{NumberLayer, NumberReader, NumberSummary, Sum};
use super::program::{Layer, LayerValue, Mask, Node, NodeId, Program, SumOf, Term};
use super::shapes::{bytes, run_bytes};
use super::view::{BitmapView, Container, run_last, run_start};
use proptest::collection::vec;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};

type Set = BTreeSet<u32>;

/// A few chunks, so that operands meet.
const CHUNKS: u32 = 3;
const SLOTS: u32 = CHUNKS << 16;

/// Members of one chunk: a shape that serialises to any container kind.
#[derive(Clone, Debug)]
enum Part {
    Few(Vec<u16>),
    Runs(Vec<(u16, u16)>),
    Dense { seed: u64, keep_of_256: u8 },
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => vec(any::<u16>(), 1..60).prop_map(Part::Few),
        // Close together, so that two of them have common members.
        3 => vec(0..300_u16, 1..60).prop_map(Part::Few),
        2 => vec((any::<u16>(), 0..9_000_u16), 1..6).prop_map(Part::Runs),
        1 => Just(Part::Runs(vec![(0, u16::MAX)])),
        3 => (any::<u64>(), prop_oneof![Just(1_u8), Just(12), Just(20), Just(128), Just(250)])
            .prop_map(|(seed, keep_of_256)| Part::Dense { seed, keep_of_256 }),
    ]
}

fn hash(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}

impl Part {
    fn slots(&self, chunk: u32) -> Vec<u32> {
        let positions: Vec<u16> = match self {
            Part::Few(positions) => positions.clone(),
            Part::Runs(runs) => runs.iter().flat_map(|(first, more)| *first..=first.saturating_add(*more)).collect(),
            Part::Dense { seed, keep_of_256 } => {
                let kept = |position: &u16| hash(seed.wrapping_add(u64::from(*position))) as u8 <= *keep_of_256;
                (0..=u16::MAX).filter(kept).collect()
            }
        };
        positions.into_iter().map(|position| chunk << 16 | u32::from(position)).collect()
    }
}

fn set() -> impl Strategy<Value = Set> {
    vec(proptest::option::weighted(0.7, part()), CHUNKS as usize).prop_map(|parts| {
        let parts = parts.into_iter().zip(0..).filter_map(|(part, chunk)| Some(part?.slots(chunk)));
        parts.flatten().collect()
    })
}

/// A set, and whether it is stored with runs.
type Stored = (Set, bool);

fn stored() -> impl Strategy<Value = Stored> {
    (set(), any::<bool>())
}

#[derive(Clone, Debug)]
enum ModelValue {
    Empty,
    Bitmap(Stored),
    InRange(Box<ModelNumbers>, NumberRange),
}

/// Numbers given by a seed to a set of users.
#[derive(Clone, Debug)]
struct ModelNumbers {
    users: Stored,
    seed: u64,
    origin: i64,
    span: u64,
    /// How far the base is below the smallest number.
    slack: u64,
}

impl ModelNumbers {
    fn of(&self, slot: u32) -> i64 {
        let offset = hash(self.seed ^ u64::from(slot)) % self.span.max(1);
        self.origin.saturating_add_unsigned(offset)
    }
    fn pairs(&self) -> Vec<(u32, i64)> {
        self.users.0.iter().map(|slot| (*slot, self.of(*slot))).collect()
    }
}

fn numbers() -> impl Strategy<Value = ModelNumbers> {
    let span = prop_oneof![Just(1_u64), Just(2), Just(7), Just(64), Just(1_000_003), Just(u64::MAX)];
    let origin = prop_oneof![Just(0_i64), Just(-20), Just(18), Just(i64::MIN), Just(i64::MAX - 3)];
    (stored(), any::<u64>(), origin, span, 0..3_u64).prop_map(|(users, seed, origin, span, slack)| ModelNumbers {
        users,
        seed,
        origin,
        span,
        slack,
    })
}

fn range() -> impl Strategy<Value = NumberRange> {
    let near = -30..80_i64;
    let any_bound = prop_oneof![near.clone(), near, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    (any_bound.clone(), any_bound).prop_map(|(min, max)| NumberRange { min, max })
}

#[derive(Clone, Debug)]
struct ModelLayer {
    mask: Option<Vec<Stored>>,
    value: ModelValue,
}

fn layer() -> impl Strategy<Value = ModelLayer> {
    let value = prop_oneof![
        1 => Just(ModelValue::Empty),
        4 => stored().prop_map(ModelValue::Bitmap),
        2 => (numbers(), range()).prop_map(|(numbers, range)| ModelValue::InRange(Box::new(numbers), range)),
    ];
    let mask = prop_oneof![1 => Just(None), 3 => vec(stored(), 0..3).prop_map(Some)];
    (mask, value).prop_map(|(mask, value)| ModelLayer { mask, value })
}

fn leaf() -> impl Strategy<Value = Vec<ModelLayer>> {
    prop_oneof![
        3 => stored().prop_map(|stored| vec![ModelLayer { mask: None, value: ModelValue::Bitmap(stored) }]),
        1 => (numbers(), range()).prop_map(|(numbers, range)| {
            vec![ModelLayer { mask: None, value: ModelValue::InRange(Box::new(numbers), range) }]
        }),
        2 => vec(layer(), 0..4),
    ]
}

/// Chunks of which every container is of this kind, or absent.
fn set_of(part: impl Strategy<Value = Part>) -> impl Strategy<Value = Stored> {
    let parts = vec(proptest::option::weighted(0.9, part), CHUNKS as usize);
    (parts, any::<bool>()).prop_map(|(parts, runs)| {
        let parts = parts.into_iter().zip(0..).filter_map(|(part, chunk)| Some(part?.slots(chunk)));
        (parts.flatten().collect(), runs)
    })
}

fn big() -> impl Strategy<Value = Stored> {
    set_of((any::<u64>(), 30..=250_u8).prop_map(|(seed, keep_of_256)| Part::Dense { seed, keep_of_256 }))
}

/// A big bottom under layers that decide few, as when updates arrive.
fn updated() -> impl Strategy<Value = Vec<ModelLayer>> {
    let few = || set_of(vec(any::<u16>(), 1..200).prop_map(Part::Few));
    let value = prop_oneof![
        1 => Just(ModelValue::Empty),
        4 => few().prop_map(ModelValue::Bitmap),
        1 => (numbers(), range(), few()).prop_map(|(numbers, range, users)| {
            ModelValue::InRange(Box::new(ModelNumbers { users, ..numbers }), range)
        }),
    ];
    let layer = (vec(few(), 0..2), value).prop_map(|(masks, value)| ModelLayer { mask: Some(masks), value });
    (vec(layer, 1..5), big()).prop_map(|(mut layers, bottom)| {
        layers.push(ModelLayer { mask: None, value: ModelValue::Bitmap(bottom) });
        layers
    })
}

fn bottom(value: ModelValue) -> Vec<ModelLayer> {
    vec![ModelLayer { mask: None, value }]
}

/// Leaves that are evaluated without making their sets.
fn big_leaf() -> impl Strategy<Value = Vec<ModelLayer>> {
    prop_oneof![
        big().prop_map(|set| bottom(ModelValue::Bitmap(set))),
        updated(),
        (numbers(), range(), big()).prop_map(|(numbers, range, users)| {
            bottom(ModelValue::InRange(Box::new(ModelNumbers { users, ..numbers }), range))
        }),
        (numbers(), any::<[i16; 2]>()).prop_map(|(numbers, [min, max])| {
            let users = ((0..SLOTS).collect(), true);
            let range = NumberRange { min: min.into(), max: max.into() };
            bottom(ModelValue::InRange(Box::new(ModelNumbers { users, origin: 0, span: 40_000, ..numbers }), range))
        }),
    ]
}

/// The layering rule, word for word.
fn leaf_members(layers: &[ModelLayer]) -> Set {
    let mut open: Set = (0..SLOTS).collect();
    let mut members = Set::new();
    for layer in layers {
        let (value, mut decided) = match &layer.value {
            ModelValue::Empty => (Set::new(), Set::new()),
            ModelValue::Bitmap((set, _)) => (set.clone(), set.clone()),
            ModelValue::InRange(numbers, range) => {
                let fits = |slot: &&u32| (range.min..=range.max).contains(&numbers.of(**slot));
                (numbers.users.0.iter().filter(fits).copied().collect(), numbers.users.0.clone())
            }
        };
        match &layer.mask {
            None => decided = open.clone(),
            Some(masks) => decided.extend(masks.iter().flat_map(|mask| &mask.0)),
        }
        members.extend(value.intersection(&open));
        open = open.difference(&decided).copied().collect();
    }
    members
}

/// A way to combine the nodes there are; operands are picked by index modulo their number.
#[derive(Clone, Debug)]
enum Combine {
    And(Vec<usize>),
    Or(Vec<usize>),
    AndNot(usize, usize),
    Xor(usize, usize),
    AtLeast(u32, Vec<usize>),
}

fn combine() -> impl Strategy<Value = Combine> {
    let any_operand = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let some = vec(any_operand.clone(), 1..5);
    prop_oneof![
        3 => some.clone().prop_map(Combine::And),
        3 => vec(any_operand.clone(), 0..5).prop_map(Combine::Or),
        3 => (any_operand.clone(), any_operand.clone()).prop_map(|(a, b)| Combine::AndNot(a, b)),
        1 => (any_operand.clone(), any_operand).prop_map(|(a, b)| Combine::Xor(a, b)),
        2 => (1..5_u32, some).prop_map(|(k, operands)| Combine::AtLeast(k, operands)),
    ]
}

/// Owns the bytes that views borrow.
struct Arena(Vec<Box<[u8]>>);

impl Arena {
    fn bitmap(&mut self, set: impl IntoIterator<Item = u32>, runs: bool) -> usize {
        let bitmap = RoaringBitmap::from_iter(set);
        self.0.push(if runs { run_bytes(&bitmap) } else { bytes(&bitmap) }.into());
        self.0.len() - 1
    }
    fn stored(&mut self, (set, runs): &Stored) -> usize {
        self.bitmap(set.iter().copied(), *runs)
    }
    fn numbers(&mut self, numbers: &ModelNumbers) -> (usize, i64, Vec<usize>) {
        let mut encoded = bsi::encode(&numbers.pairs());
        // A base below the smallest number, as a merge of layers may keep it.
        if let Some(base) = encoded.base.checked_sub_unsigned(numbers.slack) {
            let moved: Vec<(u32, i64)> = numbers.pairs();
            let mut with_lowest = moved.clone();
            if numbers.slack > 0 {
                with_lowest.push((SLOTS, base));
                encoded = bsi::encode(&with_lowest);
                encoded.exists.remove(SLOTS);
            }
        }
        let exists = self.bitmap(&encoded.exists, numbers.users.1);
        let slices = encoded.slices.iter().map(|slice| self.bitmap(slice, numbers.users.1)).collect();
        (exists, encoded.base, slices)
    }
    fn view(&self, index: usize) -> BitmapView<'_> {
        BitmapView::new(&self.0[index]).expect("what roaring writes is accepted")
    }
    fn number_view(&self, (exists, base, slices): &(usize, i64, Vec<usize>)) -> NumberView<'_> {
        let slices = slices.iter().map(|slice| self.view(*slice)).collect();
        NumberView { exists: self.view(*exists), base: *base, slices }
    }
}

enum StoredValue {
    Empty,
    Bitmap(usize),
    InRange((usize, i64, Vec<usize>), NumberRange),
}

/// Stores the leaf's bitmaps; the answer is turned into layers once the arena is complete.
fn store_leaf(arena: &mut Arena, layers: &[ModelLayer]) -> Vec<(Option<Vec<usize>>, StoredValue)> {
    let mut stored = vec![];
    for layer in layers {
        let mask = layer.mask.as_ref().map(|masks| masks.iter().map(|mask| arena.stored(mask)).collect());
        let value = match &layer.value {
            ModelValue::Empty => StoredValue::Empty,
            ModelValue::Bitmap(set) => StoredValue::Bitmap(arena.stored(set)),
            ModelValue::InRange(numbers, range) => StoredValue::InRange(arena.numbers(numbers), *range),
        };
        stored.push((mask, value));
    }
    stored
}

fn layers<'a>(arena: &'a Arena, stored: &[(Option<Vec<usize>>, StoredValue)]) -> Vec<Layer<'a>> {
    let layer = |(mask, value): &(Option<Vec<usize>>, StoredValue)| Layer {
        mask: match mask {
            None => Mask::All,
            Some(masks) => Mask::Bitmaps(masks.iter().map(|mask| arena.view(*mask)).collect()),
        },
        value: match value {
            StoredValue::Empty => LayerValue::Empty,
            StoredValue::Bitmap(index) => LayerValue::Bitmap(arena.view(*index)),
            StoredValue::InRange(numbers, range) => LayerValue::InRange(arena.number_view(numbers), *range),
        },
    };
    stored.iter().map(layer).collect()
}

/// A sum: per term its bit, whether it is taken off, and its users.
#[derive(Clone, Debug)]
struct ModelSum {
    terms: Vec<(u8, bool, Stored)>,
    range: NumberRange,
}

fn sum() -> impl Strategy<Value = ModelSum> {
    let bit = prop_oneof![6 => 0..4_u8, 2 => 0..20_u8, 1 => 0..90_u8];
    let users = || prop_oneof![2 => stored(), 1 => set_of(vec(0..500_u16, 1..200).prop_map(Part::Few))];
    let terms = (0.0..1.0_f64).prop_flat_map(move |share| {
        let share = if share < 0.5 { 0.0 } else { share - 0.5 };
        vec((bit.clone(), proptest::bool::weighted(share), users()), 0..40)
    });
    let bound = || prop_oneof![4 => 1..12_i64, 1 => 1..5_000_i64, 1 => 1..=i64::MAX];
    let range = prop_oneof![
        2 => Just(NumberRange::default()),
        3 => bound().prop_map(|min| NumberRange { min, max: i64::MAX }),
        2 => (bound(), bound()).prop_map(|(a, b)| NumberRange { min: a.min(b), max: a.max(b) }),
        1 => bound().prop_map(|max| NumberRange { min: i64::MIN, max: -max }),
        1 => (bound(), bound()).prop_map(|(a, b)| NumberRange { min: -a.max(b), max: -a.min(b) }),
    ];
    (terms, range).prop_map(|(terms, range)| ModelSum { terms, range })
}

fn store_sum(arena: &mut Arena, sum: &ModelSum) -> Vec<usize> {
    sum.terms.iter().map(|(_, _, users)| arena.stored(users)).collect()
}

fn sum_node<'a>(arena: &'a Arena, stored: &[usize], sum: &ModelSum) -> Node<'a> {
    let term = |(index, (bit, is_negative, _)): (&usize, &(u8, bool, Stored))| Term {
        bit: *bit,
        is_negative: *is_negative,
        users: arena.view(*index),
    };
    Node::Sum(SumOf { terms: stored.iter().zip(&sum.terms).map(term).collect(), range: sum.range })
}

fn sum_members(sum: &ModelSum) -> Set {
    let mut sums: BTreeMap<u32, i128> = BTreeMap::new();
    for (bit, is_negative, (users, _)) in &sum.terms {
        let number = if *is_negative { -(1_i128 << bit) } else { 1 << bit };
        users.iter().for_each(|slot| *sums.entry(*slot).or_default() += number);
    }
    let NumberRange { min, max } = sum.range;
    let fits = |sum: &i128| (min == i64::MIN || *sum >= min.into()) && (max == i64::MAX || *sum <= max.into());
    sums.into_iter().filter(|(_, sum)| fits(sum)).map(|(slot, _)| slot).collect()
}

/// Builds the program and the members its root must have.
fn build<'a>(leaves: Vec<(Node<'a>, Set)>, combines: &[Combine]) -> (Program<'a>, Set) {
    let mut program = Program::new();
    let mut members: Vec<Set> = vec![];
    for (leaf, set) in leaves {
        program.push(leaf);
        members.push(set);
    }
    for combine in combines {
        let count = members.len();
        let id = |index: &usize| NodeId((index % count) as u32);
        let of = |index: &usize| &members[index % count];
        let (node, set) = match combine {
            Combine::And(operands) => {
                let all = operands[1..].iter().fold(of(&operands[0]).clone(), |all, operand| &all & of(operand));
                (Node::And(operands.iter().map(id).collect()), all)
            }
            Combine::Or(operands) => {
                let any = operands.iter().flat_map(of).copied().collect();
                (Node::Or(operands.iter().map(id).collect()), any)
            }
            Combine::AndNot(a, b) => (Node::AndNot(id(a), id(b)), of(a) - of(b)),
            Combine::Xor(a, b) => (Node::Xor(id(a), id(b)), of(a) ^ of(b)),
            Combine::AtLeast(k, operands) => {
                let mut times: BTreeMap<u32, u32> = BTreeMap::new();
                operands.iter().flat_map(of).for_each(|slot| *times.entry(*slot).or_default() += 1);
                let reached = times.into_iter().filter(|(_, times)| times >= k).map(|(slot, _)| slot).collect();
                (Node::AtLeast(*k, operands.iter().map(id).collect()), reached)
            }
        };
        program.push(node);
        members.push(set);
    }
    (program, members.pop().expect("there is a leaf"))
}

fn collect(evaluator: &mut Evaluator<'_, '_>, chunks: &[u16]) -> Set {
    let mut found = Set::new();
    for &chunk in chunks {
        let members = evaluator.members(chunk);
        assert_eq!(members.iter().count() as u32, members.len());
        found.extend(members.iter().map(|position| u32::from(chunk) << 16 | u32::from(position)));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn programs_have_the_members_of_plain_set_algebra(
        leaves in vec(leaf(), 1..7),
        sums in vec(sum(), 0..3),
        combines in vec(combine(), 0..7),
    ) {
        let mut arena = Arena(vec![]);
        let stored: Vec<_> = leaves.iter().map(|leaf| store_leaf(&mut arena, leaf)).collect();
        let stored_sums: Vec<_> = sums.iter().map(|sum| store_sum(&mut arena, sum)).collect();
        let leaves =
            stored.iter().zip(&leaves).map(|(stored, leaf)| (Node::Leaf(layers(&arena, stored)), leaf_members(leaf)));
        let sums = stored_sums.iter().zip(&sums).map(|(stored, sum)| (sum_node(&arena, stored, sum), sum_members(sum)));
        let (program, expected) = build(leaves.chain(sums).collect(), &combines);

        let mut evaluator = Evaluator::new(&program);
        let chunks = evaluator.chunks();
        prop_assert!(chunks.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(&collect(&mut evaluator, &chunks), &expected);
        let everywhere: Vec<u16> = (0..CHUNKS as u16).rev().collect();
        prop_assert_eq!(&collect(&mut evaluator, &everywhere), &expected);
        let counted: u64 = chunks.iter().map(|chunk| u64::from(evaluator.count(*chunk))).sum();
        prop_assert_eq!(counted, expected.len() as u64);
        prop_assert_eq!(evaluator.count_all(), expected.len() as u64);

        evaluator.record(|| 7);
        prop_assert_eq!(evaluator.count_all(), expected.len() as u64);
        let root = *evaluator.records().last().expect("one a node");
        prop_assert_eq!(root.members, expected.len() as u64);
        prop_assert_eq!(root.chunks_visited + root.chunks_skipped, chunks.len() as u64);
    }

    #[test]
    fn big_leaves_meet_anything(
        a in big_leaf(),
        b in prop_oneof![3 => big_leaf(), 1 => leaf()],
        combine in prop_oneof![
            Just(Combine::And(vec![0, 1])),
            Just(Combine::Or(vec![0, 1])),
            Just(Combine::AndNot(0, 1)),
            Just(Combine::AndNot(1, 0)),
            Just(Combine::Xor(0, 1)),
            Just(Combine::AtLeast(2, vec![0, 1])),
        ],
    ) {
        let mut arena = Arena(Vec::new());
        let stored: Vec<_> = [&a, &b].map(|leaf| store_leaf(&mut arena, leaf)).into();
        let leaves = stored
            .iter()
            .zip([&a, &b])
            .map(|(stored, model)| (Node::Leaf(layers(&arena, stored)), leaf_members(model)));
        let (program, expected) = build(leaves.collect(), &[combine]);
        let mut evaluator = Evaluator::new(&program);
        for chunk in 0..CHUNKS {
            let members = expected.range(chunk << 16..=chunk << 16 | 0xFFFF).count();
            prop_assert_eq!(evaluator.count(chunk as u16) as usize, members);
        }
        let chunks: Vec<u16> = (0..CHUNKS as u16).collect();
        prop_assert_eq!(collect(&mut evaluator, &chunks), expected);
    }

    #[test]
    fn count_each_counts_every_target(filter in set(), targets in vec(leaf(), 1..6)) {
        let mut arena = Arena(vec![]);
        let stored: Vec<_> = targets.iter().map(|leaf| store_leaf(&mut arena, leaf)).collect();
        // Made exclusive by leaving a target to the first who has it.
        let members: Vec<Set> = targets.iter().map(|leaf| leaf_members(leaf)).collect();
        let mut taken = Set::new();
        let disjoint: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(index, members)| {
                let own: Set = members.difference(&taken).copied().collect();
                taken.extend(&own);
                store_leaf(&mut arena, &[ModelLayer { mask: None, value: ModelValue::Bitmap((own, index % 2 == 0)) }])
            })
            .collect();
        let targets_layers: Vec<_> = stored.iter().map(|stored| layers(&arena, stored)).collect();
        let disjoint: Vec<_> = disjoint.iter().map(|stored| layers(&arena, stored)).collect();
        let mut each = CountEach::new();
        each.group(targets_layers.iter().map(Vec::as_slice), false);
        each.group(disjoint.iter().map(Vec::as_slice), true);
        let mut counts = each.zeros();
        for chunk in 0..CHUNKS {
            let positions = positions(&filter, chunk);
            each.add(chunk as u16, chunk_set(&positions, &mut [[0; 8]; 1024]), &mut counts);
        }
        let any = taken.intersection(&filter).count() as u64;
        prop_assert_eq!((counts[0].any, counts[1].any), (any, any));
        let mut earlier = Set::new();
        for (index, members) in members.iter().enumerate() {
            let within: Set = members.intersection(&filter).copied().collect();
            prop_assert_eq!(counts[0].each[index], within.len() as u64);
            prop_assert_eq!(counts[1].each[index], within.difference(&earlier).count() as u64);
            earlier.extend(within);
        }
    }

    #[test]
    fn numbers_add_up(
        filter in set(),
        layers in vec((proptest::option::of(numbers()), proptest::option::weighted(0.8, vec(stored(), 0..2))), 1..4),
        mut thresholds in vec(prop_oneof![-30..80_i64, any::<i64>()], 0..12),
    ) {
        let mut expected: BTreeMap<u32, i64> = BTreeMap::new();
        let mut open = filter.clone();
        for (numbers, mask) in &layers {
            if let Some(numbers) = numbers {
                for slot in &numbers.users.0 {
                    if open.remove(slot) {
                        expected.insert(*slot, numbers.of(*slot));
                    }
                }
            }
            match mask {
                None => open.clear(),
                Some(masks) => masks.iter().flat_map(|mask| &mask.0).for_each(|slot| { open.remove(slot); }),
            }
        }
        let mut arena = Arena(vec![]);
        let stored: Vec<_> = layers.iter().map(|(numbers, masks)| {
            let numbers = numbers.as_ref().map(|numbers| arena.numbers(numbers));
            (numbers, masks.as_ref().map(|masks| masks.iter().map(|mask| arena.stored(mask)).collect::<Vec<_>>()))
        }).collect();
        let layers: Vec<_> = stored.iter().map(|(numbers, masks)| NumberLayer {
            numbers: numbers.as_ref().map(|numbers| arena.number_view(numbers)),
            mask: match masks {
                None => Mask::All,
                Some(masks) => Mask::Bitmaps(masks.iter().map(|mask| arena.view(*mask)).collect()),
            },
        }).collect();
        let numbers = NumberReader::new(&layers);

        thresholds.sort_unstable();
        let mut summary = NumberSummary::default();
        let mut total = Sum::default();
        let mut counts = vec![0; thresholds.len()];
        let mut decoded = BTreeMap::new();
        for chunk in 0..CHUNKS {
            let positions = positions(&filter, chunk);
            let mut words = [[0; 8]; 1024];
            let set = chunk_set(&positions, &mut words);
            let chunk = chunk as u16;
            numbers.summarize(chunk, set, &mut summary);
            numbers.sum(chunk, set, &mut total);
            for (position, number) in positions.iter().zip(numbers.numbers(chunk, &positions)) {
                let slot = u32::from(chunk) << 16 | u32::from(u16::from_le_bytes(*position));
                prop_assert_eq!(number, expected.get(&slot).copied());
            }
            numbers.count_at_most(chunk, set, &thresholds, &mut counts);
            numbers.for_each(chunk, set, |position, number| {
                decoded.insert(u32::from(chunk) << 16 | u32::from(position), number);
            });
        }
        prop_assert_eq!(&decoded, &expected);
        prop_assert_eq!(summary, NumberSummary {
            count: expected.len() as u64,
            sum: expected.values().map(|number| i128::from(*number)).sum(),
            min: expected.values().min().copied(),
            max: expected.values().max().copied(),
        });
        prop_assert_eq!(total, Sum { count: summary.count, sum: summary.sum });
        for (threshold, count) in thresholds.iter().zip(counts) {
            prop_assert_eq!(count, expected.values().filter(|number| *number <= threshold).count() as u64);
        }
    }

    #[test]
    fn numbers_survive_slicing(numbers in numbers()) {
        let mut arena = Arena(vec![]);
        let stored = arena.numbers(&numbers);
        let view = arena.number_view(&stored);
        let pairs = numbers.pairs();
        prop_assert_eq!(&bsi::decode(&view), &pairs);
        for (slot, number) in pairs.iter().step_by(1_009) {
            prop_assert_eq!(view.get(*slot), Some(*number));
        }
        prop_assert_eq!(view.get(SLOTS + 1), None);
    }

    #[test]
    fn damaged_bytes_are_refused_or_a_set(set in stored(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let bitmap = RoaringBitmap::from_iter(set.0);
        let mut bytes = if set.1 { run_bytes(&bitmap) } else { bytes(&bitmap) };
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(view) = BitmapView::new(&bytes) {
            let slots: Vec<u32> = view.iter().collect();
            prop_assert!(slots.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(slots.len() as u64, view.len());
            match RoaringBitmap::deserialize_from(&bytes[..]) {
                Ok(read) => prop_assert!(read.iter().eq(slots)),
                // It refuses one thing more.
                Err(error) => prop_assert!(has_touching_runs(&view), "{}", error),
            }
        }
    }
}

fn has_touching_runs(view: &BitmapView<'_>) -> bool {
    (0..view.container_count()).any(|index| match view.container(index) {
        Container::Runs(runs) => runs.windows(2).any(|pair| run_last(pair[0]) + 1 == run_start(pair[1])),
        Container::Array(_) | Container::Words(_) => false,
    })
}

fn positions(filter: &Set, chunk: u32) -> Vec<[u8; 2]> {
    filter.range(chunk << 16..(chunk + 1) << 16).map(|slot| (*slot as u16).to_le_bytes()).collect()
}

/// Few as an array, many as words.
fn chunk_set<'s>(positions: &'s [[u8; 2]], words: &'s mut [[u8; 8]; 1024]) -> ChunkSet<'s> {
    match positions.len() {
        0 => ChunkSet::Empty,
        1..=4_096 => ChunkSet::Some(Container::Array(positions)),
        65_536 => ChunkSet::Full,
        _ => {
            for position in positions {
                let position = u16::from_le_bytes(*position);
                words[usize::from(position >> 6)][usize::from(position >> 3 & 7)] |= 1 << (position & 7);
            }
            ChunkSet::Some(Container::Words(words))
        }
    }
}
