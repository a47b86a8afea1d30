//! Bitmaps out of bitmaps, and how many there would be in them.

use super::answer::{Answer, Gives, count};
use super::call::Call;
use super::scalar::Function;
use super::types::Takes;
use datafusion::error::Result;
use roaring::RoaringTreemap;
use std::borrow::Cow;

/// What a row's answer is.
pub(super) type Answers = fn(&Call<'_>, usize) -> Result<Answer>;

/// The names of an operation's set and of its count, which are answered with the same whether NULLs come as far or not.
struct Operation {
    sets: [&'static [&'static str]; 2],
    set: Answers,
    counts: [&'static [&'static str]; 2],
    count: Answers,
}

pub(super) fn functions() -> Vec<Function> {
    // The second names take NULL for an empty set.
    let operations = [
        Operation {
            sets: [&["bitmap_and", "bitmapand", "rb_and"], &["bitmap_and_null2empty", "rb_and_null2empty"]],
            set: |call, row| set(call, row, and),
            counts: [
                &["bitmap_and_count", "bitmap_and_cardinality", "bitmapandcardinality", "rb_and_cardinality"],
                &["bitmap_and_count_null2empty", "rb_and_null2empty_cardinality", "rb_and_cardinality_null2empty"],
            ],
            count: |call, row| len(call, row, and, RoaringTreemap::intersection_len),
        },
        Operation {
            sets: [&["bitmap_or", "bitmapor", "rb_or"], &["bitmap_or_null2empty", "rb_or_null2empty"]],
            set: |call, row| set(call, row, or),
            counts: [
                &["bitmap_or_count", "bitmap_or_cardinality", "bitmaporcardinality", "rb_or_cardinality"],
                &["bitmap_or_count_null2empty", "rb_or_null2empty_cardinality", "rb_or_cardinality_null2empty"],
            ],
            count: |call, row| len(call, row, or, RoaringTreemap::union_len),
        },
        Operation {
            sets: [&["bitmap_xor", "bitmapxor", "rb_xor"], &["bitmap_xor_null2empty", "rb_xor_null2empty"]],
            set: |call, row| set(call, row, xor),
            counts: [
                &["bitmap_xor_count", "bitmap_xor_cardinality", "bitmapxorcardinality", "rb_xor_cardinality"],
                &["bitmap_xor_count_null2empty", "rb_xor_null2empty_cardinality", "rb_xor_cardinality_null2empty"],
            ],
            count: |call, row| len(call, row, xor, RoaringTreemap::symmetric_difference_len),
        },
        Operation {
            sets: [
                &["bitmap_andnot", "bitmap_and_not", "bitmapandnot", "rb_andnot"],
                &["bitmap_andnot_null2empty", "rb_andnot_null2empty"],
            ],
            set: |call, row| set(call, row, andnot),
            counts: [
                &[
                    "bitmap_andnot_count",
                    "bitmap_and_not_count",
                    "bitmap_andnot_cardinality",
                    "bitmapandnotcardinality",
                    "rb_andnot_cardinality",
                ],
                &[
                    "bitmap_andnot_count_null2empty",
                    "rb_andnot_null2empty_cardinality",
                    "rb_andnot_cardinality_null2empty",
                ],
            ],
            count: |call, row| len(call, row, andnot, RoaringTreemap::difference_len),
        },
    ];
    let two = &[Takes::Bitmap, Takes::Bitmap];
    let mut functions = Vec::new();
    for Operation { sets: [sets, lenient_sets], set, counts: [counts, lenient_counts], count } in operations {
        functions.push(Function::new(sets, two, Gives::Bitmap, set).repeats());
        functions.push(Function::new(counts, two, Gives::Count, count).repeats());
        functions.push(Function::new(lenient_sets, two, Gives::Bitmap, set).repeats().with_nulls());
        functions.push(Function::new(lenient_counts, two, Gives::Count, count).repeats().with_nulls());
    }
    functions.push(Function::new(&["bitmap_not"], two, Gives::Bitmap, not).optional(1));
    functions.push(Function::new(&["bitmap_jaccard", "rb_jaccard_dist"], two, Gives::Share, jaccard));
    functions
}

fn and(into: &mut RoaringTreemap, other: &RoaringTreemap) {
    *into &= other;
}

fn or(into: &mut RoaringTreemap, other: &RoaringTreemap) {
    *into |= other;
}

fn xor(into: &mut RoaringTreemap, other: &RoaringTreemap) {
    *into ^= other;
}

fn andnot(into: &mut RoaringTreemap, other: &RoaringTreemap) {
    *into -= other;
}

/// An operand; empty for NULL, where NULLs come this far.
fn operand<'c>(call: &Call<'c>, at: usize, row: usize) -> Result<Cow<'c, RoaringTreemap>> {
    if call.is_null(at, row) { Ok(Cow::Owned(RoaringTreemap::new())) } else { call.set(at, row) }
}

/// The operands before the last one, joined.
fn joined<'c>(
    call: &Call<'c>,
    row: usize,
    operands: usize,
    join: fn(&mut RoaringTreemap, &RoaringTreemap),
) -> Result<Cow<'c, RoaringTreemap>> {
    let mut set = operand(call, 0, row)?;
    for at in 1..operands {
        call.people.check()?;
        join(set.to_mut(), &*operand(call, at, row)?);
    }
    Ok(set)
}

fn set(call: &Call<'_>, row: usize, join: fn(&mut RoaringTreemap, &RoaringTreemap)) -> Result<Answer> {
    Ok(Answer::Bitmap(joined(call, row, call.arguments.len(), join)?.into_owned()))
}

/// The last operand is only counted with.
fn len(
    call: &Call<'_>,
    row: usize,
    join: fn(&mut RoaringTreemap, &RoaringTreemap),
    len: fn(&RoaringTreemap, &RoaringTreemap) -> u64,
) -> Result<Answer> {
    let last = call.arguments.len() - 1;
    count(len(&*joined(call, row, last, join)?, &*operand(call, last, row)?))
}

/// Of two, who is in the first alone; of one, the other known users.
fn not(call: &Call<'_>, row: usize) -> Result<Answer> {
    if call.has(1) {
        return set(call, row, andnot);
    }
    Ok(Answer::Bitmap(call.people.everybody()? - &*call.set(0, row)?))
}

/// What both have of what any has; NULL if nobody has anything.
fn jaccard(call: &Call<'_>, row: usize) -> Result<Answer> {
    let (a, b) = (call.set(0, row)?, call.set(1, row)?);
    let (both, any) = (a.intersection_len(&b), a.union_len(&b));
    Ok(if any == 0 { Answer::Null } else { Answer::Share(both as f64 / any as f64) })
}
