//! How an audience differs from others, and how surely.
//!
//! An audience is compared with the *rest*: the members of the baseline who are not in it. Two samples that share nobody can be tested
//! as they are, whether the audience is part of the baseline, overlaps it or lies beside it.
//!
//! * **p-value** of a share: Fisher's exact test, two-sided by doubling the smaller tail; no approximation, whatever the counts. Point
//!   probabilities by Loader's saddle-point expansion, tails by the ratio of neighbours, which takes some standard deviations of steps.
//! * **p-value** of numbers: Kolmogorov and Smirnov's test of two samples, with Stephens' correction.
//! * **q-value**: Benjamini and Hochberg's step-up over all tests of a profile. Of what has a q-value of at most 0.05, one in twenty is
//!   expected to be chance.
//! * **distinction**: what is most telling comes first. It is the nearer end of the 95 % confidence interval of Cohen's *h*, the difference
//!   of the arcsines of the shares' roots: a large audience makes a small difference sure, and not large, while in a small one a
//!   large difference may be chance. Unlike a ratio of shares it does not put what hardly anybody has before everything else, and
//!   unlike a difference of shares it sets 1 % apart from 0.01 %.
//!
//! Sources: R. A. Fisher, *Statistical Methods for Research Workers* (1934), section 21.02; C. Loader, *Fast and Accurate Computation of
//! Binomial Probabilities* (2000); Y. Benjamini and Y. Hochberg, *J. R. Stat. Soc. B* 57 (1995), 289–300; J. Cohen, *Statistical Power
//! Analysis for the Behavioral Sciences* (1988), chapter 6; M. A. Stephens, *J. R. Stat. Soc. B* 32 (1970), 115–122.

use std::f64::consts::TAU;

/// The greatest q-value of what is told as distinguishing.
pub const Q_MAX: f64 = 0.05;
/// Half of a 95 % confidence interval, in standard errors.
const DEVIATIONS: f64 = 1.959_964;
/// A tail ends where what is added is no more than this part of it.
const NEGLIGIBLE: f64 = 1e-14;

/// How surely and how far an audience differs from the rest of its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// How likely chance alone makes a difference as large, if the audience is drawn blindly: from 0 (less than can be written) to 1.
    pub p_value: f64,
    /// The same, corrected for the number of differences that were looked at.
    pub q_value: f64,
    /// How far apart the shares are at least, from -π to π: above 0 if it is more frequent in the audience, below if it is
    /// less frequent; 0 unless `q_value` is at most [`Q_MAX`]. As Cohen's h: 0.2 is little, 0.5 can be seen, 0.8 is much.
    pub distinction: f64,
}

/// Some of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Some.
    pub count: u64,
    /// Of so many.
    pub of: u64,
}

impl Part {
    /// As a number from 0 to 1; 0 of nobody.
    pub fn share(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.count as f64 / self.of as f64 }
    }
}

/// Fisher's exact test of two shares, two-sided; `None` if there is nobody on one side.
///
/// Takes about as many steps as some standard deviations of the count, at most some thousand for ten million users.
pub fn significance(audience: Part, rest: Part) -> Option<f64> {
    if audience.of == 0 || rest.of == 0 {
        return None;
    }
    let [count, size] = [audience.count, audience.of].map(|number| number as f64);
    let (having, total) = (count + rest.count as f64, size + rest.of as f64);
    let lacking = total - having;
    let point = ln_hypergeometric(count, size, having, total).exp();
    // The tail away from the mean, in units of the point's probability; the other one begins with the same point.
    let is_upper = count * total >= size * having;
    let (mut sum, mut term, mut at) = (1.0, 1.0, count);
    loop {
        let next = if is_upper { at + 1.0 } else { at };
        // From next - 1 to next.
        let ratio = (having - next + 1.0) * (size - next + 1.0) / (next * (lacking - size + next));
        term *= if is_upper { ratio } else { 1.0 / ratio };
        // At the end of what is possible the ratio is nothing, or of nothing.
        if !term.is_finite() || term <= sum * NEGLIGIBLE {
            break;
        }
        sum += term;
        at += if is_upper { 1.0 } else { -1.0 };
    }
    let tail = point * sum;
    let other = 1.0 - tail + point;
    Some((2.0 * tail.min(other)).clamp(0.0, 1.0))
}

