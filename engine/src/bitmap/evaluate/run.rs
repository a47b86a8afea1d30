//! Evaluates a plan within one chunk.
//!
//! Every node can be asked three things: its members ([`Run::members`]), how many they are ([`Run::count`]), and which of
//! a list of candidates are among them ([`Run::probe`], a bit a candidate). A conjunction begins where few are expected
//! for little work; once it is cheaper, the other operands, whatever they are, are only asked about the candidates left,
//! so that a subtree of many dense leaves costs a look-up a candidate instead of a pass.

use super::cursor::Counted;
use super::leaf::{self, Now};
use super::patch::Patched;
use super::plan::{Leaves, Plan, Step};
use super::scratch::{ArrayBuffer, Operand, Scratch, WordBuffer};
use super::set::Set;
use super::stats::Recorder;
use crate::bitmap::chunk_set::CHUNK_LEN;
use crate::bitmap::kernels;
use crate::bitmap::view::{ARRAY_LEN_MAX, Container, Le16, Words};

/// Cost of a pass over a bit set, in look-ups of one candidate.
pub(crate) const PASS_COST: u32 = 150;
/// Operands of an at-least that need no memory of their own.
const OPERANDS_INLINE: usize = 32;

/// What is known of a node in a chunk from heads alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outlook {
    /// At most this many members.
    pub(crate) upper: u32,
    /// Expected members.
    pub(crate) guess: u32,
    /// Expected cost of making the set, in look-ups of one candidate.
    pub(crate) cost: u32,
    /// Look-ups that asking about one candidate takes.
    pub(crate) probes: u32,
}

/// What an evaluation of one chunk works with.
pub(crate) struct Run<'r, 'a> {
    pub(crate) plan: &'r Plan,
    pub(crate) leaves: &'r Leaves<'a>,
    pub(crate) outlook: &'r [Outlook],
    /// Members of shared nodes, once computed in this chunk.
    pub(crate) shared: &'r mut [Option<Set<'a>>],
    pub(crate) scratch: &'r mut Scratch,
    pub(crate) recorder: Option<&'r mut Recorder>,
}

