//! The page: the same as the API, for eyes. Rendered from the view in memory, so that it shows even when the disk hangs.

use super::Sources;
use crate::control::server::error;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::LazyLock;
use tera::{Context, Tera};

const TEMPLATE: &str = "status.html";

/// Nothing from elsewhere, nothing inline: what a name or a reason contains is text, whatever it looks like.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The compiled template. Tera escapes everything in templates named `*.html`.
static PAGE: LazyLock<Result<Tera, String>> = LazyLock::new(|| {
    let mut tera = Tera::default();
    let added = tera.add_raw_template(TEMPLATE, include_str!("../../templates/status.html"));
    added.map(|()| tera).map_err(|why| why.to_string())
});

pub(super) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status.css", get(async || asset("text/css", include_str!("../../templates/status.css"))))
        .route(
            "/status.js",
            get(async || asset("text/javascript", include_str!("../../templates/status.js"))),
        )
        .with_state(sources)
}

async fn page(State(sources): State<Sources>) -> Response {
    match render(&sources) {
        Ok(html) => (
            [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
                (header::CACHE_CONTROL, "no-store"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
            ],
            html,
        )
            .into_response(),
        Err(why) => {
            tracing::error!(error = why, "the status page could not be rendered");
            error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the page could not be rendered; /api/v1/status has the same",
            )
        }
    }
}

fn render(sources: &Sources) -> Result<String, String> {
    let tera = PAGE.as_ref().map_err(Clone::clone)?;
    let mut context = Context::new();
    context.insert("view", &*sources.view());
    tera.render(TEMPLATE, &context).map_err(|why| why.to_string())
}

fn asset(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 3], &'static str) {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}
