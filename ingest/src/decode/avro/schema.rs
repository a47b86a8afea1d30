//! The text of a schema to a graph of types; names are followed once, so that reading a record never looks one up.

use super::fingerprint;
use crate::decode::json_text;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// How records are written.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    pub(super) types: Vec<Type>,
    pub(super) root: TypeIndex,
    fingerprint: u64,
}

/// A place in [`AvroSchema::types`]: types may contain themselves.
pub(super) type TypeIndex = usize;

/// A type, with what its logical type makes of it.
#[derive(Clone, Debug)]
pub(super) enum Type {
    /// A name whose type is being read.
    Open,
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// Its symbols as JSON.
    Enum(Vec<Vec<u8>>),
    Array(TypeIndex),
    Map(TypeIndex),
    Union(Vec<TypeIndex>),
    Record(Vec<Field>),
    /// Of so many bytes, or of any number of them.
    Decimal {
        size: Option<usize>,
        scale: i8,
    },
    /// Sixteen bytes.
    Uuid,
    Date,
    TimeOfDay {
        per_second: i64,
    },
    Timestamp {
        per_second: i64,
    },
    /// Twelve bytes.
    Duration,
}

/// A field of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// As the key of a JSON object, with its colon.
    pub(super) key: Vec<u8>,
    pub(super) field_type: TypeIndex,
}

/// Why a text is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a schema of Avro: {what}")]
pub struct SchemaError {
    /// What is wrong with it.
    pub what: String,
}

/// Types of one schema and those that it refers to.
const TYPES_MAX: usize = 1 << 16;

impl AvroSchema {
    /// Reads a schema in JSON; `references` are others whose names it uses, each behind those that it uses itself.
    ///
    /// # Errors
    /// [`SchemaError`]. A logical type that cannot be is none, as the specification has it.
    pub fn parse(text: &str, references: &[String]) -> Result<AvroSchema, SchemaError> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for reference in references {
            parser.parse(&json(reference)?, "")?;
        }
        let schema = json(text)?;
        let root = parser.parse(&schema, "")?;
        let is_object = |index: &TypeIndex| matches!(parser.types[*index], Type::Record(_) | Type::Map(_));
        let has_fields = match &parser.types[root] {
            Type::Union(variants) => variants.iter().any(is_object),
            _ => is_object(&root),
        };
        if !has_fields {
            return Err(wrong("it has no fields; it must be a record"));
        }
        Ok(AvroSchema { fingerprint: fingerprint::of(&schema), types: parser.types, root })
    }

    /// CRC-64-AVRO of its canonical form.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn json(text: &str) -> Result<Value, SchemaError> {
    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
}

fn wrong(what: impl Into<String>) -> SchemaError {
    SchemaError { what: what.into() }
}

/// The namespace and the full name of a named type that stands in `namespace`.
pub(super) fn full_name(object: &Map<String, Value>, namespace: &str) -> Option<(String, String)> {
    let name = object.get("name")?.as_str().filter(|name| !name.is_empty())?;
    if let Some((namespace, _)) = name.rsplit_once('.') {
        return Some((namespace.to_owned(), name.to_owned()));
    }
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    Some((namespace.to_owned(), qualified(name, namespace)))
}

/// The full name that `name` stands for in `namespace`.
pub(super) fn qualified(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// Whether the word is a primitive type.
pub(super) fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}

struct Parser {
    types: Vec<Type>,
    names: HashMap<String, TypeIndex>,
}

impl Parser {
    fn push(&mut self, found: Type) -> Result<TypeIndex, SchemaError> {
        if self.types.len() >= TYPES_MAX {
            return Err(wrong(format!("it has more than {TYPES_MAX} types")));
        }
        self.types.push(found);
        Ok(self.types.len() - 1)
    }

