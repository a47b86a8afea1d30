//! Users of an answer that are kept as an audience: a list, as if it had been uploaded.

use super::audiences;
use crate::access::Scope;
use crate::audit::Telling;
use crate::error::Failure;
use crate::queries::Asks;
use crate::rest::asker::Asker;
use crate::state::AppState;
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

/// Users kept as an audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SavedUsers {
    /// The audience.
    pub audience: String,
    /// How many they are.
    pub users: u64,
}

/// An answer, and the users to be kept, if any are.
pub(super) struct Found<A> {
    pub(super) answer: A,
    pub(super) kept: Option<Vec<RoaringBitmap>>,
}

/// A question whose users may be kept.
pub(super) struct Keeping {
    pub(super) asks: Asks,
    /// What was asked, for lists of that.
    pub(super) text: String,
    pub(super) timeout_ms: Option<u64>,
    /// The name of the audience; `None`: nobody is kept.
    pub(super) audience: Option<String>,
}

impl Keeping {
    /// Answers, and keeps users. `rows` tells how many rows an answer has.
    ///
    /// # Errors
    /// [`Failure`]: as of the question, and if the name is none or the asker may not keep.
    pub(super) async fn ask<A: Send + 'static>(
        self,
        state: &AppState,
        asker: &Asker,
        rows: impl Fn(&A) -> usize + Send + 'static,
        work: impl FnOnce(&Snapshot, &QueryContext) -> Result<Found<A>, Failure> + Send + 'static,
    ) -> Result<(A, Option<SavedUsers>), Failure> {
        if let Some(audience) = &self.audience {
            audiences::check_name(audience).map_err(|failure| failure.at("/save_as/audience"))?;
            asker.principal.need(&[Scope::Ingest])?;
        }
        let answered = asker.ask(state, self.asks, self.text, self.timeout_ms, move |snapshot, context, running| {
            let found = work(snapshot, context)?;
            running.add_rows(rows(&found.answer));
            Ok((found, snapshot.clone()))
        });
        let (Found { answer, kept }, snapshot) = answered.await?;
        let (Some(audience), Some(users)) = (self.audience, kept) else { return Ok((answer, None)) };
        let record = asker.keeps("save_as", &audience);
        let mut told = Telling::new(state.audit(), record);
        let users = audiences::save_users(state, &asker.principal, &audience, snapshot, users).await;
        told.change(|record| record.ended(&users));
        let users = users?;
        Ok((answer, Some(SavedUsers { audience, users })))
    }
}
