//! What the population is made of: names and shares. Shares of provinces follow the 2020 census in ten thousands; the
//! others are plausible for a shopping application.

/// Provinces: name, weight, which row of [`TIER_WEIGHTS`], which row of [`LANGUAGE_WEIGHTS`].
pub(super) const PROVINCES: [(&str, u32, usize, usize); 34] = [
    ("guangdong", 12601, 1, 0),
    ("shandong", 10153, 2, 0),
    ("henan", 9937, 2, 0),
    ("jiangsu", 8475, 1, 0),
    ("sichuan", 8367, 2, 0),
    ("hebei", 7461, 2, 0),
    ("hunan", 6644, 2, 0),
    ("zhejiang", 6457, 1, 0),
    ("anhui", 6103, 2, 0),
    ("hubei", 5775, 2, 0),
    ("guangxi", 5013, 2, 0),
    ("yunnan", 4721, 2, 0),
    ("jiangxi", 4519, 2, 0),
    ("liaoning", 4259, 2, 0),
    ("fujian", 4154, 1, 0),
    ("shaanxi", 3953, 2, 0),
    ("guizhou", 3856, 2, 0),
    ("shanxi", 3492, 2, 0),
    ("chongqing", 3205, 1, 0),
    ("heilongjiang", 3185, 2, 0),
    ("xinjiang", 2585, 2, 2),
    ("gansu", 2502, 2, 0),
    ("shanghai", 2487, 0, 0),
    ("jilin", 2407, 2, 0),
    ("neimenggu", 2405, 2, 0),
    ("taiwan", 2356, 1, 1),
    ("beijing", 2189, 0, 0),
    ("tianjin", 1387, 1, 0),
    ("hainan", 1008, 2, 0),
    ("hongkong", 747, 0, 1),
    ("ningxia", 720, 2, 0),
    ("qinghai", 592, 2, 0),
    ("xizang", 365, 2, 3),
    ("macau", 68, 1, 1),
];

/// Weights of the city tiers 1 to 5: metropolis, rich coast, inland.
pub(super) const TIER_WEIGHTS: [[u32; 5]; 3] = [[80, 14, 3, 2, 1], [20, 34, 22, 14, 10], [0, 22, 28, 28, 22]];

pub(super) const LANGUAGES: [&str; 7] = ["zh-hans", "zh-hant", "en", "ug", "bo", "ja", "ko"];
/// Weights of the languages: mainland, Hong Kong, Macau and Taiwan, Xinjiang, Tibet.
pub(super) const LANGUAGE_WEIGHTS: [[u32; 7]; 4] = [
    [9600, 60, 240, 5, 5, 40, 50],
    [600, 8400, 900, 0, 0, 60, 40],
    [6600, 20, 80, 3280, 5, 5, 10],
    [3900, 10, 60, 5, 6000, 10, 15],
];

pub(super) const GENDERS: [&str; 2] = ["f", "m"];
/// Weights of the genders and of unknown.
pub(super) const GENDER_WEIGHTS: [u32; 3] = [46, 42, 12];

pub(super) const DEVICES: [&str; 5] = ["android", "ios", "harmonyos", "web", "tablet"];
/// Weights of the devices, and of unknown, by city tier.
pub(super) const DEVICE_WEIGHTS: [[u32; 6]; 5] =
    [[36, 42, 12, 5, 3, 2], [45, 33, 12, 5, 2, 3], [54, 24, 12, 5, 2, 3], [62, 16, 12, 5, 1, 4], [68, 10, 12, 5, 1, 4]];

pub(super) const CHANNELS: [&str; 6] = ["organic", "search", "feed", "app_store", "referral", "offline"];
pub(super) const CHANNEL_WEIGHTS: [u32; 6] = [30, 22, 24, 14, 7, 3];

pub(super) const AGE_MIN: u32 = 16;
/// Weights of the ages from [`AGE_MIN`] on, five years a row.
pub(super) const AGE_WEIGHTS: [u32; 65] = [
    10, 14, 18, 22, 26, // 16 to 20
    30, 33, 35, 37, 38, // to 25
    39, 40, 40, 39, 38, // to 30
    37, 36, 35, 33, 32, // to 35
    31, 29, 28, 27, 26, // to 40
    25, 24, 23, 22, 21, // to 45
    20, 19, 18, 17, 17, // to 50
    16, 15, 14, 13, 12, // to 55
    11, 10, 9, 8, 8, // to 60
    7, 6, 6, 5, 5, // to 65
    4, 4, 3, 3, 2, // to 70
    2, 2, 2, 1, 1, // to 75
    1, 1, 1, 1, 1, // to 80
];

/// First ages of the bands that interests depend on; unknown ages count as the third.
pub(super) const AGE_BAND_STARTS: [u32; 6] = [0, 22, 28, 36, 46, 58];

/// How an interest depends on the age band, in percent of its base.
const YOUNG: [u32; 6] = [190, 160, 110, 60, 35, 20];
const GROWN: [u32; 6] = [40, 90, 140, 130, 90, 60];
const MIDDLE: [u32; 6] = [30, 60, 110, 150, 140, 110];
const OLD: [u32; 6] = [20, 35, 60, 110, 180, 230];
const EVEN: [u32; 6] = [100, 100, 100, 100, 100, 100];

