//! What statements are taken: one question at a time, of bounded size.
//!
//! Everything else is refused here, before anything is planned: what would write, and what would reach files, the network or settings.

use super::calls;
use super::error::{Names, SqlError, SqlErrorKind};
use super::lambda::WithLambdas;
use super::parametric;
use super::places::{HINT, hint_at};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, ObjectName, ObjectNamePart, Query, SetExpr, Visit, Visitor, visit_relations,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// The longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// The most words, operators and literals of a statement.
pub const STATEMENT_TOKENS_MAX: usize = 50_000;
/// The longest text in quotes, in bytes: functions join texts as often as a statement says.
pub const STATEMENT_TEXT_BYTES_MAX: usize = 16 << 10;
/// The longest name, in bytes.
pub const STATEMENT_NAME_BYTES_MAX: usize = 1 << 10;
/// The most operators of a statement: what joins operands one by one makes a tree as deep as it is long.
pub const STATEMENT_OPERATORS_MAX: usize = 2_000;
/// The deepest nesting of parentheses and queries.
pub const STATEMENT_DEPTH_MAX: usize = 64;
/// The most tables that a statement may read, those behind a name of `WITH` counted as often as it is used.
pub const STATEMENT_TABLES_MAX: usize = 32;
/// The deepest nesting of words that begin an expression (`CASE`, `CAST(`, `TRIM(`, …). The parser reads such a word once more, as
/// a name, when what follows is wrong: twice as often with each level. Lambdas count wherever they stand.
pub const STATEMENT_TWICE_READ_MAX: usize = 10;
/// Levels of the parser that a level of nesting may take.
const PARSER_LEVELS: usize = 3;

/// What is taken, for people.
const TAKEN: &str = "SELECT, WITH, VALUES, EXPLAIN, DESCRIBE, SHOW TABLES and SHOW COLUMNS are taken";

/// Parses a statement and refuses all that is not a question.
///
/// # Errors
/// [`SqlError`] with the place.
pub(super) fn check(text: &str) -> Result<Statement, SqlError> {
    if text.len() > STATEMENT_BYTES_MAX {
        let message = format!("the statement has {} bytes; at most {STATEMENT_BYTES_MAX} are taken", text.len());
        return Err(SqlError::new(SqlErrorKind::TooLarge, message));
    }
    if let Some(start) = hint_at(text) {
        let message = format!("a comment that begins with `{HINT}` is not taken");
        let error = SqlError::new(SqlErrorKind::Refused, message).suggest("write it as /* … */");
        return Err(SqlError { span: Some(start..start + HINT.len()), ..error });
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| SqlError::new(SqlErrorKind::Syntax, error.message).at(text, error.location))?;
    check_tokens(text, &tokens)?;
    let parser = DFParserBuilder::new(calls::rewrite(text, parametric::joined(tokens))?)
        .with_dialect(&WithLambdas)
        .with_recursion_limit(STATEMENT_DEPTH_MAX * PARSER_LEVELS)
        .build();
    let statements = parser.and_then(|mut parser| parser.parse_statements());
    let mut statements = statements.map_err(|error| SqlError::from_datafusion(&error, text, &Names::default()))?;
    let Some(statement) = statements.pop_front() else {
        return Err(SqlError::new(SqlErrorKind::Syntax, "there is no statement").suggest(TAKEN));
    };
    if !statements.is_empty() {
        let message = format!("{} statements stand there; one at a time is taken", statements.len() + 1);
        return Err(SqlError::new(SqlErrorKind::Refused, message).suggest("send them one by one"));
    }
    check_statement(&statement)?;
    Ok(statement)
}

/// Whether a statement can be answered for one who knows of a part: plans tell of the whole how much is read, and how much there is.
///
/// # Errors
/// [`SqlError`] if it explains another.
pub(super) fn check_of_part(statement: &Statement) -> Result<(), SqlError> {
    let explains = match statement {
        Statement::Explain(_) => true,
        Statement::Statement(statement) => matches!(**statement, ast::Statement::Explain { .. }),
        _ => false,
    };
    if explains {
        return Err(SqlError::new(SqlErrorKind::Refused, "plans tell of users that are not yours to see")
            .suggest("ask the operator of the server"));
    }
    Ok(())
}

