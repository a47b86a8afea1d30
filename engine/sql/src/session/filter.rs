//! A filter on `users` as an expression of the audience language.
//!
//! Only what means exactly the same is translated; what it means (of NULLs above all) is settled by [`engine::audience::bind`], as for
//! everybody else. A condition on a single `enum`, or on any value of a set, is asked of the values ([`super::values`]). The rest is left
//! to DataFusion, which evaluates it over the rows.

use super::calls::Calls;
use super::columns::{DIGITS, USER_ID};
use super::lambda::ANY_MATCH;
use super::values;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{HigherOrderFunction, InList, ScalarFunction};
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator};
use engine::audience::expr::{CompareOp, Expr as Audience, ExprKind, Literal};
use engine::audience::predicate::Predicate;
use engine::behavior::calendar::Date;
use engine::catalog::{Catalog, TagType, Unit};

/// Deeper ones are left to DataFusion: what is bound recurses.
const DEPTH_MAX: usize = 100;
/// Up to here a float tells whole numbers apart.
const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;
/// Years that times of the audience language are written with.
const YEARS: std::ops::RangeInclusive<i64> = 0..=9_999;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The users for whom the filter is true, if that can be told exactly.
pub(super) fn translate(filter: &Expr, calls: &Calls) -> Option<Predicate> {
    let expr = Translator { catalog: calls.snapshot().catalog(), calls }.expr(filter, DEPTH_MAX)?;
    calls.bind(&expr)
}

/// The users for whom a filter is true that asks nothing else of a row than who its user is; all of whom are known.
pub(super) fn asked_users(filter: &Expr, calls: &Calls) -> Option<Predicate> {
    match filter {
        Expr::ScalarFunction(function) => {
            let (called, user) = calls.called(function)?;
            matches!(user, Expr::Column(user) if user.name == USER_ID).then(|| calls.bind(called))?
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let both = vec![asked_users(left, calls)?, asked_users(right, calls)?];
            Some(if *op == Operator::And { Predicate::And(both) } else { Predicate::Or(both) })
        }
        _ => None,
    }
}

struct Translator<'c> {
    catalog: &'c Catalog,
    calls: &'c Calls,
}

