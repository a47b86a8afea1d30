//! The types that columns have, as ODBC and JDBC number them.

use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

/// A type of numbers: its name, its number, its digits and the base that they are of.
const NUMBERS: [(&str, XdbcDataType, i32, i32); 7] = [
    ("TINYINT", XdbcDataType::XdbcTinyint, 3, 10),
    ("SMALLINT", XdbcDataType::XdbcSmallint, 5, 10),
    ("INTEGER", XdbcDataType::XdbcInteger, 10, 10),
    ("BIGINT", XdbcDataType::XdbcBigint, 19, 10),
    ("REAL", XdbcDataType::XdbcReal, 24, 2),
    ("DOUBLE", XdbcDataType::XdbcDouble, 53, 2),
    ("DECIMAL", XdbcDataType::XdbcDecimal, 38, 10),
];

/// All of them.
///
/// # Errors
/// Arrow's.
pub(super) fn all() -> Result<XdbcTypeInfoData> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, number, digits, radix) in NUMBERS {
        let is_decimal = number == XdbcDataType::XdbcDecimal;
        types.append(XdbcTypeInfo {
            column_size: Some(digits),
            create_params: is_decimal.then(|| vec!["precision".to_owned(), "scale".to_owned()]),
            unsigned_attribute: Some(false),
            auto_increment: Some(false),
            minimum_scale: Some(0),
            maximum_scale: Some(if is_decimal { digits } else { 0 }),
            num_prec_radix: Some(radix),
            ..basic(name, number)
        });
    }
    types.append(XdbcTypeInfo { column_size: Some(1), ..basic("BOOLEAN", XdbcDataType::XdbcBit) });
    types.append(XdbcTypeInfo {
        case_sensitive: true,
        searchable: Searchable::Full,
        ..quoted("VARCHAR", XdbcDataType::XdbcVarchar, "'")
    });
    types.append(quoted("VARBINARY", XdbcDataType::XdbcVarbinary, "X'"));
    types.append(XdbcTypeInfo { column_size: Some(10), ..quoted("DATE", XdbcDataType::XdbcDate, "DATE '") });
    types.append(XdbcTypeInfo {
        column_size: Some(32),
        maximum_scale: Some(6),
        minimum_scale: Some(6),
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
        ..quoted("TIMESTAMP WITH TIME ZONE", XdbcDataType::XdbcTimestamp, "TIMESTAMP '")
    });
    types.build()
}

fn basic(name: &str, number: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type: number,
        sql_data_type: number,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Basic,
        local_type_name: Some(name.to_owned()),
        ..XdbcTypeInfo::default()
    }
}

fn quoted(name: &str, number: XdbcDataType, begin: &str) -> XdbcTypeInfo {
    XdbcTypeInfo { literal_prefix: Some(begin.to_owned()), literal_suffix: Some("'".to_owned()), ..basic(name, number) }
}
