//! One aggregate of a statement: what the engine is asked for, and what DataFusion's aggregate is told of the answer.
//!
//! Of a part of the users an aggregate passes on a state, which the aggregate above joins with those of other parts. The states here
//! are those that DataFusion would have made of the rows; results are made of them by DataFusion's own code, so that types, NULLs and
//! overflow are its own.

use super::source::{Part, Source};
use crate::session::filter::translate;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, TimeUnit, i256};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use engine::audience::ops::{AtRanks, ColumnOf, FigureOf, TagValues, Told};
use engine::audience::predicate::Predicate;
use engine::bitmap::bsi::NumberSummary;
use engine::catalog::{TagType, Unit};
use engine::ids::TagId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Weights between two numbers are rounded down to this part of one, as DataFusion does it.
const WEIGHT_PARTS: f64 = 1_000_000.0;

/// An aggregate.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) of: MeasureOf,
    /// Of those users only, besides the statement's.
    pub(super) within: Option<Predicate>,
}

/// What it is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MeasureOf {
    /// How many there are.
    Count,
    /// The sum of a number.
    Sum(Number),
    /// The mean of a number.
    Mean(Number),
    /// The least or the greatest number.
    Extreme { of: Number, is_greatest: bool },
    /// How many values of a tag there are.
    Distinct(TagId),
    /// The number at a place of the order.
    Rank { of: Number, rank: Rank },
}

/// A number tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) tag: TagId,
    unit: Unit,
    /// It is taken as a float.
    is_float: bool,
}

/// A place of the order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rank {
    /// In the middle, or between the two in the middle.
    Median,
    /// So far from the least (0) to the greatest (1), between two if need be.
    At(f64),
}

