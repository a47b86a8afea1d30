//! Who is like whom: `similar_to(…)` with its names settled, and how many are meant.
//!
//! `similar_to` is a set of users of its own, whatever stands beside it in an expression. Its *candidates* are the users who fit
//! `within` (everybody, if it is left out), do not fit `exclude`, have a vector in the space, and are not of the seed, unless
//! `include_seed` is asked for. They stand in one order: by falling score, then shard, then slot. `size => n` are the first `n`
//! of them, all if there are fewer; `share => x` is the first part of them, rounded up to whole users. With `after`, which is
//! told in the same way, the first so many are passed over; so bands that follow each other neither overlap nor leave anybody
//! out.

use super::predicate::Predicate;
use crate::ids::TagId;
use crate::lookalike::recall::Probed;
use crate::lookalike::seeds::Method;
use std::fmt;

/// How deep `similar_to` may stand within `similar_to`.
pub const SIMILAR_DEPTH_MAX: usize = 4;

/// How many users, or what share of the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// This part of them.
    Share(Share),
}

/// A part of a whole, in billionths; from none to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

const WHOLE: u32 = 1_000_000_000;
/// Decimal places of a share.
const SHARE_SCALE: u8 = 9;

/// Which of the candidates, by their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    after: Option<Amount>,
    amount: Amount,
}

/// Why an extent cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExtentError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub suggestion: String,
}

impl Share {
    /// So many billionths; `None` if they are more than all.
    pub fn of_billionths(billionths: u32) -> Option<Share> {
        (billionths <= WHOLE).then_some(Share(billionths))
    }

    /// So much of `total`, rounded up.
    fn of(self, total: u64) -> u64 {
        (u128::from(total) * u128::from(self.0)).div_ceil(WHOLE.into()) as u64
    }
}

impl Amount {
    /// A count by its digits.
    ///
    /// # Errors
    /// [`ExtentError`] if they are no whole number.
    pub fn count_of(digits: &str) -> Result<Amount, ExtentError> {
        digits.parse().map(Amount::Count).map_err(|_| ExtentError {
            message: format!("{digits} is no number of users"),
            suggestion: "write size => 1000".to_owned(),
        })
    }

    /// A share by its digits.
    ///
    /// # Errors
    /// [`ExtentError`] if it is below 0, above 1, or told in more than nine decimal places.
    pub fn share_of(digits: &str) -> Result<Amount, ExtentError> {
        let exact = super::literal::decimal(digits, SHARE_SCALE).filter(|exact| exact.exact);
        let share = exact.and_then(|exact| u32::try_from(exact.floor).ok()).and_then(Share::of_billionths);
        share.map(Amount::Share).ok_or_else(|| ExtentError {
            message: format!("the share {digits} is not above 0 and at most 1, in at most nine decimal places"),
            suggestion: "write share => 0.02 for the most similar 2 %".to_owned(),
        })
    }

    fn of(self, total: u64) -> u64 {
        match self {
            Amount::Count(count) => count,
            Amount::Share(share) => share.of(total),
        }
    }

    fn is_zero(self) -> bool {
        matches!(self, Amount::Count(0) | Amount::Share(Share(0)))
    }
}

impl Extent {
    /// An amount from the first on, or behind those that `after` passes over.
    ///
    /// # Errors
    /// [`ExtentError`] if nobody is asked for, one is told as a count and the other as a share, or both come to more than all.
    pub fn new(amount: Amount, after: Option<Amount>) -> Result<Extent, ExtentError> {
        let refuse = |message: &str, suggestion: &str| {
            Err(ExtentError { message: message.to_owned(), suggestion: suggestion.to_owned() })
        };
        if amount.is_zero() {
            return refuse("nobody is asked for", "write size => 1000, or share => 0.02 for the most similar 2 %");
        }
        match (amount, after) {
            (Amount::Count(_), Some(Amount::Share(_))) => {
                refuse("size and after are told alike", "write after => 1000")
            }
            (Amount::Share(_), Some(Amount::Count(_))) => {
                refuse("share and after are told alike", "write after => 0.01")
            }
            (Amount::Share(share), Some(Amount::Share(after))) if share.0 > WHOLE - after.0 => {
                refuse("share and after come to more than 1", "the last 1 % is share => 0.01, after => 0.99")
            }
            _ => Ok(Extent { after: after.filter(|after| !after.is_zero()), amount }),
        }
    }

    /// How many are meant at most.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// How many come before.
    pub fn after(&self) -> Option<Amount> {
        self.after
    }

    /// From which place on and up to which, from 0, of so many candidates.
    pub fn places(&self, candidates: u64) -> std::ops::Range<u64> {
        let from = self.after.map_or(0, |after| after.of(candidates)).min(candidates);
        let to = match (self.amount, self.after) {
            // Rounded once, so that the next band begins where this one ends.
            (Amount::Share(Share(share)), Some(Amount::Share(Share(after)))) => Share(share + after).of(candidates),
            (amount, _) => from.saturating_add(amount.of(candidates)),
        };
        from..to.min(candidates)
    }

