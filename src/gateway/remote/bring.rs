//! Brings bundles: asks the address, listens to the topic, says what is wrong once.
//!
//! Must not: judge a bundle, or hold up anything while somebody afar is silent.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Taken;
use crate::backoff::Backoff;
use crate::gateway::apply::{Order, Orders};
use crate::gateway::{Parts, supervise};
use crate::manage::config::RemoteConfig;
use crate::manage::remote::bundle::Signed;
use crate::manage::remote::fetch::Fetch;
use crate::manage::remote::{self};
use crate::terminal::mqtt::retained;
use crate::terminal::{ConnectConfig, Endpoint};

/// A connection that held so long was a good one.
const GOOD_CONNECTION: Duration = Duration::from_secs(30);

/// How often whether there is somebody to ask.
const IDLE: Duration = Duration::from_secs(5);

/// Starts whoever brings bundles.
pub(in crate::gateway) fn bundles(parts: &Arc<Parts>, orders: &Orders, keepers: &mut JoinSet<()>) {
    let (shared, given) = (Arc::clone(parts), orders.clone());
    keepers.spawn(supervise::keep(parts.inflow.clone(), parts.gateway.parts.part("address of bundles"), move || {
        let asks = poll(Arc::clone(&shared), given.clone(), shared.inflow.clone());
        async move { Some(asks) }
    }));
    let (shared, given) = (Arc::clone(parts), orders.clone());
    keepers.spawn(supervise::keep(parts.inflow.clone(), parts.gateway.parts.part("topic of bundles"), move || {
        let listens = listen(Arc::clone(&shared), given.clone(), shared.inflow.clone());
        async move { Some(listens) }
    }));
}

/// Asks the address of `[manage.remote]`, as often as it says.
async fn poll(parts: Arc<Parts>, orders: Orders, stop: CancellationToken) {
    let mut asked: Option<(RemoteConfig, Fetch)> = None;
    let mut told = Told::default();
    loop {
        let config = parts.gateway.running.get().manage.remote.clone().filter(|remote| remote.url.is_some());
        let wait = match config {
            None => {
                asked = None;
                IDLE
            }
            Some(config) => {
                let every = Duration::from_secs(config.poll_seconds);
                if asked.as_ref().is_none_or(|(other, _)| *other != config) {
                    asked = match Fetch::new(&config) {
                        Ok(fetch) => Some((config, fetch)),
                        Err(error) => {
                            told.silent(&parts, &error);
                            None
                        }
                    };
                }
                if let Some((_, fetch)) = &mut asked {
                    tokio::select! {
                        () = ask(&parts, fetch, &orders, &mut told) => {}
                        () = stop.cancelled() => return,
                    }
                }
                // Two hundred gateways that start together must not ask together for ever.
                every.mul_f64(0.8 + 0.4 * fastrand::f64())
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Listens to the topic of `[manage.remote]`, where there is one.
async fn listen(parts: Arc<Parts>, orders: Orders, stop: CancellationToken) {
    let mut told = Told::default();
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let wait = match topic(&parts) {
            None => IDLE,
            Some(place) => {
                let since = Instant::now();
                tokio::select! {
                    reason = hear(&parts, &orders, &place, &mut told) => {
                        told.silent(&parts, &remote::Error::Fetch(format!("topic of [manage.remote]: {reason}")));
                    }
                    // Another broker or topic is configured.
                    () = moved(&parts, &place) => {}
                    () = stop.cancelled() => return,
                }
                if since.elapsed() > GOOD_CONNECTION {
                    backoff.reset();
                }
                backoff.next(None)
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

type Place = (ConnectConfig, String);

/// The broker to connect to, and the topic.
fn topic(parts: &Parts) -> Option<Place> {
    let running = parts.gateway.running.get();
    let (name, topic) = running.manage.remote.as_ref()?.topic.as_ref()?;
    match &running.brokers.iter().find(|broker| broker.name == *name)?.endpoint {
        Endpoint::Connect(connect) => Some((connect.clone(), topic.clone())),
        Endpoint::Listen(_) => None,
    }
}

async fn moved(parts: &Parts, place: &Place) {
    while topic(parts).as_ref() == Some(place) {
        sleep(IDLE).await;
    }
}

/// Until the connection breaks; the answer says why.
async fn hear(parts: &Parts, orders: &Orders, (connect, topic): &Place, told: &mut Told) -> String {
    let (sender, mut messages) = tokio::sync::mpsc::channel(1);
    let mut watch = std::pin::pin!(retained::watch(connect, topic, &sender));
    // A retained message comes once: what was refused for a reason that may pass is looked at again from here.
    let mut again: Option<Signed> = None;
    loop {
        let running = parts.gateway.running.get();
        let every = Duration::from_secs(running.manage.remote.as_ref().map_or(60, |remote| remote.poll_seconds));
        let heard = tokio::select! {
            reason = &mut watch => return reason,
            Some(message) = messages.recv() => remote::message::read(&message),
            () = sleep(every), if again.is_some() => Ok(again.take()),
        };
        match heard {
            Ok(None) => told.heard(parts, None),
            Ok(Some(signed)) => match orders.bundle(signed.clone()).await {
                Some(taken) => again = (!told.taken(parts, &taken)).then_some(signed),
                None => again = Some(signed),
            },
            Err(error) => told.heard(parts, Some(&error)),
        }
    }
}

async fn ask(parts: &Parts, fetch: &mut Fetch, orders: &Orders, told: &mut Told) {
    match fetch.ask().await {
        Ok(None) => told.heard(parts, None),
        Ok(Some(signed)) => {
            // What was not settled is asked for again, also where nobody could answer (a full disk).
            if orders.bundle(signed).await.is_none_or(|taken| !told.taken(parts, &taken)) {
                fetch.forget();
            }
        }
        Err(error) => told.silent(parts, &error),
    }
}

/// Says a thing when it changes, not each time.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    /// What came of a bundle; whether it is settled.
    fn taken(&mut self, parts: &Parts, taken: &Taken) -> bool {
        match taken {
            // The same again, as after every start.
            Taken::Refused(remote::Error::Replayed { revision, consumed }) if revision == consumed => {
                self.heard(parts, None);
                true
            }
            Taken::Refused(error) => {
                self.heard(parts, Some(error));
                false
            }
            Taken::Applied => {
                self.heard(parts, None);
                true
            }
        }
    }

    fn heard(&mut self, parts: &Parts, error: Option<&remote::Error>) {
        self.changed(error.map(ToString::to_string), "bundle from afar is refused");
        parts.gateway.remote.heard(parts.clock.now().wall, self.0.clone());
    }

    fn silent(&mut self, parts: &Parts, error: &remote::Error) {
        self.changed(Some(error.to_string()), "nothing from afar");
        parts.gateway.remote.silent(error.to_string());
    }

    fn changed(&mut self, error: Option<String>, words: &str) {
        if error == self.0 {
            return;
        }
        match &error {
            Some(reason) => tracing::warn!(reason, "{words}"),
            None => tracing::info!("configuration from afar is well again"),
        }
        self.0 = error;
    }
}

/// What a person or an address asks of the gateway.
impl Orders {
    /// `None`: the gateway is about to stop.
    async fn bundle(&self, signed: Signed) -> Option<Taken> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.give(Order::Bundle(Box::new(signed), answer)).await?;
        answered.await.ok()
    }
}