/// A statement with a condition in it, and nothing else that could be wrong.
pub(super) fn around(condition: &str) -> String {
    format!("SELECT 1 WHERE (\n{condition}\n)")
}

/// Whether what is parsed of [`around`] has one condition in its parentheses, and is else what it is around any other.
///
/// # Errors
/// [`SqlError`] if the text has closed them, and gone on.
pub(super) fn is_condition(statement: &Statement) -> Result<(), SqlError> {
    let plain = check(&around("TRUE"))?;
    match (without_condition(statement), without_condition(&plain)) {
        (Some((rest, ast::Expr::Nested(_))), Some((plain, _))) if rest == plain => Ok(()),
        _ => {
            let error = SqlError::new(SqlErrorKind::Refused, "the condition ends before its text does");
            Err(error.suggest("write one condition, whose parentheses are closed where they were opened"))
        }
    }
}

/// A question of one SELECT without its condition, and that.
fn without_condition(statement: &Statement) -> Option<(Query, ast::Expr)> {
    let Statement::Statement(statement) = statement else { return None };
    let ast::Statement::Query(query) = &**statement else { return None };
    let mut query = Query::clone(query);
    let SetExpr::Select(select) = &mut *query.body else { return None };
    let condition = select.selection.take()?;
    Some((query, condition))
}

/// Looks at the size before anything recursive runs.
fn check_tokens(text: &str, tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let (mut depth, mut operators, mut count) = (0usize, 0usize, 0usize);
    // Operators that stand one behind the other: each is within the one before.
    let mut prefixes = 0usize;
    let mut twice = TwiceRead::default();
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            other => operators += usize::from(is_operator(other)),
        }
        count += 1;
        if let Err(what) = twice.turn_to(&token.token) {
            return Err(SqlError::new(SqlErrorKind::Syntax, what).at(text, token.span.start));
        }
        prefixes = if is_prefix(&token.token) { prefixes + 1 } else { 0 };
        let too_large = |what: String| Err(SqlError::new(SqlErrorKind::TooLarge, what).at(text, token.span.start));
        if depth.max(prefixes) > STATEMENT_DEPTH_MAX {
            return too_large(format!("operands stand more than {STATEMENT_DEPTH_MAX} deep"));
        }
        if operators > STATEMENT_OPERATORS_MAX {
            return too_large(format!("the statement has more than {STATEMENT_OPERATORS_MAX} operators"));
        }
        if count > STATEMENT_TOKENS_MAX {
            return too_large(format!("the statement has more than {STATEMENT_TOKENS_MAX} words"));
        }
        if text_bytes(&token.token) > STATEMENT_TEXT_BYTES_MAX {
            return too_large(format!("a text has more than {STATEMENT_TEXT_BYTES_MAX} bytes"));
        }
        if matches!(&token.token, Token::Word(name) if name.value.len() > STATEMENT_NAME_BYTES_MAX) {
            return too_large(format!("a name has more than {STATEMENT_NAME_BYTES_MAX} bytes"));
        }
        if twice.depth() > STATEMENT_TWICE_READ_MAX {
            return too_large(format!(
                "expressions such as CASE and CAST stand more than {STATEMENT_TWICE_READ_MAX} deep in each other, all lambdas counted"
            ));
        }
    }
    Ok(())
}

/// The bytes of a text in quotes; 0 of anything else.
fn text_bytes(token: &Token) -> usize {
    match token {
        Token::SingleQuotedString(text)
        | Token::NationalStringLiteral(text)
        | Token::HexStringLiteral(text)
        | Token::EscapedStringLiteral(text)
        | Token::UnicodeStringLiteral(text) => text.len(),
        Token::DollarQuotedString(text) => text.value.len(),
        _ => 0,
    }
}

