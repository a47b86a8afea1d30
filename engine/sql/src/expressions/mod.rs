//! SQL expressions over the fields of one record: `price * quantity * (1 - coalesce(discount, 0))`.
//!
//! [`SqlExpressions`] is the [`Language`] in which a mapping of a source computes what it writes. An expression has all
//! scalar functions of DataFusion that give the same for the same record whenever and wherever it is read: no clock, no
//! chance, no other records, no tables, files or network.
//!
//! # Paths
//! A name is a path into the record: `item.price`, `items[0].sku` (from 0, as in all paths), `"odd name"`, `item['odd
//! name']`, `$key`, `$timestamp`. Names keep their case. What the record does not have is NULL.
//!
//! # Types
//! JSON tells types record by record, an expression needs them before. So a path is read *as what its use asks for*
//! (`infer`): a number where it is calculated with or compared with a number, true or false where a condition stands, else
//! text, of a number the text it is written with. Paths that are compared only with each other could be either and are
//! refused until a cast says it; so is a path that is used as two things. A cast says how that use is read: `id::text`,
//! `weight::double`, `try_cast(x as decimal)`.
//!
//! # Numbers
//! There is one exact number, a decimal of 20 digits before the point and 18 behind it: JSON has one kind too, so `1 / 2` is
//! 0.5, and money stays what it is. `+`, `-`, `*`, `%` are exact or refuse the record; a quotient is rounded at the 18th digit.
//! Functions that DataFusion has for integers only get them if the number is whole. `double` and what is computed from it are
//! floats of 64 bits.
//!
//! * `parse`: text to a syntax tree whose paths are columns; what an expression must not have. `names`: the functions.
//! * `infer`: as what each path is read.
//! * `rewrite`: our numbers in place of SQL's; `number`: their functions.
//! * `result`: what comes out, as a line has it, and whether a column takes it.
//! * `computation`: rows in, answers out, an error for the row that has it.

mod computation;
mod infer;
mod names;
mod number;
mod parse;
mod result;
mod rewrite;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

use crate::functions::bounded;
use computation::SqlComputation;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use engine::computed::{Computation, ExpressionError, Language, Reading, Wanted};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Words and signs of an expression.
pub const TOKENS_MAX: usize = 1_000;

/// How deep it nests: what walks over it stays far from the end of the stack. A sum of so many terms nests so deep.
pub const DEPTH_MAX: usize = 64;

/// The language of SQL expressions.
#[derive(Clone)]
pub struct SqlExpressions {
    state: Arc<SessionState>,
}

static SHARED: LazyLock<Arc<SqlExpressions>> = LazyLock::new(|| {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Ours is asked before the others.
    let builder = SessionStateBuilder::new().with_config(config).with_expr_planners(vec![Arc::new(parse::TextsJoin)]);
    let mut builder = builder.with_default_features();
    if let Some(functions) = builder.scalar_functions() {
        bounded::bound(functions, names::BOUNDS);
    }
    Arc::new(SqlExpressions { state: Arc::new(builder.build()) })
});

impl SqlExpressions {
    /// The language; there is one.
    pub fn shared() -> Arc<SqlExpressions> {
        SHARED.clone()
    }

    fn plan(&self, parsed: parse::Parsed) -> Result<Planned, ExpressionError> {
        let schema = schema(vec![DataType::Utf8; parsed.paths.len()])?;
        let expr = ExprWithAlias { expr: parsed.expr, alias: None };
        let expr = self.state.create_logical_expr_from_sql_expr(expr, &schema).map_err(|error| refused(&error))?;
        check_volatility(&expr)?;
        Ok(Planned::new(expr, parsed.paths))
    }
}

/// An expression whose columns are numbered, and what they stand for.
struct Planned {
    expr: Expr,
    paths: Vec<String>,
    /// As what each is read, where a cast says so.
    fixed: Vec<Option<Reading>>,
}

impl Planned {
    fn new(expr: Expr, paths: Vec<String>) -> Planned {
        Planned { expr, fixed: vec![None; paths.len()], paths }
    }
}

