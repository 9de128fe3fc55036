//! What the running gateway logs, for a while: `GET /log` and `POST /log`.
//!
//! The configured filter stays what it is. Another one is laid over it and goes by itself, so that nobody leaves a gateway
//! far away writing a line for every frame.
//!
//! Must not: write the configuration, or lay a filter over it without an end.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::refusal;
use crate::clock::Clock;
use crate::event::{UtcMicros, json::rfc3339};
use crate::telemetry;

/// For how long a filter is laid over the configured one where nobody says, seconds.
const USUAL: u64 = 3600;

/// And at most, seconds: a day.
pub const LONGEST: u64 = 86_400;

/// Longest filter, bytes: a dozen modules.
const MAX_FILTER: usize = 1024;

/// When it ends.
#[derive(Clone, Copy)]
struct End {
    at: Instant,
    wall: UtcMicros,
}

/// The filter that is laid over the configured one, if any. It and its end change together, under the lock of `end`.
pub(super) struct Dial {
    clock: Clock,
    end: watch::Sender<Option<End>>,
}

impl Dial {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, end: watch::Sender::new(None) })
    }

    /// Takes each filter away at its end.
    pub(super) async fn mind(&self) {
        let mut ends = self.end.subscribe();
        loop {
            let end = *ends.borrow_and_update();
            let over = async {
                match end {
                    Some(end) => sleep_until(end.at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is ours.
                _ = ends.changed() => {}
                // Another one may have come this very moment.
                () = over => self.take_away("its time is over", |end| end.at <= Instant::now()),
            }
        }
    }

    fn lay_over(&self, filter: &str, seconds: u64) {
        // Before it is in force: it may be one that says less.
        tracing::warn!(reason = filter, seconds, "another log filter is in force for a while");
        let micros = i64::try_from(seconds * 1_000_000).unwrap_or(i64::MAX);
        let wall = UtcMicros(self.clock.now().wall.0.saturating_add(micros));
        self.end.send_modify(|end| {
            telemetry::lay_over(Some(filter));
            *end = Some(End { at: Instant::now() + Duration::from_secs(seconds), wall });
        });
    }

    fn take_away(&self, reason: &str, whether: impl FnOnce(&End) -> bool) {
        let taken = self.end.send_if_modified(|end| {
            let over = end.as_ref().is_some_and(whether);
            if over {
                telemetry::lay_over(None);
                *end = None;
            }
            over
        });
        if taken {
            tracing::info!(reason, "the configured log filter is in force again");
        }
    }

    fn told(&self) -> Value {
        let end = self.end.borrow();
        let filters = telemetry::filters();
        let shown = filters.laid_over.as_deref().unwrap_or(&filters.base);
        let mut object = json!({ "filter": shown, "configured": filters.base });
        if filters.from_environment {
            object["configured_by"] = telemetry::VARIABLE.into();
        }
        if let Some(end) = *end {
            object["until"] = rfc3339(end.wall).as_str().into();
        }
        if let Some(most) = telemetry::most(shown) {
            object["note"] =
                format!("this build holds no lines below {most}: what the filter asks beyond that is not there").into();
        }
        object
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        // Nobody is left to mind its end.
        telemetry::lay_over(None);
    }
}

pub(super) fn routes(dial: Arc<Dial>) -> Router {
    Router::new().route("/log", get(tell).post(set)).with_state(dial)
}

async fn tell(State(dial): State<Arc<Dial>>) -> Response {
    Json(dial.told()).into_response()
}

/// `{"filter": TEXT, "for_seconds": N}`; a filter of `null` takes away what is laid over.
async fn set(State(dial): State<Arc<Dial>>, Json(request): Json<Value>) -> Response {
    match &request["filter"] {
        Value::Null => dial.take_away("somebody said so", |_| true),
        Value::String(filter) if filter.len() <= MAX_FILTER && telemetry::is_filter(filter) => {
            let seconds = match &request["for_seconds"] {
                Value::Null => Some(USUAL),
                seconds => seconds.as_u64().filter(|seconds| (1..=LONGEST).contains(seconds)),
            };
            let Some(seconds) = seconds else {
                let words = format!("for_seconds must be a whole number from 1 to {LONGEST} (a day)");
                return refusal(StatusCode::BAD_REQUEST, &words);
            };
            dial.lay_over(filter, seconds);
        }
        _ => return refusal(StatusCode::BAD_REQUEST, &telemetry::no_filter("what was sent")),
    }
    Json(dial.told()).into_response()
}
