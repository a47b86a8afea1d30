//! Bitmaps as something else.

use super::answer::{ANSWER_BYTES_MAX, Answer, Gives, check_listed, count};
use super::call::{Call, decoded};
use super::scalar::Function;
use super::types::Takes;
use arrow::array::StringBuilder;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::exec_err;
use datafusion::error::Result;
use engine::bitmap::wide::encode;

pub(super) fn functions() -> Vec<Function> {
    let bitmap = &[Takes::Bitmap];
    vec![
        Function::new(
            &["bitmap_to_array", "bitmaptoarray", "rb_to_array", "rb_iterate"],
            bitmap,
            Gives::Members,
            |call, row| {
                check_listed(call.seen(0, row)?.len())?;
                Ok(Answer::Members(call.set(0, row)?.iter().collect()))
            },
        ),
        Function::new(&["bitmap_to_users"], bitmap, Gives::Texts, to_users),
        Function::new(&["bitmap_to_string", "rb_to_array_string", "rb_to_text"], bitmap, Gives::Text, to_text),
        Function::new(&["bitmap_to_base64"], bitmap, Gives::Text, |call, row| {
            Ok(Answer::Text(BASE64_STANDARD.encode(encode(&*call.set(0, row)?))))
        }),
        Function::new(&["bitmap_to_binary"], bitmap, Gives::Bytes, |call, row| {
            Ok(Answer::Bytes(encode(&*call.set(0, row)?)))
        }),
        Function::new(
            &["bitmap_count", "bitmap_cardinality", "bitmapcardinality", "rb_cardinality"],
            bitmap,
            Gives::Count,
            |call, row| count(call.seen(0, row)?.len()),
        ),
        Function::new(&["bitmap_optimize", "rb_runoptimize"], bitmap, Gives::Bitmap, |call, row| {
            Ok(Answer::Bitmap(decoded(call.bytes(0, row), 1)?.to_set()))
        }),
    ]
}

/// The ids of users; those who were erased are left out.
fn to_users(call: &Call<'_>, row: usize) -> Result<Answer> {
    check_listed(call.seen(0, row)?.len())?;
    let mut ids = StringBuilder::new();
    let mut id = Vec::new();
    for (at, number) in call.set(0, row)?.iter().enumerate() {
        call.people.check_at(at)?;
        if call.people.id_of(number, &mut id)? {
            // Ids come in as text; bytes that are not would be damage the checksums have missed.
            ids.append_value(String::from_utf8_lossy(&id));
            check_bytes(ids.values_slice().len())?;
        }
    }
    Ok(Answer::Texts(ids.finish()))
}

fn to_text(call: &Call<'_>, row: usize) -> Result<Answer> {
    check_listed(call.seen(0, row)?.len())?;
    let mut text = String::new();
    for (at, number) in call.set(0, row)?.iter().enumerate() {
        call.people.check_at(at)?;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&number.to_string());
    }
    check_bytes(text.len())?;
    Ok(Answer::Text(text))
}

fn check_bytes(bytes: usize) -> Result<()> {
    if bytes > ANSWER_BYTES_MAX {
        return exec_err!(
            "the text of one bitmap takes more than {} MiB; take it in pages by sub_bitmap(b, offset, count)",
            ANSWER_BYTES_MAX >> 20
        );
    }
    Ok(())
}
