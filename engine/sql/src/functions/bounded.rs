//! Functions of DataFusion that write much of little, held to a number of bytes.
//!
//! They would write the whole text, outside of any pool, before they look how long it is, and a failed allocation ends the process. So the
//! length is worked out beforehand, from the lengths of the arguments and how often they are written, and what is too long is an error.
//! Of a pattern it is not known how often it matches: as often as there are characters.
//!
//! What such a function is simplified to would be another one without bounds, so nothing is.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// Functions that make lists of any length of a few bytes: no language here has them.
pub(crate) const LISTS_OF_ANY_LENGTH: [&str; 4] = ["array_repeat", "array_resize", "range", "generate_series"];
/// The longest text that a number is written as, floats apart, and these have few digits mostly.
const NUMBER_BYTES: u64 = 40;

/// How long texts may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    /// Of constants alone.
    pub(crate) constant_bytes_max: u64,
    /// Of a row.
    pub(crate) row_bytes_max: u64,
    /// Of all rows that are computed at once.
    pub(crate) batch_bytes_max: u64,
}

/// Whether a function has one of these names, among all that it is called by.
pub(crate) fn is_called(function: &ScalarUDF, names: &[&str]) -> bool {
    let mut own = function.aliases().iter().map(String::as_str).chain([function.name()]);
    own.any(|name| names.contains(&name))
}

/// Holds those of the functions to bounds that can be held to any.
pub(crate) fn bound(functions: &mut [Arc<ScalarUDF>], bounds: Bounds) {
    for function in functions {
        if let Some(length) = Length::of(function.name()) {
            let inner = Arc::clone(function);
            *function = Arc::new(ScalarUDF::new_from_impl(Bounded { inner, length, bounds }));
        }
    }
}

/// A function, and how long its answers are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    length: Length,
    bounds: Bounds,
}

/// What the length of an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Length {
    /// All arguments.
    Joined,
    /// The first between the others.
    JoinedWith,
    /// The second between the items of the first, and the third in place of those that are NULL.
    Items,
    /// The third wherever the second is found in the first.
    Replaced,
    /// The third, with parts of what was found, wherever the second matches the first.
    Matched,
    /// The first as often as the second says.
    Repeated,
    /// Two letters a byte.
    Encoded,
}

impl Length {
    fn of(name: &str) -> Option<Length> {
        Some(match name {
            "concat" => Length::Joined,
            "concat_ws" => Length::JoinedWith,
            "array_to_string" => Length::Items,
            "replace" => Length::Replaced,
            "regexp_replace" => Length::Matched,
            "repeat" => Length::Repeated,
            "encode" => Length::Encoded,
            _ => return None,
        })
    }

    /// The bytes of one row, or more; 0 if that is NULL.
    fn bytes(self, args: &[Argument<'_>], row: usize) -> Result<u64> {
        let text = |at: usize| args.get(at).and_then(|arg| arg.text(row));
        let len = |at: usize| text(at).map(|text| text.len() as u64);
        Ok(match self {
            Length::Joined => (0..args.len()).filter_map(len).sum(),
            Length::JoinedWith => {
                let (mut total, mut count) = (0, 0_u64);
                for len in (1..args.len()).filter_map(len) {
                    (total, count) = (total + len, count + 1);
                }
                total + len(0).unwrap_or(0) * count.saturating_sub(1)
            }
            Length::Items => {
                let items = args[0].items(row)?;
                let each = len(1).unwrap_or(0) + len(2).unwrap_or(0);
                items.bytes.saturating_add(items.count.saturating_mul(each))
            }
            Length::Replaced => match (text(0), text(1), len(2)) {
                (Some(text), Some(from), Some(to)) => replaced(text, from, to),
                _ => 0,
            },
            Length::Matched => match (text(0), text(2)) {
                (Some(searched), Some(with)) => {
                    let flags = text(3).unwrap_or_default();
                    let len = searched.len() as u64;
                    let matches = if flags.contains(&b'g') { len + 1 } else { 1 };
                    // What was found is written once for each sign that can stand for it.
                    let parts = with.iter().filter(|byte| matches!(byte, b'\\' | b'$')).count() as u64;
                    matches.saturating_mul(with.len() as u64).saturating_add(len.saturating_mul(parts + 1))
                }
                _ => 0,
            },
            Length::Repeated => len(0).unwrap_or(0).saturating_mul(args[1].number(row)),
            Length::Encoded => len(0).unwrap_or(0) * 2 + 4,
        })
    }
}

/// The length of a text in which `to` bytes stand wherever `from` stood.
fn replaced(text: &[u8], from: &[u8], to: u64) -> u64 {
    let len = text.len() as u64;
    let more = to.saturating_sub(from.len() as u64);
    if from.is_empty() || more == 0 {
        return len;
    }
    // The bytes of a text are found where its characters are.
    let (text, from) = (String::from_utf8_lossy(text), String::from_utf8_lossy(from));
    len.saturating_add(more.saturating_mul(text.matches(&*from).count() as u64))
}

/// Items of a list, with those of lists in it.
#[derive(Clone, Copy, Debug, Default)]
struct Items {
    count: u64,
    /// Of what they are written as.
    bytes: u64,
}

impl Items {
    fn of(array: &ArrayRef) -> Result<Items> {
        let of_texts = |bytes: u64| Items { count: array.len() as u64, bytes };
        Ok(match array.data_type() {
            DataType::List(_) => Items::within(array.len(), array.as_list::<i32>().iter())?,
            DataType::LargeList(_) => Items::within(array.len(), array.as_list::<i64>().iter())?,
            DataType::FixedSizeList(..) => Items::within(array.len(), array.as_fixed_size_list().iter())?,
            DataType::Dictionary(_, of) => Items::of(&cast(array, of)?)?,
            DataType::Null => Items { count: array.len() as u64, bytes: 0 },
            _ => match Argument::Each(array).texts() {
                Some(texts) => of_texts(texts),
                None => of_texts(NUMBER_BYTES.saturating_mul(array.len() as u64)),
            },
        })
    }

