//! The nearest of many centres, without looking at all of them.
//!
//! Centres are put into groups, each into the few that it is nearest to; a vector is compared with all groups, and then with the centres of
//! its nearest group. A vector at the edge of a group meets the centres at the other side of the edge, too, so it is seldom given the
//! second nearest, which costs a little recall and nothing else.

use super::clustering::Clustering;
use crate::lookalike::kernels::{Columns, Level, Rows, best};
use crate::lookalike::quantise::{Scale, quantise};
use crate::lookalike::random::Random;
use crate::lookalike::vector::{Metric, norm};

/// Groups that a centre is put into.
const GROUPS_PER_CENTRE: usize = 4;
/// Up to so many centres are one group.
const ONE_GROUP: usize = 512;

#[derive(Debug)]
pub(super) struct Finder {
    groups: Columns,
    /// Of each group, its centres and which they are.
    centres: Vec<(Columns, Vec<u32>)>,
}

impl Finder {
    /// Of centres, of which there are some.
    pub(super) fn new(metric: Metric, dimension: usize, centres: &[Vec<f32>]) -> Self {
        let columns = |of: &[u32]| columns(metric, dimension, of.iter().map(|centre| &centres[*centre as usize]));
        let all: Vec<u32> = (0..centres.len() as u32).collect();
        if centres.len() <= ONE_GROUP {
            return Finder { groups: Columns::default(), centres: vec![(columns(&all), all)] };
        }
        let count = (centres.len() * GROUPS_PER_CENTRE).isqrt();
        let mut codes = Vec::new();
        let scales: Vec<Scale> = centres.iter().map(|centre| quantise(centre, &mut codes)).collect();
        let clustering = Clustering { metric, dimension, codes: &codes, scales: &scales };
        let middles = clustering.moved(&(0..centres.len()).collect::<Vec<_>>(), count, &mut Random::new(count as u64));
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); middles.len()];
        let mut near: Vec<(f32, usize)> = Vec::new();
        for (centre, numbers) in centres.iter().enumerate() {
            near.clear();
            near.extend(middles.iter().enumerate().map(|(group, middle)| (nearness(metric, numbers, middle), group)));
            near.select_nth_unstable_by(GROUPS_PER_CENTRE - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            near[..GROUPS_PER_CENTRE].iter().for_each(|(_, group)| members[*group].push(centre as u32));
        }
        let groups = middles.iter().zip(&members).filter(|(_, members)| !members.is_empty()).map(|(middle, _)| middle);
        let groups = self::columns(metric, dimension, groups);
        members.retain(|members| !members.is_empty());
        Finder { groups, centres: members.into_iter().map(|members| (columns(&members), members)).collect() }
    }

    /// The nearest centre of each of some vectors, one behind the other.
    pub(super) fn nearest(&self, rows: Rows<'_>) -> Vec<u32> {
        let count = rows.scales.len();
        let list: Vec<u32> = (0..count as u32).collect();
        let (mut values, mut which) = (vec![0.0; count], vec![0; count]);
        let mut of_groups: Vec<Vec<u32>> = vec![Vec::new(); self.centres.len()];
        if self.centres.len() == 1 {
            of_groups[0] = list;
        } else {
            best(Level::detect(), rows, &list, &self.groups, &mut values, &mut which);
            list.iter().zip(&which).for_each(|(row, group)| of_groups[*group as usize].push(*row));
        }
        let mut nearest = vec![0; count];
        for (list, (columns, names)) in of_groups.iter().zip(&self.centres).filter(|(list, _)| !list.is_empty()) {
            let (values, which) = (&mut values[..list.len()], &mut which[..list.len()]);
            best(Level::detect(), rows, list, columns, values, which);
            list.iter().zip(which).for_each(|(row, at)| nearest[*row as usize] = names[*at as usize]);
        }
        nearest
    }
}

/// The greater, the nearer.
fn nearness(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    match metric {
        Metric::Cosine => product / (norm(b) as f32).max(f32::MIN_POSITIVE),
        Metric::Dot | Metric::L2 => product - (norm(b).powi(2) / 2.0) as f32,
    }
}

/// Centres as what vectors are multiplied with: the greatest value is that of the nearest.
pub(super) fn columns<'c>(metric: Metric, dimension: usize, centres: impl Iterator<Item = &'c Vec<f32>>) -> Columns {
    let (mut numbers, mut biases) = (Vec::new(), Vec::new());
    for centre in centres {
        let long = norm(centre);
        match metric {
            // The angle decides, however long the vector is.
            Metric::Cosine if long > 0.0 => {
                numbers.extend(centre.iter().map(|number| (f64::from(*number) / long) as f32));
                biases.push(0.0);
            }
            _ => {
                numbers.extend_from_slice(centre);
                biases.push((-long * long / 2.0) as f32);
            }
        }
    }
    Columns::new(dimension, &numbers, 1.0, biases)
}
