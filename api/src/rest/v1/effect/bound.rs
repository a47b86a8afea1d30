//! What a request means: its stages with their columns, bound to the catalog.

use super::figures::Told;
use super::{CostOf, EffectOrder, EffectRequest};
use crate::error::{Failure, Kind};
use crate::rest::v1::steps::{ValuedStep, column_by, number_column};
use crate::zones;
use engine::audience::ops::{Figures, STAGES, Stage, StageMeant};
use engine::audience::scan::EventValue;
use engine::catalog::{Catalog, ColumnType, Zone};
use engine::clock::Clock;
use engine::ids::TagId;
use engine::store::Snapshot;
use ingest::clock::SystemClock;
use std::collections::BTreeSet;

/// What is asked for.
pub(super) struct Bound {
    /// By [`Stage`].
    pub(super) stages: [Option<StageMeant>; STAGES],
    /// By whose clocks.
    pub(super) zone: Zone,
    /// Groups that come first in the incremental reach.
    pub(super) channels: Vec<EventValue>,
    cost: Option<Stage>,
    value: bool,
}

impl Bound {
    /// Whether impressions are told apart.
    pub(super) fn is_grouped(&self) -> bool {
        self.stage(Stage::Impressions).is_some_and(|meant| meant.by.is_some())
    }

    /// Which figures of all are known.
    pub(super) fn told(&self, digits: &[u8; STAGES]) -> Told {
        let known = |stage: Stage| self.stage(stage).is_some();
        Told {
            clicks: known(Stage::Clicks),
            conversions: known(Stage::Conversions),
            cost: self.cost,
            value: self.value,
            digits: *digits,
        }
    }

    /// Which figures of groups are known.
    pub(super) fn told_of_groups(&self, digits: &[u8; STAGES]) -> Told {
        let known = |stage: Stage| self.stage(stage).is_some_and(|meant| meant.by.is_some());
        Told {
            clicks: known(Stage::Clicks),
            conversions: known(Stage::Conversions),
            cost: self.cost.filter(|stage| known(*stage)),
            value: self.value && known(Stage::Conversions),
            digits: *digits,
        }
    }

    /// The figure by which groups are ordered.
    pub(super) fn ordered_by(&self, order: EffectOrder, stages: &[Figures; STAGES]) -> i128 {
        let events = |stage: Stage| stages[stage as usize].events.into();
        match order {
            EffectOrder::Impressions => events(Stage::Impressions),
            EffectOrder::Reach => stages[Stage::Impressions as usize].users.into(),
            EffectOrder::Clicks => events(Stage::Clicks),
            EffectOrder::Conversions => events(Stage::Conversions),
            EffectOrder::Cost => self.cost.map_or(0, |stage| stages[stage as usize].measure),
            EffectOrder::Value => stages[Stage::Conversions as usize].measure,
        }
    }

    fn stage(&self, stage: Stage) -> Option<&StageMeant> {
        self.stages[stage as usize].as_ref()
    }
}

impl EffectRequest {
    pub(super) fn bound(&self, snapshot: &Snapshot) -> Result<Bound, Failure> {
        let catalog = snapshot.catalog();
        let now = SystemClock.now();
        let bind = |step: &ValuedStep, pointer: &str| {
            step.bind_events(catalog, self.within.as_ref(), self.between.as_ref(), now, pointer)
        };
        let (mut stages, mut impressions_by) = ([None, None, None], None);
        let steps = [
            (Stage::Impressions, Some(&self.impressions), "/impressions"),
            (Stage::Clicks, self.clicks.as_ref(), "/clicks"),
            (Stage::Conversions, self.conversions.as_ref(), "/conversions"),
        ];
        for (stage, step, pointer) in steps {
            let Some(step) = step else { continue };
            let events = bind(step, pointer)?;
            let by = self.by(catalog, stage, step, events.fact, pointer)?;
            let column_type = by.and_then(|at| column_type(catalog, events.fact, at));
            if stage == Stage::Impressions {
                impressions_by = column_type;
            } else if let (Some(own), Some(shown)) = (column_type, impressions_by)
                && std::mem::discriminant(&own) != std::mem::discriminant(&shown)
            {
                let detail =
                    format!("impressions are told apart by a column of type {shown}, and these events by one of {own}");
                let failure = Failure::field(format!("{pointer}/by"), detail);
                return Err(failure.suggest("name columns of one type"));
            }
            stages[stage as usize] = Some(StageMeant { events, by, measure: None });
        }
        let cost = self.cost(catalog, &mut stages)?;
        self.value(catalog, &mut stages)?;
        let zone = self.zone(catalog, &stages)?;
        let channels = self.channels(impressions_by)?;
        let bound = Bound { stages, zone, channels, cost, value: self.value.is_some() };
        self.check_order(&bound)?;
        Ok(bound)
    }

