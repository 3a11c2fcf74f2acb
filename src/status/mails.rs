//! `GET /api/v1/outbox`: the mails of supervisor's own. On the control socket only: they name people's addresses.

use super::Sources;
use super::api::{journal_read, rejected};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

/// Mails given without a `limit`: a screen.
const MAILS_DEFAULT: usize = 20;

/// The most mails one answer has.
const MAILS_MAX: usize = 100;

/// One mail, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailView {
    /// Its number.
    pub id: u64,
    /// When it was decided: RFC 3339, UTC.
    pub at: String,
    /// `firing`, `resolved` or `test`; none when it cannot be read.
    pub kind: Option<String>,
    /// `pending`, `staged`, `done`, `dead` or `not_needed`.
    pub state: String,
    /// What it tells, a sentence for each incident.
    pub about: Vec<String>,
    /// Why it does not go through Alertmanager.
    pub why: Option<String>,
    /// Its Message-ID, once it is written.
    pub message_id: Option<String>,
    /// Whom it is for; empty before it is written.
    pub recipients: Vec<RecipientView>,
}

/// How one recipient of a mail stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientView {
    /// The address.
    pub address: String,
    /// `pending`, `accepted`, `deferred`, `ambiguous` or `dead`.
    pub state: String,
    /// The relay that was asked last.
    pub relay: Option<String>,
    /// What it said, or why it said nothing.
    pub reply: Option<String>,
    /// How many attempts there were.
    pub attempts: u32,
    /// When it is tried again: RFC 3339, UTC.
    pub next: Option<String>,
}

/// The body of `GET /api/v1/outbox`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailList {
    /// Newest first.
    pub mails: Vec<MailView>,
}

/// The reads that are only for those who may give orders.
pub fn router(sources: Sources) -> Router {
    Router::new().route("/api/v1/outbox", get(outbox)).with_state(sources)
}

/// The query of `GET /api/v1/outbox`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailsQuery {
    limit: Option<usize>,
}

async fn outbox(
    State(sources): State<Sources>,
    query: Result<Query<MailsQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return rejected(&rejection, &format!("limit=1..{MAILS_MAX}")),
    };
    let limit = query.limit.unwrap_or(MAILS_DEFAULT).clamp(1, MAILS_MAX);
    journal_read(&sources, move |past| past.mails(limit).map(|mails| MailList { mails })).await
}
