//! What tools ask on connecting. The columns are written out here once more: clients compare them.

use super::{Client, assert_told, rows, shop};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, UInt32Type};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, ProstMessageExt, SqlInfo,
};
use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage, Ticket};
use prost::Message;
use std::collections::BTreeSet;
use tonic::Code;

/// A call of the client, and its rows.
macro_rules! get {
    ($client:expr, $call:ident ( $($argument:expr),* )) => {{
        let mut sql = $client.sql.clone();
        let info: Result<FlightInfo, FlightError> = $client.wait(sql.$call($($argument),*));
        let info = info.unwrap_or_else(|error| panic!("{}: {error}", stringify!($call)));
        let schema = info.clone().try_decode_schema().expect("a schema");
        (schema, $client.fetch_all(info).expect("rows"))
    }};
}

fn columns(schema: &Schema) -> Vec<String> {
    let column = |field: &arrow::datatypes::Field| {
        let may_be_null = if field.is_nullable() { "" } else { " not null" };
        format!("{} {}{may_be_null}", field.name(), field.data_type())
    };
    schema.fields().iter().map(|field| column(field)).collect()
}

fn tables(schema: Option<&str>, table: Option<&str>, types: &[&str], include_schema: bool) -> CommandGetTables {
    CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: schema.map(str::to_owned),
        table_name_filter_pattern: table.map(str::to_owned),
        table_types: types.iter().map(|name| (*name).to_owned()).collect(),
        include_schema,
    }
}

#[test]
fn catalogs_schemas_and_tables_are_listed() {
    let server = shop();
    let mut client = Client::of(&server);
    let (schema, batches) = get!(client, get_catalogs());
    assert_eq!(columns(&schema), ["catalog_name Utf8 not null"]);
    assert_eq!(rows(&batches), ["beluga"]);
    let schemas = |catalog: Option<&str>, pattern: Option<&str>| CommandGetDbSchemas {
        catalog: catalog.map(str::to_owned),
        db_schema_filter_pattern: pattern.map(str::to_owned),
    };
    let (schema, batches) = get!(client, get_db_schemas(schemas(None, None)));
    assert_eq!(columns(&schema), ["catalog_name Utf8", "db_schema_name Utf8 not null"]);
    assert_eq!(rows(&batches), ["beluga | information_schema", "beluga | public", "beluga | system"]);
    assert_eq!(rows(&get!(client, get_db_schemas(schemas(Some("beluga"), Some("p%")))).1), ["beluga | public"]);
    assert!(rows(&get!(client, get_db_schemas(schemas(Some("other"), None))).1).is_empty());
    let (schema, batches) = get!(client, get_table_types());
    assert_eq!(columns(&schema), ["table_type Utf8 not null"]);
    assert_eq!(rows(&batches), ["SYSTEM TABLE", "TABLE"]);
    // Also without a catalog, as ADBC asks.
    let (schema, batches) = get!(client, get_tables(tables(Some("public"), None, &[], false)));
    let expected = ["catalog_name Utf8", "db_schema_name Utf8", "table_name Utf8 not null", "table_type Utf8 not null"];
    assert_eq!(columns(&schema), expected);
    let public =
        ["audience_change", "audiences", "dead_letter", "members", "purchase", "tag_values", "tags", "users", "visit"];
    assert_eq!(rows(&batches), public.map(|name| format!("beluga | public | {name} | TABLE")));
    let names = |client: &mut Client, wanted: CommandGetTables| {
        let (_, batches) = get!(client, get_tables(wanted));
        rows(&batches).iter().map(|row| row.split(" | ").nth(2).expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut client, tables(None, Some("us_rs"), &[], false)), ["users"]);
    let system = names(&mut client, tables(Some("system"), Some("%"), &["SYSTEM TABLE"], false));
    assert_eq!(system, ["jobs", "queries", "segments", "shards", "sources"]);
    assert!(names(&mut client, tables(None, None, &["VIEW"], false)).is_empty());
}

#[test]
fn what_is_asked_for_by_name_is_asked_for_once() {
    let server = shop();
    let mut client = Client::of(&server);
    let info = |items: Vec<u32>| arrow_flight::sql::CommandGetSqlInfo { info: items }.as_any().encode_to_vec();
    let ask = |client: &mut Client, command: Vec<u8>| {
        let planned = client.wait(client.raw().get_flight_info(FlightDescriptor::new_cmd(command)))?.into_inner();
        client.fetch_all(planned).map(|batches| rows(&batches).len())
    };
    let name = SqlInfo::FlightSqlServerName as u32;
    assert_eq!(ask(&mut client, info(vec![name; 900])).expect("told"), 1);
    let many = ask(&mut client, info(vec![name; 1_001])).expect_err("too many");
    assert_told(&many, Code::InvalidArgument, "at most 1000 items of information");
    // A ticket need not have come from a plan.
    let many = client.fetch(Ticket::new(info(vec![0; 400_000]))).expect_err("too many");
    assert_told(&many, Code::InvalidArgument, "and 400000 were");
    assert_eq!(
        ask(&mut client, tables(None, Some("users"), &["TABLE"; 99], false).as_any().encode_to_vec()).ok(),
        Some(1)
    );
    let many = ask(&mut client, tables(None, None, &["TABLE"; 101], false).as_any().encode_to_vec());
    assert_told(&many.expect_err("too many"), Code::InvalidArgument, "at most 100 types of tables");
}

