//! Random programs over random layers against plain sets.

use super::bsi::{self, Encoded, NumberLayer, NumberRange, NumberReader, NumberView, Sum};
use super::count_each::CountEach;
use super::evaluate::Evaluator;
use super::program::{Layer, LayerValue, Mask, Node, NodeId, Program};
use super::scratch::ChunkSet;
use super::view::BitmapView;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};

/// Slots reach over three chunks and their borders.
const SLOT_MAX: u32 = 3 * 65_536;

type Slots = BTreeSet<u32>;

/// A set with all kinds of containers in it: single slots, runs, dense regions.
fn slots() -> impl Strategy<Value = Slots> {
    let single = proptest::collection::btree_set(0..SLOT_MAX, 0..60);
    let run = (0..SLOT_MAX, 0..70_000u32).prop_map(|(from, len)| (from..(from + len).min(SLOT_MAX)).collect::<Slots>());
    let dense = (0..3u32, 2..9u32, 0..7u32).prop_map(|(chunk, step, shift)| {
        (chunk * 65_536 + shift..(chunk + 1) * 65_536).step_by(step as usize).collect::<Slots>()
    });
    proptest::collection::vec(prop_oneof![4 => single, 1 => run, 2 => dense], 0..3)
        .prop_map(|parts| parts.into_iter().flatten().collect())
}

#[derive(Clone, Debug)]
enum Content {
    Set(Slots),
    Numbers(BTreeMap<u32, i64>, NumberRange),
}

/// Newest first; the mask is `None` at the bottom.
#[derive(Clone, Debug)]
struct LayerModel {
    mask: Option<Vec<Slots>>,
    content: Content,
}

