//! The same questions composed by hand of a peer's bitmaps, as one would without an engine.

use engine::audience::predicate::Predicate;
use engine::bitmap::bsi::NumberRange;
use engine::ids::TagId;
use engine::segment::{Key, Part};
use engine::store::Snapshot;
use std::collections::HashMap;

/// A shard's postings as the peers hold them.
pub(crate) struct PeerShard {
    croaring: HashMap<Vec<u8>, croaring::Bitmap>,
    roaring: HashMap<Vec<u8>, roaring::RoaringBitmap>,
    bases: HashMap<TagId, i64>,
}

fn key_name(key: Key<'_>) -> Vec<u8> {
    format!("{key:?}").into_bytes()
}

/// Compares the index with `croaring`'s run-optimised serialised bytes; answers the peers' bitmaps.
pub(crate) fn index_size(snapshot: &Snapshot) -> Vec<PeerShard> {
    let (mut ours, mut theirs) = (0u64, 0u64);
    let mut shards = Vec::new();
    for shard in snapshot.shards() {
        let mut peer = PeerShard { croaring: HashMap::new(), roaring: HashMap::new(), bases: HashMap::new() };
        let [segment] = shard.layers() else { panic!("everything is merged") };
        ours += segment.size_bytes();
        for number in 0..segment.entry_count() {
            let key = segment.key_at(number);
            let posting = segment.posting_at(number).expect("good");
            let mut bitmap: croaring::Bitmap = posting.bitmap.iter().collect();
            bitmap.run_optimize();
            theirs += bitmap.get_serialized_size_in_bytes::<croaring::Portable>() as u64;
            peer.roaring.insert(key_name(key), posting.bitmap.to_bitmap());
            peer.croaring.insert(key_name(key), bitmap);
            if key.part == Part::Exists {
                peer.bases.insert(key.tag, posting.aux);
            }
        }
        shards.push(peer);
    }
    println!("index size: {:.3} times croaring's {} MiB", ours as f64 / theirs as f64, theirs >> 20);
    shards
}

/// What the peers' bitmaps can do alike.
pub(crate) trait Peer: Clone + Default {
    fn of(shard: &PeerShard, key: Key<'_>) -> Self;
    fn and(&self, other: &Self) -> Self;
    fn or(&self, other: &Self) -> Self;
    fn minus(&self, other: &Self) -> Self;
    fn len(&self) -> u64;
    fn and_len(&self, other: &Self) -> u64;
}

impl Peer for croaring::Bitmap {
    fn of(shard: &PeerShard, key: Key<'_>) -> Self {
        shard.croaring.get(&key_name(key)).cloned().unwrap_or_default()
    }
    fn and(&self, other: &Self) -> Self {
        croaring::Bitmap::and(self, other)
    }
    fn or(&self, other: &Self) -> Self {
        croaring::Bitmap::or(self, other)
    }
    fn minus(&self, other: &Self) -> Self {
        self.andnot(other)
    }
    fn len(&self) -> u64 {
        self.cardinality()
    }
    fn and_len(&self, other: &Self) -> u64 {
        self.and_cardinality(other)
    }
}

impl Peer for roaring::RoaringBitmap {
    fn of(shard: &PeerShard, key: Key<'_>) -> Self {
        shard.roaring.get(&key_name(key)).cloned().unwrap_or_default()
    }
    fn and(&self, other: &Self) -> Self {
        self & other
    }
    fn or(&self, other: &Self) -> Self {
        self | other
    }
    fn minus(&self, other: &Self) -> Self {
        self - other
    }
    fn len(&self) -> u64 {
        roaring::RoaringBitmap::len(self)
    }
    fn and_len(&self, other: &Self) -> u64 {
        self.intersection_len(other)
    }
}

/// An expression over a shard's bitmaps, looked up before the clock runs.
pub(crate) enum Tree<B> {
    Leaf(B),
    And(Vec<Tree<B>>),
    Or(Vec<Tree<B>>),
    Minus(Box<Tree<B>>, Box<Tree<B>>),
    AtLeast(usize, Vec<Tree<B>>),
    Range { exists: B, slices: Vec<B>, low: u64, high: u64 },
}

impl<B: Peer> Tree<B> {
    pub(crate) fn new(shard: &PeerShard, predicate: &Predicate) -> Tree<B> {
        let leaf = |tag: TagId, part| Tree::Leaf(B::of(shard, Key { tag, part }));
        let all = |of: &[Predicate]| of.iter().map(|operand| Tree::new(shard, operand)).collect::<Vec<_>>();
        match predicate {
            Predicate::All => leaf(TagId::UNIVERSE, Part::Exists),
            Predicate::Flag(tag) | Predicate::Known(tag) => leaf(*tag, Part::Exists),
            Predicate::HasAny(tag, values) => {
                let mut leaves: Vec<_> = values.iter().map(|value| leaf(*tag, Part::Value(value.as_bytes()))).collect();
                if leaves.len() == 1 { leaves.remove(0) } else { Tree::Or(leaves) }
            }
            Predicate::InRange(tag, range) => Tree::range(shard, *tag, *range),
            Predicate::And(of) => {
                let (minus, plus): (Vec<_>, Vec<_>) = of.iter().cloned().partition(|p| matches!(p, Predicate::Not(_)));
                let plus = if plus.is_empty() { vec![Predicate::All] } else { plus };
                let start = Tree::And(all(&plus));
                minus
                    .into_iter()
                    .fold(start, |tree, out| Tree::Minus(Box::new(tree), Box::new(Tree::new(shard, &out.negate()))))
            }
            Predicate::Or(of) => Tree::Or(all(of)),
            Predicate::Not(of) => {
                Tree::Minus(Box::new(leaf(TagId::UNIVERSE, Part::Exists)), Box::new(Tree::new(shard, of)))
            }
            Predicate::AtLeast(k, of) => Tree::AtLeast(*k as usize, all(of)),
            other => panic!("no question has {other:?}"),
        }
    }

