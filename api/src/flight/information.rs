//! What the server can do, by the numbers that Flight SQL has for it.

use crate::config::Config;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use engine_sql::session::{STATEMENT_BYTES_MAX, STATEMENT_TABLES_MAX, STATEMENT_TEXT_BYTES_MAX};
use std::collections::BTreeMap;

/// The version of Arrow that the messages are of.
const ARROW_VERSION: &str = "1.5.0";

/// Words that cannot be names without quotes, apart from those of SQL:2003.
const KEYWORDS: &[&str] = &["EXPLAIN", "ANALYZE", "DESCRIBE", "SHOW", "LIMIT", "ILIKE", "QUALIFY"];
const NUMERIC: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "cbrt",
    "ceil",
    "cos",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sqrt",
    "tan",
    "trunc",
];
const TEXT: &[&str] = &[
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "ends_with",
    "initcap",
    "left",
    "length",
    "lower",
    "ltrim",
    "octet_length",
    "position",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "trim",
    "upper",
];
const TIME: &[&str] = &[
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "extract",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_date",
    "to_timestamp",
];
const SYSTEM: &[&str] = &["arrow_typeof", "coalesce", "nullif", "nvl", "version"];

/// All of it.
///
/// # Errors
/// Arrow's.
pub(super) fn all(config: &Config) -> Result<SqlInfoData> {
    let mut all = SqlInfoDataBuilder::new();
    server(&mut all, config);
    language(&mut all);
    limits(&mut all);
    absent(&mut all);
    all.build()
}

/// A bit for each value.
fn bits(of: &[i32]) -> i32 {
    of.iter().fold(0, |bits, value| bits | (1 << value))
}

fn server(all: &mut SqlInfoDataBuilder, config: &Config) {
    let time = i32::try_from(config.query_timeout_max.as_millis()).unwrap_or(i32::MAX);
    all.append(SqlInfo::FlightSqlServerName, "Beluga");
    all.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    all.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_VERSION);
    // Rows can be sent in, though not by SQL.
    all.append(SqlInfo::FlightSqlServerReadOnly, false);
    all.append(SqlInfo::FlightSqlServerSql, true);
    all.append(SqlInfo::FlightSqlServerSubstrait, false);
    all.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    all.append(SqlInfo::FlightSqlServerCancel, true);
    all.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    all.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    all.append(SqlInfo::FlightSqlServerStatementTimeout, time);
    all.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
    all.append(SqlInfo::SqlCatalogTerm, "catalog");
    all.append(SqlInfo::SqlSchemaTerm, "schema");
    all.append(SqlInfo::SqlProcedureTerm, "");
    all.append(SqlInfo::SqlCatalogAtStart, true);
}

fn language(all: &mut SqlInfoDataBuilder) {
    let lower = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64;
    // In quotes a name is taken as it is.
    let as_is = SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64;
    all.append(SqlInfo::SqlIdentifierCase, lower);
    all.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    all.append(SqlInfo::SqlQuotedIdentifierCase, as_is);
    all.append(SqlInfo::SqlAllTablesAreSelectable, true);
    // Last when rising, first when falling.
    all.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i64);
    all.append(SqlInfo::SqlKeywords, KEYWORDS);
    all.append(SqlInfo::SqlNumericFunctions, NUMERIC);
    all.append(SqlInfo::SqlStringFunctions, TEXT);
    all.append(SqlInfo::SqlSystemFunctions, SYSTEM);
    all.append(SqlInfo::SqlDatetimeFunctions, TIME);
    all.append(SqlInfo::SqlSearchStringEscape, "\\");
    all.append(SqlInfo::SqlExtraNameCharacters, "");
    all.append(SqlInfo::SqlSupportsColumnAliasing, true);
    all.append(SqlInfo::SqlNullPlusNullIsNull, true);
    all.append(SqlInfo::SqlSupportsConvert, BTreeMap::new());
    all.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    all.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    all.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    all.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    let groups = [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    all.append(SqlInfo::SqlSupportedGroupBy, bits(&groups));
    all.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    all.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    let grammars = [SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32];
    all.append(SqlInfo::SqlSupportedGrammar, bits(&grammars));
    all.append(SqlInfo::SqlOuterJoinsSupportLevel, bits(&[SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]));
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    all.append(SqlInfo::SqlSupportedSubqueries, bits(&subqueries));
    all.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    all.append(SqlInfo::SqlSupportedUnions, bits(&unions));
    all.append(SqlInfo::SqlNamedParametersSupported, false);
    all.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
    let read_only = bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    all.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only);
}

/// A limit of 0 is none, or not known.
fn limits(all: &mut SqlInfoDataBuilder) {
    all.append(SqlInfo::SqlMaxBinaryLiteralLength, STATEMENT_TEXT_BYTES_MAX as i64);
    all.append(SqlInfo::SqlMaxCharLiteralLength, STATEMENT_TEXT_BYTES_MAX as i64);
    all.append(SqlInfo::SqlMaxStatementLength, STATEMENT_BYTES_MAX as i64);
    all.append(SqlInfo::SqlMaxTablesInSelect, STATEMENT_TABLES_MAX as i64);
    for unknown in [
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        all.append(unknown, 0_i64);
    }
    all.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, false);
}

/// What there is not: tools ask for it all the same.
fn absent(all: &mut SqlInfoDataBuilder) {
    for no in [
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
    ] {
        all.append(no, false);
    }
    for none in [
        SqlInfo::SqlSchemasSupportedActions,
        SqlInfo::SqlCatalogsSupportedActions,
        SqlInfo::SqlSupportedPositionedCommands,
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        all.append(none, 0_i32);
    }
    all.append(SqlInfo::SqlDefaultTransactionIsolation, SqlTransactionIsolationLevel::SqlTransactionNone as i64);
    let isolation = bits(&[SqlTransactionIsolationLevel::SqlTransactionNone as i32]);
    all.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, isolation);
}
