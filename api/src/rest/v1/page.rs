//! Lists come in pages: how long one is.

use crate::error::{Failure, Kind};
use serde::Deserialize;

/// Entries of a page, if the client does not say.
const PAGE_DEFAULT: usize = 100;
/// Entries of a page at most.
const PAGE_MAX: usize = 1_000;

/// Which page of a list that is in the order of its names or ids.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::rest) struct PageParameters {
    /// Entries of a page, at most 1,000; 100 if left out.
    pub(super) limit: Option<usize>,
    /// `next` of the page before.
    pub(super) after: Option<String>,
}

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
