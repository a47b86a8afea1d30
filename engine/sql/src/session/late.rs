//! Users who are known only when a plan runs: those in the rows of another plan, gathered into bitmaps.
//!
//! `user_id IN (SELECT user_id FROM purchase WHERE …)` and its relatives become a [`Restriction`] of the table of users, or of a fact
//! ([`super::joins`]). When that table is read the other plan runs first, once for all parts; the users in its rows are kept as slots per
//! shard, and never as ids.

use super::columns::USER_ID;
use super::users::{Question, UsersExec};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use engine::audience::ops::{self, QueryContext, QueryError};
use engine::store::Snapshot;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::{FuturesUnordered, StreamExt};
use roaring::RoaringBitmap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Slots per shard.
pub(super) type Users = Arc<Vec<RoaringBitmap>>;

/// How the rows of a plan tell their user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Their only column is the id.
    Id,
    /// Their columns are the shard and the slot.
    Place,
}

/// Only users that some row of a plan has; or only others.
#[derive(Clone, Debug)]
pub(super) struct Restriction {
    /// Where they come from.
    pub(super) plan: Arc<LogicalPlan>,
    pub(super) by: By,
    /// Only others.
    pub(super) negated: bool,
    /// `NOT IN`: if any row has NULL, nobody is left.
    pub(super) null_aware: bool,
}

impl Restriction {
    /// Whether it is the same restriction, as far as can be told.
    pub(super) fn is_like(&self, other: &Restriction) -> bool {
        (self.by, self.negated, self.null_aware) == (other.by, other.negated, other.null_aware)
            && self.plan == other.plan
    }
}

/// Restrictions as they are in a physical plan.
#[derive(Debug)]
pub(super) struct Late {
    snapshot: Snapshot,
    parts: Vec<Part>,
    found: Once<Arc<Found>>,
}

#[derive(Clone, Debug)]
struct Part {
    plan: Arc<dyn ExecutionPlan>,
    by: By,
    negated: bool,
    null_aware: bool,
}

/// Who was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Only users that are in all of these.
    pub(super) within: Vec<Users>,
    /// And in none of these.
    pub(super) without: Vec<Users>,
    /// Given back when it is dropped.
    reserved: MemoryReservation,
}

impl Late {
    /// Plans what the restrictions are made of; `None` if there are none.
    pub(super) async fn plan(
        restrictions: &[Restriction],
        snapshot: &Snapshot,
        context: &QueryContext,
        state: &dyn Session,
    ) -> Result<Option<Arc<Late>>> {
        let mut parts = Vec::with_capacity(restrictions.len());
        for Restriction { plan, by, negated, null_aware } in restrictions {
            // Planning is not ended by dropping what waits for it.
            if context.cancelled.load(Ordering::Relaxed) {
                return Err(DataFusionError::External(Box::new(QueryError::Cancelled)));
            }
            let plan = state.create_physical_plan(plan).await?;
            parts.push(Part { plan, by: *by, negated: *negated, null_aware: *null_aware });
        }
        let late = Late { snapshot: snapshot.clone(), parts, found: Once::default() };
        Ok((!late.parts.is_empty()).then(|| Arc::new(late)))
    }

    /// The plans that run first.
    pub(super) fn children(&self) -> impl Iterator<Item = &Arc<dyn ExecutionPlan>> {
        self.parts.iter().map(|part| &part.plan)
    }