/// Kolmogorov and Smirnov's test of two samples whose distribution functions are so far apart; `None` if one is empty. For numbers that
/// repeat it is on the safe side.
pub fn distance_significance(distance: f64, sizes: [u64; 2]) -> Option<f64> {
    if sizes.contains(&0) {
        return None;
    }
    let [a, b] = sizes.map(|size| size as f64);
    let root = (a * b / (a + b)).sqrt();
    let scaled = (root + 0.12 + 0.11 / root) * distance;
    // Below, the series converges slowly, to 1.
    if scaled < 0.2 {
        return Some(1.0);
    }
    let term = |k: i32| (-2.0 * f64::from(k * k) * scaled * scaled).exp() * if k % 2 == 1 { 2.0 } else { -2.0 };
    Some((1..=100).map(term).sum::<f64>().clamp(0.0, 1.0))
}

/// Benjamini and Hochberg's q-values of p-values, in the same order.
pub fn q_values(p_values: &[f64]) -> Vec<f64> {
    let mut falling: Vec<usize> = (0..p_values.len()).collect();
    falling.sort_by(|a, b| p_values[*b].total_cmp(&p_values[*a]));
    let mut q_values = vec![1.0; p_values.len()];
    let mut least: f64 = 1.0;
    for (before, index) in falling.iter().enumerate() {
        let rank = p_values.len() - before;
        least = least.min(p_values[*index] * p_values.len() as f64 / rank as f64);
        q_values[*index] = least;
    }
    q_values
}

/// See [`Difference::distinction`].
pub fn distinction(audience: Part, rest: Part, q_value: f64) -> f64 {
    let [root, other] = [audience, rest].map(|part| part.share().sqrt().asin());
    let h = 2.0 * (root - other);
    let error = (1.0 / audience.of as f64 + 1.0 / rest.of as f64).sqrt();
    let at_least = h.abs() - DEVIATIONS * error;
    if q_value <= Q_MAX && at_least > 0.0 { at_least.copysign(h) } else { 0.0 }
}

/// The logarithm of the probability that of `size` users drawn of `total` exactly `count` are of the `having` ones.
fn ln_hypergeometric(count: f64, size: f64, having: f64, total: f64) -> f64 {
    let share = size / total;
    ln_binomial(count, having, share) + ln_binomial(size - count, total - having, share)
        - ln_binomial(size, total, share)
}

/// The logarithm of the probability of exactly `count` of `of`, each with this probability, which is neither 0 nor 1.
fn ln_binomial(count: f64, of: f64, probability: f64) -> f64 {
    if count == 0.0 {
        return of * (-probability).ln_1p();
    }
    if count == of {
        return of * probability.ln();
    }
    let rest = of - count;
    stirling_error(of)
        - stirling_error(count)
        - stirling_error(rest)
        - deviance(count, of * probability)
        - deviance(rest, of * (1.0 - probability))
        - 0.5 * (TAU * count * (rest / of)).ln()
}

/// What Stirling's formula lacks: `ln n! - ln(√(2πn) (n/e)^n)`.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        let factorial: f64 = (2..=n as u32).map(f64::from).product();
        return factorial.ln() - 0.5 * (TAU * n).ln() - n * n.ln() + n;
    }
    let square = n * n;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square) / square)
        / n
}

