//! What became of the parts of a body: counted while it is read, and noted beside the key of each part, so that a body that comes again is
//! told what was true when it came first.

use engine::catalog::Catalog;
use ingest::decode::body::LineReport;

/// Records up to a place in a body, or of a part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// See [`LineReport::rejected_lines`].
    pub(super) rejected_lines: u64,
}

impl Counts {
    pub(super) fn of(report: &LineReport) -> Counts {
        let LineReport { accepted, rejected, rejected_lines, .. } = *report;
        Counts { accepted, rejected, rejected_lines }
    }

    pub(super) fn since(self, before: Counts) -> Counts {
        Counts {
            accepted: self.accepted - before.accepted,
            rejected: self.rejected - before.rejected,
            rejected_lines: self.rejected_lines.wrapping_sub(before.rejected_lines),
        }
    }

    pub(super) fn add(&mut self, more: Counts) {
        self.accepted += more.accepted;
        self.rejected += more.rejected;
        self.rejected_lines = self.rejected_lines.wrapping_add(more.rejected_lines);
    }
}

/// What became of a step, as the store notes it beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) accepted: u32,
    pub(super) rejected: u32,
    /// Of [`Counts::rejected_lines`].
    pub(super) rejected_lines: u32,
    /// [`Catalog::dropped_count`] of the catalog that it was decoded by.
    pub(super) dropped_before: u32,
}

impl Outcome {
    /// A step is about a megabyte, so its records have room.
    pub(super) fn of(counts: &Counts, catalog: &Catalog) -> Outcome {
        Outcome {
            accepted: counts.accepted as u32,
            rejected: counts.rejected as u32,
            rejected_lines: counts.rejected_lines as u32,
            dropped_before: catalog.dropped_count(),
        }
    }

    pub(super) fn note(self) -> u128 {
        let Outcome { accepted, rejected, rejected_lines, dropped_before } = self;
        [accepted, rejected, rejected_lines, dropped_before]
            .into_iter()
            .fold(0, |note, part| note << 32 | u128::from(part))
    }

    /// `None` for a step of a release that noted nothing; also for one without records, of which there is nothing to know.
    pub(super) fn of_note(note: u128) -> Option<Outcome> {
        let part = |number: u32| (note >> (32 * number)) as u32;
        let outcome =
            Outcome { accepted: part(3), rejected: part(2), rejected_lines: part(1), dropped_before: part(0) };
        (note != 0).then_some(outcome)
    }

    pub(super) fn counts(self) -> Counts {
        let Outcome { accepted, rejected, rejected_lines, .. } = self;
        Counts { accepted: accepted.into(), rejected: rejected.into(), rejected_lines: rejected_lines.into() }
    }

    /// Whether the same records were taken.
    pub(super) fn is_as(self, other: Outcome) -> bool {
        Outcome { dropped_before: 0, ..self } == Outcome { dropped_before: 0, ..other }
    }
}
