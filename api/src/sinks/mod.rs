//! Sinks: how they are declared, and how what is declared comes to run.
//!
//! The catalog keeps a declaration as the JSON of `declaration`; here it becomes what [`ingest::sink`] runs. `webhook`, `kafka` and
//! `files` are parts of a declaration; `webhook` also delivers, since only here HTTP is known.

pub mod declaration;
pub mod files;
pub mod kafka;
pub mod webhook;

pub use declaration::SinkDeclaration;

use crate::config::Config;
use engine::vfs::Vfs;
use ingest::clock::SystemClock;
use ingest::sink::SinkQueues;
use std::sync::Arc;

/// The queues of a server's sinks.
pub fn queues(vfs: Arc<dyn Vfs>, config: &Config) -> Arc<SinkQueues> {
    let folder = config.data.join("sinks");
    let config = config.clone();
    let read = move |_: &str, text: &str| SinkDeclaration::read(text)?.definition(&config);
    Arc::new(SinkQueues::new(vfs, &folder, Arc::new(SystemClock), Box::new(read)))
}
