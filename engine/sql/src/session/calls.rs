//! `did(…)`, `at_least(…)`, `in_audience(…)` and `similar_to(…)` in a statement.
//!
//! Their arguments are of the audience language: what stands in them are columns of a fact, or tags, and not what SQL takes such
//! names for. So each call is found among the words of a statement before anything is parsed, read by the parser of that language, and
//! stands from then on as a function of its canonical text and of whom is asked about: `did(…)` is `did('did(…)', user_id)`, and
//! `u.did(…)` is `did('did(…)', u.user_id)`. It keeps its place in the statement, so that errors tell it.
//!
//! What a call means is settled once, against the snapshot ([`Calls`]). Filters of `users` and of facts take it as a predicate;
//! wherever else it stands it is looked up by the user's id.

use super::columns::USER_ID;
use super::error::{SqlError, SqlErrorKind};
use super::places::Places;
use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};
use engine::audience::error::{ExprError, ExprErrorKind};
use engine::audience::expr::Expr as Audience;
use engine::audience::ops::{self, QueryContext, QueryError};
use engine::audience::predicate::Predicate;
use engine::audience::{bind, parse};
use engine::store::Snapshot;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// The functions.
pub(super) const NAMES: [&str; 4] = ["at_least", "did", "in_audience", "similar_to"];
/// The most calls in a statement: each is bound, and may be evaluated, by itself.
pub const STATEMENT_CALLS_MAX: usize = 256;

/// A call among the words of a statement.
struct Found {
    /// The word of its name.
    first: usize,
    /// Its last parenthesis.
    last: usize,
    /// The bytes it stands in.
    start: usize,
    end: usize,
    expr: Audience,
}

