//! Keeps the status page up, if there is one.
//!
//! Must not: hold up anything else because its address is taken.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::{Parts, supervise};
use crate::manage::page::{self, Page};

/// Starts it.
pub(super) fn open(parts: &Arc<Parts>, keepers: &mut JoinSet<()>) {
    let Some(config) = parts.config.manage.page.clone() else { return };
    let shared = Arc::clone(parts);
    let kept = supervise::keep(parts.inflow.clone(), move || {
        let (shared, config) = (Arc::clone(&shared), config.clone());
        async move {
            let opened = page::open(&config).await;
            let opened = opened.inspect_err(|error| tracing::error!(%error, "status page failed"));
            let page = Page::new(shared.gateway.clone(), shared.journal.clone(), shared.config.journal.max_bytes);
            Some(page::serve(opened.ok()?, page, shared.inflow.clone()))
        }
    });
    keepers.spawn(kept.instrument(tracing::info_span!("page")));
}
