//! `pg_catalog`: what clients of PostgreSQL read to list schemas, tables, columns and types.
//!
//! As much of it as there is something to tell of; tables of what there is none of here (indexes, defaults, comments, …) are empty. It is
//! a schema of this door alone, and its numbers are made of names, so that they are the same in every statement.

use super::types::{NAMES, modifier, type_bytes, type_of};
use crate::access::Principal;
use crate::rest::v1::sql::system;
use crate::state::AppState;
use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use engine_sql::session::{CATALOG, ListedTable, PUBLIC, SCHEMAS, SystemTable};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_postgres::types::{Kind, Type};
use xxhash_rust::xxh3::xxh3_64;

const NAME: &str = "pg_catalog";
/// Numbers below are PostgreSQL's own.
const OWN_MIN: i64 = 16_384;
/// Who owns all there is.
const OWNER: i64 = 10;
/// The schema of types.
const TYPES: i64 = 11;

/// The tables of a server and of this door, as far as who asks may see them.
pub(super) fn tables(state: &AppState, by: &Principal) -> Vec<Arc<dyn SystemTable>> {
    let all = [
        ("pg_namespace", Of::Schemas),
        ("pg_class", Of::Tables),
        ("pg_attribute", Of::Columns),
        ("pg_type", Of::Types),
        ("pg_database", Of::Database),
        ("pg_roles", Of::Roles),
        ("pg_tables", Of::Named),
        ("pg_am", Of::Nothing(&["oid"], &["amname"])),
        ("pg_attrdef", Of::Nothing(&["oid", "adrelid", "adnum"], &["adbin"])),
        ("pg_collation", Of::Nothing(&["oid", "collnamespace"], &["collname"])),
        (
            "pg_constraint",
            Of::Nothing(&["oid", "conrelid", "confrelid", "connamespace", "conindid"], &["conname", "contype"]),
        ),
        ("pg_description", Of::Nothing(&["objoid", "classoid", "objsubid"], &["description"])),
        ("pg_enum", Of::Nothing(&["oid", "enumtypid", "enumsortorder"], &["enumlabel"])),
        ("pg_index", Of::Nothing(&["indexrelid", "indrelid", "indnatts"], &["indkey"])),
        ("pg_inherits", Of::Nothing(&["inhrelid", "inhparent", "inhseqno"], &[])),
        ("pg_matviews", Of::Nothing(&[], &["schemaname", "matviewname", "definition"])),
        ("pg_proc", Of::Nothing(&["oid", "pronamespace"], &["proname"])),
        ("pg_range", Of::Nothing(&["rngtypid", "rngsubtype"], &[])),
        ("pg_views", Of::Nothing(&[], &["schemaname", "viewname", "definition"])),
    ];
    let table = |(name, of)| Arc::new(Table { name, of, state: state.clone(), by: by.clone() }) as Arc<dyn SystemTable>;
    system::tables(state, by).into_iter().chain(all.map(table)).collect()
}

/// What a table tells of.
#[derive(Clone, Copy, Debug)]
enum Of {
    Schemas,
    Tables,
    Columns,
    Types,
    Database,
    Roles,
    /// Tables, for people.
    Named,
    /// Nothing, in columns of numbers and of texts.
    Nothing(&'static [&'static str], &'static [&'static str]),
}

