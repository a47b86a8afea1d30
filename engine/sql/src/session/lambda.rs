//! Conditions on any value of a list: `array_any_match(interest, v -> v LIKE 'run%')`.
//!
//! The dialect of statements is the parser's generic one, which reads no lambdas, with them. A lambda sees the values of its list and
//! nothing else of the row: other columns would be held once for each value. Of functions over lambdas those are taken whose answers
//! are no larger than their lists.

use super::{SqlError, SqlErrorKind};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use std::any::TypeId;

/// Whether a condition is true of any value of a list.
pub(super) const ANY_MATCH: &str = "array_any_match";
/// Functions over lambdas that are taken.
pub(super) const TAKEN: [&str; 3] = [ANY_MATCH, "array_filter", "array_first"];

/// The generic dialect with lambdas.
#[derive(Debug)]
pub(super) struct WithLambdas;

/// Answers what the generic dialect answers.
macro_rules! as_generic {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            GenericDialect.$name()
        })*
    };
}

impl Dialect for WithLambdas {
    fn dialect(&self) -> TypeId {
        GenericDialect.dialect()
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        GenericDialect.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        GenericDialect.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        GenericDialect.is_identifier_part(character)
    }

    as_generic! {
        supports_unicode_string_literal supports_partition_by_after_order_by supports_array_join_syntax
        supports_group_by_expr supports_group_by_with_modifier supports_left_associative_joins_without_parens
        supports_connect_by supports_match_recognize supports_pipe_operator supports_start_transaction_modifier
        supports_window_function_null_treatment_arg supports_dictionary_syntax
        supports_window_clause_named_window_reference supports_parenthesized_set_variables
        supports_select_wildcard_except support_map_literal_syntax allow_extract_custom
        allow_extract_single_quotes supports_extract_comma_syntax supports_create_view_comment_syntax
        supports_parens_around_table_factor supports_values_as_table_factor supports_create_index_with_clause
        supports_explain_with_utility_options supports_limit_comma supports_update_order_by
        supports_from_first_select supports_projection_trailing_commas supports_asc_desc_in_column_definition
        supports_try_convert supports_bitwise_shift_operators supports_comment_on supports_load_extension
        supports_named_fn_args_with_assignment_operator supports_struct_literal supports_empty_projections
        supports_nested_comments supports_multiline_comment_hints supports_user_host_grantee
        supports_string_escape_constant supports_array_typedef_with_brackets supports_match_against
        supports_set_names supports_comma_separated_set_assignments supports_filter_during_aggregation
        supports_select_wildcard_exclude supports_data_type_signed_suffix supports_interval_options
        supports_quote_delimited_string supports_select_wildcard_replace supports_select_wildcard_ilike
        supports_select_wildcard_rename supports_optimize_table supports_install supports_detach
        supports_prewhere supports_with_fill supports_limit_by supports_interpolate supports_settings
        supports_select_format supports_comment_optimizer_hint supports_constraint_keyword_without_name
        supports_key_column_option supports_comma_separated_trim supports_cte_without_as
        supports_select_item_multi_column_alias supports_xml_expressions
    }
}

/// Refuses a plan with lambdas that look at more than the values of their lists.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    let looks_beyond = |body: &Expr| {
        body.exists(|part| {
            Ok(matches!(
                part,
                Expr::Column(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::HigherOrderFunction(_)
                    | Expr::Lambda(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
            ))
        })
    };
    let check = |part: &Expr| match part {
        Expr::Lambda(lambda) if looks_beyond(&lambda.body)? => {
            let what = format!("the lambda `{part}` looks at more than its own value");
            let error = SqlError::new(SqlErrorKind::Invalid, what).suggest(
                "compare its value with literals and parameters only, or take the list apart: SELECT unnest(interest) AS v, city FROM users",
            );
            Err(DataFusionError::External(Box::new(error)))
        }
        _ => Ok(TreeNodeRecursion::Continue),
    };
    plan.apply_with_subqueries(|node| node.apply_expressions(|expr| expr.apply(check))).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::parser::Parser;

    #[test]
    fn statements_without_lambdas_are_read_as_before() {
        for text in [
            "SELECT a AS b, count(*) FILTER (WHERE c LIKE 'x%') FROM t GROUP BY ALL ORDER BY 1 LIMIT 3, 4",
            "SELECT [1, 2], {'a': 1}, a::INT, EXTRACT(day FROM ts), INTERVAL '1 day', a IS DISTINCT FROM b FROM t",
            "WITH x AS (VALUES (1), (2)) SELECT * EXCEPT (a) FROM x TABLESAMPLE (10)",
            "SELECT sum(x) OVER w FROM t WINDOW w AS (PARTITION BY a ORDER BY b) QUALIFY a > 1",
            "FROM t SELECT a",
            "SELECT \"a\", `b`, E'\\n', U&'\\0041', N'x', @a FROM (SELECT 1) x LEFT ANTI JOIN y USING (a)",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a), list(a => 1) FROM (VALUES (1)) AS t(a)",
            "SELECT",
            "SELECT a FROM",
            "SELECT (a, b) IN (SELECT 1, 2) FROM t CROSS JOIN UNNEST([1]) AS u(x)",
        ] {
            let (own, generic) = (Parser::parse_sql(&WithLambdas, text), Parser::parse_sql(&GenericDialect, text));
            assert_eq!(format!("{own:?}"), format!("{generic:?}"), "{text}");
        }
        assert!(Parser::parse_sql(&WithLambdas, "SELECT f(a, v -> v LIKE 'x%'), f(a, (v, i) -> v = i)").is_ok());
    }
}
