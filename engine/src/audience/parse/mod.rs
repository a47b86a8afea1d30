//! Text → [`Expr`], by the SQL parser that DataFusion uses.
//!
//! The parser takes any SQL expression; what is not in the audience language is refused here, with its place. Limits are
//! checked on the tokens, before anything recursive runs.

mod convert;
mod did;
mod similar;
mod tokens;

use super::error::{ExprError, ExprErrorKind};
use super::expr::{Expr, Span};
use convert::Converter;
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use tokens::{check_size, check_tokens, join_paths, wrap_distinct, wrap_uploads};

/// The longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting of parentheses and NOT.
pub const EXPRESSION_DEPTH_MAX: usize = 128;
/// The most words, operators and literals.
pub const EXPRESSION_TOKENS_MAX: usize = 200_000;
/// Above so many tokens the parser runs on a stack of its own: `a OR b OR c …` makes a tree as deep as it is long.
const TOKENS_ON_CALLERS_STACK: usize = 400;
const LARGE_STACK_BYTES: usize = 1 << 30;

/// Parses an expression.
///
/// # Errors
/// [`ExprError`] with what is wrong, where, and what to write instead.
pub fn parse(text: &str) -> Result<Expr, ExprError> {
    parse_as(text, false)
}

/// Parses a condition on an event, as it stands in `did(…)`: on the columns of its fact and its time, `ts`.
///
/// # Errors
/// As [`parse`].
pub fn parse_event(text: &str) -> Result<Expr, ExprError> {
    parse_as(text, true)
}

fn parse_as(text: &str, of_event: bool) -> Result<Expr, ExprError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression has {} bytes; at most {EXPRESSION_BYTES_MAX} are allowed", text.len());
        return Err(ExprError::new(ExprErrorKind::TooLarge, message).suggest("upload a long list as an audience"));
    }
    let places = Places::new(text);
    let dialect = GenericDialect {};
    let mut tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| ExprError::new(ExprErrorKind::Syntax, error.message).at(places.at(error.location)))?;
    check_size(&tokens, &places)?;
    join_paths(&mut tokens);
    check_tokens(&tokens, &places)?;
    wrap_uploads(&mut tokens);
    wrap_distinct(&mut tokens);
    if tokens.len() <= TOKENS_ON_CALLERS_STACK {
        return parse_tokens(tokens, &places, of_event);
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(LARGE_STACK_BYTES);
        let running = thread.spawn_scoped(scope, || parse_tokens(tokens, &places, of_event));
        let joined = running.map(|running| running.join());
        match joined {
            Ok(Ok(parsed)) => parsed,
            _ => Err(ExprError::new(ExprErrorKind::TooLarge, "the expression is too large to be parsed now")),
        }
    })
}

fn parse_tokens(tokens: Vec<TokenWithSpan>, places: &Places<'_>, of_event: bool) -> Result<Expr, ExprError> {
    let dialect = GenericDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(EXPRESSION_DEPTH_MAX * 3).with_tokens_with_locations(tokens);
    let parsed = parser.parse_expr().map_err(|error| syntax(error, places))?;
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Converter { places, of_event }.expr(&parsed),
        Token::DoubleEq => Err(unexpected("==", places.span(next.span)).suggest("write `=`")),
        token => Err(unexpected(&token.to_string(), places.span(next.span))),
    }
}

fn unexpected(what: &str, span: Span) -> ExprError {
    ExprError::new(ExprErrorKind::Syntax, format!("`{what}` was not expected here")).at(span)
}

/// The parser tells a place in words: "… at Line: 1, Column: 9".
fn syntax(error: ParserError, places: &Places<'_>) -> ExprError {
    let message = match error {
        ParserError::RecursionLimitExceeded => return too_deep(),
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
    };
    let Some((text, place)) = message.split_once(" at Line: ") else {
        let end = places.text.len();
        return ExprError::new(ExprErrorKind::Syntax, message.replace("found: EOF", "but the expression ends here"))
            .at(Span { start: end, end });
    };
    let location = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
    });
    let error = ExprError::new(ExprErrorKind::Syntax, text);
    location.map_or(error.clone(), |location| error.at(places.at(location)))
}

