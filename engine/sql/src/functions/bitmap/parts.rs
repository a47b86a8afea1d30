//! Parts of a bitmap: by value and by position, taken, filled, cleared and turned.
//!
//! Values go from the first one, included, to the last one, left out. Positions begin at 0.

use super::answer::{Answer, Gives, count};
use super::call::Call;
use super::scalar::Function;
use super::types::Takes;
use datafusion::common::exec_err;
use datafusion::error::Result;
use roaring::RoaringTreemap;
use std::ops::Range;

/// The widest range that is filled or turned at once: a set of it takes a few MiB.
const RANGE_MAX: u64 = 1 << 32;

pub(super) fn functions() -> Vec<Function> {
    let range = &[Takes::Bitmap, Takes::Integer, Takes::Integer];
    vec![
        Function::new(
            &["bitmap_subset_in_range", "bitmapsubsetinrange", "bitmap_range", "rb_range"],
            range,
            Gives::Bitmap,
            |call, row| Ok(Answer::Bitmap(within(&*call.set(0, row)?, values(call, row)?))),
        ),
        Function::new(&["bitmap_range_count", "rb_range_cardinality"], range, Gives::Count, |call, row| {
            count(call.set(0, row)?.range_cardinality(values(call, row)?))
        }),
        Function::new(&["bitmap_fill", "rb_fill"], range, Gives::Bitmap, |call, row| {
            let mut set = call.set(0, row)?.into_owned();
            set.insert_range(bounded(values(call, row)?)?);
            Ok(Answer::Bitmap(set))
        }),
        Function::new(&["bitmap_clear", "rb_clear"], range, Gives::Bitmap, |call, row| {
            let mut set = call.set(0, row)?.into_owned();
            set.remove_range(values(call, row)?);
            Ok(Answer::Bitmap(set))
        }),
        Function::new(&["bitmap_flip", "rb_flip"], range, Gives::Bitmap, |call, row| {
            let mut turned = RoaringTreemap::new();
            turned.insert_range(bounded(values(call, row)?)?);
            Ok(Answer::Bitmap(&*call.set(0, row)? ^ turned))
        }),
        Function::new(&["bitmap_subset_limit", "bitmapsubsetlimit"], range, Gives::Bitmap, from_value),
        Function::new(&["sub_bitmap", "subbitmap", "bitmap_subset"], range, Gives::Bitmap, from_position),
        Function::new(
            &["rb_select"],
            &[Takes::Bitmap, Takes::Integer, Takes::Integer, Takes::Flag, Takes::Integer, Takes::Integer],
            Gives::Bitmap,
            select,
        )
        .optional(4),
    ]
}

/// From the second to the third argument; empty if they are the wrong way round.
fn values(call: &Call<'_>, row: usize) -> Result<Range<u64>> {
    let (start, end) = (call.number(1, row)?, call.number(2, row)?);
    Ok(start..end.max(start))
}

fn bounded(range: Range<u64>) -> Result<Range<u64>> {
    if range.end - range.start > RANGE_MAX {
        return exec_err!("{} to {} is wider than 2^32; fill it in parts", range.start, range.end);
    }
    Ok(range)
}

/// What lies in a range.
fn within(set: &RoaringTreemap, range: Range<u64>) -> RoaringTreemap {
    let mut part = set.clone();
    part.remove_range(..range.start);
    part.remove_range(range.end..);
    part
}

/// What lies from one position to another, as a range of values.
fn positions(set: &RoaringTreemap, first: u64, count: u64) -> RoaringTreemap {
    let len = set.len();
    let end = first.saturating_add(count).min(len);
    if first >= end {
        return RoaringTreemap::new();
    }
    let (Some(least), Some(greatest)) = (set.select(first), set.select(end - 1)) else { return RoaringTreemap::new() };
    let mut part = set.clone();
    part.remove_range(..least);
    if let Some(behind) = greatest.checked_add(1) {
        part.remove_range(behind..);
    }
    part
}

/// So many from a value on; if the number is negative, so many up to it.
fn from_value(call: &Call<'_>, row: usize) -> Result<Answer> {
    let set = call.set(0, row)?;
    let (start, limit) = (call.number(1, row)?, call.integer(2, row));
    let many = u64::try_from(limit.unsigned_abs()).unwrap_or(u64::MAX);
    Ok(Answer::Bitmap(if limit < 0 {
        let up_to = set.rank(start);
        positions(&set, up_to.saturating_sub(many), many.min(up_to))
    } else {
        let before = start.checked_sub(1).map_or(0, |before| set.rank(before));
        positions(&set, before, many)
    }))
}

/// So many from a position on, which is told from the end if it is negative.
fn from_position(call: &Call<'_>, row: usize) -> Result<Answer> {
    let set = call.set(0, row)?;
    let (offset, many) = (call.integer(1, row), call.integer(2, row));
    let Ok(many) = u64::try_from(many) else {
        return exec_err!("{many} members cannot be taken; write a count from 0 on");
    };
    let first = if offset < 0 { i128::from(set.len()) + offset } else { offset };
    // Before the first one there is nothing, as behind the last one.
    let Ok(first) = u64::try_from(first) else { return Ok(Answer::Bitmap(RoaringTreemap::new())) };
    Ok(Answer::Bitmap(positions(&set, first, many)))
}

/// `rb_select(b, limit, offset, reverse, start, end)`: a page of what lies in a range of values, also counted from its end.
fn select(call: &Call<'_>, row: usize) -> Result<Answer> {
    let limit = call.number(1, row)?;
    let offset = if call.has(2) { call.number(2, row)? } else { 0 };
    let is_reverse = call.has(3) && call.flag(3, row);
    let mut set = call.set(0, row)?.into_owned();
    if call.has(4) {
        set.remove_range(..call.number(4, row)?);
    }
    if call.has(5) {
        set.remove_range(call.number(5, row)?..);
    }
    if !is_reverse {
        return Ok(Answer::Bitmap(positions(&set, offset, limit)));
    }
    let left = set.len().saturating_sub(offset);
    Ok(Answer::Bitmap(positions(&set, left.saturating_sub(limit), limit.min(left))))
}