/// Interests: name, share in per mille, percent for women, percent for men, by age.
pub(super) const INTERESTS: [(&str, u32, u32, u32, [u32; 6]); 48] = [
    ("music", 260, 105, 95, YOUNG),
    ("movies", 240, 105, 95, EVEN),
    ("food", 230, 110, 90, EVEN),
    ("travel", 190, 110, 90, GROWN),
    ("games", 180, 55, 145, YOUNG),
    ("fashion", 170, 150, 50, YOUNG),
    ("news", 160, 80, 120, MIDDLE),
    ("beauty", 150, 175, 25, YOUNG),
    ("finance", 130, 70, 130, MIDDLE),
    ("parenting", 130, 140, 60, GROWN),
    ("fitness", 120, 95, 105, GROWN),
    ("cooking", 120, 140, 60, MIDDLE),
    ("football", 110, 35, 165, GROWN),
    ("basketball", 110, 40, 160, YOUNG),
    ("cars", 110, 35, 165, GROWN),
    ("technology", 105, 50, 150, GROWN),
    ("pets", 100, 120, 80, GROWN),
    ("anime", 95, 90, 110, YOUNG),
    ("running", 90, 90, 110, GROWN),
    ("reading", 90, 115, 85, EVEN),
    ("photography", 80, 95, 105, GROWN),
    ("home_decor", 80, 135, 65, GROWN),
    ("education", 75, 115, 85, GROWN),
    ("health", 75, 115, 85, OLD),
    ("yoga", 65, 170, 30, GROWN),
    ("coffee", 65, 115, 85, GROWN),
    ("cycling", 60, 60, 140, GROWN),
    ("swimming", 60, 100, 100, EVEN),
    ("real_estate", 55, 80, 120, MIDDLE),
    ("dancing", 55, 160, 40, OLD),
    ("badminton", 50, 90, 110, EVEN),
    ("hiking", 50, 95, 105, MIDDLE),
    ("esports", 50, 25, 175, YOUNG),
    ("stocks", 45, 45, 155, MIDDLE),
    ("tea", 45, 80, 120, OLD),
    ("gardening", 40, 115, 85, OLD),
    ("camping", 40, 85, 115, GROWN),
    ("fishing", 35, 10, 190, OLD),
    ("tennis", 30, 90, 110, GROWN),
    ("skiing", 28, 90, 110, GROWN),
    ("wine", 25, 70, 130, MIDDLE),
    ("calligraphy", 20, 90, 110, OLD),
    ("military", 20, 10, 190, MIDDLE),
    ("golf", 12, 45, 155, MIDDLE),
    ("astronomy", 10, 70, 130, YOUNG),
    ("sailing", 5, 50, 150, MIDDLE),
    ("horse_riding", 4, 130, 70, GROWN),
    ("falconry", 1, 40, 160, MIDDLE),
];

/// Categories a user buys from: name, share in per mille, the interests (by name) that make it three times as likely.
pub(super) const CATEGORIES: [(&str, u32, &[&str]); 24] = [
    ("groceries", 240, &["food", "cooking"]),
    ("snacks", 200, &["food", "movies"]),
    ("womenswear", 130, &["fashion", "beauty"]),
    ("cosmetics", 110, &["beauty"]),
    ("household", 110, &["home_decor"]),
    ("phones", 100, &["technology"]),
    ("shoes", 95, &["running", "basketball", "football"]),
    ("menswear", 90, &[]),
    ("baby", 70, &["parenting"]),
    ("toys", 60, &["parenting", "anime"]),
    ("sportswear", 60, &["fitness", "yoga", "running"]),
    ("books", 60, &["reading", "education"]),
    ("computers", 50, &["games", "technology", "esports"]),
    ("appliances", 50, &["home_decor", "cooking"]),
    ("drinks", 50, &["coffee", "tea", "wine"]),
    ("medicine", 45, &["health"]),
    ("pet_food", 40, &["pets"]),
    ("furniture", 30, &["home_decor", "real_estate"]),
    ("travel", 30, &["travel", "skiing"]),
    ("outdoor", 25, &["camping", "hiking", "cycling", "fishing"]),
    ("cameras", 15, &["photography"]),
    ("jewellery", 15, &["fashion"]),
    ("car_parts", 12, &["cars"]),
    ("instruments", 6, &["music"]),
];

/// How long ago a user was active: days from, days to, weight.
pub(super) const RECENCY: [(u32, u32, u32); 9] = [
    (0, 1, 18),
    (1, 3, 14),
    (3, 7, 14),
    (7, 14, 10),
    (14, 30, 12),
    (30, 60, 11),
    (60, 120, 9),
    (120, 240, 7),
    (240, 720, 5),
];

/// Activity by hour of the day in China (UTC+8): a dip at night, a bump at noon, a peak in the evening.
pub(super) const HOUR_WEIGHTS: [u32; 24] =
    [26, 14, 8, 5, 5, 8, 18, 32, 44, 50, 52, 54, 66, 58, 50, 48, 48, 52, 60, 74, 90, 98, 82, 50];