/// `x ln(x / mean) + mean - x`, also where `x` is close to the mean and the terms cancel out.
fn deviance(x: f64, mean: f64) -> f64 {
    let relative = (x - mean) / (x + mean);
    if relative.abs() >= 0.1 {
        return x * (x / mean).ln() + mean - x;
    }
    let square = relative * relative;
    let mut sum = (x - mean) * relative;
    let mut power = 2.0 * x * relative;
    for odd in (3..).step_by(2) {
        power *= square;
        let next = sum + power / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;
    use proptest::prelude::*;

    fn part(count: u64, of: u64) -> Part {
        Part { count, of }
    }

    fn is_close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1e-300)
    }

    proptest! {
        #[test]
        fn shares_are_tested_as_by_adding_up_all_tables(size in 1..300u64, rest in 1..300u64, a in 0..=100u64, b in 0..=100u64) {
            let (audience, rest) = (part(size * a / 100, size), part(rest * b / 100, rest));
            let (told, expected) = (significance(audience, rest).expect("of some"), naive::significance(audience, rest));
            prop_assert!(is_close(told, expected), "{told} instead of {expected}");
        }

        #[test]
        fn corrected_values_are_those_of_the_definition(p_values in prop::collection::vec(0.0..=1.0f64, 0..30)) {
            let (told, expected) = (q_values(&p_values), naive::q_values(&p_values));
            prop_assert!(told.iter().zip(&expected).all(|(told, expected)| is_close(*told, *expected)), "{told:?} instead of {expected:?}");
        }
    }

    #[test]
    fn large_tables_are_exact_too() {
        // Added up in decimals of 60 digits.
        let known = [
            (part(45, 100), part(60, 150), 5.127_485_284_130e-1),
            (part(3, 7), part(1, 9), 3.846_153_846_154e-1),
            (part(450_000, 1_000_000), part(4_048_000, 9_000_000), 6.724_834_105_242e-1),
            (part(500_500, 1_000_000), part(4_496_000, 9_000_000), 7.330_877_876_096e-2),
            (part(30, 1_000), part(200_000, 9_999_000), 4.145_462_514_006e-2),
            (part(1, 2), part(1_000_000, 9_000_000), 4.197_534_156_378e-1),
            (part(5_003, 2_000_000), part(12_000, 5_000_000), 1.428_380_185_181e-2),
        ];
        for (audience, rest, expected) in known {
            let told = significance(audience, rest).expect("of some");
            assert!((told / expected - 1.0).abs() < 1e-9, "{audience:?} {rest:?}: {told} instead of {expected}");
        }
        assert_eq!(
            significance(part(1_000_000, 2_000_000), part(10, 8_000_000)),
            Some(0.0),
            "less than can be written"
        );
        assert_eq!(significance(part(0, 0), part(1, 2)), None);
        assert_eq!(significance(part(1, 2), part(0, 0)), None);
        assert_eq!(significance(part(2, 2), part(3, 3)), Some(1.0), "everybody has it");
        assert_eq!(significance(part(0, 2), part(0, 3)), Some(1.0), "nobody has it");
    }

    #[test]
    fn the_distance_of_numbers_has_the_known_limits() {
        // The quantiles of Kolmogorov's distribution that tables hold, for samples so large that the correction is nothing.
        for (scaled, expected) in [(1.2238, 0.10), (1.3581, 0.05), (1.6276, 0.01)] {
            let size = 1u64 << 40;
            let root = (size as f64 / 2.0).sqrt();
            let told = distance_significance(scaled / root, [size; 2]).expect("of some");
            assert!((told - expected).abs() < 1e-4, "{told} instead of {expected}");
        }
        assert_eq!(distance_significance(0.0, [5, 5]), Some(1.0));
        assert_eq!(distance_significance(0.5, [0, 5]), None);
    }

    #[test]
    fn what_is_sure_and_large_distinguishes_most() {
        let q = 0.01;
        let of = |count, size, rest_count, rest| distinction(part(count, size), part(rest_count, rest), q);
        assert!(of(600, 1000, 5_000, 10_000) > 0.0 && of(400, 1000, 5_000, 10_000) < 0.0);
        assert!(is_close(of(600, 1000, 5_000, 10_000), -of(400, 1000, 5_000, 10_000)), "having it, and lacking it");
        assert!(of(600, 1000, 5_000, 10_000) > of(60, 100, 500, 1_000), "the same shares, of more users");
        assert_eq!(of(3, 5, 5_000, 10_000), 0.0, "so few may be chance");
        assert!(of(950, 1000, 5_000, 10_000) > of(3, 1000, 1, 10_000), "most have it, against hardly anybody");
        assert!(of(10, 1000, 1, 10_000) > of(510, 1000, 5_000, 10_000), "1 % against 0.01 %, and 51 % against 50 %");
        assert_eq!(distinction(part(600, 1000), part(5_000, 10_000), 0.06), 0.0, "not sure");
    }
}
