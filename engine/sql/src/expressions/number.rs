//! The one exact number of expressions: 20 digits before the point, 18 behind it, and what is calculated with it.
//!
//! SQL's decimals grow with each step until they do not fit (38 digits behind the point after three products), and its integers
//! divide to integers. Here every step gives the same type again: exactly, or not at all, except that a quotient is rounded.

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringBuilder};
use datafusion::arrow::compute::kernels::arity::{try_binary, try_unary};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Int64Type, i256};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use engine::computed::{NUMBER_DIGITS, NUMBER_SCALE};
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

/// Its type.
pub(super) const NUMBER: DataType = DataType::Decimal128(NUMBER_DIGITS as u8, NUMBER_SCALE as i8);

/// Its units in one.
pub(super) const ONE: i128 = 10i128.pow(NUMBER_SCALE as u32);

/// The first that has too many digits.
pub(super) const LIMIT: i128 = 10i128.pow(NUMBER_DIGITS);

/// A function of numbers that DataFusion does not have.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NumberFunction {
    name: &'static str,
    signature: Signature,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// To a whole number of 64 bits.
    Whole,
    /// To its text, of any decimal.
    Text,
}

impl NumberFunction {
    fn make(name: &'static str, step: Step) -> Arc<ScalarUDF> {
        let signature = match step {
            Step::Text => TypeSignature::Any(1),
            Step::Whole => TypeSignature::Exact(vec![NUMBER]),
            _ => TypeSignature::Exact(vec![NUMBER, NUMBER]),
        };
        let signature = Signature::new(signature, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(NumberFunction { name, signature, step }))
    }
}

macro_rules! functions {
    ($($name:ident, $text:literal, $step:expr;)*) => {
        $(pub(super) fn $name() -> Arc<ScalarUDF> {
            static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| NumberFunction::make($text, $step));
            FUNCTION.clone()
        })*
    };
}

functions! {
    add, "+", Step::Add;
    subtract, "-", Step::Subtract;
    multiply, "*", Step::Multiply;
    divide, "/", Step::Divide;
    remainder, "%", Step::Remainder;
    whole, "whole", Step::Whole;
    text, "text", Step::Text;
}

impl ScalarUDFImpl for NumberFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.step {
            Step::Whole => DataType::Int64,
            Step::Text => DataType::Utf8,
            _ => NUMBER,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> =
            args.args.into_iter().map(|argument| argument.into_array(rows)).collect::<Result<_>>()?;
        let array: ArrayRef = match (self.step, arrays.as_slice()) {
            (Step::Whole, [numbers]) => Arc::new(whole_numbers(numbers.as_primitive())?),
            (Step::Text, [numbers]) => texts(numbers)?,
            (step, [a, b]) => Arc::new(calculate(step, a.as_primitive(), b.as_primitive())?),
            _ => return Err(DataFusionError::Internal(format!("`{}` with other arguments than it takes", self.name))),
        };
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

type Numbers = PrimitiveArray<Decimal128Type>;

fn calculate(step: Step, a: &Numbers, b: &Numbers) -> Result<Numbers> {
    let calculated = match step {
        Step::Add => try_binary(a, b, |a, b| within(a.checked_add(b))),
        Step::Subtract => try_binary(a, b, |a, b| within(a.checked_sub(b))),
        Step::Multiply => try_binary(a, b, product),
        Step::Divide => try_binary(a, b, quotient),
        _ => try_binary(a, b, |a, b| if b == 0 { Err(ArrowError::DivideByZero) } else { Ok(a % b) }),
    };
    let calculated: Numbers = calculated?;
    Ok(calculated.with_data_type(NUMBER))
}

fn within(number: Option<i128>) -> Result<i128, ArrowError> {
    match number {
        Some(number) if number.unsigned_abs() < LIMIT.unsigned_abs() => Ok(number),
        _ => Err(ArrowError::ComputeError(
            "the result has more than 20 digits before the point; write ::double for floats".to_owned(),
        )),
    }
}

/// Both cut at the point: `(a + a') * (b + b')`, of which only the product of the fractions may have digits that do not fit.
pub(super) fn product(a: i128, b: i128) -> Result<i128, ArrowError> {
    let ((a_whole, a_rest), (b_whole, b_rest)) = ((a / ONE, a % ONE), (b / ONE, b % ONE));
    let rests = a_rest * b_rest;
    if rests % ONE != 0 {
        let text = "the result has more than 18 digits behind the point; round what it is made of, or write ::double";
        return Err(ArrowError::ComputeError(text.to_owned()));
    }
    let sum = a_whole
        .checked_mul(b)
        .and_then(|sum| sum.checked_add(a_rest.checked_mul(b_whole)?))
        .and_then(|sum| sum.checked_add(rests / ONE));
    within(sum)
}

/// Rounded to the nearest, halves away from zero.
pub(super) fn quotient(a: i128, b: i128) -> Result<i128, ArrowError> {
    if b == 0 {
        return Err(ArrowError::DivideByZero);
    }
    let wide = i256::from_i128(a).wrapping_mul(i256::from_i128(ONE));
    let divisor = i256::from_i128(b);
    let (cut, rest) = (wide.wrapping_div(divisor), wide.wrapping_rem(divisor));
    let rest_magnitude = if rest.is_negative() { rest.wrapping_neg() } else { rest };
    let is_up = rest_magnitude.wrapping_add(rest_magnitude) >= i256::from_i128(b.abs());
    let away = if (a < 0) == (b < 0) { 1 } else { -1 };
    within(cut.to_i128().and_then(|cut| cut.checked_add(if is_up { away } else { 0 })))
}

fn whole_numbers(numbers: &Numbers) -> Result<PrimitiveArray<Int64Type>> {
    let whole = try_unary(numbers, |number| {
        let text = || {
            let mut text = String::new();
            push_decimal(number, NUMBER_SCALE as i8, &mut text);
            text
        };
        if number % ONE != 0 {
            return Err(ArrowError::ComputeError(format!("{} stands where a whole number is needed", text())));
        }
        i64::try_from(number / ONE)
            .map_err(|_| ArrowError::ComputeError(format!("{} is beyond a whole number of 64 bits", text())))
    });
    Ok(whole?)
}

fn texts(numbers: &ArrayRef) -> Result<ArrayRef> {
    let (DataType::Decimal128(_, scale), Some(numbers)) =
        (numbers.data_type().clone(), numbers.as_primitive_opt::<Decimal128Type>())
    else {
        return Err(DataFusionError::Internal(format!("{} is no decimal", numbers.data_type())));
    };
    let (mut builder, mut text) = (StringBuilder::new(), String::new());
    for number in numbers {
        text.clear();
        builder.append_option(number.map(|number| {
            push_decimal(number, scale, &mut text);
            text.as_str()
        }));
    }
    Ok(Arc::new(builder.finish()))
}

/// Appends `number / 10^scale` without zeros at its end.
pub(super) fn push_decimal(number: <Decimal128Type as ArrowPrimitiveType>::Native, scale: i8, out: &mut String) {
    let places = usize::from(scale.max(0).unsigned_abs());
    let zeros = usize::from(scale.min(0).unsigned_abs());
    if number < 0 {
        out.push('-');
    }
    let begin = out.len();
    let written = write!(out, "{:0>width$}", number.unsigned_abs(), width = places + 1);
    written.expect("a string takes all that is written");
    if number != 0 {
        out.extend(std::iter::repeat_n('0', zeros));
    }
    if places == 0 {
        return;
    }
    out.insert(out.len() - places, '.');
    let kept = out[begin..].trim_end_matches('0').trim_end_matches('.').len();
    out.truncate(begin + kept);
}
