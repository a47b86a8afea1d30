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
#[derive(Clone, Debug)]
pub struct LineSplitter {
    line_bytes_max: usize,
    /// The begin of a line whose end has not come yet; at most `line_bytes_max` bytes.
    kept: Vec<u8>,
    /// The last answer was `kept`: to be emptied at the next call.
    kept_was_given: bool,
    /// The open line is over the limit.
    skipping: bool,
}

impl LineSplitter {
    /// A splitter with this limit.
    pub fn new(line_bytes_max: usize) -> Self {
        LineSplitter { line_bytes_max, kept: Vec::new(), kept_was_given: false, skipping: false }
    }

    /// The limit.
    pub fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Takes the next line from the begin of `chunk` and moves `chunk` behind it; `None` when the chunk is used up.
    pub fn next_line<'s, 'c: 's>(&'s mut self, chunk: &mut &'c [u8]) -> Option<Line<'s>> {
        self.forget_given();
        let Some(end) = memchr::memchr(b'\n', chunk) else {
            self.keep(chunk);
            *chunk = &[];
            return None;
        };
        let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
        *chunk = rest;
        if self.kept.is_empty() && !self.skipping {
            let fits = line.len() <= self.line_bytes_max;
            return Some(if fits { Line::Whole(line) } else { Line::TooLong });
        }
        self.keep(line);
        Some(self.give())
    }

    /// The last line, if the body does not end with a line feed.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.forget_given();
        (self.skipping || !self.kept.is_empty()).then(|| self.give())
    }

    fn forget_given(&mut self) {
        if std::mem::take(&mut self.kept_was_given) {
            self.kept.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipping || self.kept.len() + bytes.len() > self.line_bytes_max {
            self.skipping = true;
            self.kept.clear();
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    fn give(&mut self) -> Line<'_> {
        if std::mem::take(&mut self.skipping) {
            return Line::TooLong;
        }
        self.kept_was_given = true;
        Line::Whole(&self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(splitter: &mut LineSplitter, chunk: &[u8], out: &mut Vec<Option<Vec<u8>>>) {
        let mut rest = chunk;
        while let Some(line) = splitter.next_line(&mut rest) {
            out.push(owned(line));
        }
        assert!(rest.is_empty());
    }

    fn owned(line: Line<'_>) -> Option<Vec<u8>> {
        match line {
            Line::Whole(bytes) => Some(bytes.to_vec()),
            Line::TooLong => None,
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(body in "[ab\n]{0,40}", cuts in prop::collection::vec(0usize..40, 0..6), limit in 0usize..8) {
            let mut expected: Vec<_> = body.split('\n').map(str::as_bytes).map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            let expected: Vec<_> = expected.into_iter().map(|line| (line.len() <= limit).then_some(line)).collect();

            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let (mut splitter, mut lines) = (LineSplitter::new(limit), Vec::new());
            for pair in cuts.windows(2) {
                collect(&mut splitter, &body.as_bytes()[pair[0]..pair[1]], &mut lines);
                prop_assert!(splitter.kept.len() <= limit);
            }
            lines.extend(splitter.finish().map(owned));
            prop_assert_eq!(lines, expected);
        }
    }
}
