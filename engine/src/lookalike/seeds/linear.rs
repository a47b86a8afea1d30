//! A linear model that tells examples from the background: regularised logistic regression.
//!
//! Examples and background weigh the same in all, however many they are. Features are scaled by their mean square length, so that
//! the strength of the regularisation does not depend on the space. The loss is smooth and strictly convex, and is minimised by
//! Nesterov's accelerated gradient with the step that its curvature allows.
//!
//! Source: Y. Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k^2)" (1983); D. R. Cox,
//! "The regression analysis of binary sequences" (1958).

use super::{Examples, SeedError, Setting};

const ROUNDS_MAX: usize = 300;
/// Of the squared weights, against a mean loss that is at most log 2 where nothing is known.
const REGULARISATION: f64 = 1e-3;
/// Steps below this share of the weights change no order worth naming.
const DONE: f64 = 1e-4;

struct Row<'r> {
    vector: &'r [f32],
    is_example: bool,
    /// All weights add up to one.
    weight: f64,
}

/// The weights; what is added to all scores is left out.
pub(super) fn weights(
    setting: &Setting<'_>,
    examples: &Examples,
    background: &Examples,
) -> Result<Vec<f32>, SeedError> {
    let dimension = setting.dimension;
    let mut rows = Vec::new();
    for (of, is_example) in [(examples, true), (background, false)] {
        let count = of.len(dimension);
        let total: f64 = (0..count).map(|index| f64::from(of.weight(index))).sum();
        let made = of.vectors.chunks_exact(dimension).enumerate().map(|(index, vector)| Row {
            vector,
            is_example,
            weight: f64::from(of.weight(index)) / total / 2.0,
        });
        rows.extend(made);
    }
    let squares = |vector: &[f32]| vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>();
    let size: f64 = rows.iter().map(|row| row.weight * squares(row.vector)).sum();
    let scale = if size > 0.0 { 1.0 / size.sqrt() } else { 1.0 };
    // The curvature of the loss is at most a quarter of the mean square of a row with its constant, whose scaled mean is two.
    let step = 1.0 / (0.25 * 2.0 + REGULARISATION);
    // The last is the constant.
    let mut now = vec![0.0_f64; dimension + 1];
    let mut ahead = now.clone();
    for round in 0..ROUNDS_MAX {
        let slope = slope(setting, &rows, &ahead, scale)?;
        let next: Vec<f64> = ahead.iter().zip(&slope).map(|(at, slope)| at - step * slope).collect();
        let momentum = round as f64 / (round as f64 + 3.0);
        ahead = next.iter().zip(&now).map(|(next, now)| next + momentum * (next - now)).collect();
        let moved: f64 = next.iter().zip(&now).map(|(next, now)| (next - now).powi(2)).sum();
        let long: f64 = next.iter().map(|number| number.powi(2)).sum();
        now = next;
        if moved <= DONE * DONE * long {
            break;
        }
    }
    now.truncate(dimension);
    // Only the order of scores matters; length one keeps all spaces' weights far from the ends of single precision.
    let long = now.iter().map(|number| number.powi(2)).sum::<f64>().sqrt();
    Ok(now.iter().map(|number| if long > 0.0 { (number / long) as f32 } else { 0.0 }).collect())
}

/// The gradient of the loss.
fn slope(setting: &Setting<'_>, rows: &[Row<'_>], at: &[f64], scale: f64) -> Result<Vec<f64>, SeedError> {
    let (constant, weights) = at.split_last().expect("a constant stands behind the weights");
    let mut slope = vec![0.0; weights.len() + 1];
    for row in rows {
        setting.look()?;
        let product: f64 = row.vector.iter().zip(weights).map(|(number, weight)| f64::from(*number) * weight).sum();
        let likely = 1.0 / (1.0 + (-(product * scale + constant)).exp());
        let off = row.weight * (likely - f64::from(u8::from(row.is_example)));
        slope.iter_mut().zip(row.vector).for_each(|(slope, number)| *slope += off * scale * f64::from(*number));
        slope[weights.len()] += off;
    }
    slope.iter_mut().zip(weights).for_each(|(slope, weight)| *slope += REGULARISATION * weight);
    Ok(slope)
}
