//! A file and how far it is.
//!
//! Nothing is asked of a file between walks: a file whose stamp is the one with which it was read to its end has
//! nothing new. A walk gives it a new stamp, and so it is due again.

use super::super::{MissingRecords, PartitionStatus};
use super::csv::CsvRecords;
use super::input::{TextInput, end_of_lines};
use super::lines::LineRecords;
use super::options::{FilesFormat, Kind};
use super::parquet::{self, ParquetRecords};
use super::pattern::Stamp;
use super::records::{Progress, ReadError, Records, Sink};
use crate::objects::{Opener, Place, is_object_name};
use std::fmt;
use std::sync::Arc;

pub(super) struct Partition {
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    is_object: bool,
    /// Where its first bytes were asked for ahead, as it had this stamp.
    ahead: Option<(Stamp, Place)>,
    /// As of the last walk that found it.
    pub(super) stamp: Stamp,
    pub(super) found_by_walk: u64,
    /// It was told where to begin.
    pub(super) begun: bool,
    /// The offset of the next record to hand out.
    pub(super) position: u64,
    /// With what stamp it was read to its end.
    pub(super) read_with: Option<Stamp>,
    /// Behind the position there is a record without its end.
    pub(super) is_inside_record: bool,
    /// The offset behind its last record, as far as known; of a plain text its size tells it.
    end: Option<u64>,
    pub(super) records: Option<Box<dyn Records>>,
    /// There is no such file any more.
    pub(super) gone: bool,
    pub(super) failure: Option<Failure>,
    pub(super) missing: Option<MissingRecords>,
}

/// Why it is not read on.
pub(super) enum Failure {
    Unreadable {
        what: String,
        /// It is time to try again.
        is_due: bool,
    },
    /// To be tried again when the stamp is another.
    Damaged { what: String, stamp: Stamp },
}

impl Partition {
    pub(super) fn new(name: Arc<str>, kind: Kind, stamp: Stamp, walk: u64) -> Partition {
        Partition {
            is_object: is_object_name(&name),
            ahead: None,
            name,
            kind,
            stamp,
            found_by_walk: walk,
            begun: false,
            position: 0,
            read_with: None,
            is_inside_record: false,
            end: None,
            records: None,
            gone: false,
            failure: None,
            missing: None,
        }
    }

    pub(super) fn is_object(&self) -> bool {
        self.is_object
    }

    /// Notes that a walk found it.
    pub(super) fn found(&mut self, stamp: Stamp, walk: u64) {
        self.found_by_walk = walk;
        let is_back = std::mem::take(&mut self.gone);
        if is_back || stamp != self.stamp {
            // Whether it is long enough now is seen when it is opened.
            self.missing = None;
        }
        if is_back {
            self.records = None;
            self.read_with = None;
        }
        self.stamp = stamp;
    }

    /// Notes that it is gone; what an open handle still reaches is read.
    pub(super) fn vanished(&mut self) {
        self.gone = true;
        if self.records.is_some() {
            self.read_with = None;
        }
    }

    /// Where what comes from now on begins.
    pub(super) fn find_end(&self, opener: &Opener, grows: bool) -> Result<u64, ReadError> {
        let place = self.place(opener);
        match self.kind.format {
            FilesFormat::Parquet => parquet::row_count(&place),
            FilesFormat::Ndjson | FilesFormat::Csv => {
                end_of_lines(&place, self.kind.gzip, grows && self.kind.is_plain_text() && !self.is_object)
            }
        }
    }

    fn place(&self, opener: &Opener) -> Place {
        opener.place(self.stamp.object(&self.name))
    }

    /// Whether it may be written on while it is read.
    pub(super) fn may_grow(&self) -> bool {
        // A gzipped text says itself that it is whole, and an object is there only once it is.
        !self.gone && self.kind.is_plain_text() && !self.is_object
    }

    /// Begins at `offset`; one that was read to its end before needs no look.
    pub(super) fn begin_at(&mut self, offset: u64) {
        self.go_on_at(offset);
        if self.kind.is_plain_text() && offset == self.stamp.size_bytes {
            self.read_with = Some(self.stamp.clone());
        }
    }

    /// Goes on at `offset`, whatever was the matter before.
    pub(super) fn go_on_at(&mut self, offset: u64) {
        self.begun = true;
        self.position = offset;
        self.read_with = None;
        self.is_inside_record = false;
        self.records = None;
        self.failure = None;
        self.missing = None;
    }

    /// Counts as read.
    pub(super) fn give_up(&mut self) {
        self.go_on_at(self.position);
        self.read_with = Some(self.stamp.clone());
    }

    /// Whether there may be records to hand out.
    pub(super) fn is_due(&self) -> bool {
        let can_open = self.records.is_some() || !self.gone;
        self.begun && self.missing.is_none() && can_open && self.is_unread()
    }