    /// Nesting is bounded by that of the JSON it is read from.
    fn parse(&mut self, schema: &Value, namespace: &str) -> Result<TypeIndex, SchemaError> {
        match schema {
            Value::String(name) => match primitive(name) {
                Some(found) => self.push(found),
                None => self.named(name, namespace),
            },
            Value::Array(variants) => {
                let parse = |variant: &Value| match variant {
                    Value::Array(_) => Err(wrong("a union stands directly in a union")),
                    variant => self.parse(variant, namespace),
                };
                let variants: Vec<_> = variants.iter().map(parse).collect::<Result<_, _>>()?;
                self.push(Type::Union(variants))
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(wrong(format!("`{other}` is no type"))),
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<TypeIndex, SchemaError> {
        let known = self.names.get(&qualified(name, namespace)).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| wrong(format!("there is no type `{name}`")))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<TypeIndex, SchemaError> {
        let inner = object.get("type").ok_or_else(|| wrong("an object without `type`"))?;
        let Value::String(kind) = inner else { return self.parse(inner, namespace) };
        let part = |name: &str| object.get(name).ok_or_else(|| wrong(format!("`{kind}` without `{name}`")));
        match kind.as_str() {
            "array" => {
                let items = self.parse(part("items")?, namespace)?;
                self.push(Type::Array(items))
            }
            "map" => {
                let values = self.parse(part("values")?, namespace)?;
                self.push(Type::Map(values))
            }
            "record" | "error" => {
                let (namespace, index) = self.open(object, namespace)?;
                let fields = part("fields")?.as_array().ok_or_else(|| wrong("`fields` is a list"))?;
                let fields = fields.iter().map(|field| self.field(field, &namespace)).collect::<Result<_, _>>()?;
                self.types[index] = Type::Record(fields);
                Ok(index)
            }
            "enum" => {
                let (_, index) = self.open(object, namespace)?;
                let symbols = part("symbols")?.as_array().ok_or_else(|| wrong("`symbols` is a list"))?;
                let symbol = |symbol: &Value| {
                    let mut json = Vec::new();
                    json_text::push_string(symbol.as_str().ok_or_else(|| wrong("a symbol is text"))?, &mut json);
                    Ok(json)
                };
                self.types[index] = Type::Enum(symbols.iter().map(symbol).collect::<Result<_, _>>()?);
                Ok(index)
            }
            "fixed" => {
                let (_, index) = self.open(object, namespace)?;
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| wrong("`size` is a number of bytes"))?;
                self.types[index] = logical(object, Type::Fixed(size));
                Ok(index)
            }
            name => match primitive(name) {
                Some(found) => self.push(logical(object, found)),
                None => self.named(name, namespace),
            },
        }
    }

    /// Makes the name of a type known, so that the type may contain itself.
    fn open(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<(String, TypeIndex), SchemaError> {
        let (namespace, name) = full_name(object, namespace).ok_or_else(|| wrong("a named type without `name`"))?;
        let index = self.push(Type::Open)?;
        if primitive(&name).is_some() || self.names.insert(name.clone(), index).is_some() {
            return Err(wrong(format!("the name `{name}` is taken")));
        }
        Ok((namespace, index))
    }

    fn field(&mut self, field: &Value, namespace: &str) -> Result<Field, SchemaError> {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a field without `name`"))?;
        let field_type = field.get("type").ok_or_else(|| wrong(format!("field `{name}` has no type")))?;
        let field_type = self.parse(field_type, namespace).map_err(|error| {
            let what = error.what;
            wrong(format!("field `{name}`: {what}"))
        })?;
        Ok(Field { name: name.to_owned(), key: json_text::key(name), field_type })
    }
}

/// What the logical type makes of a type; one that does not fit is ignored.
fn logical(object: &Map<String, Value>, found: Type) -> Type {
    let Some(name) = object.get("logicalType").and_then(Value::as_str) else { return found };
    let number = |name: &str| object.get(name).map_or(Some(0), Value::as_i64);
    let decimal = |size| {
        let (precision, scale) = (number("precision")?, number("scale")?);
        (precision > 0 && (0..=precision).contains(&scale)).then_some(())?;
        Some(Type::Decimal { size, scale: i8::try_from(scale).ok()? })
    };
    let made = match (name, &found) {
        ("decimal", Type::Bytes) => decimal(None),
        ("decimal", Type::Fixed(size)) => decimal(Some(*size)),
        ("uuid", Type::Fixed(16)) => Some(Type::Uuid),
        ("date", Type::Int) => Some(Type::Date),
        ("time-millis", Type::Int) => Some(Type::TimeOfDay { per_second: 1_000 }),
        ("time-micros", Type::Long) => Some(Type::TimeOfDay { per_second: 1_000_000 }),
        ("timestamp-millis" | "local-timestamp-millis", Type::Long) => Some(Type::Timestamp { per_second: 1_000 }),
        ("timestamp-micros" | "local-timestamp-micros", Type::Long) => Some(Type::Timestamp { per_second: 1_000_000 }),
        ("timestamp-nanos" | "local-timestamp-nanos", Type::Long) => {
            Some(Type::Timestamp { per_second: 1_000_000_000 })
        }
        ("duration", Type::Fixed(12)) => Some(Type::Duration),
        _ => None,
    };
    made.unwrap_or(found)
}
