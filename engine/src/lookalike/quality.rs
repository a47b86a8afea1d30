//! How well a ranking finds whom it should.

/// The area under the ROC curve: how likely a random positive has a better score than a random negative, ties counting half.
/// `None` if there are none of either. O(n log n).
///
/// Source: H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically larger than the
/// other" (1947): the sum of ranks.
pub fn area_under_curve(positives: &[f32], negatives: &[f32]) -> Option<f64> {
    if positives.is_empty() || negatives.is_empty() {
        return None;
    }
    let mut all: Vec<(f32, bool)> = positives.iter().map(|score| (*score, true)).collect();
    all.extend(negatives.iter().map(|score| (*score, false)));
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0_u64, 0.0);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let positive = tied.iter().filter(|(_, positive)| *positive).count() as u64;
        let negative = tied.len() as u64 - positive;
        wins += positive as f64 * (below as f64 + negative as f64 / 2.0);
        below += negative;
    }
    Some(wins / (positives.len() as f64 * negatives.len() as f64))
}

/// How much more often a hidden member is found among those chosen than by choosing as many at random: `found` of `hidden`
/// members, among `chosen` of `population` users. `None` if nothing was hidden or nobody chosen.
pub fn lift(found: u64, hidden: u64, chosen: u64, population: u64) -> Option<f64> {
    let expected = hidden as f64 * chosen as f64 / population as f64;
    (expected > 0.0).then(|| found as f64 / expected)
}

/// What share of `expected` is in `found`; `None` if nothing is expected. Both are sorted.
pub fn recall<T: Ord>(expected: &[T], found: &[T]) -> Option<f64> {
    debug_assert!(expected.is_sorted() && found.is_sorted(), "both are sorted");
    let common = expected.iter().filter(|item| found.binary_search(item).is_ok()).count();
    (!expected.is_empty()).then(|| common as f64 / expected.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes() {
        assert_eq!(area_under_curve(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(area_under_curve(&[0.0], &[1.0]), Some(0.0));
        assert_eq!(area_under_curve(&[1.0], &[1.0, 1.0]), Some(0.5));
        assert_eq!(area_under_curve(&[], &[1.0]), None);
        assert_eq!(lift(5, 10, 10, 100), Some(5.0));
        assert_eq!(lift(5, 0, 10, 100), None);
        assert_eq!(recall(&[1, 2, 3, 4], &[2, 4, 9]), Some(0.5));
        assert_eq!(recall::<u8>(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn area_is_the_share_of_pairs(
            positives in proptest::collection::vec(0..9_u8, 1..40),
            negatives in proptest::collection::vec(0..9_u8, 1..40),
        ) {
            let score = |from: &[u8]| -> Vec<f32> { from.iter().map(|score| f32::from(*score)).collect() };
            let mut wins = 0.0;
            for a in &positives {
                for b in &negatives {
                    wins += match a.cmp(b) {
                        std::cmp::Ordering::Less => 0.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Greater => 1.0,
                    };
                }
            }
            let expected = wins / (positives.len() * negatives.len()) as f64;
            let found = area_under_curve(&score(&positives), &score(&negatives)).expect("both are there");
            prop_assert!((found - expected).abs() < 1e-12);
        }
    }
}
