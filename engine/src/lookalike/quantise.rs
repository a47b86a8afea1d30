//! A vector in a byte a dimension, and what stands beside the bytes.
//!
//! ```text
//! codes    u8 a dimension    number d is about low + step * code[d]
//! scale    low f32 | step f32 | norm f32: the vector's length | error u16: the length of what the codes leave out, in
//!          1/65,535 of half the norm, rounded up; all little-endian
//! ```
//!
//! Codes are 256 even steps from a vector's least number to its greatest. So they leave out at most `step * sqrt(dimension) / 2`;
//! since a step is at most `2 * norm / 255`, that is a quarter of the norm at the most dimensions there are, and about a
//! hundredth for vectors as they come. A vector so costs its dimension and 14 bytes to be scanned.

use super::vector::norm;

/// Bytes that stand beside a vector's codes.
pub const SCALE_BYTES: usize = 14;

/// What stands beside a vector's codes, as bytes.
pub type Scale = [u8; SCALE_BYTES];

/// What errors are counted in, of the norm.
const ERROR_PART: f64 = 0.5 / 65_535.0;

/// Appends the codes of a vector, and answers its scale.
pub fn quantise(vector: &[f32], codes: &mut Vec<u8>) -> Scale {
    // Which of +0 and -0 is the least depends on the processor; the sum is +0 of both, so bytes are the same everywhere.
    let low = vector.iter().copied().fold(f32::INFINITY, f32::min) + 0.0;
    let high = vector.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let step = ((f64::from(high) - f64::from(low)) / 255.0) as f32;
    let mut squares = 0.0_f64;
    for number in vector {
        let above = f64::from(*number) - f64::from(low);
        let code = if step > 0.0 { (above / f64::from(step)).round().clamp(0.0, 255.0) } else { 0.0 };
        squares += (above - code * f64::from(step)).powi(2);
        codes.push(code as u8);
    }
    let length = norm(vector) as f32;
    let parts = if length > 0.0 { (squares.sqrt() / f64::from(length) / ERROR_PART).ceil() } else { 0.0 };
    let mut scale = [0; SCALE_BYTES];
    for (at, number) in [low, step, length].into_iter().enumerate() {
        scale[at * 4..][..4].copy_from_slice(&number.to_le_bytes());
    }
    scale[12..].copy_from_slice(&(parts as u16).to_le_bytes());
    scale
}

/// Whether two scales say the same: as numbers, since files of earlier releases may have a least number of -0.
pub(crate) fn is_same_scale(a: &Scale, b: &Scale) -> bool {
    low_of(a) == low_of(b) && a[4..] == b[4..]
}

fn number(scale: &Scale, at: usize) -> f32 {
    f32::from_le_bytes([scale[at], scale[at + 1], scale[at + 2], scale[at + 3]])
}

/// The number that code 0 stands for.
#[inline]
pub(super) fn low_of(scale: &Scale) -> f32 {
    number(scale, 0)
}

/// What the next code stands for more.
#[inline]
pub(super) fn step_of(scale: &Scale) -> f32 {
    number(scale, 4)
}

/// The vector's length.
#[inline]
pub(super) fn norm_of(scale: &Scale) -> f32 {
    number(scale, 8)
}

#[inline]
fn parts_of(scale: &Scale) -> u16 {
    u16::from_le_bytes([scale[12], scale[13]])
}

/// At least the length of what the codes leave out, of the norm.
#[inline]
pub(super) fn error_of(scale: &Scale) -> f64 {
    f64::from(parts_of(scale)) * ERROR_PART
}

/// The greatest norm and error among vectors, each for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Most {
    norm: f32,
    parts: u16,
}

