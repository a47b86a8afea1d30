//! Text to a syntax tree in which every path is a column of ours.

use super::{DEPTH_MAX, TOKENS_MAX, column_name, names};
use crate::distinct_from;
use datafusion::common::{DFSchema, Result as Planned};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Operator, binary_expr};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, FunctionArguments, Ident, Subscript, UnaryOperator, Value, Visit, VisitMut,
    Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use engine::computed::ExpressionError;
use std::ops::ControlFlow;

/// An expression, read.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Its columns are named by [`column_name`].
    pub(super) expr: Expr,
    /// What they stand for, in the words of a mapping's paths.
    pub(super) paths: Vec<String>,
}

/// # Errors
/// With the place, where the parser tells it.
pub(super) fn parse(text: &str, state: &SessionState) -> Result<Parsed, ExpressionError> {
    if text.trim().is_empty() {
        return Err(ExpressionError::new("an expression cannot be empty").suggest("write one, as in price * quantity"));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| of_parser(error.into()))?;
    let count = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if count > TOKENS_MAX {
        let message = format!("an expression of {count} words and signs; it has at most {TOKENS_MAX}");
        return Err(ExpressionError::new(message).suggest("compute what it is made of before it is sent"));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut expr = parser.parse_expr().map_err(of_parser)?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let error = ExpressionError::new(format!("the expression ends before `{}`", rest.token));
        let column = usize::try_from(rest.span.start.column).ok();
        return Err(
            ExpressionError { column, ..error }.suggest("put an operator between, or quotes around an odd name")
        );
    }
    if Visit::visit(&expr, &mut Depth(0)).is_break() {
        let error = ExpressionError::new(format!("it nests more than {DEPTH_MAX} deep"));
        return Err(error.suggest("put parentheses around the halves of a long sum"));
    }
    distinct_from::rejoin(&mut expr);
    let mut taker = Taker { paths: Vec::new(), state };
    match VisitMut::visit(&mut expr, &mut taker) {
        ControlFlow::Continue(()) => Ok(Parsed { expr, paths: taker.paths }),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Looks at a path before its parts.
struct Taker<'s> {
    paths: Vec<String>,
    state: &'s SessionState,
}

impl VisitorMut for Taker<'_> {
    type Break = Box<ExpressionError>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match take(expr, &mut self.paths, self.state) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// Stops where it nests too deep.
struct Depth(usize);

impl Visitor for Depth {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 > DEPTH_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.0 -= 1;
        ControlFlow::Continue(())
    }
}

/// Signs before a value, whose type the planner would ask for before it is known, as signs between two of the same meaning.
fn between(expr: &mut Expr) {
    let Expr::UnaryOp { op, expr: inner } = expr else { return };
    let (left, op) = match (*op, inner.as_ref()) {
        (UnaryOperator::Minus | UnaryOperator::Plus, Expr::Value(_) | Expr::Interval(_)) => return,
        (UnaryOperator::Minus, _) => (Value::Number("0".to_owned(), false), BinaryOperator::Minus),
        (UnaryOperator::Plus, _) => (Value::Number("0".to_owned(), false), BinaryOperator::Plus),
        (UnaryOperator::Not, _) => (Value::Boolean(false), BinaryOperator::Eq),
        _ => return,
    };
    let right = std::mem::replace(inner.as_mut(), Expr::value(Value::Null));
    *expr = Expr::BinaryOp { left: Box::new(Expr::value(left)), op, right: Box::new(right) };
}

/// Puts a column in the place of a path, and refuses what no expression over a record has.
fn take(expr: &mut Expr, paths: &mut Vec<String>, state: &SessionState) -> Result<(), ExpressionError> {
    between(expr);
    let path = match expr {
        // One of ours: its parent was a path.
        Expr::Identifier(ident) if ident.quote_style == Some(OURS) => return Ok(()),
        Expr::Identifier(ident) => shown(&ident.value),
        Expr::CompoundIdentifier(idents) => {
            idents.iter().map(|ident| shown(&ident.value)).collect::<Vec<_>>().join(".")
        }
        Expr::CompoundFieldAccess { root, access_chain } => match root.as_ref() {
            Expr::Identifier(ident) => path_of(ident, access_chain)?,
            _ => return Ok(()),
        },
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) if name.starts_with('$') => name.clone(),
            Value::Placeholder(name) => return Err(ExpressionError::new(format!("`{name}` stands for nothing here"))),
            _ => return Ok(()),
        },
        Expr::Function(function) => match names::called(function) {
            // A word that SQL keeps for itself, and records have.
            Some((name, _)) if name == "user" && matches!(function.args, FunctionArguments::None) => name,
            _ => return names::check(function, state),
        },
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
            return Err(ExpressionError::new("an expression has no subqueries").suggest("it sees one record alone"));
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
            return Err(
                ExpressionError::new("`*` for all fields is no value").suggest("write $record for the whole record")
            );
        }
        Expr::Lambda(_) => return Err(ExpressionError::new("an expression has no functions of its own")),
        _ => return Ok(()),
    };
    let index = paths.iter().position(|known| *known == path).unwrap_or_else(|| {
        paths.push(path);
        paths.len() - 1
    });
    *expr = Expr::Identifier(Ident { quote_style: Some(OURS), ..Ident::new(column_name(index)) });
    Ok(())
}

/// Tells our columns from names of the user's: no text has such quotes.
const OURS: char = '\0';

fn path_of(root: &Ident, chain: &[AccessExpr]) -> Result<String, ExpressionError> {
    let mut path = shown(&root.value);
    for access in chain {
        match access {
            AccessExpr::Dot(Expr::Identifier(ident)) => path.extend([".", &shown(&ident.value)]),
            AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => match &value.value {
                Value::Number(digits, _) => path.extend(["[", digits, "]"]),
                Value::SingleQuotedString(key) => path.extend([".", &shown(key)]),
                _ => return Err(no_item(&path)),
            },
            _ => return Err(no_item(&path)),
        }
    }
    Ok(path)
}

fn no_item(path: &str) -> ExpressionError {
    ExpressionError::new(format!("what follows `{path}` is no path"))
        .suggest(format!("write {path}[0] for its first item, {path}.name or {path}['odd name'] for a field"))
}

/// A key as a path has it.
fn shown(key: &str) -> String {
    match !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_') {
        true => key.to_owned(),
        false => serde_json::Value::from(key).to_string(),
    }
}

/// The parser's sentence, its place apart.
fn of_parser(error: ParserError) -> ExpressionError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => return ExpressionError::new("it nests too deep"),
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message, Some(place)),
        None => (text.as_str(), None),
    };
    let column =
        place.and_then(|place| place.rsplit_once("Column: ")).and_then(|(_, column)| column.trim().parse().ok());
    ExpressionError { message: format!("SQL: {}", message.trim()), column, suggestion: None }
}

/// `||` joins texts. DataFusion's planners would ask for the types of its sides, to join lists, before these are known.
#[derive(Debug)]
pub(super) struct TextsJoin;

impl ExprPlanner for TextsJoin {
    fn plan_binary_op(&self, raw: RawBinaryExpr, _: &DFSchema) -> Planned<PlannerResult<RawBinaryExpr>> {
        Ok(match raw.op {
            BinaryOperator::StringConcat => {
                PlannerResult::Planned(binary_expr(raw.left, Operator::StringConcat, raw.right))
            }
            _ => PlannerResult::Original(raw),
        })
    }
}
