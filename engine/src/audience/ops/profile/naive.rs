//! The same figures from their definitions.

use super::difference::Part;

/// Fisher's test: all tables with the same margins, one by one.
pub(in crate::audience::ops) fn significance(audience: Part, rest: Part) -> f64 {
    let ln_factorial = |n: u64| (1..=n).map(|k| (k as f64).ln()).sum::<f64>();
    let ln_choose = |n: u64, k: u64| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let (having, total) = (audience.count + rest.count, audience.of + rest.of);
    let probability = |count: u64| {
        let ln =
            ln_choose(having, count) + ln_choose(total - having, audience.of - count) - ln_choose(total, audience.of);
        ln.exp()
    };
    let possible = audience.of.saturating_sub(total - having)..=audience.of.min(having);
    let (mut below, mut above) = (0.0, 0.0);
    for count in possible {
        if count <= audience.count {
            below += probability(count);
        }
        if count >= audience.count {
            above += probability(count);
        }
    }
    (2.0 * f64::min(below, above)).min(1.0)
}

/// Benjamini and Hochberg: the least `p × tests / rank` of all that are as unlikely or less.
pub(in crate::audience::ops) fn q_values(p_values: &[f64]) -> Vec<f64> {
    let rank = |p: f64| p_values.iter().filter(|other| **other <= p).count() as f64;
    let raw = |p: f64| p * p_values.len() as f64 / rank(p);
    let least = |p: f64| p_values.iter().filter(|other| **other >= p).map(|other| raw(*other)).fold(1.0, f64::min);
    p_values.iter().map(|p| least(*p)).collect()
}
