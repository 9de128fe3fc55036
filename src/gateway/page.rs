//! Keeps the status page up, if there is one.
//!
//! Must not: hold up anything else because its address is taken.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::start::Running;
use super::{Parts, supervise};
use crate::manage::config::PageConfig;
use crate::manage::page::{self, Page};
use crate::progress::Mark;

/// The page, served until `stop`.
pub(super) fn part(parts: &Arc<Parts>, config: PageConfig, mark: Mark, stop: CancellationToken) -> Running {
    let shared = Arc::clone(parts);
    let kept = supervise::keep(stop.clone(), mark, move || {
        let (shared, config, stop) = (Arc::clone(&shared), config.clone(), stop.clone());
        async move {
            let opened = page::open(&config).await;
            let opened = opened.inspect_err(|error| tracing::error!(%error, "status page failed"));
            let max_bytes = shared.gateway.running.get().journal.max_bytes;
            let page = Page::new(shared.gateway.clone(), shared.journal.clone(), max_bytes, config.people);
            Some(page::serve(opened.ok()?, page, stop))
        }
    });
    Box::pin(kept.instrument(tracing::info_span!("page")))
}
