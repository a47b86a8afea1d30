//! Statements: described and planned as those of Flight SQL are.

use super::catalog;
use super::connection::Pipe;
use super::errors::Told;
use super::messages::Format;
use super::portal::{Rows, Stop, cancelled, late};
use super::session::Session;
use super::settings::VERSION;
use super::types::name_of;
use crate::access::Scope;
use crate::error::{Failure, Kind};
use crate::queries::{Door, Progress};
use crate::rest::{asker, limits};
use arrow::array::RecordBatch;
use engine_sql::session::{Described, Driver, Question};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// What asking statements needs: they can list users.
pub(super) const EXPORT: &[Scope] = &[Scope::Query, Scope::Export];

/// A statement, and where it stands in what was sent.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) sent: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Text {
    pub(super) fn statement(&self) -> &str {
        self.sent.get(self.start..self.end).unwrap_or_default()
    }

    /// All that was sent.
    pub(super) fn whole(sent: String) -> Text {
        Text { start: 0, end: sent.len(), sent }
    }
}

impl Session {
    /// Whether who logged in may still ask statements: a token may have been revoked.
    pub(super) fn allowed(&mut self) -> Result<(), Told> {
        let told = |failure: Failure| Told::of(&failure, "", 0);
        self.principal = self.shared.state.caller(self.authorization.as_deref()).map_err(told)?;
        self.principal.need(EXPORT).map_err(told)
    }

    /// How long a statement may take.
    fn time(&self) -> Duration {
        let config = &self.shared.state.config;
        let time = self.settings.time().unwrap_or(config.query_timeout).min(config.query_timeout_max);
        time.max(Duration::from_millis(1))
    }

    /// Tells what a statement answers and takes, with these values of its parameters or none. It can be cancelled from another connection.
    pub(super) async fn described(&mut self, text: &Text, parameters: Option<RecordBatch>) -> Result<Described, Stop> {
        self.allowed()?;
        let time = self.time();
        let state = &self.shared.state;
        let failed = |failure: Failure| match failure.kind {
            Kind::Timeout => Stop::Told(late(time)),
            _ => Stop::Told(Told::of(&failure, &text.sent, text.start)),
        };
        let sql = Arc::clone(state.sql().map_err(failed)?);
        let system = catalog::tables(state, &self.principal);
        let question = self.question(text, parameters);
        let described = limits::query(state, &self.principal, Some(millis(time)), move |snapshot, context| {
            sql.describe(snapshot.clone(), &question, system, context).map_err(Failure::from)
        });
        let cancellation = CancellationToken::new();
        self.key.key.runs(Some(cancellation.clone()));
        tokio::select! {
            biased;
            described = described => described.map_err(failed),
            () = cancellation.cancelled() => Err(cancelled().into()),
            () = self.pipe.frames.gone() => Err(Stop::Gone),
        }
    }

    fn question(&self, text: &Text, parameters: Option<RecordBatch>) -> Question {
        let driver = Driver {
            user: self.settings.show("session_authorization").map(|(_, user)| user.to_owned()).unwrap_or_default(),
            version: format!("PostgreSQL {VERSION}"),
            connection: self.key.key.number,
            types: name_of,
        };
        let text = text.statement().to_owned();
        Question { text, parameters, schema: self.settings.schema(), driver: Some(driver) }
    }

    /// Plans a statement on the newest snapshot. It can be cancelled from now on, by its number or from another connection.
    pub(super) async fn plan(
        &mut self,
        text: &Text,
        parameters: Option<RecordBatch>,
        formats: Vec<Format>,
    ) -> Result<Rows, Stop> {
        self.allowed()?;
        let time = self.time();
        let deadline = Instant::now() + time;
        let state = self.shared.state.clone();
        let failed = |failure: Failure| match failure.kind {
            Kind::Timeout => Stop::Told(late(time)),
            _ => Stop::Told(Told::of(&failure, &text.sent, text.start)),
        };
        let sql = Arc::clone(state.sql().map_err(failed)?);
        let system = catalog::tables(&state, &self.principal);
        let question = self.question(text, parameters);
        let watch = state.statements.begin(Door::Postgres, &self.principal, &question.text);
        self.key.key.runs(Some(watch.cancellation()));
        let planned = asker::watched(&state, &watch, Some(millis(time)), move |snapshot, context, running| {
            let planned = sql.plan(snapshot.clone(), &question, system, context)?;
            running.measures(planned.meter());
            Ok(planned)
        });
        let Pipe { frames, .. } = &mut self.pipe;
        let planned = tokio::select! {
            biased;
            planned = planned => planned,
            // The watch ends with this.
            () = frames.gone() => return Err(Stop::Gone),
        };
        self.key.key.runs(None);
        match planned {
            Ok(planned) => {
                let sent = (text.sent.clone(), text.start);
                Ok(Rows::new(planned, watch, formats, sent, (time, deadline))?)
            }
            Err(_) if watch.cancellation().is_cancelled() => {
                watch.end(Progress::Cancelled);
                Err(cancelled().into())
            }
            Err(failure) => {
                let told = failed(failure);
                if let Stop::Told(told) = &told {
                    watch.end(Progress::Failed(told.message.clone()));
                }
                Err(told)
            }
        }
    }

    /// A place to stream an answer in.
    pub(super) fn place(&self) -> impl FnOnce() -> Result<OwnedSemaphorePermit, Failure> + use<> {
        let exports = Arc::clone(&self.shared.state.exports);
        move || {
            exports.try_acquire_owned().map_err(|_| {
                let why = "too many answers are being streamed; try again a little later";
                Failure::new(Kind::TooManyQueries, why)
            })
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
