//! A program prepared for evaluation: nested ands and and-nots become one conjunction, nested ors one union.

use super::leaf::{Leaf, Now};
use super::run::{Outlook, PASS_COST};
use super::sum::SumLeaf;
use crate::bitmap::chunk_set::CHUNK_LEN;
use crate::bitmap::program::{Node, NodeId, Program};
use crate::bitmap::view::Container;
use std::cmp::Ordering;

/// A prepared node; operands are indices of other prepared nodes, smaller than its own.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Index of a leaf.
    Leaf(usize),
    /// Index of a sum.
    Sum(usize),
    /// Members of all `all` and of none of `none`; nobody if `all` is empty.
    Conjunction { all: Vec<usize>, none: Vec<usize> },
    /// Members of any.
    Or(Vec<usize>),
    /// Members of exactly one.
    Xor(usize, usize),
    /// Members of at least `k`, which is more than one.
    AtLeast(u32, Vec<usize>),
    /// All positions of the chunks that any of the operands has: at least none of them.
    Everybody(Vec<usize>),
}

/// What a program reads.
#[derive(Debug, Default)]
pub(crate) struct Leaves<'a> {
    pub(crate) layered: Vec<Leaf<'a>>,
    pub(crate) sums: Vec<SumLeaf<'a>>,
}

impl Leaves<'_> {
    /// Turns to a chunk; reads heads only.
    pub(crate) fn turn_to(&mut self, chunk: u16) {
        self.layered.iter_mut().for_each(|leaf| leaf.turn_to(chunk));
        self.sums.iter_mut().for_each(|sum| sum.turn_to(chunk));
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    /// Indexed as the program's nodes.
    pub(crate) steps: Vec<Step>,
    /// How many nodes use this one.
    pub(crate) uses: Vec<u32>,
}

impl Plan {
    /// `flatten` merges nested nodes; without it, every node keeps statistics of its own.
    pub(crate) fn new<'a>(program: &Program<'a>, flatten: bool) -> (Self, Leaves<'a>) {
        let mut uses = vec![0; program.nodes().len()];
        for operand in program.nodes().iter().flat_map(Node::operands) {
            uses[index(operand)] += 1;
        }
        let mut plan = Plan { steps: vec![], uses };
        let mut leaves = Leaves::default();
        for node in program.nodes() {
            let step = match node {
                Node::Leaf(layers) => {
                    leaves.layered.push(Leaf::new(layers));
                    Step::Leaf(leaves.layered.len() - 1)
                }
                Node::Sum(sum) => {
                    leaves.sums.push(SumLeaf::new(sum));
                    Step::Sum(leaves.sums.len() - 1)
                }
                Node::And(operands) => plan.conjunction(operands, &[], flatten),
                Node::AndNot(keep, drop) => plan.conjunction(&[*keep], &[*drop], flatten),
                Node::Or(operands) => Step::Or(plan.any_of(operands, flatten)),
                Node::Xor(a, b) => Step::Xor(index(*a), index(*b)),
                Node::AtLeast(0, operands) => Step::Everybody(operands.iter().map(|id| index(*id)).collect()),
                Node::AtLeast(1, operands) => Step::Or(plan.any_of(operands, flatten)),
                Node::AtLeast(k, operands) => match operands.len().cmp(&(*k as usize)) {
                    Ordering::Less => Step::Or(vec![]),
                    Ordering::Equal => plan.conjunction(operands, &[], flatten),
                    Ordering::Greater => Step::AtLeast(*k, operands.iter().map(|id| index(*id)).collect()),
                },
            };
            plan.steps.push(step);
        }
        (plan, leaves)
    }

    pub(crate) fn root(&self) -> usize {
        self.steps.len() - 1
    }

    fn conjunction(&self, keep: &[NodeId], drop: &[NodeId], flatten: bool) -> Step {
        let (mut all, mut none) = (vec![], vec![]);
        for operand in keep.iter().map(|id| index(*id)) {
            match &self.steps[operand] {
                Step::Conjunction { all: more, none: less } if self.may_merge(operand, flatten) && !more.is_empty() => {
                    all.extend(more);
                    none.extend(less);
                }
                _ => all.push(operand),
            }
        }
        for operand in drop.iter().map(|id| index(*id)) {
            match &self.steps[operand] {
                Step::Or(operands) if self.may_merge(operand, flatten) => none.extend(operands),
                _ => none.push(operand),
            }
        }
        for list in [&mut all, &mut none] {
            list.sort_unstable();
            list.dedup();
        }
        Step::Conjunction { all, none }
    }

    fn any_of(&self, operands: &[NodeId], flatten: bool) -> Vec<usize> {
        let mut any = vec![];
        for operand in operands.iter().map(|id| index(*id)) {
            match &self.steps[operand] {
                Step::Or(more) if self.may_merge(operand, flatten) => any.extend(more),
                _ => any.push(operand),
            }
        }
        any.sort_unstable();
        any.dedup();
        any
    }

    fn may_merge(&self, operand: usize, flatten: bool) -> bool {
        flatten && self.uses[operand] < 2
    }

    /// Rising chunks outside of which the root has no members.
    pub(crate) fn chunks(&self, leaves: &Leaves<'_>) -> Vec<u16> {
        let mut of_node: Vec<Vec<u16>> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let in_some = |k: usize, operands: &[usize]| in_at_least(k, operands.iter().map(|node| &of_node[*node]));
            let chunks = match step {
                Step::Leaf(leaf) => leaves.layered[*leaf].chunks(),
                Step::Sum(sum) => leaves.sums[*sum].chunks(),
                Step::Conjunction { all, .. } => in_some(all.len(), all),
                Step::Or(operands) | Step::Everybody(operands) => in_some(1, operands),
                Step::Xor(a, b) => in_some(1, &[*a, *b]),
                Step::AtLeast(k, operands) => in_some(*k as usize, operands),
            };
            of_node.push(chunks);
        }
        of_node.pop().unwrap_or_default()
    }

    /// What is known of each node, once the leaves have turned to a chunk.
    pub(crate) fn look_out(&self, leaves: &Leaves<'_>, outlook: &mut [Outlook]) {
        for (node, step) in self.steps.iter().enumerate() {
            outlook[node] = match step {
                Step::Leaf(leaf) => of_leaf(&leaves.layered[*leaf]),
                Step::Sum(sum) => of_sum(&leaves.sums[*sum]),
                Step::Everybody(_) => Outlook { upper: CHUNK_LEN, guess: CHUNK_LEN, cost: 1, probes: 1 },
                Step::Conjunction { all, none } => of_conjunction(all, none, outlook),
                Step::Or(operands) => of_some(1, operands, outlook),
                Step::Xor(a, b) => of_some(1, &[*a, *b], outlook),
                Step::AtLeast(k, operands) => of_some(*k, operands, outlook),
            };
        }
    }
}

