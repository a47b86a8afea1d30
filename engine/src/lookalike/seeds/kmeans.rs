//! Centres of clusters.
//!
//! Under cosine, vectors have length one and so have centres (spherical k-means); else they are means. First centres are drawn
//! far from each other, then moved until nobody changes sides.
//!
//! Source: S. P. Lloyd, "Least squares quantization in PCM" (1982); D. Arthur and S. Vassilvitskii, "k-means++: the advantages of
//! careful seeding" (2007); I. S. Dhillon and D. S. Modha, "Concept decompositions for large sparse text data using clustering"
//! (2001).

use super::{Examples, SeedError, Setting};
use crate::lookalike::random::Random;
use crate::lookalike::vector::{Metric, norm};

const ROUNDS_MAX: usize = 25;
/// Few centres may end where they should not, two in one cluster: so they are drawn anew, and the best of several tries is taken.
/// With many centres that matters less, and takes longer.
const TRIES_MAX: usize = 8;
/// Rows times centres of all tries.
const TRIES_WORK: usize = 1 << 18;

/// At most `count` centres: fewer, if there are fewer different examples.
pub(super) fn centres(setting: &Setting<'_>, examples: &Examples, count: usize) -> Result<Vec<Vec<f32>>, SeedError> {
    let dimension = setting.dimension;
    let rows: Vec<&[f32]> = examples.vectors.chunks_exact(dimension).collect();
    if count == 1 {
        return Ok(vec![mean(setting, examples, &rows, |_| true).unwrap_or_else(|| vec![0.0; dimension])]);
    }
    let tries = (TRIES_WORK / (rows.len() * count)).clamp(1, TRIES_MAX);
    let mut best: Option<(f64, Vec<Vec<f32>>)> = None;
    for attempt in 0..tries {
        let seed = setting.random_seed.wrapping_add(attempt as u64);
        let made = moved(setting, examples, &rows, first(setting, examples, &rows, count, seed)?)?;
        if best.as_ref().is_none_or(|best| made.0 < best.0) {
            best = Some(made);
        }
    }
    Ok(best.map(|(_, centres)| centres).unwrap_or_default())
}

/// Moves centres until nobody changes sides; also answers the weighted sum of squared distances to them.
fn moved(
    setting: &Setting<'_>,
    examples: &Examples,
    rows: &[&[f32]],
    mut centres: Vec<Vec<f32>>,
) -> Result<(f64, Vec<Vec<f32>>), SeedError> {
    let mut sides = vec![usize::MAX; rows.len()];
    let mut total = 0.0;
    for _ in 0..ROUNDS_MAX {
        let mut changed = false;
        total = 0.0;
        for (index, (row, side)) in rows.iter().zip(&mut sides).enumerate() {
            setting.look()?;
            let (now, distance) = nearest(row, &centres);
            total += distance * f64::from(examples.weight(index));
            changed |= now != *side;
            *side = now;
        }
        if !changed {
            break;
        }
        for (index, centre) in centres.iter_mut().enumerate() {
            // A centre that nobody is near, or whose examples cancel out, stays where it is.
            if let Some(made) = mean(setting, examples, rows, |row| sides[row] == index) {
                *centre = made;
            }
        }
    }
    Ok((total, centres))
}

/// Draws examples, each with a likelihood as the square of its distance to the nearest drawn before.
fn first(
    setting: &Setting<'_>,
    examples: &Examples,
    rows: &[&[f32]],
    count: usize,
    random_seed: u64,
) -> Result<Vec<Vec<f32>>, SeedError> {
    let mut random = Random::new(random_seed);
    let mut centres = vec![rows[random.below(rows.len())].to_vec()];
    let mut distances = vec![f64::INFINITY; rows.len()];
    while centres.len() < count {
        let last = &centres[centres.len() - 1..];
        let mut total = 0.0;
        for (index, distance) in distances.iter_mut().enumerate() {
            setting.look()?;
            *distance = distance.min(nearest(rows[index], last).1);
            total += *distance * f64::from(examples.weight(index));
        }
        let mut left = random.unit() * total;
        let drawn = distances.iter().enumerate().position(|(index, distance)| {
            left -= distance * f64::from(examples.weight(index));
            left < 0.0
        });
        // Nobody is left who is not a centre.
        let Some(drawn) = drawn else { break };
        centres.push(rows[drawn].to_vec());
    }
    Ok(centres)
}

/// The nearest centre, and the square of the distance to it.
fn nearest(row: &[f32], centres: &[Vec<f32>]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (index, centre) in centres.iter().enumerate() {
        let mut sums = [0.0_f32; 16];
        let ((a, a_rest), (b, b_rest)) = (row.as_chunks::<16>(), centre.as_chunks::<16>());
        for (a, b) in a.iter().zip(b) {
            for lane in 0..16 {
                sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
        let distance = f64::from(sums.iter().sum::<f32>() + rest);
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best
}

/// The weighted mean of some examples; of length one under cosine. `None` if there are none, or they have no direction.
fn mean(
    setting: &Setting<'_>,
    examples: &Examples,
    rows: &[&[f32]],
    is_meant: impl Fn(usize) -> bool,
) -> Option<Vec<f32>> {
    let (mut sums, mut total) = (vec![0.0_f64; setting.dimension], 0.0);
    for (index, row) in rows.iter().enumerate().filter(|(index, _)| is_meant(*index)) {
        let weight = f64::from(examples.weight(index));
        total += weight;
        sums.iter_mut().zip(*row).for_each(|(sum, number)| *sum += weight * f64::from(*number));
    }
    if total == 0.0 {
        return None;
    }
    let made: Vec<f32> = sums.iter().map(|sum| (sum / total) as f32).collect();
    // What is left of opposites is rounding.
    let long = norm(&made);
    match setting.metric {
        Metric::Cosine if long < 1e-6 => None,
        Metric::Cosine => Some(made.iter().map(|number| (f64::from(*number) / long) as f32).collect()),
        _ => Some(made),
    }
}
