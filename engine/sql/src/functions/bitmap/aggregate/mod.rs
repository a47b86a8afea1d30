//! Functions of groups of rows: bitmaps of members, sets of bitmaps joined, numbers added up.
//!
//! NULLs are left out. Of no rows a bitmap is empty and a count is 0. What is gathered in parts is the same as at once: the state of a
//! part is a bitmap (NULL if there was no row, so that an intersection knows that it has not begun).
//!
//! * [`groups`]: many groups at once, with the memory they take. * [`set`], [`cases`], [`numbers`]: what one group gathers.
//! * [`expression`]: the language of `orthogonal_bitmap_expr_calculate`.

mod cases;
mod expression;
mod groups;
mod numbers;
mod set;

use super::aliases;
use super::answer::Gives;
use super::people::People;
use super::types::{Takes, list_of};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, not_impl_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use engine::bitmap::sliced::Sliced;
use engine::bitmap::wide::encode;
use expression::Parsed;
use groups::Groups;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex};

/// How rows become an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gathers {
    /// Members one by one.
    Members,
    /// Bitmaps.
    Union,
    /// The same.
    Intersection,
    /// Who is in an odd number of them.
    Odd,
    /// Bitmaps by the values of another column; then all that have all of some values.
    AllOf,
    /// The same; all that have any of them.
    AnyOf,
    /// The same; an expression over values.
    Expression,
    /// Keys and numbers, which add up.
    Pairs,
    /// Numbers in bit slices, which add up.
    Sums,
    /// The same, without a key in common.
    Merged,
}

/// An entry of the table.
#[derive(Debug)]
pub(super) struct Aggregate {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    takes: Vec<Takes>,
    repeats: bool,
    gathers: Gathers,
    gives: Gives,
}

static AGGREGATES: LazyLock<Vec<Aggregate>> = LazyLock::new(|| {
    use Gathers::*;
    let of = |names: &[&'static str], takes: &[Takes], gathers, gives| Aggregate {
        name: names[0],
        aliases: aliases(names),
        signature: Signature::user_defined(Volatility::Stable),
        takes: takes.to_vec(),
        repeats: matches!(gathers, AllOf | AnyOf),
        gathers,
        gives,
    };
    let (member, bitmap) = (&[Takes::Member], &[Takes::Bitmap]);
    let cases = &[Takes::Bitmap, Takes::Plain, Takes::Plain];
    let expression = &[Takes::Bitmap, Takes::Plain, Takes::Text];
    vec![
        of(
            &["bitmap_agg", "groupbitmapstate", "rb_build_agg", "bitmap_construct_agg", "bitmapfromcolumn"],
            member,
            Members,
            Gives::Bitmap,
        ),
        of(
            &["bitmap_agg_count", "groupbitmap", "bitmap_union_int", "rb_build_cardinality_agg"],
            member,
            Members,
            Gives::Count,
        ),
        of(
            &["bitmap_union", "bitmap_or_agg", "groupbitmaporstate", "groupbitmapmergestate", "rb_or_agg"],
            bitmap,
            Union,
            Gives::Bitmap,
        ),
        of(
            &["bitmap_union_count", "groupbitmapor", "groupbitmapmerge", "rb_or_cardinality_agg"],
            bitmap,
            Union,
            Gives::Count,
        ),
        of(
            &["bitmap_intersect", "bitmap_and_agg", "groupbitmapandstate", "rb_and_agg"],
            bitmap,
            Intersection,
            Gives::Bitmap,
        ),
        of(&["bitmap_intersect_count", "groupbitmapand", "rb_and_cardinality_agg"], bitmap, Intersection, Gives::Count),
        of(&["bitmap_xor_agg", "group_bitmap_xor", "groupbitmapxorstate", "rb_xor_agg"], bitmap, Odd, Gives::Bitmap),
        of(&["bitmap_xor_agg_count", "groupbitmapxor", "rb_xor_cardinality_agg"], bitmap, Odd, Gives::Count),
        of(&["intersect_count", "orthogonal_bitmap_intersect_count"], cases, AllOf, Gives::Count),
        of(&["orthogonal_bitmap_intersect"], cases, AllOf, Gives::Bitmap),
        of(&["bitmap_union_of"], cases, AnyOf, Gives::Bitmap),
        of(&["bitmap_union_of_count"], cases, AnyOf, Gives::Count),
        of(&["orthogonal_bitmap_union_count"], bitmap, Union, Gives::Count),
        of(&["orthogonal_bitmap_expr_calculate", "bitmap_expr"], expression, Expression, Gives::Bitmap),
        of(&["orthogonal_bitmap_expr_calculate_count", "bitmap_expr_count"], expression, Expression, Gives::Count),
        of(&["bsi_agg", "bsi_build_agg"], &[Takes::Member, Takes::Integer], Pairs, Gives::Sliced),
        of(&["bsi_add_agg"], &[Takes::Sliced], Sums, Gives::Sliced),
        of(&["bsi_merge_agg"], &[Takes::Sliced], Merged, Gives::Sliced),
    ]
});

