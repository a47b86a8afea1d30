//! All routes, and the layers around them.

use crate::error::Failure;
use crate::rest::{authorize, body, console, drain, health, metrics, observe, openapi, problem, unpack, v1};
use crate::state::AppState;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

/// Answers below this size are not worth compressing.
const COMPRESS_BYTES_MIN: u64 = 1024;

/// Everything the HTTP door answers.
pub fn router(state: &AppState) -> Router {
    let (routes, api) = described().split_for_parts();
    let api = openapi::finish(api);
    let json = api.clone();
    let compressed = SizeAbove::new(COMPRESS_BYTES_MIN)
        .and(NotForContentType::new("application/vnd.apache"))
        .and(NotForContentType::new("application/vnd.roaring"))
        .and(NotForContentType::SSE);
    routes
        .route("/openapi.json", get(move || openapi::json(json)))
        .route("/", get(console::page))
        .route("/console/{*path}", get(console::file))
        .merge(SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("/openapi.json")))
        .fallback(problem::no_route)
        .layer(CatchPanicLayer::custom(problem::panicked as fn(_) -> _))
        .layer(from_fn(unpack::unpack))
        .layer(from_fn_with_state(state.clone(), authorize::authorize))
        .layer(from_fn(body::refuse_cross_site))
        .layer(from_fn(problem::unify))
        .layer(from_fn(drain::drain))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .with_state(state.clone())
}

/// The description of all routes.
pub fn description() -> OpenApi {
    openapi::finish(described().split_for_parts().1)
}

fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(v1::catalog::get, v1::catalog::put))
        .routes(routes!(v1::tags::post))
        .routes(routes!(v1::facts::post))
        .routes(routes!(v1::spaces::post))
        .routes(routes!(v1::count::post))
        .routes(routes!(v1::judge::post))
        .routes(routes!(v1::movement::get))
        .routes(routes!(v1::profile::post))
        .routes(routes!(v1::overlap::post))
        .routes(routes!(v1::lookalike::post))
        .routes(routes!(v1::funnel::post))
        .routes(routes!(v1::sequence::post))
        .routes(routes!(v1::retention::post))
        .routes(routes!(v1::path::post))
        .routes(routes!(v1::attribution::post))
        .routes(routes!(v1::effect::post))
        .routes(routes!(v1::experiment::post))
        .routes(routes!(v1::members::post))
        .routes(routes!(v1::sample::post))
        .routes(routes!(v1::top::post))
        .routes(routes!(v1::explain::post))
        .routes(routes!(v1::translate::post))
        .routes(routes!(v1::sql::post))
        .routes(routes!(v1::audiences::list))
        .routes(routes!(v1::audiences::get, v1::audiences::put, v1::audiences::delete))
        .routes(routes!(v1::audiences::members))
        .routes(routes!(v1::live::sizes))
        .routes(routes!(v1::live::changes))
        .routes(routes!(v1::sources::list))
        .routes(routes!(v1::sources::get))
        .routes(routes!(v1::sources::start))
        .routes(routes!(v1::sources::pause))
        .routes(routes!(v1::sources::resume))
        .routes(routes!(v1::sources::stop))
        .routes(routes!(v1::sources::rewind))
        .routes(routes!(v1::sinks::list))
        .routes(routes!(v1::sinks::get))
        .routes(routes!(v1::sinks::start))
        .routes(routes!(v1::sinks::pause))
        .routes(routes!(v1::sinks::resume))
        .routes(routes!(v1::sinks::stop))
        .routes(routes!(v1::jobs::list, v1::jobs::post))
        .routes(routes!(v1::jobs::get, v1::jobs::delete))
        .routes(routes!(v1::tokens::list, v1::tokens::post))
        .routes(routes!(v1::tokens::delete))
        .routes(routes!(v1::purposes::list))
        .routes(routes!(v1::purposes::get, v1::purposes::put, v1::purposes::delete))
        .routes(routes!(v1::tenants::list))
        .routes(routes!(v1::tenants::get, v1::tenants::put, v1::tenants::delete))
        .routes(routes!(v1::queries::list))
        .routes(routes!(v1::queries::delete))
        .routes(routes!(v1::users::get, v1::erasures::delete_user))
        .routes(routes!(v1::erasures::list, v1::erasures::post))
        .routes(routes!(v1::erasures::get))
        .routes(routes!(v1::erasures::admit))
        .routes(routes!(v1::status::get))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::get))
}

/// What handlers answer.
pub type Answer<T> = Result<axum::Json<T>, Failure>;
