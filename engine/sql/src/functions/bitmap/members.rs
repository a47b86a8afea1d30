//! Single members of a bitmap: whether, which, and one more or less.

use super::answer::{Answer, Gives, count};
use super::call::Call;
use super::scalar::Function;
use super::types::Takes;
use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;

pub(super) fn functions() -> Vec<Function> {
    let (one, two) = (&[Takes::Bitmap], &[Takes::Bitmap, Takes::Bitmap]);
    let member = &[Takes::Bitmap, Takes::Member];
    vec![
        Function::new(
            &["bitmap_contains", "bitmapcontains", "rb_contains"],
            &[Takes::Bitmap, Takes::MemberOrBitmap],
            Gives::Flag,
            contains,
        ),
        Function::new(&["bitmap_has_any", "bitmaphasany", "rb_intersect"], two, Gives::Flag, |call, row| {
            Ok(Answer::Flag(!call.set(0, row)?.is_disjoint(&*call.set(1, row)?)))
        }),
        Function::new(&["bitmap_has_all", "bitmaphasall", "rb_contains_bitmap"], two, Gives::Flag, has_all),
        Function::new(&["bitmap_equals", "rb_equals"], two, Gives::Flag, |call, row| {
            Ok(Answer::Flag(call.set(0, row)? == call.set(1, row)?))
        }),
        Function::new(&["bitmap_is_empty", "rb_is_empty"], one, Gives::Flag, |call, row| {
            Ok(Answer::Flag(call.seen(0, row)?.len() == 0))
        }),
        Function::new(&["bitmap_min", "bitmapmin", "rb_minimum", "rb_min"], one, Gives::Member, |call, row| {
            Ok(call.seen(0, row)?.first().map_or(Answer::Null, Answer::Member))
        }),
        Function::new(&["bitmap_max", "bitmapmax", "rb_maximum", "rb_max"], one, Gives::Member, |call, row| {
            Ok(call.seen(0, row)?.last().map_or(Answer::Null, Answer::Member))
        }),
        Function::new(&["bitmap_add", "rb_add"], member, Gives::Bitmap, |call, row| {
            let mut set = call.set(0, row)?.into_owned();
            set.insert(call.known_member(1, row)?);
            Ok(Answer::Bitmap(set))
        }),
        Function::new(&["bitmap_remove", "rb_remove"], member, Gives::Bitmap, |call, row| {
            let mut set = call.set(0, row)?.into_owned();
            if let Some(member) = call.member(1, row)? {
                set.remove(member);
            }
            Ok(Answer::Bitmap(set))
        }),
        Function::new(&["bitmap_rank", "rb_rank"], member, Gives::Count, |call, row| {
            count(call.set(0, row)?.rank(call.known_member(1, row)?))
        }),
        Function::new(&["bitmap_index", "rb_index"], member, Gives::Count, index),
        Function::new(&["bitmap_select"], &[Takes::Bitmap, Takes::Integer], Gives::Member, |call, row| {
            let set = call.set(0, row)?;
            let at = u64::try_from(call.integer(1, row)).ok();
            let found = at.filter(|at| *at < set.len()).and_then(|at| set.select(at));
            Ok(found.map_or(Answer::Null, Answer::Member))
        }),
        Function::new(
            &["bitmap_transform", "bitmaptransform"],
            &[Takes::Bitmap, Takes::Members, Takes::Members],
            Gives::Bitmap,
            transform,
        ),
    ]
}

/// A member, or all of another bitmap.
fn contains(call: &Call<'_>, row: usize) -> Result<Answer> {
    if call.kind(1) == &DataType::Binary {
        return has_all(call, row);
    }
    // Who is nobody is in no bitmap.
    let member = call.member(1, row)?;
    Ok(Answer::Flag(match member {
        Some(member) => call.seen(0, row)?.contains(member),
        None => false,
    }))
}

fn has_all(call: &Call<'_>, row: usize) -> Result<Answer> {
    Ok(Answer::Flag(call.set(1, row)?.is_subset(&*call.set(0, row)?)))
}

/// How many are before a member, or -1 if it is not there.
fn index(call: &Call<'_>, row: usize) -> Result<Answer> {
    let set = call.set(0, row)?;
    match call.member(1, row)? {
        Some(member) if set.contains(member) => count(set.rank(member) - 1),
        _ => Ok(Answer::Count(-1)),
    }
}

/// Each member of the first list becomes the one at its place in the second; one after another, so that what came of one may be
/// replaced by the next.
fn transform(call: &Call<'_>, row: usize) -> Result<Answer> {
    if call.items(1, row).null_count() + call.items(2, row).null_count() > 0 {
        return exec_err!("a member to be replaced or to replace one is NULL; leave it out, and the one at its place");
    }
    let (from, to) = (call.members(1, row)?, call.members(2, row)?);
    if from.len() != to.len() {
        return exec_err!(
            "there are {} members to be replaced and {} to replace them; give as many",
            from.len(),
            to.len()
        );
    }
    let mut set = call.set(0, row)?.into_owned();
    for (from, to) in from.into_iter().zip(to) {
        if set.remove(from) {
            set.insert(to);
        }
    }
    Ok(Answer::Bitmap(set))
}