/// Words that the parser may read twice, as far as they are open.
#[derive(Default)]
struct TwiceRead {
    /// Of each open parenthesis, whether such a word stands before it.
    parentheses: Vec<bool>,
    cases: usize,
    /// Types of types, `ARRAY<…`, which nothing closes for us.
    types: usize,
    /// `v -> …`, which nothing closes either.
    lambdas: usize,
    explains: usize,
    before: Option<Keyword>,
}

impl TwiceRead {
    fn depth(&self) -> usize {
        self.parentheses.iter().filter(|is_twice| **is_twice).count() + self.cases + self.types + self.lambdas
    }

    /// # Errors
    /// What is wrong with a word, and what to write instead.
    fn turn_to(&mut self, token: &Token) -> Result<(), &'static str> {
        let before = self.before.take();
        if before == Some(Keyword::INTERVAL) && !matches!(token, Token::SingleQuotedString(_) | Token::Number(..)) {
            return Err(
                "behind INTERVAL stands how long, in quotes: INTERVAL '1 day'; write a column of this name in double quotes",
            );
        }
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                self.parentheses.push(before.is_some_and(begins_expression));
            }
            Token::RParen | Token::RBracket | Token::RBrace => drop(self.parentheses.pop()),
            Token::Arrow => self.lambdas += 1,
            Token::Lt => self.types += usize::from(before.is_some_and(begins_expression)),
            Token::Word(word) if word.quote_style.is_none() => {
                match word.keyword {
                    Keyword::CASE => self.cases += 1,
                    Keyword::END => self.cases = self.cases.saturating_sub(1),
                    Keyword::EXPLAIN => self.explains += 1,
                    Keyword::LAMBDA => self.lambdas += 1,
                    _ => {}
                }
                if self.explains > 1 {
                    return Err(
                        "EXPLAIN stands once, before the statement; write a column of this name in double quotes",
                    );
                }
                self.before = Some(word.keyword);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the parser takes the word for the begin of an expression or of a type of types before it takes it for a name.
fn begins_expression(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::CURRENT_CATALOG
            | Keyword::CURRENT_USER
            | Keyword::SESSION_USER
            | Keyword::USER
            | Keyword::CURRENT_TIMESTAMP
            | Keyword::CURRENT_TIME
            | Keyword::CURRENT_DATE
            | Keyword::LOCALTIME
            | Keyword::LOCALTIMESTAMP
            | Keyword::CONVERT
            | Keyword::TRY_CONVERT
            | Keyword::CAST
            | Keyword::TRY_CAST
            | Keyword::SAFE_CAST
            | Keyword::EXISTS
            | Keyword::EXTRACT
            | Keyword::CEIL
            | Keyword::FLOOR
            | Keyword::POSITION
            | Keyword::SUBSTR
            | Keyword::SUBSTRING
            | Keyword::OVERLAY
            | Keyword::TRIM
            | Keyword::ARRAY
            | Keyword::MATCH
            | Keyword::STRUCT
            | Keyword::MAP
            | Keyword::LAMBDA
            | Keyword::NULLABLE
            | Keyword::LOWCARDINALITY
            | Keyword::NESTED
            | Keyword::TUPLE
            | Keyword::NOT
    )
}

fn is_prefix(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NOT,
        Token::Minus | Token::Plus | Token::Tilde => true,
        _ => false,
    }
}

/// Whether a token can make a tree one level deeper.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::AT
                | Keyword::COLLATE
                | Keyword::WHEN
                | Keyword::SELECT
                | Keyword::VALUES
                | Keyword::TABLE
                | Keyword::FROM
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::EXPLAIN
                | Keyword::WITH
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

