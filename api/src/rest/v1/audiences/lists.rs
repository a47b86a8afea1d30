//! Audiences that are lists of users: uploaded, or kept from an answer.
//!
//! A list of any size is written beside whatever the name meant before, under a list id of its own; only then does the
//! name point to it. So replacing a list is atomic. While a list is being written, a hidden audience (its name
//! begins with [`HIDDEN_PREFIX`], which no client may use) names its id, lest a merge take it for abandoned.

use super::super::upload::{self, UploadAnswer};
use super::{AudiencePutAnswer, UploadedAnswer, check_version, visible_audience, with_version};
use crate::access::Principal;
use crate::error::{Failure, Kind};
use crate::rest::limits;
use crate::state::AppState;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use engine::audience::ops;
use engine::audience::predicate::Predicate;
use engine::ids::{Lsn, TagId};
use engine::store::{Audience, Definition, Snapshot, Store, WriteError};
use engine::update::{Change, UpdateBatch};
use ingest::decode::body::LineDecoder;
use ingest::decode::{UserListDecoder, UserListFormat};
use roaring::RoaringBitmap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// How the names of hidden audiences begin.
pub const HIDDEN_PREFIX: &str = ".uploading/";
/// Users written at once as members of a list.
const LISTED_AT_ONCE: usize = 10_000;

/// Keeps users of a snapshot as an audience, a list as if it had been uploaded, in the place of one that had the name. Tells how many.
///
/// # Errors
/// [`Failure`] for the client; the name then means what it meant before.
pub(in crate::rest::v1) async fn save_users(
    state: &AppState,
    principal: &Principal,
    name: &str,
    snapshot: Snapshot,
    users: Vec<RoaringBitmap>,
) -> Result<u64, Failure> {
    let store = Arc::clone(state.store()?);
    let name = principal.defined_name(name)?;
    let list_id = new_list_id(&name);
    let guard = HiddenAudience::put(&store, &list_id).await?;
    let (writing, id) = (Arc::clone(&store), list_id.clone());
    let user_count = limits::blocking(move || write_list(&writing, &id, &snapshot, &users)).await?;
    state.metrics.updates(user_count, 0);
    let changing = state.lock_definitions().await;
    let (state, principal) = (state.clone(), principal.clone());
    limits::blocking(move || {
        let _changing = changing;
        state.still(&principal)?;
        let definition = Definition::Uploaded { list_id, user_count };
        let changed_at = jiff::Timestamp::now().as_microsecond();
        store.put_audience(&name, Audience { definition, description: String::new(), changed_at })?;
        store.publish()?;
        drop(guard);
        Ok(user_count)
    })
    .await
}

/// Writes users as members of a list, durably.
fn write_list(store: &Store, list_id: &str, snapshot: &Snapshot, users: &[RoaringBitmap]) -> Result<u64, Failure> {
    let (mut batch, mut end, mut count, mut id) = (UpdateBatch::new(), Lsn(0), 0, Vec::new());
    let mut flush = |batch: &mut UpdateBatch| -> Result<(), Failure> {
        if !batch.is_empty() {
            end = end.max(store.write(batch, None)?.lsn);
            batch.clear();
        }
        Ok(())
    };
    for (shard, slots) in snapshot.shards().iter().zip(users) {
        for slot in slots {
            id.clear();
            if shard.user_id(slot, &mut id)? {
                batch.begin_user(&id);
                batch.push(TagId::UPLOADS, Change::Add(list_id));
                count += 1;
            }
            if batch.user_count() >= LISTED_AT_ONCE {
                flush(&mut batch)?;
            }
        }
    }
    flush(&mut batch)?;
    store.sync(end)?;
    Ok(count)
}

