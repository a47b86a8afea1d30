//! Makes one segment of several by the layering rule (see [`super::Key`]).
//!
//! Key by key, so that memory holds a few postings, not a segment (the numbers of one tag are the largest thing held, or 14 bytes
//! a vector where vectors are sorted into cells). A
//! posting that only one input has, and no newer layer hides anything of, is copied as it stands.

mod activity;
mod blocks;

pub use activity::ActivityRules;
pub(crate) use activity::{dimension_series, keys_within};

use super::{Key, Part, Segment, SegmentWriter};
use crate::bitmap::bsi::{Encoded, NumberView};
use crate::error::{MergeError, ReadError};
use crate::ids::TagId;
use crate::lookalike::cells::Centres;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the layering rule needs to know of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeKind {
    /// Values are added and removed one by one.
    Set,
    /// Whoever is touched in a layer is decided by it: `enum`, `flag`, the universe.
    Exclusive,
    /// As `Exclusive`, with bit slices whose base may differ from layer to layer.
    Number,
    /// Counters add up: the activity of a fact.
    Activity(ActivityRules),
    /// As `Exclusive`, with a vector for each user.
    Vectors,
}

/// What is merged how.
pub struct MergeRules<'r> {
    /// The output covers all older data, so it needs no masks.
    pub bottom: bool,
    /// The kind of a tag; `None` if it was dropped: its postings are left out.
    pub kind: &'r dyn Fn(TagId) -> Option<MergeKind>,
    /// Whether a value of a `set` is still wanted.
    pub wanted: &'r dyn Fn(TagId, &[u8]) -> bool,
    /// What the vectors of a space are sorted by, where they are many; `None`: they are few, or merged again soon.
    pub centres: &'r dyn Fn(TagId) -> Option<Centres>,
    /// Users of whom nothing is kept, not even that something older is hidden: whoever leaves them out of one segment leaves
    /// them out of all.
    pub erased: &'r RoaringBitmap,
}

/// Merges `inputs`, newest first, into `writer`.
///
/// # Errors
/// [`MergeError`]; the output is then useless.
pub fn merge(inputs: &[Arc<Segment>], rules: &MergeRules<'_>, writer: &mut SegmentWriter) -> Result<(), MergeError> {
    let erased = rules.erased;
    let tags: BTreeSet<TagId> = inputs.iter().flat_map(|input| tags_of(input)).collect();
    for tag in tags {
        let Some(kind) = (rules.kind)(tag) else { continue };
        if let MergeKind::Activity(rules) = kind {
            activity::merge(inputs, tag, rules, erased, writer)?;
            continue;
        }
        let hidden = Hidden::new(inputs, tag, erased)?;
        let merger = TagMerger { inputs, rules, tag, kind, hidden };
        merger.run(writer)?;
    }
    Ok(())
}

