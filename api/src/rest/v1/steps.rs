//! Events that somebody means, one by one: a step of a funnel, a visit that counts as coming back.

use crate::error::Failure;
use crate::queries::begin_of;
use engine::audience::expr::Did;
use engine::audience::scan::EventsMeant;
use engine::audience::{bind_events, parse_event};
use engine::catalog::Catalog;
use serde::{Deserialize, Serialize};

/// Events of a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"fact": "purchase", "where": "category = 'shoes' AND amount >= 20"}))]
pub struct Step {
    /// The fact.
    pub fact: String,
    /// Which of its events: a condition on its columns and its time `ts`, as it stands in `did(…)`; all if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
    /// What it is called in the answer; what it means, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Step {
    /// What it means now; `within` is the time up to now that counts, as `30 days`, and `pointer` where the step stands in the body.
    ///
    /// # Errors
    /// As of an expression, with span or pointer.
    pub(super) fn bind(
        &self,
        catalog: &Catalog,
        within: Option<&String>,
        now: i64,
        pointer: &str,
    ) -> Result<EventsMeant, Failure> {
        let at_where = format!("{pointer}/where");
        let condition = self.r#where.as_ref().map(|text| parse_event(text)).transpose();
        let condition = condition.map_err(|error| Failure::from(error).at(&*at_where))?;
        let did =
            |events, within| Did { fact: self.fact.clone(), events, figures: Vec::new(), within, exact_window: false };
        let bind = |did: &Did| bind_events(did, catalog, now);
        // What is wrong is told where it stands.
        bind(&did(Vec::new(), None)).map_err(|error| Failure::from(error).at(format!("{pointer}/fact")))?;
        bind(&did(Vec::new(), within.cloned())).map_err(|error| Failure::from(error).at("/within"))?;
        bind(&did(condition.into_iter().collect(), within.cloned())).map_err(|error| Failure::from(error).at(at_where))
    }

    /// Its name, or what it means.
    pub(super) fn told(&self) -> String {
        match (&self.name, &self.r#where) {
            (Some(name), _) => name.clone(),
            (None, Some(condition)) => begin_of(&format!("{} where {condition}", self.fact)),
            (None, None) => self.fact.clone(),
        }
    }
}
