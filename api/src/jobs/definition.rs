//! A backfill as people write it: the file of `beluga backfill`, and the body of `POST /v1/jobs`.

use super::from_fact::FromFactDefinition;
use crate::config::Config;
use crate::error::escape_pointer;
use crate::objects::{ObjectStoreDeclaration, objects};
use crate::sources::Place;
use crate::sources::declaration::TAGS;
use ingest::backfill::{BackfillJob, ColumnMapping, FactTarget, FileFormat, NullMeaning, SpaceTarget, Target};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Formatter;

/// Files, and what their rows become; or events, and the vectors that are made of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillDefinition {
    /// What the job is called, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Files and globs (`*`, `?`, `[…]`, `**`): of a server from the root, in one of its `source_folders`. The same of objects by
    /// URL: `s3://bucket/visits/*.parquet` (`gs://`, `az://`), or all below `s3://bucket/visits/`, in one of its `source_stores`.
    #[schema(example = json!(["/in/orders-*.parquet"]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Instead of files: the events of a fact, of which vectors of the space in `into` are made. They replace all vectors of the space:
    /// a user who has no vector any more is one without events that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_fact: Option<FromFactDefinition>,
    /// How files are written; left out: by each file's extension (`.gz` behind it for text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<BackfillFormat>,
    /// What rows become: events of the fact of this name, vectors of a space (`spaces/taste`), or `tags`, which is meant if it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// The column with the user id; `user_id` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Of events: the column with the time; `ts` if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<String>,
    /// Of events: the column with the event id; left out: `event_id`, if there is one and the fact knows ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Of tags: which column goes into which tag; left out: every column that is named like one. Of events: what is not named
    /// as in the fact, with null for what is not to be loaded. Of vectors: which column is `vector`, if none has that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnDefinition>,
    /// Of tags and vectors: what an empty cell says.
    #[serde(default)]
    pub nulls: NullsName,
    /// What stands between CSV cells; a comma if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// How an S3-compatible store is reached, where the environment of who reads does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreDeclaration>,
    /// The job fails when more rows than this are refused; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors_max: Option<u64>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackfillFormat {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, a file (Feather 2) or a stream.
    Arrow,
    /// Text with a header line.
    Csv,
    /// A JSON object a line, a key per column; of events, lines of `POST /v1/facts/{fact}`; of vectors, those of
    /// `POST /v1/spaces/{space}`.
    Ndjson,
    /// Lines of `POST /v1/tags`.
    Tags,
}

/// What an empty cell (a NULL, a missing key) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NullsName {
    /// Nothing: the tag, or the vector, stays as it was.
    #[default]
    Keep,
    /// The user has no such value any more.
    Unset,
}

/// What a column goes into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum ColumnDefinition {
    /// The tag, or the column of the fact.
    Name(String),
    /// A tag, and how.
    Mapping(ColumnMappingDefinition),
    /// Of events: it is not loaded.
    LeftOut,
}

/// A column into a set tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnMappingDefinition {
    /// The tag.
    pub tag: String,
    /// What stands between the values of a cell; left out: a cell is one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Add to what the user has instead of replacing it.
    #[serde(default)]
    pub add: bool,
}

/// What stands before the name of a vector space, to tell it from a fact.
const SPACES: &str = "spaces/";
/// What a column of vectors goes into.
const VECTOR: &str = "vector";

/// By hand, so that a wrong field of a mapping is told by its name.
impl<'de> Deserialize<'de> for ColumnDefinition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrMapping;

        impl<'de> Visitor<'de> for NameOrMapping {
            type Value = ColumnDefinition;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name, or { tag: interest, separator: \"|\", add: true }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ColumnDefinition, E> {
                Ok(ColumnDefinition::Name(name.to_owned()))
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<ColumnDefinition, E> {
                Ok(ColumnDefinition::LeftOut)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnDefinition, A::Error> {
                ColumnMappingDefinition::deserialize(MapAccessDeserializer::new(map)).map(ColumnDefinition::Mapping)
            }
        }

        deserializer.deserialize_any(NameOrMapping)
    }
}

impl BackfillDefinition {
    /// The fact that rows become events of, if they do.
    pub fn fact(&self) -> Option<&str> {
        self.into.as_deref().filter(|into| *into != TAGS && !into.starts_with(SPACES))
    }