impl Most {
    /// Among vectors with these scales.
    pub fn among<'s>(scales: impl IntoIterator<Item = &'s Scale>) -> Most {
        let more = |most: Most, scale: &Scale| Most {
            norm: most.norm.max(norm_of(scale)),
            parts: most.parts.max(parts_of(scale)),
        };
        scales.into_iter().fold(Most::default(), more)
    }

    /// As one number, to be kept in a file.
    pub fn to_number(self) -> i64 {
        i64::from(self.norm.to_bits()) << 16 | i64::from(self.parts)
    }

    /// Of such a number; `None` if it is none.
    pub fn of_number(number: i64) -> Option<Most> {
        let norm = f32::from_bits(u32::try_from(number >> 16).ok()?);
        (norm >= 0.0).then_some(Most { norm, parts: number as u16 })
    }

    pub(super) fn norm(self) -> f32 {
        self.norm
    }

    /// Of the norm.
    pub(super) fn error(self) -> f64 {
        f64::from(self.parts) * ERROR_PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookalike::DIMENSIONS;
    use crate::lookalike::random::Random;

    #[test]
    fn what_is_left_out_is_known() {
        let mut random = Random::new(7);
        for dimension in [2, 3, 64, 100, usize::from(*DIMENSIONS.end())] {
            for kind in 0..4 {
                let size = 10.0_f32.powi(random.below(30) as i32 - 15);
                let vector: Vec<f32> = (0..dimension)
                    .map(|at| match kind {
                        0 => size,
                        1 => {
                            if at == 0 {
                                size
                            } else {
                                0.0
                            }
                        }
                        // Two numbers at the ends and all others half a step off: the worst there is.
                        2 => size * if at < 2 { [-127.5, 127.5][at] } else { 0.0 },
                        _ => size * (random.unit() as f32 - 0.4),
                    })
                    .collect();
                let mut codes = Vec::new();
                let scale = quantise(&vector, &mut codes);
                let about = |code: u8| f64::from(low_of(&scale)) + f64::from(step_of(&scale)) * f64::from(code);
                let left = vector.iter().zip(&codes).map(|(number, code)| (f64::from(*number) - about(*code)).powi(2));
                let (left, norm) = (left.sum::<f64>().sqrt(), f64::from(norm_of(&scale)));
                let error = error_of(&scale) * norm;
                assert!(left <= error * (1.0 + 1e-6), "{dimension} {kind}: {left} {error}");
                assert!(error <= left + 1e-5 * norm, "{dimension} {kind}: {left} {error}");
                assert!(error_of(&scale) < 0.26, "{dimension} {kind}");
            }
        }
    }

    #[test]
    fn zeros_of_either_sign_are_scanned_alike() {
        let bytes = |vector: [f32; 3]| {
            let mut codes = Vec::new();
            (quantise(&vector, &mut codes), codes)
        };
        let plain = bytes([0.0, 0.0, 1.0]);
        for vector in [[-0.0, 0.0, 1.0], [0.0, -0.0, 1.0], [-0.0, -0.0, 1.0]] {
            assert_eq!(bytes(vector), plain);
        }
        let mut of_minus_zero = plain.0;
        of_minus_zero[..4].copy_from_slice(&(-0.0_f32).to_le_bytes());
        assert!(of_minus_zero != plain.0 && is_same_scale(&of_minus_zero, &plain.0));
        assert!(!is_same_scale(&plain.0, &bytes([0.5, 0.0, 1.0]).0));
    }

    #[test]
    fn the_most_of_several() {
        let scales: Vec<Scale> =
            [[3.0, 4.0], [0.1, 0.0], [1.0, 1.0]].iter().map(|vector| quantise(vector, &mut Vec::new())).collect();
        let most = Most::among(&scales);
        assert_eq!(most.norm(), 5.0);
        assert!(scales.iter().all(|scale| error_of(scale) <= most.error()));
        assert_eq!(Most::of_number(most.to_number()), Some(most));
        assert_eq!(Most::of_number(Most::default().to_number()), Some(Most::default()));
        assert_eq!(Most::of_number(-1), None);
        assert_eq!(Most::of_number(i64::from(f32::NAN.to_bits()) << 16), None);
    }
}
