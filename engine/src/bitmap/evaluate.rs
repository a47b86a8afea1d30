//! Runs a program a chunk at a time.

use super::bsi::NumberView;
use super::program::{Layer, Program};
use std::marker::PhantomData;

/// Evaluates one program, chunk by chunk, with scratch memory of its own; one per thread.
#[derive(Debug)]
pub struct Evaluator<'p, 'a> {
    program: &'p Program<'a>,
}

/// The members of a node within one chunk: positions `0..65_536`.
#[derive(Clone, Copy, Debug)]
pub enum ChunkSet<'s> {
    /// Nobody.
    Empty,
    /// Rising positions.
    Array(&'s [u16]),
    /// One bit a position.
    Words(&'s [u64; 1024]),
}

impl<'p, 'a> Evaluator<'p, 'a> {
    /// An evaluator of `program`, which has at least one node.
    pub fn new(program: &'p Program<'a>) -> Self {
        Evaluator { program }
    }
    /// Rising chunks outside of which the root has no members.
    pub fn chunks(&self) -> Vec<u16> {
        let _ = self.program;
        todo!()
    }
    /// Members of the root in this chunk, counted without making the set where that can be avoided.
    pub fn count(&mut self, chunk: u16) -> u32 {
        let _ = chunk;
        todo!()
    }
    /// Members of the root in this chunk.
    pub fn members(&mut self, chunk: u16) -> ChunkSet<'_> {
        let _ = chunk;
        todo!()
    }
}

/// Many layered leaves counted under one filter: for each target, `|filter ∩ target|` in a chunk is added to `counts`.
#[derive(Debug)]
pub struct CountEach<'a> {
    _targets: PhantomData<&'a ()>,
}

impl<'a> CountEach<'a> {
    /// Counts for these targets; each is a leaf's layers, newest first.
    pub fn new(targets: Vec<Vec<Layer<'a>>>) -> Self {
        let _ = targets;
        todo!()
    }
    /// Adds one chunk's counts to `counts`, which is as long as the targets.
    pub fn add(&mut self, chunk: u16, filter: ChunkSet<'_>, counts: &mut [u64]) {
        let _ = (chunk, filter, counts);
        todo!()
    }
}

/// One layer of a number tag.
#[derive(Clone, Debug)]
pub struct NumberLayer<'a> {
    /// The users this layer decides besides those with a number in it.
    pub mask: super::program::Mask<'a>,
    /// Their numbers.
    pub numbers: Option<NumberView<'a>>,
}