fn numbers() -> impl Strategy<Value = BTreeMap<u32, i64>> {
    let number = prop_oneof![-20..20i64, Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    let small = (slots(), proptest::collection::vec(-20..20i64, 1..40));
    let any_number = (proptest::collection::btree_set(0..SLOT_MAX, 0..80), proptest::collection::vec(number, 1..40));
    prop_oneof![small, any_number.prop_map(|(slots, values)| (slots, values))].prop_map(|(slots, values)| {
        slots.into_iter().enumerate().map(|(index, slot)| (slot, values[index % values.len()])).collect()
    })
}

fn range() -> impl Strategy<Value = NumberRange> {
    prop_oneof![
        (-25..25i64, -25..25i64).prop_map(|(min, max)| NumberRange { min, max }),
        (-25..25i64).prop_map(|min| NumberRange { min, max: i64::MAX }),
        (-25..25i64).prop_map(|max| NumberRange { min: i64::MIN, max }),
        any::<(i64, i64)>().prop_map(|(min, max)| NumberRange { min, max }),
        Just(NumberRange::ALL),
    ]
}

fn leaf() -> impl Strategy<Value = Vec<LayerModel>> {
    let layer = |numeric: bool| {
        let content = if numeric {
            (numbers(), range()).prop_map(|(numbers, range)| Content::Numbers(numbers, range)).boxed()
        } else {
            slots().prop_map(Content::Set).boxed()
        };
        (proptest::collection::vec(slots(), 0..2), content)
    };
    any::<bool>().prop_flat_map(move |numeric| {
        proptest::collection::vec(layer(numeric), 1..4).prop_map(|layers| {
            let bottom = layers.len() - 1;
            let make = |(index, (mask, content))| LayerModel { mask: (index != bottom).then_some(mask), content };
            layers.into_iter().enumerate().map(make).collect()
        })
    })
}

#[derive(Clone, Debug)]
enum NodeModel {
    Leaf(Vec<LayerModel>),
    And(Vec<usize>),
    Or(Vec<usize>),
    AndNot(usize, usize),
    Xor(usize, usize),
    AtLeast(u32, Vec<usize>),
}

fn graph() -> impl Strategy<Value = Vec<NodeModel>> {
    let leaves = proptest::collection::vec(leaf().prop_map(NodeModel::Leaf), 2..6);
    let inner = proptest::collection::vec((0..5u8, proptest::collection::vec(any::<u16>(), 2..6), 1..4u32), 1..6);
    (leaves, inner).prop_map(|(mut nodes, inner)| {
        for (kind, operands, k) in inner {
            let of: Vec<usize> = operands.iter().map(|pick| usize::from(*pick) % nodes.len()).collect();
            nodes.push(match kind {
                0 => NodeModel::And(of),
                1 => NodeModel::Or(of),
                2 => NodeModel::AndNot(of[0], of[1]),
                3 => NodeModel::Xor(of[0], of[1]),
                _ => NodeModel::AtLeast(k, of),
            });
        }
        nodes
    })
}

fn naive_leaf(layers: &[LayerModel]) -> Slots {
    let mut result = Slots::new();
    let mut decided = Slots::new();
    for layer in layers {
        let (value, mut mask): (Slots, Slots) = match &layer.content {
            Content::Set(slots) => (slots.clone(), slots.clone()),
            Content::Numbers(numbers, range) => (
                numbers.iter().filter(|(_, n)| range.contains(**n)).map(|(slot, _)| *slot).collect(),
                numbers.keys().copied().collect(),
            ),
        };
        result.extend(value.difference(&decided));
        mask.extend(layer.mask.iter().flatten().flatten());
        decided.extend(mask);
    }
    result
}

fn naive(nodes: &[NodeModel]) -> Slots {
    let mut results: Vec<Slots> = Vec::new();
    for node in nodes {
        let at_least = |k: u32, of: &[usize]| {
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            of.iter().flat_map(|id| &results[*id]).for_each(|slot| *counts.entry(*slot).or_default() += 1);
            counts.into_iter().filter(|(_, count)| *count >= k).map(|(slot, _)| slot).collect::<Slots>()
        };
        let result = match node {
            NodeModel::Leaf(layers) => naive_leaf(layers),
            NodeModel::And(of) => at_least(of.len() as u32, of),
            NodeModel::Or(of) => at_least(1, of),
            NodeModel::AndNot(a, b) => results[*a].difference(&results[*b]).copied().collect(),
            NodeModel::Xor(a, b) => results[*a].symmetric_difference(&results[*b]).copied().collect(),
            NodeModel::AtLeast(k, of) => at_least(*k, of),
        };
        results.push(result);
    }
    results.pop().expect("a root")
}

/// Serialised bitmaps, kept alive for the program that borrows them.
#[derive(Default)]
struct Bytes(Vec<Vec<u8>>);

impl Bytes {
    fn add(&mut self, bitmap: RoaringBitmap) -> usize {
        let mut bitmap = bitmap;
        bitmap.optimize();
        let mut bytes = Vec::new();
        bitmap.serialize_into(&mut bytes).expect("memory");
        self.0.push(bytes);
        self.0.len() - 1
    }

    fn add_slots(&mut self, slots: &Slots) -> usize {
        self.add(RoaringBitmap::from_sorted_iter(slots.iter().copied()).expect("sorted"))
    }

    fn view(&self, index: usize) -> BitmapView<'_> {
        BitmapView::new(&self.0[index]).expect("valid")
    }
}

struct StoredNumbers {
    exists: usize,
    base: i64,
    slices: Vec<usize>,
}

fn store_numbers(bytes: &mut Bytes, numbers: &BTreeMap<u32, i64>) -> StoredNumbers {
    let pairs: Vec<(u32, i64)> = numbers.iter().map(|(slot, number)| (*slot, *number)).collect();
    let Encoded { base, exists, slices } = bsi::encode(&pairs);
    let exists = bytes.add(exists);
    StoredNumbers { exists, base, slices: slices.into_iter().map(|slice| bytes.add(slice)).collect() }
}

