//! Figures of a group, a period or all, and what they come to by one another.

use crate::rest::v1::number::Number;
use engine::audience::ops::{Figures, STAGES, Stage};
use serde::{Deserialize, Serialize};

/// What events came to. What was not asked for is left out; null where nothing is divided by, or one of both was not asked for.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EffectFigures {
    /// How many impressions.
    pub impressions: u64,
    /// Users with any of them.
    pub reach: u64,
    /// Impressions of a user who was reached.
    pub frequency: Option<f64>,
    /// How many clicks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clicks: Option<u64>,
    /// Users with any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clickers: Option<u64>,
    /// Clicks of an impression.
    pub click_rate: Option<f64>,
    /// How many conversions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversions: Option<u64>,
    /// Users with any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converters: Option<u64>,
    /// Conversions of a click.
    pub conversion_rate: Option<f64>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Number>,
    /// Of a thousand impressions.
    pub cost_per_thousand: Option<f64>,
    /// Of a user who was reached.
    pub cost_per_user: Option<f64>,
    /// Of a click.
    pub cost_per_click: Option<f64>,
    /// Of a conversion.
    pub cost_per_conversion: Option<f64>,
    /// What conversions are worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
    /// The value for each unit that it cost.
    pub return_on_cost: Option<f64>,
}

/// How figures are told: which of them are known, and where the point of sums stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) clicks: bool,
    pub(super) conversions: bool,
    /// What cost stands with.
    pub(super) cost: Option<Stage>,
    pub(super) value: bool,
    pub(super) digits: [u8; STAGES],
}

impl Told {
    pub(super) fn figures(&self, stages: &[Figures; STAGES]) -> EffectFigures {
        let of = |stage: Stage| stages[stage as usize];
        let sum = |stage: Stage| (of(stage).measure, self.digits[stage as usize]);
        let (impressions, clicks, conversions) = (of(Stage::Impressions), of(Stage::Clicks), of(Stage::Conversions));
        let clicks = self.clicks.then_some(clicks);
        let conversions = self.conversions.then_some(conversions);
        let (cost, value) = (self.cost.map(sum), self.value.then(|| sum(Stage::Conversions)));
        let (paid, worth) = (cost.map(real), value.map(real));
        let count = |figures: Option<Figures>| figures.map(|figures| figures.events as f64);
        let (shown, reached) = (Some(impressions.events as f64), Some(impressions.users as f64));
        EffectFigures {
            impressions: impressions.events,
            reach: impressions.users,
            frequency: ratio(shown, reached),
            clicks: clicks.map(|clicks| clicks.events),
            clickers: clicks.map(|clicks| clicks.users),
            click_rate: ratio(count(clicks), shown),
            conversions: conversions.map(|conversions| conversions.events),
            converters: conversions.map(|conversions| conversions.users),
            conversion_rate: ratio(count(conversions), count(clicks)),
            cost: cost.map(|(sum, digits)| Number::shortest(sum, digits)),
            cost_per_thousand: ratio(paid.map(|paid| paid * 1_000.0), shown),
            cost_per_user: ratio(paid, reached),
            cost_per_click: ratio(paid, count(clicks)),
            cost_per_conversion: ratio(paid, count(conversions)),
            value: value.map(|(sum, digits)| Number::shortest(sum, digits)),
            return_on_cost: ratio(worth, paid),
        }
    }
}

/// A sum without its point as a floating point number.
fn real((sum, digits): (i128, u8)) -> f64 {
    sum as f64 / 10_f64.powi(digits.into())
}

/// `None` if either is unknown, or nothing is divided by.
fn ratio(of: Option<f64>, by: Option<f64>) -> Option<f64> {
    let (of, by) = (of?, by.filter(|by| *by != 0.0)?);
    Some(of / by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(told: Told, figures: [(u64, u64, i128); STAGES]) -> serde_json::Value {
        let figures = figures.map(|(events, users, measure)| Figures { events, users, measure });
        serde_json::to_value(told.figures(&figures)).expect("JSON")
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let all =
            Told { clicks: true, conversions: true, cost: Some(Stage::Impressions), value: true, digits: [2, 0, 1] };
        let figures = told(all, [(8, 4, 1_000), (2, 1, 0), (1, 1, 50)]);
        for (key, wanted) in [
            ("frequency", 2.0),
            ("click_rate", 0.25),
            ("conversion_rate", 0.5),
            ("cost_per_thousand", 1_250.0),
            ("cost_per_user", 2.5),
            ("cost_per_click", 5.0),
            ("cost_per_conversion", 10.0),
            ("return_on_cost", 0.5),
        ] {
            assert_eq!(figures[key], wanted, "{key}");
        }
        assert_eq!((figures["cost"].to_string(), figures["value"].to_string()), ("10".to_owned(), "5".to_owned()));
        let nothing = told(all, [(0, 0, 0); STAGES]);
        for key in
            ["frequency", "click_rate", "conversion_rate", "cost_per_thousand", "cost_per_user", "return_on_cost"]
        {
            assert_eq!(nothing[key], serde_json::Value::Null, "{key}");
        }
        assert_eq!(nothing["clicks"], 0);
        let shown = told(Told::default(), [(8, 4, 1_000), (2, 1, 0), (1, 1, 50)]);
        let keys: Vec<&str> =
            ["clicks", "conversions", "cost", "value"].into_iter().filter(|key| shown.get(key).is_some()).collect();
        assert!(keys.is_empty() && shown["click_rate"].is_null(), "{shown}");
    }
}
