//! A node's members within one chunk while they are worked on, and the algebra of two of them.

use super::cursor::Counted;
use super::leaf;
use super::scratch::{ArrayBuffer, Scratch, WordBuffer};
use crate::bitmap::chunk_set::ChunkSet;
use crate::bitmap::kernels;
use crate::bitmap::view::{ARRAY_LEN_MAX, Container, Le16};

/// Members of a chunk: as they lie in the file, or in a buffer.
pub(crate) enum Set<'a> {
    Empty,
    Container(Counted<'a>),
    Array(Box<ArrayBuffer>),
    /// The second field is the number of members.
    Words(Box<WordBuffer>, u32),
}

impl std::fmt::Debug for Set<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Set({} members)", self.len())
    }
}

/// Fewer members than this go on as an array: the rest is then evaluated by looking only at them.
pub(crate) const SPARSE_LEN_MAX: u32 = 512;

impl<'a> Set<'a> {
    pub(crate) fn len(&self) -> u32 {
        match self {
            Set::Empty => 0,
            Set::Container(counted) => counted.len,
            Set::Array(array) => array.len as u32,
            Set::Words(_, len) => *len,
        }
    }

    /// The members as a container, wherever they are.
    pub(crate) fn as_container(&self) -> Container<'_> {
        match self {
            Set::Empty => Container::Array(&[]),
            Set::Container(counted) => counted.container,
            Set::Array(array) => Container::Array(array),
            Set::Words(words, _) => Container::Words(words),
        }
    }

    /// The members.
    pub(crate) fn as_chunk_set(&self) -> ChunkSet<'_> {
        self.as_container().into()
    }

    /// Gives the buffer back.
    pub(crate) fn free(self, scratch: &mut Scratch) {
        match self {
            Set::Empty | Set::Container(_) => {}
            Set::Array(array) => scratch.give_array(array),
            Set::Words(words, _) => scratch.give_words(words),
        }
    }

    /// Words just computed, as whatever suits their number.
    pub(crate) fn of_words(words: Box<WordBuffer>, len: u32, scratch: &mut Scratch) -> Set<'a> {
        if len == 0 {
            scratch.give_words(words);
            return Set::Empty;
        }
        if len <= SPARSE_LEN_MAX {
            let mut array = scratch.take_array();
            array.len = kernels::extract(scratch.level, &words, &mut array.room);
            scratch.give_words(words);
            return Set::Array(array);
        }
        Set::Words(words, len)
    }

    pub(crate) fn of_array(array: Box<ArrayBuffer>, scratch: &mut Scratch) -> Set<'a> {
        if array.len == 0 {
            scratch.give_array(array);
            return Set::Empty;
        }
        Set::Array(array)
    }

    /// A copy in a buffer of its own.
    pub(crate) fn copy(&self, scratch: &mut Scratch) -> Set<'a> {
        match self {
            Set::Empty => Set::Empty,
            Set::Container(counted) => Set::Container(*counted),
            Set::Array(array) => {
                let mut copy = scratch.take_array();
                copy_array(array, &mut copy);
                Set::Array(copy)
            }
            Set::Words(words, len) => {
                let mut copy = scratch.take_words();
                copy.copy_from_slice(&words[..]);
                Set::Words(copy, *len)
            }
        }
    }

    /// The members as a buffered array; `Err` gives the set back if they are too many.
    pub(crate) fn into_array(self, scratch: &mut Scratch) -> Result<Box<ArrayBuffer>, Set<'a>> {
        match self {
            Set::Array(array) => Ok(array),
            Set::Empty => Ok(scratch.take_array()),
            Set::Container(counted) if counted.len as usize <= ARRAY_LEN_MAX => {
                let mut array = scratch.take_array();
                fill_array(counted.container, &mut array);
                Ok(array)
            }
            Set::Words(words, len) if len as usize <= ARRAY_LEN_MAX => {
                let mut array = scratch.take_array();
                array.len = kernels::extract(scratch.level, &words, &mut array.room);
                scratch.give_words(words);
                Ok(array)
            }
            other => Err(other),
        }
    }

    /// The members as buffered words.
    pub(crate) fn into_words(self, scratch: &mut Scratch) -> (Box<WordBuffer>, u32) {
        match self {
            Set::Words(words, len) => (words, len),
            other => {
                let mut words = scratch.take_words();
                let len = other.len();
                leaf::load(other.as_container(), &mut words);
                other.free(scratch);
                (words, len)
            }
        }
    }

    /// `self & other`.
    pub(crate) fn and(self, other: Counted<'a>, scratch: &mut Scratch) -> Set<'a> {
        match &self {
            _ if other.is_full() => self,
            Set::Container(counted) if counted.is_full() => Set::Container(other),
            _ => self.and_any(other.container, scratch),
        }
    }

    /// `self & other`, for another that does not outlive the call.
    pub(crate) fn and_any(self, other: Container<'_>, scratch: &mut Scratch) -> Set<'a> {
        let level = scratch.level;
        let result = match (self.as_container(), other) {
            (Container::Array(a), Container::Array(b)) => {
                let mut array = scratch.take_array();
                array.len = kernels::intersect(level, a, b, &mut array.room);
                Set::of_array(array, scratch)
            }
            (Container::Array(array), other) | (other, Container::Array(array)) => {
                retained(array, other, true, scratch)
            }
            (Container::Words(a), Container::Words(b)) => {
                if let Set::Words(mut words, _) = self {
                    let len = kernels::and_assign(level, &mut words, b);
                    return Set::of_words(words, len, scratch);
                }
                let mut words = scratch.take_words();
                let len = kernels::and(level, &mut words, a, b);
                Set::of_words(words, len, scratch)
            }
            (runs @ Container::Runs(_), other) | (other, runs @ Container::Runs(_)) => {
                let mut words = scratch.take_words();
                leaf::load(runs, &mut words);
                let len = and_assign(&mut words, other, scratch);
                Set::of_words(words, len, scratch)
            }
        };
        self.free(scratch);
        result
    }

    /// Without `gone`, which are members, and with `back`, which are not.
    pub(crate) fn exchange(self, gone: &[Le16], back: &[Le16], scratch: &mut Scratch) -> Set<'a> {
        if gone.is_empty() && back.is_empty() {
            return self;
        }
        if matches!(self, Set::Empty | Set::Array(_)) && self.len() as usize + back.len() <= ARRAY_LEN_MAX {
            let mut fewer = scratch.take_array();
            let Container::Array(members) = self.as_container() else { unreachable!("just looked at") };
            fewer.len = kernels::without(members, gone, &mut fewer.room);
            self.free(scratch);
            let mut array = scratch.take_array();
            array.len = kernels::with(&fewer, back, &mut array.room);
            scratch.give_array(fewer);
            return Set::of_array(array, scratch);
        }
        let (mut words, len) = self.into_words(scratch);
        kernels::remove_array(&mut words, gone);
        kernels::add_array(&mut words, back);
        Set::of_words(words, len - gone.len() as u32 + back.len() as u32, scratch)
    }

    /// `self & !other`.
    pub(crate) fn and_not_any(self, other: Container<'_>, scratch: &mut Scratch) -> Set<'a> {
        let level = scratch.level;
        let result = match (self.as_container(), other) {
            (Container::Array(array), other) => retained(array, other, false, scratch),
            (Container::Words(a), Container::Words(b)) if !matches!(self, Set::Words(..)) => {
                let mut words = scratch.take_words();
                let len = kernels::and_not(level, &mut words, a, b);
                Set::of_words(words, len, scratch)
            }
            (_, other) => {
                let (mut words, _) = self.into_words(scratch);
                leaf::remove(level, &mut words, other);
                let len = kernels::count(level, &words);
                return Set::of_words(words, len, scratch);
            }
        };
        self.free(scratch);
        result
    }
}

fn retained<'a>(array: &[Le16], other: Container<'_>, keep: bool, scratch: &mut Scratch) -> Set<'a> {
    let mut kept = scratch.take_array();
    kept.len = kernels::select(scratch.level, array, other, keep, &mut kept.room);
    Set::of_array(kept, scratch)
}

fn copy_array(array: &[Le16], target: &mut ArrayBuffer) {
    target.room[..array.len()].copy_from_slice(array);
    target.len = array.len();
}

fn fill_array(container: Container<'_>, target: &mut ArrayBuffer) {
    match container {
        Container::Array(array) => copy_array(array, target),
        _ => {
            target.len = 0;
            for (room, position) in target.room.iter_mut().zip(container.iter()) {
                *room = position.to_le_bytes();
                target.len += 1;
            }
        }
    }
}

/// `words &= other`; answers the members.
fn and_assign(words: &mut WordBuffer, other: Container<'_>, scratch: &mut Scratch) -> u32 {
    match other {
        Container::Words(other) => kernels::and_assign(scratch.level, words, other),
        other => {
            let mut loaded = scratch.take_words();
            leaf::load(other, &mut loaded);
            let len = kernels::and_assign(scratch.level, words, &loaded);
            scratch.give_words(loaded);
            len
        }
    }
}
