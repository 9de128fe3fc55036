//! Makes each part of a plan, under supervision. A new kind of sink adds one arm here, a new kind of link another.
//!
//! Must not: wait for anything outside this machine (I8).

use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::plan::{Part, Plan};
use super::{Error, Parts, announce, beat, page, supervise};
use crate::deliver::directory::{self, Fetcher, refresh};
use crate::deliver::{
    self, Kind, Sink, api, api::Api, filter::Filtered, heartbeat, postgres, postgres::Postgres, relay,
};
use crate::progress::{LONGEST_ANSWER, Mark};
use crate::terminal::{self, BrokerConfig, Endpoint, SerialConfig};

/// A part that runs until its token is cancelled.
pub(super) type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What can be told to be wrong without the network. Starts nothing.
pub(super) fn check(parts: &Parts, plan: &Plan) -> Result<(), Error> {
    for spec in plan.values() {
        match &spec.part {
            Part::Relay(config, _) => {
                let made = match &config.kind {
                    Kind::Api(api) => self::api(parts, api, &config.name).map(drop),
                    Kind::Postgres(postgres) => self::postgres(parts, postgres, &config.name).map(drop),
                };
                made.map_err(|source| Error::Sink { name: config.name.clone(), source })?;
            }
            Part::Heart(name, postgres) => {
                let made = heartbeat::Heart::new(postgres, parts.clock.clone());
                made.map_err(|source| Error::Sink { name: name.clone(), source })?;
            }
            Part::Directory(config, _) => {
                Fetcher::new(config, parts.clock.clone()).map_err(Error::Directory)?;
            }
            Part::Line(..) | Part::Broker(..) | Part::Page(_) | Part::Announcement(..) => {}
        }
    }
    Ok(())
}

/// A part, kept running until `stop`.
pub(super) fn part(parts: &Arc<Parts>, part: Part, mark: Mark, stop: CancellationToken) -> Running {
    match part {
        Part::Relay(config, directory) => match config.kind.clone() {
            Kind::Api(api) => {
                relay(parts, *config, directory, (mark, stop), move |parts, name| self::api(parts, &api, name))
            }
            Kind::Postgres(postgres) => relay(parts, *config, directory, (mark, stop), move |parts, name| {
                self::postgres(parts, &postgres, name)
            }),
        },
        Part::Line(config, serial) => line(parts, config, serial, mark, stop),
        Part::Broker(broker, terminals) => self::broker(parts, broker, terminals, mark, stop),
        Part::Page(config) => page::part(parts, config, mark, stop),
        Part::Heart(name, postgres) => beat::part(parts, name, postgres, mark, stop),
        Part::Directory(config, sinks) => self::directory(parts, *config, sinks, mark, stop),
        Part::Announcement(connect, topic) => announce::part(parts, connect, topic, mark, stop),
    }
}

fn api(parts: &Parts, config: &api::Config, name: &str) -> Result<Api, deliver::Error> {
    Ok(Api::new(name, config.clone(), parts.clock.clone())?.with_board(parts.gateway.relays.clone()))
}

fn postgres(parts: &Parts, config: &postgres::Config, name: &str) -> Result<Postgres, deliver::Error> {
    let sink = Postgres::new(name, config, &parts.journal_id, parts.clock.clone())?;
    Ok(sink.with_board(parts.gateway.relays.clone()))
}

/// A relay, with a position of its own (I9).
fn relay<S, M>(
    parts: &Arc<Parts>,
    config: deliver::Config,
    directory: bool,
    (mark, stop): (Mark, CancellationToken),
    make: M,
) -> Running
where
    S: Sink + Sync + 'static,
    M: Fn(&Parts, &str) -> Result<S, deliver::Error> + Send + Sync + 'static,
{
    let shared = Arc::clone(parts);
    let span = tracing::info_span!("relay", sink = config.name);
    let kept = supervise::keep(stop.clone(), mark.clone(), move || {
        let (shared, config, stop, mark) = (Arc::clone(&shared), config.clone(), stop.clone(), mark.clone());
        mark.within("starting", LONGEST_ANSWER);
        let sink = make(&shared, &config.name).inspect_err(|error| tracing::error!(%error, "sink failed"));
        async move {
            let state = shared.journal.sink(&config.name, config.start).await;
            let state = state.inspect_err(|error| tracing::error!(%error, "journal failed"));
            let sink = Filtered::new(sink.ok()?, config.filter.clone(), config.unknown_person, directory);
            Some(relay::run_with(sink, state.ok()?, shared.relay_context(mark.clone(), stop), config.flow))
        }
    });
    Box::pin(kept.instrument(span))
}

/// The worker directory, kept up to date.
fn directory(
    parts: &Arc<Parts>,
    config: directory::Config,
    sinks: Vec<String>,
    mark: Mark,
    stop: CancellationToken,
) -> Running {
    let context = refresh::Context {
        journal: parts.journal.clone(),
        clock: parts.clock.clone(),
        directory: parts.gateway.directory.clone(),
        sinks,
    };
    let kept = supervise::keep(stop.clone(), mark, move || {
        let source = Fetcher::new(&config, context.clock.clone());
        let source = source.inspect_err(|error| tracing::error!(%error, "worker directory failed"));
        let (config, context, stop) = (config.clone(), context.clone(), stop.clone());
        async move { Some(refresh::run(config, source.ok()?, context, stop)) }
    });
    Box::pin(kept.instrument(tracing::info_span!("directory")))
}

fn line(
    parts: &Arc<Parts>,
    config: terminal::Config,
    serial: SerialConfig,
    mark: Mark,
    stop: CancellationToken,
) -> Running {
    let shared = Arc::clone(parts);
    let span = tracing::info_span!("terminal", terminal = config.name);
    let kept = supervise::keep(stop.clone(), mark.clone(), move || {
        let part =
            terminal::serial::run(shared.terminal_context(mark.clone(), stop.clone()), config.clone(), serial.clone());
        async move { Some(part) }
    });
    Box::pin(kept.instrument(span))
}

fn broker(
    parts: &Arc<Parts>,
    broker: BrokerConfig,
    terminals: Vec<terminal::Config>,
    mark: Mark,
    stop: CancellationToken,
) -> Running {
    let shared = Arc::clone(parts);
    let span = tracing::info_span!("terminal", terminal = broker.name);
    let kept = supervise::keep(stop.clone(), mark.clone(), move || {
        let (context, broker, terminals) =
            (shared.terminal_context(mark.clone(), stop.clone()), broker.clone(), terminals.clone());
        async move {
            Some(async move {
                match broker.endpoint {
                    Endpoint::Connect(_) => terminal::mqtt::run(context, broker, terminals).await,
                    Endpoint::Listen(_) => terminal::broker::run(context, broker, terminals).await,
                }
            })
        }
    });
    Box::pin(kept.instrument(span))
}