/// Lines and columns to bytes. Every condition asks for its place, so each is found at once, not by counting.
struct Places<'t> {
    text: &'t str,
    /// The byte that each character begins with.
    characters: Vec<u32>,
    /// The character that each line begins with.
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    /// The text is no longer than [`EXPRESSION_BYTES_MAX`].
    fn new(text: &'t str) -> Self {
        let line_feeds = text.chars().enumerate().filter(|(_, character)| *character == '\n');
        let begins = line_feeds.map(|(at, _)| at + 1);
        Places {
            text,
            characters: text.char_indices().map(|(at, _)| at as u32).collect(),
            lines: std::iter::once(0).chain(begins).collect(),
        }
    }

    fn byte(&self, location: Location) -> usize {
        let line = (location.line.max(1) as usize - 1).min(self.lines.len() - 1);
        let column = location.column.max(1) as usize - 1;
        self.characters.get(self.lines[line] + column).map_or(self.text.len(), |at| *at as usize)
    }

    fn at(&self, location: Location) -> Span {
        let start = self.byte(location);
        let len = self.text[start..].chars().next().map_or(0, char::len_utf8);
        Span { start, end: start + len }
    }

    fn span(&self, span: sqlparser::tokenizer::Span) -> Span {
        let start = self.byte(span.start);
        Span { start, end: self.byte(span.end).max(start) }
    }
}

