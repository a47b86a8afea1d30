//! All levels of the processor against the plainest loops.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn levels() -> impl Iterator<Item = Level> {
    [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|level| *level <= Level::detect())
}

fn bytes(numbers: &[f32]) -> Vec<[u8; 4]> {
    numbers.iter().map(|number| number.to_le_bytes()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn levels_agree_to_the_bit(
        dimension in prop_oneof![2..140_usize, Just(64), Just(128), Just(4_096)],
        count in 1..40_usize,
        columns in 1..20_usize,
        seed in any::<u64>(),
        list in vec(any::<u32>(), 0..70),
    ) {
        let mut random = crate::lookalike::random::Random::new(seed);
        let codes: Vec<u8> = (0..count * dimension).map(|_| random.next() as u8).collect();
        let mut floats = |len: usize| -> Vec<f32> { (0..len).map(|_| random.unit() as f32 - 0.5).collect() };
        let scale = |(low, step): (f32, f32)| -> Scale {
            let mut scale = [0; 14];
            scale[..4].copy_from_slice(&low.to_le_bytes());
            scale[4..8].copy_from_slice(&step.to_le_bytes());
            scale
        };
        let scales: Vec<Scale> = floats(count).into_iter().zip(floats(count)).map(scale).collect();
        let (prototypes, bias, vectors) = (floats(columns * dimension), floats(columns), bytes(&floats(count * dimension)));
        let list: Vec<u32> = list.iter().map(|row| row % count as u32).collect();
        let made = Columns::new(dimension, &prototypes, 2.0, bias);
        let rows = Rows { dimension, codes: &codes, scales: &scales };
        let (mut expected, mut which) = (Vec::new(), Vec::new());
        for row in &list {
            let row = *row as usize;
            let values: Vec<f32> = (0..columns).map(|column| {
                let product: i64 = (0..dimension)
                    .map(|d| i64::from(codes[row * dimension + d]) * i64::from(made.codes(column)[d]))
                    .sum();
                made.value(column, low_of(&scales[row]), step_of(&scales[row]), product as i32)
            }).collect();
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            expected.push(most);
            which.push(values.iter().position(|value| *value == most).expect("one is the greatest") as u32);
        }
        let mut exact = Vec::new();
        for level in levels() {
            let (mut values, mut indexes) = (vec![7.0; list.len()], vec![7; list.len()]);
            best(level, rows, &list, &made, &mut values, &mut indexes);
            prop_assert_eq!(&values, &expected, "{:?}", level);
            prop_assert_eq!(&indexes, &which, "{:?}", level);
            for compare in [Compare::Dot, Compare::L2] {
                let mut values = vec![7.0; list.len()];
                best_exact(level, compare, &vectors, &list, &prototypes, dimension, &mut values);
                exact.push((compare, values));
            }
        }
        for (compare, values) in &exact {
            let (_, first) = exact.iter().find(|(other, _)| other == compare).expect("portable");
            prop_assert_eq!(first, values);
            for (row, value) in list.iter().zip(values) {
                let row = &vectors[*row as usize * dimension..][..dimension];
                let of = |prototype: &[f32]| -> f64 {
                    let pairs = row.iter().zip(prototype).map(|(a, b)| (f64::from(f32::from_le_bytes(*a)), f64::from(*b)));
                    match compare {
                        Compare::Dot => pairs.map(|(a, b)| a * b).sum(),
                        Compare::L2 => -pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>(),
                    }
                };
                let naive = prototypes.chunks(dimension).map(of).fold(f64::NEG_INFINITY, f64::max);
                prop_assert!((naive - f64::from(*value)).abs() <= 1e-6 * dimension as f64, "{} {}", naive, value);
            }
        }
    }
}