    fn is_unread(&self) -> bool {
        match &self.failure {
            None => self.read_with.as_ref() != Some(&self.stamp),
            Some(Failure::Unreadable { is_due, .. }) => *is_due,
            Some(Failure::Damaged { stamp, .. }) => *stamp != self.stamp,
        }
    }

    /// Whether all of it was handed out, or all that ever can be.
    pub(super) fn is_done(&self) -> bool {
        match &self.failure {
            None => self.read_with.as_ref() == Some(&self.stamp) && !self.is_inside_record,
            Some(Failure::Unreadable { .. }) => false,
            Some(Failure::Damaged { .. }) => true,
        }
    }

    /// Opens it where it is to go on, unless it is open. True if it was opened.
    pub(super) fn open(&mut self, opener: &Opener, csv_delimiter: u8) -> Result<bool, ReadError> {
        if self.records.is_some() {
            return Ok(false);
        }
        let place = match self.ahead.take() {
            Some((stamp, place)) if stamp == self.stamp => place,
            _ => self.place(opener),
        };
        let text = || TextInput::open(&place, self.kind.gzip, self.position);
        let records: Box<dyn Records> = match self.kind.format {
            FilesFormat::Ndjson => Box::new(LineRecords::new(text()?, self.position)?),
            FilesFormat::Csv => Box::new(CsvRecords::new(text()?, self.position, csv_delimiter)),
            FilesFormat::Parquet => Box::new(ParquetRecords::open(&place, self.position)?),
        };
        self.end = records.end();
        self.records = Some(records);
        Ok(true)
    }

    /// Has its first bytes come while another is read, if they are what will be wanted.
    pub(super) fn ask_ahead(&mut self, opener: &Opener) {
        let is_wanted = self.position == 0 && self.kind.format != FilesFormat::Parquet && self.is_due();
        if self.is_object && is_wanted && self.ahead.is_none() && self.records.is_none() {
            let place = self.place(opener);
            place.ask_ahead();
            self.ahead = Some((self.stamp.clone(), place));
        }
    }

    /// Reads on by a bounded amount.
    pub(super) fn step(&mut self, last: bool, sink: &mut Sink<'_>) -> Result<Progress, ReadError> {
        let Some(records) = &mut self.records else { return Ok(Progress::End) };
        let progress = records.step(last, sink);
        self.position = records.position();
        if progress.is_ok() {
            self.failure = None;
        }
        progress
    }

    /// How far the open file was read.
    pub(super) fn reached(&self) -> Option<u64> {
        self.records.as_ref().map(|records| records.reached())
    }

    /// Notes that it was read to where it ended when it had this stamp.
    /// `last`: it does not grow, so it is closed.
    pub(super) fn was_read(&mut self, stamp: Stamp, last: bool) {
        let Some(records) = &self.records else { return };
        // Of one that is gone, the handle has reached all there will be.
        self.read_with = Some(if self.gone { self.stamp.clone() } else { stamp });
        self.is_inside_record = !last && records.position() < records.reached();
        if self.end.is_none() && !self.kind.is_plain_text() {
            self.end = Some(records.reached());
        }
        if last {
            self.records = None;
        }
    }

    /// Notes why it cannot be read on.
    pub(super) fn failed(&mut self, error: ReadError) {
        self.records = None;
        match error {
            ReadError::Short { end } => self.is_short(end),
            ReadError::Vanished => self.gone = true,
            ReadError::Unreadable(what) => self.failure = Some(Failure::Unreadable { what, is_due: false }),
            ReadError::Damaged(what) => self.failure = Some(Failure::Damaged { what, stamp: self.stamp.clone() }),
        }
    }

    fn is_short(&mut self, end: u64) {
        self.missing = Some(MissingRecords { partition: self.name.clone(), needed: self.position, earliest: 0, end });
    }

    /// Notes that what was left of it cannot be read any more.
    pub(super) fn is_lost(&mut self) {
        // Some record comes next, so the end is behind it, even if the size was never known.
        let known = if self.kind.is_plain_text() { self.stamp.size_bytes } else { self.end.unwrap_or(0) };
        let end = known.max(self.position.saturating_add(1));
        let partition = self.name.clone();
        self.missing = Some(MissingRecords { partition, needed: self.position, earliest: end, end });
    }

    pub(super) fn status(&self) -> PartitionStatus {
        let size = self.kind.is_plain_text().then_some(self.stamp.size_bytes);
        let end = size.or(self.end).map(|end| end.max(self.position));
        let lag = end.map(|end| end - self.position);
        PartitionStatus { partition: self.name.clone(), position: self.position, end, lag }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreadable { what, .. } => write!(f, "{what}; it is tried again"),
            Failure::Damaged { what, .. } => write!(f, "{what}; it is not read on until it changes"),
        }
    }
}
