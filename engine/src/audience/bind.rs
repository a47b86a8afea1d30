//! Checks names and types against the catalog, expands audiences, settles NULLs: [`Expr`] → [`Predicate`].

use super::expr::Expr;
use super::parse::ExprError;
use super::predicate::Predicate;
use crate::catalog::Catalog;
use crate::store::Audience;
use std::collections::BTreeMap;

/// The users for whom `expr` is true, in canonical form.
pub fn bind(expr: &Expr, catalog: &Catalog, audiences: &BTreeMap<String, Audience>) -> Result<Predicate, ExprError> {
    let _ = (expr, catalog, audiences);
    todo!()
}
