//! A set: of members one by one, or of bitmaps joined.

use super::super::answer::{Answer, Gives, count};
use super::super::call::{decoded, integer, natural};
use super::groups::Group;
use super::{Gathers, Plan};
use arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use engine::bitmap::wide::{encode, heap_bytes};
use roaring::RoaringTreemap;

/// Members are put into the set so many at a time, at least.
const PENDING_MIN: usize = 512;
/// Members wait until they take this part of the memory of the set, so that its size is seldom asked for.
const PENDING_SHARE: usize = 256;

/// Bitmaps that were joined are counted as they came until they take so many bytes, or this part of those of the set; then the set is
/// measured, which takes a look at each of its containers.
const JOINED_BYTES_MIN: usize = 4 << 10;
const JOINED_SHARE: usize = 8;

/// So many bytes are copied while one member is put in or taken out.
const BYTES_PER_MEMBER: u64 = 64;

/// What a group gathers.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// `None` until there is a row.
    set: Option<RoaringTreemap>,
    /// Members that are not in the set yet.
    pending: Vec<u64>,
    set_bytes: usize,
    /// Of bitmaps that were joined since the set was measured.
    joined_bytes: usize,
}

/// Whether a set that took `bytes` is to be measured again, after so many were joined to it.
pub(super) fn is_unknown(bytes: usize, joined_bytes: usize) -> bool {
    joined_bytes > JOINED_BYTES_MIN.max(bytes / JOINED_SHARE)
}

/// Both together; takes as long as the one with fewer parts is large.
fn unite(set: &mut RoaringTreemap, mut other: RoaringTreemap) {
    let parts = other.bitmaps().count();
    if set.bitmaps().take(parts).count() < parts {
        std::mem::swap(set, &mut other);
    }
    // Of two that are owned, all members would be counted.
    *set |= &other;
}

/// What is in one of both. `bytes` is about what the set takes: all of it would be written anew, so members of much smaller ones
/// are taken one by one.
fn differ(set: &mut RoaringTreemap, other: &RoaringTreemap, bytes: usize) {
    if other.len().saturating_mul(BYTES_PER_MEMBER) >= bytes as u64 {
        *set ^= other;
        return;
    }
    for member in other {
        if !set.remove(member) {
            set.insert(member);
        }
    }
}

/// What a function gives of a set.
pub(super) fn answer(set: &RoaringTreemap, gives: Gives) -> Result<ScalarValue> {
    Ok(match gives {
        Gives::Count => match count(set.len())? {
            Answer::Count(count) => ScalarValue::Int64(Some(count)),
            _ => ScalarValue::Int64(None),
        },
        _ => ScalarValue::Binary(Some(encode(set))),
    })
}

impl Set {
    fn settle(&mut self) {
        if !self.pending.is_empty() {
            self.pending.sort_unstable();
            self.set.get_or_insert_default().extend(self.pending.drain(..));
            self.pending.shrink_to(PENDING_MIN);
            self.measure();
        }
    }

    fn measure(&mut self) {
        self.set_bytes = self.set.as_ref().map_or(0, heap_bytes);
        self.joined_bytes = 0;
    }

    fn join(&mut self, other: RoaringTreemap, gathers: Gathers) {
        let Some(set) = &mut self.set else {
            self.set = Some(other);
            self.measure();
            return;
        };
        self.joined_bytes += heap_bytes(&other);
        match gathers {
            Gathers::Intersection => *set &= &other,
            Gathers::Odd => differ(set, &other, self.set_bytes),
            _ => unite(set, other),
        }
        // What is left of an intersection is no larger than what came.
        if gathers == Gathers::Intersection || is_unknown(self.set_bytes, self.joined_bytes) {
            self.measure();
        }
    }
}

impl Group for Set {
    fn update(&mut self, plan: &Plan, values: &[ArrayRef], row: usize) -> Result<()> {
        let of = &values[0];
        if of.is_null(row) {
            return Ok(());
        }
        if plan.function.gathers != Gathers::Members {
            self.join(decoded(of.as_binary::<i32>().value(row), 1)?.to_set(), plan.function.gathers);
            return Ok(());
        }
        self.pending.push(natural(integer(of, row))?);
        if self.pending.len() >= PENDING_MIN.max(self.set_bytes / PENDING_SHARE) {
            self.settle();
        }
        Ok(())
    }

    fn merge(&mut self, plan: &Plan, states: &[ArrayRef], row: usize) -> Result<()> {
        let states = states[0].as_binary::<i32>();
        if states.is_valid(row) {
            self.settle();
            self.join(decoded(states.value(row), 1)?.to_set(), plan.function.gathers);
        }
        Ok(())
    }

    fn state(&mut self, _: &Plan) -> Result<Vec<ScalarValue>> {
        self.settle();
        Ok(vec![ScalarValue::Binary(self.set.as_ref().map(encode))])
    }

    fn evaluate(&mut self, plan: &Plan) -> Result<ScalarValue> {
        self.settle();
        answer(self.set.as_ref().unwrap_or(&RoaringTreemap::new()), plan.function.gives)
    }

    fn heap_bytes(&self) -> usize {
        self.set_bytes + self.joined_bytes + self.pending.capacity() * size_of::<u64>()
    }
}