    /// A list that is NULL may be written as one item.
    fn within(count: usize, lists: impl Iterator<Item = Option<ArrayRef>>) -> Result<Items> {
        let mut all = Items { count: count as u64, bytes: 0 };
        for list in lists.flatten() {
            let own = Items::of(&list)?;
            all = Items { count: all.count + own.count, bytes: all.bytes + own.bytes };
        }
        Ok(all)
    }
}

/// An argument, row by row.
enum Argument<'a> {
    One(&'a ScalarValue),
    Each(&'a ArrayRef),
}

impl<'a> Argument<'a> {
    fn of(value: &'a ColumnarValue) -> Argument<'a> {
        match value {
            ColumnarValue::Scalar(value) => Argument::One(value),
            ColumnarValue::Array(array) => Argument::Each(array),
        }
    }

    /// A text, or bytes; `None` if it is NULL or none.
    fn text(&self, row: usize) -> Option<&'a [u8]> {
        match *self {
            Argument::One(value) => match value {
                ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
                    text.as_deref().map(str::as_bytes)
                }
                ScalarValue::Binary(bytes) | ScalarValue::LargeBinary(bytes) | ScalarValue::BinaryView(bytes) => {
                    bytes.as_deref()
                }
                ScalarValue::FixedSizeBinary(_, bytes) => bytes.as_deref(),
                _ => None,
            },
            Argument::Each(array) if array.is_null(row) => None,
            Argument::Each(array) => match array.data_type() {
                DataType::Utf8 => Some(array.as_string::<i32>().value(row).as_bytes()),
                DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row).as_bytes()),
                DataType::Utf8View => Some(array.as_string_view().value(row).as_bytes()),
                DataType::Binary => Some(array.as_binary::<i32>().value(row)),
                DataType::LargeBinary => Some(array.as_binary::<i64>().value(row)),
                DataType::BinaryView => Some(array.as_binary_view().value(row)),
                DataType::FixedSizeBinary(_) => Some(array.as_fixed_size_binary().value(row)),
                _ => None,
            },
        }
    }

    /// The bytes of all texts of an array; `None` if it has none.
    fn texts(&self) -> Option<u64> {
        let Argument::Each(array) = *self else { return None };
        let is_text = matches!(
            array.data_type(),
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        );
        is_text.then(|| (0..array.len()).filter_map(|row| self.text(row)).map(|text| text.len() as u64).sum())
    }

    fn items(&self, row: usize) -> Result<Items> {
        let of_value = |array: &ArrayRef| match array.data_type() {
            DataType::List(_) => Items::of(&array.as_list::<i32>().value(row)),
            DataType::LargeList(_) => Items::of(&array.as_list::<i64>().value(row)),
            DataType::FixedSizeList(..) => Items::of(&array.as_fixed_size_list().value(row)),
            _ => Ok(Items::default()),
        };
        match *self {
            Argument::One(value) if value.is_null() => Ok(Items::default()),
            Argument::One(value) => Items::of(&value.to_array()?),
            Argument::Each(array) if array.is_null(row) => Ok(Items::default()),
            Argument::Each(array) => of_value(array),
        }
    }

    /// A number that is not below zero.
    fn number(&self, row: usize) -> u64 {
        let number = match *self {
            Argument::One(ScalarValue::Int64(number)) => *number,
            Argument::One(_) => None,
            Argument::Each(array) => array
                .as_primitive_opt::<arrow::datatypes::Int64Type>()
                .filter(|_| !array.is_null(row))
                .map(|array| array.value(row)),
        };
        number.map_or(0, |number| number.max(0) as u64)
    }
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let arguments: Vec<Argument<'_>> = args.args.iter().map(Argument::of).collect();
        let name = self.inner.name();
        if arguments.iter().all(|argument| matches!(argument, Argument::One(_))) {
            let (bytes, most) = (self.length.bytes(&arguments, 0)?, self.bounds.constant_bytes_max);
            return match bytes <= most {
                true => Ok(()),
                false => exec_err!("`{name}` of constants makes up to {bytes} bytes; at most {most} are taken"),
            };
        }
        let Bounds { row_bytes_max, batch_bytes_max, .. } = self.bounds;
        // A constant may be written out for each row before anything is made of it.
        let constants = arguments.iter().filter(|argument| matches!(argument, Argument::One(_)));
        let constants: u64 = constants.filter_map(|argument| argument.text(0)).map(|text| text.len() as u64).sum();
        let mut total = constants.saturating_mul(args.number_rows as u64);
        for row in 0..args.number_rows {
            let bytes = self.length.bytes(&arguments, row)?;
            if bytes > row_bytes_max {
                return exec_err!("`{name}` makes up to {bytes} bytes of a row; at most {row_bytes_max} are taken");
            }
            total = total.saturating_add(bytes);
        }
        match total <= batch_bytes_max {
            true => Ok(()),
            false => exec_err!(
                "`{name}` makes up to {total} bytes of {} rows at once; at most {batch_bytes_max} are taken",
                args.number_rows
            ),
        }
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<arrow::datatypes::FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    const BOUNDS: Bounds = Bounds { constant_bytes_max: 300, row_bytes_max: 400, batch_bytes_max: 1_000 };

    /// The lengths of what an expression gives for each of the rows, or why there is none.
    fn lengths(expression: &str, rows: &[&str]) -> Result<Vec<Option<i64>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let context = SessionContext::new();
            let state = context.state();
            let mut functions: Vec<_> = state.scalar_functions().values().cloned().collect();
            bound(&mut functions, BOUNDS);
            functions.into_iter().for_each(|function| context.register_udf(ScalarUDF::clone(&function)));
            let values: Vec<String> = rows.iter().map(|row| format!("({row})")).collect();
            let text = format!("SELECT octet_length({expression})::bigint FROM (VALUES {}) t(x)", values.join(","));
            let batches = context.sql(&text).await?.collect().await?;
            let column = |batch: &arrow::array::RecordBatch| {
                batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().iter().collect::<Vec<_>>()
            };
            Ok(batches.iter().flat_map(column).collect())
        })
    }

    fn refused(expression: &str, rows: &[&str]) -> String {
        lengths(expression, rows).expect_err(expression).strip_backtrace()
    }

    #[test]
    fn what_is_made_is_known_before() {
        let ten = ["'aaaaaaaaaa'", "NULL"];
        for (expression, bytes, one_more) in [
            ("concat(x, repeat(x, 39))", 400, "concat(x, repeat(x, 39), 'b')"),
            ("concat_ws(repeat('b', 117), x, x, x, x, NULL)", 391, "concat_ws(repeat('b', 121), x, x, x, x, NULL)"),
            ("replace(x, 'a', repeat('b', 40))", 400, "replace(x, 'a', repeat('b', 41))"),
            ("replace(x, 'aa', repeat('b', 80))", 400, "replace(x, 'aa', repeat('b', 81))"),
            ("repeat(x, 40)", 400, "repeat(x, 41)"),
            ("encode(repeat(x, 19), 'hex')", 380, "encode(repeat(x, 20), 'hex')"),
            (
                "array_to_string(string_to_array(x, NULL::varchar), repeat('b', 39))",
                361,
                "array_to_string(string_to_array(x, NULL::varchar), repeat('b', 40))",
            ),
            (
                "array_to_string(make_array(make_array(x, NULL), make_array(x)), 'b', repeat(x, 5))",
                72,
                "array_to_string(make_array(make_array(x, NULL), make_array(x)), 'b', repeat(x, 9))",
            ),
            ("regexp_replace(x, 'a', repeat('b', 30), 'g')", 300, "regexp_replace(x, 'a', repeat('b', 40), 'g')"),
            ("regexp_replace(x, '(a*)', '\\1\\1\\1')", 30, "regexp_replace(repeat(x, 30), '(a*)', '\\1')"),
        ] {
            let told = lengths(expression, &ten).unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert_eq!(told[0], Some(bytes), "{expression}");
            let told = refused(one_more, &ten);
            assert!(told.contains("bytes of a row; at most 400 are taken"), "{one_more}: {told}");
        }
    }

    #[test]
    fn constants_and_batches_have_bounds_of_their_own() {
        assert_eq!(lengths("repeat('aaa', 100)", &["1"]).expect("computed"), [Some(300)]);
        let told = refused("repeat('aaa', 101)", &["1"]);
        assert!(told.contains("`repeat` of constants makes up to 303 bytes; at most 300 are taken"), "{told}");
        assert!(refused("concat_ws(repeat('b', 200), 'a', 'a', 'a')", &["1"]).contains("up to 403 bytes"));
        let told = refused("repeat(x, 40)", &["'aaaaaaaaaa'", "'aaaaaaaaaa'", "'aaaaaaaaaa'", "'a'"]);
        assert!(told.contains("`repeat` makes up to 1240 bytes of 4 rows at once; at most 1000 are taken"), "{told}");
    }
}