/// Whether a segment says anything of one of these users.
///
/// # Errors
/// [`ReadError::Corrupt`] if a posting is damaged.
pub fn mentions(segment: &Segment, users: &RoaringBitmap) -> Result<bool, ReadError> {
    for number in 0..segment.entry_count() {
        // Who has a vector is told by a posting of the space.
        let is_block = matches!(segment.key_at(number).part, Part::Block(_));
        if !is_block && !segment.posting_at(number)?.bitmap.to_bitmap().is_disjoint(users) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tags of a segment, found by leaping from tag to tag.
fn tags_of(segment: &Segment) -> Vec<TagId> {
    let mut tags = Vec::new();
    let mut at = 0;
    while at < segment.entry_count() {
        let tag = segment.key_at(at).tag;
        tags.push(tag);
        at = segment.entries(tag).end;
    }
    tags
}

/// Users touched in inputs newer than each, and those that are erased.
struct Hidden {
    /// One longer than the inputs: the last is the union of all.
    newer: Vec<RoaringBitmap>,
}

impl Hidden {
    fn new(inputs: &[Arc<Segment>], tag: TagId, erased: &RoaringBitmap) -> Result<Hidden, ReadError> {
        let mut newer = vec![erased.clone()];
        for input in inputs {
            let here = load(input, Key { tag, part: Part::Touched })?;
            let union = newer.last().map(|union| union | &here).unwrap_or_default();
            newer.push(union);
        }
        Ok(Hidden { newer })
    }

    fn all(&self) -> &RoaringBitmap {
        self.newer.last().expect("one longer than the inputs")
    }
}

/// A posting as a bitmap that can be changed; empty if there is none.
fn load(segment: &Segment, key: Key<'_>) -> Result<RoaringBitmap, ReadError> {
    Ok(segment.posting(key)?.map(|posting| posting.bitmap.to_bitmap()).unwrap_or_default())
}

struct TagMerger<'m> {
    inputs: &'m [Arc<Segment>],
    rules: &'m MergeRules<'m>,
    tag: TagId,
    kind: MergeKind,
    hidden: Hidden,
}

impl TagMerger<'_> {
    fn run(&self, writer: &mut SegmentWriter) -> Result<(), MergeError> {
        if !self.rules.bottom {
            self.put(writer, Part::Touched, 0, self.hidden.all() - self.rules.erased)?;
        }
        if self.kind == MergeKind::Number {
            return self.numbers(writer);
        }
        self.value(writer, Part::Exists)?;
        if self.kind == MergeKind::Vectors {
            return self.blocks(writer);
        }
        for value in self.names(|part| match part {
            Part::Value(value) => Some(value),
            _ => None,
        }) {
            if self.kind != MergeKind::Set || (self.rules.wanted)(self.tag, value) {
                self.value(writer, Part::Value(value))?;
            }
        }
        if self.rules.bottom || self.kind != MergeKind::Set {
            return Ok(());
        }
        for value in self.names(|part| match part {
            Part::Removed(value) => Some(value),
            _ => None,
        }) {
            let mut removed = self.union(Part::Removed(value))?;
            removed -= self.layered(Part::Value(value))?;
            removed -= self.rules.erased;
            self.put(writer, Part::Removed(value), 0, removed)?;
        }
        Ok(())
    }

    fn key<'k>(&self, part: Part<'k>) -> Key<'k> {
        Key { tag: self.tag, part }
    }

    fn put(
        &self,
        writer: &mut SegmentWriter,
        part: Part<'_>,
        aux: i64,
        mut bitmap: RoaringBitmap,
    ) -> std::io::Result<()> {
        bitmap.optimize();
        writer.add(self.key(part), aux, &bitmap)
    }

    /// The values the inputs have of a part, rising.
    fn names(&self, of: impl Fn(Part<'_>) -> Option<&[u8]>) -> BTreeSet<&[u8]> {
        let parts = self.inputs.iter().flat_map(|input| input.parts(self.tag));
        parts.filter_map(|(part, _)| of(part)).collect()
    }

    fn union(&self, part: Part<'_>) -> Result<RoaringBitmap, ReadError> {
        let mut union = RoaringBitmap::new();
        for input in self.inputs {
            union |= load(input, self.key(part))?;
        }
        Ok(union)
    }

    /// Merges one value; copies it if nothing can hide any of it.
    fn value(&self, writer: &mut SegmentWriter, part: Part<'_>) -> Result<(), MergeError> {
        let holders: Vec<usize> =
            (0..self.inputs.len()).filter(|at| self.inputs[*at].cardinality(self.key(part)) > 0).collect();
        if let [only] = holders.as_slice()
            && self.hidden.newer[*only].is_empty()
            && !self.removed_before(part, *only)
        {
            if let Some(posting) = self.inputs[*only].posting(self.key(part))? {
                writer.add_serialized(self.key(part), posting.aux, posting.bitmap.len(), posting.bitmap.as_bytes())?;
            }
            return Ok(());
        }
        let merged = self.layered(part)?;
        Ok(self.put(writer, part, 0, merged)?)
    }

    fn removed_before(&self, part: Part<'_>, input: usize) -> bool {
        let Part::Value(value) = part else { return false };
        self.inputs[..input].iter().any(|newer| newer.cardinality(self.key(Part::Removed(value))) > 0)
    }

    /// The layering rule for one value.
    fn layered(&self, part: Part<'_>) -> Result<RoaringBitmap, ReadError> {
        let mut result = RoaringBitmap::new();
        let mut removed = RoaringBitmap::new();
        for (at, input) in self.inputs.iter().enumerate() {
            let mut here = load(input, self.key(part))?;
            here -= &self.hidden.newer[at];
            here -= &removed;
            result |= here;
            if let (MergeKind::Set, Part::Value(value)) = (self.kind, part) {
                removed |= load(input, self.key(Part::Removed(value)))?;
            }
        }
        Ok(result)
    }

    /// Numbers are layered slice by slice, once they have one base.
    fn numbers(&self, writer: &mut SegmentWriter) -> Result<(), MergeError> {
        let holders: Vec<usize> =
            (0..self.inputs.len()).filter(|at| self.inputs[*at].cardinality(self.key(Part::Exists)) > 0).collect();
        if let [only] = holders.as_slice()
            && self.hidden.newer[*only].is_empty()
        {
            return self.copy_numbers(writer, &self.inputs[*only]);
        }
        let mut merged = Encoded::default();
        for at in holders {
            if let Some(view) = number_view(&self.inputs[at], self.tag)? {
                let mut numbers = Encoded::of(&view);
                numbers.forget(&self.hidden.newer[at]);
                merged.absorb(numbers);
            }
        }
        merged.tighten();
        self.put(writer, Part::Exists, merged.base, merged.exists)?;
        for (bit, slice) in merged.slices.into_iter().enumerate() {
            self.put(writer, Part::Slice(bit as u8), 0, slice)?;
        }
        Ok(())
    }

    fn copy_numbers(&self, writer: &mut SegmentWriter, input: &Segment) -> Result<(), MergeError> {
        for (part, cardinality) in input.parts(self.tag) {
            if matches!(part, Part::Exists | Part::Slice(_))
                && let Some(posting) = input.posting(self.key(part))?
            {
                writer.add_serialized(self.key(part), posting.aux, cardinality, posting.bitmap.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// A segment's numbers of a tag, if it has any.
///
/// # Errors
/// [`ReadError::Corrupt`] if a posting is damaged.
pub fn number_view(segment: &Segment, tag: TagId) -> Result<Option<NumberView<'_>>, ReadError> {
    let mut view = None;
    for number in segment.entries(tag) {
        match (segment.key_at(number).part, &mut view) {
            (Part::Exists, None) => {
                let exists = segment.posting_at(number)?;
                view = Some(NumberView { exists: exists.bitmap, base: exists.aux, slices: Vec::with_capacity(32) });
            }
            (Part::Slice(bit), Some(view)) => {
                // A slice in which no bit is set is not stored.
                view.slices.resize(usize::from(bit), crate::bitmap::view::BitmapView::EMPTY);
                view.slices.push(segment.posting_at(number)?.bitmap);
            }
            _ => {}
        }
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitmap::bsi;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SET: TagId = TagId(20);
    const ENUM: TagId = TagId(21);
    const NUMBER: TagId = TagId(22);

    fn kind(tag: TagId) -> Option<MergeKind> {
        match tag {
            SET => Some(MergeKind::Set),
            ENUM => Some(MergeKind::Exclusive),
            NUMBER => Some(MergeKind::Number),
            _ => None,
        }
    }

    /// What one layer says of each user it mentions.
    #[derive(Clone, Debug, Default)]
    struct LayerModel {
        cleared: BTreeSet<u32>,
        /// (value, user): added or removed.
        set: BTreeMap<(u8, u32), bool>,
        choice: BTreeMap<u32, Option<u8>>,
        number: BTreeMap<u32, Option<i64>>,
    }

    fn layer() -> impl Strategy<Value = LayerModel> {
        let user = || prop_oneof![0u32..12, 65_530u32..65_545];
        let set = proptest::collection::btree_map((0u8..3, user()), any::<bool>(), 0..12);
        let choice = proptest::collection::btree_map(user(), proptest::option::of(0u8..3), 0..8);
        let number =
            proptest::collection::btree_map(user(), proptest::option::of(prop_oneof![-4i64..9, any::<i64>()]), 0..8);
        (proptest::collection::btree_set(user(), 0..4), set, choice, number)
            .prop_map(|(cleared, set, choice, number)| LayerModel { cleared, set, choice, number })
    }

    fn bitmap(users: impl Iterator<Item = u32>) -> RoaringBitmap {
        users.collect()
    }

    fn segment(layer: &LayerModel) -> Arc<Segment> {
        let mut writer = SegmentWriter::in_memory();
        fn put(writer: &mut SegmentWriter, tag: TagId, part: Part<'_>, aux: i64, users: RoaringBitmap) {
            writer.add(Key { tag, part }, aux, &users).expect("memory");
        }
        macro_rules! add {
            ($tag:expr, $part:expr, $aux:expr, $users:expr) => {
                put(&mut writer, $tag, $part, $aux, $users)
            };
        }
        add!(SET, Part::Touched, 0, bitmap(layer.cleared.iter().copied()));
        for wanted in [true, false] {
            for value in 0u8..3 {
                let users = layer.set.iter().filter(|((v, _), added)| *v == value && **added == wanted);
                let name = [value];
                let part = if wanted { Part::Value(&name) } else { Part::Removed(&name) };
                add!(SET, part, 0, bitmap(users.map(|((_, user), _)| *user)));
            }
        }
        add!(ENUM, Part::Touched, 0, bitmap(layer.choice.keys().copied()));
        add!(ENUM, Part::Exists, 0, bitmap(layer.choice.iter().filter(|(_, v)| v.is_some()).map(|(user, _)| *user)));
        for value in 0u8..3 {
            let users = layer.choice.iter().filter(|(_, v)| **v == Some(value));
            add!(ENUM, Part::Value(&[value]), 0, bitmap(users.map(|(user, _)| *user)));
        }
        add!(NUMBER, Part::Touched, 0, bitmap(layer.number.keys().copied()));
        let numbers: Vec<(u32, i64)> = layer.number.iter().filter_map(|(user, v)| v.map(|v| (*user, v))).collect();
        let encoded = bsi::encode(&numbers);
        add!(NUMBER, Part::Exists, encoded.base, encoded.exists);
        for (bit, slice) in encoded.slices.into_iter().enumerate() {
            add!(NUMBER, Part::Slice(bit as u8), 0, slice);
        }
        Arc::new(Segment::from_memory(writer.finish_in_memory()).expect("valid"))
    }

    /// The truth after all layers, oldest first.
    type Truth = (BTreeSet<(u8, u32)>, BTreeMap<u32, u8>, BTreeMap<u32, i64>);

    fn truth(oldest_first: &[LayerModel]) -> Truth {
        let mut truth = Truth::default();
        for layer in oldest_first {
            truth.0.retain(|(_, user)| !layer.cleared.contains(user));
            for (key, added) in &layer.set {
                if *added {
                    truth.0.insert(*key);
                } else {
                    truth.0.remove(key);
                }
            }
            for (user, value) in &layer.choice {
                match value {
                    Some(v) => truth.1.insert(*user, *v),
                    None => truth.1.remove(user),
                };
            }
            for (user, value) in &layer.number {
                match value {
                    Some(v) => truth.2.insert(*user, *v),
                    None => truth.2.remove(user),
                };
            }
        }
        truth
    }

    /// Reads a bottom segment.
    fn read(segment: &Segment) -> Truth {
        let mut truth = Truth::default();
        for (part, _) in segment.parts(SET) {
            let Part::Value(value) = part else { panic!("a bottom segment has no {part:?}") };
            truth.0.extend(load(segment, Key { tag: SET, part }).expect("good").iter().map(|user| (value[0], user)));
        }
        for (part, _) in segment.parts(ENUM) {
            if let Part::Value(value) = part {
                truth
                    .1
                    .extend(load(segment, Key { tag: ENUM, part }).expect("good").iter().map(|user| (user, value[0])));
            }
        }
        let exists = load(segment, Key { tag: ENUM, part: Part::Exists }).expect("good");
        assert!(exists.iter().eq(truth.1.keys().copied()));
        if let Some(view) = number_view(segment, NUMBER).expect("good") {
            truth.2.extend(bsi::decode(&view));
        }
        truth
    }

    fn merged(newest_first: &[Arc<Segment>], bottom: bool) -> Arc<Segment> {
        let mut writer = SegmentWriter::in_memory();
        let erased = &RoaringBitmap::new();
        let rules = MergeRules { bottom, kind: &kind, wanted: &|_, _| true, centres: &|_| None, erased };
        merge(newest_first, &rules, &mut writer).expect("merge");
        let segment = Segment::from_memory(writer.finish_in_memory()).expect("valid");
        segment.verify().expect("good");
        Arc::new(segment)
    }

    proptest! {
        #[test]
        fn merging_any_run_changes_no_answer(layers in proptest::collection::vec(layer(), 1..6), from in 0usize..5, len in 1usize..5) {
            let expected = truth(&layers);
            let mut stack: Vec<Arc<Segment>> = layers.iter().rev().map(segment).collect();
            prop_assert_eq!(&read(&merged(&stack, true)), &expected);
            let from = from % stack.len();
            let to = (from + len).min(stack.len());
            let bottom = to == stack.len();
            let run = merged(&stack[from..to], bottom);
            stack.splice(from..to, [run]);
            prop_assert_eq!(read(&merged(&stack, true)), expected);
        }
    }

    proptest! {
        #[test]
        fn of_erased_users_nothing_is_left(
            layers in proptest::collection::vec(layer(), 1..5),
            erased in proptest::collection::btree_set(prop_oneof![0u32..12, 65_530u32..65_545], 0..8),
        ) {
            let mut expected = truth(&layers);
            expected.0.retain(|(_, user)| !erased.contains(user));
            expected.1.retain(|user, _| !erased.contains(user));
            expected.2.retain(|user, _| !erased.contains(user));
            let erased = bitmap(erased.into_iter());
            // Each by itself, as they are rewritten where they lie.
            let rewrite = |(at, layer): (usize, &LayerModel)| {
                let mut writer = SegmentWriter::in_memory();
                let (bottom, centres) = (at == 0, &|_: TagId| None);
                let rules = MergeRules { bottom, kind: &kind, wanted: &|_, _| true, centres, erased: &erased };
                merge(&[segment(layer)], &rules, &mut writer).expect("merge");
                let segment = Segment::from_memory(writer.finish_in_memory()).expect("valid");
                segment.verify().expect("good");
                assert!(!mentions(&segment, &erased).expect("good"));
                Arc::new(segment)
            };
            let mut stack: Vec<Arc<Segment>> = layers.iter().enumerate().map(rewrite).collect();
            stack.reverse();
            prop_assert_eq!(read(&merged(&stack, true)), expected);
        }
    }

    #[test]
    fn dropped_tags_and_unwanted_values_are_left_out() {
        let layer = LayerModel {
            set: BTreeMap::from([((0, 1), true), ((1, 1), true)]),
            choice: BTreeMap::from([(1, Some(1))]),
            ..LayerModel::default()
        };
        let mut writer = SegmentWriter::in_memory();
        let rules = MergeRules {
            bottom: true,
            kind: &|tag| (tag == SET).then_some(MergeKind::Set),
            wanted: &|_, value| value == [1],
            centres: &|_| None,
            erased: &RoaringBitmap::new(),
        };
        merge(&[segment(&layer)], &rules, &mut writer).expect("merge");
        let segment = Segment::from_memory(writer.finish_in_memory()).expect("valid");
        assert_eq!(segment.entry_count(), 1);
        assert_eq!(segment.key_at(0), Key { tag: SET, part: Part::Value(&[1]) });
    }
}
