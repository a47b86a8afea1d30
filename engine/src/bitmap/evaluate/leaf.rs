//! Layered leaves, chunk by chunk.
//!
//! The layering rule walks newest to oldest; what is run here is the same rule oldest to newest: each layer removes
//! whom it decides and then adds whom it has. So the big bottom layer is loaded once and the small newer ones touch only
//! their own members, and in the usual chunk, where one layer alone has containers, its container is the answer as it lies.

use super::cursor::{Counted, Cursor};
use super::patch::{PATCH_LEN_MAX, Patched};
use super::range::{Fits, RangeLeaf};
use super::scratch::{ArrayBuffer, Scratch};
use crate::bitmap::chunk_set::CHUNK_LEN;
use crate::bitmap::kernels::{self, Level};
use crate::bitmap::program::{Layer, LayerValue, Mask};
use crate::bitmap::view::{ARRAY_LEN_MAX, BitmapView, Container, Le16, Words};

/// Up to so many users, those in a range are looked up one by one instead of in passes over bit sets.
const RANGE_FEW: usize = 1_024;

/// A leaf prepared for evaluation, and what it is in the current chunk.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    /// Oldest first.
    layers: Vec<LeafLayer<'a>>,
    /// The current chunk's steps, oldest first.
    steps: Vec<Step<'a>>,
    /// Positions in the steps after the first, if all of these are arrays.
    change_len: Option<usize>,
    upper: u32,
    guess: u32,
}

#[derive(Debug)]
struct LeafLayer<'a> {
    mask: Vec<Cursor<'a>>,
    value: LeafValue<'a>,
}