fn of_leaf(leaf: &Leaf<'_>) -> Outlook {
    let (cost, probes) = match leaf.now() {
        Now::Empty => (0, 0),
        Now::Container(counted) => match counted.container {
            Container::Array(array) => (array.len() as u32, 1),
            Container::Words(_) => (PASS_COST, 1),
            Container::Runs(runs) => (4 * runs.len() as u32, 1),
        },
        Now::Composed => {
            let passes = leaf.passes() as u32;
            let cost = match leaf.patch_len() {
                Some(changes) => PASS_COST + 4 * changes as u32,
                None => (passes + 1) * PASS_COST,
            };
            (cost, passes)
        }
    };
    Outlook { upper: leaf.upper(), guess: leaf.guess(), cost, probes }
}

fn of_sum(sum: &SumLeaf<'_>) -> Outlook {
    Outlook { upper: sum.upper(), guess: sum.upper(), cost: sum.cost(), probes: sum.probes() }
}

fn of_conjunction(all: &[usize], none: &[usize], outlook: &[Outlook]) -> Outlook {
    let mut result = Outlook { upper: CHUNK_LEN, guess: CHUNK_LEN, cost: 0, probes: 0 };
    let mut share = 1.0;
    for outlook in all.iter().map(|node| outlook[*node]) {
        result.upper = result.upper.min(outlook.upper);
        share *= f64::from(outlook.guess) / f64::from(CHUNK_LEN);
        result.cost = result.cost.saturating_add(outlook.cost);
        result.probes = result.probes.saturating_add(outlook.probes);
    }
    for outlook in none.iter().map(|node| outlook[*node]) {
        share *= 1.0 - f64::from(outlook.guess) / f64::from(CHUNK_LEN);
        result.cost = result.cost.saturating_add(outlook.cost);
        result.probes = result.probes.saturating_add(outlook.probes);
    }
    if all.is_empty() {
        return Outlook::default();
    }
    result.guess = (share * f64::from(CHUNK_LEN)) as u32;
    result
}

fn of_some(k: u32, operands: &[usize], outlook: &[Outlook]) -> Outlook {
    let mut sum = [0_u64; 4];
    for outlook in operands.iter().map(|node| outlook[*node]).filter(|outlook| outlook.upper != 0) {
        let passes = PASS_COST * if k > 1 { 2 } else { 0 };
        let parts = [outlook.upper, outlook.guess, outlook.cost.saturating_add(passes), outlook.probes];
        sum.iter_mut().zip(parts).for_each(|(sum, part)| *sum += u64::from(part));
    }
    let [upper, guess, cost, probes] = sum;
    let narrow = |number: u64| number.min(u64::from(u32::MAX / 2)) as u32;
    let upper = (upper / u64::from(k)).min(CHUNK_LEN.into()) as u32;
    // As if members were spread independently; for more than one, as if each operand had its average.
    let share = (guess as f64 / f64::from(CHUNK_LEN)).min(1.0).powi(k.min(8) as i32);
    let guess = ((share * f64::from(CHUNK_LEN)) as u32).min(upper);
    Outlook { upper, guess, cost: narrow(cost + 2 * u64::from(PASS_COST)), probes: narrow(probes) }
}

/// Chunks that are in at least `k` of the rising lists.
fn in_at_least<'l>(k: usize, lists: impl Iterator<Item = &'l Vec<u16>> + Clone) -> Vec<u16> {
    let mut only = lists.clone();
    if let (Some(list), None) = (only.next(), only.next()) {
        return if k <= 1 { list.clone() } else { vec![] };
    }
    let end = lists.clone().filter_map(|list| list.last()).max().map_or(0, |last| usize::from(*last) + 1);
    let mut times = vec![0_u32; end];
    for chunk in lists.flatten() {
        times[usize::from(*chunk)] += 1;
    }
    let reached = times.iter().enumerate().filter(|(_, times)| **times as usize >= k.max(1));
    reached.map(|(chunk, _)| chunk as u16).collect()
}

fn index(id: NodeId) -> usize {
    id.0 as usize
}
