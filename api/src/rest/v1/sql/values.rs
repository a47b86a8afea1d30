//! Arrow's values as JSON and as CSV.
//!
//! Numbers stand as they are, decimals with all their digits; lists are lists, and structs are objects; what has no form of its own in
//! JSON (times, bytes, intervals, and floating point numbers that are none) is a string as Arrow shows it.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::borrow::Cow;

/// A column of a batch, ready to be written.
pub struct Column<'b> {
    array: &'b dyn Array,
    shape: Shape<'b>,
}

enum Shape<'b> {
    /// As Arrow shows it.
    Bare(ArrayFormatter<'b>),
    /// The same as a string.
    Quoted(ArrayFormatter<'b>),
    /// A floating point number.
    Float(ArrayFormatter<'b>, Vec<bool>),
    /// The items of all rows, and where each row's begin; one more than rows.
    List(Box<Column<'b>>, &'b [i32]),
    /// The fields, each by its name as JSON.
    Struct(Vec<(String, Column<'b>)>),
}

impl<'b> Column<'b> {
    /// The columns of a batch.
    ///
    /// # Errors
    /// Arrow's, for a type that it cannot show.
    pub fn all(batch: &'b RecordBatch) -> Result<Vec<Column<'b>>, ArrowError> {
        batch.columns().iter().map(|array| Column::new(&**array)).collect()
    }

    fn new(array: &'b dyn Array) -> Result<Column<'b>, ArrowError> {
        let formatter = || ArrayFormatter::try_new(array, &OPTIONS);
        let shape = match array.data_type() {
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Shape::Bare(formatter()?),
            DataType::Float16 => {
                let finite = array.as_primitive::<Float16Type>().values().iter().map(|number| number.is_finite());
                Shape::Float(formatter()?, finite.collect())
            }
            DataType::Float32 => {
                let finite = array.as_primitive::<Float32Type>().values().iter().map(|number| number.is_finite());
                Shape::Float(formatter()?, finite.collect())
            }
            DataType::Float64 => {
                let finite = array.as_primitive::<Float64Type>().values().iter().map(|number| number.is_finite());
                Shape::Float(formatter()?, finite.collect())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Shape::List(Box::new(Column::new(&**list.values())?), list.value_offsets())
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let named = |(field, column): (&'b FieldRef, &'b ArrayRef)| {
                    let name = serde_json::Value::String(field.name().clone()).to_string();
                    Ok((name, Column::new(&**column)?))
                };
                Shape::Struct(columns.map(named).collect::<Result<_, ArrowError>>()?)
            }
            _ => Shape::Quoted(formatter()?),
        };
        Ok(Column { array, shape })
    }

    /// Also of a column that has nothing but NULL, of which Arrow keeps no list.
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row) || *self.array.data_type() == DataType::Null
    }

    /// Writes a row's value as JSON.
    pub fn json(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return out.push_str("null");
        }
        match &self.shape {
            Shape::Bare(formatter) => out.push_str(&formatter.value(row).to_string()),
            Shape::Float(formatter, finite) if finite[row] => out.push_str(&formatter.value(row).to_string()),
            Shape::Float(formatter, _) | Shape::Quoted(formatter) => {
                out.push_str(&serde_json::Value::String(formatter.value(row).to_string()).to_string());
            }
            Shape::List(items, offsets) => {
                out.push('[');
                for (at, item) in (offsets[row]..offsets[row + 1]).enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    items.json(item as usize, out);
                }
                out.push(']');
            }
            Shape::Struct(fields) => {
                out.push('{');
                for (at, (name, column)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(name);
                    out.push(':');
                    column.json(row, out);
                }
                out.push('}');
            }
        }
    }

    /// A row's value as text: of a list or a struct JSON, of NULL nothing.
    pub fn text(&self, row: usize) -> Cow<'static, str> {
        if self.is_null(row) {
            return "".into();
        }
        match &self.shape {
            Shape::Bare(formatter) | Shape::Quoted(formatter) | Shape::Float(formatter, _) => {
                formatter.value(row).to_string().into()
            }
            Shape::List(..) | Shape::Struct(_) => {
                let mut text = String::new();
                self.json(row, &mut text);
                text.into()
            }
        }
    }
}

/// As Arrow does by itself, with times in RFC 3339.
static OPTIONS: FormatOptions<'static> = FormatOptions::new();

/// A row as a JSON list.
pub(super) fn row_as_list(columns: &[Column<'_>], row: usize) -> String {
    let mut text = String::from("[");
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        column.json(row, &mut text);
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Decimal128Array, Float64Array, Int64Array, ListBuilder, NullArray, StringArray, StringBuilder,
        StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Field;
    use std::sync::Arc;

    #[test]
    fn values_are_json_with_nothing_lost() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a\"b"), None]);
        lists.append_null();
        let decimals = Decimal128Array::from(vec![Some(-1250), None]).with_precision_and_scale(19, 2).expect("fits");
        let field = |name: &str, of| Arc::new(Field::new(name, of, true));
        let pairs = StructArray::from(vec![
            (field("a \"b\"", DataType::Utf8), Arc::new(StringArray::from(vec![Some("x"), None])) as ArrayRef),
            (field("n", DataType::Int64), Arc::new(Int64Array::from(vec![1, 2]))),
        ]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("number", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
            ("decimal", Arc::new(decimals)),
            ("flag", Arc::new(BooleanArray::from(vec![true, false]))),
            ("text", Arc::new(StringArray::from(vec![Some("line\nfeed"), None]))),
            ("float", Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("UTC"))),
            ("list", Arc::new(lists.finish())),
            ("nothing", Arc::new(NullArray::new(2))),
            ("struct", Arc::new(pairs)),
        ];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
                .expect("a batch");
        let columns = Column::all(&batch).expect("shown");
        let first = "[-9223372036854775808,-12.50,true,\"line\\nfeed\",\"NaN\",\"1970-01-01T00:00:00.000001Z\",[\"a\\\"b\",null],null,{\"a \\\"b\\\"\":\"x\",\"n\":1}]";
        assert_eq!(row_as_list(&columns, 0), first);
        assert_eq!(
            row_as_list(&columns, 1),
            "[null,null,false,null,0.5,null,null,null,{\"a \\\"b\\\"\":null,\"n\":2}]"
        );
        assert_eq!(columns[6].text(0), "[\"a\\\"b\",null]");
        assert_eq!(columns[1].text(1), "");
    }
}