#[test]
fn columns_are_told_as_statements_have_them() {
    let server = shop();
    let mut client = Client::of(&server);
    let (schema, batches) = get!(client, get_tables(tables(None, None, &[], true)));
    assert_eq!(columns(&schema)[4], "table_schema Binary not null");
    let mut seen = 0;
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let text = |column: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
            let bytes = bytes::Bytes::copy_from_slice(batch.column(4).as_binary::<i32>().value(row));
            let told = Schema::try_from(IpcMessage(bytes)).expect("a schema");
            let info = client.info(&format!("SELECT * FROM {}.{}", text(1), text(2))).expect("planned");
            assert_eq!(
                columns(&told),
                columns(&info.try_decode_schema().expect("a schema")),
                "{}.{}",
                text(1),
                text(2)
            );
            seen += 1;
        }
    }
    assert!(seen > 12, "{seen} tables");
}

#[test]
fn keys_are_told() {
    let server = shop();
    let mut client = Client::of(&server);
    let of = |table: &str| CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.to_owned() };
    let (schema, batches) = get!(client, get_primary_keys(of("users")));
    assert_eq!(
        columns(&schema),
        [
            "catalog_name Utf8",
            "db_schema_name Utf8",
            "table_name Utf8 not null",
            "column_name Utf8 not null",
            "key_name Utf8",
            "key_sequence Int32 not null",
        ]
    );
    assert_eq!(rows(&batches), ["beluga | public | users | user_id | users_key | 1"]);
    assert_eq!(
        rows(&get!(client, get_primary_keys(of("visit"))).1),
        ["beluga | public | visit | event_id | visit_key | 1"]
    );
    assert!(rows(&get!(client, get_primary_keys(of("purchase"))).1).is_empty());
    let none = |(schema, batches): (Schema, Vec<RecordBatch>)| {
        assert!(rows(&batches).is_empty());
        let columns = columns(&schema);
        assert_eq!(columns.len(), 13);
        assert_eq!(columns[2], "pk_table_name Utf8 not null");
        assert_eq!(columns[8], "key_sequence Int32 not null");
        assert_eq!(columns[11..], ["update_rule UInt8 not null", "delete_rule UInt8 not null"]);
    };
    let exported = CommandGetExportedKeys { catalog: None, db_schema: None, table: "users".into() };
    none(get!(client, get_exported_keys(exported)));
    let imported = CommandGetImportedKeys { catalog: None, db_schema: None, table: "users".into() };
    none(get!(client, get_imported_keys(imported)));
    let cross = CommandGetCrossReference {
        pk_catalog: None,
        pk_db_schema: None,
        pk_table: "users".into(),
        fk_catalog: None,
        fk_db_schema: None,
        fk_table: "purchase".into(),
    };
    none(get!(client, get_cross_reference(cross)));
}

#[test]
fn what_the_server_can_do_is_told() {
    let server = shop();
    let mut client = Client::of(&server);
    let (schema, batches) = get!(client, get_sql_info(Vec::new()));
    assert_eq!(schema.field(0).name(), "info_name");
    assert_eq!(schema.field(0).data_type(), &DataType::UInt32);
    let told: BTreeSet<u32> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt32Type>().values().to_vec()).collect();
    // Everything of these ranges but the versions of what is not taken.
    let expected: BTreeSet<u32> = (0..=5).chain(8..=11).chain(100..=101).chain(500..=525).chain(527..=575).collect();
    assert_eq!(told, expected);
    let some = vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerTransaction];
    let (_, batches) = get!(client, get_sql_info(some));
    assert_eq!(rows(&batches), ["0 | {string_value=Beluga}", "8 | {int32_bitmask=0}"]);
    let (_, batches) = get!(client, get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }));
    assert!(batches[0].num_rows() >= 12);
    let (_, batches) = get!(client, get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(-5) }));
    assert!(rows(&batches)[0].starts_with("BIGINT | -5 | 19"), "{:?}", rows(&batches));
    let actions = client.wait(async {
        use futures::TryStreamExt;
        let actions = client.raw().list_actions(arrow_flight::Empty {}).await?.into_inner();
        actions.map_ok(|action| action.r#type).try_collect::<Vec<_>>().await
    });
    assert!(actions.expect("actions").contains(&"SetSessionOptions".to_owned()));
    assert_told(
        &client.act("DoMagic", Vec::new()).expect_err("unknown"),
        Code::Unimplemented,
        "there is no action `DoMagic`",
    );
}
