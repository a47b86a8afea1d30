//! What goes where: which column into which tag, which field of an event, or which part of a vector.

use super::{BackfillError, BackfillJob, FactTarget, FileFormat, NullMeaning, SpaceTarget, Target};
use crate::decode::tag_columns::{Bound, Plan};
use crate::decode::{EventDecoder, FieldNames, VectorFields};
use engine::audience::suggest::closest;
use engine::catalog::{Catalog, Fact, Space, TagType};
use engine::ids::TagId;
use engine::store::WriteError;
use std::collections::BTreeMap;

/// A job, the catalog as it was when this run began, and when that was (microseconds since 1970).
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) job: &'a BackfillJob,
    pub(super) catalog: &'a Catalog,
    pub(super) now: i64,
}

/// Rows become events of a fact.
#[derive(Clone, Debug)]
pub(super) struct Events<'a> {
    pub(super) fact: &'a Fact,
    pub(super) now: i64,
    pub(super) mapping: FieldNames,
}

/// Rows become vectors of a space.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    pub(super) space: Space,
    pub(super) fields: VectorFields,
}

impl<'a> Task<'a> {
    pub(super) fn wrong(&self, what: impl Into<String>) -> BackfillError {
        BackfillError::Job { job: self.job.name.clone(), what: what.into() }
    }

    /// Why a batch was not written; what was dropped is told by its name.
    pub(super) fn not_written(&self, error: WriteError) -> BackfillError {
        let WriteError::Dropped { id } = error else { return error.into() };
        let name = self.catalog.name_of(id).unwrap_or_default();
        let what = match &self.job.into {
            Target::Tags => tag_named(name),
            Target::Fact(_) => fact_named(name),
            Target::Space(_) => space_named(name),
        };
        BackfillError::Dropped { job: self.job.name.clone(), what }
    }

    /// What rows go into that was declared when `next_id` was the next free id, or later. If the job began then, this is not what
    /// the rows before went into, whatever its name.
    pub(super) fn declared_since(&self, next_id: TagId) -> Option<String> {
        let mut targets = self.targets().into_iter();
        targets.find(|(_, id)| id.is_some_and(|id| id >= next_id)).map(|(what, _)| what)
    }

    /// What rows may go into, for people, and its id. Without columns these are all tags.
    fn targets(&self) -> Vec<(String, Option<TagId>)> {
        let Task { job, catalog, .. } = self;
        match &job.into {
            Target::Fact(FactTarget { fact: name, .. }) => {
                vec![(fact_named(name), catalog.fact(name).map(|fact| fact.id))]
            }
            Target::Space(SpaceTarget { space: name, .. }) => {
                vec![(space_named(name), catalog.space(name).map(|space| space.id))]
            }
            Target::Tags if job.columns.is_empty() => {
                catalog.tags().map(|(name, tag)| (tag_named(name), Some(tag.id))).collect()
            }
            Target::Tags => {
                let tags = job.columns.iter().map(|column| &column.tag);
                tags.map(|tag| (tag_named(tag), catalog.tag(tag).map(|tag| tag.id))).collect()
            }
        }
    }

    /// Whether what rows become is there, and the mapping fits it, as far as no file is needed to tell.
    pub(super) fn check(&self) -> Result<(), BackfillError> {
        self.events()?;
        self.vectors().map(drop)
    }

    /// The vectors that rows become, if they do.
    pub(super) fn vectors(&self) -> Result<Option<Vectors>, BackfillError> {
        let Target::Space(SpaceTarget { space: name, vector }) = &self.job.into else { return Ok(None) };
        let Some(space) = self.catalog.space(name) else {
            return Err(self.wrong(unknown("vector space", name, self.catalog.spaces().map(|space| space.0))));
        };
        if !self.job.columns.is_empty() {
            return Err(self.wrong("`add` and `separator` of `columns` are for tags; leave them out"));
        }
        if let Some(format @ (FileFormat::Csv | FileFormat::Tags)) = self.job.format {
            return Err(self.no_vectors(format));
        }
        let fields = VectorFields {
            user_id: self.job.user_id.clone(),
            vector: vector.clone().unwrap_or_else(|| VectorFields::default().vector),
            is_lenient: true,
            nulls_keep: self.job.nulls == NullMeaning::Keep,
        };
        if fields.user_id == fields.vector {
            return Err(self.wrong(format!("column `{}` cannot be the user id and the vector", fields.vector)));
        }
        Ok(Some(Vectors { space: *space, fields }))
    }

