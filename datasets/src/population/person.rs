//! One person from a seed and an index.

use super::AS_OF;
use super::tables::*;
use crate::random::{Choice, Random, mix};

const DAY_MICROS: i64 = 86_400_000_000;
const HOUR_MICROS: i64 = 3_600_000_000;
/// How far the clocks of the population are ahead of UTC.
pub(super) const UTC_OFFSET_MICROS: i64 = 8 * HOUR_MICROS;
/// The first registrations came so many days before [`AS_OF`].
const OLDEST_DAYS: u32 = 1825;
const SPEND_CENTS_MIN: f64 = 990.0;
const SPEND_CENTS_MAX: f64 = 999_999_999.0;

/// A person; names are positions in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) gender: Option<u8>,
    pub(super) age: Option<u8>,
    pub(super) province: u8,
    /// From 1.
    pub(super) city_tier: u8,
    pub(super) language: u8,
    pub(super) device: Option<u8>,
    pub(super) channel: u8,
    /// A bit per interest.
    pub(super) interests: u64,
    /// A bit per category.
    pub(super) categories: u32,
    pub(super) is_member: bool,
    pub(super) ads_consent: bool,
    pub(super) spend_cents: Option<i64>,
    pub(super) orders: u32,
    pub(super) registered_at: i64,
    pub(super) last_active_at: i64,
}

/// The id of the user of this index: 16 hexadecimal digits, without visible order, never the same for two indexes.
pub(super) fn user_id(index: u64) -> [u8; 16] {
    let scattered = mix(index.wrapping_add(0x5eed));
    std::array::from_fn(|at| b"0123456789abcdef"[(scattered >> (60 - 4 * at)) as usize & 15])
}

/// The tables, ready to draw from.
#[derive(Debug)]
pub(super) struct Generator {
    gender: Choice,
    age: Choice,
    province: Choice,
    tiers: Vec<Choice>,
    languages: Vec<Choice>,
    devices: Vec<Choice>,
    channel: Choice,
    recency: Choice,
    hour: Choice,
    /// Per gender (unknown last) and age band, the share of each interest in 65,536ths.
    interests: [[[u16; 48]; 6]; 3],
    /// Per category, its share in 65,536ths, and the interests that triple it.
    categories: [(u16, u64); 24],
}

impl Generator {
    pub(super) fn new() -> Self {
        let weights = |rows: &[&[u32]]| rows.iter().map(|row| Choice::new(row.iter().copied())).collect();
        Generator {
            gender: Choice::new(GENDER_WEIGHTS),
            age: Choice::new(AGE_WEIGHTS),
            province: Choice::new(PROVINCES.map(|province| province.1)),
            tiers: weights(&TIER_WEIGHTS.each_ref().map(<[u32; 5]>::as_slice)),
            languages: weights(&LANGUAGE_WEIGHTS.each_ref().map(<[u32; 7]>::as_slice)),
            devices: weights(&DEVICE_WEIGHTS.each_ref().map(<[u32; 6]>::as_slice)),
            channel: Choice::new(CHANNEL_WEIGHTS),
            recency: Choice::new(RECENCY.map(|bucket| bucket.2)),
            hour: Choice::new(HOUR_WEIGHTS),
            interests: std::array::from_fn(|gender| std::array::from_fn(|band| interest_shares(gender, band))),
            categories: CATEGORIES.map(|(_, permille, likes)| (share(permille), mask_of(likes))),
        }
    }