fn too_deep() -> ExprError {
    let message = format!("the expression is nested more than {EXPRESSION_DEPTH_MAX} deep");
    ExprError::new(ExprErrorKind::TooLarge, message).suggest("save a part of it as an audience and use in_audience")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::expr::ExprKind;
    use proptest::prelude::*;

    fn check(text: &str, canonical: &str) {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), canonical);
        assert_eq!(parse(canonical).expect("canonical text parses"), expr, "{canonical}");
    }

    #[test]
    fn prints_canonically() {
        check("gender='f'  and AGE between 25 and 34", "gender = 'f' AND age BETWEEN 25 AND 34");
        check("(a='1' or b='2') and not c", "(a = '1' OR b = '2') AND NOT c");
        check("not (a = 1)", "NOT (a = 1)");
        check("30 < age", "age > 30");
        check("age > -3.50", "age > -3.50");
        check("interest in ('yoga', 'it''s')", "interest IN ('yoga', 'it''s')");
        check("array_has(interest, 'yoga')", "interest = 'yoga'");
        check("at_least(2, a = 1, b IS NULL, c)", "at_least(2, a = 1, b IS NULL, c)");
        check("user_id = 17 OR user_id NOT IN ('x')", "user_id IN ('17') OR user_id NOT IN ('x')");
        check("user_id NOT IN upload('s') AND x", "NOT in_audience('s') AND x");
        check("(a = 1) XOR (b = 2 AND c)", "(a = 1) XOR (b = 2 AND c)");
        check("((a)) AND (b AND c)", "a AND (b AND c)");
        check("seen_at >= TIMESTAMP '2026-11-20' AND true", "seen_at >= '2026-11-20' AND TRUE");
        check("a IS NOT DISTINCT FROM 'x' AND b IS NOT NULL", "(a IS NOT DISTINCT FROM 'x') AND b IS NOT NULL");
        check("c OR a IS DISTINCT FROM -1 AND b", "c OR (a IS DISTINCT FROM -1) AND b");
        check("users.age = 3", "age = 3");
        check(
            "did('a', Undeclared.extra.Coupon='X' or \"undeclared.k\" IS DISTINCT FROM -1 AND d.\"\" IS NULL, within=>'1 day', exact_window=>true)",
            "did('a', undeclared.extra.\"Coupon\" = 'X' OR (undeclared.k IS DISTINCT FROM -1) AND d.\"\" IS NULL, within => '1 day', exact_window => TRUE)",
        );
        check(
            "not DID('purchase', Category='shoes', 2 <= count, within=>'30 days')",
            "NOT did('purchase', category = 'shoes', count >= 2, within => '30 days')",
        );
        check(
            "did('p', ts between '2026-01-01' and '2026-01-31', sum(amount) not between -1 and 2.5, last < '7 days ago') AND a",
            "did('p', ts BETWEEN '2026-01-01' AND '2026-01-31', sum(amount) NOT BETWEEN -1 AND 2.5, last < '7 days ago') AND a",
        );
        check(
            "did('p', category in ('a', 'b') or gift) OR did('q')",
            "did('p', category IN ('a', 'b') OR gift) OR did('q')",
        );
        check(
            "not SIMILAR_TO('taste', Seed=>'vip', share=>0.0200) and a",
            "NOT similar_to('taste', seed => in_audience('vip'), share => 0.02) AND a",
        );
        check(
            "similar_to('it''s', size => 10, prototypes => 8, after => 5, exact=>true, weights => Spend, seed => a or b = 1, exclude => (c), include_seed => true, within => d and e is null)",
            "similar_to('it''s', seed => a OR b = 1, size => 10, after => 5, within => d AND e IS NULL, exclude => c, include_seed => TRUE, prototypes => 8, weights => spend, exact => TRUE)",
        );
        check(
            "similar_to('t', seed => user_id IN ('u'), method => 'linear', share => 1, after => 0, exact => FALSE)",
            "similar_to('t', seed => user_id IN ('u'), share => 1, method => 'linear')",
        );
        check(
            "similar_to('t', seed => similar_to('t', seed => a, size => 1), size => 2) OR b",
            "similar_to('t', seed => similar_to('t', seed => a, size => 1), size => 2) OR b",
        );
    }

    #[test]
    fn who_is_like_whom_is_told_in_full() {
        for (text, part) in [
            ("similar_to()", "write similar_to('taste'"),
            ("similar_to(taste, seed => a, size => 1)", "in single quotes"),
            ("similar_to('t', a, size => 1)", "options by name"),
            ("similar_to('t', size => 1)", "needs a seed"),
            ("similar_to('t', seed => a)", "needs a size or a share"),
            ("similar_to('t', seed => a, size => 1, share => 0.1)", "told twice"),
            ("similar_to('t', seed => a, seed => b, size => 1)", "seed is told twice"),
            ("similar_to('t', seed => a, size => 1, method => 'mean', prototypes => 3)", "write method or prototypes"),
            ("similar_to('t', seed => a, size => 0)", "nobody is asked for"),
            ("similar_to('t', seed => a, size => -5)", "-5 is no number of users"),
            ("similar_to('t', seed => a, size => 'x')", "a number is expected"),
            ("similar_to('t', seed => a, share => 0)", "nobody is asked for"),
            ("similar_to('t', seed => a, share => 1.5)", "write share => 0.02 for the most similar 2 %"),
            ("similar_to('t', seed => a, share => 0.6, after => 0.5)", "more than 1"),
            ("similar_to('t', seed => a, share => 0.6, after => 5)", "at most 1"),
            ("similar_to('t', seed => a, size => 6, after => 0.5)", "no number of users"),
            ("similar_to('t', seed => a, size => 1, method => 'median')", "no method"),
            ("similar_to('t', seed => a, size => 1, prototypes => 0)", "between 1 and 256"),
            ("similar_to('t', seed => a, size => 1, prototypes => 257)", "between 1 and 256"),
            ("similar_to('t', seed => a, size => 1, exact => 1)", "write exact => TRUE"),
            ("similar_to('t', seed => a, size => 1, sized => 2)", "no option `sized`"),
            ("simlar_to('t', seed => a, size => 1)", "did you mean similar_to(…)?"),
        ] {
            let error = refused(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn refused(text: &str) -> String {
        let error = parse(text).expect_err(text);
        let place = error.span.map(|span| format!(" [{}]", &text[span.start..span.end])).unwrap_or_default();
        format!("{error}{place}")
    }

    #[test]
    fn errors_say_what_where_and_what_instead() {
        assert_eq!(refused("gender = \"f\""), "double quotes are for names; write 'f' [\"f\"]");
        assert_eq!(
            refused("gender = f"),
            "two tags cannot be compared with each other; put a text value in single quotes [f]"
        );
        assert_eq!(refused("age = NULL"), "nothing equals NULL; use IS NULL or IS NOT NULL [NULL]");
        assert_eq!(
            refused("in_audence('x')"),
            "there is no function in_audence(…); did you mean in_audience(…)? [in_audence('x')]"
        );
        assert_eq!(
            refused("did('purchase', counts >= 2, within => 30)"),
            "within is told as text; write within => '30 days' [30]"
        );
        assert!(refused("did(purchase)").contains("write did('purchase'"));
        assert!(refused("did('a', within => '1 day', within => '2 days')").contains("twice"));
        assert!(refused("did('a', exact_window => TRUE)").contains("there is no within"));
        assert!(refused("did('a', within => '1 day', exact_window => 1)").contains("write exact_window => TRUE"));
        assert!(refused("a.b = 1").contains("cannot be the name of a tag"));
        assert!(refused("did('a', since => '1 day')").contains("`since`"));
        assert!(refused("age > 3 3").starts_with("`3` was not expected here"));
        assert!(refused("at_least(4, a, b)").contains("from 1 to 2"));
        assert!(refused("age >").contains("the expression ends here"));
        assert!(refused("name LIKE 'a%'").contains("list the values with IN"));
        assert!(refused("(a AND b").contains("Expected: )"));
        assert!(refused("").contains("the expression ends here"));
    }

    #[test]
    fn size_is_limited_and_length_alone_is_not_depth() {
        let deep = format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(parse(&deep).expect_err("deep").kind, ExprErrorKind::TooLarge);
        let negated = format!("{}a", "NOT ".repeat(10_000));
        let error = parse(&negated).expect_err("deep");
        assert_eq!(error.kind, ExprErrorKind::TooLarge, "{error}");
        let long = vec!["age = 1"; 30_000].join(" OR ");
        let ExprKind::Or(operands) = parse(&long).expect("long").kind else { panic!("an OR") };
        assert_eq!(operands.len(), 30_000);
        assert_eq!(parse(&"x".repeat(EXPRESSION_BYTES_MAX + 1)).expect_err("long").kind, ExprErrorKind::TooLarge);
    }

    /// One that took exponential time would never end.
    #[test]
    fn hostile_nesting_ends() {
        for open in [
            "(",
            "NOT ",
            "at_least(1, ",
            "a = -",
            "a IN (",
            "case when ",
            "cast(",
            "(select ",
            "interval ",
            "a(",
            "exists(",
            "array(",
            "(a, ",
            "sum(",
            "did('a', ",
            "did('a', within => ",
        ] {
            for inner in ["a", "a b", "a,", "'x' 'y'", "select", "a = ", ") (", "=>"] {
                for depth in [10, 40, 120] {
                    let open = open.repeat(depth);
                    let _ = parse(&format!("{open}{inner}{}", ")".repeat(depth)));
                    let _ = parse(&format!("{open}{inner}"));
                }
            }
        }
        let _ = parse(&"users.".repeat(50));
        let _ = parse(&["a"; 2_000].join(" XOR "));
        assert!(refused(&"W.W@.#".repeat(50)).contains("is not part of the audience language"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9 '\"()=<>!,.%_é-]{0,60}|(at_least|in_audience|NOT|AND|OR|IN|BETWEEN|a|1|'x'|[(),=<] ){0,20}") {
            if let Ok(expr) = parse(&text) {
                let printed = expr.to_string();
                prop_assert_eq!(parse(&printed).expect("canonical text parses"), expr, "{}", printed);
            }
        }
    }
}
