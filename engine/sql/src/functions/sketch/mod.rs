//! Estimates with bounds: of how many different values there are, of quantiles, and of what is there most often.
//!
//! Each is a small summary of the values of a group that other summaries can be merged into, so that any number of rows takes the
//! memory of one. The answer tells the estimate and the bounds within which the truth lies: surely, or as often as the function says.
//! NULLs are left out.
//!
//! * [`groups`]: groups that gather values. * [`distinct`], [`quantile`], [`top`]: the functions. * [`answer`]: their types.

mod answer;
mod distinct;
mod groups;
mod quantile;
mod top;

use super::waiting::Waiting;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{ScalarValue, not_impl_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use engine::audience::ops::QueryContext;
use groups::Groups;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Estimates {
    Distinct,
    Quantile,
    Top,
}

impl Estimates {
    const ALL: [Estimates; 3] = [Estimates::Distinct, Estimates::Quantile, Estimates::Top];

    fn name(self) -> &'static str {
        match self {
            Estimates::Distinct => distinct::NAME,
            Estimates::Quantile => quantile::NAME,
            Estimates::Top => top::NAME,
        }
    }

    /// How it is written, and the least and the greatest number of arguments.
    fn told(self) -> (&'static str, usize, usize) {
        match self {
            Estimates::Distinct => ("value [, precision]", 1, 2),
            Estimates::Quantile => ("value, fraction [, k]", 2, 3),
            Estimates::Top => ("value, how many [, counters]", 2, 3),
        }
    }

    fn takes(self, given: &DataType) -> Option<DataType> {
        match self {
            Estimates::Quantile => quantile::coerced(given),
            Estimates::Distinct | Estimates::Top => {
                let can_be_told_apart = RowConverter::supports_fields(&[SortField::new(plain(given))]);
                can_be_told_apart.then(|| plain(given))
            }
        }
    }
}

/// What is in a dictionary is the same as what is not.
fn plain(given: &DataType) -> DataType {
    if let DataType::Dictionary(_, value) = given { plain(value) } else { given.clone() }
}

/// Adds them to a session; `context` ends what they do.
pub(crate) fn register(builder: &mut SessionStateBuilder, context: &QueryContext) {
    let aggregates = builder.aggregate_functions().get_or_insert_default();
    aggregates.extend(Estimates::ALL.map(|estimates| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Udf { estimates, signature, waiting: Waiting::new(context) }))
    }));
}

#[derive(Debug)]
struct Udf {
    estimates: Estimates,
    signature: Signature,
    waiting: Waiting,
}

impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        self.estimates == other.estimates
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.estimates.hash(state);
    }
}

/// Makes groups of the summary that a function keeps; `$begin` says how many groups there are to begin with.
macro_rules! groups {
    ($self:expr, $args:expr, $begin:ident) => {{
        if $args.is_distinct && $self.estimates != Estimates::Distinct {
            let name = $self.estimates.name();
            return not_impl_err!("`{name}` does not take DISTINCT; write SELECT DISTINCT in a query below it");
        }
        let waiting = $self.waiting.clone();
        Ok(match $self.estimates {
            Estimates::Distinct => Box::new(Groups::<distinct::Distinct>::$begin(distinct::Plan::of(&$args)?, waiting)),
            Estimates::Quantile => Box::new(Groups::<quantile::Quantile>::$begin(quantile::Plan::of(&$args)?, waiting)),
            Estimates::Top => Box::new(Groups::<top::Top>::$begin(top::Plan::of(&$args)?, waiting)),
        })
    }};
}

impl AggregateUDFImpl for Udf {
    fn name(&self) -> &str {
        self.estimates.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match self.estimates {
            Estimates::Distinct => answer::of(&DataType::Int64),
            Estimates::Quantile => answer::of(&given[0]),
            Estimates::Top => answer::list_of(&given[0]),
        })
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.estimates.name();
        let (told, least, most) = self.estimates.told();
        if !(least..=most).contains(&given.len()) {
            return plan_err!("`{name}` is written {name}({told}), not with {} arguments", given.len());
        }
        let mut types = given.to_vec();
        match self.estimates.takes(&given[0]) {
            Some(kind) => types[0] = kind,
            None if self.estimates == Estimates::Quantile => {
                return plan_err!("`{name}` takes a number, a date or a time as argument 1, not {}", given[0]);
            }
            None => return plan_err!("`{name}` cannot tell values of type {} apart", given[0]),
        }
        for (at, kind) in types.iter_mut().enumerate().skip(1) {
            let is_fraction = self.estimates == Estimates::Quantile && at == 1;
            if is_fraction && (kind.is_numeric() || kind.is_null()) {
                *kind = DataType::Float64;
            } else if !is_fraction && (kind.is_integer() || kind.is_null()) {
                *kind = DataType::Int64;
            } else {
                let wanted = if is_fraction { "a number from 0 to 1" } else { "an integer" };
                return plan_err!("`{name}` takes {wanted} as argument {}, not {kind}", at + 1);
            }
        }
        Ok(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sketch"), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        groups!(self, args, one)
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        groups!(self, args, none)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        match self.estimates {
            Estimates::Distinct => ScalarValue::try_from_array(&distinct::answers(&[(0, 0, 0)])?, 0),
            Estimates::Quantile => ScalarValue::try_from(kind),
            Estimates::Top => Ok(ScalarValue::new_default(kind)?),
        }
    }
}