    fn range(shard: &PeerShard, tag: TagId, range: NumberRange) -> Tree<B> {
        let exists = B::of(shard, Key { tag, part: Part::Exists });
        let base = shard.bases.get(&tag).copied().unwrap_or(0);
        let slices: Vec<B> = (0..64u8).map(|bit| B::of(shard, Key { tag, part: Part::Slice(bit) })).collect();
        let width = slices.iter().rposition(|slice| slice.len() > 0).map_or(0, |last| last + 1);
        let top = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let low = if range.min <= base { 0 } else { range.min.wrapping_sub(base) as u64 };
        let high = if range.max < base {
            return Tree::Leaf(B::default());
        } else {
            (range.max.wrapping_sub(base) as u64).min(top)
        };
        if low > top {
            return Tree::Leaf(B::default());
        }
        Tree::Range { exists, slices: slices.into_iter().take(width).collect(), low, high }
    }

    pub(crate) fn evaluate(&self) -> B {
        match self {
            Tree::Leaf(leaf) => leaf.clone(),
            Tree::And(of) => fold(of, B::and),
            Tree::Or(of) => fold(of, B::or),
            Tree::Minus(a, b) => a.with(|a| b.with(|b| a.minus(b))),
            // Planes of exactly how many so far, as one writes it by hand.
            Tree::AtLeast(k, of) => {
                let mut at_least = vec![B::default(); *k];
                for operand in of {
                    operand.with(|operand| {
                        for level in (0..*k).rev() {
                            let more = if level == 0 { operand.clone() } else { at_least[level - 1].and(operand) };
                            at_least[level] = at_least[level].or(&more);
                        }
                    });
                }
                at_least.pop().unwrap_or_default()
            }
            // O'Neil and Quass, from the most significant slice down.
            Tree::Range { exists, slices, low, high } => {
                let (mut above, mut equal_low) = (B::default(), exists.clone());
                let (mut below, mut equal_high) = (B::default(), exists.clone());
                for (bit, slice) in slices.iter().enumerate().rev() {
                    if low >> bit & 1 == 1 {
                        equal_low = equal_low.and(slice);
                    } else {
                        above = above.or(&equal_low.and(slice));
                        equal_low = equal_low.minus(slice);
                    }
                    if high >> bit & 1 == 1 {
                        below = below.or(&equal_high.minus(slice));
                        equal_high = equal_high.and(slice);
                    } else {
                        equal_high = equal_high.minus(slice);
                    }
                }
                above.or(&equal_low).and(&below.or(&equal_high))
            }
        }
    }

    /// Hands a leaf out as it is, so that the peer is not charged for a copy.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&B) -> T) -> T {
        match self {
            Tree::Leaf(leaf) => work(leaf),
            tree => work(&tree.evaluate()),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        match self {
            Tree::And(of) if of.len() == 2 => of[0].with(|a| of[1].with(|b| a.and_len(b))),
            tree => tree.with(B::len),
        }
    }
}

fn fold<B: Peer>(of: &[Tree<B>], combine: fn(&B, &B) -> B) -> B {
    let Some((first, rest)) = of.split_first() else { return B::default() };
    let Some((second, rest)) = rest.split_first() else { return first.evaluate() };
    let start = first.with(|a| second.with(|b| combine(a, b)));
    rest.iter().fold(start, |all, operand| operand.with(|operand| combine(&all, operand)))
}

/// The posting of a value.
pub(crate) fn posting(shard: &PeerShard, tag: TagId, value: &[u8]) -> croaring::Bitmap {
    Peer::of(shard, Key { tag, part: Part::Value(value) })
}
