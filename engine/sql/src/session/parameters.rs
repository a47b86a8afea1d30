//! Parameters of a statement: `$1` or `?` where a value stands that comes apart from the text.
//!
//! A parameter becomes a literal before anything is optimized, so that a filter with it is answered as one with the value in it.

use super::error::{SqlError, SqlErrorKind};
use super::guard::{self, STATEMENT_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX};
use super::places::byte_at;
use super::sizes;
use crate::functions::bitmap;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Value, ValueWithSpan, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Location;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The most parameters of a statement.
pub const STATEMENT_PARAMETERS_MAX: usize = 1_000;

/// Gives each `?` its number, in the order of the text, and tells how many parameters there are.
///
/// # Errors
/// [`SqlError`] with the place of one that cannot be.
pub(super) fn number(statement: &mut Statement, text: &str) -> std::result::Result<usize, SqlError> {
    let mut found = Found::default();
    visit(statement, &mut found);
    let Found(mut found) = found;
    found.sort_by_key(|(place, _)| (place.line, place.column));
    let unnumbered = found.iter().filter(|(_, name)| name == "?").count();
    if unnumbered > 0 && unnumbered < found.len() {
        let place = found.iter().find(|(_, name)| name != "?").map_or(Location { line: 0, column: 0 }, |found| found.0);
        let message = "`?` and numbered parameters stand in one statement";
        return Err(SqlError::new(SqlErrorKind::Invalid, message)
            .suggest("number all of them: $1, $2")
            .at(text, place));
    }
    let mut numbers = Vec::with_capacity(found.len());
    for (index, (place, name)) in found.iter().enumerate() {
        let number = match name.as_str() {
            "?" => Some(index + 1),
            name => name.strip_prefix(['$', '?']).and_then(|digits| digits.parse().ok()).filter(|number| *number > 0),
        };
        let refuse = |message: String| {
            let start = byte_at(text, *place);
            let mut error = SqlError::new(SqlErrorKind::Invalid, message).suggest("write $1, $2, … or ?");
            error.span = Some(start..(start + name.len()).min(text.len()));
            Err(error)
        };
        match number {
            None => return refuse(format!("`{name}` is no parameter")),
            Some(number) if number > STATEMENT_PARAMETERS_MAX => {
                return refuse(format!("`{name}`: a statement has at most {STATEMENT_PARAMETERS_MAX} parameters"));
            }
            Some(number) => numbers.push((*place, number)),
        }
    }
    visit(statement, &mut Numbered(&numbers));
    Ok(numbers.iter().map(|(_, number)| *number).max().unwrap_or(0))
}

fn visit<V: VisitorMut>(statement: &mut Statement, visitor: &mut V) {
    if let Some(statement) = guard::parsed(statement) {
        let _ = statement.visit(visitor);
    }
}

/// The parameters as they stand in the text.
#[derive(Default)]
struct Found(Vec<(Location, String)>);

impl VisitorMut for Found {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            self.0.push((value.span.start, name.clone()));
        }
        ControlFlow::Continue(())
    }
}

/// Writes their numbers.
struct Numbered<'n>(&'n [(Location, usize)]);

impl VisitorMut for Numbered<'_> {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &mut value.value
            && let Some((_, number)) = self.0.iter().find(|(place, _)| *place == value.span.start)
        {
            *name = format!("${number}");
        }
        ControlFlow::Continue(())
    }
}

/// The parameters with their types, as far as what they are compared with tells; of others a text is expected.
pub(super) fn described(plan: &LogicalPlan, count: usize) -> Result<SchemaRef> {
    let known = types(plan)?;
    let field = |number: usize| {
        let name = format!("${number}");
        let data_type = known.get(&name).cloned().unwrap_or(DataType::Utf8);
        Field::new(name, data_type, true)
    };
    Ok(Arc::new(Schema::new((1..=count).map(field).collect::<Vec<_>>())))
}

