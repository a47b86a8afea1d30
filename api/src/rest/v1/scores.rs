//! Scores kept as a number tag: what `scores_to` of `POST /v1/lookalike` writes.
//!
//! Users are written as updates of tags are, in batches, and what is answered is on disk. Scores of one question can be compared with
//! no others, so the tag holds those of one question: whoever had one and was not found has none any more. Asking again writes
//! the same. Two questions do not write into one tag at once, and who had a number is looked up when it is this one's turn.

use super::expression;
use super::number::Number;
use crate::error::{Failure, Kind};
use crate::state::lock;
use engine::audience::ops::{self, Lookalike, QueryContext};
use engine::audience::predicate::Predicate;
use engine::audience::scan::Given;
use engine::catalog::{Catalog, TagType, Unit};
use engine::ids::{Lsn, TagId};
use engine::store::{Snapshot, Store, WriteError};
use engine::update::{Change, UpdateBatch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Users of a batch.
const BATCH_USERS: usize = 10_000;

/// What was kept of the scores.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScoresAnswer {
    /// The tag.
    pub tag: String,
    /// Users who have their score now; it is on disk.
    pub written: u64,
    /// Users who had a number there before, and were not found: they have none any more.
    pub unset: u64,
    /// The least score that was written, as it was rounded; `null` if nobody was found.
    pub least: Option<Number>,
    /// The greatest.
    pub greatest: Option<Number>,
    /// Number of the view that shows them.
    pub epoch: u64,
}

/// Tags that a question writes its scores to now.
#[derive(Debug, Default)]
pub struct Claims(Mutex<BTreeSet<TagId>>);

/// One of them; given free when dropped.
#[derive(Debug)]
pub(super) struct Claim<'c> {
    claims: &'c Claims,
    id: TagId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.claims.0).remove(&self.id);
    }
}

/// A number tag that can hold scores.
#[derive(Clone, Debug)]
pub(super) struct ScoreTag {
    name: String,
    pub(super) id: TagId,
    scale: u8,
}

impl ScoreTag {
    /// The tag of a name, if it is a number with digits behind the point.
    pub(super) fn of(catalog: &Catalog, name: &str) -> Result<ScoreTag, Failure> {
        const POINTER: &str = "/scores_to";
        let tag = expression::tag(catalog, name, POINTER)?;
        let refused = |why: &str, suggestion: String| {
            Err(Failure::new(Kind::TagType, format!("`{name}` {why}")).at(POINTER).suggest(suggestion))
        };
        match tag.tag_type {
            TagType::Number(Unit::Decimal { scale }) => Ok(ScoreTag { name: name.to_owned(), id: tag.id, scale }),
            TagType::Number(Unit::Integer) => refused(
                "holds integers, which would round most scores to the same number",
                "name a tag with digits behind the point: { type: number, scale: 4 }".to_owned(),
            ),
            TagType::Number(Unit::Timestamp) => refused(
                "holds times, and scores are none",
                "declare a tag for them: { type: number, scale: 4 }".to_owned(),
            ),
            _ => refused("is not a number tag", "declare a tag for the scores: { type: number, scale: 4 }".to_owned()),
        }
    }

