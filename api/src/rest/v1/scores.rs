//! Scores kept as a number tag: what `scores_to` of `POST /v1/lookalike` writes.
//!
//! Users are written as updates of tags are, in batches, and what is answered is on disk. Scores of one question can be compared with
//! no others, so the tag holds those of one question: whoever had one and was not found has none any more. Asking again writes
//! the same.

use super::expression;
use super::number::Number;
use crate::error::{Failure, Kind};
use engine::audience::ops::{self, Lookalike, QueryContext};
use engine::audience::predicate::Predicate;
use engine::audience::scan::Given;
use engine::catalog::{Catalog, TagType, Unit};
use engine::ids::{Lsn, TagId};
use engine::store::{Snapshot, Store};
use engine::update::{Change, UpdateBatch};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// may have been written in part.
    pub(super) fn keep(
        &self,
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
        let mut writing = Writing { store, batch: UpdateBatch::new(), end: Lsn(0) };
        let mut written = 0;
        for shard in 0..snapshot.shards().len() {
            for user in found.scores(snapshot, shard, context)? {
                let Some(id) = user.id(snapshot)? else { continue };
                writing.push(&id, self.id, Change::Number(self.number(user.score)?), context)?;
                written += 1;
            }
        }
        let unset = self.unset_others(snapshot, found, &mut writing, context)?;
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
            self.end = self.end.max(self.store.write(&self.batch, None)?.lsn);
            self.batch.clear();
        }
        Ok(())
    }
}
