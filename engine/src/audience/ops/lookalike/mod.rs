//! The users most like others: from a seed to a scorer, and from the scorer to the first of the candidates.
//!
//! What is found is exact: the users that a scan of all vectors in full precision would put first, whatever the filter (see
//! [`crate::lookalike::recall`]). What is chosen is how likeness is learned, which is measured on users of the seed that are
//! hidden from the learner. The same question on the same snapshot has the same answer.

mod measure;
mod seed;

#[cfg(test)]
mod proptests;

pub use measure::{Holdout, Measure};

use super::members::{slots, user_id};
use super::{QueryContext, QueryError};
use crate::audience::predicate::Predicate;
use crate::audience::similar::{Amount, Extent, Similar};
use crate::bitmap::view::BitmapView;
use crate::catalog::Space;
use crate::ids::{Slot, TagId};
use crate::lookalike::recall::{self, Probed, RecallError, Size, Way};
use crate::lookalike::scorer::Scorer;
use crate::lookalike::seeds::Method;
use crate::store::{Snapshot, SpaceVectors};
use roaring::RoaringBitmap;
use seed::Learned;
use std::borrow::Cow;
use std::sync::Arc;

/// Like whom.
#[derive(Clone, Copy, Debug)]
pub enum Seed<'q> {
    /// These users, as far as they have a vector; of very many, an even sample.
    Users(&'q Predicate),
    /// These vectors.
    Vectors(&'q [Vec<f32>]),
}

/// Who is asked for: see [`crate::audience::similar`].
#[derive(Clone, Copy, Debug)]
pub struct Likeness<'q> {
    /// The space.
    pub space: TagId,
    /// Like whom.
    pub seed: Seed<'q>,
    /// A number tag by which users of the seed count for more; those without a number above 0 do not count.
    pub weights: Option<TagId>,
    /// How likeness is learned; `None`: whichever way finds hidden users of the seed best.
    pub method: Option<Method>,
    /// Which of the candidates.
    pub extent: Extent,
    /// Candidates are of these.
    pub within: &'q Predicate,
    /// And not of these.
    pub exclude: &'q Predicate,
    /// Users of the seed are candidates, too.
    pub include_seed: bool,
    /// Scan all vectors in full precision. Else a few of many are looked for by cells, which may miss some; whatever is not, is
    /// exact anyhow.
    pub exact: bool,
}

/// The users most like others.
#[derive(Clone, Debug)]
pub struct Lookalike {
    /// Their slots, per shard.
    pub members: Vec<RoaringBitmap>,
    /// How they were found.
    pub report: LookalikeReport,
    space: Space,
    learned: Arc<Learned>,
}

/// How users were found, and how well.
#[derive(Clone, Debug, PartialEq)]
pub struct LookalikeReport {
    /// How likeness was learned.
    pub method: Method,
    /// Each way that was tried, and the area under the curve that it reached on hidden users of the seed; empty if one was
    /// asked for, or the seed has too few vectors to hide some.
    pub tried: Vec<(Method, f64)>,
    /// Users of the seed, or vectors.
    pub seed_users: u64,
    /// Those of them with a vector.
    pub seed_with_vector: u64,
    /// Vectors that were learned from: a sample of them, of users that have a weight.
    pub seed_learned: u64,
    /// Users there were to choose from.
    pub candidates: u64,
    /// How many of them were asked for; more than there are members if there were too few.
    pub wanted: u64,
    /// How many were found.
    pub members: u64,
    /// No member scores less; `None` if there is none, or the last one is the last candidate.
    pub at_least: Option<f32>,
    /// Vectors that were looked at in full precision.
    pub rescored: u64,
    /// Passes over the candidates; none if cells were looked into.
    pub passes: u32,
    /// How cells were looked into, if they were.
    pub probed: Option<Probed>,
    /// What share of the members of a scan in full precision was found, if that was to be measured.
    pub recall: Option<f64>,
    /// How well hidden users of the seed are found, if that was to be measured and there are enough.
    pub holdout: Option<Holdout>,
}

/// A user and how alike.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredUser {
    /// The id.
    pub user: String,
    /// The greatest similarity to a prototype, or the linear model's product; more is more alike.
    pub score: f32,
}

/// A user by place, and how alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredSlot {
    /// The shard.
    pub shard: usize,
    /// The slot in it.
    pub slot: Slot,
    /// As in [`ScoredUser`].
    pub score: f32,
}

impl ScoredSlot {
    /// The user's id in the snapshot where it was found.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn id(&self, snapshot: &Snapshot) -> Result<Option<String>, QueryError> {
        user_id(&snapshot.shards()[self.shard], self.slot)
    }
}

