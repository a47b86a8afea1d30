//! Object stores, for sources and jobs: how access to them is declared, which may be read, and what speaks to them.
//!
//! * `declaration`: the member `object_store` of a source's files or of a job, and `source_stores`.
//! * `client`: requests, with timeouts and retries, on a runtime of their own. `failure`: what their errors mean.

mod client;
pub mod declaration;
mod failure;

pub use declaration::{ObjectStoreDeclaration, check_store, read_stores};

use crate::config::Config;
use crate::sources::Place;
use client::StoreObjects;
use ingest::objects::{ObjectFiles, is_object_name};
use std::sync::Arc;

/// What reads the objects that paths name; none, if they name none. `config` says which secrets may be read; none: any.
///
/// # Errors
/// What is wrong, under `/object_store` or `/paths`.
pub(crate) fn objects(
    declared: Option<&ObjectStoreDeclaration>,
    paths: &[String],
    config: Option<&Config>,
) -> Result<Option<Arc<dyn ObjectFiles>>, Place> {
    let urls: Vec<String> = paths.iter().filter(|path| is_object_name(path)).cloned().collect();
    for url in &urls {
        declaration::check_scheme(url).map_err(|why| Place::new("/paths", why))?;
    }
    if let Some(declared) = declared {
        let wrong = |why: String| Place::new("/object_store", why);
        if urls.is_empty() {
            return Err(wrong("it goes with objects, such as s3://bucket/visits/*.parquet".to_owned()));
        }
        declaration::check_paths(&urls).map_err(wrong)?;
        declared.check(config).map_err(|place| Place::new(format!("/object_store{}", place.pointer), place.why))?;
    }
    if urls.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(StoreObjects::new(declared.cloned().unwrap_or_default()))))
}
