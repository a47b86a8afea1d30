//! Text → [`Expr`], by the SQL parser that DataFusion uses.
//!
//! The parser takes any SQL expression; what is not in the audience language is refused here, with its place. Limits are
//! checked on the tokens, before anything recursive runs.

use super::error::{ExprError, ExprErrorKind};
use super::expr::{CompareOp, Expr, ExprKind, Literal, Span};
use crate::catalog;
use sqlparser::ast::{self, BinaryOperator, Spanned, UnaryOperator};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

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
    check_tokens(&tokens, &places)?;
    wrap_uploads(&mut tokens);
    wrap_distinct(&mut tokens);
    if tokens.len() <= TOKENS_ON_CALLERS_STACK {
        return parse_tokens(tokens, &places);
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(LARGE_STACK_BYTES);
        let running = thread.spawn_scoped(scope, || parse_tokens(tokens, &places));
        let joined = running.map(|running| running.join());
        match joined {
            Ok(Ok(parsed)) => parsed,
            _ => Err(ExprError::new(ExprErrorKind::TooLarge, "the expression is too large to be parsed now")),
        }
    })
}

fn check_size(tokens: &[TokenWithSpan], places: &Places<'_>) -> Result<(), ExprError> {
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
fn check_tokens(tokens: &[TokenWithSpan], places: &Places<'_>) -> Result<(), ExprError> {
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

fn too_deep() -> ExprError {
    let message = format!("the expression is nested more than {EXPRESSION_DEPTH_MAX} deep");
    ExprError::new(ExprErrorKind::TooLarge, message).suggest("save a part of it as an audience and use in_audience")
}

/// `IN upload('x')` becomes `IN (upload('x'))`, which the SQL grammar has.
fn wrap_uploads(tokens: &mut Vec<TokenWithSpan>) {
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
fn wrap_distinct(tokens: &mut Vec<TokenWithSpan>) {
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

fn parse_tokens(tokens: Vec<TokenWithSpan>, places: &Places<'_>) -> Result<Expr, ExprError> {
    let dialect = GenericDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(EXPRESSION_DEPTH_MAX * 3).with_tokens_with_locations(tokens);
    let parsed = parser.parse_expr().map_err(|error| syntax(error, places))?;
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Converter { places }.expr(&parsed),
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

struct Converter<'p> {
    places: &'p Places<'p>,
}

type Converted<T> = Result<T, ExprError>;

impl Converter<'_> {
    fn span(&self, expr: &ast::Expr) -> Span {
        let mut span = self.places.span(expr.span());
        // The parser's span of a call ends before its parenthesis.
        let rest = &self.places.text[span.end..];
        if matches!(expr, ast::Expr::Function(_)) && rest.trim_start().starts_with(')') {
            span.end += rest.len() - rest.trim_start().len() + 1;
        }
        span
    }

    fn refuse<T>(&self, expr: &ast::Expr, message: impl Into<String>, suggestion: &str) -> Converted<T> {
        let error = ExprError::new(ExprErrorKind::Unsupported, message).at(self.span(expr));
        Err(if suggestion.is_empty() { error } else { error.suggest(suggestion) })
    }

    fn expr(&self, expr: &ast::Expr) -> Converted<Expr> {
        let span = self.span(expr);
        Ok(Expr { kind: self.kind(expr)?, span })
    }

    fn kind(&self, expr: &ast::Expr) -> Converted<ExprKind> {
        use ast::Expr as Sql;
        match expr {
            Sql::Nested(inner) => self.kind(inner),
            Sql::Identifier(name) if name.quote_style.is_none() => Ok(ExprKind::Flag(self.tag(expr)?)),
            Sql::Value(_) => match self.literal(expr)? {
                Literal::Bool(value) => Ok(ExprKind::Literal(value)),
                _ => self.refuse(expr, "a value alone is not a condition", "compare a tag with it: tag = value"),
            },
            Sql::UnaryOp { op: UnaryOperator::Not, expr } => Ok(ExprKind::Not(Box::new(self.expr(expr)?))),
            Sql::BinaryOp { left, op, right } => self.binary(expr, left, op, right),
            Sql::IsDistinctFrom(a, b) => self.compare(expr, a, CompareOp::IsDistinctFrom, b),
            Sql::IsNotDistinctFrom(a, b) => self.compare(expr, a, CompareOp::IsNotDistinctFrom, b),
            Sql::IsNull(of) => Ok(ExprKind::IsNull { tag: self.tag(of)?, negated: false }),
            Sql::IsNotNull(of) => Ok(ExprKind::IsNull { tag: self.tag(of)?, negated: true }),
            Sql::Between { expr: of, negated, low, high } => Ok(ExprKind::Between {
                tag: self.tag(of)?,
                low: self.literal(low)?,
                high: self.literal(high)?,
                negated: *negated,
            }),
            Sql::InList { expr: of, list, negated } => self.in_list(of, list, *negated),
            Sql::InSubquery { .. } => {
                self.refuse(expr, "a subquery is not part of the audience language", "use in_audience('name')")
            }
            Sql::Like { .. } | Sql::ILike { .. } => {
                self.refuse(expr, "LIKE is not part of the audience language", "list the values with IN (…)")
            }
            Sql::Function(function) => self.function(expr, function),
            Sql::Identifier(_) | Sql::CompoundIdentifier(_) => Ok(ExprKind::Flag(self.tag(expr)?)),
            _ => self.refuse(expr, format!("`{expr}` is not a condition of the audience language"), ""),
        }
    }

    fn binary(
        &self,
        whole: &ast::Expr,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
    ) -> Converted<ExprKind> {
        let compare = |op| self.compare(whole, left, op, right);
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let mut operands = Vec::new();
                self.flatten(left, op, &mut operands)?;
                self.flatten(right, op, &mut operands)?;
                Ok(if *op == BinaryOperator::And { ExprKind::And(operands) } else { ExprKind::Or(operands) })
            }
            BinaryOperator::Xor => {
                let conditions = |side: &ast::Expr| {
                    self.expr(side)
                        .map(Box::new)
                        .map_err(|error| error.suggest("put both sides of XOR in parentheses: (a = 1) XOR (b = 2)"))
                };
                Ok(ExprKind::Xor(conditions(left)?, conditions(right)?))
            }
            BinaryOperator::Eq => compare(CompareOp::Equal),
            BinaryOperator::NotEq => compare(CompareOp::NotEqual),
            BinaryOperator::Lt => compare(CompareOp::Less),
            BinaryOperator::LtEq => compare(CompareOp::LessOrEqual),
            BinaryOperator::Gt => compare(CompareOp::Greater),
            BinaryOperator::GtEq => compare(CompareOp::GreaterOrEqual),
            other => self.refuse(
                whole,
                format!("`{other}` is not an operator of the audience language"),
                "use =, <>, <, <=, >, >=, AND, OR, NOT, XOR",
            ),
        }
    }

    /// Takes `a AND b AND c` as one AND of three; parentheses keep their own.
    fn flatten(&self, expr: &ast::Expr, wanted: &BinaryOperator, out: &mut Vec<Expr>) -> Converted<()> {
        match expr {
            ast::Expr::BinaryOp { left, op, right } if op == wanted => {
                self.flatten(left, wanted, out)?;
                self.flatten(right, wanted, out)
            }
            expr => {
                out.push(self.expr(expr)?);
                Ok(())
            }
        }
    }

    fn compare(&self, whole: &ast::Expr, left: &ast::Expr, op: CompareOp, right: &ast::Expr) -> Converted<ExprKind> {
        let (side, op, value) = if is_name(left) { (left, op, right) } else { (right, turned(op), left) };
        if !is_name(side) {
            return self.refuse(whole, "a comparison needs a tag on one side", "write tag = value");
        }
        if is_name(value) && !matches!(value, ast::Expr::Identifier(name) if name.quote_style.is_some()) {
            return self.refuse(
                value,
                "two tags cannot be compared with each other",
                "put a text value in single quotes",
            );
        }
        let (tag, value) = (self.tag(side)?, self.literal(value)?);
        if tag != "user_id" {
            return Ok(ExprKind::Compare { tag, op, value });
        }
        let ids = vec![user_id(value)];
        match op {
            CompareOp::Equal | CompareOp::IsNotDistinctFrom => Ok(ExprKind::UserIn { ids, negated: false }),
            CompareOp::NotEqual | CompareOp::IsDistinctFrom => Ok(ExprKind::UserIn { ids, negated: true }),
            _ => self.refuse(whole, "user ids have no order", "use user_id = '…' or user_id IN (…)"),
        }
    }

    fn in_list(&self, of: &ast::Expr, list: &[ast::Expr], negated: bool) -> Converted<ExprKind> {
        let tag = self.tag(of)?;
        if let [ast::Expr::Function(function)] = list
            && function.name.to_string().eq_ignore_ascii_case("upload")
        {
            if tag != "user_id" {
                return self.refuse(of, "an uploaded list holds user ids", "write user_id IN upload('name')");
            }
            let name = self.text_argument(&list[0], function)?;
            let listed = ExprKind::InAudience(name);
            return Ok(if negated { ExprKind::Not(Box::new(listed.into())) } else { listed });
        }
        let values: Converted<Vec<Literal>> = list.iter().map(|value| self.literal(value)).collect();
        let values = values?;
        if values.is_empty() {
            return self.refuse(of, "IN needs at least one value", "");
        }
        if tag == "user_id" {
            return Ok(ExprKind::UserIn { ids: values.into_iter().map(user_id).collect(), negated });
        }
        Ok(ExprKind::In { tag, values, negated })
    }

    fn function(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<ExprKind> {
        let name = function.name.to_string().to_ascii_lowercase();
        match name.as_str() {
            "in_audience" => Ok(ExprKind::InAudience(self.text_argument(whole, function)?)),
            "at_least" => {
                let arguments = self.arguments(whole, function)?;
                let usage = "write at_least(2, a = 1, b = 2, c = 3)";
                let Some((k, of)) = arguments.split_first() else {
                    return self.refuse(whole, "at_least needs a number and conditions", usage);
                };
                let k = match self.literal(k)? {
                    Literal::Number(digits) => digits.parse().ok(),
                    _ => None,
                };
                let Some(k) = k.filter(|k: &u32| *k > 0 && *k as usize <= of.len()) else {
                    let message = format!("at_least: the first argument is how many, from 1 to {}", of.len());
                    return self.refuse(whole, message, usage);
                };
                let of: Converted<Vec<Expr>> = of.iter().map(|operand| self.expr(operand)).collect();
                Ok(ExprKind::AtLeast { k, of: of? })
            }
            "array_has" | "array_contains" | "list_has" => match self.arguments(whole, function)?.as_slice() {
                [list, value] => {
                    Ok(ExprKind::Compare { tag: self.tag(list)?, op: CompareOp::Equal, value: self.literal(value)? })
                }
                _ => self.refuse(whole, "array_has takes a set tag and a value", "write array_has(interest, 'yoga')"),
            },
            "upload" => self.refuse(whole, "upload(…) stands behind IN", "write user_id IN upload('name')"),
            "did" | "similar_to" => self.refuse(whole, format!("{name}(…) is not available yet"), ""),
            _ => {
                let known = ["in_audience", "at_least", "array_has"];
                let near = super::suggest::closest(&name, known).map(|near| format!("did you mean {near}(…)?"));
                self.refuse(whole, format!("there is no function {name}(…)"), &near.unwrap_or_default())
            }
        }
    }

    fn arguments(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<Vec<ast::Expr>> {
        let plain = |argument: &ast::FunctionArg| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        };
        let arguments = match &function.args {
            ast::FunctionArguments::List(list) if list.clauses.is_empty() => list.args.iter().map(plain).collect(),
            _ => None,
        };
        match arguments {
            Some(arguments) => Ok(arguments),
            None => self.refuse(whole, format!("the arguments of {} are not of a form it takes", function.name), ""),
        }
    }

    fn text_argument(&self, whole: &ast::Expr, function: &ast::Function) -> Converted<String> {
        match self.arguments(whole, function)?.as_slice() {
            [name] => match self.literal(name)? {
                Literal::Text(name) => Ok(name),
                _ => self.refuse(name, "expected a name in single quotes", ""),
            },
            _ => self.refuse(whole, format!("{} takes one name", function.name), "write in_audience('name')"),
        }
    }

    fn tag(&self, expr: &ast::Expr) -> Converted<String> {
        let name = match expr {
            ast::Expr::Nested(inner) => return self.tag(inner),
            // Unquoted names are lower-case in SQL; quoted ones are as written.
            ast::Expr::Identifier(name) if name.quote_style.is_some() => name.value.clone(),
            ast::Expr::Identifier(name) => name.value.to_ascii_lowercase(),
            ast::Expr::CompoundIdentifier(parts)
                if parts.len() == 2 && parts[0].value.eq_ignore_ascii_case("users") =>
            {
                parts[1].value.to_ascii_lowercase()
            }
            _ => return self.refuse(expr, format!("expected the name of a tag, found `{expr}`"), ""),
        };
        if name != "user_id" && !catalog::is_name(&name) {
            let message = format!("`{name}` cannot be the name of a tag");
            return Err(ExprError::new(ExprErrorKind::UnknownTag, message).at(self.span(expr)));
        }
        Ok(name)
    }

    fn literal(&self, expr: &ast::Expr) -> Converted<Literal> {
        use ast::Value;
        let refused = |what: &str, suggestion: &str| self.refuse(expr, what.to_owned(), suggestion);
        match expr {
            ast::Expr::Nested(inner) => self.literal(inner),
            ast::Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => Ok(Literal::Number(digits.clone())),
                Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
                Value::Boolean(value) => Ok(Literal::Bool(*value)),
                Value::Null => refused("nothing equals NULL", "use IS NULL or IS NOT NULL"),
                Value::DoubleQuotedString(_) => refused("double quotes are for names", "put text in single quotes"),
                _ => refused(
                    "this form of literal is not part of the audience language",
                    "use 'text', a number, TRUE or FALSE",
                ),
            },
            ast::Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: of } => {
                match self.literal(of)? {
                    Literal::Number(digits) if *op == UnaryOperator::Plus => Ok(Literal::Number(digits)),
                    Literal::Number(digits) => {
                        Ok(Literal::Number(digits.strip_prefix('-').map_or(format!("-{digits}"), str::to_owned)))
                    }
                    _ => refused("only a number has a sign", ""),
                }
            }
            ast::Expr::TypedString(typed) => match &typed.value.value {
                Value::SingleQuotedString(text) => Ok(Literal::Text(text.clone())),
                _ => refused("expected a time in single quotes", ""),
            },
            ast::Expr::Identifier(name) if name.quote_style == Some('"') => {
                refused("double quotes are for names", &format!("write '{}'", name.value))
            }
            ast::Expr::Identifier(name) => {
                refused("expected a value, found a name", &format!("put text in single quotes: '{}'", name.value))
            }
            _ => refused(&format!("expected a value, found `{expr}`"), ""),
        }
    }
}

fn is_name(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) => is_name(inner),
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => true,
        _ => false,
    }
}

fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessOrEqual => CompareOp::GreaterOrEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterOrEqual => CompareOp::LessOrEqual,
        same => same,
    }
}

/// A user id is text; an integer is its decimal text.
fn user_id(literal: Literal) -> String {
    match literal {
        Literal::Text(text) | Literal::Number(text) => text,
        Literal::Bool(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(refused("did('purchase')").starts_with("did(…) is not available yet"));
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
