//! Functions that clients of PostgreSQL call: what the server is, and what its catalog tells.
//!
//! They are there for who comes by that protocol alone, by their names and, as clients write them, behind `pg_catalog.`. What they tell is
//! short and the same for each row, or NULL where there is nothing of the kind here.

use super::catalog::CATALOG;
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Who asks, and what the server says to be.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The name that the client said.
    pub user: String,
    /// What `version()` tells.
    pub version: String,
    /// The number of its connection.
    pub connection: i32,
    /// Types by their numbers, as `format_type` tells them.
    pub types: fn(i64) -> Option<&'static str>,
}

/// What a function tells.
#[derive(Clone, Debug)]
enum Tells {
    Always(ScalarValue),
    User,
    Version,
    Connection,
    Schema,
    /// The name of the type whose number is the first argument.
    Type,
}

/// The functions of a session, in whose schema tables are looked for that are named without one.
pub(super) fn functions(driver: &Driver, schema: &str) -> Vec<Arc<ScalarUDF>> {
    let text = |text: Option<&str>| Tells::Always(ScalarValue::Utf8(text.map(str::to_owned)));
    let yes = |yes: bool| Tells::Always(ScalarValue::Boolean(Some(yes)));
    let all = [
        ("current_catalog", 0..=0, text(Some(CATALOG))),
        ("current_database", 0..=0, text(Some(CATALOG))),
        ("current_schema", 0..=0, Tells::Schema),
        ("current_user", 0..=0, Tells::User),
        ("session_user", 0..=0, Tells::User),
        ("user", 0..=0, Tells::User),
        ("version", 0..=0, Tells::Version),
        ("pg_backend_pid", 0..=0, Tells::Connection),
        ("pg_is_in_recovery", 0..=0, yes(false)),
        ("pg_encoding_to_char", 1..=1, text(Some("UTF8"))),
        ("pg_get_userbyid", 1..=1, text(Some(CATALOG))),
        ("pg_table_is_visible", 1..=1, yes(true)),
        ("pg_type_is_visible", 1..=1, yes(true)),
        ("pg_function_is_visible", 1..=1, yes(true)),
        ("has_schema_privilege", 2..=3, yes(true)),
        ("has_table_privilege", 2..=3, yes(true)),
        ("has_database_privilege", 2..=3, yes(true)),
        ("format_type", 2..=2, Tells::Type),
        ("pg_get_expr", 2..=3, text(None)),
        ("pg_get_indexdef", 1..=3, text(None)),
        ("pg_get_constraintdef", 1..=2, text(None)),
        ("pg_get_viewdef", 1..=2, text(None)),
        ("obj_description", 1..=2, text(None)),
        ("col_description", 2..=2, text(None)),
        ("shobj_description", 2..=2, text(None)),
    ];
    let function = |(name, counts, tells): &(&str, std::ops::RangeInclusive<usize>, Tells)| {
        let counts = counts.clone();
        [(*name).to_owned(), format!("pg_catalog.{name}")].map(|name| {
            let tells = match tells {
                Tells::Schema => Tells::Always(ScalarValue::Utf8(Some(schema.to_owned()))),
                Tells::User => Tells::Always(ScalarValue::Utf8(Some(driver.user.clone()))),
                Tells::Version => Tells::Always(ScalarValue::Utf8(Some(driver.version.clone()))),
                Tells::Connection => Tells::Always(ScalarValue::Int32(Some(driver.connection))),
                other => other.clone(),
            };
            let counts = counts.clone().map(|count| match count {
                0 => datafusion::logical_expr::TypeSignature::Nullary,
                count => datafusion::logical_expr::TypeSignature::Any(count),
            });
            let signature = Signature::one_of(counts.collect(), Volatility::Stable);
            Arc::new(ScalarUDF::new_from_impl(DriverFunction { name, tells, signature, types: driver.types }))
        })
    };
    all.iter().flat_map(function).collect()
}

#[derive(Debug)]
struct DriverFunction {
    name: String,
    tells: Tells,
    signature: Signature,
    types: fn(i64) -> Option<&'static str>,
}

impl PartialEq for DriverFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for DriverFunction {}

impl Hash for DriverFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for DriverFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match &self.tells {
            Tells::Always(value) => value.data_type(),
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &self.tells {
            Tells::Always(value) => Ok(ColumnarValue::Scalar(value.clone())),
            _ => {
                // All of them, so that one number with a column of modifiers is told as often as there are rows.
                let numbers = ColumnarValue::values_to_arrays(&args.args)?;
                let numbers = cast(&numbers[0], &DataType::Int64)?;
                let name = |number: Option<i64>| number.map(|number| (self.types)(number).unwrap_or("???"));
                let names: StringArray = numbers.as_primitive::<Int64Type>().iter().map(name).collect();
                Ok(ColumnarValue::Array(Arc::new(names) as ArrayRef))
            }
        }
    }
}