    /// The same of other plans, which did not run yet.
    pub(super) fn with_children(&self, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<Late>> {
        if children.len() != self.parts.len() {
            return internal_err!("{} plans for {} restrictions", children.len(), self.parts.len());
        }
        let parts = self.parts.iter().zip(children).map(|(part, plan)| Part { plan, ..part.clone() });
        Ok(Arc::new(Late { snapshot: self.snapshot.clone(), parts: parts.collect(), found: Once::default() }))
    }

    /// What is asked of a user, for people: `in 1, not in 2`.
    pub(super) fn describe(&self) -> String {
        let of = |(at, part): (usize, &Part)| format!("{} {}", if part.negated { "not in" } else { "in" }, at + 1);
        self.parts.iter().enumerate().map(of).collect::<Vec<_>>().join(", ")
    }

    /// Runs the plans, once, however often it is called.
    pub(super) async fn found(&self, context: &Arc<TaskContext>) -> Result<Arc<Found>> {
        let gather = || {
            let (snapshot, parts, context) = (self.snapshot.clone(), self.parts.clone(), Arc::clone(context));
            gather_all(snapshot, parts, context)
        };
        self.found.get(gather).await
    }
}

fn gather_all(
    snapshot: Snapshot,
    parts: Vec<Part>,
    context: Arc<TaskContext>,
) -> BoxFuture<'static, Result<Arc<Found>>> {
    let gathering = async move {
        let reserved = MemoryConsumer::new("users of a join").register(context.memory_pool());
        let mut found = Found { within: Vec::new(), without: Vec::new(), reserved };
        for part in parts {
            let (users, has_null) = gather(&snapshot, &part, &context).await?;
            found.reserved.try_grow(users.iter().map(RoaringBitmap::serialized_size).sum())?;
            let users = Arc::new(users);
            match (part.negated, part.null_aware && has_null) {
                (false, _) => found.within.push(users),
                (true, false) => found.without.push(users),
                // Of nobody it is true that he is not among them: one of them may be anybody.
                (true, true) => found.within.push(Arc::default()),
            }
        }
        Ok(Arc::new(found))
    };
    gathering.boxed()
}

/// The users in the rows of a plan, and whether any row has none.
async fn gather(snapshot: &Snapshot, part: &Part, context: &Arc<TaskContext>) -> Result<(Vec<RoaringBitmap>, bool)> {
    let mut users = vec![RoaringBitmap::new(); snapshot.shards().len()];
    if let Some(questions) = questions(&part.plan) {
        for question in questions {
            let question = question.settled(context).await?;
            let slots = SpawnedTask::spawn_blocking(move || question.slots()).join().await;
            let slots = slots.map_err(|error| DataFusionError::External(Box::new(error)))?;
            let slots = slots.map_err(|error| DataFusionError::External(Box::new(error)))?;
            users.iter_mut().zip(slots).for_each(|(all, some)| *all |= some);
        }
        return Ok((users, false));
    }
    let mut running = FuturesUnordered::new();
    for number in 0..part.plan.properties().output_partitioning().partition_count() {
        let mut rows = part.plan.execute(number, Arc::clone(context))?;
        let mut gathered = Gathered::new(snapshot.clone(), context);
        let by = part.by;
        running.push(SpawnedTask::spawn(async move {
            while let Some(batch) = rows.next().await {
                gathered.add(&batch?, by)?;
            }
            Ok::<_, DataFusionError>(gathered)
        }));
    }
    let mut has_null = false;
    while let Some(gathered) = running.next().await {
        let gathered = gathered.map_err(|error| DataFusionError::External(Box::new(error)))??;
        has_null |= gathered.has_null;
        users.iter_mut().zip(gathered.users).for_each(|(all, some)| *all |= some);
    }
    Ok((users, has_null))
}

/// Who is asked about, if the rows are users and nothing else: then no row is made.
fn questions(plan: &Arc<dyn ExecutionPlan>) -> Option<Vec<Question>> {
    match plan.downcast_ref::<UnionExec>() {
        Some(several) => several.inputs().iter().map(|plan| plan.downcast_ref::<UsersExec>()?.whole()).collect(),
        None => Some(vec![plan.downcast_ref::<UsersExec>()?.whole()?]),
    }
}

/// The users of some rows.
struct Gathered {
    snapshot: Snapshot,
    users: Vec<RoaringBitmap>,
    has_null: bool,
    reserved: MemoryReservation,
}

