//! Numbers by key in bit slices: made, compared, added up, told.
//!
//! The last argument of most is a crowd, which may be left out: a bitmap of the keys that are asked about.

use super::algebra::Answers;
use super::answer::{Answer, Gives, check_listed};
use super::call::Call;
use super::scalar::Function;
use super::types::Takes;
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use engine::bitmap::sliced::{Compared, Sliced, SlicedError};
use roaring::RoaringTreemap;
use std::borrow::Cow;
use std::ops::ControlFlow;

pub(super) fn functions() -> Vec<Function> {
    let compares: [(&'static str, Answers); 6] = [
        ("bsi_eq", |call, row| compared(call, row, Order::Equal)),
        ("bsi_neq", |call, row| compared(call, row, Order::NotEqual)),
        ("bsi_gt", |call, row| compared(call, row, Order::More)),
        ("bsi_ge", |call, row| compared(call, row, Order::MoreOrEqual)),
        ("bsi_lt", |call, row| compared(call, row, Order::Less)),
        ("bsi_le", |call, row| compared(call, row, Order::LessOrEqual)),
    ];
    let compared = &[Takes::Sliced, Takes::Integer, Takes::Bitmap];
    let crowd = &[Takes::Sliced, Takes::Bitmap];
    let two = &[Takes::Sliced, Takes::Sliced];
    let mut functions: Vec<Function> = compares
        .into_iter()
        .map(|(name, answer)| Function::new(&[name], compared, Gives::Bitmap, answer).optional(1))
        .collect();
    functions.extend([
        Function::new(&["bsi_build"], &[Takes::Members, Takes::Integers], Gives::Sliced, build),
        Function::new(
            &["bsi_add_value"],
            &[Takes::Sliced, Takes::Member, Takes::Integer],
            Gives::Sliced,
            |call, row| {
                let one = vec![(call.known_member(1, row)?, number(call.integer(2, row))?)];
                let one = Sliced::from_pairs(one).map_err(refused)?;
                Ok(Answer::Sliced(call.sliced(0, row)?.add(&one).map_err(refused)?))
            },
        ),
        Function::new(&["bsi_value"], &[Takes::Sliced, Takes::Member], Gives::Count, |call, row| {
            let sliced = call.sliced(0, row)?;
            let number = call.member(1, row)?.and_then(|key| sliced.get(key));
            Ok(number.map_or(Answer::Null, Answer::Count))
        }),
        Function::new(&["bsi_ebm"], &[Takes::Sliced], Gives::Bitmap, |call, row| {
            Ok(Answer::Bitmap(call.sliced(0, row)?.exists().clone()))
        }),
        Function::new(&["bsi_iterate"], &[Takes::Sliced], Gives::Pairs, |call, row| {
            let sliced = call.sliced(0, row)?;
            check_listed(sliced.exists().len().into())?;
            let pairs = sliced.iter().enumerate().map(|(at, pair)| call.people.check_at(at).map(|()| pair));
            Ok(Answer::Pairs(pairs.collect::<Result<_>>()?))
        }),
        Function::new(&["bsi_show"], &[Takes::Sliced, Takes::Integer], Gives::Text, show),
        Function::new(
            &["bsi_range"],
            &[Takes::Sliced, Takes::Integer, Takes::Integer, Takes::Bitmap],
            Gives::Bitmap,
            |call, row| range(call, row, 0, 1, 3),
        )
        .optional(1),
        Function::new(
            &["bsi_compare"],
            &[Takes::Text, Takes::Sliced, Takes::Integer, Takes::Integer, Takes::Bitmap],
            Gives::Bitmap,
            compare_by_name,
        )
        .optional(2),
        Function::new(&["bsi_filter"], crowd, Gives::Sliced, |call, row| {
            Ok(Answer::Sliced(call.sliced(0, row)?.filter(&*call.set(1, row)?)))
        }),
        Function::new(&["bsi_sum"], crowd, Gives::Counts, sum).optional(1),
        Function::new(&["bsi_stat"], &[Takes::Integers, Takes::Sliced, Takes::Bitmap], Gives::Counts, stat).optional(1),
        Function::new(&["bsi_topk"], &[Takes::Sliced, Takes::IntegerOrBitmap, Takes::Integer], Gives::Bitmap, top_k)
            .optional(1),
        Function::new(&["bsi_transpose"], crowd, Gives::Bitmap, |call, row| {
            Ok(Answer::Bitmap(numbers(call, row)?.into_iter().map(|(number, _)| number).collect()))
        })
        .optional(1),
        Function::new(&["bsi_transpose_with_count"], crowd, Gives::Sliced, |call, row| {
            Ok(Answer::Sliced(Sliced::from_pairs(numbers(call, row)?).map_err(refused)?))
        })
        .optional(1),
        Function::new(&["bsi_add"], two, Gives::Sliced, |call, row| joined(call, row, Sliced::add)).repeats(),
        Function::new(&["bsi_merge"], two, Gives::Sliced, |call, row| joined(call, row, Sliced::merge)).repeats(),
    ]);
    functions
}

#[derive(Clone, Copy)]
enum Order {
    Equal,
    NotEqual,
    More,
    MoreOrEqual,
    Less,
    LessOrEqual,
}

impl Order {
    fn of(self, Compared { less, equal, more }: Compared) -> RoaringTreemap {
        match self {
            Order::Equal => equal,
            Order::NotEqual => less | more,
            Order::More => more,
            Order::MoreOrEqual => more | equal,
            Order::Less => less,
            Order::LessOrEqual => less | equal,
        }
    }
}

/// What is wrong with numbers.
pub(super) fn refused(error: SlicedError) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

/// A number of 64 bits.
///
/// # Errors
/// If it needs more.
pub(super) fn number(number: i128) -> Result<i64> {
    i64::try_from(number).or_else(|_| exec_err!("{number} does not fit 64 bits with a sign"))
}

/// The crowd at this place, if it is given.
fn crowd<'c>(call: &Call<'c>, at: usize, row: usize) -> Result<Option<Cow<'c, RoaringTreemap>>> {
    call.has(at).then(|| call.set(at, row)).transpose()
}