/// Takes a body of user ids as the list of an audience.
///
/// # Errors
/// [`Failure`] for the client; the name then means what it meant before.
pub(super) async fn upload(
    state: AppState,
    principal: &Principal,
    name: String,
    description: String,
    headers: HeaderMap,
    body: Body,
    format: UserListFormat,
) -> Result<Response, Failure> {
    let store = Arc::clone(state.store()?);
    let whole_name = principal.defined_name(&name)?;
    let list_id = new_list_id(&whole_name);
    let guard = HiddenAudience::put(&store, &list_id).await?;
    let decoder = LineDecoder::UserList(UserListDecoder::new(format, &list_id));
    let destination = upload::Destination::tags(&state.writable(principal)?).of(principal);
    let report = upload::receive(&state, destination, body, upload::Decoder::Lines(decoder), None).await?;
    if report.accepted == 0 && report.rejected > 0 {
        let first = &report.errors[0];
        let detail = format!("no line of the list could be taken; line {}: {}", first.line, first.error);
        return Err(Failure::new(Kind::MalformedBody, detail));
    }
    let changing = state.lock_definitions().await;
    let predicate = Predicate::Listed(list_id.clone());
    let (named, own_name) = (whole_name, name.clone());
    let (asker, context) = (principal.clone(), state.query_context());
    let (audience, epoch, known) = limits::blocking(move || {
        state.still(&asker)?;
        check_version(&headers, visible_audience(&state.names(&asker)?, &own_name))?;
        let definition = Definition::Uploaded { list_id, user_count: report.accepted };
        let audience = Audience { definition, description, changed_at: jiff::Timestamp::now().as_microsecond() };
        store.put_audience(&named, audience.clone())?;
        let epoch = store.publish()?;
        drop(guard);
        // What follows may take a while.
        drop(changing);
        // One bitmap is counted, so it waits for no place among the queries: without one, what was done would be told
        // as having failed.
        let is_told = asker.tenant.as_ref().is_none_or(|tenant| tenant.privacy.is_none());
        let count = || Ok::<_, Failure>(ops::count(&state.view(&asker, &context)?, &predicate, &context)?);
        let known = is_told.then(count).transpose()?;
        Ok((audience, epoch, known))
    })
    .await?;
    let UploadAnswer { accepted, rejected, errors, .. } = report;
    let answer =
        AudiencePutAnswer::Uploaded(UploadedAnswer { name, ids: accepted, known, rejected, errors, epoch: epoch.0 });
    Ok(with_version(StatusCode::OK, &audience, answer))
}

pub(super) fn new_list_id(name: &str) -> String {
    let now = jiff::Timestamp::now().as_microsecond();
    format!("{name}@{now}-{:08x}", RandomState::new().hash_one(now) as u32)
}

/// Names a list while it is being written; goes when dropped.
struct HiddenAudience {
    store: Arc<Store>,
    name: String,
}

impl HiddenAudience {
    async fn put(store: &Arc<Store>, list_id: &str) -> Result<HiddenAudience, Failure> {
        let hidden = HiddenAudience { store: Arc::clone(store), name: format!("{HIDDEN_PREFIX}{list_id}") };
        let definition = Definition::Uploaded { list_id: list_id.to_owned(), user_count: 0 };
        limits::blocking(move || {
            let audience = Audience { definition, description: String::new(), changed_at: 0 };
            hidden.store.put_audience(&hidden.name, audience)?;
            hidden.store.publish()?;
            Ok(hidden)
        })
        .await
    }
}

impl Drop for HiddenAudience {
    fn drop(&mut self) {
        let (store, name) = (Arc::clone(&self.store), std::mem::take(&mut self.name));
        let forget = move || {
            if let Err(error) = store.delete_audience(&name) {
                tracing::warn!(%error, "a finished upload is not forgotten until the next start");
            }
        };
        // Deleting waits for the disk; the drop may happen on a thread that serves connections.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(forget)),
            Err(_) => forget(),
        }
    }
}

/// Forgets the hidden audiences of uploads that a crash broke off. To be called before requests are answered.
///
/// # Errors
/// Those of the store.
pub fn forget_broken_uploads(store: &Store) -> Result<(), WriteError> {
    let snapshot = store.snapshot();
    let mut broken = snapshot.audiences().keys().filter(|name| name.starts_with(HIDDEN_PREFIX));
    broken.try_for_each(|name| store.delete_audience(name).map(|_| ()))
}
