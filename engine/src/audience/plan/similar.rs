//! Likeness in the words of the audience language.

use super::describe;
use crate::audience::predicate::Predicate;
use crate::audience::similar::Similar;
use crate::catalog::Catalog;

/// The condition, as `similar_to('taste', seed => member, size => 1000)`.
pub(super) fn describe_similar(similar: &Similar, catalog: &Catalog) -> String {
    let name = |tag| catalog.name_of(tag).unwrap_or("dropped");
    let mut text = format!("similar_to('{}', seed => {}", name(similar.space), describe(&similar.seed, catalog));
    text.push_str(&format!(", {}", similar.extent));
    if similar.within != Predicate::All {
        text.push_str(&format!(", within => {}", describe(&similar.within, catalog)));
    }
    if similar.exclude != Predicate::Nobody {
        text.push_str(&format!(", exclude => {}", describe(&similar.exclude, catalog)));
    }
    if similar.include_seed {
        text.push_str(", include_seed => TRUE");
    }
    if let Some(method) = similar.method {
        text.push_str(&format!(", {method}"));
    }
    if let Some(weights) = similar.weights {
        text.push_str(&format!(", weights => {}", name(weights)));
    }
    if similar.exact {
        text.push_str(", exact => TRUE");
    }
    text.push(')');
    text
}