impl Language for SqlExpressions {
    fn compile(&self, text: &str, wanted: Wanted) -> Result<Arc<dyn Computation>, ExpressionError> {
        let planned = self.plan(parse::parse(text, &self.state)?)?;
        let (expr, inputs) = infer::read_as_used(planned, wanted)?;
        let types = schema(inputs.iter().map(|input| data_type(input.reading)).collect())?;
        let expr = rewrite::numbers(expr, &types)?;
        let simplifier = ExprSimplifier::new(
            SimplifyContext::builder()
                .with_schema(Arc::new(types.clone()))
                .with_config_options(Arc::clone(self.state.config_options()))
                .build(),
        );
        let expr = simplifier.coerce(expr, &types).map_err(|error| refused(&error))?;
        let expr = rewrite::texts_of_numbers(expr, &types).map_err(|error| refused(&error))?;
        result::check(wanted, &expr.get_type(&types).map_err(|error| refused(&error))?)?;
        let expr =
            rewrite::said_once(expr).and_then(|expr| simplifier.simplify(expr)).map_err(|error| refused(&error))?;
        let physical = create_physical_expr(&expr, &types, self.state.execution_props(), &Default::default())
            .map_err(|error| refused(&error))?;
        let computation = SqlComputation::new(inputs, Arc::clone(types.inner()), physical, wanted);
        computation.try_out()?;
        Ok(Arc::new(computation))
    }
}

impl fmt::Debug for SqlExpressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqlExpressions")
    }
}

/// The name of the column for the path of this index.
fn column_name(index: usize) -> String {
    format!("p{index}")
}

/// The index of a column that [`column_name`] named.
fn column_index(name: &str) -> usize {
    name[1..].parse().expect("only our own columns are in the schema")
}

fn schema(types: Vec<DataType>) -> Result<DFSchema, ExpressionError> {
    let fields = types.into_iter().enumerate().map(|(index, kind)| Field::new(column_name(index), kind, true));
    DFSchema::try_from(Schema::new(fields.collect::<Vec<_>>())).map_err(|error| refused(&error))
}

fn data_type(reading: Reading) -> DataType {
    match reading {
        Reading::Text => DataType::Utf8,
        Reading::Number => number::NUMBER,
        Reading::Boolean => DataType::Boolean,
    }
}

/// Syntax of its own (`EXTRACT`, `CURRENT_DATE`) leads to functions too.
fn check_volatility(expr: &Expr) -> Result<(), ExpressionError> {
    let mut bad = Ok(());
    let walked = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && let Err(error) = names::check_volatility(&call.func)
        {
            bad = Err(error);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(|error| refused(&error)).and(bad)
}

/// What DataFusion says of an expression, without the names of its stages and of our columns.
fn refused(error: &DataFusionError) -> ExpressionError {
    ExpressionError::new(sentence(error))
}

fn sentence(error: &DataFusionError) -> String {
    let root = error.find_root();
    let text = match root {
        DataFusionError::Plan(text) | DataFusionError::Execution(text) | DataFusionError::NotImplemented(text) => {
            text.clone()
        }
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            datafusion::arrow::error::ArrowError::DivideByZero => "division by zero".to_owned(),
            datafusion::arrow::error::ArrowError::CastError(text)
            | datafusion::arrow::error::ArrowError::ComputeError(text)
            | datafusion::arrow::error::ArrowError::ParseError(text)
            | datafusion::arrow::error::ArrowError::InvalidArgumentError(text)
            | datafusion::arrow::error::ArrowError::ArithmeticOverflow(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.strip_backtrace(),
    };
    let line = text.split("No function matches").next().unwrap_or_default().lines().next().unwrap_or_default();
    let stages =
        ["Internal error: ", "Error during planning: ", "Execution error: ", "This feature is not implemented: "];
    let line = stages.iter().fold(line.to_owned(), |line, stage| line.replace(stage, ""));
    line.trim().trim_end_matches('.').to_owned()
}
