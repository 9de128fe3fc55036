//! The control socket: HTTP over a Unix socket, for what needs the live process.
//!
//! `GET /status` answers the object of [`super::status`]; `POST /quarantine/replay` takes `{"sink": NAME, "seqs": [N, …]}`
//! (all of the sink's without `seqs`) and answers `{"released": N}`; `POST /quarantine/drop` takes `{"sink": NAME, "seqs":
//! [N, …], "why": TEXT, "who": TEXT}` and answers `{"dropped": N}`; `POST /quarantine/edit` takes the same and `"fields":
//! {TARGET: VALUE}` and answers `{"edited": N}`; `POST /config/reload` reads the configuration file again, runs what it says
//! and answers the object of [`Report`] with its `outcome`, with 409 where it is refused; `POST /config/rollback` takes `{"who": TEXT, "why": TEXT, "abandon": [SINK, …]}`, takes back what came from afar and
//! answers the same; `GET /log` answers what is logged, `POST /log` changes it for a while ([`log`]). Errors are `{"error": TEXT}` with a fitting status.
//!
//! Must not: be reachable over a network, be needed for anything that the gateway itself does, or let a caller hold
//! anything without bound.

pub mod client;

pub mod log;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::bounded::Bounded;
use super::reload::{Report, Reports, RollBack};
use super::status::Gateway;
use crate::journal::{self, Journal, Seq};

/// Most connections at once.
const CONNECTIONS: usize = 8;

/// Largest request body, bytes: some thousands of sequence numbers.
const MAX_BODY: usize = 64 * 1024;

/// Who may talk to the gateway: its own user and group.
const MODE: u32 = 0o660;

/// Makes the socket. A socket file that nobody answers on any more is removed first.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process answers on it; give this gateway a [manage] socket of its own",
                ));
            }
            remove_stale(path)?;
            UnixListener::bind(path)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(io::Error::new(
            error.kind(),
            "the path is too long for a socket (107 bytes at most); choose a shorter one",
        )),
        other => other,
    }?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Only a socket is removed: a path that was mistyped must not cost anybody a file.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket stands there"));
    }
    std::fs::remove_file(path)
}

/// Answers until the gateway stops, then removes the socket file.
pub async fn serve(
    listener: UnixListener,
    gateway: Gateway,
    journal: Journal,
    reports: impl Reports,
    shutdown: CancellationToken,
) {
    // Also where this future is dropped before it has seen the end.
    let _file = listener.local_addr().ok().and_then(|a| a.as_pathname().map(|path| SocketFile(path.to_owned())));
    let clock = gateway.clock.clone();
    let router = Router::new()
        .route("/status", get(status))
        .route("/quarantine/replay", post(replay))
        .route("/quarantine/drop", post(give_up))
        .route("/quarantine/edit", post(edit))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state((gateway, journal))
        .merge(configuration(reports));
    let dial = log::Dial::new(clock);
    let router = router.merge(log::routes(std::sync::Arc::clone(&dial)).layer(DefaultBodyLimit::max(MAX_BODY)));
    let served = axum::serve(Bounded::new(listener, CONNECTIONS), router).into_future();
    // Requests that are under way are dropped with the server: every one of them may be asked again.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = dial.mind() => {}
        result = served => {
            if let Err(error) = result {
                tracing::warn!(%error, "control socket failed");
            }
        }
    }
}

