//! A fact as a catalog document declares it.
//!
//! ```yaml
//! purchase:
//!   columns: { category: string, campaign: string, amount: { decimal: [12, 2] } }
//!   activity: { dimensions: [category, campaign], measures: [amount] }
//!   retention: 400 days
//!   deduplicate: 30 days
//!   time_zone: Asia/Shanghai
//! ```

use super::catalog::each_key_once;
use crate::zones::zone;
use engine::audience::suggest::closest;
use engine::catalog::{Activity, Column, ColumnType, Fact};
use engine::ids::TagId;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// One fact: an event type with a user, a time and typed columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FactDeclaration {
    /// The columns besides `user_id` and `ts`, and their types: `string`, `integer`, `float`, `boolean`, `timestamp`,
    /// `json`, or `{"decimal": [digits, digits behind the point]}`.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, ColumnTypeName>)]
    pub columns: Columns,
    /// What is counted per user and day.
    #[serde(default)]
    pub activity: ActivityDeclaration,
    /// How long events are kept: `400 days`; for ever if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "400 days")]
    pub retention: Option<Days>,
    /// How long an `event_id` is remembered, so that an event sent again counts once: `30 days`; not at all if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "30 days")]
    pub deduplicate: Option<Days>,
    /// The time zone whose days and hours are meant: `Asia/Shanghai`; UTC if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// What is counted per user and day, besides the events as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivityDeclaration {
    /// Columns of which each value is counted on its own: strings, integers, booleans.
    #[serde(default)]
    pub dimensions: Vec<String>,
    /// Columns that are added up: integers, decimals.
    #[serde(default)]
    pub measures: Vec<String>,
}

/// Columns by name, in the order they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(pub Vec<(String, ColumnTypeName)>);

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, column_type)| (name, column_type)))
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        each_key_once(deserializer, "an object with a type for each column").map(Columns)
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnTypeName(pub ColumnType);

/// The types that have nothing but a name.
const TYPES: [(&str, ColumnType); 6] = [
    ("string", ColumnType::String),
    ("integer", ColumnType::Integer),
    ("float", ColumnType::Float),
    ("boolean", ColumnType::Boolean),
    ("timestamp", ColumnType::Timestamp),
    ("json", ColumnType::Json),
];
/// All names of types, for suggestions.
const TYPE_NAMES: [&str; 7] = ["string", "integer", "decimal", "float", "boolean", "timestamp", "json"];

impl Serialize for ColumnTypeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let ColumnType::Decimal { precision, scale } = self.0 {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry("decimal", &[precision, scale])?;
            return map.end();
        }
        let name = TYPES.iter().find(|(_, known)| *known == self.0).map_or("json", |(name, _)| name);
        serializer.serialize_str(name)
    }
}

impl<'de> Deserialize<'de> for ColumnTypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfType;
        impl<'de> Visitor<'de> for OfType {
            type Value = ColumnTypeName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column type such as `string` or { decimal: [12, 2] }")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<ColumnTypeName, E> {
                match TYPES.iter().find(|(known, _)| *known == name) {
                    Some((_, column_type)) => Ok(ColumnTypeName(*column_type)),
                    None if name == "decimal" => Err(E::custom("a decimal is written { decimal: [12, 2] }")),
                    None => Err(E::unknown_variant(name, &TYPE_NAMES)),
                }
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<ColumnTypeName, M::Error> {
                let Some(name) = map.next_key::<String>()? else {
                    return Err(M::Error::invalid_value(Unexpected::Map, &self));
                };
                if name != "decimal" {
                    return Err(M::Error::unknown_field(&name, &["decimal"]));
                }
                let [precision, scale] = map.next_value()?;
                match map.next_key::<String>()? {
                    None => Ok(ColumnTypeName(ColumnType::Decimal { precision, scale })),
                    Some(_) => Err(M::Error::invalid_value(Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_any(OfType)
    }
}

impl utoipa::PartialSchema for ColumnTypeName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
        let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(TYPES.map(|(name, _)| name)));
        let digits = ArrayBuilder::new()
            .items(ObjectBuilder::new().schema_type(Type::Integer))
            .min_items(Some(2))
            .max_items(Some(2))
            .description(Some("Digits in all, and digits behind the point"));
        let decimal = ObjectBuilder::new().property("decimal", digits).required("decimal");
        OneOfBuilder::new().item(name).item(decimal).into()
    }
}