#[derive(Debug)]
enum LeafValue<'a> {
    Empty,
    Bitmap(Cursor<'a>),
    Range(RangeLeaf<'a>),
}

/// What a layer does to the members found so far.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Remove(Container<'a>),
    Add(Counted<'a>),
    /// Adds who is in the range of the layer with this index; with its users.
    AddRange(usize, Counted<'a>),
}

impl Step<'_> {
    /// Its positions, if it comes down to an array.
    fn array_len(&self) -> Option<usize> {
        match self {
            Step::Remove(Container::Array(array)) => Some(array.len()),
            Step::Add(added) if matches!(added.container, Container::Array(_)) => Some(added.len as usize),
            Step::AddRange(_, exists) => few_of(exists.container).map(<[Le16]>::len),
            _ => None,
        }
    }
}

/// What a leaf is in the current chunk.
pub(crate) enum Now<'a> {
    /// Nobody.
    Empty,
    /// One container as it lies.
    Container(Counted<'a>),
    /// More than that.
    Composed,
}

impl<'a> Leaf<'a> {
    pub(crate) fn new(layers: &[Layer<'a>]) -> Self {
        // What lies below a layer that decides everybody is never seen.
        let seen = layers.iter().position(|layer| matches!(layer.mask, Mask::All)).map_or(layers.len(), |all| all + 1);
        let layers = layers[..seen].iter().rev().map(LeafLayer::new).collect();
        Leaf { layers, steps: Vec::new(), change_len: None, upper: 0, guess: 0 }
    }

    /// The bitmap this leaf is in every chunk, if it is one.
    pub(crate) fn as_bitmap(&self) -> Option<BitmapView<'a>> {
        match self.layers.as_slice() {
            [LeafLayer { value: LeafValue::Bitmap(cursor), .. }] => Some(cursor.view()),
            _ => None,
        }
    }

    /// At most this many members in all chunks.
    pub(crate) fn len_at_most(&self) -> u64 {
        let lens = self.layers.iter().map(|layer| match &layer.value {
            LeafValue::Empty => 0,
            LeafValue::Bitmap(cursor) => cursor.view().len(),
            LeafValue::Range(range) => range.exists().len(),
        });
        lens.sum()
    }

    /// Rising chunks outside of which there are no members.
    pub(crate) fn chunks(&self) -> Vec<u16> {
        let mut chunks = vec![];
        for layer in &self.layers {
            match &layer.value {
                LeafValue::Empty => {}
                LeafValue::Bitmap(cursor) => chunks.extend(cursor.chunks()),
                LeafValue::Range(range) => chunks.extend(Cursor::new(range.exists()).chunks()),
            }
        }
        if self.layers.len() > 1 {
            chunks.sort_unstable();
            chunks.dedup();
        }
        chunks
    }

    /// Turns to a chunk; reads heads only.
    pub(crate) fn turn_to(&mut self, chunk: u16) {
        self.steps.clear();
        (self.upper, self.guess) = (0, 0);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if !self.steps.is_empty() {
                let removed = layer.mask.iter().filter_map(|mask| mask.container(chunk));
                self.steps.extend(removed.map(|removed| Step::Remove(removed.container)));
            }
            let found = match &mut layer.value {
                LeafValue::Empty => None,
                LeafValue::Bitmap(cursor) => cursor.container(chunk).map(|found| (found, Step::Add(found), found.len)),
                LeafValue::Range(range) => range.container(chunk).and_then(|exists| {
                    let fits = range.turn_to(chunk, exists.len);
                    if !self.steps.is_empty() && !matches!(fits, Fits::Everybody) {
                        self.steps.push(Step::Remove(exists.container));
                    }
                    match fits {
                        Fits::Nobody => None,
                        Fits::Everybody => Some((exists, Step::Add(exists), exists.len)),
                        Fits::Some(guess) => Some((exists, Step::AddRange(index, exists), guess)),
                    }
                }),
            };
            let is_everybody = matches!(self.steps.as_slice(), [Step::Add(found)] if found.is_full());
            if let Some((found, step, guess)) = found.filter(|_| !is_everybody) {
                self.steps.push(step);
                self.upper += found.len;
                self.guess += guess;
            }
        }
        self.upper = self.upper.min(CHUNK_LEN);
        self.guess = self.guess.min(CHUNK_LEN);
        self.change_len = self.steps.iter().skip(1).map(Step::array_len).sum();
    }

    /// At most this many members in the current chunk.
    pub(crate) fn upper(&self) -> u32 {
        self.upper
    }

    /// Expected members in the current chunk.
    pub(crate) fn guess(&self) -> u32 {
        self.guess
    }

    fn range(&self, index: usize) -> &RangeLeaf<'a> {
        match &self.layers[index].value {
            LeafValue::Range(range) => range,
            _ => unreachable!("a range step comes from a range layer"),
        }
    }

    /// Container bytes of the current chunk.
    pub(crate) fn size_bytes(&self) -> u64 {
        let sizes = self.steps.iter().map(|step| match step {
            Step::Remove(container) => container.size_bytes() as u64,
            Step::Add(added) => added.container.size_bytes() as u64,
            Step::AddRange(index, exists) => exists.container.size_bytes() as u64 + self.range(*index).slice_bytes(),
        });
        sizes.sum()
    }

    /// How many passes over a bit set the members take, roughly.
    pub(crate) fn passes(&self) -> usize {
        let passes = self.steps.iter().map(|step| match step {
            Step::Remove(_) | Step::Add(_) => 1,
            Step::AddRange(index, _) => 1 + self.range(*index).slice_count(),
        });
        passes.sum()
    }

    #[inline]
    pub(crate) fn now(&self) -> Now<'a> {
        match self.steps.as_slice() {
            [] => Now::Empty,
            [Step::Add(container)] => Now::Container(*container),
            _ => Now::Composed,
        }
    }

    /// The members of the current chunk, if they are few and none of the steps needs a bit set: so that a small change
    /// of a small container stays small work.
    pub(crate) fn few(&self, scratch: &mut Scratch) -> Option<Box<ArrayBuffer>> {
        let is_few = |step: &Step<'_>| match step {
            Step::Remove(_) => true,
            Step::Add(added) => matches!(added.container, Container::Array(_)),
            Step::AddRange(_, exists) => few_of(exists.container).is_some(),
        };
        if self.upper as usize > ARRAY_LEN_MAX || !self.steps.iter().all(is_few) {
            return None;
        }
        let mut members = scratch.take_array();
        for step in &self.steps {
            let mut changed = scratch.take_array();
            match *step {
                Step::Remove(container) => {
                    changed.len = match container {
                        Container::Array(removed) => kernels::without(&members, removed, &mut changed.room),
                        other => kernels::select(scratch.level, &members, other, false, &mut changed.room),
                    };
                }
                Step::Add(added) => {
                    let Container::Array(added) = added.container else { unreachable!("just looked at") };
                    changed.len = kernels::with(&members, added, &mut changed.room);
                }
                Step::AddRange(index, exists) => {
                    let fitting = self.range(index).few(few_of(exists.container)?, scratch);
                    changed.len = kernels::with(&members, &fitting, &mut changed.room);
                    scratch.give_array(fitting);
                }
            }
            scratch.give_array(std::mem::replace(&mut members, changed));
        }
        Some(members)
    }

    /// The first step's container and the others as changes of it, if they are few and it is not.
    pub(crate) fn patched(&self, scratch: &mut Scratch) -> Option<Patched<'a>> {
        let (base, changes) = self.base_and_changes()?;
        let mut patched = Patched::new(base, scratch);
        for step in changes {
            match *step {
                Step::Remove(Container::Array(removed)) => patched.remove(removed, scratch),
                Step::Add(Counted { container: Container::Array(added), .. }) => patched.add(added, scratch),
                Step::AddRange(index, exists) if let Some(exists) = few_of(exists.container) => {
                    let fitting = self.range(index).few(exists, scratch);
                    patched.add(&fitting, scratch);
                    scratch.give_array(fitting);
                }
                _ => unreachable!("changes are arrays"),
            }
        }
        Some(patched.tighten(scratch))
    }

    /// See [`Leaf::patched`]: what it works with.
    fn base_and_changes(&self) -> Option<(Counted<'a>, &[Step<'a>])> {
        let (Step::Add(base), changes) = self.steps.split_first()? else { return None };
        let is_big = !matches!(base.container, Container::Array(_));
        (is_big && self.change_len.is_some_and(|len| len > 0 && len <= PATCH_LEN_MAX)).then_some((*base, changes))
    }

    /// Changes of a container that is otherwise taken as it lies, if that is what the leaf is in the current chunk.
    pub(crate) fn patch_len(&self) -> Option<usize> {
        self.base_and_changes().and(self.change_len)
    }

    /// `target |= members`, if the steps after the first are arrays; answers whether it was done.
    ///
    /// Of those who are removed it is noted first who was in the target, to put it back: so that the leaf need not be
    /// made apart.
    pub(crate) fn add_to(&self, target: &mut Words, scratch: &mut Scratch) -> bool {
        let (Some((Step::Add(base), changes)), Some(_)) = (self.steps.split_first(), self.change_len) else {
            return false;
        };
        let mut noted = scratch.take_notes();
        for step in changes {
            if let Step::Remove(Container::Array(positions)) = step {
                let mut mask = scratch.take_mask();
                mask[..positions.len().div_ceil(64)].fill(0);
                kernels::probe(scratch.level, positions, Container::Words(target), &mut mask[..]);
                noted.push(mask);
            }
        }
        add(scratch.level, target, base.container);
        let mut masks = noted.iter();
        for step in changes {
            match *step {
                Step::Remove(Container::Array(positions)) => {
                    kernels::put_back(target, positions, &masks.next().expect("noted for each")[..]);
                }
                Step::Add(Counted { container: Container::Array(added), .. }) => kernels::add_array(target, added),
                Step::AddRange(index, exists) if let Some(exists) = few_of(exists.container) => {
                    let fitting = self.range(index).few(exists, scratch);
                    kernels::add_array(target, &fitting);
                    scratch.give_array(fitting);
                }
                _ => unreachable!("changes are arrays"),
            }
        }
        scratch.give_notes(noted);
        true
    }

    /// Writes the members of the current chunk; answers how many.
    pub(crate) fn load(&self, target: &mut Words, scratch: &mut Scratch) -> u32 {
        let mut len = None;
        let mut is_loaded = false;
        for step in &self.steps {
            len = None;
            match *step {
                Step::AddRange(index, exists) if let Some(exists) = few_of(exists.container) => {
                    if !is_loaded {
                        target.fill([0; 8]);
                    }
                    let fitting = self.range(index).few(exists, scratch);
                    kernels::add_array(target, &fitting);
                    scratch.give_array(fitting);
                }
                Step::AddRange(index, exists) if !is_loaded => {
                    len = Some(self.range(index).load(target, exists.container, scratch));
                }
                Step::AddRange(index, exists) => {
                    let mut own = scratch.take_words();
                    self.range(index).load(&mut own, exists.container, scratch);
                    kernels::or_assign(scratch.level, target, &own);
                    scratch.give_words(own);
                }
                Step::Add(added) if !is_loaded => load(added.container, target),
                Step::Add(added) => add(scratch.level, target, added.container),
                Step::Remove(container) => remove(scratch.level, target, container),
            }
            is_loaded = true;
        }
        if !is_loaded {
            target.fill([0; 8]);
        }
        len.unwrap_or_else(|| kernels::count(scratch.level, target))
    }

    /// Writes which of the candidates are members: a bit each. `mask` is as long as they need and is overwritten.
    pub(crate) fn probe(&self, candidates: &[Le16], mask: &mut [u64], scratch: &mut Scratch) {
        mask.fill(0);
        for step in &self.steps {
            match *step {
                Step::Add(added) => kernels::probe(scratch.level, candidates, added.container, mask),
                Step::Remove(container) => {
                    let mut removed = scratch.take_mask();
                    let removed_bits = &mut removed[..mask.len()];
                    removed_bits.fill(0);
                    kernels::probe(scratch.level, candidates, container, removed_bits);
                    mask.iter_mut().zip(removed_bits).for_each(|(mask, removed)| *mask &= !*removed);
                    scratch.give_mask(removed);
                }
                Step::AddRange(index, exists) => {
                    self.range(index).probe(candidates, mask, exists.container, scratch);
                }
            }
        }
    }
}

