//! Whether a job can begin, told before it is taken.
//!
//! Whoever may post jobs could read any file of the server this way, so the rule is that of sources: only folders and
//! stores that the server was told of when it was started.

use super::JobDefinition;
use super::name_of;
use crate::config::Config;
use crate::error::{Failure, Kind, escape_pointer};
use crate::objects::check_store;
use crate::rest::v1::spaces;
use crate::sources::Place;
use crate::sources::declaration::no_fact;
use crate::sources::folders::check_folder;
use crate::state::Readers;
use engine::audience::suggest::closest;
use engine::store::Snapshot;
use ingest::backfill::factors::FactorJob;
use ingest::backfill::{self, BackfillError, BackfillJob, ColumnMapping};
use ingest::objects::is_object_name;
use std::path::Path;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// What is to run.
pub(super) enum Task {
    Files(Box<BackfillJob>),
    Vectors(FactorJob),
}

/// What is to run for a job of this id.
///
/// # Errors
/// What cannot be in any catalog, or is not allowed here.
pub(super) fn task(definition: &JobDefinition, id: &str, config: &Config, readers: &Readers) -> Result<Task, Place> {
    check_head(definition)?;
    match definition.backfill.vectors_from_fact().map_err(within_backfill)? {
        Some((from, space)) => Ok(Task::Vectors(from.job(name_of(id), space, readers.clone()))),
        None => files(definition, id, config).map(|job| Task::Files(Box::new(job))),
    }
}

fn within_backfill(place: Place) -> Place {
    Place::new(format!("/backfill{}", place.pointer), place.why)
}

/// What a job has that loads anything.
fn check_head(definition: &JobDefinition) -> Result<(), Place> {
    let backfill = &definition.backfill;
    if definition.rate == Some(0) {
        return Err(Place::new("/rate", "no row a second would load nothing; write 1 or more, or leave it out"));
    }
    if backfill.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err(Place::new("/backfill/name", format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn files(definition: &JobDefinition, id: &str, config: &Config) -> Result<BackfillJob, Place> {
    let backfill = &definition.backfill;
    if backfill.files.is_empty() {
        let why = "none is given; write paths or globs such as /in/*.parquet, or `from_fact` to make vectors of events";
        return Err(Place::new("/backfill/files", why));
    }
    for (index, path) in backfill.files.iter().enumerate() {
        match is_object_name(path) {
            true => check_store(path, &config.source_stores),
            false => check_folder(Path::new(path), &config.source_folders, "source_folders"),
        }
        .map_err(|why| Place::new(format!("/backfill/files/{index}"), why))?;
    }
    let job = backfill.job(name_of(id), Some(config));
    let job = job.map_err(within_backfill)?;
    Ok(BackfillJob { within: config.source_folders.clone(), ..job })
}

/// Whether it can begin with a catalog and the files there are.
///
/// # Errors
/// The first thing that is wrong, with a pointer into the body.
pub(super) fn check(
    definition: &JobDefinition,
    snapshot: &Snapshot,
    readers: &Readers,
    config: &Config,
    now: i64,
) -> Result<(), Failure> {
    let field = |place: Place| Failure::field(place.pointer, place.why);
    let catalog = snapshot.catalog();
    let task = task(definition, "", config, readers).map_err(field)?;
    if let Some(space) = definition.backfill.space() {
        spaces::space(catalog, space)
            .map_err(|failure| Failure { kind: Kind::InvalidField, ..failure }.at("/backfill/into"))?;
    }
    let job = match (task, &definition.backfill.from_fact) {
        (Task::Files(job), _) => job,
        (Task::Vectors(_), None) => return Err(Failure::internal("vectors are made of no fact")),
        (Task::Vectors(_), Some(from)) => {
            let place = |place: Place| field(Place::new(format!("/backfill/from_fact{}", place.pointer), place.why));
            return from.check(snapshot, readers, now).map_err(place);
        }
    };
    if let Some(fact) = definition.backfill.fact()
        && catalog.declared_fact(fact).is_none()
    {
        if catalog.space(fact).is_some() {
            let why = format!("there is no fact `{fact}`; write `spaces/{fact}` for the vector space");
            return Err(Failure::field("/backfill/into", why));
        }
        let place = no_fact(fact, catalog);
        return Err(Failure::field(format!("/backfill{}", place.pointer), place.why));
    }
    for ColumnMapping { column, tag, .. } in &job.columns {
        if catalog.tag(tag).is_none() {
            let failure = Failure::field(
                format!("/backfill/columns/{}", escape_pointer(column)),
                format!("there is no tag `{tag}` for the column `{column}`"),
            );
            return Err(match closest(tag, catalog.tags().map(|(name, _)| name)) {
                Some(near) => failure.suggest(format!("did you mean `{near}`?")),
                None => failure.suggest("declare it in the catalog"),
            });
        }
    }
    backfill::check_mapping(&job, catalog, now).map_err(|error| Failure::field("/backfill", told(&error)))?;
    backfill::check_files(&job).map_err(|error| Failure::field("/backfill/files", told(&error)))
}

/// Why a job cannot be or ended, without the name that ingest knows it by.
pub(super) fn told(error: &BackfillError) -> String {
    match error {
        BackfillError::Job { what, .. } => what.clone(),
        BackfillError::Changed { .. } => {
            "its files (by name and size, objects by e-tag too) or its mapping are no longer those that it began with; what was loaded stays, \
             load the rest with another job"
                .to_owned()
        }
        BackfillError::TooManyErrors { rejected, first, .. } => {
            format!("{rejected} rows were refused, more than errors_max; the first is {first}")
        }
        BackfillError::Redeclared { what, .. } => {
            format!("{what} was declared after the job began, so what was loaded before is not in it; load all files with another job")
        }
        BackfillError::Dropped { what, .. } => format!("{what} was dropped from the catalog while the job ran"),
        BackfillError::Cancelled { .. } => "cancelled".to_owned(),
        BackfillError::Unavailable { path, what } => format!("{}: {what}", path.display()),
        BackfillError::File { .. } | BackfillError::Write(_) => error.to_string(),
    }
}
