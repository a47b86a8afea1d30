//! The fingerprint of a schema: CRC-64-AVRO of its Parsing Canonical Form.
//!
//! Source: Apache Avro 1.12 specification, "Parsing Canonical Form for Schemas" and "Schema Fingerprints".

use super::schema::{full_name, primitive, qualified};
use serde_json::{Map, Value};

/// Of a schema that was read without errors.
pub(super) fn of(schema: &Value) -> u64 {
    let mut text = String::new();
    write(schema, "", &mut text);
    crc(text.as_bytes())
}

/// The fingerprint of nothing, and the polynomial.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

fn crc(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |crc, byte| {
        let mut table = (crc ^ u64::from(*byte)) & 0xff;
        for _ in 0..8 {
            table = (table >> 1) ^ (EMPTY & 0u64.wrapping_sub(table & 1));
        }
        (crc >> 8) ^ table
    })
}

/// Attributes that matter, in the order in which they stand.
const ATTRIBUTES: [&str; 7] = ["name", "type", "fields", "symbols", "items", "values", "size"];

fn write(schema: &Value, namespace: &str, out: &mut String) {
    match schema {
        Value::String(name) if primitive(name).is_some() => quote(name, out),
        Value::String(name) => quote(&qualified(name, namespace), out),
        Value::Array(variants) => list(variants, out, |variant, out| write(variant, namespace, out)),
        Value::Object(object) => write_object(object, namespace, out),
        other => out.push_str(&other.to_string()),
    }
}

fn write_object(object: &Map<String, Value>, namespace: &str, out: &mut String) {
    let kind = match object.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(inner) => return write(inner, namespace, out),
        None => return,
    };
    if !["record", "error", "enum", "fixed", "array", "map"].contains(&kind) {
        return write(&Value::String(kind.to_owned()), namespace, out);
    }
    let named = if matches!(kind, "array" | "map") { None } else { full_name(object, namespace) };
    let inside = named.as_ref().map_or(namespace, |(namespace, _)| namespace);
    let mut separator = '{';
    for attribute in ATTRIBUTES {
        let Some(value) = object.get(attribute) else { continue };
        if attribute == "name" && named.is_none() {
            continue;
        }
        out.push(separator);
        separator = ',';
        quote(attribute, out);
        out.push(':');
        match (attribute, value, &named) {
            ("name", _, Some((_, name))) => quote(name, out),
            ("type", ..) => quote(kind, out),
            ("fields", Value::Array(fields), _) => list(fields, out, |field, out| write_field(field, inside, out)),
            ("symbols", Value::Array(symbols), _) => {
                list(symbols, out, |symbol, out| quote(symbol.as_str().unwrap_or_default(), out));
            }
            ("size", ..) => out.push_str(&value.to_string()),
            _ => write(value, inside, out),
        }
    }
    out.push('}');
}

fn write_field(field: &Value, namespace: &str, out: &mut String) {
    out.push_str("{\"name\":");
    quote(field.get("name").and_then(Value::as_str).unwrap_or_default(), out);
    out.push_str(",\"type\":");
    write(field.get("type").unwrap_or(&Value::Null), namespace, out);
    out.push('}');
}

fn list(items: &[Value], out: &mut String, write: impl Fn(&Value, &mut String)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(']');
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}