impl Measure {
    /// What stands for an aggregate over these users, if the engine can tell it.
    pub(super) fn new(
        source: &Source<'_>,
        function: &Arc<AggregateFunctionExpr>,
        filter: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Option<Measure> {
        let mut within = match filter {
            None => None,
            Some(filter) => Some(translate(&source.condition(filter)?, &source.users.question().calls)?),
        };
        let arguments = function.expressions();
        let parts = arguments.iter().map(|argument| source.part(argument)).collect::<Option<Vec<_>>>()?;
        let number = |part: &Part| Number::of(source, part);
        let name = function.fun().name();
        let is_plain = !function.is_distinct() && function.order_bys().is_empty() && !function.ignore_nulls();
        let of = match (name, parts.as_slice()) {
            ("count", [Part::Column(ColumnOf::Tag(tag))]) if function.is_distinct() => {
                // Of a flag it is said which users have it, not whether some do not.
                (source.tag_type(*tag)? == TagType::Enum).then_some(MeasureOf::Distinct(*tag))?
            }
            ("count", parts) if is_plain && !parts.is_empty() => {
                for part in parts {
                    match part {
                        Part::Literal(value) if !value.is_null() => {}
                        Part::Column(ColumnOf::UserId) | Part::Unnested(_) => {}
                        Part::Column(ColumnOf::Tag(tag)) | Part::Float(tag) => match source.tag_type(*tag)? {
                            TagType::Set | TagType::Flag => {}
                            TagType::Enum | TagType::Number(_) => {
                                within = Some(and(within.take(), Predicate::Known(*tag)));
                            }
                        },
                        Part::Literal(_) => return None,
                    }
                }
                MeasureOf::Count
            }
            ("sum", [part]) if is_plain => MeasureOf::Sum(number(part)?),
            ("avg", [part]) if is_plain => MeasureOf::Mean(number(part)?),
            ("min" | "max", [part]) if is_plain => MeasureOf::Extreme { of: number(part)?, is_greatest: name == "max" },
            ("median", [part]) if is_plain => MeasureOf::Rank { of: number(part)?, rank: Rank::Median },
            ("approx_median", [part]) if is_plain => MeasureOf::Rank { of: number(part)?, rank: Rank::At(0.5) },
            ("percentile_cont" | "approx_percentile_cont", [part, Part::Literal(place), ..])
                if !function.is_distinct() && !function.ignore_nulls() =>
            {
                let ScalarValue::Float64(Some(place @ 0.0..=1.0)) = place else { return None };
                let is_descending = function.order_bys().first().is_some_and(|order| order.options.descending);
                let place = if is_descending { 1.0 - place } else { *place };
                MeasureOf::Rank { of: number(part)?, rank: Rank::At(place) }
            }
            _ => return None,
        };
        let measure = Measure { function: Arc::clone(function), of, within };
        measure.fits().then_some(measure)
    }

    /// Whether the types are those that are made here.
    fn fits(&self) -> bool {
        let (Ok(state), result) = (self.function.state_fields(), self.function.field()) else { return false };
        let state: Vec<&DataType> = state.iter().map(|field| field.data_type()).collect();
        match (&self.of, state.as_slice()) {
            (MeasureOf::Count, [DataType::Int64]) => true,
            (MeasureOf::Sum(of) | MeasureOf::Extreme { of, .. }, [one]) => of.holds(one),
            (MeasureOf::Mean(of), [DataType::UInt64, sum]) => of.holds(sum),
            (MeasureOf::Distinct(_), [DataType::List(item)]) => *item.data_type() == DataType::Utf8,
            (MeasureOf::Rank { of, .. }, _) => *result.data_type() == of.own_type(),
            _ => false,
        }
    }

    /// What the engine is asked for; `None` of what is asked apart.
    pub(super) fn figure(&self, distinct: &mut Vec<TagId>) -> Option<FigureOf> {
        Some(match &self.of {
            MeasureOf::Count => FigureOf::Count,
            MeasureOf::Sum(of) | MeasureOf::Mean(of) => FigureOf::Sum(of.tag),
            MeasureOf::Extreme { of, .. } => FigureOf::Summary(of.tag),
            MeasureOf::Distinct(tag) => {
                let at = distinct.iter().position(|known| known == tag);
                FigureOf::Values(at.unwrap_or_else(|| {
                    distinct.push(*tag);
                    distinct.len() - 1
                }))
            }
            MeasureOf::Rank { .. } => return None,
        })
    }

    /// The state that the rows would have come to.
    pub(super) fn state(&self, told: &Told, values: &[TagValues]) -> Result<Vec<ScalarValue>> {
        let fields = self.function.state_fields()?;
        let scalar = |at: usize, of: &Number, number: Option<i128>| of.scalar(number, fields[at].data_type());
        Ok(match (&self.of, told) {
            (MeasureOf::Count, Told::Count(count)) => vec![ScalarValue::Int64(Some(count.cast_signed()))],
            (MeasureOf::Sum(of), Told::Numbers(numbers)) => vec![scalar(0, of, sum(numbers))?],
            (MeasureOf::Mean(of), Told::Numbers(numbers)) => {
                // NULL says that there was nobody; none at all would be divided by.
                let count = (numbers.count > 0).then_some(numbers.count);
                vec![ScalarValue::UInt64(count), scalar(1, of, sum(numbers))?]
            }
            (MeasureOf::Extreme { of, is_greatest }, Told::Numbers(numbers)) => {
                let extreme = if *is_greatest { numbers.max } else { numbers.min };
                vec![scalar(0, of, extreme.map(i128::from))?]
            }
            (MeasureOf::Distinct(tag), Told::Values(counts)) => {
                let Some(values) = values.iter().find(|values| values.tag() == *tag) else {
                    return internal_err!("values were counted of another tag");
                };
                let present = values.values().zip(&counts.each).filter(|(_, count)| **count > 0);
                let present: Vec<ScalarValue> = present.map(|(value, _)| text(value)).collect();
                vec![ScalarValue::List(ScalarValue::new_list_nullable(&present, &DataType::Utf8))]
            }
            _ => return internal_err!("an aggregate was told something else than it had asked"),
        })
    }

    /// The state of what is told of the numbers in order; nothing of nobody, or if another part tells it.
    pub(super) fn state_at_rank(&self, told: Option<&AtRanks>) -> Result<Vec<ScalarValue>> {
        let MeasureOf::Rank { of, rank } = &self.of else {
            return internal_err!("ranks were told to an aggregate of something else");
        };
        let mut accumulator = self.function.create_accumulator()?;
        if let Some((count, numbers)) = told.filter(|(count, _)| *count > 0) {
            accumulator.update_batch(&[ScalarValue::iter_to_array(rank.numbers(of, *count, numbers)?)?])?;
        }
        accumulator.state()
    }

    /// The result of a state.
    pub(super) fn result(&self, state: Vec<ScalarValue>) -> Result<ScalarValue> {
        let mut accumulator = self.function.create_accumulator()?;
        let state = state.into_iter().map(|value| value.to_array()).collect::<Result<Vec<ArrayRef>>>()?;
        accumulator.merge_batch(&state)?;
        accumulator.evaluate()
    }
}

impl Rank {
    /// The ranks, from 1, that tell the number among so many.
    pub(super) fn of(self, count: u64) -> BTreeSet<u64> {
        match (self, count) {
            (_, 0) => BTreeSet::new(),
            (Rank::Median, _) => BTreeSet::from([count.div_ceil(2), count / 2 + 1]),
            (Rank::At(place), _) => {
                let at = place * (count - 1) as f64;
                BTreeSet::from([at.floor() as u64 + 1, at.ceil() as u64 + 1])
            }
        }
    }

