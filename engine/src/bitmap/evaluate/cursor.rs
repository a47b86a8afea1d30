//! Finds a view's container of a chunk, fast when chunks are asked in rising order.

use crate::bitmap::chunk_set::{CHUNK_LEN, EVERYBODY};
use crate::bitmap::view::{BitmapView, Container};
use std::cell::Cell;

/// A container whose cardinality is known, from its head or because it was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<'a> {
    pub(crate) container: Container<'a>,
    pub(crate) len: u32,
}

impl Counted<'_> {
    pub(crate) const EVERYBODY: Counted<'static> = Counted { container: Container::Runs(EVERYBODY), len: CHUNK_LEN };

    /// Whether all positions are members.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == CHUNK_LEN
    }
}

/// A view and the place of the last look-up.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    view: BitmapView<'a>,
    at: Cell<usize>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(view: BitmapView<'a>) -> Self {
        Cursor { view, at: Cell::new(0) }
    }

    pub(crate) fn view(&self) -> BitmapView<'a> {
        self.view
    }

    /// Chunks with members, rising.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = u16> + use<'a> {
        let view = self.view;
        (0..view.container_count()).map(move |index| view.key(index))
    }

    /// The container of a chunk.
    #[inline]
    pub(crate) fn container(&self, chunk: u16) -> Option<Counted<'a>> {
        let index = self.seek(chunk)?;
        Some(Counted { container: self.view.container(index), len: self.view.cardinality(index) })
    }

    /// Cardinality in a chunk; does not touch the container.
    #[inline]
    pub(crate) fn len(&self, chunk: u16) -> u32 {
        self.seek(chunk).map_or(0, |index| self.view.cardinality(index))
    }

    /// Index of a chunk's container.
    #[inline]
    fn seek(&self, chunk: u16) -> Option<usize> {
        let count = self.view.container_count();
        let mut at = self.at.get();
        // Mostly the chunk asked last time, or the next.
        for _ in 0..2 {
            if at >= count {
                break;
            }
            let here = self.view.key(at);
            if here == chunk {
                self.at.set(at);
                return Some(at);
            }
            if here > chunk {
                break;
            }
            at += 1;
        }
        self.seek_far(chunk, at, count)
    }

    fn seek_far(&self, chunk: u16, at: usize, count: usize) -> Option<usize> {
        let after_previous = at == 0 || self.view.key(at - 1) < chunk;
        if after_previous && (at == count || self.view.key(at) > chunk) {
            self.at.set(at);
            return None;
        }
        match self.view.search(chunk) {
            Ok(index) => {
                self.at.set(index);
                Some(index)
            }
            Err(index) => {
                self.at.set(index);
                None
            }
        }
    }
}