impl<'q> Likeness<'q> {
    /// What `similar_to(…)` asks for.
    pub fn of(similar: &'q Similar) -> Likeness<'q> {
        Likeness {
            space: similar.space,
            seed: Seed::Users(&similar.seed),
            weights: similar.weights,
            method: similar.method,
            extent: similar.extent,
            within: &similar.within,
            exclude: &similar.exclude,
            include_seed: similar.include_seed,
            exact: similar.exact,
        }
    }
}

/// Finds the users most like others, and measures what is asked.
///
/// Costs learning (about a second for a large seed, or several if no method is asked for; [`Lookalike::again`] spares it), and
/// a pass over a byte a dimension of every candidate; holds a bitmap of the candidates and a few per cent of them with their
/// scores.
///
/// # Errors
/// [`QueryError`]: cancelled, a damaged file, or a seed that nothing can be learned from, with what to do about it.
pub fn lookalike(
    snapshot: &Snapshot,
    asked: &Likeness<'_>,
    measure: Measure,
    context: &QueryContext,
) -> Result<Lookalike, QueryError> {
    context.check()?;
    let (name, space) = space_of(snapshot, asked.space)?;
    let vectors = snapshot.vectors(&space, &context.cancelled)?;
    let learned = Arc::new(seed::learn(snapshot, name, asked, &vectors, context)?);
    found(snapshot, asked, &space, &vectors, learned, measure, context)
}

/// Finds users by what was learned.
fn found(
    snapshot: &Snapshot,
    asked: &Likeness<'_>,
    space: &Space,
    vectors: &SpaceVectors,
    learned: Arc<Learned>,
    measure: Measure,
    context: &QueryContext,
) -> Result<Lookalike, QueryError> {
    context.check()?;
    let eligible = eligible(snapshot, asked, vectors, context)?;
    let seed_counts = asked.include_seed || learned.users.iter().all(RoaringBitmap::is_empty);
    let candidates = match &eligible {
        Cow::Borrowed(_) if seed_counts => None,
        _ if seed_counts => Some(Cow::Borrowed(&eligible[..])),
        _ => Some(Cow::Owned(eligible.iter().zip(&learned.users).map(|(all, seed)| all - seed).collect::<Vec<_>>())),
    };
    let candidates = candidates.as_deref();
    let way = if asked.exact { Way::Full } else { Way::Quick };
    let search = Search { vectors, scorer: &learned.scorer, way, context };
    let (found, wanted) = search.band(candidates, asked.extent)?;
    let mut report = LookalikeReport {
        method: learned.method,
        tried: learned.tried.clone(),
        seed_users: learned.asked,
        seed_with_vector: learned.with_vector,
        seed_learned: learned.examples.len(usize::from(space.dimension)) as u64,
        candidates: candidates.map_or(vectors.count(), total),
        wanted,
        members: total(&found.members),
        at_least: found.at_least,
        rescored: found.rescored,
        passes: found.passes,
        probed: found.probed,
        recall: None,
        holdout: None,
    };
    if measure.recall {
        let (exact, _) = Search { way: Way::Full, ..search }.band(candidates, asked.extent)?;
        report.recall = measure::share_found(&exact.members, &found.members);
    }
    if measure.holdout {
        report.holdout = measure::holdout(snapshot, asked, space, &learned, vectors, &eligible, context)?;
    }
    Ok(Lookalike { members: found.members, report, space: *space, learned })
}

impl Lookalike {
    /// Asks again with another extent or filter, without learning anew: `asked` has the same space, seed, weights and method. The
    /// snapshot may be a later one; the seed is as it was.
    ///
    /// # Errors
    /// As [`lookalike`].
    pub fn again(
        &self,
        snapshot: &Snapshot,
        asked: &Likeness<'_>,
        measure: Measure,
        context: &QueryContext,
    ) -> Result<Lookalike, QueryError> {
        let vectors = snapshot.vectors(&self.space, &context.cancelled)?;
        found(snapshot, asked, &self.space, &vectors, Arc::clone(&self.learned), measure, context)
    }

    /// Members by falling score (of equal ones, by shard and slot), from a place on; `snapshot` is the one they were found in.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn best(
        &self,
        snapshot: &Snapshot,
        from: u64,
        limit: usize,
        context: &QueryContext,
    ) -> Result<Vec<ScoredUser>, QueryError> {
        let vectors = snapshot.vectors(&self.space, &context.cancelled)?;
        let bytes = serialized(&self.members);
        let filter: Vec<BitmapView<'_>> = bytes.iter().map(|bytes| BitmapView::trusted(bytes)).collect();
        let count = from.saturating_add(limit as u64);
        let hits =
            recall::top(vectors.view(), &self.learned.scorer, Some(&filter), count, Way::Scan, &context.cancelled)
                .map_err(refused)?;
        let mut users = Vec::new();
        for hit in hits.into_iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            let user = user_id(&snapshot.shards()[hit.shard], hit.slot)?;
            users.extend(user.map(|user| ScoredUser { user, score: hit.score }));
        }
        Ok(users)
    }

    /// The score of every member of a shard, by rising slot. Holds the scores of one shard; what was found in another snapshot has none.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn scores(
        &self,
        snapshot: &Snapshot,
        shard: usize,
        context: &QueryContext,
    ) -> Result<impl Iterator<Item = ScoredSlot> + use<>, QueryError> {
        let vectors = snapshot.vectors(&self.space, &context.cancelled)?;
        let mut members = vec![RoaringBitmap::new(); self.members.len()];
        members[shard].clone_from(&self.members[shard]);
        let hits =
            recall::scores(vectors.view(), &self.learned.scorer, &members, &context.cancelled).map_err(refused)?;
        Ok(hits.into_iter().map(|hit| ScoredSlot { shard: hit.shard, slot: hit.slot, score: hit.score }))
    }

    /// What users are compared with.
    pub fn scorer(&self) -> &Scorer {
        &self.learned.scorer
    }
}