    pub(super) fn person(&self, seed: u64, index: u64) -> Person {
        let random = &mut Random::of(seed, index);
        let gender = self.gender.draw(random);
        let age = random.below(1000).ge(&150).then(|| AGE_MIN + self.age.draw(random) as u32);
        let province = self.province.draw(random);
        let (_, _, tiers, languages) = PROVINCES[province];
        let tier = self.tiers[tiers].draw(random);
        let device = self.devices[tier].draw(random);
        let interests = self.draw_interests(gender, age, random);
        let is_buyer = random.chance(if tier < 2 { 420 } else { 330 });
        let spend_cents = is_buyer.then(|| power_law(random));
        let orders = spend_cents.map_or(0, |cents| 1 + (cents / i64::from(4_000 + random.below(16_000))) as u32);
        let (registered_at, last_active_at) = self.draw_times(random);
        Person {
            gender: (gender < GENDERS.len()).then_some(gender as u8),
            age: age.map(|age| age as u8),
            province: province as u8,
            city_tier: tier as u8 + 1,
            language: self.languages[languages].draw(random) as u8,
            device: (device < DEVICES.len()).then_some(device as u8),
            channel: self.channel.draw(random) as u8,
            interests,
            categories: self.draw_categories(interests, is_buyer, random),
            is_member: random.chance((60 + 45 * orders).min(900)),
            ads_consent: random.chance(720),
            spend_cents,
            orders,
            registered_at,
            last_active_at,
        }
    }

    fn draw_interests(&self, gender: usize, age: Option<u32>, random: &mut Random) -> u64 {
        let band = age.map_or(2, |age| AGE_BAND_STARTS.partition_point(|start| *start <= age) - 1);
        let shares = &self.interests[gender][band];
        // A quarter of the users gives no sign of any interest, as in real logs.
        if random.chance(250) {
            return 0;
        }
        draw_mask(shares.iter().copied(), random)
    }

    fn draw_categories(&self, interests: u64, is_buyer: bool, random: &mut Random) -> u32 {
        if !is_buyer && random.chance(700) {
            return 0;
        }
        let shares = self.categories.iter().map(
            |(share, likes)| {
                if likes & interests != 0 { share.saturating_mul(3) } else { *share }
            },
        );
        draw_mask(shares, random) as u32
    }

    /// When the user registered and was last active, both at or before [`AS_OF`].
    fn draw_times(&self, random: &mut Random) -> (i64, i64) {
        // The smaller of two: registrations grew.
        let days_ago = random.below(OLDEST_DAYS).min(random.below(OLDEST_DAYS));
        let registered_at = self.moment(days_ago, random);
        let (from, to, _) = RECENCY[self.recency.draw(random)];
        let last_active_at = self.moment(from + random.below(to - from), random);
        (registered_at, last_active_at.max(registered_at))
    }

    /// A moment of the day that begins `days_ago + 1` days before [`AS_OF`], by the clock's weights.
    fn moment(&self, days_ago: u32, random: &mut Random) -> i64 {
        let hour = self.hour.draw(random) as i64;
        let second = i64::from(random.below(3600));
        let in_day = (hour * 3600 + second) * 1_000_000 - UTC_OFFSET_MICROS;
        let day = AS_OF - (i64::from(days_ago) + 1) * DAY_MICROS;
        day + in_day.rem_euclid(DAY_MICROS)
    }
}

/// Cents by a power law with exponent 4/3 (the square roots are exact on every machine).
pub(super) fn power_law(random: &mut Random) -> i64 {
    let root = random.unit().sqrt();
    (SPEND_CENTS_MIN / (root * root.sqrt())).min(SPEND_CENTS_MAX) as i64
}

/// A bit per share, set with that probability in 65,536ths.
fn draw_mask(shares: impl Iterator<Item = u16>, random: &mut Random) -> u64 {
    let (mut mask, mut draws) = (0, 0u64);
    for (bit, share) in shares.enumerate() {
        if bit % 4 == 0 {
            draws = random.next();
        }
        mask |= u64::from((draws as u16) < share) << bit;
        draws >>= 16;
    }
    mask
}

fn share(permille: u32) -> u16 {
    (permille * 65_536 / 1000).min(60_000) as u16
}

fn interest_shares(gender: usize, band: usize) -> [u16; 48] {
    INTERESTS.map(|(_, permille, women, men, ages)| {
        let by_gender = [women, men, 100][gender];
        share(permille * by_gender / 100 * ages[band] / 100)
    })
}

fn mask_of(likes: &[&str]) -> u64 {
    let position = |name: &&str| INTERESTS.iter().position(|interest| interest.0 == *name);
    likes.iter().map(|name| 1u64 << position(name).expect("a test checks the names")).sum()
}
