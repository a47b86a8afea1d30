//! Functions of groups of rows that tell what happened in which order: how far a user came within a window of time, who came back, and
//! whether and how often a pattern of events happened.
//!
//! A row is an event: it has a time, and fulfils some of up to 32 conditions. A condition that is NULL is not fulfilled; a row
//! whose time is NULL is no event. What is told is a function of the rows, and neither of the order in which they come nor of the
//! parts in which they are gathered: [`engine::journey`] has the rule for rows of one moment, how far a funnel was followed, and the language
//! of sequences.
//!
//! * [`arguments`]: the forms in which other engines write a call, and what stands in them. * [`time`]: units of time.
//! * [`events`]: events of many groups. * [`groups`], [`retention`]: how DataFusion asks for them.

mod arguments;
mod events;
mod groups;
#[cfg(test)]
mod proptests;
mod retention;
mod time;

use super::waiting::Waiting;
use arguments::Layout;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, not_impl_err};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};
use engine::audience::ops::QueryContext;
use groups::{EventGroups, Question};
use retention::Returned;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Tells {
    /// How many steps of a funnel were done.
    Level,
    /// Whether a pattern happened.
    IsThere,
    /// How often it did.
    Count,
    /// Who came back.
    Returned,
}

impl Tells {
    const ALL: [Tells; 4] = [Tells::Level, Tells::IsThere, Tells::Count, Tells::Returned];

    fn name(self) -> &'static str {
        match self {
            Tells::Level => "window_funnel",
            Tells::IsThere => "sequence_match",
            Tells::Count => "sequence_count",
            Tells::Returned => "retention",
        }
    }

    /// What others call it.
    fn alias(self) -> Option<&'static str> {
        match self {
            Tells::Level => Some("windowfunnel"),
            Tells::IsThere => Some("sequencematch"),
            Tells::Count => Some("sequencecount"),
            Tells::Returned => None,
        }
    }

    fn gives(self) -> DataType {
        match self {
            Tells::Level | Tells::Count => DataType::Int64,
            Tells::IsThere => DataType::Boolean,
            Tells::Returned => DataType::List(Arc::new(Field::new_list_field(DataType::Boolean, true))),
        }
    }
}

/// Names of functions that others write with two pairs of parentheses.
pub(crate) const TWICE_CALLED: [&str; 6] =
    ["window_funnel", "windowfunnel", "sequence_match", "sequencematch", "sequence_count", "sequencecount"];

/// Adds them to a session; `context` ends what they do.
pub(crate) fn register(builder: &mut SessionStateBuilder, context: &QueryContext) {
    let aggregates = builder.aggregate_functions().get_or_insert_default();
    aggregates.extend(Tells::ALL.map(|tells| {
        let aliases = tells.alias().into_iter().map(str::to_owned).collect();
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Udf { tells, aliases, signature, waiting: Waiting::new(context) }))
    }));
}

#[derive(Debug)]
struct Udf {
    tells: Tells,
    aliases: Vec<String>,
    signature: Signature,
    waiting: Waiting,
}

impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        self.tells == other.tells
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tells.hash(state);
    }
}

impl Udf {
    fn layout(&self, types: &[DataType]) -> Result<Layout> {
        Layout::of(self.tells, types)
    }

    fn layout_of(&self, args: &AccumulatorArgs<'_>) -> Result<Layout> {
        if args.is_distinct && self.tells != Tells::Returned {
            let name = self.tells.name();
            return not_impl_err!("`{name}` does not take DISTINCT; write SELECT DISTINCT in a query below it");
        }
        let types: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        self.layout(&types)
    }

    fn events(&self, args: &AccumulatorArgs<'_>) -> Result<EventGroups> {
        let layout = self.layout_of(args)?;
        let question = Question::of(self.tells, &layout, args)?;
        Ok(EventGroups::new(question, layout, self.waiting.clone()))
    }
}

impl AggregateUDFImpl for Udf {
    fn name(&self) -> &str {
        self.tells.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.tells.gives())
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        arguments::coerced(self.tells, given)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let (name, kind) = match self.tells {
            Tells::Returned => ("conditions", DataType::UInt64),
            _ => ("events", DataType::LargeBinary),
        };
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, name), kind, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(match self.tells {
            Tells::Returned => Box::new(Returned::one(self.layout_of(&args)?)),
            _ => Box::new(self.events(&args)?),
        })
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match self.tells {
            Tells::Returned => Box::new(Returned::none(self.layout_of(&args)?)),
            _ => Box::new(self.events(&args)?),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, kind: &DataType) -> Result<ScalarValue> {
        Ok(match self.tells {
            Tells::Level | Tells::Count => ScalarValue::Int64(Some(0)),
            Tells::IsThere => ScalarValue::Boolean(Some(false)),
            // How long the list is, nobody says here.
            Tells::Returned => ScalarValue::try_from(kind)?,
        })
    }
}
