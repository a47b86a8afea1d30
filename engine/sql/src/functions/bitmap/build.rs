//! Bitmaps out of something else.

use super::answer::{Answer, Gives};
use super::call::{Call, decoded};
use super::hash::{murmur3_32, murmur3_64};
use super::scalar::Function;
use super::types::Takes;
use arrow::datatypes::DataType;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::exec_err;
use datafusion::error::Result;
use roaring::RoaringTreemap;

pub(super) fn functions() -> Vec<Function> {
    let from_list = ["bitmap_from_array", "bitmap_build", "bitmapbuild", "array_to_bitmap", "arraytobitmap"];
    vec![
        Function::new(&["bitmap_empty", "rb_empty"], &[], Gives::Bitmap, |_, _| {
            Ok(Answer::Bitmap(RoaringTreemap::new()))
        }),
        Function::new(&["to_bitmap", "bitmap_of"], &[Takes::Member], Gives::Bitmap, |call, row| {
            Ok(Answer::Bitmap(RoaringTreemap::from_iter([call.known_member(0, row)?])))
        }),
        Function::new(&from_list, &[Takes::Members], Gives::Bitmap, of_list),
        Function::new(&["rb_build", "rb64_build"], &[Takes::MembersOrText], Gives::Bitmap, |call, row| {
            if call.kind(0) == &DataType::Utf8 { of_text(call, row) } else { of_list(call, row) }
        }),
        Function::new(&["bitmap_from_string", "rb_from_text"], &[Takes::Text], Gives::Bitmap, of_text),
        Function::new(&["bitmap_from_base64", "base64_to_bitmap"], &[Takes::Text], Gives::Bitmap, |call, row| {
            match BASE64_STANDARD.decode(call.text(0, row).trim()) {
                Ok(bytes) => Ok(Answer::Bitmap(decoded(&bytes, 1)?.to_set())),
                Err(error) => exec_err!("argument 1 is not base64: {error}"),
            }
        }),
        Function::new(&["bitmap_from_binary", "rb_from_bytea"], &[Takes::Bytes], Gives::Bitmap, |call, row| {
            Ok(Answer::Bitmap(decoded(call.bytes(0, row), 1)?.to_set()))
        }),
        Function::new(&["bitmap_hash"], &[Takes::Plain], Gives::Bitmap, |call, row| {
            let hash = murmur3_32(call.text(0, row).as_bytes());
            Ok(Answer::Bitmap(RoaringTreemap::from_iter([u64::from(hash)])))
        }),
        Function::new(&["bitmap_hash64"], &[Takes::Plain], Gives::Bitmap, |call, row| {
            Ok(Answer::Bitmap(RoaringTreemap::from_iter([murmur3_64(call.text(0, row).as_bytes())])))
        }),
        Function::new(&["bitmap_all_users"], &[], Gives::Bitmap, |call, _| {
            Ok(Answer::Bitmap(call.people.everybody()?.clone()))
        }),
    ]
}

fn of_list(call: &Call<'_>, row: usize) -> Result<Answer> {
    Ok(Answer::Bitmap(call.members(0, row)?.into_iter().collect()))
}

/// `1, 2,3`, also in braces.
fn of_text(call: &Call<'_>, row: usize) -> Result<Answer> {
    let text = call.text(0, row).trim();
    let within = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    if within.trim().is_empty() {
        return Ok(Answer::Bitmap(RoaringTreemap::new()));
    }
    let numbers = within.split(',').map(|number| match number.trim().parse::<u64>() {
        Ok(number) => Ok(number),
        Err(_) => exec_err!(
            "'{}' is no number from 0 to 2^64 - 1; write numbers with commas between them, such as '1,2,3'",
            number.trim().chars().take(40).collect::<String>()
        ),
    });
    Ok(Answer::Bitmap(numbers.collect::<Result<_>>()?))
}
