//! How far groups are apart, and how sure that is.
//!
//! Means are compared by Welch's test and interval, which ask neither for equal spreads nor for equal sizes; shares by Fisher's exact test,
//! and by Newcombe's interval, which holds also where hardly anybody did. Distributions come from `puruspe`.
//!
//! Source: B. L. Welch, "The generalization of 'Student's' problem when several different population variances are involved" (1947); R. G.
//! Newcombe, "Interval estimation for the difference between independent proportions" (1998), method 10; K. Pearson's chi-square for
//! the ratio of sizes.

use crate::audience::ops::profile::difference::{Part, significance};
use puruspe::{betai, gammq, invbetai, inverfc};
use std::f64::consts::SQRT_2;

/// Numbers of users, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many users.
    pub users: u64,
    /// Their mean; 0 of nobody.
    pub mean: f64,
    /// Sum of the squares of what they are away from it.
    pub squares: f64,
}

impl Summary {
    /// Of so many users who have so much together, in parts of which `unit` are 1. Their squares are still to be added.
    pub(super) fn of(users: u64, total: i128, unit: f64) -> Summary {
        // Divided once, so that the mean of equal numbers is that number.
        let mean = if users == 0 { 0.0 } else { total as f64 / (unit * users as f64) };
        Summary { users, mean, squares: 0.0 }
    }

    /// Adds the squares of so many users who have this number.
    pub(super) fn add(&mut self, number: f64, users: u64) {
        self.squares += users as f64 * (number - self.mean).powi(2);
    }

    /// The variance of the mean; `None` of fewer than two users.
    fn variance_of_mean(&self) -> Option<f64> {
        let users = self.users as f64;
        (self.users > 1).then(|| self.squares / (users - 1.0) / users)
    }

    /// The standard error of the mean; `None` of fewer than two users.
    pub fn error(&self) -> Option<f64> {
        self.variance_of_mean().map(f64::sqrt)
    }
}

/// A number, and between what it is with the confidence that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The number.
    pub estimate: f64,
    /// Not less.
    pub low: f64,
    /// Not more.
    pub high: f64,
}

/// A group against the control.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Its mean minus that of the control; `None` if there are too few users.
    pub difference: Option<Interval>,
    /// The same in parts of the control's mean; `None` also if that is 0 or less.
    pub relative: Option<Interval>,
    /// How likely means would be as far apart by chance alone; `None` if there are too few users.
    pub p_value: Option<f64>,
}

/// Compares means.
pub(super) fn means(group: &Summary, control: &Summary, confidence: f64) -> Comparison {
    let (Some(own), Some(others)) = (group.variance_of_mean(), control.variance_of_mean()) else {
        return Comparison::default();
    };
    let (difference, variance) = (group.mean - control.mean, own + others);
    if variance == 0.0 {
        // Nobody differs from the others of a group: there is nothing that chance could explain.
        let interval = Interval { estimate: difference, low: difference, high: difference };
        let p_value = if difference == 0.0 { 1.0 } else { 0.0 };
        return Comparison {
            difference: Some(interval),
            relative: relative(group, control, 0.0),
            p_value: Some(p_value),
        };
    }
    // Welch's degrees of freedom; those of the smaller group at least.
    let freedom =
        variance * variance / (own * own / (group.users as f64 - 1.0) + others * others / (control.users as f64 - 1.0));
    let error = variance.sqrt();
    let reach = student_quantile(freedom, confidence);
    let p_value = student_tails(freedom, difference / error);
    Comparison {
        difference: Some(Interval {
            estimate: difference,
            low: difference - reach * error,
            high: difference + reach * error,
        }),
        relative: relative(group, control, reach),
        p_value: Some(p_value),
    }
}

