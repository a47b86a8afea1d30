//! Conditions on one tag's values that the audience language has no words for: `city LIKE 'han%'`, `upper(gender) = 'F'`,
//! `array_any_match(interest, v -> v LIKE 'run%')`.
//!
//! Whatever such a condition says, it says of a value. So DataFusion evaluates it over the values that there are, however many users
//! have them, and of an `enum` of NULL; then it is `city IN (…)` of those it is true of.

use super::calls::Calls;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::Lambda;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;
use engine::audience::expr::{Expr as Audience, ExprKind, Literal};
use engine::audience::ops;
use engine::catalog::TagType;
use std::sync::Arc;

/// So many values are looked at; of a tag with more, the condition is left to the rows.
const VALUES_MAX: usize = 100_000;
/// So many are evaluated at once: what a condition makes of them takes memory.
const VALUES_AT_ONCE: usize = 1_024;

/// The condition as a list of values, if it is one on an `enum` alone. It is NULL of no value but NULL itself.
pub(super) fn holds(condition: &Expr, calls: &Calls) -> Option<Audience> {
    let name = only_column(condition)?;
    let Held { is_one, of_null } = held(condition, &name, TagType::Enum, calls)?;
    Some(match of_null {
        None => is_one,
        Some(true) => ExprKind::Or(vec![ExprKind::IsNull { tag: name, negated: false }.into(), is_one]).into(),
        Some(false) => ExprKind::And(vec![ExprKind::IsNull { tag: name, negated: true }.into(), is_one]).into(),
    })
}

/// Whether a lambda is true of any value of a set, as a list of values. It is NULL of none.
pub(super) fn any(tag: &str, lambda: &Lambda, calls: &Calls) -> Option<Audience> {
    let of_value = |part: Expr| {
        Ok(match part {
            Expr::LambdaVariable(_) => Transformed::yes(Expr::Column(Column::new_unqualified(tag))),
            other => Transformed::no(other),
        })
    };
    let condition = lambda.body.as_ref().clone().transform(of_value).data().ok()?;
    // A lambda has no other column than its value, and no other lambda in it.
    (lambda.params.len() == 1 && is_plain(&condition)).then_some(())?;
    held(&condition, tag, TagType::Set, calls).map(|held| held.is_one)
}

/// What a condition says of a tag.
struct Held {
    /// One of the values it is true of.
    is_one: Audience,
    /// What it says of NULL.
    of_null: Option<bool>,
}

/// What a condition on nothing but this tag says of its values, if it is NULL of none.
fn held(condition: &Expr, name: &str, tag_type: TagType, calls: &Calls) -> Option<Held> {
    let snapshot = calls.snapshot();
    let tag = snapshot.catalog().tag(name).filter(|tag| tag.tag_type == tag_type)?;
    let values = ops::values(snapshot, tag.id, VALUES_MAX, calls.context()).ok()??;
    let of_null = values.len();
    // What fails of a value nobody may have is left to the rows.
    let answers = evaluate(condition, name, &values).ok()?;
    if answers.len() != of_null + 1 || (0..of_null).any(|at| answers.is_null(at)) {
        return None;
    }
    let literals = values.into_iter().enumerate().filter(|(at, _)| answers.value(*at));
    let literals: Vec<Literal> = literals.map(|(_, value)| Literal::Text(value)).collect();
    let is_one = ExprKind::In { tag: name.to_owned(), values: literals, negated: false }.into();
    Some(Held { is_one, of_null: answers.is_valid(of_null).then(|| answers.value(of_null)) })
}

/// Which of the values of a column a condition is true of, if it is one on that column alone.
pub(super) fn fitting(condition: &Expr, column: &str, values: &[String]) -> Option<Vec<bool>> {
    if only_column(condition)? != column {
        return None;
    }
    let answers = evaluate(condition, column, values).ok()?;
    Some((0..values.len()).map(|at| answers.is_valid(at) && answers.value(at)).collect())
}

/// The only column that the condition looks at, if it answers the same of equal values.
fn only_column(condition: &Expr) -> Option<String> {
    let columns = condition.column_refs();
    let mut columns = columns.into_iter();
    match (columns.next(), columns.next()) {
        (Some(column), None) if is_plain(condition) => Some(column.name.clone()),
        _ => None,
    }
}

/// Whether a condition looks at nothing but its columns, row by row.
fn is_plain(condition: &Expr) -> bool {
    let is_other = condition.exists(|part| {
        Ok(matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Unnest(_)
                | Expr::ScalarVariable(..)
                | Expr::GroupingSet(_)
                | Expr::Lambda(_)
        ))
    });
    !condition.is_volatile() && matches!(is_other, Ok(false))
}

/// Evaluates the condition of each value, and then of NULL.
fn evaluate(condition: &Expr, name: &str, values: &[String]) -> Result<BooleanArray> {
    let unqualified = |part: Expr| {
        Ok(match part {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    };
    let condition = condition.clone().transform(unqualified).data()?;
    let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]));
    let of = DFSchema::try_from(Arc::clone(&schema))?;
    let physical = create_physical_expr(&condition, &of, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let all: Vec<Option<&str>> = values.iter().map(|value| Some(value.as_str())).chain([None]).collect();
    let mut answers = BooleanBuilder::with_capacity(all.len());
    for some in all.chunks(VALUES_AT_ONCE) {
        let texts: ArrayRef = Arc::new(some.iter().copied().collect::<StringArray>());
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![texts])?;
        match physical.evaluate(&batch)?.into_array(batch.num_rows())?.as_boolean_opt() {
            Some(array) => answers.append_array(array),
            None => return internal_err!("a filter is no condition"),
        }
    }
    Ok(answers.finish())
}
