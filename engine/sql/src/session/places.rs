//! Where the words of a text stand in its bytes.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use std::borrow::Cow;

/// Finds the bytes of rising places in one pass.
pub(super) struct Places<'t> {
    text: &'t str,
    byte: usize,
    line: u64,
    column: u64,
}

impl<'t> Places<'t> {
    pub(super) fn new(text: &'t str) -> Places<'t> {
        Places { text, byte: 0, line: 1, column: 1 }
    }

    /// The byte of a place that is not before the last one that was asked for.
    pub(super) fn byte_of(&mut self, place: Location) -> usize {
        let wanted = (place.line, place.column);
        let mut rest = self.text.get(self.byte..).unwrap_or_default().chars();
        while (self.line, self.column) < wanted {
            let Some(character) = rest.next() else { break };
            self.byte += character.len_utf8();
            (self.line, self.column) =
                if character == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.byte
    }
}

/// The byte of a line and column, both from 1.
pub(super) fn byte_at(text: &str, place: Location) -> usize {
    Places::new(text).byte_of(place)
}

/// What begins a comment of which the tokenizer makes words, with places that are not theirs.
pub(super) const HINT: &str = "/*!";

/// A text in which each [`HINT`] is a comment as any other; all else has its place.
pub(super) fn without_hints(text: &str) -> Cow<'_, str> {
    if text.contains(HINT) { Cow::Owned(text.replace(HINT, "/* ")) } else { Cow::Borrowed(text) }
}

/// Where the first [`HINT`] begins that stands outside of quotes and of other comments.
pub(super) fn hint_at(text: &str) -> Option<usize> {
    if !text.contains(HINT) {
        return None;
    }
    let (plain, mut tokens, mut places) = (without_hints(text), Vec::new(), Places::new(text));
    // Where the words end before the text does, whoever reads the text itself tells what is wrong.
    let _ = Tokenizer::new(&GenericDialect {}, &plain).tokenize_with_location_into_buf(&mut tokens);
    let comments = tokens.iter().filter(|token| matches!(token.token, Token::Whitespace(_)));
    comments
        .map(|comment| places.byte_of(comment.span.start))
        .find(|start| text.get(*start..).is_some_and(|rest| rest.starts_with(HINT)))
}

#[cfg(test)]
mod tests {
    use super::super::calls::rewrite;
    use super::super::guard::check;
    use super::super::split::{Statements, statements};
    use super::*;
    use proptest::prelude::*;

    const PIECES: [&str; 32] = [
        "/*!",
        "/*",
        "*/",
        "!",
        ";",
        "'",
        "\"",
        "`",
        "$$",
        "$a$",
        "--",
        "\n",
        "\r\n",
        " ",
        "\t",
        "äää",
        "😀",
        "SELECT ",
        "1",
        "did(",
        "in_audience(",
        "u.did(",
        ")",
        "(",
        "E'\\",
        "$1",
        "?",
        "50110",
        "a",
        ",",
        "=",
        "\\",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn no_text_has_places_outside_of_it(pieces in prop::collection::vec(0..PIECES.len(), 0..14)) {
            let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
            let Statements { ended, rest } = statements(&text);
            prop_assert!(ended.iter().all(|sql| !sql.is_empty() && text.contains(sql)) && text.contains(rest));
            // A statement that was cut off ends nowhere else.
            for sql in ended {
                prop_assert_eq!(statements(sql), Statements { ended: Vec::new(), rest: sql }, "{}", text);
            }
            if let Err(error) = check(&text) {
                prop_assert!(error.span.is_none_or(|span| text.get(span).is_some()), "{}", text);
            }
            let dialect = GenericDialect {};
            if let Ok(tokens) = Tokenizer::new(&dialect, &text).tokenize_with_location() {
                let _ = rewrite(&text, tokens);
            }
        }
    }

    #[test]
    fn places_are_bytes() {
        let text = "a\nä;\n\nx";
        let at = |line, column| byte_at(text, Location { line, column });
        let found = [at(0, 0), at(1, 1), at(2, 2), at(2, 3), at(2, 9), at(4, 1), at(4, 2), at(9, 9)];
        assert_eq!(found, [0, 0, 4, 5, 6, 7, 8, 8]);
    }
}
