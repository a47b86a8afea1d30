//! The inner loops over vectors, compiled for what the processor offers and chosen at run time.
//!
//! Quantised rows meet quantised *columns* (prototypes, or centres of cells): 16 rows are turned on their side once, so that a
//! register holds four dimensions of each, and then every column costs a multiplication a register and no sum across
//! lanes. Loops over single precision are written once, in plain Rust with 16 sums that are added up in a fixed order and never
//! fused; so all levels give the same bits (tested equal).

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use super::quantise::{Scale, low_of, step_of};

/// Sums that are kept apart in a product of single precision.
const LANES: usize = 16;

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Any processor; on AArch64 that includes NEON.
    Portable,
    /// AVX2.
    Avx2,
    /// AVX-512 with its products of bytes (VNNI).
    Avx512,
}

impl Level {
    /// The best level of this processor.
    pub(super) fn detect() -> Level {
        static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
        *LEVEL.get_or_init(Level::ask_processor)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn ask_processor() -> Level {
        Level::Portable
    }

    #[cfg(target_arch = "x86_64")]
    fn ask_processor() -> Level {
        let avx2 = is_x86_feature_detected!("avx2");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        match (avx2, avx512) {
            (true, true) => Level::Avx512,
            (true, false) => Level::Avx2,
            _ => Level::Portable,
        }
    }
}

/// Quantised rows: number `d` of row `r` is about `low + step * codes[r * dimension + d]`, by the row's scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) dimension: usize,
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [Scale],
}

/// Quantised columns, which rows are multiplied with: number `d` of column `c` is about `scale[c] * codes[c * stride + d]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// A multiple of four; the codes behind the dimension are zero.
    stride: usize,
    codes: Vec<i8>,
    pub(super) scale: Vec<f32>,
    /// Sum of the codes.
    sum: Vec<f32>,
    /// Added to the column's products.
    bias: Vec<f32>,
    /// All products are multiplied with it.
    factor: f32,
}

impl Columns {
    /// Of `columns` vectors one behind the other; the value of a row and a column is `factor` times their product, and the
    /// column's bias.
    pub(super) fn new(dimension: usize, columns: &[f32], factor: f32, bias: Vec<f32>) -> Self {
        let stride = dimension.next_multiple_of(4);
        let mut made = Columns { stride, bias, factor, ..Columns::default() };
        for column in columns.chunks_exact(dimension) {
            let most = column.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
            let scale = most / 127.0;
            // A column of zeros, or so short that its scale is, is zeros.
            let code = |number: &f32| if scale > 0.0 { (number / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
            let begin = made.codes.len();
            made.codes.extend(column.iter().map(code));
            made.sum.push(made.codes[begin..].iter().map(|code| i32::from(*code)).sum::<i32>() as f32);
            made.codes.resize(begin + stride, 0);
            made.scale.push(scale);
        }
        debug_assert_eq!(made.bias.len(), made.scale.len());
        made
    }

    pub(super) fn count(&self) -> usize {
        self.scale.len()
    }

    pub(super) fn codes(&self, column: usize) -> &[i8] {
        &self.codes[column * self.stride..][..self.stride]
    }

    /// The value of a product of codes.
    #[inline(always)]
    fn value(&self, column: usize, low: f32, step: f32, product: i32) -> f32 {
        (low * self.sum[column] + step * product as f32) * (self.scale[column] * self.factor) + self.bias[column]
    }
}

/// The greatest value of each listed row over all columns, and the first column that has it.
///
/// # Panics
/// If a row is not there, or the outputs are not as long as the list.
pub(super) fn best(level: Level, rows: Rows<'_>, list: &[u32], columns: &Columns, out: &mut [f32], which: &mut [u32]) {
    let count = rows.codes.len() / rows.dimension;
    assert!(list.iter().all(|row| (*row as usize) < count), "rows are in the block");
    assert!(rows.scales.len() >= count, "every row has a scale");
    assert!(out.len() == list.len() && which.len() == list.len(), "a value a row");
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for these features; the rows were checked above.
        Level::Avx512 => unsafe { x86::best_avx512(rows, list, columns, out, which) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::best_avx2(rows, list, columns, out, which) },
        _ => best_plain(rows, list, columns, out, which),
    }
}

#[inline(always)]
fn best_plain(rows: Rows<'_>, list: &[u32], columns: &Columns, out: &mut [f32], which: &mut [u32]) {
    for (at, row) in list.iter().enumerate() {
        let row = *row as usize;
        let codes = &rows.codes[row * rows.dimension..][..rows.dimension];
        let (low, step) = (low_of(&rows.scales[row]), step_of(&rows.scales[row]));
        (out[at], which[at]) = (f32::NEG_INFINITY, 0);
        for column in 0..columns.count() {
            let product = codes.iter().zip(columns.codes(column)).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            let value = columns.value(column, low, step, product);
            if value > out[at] {
                (out[at], which[at]) = (value, column as u32);
            }
        }
    }
}

/// How two vectors of single precision are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    /// Their product.
    Dot,
    /// The square of their distance, negative.
    L2,
}

/// The greatest similarity of each listed row to one of the `prototypes`; vectors of both lie one behind the other.
///
/// # Panics
/// If a row is not there.
pub(super) fn best_exact(
    level: Level,
    compare: Compare,
    vectors: &[[u8; 4]],
    list: &[u32],
    prototypes: &[f32],
    dimension: usize,
    out: &mut [f32],
) {
    assert!(list.len() == out.len(), "a value a row");
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level is only made by asking the processor for these features.
        Level::Avx512 => unsafe { x86::best_exact_avx512(compare, vectors, list, prototypes, dimension, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::best_exact_avx2(compare, vectors, list, prototypes, dimension, out) },
        _ => best_exact_plain(compare, vectors, list, prototypes, dimension, out),
    }
}

#[inline(always)]
fn best_exact_plain(
    compare: Compare,
    vectors: &[[u8; 4]],
    list: &[u32],
    prototypes: &[f32],
    dimension: usize,
    out: &mut [f32],
) {
    for (row, out) in list.iter().zip(out) {
        let vector = &vectors[*row as usize * dimension..][..dimension];
        let mut most = f32::NEG_INFINITY;
        // A loop, since what an iterator calls is not compiled for the level.
        for prototype in prototypes.chunks_exact(dimension) {
            most = most.max(match compare {
                Compare::Dot => summed(vector, prototype, |a, b| a * b),
                Compare::L2 => -summed(vector, prototype, |a, b| (a - b) * (a - b)),
            });
        }
        // Of the two zeros, either may be the greater: adding zero makes both the positive one.
        *out = most + 0.0;
    }
}

/// Asks memory for what is read soon.
#[inline]
pub(super) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// The sum over all dimensions, in [`LANES`] sums and then by halves.
#[inline(always)]
fn summed(a: &[[u8; 4]], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += term(f32::from_le_bytes(a[lane]), b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += term(f32::from_le_bytes(*a), *b);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}