impl Translator<'_> {
    fn expr(&self, expr: &Expr, depth: usize) -> Option<Audience> {
        let depth = depth.checked_sub(1)?;
        self.own(expr, depth).or_else(|| values::holds(expr, self.calls))
    }

    /// What the audience language says in its own words.
    fn own(&self, expr: &Expr, depth: usize) -> Option<Audience> {
        Some(match expr {
            Expr::Literal(ScalarValue::Boolean(Some(value)), _) => ExprKind::Literal(*value).into(),
            Expr::Column(column) => self.flag(column)?,
            Expr::Not(of) => ExprKind::Not(Box::new(self.expr(of, depth)?)).into(),
            Expr::IsNull(of) => self.is_null(of, false)?,
            Expr::IsNotNull(of) => self.is_null(of, true)?,
            Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
                let mut of = Vec::new();
                self.chain(expr, *op, depth, &mut of)?;
                if *op == Operator::And { ExprKind::And(of) } else { ExprKind::Or(of) }.into()
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
                (of, Expr::Literal(value, _)) => self.compare(of, compare_op(*op)?, value)?,
                (Expr::Literal(value, _), of) => self.compare(of, compare_op(op.swap()?)?, value)?,
                _ => return None,
            },
            Expr::Between(between) => self.between(between)?,
            Expr::InList(list) => self.in_list(list)?,
            Expr::ScalarFunction(function) => self.function(function)?,
            Expr::HigherOrderFunction(function) => self.any_match(function)?,
            _ => return None,
        })
    }

    /// `a AND b AND c`, however the operands were joined. DataFusion joins them one by one, so a long chain is deep.
    fn chain(&self, expr: &Expr, wanted: Operator, depth: usize, into: &mut Vec<Audience>) -> Option<()> {
        let mut open = vec![expr];
        while let Some(next) = open.pop() {
            match next {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == wanted => open.extend([&**right, &**left]),
                other => into.push(self.expr(other, depth)?),
            }
        }
        Some(())
    }

    /// The column, also within a cast that keeps every number of it as it is, to the last digit.
    fn column<'e>(&self, expr: &'e Expr) -> Option<&'e Column> {
        match expr {
            Expr::Column(column) => Some(column),
            Expr::Cast(Cast { expr, field }) => match (&**expr, field.data_type()) {
                (Expr::Column(column), DataType::Decimal128(precision, scale)) => {
                    let own = match self.tag_type(column)? {
                        TagType::Number(Unit::Integer) => 0,
                        TagType::Number(Unit::Decimal { scale }) => scale.cast_signed(),
                        _ => return None,
                    };
                    let digits_before = precision.cast_signed() - scale;
                    (*scale >= own && digits_before >= DIGITS.cast_signed() - own).then_some(column)
                }
                (Expr::Column(column), DataType::Float64) => {
                    // Whole numbers that a float cannot tell apart are beyond those that it is compared with: see `number_text`.
                    (self.tag_type(column)? == TagType::Number(Unit::Integer)).then_some(column)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn tag_type(&self, column: &Column) -> Option<TagType> {
        self.catalog.tag(&column.name).map(|tag| tag.tag_type)
    }

    /// Whether the audience language orders the tag's values.
    fn has_order(&self, column: &Column) -> Option<bool> {
        Some(matches!(self.tag_type(column)?, TagType::Number(_)))
    }

    fn flag(&self, column: &Column) -> Option<Audience> {
        (self.tag_type(column)? == TagType::Flag).then(|| ExprKind::Flag(column.name.clone()).into())
    }

    fn is_null(&self, of: &Expr, negated: bool) -> Option<Audience> {
        let column = self.column(of)?;
        if column.name == USER_ID {
            return Some(ExprKind::Literal(negated).into());
        }
        self.tag_type(column)?;
        Some(ExprKind::IsNull { tag: column.name.clone(), negated }.into())
    }

    fn compare(&self, of: &Expr, op: CompareOp, value: &ScalarValue) -> Option<Audience> {
        let column = self.column(of)?;
        if column.name == USER_ID {
            let negated = match op {
                CompareOp::Equal | CompareOp::IsNotDistinctFrom => false,
                CompareOp::NotEqual | CompareOp::IsDistinctFrom => true,
                _ => return None,
            };
            return Some(ExprKind::UserIn { ids: vec![text(value)?], negated }.into());
        }
        let is_order =
            matches!(op, CompareOp::Less | CompareOp::LessOrEqual | CompareOp::Greater | CompareOp::GreaterOrEqual);
        if is_order && !self.has_order(column)? {
            return None;
        }
        let value = self.literal(of, column, value)?;
        Some(ExprKind::Compare { tag: column.name.clone(), op, value }.into())
    }

    fn between(&self, Between { expr, negated, low, high }: &Between) -> Option<Audience> {
        let (Expr::Literal(low, _), Expr::Literal(high, _)) = (&**low, &**high) else { return None };
        let column = self.column(expr)?;
        if !self.has_order(column)? {
            return None;
        }
        let (low, high) = (self.literal(expr, column, low)?, self.literal(expr, column, high)?);
        Some(ExprKind::Between { tag: column.name.clone(), low, high, negated: *negated }.into())
    }

    fn in_list(&self, InList { expr, list, negated }: &InList) -> Option<Audience> {
        let column = self.column(expr)?;
        let literals = list.iter().map(|item| match item {
            Expr::Literal(value, _) => Some(value),
            _ => None,
        });
        if column.name == USER_ID {
            let ids = literals.map(|value| text(value?)).collect::<Option<_>>()?;
            return Some(ExprKind::UserIn { ids, negated: *negated }.into());
        }
        let values = literals.map(|value| self.literal(expr, column, value?)).collect::<Option<_>>()?;
        Some(ExprKind::In { tag: column.name.clone(), values, negated: *negated }.into())
    }

    /// `array_has(interest, 'yoga')` and its relatives, and calls of the audience language.
    fn function(&self, function: &ScalarFunction) -> Option<Audience> {
        if let Some((called, user)) = self.calls.called(function) {
            return matches!(user, Expr::Column(user) if user.name == USER_ID).then(|| called.clone());
        }
        let ScalarFunction { func, args } = function;
        let [Expr::Column(column), Expr::Literal(value, _)] = args.as_slice() else { return None };
        if self.tag_type(column)? != TagType::Set {
            return None;
        }
        let has = |value| ExprKind::Compare { tag: column.name.clone(), op: CompareOp::Equal, value };
        Some(match func.name() {
            "array_has" => has(Literal::Text(text(value)?)).into(),
            "array_has_any" => ExprKind::In { tag: column.name.clone(), values: texts(value)?, negated: false }.into(),
            "array_has_all" => ExprKind::And(texts(value)?.into_iter().map(|value| has(value).into()).collect()).into(),
            _ => return None,
        })
    }

    /// `array_any_match(interest, v -> v LIKE 'run%')`.
    fn any_match(&self, HigherOrderFunction { func, args }: &HigherOrderFunction) -> Option<Audience> {
        let [Expr::Column(column), Expr::Lambda(lambda)] = args.as_slice() else { return None };
        if func.name() != ANY_MATCH || self.tag_type(column)? != TagType::Set {
            return None;
        }
        values::any(&column.name, lambda, self.calls)
    }

    /// A literal as the audience language writes it, if it can be compared with the column's numbers or texts.
    fn literal(&self, of: &Expr, column: &Column, value: &ScalarValue) -> Option<Literal> {
        match self.tag_type(column)? {
            TagType::Enum if matches!(of, Expr::Column(_)) => text(value).map(Literal::Text),
            TagType::Flag if matches!(of, Expr::Column(_)) => match value {
                ScalarValue::Boolean(Some(value)) => Some(Literal::Bool(*value)),
                _ => None,
            },
            TagType::Number(Unit::Timestamp) => match value {
                ScalarValue::TimestampMicrosecond(Some(micros), Some(_)) if matches!(of, Expr::Column(_)) => {
                    time_text(*micros).map(Literal::Text)
                }
                _ => None,
            },
            TagType::Number(_) => number_text(value).map(Literal::Number),
            _ => None,
        }
    }
}

fn compare_op(op: Operator) -> Option<CompareOp> {
    Some(match op {
        Operator::Eq => CompareOp::Equal,
        Operator::NotEq => CompareOp::NotEqual,
        Operator::Lt => CompareOp::Less,
        Operator::LtEq => CompareOp::LessOrEqual,
        Operator::Gt => CompareOp::Greater,
        Operator::GtEq => CompareOp::GreaterOrEqual,
        Operator::IsDistinctFrom => CompareOp::IsDistinctFrom,
        Operator::IsNotDistinctFrom => CompareOp::IsNotDistinctFrom,
        _ => return None,
    })
}

fn text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => text.clone(),
        _ => None,
    }
}

