//! Lists come in pages.

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

impl PageParameters {
    /// The page of entries that come by name, and what to send as `after` for the next one.
    ///
    /// # Errors
    /// As [`limit`].
    pub(super) fn by_name<A>(
        &self,
        all: impl Iterator<Item = A>,
        name: impl Fn(&A) -> &String,
    ) -> Result<(Vec<A>, Option<String>), Failure> {
        let mut rest = all.filter(|entry| self.after.as_ref().is_none_or(|after| name(entry) > after));
        let page: Vec<A> = rest.by_ref().take(limit(self.limit)?).collect();
        let next = rest.next().and_then(|_| page.last().map(|last| name(last).clone()));
        Ok((page, next))
    }
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
