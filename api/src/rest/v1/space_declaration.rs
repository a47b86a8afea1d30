//! A vector space as a catalog document declares it: `taste: { dimension: 64, metric: cosine }`.

use super::catalog::{Change, ChangeKind};
use crate::error::{Failure, Kind, escape_pointer};
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, Metric, Space};
use serde::de::{Deserializer, Error};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// One vector space: users may have a vector in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpaceDeclaration {
    /// How many numbers a vector has: 2 to 4096.
    pub dimension: u16,
    /// How alike two vectors are: `cosine`, `dot`, or `l2` (less the squared distance).
    #[serde(serialize_with = "metric_name", deserialize_with = "metric_of")]
    #[schema(value_type = String, example = "cosine")]
    pub metric: Metric,
}

fn metric_name<S: Serializer>(metric: &Metric, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(metric.name())
}

fn metric_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
    let name = String::deserialize(deserializer)?;
    Metric::of(&name).ok_or_else(|| {
        let names = Metric::ALL.map(Metric::name);
        let near = closest(&name, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Error::custom(format!("there is no metric `{name}`, only {}{near}", names.join(", ")))
    })
}

impl SpaceDeclaration {
    /// The declaration of a space.
    pub(super) fn of(space: &Space) -> SpaceDeclaration {
        SpaceDeclaration { dimension: space.dimension, metric: space.metric }
    }

    /// What it is, for people.
    pub(super) fn summary(self) -> String {
        format!("dimension {}, metric {}", self.dimension, self.metric.name())
    }

    /// Takes it into a catalog; what that changes.
    pub(super) fn declare(self, catalog: &mut Catalog, name: &str) -> Result<Option<Change>, Failure> {
        let is_new = catalog.space(name).is_none();
        catalog.declare_space(name, self.dimension, self.metric).map_err(|error| {
            let kind = if is_new { Kind::InvalidCatalog } else { Kind::UnsafeChange };
            Failure { kind, ..Failure::from(error) }.at(format!("/spaces/{}", escape_pointer(name)))
        })?;
        Ok(is_new.then(|| Change::of_space(ChangeKind::Add, name, self.summary())))
    }
}