impl utoipa::ToSchema for ColumnTypeName {}

/// A number of days, written `400 days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub u32);

impl std::fmt::Display for Days {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "day" } else { "days" })
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfDays;
        impl Visitor<'_> for OfDays {
            type Value = Days;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of days such as `400 days`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Days, E> {
                let words: Vec<&str> = text.split_whitespace().collect();
                let days = match words.as_slice() {
                    [count, "day" | "days"] => count.parse().ok().filter(|days| *days > 0),
                    _ => None,
                };
                days.map(Days).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(OfDays)
    }
}

impl FactDeclaration {
    /// The declaration of a fact.
    pub fn of(fact: &Fact) -> FactDeclaration {
        let columns = fact.columns.iter().map(|column| (column.name.clone(), ColumnTypeName(column.column_type)));
        FactDeclaration {
            columns: Columns(columns.collect()),
            activity: ActivityDeclaration {
                dimensions: names(fact, &fact.activity.dimensions),
                measures: names(fact, &fact.activity.measures),
            },
            retention: fact.retention_days.map(Days),
            deduplicate: fact.deduplicate_days.map(Days),
            time_zone: (fact.zone.name != "UTC").then(|| fact.zone.name.clone()),
        }
    }

    /// The fact that is declared, still without a number; the error is for people.
    pub(super) fn fact(&self) -> Result<Fact, String> {
        if self.columns.0.iter().any(|(name, _)| name == "retract") {
            return Err("column `retract`: this name is taken; choose another".to_owned());
        }
        let column =
            |(name, column_type): &(String, ColumnTypeName)| Column { name: name.clone(), column_type: column_type.0 };
        let activity = &self.activity;
        Ok(Fact {
            id: TagId(0),
            columns: self.columns.0.iter().map(column).collect(),
            activity: Activity {
                dimensions: self.places(&activity.dimensions)?,
                measures: self.places(&activity.measures)?,
            },
            retention_days: self.retention.map(|days| days.0),
            deduplicate_days: self.deduplicate.map(|days| days.0),
            zone: zone(self.time_zone.as_deref().unwrap_or("UTC"))?,
        })
    }

    /// The places of columns that activity names.
    fn places(&self, of: &[String]) -> Result<Vec<u16>, String> {
        let place = |wanted: &String| {
            let found = self.columns.0.iter().position(|(name, _)| name == wanted);
            found.and_then(|place| u16::try_from(place).ok()).ok_or_else(|| {
                let known = self.columns.0.iter().map(|(name, _)| name.as_str());
                let advice = match closest(wanted, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "declare it in `columns`".to_owned(),
                };
                format!("activity names a column `{wanted}` that is not declared; {advice}")
            })
        };
        of.iter().map(place).collect()
    }
}

fn names(fact: &Fact, places: &[u16]) -> Vec<String> {
    places.iter().map(|place| fact.columns[usize::from(*place)].name.clone()).collect()
}

/// A fact for people: `3 columns, activity by category, campaign; sums of amount`.
pub fn summary(fact: &Fact) -> String {
    let count = fact.columns.len();
    let mut text = format!("{count} column{}", if count == 1 { "" } else { "s" });
    let (dimensions, measures) = (names(fact, &fact.activity.dimensions), names(fact, &fact.activity.measures));
    if !dimensions.is_empty() {
        text += &format!(", activity by {}", dimensions.join(", "));
    }
    if !measures.is_empty() {
        text += &format!("{} sums of {}", if dimensions.is_empty() { "," } else { ";" }, measures.join(", "));
    }
    text
}

