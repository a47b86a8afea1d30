//! Numbers drawn the same way every time.
//!
//! Source: G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64.

/// A generator, begun with any number.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Below a bound, the lower ones more often: the first hundredth comes in a fifth of all cases.
    pub fn skewed(&mut self, bound: u64) -> u64 {
        let share = self.next() as f64 / u64::MAX as f64;
        ((share * share * share * bound as f64) as u64).min(bound - 1)
    }

    /// About normal: a sum of six.
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..6).map(|_| (self.next() >> 40) as f32 / (1_u64 << 24) as f32).sum();
        (sum - 3.0) * 1.414
    }
}
