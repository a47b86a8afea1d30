//! Which functions an expression may call.

use crate::functions::bounded::{Bounds, LISTS_OF_ANY_LENGTH, is_called};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Value, visit_expressions,
};
use engine::audience::suggest::closest;
use engine::computed::{ANSWER_BYTES_MAX, ExpressionError};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The longest text that `lpad` and `rpad` make of their own; it is written in the expression, so that no record says how much
/// memory it takes.
pub(super) const MADE_CHARS_MAX: u64 = 10_000;

/// How often `repeat` writes its text, at most: that is of a record, and may be as long as one.
pub(super) const REPEATS_MAX: u64 = 100;

/// How long texts become on the way to an answer, which is shorter. A batch that makes more is computed in parts.
pub(super) const BOUNDS: Bounds = Bounds {
    constant_bytes_max: ANSWER_BYTES_MAX as u64,
    row_bytes_max: 4 * ANSWER_BYTES_MAX as u64,
    batch_bytes_max: 8 * ANSWER_BYTES_MAX as u64,
};

/// They write an argument any number of times, so none of what `repeat` makes is given to them.
const MULTIPLYING: [&str; 4] = ["repeat", "replace", "regexp_replace", "array_to_string"];

/// Nothing that a record needs; all but the first tell of the program and its storage.
const LEFT_OUT: [&str; 4] = ["array_sort", "version", "input_file_name", "file_row_index"];

/// A call's name in small letters, unless it is quoted.
pub(super) fn called(function: &Function) -> Option<(String, &Ident)> {
    match function.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] if ident.quote_style.is_none() => {
            Some((ident.value.to_ascii_lowercase(), ident))
        }
        [ObjectNamePart::Identifier(ident)] => Some((ident.value.clone(), ident)),
        _ => None,
    }
}

/// Whether a call is one of this language.
pub(super) fn check(function: &Function, state: &SessionState) -> Result<(), ExpressionError> {
    let Some((name, ident)) = called(function) else {
        return Err(ExpressionError::new(format!("there is no function `{}`", function.name)));
    };
    let at = |error: ExpressionError| ExpressionError { column: column_of(ident), ..error };
    if function.over.is_some() || function.filter.is_some() || !function.within_group.is_empty() {
        return Err(at(many_records(&name)));
    }
    let Some(udf) = state.scalar_functions().get(&name) else { return Err(at(unknown(&name, state))) };
    check_volatility(udf).map_err(at)?;
    if is_called(udf, &LISTS_OF_ANY_LENGTH) || is_called(udf, &LEFT_OUT) {
        return Err(at(ExpressionError::new(format!("`{name}` is not for expressions over a record"))));
    }
    check_arguments(&name, udf, &function.args).map_err(at)
}

pub(super) fn check_volatility(udf: &ScalarUDF) -> Result<(), ExpressionError> {
    let name = udf.name();
    match udf.signature().volatility {
        Volatility::Immutable => Ok(()),
        Volatility::Stable => Err(ExpressionError::new(format!(
            "`{name}` gives another time whenever it is asked, and a record that is read again must give what it gave"
        ))
        .suggest("write $timestamp, the record's own time in milliseconds, or a field of the record")),
        Volatility::Volatile => Err(ExpressionError::new(format!(
            "`{name}` gives another value whenever it is asked, and a record that is read again must give what it gave"
        ))
        .suggest("write a function of the record's fields, such as md5($key)")),
    }
}

fn check_arguments(name: &str, udf: &ScalarUDF, arguments: &FunctionArguments) -> Result<(), ExpressionError> {
    let list = match arguments {
        FunctionArguments::None => return Ok(()),
        FunctionArguments::Subquery(_) => return Err(ExpressionError::new("an expression has no subqueries")),
        FunctionArguments::List(list) => list,
    };
    if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(many_records(name));
    }
    if is_called(udf, &MULTIPLYING) && has_repeat(arguments) {
        let error = ExpressionError::new(format!("`repeat` cannot stand inside `{name}`"));
        return Err(error.suggest("what comes of both has no bound; write the text itself"));
    }
    let most = match name {
        "repeat" => REPEATS_MAX,
        "lpad" | "rpad" => MADE_CHARS_MAX,
        _ => return Ok(()),
    };
    let length = list.args.get(1).and_then(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::Number(digits, _) => digits.parse::<u64>().ok(),
            _ => None,
        },
        _ => None,
    });
    match length {
        Some(length) if length <= most => Ok(()),
        _ => Err(ExpressionError::new(format!("the second argument of `{name}` is not a number up to {most}"))
            .suggest("write the number itself; it cannot come from the record")),
    }
}

/// Whether `repeat` is called anywhere in arguments.
fn has_repeat(arguments: &FunctionArguments) -> bool {
    let is_repeat = |expr: &Expr| match expr {
        Expr::Function(function) => called(function).is_some_and(|(name, _)| name == "repeat"),
        _ => false,
    };
    let found = visit_expressions(arguments, |expr| match is_repeat(expr) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn unknown(name: &str, state: &SessionState) -> ExpressionError {
    if state.aggregate_functions().contains_key(name) || state.window_functions().contains_key(name) {
        return many_records(name);
    }
    let error = ExpressionError::new(format!("there is no function `{name}`"));
    let known = state.scalar_functions().iter();
    let usable = known.filter(|(_, udf)| check_volatility(udf).is_ok()).map(|(name, _)| name.as_str());
    match closest(name, usable) {
        Some(near) => error.suggest(format!("did you mean `{near}`?")),
        None => {
            error.suggest("there are the scalar functions of DataFusion, such as lower, split_part, round, date_trunc")
        }
    }
}

fn many_records(name: &str) -> ExpressionError {
    ExpressionError::new(format!("`{name}` is of many records, and an expression sees one"))
        .suggest("count and sum with `did`, or declare measures of the fact's activity")
}

/// Where a name stands, if it is known.
pub(super) fn column_of(ident: &Ident) -> Option<usize> {
    usize::try_from(ident.span.start.column).ok().filter(|column| *column > 0)
}

/// Whether a function that takes text and numbers gets a path as a number.
pub(super) fn takes_number_first(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "to_timestamp_seconds",
        "to_timestamp_millis",
        "to_timestamp_micros",
        "to_timestamp_nanos",
        "from_unixtime",
        "chr",
        "to_hex",
        "make_date",
    ];
    NAMES.contains(&name)
}

/// Whether a function takes our decimals and means whole numbers.
pub(super) fn takes_whole_numbers(name: &str) -> bool {
    const NAMES: [&str; 6] = ["to_timestamp", "factorial", "gcd", "lcm", "make_time", "date_bin"];
    takes_number_first(name) || NAMES.contains(&name)
}

/// Whether a function takes arguments of these types, or can turn them into what it takes.
pub(super) fn takes(udf: &ScalarUDF, types: &[DataType]) -> bool {
    let fields: Vec<_> = types.iter().map(|data_type| Arc::new(Field::new("", data_type.clone(), true))).collect();
    fields_with_udf(&fields, udf).is_ok()
}
