//! Is it alive, is it ready.

use crate::error::{Failure, Kind};
use crate::state::{AppState, Phase};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

/// What `/healthz` and `/readyz` say when all is well.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `alive` or `ready`.
    pub status: String,
    /// Beluga's version.
    pub version: String,
    /// What is not as it should be although questions are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Whether the process is alive. Never touches the store.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "alive".into(), version: env!("CARGO_PKG_VERSION").into(), warning: None })
}

/// Whether requests are answered: 503 while the data directory is opened and while the server stops.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200, body = Health)))]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Failure> {
    match state.phase() {
        Phase::Ready => {
            let warning = state.keeper_status().and_then(|keeper| keeper.last_error);
            Ok(Json(Health { status: "ready".into(), version: env!("CARGO_PKG_VERSION").into(), warning }))
        }
        Phase::Starting => Err(Failure::new(Kind::NotReady, "the data directory is being opened").retry_after(1)),
        Phase::Stopping => Err(Failure::new(Kind::NotReady, "the server is stopping")),
    }
}
