//! How a function of rows is called: its table entry as a function of DataFusion.

use super::aliases;
use super::answer::{Answer, Answers, Gives};
use super::call::{Argument, Call};
use super::people::People;
use super::types::{Takes, other_extension};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Function {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    takes: Vec<Takes>,
    /// How many of the last arguments may be left out.
    optional: usize,
    /// Whether the last argument may be repeated.
    repeats: bool,
    /// Whether it is called with NULLs too; otherwise one makes NULL of the answer.
    with_nulls: bool,
    gives: Gives,
    answer: fn(&Call<'_>, usize) -> Result<Answer>,
}

impl Function {
    /// A function by its names, the first of which is ours.
    pub(super) fn new(
        names: &[&'static str],
        takes: &[Takes],
        gives: Gives,
        answer: fn(&Call<'_>, usize) -> Result<Answer>,
    ) -> Function {
        Function {
            name: names[0],
            aliases: aliases(names),
            // One snapshot gives one answer.
            signature: Signature::user_defined(Volatility::Stable),
            takes: takes.to_vec(),
            optional: 0,
            repeats: false,
            with_nulls: false,
            gives,
            answer,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn gives(&self) -> DataType {
        self.gives.data_type()
    }

    pub(super) fn optional(self, optional: usize) -> Function {
        Function { optional, ..self }
    }

    pub(super) fn repeats(self) -> Function {
        Function { repeats: true, ..self }
    }

    pub(super) fn with_nulls(self) -> Function {
        Function { with_nulls: true, ..self }
    }

    fn coerced(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let most = if self.repeats { usize::MAX } else { self.takes.len() };
        let least = self.takes.len() - self.optional;
        if given.len() < least || given.len() > most {
            let counts = match (self.repeats, least == self.takes.len()) {
                (true, _) => format!("at least {least}"),
                (false, true) => least.to_string(),
                (false, false) => format!("{least} to {most}"),
            };
            return plan_err!("`{}` takes {counts} arguments, not {}", self.name, given.len());
        }
        let takes = |at: usize| self.takes[at.min(self.takes.len() - 1)];
        given.iter().enumerate().map(|(at, given)| takes(at).coerced(given, self.name, at + 1)).collect()
    }
}

/// A function over the users of a statement's snapshot.
#[derive(Debug)]
struct Udf {
    function: &'static Function,
    people: Arc<People>,
}

impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        std::ptr::eq(self.function, other.function) && Arc::ptr_eq(&self.people, &other.people)
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

/// The function of a session.
pub(super) fn udf(function: &'static Function, people: &Arc<People>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Udf { function, people: Arc::clone(people) })
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn aliases(&self) -> &[String] {
        &self.function.aliases
    }

    fn signature(&self) -> &Signature {
        &self.function.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.function.gives.data_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        for (at, field) in args.arg_fields.iter().enumerate() {
            let wanted = match self.function.takes.get(at).or(self.function.takes.last()) {
                Some(Takes::Bitmap) => super::types::BITMAP,
                Some(Takes::Sliced) => super::types::SLICED,
                _ => continue,
            };
            if let Some(other) = other_extension(field, wanted) {
                return plan_err!("`{}` takes {wanted} as argument {}, not {other}", self.function.name, at + 1);
            }
        }
        Ok(Arc::new(self.function.gives.field(self.function.name)))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerced(given)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let function = self.function;
        let mut is_constant = true;
        let mut arguments = Vec::with_capacity(args.args.len());
        for value in args.args {
            arguments.push(match value {
                ColumnarValue::Scalar(value) => Argument::new(value.to_array()?, true),
                ColumnarValue::Array(array) => {
                    is_constant = false;
                    Argument::new(array, false)
                }
            });
        }
        let call = Call { arguments: &arguments, people: &self.people };
        let mut answers = Answers::new(function.gives);
        for row in 0..if is_constant { 1 } else { args.number_rows } {
            self.people.check()?;
            let is_null = !function.with_nulls && arguments.iter().any(|argument| argument.is_null(row));
            let answer = if is_null { Ok(Answer::Null) } else { (function.answer)(&call, row) };
            answer.and_then(|answer| answers.push(answer)).map_err(|error| named(function.name, error))?;
        }
        if is_constant {
            // For one row, as planning asks: the answer is kept. Others are gone with their batch.
            let (bytes, listed) = if args.number_rows == 1 { answers.size() } else { (0, 0) };
            self.people.take_constant(bytes, listed).map_err(|error| named(function.name, error))?;
        }
        let array = answers.finish();
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// With the function that it is about.
pub(super) fn named(function: &str, error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Execution(message) => DataFusionError::Execution(format!("{function}: {message}")),
        other => other,
    }
}
