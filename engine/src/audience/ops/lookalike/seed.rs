//! From a seed to a scorer.

use super::super::members::slots;
use super::{Likeness, QueryContext, QueryError, Seed, refused, total};
use crate::audience::plan::number_layers;
use crate::audience::predicate::Predicate;
use crate::bitmap::bsi::{NumberRange, NumberReader};
use crate::ids::TagId;
use crate::lookalike::scorer::Scorer;
use crate::lookalike::seeds::{self, Examples, Method, SeedError, Setting, gather};
use crate::lookalike::vector::checked;
use crate::store::{Snapshot, SpaceVectors};
use roaring::RoaringBitmap;

/// What a question learned of its seed.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) scorer: Scorer,
    pub(super) method: Method,
    pub(super) tried: Vec<(Method, f64)>,
    /// Users of the seed, or vectors.
    pub(super) asked: u64,
    /// Those of them with a vector.
    pub(super) with_vector: u64,
    /// Users of the seed, per shard.
    pub(super) users: Vec<RoaringBitmap>,
    /// What was learned from.
    pub(super) examples: Examples,
    /// Whose vectors these are; empty for vectors that were given.
    pub(super) examples_of: Vec<(usize, u32)>,
}

/// Samples follow from these: the same question has the same answer.
pub(super) const RANDOM_SEED: u64 = 0x5eed;
const BACKGROUND_SEED: u64 = 0xbac6;

pub(super) fn setting<'s>(vectors: &SpaceVectors, context: &'s QueryContext) -> Setting<'s> {
    Setting {
        metric: vectors.view().metric(),
        dimension: vectors.view().dimension(),
        random_seed: RANDOM_SEED,
        cancelled: &context.cancelled,
    }
}

/// Learns what is like the seed.
pub(super) fn learn(
    snapshot: &Snapshot,
    space: &str,
    asked: &Likeness<'_>,
    vectors: &SpaceVectors,
    context: &QueryContext,
) -> Result<Learned, QueryError> {
    let setting = setting(vectors, context);
    let mut users = vec![RoaringBitmap::new(); vectors.present().len()];
    let (count, with_vector, examples, examples_of) = match asked.seed {
        Seed::Vectors(given) => {
            let examples = of_vectors(&setting, given)?;
            (given.len() as u64, given.len() as u64, examples, Vec::new())
        }
        Seed::Users(seed) => {
            users = slots(snapshot, seed, context)?;
            let of_users = of_users(snapshot, space, asked.weights, &users, vectors, context)?;
            (total(&users), of_users.with_vector, of_users.examples, of_users.examples_of)
        }
    };
    // A mean or centres are those of the seed alone.
    let background = match asked.method {
        None | Some(Method::Linear) => background(snapshot, vectors, &users),
        Some(Method::Mean | Method::Prototypes(_)) => Examples::default(),
    };
    context.check()?;
    let learned = seeds::learn(&setting, &examples, &background, asked.method).map_err(seed_refused)?;
    Ok(Learned {
        scorer: learned.scorer,
        method: learned.method,
        tried: learned.tried,
        asked: count,
        with_vector,
        users,
        examples,
        examples_of,
    })
}

/// A sample of the users who are not of the seed.
pub(super) fn background(snapshot: &Snapshot, vectors: &SpaceVectors, seed: &[RoaringBitmap]) -> Examples {
    let present = snapshot.shown_of(vectors.present());
    let others: Vec<RoaringBitmap> = present.iter().zip(seed).map(|(present, seed)| present - seed).collect();
    gather(vectors.view(), &others, BACKGROUND_SEED).examples
}

pub(super) fn seed_refused(error: SeedError) -> QueryError {
    match error {
        SeedError::Recall(error) => refused(error),
        other => QueryError::Invalid(other.to_string()),
    }
}

fn of_vectors(setting: &Setting<'_>, given: &[Vec<f32>]) -> Result<Examples, QueryError> {
    if given.is_empty() {
        return Err(QueryError::Invalid("the seed has no vectors; give at least one, or users".to_owned()));
    }
    let most = seeds::examples_max(setting.dimension);
    if given.len() > most {
        let message = format!("the seed has {} vectors, and may have {most}; sample them", given.len());
        return Err(QueryError::Invalid(message));
    }
    let mut examples = Examples::default();
    for (at, vector) in given.iter().enumerate() {
        let vector = checked(setting.metric, setting.dimension, vector)
            .map_err(|error| QueryError::Invalid(format!("vector {} of the seed (from 1): {error}", at + 1)))?;
        examples.vectors.extend(vector);
    }
    Ok(examples)
}

struct OfUsers {
    with_vector: u64,
    examples: Examples,
    examples_of: Vec<(usize, u32)>,
}

fn of_users(
    snapshot: &Snapshot,
    space: &str,
    weights: Option<TagId>,
    users: &[RoaringBitmap],
    vectors: &SpaceVectors,
    context: &QueryContext,
) -> Result<OfUsers, QueryError> {
    let count = total(users);
    if count == 0 {
        let message = "the seed has no users; choose an audience that has some".to_owned();
        return Err(QueryError::Invalid(message));
    }
    let usable: Vec<RoaringBitmap> =
        users.iter().zip(vectors.present()).map(|(users, present)| users & present).collect();
    let with_vector = total(&usable);
    if with_vector == 0 {
        let message = format!(
            "none of the seed's {count} users has a vector in space '{space}'; load vectors of them, or choose another seed"
        );
        return Err(QueryError::Invalid(message));
    }
    let Some(tag) = weights else {
        let gathered = gather(vectors.view(), &usable, RANDOM_SEED);
        return Ok(OfUsers { with_vector, examples: gathered.examples, examples_of: gathered.users });
    };
    // Before a sample is drawn: whoever has no weight does not count.
    let weighted = slots(snapshot, &Predicate::InRange(tag, NumberRange::default()), context)?;
    let weighted: Vec<RoaringBitmap> = usable.iter().zip(weighted.iter()).map(|(users, with)| users & with).collect();
    if total(&weighted) == 0 {
        let name = snapshot.catalog().name_of(tag).unwrap_or("dropped");
        let message = format!(
            "none of the {with_vector} users of the seed with a vector has a `{name}` above 0 to be weighed by; leave weights out"
        );
        return Err(QueryError::Invalid(message));
    }
    let gathered = gather(vectors.view(), &weighted, RANDOM_SEED);
    let (mut examples, examples_of) = (gathered.examples, gathered.users);
    let numbers = numbers_of(snapshot, tag, &examples_of, context)?;
    examples.weights = numbers.into_iter().map(|number| number.unwrap_or(0).max(1) as f32).collect();
    Ok(OfUsers { with_vector, examples, examples_of })
}

/// The numbers of users, who rise by shard and slot.
fn numbers_of(
    snapshot: &Snapshot,
    tag: TagId,
    users: &[(usize, u32)],
    context: &QueryContext,
) -> Result<Vec<Option<i64>>, QueryError> {
    let mut numbers = Vec::with_capacity(users.len());
    for of_shard in users.chunk_by(|a, b| a.0 == b.0) {
        let reader = NumberReader::new(&number_layers(snapshot.shards()[of_shard[0].0].layers(), tag)?);
        for of_chunk in of_shard.chunk_by(|a, b| a.1 >> 16 == b.1 >> 16) {
            context.check()?;
            let positions: Vec<[u8; 2]> = of_chunk.iter().map(|(_, slot)| (*slot as u16).to_le_bytes()).collect();
            numbers.extend(reader.numbers((of_chunk[0].1 >> 16) as u16, &positions));
        }
    }
    Ok(numbers)
}