    /// Keeps other questions away, until it is dropped.
    ///
    /// # Errors
    /// [`Kind::StillUsed`] if another one writes there.
    pub(super) fn claim<'c>(&self, claims: &'c Claims) -> Result<Claim<'c>, Failure> {
        if !lock(&claims.0).insert(self.id) {
            let detail = format!("another question is writing its scores to `{}`", self.name);
            let failure = Failure::new(Kind::StillUsed, detail).at("/scores_to");
            return Err(failure.suggest("ask again when it is answered, or name another tag"));
        }
        Ok(Claim { claims, id: self.id })
    }

    /// The score in the tag's unit, rounded to the nearest, halves away from zero.
    fn number(&self, score: f32) -> Result<i64, Failure> {
        let number = (f64::from(score) * 10f64.powi(self.scale.into())).round();
        // Exact: 2^63 is a float.
        if number.abs() < 9_223_372_036_854_775_808.0 {
            return Ok(number as i64);
        }
        let detail = format!(
            "the score {score} is too large for `{}`, which keeps {} digits behind the point",
            self.name, self.scale
        );
        Err(Failure::new(Kind::TagValue, detail).at("/scores_to").suggest("name a tag with a smaller scale"))
    }

    fn told(&self, number: i64) -> Number {
        Number::of(Unit::Decimal { scale: self.scale }, number.into())
    }

    /// Gives everybody found their score, and takes it from everybody else. Nothing is written if a score does not fit; what is cancelled
    /// may have been written in part. `_claim` is this tag's.
    pub(super) fn keep(
        &self,
        _claim: &Claim<'_>,
        store: &Store,
        snapshot: &Snapshot,
        found: &Lookalike,
        context: &QueryContext,
    ) -> Result<ScoresAnswer, Failure> {
        // Looked at before anything is written; scores of a shard at a time are held.
        let (mut least, mut greatest) = (None, None);
        for shard in 0..snapshot.shards().len() {
            for user in found.scores(snapshot, shard, context)? {
                let number = self.number(user.score)?;
                least = Some(least.map_or(number, |least: i64| least.min(number)));
                greatest = Some(greatest.map_or(number, |greatest: i64| greatest.max(number)));
            }
        }
        let catalog = snapshot.shared_catalog();
        let mut writing = Writing { store, catalog, tag: &self.name, batch: UpdateBatch::new(), end: Lsn(0) };
        let mut written = 0;
        for shard in 0..snapshot.shards().len() {
            for user in found.scores(snapshot, shard, context)? {
                let Some(id) = user.id(snapshot)? else { continue };
                writing.push(&id, self.id, Change::Number(self.number(user.score)?), context)?;
                written += 1;
            }
        }
        // Whoever got a score since the question was begun, too.
        store.publish()?;
        let unset = self.unset_others(&store.snapshot(), found, &mut writing, context)?;
        writing.flush()?;
        store.sync(writing.end)?;
        Ok(ScoresAnswer {
            tag: self.name.clone(),
            written,
            unset,
            least: least.map(|number| self.told(number)),
            greatest: greatest.map(|number| self.told(number)),
            epoch: store.publish()?.0,
        })
    }

    fn unset_others(
        &self,
        snapshot: &Snapshot,
        found: &Lookalike,
        writing: &mut Writing<'_>,
        context: &QueryContext,
    ) -> Result<u64, Failure> {
        let found = Predicate::Given(Arc::new(Given::new(None, snapshot.shards().len(), &found.members)));
        let others = Predicate::And(vec![Predicate::Known(self.id), found.negate()]).canonical();
        let (mut unset, mut from) = (0, None);
        loop {
            let page = ops::members(snapshot, &others, from, BATCH_USERS, context)?;
            for user in &page.users {
                writing.push(user, self.id, Change::Unset, context)?;
                unset += 1;
            }
            from = page.next;
            if from.is_none() {
                return Ok(unset);
            }
        }
    }
}

/// Updates on their way to the log.
struct Writing<'s> {
    store: &'s Store,
    /// What the tag was found in.
    catalog: Arc<Catalog>,
    tag: &'s str,
    batch: UpdateBatch,
    end: Lsn,
}

