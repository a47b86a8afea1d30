//! Where statements end: for prompts and files that hold several.

use super::places::{Places, without_hints};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// A text cut at the semicolons that stand outside of quotes and comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statements<'t> {
    /// Those that a semicolon ends, without it; none is empty.
    pub ended: Vec<&'t str>,
    /// What stands behind the last semicolon; empty if there is nothing but spaces and comments.
    pub rest: &'t str,
}

/// Cuts a text into its statements.
pub fn statements(text: &str) -> Statements<'_> {
    let dialect = GenericDialect {};
    let plain = without_hints(text);
    let mut tokens = Vec::new();
    // A quote that is still open ends it: what was cut before that is right all the same.
    let is_whole = Tokenizer::new(&dialect, &plain).tokenize_with_location_into_buf(&mut tokens).is_ok();
    let mut ended = Vec::new();
    let (mut start, mut is_empty, mut places) = (0, true, Places::new(text));
    for token in tokens {
        match token.token {
            Token::SemiColon => {
                let end = places.byte_of(token.span.start);
                if !is_empty {
                    ended.push(text.get(start..end).unwrap_or_default().trim());
                }
                (start, is_empty) = (end + 1, true);
            }
            Token::Whitespace(_) => {}
            _ => is_empty = false,
        }
    }
    let rest = if is_empty && is_whole { "" } else { text.get(start..).unwrap_or_default().trim() };
    Statements { ended, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        let check = |text: &str, ended: &[&str], rest: &str| {
            assert_eq!(statements(text), Statements { ended: ended.to_vec(), rest }, "{text}");
        };
        check("", &[], "");
        check("SELECT 1", &[], "SELECT 1");
        check(" SELECT 1 ; ;\n-- over; done\n", &["SELECT 1"], "");
        check("SELECT ';' ; SELECT \"a;b\", 'ä;'\n;SELECT", &["SELECT ';'", "SELECT \"a;b\", 'ä;'"], "SELECT");
        check("SELECT 1 /* ; */ + 2; SELECT 'op;en", &["SELECT 1 /* ; */ + 2"], "SELECT 'op;en");
        check("SELECT $$;$$; x", &["SELECT $$;$$"], "x");
        check("/*!äää;*/ SELECT 1", &[], "/*!äää;*/ SELECT 1");
        check("SELECT 1 /*! ; */ + 2; /*!;*/", &["SELECT 1 /*! ; */ + 2"], "");
        check("SELECT '/*!;' /*! '; */; SELECT 2", &["SELECT '/*!;' /*! '; */"], "SELECT 2");
        check("-- only; a comment\nSELECT 'é';\r\n", &["-- only; a comment\nSELECT 'é'"], "");
    }
    #[test]
    fn many_statements_in_a_line_are_read_in_one_pass() {
        let text = "SELECT 'é';".repeat(100_000);
        let begun = std::time::Instant::now();
        let Statements { ended, rest } = statements(&text);
        assert!(ended.len() == 100_000 && ended.iter().all(|sql| *sql == "SELECT 'é'") && rest.is_empty());
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}