/// The words of a statement with its calls as functions of text.
///
/// # Errors
/// What the audience language says of a call, with its place in the statement.
pub(super) fn rewrite(text: &str, tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    let found = find(text, &tokens)?;
    if found.is_empty() {
        return Ok(tokens);
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut next = 0;
    for call in found {
        rewritten.extend_from_slice(&tokens[next..call.first]);
        let name = &tokens[call.first];
        let same_place = |token| TokenWithSpan { token, span: name.span };
        let qualifier = qualifier(&mut rewritten);
        let user_id = Word { value: USER_ID.to_owned(), quote_style: None, keyword: Keyword::NoKeyword };
        rewritten.push(name.clone());
        rewritten
            .extend([Token::LParen, Token::SingleQuotedString(call.expr.to_string()), Token::Comma].map(same_place));
        rewritten.extend(qualifier);
        rewritten.extend([Token::Word(user_id), Token::RParen].map(same_place));
        next = call.last + 1;
    }
    rewritten.extend_from_slice(&tokens[next..]);
    Ok(rewritten)
}

/// What stands before a name, `u.` or `public.users.`, taken from the end.
fn qualifier(words: &mut Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut begin = words.len();
    while let [.., name, point] = &words[..begin]
        && matches!((&name.token, &point.token), (Token::Word(_), Token::Period))
    {
        begin -= 2;
    }
    words.split_off(begin)
}

/// The calls in a statement, none within another.
fn find(text: &str, tokens: &[TokenWithSpan]) -> Result<Vec<Found>, SqlError> {
    let mut found: Vec<Found> = Vec::new();
    let mut places = Places::new(text);
    let mut at = 0;
    while at < tokens.len() {
        let (first, Some(last)) = (at, call_at(tokens, at)) else {
            at += 1;
            continue;
        };
        let start = places.byte_of(tokens[first].span.start);
        let end = places.byte_of(tokens[last].span.start) + 1;
        if found.len() >= STATEMENT_CALLS_MAX {
            let what = format!("the statement has more than {STATEMENT_CALLS_MAX} calls of the audience language");
            let error = SqlError { span: Some(start..end), ..SqlError::new(SqlErrorKind::TooLarge, what) };
            return Err(error.suggest("save what they ask as audiences, and ask for their members"));
        }
        let Some(call) = text.get(start..end) else {
            return Err(SqlError::new(SqlErrorKind::Internal, "a call has no place in the statement"));
        };
        let expr = parse(call).map_err(|error| of_expression(error, start, end))?;
        found.push(Found { first, last, start, end, expr });
        at = last + 1;
    }
    Ok(found)
}

/// The last parenthesis of the call whose name stands here, if one does.
fn call_at(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let Token::Word(name) = &tokens[at].token else { return None };
    if name.quote_style.is_some() || !NAMES.iter().any(|own| name.value.eq_ignore_ascii_case(own)) {
        return None;
    }
    let blank = |token: &&TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let keyword = |token: Option<&TokenWithSpan>| match token.map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    };
    // A table that somebody names so, with the names of its columns.
    let before = tokens[..at].iter().rev().find(|token| !blank(token));
    if matches!(keyword(before), Some(Keyword::AS | Keyword::WITH | Keyword::RECURSIVE)) {
        return None;
    }
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().skip(at + 1) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => {
                let mut behind = tokens[place + 1..].iter().filter(|token| !blank(token));
                let is_table = keyword(behind.next()) == Some(Keyword::AS)
                    && behind.next().is_some_and(|token| token.token == Token::LParen);
                return (!is_table).then_some(place);
            }
            Token::Whitespace(_) => {}
            _ if depth == 0 => return None,
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What the audience language says of a call that stands here.
fn of_expression(error: ExprError, start: usize, end: usize) -> SqlError {
    let kind = match error.kind {
        ExprErrorKind::Syntax => SqlErrorKind::Syntax,
        ExprErrorKind::UnknownTag | ExprErrorKind::UnknownColumn => SqlErrorKind::UnknownColumn,
        ExprErrorKind::UnknownFact | ExprErrorKind::UnknownSpace => SqlErrorKind::UnknownTable,
        ExprErrorKind::TooLarge => SqlErrorKind::TooLarge,
        _ => SqlErrorKind::Invalid,
    };
    let span = error.span.map_or(start..end, |span| start + span.start..start + span.end);
    let told = SqlError { span: Some(span), ..SqlError::new(kind, error.message) };
    match error.suggestion {
        Some(suggestion) => told.suggest(suggestion),
        None => told,
    }
}

/// What the calls of a statement mean in its snapshot.
#[derive(Debug)]
pub(super) struct Calls {
    snapshot: Snapshot,
    context: QueryContext,
    now: i64,
    /// By canonical text.
    known: BTreeMap<String, Call>,
}

#[derive(Debug)]
struct Call {
    expr: Audience,
    predicate: Predicate,
    /// Slots per shard, once they were asked for.
    members: Mutex<Option<Arc<Vec<RoaringBitmap>>>>,
}

impl Calls {
    /// Settles the calls of a statement; `now` is the present of what is told relative to it.
    ///
    /// # Errors
    /// What the audience language says of a call, with its place in the statement.
    pub(super) fn of(text: &str, snapshot: &Snapshot, context: &QueryContext, now: i64) -> Result<Calls, SqlError> {
        let (snapshot, context) = (snapshot.clone(), context.clone());
        let mut calls = Calls { snapshot, context, now, known: BTreeMap::new() };
        let lower = text.to_ascii_lowercase();
        if !NAMES.iter().any(|name| lower.contains(name)) {
            return Ok(calls);
        }
        let dialect = GenericDialect {};
        let tokens = Tokenizer::new(&dialect, text)
            .tokenize_with_location()
            .map_err(|error| SqlError::new(SqlErrorKind::Syntax, error.message).at(text, error.location))?;
        for Found { start, end, expr, .. } in find(text, &tokens)? {
            let bound = bind(&expr, calls.snapshot.catalog(), calls.snapshot.audiences(), now);
            let predicate = bound.map_err(|error| of_expression(error, start, end))?;
            calls.known.insert(expr.to_string(), Call { expr, predicate, members: Mutex::default() });
        }
        Ok(calls)
    }

    /// The snapshot that is asked.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What ends the statement.
    pub(super) fn context(&self) -> &QueryContext {
        &self.context
    }

    /// The users for whom an expression is true, if it can be bound.
    pub(super) fn bind(&self, expr: &Audience) -> Option<Predicate> {
        bind(expr, self.snapshot.catalog(), self.snapshot.audiences(), self.now).ok()
    }

    /// The same with what is wrong, as it is for the whole statement.
    ///
    /// # Errors
    /// What the audience language says of it.
    pub(super) fn settle(&self, expr: &Audience) -> Result<Predicate> {
        let bound = bind(expr, self.snapshot.catalog(), self.snapshot.audiences(), self.now);
        bound.map_err(|error| {
            let error = SqlError { span: None, ..of_expression(error, 0, 0) };
            DataFusionError::External(Box::new(error))
        })
    }

    /// The expression that a function calls for, and whom it asks about.
    pub(super) fn called<'e>(&self, function: &'e ScalarFunction) -> Option<(&Audience, &'e Expr)> {
        (**function.func.inner()).downcast_ref::<AudienceFunction>()?;
        let [Expr::Literal(text, _), user] = function.args.as_slice() else { return None };
        Some((&self.call(text)?.expr, user))
    }

    fn call(&self, text: &ScalarValue) -> Option<&Call> {
        self.known.get(text.try_as_str().flatten()?)
    }

    /// The functions over these calls.
    pub(super) fn functions(self: &Arc<Self>) -> Vec<Arc<ScalarUDF>> {
        let function = |name| {
            let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
            Arc::new(ScalarUDF::new_from_impl(AudienceFunction { name, calls: Arc::clone(self), signature }))
        };
        NAMES.into_iter().map(function).collect()
    }

    /// Slots per shard. Blocks.
    fn members(&self, call: &Call) -> Result<Arc<Vec<RoaringBitmap>>, QueryError> {
        let mut known = call.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(members) = &*known {
            return Ok(Arc::clone(members));
        }
        let members = Arc::new(ops::slots(&self.snapshot, &call.predicate, &self.context)?);
        *known = Some(Arc::clone(&members));
        Ok(members)
    }

    fn are_members(&self, call: &Call, ids: &ArrayRef) -> Result<BooleanArray, QueryError> {
        let members = self.members(call)?;
        let ids = ids.as_string::<i32>();
        let asked: Vec<&[u8]> = ids.iter().map(|id| id.unwrap_or_default().as_bytes()).collect();
        let positions = ops::positions(&self.snapshot, &asked)?.into_iter();
        let has = |position: ops::Position| {
            members.get(usize::from(position.shard.0)).is_some_and(|users| users.contains(position.slot))
        };
        let answers = positions.zip(ids).map(|(position, id)| id.map(|_| position.is_some_and(has)));
        Ok(answers.collect())
    }
}