    /// The vector space that rows become vectors of, if they do.
    pub fn space(&self) -> Option<&str> {
        self.into.as_deref()?.strip_prefix(SPACES)
    }

    /// The events that vectors are made of and their space, if files are not what is loaded.
    ///
    /// # Errors
    /// The first field that goes with files only, or that is missing.
    pub fn vectors_from_fact(&self) -> Result<Option<(&FromFactDefinition, &str)>, Place> {
        let Some(from) = &self.from_fact else { return Ok(None) };
        let of_files = [
            ("/files", !self.files.is_empty()),
            ("/format", self.format.is_some()),
            ("/user_id", self.user_id.is_some()),
            ("/ts", self.ts.is_some()),
            ("/event_id", self.event_id.is_some()),
            ("/columns", !self.columns.is_empty()),
            ("/nulls", self.nulls != NullsName::Keep),
            ("/delimiter", self.delimiter.is_some()),
            ("/object_store", self.object_store.is_some()),
            ("/errors_max", self.errors_max.is_some()),
        ];
        if let Some((field, _)) = of_files.into_iter().find(|(_, is_set)| *is_set) {
            return Err(Place::new(field, "with `from_fact` no files are read; leave this out"));
        }
        match self.space() {
            Some(space) => Ok(Some((from, space))),
            None => Err(Place::new("/into", "vectors go into a space; write for example `into: spaces/taste`")),
        }
    }

    /// What is to run, under this name. `config` says which secrets may be read; none: any.
    ///
    /// # Errors
    /// The first field that cannot be as it is.
    pub fn job(&self, name: String, config: Option<&Config>) -> Result<BackfillJob, Place> {
        let objects = objects(self.object_store.as_ref(), &self.files, config).map_err(|place| {
            let pointer = place.pointer.replace("/paths", "/files");
            Place::new(pointer, place.why)
        })?;
        let (into, columns) = match (self.fact(), self.space()) {
            (Some(fact), _) => (Target::Fact(self.fact_target(fact)?), Vec::new()),
            (None, Some(space)) => (Target::Space(self.space_target(space)?), Vec::new()),
            (None, None) => (Target::Tags, self.tag_columns()?),
        };
        let csv_delimiter = match self.delimiter.as_deref().map(str::as_bytes) {
            None => b',',
            Some([byte]) => *byte,
            Some(_) => return Err(Place::new("/delimiter", "expected one ASCII character, such as `;`")),
        };
        let user_id = self.user_id.clone().unwrap_or_else(|| "user_id".to_owned());
        Ok(BackfillJob {
            format: self.format.map(|format| match format {
                BackfillFormat::Parquet => FileFormat::Parquet,
                BackfillFormat::Arrow => FileFormat::Arrow,
                BackfillFormat::Csv => FileFormat::Csv,
                BackfillFormat::Ndjson => FileFormat::Ndjson,
                BackfillFormat::Tags => FileFormat::Tags,
            }),
            into,
            columns,
            nulls: match self.nulls {
                NullsName::Keep => NullMeaning::Keep,
                NullsName::Unset => NullMeaning::Unset,
            },
            csv_delimiter,
            errors_max: self.errors_max,
            objects,
            ..BackfillJob::new(name, self.files.clone(), user_id)
        })
    }

    fn fact_target(&self, fact: &str) -> Result<FactTarget, Place> {
        let column = |(column, what): (&String, &ColumnDefinition)| match what {
            ColumnDefinition::Name(field) => Ok((column.clone(), Some(field.clone()))),
            ColumnDefinition::LeftOut => Ok((column.clone(), None)),
            ColumnDefinition::Mapping(_) => {
                let why = "write the name of a column of the fact; tag, separator and add are for tags";
                Err(Place::new(at_column(column), why))
            }
        };
        Ok(FactTarget {
            fact: fact.to_owned(),
            ts: self.ts.clone(),
            event_id: self.event_id.clone(),
            columns: self.columns.iter().map(column).collect::<Result<_, _>>()?,
        })
    }

    fn space_target(&self, space: &str) -> Result<SpaceTarget, Place> {
        self.no_event_fields()?;
        let mut vector = None;
        for (column, what) in &self.columns {
            let is_vector = matches!(what, ColumnDefinition::Name(name) if name == VECTOR);
            if !is_vector || vector.replace(column.clone()).is_some() {
                let why = "of vectors one column is named, as in { embedding: vector }; the others are passed over";
                return Err(Place::new(at_column(column), why));
            }
        }
        Ok(SpaceTarget { space: space.to_owned(), vector })
    }

