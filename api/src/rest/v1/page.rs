//! Lists come in pages: how long one is.

use crate::error::{Failure, Kind};

/// Entries of a page, if the client does not say.
const PAGE_DEFAULT: usize = 100;
/// Entries of a page at most.
const PAGE_MAX: usize = 1_000;

/// How many entries a client wants, by its parameter `limit`.
///
/// # Errors
/// [`Kind::InvalidField`] if it wants none or too many.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Failure> {
    let limit = asked.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        return Err(Failure::new(Kind::InvalidField, format!("`limit` is from 1 to {PAGE_MAX}")).at("limit"));
    }
    Ok(limit)
}