    /// The numbers that an aggregate tells the same of as of all `count`; `numbers` are those at the ranks, and at others.
    fn numbers(self, of: &Number, count: u64, numbers: &BTreeMap<u64, i64>) -> Result<Vec<ScalarValue>> {
        let own = self.of(count).into_iter().filter_map(|rank| numbers.get(&rank));
        let own = own.map(|number| of.scalar(Some(i128::from(*number)), &of.own_type()));
        let own = own.collect::<Result<Vec<_>>>()?;
        Ok(match (self, own.as_slice()) {
            (Rank::At(place), [ScalarValue::Float64(Some(low)), ScalarValue::Float64(Some(high))]) => {
                let at = place * count.saturating_sub(1) as f64;
                let weight = ((at - at.floor()) * WEIGHT_PARTS).floor() / WEIGHT_PARTS;
                vec![ScalarValue::Float64(Some(low + (high - low) * weight))]
            }
            // One, or the two in the middle.
            _ => own,
        })
    }
}

impl Number {
    fn of(source: &Source<'_>, part: &Part) -> Option<Number> {
        let (tag, is_float) = match part {
            Part::Column(ColumnOf::Tag(tag)) => (*tag, false),
            Part::Float(tag) => (*tag, true),
            _ => return None,
        };
        match source.tag_type(tag)? {
            TagType::Number(unit) => Some(Number { tag, unit, is_float }),
            _ => None,
        }
    }

    /// The type of the column that the aggregate reads.
    fn own_type(&self) -> DataType {
        if self.is_float { DataType::Float64 } else { crate::session::columns::data_type(TagType::Number(self.unit)) }
    }

    /// Whether the type has such numbers, and sums of them.
    fn holds(&self, data_type: &DataType) -> bool {
        match (data_type, self.unit) {
            (DataType::Float64, _) => self.is_float,
            (DataType::Int64, Unit::Integer) => !self.is_float,
            (DataType::Decimal128(_, of) | DataType::Decimal256(_, of), Unit::Decimal { scale }) => {
                !self.is_float && *of == scale.cast_signed()
            }
            (DataType::Timestamp(TimeUnit::Microsecond, _), Unit::Timestamp) => !self.is_float,
            _ => false,
        }
    }

    /// The number in one of those types. A sum of whole numbers beyond 64 bits wraps, as DataFusion's does.
    fn scalar(&self, number: Option<i128>, data_type: &DataType) -> Result<ScalarValue> {
        let whole = number.map(|number| number as i64);
        Ok(match data_type {
            DataType::Int64 => ScalarValue::Int64(whole),
            DataType::Decimal128(precision, scale) => ScalarValue::Decimal128(number, *precision, *scale),
            DataType::Decimal256(precision, scale) => {
                ScalarValue::Decimal256(number.map(i256::from_i128), *precision, *scale)
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => ScalarValue::TimestampMicrosecond(whole, zone.clone()),
            DataType::Float64 => {
                let scale = if let Unit::Decimal { scale } = self.unit { i32::from(scale) } else { 0 };
                ScalarValue::Float64(number.map(|number| number as f64 / 10f64.powi(scale)))
            }
            other => return internal_err!("a number of users is no {other}"),
        })
    }
}

/// The sum, if there is any number.
fn sum(numbers: &NumberSummary) -> Option<i128> {
    (numbers.count > 0).then_some(numbers.sum)
}

/// A value of a tag.
pub(super) fn text(value: &[u8]) -> ScalarValue {
    // It came in as text; bytes that are not would be damage the checksums have missed.
    ScalarValue::Utf8(Some(String::from_utf8_lossy(value).into_owned()))
}

fn and(one: Option<Predicate>, other: Predicate) -> Predicate {
    match one {
        None => other,
        Some(one) => Predicate::And(vec![one, other]).canonical(),
    }
}