fn view_numbers<'a>(bytes: &'a Bytes, stored: &StoredNumbers) -> NumberView<'a> {
    NumberView {
        exists: bytes.view(stored.exists),
        base: stored.base,
        slices: stored.slices.iter().map(|slice| bytes.view(*slice)).collect(),
    }
}

enum StoredContent {
    Set(usize),
    Numbers(StoredNumbers, NumberRange),
}

type StoredLayer = (Option<Vec<usize>>, StoredContent);

fn store_leaf(bytes: &mut Bytes, layers: &[LayerModel]) -> Vec<StoredLayer> {
    let store = |layer: &LayerModel| {
        let mask = layer.mask.as_ref().map(|mask| mask.iter().map(|slots| bytes.add_slots(slots)).collect());
        let content = match &layer.content {
            Content::Set(slots) => StoredContent::Set(bytes.add_slots(slots)),
            Content::Numbers(numbers, range) => StoredContent::Numbers(store_numbers(bytes, numbers), *range),
        };
        (mask, content)
    };
    layers.iter().map(store).collect()
}

fn view_mask<'a>(bytes: &'a Bytes, mask: &Option<Vec<usize>>) -> Mask<'a> {
    mask.as_ref().map_or(Mask::All, |mask| Mask::Bitmaps(mask.iter().map(|id| bytes.view(*id)).collect()))
}

fn view_leaf<'a>(bytes: &'a Bytes, layers: &[StoredLayer]) -> Vec<Layer<'a>> {
    let view = |(mask, content): &StoredLayer| Layer {
        mask: view_mask(bytes, mask),
        value: match content {
            StoredContent::Set(id) => LayerValue::Bitmap(bytes.view(*id)),
            StoredContent::Numbers(numbers, range) => LayerValue::InRange(view_numbers(bytes, numbers), *range),
        },
    };
    layers.iter().map(view).collect()
}

fn program<'a>(bytes: &'a Bytes, nodes: &[NodeModel], leaves: &[Option<Vec<StoredLayer>>]) -> Program<'a> {
    let ids = |of: &[usize]| of.iter().map(|id| NodeId(*id as u32)).collect::<Vec<_>>();
    let mut program = Program::new();
    for (node, leaf) in nodes.iter().zip(leaves) {
        program.push(match node {
            NodeModel::Leaf(_) => Node::Leaf(view_leaf(bytes, leaf.as_ref().expect("stored"))),
            NodeModel::And(of) => Node::And(ids(of)),
            NodeModel::Or(of) => Node::Or(ids(of)),
            NodeModel::AndNot(a, b) => Node::AndNot(NodeId(*a as u32), NodeId(*b as u32)),
            NodeModel::Xor(a, b) => Node::Xor(NodeId(*a as u32), NodeId(*b as u32)),
            NodeModel::AtLeast(k, of) => Node::AtLeast(*k, ids(of)),
        });
    }
    program
}

fn store(bytes: &mut Bytes, nodes: &[NodeModel]) -> Vec<Option<Vec<StoredLayer>>> {
    let store = |node: &NodeModel| match node {
        NodeModel::Leaf(layers) => Some(store_leaf(bytes, layers)),
        _ => None,
    };
    nodes.iter().map(store).collect()
}