struct Table {
    name: &'static str,
    of: Of,
    state: AppState,
    by: Principal,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl SystemTable for Table {
    fn schema_name(&self) -> &'static str {
        NAME
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> SchemaRef {
        let columns = columns(self.of, &[]);
        let field = |(name, array): (&str, ArrayRef)| Field::new(name, array.data_type().clone(), true);
        Arc::new(Schema::new(columns.into_iter().map(field).collect::<Vec<_>>()))
    }

    fn rows(&self) -> Result<RecordBatch, String> {
        let listed = self.listed().map_err(|failure| failure.to_string())?;
        let arrays = columns(self.of, &listed).into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(self.schema(), arrays).map_err(|error| error.to_string())
    }
}

/// A table with its number.
struct Numbered {
    oid: i64,
    table: ListedTable,
}

impl Table {
    fn listed(&self) -> Result<Vec<Numbered>, crate::error::Failure> {
        let with_columns = match self.of {
            Of::Tables | Of::Columns => true,
            Of::Named => false,
            _ => return Ok(Vec::new()),
        };
        let system = system::tables(&self.state, &self.by);
        let listed = self.state.sql()?.tables(self.state.names(&self.by)?, system, with_columns, &|_, _| true)?;
        let mut taken = HashSet::new();
        let numbered = listed.into_iter().map(|table| {
            let hash = xxh3_64(format!("{}.{}", table.schema, table.name).as_bytes());
            let mut oid = OWN_MIN + (hash >> 34) as i64;
            while !taken.insert(oid) {
                oid += 1;
            }
            Numbered { oid, table }
        });
        Ok(numbered.collect())
    }
}

/// The number of a schema.
fn schema_oid(schema: &str) -> i64 {
    match SCHEMAS.iter().position(|known| *known == schema) {
        Some(index) if schema != PUBLIC => 13_000 + index as i64,
        // PostgreSQL's own.
        Some(_) => 2_200,
        None => TYPES,
    }
}

type Columns = Vec<(&'static str, ArrayRef)>;

fn int8(of: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(of.map(Some).collect::<Int64Array>())
}

fn int4(of: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(of.map(Some).collect::<Int32Array>())
}

fn int2(of: impl Iterator<Item = i16>) -> ArrayRef {
    Arc::new(of.map(Some).collect::<Int16Array>())
}

fn texts(of: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(of.collect::<StringArray>())
}

/// The same in each of so many rows.
struct Same(usize);

impl Same {
    fn int8(&self, value: i64) -> ArrayRef {
        int8(std::iter::repeat_n(value, self.0))
    }

    fn int4(&self, value: i32) -> ArrayRef {
        int4(std::iter::repeat_n(value, self.0))
    }

    fn bool(&self, value: bool) -> ArrayRef {
        Arc::new(BooleanArray::from(vec![value; self.0]))
    }

    fn text(&self, value: &str) -> ArrayRef {
        texts(std::iter::repeat_n(Some(value.to_owned()), self.0))
    }

    fn null(&self) -> ArrayRef {
        texts(std::iter::repeat_n(None, self.0))
    }
}

fn columns(of: Of, listed: &[Numbered]) -> Columns {
    match of {
        Of::Schemas => schemas(),
        Of::Tables => classes(listed),
        Of::Columns => attributes(listed),
        Of::Types => types(),
        Of::Database => database(),
        Of::Roles => roles(),
        Of::Named => named(listed),
        Of::Nothing(numbers, texts) => {
            let none = Same(0);
            let numbers = numbers.iter().map(|name| (*name, none.int8(0)));
            numbers.chain(texts.iter().map(|name| (*name, none.null()))).collect()
        }
    }
}

fn schemas() -> Columns {
    let names = || SCHEMAS.into_iter().chain([NAME]);
    let same = Same(SCHEMAS.len() + 1);
    vec![
        ("oid", int8(names().map(schema_oid))),
        ("nspname", texts(names().map(|name| Some(name.to_owned())))),
        ("nspowner", same.int8(OWNER)),
        ("nspacl", same.null()),
    ]
}

fn classes(listed: &[Numbered]) -> Columns {
    let same = Same(listed.len());
    let count = |table: &Numbered| table.table.columns.as_ref().map_or(0, |columns| columns.fields().len());
    vec![
        ("oid", int8(listed.iter().map(|table| table.oid))),
        ("relname", texts(listed.iter().map(|table| Some(table.table.name.clone())))),
        ("relnamespace", int8(listed.iter().map(|table| schema_oid(table.table.schema)))),
        ("reltype", same.int8(0)),
        ("reloftype", same.int8(0)),
        ("relowner", same.int8(OWNER)),
        ("relam", same.int8(0)),
        ("reltablespace", same.int8(0)),
        ("reltoastrelid", same.int8(0)),
        ("relpages", same.int4(0)),
        // Nobody has counted.
        ("reltuples", Arc::new(Float32Array::from(vec![-1.0; listed.len()]))),
        ("relhasindex", same.bool(false)),
        ("relisshared", same.bool(false)),
        ("relpersistence", same.text("p")),
        ("relkind", same.text("r")),
        ("relnatts", int2(listed.iter().map(|table| i16::try_from(count(table)).unwrap_or(i16::MAX)))),
        ("relchecks", same.int4(0)),
        ("relhasrules", same.bool(false)),
        ("relhastriggers", same.bool(false)),
        ("relhassubclass", same.bool(false)),
        ("relrowsecurity", same.bool(false)),
        ("relforcerowsecurity", same.bool(false)),
        ("relispopulated", same.bool(true)),
        ("relreplident", same.text("n")),
        ("relispartition", same.bool(false)),
        ("relacl", same.null()),
        ("reloptions", same.null()),
        ("relpartbound", same.null()),
    ]
}

fn attributes(listed: &[Numbered]) -> Columns {
    let of_table = |table: &Numbered| {
        let (oid, columns) = (table.oid, table.table.columns.clone());
        let fields = columns.map_or_else(Vec::new, |columns| columns.fields().to_vec());
        fields.into_iter().enumerate().map(move |(index, field)| (oid, index, field)).collect::<Vec<_>>()
    };
    let all: Vec<_> = listed.iter().flat_map(of_table).collect();
    let same = Same(all.len());
    let is_list = |of: &Type| matches!(of.kind(), Kind::Array(_));
    let types = || all.iter().map(|(_, _, field)| type_of(field.data_type()));
    vec![
        ("attrelid", int8(all.iter().map(|(oid, _, _)| *oid))),
        ("attname", texts(all.iter().map(|(_, _, field)| Some(field.name().clone())))),
        ("atttypid", int8(types().map(|of| of.oid().into()))),
        ("attstattarget", same.int4(-1)),
        ("attlen", int2(types().map(|of| type_bytes(&of)))),
        ("attnum", int2(all.iter().map(|(_, index, _)| i16::try_from(index + 1).unwrap_or(i16::MAX)))),
        ("attndims", int4(types().map(|of| i32::from(is_list(&of))))),
        ("atttypmod", int4(all.iter().map(|(_, _, field)| modifier(field.data_type())))),
        ("attnotnull", Arc::new(all.iter().map(|(_, _, field)| Some(!field.is_nullable())).collect::<BooleanArray>())),
        ("atthasdef", same.bool(false)),
        ("attidentity", same.text("")),
        ("attgenerated", same.text("")),
        ("attisdropped", same.bool(false)),
        ("attislocal", same.bool(true)),
        ("attcollation", same.int8(0)),
        ("attacl", same.null()),
        ("attoptions", same.null()),
    ]
}

fn types() -> Columns {
    let all = || NAMES.iter().map(|(of, _)| of);
    let same = Same(NAMES.len());
    let item = |of: &Type| match of.kind() {
        Kind::Array(item) => i64::from(item.oid()),
        _ => 0,
    };
    let list = |of: &Type| all().find(|list| item(list) == i64::from(of.oid())).map_or(0, |list| i64::from(list.oid()));
    vec![
        ("oid", int8(all().map(|of| of.oid().into()))),
        ("typname", texts(all().map(|of| Some(of.name().to_owned())))),
        ("typnamespace", same.int8(TYPES)),
        ("typowner", same.int8(OWNER)),
        ("typlen", int2(all().map(type_bytes))),
        ("typbyval", Arc::new(all().map(|of| Some((1..=8).contains(&type_bytes(of)))).collect::<BooleanArray>())),
        ("typtype", same.text("b")),
        ("typcategory", texts(all().map(|of| Some(category(of).to_owned())))),
        ("typispreferred", same.bool(false)),
        ("typisdefined", same.bool(true)),
        ("typdelim", same.text(",")),
        ("typrelid", same.int8(0)),
        ("typelem", int8(all().map(item))),
        ("typarray", int8(all().map(list))),
        ("typnotnull", same.bool(false)),
        ("typbasetype", same.int8(0)),
        ("typtypmod", same.int4(-1)),
        ("typndims", same.int4(0)),
        ("typcollation", same.int8(0)),
    ]
}

fn category(of: &Type) -> &'static str {
    match *of {
        Type::BOOL => "B",
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => "N",
        Type::DATE | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => "D",
        Type::INTERVAL => "T",
        Type::TEXT => "S",
        Type::BYTEA => "U",
        _ => "A",
    }
}

fn database() -> Columns {
    let one = Same(1);
    vec![
        ("oid", one.int8(OWN_MIN - 1)),
        ("datname", one.text(CATALOG)),
        ("datdba", one.int8(OWNER)),
        ("encoding", one.int4(6)),
        ("datcollate", one.text("C")),
        ("datctype", one.text("C")),
        ("datistemplate", one.bool(false)),
        ("datallowconn", one.bool(true)),
        ("datconnlimit", one.int4(-1)),
        ("datacl", one.null()),
    ]
}

fn roles() -> Columns {
    let one = Same(1);
    vec![
        ("oid", one.int8(OWNER)),
        ("rolname", one.text(CATALOG)),
        ("rolsuper", one.bool(false)),
        ("rolinherit", one.bool(true)),
        ("rolcreaterole", one.bool(false)),
        ("rolcreatedb", one.bool(false)),
        ("rolcanlogin", one.bool(true)),
        ("rolreplication", one.bool(false)),
        ("rolconnlimit", one.int4(-1)),
    ]
}

fn named(listed: &[Numbered]) -> Columns {
    let same = Same(listed.len());
    vec![
        ("schemaname", texts(listed.iter().map(|table| Some(table.table.schema.to_owned())))),
        ("tablename", texts(listed.iter().map(|table| Some(table.table.name.clone())))),
        ("tableowner", same.text(CATALOG)),
        ("tablespace", same.null()),
        ("hasindexes", same.bool(false)),
        ("hasrules", same.bool(false)),
        ("hastriggers", same.bool(false)),
        ("rowsecurity", same.bool(false)),
    ]
}
