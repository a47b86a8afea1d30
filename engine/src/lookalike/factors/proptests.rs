use super::naive;
use super::tests::{learn, vector};
use super::*;
use crate::lookalike::random::Random;
use proptest::prelude::*;

/// Weights from nothing to the ends of what floats hold.
fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.5..20.0,
        1 => Just(0.0),
        1 => Just(-3.0),
        1 => Just(f64::MAX),
        1 => Just(f64::MIN_POSITIVE),
        1 => Just(f64::NAN),
        1 => Just(f64::NEG_INFINITY),
    ]
}

fn events(weight: impl Strategy<Value = f64>) -> impl Strategy<Value = Vec<(u32, u32, f64)>> {
    prop::collection::vec((0..12_u32, 0..9_u32, weight), 0..60)
}

proptest! {
    #[test]
    fn vectors_are_numbers_whatever_events_are(events in events(weight()), dimension in 1..12_usize) {
        match learn(&events, dimension) {
            Ok(factors) => {
                prop_assert!((0.0..=1.0).contains(&factors.learned().explained));
                for user in 0..13 {
                    if let Some(vector) = vector(&factors, &events, user) {
                        prop_assert!(vector.iter().all(|number| number.is_finite()), "{vector:?}");
                        prop_assert!(vector.iter().any(|number| *number != 0.0));
                    }
                }
                prop_assert_eq!(vector(&factors, &events, 12), None, "nobody");
            }
            Err(FactorError::Empty) => prop_assert!(naive::matrix(&events).is_empty()),
            Err(FactorError::Dimension { wanted, rank, items, users }) => {
                prop_assert!(wanted == dimension && rank < wanted && rank <= items.min(users));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    /// With all dimensions that there are, products of vectors are the square root of the rows' products, but for one factor: so
    /// their square is those.
    #[test]
    fn all_dimensions_tell_all(events in events(0.5..20.0)) {
        let rows = naive::matrix(&events);
        let factors = match learn(&events, 12) {
            Err(FactorError::Dimension { rank, .. }) => learn(&events, rank).expect("factors of this rank"),
            _ => return Ok(()),
        };
        prop_assert!(factors.learned().explained > 1.0 - 1e-6);
        let vectors: Vec<Vec<f64>> = rows
            .keys()
            .map(|user| vector(&factors, &events, *user).expect("a vector").into_iter().map(f64::from).collect())
            .collect();
        let rows: Vec<Vec<f64>> = rows.into_values().collect();
        let (expected, made) = (naive::products(&rows), naive::products(&naive::products(&vectors)));
        let factor = made[0][0] / expected[0][0];
        for (made, expected) in made.iter().flatten().zip(expected.iter().flatten()) {
            prop_assert!((made / factor - expected).abs() < 1e-3, "{made} / {factor} is not {expected}");
        }
    }

    #[test]
    fn the_order_of_events_does_not_matter(events in events(0.5..20.0), order in any::<u64>()) {
        let mut others = events.clone();
        Random::new(order).shuffle(&mut others);
        let (Ok(a), Ok(b)) = (learn(&events, 2), learn(&others, 2)) else { return Ok(()) };
        for user in 0..12 {
            prop_assert_eq!(vector(&a, &events, user), vector(&b, &others, user));
        }
    }
}
