//! `similar_to(…)`: its space, its weights, and the predicates in it. True or false, never NULL.

use super::{Binder, Bound, type_error};
use crate::audience::error::{ExprError, ExprErrorKind};
use crate::audience::expr::{Expr, SimilarTo};
use crate::audience::predicate::Predicate;
use crate::audience::similar::{SIMILAR_DEPTH_MAX, Similar};
use crate::audience::suggest::closest;
use crate::catalog::TagType;
use crate::ids::TagId;

impl Binder<'_> {
    pub(super) fn similar(&mut self, similar: &SimilarTo) -> Bound {
        let space = self.catalog.space(&similar.space).ok_or_else(|| self.unknown_space(&similar.space))?.id;
        let weights = similar.weights.as_deref().map(|name| self.weights(name)).transpose()?;
        let bound = Similar {
            space,
            seed: self.bind(&similar.seed, true)?.canonical(),
            weights,
            method: similar.method,
            extent: similar.extent,
            within: self.or(similar.within.as_ref(), Predicate::All)?,
            exclude: self.or(similar.exclude.as_ref(), Predicate::Nobody)?,
            include_seed: similar.include_seed,
            exact: similar.exact,
        };
        if bound.depth() > SIMILAR_DEPTH_MAX {
            let message = format!("similar_to(…) stands more than {SIMILAR_DEPTH_MAX} deep within similar_to(…)");
            return Err(ExprError::new(ExprErrorKind::TooLarge, message)
                .suggest("keep the members of an inner one as a list, and use in_audience"));
        }
        Ok(Predicate::Similar(Box::new(bound)))
    }

    fn or(&mut self, expr: Option<&Expr>, default: Predicate) -> Bound {
        expr.map_or(Ok(default), |expr| Ok(self.bind(expr, true)?.canonical()))
    }

    fn weights(&self, name: &str) -> Result<TagId, ExprError> {
        let tag = self.tag(name)?;
        match tag.tag_type {
            TagType::Number(_) => Ok(tag.id),
            other => {
                Err(type_error(format!("`{name}` is a {other}: weights are numbers")).suggest("name a number tag"))
            }
        }
    }

    fn unknown_space(&self, name: &str) -> ExprError {
        let error = ExprError::new(ExprErrorKind::UnknownSpace, format!("unknown vector space '{name}'"));
        match closest(name, self.catalog.spaces().map(|(known, _)| known)) {
            Some(near) => error.suggest(format!("did you mean '{near}'?")),
            None => error.suggest("declare it in the catalog first"),
        }
    }
}
