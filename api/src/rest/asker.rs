//! Who asks, by which door, and questions that are watched while they are answered.

use crate::access::Principal;
use crate::audit::Record;
use crate::error::{Failure, Kind};
use crate::privacy::Guard;
use crate::queries::{Asks, Door, Running, Watch};
use crate::rest::limits;
use crate::rest::v1::expression::Where;
use crate::state::AppState;
use axum::extract::FromRequestParts;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use engine::audience::ops::QueryContext;
use engine::audience::predicate::Predicate;
use engine::store::Snapshot;
use std::sync::Arc;

/// How our own command line calls itself.
pub const CLI_AGENT: &str = concat!("beluga/", env!("CARGO_PKG_VERSION"));
/// What that begins with, whatever its version.
const CLI: &str = "beluga/";

/// Who asks by REST.
#[derive(Clone, Debug)]
pub(in crate::rest) struct Asker {
    pub(in crate::rest) principal: Principal,
    pub(in crate::rest) door: Door,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let principal = parts.extensions.get::<Principal>().cloned();
        let principal = principal.ok_or_else(|| Failure::internal("nobody has looked who asks"))?;
        let agent = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let door = if agent.is_some_and(|agent| agent.starts_with(CLI)) { Door::Cli } else { Door::Rest };
        Ok(Asker { principal, door })
    }
}

/// Says, where a question is answered, whether its asker is under a privacy policy. (What was told is read from disk, at first.)
pub(in crate::rest) struct Watchful {
    state: AppState,
    principal: Principal,
}

impl Watchful {
    /// Who watches over what is told; `None` if they are under no policy.
    ///
    /// # Errors
    /// As [`crate::privacy::Guards::of`].
    pub(in crate::rest) fn guard(&self) -> Result<Option<Guard>, Failure> {
        self.state.privacy.of(&self.principal)
    }

    /// That the users of an expression may be listed.
    ///
    /// # Errors
    /// As [`Watchful::guard`], [`Where::bind`] and [`Guard::list`].
    pub(in crate::rest) fn list(
        &self,
        snapshot: &Snapshot,
        of: &Where,
        context: &QueryContext,
        running: &Running,
    ) -> Result<(), Failure> {
        match self.principal.tenant.as_ref().is_some_and(|tenant| tenant.privacy.is_some()) {
            true => self.list_of(snapshot, &of.bind(snapshot, "/where")?.predicate, context, running),
            false => Ok(()),
        }
    }

    /// The same of a predicate.
    ///
    /// # Errors
    /// As there.
    pub(in crate::rest) fn list_of(
        &self,
        snapshot: &Snapshot,
        of: &Predicate,
        context: &QueryContext,
        running: &Running,
    ) -> Result<(), Failure> {
        let Some(guard) = self.guard()? else { return Ok(()) };
        guard.list(&guard.users(snapshot, of, context)?, running)
    }
}

impl Asker {
    /// See [`Watchful`].
    pub(in crate::rest) fn guards(&self, state: &AppState) -> Watchful {
        Watchful { state: state.clone(), principal: self.principal.clone() }
    }

    /// What the audit log tells of an answer that is kept, as an audience or a tag of this name.
    pub(in crate::rest) fn keeps(&self, action: &str, name: &str) -> Record {
        Record::of_call(self.door, action, Some(name)).by(&self.principal)
    }

    /// Watches a question about audiences from now on.
    pub(in crate::rest) fn watch(&self, state: &AppState, asks: Asks, text: String) -> Watch {
        state.statements.begin_question(self.door, asks, &self.principal, text)
    }

    /// Answers a question about audiences, on the newest snapshot. `work` tells how many rows it found.
    ///
    /// # Errors
    /// As [`limits::query`]; [`Kind::Timeout`] if somebody cancels it.
    pub(in crate::rest) async fn ask<T: Send + 'static>(
        &self,
        state: &AppState,
        asks: Asks,
        text: String,
        timeout_ms: Option<u64>,
        work: impl FnOnce(&Snapshot, &QueryContext, &Running) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        // It stays here: when the client goes away it is dropped, whatever still runs.
        let watch = self.watch(state, asks, text);
        let answer = watched(state, &watch, timeout_ms, work).await;
        watch.end_with(&answer);
        answer
    }
}

/// Answers a question that is watched, until somebody cancels it.
///
/// # Errors
/// As [`Asker::ask`].
pub(crate) async fn watched<T: Send + 'static>(
    state: &AppState,
    watch: &Watch,
    timeout_ms: Option<u64>,
    work: impl FnOnce(&Snapshot, &QueryContext, &Running) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (running, cancellation) = (watch.running(), watch.cancellation());
    let answer = limits::query(state, watch.principal(), timeout_ms, move |snapshot, context| {
        running.sets(Arc::clone(&context.cancelled));
        work(snapshot, context, &running)
    });
    tokio::select! {
        biased;
        answer = answer => answer,
        // One that waits in line gives up its place there, one that runs is told to end.
        () = cancellation.cancelled() => Err(Failure::new(Kind::Timeout, "somebody cancelled the query")),
    }
}