/// The texts of a list, none of which is NULL.
fn texts(value: &ScalarValue) -> Option<Vec<Literal>> {
    let ScalarValue::List(list) = value else { return None };
    if list.len() != 1 || list.is_null(0) {
        return None;
    }
    let values = list.value(0);
    let values: Vec<Option<&str>> = match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().iter().collect(),
        DataType::Utf8View => values.as_string_view().iter().collect(),
        _ => return None,
    };
    values.into_iter().map(|value| value.map(|text| Literal::Text(text.to_owned()))).collect()
}

/// A number in digits. Of a float the shortest ones that mean it: they are whole only if it is, and between the same whole numbers.
fn number_text(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Float64(Some(number)) if number.abs() < FLOAT_MAX => Some(number.to_string()),
        ScalarValue::Int64(Some(number)) => Some(number.to_string()),
        ScalarValue::Decimal128(Some(number), precision, scale @ 0..) => {
            Some(Decimal128Type::format_decimal(*number, *precision, *scale))
        }
        _ => None,
    }
}

/// A time as the audience language writes it; it has years of four digits.
fn time_text(micros: i64) -> Option<String> {
    let date = Date::of(micros.div_euclid(MICROS_PER_DAY));
    let of_day = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    YEARS.contains(&date.year).then(|| format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"))
}

/// The type of a time tag's column.
pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}
