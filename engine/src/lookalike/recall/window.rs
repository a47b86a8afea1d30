//! Where the last member's score is expected, by a sample.

use super::RecallError;
use super::candidates::Task;
use super::nearest::Search;
use crate::lookalike::random::Random;
use rayon::prelude::*;

/// Up to so many candidates, all are kept aside instead of a sample.
const UNSAMPLED: u64 = 1 << 15;
/// The largest sample, and how many candidates each of its members stands for at least.
const SAMPLE: (u64, u64) = (1 << 14, 32);

/// Between what scores the last member is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) floor: f32,
    pub(super) ceiling: f32,
}

impl Search<'_> {
    /// Scores between which the last member most likely is, by a sample of the candidates.
    pub(super) fn window(
        &self,
        tasks: &[Task],
        counts: &[u64],
        candidates: u64,
        size: u64,
    ) -> Result<Window, RecallError> {
        let open = Window { floor: f32::NEG_INFINITY, ceiling: f32::INFINITY };
        if candidates <= UNSAMPLED {
            return Ok(open);
        }
        let sample = (candidates / SAMPLE.1).clamp(1, SAMPLE.0);
        // One of each of as many equal parts, so that order does not matter, but it has no period either.
        let mut random = Random::new(candidates);
        let place = |index: u64| (u128::from(index) * u128::from(candidates) / u128::from(sample)) as u64;
        let mut picks = Vec::with_capacity(sample as usize);
        for index in 0..sample {
            let (from, to) = (place(index), place(index + 1));
            picks.push(from + random.below((to - from) as usize) as u64);
        }
        // Task, and the range of picks that fall into it.
        let (mut work, mut before, mut next) = (Vec::new(), 0, 0);
        for (task, count) in tasks.iter().zip(counts) {
            let end = next + picks[next..].partition_point(|pick| *pick < before + count);
            work.push((*task, before, next..end));
            (before, next) = (before + count, end);
        }
        let of = |(task, before, range): &(Task, u64, std::ops::Range<usize>)| {
            self.look()?;
            let (mut seen, mut picks) = (*before, picks[range.clone()].iter().peekable());
            let mut found = Vec::with_capacity(range.len());
            let (mut values, mut which, mut rows) = (Vec::new(), Vec::new(), Vec::new());
            self.candidates().list(*task, |chunk, listed| {
                rows.clear();
                while let Some(pick) = picks.next_if(|pick| **pick < seen + listed.rows.len() as u64) {
                    rows.push(listed.rows[(pick - seen) as usize]);
                }
                seen += listed.rows.len() as u64;
                self.score(chunk, &rows, &mut values, &mut which);
                found.extend(
                    rows.iter().zip(&values).map(|(row, value)| self.bounds(&chunk.scales[*row as usize], *value)),
                );
            });
            Ok(found)
        };
        let scored: Result<Vec<Vec<(f32, f32)>>, RecallError> = work.par_iter().map(of).collect();
        let (mut lowers, mut uppers): (Vec<f32>, Vec<f32>) = scored?.into_iter().flatten().unzip();
        // How many of the sample are members, and six standard deviations to either side.
        let rank = size as f64 * sample as f64 / candidates as f64;
        let slack = 6.0 * (rank * (1.0 - rank / sample as f64)).sqrt() + 8.0;
        let at = |scores: &mut Vec<f32>, rank: f64| {
            let index = rank as usize;
            (rank >= 0.0 && index < scores.len())
                .then(|| *scores.select_nth_unstable_by(index, |a, b| b.total_cmp(a)).1)
        };
        let floor = at(&mut lowers, rank + slack).unwrap_or(open.floor);
        let ceiling = at(&mut uppers, rank - slack).unwrap_or(open.ceiling);
        Ok(Window { floor, ceiling: ceiling.max(floor) })
    }
}