impl<'a> LeafLayer<'a> {
    fn new(layer: &Layer<'a>) -> Self {
        let mut mask: Vec<Cursor<'a>> = match &layer.mask {
            Mask::All => Vec::new(),
            Mask::Bitmaps(views) => views.iter().map(|view| Cursor::new(*view)).collect(),
        };
        let value = match &layer.value {
            LayerValue::Empty => LeafValue::Empty,
            LayerValue::Bitmap(view) => LeafValue::Bitmap(Cursor::new(*view)),
            LayerValue::InRange(number, range) => match RangeLeaf::new(number, *range) {
                Fits::Nobody => {
                    mask.push(Cursor::new(number.exists));
                    LeafValue::Empty
                }
                Fits::Everybody => LeafValue::Bitmap(Cursor::new(number.exists)),
                Fits::Some(range) => LeafValue::Range(range),
            },
        };
        LeafLayer { mask, value }
    }
}

/// The users of a range, if they are few enough to be looked up.
fn few_of(exists: Container<'_>) -> Option<&[Le16]> {
    match exists {
        Container::Array(array) if array.len() <= RANGE_FEW => Some(array),
        _ => None,
    }
}

/// `target` = the container.
pub(crate) fn load(container: Container<'_>, target: &mut Words) {
    match container {
        Container::Words(words) => target.copy_from_slice(words),
        Container::Array(array) => {
            target.fill([0; 8]);
            kernels::add_array(target, array);
        }
        Container::Runs(runs) => {
            target.fill([0; 8]);
            kernels::add_runs(target, runs);
        }
    }
}

/// `target |= container`.
pub(crate) fn add(level: Level, target: &mut Words, container: Container<'_>) {
    match container {
        Container::Words(words) => kernels::or_assign(level, target, words),
        Container::Array(array) => kernels::add_array(target, array),
        Container::Runs(runs) => kernels::add_runs(target, runs),
    }
}

/// `target &= !container`.
pub(crate) fn remove(level: Level, target: &mut Words, container: Container<'_>) {
    match container {
        Container::Words(words) => {
            kernels::and_not_assign(level, target, words);
        }
        Container::Array(array) => kernels::remove_array(target, array),
        Container::Runs(runs) => kernels::remove_runs(target, runs),
    }
}