/// Searches with one scorer.
#[derive(Clone, Copy)]
struct Search<'s> {
    vectors: &'s SpaceVectors,
    scorer: &'s Scorer,
    way: Way,
    context: &'s QueryContext,
}

/// Users found, and how.
struct Found {
    members: Vec<RoaringBitmap>,
    at_least: Option<f32>,
    rescored: u64,
    passes: u32,
    probed: Option<Probed>,
}

impl Search<'_> {
    /// The candidates of an extent, and how many were asked for; candidates are all who have a vector, unless they are told.
    fn band(&self, candidates: Option<&[RoaringBitmap]>, extent: Extent) -> Result<(Found, u64), QueryError> {
        let bytes = candidates.map(serialized);
        let filter: Option<Vec<BitmapView<'_>>> =
            bytes.as_ref().map(|bytes| bytes.iter().map(|bytes| BitmapView::trusted(bytes)).collect());
        let count = candidates.map_or(self.vectors.count(), total);
        let places = extent.places(count);
        // Bands, and parts of everybody, are found exactly: else they would overlap, or leave users out.
        let is_band = places.start > 0 || matches!(extent.amount(), Amount::Share(_));
        let way = if is_band && self.way == Way::Quick { Way::Scan } else { self.way };
        let first = |count: u64| {
            let cancelled = &self.context.cancelled;
            recall::nearest(self.vectors.view(), self.scorer, filter.as_deref(), Size::Count(count), way, cancelled)
                .map_err(refused)
        };
        let reached = first(places.end)?;
        let mut found = Found {
            members: reached.members,
            at_least: reached.at_least,
            rescored: reached.rescored,
            passes: reached.passes,
            probed: reached.probed,
        };
        if places.start > 0 {
            // Their order is one, so the first few are among the first many.
            let before = first(places.start)?;
            found.members.iter_mut().zip(before.members).for_each(|(members, before)| *members -= before);
            found.rescored += before.rescored;
            found.passes += before.passes;
        }
        let wanted = match extent.amount() {
            Amount::Count(wanted) => wanted,
            Amount::Share(_) => places.end - places.start,
        };
        Ok((found, wanted))
    }
}

fn space_of(snapshot: &Snapshot, id: TagId) -> Result<(&str, Space), QueryError> {
    let found = snapshot.catalog().spaces().find(|(_, space)| space.id == id);
    let gone = || QueryError::Invalid("the vector space was dropped; choose another".to_owned());
    found.map(|(name, space)| (name, *space)).ok_or_else(gone)
}

/// Users who may be candidates, those of the seed among them; borrowed if they are all who have a vector.
fn eligible<'v>(
    snapshot: &Snapshot,
    asked: &Likeness<'_>,
    vectors: &'v SpaceVectors,
    context: &QueryContext,
) -> Result<Cow<'v, [RoaringBitmap]>, QueryError> {
    let fits = Predicate::And(vec![asked.within.clone(), asked.exclude.clone().negate()]).canonical();
    if fits == Predicate::All && snapshot.shows_everybody() {
        return Ok(Cow::Borrowed(vectors.present()));
    }
    let mut eligible = slots(snapshot, &fits, context)?;
    eligible.iter_mut().zip(vectors.present()).for_each(|(eligible, present)| *eligible &= present);
    Ok(Cow::Owned(eligible))
}

fn total(users: &[RoaringBitmap]) -> u64 {
    users.iter().map(RoaringBitmap::len).sum()
}

fn serialized(users: &[RoaringBitmap]) -> Vec<Vec<u8>> {
    let of = |users: &RoaringBitmap| {
        let mut bytes = Vec::with_capacity(users.serialized_size());
        users.serialize_into(&mut bytes).expect("memory does not fail");
        bytes
    };
    users.iter().map(of).collect()
}

fn refused(error: RecallError) -> QueryError {
    match error {
        RecallError::Cancelled => QueryError::Cancelled,
        other => QueryError::Invalid(other.to_string()),
    }
}
