//! Starts relays and links, each under supervision. A new kind of sink adds one arm here, a new kind of link another.
//!
//! Must not: wait for anything outside this machine (I8).

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::{Error, Parts, supervise};
use crate::deliver::directory::{Fetcher, refresh};
use crate::deliver::{self, Kind, Sink, api::Api, filter::Filtered, postgres::Postgres, relay};
use crate::terminal::{self, Endpoint, Link};

/// Starts one relay per sink, each with a position of its own (I9). What can be told to be wrong without the network is
/// told now.
pub(super) async fn relays(parts: &Arc<Parts>, relays: &mut JoinSet<()>) -> Result<(), Error> {
    for config in &parts.config.sinks {
        let failed = |source| Error::Sink { name: config.name.clone(), source };
        match config.kind.clone() {
            Kind::Api(api) => {
                let clock = parts.clock.clone();
                let board = parts.gateway.relays.clone();
                let make = move |name: &str| {
                    Api::new(name, api.clone(), clock.clone()).map(|sink| sink.with_board(board.clone()))
                };
                make(&config.name).map_err(failed)?;
                keep(parts, relays, config, make);
            }
            Kind::Postgres(postgres) => {
                let (clock, journal_id) = (parts.clock.clone(), parts.journal.id().await?);
                let board = parts.gateway.relays.clone();
                let make = move |name: &str| {
                    let sink = Postgres::new(name, &postgres, &journal_id, clock.clone());
                    sink.map(|sink| sink.with_board(board.clone()))
                };
                make(&config.name).map_err(failed)?;
                keep(parts, relays, config, make);
            }
        }
    }
    // Only now: a sink that is still configured must never look removed.
    for config in &parts.config.sinks {
        parts.journal.sink(&config.name, config.start).await?;
    }
    parts.journal.retain_sinks(parts.config.sinks.iter().map(|s| s.name.clone()).collect()).await?;
    Ok(())
}

fn keep<S, M>(parts: &Arc<Parts>, relays: &mut JoinSet<()>, config: &deliver::Config, make: M)
where
    S: Sink + Sync + 'static,
    M: Fn(&str) -> Result<S, deliver::Error> + Send + Sync + 'static,
{
    let (shared, config, make) = (Arc::clone(parts), config.clone(), Arc::new(make));
    let span = tracing::info_span!("relay", sink = config.name);
    let kept = supervise::keep(parts.outflow.clone(), move || {
        let (shared, config, make) = (Arc::clone(&shared), config.clone(), Arc::clone(&make));
        async move {
            let sink = make(&config.name).inspect_err(|error| tracing::error!(%error, "sink failed"));
            let state = shared.journal.sink(&config.name, config.start).await;
            let state = state.inspect_err(|error| tracing::error!(%error, "journal failed"));
            let directory = shared.config.directory.is_some();
            let sink = Filtered::new(sink.ok()?, config.filter.clone(), config.unknown_person, directory);
            Some(relay::run_with(sink, state.ok()?, shared.relay_context(), config.flow))
        }
    });
    relays.spawn(kept.instrument(span));
}

/// Keeps the worker directory up to date, if there is one.
pub(super) fn directory(parts: &Arc<Parts>, keepers: &mut JoinSet<()>) -> Result<(), Error> {
    let Some(config) = parts.config.directory.clone() else { return Ok(()) };
    let context = refresh::Context {
        journal: parts.journal.clone(),
        clock: parts.clock.clone(),
        directory: parts.directory.clone(),
        sinks: parts.config.sinks.iter().map(|sink| sink.name.clone()).collect(),
    };
    let stop = parts.inflow.clone();
    // What can be told to be wrong without the network is told now.
    Fetcher::new(&config, parts.clock.clone()).map_err(Error::Directory)?;
    let kept = supervise::keep(parts.inflow.clone(), move || {
        let source = Fetcher::new(&config, context.clock.clone());
        let source = source.inspect_err(|error| tracing::error!(%error, "worker directory failed"));
        let (config, context, stop) = (config.clone(), context.clone(), stop.clone());
        async move { Some(refresh::run(config, source.ok()?, context, stop)) }
    });
    keepers.spawn(kept.instrument(tracing::info_span!("directory")));
    Ok(())
}

/// Starts one task per serial line and one per broker.
pub(super) fn links(parts: &Arc<Parts>, links: &mut JoinSet<()>) {
    for config in &parts.config.terminals {
        let Link::Serial(serial) = &config.link else { continue };
        let (shared, config, serial) = (Arc::clone(parts), config.clone(), serial.clone());
        let span = tracing::info_span!("terminal", terminal = config.name);
        let kept = supervise::keep(parts.inflow.clone(), move || {
            let part = terminal::serial::run(shared.terminal_context(), config.clone(), serial.clone());
            async move { Some(part) }
        });
        links.spawn(kept.instrument(span));
    }
    for broker in &parts.config.brokers {
        let behind =
            |terminal: &&terminal::Config| matches!(&terminal.link, Link::Mqtt(link) if link.broker == broker.name);
        let terminals: Vec<terminal::Config> = parts.config.terminals.iter().filter(behind).cloned().collect();
        let (shared, broker) = (Arc::clone(parts), broker.clone());
        let span = tracing::info_span!("terminal", terminal = broker.name);
        let kept = supervise::keep(parts.inflow.clone(), move || {
            let (context, broker, terminals) = (shared.terminal_context(), broker.clone(), terminals.clone());
            async move {
                Some(async move {
                    match broker.endpoint {
                        Endpoint::Connect(_) => terminal::mqtt::run(context, broker, terminals).await,
                        Endpoint::Listen(_) => terminal::broker::run(context, broker, terminals).await,
                    }
                })
            }
        });
        links.spawn(kept.instrument(span));
    }
}
