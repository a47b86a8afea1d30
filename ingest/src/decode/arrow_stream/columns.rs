//! What a schema's head says of its columns, before Arrow makes types of it: Arrow panics at what it does not know.

use arrow::ipc::{DateUnit, Field, Int, IntervalUnit, Precision, Schema, TimeUnit, Type};

/// Refuses columns whose types there are not, or that are not read.
pub(super) fn check(schema: &Schema<'_>) -> Result<(), String> {
    let fields = schema.fields().ok_or_else(|| "a schema without columns".to_owned())?;
    fields.iter().try_for_each(|field| {
        check_field(&field).map_err(|what| format!("column `{}`: {what}", field.name().unwrap_or_default()))
    })
}

fn check_field(field: &Field<'_>) -> Result<(), String> {
    if let Some(dictionary) = field.dictionary() {
        let is_known = dictionary.indexType().is_some_and(|index| is_integer(&index));
        if !is_known {
            return Err("the indexes of its dictionary are no integers".to_owned());
        }
    }
    let children = field.children().map_or(0, |children| children.len());
    let is_unit = |unit: TimeUnit| (TimeUnit::SECOND.0..=TimeUnit::NANOSECOND.0).contains(&unit.0);
    let kind = field.type_type();
    let is_known = match kind {
        Type::Null | Type::Bool | Type::Utf8 | Type::LargeUtf8 | Type::Utf8View => true,
        Type::Binary | Type::LargeBinary | Type::BinaryView => true,
        Type::Int => field.type_as_int().is_some_and(|int| is_integer(&int)),
        Type::FloatingPoint => field
            .type_as_floating_point()
            .is_some_and(|float| matches!(float.precision(), Precision::HALF | Precision::SINGLE | Precision::DOUBLE)),
        Type::Decimal => field.type_as_decimal().is_some_and(|decimal| {
            let digits_max = match decimal.bitWidth() {
                32 => 9,
                64 => 18,
                128 => 38,
                256 => 76,
                _ => 0,
            };
            (1..=digits_max).contains(&decimal.precision()) && (-digits_max..=digits_max).contains(&decimal.scale())
        }),
        Type::Date => {
            field.type_as_date().is_some_and(|date| matches!(date.unit(), DateUnit::DAY | DateUnit::MILLISECOND))
        }
        Type::Time => field.type_as_time().is_some_and(|time| match time.bitWidth() {
            32 => matches!(time.unit(), TimeUnit::SECOND | TimeUnit::MILLISECOND),
            64 => matches!(time.unit(), TimeUnit::MICROSECOND | TimeUnit::NANOSECOND),
            _ => false,
        }),
        Type::Timestamp => field.type_as_timestamp().is_some_and(|timestamp| is_unit(timestamp.unit())),
        Type::Duration => field.type_as_duration().is_some_and(|duration| is_unit(duration.unit())),
        Type::Interval => field.type_as_interval().is_some_and(|interval| {
            (IntervalUnit::YEAR_MONTH.0..=IntervalUnit::MONTH_DAY_NANO.0).contains(&interval.unit().0)
        }),
        Type::FixedSizeBinary => field.type_as_fixed_size_binary().is_some_and(|binary| binary.byteWidth() >= 0),
        Type::List | Type::LargeList => children == 1,
        Type::FixedSizeList => {
            children == 1 && field.type_as_fixed_size_list().is_some_and(|list| list.listSize() >= 0)
        }
        Type::Map => children == 1 && field.type_as_map().is_some() && has_entries(field),
        Type::Struct_ => true,
        Type::Union | Type::RunEndEncoded | Type::ListView | Type::LargeListView => {
            let name = kind.variant_name().unwrap_or_default();
            return Err(format!("columns of {name} are not read; cast it to plain values or lists"));
        }
        _ => false,
    };
    if !is_known {
        return Err(format!("there is no such type: {}", kind.variant_name().unwrap_or("one of another number")));
    }
    field.children().into_iter().flatten().try_for_each(|child| check_field(&child))
}

fn is_integer(int: &Int<'_>) -> bool {
    matches!(int.bitWidth(), 8 | 16 | 32 | 64)
}

/// Whether a map holds structs of a key and a value.
fn has_entries(field: &Field<'_>) -> bool {
    field.children().into_iter().flatten().all(|entries| {
        entries.type_type() == Type::Struct_ && entries.children().is_some_and(|children| children.len() == 2)
    })
}
