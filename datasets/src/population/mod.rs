//! A generated ad population: deterministic, and any user computable from the seed and its index alone, so that any
//! range can be made by anybody in any order.
//!
//! It has what real populations have and uniform random data lacks: skewed provinces, interests that depend on gender and
//! age, categories that follow interests, spend by a power law, most users long inactive, activity by the hour of the
//! day, and unknown values. The head of `tables` lists the shares.

mod files;
mod live;
mod person;
pub mod purchases;
mod tables;
pub mod vectors;

pub use live::LiveUpdates;

use crate::user::{User, Value};
use engine::catalog::{Catalog, TagType, Unit};
use engine::ids::TagId;
use engine::update::{Change, UpdateBatch};
use person::{Generator, Person};
use std::ops::Range;
use std::sync::OnceLock;
use tables::{CATEGORIES, CHANNELS, DEVICES, GENDERS, INTERESTS, LANGUAGES, PROVINCES};

/// The point in time at which the population is as it is: 2026-11-01T00:00:00Z, in microseconds since 1970.
pub const AS_OF: i64 = 1_793_491_200_000_000;

pub(crate) const TAGS: [(&str, TagType); 15] = [
    ("gender", TagType::Enum),
    ("age", TagType::Number(Unit::Integer)),
    ("province", TagType::Enum),
    ("city_tier", TagType::Number(Unit::Integer)),
    ("language", TagType::Enum),
    ("device", TagType::Enum),
    ("channel", TagType::Enum),
    ("interest", TagType::Set),
    ("category", TagType::Set),
    ("is_member", TagType::Flag),
    ("ads_consent", TagType::Flag),
    ("spend", TagType::Number(Unit::Decimal { scale: 2 })),
    ("orders", TagType::Number(Unit::Integer)),
    ("registered_at", TagType::Number(Unit::Timestamp)),
    ("last_active_at", TagType::Number(Unit::Timestamp)),
];

/// A population.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    /// The seed; the same seed gives the same users for good.
    pub seed: u64,
    /// How many users.
    pub user_count: u64,
}

fn generator() -> &'static Generator {
    static GENERATOR: OnceLock<Generator> = OnceLock::new();
    GENERATOR.get_or_init(Generator::new)
}

impl Population {
    /// The user of this index.
    pub fn user(&self, index: u64) -> User {
        let person = generator().person(self.seed, index);
        let id = String::from_utf8(person::user_id(index).to_vec()).expect("hexadecimal digits are text");
        User { id, values: values(&person) }
    }

    /// The users of a range of indexes.
    pub fn users(&self, range: Range<u64>) -> impl Iterator<Item = User> + use<> {
        let population = *self;
        range.map(move |index| population.user(index))
    }

    /// A fast way from indexes to batches for the tags as `catalog` numbers them; `None` if it lacks one or has it with
    /// another type.
    pub fn filler(&self, catalog: &Catalog) -> Option<PopulationFiller> {
        let mut tags = [TagId::UNIVERSE; TAGS.len()];
        for (id, (name, tag_type)) in tags.iter_mut().zip(TAGS) {
            *id = catalog.tag(name).filter(|tag| tag.tag_type == tag_type)?.id;
        }
        Some(PopulationFiller { population: *self, tags })
    }

    /// The endless sequence of live updates of these users; `None` as for [`Population::filler`].
    pub fn live(&self, catalog: &Catalog) -> Option<LiveUpdates> {
        Some(LiveUpdates::new(self.filler(catalog)?))
    }
}

/// The person's values in the order of [`TAGS`].
fn values(person: &Person) -> Vec<Option<Value>> {
    let text = |names: &[&str], index: Option<u8>| index.map(|index| Value::Text(names[usize::from(index)].to_owned()));
    let set = |names: &mut dyn Iterator<Item = &str>| Some(Value::Set(names.map(str::to_owned).collect()));
    vec![
        text(&GENDERS, person.gender),
        person.age.map(|age| Value::Number(age.into())),
        Some(Value::Text(PROVINCES[usize::from(person.province)].0.to_owned())),
        Some(Value::Number(person.city_tier.into())),
        text(&LANGUAGES, Some(person.language)),
        text(&DEVICES, person.device),
        text(&CHANNELS, Some(person.channel)),
        set(&mut interests(person.interests)),
        set(&mut categories(person.categories)),
        Some(Value::Flag(person.is_member)),
        Some(Value::Flag(person.ads_consent)),
        person.spend_cents.map(Value::Number),
        Some(Value::Number(person.orders.into())),
        Some(Value::Number(person.registered_at)),
        Some(Value::Number(person.last_active_at)),
    ]
}

/// The positions of the bits of a mask.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then_some(mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

fn interests(mask: u64) -> impl Iterator<Item = &'static str> {
    bits(mask).map(|bit| INTERESTS[bit].0)
}

fn categories(mask: u32) -> impl Iterator<Item = &'static str> {
    bits(mask.into()).map(|bit| CATEGORIES[bit].0)
}

/// Writes users straight into batches; clones may work beside each other.
#[derive(Clone, Debug)]
pub struct PopulationFiller {
    population: Population,
    /// By position in [`TAGS`].
    tags: [TagId; TAGS.len()],
}

impl PopulationFiller {
    /// Appends the users of a range of indexes. NULLs are left out, so the users should be new.
    pub fn fill(&self, range: Range<u64>, batch: &mut UpdateBatch) {
        for index in range {
            let person = generator().person(self.population.seed, index);
            batch.begin_user(&person::user_id(index));
            self.push(&person, batch);
        }
    }

    fn push(&self, person: &Person, batch: &mut UpdateBatch) {
        let [
            gender,
            age,
            province,
            city_tier,
            language,
            device,
            channel,
            interest,
            category,
            is_member,
            ads_consent,
            spend,
            orders,
            registered_at,
            last_active_at,
        ] = self.tags;
        let mut text =
            |tag, names: &[&'static str], index: u8| batch.push(tag, Change::Enum(names[usize::from(index)]));
        if let Some(index) = person.gender {
            text(gender, &GENDERS, index);
        }
        if let Some(index) = person.device {
            text(device, &DEVICES, index);
        }
        text(language, &LANGUAGES, person.language);
        text(channel, &CHANNELS, person.channel);
        batch.push(province, Change::Enum(PROVINCES[usize::from(person.province)].0));
        if let Some(years) = person.age {
            batch.push(age, Change::Number(years.into()));
        }
        if let Some(cents) = person.spend_cents {
            batch.push(spend, Change::Number(cents));
        }
        batch.push(city_tier, Change::Number(person.city_tier.into()));
        batch.push(orders, Change::Number(person.orders.into()));
        batch.push(registered_at, Change::Number(person.registered_at));
        batch.push(last_active_at, Change::Number(person.last_active_at));
        interests(person.interests).for_each(|value| batch.push(interest, Change::Add(value)));
        categories(person.categories).for_each(|value| batch.push(category, Change::Add(value)));
        batch.push(is_member, Change::Flag(person.is_member));
        batch.push(ads_consent, Change::Flag(person.ads_consent));
    }
}

#[cfg(test)]
mod tests;