    /// The column that tells events of a stage apart.
    fn by(
        &self,
        catalog: &Catalog,
        stage: Stage,
        step: &ValuedStep,
        fact: TagId,
        pointer: &str,
    ) -> Result<Option<u16>, Failure> {
        let is_shown = stage == Stage::Impressions;
        if let Some(own) = &step.by {
            let pointer = format!("{pointer}/by");
            if !is_shown && self.by.is_none() && self.impressions.by.is_none() {
                let failure = Failure::field(pointer, "impressions are not told apart");
                return Err(failure.suggest("name their column with `by`"));
            }
            return column_by(catalog, fact, own, &pointer).map(Some);
        }
        let Some(name) = &self.by else { return Ok(None) };
        let has = catalog.fact_of(fact).is_some_and(|fact| fact.column(name).is_some());
        if has || is_shown { column_by(catalog, fact, name, "/by").map(Some) } else { Ok(None) }
    }

    /// What cost stands with, whose column it becomes.
    fn cost(&self, catalog: &Catalog, stages: &mut [Option<StageMeant>; STAGES]) -> Result<Option<Stage>, Failure> {
        let Some(name) = &self.cost else {
            return match self.cost_of {
                CostOf::Impressions => Ok(None),
                CostOf::Clicks => {
                    Err(Failure::field("/cost", "it is not said what a click costs").suggest("name a column of clicks"))
                }
            };
        };
        let stage = match self.cost_of {
            CostOf::Impressions => Stage::Impressions,
            CostOf::Clicks => Stage::Clicks,
        };
        let Some(meant) = &mut stages[stage as usize] else {
            let failure = Failure::field("/cost_of", "clicks are not asked for");
            return Err(failure.suggest("say with `clicks` which events they are"));
        };
        meant.measure = Some(number_column(catalog, meant.events.fact, name, "/cost")?);
        Ok(Some(stage))
    }

    fn value(&self, catalog: &Catalog, stages: &mut [Option<StageMeant>; STAGES]) -> Result<(), Failure> {
        let Some(name) = &self.value else { return Ok(()) };
        let Some(meant) = &mut stages[Stage::Conversions as usize] else {
            let failure = Failure::field("/value", "conversions are not asked for");
            return Err(failure.suggest("say with `conversions` which events they are"));
        };
        meant.measure = Some(number_column(catalog, meant.events.fact, name, "/value")?);
        Ok(())
    }

    fn zone(&self, catalog: &Catalog, stages: &[Option<StageMeant>; STAGES]) -> Result<Zone, Failure> {
        let Some(name) = &self.time_zone else {
            let shown = stages[Stage::Impressions as usize].as_ref();
            let fact = shown.and_then(|meant| catalog.fact_of(meant.events.fact));
            return Ok(fact.map(|fact| fact.zone.clone()).unwrap_or_default());
        };
        if self.grain.is_none() {
            let failure = Failure::field("/time_zone", "periods are by the clocks of a zone, and none are asked for");
            return Err(failure.suggest("add `grain`, or leave this out"));
        }
        zones::zone(name).map_err(|why| Failure::field("/time_zone", why))
    }

    /// The groups that are named, as values of the column.
    fn channels(&self, column_type: Option<ColumnType>) -> Result<Vec<EventValue>, Failure> {
        if let (None, false) = (column_type, self.channels.is_empty()) {
            let failure = Failure::field("/channels", "impressions are not told apart");
            return Err(failure.suggest("name the column of the channels with `by`"));
        }
        let mut known = BTreeSet::new();
        let mut channels = Vec::with_capacity(self.channels.len());
        for (at, name) in self.channels.iter().enumerate() {
            let pointer = format!("/channels/{at}");
            let told = name.as_deref().unwrap_or("null");
            let value = match (name, column_type) {
                (None, _) => Some(EventValue::None),
                (Some(name), Some(ColumnType::Integer)) => name.parse().ok().map(EventValue::Number),
                (Some(name), Some(ColumnType::Boolean)) => name.parse().ok().map(EventValue::Flag),
                (Some(name), _) => Some(EventValue::Text(name.as_str().into())),
            };
            let Some(value) = value else {
                let of = column_type.map_or_else(String::new, |column_type| format!(" of type {column_type}"));
                let detail = format!("`{told}` is no value of a column{of}");
                return Err(Failure::field(pointer, detail));
            };
            if !known.insert(value.clone()) {
                let failure = Failure::new(Kind::InvalidField, format!("`{told}` is named twice")).at(pointer);
                return Err(failure.suggest("name each channel once"));
            }
            channels.push(value);
        }
        Ok(channels)
    }

    /// Whether groups have what they are ordered by.
    fn check_order(&self, bound: &Bound) -> Result<(), Failure> {
        let told = bound.told_of_groups(&[0; STAGES]);
        let missing = match self.order {
            EffectOrder::Impressions | EffectOrder::Reach => None,
            EffectOrder::Clicks => (!told.clicks).then_some("clicks"),
            EffectOrder::Conversions => (!told.conversions).then_some("conversions"),
            EffectOrder::Cost => told.cost.is_none().then_some("cost"),
            EffectOrder::Value => (!told.value).then_some("value"),
        };
        let Some(missing) = missing else { return Ok(()) };
        let failure = Failure::field("/order", format!("groups are told without `{missing}`"));
        Err(failure.suggest(format!("ask for `{missing}`, or order by impressions or reach")))
    }
}

fn column_type(catalog: &Catalog, fact: TagId, at: u16) -> Option<ColumnType> {
    catalog.fact_of(fact)?.columns.get(usize::from(at)).map(|column| column.column_type)
}
