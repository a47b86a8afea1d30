//! The slow twin: dense matrices, written as the head of the module says it, and the power method.

use std::collections::BTreeMap;

/// Rows of users with an item, by user, as they are decomposed.
pub(super) fn matrix(events: &[(u32, u32, f64)]) -> BTreeMap<u32, Vec<f64>> {
    let mut sums: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for (user, item, weight) in events.iter().filter(|event| event.2.is_finite()) {
        let sum = sums.entry((*user, *item)).or_default();
        *sum = (*sum + weight).clamp(f64::MIN, f64::MAX);
    }
    sums.retain(|_, weight| *weight > 0.0);
    let mean = sums.values().map(|weight| weight.ln()).sum::<f64>() / sums.len() as f64;
    let width = sums.keys().map(|key| key.1 as usize + 1).max().unwrap_or(0);
    let mut users: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut have = vec![0.0; width];
    for ((user, item), weight) in &sums {
        let over = weight.ln() - mean;
        // Beyond what floats hold, one more is nothing.
        users.entry(*user).or_insert_with(|| vec![0.0; width])[*item as usize] =
            if over > 600.0 { over } else { (1.0 + over.exp()).ln() };
        have[*item as usize] += 1.0;
    }
    let count = users.len() as f64;
    for row in users.values_mut() {
        for (number, have) in row.iter_mut().zip(&have) {
            *number *= if *have > 0.0 { (1.0 + count / have).ln() } else { 0.0 };
        }
        let length = row.iter().map(|number| number * number).sum::<f64>().sqrt();
        row.iter_mut().for_each(|number| *number /= if length > 0.0 { length } else { 1.0 });
    }
    users
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The share of the squares that the first directions hold.
pub(super) fn explained(rows: &[Vec<f64>], dimension: usize) -> f64 {
    let width = rows[0].len();
    let mut rest = rows.to_vec();
    let all: f64 = rows.iter().map(|row| product(row, row)).sum();
    let mut held = 0.0;
    for direction in 0..dimension {
        let mut vector: Vec<f64> = (0..width).map(|at| 1.0 + ((at * 7 + direction * 3) % 11) as f64).collect();
        let mut square = 0.0;
        for _ in 0..3_000 {
            let mut next = vec![0.0; width];
            for row in &rest {
                let along = product(row, &vector);
                next.iter_mut().zip(row).for_each(|(next, number)| *next += along * number);
            }
            square = product(&next, &next).sqrt();
            if square == 0.0 {
                break;
            }
            next.iter_mut().for_each(|number| *number /= square);
            vector = next;
        }
        held += square;
        for row in &mut rest {
            let along = product(row, &vector);
            row.iter_mut().zip(&vector).for_each(|(number, part)| *number -= along * part);
        }
    }
    held / all
}

/// All products of rows with rows.
pub(super) fn products(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    rows.iter().map(|a| rows.iter().map(|b| product(a, b)).collect()).collect()
}
