//! Starts relays and links, each under supervision. A new sink adds one arm here, a new kind of link another.
//!
//! Must not: wait for anything outside this machine (I8).

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Error, Parts, supervise};
use crate::terminal::{self, Endpoint, Link};

/// Starts one relay per sink, each with a position of its own (I9).
pub(super) async fn relays(_parts: &Arc<Parts>, _relays: &mut JoinSet<()>) -> Result<(), Error> {
    Ok(())
}

/// Starts one task per serial line and one per broker.
pub(super) fn links(parts: &Arc<Parts>, links: &mut JoinSet<()>) {
    for config in &parts.config.terminals {
        let Link::Serial(serial) = &config.link else { continue };
        let (shared, config, serial) = (Arc::clone(parts), config.clone(), serial.clone());
        links.spawn(supervise::keep(config.name.clone(), parts.inflow.clone(), move || {
            let part = terminal::serial::run(shared.terminal_context(), config.clone(), serial.clone());
            async move { Some(part) }
        }));
    }
    for broker in &parts.config.brokers {
        let behind =
            |terminal: &&terminal::Config| matches!(&terminal.link, Link::Mqtt(link) if link.broker == broker.name);
        let terminals: Vec<terminal::Config> = parts.config.terminals.iter().filter(behind).cloned().collect();
        let (shared, broker) = (Arc::clone(parts), broker.clone());
        links.spawn(supervise::keep(broker.name.clone(), parts.inflow.clone(), move || {
            let (context, broker, terminals) = (shared.terminal_context(), broker.clone(), terminals.clone());
            async move {
                Some(async move {
                    match broker.endpoint {
                        Endpoint::Connect(_) => terminal::mqtt::run(context, broker, terminals).await,
                        Endpoint::Listen(_) => terminal::broker::run(context, broker, terminals).await,
                    }
                })
            }
        }));
    }
}