    fn no_event_fields(&self) -> Result<(), Place> {
        for (field, value) in [("/ts", &self.ts), ("/event_id", &self.event_id)] {
            if value.is_some() {
                return Err(Place::new(field, "ts and event_id are for events; say of which fact with `into`"));
            }
        }
        Ok(())
    }

    fn tag_columns(&self) -> Result<Vec<ColumnMapping>, Place> {
        self.no_event_fields()?;
        let mapping = |(column, what): (&String, &ColumnDefinition)| {
            let (tag, separator, add) = match what {
                ColumnDefinition::Name(tag) => (tag, None, false),
                ColumnDefinition::Mapping(mapping) => (&mapping.tag, mapping.separator.clone(), mapping.add),
                ColumnDefinition::LeftOut => {
                    return Err(Place::new(at_column(column), "write the tag, or leave the column out"));
                }
            };
            Ok(ColumnMapping { column: column.clone(), tag: tag.clone(), separator, add })
        };
        self.columns.iter().map(mapping).collect()
    }
}

fn at_column(column: &str) -> String {
    format!("/columns/{}", escape_pointer(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> BackfillDefinition {
        serde_yaml_ng::from_str(text).expect("a definition")
    }

    #[test]
    fn what_was_read_is_written_the_same() {
        let definition = read(
            "files: [a.csv]\ninto: purchase\nts: at\nevent_id: no\ncolumns: { total: amount, note: null }\nerrors_max: 3",
        );
        let text = serde_json::to_string(&definition).expect("JSON");
        assert_eq!(serde_json::from_str::<BackfillDefinition>(&text).expect("reads back"), definition);
        let job = definition.job("j".to_owned(), None).expect("a job");
        assert!(matches!(&job.into, Target::Fact(fact) if fact.columns["note"].is_none()), "{job:?}");
        let vectors = read("files: [a.parquet]\ninto: spaces/taste\ncolumns: { embedding: vector }");
        let text = serde_json::to_string(&vectors).expect("JSON");
        assert_eq!(serde_json::from_str::<BackfillDefinition>(&text).expect("reads back"), vectors);
        let wanted = SpaceTarget { space: "taste".to_owned(), vector: Some("embedding".to_owned()) };
        assert_eq!(vectors.job("j".to_owned(), None).expect("a job").into, Target::Space(wanted));
        assert_eq!((vectors.space(), vectors.fact()), (Some("taste"), None));
        let tags = read("files: [a.csv]\ncolumns: { a: b, hobbies: { tag: interest, add: true } }\nnulls: unset");
        let text = serde_json::to_string(&tags).expect("JSON");
        assert_eq!(serde_json::from_str::<BackfillDefinition>(&text).expect("reads back"), tags);
        assert_eq!(tags.job("j".to_owned(), None).expect("a job").columns.len(), 2);
    }

    #[test]
    fn what_cannot_be_is_told_with_its_field() {
        let refused = |text: &str| read(text).job("j".to_owned(), None).expect_err("refused").pointer;
        assert_eq!(refused("files: [a]\nts: at"), "/ts");
        assert_eq!(refused("files: [a]\nevent_id: at"), "/event_id");
        assert_eq!(refused("files: [a]\ndelimiter: ''"), "/delimiter");
        assert_eq!(refused("files: [a]\ncolumns: { a/b: null }"), "/columns/a~1b");
        assert_eq!(refused("files: [a]\ninto: f\ncolumns: { a: { tag: b } }"), "/columns/a");
        assert_eq!(refused("files: [a]\ninto: spaces/s\ncolumns: { a: b }"), "/columns/a");
        assert_eq!(refused("files: [a]\ninto: spaces/s\ncolumns: { a: vector, b: vector }"), "/columns/b");
        assert_eq!(refused("files: [a]\ninto: spaces/s\ncolumns: { a: null }"), "/columns/a");
        assert_eq!(refused("files: [a]\ninto: spaces/s\nts: at"), "/ts");
        let wrong = serde_json::from_str::<BackfillDefinition>(r#"{"files":[],"columns":{"a":{"tg":"b"}}}"#);
        assert!(wrong.expect_err("refused").to_string().contains("unknown field `tg`"));
    }
}
