//! A big container with few changes: what a leaf mostly is in a chunk while updates arrive.
//!
//! To change a copy of the container would cost two passes over it before anything is answered. Here the changes stay
//! apart: an operation is run with the container as it lies, and put right where it changed.

use super::cursor::Counted;
use super::scratch::{ArrayBuffer, Scratch};
use super::set::Set;
use crate::bitmap::kernels::{self, Level};
use crate::bitmap::view::{Container, Le16};

/// More changes than this are cheaper made in a copy.
pub(crate) const PATCH_LEN_MAX: usize = 1_024;

/// `base` without `removed`, which are members of it, and with `added`, which are not.
#[derive(Debug)]
pub(crate) struct Patched<'a> {
    base: Counted<'a>,
    removed: Box<ArrayBuffer>,
    added: Box<ArrayBuffer>,
}

impl<'a> Patched<'a> {
    /// Nothing changed yet.
    pub(crate) fn new(base: Counted<'a>, scratch: &mut Scratch) -> Self {
        Patched { base, removed: scratch.take_array(), added: scratch.take_array() }
    }

    /// Takes members away, whether or not they are in the base.
    pub(crate) fn remove(&mut self, array: &[Le16], scratch: &mut Scratch) {
        without(&mut self.added, array, scratch);
        with(&mut self.removed, array, scratch);
    }

    /// Makes members, whether or not they are in the base.
    pub(crate) fn add(&mut self, array: &[Le16], scratch: &mut Scratch) {
        without(&mut self.removed, array, scratch);
        with(&mut self.added, array, scratch);
    }

    /// Leaves out what changes nothing; the last step of making one.
    pub(crate) fn tighten(mut self, scratch: &mut Scratch) -> Self {
        select(&mut self.removed, self.base.container, true, scratch);
        select(&mut self.added, self.base.container, false, scratch);
        self
    }

    pub(crate) fn free(self, scratch: &mut Scratch) {
        scratch.give_array(self.removed);
        scratch.give_array(self.added);
    }

    /// Members that are in the other container too.
    pub(crate) fn common_count(&self, level: Level, other: Container<'_>) -> u32 {
        let common = |container| kernels::common_count(level, container, other);
        common(self.base.container) + common(Container::Array(&self.added)) - common(Container::Array(&self.removed))
    }

    /// `set & self`, or `set & !self`.
    pub(crate) fn restrict(mut self, set: Set<'a>, keep: bool, scratch: &mut Scratch) -> Set<'a> {
        for changed in [&mut self.removed, &mut self.added] {
            select(changed, set.as_container(), true, scratch);
        }
        let by_base = if keep { set.and(self.base, scratch) } else { set.and_not_any(self.base.container, scratch) };
        let (gone, back) = if keep { (&self.removed, &self.added) } else { (&self.added, &self.removed) };
        let result = by_base.exchange(gone, back, scratch);
        self.free(scratch);
        result
    }

    /// The members.
    pub(crate) fn into_set(self, scratch: &mut Scratch) -> Set<'a> {
        let result = Set::Container(self.base).exchange(&self.removed, &self.added, scratch);
        self.free(scratch);
        result
    }
}

fn with(array: &mut Box<ArrayBuffer>, few: &[Le16], scratch: &mut Scratch) {
    replace(array, scratch, |array, scratch_array| kernels::with(array, few, &mut scratch_array.room));
}

fn without(array: &mut Box<ArrayBuffer>, few: &[Le16], scratch: &mut Scratch) {
    if array.len > 0 {
        replace(array, scratch, |array, scratch_array| kernels::without(array, few, &mut scratch_array.room));
    }
}

fn select(array: &mut Box<ArrayBuffer>, of: Container<'_>, keep: bool, scratch: &mut Scratch) {
    let level = scratch.level;
    if array.len > 0 {
        replace(array, scratch, |array, scratch_array| {
            kernels::select(level, array, of, keep, &mut scratch_array.room)
        });
    }
}

/// Puts what `make` writes in the place of what it reads; it answers how many it wrote.
fn replace(array: &mut Box<ArrayBuffer>, scratch: &mut Scratch, make: impl FnOnce(&[Le16], &mut ArrayBuffer) -> usize) {
    let mut made = scratch.take_array();
    made.len = make(array, &mut made);
    scratch.give_array(std::mem::replace(array, made));
}