fn all_members(evaluator: &mut Evaluator<'_, '_>) -> Slots {
    let mut found = Slots::new();
    for chunk in evaluator.chunks() {
        found.extend(evaluator.members(chunk).iter().map(|position| u32::from(chunk) << 16 | u32::from(position)));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn programs_compute_what_plain_sets_do(nodes in graph()) {
        let mut bytes = Bytes::default();
        let leaves = store(&mut bytes, &nodes);
        let program = program(&bytes, &nodes, &leaves);
        let expected = naive(&nodes);
        let mut evaluator = Evaluator::new(&program);
        prop_assert_eq!(evaluator.count_all(), expected.len() as u64);
        let counted: u64 = evaluator.chunks().into_iter().map(|chunk| u64::from(evaluator.count(chunk))).sum();
        prop_assert_eq!(counted, expected.len() as u64);
        evaluator.record(|| 0);
        prop_assert!(all_members(&mut evaluator) == expected);
        let root = evaluator.records().last().expect("a root");
        prop_assert_eq!(root.members, expected.len() as u64);
    }

    #[test]
    fn many_counts_under_one_filter(filter in slots(), targets in proptest::collection::vec(leaf(), 1..5)) {
        let mut bytes = Bytes::default();
        let filter_id = bytes.add_slots(&filter);
        let stored: Vec<_> = targets.iter().map(|target| store_leaf(&mut bytes, target)).collect();
        let layers: Vec<_> = stored.iter().map(|target| view_leaf(&bytes, target)).collect();
        let mut program = Program::new();
        program.push(Node::Leaf(vec![Layer { mask: Mask::All, value: LayerValue::Bitmap(bytes.view(filter_id)) }]));
        let mut evaluator = Evaluator::new(&program);
        let mut each = CountEach::new(layers.iter().map(Vec::as_slice));
        let mut counts = vec![0; targets.len()];
        for chunk in evaluator.chunks() {
            each.add(chunk, evaluator.members(chunk), &mut counts);
        }
        let expected: Vec<u64> =
            targets.iter().map(|target| naive_leaf(target).intersection(&filter).count() as u64).collect();
        prop_assert_eq!(counts, expected);
    }

    #[test]
    fn numbers_add_up_and_read_back(filter in slots(), layers in proptest::collection::vec((numbers(), slots()), 1..4)) {
        let mut bytes = Bytes::default();
        let bottom = layers.len() - 1;
        let stored: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(index, (numbers, mask))| {
                let mask = (index != bottom).then(|| vec![bytes.add_slots(mask)]);
                (mask, store_numbers(&mut bytes, numbers))
            })
            .collect();
        let mut model: BTreeMap<u32, Option<i64>> = BTreeMap::new();
        for (index, (numbers, mask)) in layers.iter().enumerate() {
            numbers.iter().for_each(|(slot, number)| { model.entry(*slot).or_insert(Some(*number)); });
            if index != bottom {
                mask.iter().for_each(|slot| { model.entry(*slot).or_insert(None); });
            }
        }
        let views: Vec<_> = stored
            .iter()
            .map(|(mask, numbers)| NumberLayer { mask: view_mask(&bytes, mask), numbers: Some(view_numbers(&bytes, numbers)) })
            .collect();
        let reader = NumberReader::new(&views);
        let mut total = Sum::default();
        for chunk in 0..3u16 {
            let positions: Vec<[u8; 2]> = filter.iter().filter(|slot| **slot >> 16 == u32::from(chunk)).map(|slot| (*slot as u16).to_le_bytes()).collect();
            let found = reader.numbers(chunk, &positions);
            for (position, number) in positions.iter().zip(found) {
                let slot = u32::from(chunk) << 16 | u32::from(u16::from_le_bytes(*position));
                prop_assert_eq!(number, model.get(&slot).copied().flatten(), "slot {}", slot);
            }
            if !positions.is_empty() {
                reader.sum(chunk, ChunkSet::Some(super::view::Container::Array(&positions)), &mut total);
            }
        }
        let expected: Vec<i128> = filter.iter().filter_map(|slot| model.get(slot).copied().flatten()).map(i128::from).collect();
        prop_assert_eq!(total, Sum { count: expected.len() as u64, sum: expected.iter().sum() });
    }

    #[test]
    fn encoding_reads_back(numbers in numbers()) {
        let mut bytes = Bytes::default();
        let stored = store_numbers(&mut bytes, &numbers);
        let decoded: BTreeMap<u32, i64> = bsi::decode(&view_numbers(&bytes, &stored)).into_iter().collect();
        prop_assert_eq!(decoded, numbers);
    }
}
