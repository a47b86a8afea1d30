//! Our numbers in place of SQL's.
//!
//! Arithmetic of integers and decimals becomes that of `number`; a function that does not take decimals gets whole numbers, or
//! floats if it takes those; a number that becomes text has no zeros at its end.

use super::number::{self, NUMBER};
use super::{names, refused};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_datafusion_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ScalarUDF, binary_expr, cast};
use engine::computed::ExpressionError;
use std::collections::HashSet;
use std::sync::Arc;

/// Most arguments of a call that are tried as whole numbers one by one.
const TRIED_MAX: usize = 6;

pub(super) fn numbers(expr: Expr, schema: &DFSchema) -> Result<Expr, ExpressionError> {
    let mut error = None;
    let rewritten = expr.transform_up(|expr| match expr {
        Expr::BinaryExpr(binary) => match calculated(binary, schema) {
            Ok(expr) => Ok(Transformed::yes(expr)),
            Err(wrong) => {
                error = Some(wrong);
                datafusion::common::plan_err!("a wrong operand")
            }
        },
        Expr::Negative(inner) => match inner.get_type(schema) {
            Ok(data_type) if is_exact(&data_type) => {
                let zero = Expr::Literal(ScalarValue::Decimal128(Some(0), 38, 18), None);
                Ok(Transformed::yes(call(number::subtract(), vec![zero, as_number(*inner, &data_type)])))
            }
            _ => Ok(Transformed::no(Expr::Negative(inner))),
        },
        Expr::ScalarFunction(called) => Ok(Transformed::yes(with_taken_arguments(called, schema))),
        other => Ok(Transformed::no(other)),
    });
    match (rewritten, error) {
        (_, Some(error)) => Err(error),
        (Ok(rewritten), None) => Ok(rewritten.data),
        (Err(error), None) => Err(refused(&error)),
    }
}

/// Leaves out what a chain of AND, or of OR, has said before. The library would keep the later one instead of the earlier, and compute
/// what stands between them first: in `b <> 0 AND (a / b > 1 AND b <> 0)` a division that the condition was to prevent.
pub(super) fn said_once(expr: Expr) -> Result<Expr> {
    let rewritten = expr.transform_down(|expr| {
        let operator = match &expr {
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => binary.op,
            _ => return Ok(Transformed::no(expr)),
        };
        let left = unsaid(expr, operator, &mut HashSet::new());
        left.map(Transformed::yes).ok_or_else(|| plan_datafusion_err!("a chain without its first operand"))
    });
    rewritten.map(|rewritten| rewritten.data)
}

/// What is left of a part of a chain of one operator.
fn unsaid(expr: Expr, operator: Operator, said: &mut HashSet<Expr>) -> Option<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == operator => {
            match (unsaid(*left, operator, said), unsaid(*right, operator, said)) {
                (Some(left), Some(right)) => Some(binary_expr(left, operator, right)),
                (left, right) => left.or(right),
            }
        }
        other => said.insert(other.clone()).then_some(other),
    }
}

