//! Keys as the parameter of a statement.
//!
//! A key is text; what a statement takes is told by the database. Keys that are no value of that type are in no row.

use super::cells::uuid;
use std::error::Error;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

/// What the parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    kind: KeyKind,
    /// A list of keys, else one.
    pub(super) is_list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Text,
    Int2,
    Int4,
    Int8,
    Uuid,
}

/// A value to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Text(String),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Uuid(u128),
}

impl Parameter {
    /// Of a type; none if no key can be of it.
    pub(super) fn of(ty: &Type) -> Option<Parameter> {
        if let Kind::Array(item) = ty.kind() {
            return Some(Parameter { is_list: true, ..Parameter::of(item).filter(|item| !item.is_list)? });
        }
        let kind = match *ty {
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => KeyKind::Text,
            Type::INT2 => KeyKind::Int2,
            Type::INT4 => KeyKind::Int4,
            Type::INT8 => KeyKind::Int8,
            Type::UUID => KeyKind::Uuid,
            _ if ty.name() == "citext" => KeyKind::Text,
            _ => return None,
        };
        Some(Parameter { kind, is_list: false })
    }

    /// A key as the database takes it, and as it writes it; none if it is no value of that type.
    pub(super) fn read(self, key: &str) -> Option<(Key, String)> {
        let value = match self.kind {
            // A text of PostgreSQL cannot have it.
            KeyKind::Text if key.contains('\0') => return None,
            KeyKind::Text => Key::Text(key.to_owned()),
            KeyKind::Int2 => Key::Int2(key.parse().ok()?),
            KeyKind::Int4 => Key::Int4(key.parse().ok()?),
            KeyKind::Int8 => Key::Int8(key.parse().ok()?),
            KeyKind::Uuid => {
                let hex: String = key.chars().filter(|c| *c != '-').collect();
                let is_uuid = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
                Key::Uuid(u128::from_str_radix(&hex, 16).ok().filter(|_| is_uuid)?)
            }
        };
        let shown = match &value {
            Key::Text(text) => text.clone(),
            Key::Int2(number) => number.to_string(),
            Key::Int4(number) => number.to_string(),
            Key::Int8(number) => number.to_string(),
            Key::Uuid(value) => uuid(*value),
        };
        Some((value, shown))
    }
}

impl ToSql for Key {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Key::Text(text) => text.to_sql(ty, out),
            Key::Int2(number) => number.to_sql(ty, out),
            Key::Int4(number) => number.to_sql(ty, out),
            Key::Int8(number) => number.to_sql(ty, out),
            Key::Uuid(value) => {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(ty: &Type) -> bool {
        Parameter::of(ty).is_some_and(|parameter| !parameter.is_list)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_values_or_in_no_row() {
        let shown = |ty: &Type, key: &str| Parameter::of(ty).and_then(|it| it.read(key)).map(|(_, shown)| shown);
        assert_eq!(shown(&Type::INT4_ARRAY, "007").as_deref(), Some("7"));
        assert_eq!(shown(&Type::INT4, "3000000000"), None);
        assert_eq!(shown(&Type::INT8, "abc"), None);
        assert_eq!(shown(&Type::TEXT_ARRAY, "007").as_deref(), Some("007"));
        assert_eq!(shown(&Type::TEXT, "a\0"), None);
        let (upper, lower) = ("AB000000-0000-0000-0000-000000000001", "ab000000-0000-0000-0000-000000000001");
        assert_eq!(shown(&Type::UUID_ARRAY, upper).as_deref(), Some(lower));
        assert_eq!(shown(&Type::UUID, "+b000000-0000-0000-0000-000000000001"), None);
        assert_eq!(Parameter::of(&Type::FLOAT8), None);
        assert!(Parameter::of(&Type::TEXT_ARRAY).is_some_and(|it| it.is_list));
    }
}
