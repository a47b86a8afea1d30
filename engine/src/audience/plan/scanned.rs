//! Scans in the words of the audience language.

use super::activity::{describe_range, describe_window};
use super::decimal_text;
use crate::audience::expr::Literal;
use crate::audience::scan::{EventCondition, EventField, Scan, ScanFigure, TextOrder, float_of};
use crate::behavior::Window;
use crate::behavior::calendar::Date;
use crate::bitmap::bsi::NumberRange;
use crate::catalog::{Catalog, ColumnType, Fact};

/// The condition, as `did('purchase', amount >= 100, count >= 2, ts >= '2026-11-01')`.
pub(super) fn describe(scan: &Scan, catalog: &Catalog) -> String {
    let name = catalog.name_of(scan.fact).unwrap_or("dropped");
    let Some(fact) = catalog.fact_of(scan.fact) else { return format!("did('{name}')") };
    let mut parts = vec![format!("'{name}'")];
    for condition in scan.condition.conjuncts().iter().filter(|condition| **condition != EventCondition::Any) {
        parts.push(words(condition, fact));
    }
    parts.push(match scan.figure {
        ScanFigure::Count => describe_range("count", scan.range, |number| number.to_string()),
        ScanFigure::Sum(at) => {
            let column = &fact.columns[usize::from(at)];
            number_words(&format!("sum({})", column.name), column.column_type, scan.range)
        }
    });
    parts.extend(describe_window(scan.window));
    format!("did({})", parts.join(", "))
}

fn words(condition: &EventCondition, fact: &Fact) -> String {
    let quoted = |text: &String| Literal::Text(text.clone()).to_string();
    let joined = |of: &[EventCondition], word: &str| {
        format!("({})", of.iter().map(|one| words(one, fact)).collect::<Vec<_>>().join(word))
    };
    match condition {
        EventCondition::Any => "TRUE".to_owned(),
        EventCondition::Never => "FALSE".to_owned(),
        EventCondition::Hours(window) => hours_words(*window),
        EventCondition::Known(field) => format!("{} IS NOT NULL", field.name(fact)),
        EventCondition::IsTrue(field) => field.name(fact),
        EventCondition::InRange(field, range) => number_words(&field.name(fact), number_type(field, fact), *range),
        EventCondition::NumberIn(field, numbers) => {
            let column_type = number_type(field, fact);
            let listed: Vec<String> = numbers.iter().map(|number| number_word(column_type, *number)).collect();
            format!("{} IN ({})", field.name(fact), listed.join(", "))
        }
        EventCondition::TextIn(field, texts) => match texts.as_slice() {
            [text] => format!("{} = {}", field.name(fact), quoted(text)),
            texts => format!("{} IN ({})", field.name(fact), texts.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        },
        EventCondition::TextOrder(field, order, text) => {
            let sign = match order {
                TextOrder::Less => "<",
                TextOrder::LessOrEqual => "<=",
                TextOrder::Greater => ">",
                TextOrder::GreaterOrEqual => ">=",
            };
            format!("{} {sign} {}", field.name(fact), quoted(text))
        }
        EventCondition::And(of) => joined(of, " AND "),
        EventCondition::Or(of) => joined(of, " OR "),
        EventCondition::Not(of) => match &**of {
            EventCondition::Known(field) => format!("{} IS NULL", field.name(fact)),
            of => format!("NOT ({})", words(of, fact)),
        },
    }
}

fn hours_words(window: Window) -> String {
    match describe_window(window).as_slice() {
        [] => "TRUE".to_owned(),
        [one] => one.clone(),
        several => format!("({})", several.join(" AND ")),
    }
}

fn number_type(field: &EventField, fact: &Fact) -> ColumnType {
    match field {
        EventField::Time => ColumnType::Timestamp,
        EventField::Column(at) => fact.columns[usize::from(*at)].column_type,
        EventField::Path(_) => ColumnType::Float,
    }
}

fn number_words(name: &str, column_type: ColumnType, range: NumberRange) -> String {
    let ends = match column_type {
        ColumnType::Float => NumberRange {
            min: if float_of(range.min) == f64::NEG_INFINITY { i64::MIN } else { range.min },
            max: if float_of(range.max) == f64::INFINITY { i64::MAX } else { range.max },
        },
        _ => range,
    };
    describe_range(name, ends, |number| number_word(column_type, number))
}

fn number_word(column_type: ColumnType, number: i64) -> String {
    match column_type {
        ColumnType::Timestamp => format!("'{}'", instant(number)),
        ColumnType::Float => float_of(number).to_string(),
        other => decimal_text(number, other.scale()),
    }
}

/// Microseconds since 1970 as a time in UTC.
fn instant(micros: i64) -> String {
    const DAY_MICROS: i64 = 86_400_000_000;
    let (day, left) = (Date::of(micros.div_euclid(DAY_MICROS)), micros.rem_euclid(DAY_MICROS));
    let (seconds, fraction) = (left / 1_000_000, left % 1_000_000);
    let clock = format!("{day}T{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { format!("{clock}Z") } else { format!("{clock}.{fraction:06}Z") }
}