/// What becomes of a fact, for people: `column grams: integer; retention 400 days → 500 days`.
pub(super) fn difference(before: &Fact, after: &Fact) -> String {
    let new = after.columns.iter().filter(|column| before.column(&column.name).is_none());
    let mut parts: Vec<String> = new.map(|column| format!("column {}: {}", column.name, column.column_type)).collect();
    for (what, without, before, after) in [
        ("retention", "for ever", before.retention_days, after.retention_days),
        ("deduplicate", "off", before.deduplicate_days, after.deduplicate_days),
    ] {
        let text = |days: Option<u32>| days.map_or(without.to_owned(), |days| Days(days).to_string());
        if before != after {
            parts.push(format!("{what} {} → {}", text(before), text(after)));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "columns: { category: string, amount: { decimal: [12, 2] }, at: timestamp }\n\
        activity: { dimensions: [category], measures: [amount] }\nretention: 400 days\ntime_zone: Asia/Shanghai\n";

    fn read(yaml: &str) -> Result<FactDeclaration, String> {
        serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_back_what_it_writes() {
        let declared = read(YAML).expect("a declaration");
        let fact = declared.fact().expect("a fact");
        assert_eq!(fact.columns[1].column_type, ColumnType::Decimal { precision: 12, scale: 2 });
        assert_eq!((fact.retention_days, fact.deduplicate_days), (Some(400), None));
        assert_eq!(summary(&fact), "3 columns, activity by category; sums of amount");
        assert_eq!(FactDeclaration::of(&fact), declared);
        let json = serde_json::to_string(&declared).expect("JSON");
        assert_eq!(
            json,
            r#"{"columns":{"category":"string","amount":{"decimal":[12,2]},"at":"timestamp"},"activity":{"dimensions":["category"],"measures":["amount"]},"retention":"400 days","time_zone":"Asia/Shanghai"}"#
        );
        assert_eq!(serde_json::from_str::<FactDeclaration>(&json).expect("reads back"), declared);
        assert_eq!(read(&serde_yaml_ng::to_string(&declared).expect("YAML")), Ok(declared));
    }

    #[test]
    fn says_what_changes() {
        let before = read(YAML).and_then(|declared| declared.fact()).expect("a fact");
        let after = read(&YAML.replace("400", "30").replace("at: timestamp", "at: timestamp, grams: integer"));
        let after = after.and_then(|declared| declared.fact()).expect("a fact");
        assert_eq!(difference(&before, &after), "column grams: integer; retention 400 days → 30 days");
    }

    #[test]
    fn refusals_say_what_instead() {
        let refused = |yaml: &str| read(yaml).and_then(|declared| declared.fact()).expect_err("refused");
        for (yaml, words) in [
            ("columns: { a: strng }", "unknown variant `strng`, expected one of `string`, `integer`, `decimal`"),
            ("columns: { a: decimal }", "a decimal is written { decimal: [12, 2] }"),
            ("columns: { a: { decimal: 3 } }", "columns.a"),
            ("columns: { a: { decimal: [3] } }", "columns.a"),
            ("columns: { a: { numeric: [3, 1] } }", "unknown field `numeric`, expected `decimal`"),
            ("columns: { a: 3 }", "expected a column type such as `string` or { decimal: [12, 2] }"),
            ("columns: { a: string, a: string }", "`a` is declared twice"),
            ("columns: { retract: boolean }", "column `retract`: this name is taken; choose another"),
            ("retention: 400", "expected a number of days such as `400 days`"),
            ("retention: 0 days", "expected a number of days such as `400 days`"),
            ("deduplicate: 1 month", "expected a number of days such as `400 days`"),
            ("time_zone: Shanghai", "unknown time zone `Shanghai`; did you mean `Asia/Shanghai`?"),
            (
                "columns: { category: string }\nactivity: { dimensions: [catgory] }",
                "activity names a column `catgory` that is not declared; did you mean `category`?",
            ),
        ] {
            let told = refused(yaml);
            assert!(told.contains(words), "{yaml}: {told}");
        }
    }
}