/// The types that are known, by the parameters' names.
fn types(plan: &LogicalPlan) -> Result<HashMap<String, DataType>> {
    let told = plan.get_parameter_types()?.into_iter();
    let mut known: HashMap<String, DataType> = told.filter_map(|(name, data_type)| Some((name, data_type?))).collect();
    // Nothing stands beside a limit that would tell.
    plan.apply_with_subqueries(|node| {
        let LogicalPlan::Limit(limit) = node else { return Ok(TreeNodeRecursion::Continue) };
        for number in [&limit.skip, &limit.fetch].into_iter().flatten() {
            number.apply(|expr| {
                if let Expr::Placeholder(parameter) = expr {
                    known.entry(parameter.id.clone()).or_insert(DataType::Int64);
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(known)
}

/// A plan as it would be with values, to see what its columns are.
pub(super) fn with_nulls(plan: LogicalPlan, count: usize) -> Result<LogicalPlan> {
    let known = types(&plan)?;
    let null = |number: usize| match known.get(&format!("${number}")) {
        Some(data_type) => ScalarValue::try_new_null(data_type),
        None => Ok(ScalarValue::Null),
    };
    with_values(plan, (1..=count).map(null).collect::<Result<_>>()?)
}

/// Puts the values of a row in place of the parameters.
pub(super) fn bind(plan: LogicalPlan, count: usize, row: Option<&RecordBatch>) -> Result<LogicalPlan> {
    let came = row.map_or(0, RecordBatch::num_columns);
    if came != count {
        let message = format!("the statement has {count} parameters, and {came} values came with it");
        return Err(invalid(message, "prepare the statement and bind a value for each of them"));
    }
    let Some(row) = row.filter(|_| count > 0) else { return Ok(plan) };
    if row.num_rows() != 1 {
        let message = format!("{} rows of values came; one answer is of one row", row.num_rows());
        return Err(invalid(message, "bind one row"));
    }
    let of_bitmaps = of_bitmaps(&plan)?;
    let values = row.columns().iter().enumerate().map(|(index, column)| value(index, column.as_ref(), &of_bitmaps));
    with_values(plan, values.collect::<Result<_>>()?)
}

/// A value is bounded as a literal is: functions join texts and bytes as often as a statement says. Bitmaps may be larger.
fn value(index: usize, column: &dyn Array, of_bitmaps: &HashSet<String>) -> Result<ScalarValue> {
    let is_bytes = matches!(
        column.data_type(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    );
    let is_bitmap = is_bytes && of_bitmaps.contains(&format!("${}", index + 1));
    let bytes_max = if is_bitmap { STATEMENT_BYTES_MAX } else { STATEMENT_TEXT_BYTES_MAX };
    if !sizes::fits(column, bytes_max)? {
        let message = format!("parameter ${} has more than {bytes_max} bytes", index + 1);
        let error = SqlError::new(SqlErrorKind::TooLarge, message);
        return Err(DataFusionError::External(Box::new(error)));
    }
    Ok(match ScalarValue::try_from_array(column, 0)? {
        ScalarValue::Dictionary(_, value) => *value,
        value => value,
    })
}

/// The parameters that stand nowhere but in functions that make a number, or a yes or no, of bitmaps: nothing can join those.
fn of_bitmaps(plan: &LogicalPlan) -> Result<HashSet<String>> {
    // How often each stands there, and how often so.
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Placeholder(parameter) => counts.entry(parameter.id.clone()).or_default().0 += 1,
                    Expr::ScalarFunction(function)
                        if bitmap::gives(function.name()).is_some_and(|it| !is_long(&it)) =>
                    {
                        let mut open: Vec<&Expr> = function.args.iter().collect();
                        while let Some(argument) = open.pop() {
                            match argument {
                                Expr::Placeholder(parameter) => {
                                    counts.entry(parameter.id.clone()).or_default().1 += 1;
                                }
                                Expr::ScalarFunction(inner)
                                    if bitmap::gives(inner.name()) == Some(DataType::Binary) =>
                                {
                                    open.extend(&inner.args);
                                }
                                _ => {}
                            }
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(counts.into_iter().filter(|(_, (all, so))| all == so).map(|(name, _)| name).collect())
}

/// Whether values of a type may be of any length.
pub(super) fn is_long(data_type: &DataType) -> bool {
    !data_type.is_primitive() && *data_type != DataType::Boolean
}

fn with_values(plan: LogicalPlan, values: Vec<ScalarValue>) -> Result<LogicalPlan> {
    let values = values.into_iter().map(|value| ScalarAndMetadata::new(value, None)).collect();
    plan.with_param_values(ParamValues::List(values))
}

fn invalid(message: String, suggestion: &str) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(SqlErrorKind::Invalid, message).suggest(suggestion)))
}
