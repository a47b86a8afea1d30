//! One set against many leaves: the members of each leaf, as sets.
//!
//! What [`super::count_each`] counts is handed out here, to go on with: to be split again by other leaves, or to have numbers added up.
//! Where the leaves exclude each other (the values of an enum), a chunk is done when everybody is found, and the leaves that have
//! most are asked first.

use super::cursor::Counted;
use super::leaf::{Leaf, Now};
use super::scratch::Scratch;
use super::set::Set;
use crate::bitmap::chunk_set::ChunkSet;
use crate::bitmap::kernels;
use crate::bitmap::program::Layer;
use crate::bitmap::view::{ARRAY_LEN_MAX, Container};
use std::cmp::Reverse;

/// Layered leaves, to split sets by.
#[derive(Debug)]
pub struct Split<'a> {
    leaves: Vec<Leaf<'a>>,
    /// Their indices, those first that are likely to have most members.
    order: Vec<usize>,
    /// Who is in any of them, if they exclude each other.
    any: Option<Leaf<'a>>,
    scratch: Scratch,
}

impl<'a> Split<'a> {
    /// Each target is a leaf's layers, newest first. With `any`, which is who is in any of them, no two of them share a member.
    pub fn new<'l>(targets: impl IntoIterator<Item = &'l [Layer<'a>]>, any: Option<&'l [Layer<'a>]>) -> Self
    where
        'a: 'l,
    {
        let leaves: Vec<_> = targets.into_iter().map(Leaf::new).collect();
        let mut order: Vec<usize> = (0..leaves.len()).collect();
        order.sort_by_cached_key(|index| Reverse(leaves[*index].len_at_most()));
        Split { leaves, order, any: any.map(Leaf::new), scratch: Scratch::default() }
    }

    /// Calls with each target that has any of the members, and which they are; of targets that exclude each other also with those
    /// who are in none (`None`), if there are any. Stops at the first error.
    pub fn for_each<E>(
        &mut self,
        chunk: u16,
        members: ChunkSet<'_>,
        mut call: impl FnMut(Option<usize>, ChunkSet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let members = Counted { container: members.as_container(), len: members.len() };
        if members.len == 0 {
            return Ok(());
        }
        let any = self.any.as_mut().map(|any| common(any, chunk, members, &mut self.scratch));
        let mut left = any.as_ref().map_or(u32::MAX, Set::len);
        for index in &self.order {
            if left == 0 {
                break;
            }
            let set = common(&mut self.leaves[*index], chunk, members, &mut self.scratch);
            let len = set.len();
            if len > 0 {
                call(Some(*index), set.as_chunk_set())?;
                if any.is_some() {
                    left = left.saturating_sub(len);
                }
            }
            set.free(&mut self.scratch);
        }
        let Some(any) = any else { return Ok(()) };
        if any.len() < members.len {
            let rest = Set::Container(members).and_not_any(any.as_container(), &mut self.scratch);
            call(None, rest.as_chunk_set())?;
            rest.free(&mut self.scratch);
        }
        any.free(&mut self.scratch);
        Ok(())
    }
}

/// Who is in both of two sets; scratch memory of its own.
#[derive(Debug, Default)]
pub struct Common {
    scratch: Scratch,
}

impl Common {
    /// Calls with them.
    pub fn with<R>(&mut self, a: ChunkSet<'_>, b: ChunkSet<'_>, call: impl FnOnce(ChunkSet<'_>) -> R) -> R {
        let set = Set::Container(Counted { container: a.as_container(), len: a.len() })
            .and(Counted { container: b.as_container(), len: b.len() }, &mut self.scratch);
        let result = call(set.as_chunk_set());
        set.free(&mut self.scratch);
        result
    }
}

/// The members of a leaf among these.
fn common<'s, 'a: 's>(leaf: &mut Leaf<'a>, chunk: u16, members: Counted<'s>, scratch: &mut Scratch) -> Set<'s> {
    leaf.turn_to(chunk);
    match (leaf.now(), members.container) {
        (Now::Empty, _) => Set::Empty,
        (Now::Container(target), _) => Set::Container(members).and(target, scratch),
        (Now::Composed, Container::Array(candidates)) if candidates.len() <= ARRAY_LEN_MAX => {
            let mut mask = scratch.take_mask();
            let bits = &mut mask[..candidates.len().div_ceil(64)];
            leaf.probe(candidates, bits, scratch);
            let mut kept = scratch.take_array();
            kept.len = kernels::select_mask(scratch.level, candidates, bits, true, &mut kept.room);
            scratch.give_mask(mask);
            Set::of_array(kept, scratch)
        }
        (Now::Composed, _) => {
            let mut own = scratch.take_words();
            let set = match leaf.load(&mut own, scratch) {
                0 => Set::Empty,
                _ => Set::Container(members).and_any(Container::Words(&own), scratch),
            };
            scratch.give_words(own);
            set
        }
    }
}
