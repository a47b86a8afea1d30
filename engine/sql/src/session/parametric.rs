//! Calls with two pairs of parentheses, `windowFunnel(3600)(ts, a, b)`, as ClickHouse writes them.
//!
//! The parser knows one pair. Of the functions that are written so here, the two pairs become one among the words of a statement, before
//! anything is parsed: the closing and the opening parenthesis between them are a comma.

use crate::functions::analysis::TWICE_CALLED;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// The words of a statement with such calls as calls of one pair of parentheses.
pub(super) fn joined(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let mut joined: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // Of each open parenthesis, whether it is the first one of such a call.
    let mut open: Vec<bool> = Vec::new();
    let mut is_behind_name = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(mut token) = tokens.next() {
        match &token.token {
            Token::LParen => open.push(is_behind_name),
            Token::RParen if open.pop() == Some(true) => {
                let mut blanks = Vec::new();
                while let Some(blank) = tokens.next_if(is_blank) {
                    blanks.push(blank);
                }
                if tokens.next_if(|next| next.token == Token::LParen).is_some() {
                    token.token = Token::Comma;
                    open.push(false);
                }
                joined.push(token);
                joined.extend(blanks);
                is_behind_name = false;
                continue;
            }
            _ => {}
        }
        if !is_blank(&token) {
            is_behind_name = matches!(&token.token, Token::Word(name) if name.quote_style.is_none()
                && TWICE_CALLED.iter().any(|own| name.value.eq_ignore_ascii_case(own)));
        }
        joined.push(token);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    #[track_caller]
    fn check(text: &str, wanted: &str) {
        let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().expect("words");
        let text: String = joined(tokens).iter().map(|token| token.token.to_string()).collect();
        assert_eq!(text, wanted);
    }

    #[test]
    fn two_pairs_are_one() {
        check("SELECT windowFunnel(5)(t, a) FROM x", "SELECT windowFunnel(5,t, a) FROM x");
        check("sequenceMatch('(?1)') \n (t, f(a)(b), (c))", "sequenceMatch('(?1)', \n t, f(a)(b), (c))");
        check("SEQUENCE_COUNT (g(1))((a), b)", "SEQUENCE_COUNT (g(1),(a), b)");
        check(
            "windowFunnel(5, 'a')(t, (SELECT sequenceCount('.')(u, v)))(w)",
            "windowFunnel(5, 'a',t, (SELECT sequenceCount('.',u, v)))(w)",
        );
    }

    #[test]
    fn others_stay() {
        for text in [
            "f(1)(2)",
            "windowFunnel(5, t, a)",
            "\"windowFunnel\"(5)(t)",
            "window_funnel, (a)(b)",
            "windowFunnel(5) AS x, (1)",
            ")(windowFunnel(",
            "windowFunnel(5)",
        ] {
            check(text, text);
        }
    }
}
