//! A sink: where rows of facts and changes of live audiences are sent.

use super::Wanted;
use crate::ids::TagId;

/// A declared sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// What it takes and where it brings it; a text that the engine keeps and does not read.
    pub definition: String,
    /// Its life: a number that no tag, fact or other sink ever had, so a sink that was dropped and declared again is another one.
    pub life: TagId,
    /// What it is to do: running, it sends; paused, it gathers what it will send; stopped, it does neither.
    pub wanted: Wanted,
}
