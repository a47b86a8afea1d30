//! Records as lines of JSON, some at a time: read if they are written otherwise, with what was looked up of them.

use super::payload::Payload;
use crate::decode::{LINE_BYTES_MAX, LineError, LineErrorKind};
use crate::enrich::{Fate, splice};
use crate::source::{Record, RecordBatch};
use std::ops::Range;

/// Records that are read at once: enough that what is done once for all of them, as computing their expressions, weighs little.
const RECORDS_MAX: usize = 1024;

/// Bytes at which no further record is read with them: what is made of them is held.
const BYTES_MAX: usize = 4 << 20;

/// The lines of some records that follow each other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    said: Vec<Said>,
    /// What is not a record as it came; used again.
    made: Vec<u8>,
}

#[derive(Debug)]
enum Said {
    Nothing,
    Unwanted,
    Refused(LineError),
    AsItCame,
    Made(Range<usize>),
    #[cfg(feature = "arrow")]
    Rows,
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Line<'l> {
    Nothing,
    /// A look-up decided that it is not wanted.
    Unwanted,
    /// It cannot be read, or a look-up decided so.
    Refused(&'l LineError),
    Text(&'l [u8]),
    /// It is a stream of rows, to be read as such.
    #[cfg(feature = "arrow")]
    Rows(&'l [u8]),
}

impl Lines {
    /// Reads records from `begin` on, one at least; answers how many. `fates` has what look-ups decided of each record of
    /// the batch, or is empty.
    pub(super) fn read(&mut self, payload: &mut Payload, records: &RecordBatch, begin: usize, fates: &[Fate]) -> usize {
        self.said.clear();
        self.made.clear();
        let mut bytes = 0;
        for index in begin..records.len() {
            let record = records.get(index);
            bytes += record.payload.map_or(0, <[u8]>::len);
            let said = self.say(payload, &record, fates.get(index));
            self.said.push(said);
            if self.said.len() == RECORDS_MAX || bytes.max(self.made.len()) >= BYTES_MAX {
                break;
            }
        }
        self.said.len()
    }

    fn say(&mut self, payload: &mut Payload, record: &Record<'_>, fate: Option<&Fate>) -> Said {
        let Some(bytes) = record.payload.filter(|bytes| !payload.is_blank(bytes)) else { return Said::Nothing };
        match (payload, fate) {
            (_, Some(Fate::Refused(error))) => Said::Refused(error.clone()),
            (_, Some(Fate::Dropped)) => Said::Unwanted,
            #[cfg(feature = "arrow")]
            (Payload::Arrow, _) => Said::Rows,
            _ if bytes.len() > LINE_BYTES_MAX => Said::Refused(too_long(bytes.len())),
            (Payload::Json, Some(Fate::Taken(members))) if !members.is_empty() => {
                let begin = self.made.len();
                splice(bytes, members, &mut self.made);
                self.line_from(begin)
            }
            (Payload::Json, _) => Said::AsItCame,
            #[cfg(feature = "avro")]
            (Payload::Avro(reader), _) => match reader.line(bytes) {
                Ok(line) => {
                    let begin = self.made.len();
                    self.made.extend_from_slice(line);
                    self.line_from(begin)
                }
                Err(error) => Said::Refused(error),
            },
        }
    }

    fn line_from(&self, begin: usize) -> Said {
        match self.made.len() - begin {
            len if len > LINE_BYTES_MAX => Said::Refused(too_long(len)),
            _ => Said::Made(begin..self.made.len()),
        }
    }

    /// What the record at `index` of those that were read says.
    pub(super) fn get<'l>(&'l self, index: usize, record: &Record<'l>) -> Line<'l> {
        match &self.said[index] {
            Said::Nothing => Line::Nothing,
            Said::Unwanted => Line::Unwanted,
            Said::Refused(error) => Line::Refused(error),
            Said::AsItCame => Line::Text(record.payload.unwrap_or_default()),
            Said::Made(range) => Line::Text(&self.made[range.clone()]),
            #[cfg(feature = "arrow")]
            Said::Rows => Line::Rows(record.payload.unwrap_or_default()),
        }
    }
}

fn too_long(len: usize) -> LineError {
    let message = format!("the record has {len} bytes; at most {LINE_BYTES_MAX} are taken");
    LineError::new(LineErrorKind::TooLong, message).suggest("split it into several records")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::payload::PayloadFormat;

    #[test]
    fn each_record_has_its_own_line() {
        let mut records = RecordBatch::new();
        let partition = records.add_partition("t/0".into());
        let texts = ["{\"a\":1}", "{\"a\":22,\"b\":3}", " ", "{\"a\":4}", "{}"];
        for (offset, text) in texts.iter().enumerate() {
            let payload = Some(text.as_bytes());
            records.push(Record { partition, offset: offset as u64, timestamp_ms: None, key: None, payload });
        }
        let found = |text: &str| Fate::Taken(vec![("x".into(), text.into())]);
        let fates = [found("{}"), found("{\"y\":[1]}"), found("{}"), Fate::Taken(Vec::new()), Fate::Dropped];
        let mut lines = Lines::default();
        for _ in 0..2 {
            assert_eq!(lines.read(&mut Payload::new(&PayloadFormat::Json), &records, 0, &fates), texts.len());
            let said: Vec<String> = (0..texts.len())
                .map(|index| match lines.get(index, &records.get(index)) {
                    Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                })
                .collect();
            let enriched = ["{\"a\":1,\"x\":{}}", "{\"a\":22,\"b\":3,\"x\":{\"y\":[1]}}"];
            assert_eq!(said, [enriched[0], enriched[1], "Nothing", "{\"a\":4}", "Unwanted"]);
        }
    }
}
