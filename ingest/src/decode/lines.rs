//! Chunks of bytes to lines, in memory bounded by the longest allowed line.

/// The longest line of a body, in bytes, unless the caller chooses another limit.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// What a body's bytes hold next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The bytes of a line, without its line feed.
    Whole(&'a [u8]),
    /// A line over the limit; its bytes were skipped.
    TooLong,
}

/// Cuts a body that arrives in chunks into lines. A line inside one chunk is not copied; a line over the limit is
/// skipped without being kept.
#[derive(Debug)]
pub struct LineSplitter {
    line_bytes_max: usize,
    /// The begin of a line whose end has not come yet.
    kept: Vec<u8>,
    /// The last answer was `kept`: to be emptied at the next call.
    kept_was_given: bool,
    skipping: bool,
}

impl LineSplitter {
    /// A splitter with this limit.
    pub fn new(line_bytes_max: usize) -> Self {
        LineSplitter { line_bytes_max, kept: Vec::new(), kept_was_given: false, skipping: false }
    }

    /// Takes the next line from the begin of `chunk` and moves `chunk` behind it; `None` when the chunk is used up.
    pub fn next_line<'a>(&'a mut self, chunk: &mut &'a [u8]) -> Option<Line<'a>> {
        let _ = chunk;
        todo!()
    }

    /// The last line, if the body does not end with a line feed.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        todo!()
    }
}