/// The difference in parts of the control's mean: its interval by the delta method.
fn relative(group: &Summary, control: &Summary, reach: f64) -> Option<Interval> {
    let (own, others) = (group.variance_of_mean()?, control.variance_of_mean()?);
    if control.mean <= 0.0 {
        return None;
    }
    let ratio = group.mean / control.mean;
    let error = (own + ratio * ratio * others).sqrt() / control.mean;
    let estimate = ratio - 1.0;
    Some(Interval { estimate, low: estimate - reach * error, high: estimate + reach * error })
}

/// Compares shares.
pub(super) fn shares(group: Part, control: Part, confidence: f64) -> Comparison {
    let Some(p_value) = significance(group, control) else { return Comparison::default() };
    let z = inverfc(1.0 - confidence) * SQRT_2;
    let ([low, high], [control_low, control_high]) = (wilson(group, z), wilson(control, z));
    let (own, others) = (group.share(), control.share());
    let difference = own - others;
    let interval = Interval {
        estimate: difference,
        low: difference - ((own - low).powi(2) + (control_high - others).powi(2)).sqrt(),
        high: difference + ((high - own).powi(2) + (others - control_low).powi(2)).sqrt(),
    };
    let summary = |part: Part| {
        let (count, of) = (part.count as f64, part.of as f64);
        Summary { users: part.of, mean: part.share(), squares: count * (of - count) / of }
    };
    let relative = relative(&summary(group), &summary(control), z);
    Comparison { difference: Some(interval), relative, p_value: Some(p_value) }
}

/// Wilson's interval of a share.
fn wilson(part: Part, z: f64) -> [f64; 2] {
    let (of, share, square) = (part.of as f64, part.share(), z * z);
    let middle = share + square / (2.0 * of);
    let reach = z * ((share * (1.0 - share) + square / (4.0 * of)) / of).sqrt();
    [-1.0, 1.0].map(|side| ((middle + side * reach) / (1.0 + square / of)).clamp(0.0, 1.0))
}