/// Whether a user is meant by a call; NULL of no user.
#[derive(Debug)]
struct AudienceFunction {
    name: &'static str,
    calls: Arc<Calls>,
    signature: Signature,
}

impl PartialEq for AudienceFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.calls, &other.calls)
    }
}

impl Eq for AudienceFunction {}

impl Hash for AudienceFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl AudienceFunction {
    fn call(&self, text: Option<&ScalarValue>) -> Option<&Call> {
        self.calls.call(text?)
    }
}

impl ScalarUDFImpl for AudienceFunction {
    fn name(&self) -> &str {
        self.name
    }

    /// As it was written.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args {
            [Expr::Literal(text, _), Expr::Column(user)] => {
                let text = text.try_as_str().flatten().unwrap_or_default();
                match &user.relation {
                    Some(table) if table.table() != "users" => format!("{}.{text}", table.table()),
                    _ => text.to_owned(),
                }
            }
            _ => {
                let args: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
                format!("{}({})", self.name, args.join(","))
            }
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if self.call(args.scalar_arguments.first().copied().flatten()).is_none() {
            return plan_err!(
                "{} is written without quotes around its name, with arguments of the audience language",
                self.name
            );
        }
        let may_be_null = args.arg_fields.get(1).is_none_or(|user| user.is_nullable());
        Ok(Arc::new(Field::new(self.name, DataType::Boolean, may_be_null)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(text), users] = args.args.as_slice() else {
            return exec_err!("{} is asked of users", self.name);
        };
        let Some(call) = self.calls.call(text) else { return exec_err!("{} is not settled", self.name) };
        let ids = users.to_array(args.number_rows)?;
        // It may read rows, and others do not wait for it.
        let answers = tokio::task::block_in_place(|| self.calls.are_members(call, &ids));
        let answers = answers.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(match users {
            ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?),
            ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(answers)),
        })
    }
}
