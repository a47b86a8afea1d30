//! Runs a program a chunk at a time.
//!
//! An [`Evaluator`] holds a cursor into every view of its program and scratch buffers, so that evaluating a chunk
//! allocates nothing in the long run. Before a chunk is evaluated, the leaves' containers are found and what their heads
//! tell (cardinality, shape) is summed up for every node, without touching a container:
//!
//! * a node that cannot have members is never looked at;
//! * a conjunction is evaluated in the order that rules out most for least work, and the rest is only asked about
//!   candidates once they are few;
//! * what is only counted is not made: the last step of the root counts straight over two containers;
//! * a node that several others use is computed once a chunk.

pub mod count_each;
pub(crate) mod cursor;
pub(crate) mod leaf;
mod pair;
mod patch;
mod plan;
mod range;
pub mod regions;
mod run;
pub mod scatter;
pub(crate) mod scratch;
mod set;
pub mod split;
mod stats;
mod sum;

pub use pair::{common_len, difference_len, symmetric_difference_len, union_len};
pub use stats::NodeRecord;

use super::chunk_set::ChunkSet;
use super::program::Program;
use super::view::BitmapView;
use plan::{Leaves, Plan, Step};
use run::{Outlook, Run};
use scratch::Scratch;
use set::Set;
use stats::Recorder;

/// Evaluates one program, chunk by chunk, with scratch memory of its own; one per thread.
///
/// Chunks may be asked in any order; rising order is fastest.
#[derive(Debug)]
pub struct Evaluator<'p, 'a> {
    program: &'p Program<'a>,
    plan: Plan,
    leaves: Leaves<'a>,
    outlook: Vec<Outlook>,
    shared: Vec<Option<Set<'a>>>,
    scratch: Scratch,
    /// The set last handed out.
    result: Set<'a>,
    recorder: Option<Recorder>,
}

impl<'p, 'a> Evaluator<'p, 'a> {
    /// An evaluator of `program`.
    ///
    /// # Panics
    /// If the program has no node.
    pub fn new(program: &'p Program<'a>) -> Self {
        let count = program.nodes().len();
        assert!(count > 0, "a program has a root");
        let (plan, leaves) = Plan::new(program, true);
        Evaluator {
            program,
            plan,
            leaves,
            outlook: vec![Outlook::default(); count],
            shared: (0..count).map(|_| None).collect(),
            scratch: Scratch::default(),
            result: Set::Empty,
            recorder: None,
        }
    }

    /// Records from now on what each node does; `clock` is monotonic, in nanoseconds. Nodes that would be merged are then
    /// kept apart, so the run is somewhat slower than one that is not recorded.
    pub fn record(&mut self, clock: fn() -> u64) {
        (self.plan, self.leaves) = Plan::new(self.program, false);
        self.recorder = Some(Recorder::new(clock, self.plan.steps.len()));
    }

    /// What each node of the program did since [`Evaluator::record`]; empty without it.
    pub fn records(&self) -> &[NodeRecord] {
        self.recorder.as_ref().map_or(&[], Recorder::records)
    }

    /// Rising chunks outside of which the root has no members.
    pub fn chunks(&self) -> Vec<u16> {
        self.plan.chunks(&self.leaves)
    }

    /// Members of the root in all chunks.
    pub fn count_all(&mut self) -> u64 {
        if self.recorder.is_none()
            && let Some(count) = self.count_pair()
        {
            return count;
        }
        self.chunks().into_iter().map(|chunk| u64::from(self.count(chunk))).sum()
    }

    /// Members of the root in this chunk, counted without making the set where that can be avoided.
    pub fn count(&mut self, chunk: u16) -> u32 {
        self.turn_to(chunk);
        let root = self.plan.root();
        self.run().count(root)
    }

    /// Members of the root in this chunk.
    pub fn members(&mut self, chunk: u16) -> ChunkSet<'_> {
        self.turn_to(chunk);
        let root = self.plan.root();
        self.result = self.run().members(root);
        self.result.as_chunk_set()
    }

    /// Forgets the last chunk, and takes of this one what heads tell.
    fn turn_to(&mut self, chunk: u16) {
        let kept = self.shared.iter_mut().filter_map(Option::take);
        for set in kept.chain([std::mem::replace(&mut self.result, Set::Empty)]) {
            set.free(&mut self.scratch);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.begin_chunk();
        }
        self.leaves.turn_to(chunk);
        self.plan.look_out(&self.leaves, &mut self.outlook);
    }

    fn run(&mut self) -> Run<'_, 'a> {
        Run {
            plan: &self.plan,
            leaves: &self.leaves,
            outlook: &self.outlook,
            shared: &mut self.shared,
            scratch: &mut self.scratch,
            recorder: self.recorder.as_mut(),
        }
    }

    /// The count of one or two plain bitmaps, by one walk over their containers.
    fn count_pair(&self) -> Option<u64> {
        let both = |a: usize, b: usize| Some((self.plain(a)?, self.plain(b)?));
        match &self.plan.steps[self.plan.root()] {
            Step::Leaf(_) => Some(self.plain(self.plan.root())?.len()),
            Step::Conjunction { all, none } => match (&all[..], &none[..]) {
                (&[a, b], []) => both(a, b).map(|(a, b)| common_len(&a, &b)),
                (&[a], &[b]) => both(a, b).map(|(a, b)| difference_len(&a, &b)),
                _ => None,
            },
            Step::Or(operands) => match operands[..] {
                [a, b] => both(a, b).map(|(a, b)| union_len(&a, &b)),
                _ => None,
            },
            Step::Xor(a, b) => both(*a, *b).map(|(a, b)| symmetric_difference_len(&a, &b)),
            Step::Sum(_) | Step::AtLeast(..) | Step::Everybody(_) => None,
        }
    }

    fn plain(&self, node: usize) -> Option<BitmapView<'a>> {
        match self.plan.steps[node] {
            Step::Leaf(leaf) => self.leaves.layered[leaf].as_bitmap(),
            _ => None,
        }
    }
}