/// How likely groups would have sizes as far from what was planned by chance alone; `None` if there is nobody, or a single group.
pub(super) fn sample_ratio(users: &[u64], weights: &[f64]) -> Option<f64> {
    let (all, weight) = (users.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
    if all == 0.0 || users.len() < 2 {
        return None;
    }
    let term = |(users, own): (&u64, &f64)| {
        let expected = all * (own / weight);
        (*users as f64 - expected).powi(2) / expected
    };
    let distance: f64 = users.iter().zip(weights).map(term).sum();
    let freedom = users.len() as f64 - 1.0;
    Some(gammq(freedom / 2.0, distance / 2.0).clamp(0.0, 1.0))
}

/// How likely a number of Student's distribution is as far from 0 as this, at either side.
fn student_tails(freedom: f64, t: f64) -> f64 {
    let square = t * t;
    // Each side of the distribution is a fraction that converges fast where the other one does not.
    let tails = if square < 1.5 {
        1.0 - betai(0.5, freedom / 2.0, square / (freedom + square))
    } else {
        betai(freedom / 2.0, 0.5, freedom / (freedom + square))
    };
    tails.clamp(0.0, 1.0)
}

/// How far from 0 numbers of Student's distribution are at most, but for so rare ones as `confidence` says.
fn student_quantile(freedom: f64, confidence: f64) -> f64 {
    let x = invbetai(1.0 - confidence, freedom / 2.0, 0.5);
    (freedom * (1.0 - x) / x).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by, "{a}, not {b}");
    }

    #[test]
    fn means_are_compared_as_by_hand() {
        // Of equal lots and sizes Welch's test is Student's: 1, 2, 3 against 3, 4, 5 is t = -2.449 with 4 degrees, p = 0.0705.
        let told = means(&summary(&[1.0, 2.0, 3.0]), &summary(&[3.0, 4.0, 5.0]), 0.95);
        near(told.p_value.expect("enough"), 0.070_484, 1e-5);
        let difference = told.difference.expect("enough");
        near(difference.low, -2.0 - 2.776_445 * (2.0_f64 / 3.0).sqrt(), 1e-5);
        near(told.relative.expect("a mean").estimate, -0.5, 1e-12);
    }

    /// From tables of the distribution, which the normal one is the end of.
    #[test]
    fn students_distribution_is_that_of_tables() {
        for (freedom, quantile) in [
            (1.0, 12.706_205),
            (2.0, 4.302_653),
            (10.0, 2.228_139),
            (100.0, 1.983_972),
            (1e4, 1.960_201),
            (1e8, 1.959_964),
        ] {
            near(student_quantile(freedom, 0.95), quantile, 1e-5);
            near(student_tails(freedom, quantile), 0.05, 1e-6);
        }
        near(student_tails(1e6, 6.0), 1.973_9e-9, 1e-12);
        near(student_tails(30.0, 0.0), 1.0, 1e-12);
        // Close to 0 what is left out is the density there, 0.398942 for the normal distribution, times twice the number.
        for freedom in [1e3, 1e6, 2e7] {
            for t in [1e-6, 2e-4, 5e-3] {
                near(student_tails(freedom, t), 1.0 - 2.0 * 0.398_942 * t, 2e-6);
            }
            near(student_tails(freedom, 1.2), student_tails(freedom, 1.25), 0.02);
        }
    }

    fn summary(numbers: &[f64]) -> Summary {
        let total = numbers.iter().map(|number| (number * 100.0).round() as i128).sum();
        let mut summary = Summary::of(numbers.len() as u64, total, 100.0);
        numbers.iter().for_each(|number| summary.add(*number, 1));
        summary
    }

    #[test]
    fn equal_numbers_have_no_spread() {
        // 0.1 is no binary fraction: added up and divided it is another number.
        let (few, many) = (summary(&[0.1; 3]), summary(&[0.1; 1_000]));
        assert_eq!((few.squares, many.squares), (0.0, 0.0));
        assert_eq!(means(&few, &many, 0.95).p_value, Some(1.0));
        assert_eq!(Summary::of(0, 0, 1.0), Summary::default());
    }

    #[test]
    fn too_few_are_not_compared() {
        assert_eq!(means(&summary(&[1.0]), &summary(&[1.0, 2.0]), 0.95), Comparison::default());
        let told = means(&summary(&[2.0, 2.0]), &summary(&[1.0, 1.0]), 0.95);
        assert_eq!(told.p_value, Some(0.0));
        assert_eq!(means(&summary(&[0.0, 0.0]), &summary(&[0.0, 0.0]), 0.95).relative, None);
        assert_eq!(shares(Part { count: 0, of: 0 }, Part { count: 1, of: 2 }, 0.95), Comparison::default());
        assert_eq!(sample_ratio(&[0, 0], &[1.0, 1.0]), None);
        assert_eq!(sample_ratio(&[5], &[1.0]), None);
    }

    #[test]
    fn shares_are_compared_as_newcombe_does() {
        // The examples of the paper's table II: 56 of 70 against 48 of 80; 0 of 10 against 0 of 20; 10 of 10 against 0 of 10.
        for (group, control, low, high) in [
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((0, 10), (0, 20), -0.1611, 0.2775),
            ((10, 10), (0, 10), 0.6075, 1.0),
        ] {
            let part = |(count, of)| Part { count, of };
            let difference = shares(part(group), part(control), 0.95).difference.expect("somebody");
            near(difference.low, low, 6e-5);
            near(difference.high, high, 6e-5);
        }
    }

    #[test]
    fn sizes_that_were_not_planned_are_noticed() {
        // One degree of freedom: 3.841 is at 5 %.
        near(sample_ratio(&[5_098, 4_902], &[1.0, 1.0]).expect("somebody"), 0.05, 1e-3);
        near(sample_ratio(&[500, 500], &[1.0, 1.0]).expect("somebody"), 1.0, 1e-12);
        near(sample_ratio(&[900, 100], &[9.0, 1.0]).expect("somebody"), 1.0, 1e-12);
        assert!(sample_ratio(&[821_588, 815_482], &[1.0, 1.0]).expect("somebody") < 1e-5);
    }
}