impl Writing<'_> {
    fn push(&mut self, user: &str, tag: TagId, change: Change<'_>, context: &QueryContext) -> Result<(), Failure> {
        self.batch.begin_user(user.as_bytes());
        self.batch.push(tag, change);
        if self.batch.user_count() < BATCH_USERS {
            return Ok(());
        }
        if context.cancelled.load(std::sync::atomic::Ordering::Relaxed) {
            let detail = "the question was cancelled or ran out of time while scores were written: some users have theirs, others not";
            return Err(Failure::new(Kind::Timeout, detail)
                .suggest("ask again, with a longer timeout_ms: what was written is written again"));
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.batch.is_empty() {
            let written = self.store.write_declared(&self.batch, None, &self.catalog);
            let written = written.map_err(|error| match error {
                WriteError::Dropped { .. } => {
                    let detail = format!("the tag `{}` was dropped while scores were written to it", self.tag);
                    Failure::new(Kind::Dropped, detail).at("/scores_to")
                }
                other => Failure::from(other),
            })?;
            self.end = self.end.max(written.lsn);
            self.batch.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookalike::{LookalikeAnswer, LookalikeRequest, answer};
    use super::*;
    use engine::catalog::Metric;
    use engine::store::Options;
    use engine::vfs::memory::MemoryVfs;
    use serde_json::json;
    use std::path::Path;

    /// Users in a circle, and a tag for scores.
    fn circle() -> Store {
        let store = Store::open(Arc::new(MemoryVfs::default()), Path::new("/data"), Options::default()).expect("open");
        let mut catalog = Catalog::default();
        catalog.declare("score", TagType::Number(Unit::Decimal { scale: 4 })).expect("a good name");
        let space = catalog.declare_space("taste", 2, Metric::Cosine).expect("a good name");
        store.put_catalog(catalog).expect("catalog");
        let mut batch = UpdateBatch::new();
        for at in 0..100_u8 {
            let angle = f32::from(at) / 100.0 * std::f32::consts::TAU;
            batch.begin_user(format!("u{at}").as_bytes());
            batch.push_vector(space, &[angle.cos(), angle.sin()]);
        }
        store.write(&batch, None).expect("write");
        store.publish().expect("publish");
        store
    }

    fn like(user: &str, store: &Store, snapshot: &Snapshot, claims: &Claims) -> Result<LookalikeAnswer, Failure> {
        let request =
            json!({"space": "taste", "seed": format!("user_id = '{user}'"), "size": 10, "scores_to": "score"});
        let request: LookalikeRequest = serde_json::from_value(request).expect("a request");
        answer(snapshot, store, claims, &request, &QueryContext::default(), None)
    }

    #[test]
    fn a_tag_holds_the_scores_of_one_question() {
        let (store, claims) = (circle(), Claims::default());
        let before = store.snapshot();
        let tag = ScoreTag::of(before.catalog(), "score").expect("a tag for scores");
        let scored = || {
            let known = Predicate::Known(tag.id);
            ops::members(&store.snapshot(), &known, None, 1_000, &QueryContext::default()).expect("members").users
        };
        let claim = tag.claim(&claims).expect("nobody else writes");
        let refused = like("u0", &store, &before, &claims).expect_err("two at once");
        assert_eq!(refused.kind, Kind::StillUsed);
        assert!(scored().is_empty());
        drop(claim);
        let first = like("u0", &store, &before, &claims).expect("answered").scores.expect("kept");
        assert_eq!((first.written, first.unset, scored().len()), (10, 0, 10));
        // Asked of what was there before the first one wrote.
        let second = like("u50", &store, &before, &claims).expect("answered").scores.expect("kept");
        assert_eq!((second.written, second.unset), (10, 10));
        let names = scored();
        assert!(
            names.len() == 10 && names.contains(&"u51".to_owned()) && !names.contains(&"u1".to_owned()),
            "{names:?}"
        );
    }

    #[test]
    fn a_tag_that_is_dropped_meanwhile_holds_no_scores() {
        let (store, claims) = (circle(), Claims::default());
        let before = store.snapshot();
        let mut catalog = before.catalog().clone();
        catalog.drop_tag("score").expect("declared");
        catalog.declare("score", TagType::Number(Unit::Decimal { scale: 4 })).expect("a good name");
        store.put_catalog(catalog).expect("catalog");
        store.publish().expect("publish");
        let refused = like("u0", &store, &before, &claims).expect_err("dropped");
        assert_eq!(refused.kind, Kind::Dropped);
        assert!(refused.to_string().contains("the tag `score` was dropped"), "{refused}");
    }
}
