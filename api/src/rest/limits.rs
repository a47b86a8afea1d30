//! What bounds queries: how many at a time, how many may wait, how long each may take, and an end when nobody waits
//! for the answer any more.
//!
//! A query runs on a blocking thread, never on one that serves connections. Its context is cancelled when the deadline
//! passes or when the handler is dropped because the client went away; the engine notices within a millisecond of
//! work, and only then the query's place is free again.

use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::state::{AppState, lock};
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Which queries run and how many wait.
pub struct QueryGate {
    running: Arc<Semaphore>,
    places: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    /// Places of tenants that have fewer than the server.
    tenants: Mutex<HashMap<String, Arc<OfTenant>>>,
}

/// A tenant's own places, and who waits for them: nobody else's line is longer for it.
struct OfTenant {
    /// As it was when they were made.
    limit: NonZeroU32,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// What a query holds while it runs.
struct Place {
    _server: OwnedSemaphorePermit,
    _tenant: Option<OwnedSemaphorePermit>,
}

impl QueryGate {
    /// A gate for `places` queries at a time and `waiting_max` more in line.
    pub fn new(places: usize, waiting_max: usize) -> QueryGate {
        QueryGate {
            running: Arc::new(Semaphore::new(places)),
            places,
            waiting: AtomicUsize::new(0),
            waiting_max,
            tenants: Mutex::default(),
        }
    }

    /// Queries running now.
    pub fn running(&self) -> usize {
        self.places - self.running.available_permits()
    }

    /// Queries waiting now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A place, waiting in line for it until `deadline`; first among those of one's tenant, so that others do not wait for these.
    async fn enter(&self, principal: &Principal, deadline: Instant) -> Result<Place, Failure> {
        let tenant = match self.of_tenant(principal) {
            Some(of) => Some(self.enter_one(&of.places, &of.waiting, deadline).await?),
            None => None,
        };
        Ok(Place { _server: self.enter_one(&self.running, &self.waiting, deadline).await?, _tenant: tenant })
    }

    fn of_tenant(&self, principal: &Principal) -> Option<Arc<OfTenant>> {
        let tenant = principal.tenant.as_ref()?;
        let limit = tenant.limits.concurrent_queries?;
        let mut tenants = lock(&self.tenants);
        let made = || {
            let places = Arc::new(Semaphore::new(limit.get() as usize));
            Arc::new(OfTenant { limit, places, waiting: AtomicUsize::new(0) })
        };
        let known = tenants.entry(tenant.name.clone()).or_insert_with(made);
        if known.limit != limit {
            *known = made();
        }
        Some(Arc::clone(known))
    }

    async fn enter_one(
        &self,
        places: &Arc<Semaphore>,
        waiting: &AtomicUsize,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Ok(permit);
        }
        let _in_line = InLine::join(waiting, self.waiting_max)?;
        let place = Arc::clone(places).acquire_owned();
        match tokio::time::timeout_at(deadline.into(), place).await {
            Ok(permit) => Ok(permit.expect("the gate is never closed")),
            Err(_) => {
                let detail =
                    "the query's time passed while it waited for others; try again, or with a longer timeout_ms";
                Err(Failure::new(Kind::TooManyQueries, detail).retry_after(1))
            }
        }
    }
}

struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn join(waiting: &'a AtomicUsize, waiting_max: usize) -> Result<Self, Failure> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= waiting_max {
            waiting.fetch_sub(1, Ordering::Relaxed);
            let detail = format!("more than {waiting_max} queries are waiting already; try again a little later");
            return Err(Failure::new(Kind::TooManyQueries, detail).retry_after(1));
        }
        Ok(InLine(waiting))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cancels a query when nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long a query may take: what it asks for, within the server's maximum.
///
/// # Errors
/// [`Kind::InvalidField`] above the maximum or at zero.
pub fn timeout(state: &AppState, timeout_ms: Option<u64>) -> Result<Duration, Failure> {
    let Some(millis) = timeout_ms else { return Ok(state.config.query_timeout) };
    let max = state.config.query_timeout_max;
    if millis == 0 || Duration::from_millis(millis) > max {
        let detail = format!("`timeout_ms` is from 1 to {} on this server", max.as_millis());
        return Err(Failure::field("/timeout_ms", detail));
    }
    Ok(Duration::from_millis(millis))
}

/// Runs a question on what somebody may see of the newest snapshot.
///
/// # Errors
/// What `work` fails with, [`Kind::Timeout`], or [`Kind::TooManyQueries`].
pub async fn query<T: Send + 'static>(
    state: &AppState,
    principal: &Principal,
    timeout_ms: Option<u64>,
    work: impl FnOnce(&Snapshot, &QueryContext) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let deadline = Instant::now() + timeout(state, timeout_ms)?;
    let place = state.queries.enter(principal, deadline).await?;
    state.store()?;
    let context = state.query_context();
    let cancel = CancelOnDrop(Arc::clone(&context.cancelled));
    let (state, principal) = (state.clone(), principal.clone());
    let running = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&state.view(&principal, &context)?, &context)
    });
    let answer = match tokio::time::timeout_at(deadline.into(), running).await {
        Ok(finished) => finished.unwrap_or_else(|panic| Err(Failure::internal(format!("a query panicked: {panic}")))),
        Err(_) => Err(Failure::new(
            Kind::Timeout,
            "the query ran out of its time; ask something narrower, or give it a longer timeout_ms",
        )),
    };
    drop(cancel);
    answer
}

/// Runs work that may wait for the disk away from the threads that serve connections.
///
/// # Errors
/// What `work` fails with; a panic becomes [`Kind::Internal`].
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let finished = tokio::task::spawn_blocking(work).await;
    finished.unwrap_or_else(|panic| Err(Failure::internal(format!("a task panicked: {panic}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Scope;
    use crate::access::tenants::{Limits, Tenant};

    #[tokio::test]
    async fn questions_of_a_tenant_wait_for_each_other_and_others_do_not() {
        let gate = QueryGate::new(3, 10);
        let of = |name: &str, concurrent_queries| {
            let limits = Limits { concurrent_queries, ..Limits::default() };
            let tenant = Tenant { limits, ..Tenant::named(name) };
            Principal::with_token(name, name, &[Scope::Query]).of(tenant)
        };
        let (small, free) = (of("small", NonZeroU32::new(1)), of("free", None));
        let soon = || Instant::now() + Duration::from_millis(20);
        let first = gate.enter(&small, soon()).await.expect("a place");
        let second = gate.enter(&small, soon()).await.map(drop).expect_err("its only place is taken");
        assert_eq!(second.kind, Kind::TooManyQueries);
        let others = [gate.enter(&free, soon()).await, gate.enter(&free, soon()).await];
        assert!(others.iter().all(Result::is_ok), "places of the server are free");
        assert!(gate.enter(&free, soon()).await.is_err(), "until they are not");
        drop(others);
        drop(first);
        gate.enter(&small, soon()).await.map(drop).expect("it is free again");
        let wider = of("small", NonZeroU32::new(2));
        let both = [gate.enter(&wider, soon()).await, gate.enter(&wider, soon()).await];
        assert!(both.iter().all(Result::is_ok), "a limit is changed at once");
    }
}
