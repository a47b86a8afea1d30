//! Streaming sources: how they are declared, and how what is declared comes to run.
//!
//! The catalog keeps a declaration as the JSON of `declaration`; here it becomes what [`ingest::pipeline`] runs.
//! `kafka`, `files`, `map` and `span` are parts of a declaration; `folders` says which files it may name, `secrets` which
//! secrets.

pub mod declaration;
pub mod files;
pub mod folders;
pub mod kafka;
pub mod map;
pub mod secrets;
pub mod span;

pub use declaration::{Place, SourceDeclaration};

use crate::config::Config;
use crate::error::Failure;
use engine::catalog::Catalog;
use ingest::pipeline::{DeclaredSource, Pipeline};

/// Brings the running sources to what a catalog declares.
///
/// # Errors
/// The operating system's, if it gives no thread.
pub fn reconcile(pipeline: &Pipeline, catalog: &Catalog, config: &Config) -> Result<(), Failure> {
    let declared = catalog.sources().map(|(name, source)| DeclaredSource {
        name: name.to_owned(),
        text: source.definition.clone(),
        definition: SourceDeclaration::read(&source.definition).and_then(|declared| declared.definition(name, config)),
        wanted: source.wanted,
    });
    pipeline.set(declared.collect()).map_err(crate::server::no_threads)
}
