//! Parameters of a statement: `$1` or `?` where a value stands that comes apart from the text.
//!
//! A parameter becomes a literal before anything is optimized, so that a filter with it is answered as one with the value in it.

use super::error::{SqlError, SqlErrorKind};
use super::guard::{STATEMENT_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX, byte_at};
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
use std::collections::HashMap;
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
    match statement {
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        Statement::Statement(statement) => drop(statement.visit(visitor)),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
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
    let values = row.columns().iter().enumerate().map(|(index, column)| value(index, column.as_ref()));
    with_values(plan, values.collect::<Result<_>>()?)
}

/// A value is bounded as a literal is: functions join texts as often as a statement says.
fn value(index: usize, column: &dyn Array) -> Result<ScalarValue> {
    let bytes = column.slice(0, 1).to_data().get_slice_memory_size()?;
    let bytes_max = match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => STATEMENT_BYTES_MAX,
        _ => STATEMENT_TEXT_BYTES_MAX,
    };
    if bytes > bytes_max {
        let message = format!("parameter ${} has {bytes} bytes; at most {bytes_max} are taken", index + 1);
        let error = SqlError::new(SqlErrorKind::TooLarge, message);
        return Err(DataFusionError::External(Box::new(error)));
    }
    Ok(match ScalarValue::try_from_array(column, 0)? {
        ScalarValue::Dictionary(_, value) => *value,
        value => value,
    })
}

fn with_values(plan: LogicalPlan, values: Vec<ScalarValue>) -> Result<LogicalPlan> {
    let values = values.into_iter().map(|value| ScalarAndMetadata::new(value, None)).collect();
    plan.with_param_values(ParamValues::List(values))
}

fn invalid(message: String, suggestion: &str) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(SqlErrorKind::Invalid, message).suggest(suggestion)))
}
