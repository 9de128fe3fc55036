//! `[manage] listen`: the status page, metrics and health, for reading only.
//!
//! `GET /` is the page, `/status.json` the object of [`super::status`], `/metrics` Prometheus' text, `/healthz` and `/readyz`
//! say whether the process moves and whether it takes events.
//!
//! Must not: change anything, name secrets, or people where the configuration does not say so, load anything from elsewhere, or let a reader hold anything without
//! bound.

mod guard;
mod health;
mod history;
mod metrics;
mod process;
mod recent;
mod view;
mod wear;
mod words;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bounded::Bounded;
use super::config::PageConfig;
use super::status::Gateway;
use crate::journal::{Journal, Stats, Traced};
use guard::Guard;
use history::History;
use recent::Recent;
use view::{Past, View};
use words::Language;

/// Most connections at once: a browser or two, a scraper, a probe.
const CONNECTIONS: usize = 16;

/// However many ask, the journal is asked once in this time.
const FRESH: Duration = Duration::from_secs(1);

/// Who looks at a page is told sooner than a probe that the journal says nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the counts of the chart are taken when nobody looks.
const COUNT: Duration = Duration::from_secs(60);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be had.
    #[error("cannot listen on {address} ({source}); give [manage] listen another address or port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The token can't be read.
    #[error("[manage] token: {0}")]
    Token(#[from] crate::secret::Error),
    /// The token could be guessed.
    #[error(
        "[manage] token is shorter than 16 bytes, too short for a page that a network can reach; take: openssl rand -hex 16"
    )]
    ShortToken,
    /// The page's own template or policy is wrong.
    #[error("the status page's own template is wrong: {0}")]
    Template(String),
    /// The page's policy is no header.
    #[error("the status page's own policy is wrong")]
    Policy,
}

/// A listener and who is let in.
pub struct Opened {
    listener: TcpListener,
    guard: Guard,
    view: View,
}

/// What the page shows.
pub struct Page {
    gateway: Gateway,
    journal: Journal,
    max_bytes: u64,
    people: bool,
    stats: Mutex<Option<(Instant, Result<Stats, String>)>>,
    newest: Mutex<Option<(Instant, Vec<Traced>)>>,
    history: Lock<History>,
}

impl Page {
    /// Of this gateway, whose journal may grow to `max_bytes`; `people`: whether they are named.
    pub fn new(gateway: Gateway, journal: Journal, max_bytes: u64, people: bool) -> Self {
        let (stats, newest) = (Mutex::new(None), Mutex::new(None));
        Self { gateway, journal, max_bytes, people, stats, newest, history: Lock::default() }
    }

    /// The ledger of this moment, or of the second before; else why there is none. Whoever waits for the same question gets
    /// the same answer, a bad one too: a journal that hangs must not be waited for once by each.
    async fn stats(&self) -> Result<Stats, String> {
        let mut kept = self.stats.lock().await;
        if let Some((_, stats)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return stats.clone();
        }
        let asked = tokio::time::timeout(PATIENCE, self.journal.stats_at_leisure()).await;
        let stats = match asked {
            Ok(stats) => stats.map_err(|error| error.to_string()),
            Err(_) => Err(health::silence(PATIENCE)),
        };
        if let Ok(stats) = &stats {
            let now = self.gateway.clock.now().boot;
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.take(now, &self.gateway.links.read(), stats, wear::written());
        }
        *kept = Some((Instant::now(), stats.clone()));
        stats
    }

    /// The newest events of this moment, or of the second before; none where the journal does not say.
    async fn newest(&self) -> Vec<Traced> {
        let mut kept = self.newest.lock().await;
        if let Some((_, newest)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return newest.clone();
        }
        let newest = match tokio::time::timeout(PATIENCE, self.journal.newest(recent::MOST)).await {
            Ok(Ok(newest)) => newest,
            // Why, the ledger says.
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        *kept = Some((Instant::now(), newest.clone()));
        newest
    }

    /// Counts on when nobody looks.
    async fn count(&self) {
        let mut ticks = tokio::time::interval(COUNT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.stats().await {
                tracing::debug!(%error, "counts of the status page are not taken");
            }
        }
    }
}

/// Opens the address and reads the token.
pub async fn open(config: &PageConfig) -> Result<Opened, Error> {
    let view = View::new()?;
    let guard = Guard::new(config, &view.policy())?;
    let address = config.address;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    tracing::info!(reason = %address, "status page is served");
    Ok(Opened { listener, guard, view })
}

/// What every request gets.
struct Shared {
    page: Page,
    view: View,
}

/// Answers until the gateway stops.
pub async fn serve(opened: Opened, page: Page, shutdown: CancellationToken) {
    let shared = Arc::new(Shared { page, view: opened.view });
    let router = Router::new()
        .route("/", get(index))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(nothing)
        .with_state(Arc::clone(&shared))
        .layer(middleware::from_fn_with_state(Arc::new(opened.guard), guard::guard));
    let served = axum::serve(Bounded::new(opened.listener, CONNECTIONS), router).into_future();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = shared.page.count() => {}
        result = served => {
            if let Err(error) = result {
                tracing::warn!(%error, "status page failed");
            }
        }
    }
}

async fn index(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let language = Language::choose(uri.query(), wanted);
    let stats = shared.page.stats().await;
    let status = match &stats {
        Ok(stats) => shared.page.gateway.status(stats),
        Err(error) => shared.page.gateway.status_without_journal(error),
    };
    let newest = if stats.is_ok() { shared.page.newest().await } else { Vec::new() };
    let now = shared.page.gateway.clock.now();
    let running = shared.page.gateway.running.get();
    let recent = Recent { events: &newest, sinks: &running.sinks, people: shared.page.people };
    let rendered = {
        let history = shared.page.history.lock().unwrap_or_else(PoisonError::into_inner);
        let past = Past {
            history: &history,
            max_bytes: shared.page.max_bytes,
            written: wear::written(),
            card_bytes: wear::size(&running.journal.path),
        };
        shared.view.render(&status, &past, &recent, language, now)
    };
    match rendered {
        Ok(text) => ([(header::VARY, "Accept-Language")], Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "status page cannot be shown");
            (StatusCode::INTERNAL_SERVER_ERROR, "500: the page cannot be shown; the log says why\n").into_response()
        }
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    match shared.page.stats().await {
        Ok(stats) => Json(shared.page.gateway.status(&stats)).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.page.stats().await {
        Ok(stats) => {
            let text = metrics::text(&shared.page.gateway, &stats, shared.page.max_bytes);
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    health::answer(&health::moves(&shared.page.journal).await)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    health::answer(&health::accepts(&shared.page.journal, &shared.page.gateway.links.read()).await)
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "404: there are /, /status.json, /metrics, /healthz and /readyz\n").into_response()
}

fn unavailable(error: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response()
}