fn calculated(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr, ExpressionError> {
    use Operator::*;
    let function: Option<fn() -> Arc<ScalarUDF>> = match binary.op {
        Plus => Some(number::add),
        Minus => Some(number::subtract),
        Multiply => Some(number::multiply),
        Divide => Some(number::divide),
        Modulo => Some(number::remainder),
        BitwiseAnd | BitwiseOr | BitwiseXor | BitwiseShiftLeft | BitwiseShiftRight => None,
        _ => return Ok(Expr::BinaryExpr(binary)),
    };
    let types = [&binary.left, &binary.right].map(|side| side.get_type(schema));
    let [Ok(left), Ok(right)] = types else { return Ok(Expr::BinaryExpr(binary)) };
    for (side, data_type) in [(&binary.left, &left), (&binary.right, &right)] {
        let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        if is_text || *data_type == DataType::Boolean {
            let what = if is_text { "text" } else { "true or false" };
            let shown = match side.as_ref() {
                Expr::Literal(value, _) => format!("`{value}`"),
                _ => "a side".to_owned(),
            };
            let message = format!("{shown} of `{}` is {what}, which is not calculated with", binary.op);
            return Err(ExpressionError::new(message).suggest("put it in parentheses and write ::decimal behind it"));
        }
    }
    let is_exact_or_null = |data_type: &DataType| is_exact(data_type) || *data_type == DataType::Null;
    if !is_exact_or_null(&left) || !is_exact_or_null(&right) {
        return Ok(Expr::BinaryExpr(binary));
    }
    let BinaryExpr { left: a, op, right: b } = binary;
    Ok(match function {
        Some(function) => call(function(), vec![as_number(*a, &left), as_number(*b, &right)]),
        None => {
            let side = |side: Expr, data_type: &DataType| Box::new(as_whole(side, data_type));
            Expr::BinaryExpr(BinaryExpr { left: side(*a, &left), op, right: side(*b, &right) })
        }
    })
}

/// A call with decimals where it takes them, else with whole numbers or floats, as few of them as will do.
fn with_taken_arguments(mut called: ScalarFunction, schema: &DFSchema) -> Expr {
    let types: Option<Vec<DataType>> = called.args.iter().map(|argument| argument.get_type(schema).ok()).collect();
    let Some(types) = types else { return Expr::ScalarFunction(called) };
    let decimals: Vec<usize> = (0..types.len()).filter(|index| types[*index].is_decimal()).collect();
    let takes = |types: &[DataType]| names::takes(&called.func, types);
    let means_whole = names::takes_whole_numbers(called.func.name());
    if decimals.is_empty() || decimals.len() > TRIED_MAX || (takes(&types) && !means_whole) {
        return Expr::ScalarFunction(called);
    }
    let chosen = |set: u32| decimals.iter().enumerate().filter(move |(bit, _)| set >> bit & 1 == 1).map(|(_, at)| *at);
    let mut sets: Vec<u32> = (1..1 << decimals.len()).collect();
    sets.sort_by_key(|set| set.count_ones());
    if means_whole {
        sets.reverse();
    }
    for target in [DataType::Int64, DataType::Float64] {
        for set in &sets {
            let mut tried = types.clone();
            chosen(*set).for_each(|at| tried[at] = target.clone());
            if !takes(&tried) {
                continue;
            }
            for at in chosen(*set) {
                let argument = std::mem::take(&mut called.args[at]);
                called.args[at] = match target {
                    DataType::Int64 => as_whole(argument, &types[at]),
                    _ => cast(argument, DataType::Float64),
                };
            }
            return Expr::ScalarFunction(called);
        }
    }
    Expr::ScalarFunction(called)
}

/// Decimals become text without zeros at their end, wherever SQL makes text of them.
pub(super) fn texts_of_numbers(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_decimal = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Decimal128(..)));
    let rewritten = expr.transform_up(|expr| {
        let (inner, target) = match expr {
            Expr::Cast(made) if is_text(made.field.data_type()) && is_decimal(&made.expr) => {
                (*made.expr, made.field.data_type().clone())
            }
            Expr::TryCast(made) if is_text(made.field.data_type()) && is_decimal(&made.expr) => {
                (*made.expr, made.field.data_type().clone())
            }
            other => return Ok(Transformed::no(other)),
        };
        let text = call(number::text(), vec![inner]);
        Ok(Transformed::yes(if target == DataType::Utf8 { text } else { cast(text, target) }))
    });
    rewritten.map(|rewritten| rewritten.data)
}

fn call(function: Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
}

fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_decimal()
}

fn as_number(expr: Expr, data_type: &DataType) -> Expr {
    if *data_type == NUMBER { expr } else { cast(expr, NUMBER) }
}

fn as_whole(expr: Expr, data_type: &DataType) -> Expr {
    match data_type {
        _ if data_type.is_decimal() => call(number::whole(), vec![as_number(expr, data_type)]),
        _ => expr,
    }
}
