//! A streaming source: what it is told, and what it is to do.

/// A declared source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it reads and what becomes of its records; a text that the engine keeps and does not read.
    pub definition: String,
    /// What it is to do.
    pub wanted: Wanted,
}

/// What a source is to do; changed by command and kept over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Read.
    #[default]
    Running,
    /// Stay connected and read nothing.
    Paused,
    /// Be away.
    Stopped,
}

/// What the offsets of a source's partitions begin with, in the store: `source/<name>/`.
pub fn offsets_prefix(name: &str) -> String {
    format!("{OFFSETS}{name}/")
}

/// The source that an offset is of, if it is one of a declared source.
pub(crate) fn source_of(key: &str) -> Option<&str> {
    key.strip_prefix(OFFSETS)?.split_once('/').map(|(name, _)| name)
}

const OFFSETS: &str = "source/";