impl<'r, 'a> Run<'r, 'a> {
    /// The members of a node.
    pub(crate) fn members(&mut self, node: usize) -> Set<'a> {
        if self.outlook[node].upper == 0 {
            return Set::Empty;
        }
        if let Some(counted) = self.in_place(node) {
            return Set::Container(counted);
        }
        let is_shared = self.plan.uses[node] > 1;
        if is_shared && let Some(set) = &self.shared[node] {
            return set.copy(self.scratch);
        }
        let started = self.enter(node);
        let set = self.members_fresh(node);
        self.leave(node, started, set.len());
        if is_shared {
            self.shared[node] = Some(set.copy(self.scratch));
        }
        set
    }

    fn members_fresh(&mut self, node: usize) -> Set<'a> {
        let plan = self.plan;
        match &plan.steps[node] {
            Step::Leaf(leaf) => match self.leaves.layered[*leaf].now() {
                Now::Empty => Set::Empty,
                Now::Container(counted) => Set::Container(counted),
                Now::Composed => self.composed(*leaf),
            },
            Step::Sum(_) => match self.sum(node) {
                Some((words, len)) => Set::of_words(words, len, self.scratch),
                None => Set::Empty,
            },
            Step::Everybody(_) => Set::Container(Counted::EVERYBODY),
            Step::Conjunction { all, none } => match self.narrow(all, none, false) {
                Some((set, _)) => set,
                None => Set::Empty,
            },
            Step::Or(operands) => match self.only(operands) {
                Some(only) => self.members(only),
                None => {
                    let (words, len) = self.union(operands);
                    Set::of_words(words, len, self.scratch)
                }
            },
            Step::Xor(a, b) => {
                let (words, len) = self.xor(*a, *b);
                Set::of_words(words, len, self.scratch)
            }
            Step::AtLeast(k, operands) => match self.at_least(*k, operands) {
                Some((words, len)) => Set::of_words(words, len, self.scratch),
                None => Set::Empty,
            },
        }
    }

    /// The number of members of a node.
    pub(crate) fn count(&mut self, node: usize) -> u32 {
        if self.outlook[node].upper == 0 {
            return 0;
        }
        if let Some(counted) = self.in_place(node) {
            return counted.len;
        }
        if let Some(set) = &self.shared[node] {
            return set.len();
        }
        let started = self.enter(node);
        let count = self.count_fresh(node);
        self.leave(node, started, count);
        count
    }

    fn count_fresh(&mut self, node: usize) -> u32 {
        let plan = self.plan;
        let counted = match &plan.steps[node] {
            Step::Conjunction { all, none } => return self.count_conjunction(all, none),
            Step::Or(operands) => match self.only(operands) {
                Some(only) => return self.count(only),
                None => Some(self.union(operands)),
            },
            Step::Xor(a, b) => Some(self.xor(*a, *b)),
            Step::AtLeast(k, operands) => self.at_least(*k, operands),
            Step::Sum(_) => self.sum(node),
            Step::Leaf(_) | Step::Everybody(_) => {
                let set = self.members_fresh(node);
                let len = set.len();
                set.free(self.scratch);
                return len;
            }
        };
        let Some((words, len)) = counted else { return 0 };
        self.scratch.give_words(words);
        len
    }

    /// A leaf's container as it lies in bytes.
    #[inline]
    fn in_place(&self, node: usize) -> Option<Counted<'a>> {
        match self.plan.steps[node] {
            // Recorded, every visit of a leaf goes the long way that counts it.
            Step::Leaf(leaf) if self.recorder.is_none() => match self.leaves.layered[leaf].now() {
                Now::Container(counted) => Some(counted),
                _ => None,
            },
            _ => None,
        }
    }

    /// Has a leaf's container fetched while other work is done.
    #[inline]
    fn prefetch(&self, node: usize) {
        if let Some(counted) = self.in_place(node) {
            kernels::prefetch(counted.container);
        }
    }

    /// A leaf that is one container and few changes, which do not have to be made.
    fn patched(&mut self, node: usize) -> Option<Patched<'a>> {
        self.leaf_used_once(node).and_then(|leaf| self.leaves.layered[leaf].patched(self.scratch))
    }

    /// The leaf a node is, if its members need neither be kept nor recorded.
    fn leaf_used_once(&self, node: usize) -> Option<usize> {
        match self.plan.steps[node] {
            Step::Leaf(leaf) if self.recorder.is_none() && self.plan.uses[node] <= 1 => Some(leaf),
            _ => None,
        }
    }

    fn composed(&mut self, leaf: usize) -> Set<'a> {
        if let Some(few) = self.leaves.layered[leaf].few(self.scratch) {
            return Set::of_array(few, self.scratch);
        }
        if let Some(patched) = self.leaves.layered[leaf].patched(self.scratch) {
            return patched.into_set(self.scratch);
        }
        let mut words = self.scratch.take_words();
        let len = self.leaves.layered[leaf].load(&mut words, self.scratch);
        Set::of_words(words, len, self.scratch)
    }

    fn count_conjunction(&mut self, all: &[usize], none: &[usize]) -> u32 {
        let Some((set, last)) = self.narrow(all, none, true) else { return 0 };
        let count = match last {
            Some(Operand { node, keep: true, .. }) => self.count_within(&set, node),
            Some(Operand { node, keep: false, .. }) => set.len() - self.count_within(&set, node),
            None => set.len(),
        };
        set.free(self.scratch);
        count
    }

    /// Members of all operands, or of all but the last if `leave_last`, which is told.
    fn narrow(&mut self, all: &[usize], none: &[usize], leave_last: bool) -> Option<(Set<'a>, Option<Operand>)> {
        if all.iter().any(|node| self.outlook[*node].upper == 0) {
            return None;
        }
        let mut order = self.order(all, none)?;
        let last = if leave_last && order.len() > 1 { order.pop() } else { None };
        self.prefetch(order[0].node);
        if let Some(second) = order.get(1) {
            self.prefetch(second.node);
        }
        let mut set = self.members(order[0].node);
        for (index, operand) in order.iter().enumerate().skip(1) {
            if matches!(set, Set::Empty) {
                break;
            }
            if let Some(next) = order.get(index + 1).or(last.as_ref()) {
                self.prefetch(next.node);
            }
            set = self.restrict(set, operand.node, operand.keep);
        }
        self.scratch.give_order(order);
        if matches!(set, Set::Empty) { None } else { Some((set, last)) }
    }

    /// The operands in the order to evaluate them: first the one that leaves few for little work, then by the cost of
    /// ruling somebody out (after J. Hellerstein, "Predicate migration").
    fn order(&mut self, all: &[usize], none: &[usize]) -> Option<Vec<Operand>> {
        let effort = |node: &usize| u64::from(self.outlook[*node].cost) + 2 * u64::from(self.outlook[*node].guess);
        let first = *all.iter().min_by_key(|node| effort(node))?;
        let mut order = self.scratch.take_order();
        order.push(Operand { rank: -1.0, node: first, keep: true });
        let candidates = self.outlook[first].guess;
        for (node, keep) in all.iter().map(|node| (*node, true)).chain(none.iter().map(|node| (*node, false))) {
            let outlook = self.outlook[node];
            if keep && node == first || !keep && outlook.upper == 0 {
                continue;
            }
            let share = outlook.guess as f32 / CHUNK_LEN as f32;
            let ruled_out = if keep { 1.0 - share } else { share };
            let cost = outlook.cost.min(candidates.saturating_mul(outlook.probes)) + 1;
            order.push(Operand { rank: cost as f32 / ruled_out.max(0.001), node, keep });
        }
        order[1..].sort_unstable_by(|a, b| a.rank.total_cmp(&b.rank));
        Some(order)
    }

    /// `set & node` or `set & !node`.
    fn restrict(&mut self, set: Set<'a>, node: usize, keep: bool) -> Set<'a> {
        if let Some(counted) = self.in_place(node) {
            return if keep {
                set.and(counted, self.scratch)
            } else {
                set.and_not_any(counted.container, self.scratch)
            };
        }
        let few = if self.probing_pays(set.len(), node) { set.into_array(self.scratch) } else { Err(set) };
        match few {
            Ok(array) => self.retain(array, node, keep),
            Err(set) => {
                if let Some(patched) = self.patched(node) {
                    return patched.restrict(set, keep, self.scratch);
                }
                let other = self.members(node);
                let result = if keep {
                    set.and_any(other.as_container(), self.scratch)
                } else {
                    set.and_not_any(other.as_container(), self.scratch)
                };
                other.free(self.scratch);
                result
            }
        }
    }

    fn count_within(&mut self, set: &Set<'a>, node: usize) -> u32 {
        if let Some(counted) = self.in_place(node) {
            return kernels::common_count(self.scratch.level, set.as_container(), counted.container);
        }
        if let Container::Array(array) = set.as_container()
            && self.probing_pays(array.len() as u32, node)
        {
            let mut mask = self.scratch.take_mask();
            let words = array.len().div_ceil(64);
            self.probe(node, array, &mut mask[..words]);
            let count = mask[..words].iter().map(|word| word.count_ones()).sum();
            self.scratch.give_mask(mask);
            return count;
        }
        if let Some(patched) = self.patched(node) {
            let count = patched.common_count(self.scratch.level, set.as_container());
            patched.free(self.scratch);
            return count;
        }
        let other = self.members(node);
        let count = kernels::common_count(self.scratch.level, set.as_container(), other.as_container());
        other.free(self.scratch);
        count
    }

    /// Whether asking a node about this many candidates is cheaper than making its set.
    fn probing_pays(&self, candidates: u32, node: usize) -> bool {
        let outlook = self.outlook[node];
        let cost = if self.shared[node].is_some() { 0 } else { outlook.cost };
        candidates as usize <= ARRAY_LEN_MAX && candidates.saturating_mul(outlook.probes) <= cost + candidates
    }

    /// Keeps the candidates that are (or are not) members of the node.
    fn retain(&mut self, array: Box<ArrayBuffer>, node: usize, keep: bool) -> Set<'a> {
        let mut mask = self.scratch.take_mask();
        let words = array.len.div_ceil(64);
        self.probe(node, &array, &mut mask[..words]);
        let mut kept = self.scratch.take_array();
        kept.len = kernels::select_mask(self.scratch.level, &array, &mask[..words], keep, &mut kept.room);
        self.scratch.give_mask(mask);
        self.scratch.give_array(array);
        Set::of_array(kept, self.scratch)
    }

    /// Writes which candidates are members of the node; bits past the last candidate stay clear.
    fn probe(&mut self, node: usize, candidates: &[Le16], mask: &mut [u64]) {
        if self.outlook[node].upper == 0 {
            return mask.fill(0);
        }
        let started = self.enter(node);
        match &self.shared[node] {
            Some(set) => {
                mask.fill(0);
                kernels::probe(self.scratch.level, candidates, set.as_container(), mask);
            }
            None => self.probe_fresh(node, candidates, mask),
        }
        let found = if self.recorder.is_some() { mask.iter().map(|word| word.count_ones()).sum() } else { 0 };
        self.leave(node, started, found);
    }

    fn probe_fresh(&mut self, node: usize, candidates: &[Le16], mask: &mut [u64]) {
        let plan = self.plan;
        match &plan.steps[node] {
            Step::Leaf(leaf) => self.leaves.layered[*leaf].probe(candidates, mask, self.scratch),
            Step::Sum(sum) => self.leaves.sums[*sum].probe(candidates, mask, self.scratch),
            Step::Everybody(_) => fill_ones(mask, candidates.len()),
            Step::Conjunction { all, none } => {
                fill_ones(mask, candidates.len());
                let operands = all.iter().map(|node| (*node, true)).chain(none.iter().map(|node| (*node, false)));
                self.probe_each(operands, candidates, mask, |mask, bits, keep| {
                    *mask &= if keep { bits } else { !bits };
                });
            }
            Step::Or(operands) => {
                mask.fill(0);
                let operands = operands.iter().map(|node| (*node, true));
                self.probe_each(operands, candidates, mask, |mask, bits, _| *mask |= bits);
            }
            Step::Xor(a, b) => {
                mask.fill(0);
                let operands = [(*a, true), (*b, true)];
                self.probe_each(operands.into_iter(), candidates, mask, |mask, bits, _| *mask ^= bits);
            }
            Step::AtLeast(k, operands) => self.probe_at_least(*k, operands, candidates, mask),
        }
    }

    fn probe_each(
        &mut self,
        operands: impl Iterator<Item = (usize, bool)>,
        candidates: &[Le16],
        mask: &mut [u64],
        combine: impl Fn(&mut u64, u64, bool),
    ) {
        let mut bits = self.scratch.take_mask();
        for (node, keep) in operands {
            let bits = &mut bits[..mask.len()];
            self.probe(node, candidates, bits);
            for (mask, bits) in mask.iter_mut().zip(bits) {
                combine(mask, *bits, keep);
            }
        }
        self.scratch.give_mask(bits);
    }

    /// Counts in bit-sliced counters, as the kernel does for words.
    fn probe_at_least(&mut self, k: u32, operands: &[usize], candidates: &[Le16], mask: &mut [u64]) {
        let mut planes: [_; u32::BITS as usize] = [const { None }; u32::BITS as usize];
        let planes = &mut planes[..(u32::BITS - k.leading_zeros()) as usize];
        for plane in planes.iter_mut() {
            let mut zeros = self.scratch.take_mask();
            zeros[..mask.len()].fill(0);
            *plane = Some(zeros);
        }
        let mut enough = self.scratch.take_mask();
        enough[..mask.len()].fill(0);
        let mut carry = self.scratch.take_mask();
        for node in operands {
            self.probe(*node, candidates, &mut carry[..mask.len()]);
            for plane in planes.iter_mut().flatten() {
                for (plane, carry) in plane[..mask.len()].iter_mut().zip(carry.iter_mut()) {
                    (*plane, *carry) = (*plane ^ *carry, *plane & *carry);
                }
            }
            enough[..mask.len()].iter_mut().zip(carry.iter()).for_each(|(enough, carry)| *enough |= carry);
        }
        fill_ones(mask, candidates.len());
        for (index, plane) in planes.iter_mut().enumerate() {
            let Some(plane) = plane.take() else { continue };
            for (mask, plane) in mask.iter_mut().zip(plane.iter()) {
                *mask = if k >> index & 1 == 1 { *mask & plane } else { *mask | plane };
            }
            self.scratch.give_mask(plane);
        }
        mask.iter_mut().zip(enough.iter()).for_each(|(mask, enough)| *mask |= enough);
        self.scratch.give_mask(carry);
        self.scratch.give_mask(enough);
    }

    /// The only operand that can have members, if there is no more than one.
    fn only(&self, operands: &[usize]) -> Option<usize> {
        let mut present = operands.iter().filter(|node| self.outlook[**node].upper != 0);
        let only = *present.next()?;
        present.next().is_none().then_some(only)
    }

    /// Two or more operands that can have members.
    fn union(&mut self, operands: &[usize]) -> (Box<WordBuffer>, u32) {
        let level = self.scratch.level;
        let mut target: Option<Box<WordBuffer>> = None;
        for (index, node) in operands.iter().enumerate().filter(|(_, node)| self.outlook[**node].upper != 0) {
            if let Some(next) = operands.get(index + 1) {
                self.prefetch(*next);
            }
            if let Some(words) = &mut target
                && let Some(leaf) = self.leaf_used_once(*node)
                && self.leaves.layered[leaf].add_to(words, self.scratch)
            {
                continue;
            }
            let set = self.members(*node);
            let Some(words) = &mut target else {
                target = Some(set.into_words(self.scratch).0);
                continue;
            };
            leaf::add(level, words, set.as_container());
            set.free(self.scratch);
        }
        let words = target.unwrap_or_else(|| unreachable!("some operand can have members"));
        let len = kernels::count(level, &words);
        (words, len)
    }

    fn xor(&mut self, a: usize, b: usize) -> (Box<WordBuffer>, u32) {
        let (mut words, _) = self.members(a).into_words(self.scratch);
        let b = self.members(b);
        match b.as_container() {
            Container::Words(other) => kernels::xor_assign(self.scratch.level, &mut words, other),
            Container::Array(array) => kernels::flip_array(&mut words, array),
            Container::Runs(runs) => kernels::flip_runs(&mut words, runs),
        }
        b.free(self.scratch);
        let len = kernels::count(self.scratch.level, &words);
        (words, len)
    }

    /// `None` if too few operands can have members.
    fn at_least(&mut self, k: u32, operands: &[usize]) -> Option<(Box<WordBuffer>, u32)> {
        let present = operands.iter().filter(|node| self.outlook[**node].upper != 0);
        let count = present.clone().count();
        if count < k as usize {
            return None;
        }
        let mut inline = [const { Set::Empty }; OPERANDS_INLINE];
        let mut spilled = vec![];
        let sets = if count <= OPERANDS_INLINE {
            &mut inline[..count]
        } else {
            spilled.resize_with(count, || Set::Empty);
            &mut spilled
        };
        let mut later = present.clone().skip(1);
        for (set, node) in sets.iter_mut().zip(present) {
            if let Some(next) = later.next() {
                self.prefetch(*next);
            }
            *set = self.members(*node);
        }
        let is_sparse = |set: &&Set<'_>| !matches!(set.as_container(), Container::Words(_));
        let mut words = self.scratch.take_words();
        if count <= kernels::TALLY_MAX && sets.iter().filter(is_sparse).count() * 2 > count {
            let mut tally = self.scratch.take_tally();
            for set in sets {
                kernels::tally(self.scratch.level, &mut tally, set.as_container());
                std::mem::replace(set, Set::Empty).free(self.scratch);
            }
            let len = kernels::take_reached(self.scratch.level, &mut tally, k as u8, &mut words);
            self.scratch.give_tally(tally);
            return Some((words, len));
        }
        for set in &mut *sets {
            if is_sparse(&&*set) {
                let (words, len) = std::mem::replace(set, Set::Empty).into_words(self.scratch);
                *set = Set::Words(words, len);
            }
        }
        let len = count_operands(self.scratch.level, &mut words, k, sets);
        for set in sets {
            std::mem::replace(set, Set::Empty).free(self.scratch);
        }
        Some((words, len))
    }

    fn sum(&mut self, node: usize) -> Option<(Box<WordBuffer>, u32)> {
        let Step::Sum(sum) = self.plan.steps[node] else { return None };
        let mut words = self.scratch.take_words();
        let len = self.leaves.sums[sum].load(&mut words, self.scratch);
        Some((words, len))
    }

    fn enter(&mut self, node: usize) -> u64 {
        match &mut self.recorder {
            None => 0,
            Some(recorder) => {
                let size_bytes = match self.plan.steps[node] {
                    Step::Leaf(leaf) => self.leaves.layered[leaf].size_bytes(),
                    Step::Sum(sum) => self.leaves.sums[sum].size_bytes(),
                    _ => 0,
                };
                recorder.enter(node, size_bytes)
            }
        }
    }

    fn leave(&mut self, node: usize, started: u64, members: u32) {
        if let Some(recorder) = &mut self.recorder {
            recorder.leave(node, started, members);
        }
    }
}

/// Positions in at least `k` of the sets, all of which are words.
fn count_operands(level: kernels::Level, target: &mut Words, k: u32, sets: &[Set<'_>]) -> u32 {
    const NOBODY: &Words = &[[0; 8]; 1024];
    fn words<'s>(set: &'s Set<'_>) -> &'s Words {
        match set.as_container() {
            Container::Words(words) => words,
            _ => unreachable!("made words before"),
        }
    }
    if sets.len() <= OPERANDS_INLINE {
        let mut operands = [NOBODY; OPERANDS_INLINE];
        operands.iter_mut().zip(sets).for_each(|(operand, set)| *operand = words(set));
        return kernels::at_least(level, target, k, &operands[..sets.len()]);
    }
    let operands: Vec<&Words> = sets.iter().map(words).collect();
    kernels::at_least(level, target, k, &operands)
}

fn fill_ones(mask: &mut [u64], len: usize) {
    mask.fill(!0);
    if !len.is_multiple_of(64) {
        mask[len / 64] = !0 >> (64 - len % 64);
    }
}