    /// The refusal of files that cannot have vectors.
    pub(super) fn no_vectors(&self, format: FileFormat) -> BackfillError {
        self.wrong(match format {
            FileFormat::Tags => "format `tags` is lines of `POST /v1/tags`; lines of vectors are `ndjson`",
            _ => "a cell of CSV holds no vector; write vectors as Parquet, Arrow or NDJSON",
        })
    }

    /// The events that rows become, if they do.
    pub(super) fn events(&self) -> Result<Option<Events<'a>>, BackfillError> {
        let Target::Fact(target) = &self.job.into else { return Ok(None) };
        let Some(fact) = self.catalog.fact(&target.fact) else {
            return Err(self.wrong(unknown("fact", &target.fact, self.catalog.facts().map(|fact| fact.0))));
        };
        if !self.job.columns.is_empty() || self.job.nulls != NullMeaning::Keep {
            return Err(self.wrong("`nulls`, and `add` and `separator` of `columns`, are for tags; leave them out"));
        }
        let user_id = Some(&self.job.user_id).filter(|column| *column != "user_id");
        let head = [("user_id", user_id), ("ts", target.ts.as_ref()), ("event_id", target.event_id.as_ref())];
        let mut fields: BTreeMap<String, Option<String>> = target.columns.clone();
        for (field, column) in head {
            let Some(column) = column else { continue };
            if let Some(other) = fields.insert(column.clone(), Some(field.to_owned())) {
                let other = other.map_or("left out".to_owned(), |other| format!("`{other}`"));
                return Err(self.wrong(format!("column `{column}` cannot be `{field}` and {other}; choose one")));
            }
        }
        let mapping = FieldNames::new(fields);
        // Looked at before any file is.
        EventDecoder::with_mapping(fact, self.now, &mapping).map_err(|error| self.wrong(error.to_string()))?;
        Ok(Some(Events { fact, now: self.now, mapping }))
    }
}

/// Settles the job's mapping. `columns` are those of the file, where they are known before its rows.
///
/// # Errors
/// What is wrong with the mapping, and what to write instead.
pub(super) fn plan_tags(task: &Task<'_>, columns: Option<&[String]>) -> Result<Plan, String> {
    let Task { job, catalog, .. } = *task;
    if let Some(columns) = columns {
        check_column(&job.user_id, columns)?;
    }
    if job.columns.is_empty() {
        let plan = Plan::by_name(catalog, &job.user_id, columns, job.nulls);
        if plan.bounds.is_empty() {
            return Err("no column is named like a tag; say in `columns` which column goes into which tag".to_owned());
        }
        return Ok(plan);
    }
    let mut bounds = Vec::new();
    for mapping in &job.columns {
        let tag =
            catalog.tag(&mapping.tag).ok_or_else(|| unknown("tag", &mapping.tag, catalog.tags().map(|tag| tag.0)))?;
        if let Some(columns) = columns {
            check_column(&mapping.column, columns)?;
        }
        if tag.tag_type != TagType::Set && (mapping.add || mapping.separator.is_some()) {
            let tag_type = tag.tag_type;
            return Err(format!("`{}` is a {tag_type}; `add` and `separator` are for sets", mapping.tag));
        }
        if mapping.separator.as_deref() == Some("") {
            return Err(format!("the separator of `{}` is empty; leave it out for single values", mapping.column));
        }
        bounds.push(Bound {
            column: mapping.column.clone(),
            tag: tag.id,
            tag_type: tag.tag_type,
            separator: mapping.separator.clone(),
            add: mapping.add,
        });
    }
    Ok(Plan { user_id: job.user_id.clone(), bounds, unmatched: Vec::new(), nulls: job.nulls })
}

fn tag_named(name: &str) -> String {
    format!("the tag `{name}`")
}

fn fact_named(name: &str) -> String {
    format!("the fact `{name}`")
}

fn space_named(name: &str) -> String {
    format!("the vector space `{name}`")
}

fn check_column(column: &str, columns: &[String]) -> Result<(), String> {
    if columns.iter().any(|known| known == column) {
        return Ok(());
    }
    Err(format!(
        "{}; the columns are {}",
        unknown("column", column, columns.iter().map(String::as_str)),
        columns.join(", ")
    ))
}

/// That a name is not there, with the one that is near.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match closest(name, known) {
        Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{name}`"),
    }
}