/// All of them.
pub(super) fn all() -> &'static [Aggregate] {
    &AGGREGATES
}

/// What a group needs to know.
#[derive(Clone, Debug)]
struct Plan {
    function: &'static Aggregate,
    people: Arc<People>,
    /// The expression of the groups, so that they share it.
    parsed: Arc<Mutex<Option<Arc<Parsed>>>>,
}

/// The function of a session.
pub(super) fn udf(function: &'static Aggregate, people: &Arc<People>) -> AggregateUDF {
    AggregateUDF::new_from_impl(Udf(Plan { function, people: Arc::clone(people), parsed: Arc::default() }))
}

#[derive(Debug)]
struct Udf(Plan);

impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        std::ptr::eq(self.0.function, other.0.function) && Arc::ptr_eq(&self.0.people, &other.0.people)
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.function.name.hash(state);
    }
}

impl Udf {
    fn check(&self, args: &AccumulatorArgs<'_>) -> Result<()> {
        let counts_twice =
            matches!(self.0.function.gathers, Gathers::Odd | Gathers::Pairs | Gathers::Sums | Gathers::Merged);
        if args.is_distinct && counts_twice {
            let name = self.0.function.name;
            return not_impl_err!("`{name}` does not take DISTINCT; write SELECT DISTINCT in a query below it");
        }
        Ok(())
    }
}

impl AggregateUDFImpl for Udf {
    fn name(&self) -> &str {
        self.0.function.name
    }

    fn aliases(&self) -> &[String] {
        &self.0.function.aliases
    }

    fn signature(&self) -> &Signature {
        &self.0.function.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.0.function.gives.data_type())
    }

    fn return_field(&self, _: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(self.0.function.gives.field(self.0.function.name)))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Aggregate { name, takes, repeats, .. } = self.0.function;
        let is_many = given.len() > takes.len() && !repeats;
        if given.len() < takes.len() || is_many {
            let least = if *repeats { "at least " } else { "" };
            return plan_err!("`{name}` takes {least}{} arguments, not {}", takes.len(), given.len());
        }
        let of = |at: usize| takes[at.min(takes.len() - 1)];
        let mut types: Vec<DataType> =
            given.iter().enumerate().map(|(at, given)| of(at).coerced(given, name, at + 1)).collect::<Result<_>>()?;
        if *repeats && given[1].is_temporal() {
            // The same time is written in more ways than one: what is wanted is brought to the type of the column.
            if let Some(at) = (2..given.len()).find(|at| given[*at].is_integer() || given[*at] == DataType::Boolean) {
                return plan_err!("`{name}` takes a time as argument {}, as argument 2 is, not {}", at + 1, given[at]);
            }
            // A date is the first moment of its day, and not the other way round.
            let is_date = matches!(given[1], DataType::Date32 | DataType::Date64);
            let finer = given[2..].iter().find(|given| is_date && matches!(given, DataType::Timestamp(..)));
            types[1..].fill(finer.unwrap_or(&given[1]).clone());
        }
        Ok(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name, kind| Arc::new(Field::new(format_state_name(args.name, name), kind, true));
        Ok(match self.0.function.gathers {
            Gathers::AllOf | Gathers::AnyOf | Gathers::Expression => {
                vec![field("expression", DataType::Utf8), field("sets", list_of(DataType::Binary))]
            }
            _ => vec![field("value", DataType::Binary)],
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.check(&args)?;
        Ok(match self.0.function.gathers {
            Gathers::AllOf | Gathers::AnyOf | Gathers::Expression => {
                Box::new(Groups::<cases::Cases>::one(self.0.clone()))
            }
            Gathers::Pairs | Gathers::Sums | Gathers::Merged => {
                Box::new(Groups::<numbers::Numbers>::one(self.0.clone()))
            }
            _ => Box::new(Groups::<set::Set>::one(self.0.clone())),
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.check(&args).is_ok()
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.check(&args)?;
        Ok(match self.0.function.gathers {
            Gathers::AllOf | Gathers::AnyOf | Gathers::Expression => {
                Box::new(Groups::<cases::Cases>::none(self.0.clone()))
            }
            Gathers::Pairs | Gathers::Sums | Gathers::Merged => {
                Box::new(Groups::<numbers::Numbers>::none(self.0.clone()))
            }
            _ => Box::new(Groups::<set::Set>::none(self.0.clone())),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(match self.0.function.gives {
            Gives::Count => ScalarValue::Int64(Some(0)),
            Gives::Sliced => ScalarValue::Binary(Some(Sliced::default().encode())),
            _ => ScalarValue::Binary(Some(encode(&Default::default()))),
        })
    }
}