    /// At most so many, whoever the candidates are among `everybody`.
    pub(super) fn at_most(&self, everybody: u64) -> u64 {
        self.amount.of(everybody).min(everybody)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Share(share) => {
                let digits = super::plan::decimal_text(share.0.into(), SHARE_SCALE);
                f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

/// `size => 1000, after => 500`
impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if matches!(self.amount, Amount::Count(_)) { "size" } else { "share" };
        write!(f, "{name} => {}", self.amount)?;
        self.after.map_or(Ok(()), |after| write!(f, ", after => {after}"))
    }
}

/// Users like others, as a part of a predicate. All predicates in it are canonical.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Similar {
    /// The space.
    pub space: TagId,
    /// Like whom.
    pub seed: Predicate,
    /// A number tag by which users of the seed count for more; those without a number above 0 do not count.
    pub weights: Option<TagId>,
    /// How likeness is learned; `None`: whichever finds hidden users of the seed best.
    pub method: Option<Method>,
    /// Which of the candidates.
    pub extent: Extent,
    /// Candidates are of these.
    pub within: Predicate,
    /// And not of these.
    pub exclude: Predicate,
    /// Users of the seed are candidates, too.
    pub include_seed: bool,
    /// Vectors are scanned in full precision; else a few of many are looked for by cells, most likely the same.
    pub exact: bool,
}

impl Similar {
    /// The predicates in it.
    pub(super) fn inner(&self) -> [&Predicate; 3] {
        [&self.seed, &self.within, &self.exclude]
    }

    /// The same, to be changed.
    pub(super) fn inner_mut(&mut self) -> [&mut Predicate; 3] {
        [&mut self.seed, &mut self.within, &mut self.exclude]
    }

    /// How deep `similar_to` stands here, this one included.
    pub(super) fn depth(&self) -> usize {
        fn depth(predicate: &Predicate) -> usize {
            match predicate {
                Predicate::Similar(similar) => similar.depth(),
                Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
                    of.iter().map(depth).max().unwrap_or(0)
                }
                Predicate::Xor(a, b) => depth(a).max(depth(b)),
                Predicate::Not(of) => depth(of),
                _ => 0,
            }
        }
        1 + self.inner().into_iter().map(depth).max().unwrap_or(0)
    }
}

/// What finding similar users came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimilarStats {
    /// How likeness was learned.
    pub method: Method,
    /// Users of the seed.
    pub seed_users: u64,
    /// Those of them with a vector.
    pub seed_with_vector: u64,
    /// Users there were to choose from.
    pub candidates: u64,
    /// Vectors that were looked at in full precision.
    pub rescored: u64,
    /// Passes over the candidates; none if cells were looked into.
    pub passes: u32,
    /// How cells were looked into, if they were.
    pub probed: Option<Probed>,
    /// Whether ways of learning were tried on hidden users of the seed.
    pub was_tried: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(amount: Amount, after: Option<Amount>) -> Result<Extent, String> {
        Extent::new(amount, after).map_err(|error| format!("{error}; {}", error.suggestion))
    }

    fn share(digits: &str) -> Amount {
        Amount::share_of(digits).expect("a share")
    }

    #[test]
    fn what_is_no_extent_is_refused() {
        for digits in ["1.000000001", "-0.1", "2", "0.0000000001", "x"] {
            assert!(Amount::share_of(digits).is_err(), "{digits}");
        }
        for digits in ["-1", "1.5", "18446744073709551616"] {
            assert!(Amount::count_of(digits).is_err(), "{digits}");
        }
        assert!(extent(Amount::Count(0), None).is_err_and(|error| error.contains("nobody")));
        assert!(extent(share("0"), None).is_err_and(|error| error.contains("nobody")));
        assert!(extent(Amount::Count(1), Some(share("0.1"))).is_err_and(|error| error.contains("alike")));
        assert!(extent(share("0.1"), Some(Amount::Count(1))).is_err_and(|error| error.contains("alike")));
        assert!(extent(share("0.1"), Some(share("0.91"))).is_err_and(|error| error.contains("more than 1")));
        let band = extent(share("1e-2"), Some(share("0.99"))).expect("a band");
        assert_eq!(band.to_string(), "share => 0.01, after => 0.99");
        assert_eq!(extent(share("1"), Some(share("0"))).expect("all").to_string(), "share => 1");
        assert_eq!(extent(Amount::Count(7), Some(Amount::Count(3))).expect("a band").places(8), 3..8);
        assert_eq!(extent(Amount::Count(u64::MAX), Some(Amount::Count(9))).expect("a band").places(8), 8..8);
    }

    proptest! {
        #[test]
        fn bands_cover_everybody_once(candidates in 0..100_000_u64, cuts in proptest::collection::btree_set(1..WHOLE, 0..6)) {
            let cuts: Vec<u32> = [0].into_iter().chain(cuts).chain([WHOLE]).collect();
            let mut at = 0;
            for cut in cuts.windows(2) {
                let amount = |billionths| Amount::Share(Share::of_billionths(billionths).expect("at most all"));
                let places = Extent::new(amount(cut[1] - cut[0]), Some(amount(cut[0]))).expect("a band").places(candidates);
                prop_assert_eq!(places.start, at);
                prop_assert!(places.end >= at);
                at = places.end;
            }
            prop_assert_eq!(at, candidates);
        }
    }
}