impl Gathered {
    fn new(snapshot: Snapshot, context: &TaskContext) -> Gathered {
        let users = vec![RoaringBitmap::new(); snapshot.shards().len()];
        let reserved = MemoryConsumer::new("users of a part of a join").register(context.memory_pool());
        Gathered { snapshot, users, has_null: false, reserved }
    }

    fn add(&mut self, batch: &RecordBatch, by: By) -> Result<()> {
        match by {
            By::Id => self.add_ids(batch)?,
            By::Place => self.add_places(batch)?,
        }
        self.reserved.try_resize(self.users.iter().map(RoaringBitmap::serialized_size).sum())
    }

    fn add_ids(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(ids) = batch.column(0).as_string_opt::<i32>() else { return internal_err!("ids are no text") };
        self.has_null |= ids.null_count() > 0;
        let known: Vec<&[u8]> = ids.iter().flatten().map(str::as_bytes).collect();
        let positions = ops::positions(&self.snapshot, &known);
        let positions = positions.map_err(|error: QueryError| DataFusionError::External(Box::new(error)))?;
        // Whoever was never seen is not in any table of ours.
        for position in positions.into_iter().flatten() {
            self.users[usize::from(position.shard.0)].insert(position.slot);
        }
        Ok(())
    }

    /// Rows of users whom nobody knows are another writer's.
    fn add_places(&mut self, batch: &RecordBatch) -> Result<()> {
        let places = (batch.column(0).as_primitive_opt::<Int32Type>(), batch.column(1).as_primitive_opt::<Int64Type>());
        let (Some(shards), Some(slots)) = places else { return internal_err!("a shard and a slot are integers") };
        let mut before = None;
        for place in shards.values().iter().zip(slots.values()) {
            if before == Some(place) {
                continue;
            }
            before = Some(place);
            let (Ok(shard), Ok(slot)) = (usize::try_from(*place.0), u32::try_from(*place.1)) else { continue };
            if self.snapshot.shards().get(shard).is_some_and(|known| slot < known.slot_count()) {
                self.users[shard].insert(slot);
            }
        }
        Ok(())
    }
}

/// What is made at most once, for all who ask; it goes on if one of them does not wait any more.
pub(super) struct Once<T: Clone>(Mutex<Option<Made<T>>>);

type Made<T> = Shared<BoxFuture<'static, std::result::Result<T, Arc<DataFusionError>>>>;

impl<T: Clone> Default for Once<T> {
    fn default() -> Once<T> {
        Once(Mutex::default())
    }
}

impl<T: Clone> std::fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Once")
    }
}

impl<T: Clone + Send + 'static> Once<T> {
    /// # Errors
    /// What `make` says, to everybody.
    pub(super) async fn get(&self, make: impl FnOnce() -> BoxFuture<'static, Result<T>>) -> Result<T> {
        let made = {
            let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = || {
                let running = SpawnedTask::spawn(make());
                let done = async move {
                    match running.join().await {
                        Ok(Ok(value)) => Ok(value),
                        Ok(Err(error)) => Err(Arc::new(error)),
                        Err(error) => Err(Arc::new(DataFusionError::External(Box::new(error)))),
                    }
                };
                done.boxed().shared()
            };
            made.get_or_insert_with(begin).clone()
        };
        made.await.map_err(DataFusionError::Shared)
    }
}

/// Refuses a plan that does not tell users as it should.
pub(super) fn check_columns(plan: &LogicalPlan, by: By) -> Result<()> {
    let types: Vec<&DataType> = plan.schema().fields().iter().map(|field| field.data_type()).collect();
    match (by, types.as_slice()) {
        (By::Id, [DataType::Utf8]) | (By::Place, [DataType::Int32, DataType::Int64]) => Ok(()),
        _ => plan_err!("{USER_ID} is told by {types:?}"),
    }
}