fn build(call: &Call<'_>, row: usize) -> Result<Answer> {
    let (keys, values) = (call.items(0, row), call.integers(1, row));
    if keys.len() != values.len() {
        return exec_err!("there are {} keys and {} numbers; give as many", keys.len(), values.len());
    }
    if keys.null_count() > 0 {
        return exec_err!("a key is NULL; leave it out, and its number");
    }
    let mut pairs = Vec::with_capacity(values.len());
    for (key, value) in call.members(0, row)?.into_iter().zip(values) {
        if let Some(value) = value {
            pairs.push((key, number(value)?));
        }
    }
    Ok(Answer::Sliced(Sliced::from_pairs(pairs).map_err(refused)?))
}

/// Beyond what 64 bits hold, everybody has less or everybody has more.
fn compare_to(sliced: &Sliced, to: i128, among: Option<&RoaringTreemap>) -> Compared {
    let all = || sliced.range(i64::MIN, i64::MAX, among);
    match i64::try_from(to) {
        Ok(to) => sliced.compare(to, among),
        Err(_) if to > 0 => Compared { less: all(), ..Compared::default() },
        Err(_) => Compared { more: all(), ..Compared::default() },
    }
}

fn compared(call: &Call<'_>, row: usize, order: Order) -> Result<Answer> {
    let crowd = crowd(call, 2, row)?;
    Ok(Answer::Bitmap(order.of(compare_to(&*call.sliced(0, row)?, call.integer(1, row), crowd.as_deref()))))
}

/// Both ends included.
fn range(call: &Call<'_>, row: usize, sliced: usize, least: usize, crowd_at: usize) -> Result<Answer> {
    let crowd = crowd(call, crowd_at, row)?;
    let sliced = call.sliced(sliced, row)?;
    let low = compare_to(&sliced, call.integer(least, row), crowd.as_deref());
    let high = compare_to(&sliced, call.integer(least + 1, row), crowd.as_deref());
    Ok(Answer::Bitmap(Order::MoreOrEqual.of(low) & Order::LessOrEqual.of(high)))
}

fn compare_by_name(call: &Call<'_>, row: usize) -> Result<Answer> {
    let name = call.text(0, row).trim().to_uppercase();
    let order = match name.as_str() {
        "EQ" | "=" => Order::Equal,
        "NEQ" | "NE" | "<>" | "!=" => Order::NotEqual,
        "GT" | ">" => Order::More,
        "GE" | ">=" => Order::MoreOrEqual,
        "LT" | "<" => Order::Less,
        "LE" | "<=" => Order::LessOrEqual,
        "RANGE" if call.has(3) => return range(call, row, 1, 2, 4),
        "RANGE" => return exec_err!("'RANGE' needs two numbers: the least and the greatest"),
        _ => return exec_err!("there is no comparison '{name}'; write EQ, NEQ, GT, GE, LT, LE or RANGE"),
    };
    let crowd = crowd(call, 4, row)?;
    Ok(Answer::Bitmap(order.of(compare_to(&*call.sliced(1, row)?, call.integer(2, row), crowd.as_deref()))))
}

