//! What must hold of the tokens before anything recursive runs over them, and what is rewritten for the SQL grammar.

use super::{EXPRESSION_DEPTH_MAX, EXPRESSION_TOKENS_MAX, Places, too_deep};
use crate::audience::error::{ExprError, ExprErrorKind};
use crate::audience::path;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

pub(super) fn check_size(tokens: &[TokenWithSpan], places: &Places<'_>) -> Result<(), ExprError> {
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    if words.count() > EXPRESSION_TOKENS_MAX {
        let message = format!("the expression has more than {EXPRESSION_TOKENS_MAX} words");
        return Err(ExprError::new(ExprErrorKind::TooLarge, message).suggest("upload a long list as an audience"));
    }
    // Open parentheses, and NOTs in a row.
    let (mut depth, mut negations, mut exclusives) = (0usize, 0usize, 0usize);
    for token in tokens {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::NOT => negations += 1,
            Token::Word(word) if word.keyword == Keyword::XOR => exclusives += 1,
            Token::Whitespace(_) => {}
            _ => negations = 0,
        }
        if depth.max(negations).max(exclusives) > EXPRESSION_DEPTH_MAX {
            return Err(too_deep().at(places.span(token.span)));
        }
    }
    Ok(())
}

/// Refuses what no expression has before the parser sees it: SQL's grammar has corners (chains of `.` and `@`) that take it
/// exponential time to give up on.
pub(super) fn check_tokens(tokens: &[TokenWithSpan], places: &Places<'_>) -> Result<(), ExprError> {
    let mut last_word = "";
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Word(word) if has_grammar_of_its_own(word.keyword, &tokens[at + 1..]) => {
                let message = format!("`{}` is not part of the audience language", word.value);
                return Err(ExprError::new(ExprErrorKind::Unsupported, message).at(places.span(token.span)));
            }
            Token::Word(word) => last_word = &word.value,
            Token::Period
                if last_word.eq_ignore_ascii_case("users")
                    && tokens.get(at.wrapping_sub(2)).is_none_or(|before| before.token != Token::Period) =>
            {
                last_word = "";
            }
            Token::Number(_, _) | Token::SingleQuotedString(_) | Token::Comma | Token::LParen | Token::RParen => {
                last_word = "";
            }
            Token::Eq | Token::DoubleEq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => {
                last_word = "";
            }
            Token::Minus | Token::Plus | Token::RArrow => last_word = "",
            Token::Whitespace(_) | Token::EOF => {}
            other => {
                let message = format!("`{other}` is not part of the audience language");
                return Err(ExprError::new(ExprErrorKind::Syntax, message).at(places.span(token.span)));
            }
        }
    }
    Ok(())
}

/// Whether an SQL keyword begins a construct (`CAST(…)`, `CASE WHEN`, `INTERVAL …`) rather than being a name: the language has
/// none of these, and nested ones take the parser exponential time.
fn has_grammar_of_its_own(keyword: Keyword, rest: &[TokenWithSpan]) -> bool {
    use Keyword as K;
    let own = |keyword: Keyword| {
        matches!(
            keyword,
            K::NoKeyword
                | K::AND
                | K::OR
                | K::NOT
                | K::XOR
                | K::IN
                | K::IS
                | K::NULL
                | K::DISTINCT
                | K::FROM
                | K::BETWEEN
                | K::TRUE
                | K::FALSE
                | K::DATE
                | K::TIMESTAMP
                | K::LIKE
                | K::ILIKE
                | K::SUM
        )
    };
    if own(keyword) {
        return false;
    }
    if matches!(keyword, K::CASE | K::CAST | K::TRY_CAST | K::EXISTS | K::INTERVAL | K::PRIOR | K::SELECT) {
        return true;
    }
    match rest.iter().map(|token| &token.token).find(|token| !matches!(token, Token::Whitespace(_))) {
        Some(Token::LParen | Token::SingleQuotedString(_)) => true,
        Some(Token::Word(next)) => !own(next.keyword) || next.keyword == K::NoKeyword,
        _ => false,
    }
}