/// What the parser of SQL made of a statement; DataFusion's own have nothing of it.
pub(super) fn parsed(statement: &mut Statement) -> Option<&mut ast::Statement> {
    match statement {
        Statement::Explain(explain) => parsed(&mut explain.statement),
        Statement::Statement(statement) => Some(statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => None,
    }
}

fn refuse(what: &str) -> SqlError {
    SqlError::new(SqlErrorKind::Refused, format!("{what} is not taken: nothing is changed by SQL")).suggest(TAKEN)
}

fn check_statement(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Explain(explain) => check_statement(&explain.statement),
        Statement::Statement(statement) => check_sql(statement),
        Statement::CreateExternalTable(_) => Err(refuse("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => Err(refuse("COPY")),
        Statement::Reset(_) => Err(refuse("RESET")),
    }
}

fn check_sql(statement: &ast::Statement) -> Result<(), SqlError> {
    match statement {
        ast::Statement::Query(query) => {
            check_query(query)?;
            check_tables(query)
        }
        ast::Statement::Explain { statement, .. } => check_sql(statement),
        ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. } => Ok(()),
        other => {
            let text = other.to_string();
            Err(refuse(text.split_whitespace().next().unwrap_or("this statement")))
        }
    }
}

/// The parser takes statements that write in place of a query too.
fn check_query(query: &Query) -> Result<(), SqlError> {
    if let Some(with) = &query.with {
        with.cte_tables.iter().try_for_each(|table| check_query(&table.query))?;
    }
    if !query.locks.is_empty() {
        return Err(refuse("FOR UPDATE"));
    }
    let mut open = vec![&*query.body];
    while let Some(body) = open.pop() {
        match body {
            SetExpr::Select(select) if select.into.is_some() => return Err(refuse("SELECT INTO")),
            SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => {}
            SetExpr::Query(query) => check_query(query)?,
            SetExpr::SetOperation { left, right, .. } => open.extend([&**left, &**right]),
            SetExpr::Insert(_) => return Err(refuse("INSERT")),
            SetExpr::Update(_) => return Err(refuse("UPDATE")),
            SetExpr::Delete(_) => return Err(refuse("DELETE")),
            SetExpr::Merge(_) => return Err(refuse("MERGE")),
        }
    }
    Ok(())
}

/// What stands behind a name of `WITH` is planned wherever the name is used, so that a few lines can stand for any number of tables.
fn check_tables(query: &Query) -> Result<(), SqlError> {
    let mut named = Named::default();
    let _ = query.visit(&mut named);
    let count = named.count(&relations(query), &mut Vec::new());
    if count > STATEMENT_TABLES_MAX {
        let message = format!(
            "the statement reads more than {STATEMENT_TABLES_MAX} tables, those behind a name of WITH counted as often as it is used"
        );
        return Err(SqlError::new(SqlErrorKind::TooLarge, message));
    }
    Ok(())
}

/// The names of the tables in a query, as often as they stand there, but for those in its own `WITH`.
fn relations(query: &Query) -> Vec<String> {
    let mut names = Vec::new();
    let _ = visit_relations(&*query.body, |name| {
        names.push(plain(name));
        ControlFlow::<()>::Continue(())
    });
    names
}

/// A name as it is looked up, without quotes; of one with several parts the last.
fn plain(name: &ObjectName) -> String {
    let last = name.0.last().and_then(ObjectNamePart::as_ident);
    last.map_or_else(|| name.to_string(), |ident| ident.value.clone()).to_lowercase()
}

/// What the names of `WITH` stand for, wherever they are defined; of one that is defined twice, all.
#[derive(Default)]
struct Named(HashMap<String, Vec<String>>);

impl Visitor for Named {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let names = relations(&table.query);
            self.0.entry(table.alias.name.value.to_lowercase()).or_default().extend(names);
        }
        ControlFlow::Continue(())
    }
}

impl Named {
    /// How many tables these names come to, no further than the most there may be. `open` are the names that this is behind.
    fn count(&self, names: &[String], open: &mut Vec<String>) -> usize {
        let mut total = 0;
        for name in names {
            total += match self.0.get(name) {
                Some(behind) if !open.contains(name) && open.len() < STATEMENT_TABLES_MAX => {
                    open.push(name.clone());
                    let count = self.count(behind, open);
                    open.pop();
                    count.max(1)
                }
                _ => 1,
            };
            if total > STATEMENT_TABLES_MAX {
                break;
            }
        }
        total
    }
}