/// The first pairs, as `key=number`.
fn show(call: &Call<'_>, row: usize) -> Result<Answer> {
    let many = call.number(1, row)?;
    let sliced = call.sliced(0, row)?;
    check_listed(u128::from(many.min(sliced.exists().len())))?;
    let pairs = sliced.iter().take(usize::try_from(many).unwrap_or(usize::MAX));
    let mut text = String::new();
    for (at, (key, number)) in pairs.enumerate() {
        call.people.check_at(at)?;
        let comma = if at == 0 { "" } else { "," };
        text.push_str(&format!("{comma}{key}={number}"));
    }
    Ok(Answer::Text(text))
}

/// The sum, and of how many.
fn sum(call: &Call<'_>, row: usize) -> Result<Answer> {
    let crowd = crowd(call, 1, row)?;
    let (sum, count) = call.sliced(0, row)?.sum(crowd.as_deref());
    Ok(Answer::Counts(vec![number(sum)?, number(count.into())?]))
}

/// How many are below the first bound, from each to the next, and from the last on.
fn stat(call: &Call<'_>, row: usize) -> Result<Answer> {
    let bounds: Vec<i128> = call.integers(0, row).into_iter().flatten().collect();
    if !bounds.is_sorted_by(|a, b| a < b) {
        return exec_err!("the bounds do not rise; write them from the least to the greatest, each once");
    }
    let crowd = crowd(call, 2, row)?;
    let sliced = call.sliced(1, row)?;
    let mut before = 0;
    let mut counts = Vec::with_capacity(bounds.len() + 1);
    for bound in bounds {
        call.people.check()?;
        let below = compare_to(&sliced, bound, crowd.as_deref()).less.len();
        counts.push(number(i128::from(below) - before)?);
        before = below.into();
    }
    let (_, all) = sliced.sum(crowd.as_deref());
    counts.push(number(i128::from(all) - before)?);
    Ok(Answer::Counts(counts))
}

/// `bsi_topk(numbers, k)` or `bsi_topk(numbers, crowd, k)`.
fn top_k(call: &Call<'_>, row: usize) -> Result<Answer> {
    let has_crowd = call.kind(1) == &DataType::Binary;
    if has_crowd != call.has(2) {
        return exec_err!("write bsi_topk(numbers, k) or bsi_topk(numbers, crowd, k)");
    }
    let crowd = has_crowd.then(|| call.set(1, row)).transpose()?;
    let k = call.number(if has_crowd { 2 } else { 1 }, row)?;
    check_listed(u128::from(k.min(call.sliced(0, row)?.exists().len())))?;
    Ok(Answer::Bitmap(call.sliced(0, row)?.top_k(k, crowd.as_deref())))
}

/// The numbers that there are, and how many have each.
fn numbers(call: &Call<'_>, row: usize) -> Result<Vec<(u64, i64)>> {
    let sliced = call.sliced(0, row)?;
    let among = crowd(call, 1, row)?;
    let filtered = among.map(|among| sliced.filter(&among));
    let mut found = Vec::new();
    let mut failure = None;
    filtered.as_ref().unwrap_or(&sliced).for_each_number(|number, who| {
        let told = one_number(call, number, who.len(), found.len());
        match told {
            Ok(pair) => found.push(pair),
            Err(error) => failure = Some(error),
        }
        if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    failure.map_or(Ok(found), Err)
}

fn one_number(call: &Call<'_>, found: i64, who: u64, before: usize) -> Result<(u64, i64)> {
    call.people.check()?;
    check_listed(before as u128 + 1)?;
    let Ok(key) = u64::try_from(found) else {
        return exec_err!("{found} is negative and cannot be in a bitmap; leave it out by bsi_ge(…, 0) and bsi_filter");
    };
    Ok((key, number(who.into())?))
}

fn joined(
    call: &Call<'_>,
    row: usize,
    join: fn(&Sliced, &Sliced) -> std::result::Result<Sliced, SlicedError>,
) -> Result<Answer> {
    let mut joined = call.sliced(0, row)?.into_owned();
    for at in 1..call.arguments.len() {
        call.people.check()?;
        joined = join(&joined, &*call.sliced(at, row)?).map_err(refused)?;
    }
    Ok(Answer::Sliced(joined))
}