/// What concerns the configuration.
fn configuration(reports: impl Reports) -> Router {
    let other = reports.clone();
    Router::new()
        .route("/config/reload", post(move || reload(reports.clone())))
        .route("/config/rollback", post(move |request: Json<Value>| roll_back(other.clone(), request)))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// Removes the socket file when it goes.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good as removed.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn status(State((gateway, journal)): State<(Gateway, Journal)>) -> Response {
    match journal.stats().await {
        Ok(stats) => Json(gateway.status(&stats)).into_response(),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn reload(reports: impl Reports) -> Response {
    answer(reports.reload().await)
}

async fn roll_back(reports: impl Reports, Json(request): Json<Value>) -> Response {
    let text = |key: &str| request[key].as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let (Some(who), Some(why)) = (text("who"), text("why")) else {
        return refusal(StatusCode::BAD_REQUEST, "say who and why: {\"who\", \"why\"}");
    };
    let abandon = request["abandon"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let abandon = abandon.collect();
    answer(reports.roll_back(RollBack { who, why, abandon }).await)
}

fn answer(report: Option<Report>) -> Response {
    match report {
        Some(report) => {
            let status = if report.problems.is_empty() { StatusCode::OK } else { StatusCode::CONFLICT };
            (status, Json(told(&report))).into_response()
        }
        None => refusal(StatusCode::SERVICE_UNAVAILABLE, "the gateway is about to stop"),
    }
}

fn told(report: &Report) -> Value {
    let mut object = json!(report);
    object["outcome"] = report.outcome().into();
    if !report.problems.is_empty() {
        object["error"] = report.problems.join("; ").into();
    }
    object
}

async fn replay(State((_, journal)): State<(Gateway, Journal)>, Json(request): Json<Value>) -> Response {
    let Some(sink) = request["sink"].as_str() else {
        return refusal(StatusCode::BAD_REQUEST, "name a sink: {\"sink\": NAME, \"seqs\": [N, …]}");
    };
    let Some(seqs) = seqs(&request["seqs"]) else {
        return refusal(StatusCode::BAD_REQUEST, "seqs must be a list of whole numbers");
    };
    match journal.release(sink.to_owned(), seqs).await {
        Ok(released) => Json(json!({ "released": released })).into_response(),
        Err(error) => failed(&error),
    }
}

async fn give_up(State((_, journal)): State<(Gateway, Journal)>, Json(request): Json<Value>) -> Response {
    let text = |key: &str| request[key].as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let (Some(sink), Some(why), Some(who)) = (text("sink"), text("why"), text("who")) else {
        return refusal(StatusCode::BAD_REQUEST, "say which sink, why and who: {\"sink\", \"seqs\", \"why\", \"who\"}");
    };
    let Some(Some(seqs)) = seqs(&request["seqs"]) else {
        return refusal(StatusCode::BAD_REQUEST, "seqs must be a list of whole numbers");
    };
    match journal.drop_quarantined(sink, seqs, why, who).await {
        Ok(dropped) => Json(json!({ "dropped": dropped })).into_response(),
        Err(error) => failed(&error),
    }
}

async fn edit(State((_, journal)): State<(Gateway, Journal)>, Json(request): Json<Value>) -> Response {
    let text = |key: &str| request[key].as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let (Some(sink), Some(why), Some(who)) = (text("sink"), text("why"), text("who")) else {
        let words = "say which sink, what, why and who: {\"sink\", \"seqs\", \"fields\", \"why\", \"who\"}";
        return refusal(StatusCode::BAD_REQUEST, words);
    };
    let (Some(Some(seqs)), Some(fields)) = (seqs(&request["seqs"]), request["fields"].as_object()) else {
        return refusal(StatusCode::BAD_REQUEST, "seqs must be a list of whole numbers, fields an object");
    };
    let fields = fields.iter().map(|(target, value)| (target.clone(), value.to_string())).collect();
    match journal.edit_quarantined(sink, seqs, fields, why, who).await {
        Ok(edited) => Json(json!({ "edited": edited })).into_response(),
        Err(error) => failed(&error),
    }
}

/// A list of sequence numbers, or nothing; `None` if it is something else.
fn seqs(value: &Value) -> Option<Option<Vec<Seq>>> {
    match value {
        Value::Null => Some(None),
        Value::Array(items) => items.iter().map(|n| n.as_u64().map(Seq)).collect::<Option<Vec<_>>>().map(Some),
        _ => None,
    }
}

fn failed(error: &journal::Error) -> Response {
    let status = match error {
        journal::Error::NotFound(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refusal(status, &error.to_string())
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
