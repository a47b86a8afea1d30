//! How well users are found: against a scan in full precision, and against users of the seed that were hidden.

use super::seed::{Learned, background, seed_refused, setting};
use super::{Likeness, QueryContext, QueryError, Search, total};
use crate::catalog::Space;
use crate::lookalike::quality::{area_under_curve, lift};
use crate::lookalike::recall::Way;
use crate::lookalike::scorer::Scorer;
use crate::lookalike::seeds::{self, Examples};
use crate::store::{Snapshot, SpaceVectors};
use roaring::RoaringBitmap;

/// What is to be measured beside the answer; each costs about as much as the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// [`super::LookalikeReport::recall`].
    pub recall: bool,
    /// [`super::LookalikeReport::holdout`].
    pub holdout: bool,
}

/// A tenth of the seed's users is hidden, likeness is learned from the rest in the same way (the method chosen anew), and the question is asked again
/// with the hidden ones among the candidates.
#[derive(Clone, Debug, PartialEq)]
pub struct Holdout {
    /// How likely a hidden user scores more than one of the background that was not learned from; a half is chance.
    pub area_under_curve: f64,
    /// Hidden users that are candidates.
    pub hidden: u64,
    /// Those of them that were found.
    pub found: u64,
    /// Users that were chosen.
    pub chosen: u64,
    /// Of so many candidates.
    pub candidates: u64,
    /// How much more often hidden users are found than by choosing as many at random; `None` if none is a candidate.
    pub lift: Option<f64>,
}

/// Others are hidden than those by whom a method is chosen, and it is chosen anew: else what is measured was chosen for.
const HOLDOUT_SEED: u64 = 0x41de;

/// What share of `expected` is in `found`.
pub(super) fn share_found(expected: &[RoaringBitmap], found: &[RoaringBitmap]) -> Option<f64> {
    let common: u64 = expected.iter().zip(found).map(|(a, b)| a.intersection_len(b)).sum();
    let expected = total(expected);
    (expected > 0).then(|| common as f64 / expected as f64)
}

/// Hides, learns and asks again; `None` if there are too few users to hide some, or nothing can be learned of the rest.
pub(super) fn holdout(
    snapshot: &Snapshot,
    asked: &Likeness<'_>,
    space: &Space,
    learned: &Learned,
    vectors: &SpaceVectors,
    eligible: &[RoaringBitmap],
    context: &QueryContext,
) -> Result<Option<Holdout>, QueryError> {
    let dimension = usize::from(space.dimension);
    let background = background(snapshot, vectors, &learned.users);
    let (Some(places), Some(around)) =
        (seeds::hide(learned.examples_of.len(), HOLDOUT_SEED), seeds::halve(background.len(dimension), HOLDOUT_SEED))
    else {
        return Ok(None);
    };
    let known = learned.examples.choose(dimension, &places.known);
    let trained = background.choose(dimension, &around.known);
    let scorer = match seeds::learn(&setting(vectors, context), &known, &trained, asked.method) {
        Err(seeds::SeedError::Scorer(_)) => return Ok(None),
        learned => learned.map_err(seed_refused)?.scorer,
    };
    let hidden_examples = learned.examples.choose(dimension, &places.hidden);
    let measured = background.choose(dimension, &around.hidden);
    let area = area_under_curve(&scores(&scorer, &hidden_examples), &scores(&scorer, &measured));
    let mut hidden = vec![RoaringBitmap::new(); eligible.len()];
    for place in &places.hidden {
        let (shard, slot) = learned.examples_of[*place];
        hidden[shard].insert(slot);
    }
    hidden.iter_mut().zip(eligible).for_each(|(hidden, eligible)| *hidden &= eligible);
    let candidates: Vec<RoaringBitmap> =
        eligible.iter().zip(&learned.users).zip(&hidden).map(|((all, seed), hidden)| (all - seed) | hidden).collect();
    let search = Search { vectors, scorer: &scorer, way: Way::Quick, context };
    let (reached, _) = search.band(Some(&candidates), asked.extent)?;
    let found: u64 =
        reached.members.iter().zip(&hidden).map(|(members, hidden)| members.intersection_len(hidden)).sum();
    let (hidden, chosen, candidates) = (total(&hidden), total(&reached.members), total(&candidates));
    Ok(area.map(|area_under_curve| Holdout {
        area_under_curve,
        hidden,
        found,
        chosen,
        candidates,
        lift: lift(found, hidden, chosen, candidates),
    }))
}

fn scores(scorer: &Scorer, examples: &Examples) -> Vec<f32> {
    examples.vectors.chunks_exact(scorer.dimension()).map(|vector| scorer.score(vector)).collect()
}
