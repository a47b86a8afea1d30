//! The API's description: made of the handlers themselves, served at `/openapi.json`, shown at `/docs`.

use crate::error::Problem;
use crate::rest::problem::PROBLEM_JSON;
use axum::Json;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};

/// What does not come from a handler.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Beluga",
        description = "Who, right now, fits this? Audience questions over users and their tags, as SQL boolean expressions.\n\nEvery error is an RFC 9457 problem: a stable `type` (`urn:beluga:problem:…`), what happened in `detail`, the position in the expression in `span`, the field of the body in `pointer`, and what to write instead in `suggestion`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    tags(
        (name = "questions", description = "Ask about users"),
        (name = "audiences", description = "Named audiences and uploaded lists"),
        (name = "data", description = "The catalog, updates and users"),
        (name = "operations", description = "Health and metrics")
    )
)]
struct Description;

/// The description without paths, to be filled by the router.
pub fn base() -> OpenApi {
    Description::openapi()
}

/// Adds to every operation how it fails.
pub fn finish(mut api: OpenApi) -> OpenApi {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let failure = ResponseBuilder::new().description("What went wrong").content(PROBLEM_JSON, problem).build();
    for item in api.paths.paths.values_mut() {
        for operation in operations(item) {
            operation.responses.responses.insert("default".to_owned(), failure.clone().into());
        }
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().filter_map(Option::as_mut)
}

/// `GET /openapi.json`.
pub async fn json(api: OpenApi) -> Json<OpenApi> {
    Json(api)
}