/// `undeclared.extra.Coupon` becomes one name in quotes: a value in JSON. Also because of a chain of `.` the parser has
/// many readings. The column's name is lower-case as any name in SQL; keys are as written.
pub(super) fn join_paths(tokens: &mut Vec<TokenWithSpan>) {
    let word = |token: Option<&TokenWithSpan>| match token.map(|token| &token.token) {
        Some(Token::Word(word)) => Some(word.clone()),
        _ => None,
    };
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let mut made = token.clone();
        let mut parts = Vec::new();
        let mut end = at + 1;
        if let Some(first) = word(Some(token)).filter(|first| !first.value.eq_ignore_ascii_case("users")) {
            parts.push(if first.quote_style.is_none() { first.value.to_ascii_lowercase() } else { first.value });
            while tokens.get(end).is_some_and(|token| token.token == Token::Period)
                && let Some(key) = word(tokens.get(end + 1))
            {
                parts.push(key.value);
                end += 2;
            }
        }
        if parts.len() > 1 {
            let value = path::join(parts.iter().map(String::as_str));
            made.token = Token::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword });
            made.span = Span::new(token.span.start, tokens[end - 1].span.end);
        }
        out.push(made);
        at = end;
    }
    *tokens = out;
}

/// `IN upload('x')` becomes `IN (upload('x'))`, which the SQL grammar has.
pub(super) fn wrap_uploads(tokens: &mut Vec<TokenWithSpan>) {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let is_word = |token: &Token, word: &str| matches!(token, Token::Word(w) if w.value.eq_ignore_ascii_case(word));
    let mut close_after: Option<usize> = None;
    let mut depth = 0usize;
    for token in tokens.drain(..) {
        let last = out.iter().rev().find(|token| !matches!(token.token, Token::Whitespace(_)));
        let span = token.span;
        if is_word(&token.token, "upload") && last.is_some_and(|last| is_word(&last.token, "in")) {
            out.push(TokenWithSpan { token: Token::LParen, span });
            close_after = Some(depth);
        }
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let closes = token.token == Token::RParen && close_after == Some(depth);
        out.push(token);
        if closes {
            out.push(TokenWithSpan { token: Token::RParen, span });
            close_after = None;
        }
    }
    *tokens = out;
}

/// `a IS DISTINCT FROM 'x' AND b` becomes `(a IS DISTINCT FROM 'x') AND b`: the SQL parser takes everything behind FROM as
/// its operand, though the standard binds it more tightly than AND.
pub(super) fn wrap_distinct(tokens: &mut Vec<TokenWithSpan>) {
    let is_word = |token: &TokenWithSpan, word: &str| matches!(&token.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
    if !tokens.iter().any(|token| is_word(token, "distinct")) {
        return;
    }
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 16);
    let mut at = 0;
    while at < tokens.len() {
        let negated = usize::from(tokens.get(at + 1).is_some_and(|token| is_word(token, "not")));
        let distinct = is_word(&tokens[at], "is")
            && tokens.get(at + 1 + negated).is_some_and(|token| is_word(token, "distinct"))
            && tokens.get(at + 2 + negated).is_some_and(|token| is_word(token, "from"));
        let after_name = matches!(out.last(), Some(TokenWithSpan { token: Token::Word(_), .. }));
        if !(distinct && after_name) {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let qualified = out.len() >= 3 && out[out.len() - 2].token == Token::Period;
        let name_at = out.len() - if qualified { 3 } else { 1 };
        let span = out[name_at].span;
        out.insert(name_at, TokenWithSpan { token: Token::LParen, span });
        // The operand: an optional sign or type name, and a literal.
        let mut end = at + 3 + negated;
        let prefix = |token: &Token| matches!(token, Token::Minus | Token::Plus);
        let typed = |end: usize| {
            matches!(
                (tokens.get(end).map(|t| &t.token), tokens.get(end + 1).map(|t| &t.token)),
                (Some(Token::Word(_)), Some(Token::SingleQuotedString(_)))
            )
        };
        if tokens.get(end).is_some_and(|token| prefix(&token.token)) || typed(end) {
            end += 1;
        }
        end = (end + 1).min(tokens.len());
        out.extend(tokens[at..end].iter().cloned());
        out.push(TokenWithSpan { token: Token::RParen, span: tokens[end - 1].span });
        at = end;
    }
    *tokens = out;
}
