//! `/healthz`: does the process move? `/readyz`: does it take events? Each with its reasons, 200 or 503.
//!
//! Must not: look at sinks (one that is away is what the journal is for), or cost a sync.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::journal::{self, Journal};
use crate::terminal::{LinkState, LinkStatus};

/// A writer that says nothing for so long hangs: a slow card's sync takes a second or two.
const PATIENCE: Duration = Duration::from_secs(10);

/// The journal's writer answers; whatever it says.
pub(super) async fn moves(journal: &Journal) -> Vec<String> {
    match within(journal.ping()).await {
        Ok(Err(journal::Error::Closed)) => vec!["the journal's writer has ended".to_owned()],
        // A full disk is an answer, too.
        Ok(_) => Vec::new(),
        Err(reason) => vec![reason],
    }
}

/// The journal takes events, and no link is held back because it did not.
pub(super) async fn accepts(journal: &Journal, links: &[LinkStatus]) -> Vec<String> {
    let mut reasons = Vec::new();
    match within(journal.accepts()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => reasons.push(error.to_string()),
        Err(reason) => reasons.push(reason),
    }
    reasons.extend(links.iter().filter_map(|link| match &link.state {
        LinkState::Held(reason) => Some(format!("{} is held back: {reason}", link.name)),
        _ => None,
    }));
    reasons
}

async fn within<T>(question: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, question).await.map_err(|_| silence(PATIENCE))
}

/// What is said of a journal that hangs.
pub(super) fn silence(patience: Duration) -> String {
    format!("the journal has not answered for {} seconds", patience.as_secs())
}

pub(super) fn answer(reasons: &[String]) -> Response {
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ok": reasons.is_empty(), "reasons": reasons }))).into_response()
}
