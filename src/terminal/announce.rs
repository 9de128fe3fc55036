//! How the gateway is, kept as a retained message at a broker, for those without the central database; the broker itself says
//! `offline` when we are gone without a word (last will).
//!
//! A connection of its own: what is said of the gateway must not hold up a terminal, nor end with it.
//!
//! Must not: compose what it says (whoever starts it does), keep a session at the broker, or subscribe.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, LastWill, Outgoing, Packet, QoS};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::mqtt::session;
use super::quiet::Quiet;
use super::{ConnectConfig, Error};
use crate::backoff::Backoff;
use crate::clock::Clock;

/// Said anew at least so often, with a new time in it: who reads it sees that somebody lives.
const EVERY: Duration = Duration::from_secs(60);

/// How often it is looked whether there is something else to say.
const LOOK: Duration = Duration::from_secs(5);

/// What composes has to ask the journal, which may be slow.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reconnecting starts here, and is tried at least so often.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Nothing that a broker says to us is longer, and our own message isn't either, bytes.
const MAX_PACKET: usize = 256 * 1024;

/// Where it is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The broker, whose client id is ours with `-status` behind it.
    pub connect: ConnectConfig,
    /// The topic.
    pub topic: String,
    /// What the broker says when we are gone.
    pub offline: String,
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The whole message.
    pub message: String,
    /// What of it is worth saying at once when it changes.
    pub news: String,
}

/// Says it until `stop`. `compose` says what; `None`: nothing new this time.
pub async fn run<F, M>(config: Config, clock: Clock, stop: CancellationToken, compose: F)
where
    F: Fn() -> M + Send,
    M: Future<Output = Option<Said>> + Send,
{
    let (mut backoff, mut quiet) = (Backoff::new(RECONNECT.0, RECONNECT.1), Quiet::default());
    loop {
        let since = Instant::now();
        let reason = match open(&config) {
            Ok((client, events)) => match speak(&config, &client, events, &stop, &compose, &mut quiet).await {
                Some(reason) => reason,
                None => return,
            },
            Err(error) => error.to_string(),
        };
        if since.elapsed() > RECONNECT.1 {
            backoff.reset();
        }
        if quiet.failed(clock.now().boot, &reason) {
            tracing::warn!(reason, "the broker does not hear how we are");
        }
        tokio::select! {
            () = sleep(backoff.next(None)) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn open(config: &Config) -> Result<(AsyncClient, EventLoop), Error> {
    let connect = ConnectConfig {
        client_id: format!("{}-status", config.connect.client_id),
        status_topic: None,
        ..config.connect.clone()
    };
    let mut options = session::options(&connect, MAX_PACKET)?;
    options.set_clean_session(true);
    options.set_last_will(LastWill::new(&config.topic, config.offline.clone(), QoS::AtLeastOnce, true));
    Ok(AsyncClient::new(options, 4))
}

/// Until the connection breaks (with the reason) or the gateway stops (without).
async fn speak<F, M>(
    config: &Config,
    client: &AsyncClient,
    mut events: EventLoop,
    stop: &CancellationToken,
    compose: &F,
    quiet: &mut Quiet,
) -> Option<String>
where
    F: Fn() -> M + Send,
    M: Future<Output = Option<Said>> + Send,
{
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut up, mut last): (bool, Option<(Instant, String)>) = (false, None);
    let publish = |message: String| client.try_publish(&config.topic, QoS::AtLeastOnce, true, message);
    loop {
        tokio::select! {
            event = events.poll() => match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    up = true;
                    looks.reset_immediately();
                    if let Some(count) = quiet.recovered() {
                        tracing::info!(count, "the broker hears again how we are");
                    }
                }
                Ok(_) => {}
                Err(error) => return Some(session::explain(&error)),
            },
            _ = looks.tick(), if up => {
                let Ok(Some(said)) = timeout(PATIENCE, compose()).await else { continue };
                let due = last.as_ref().is_none_or(|(at, news)| at.elapsed() >= EVERY || *news != said.news);
                // A full queue: what is on its way says nearly the same.
                if due && publish(said.message).is_ok() {
                    last = Some((Instant::now(), said.news));
                }
            }
            () = stop.cancelled() => {
                if up && publish(config.offline.clone()).is_ok() && client.try_disconnect().is_ok() {
                    let gone = async {
                        while let Ok(event) = events.poll().await {
                            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                                break;
                            }
                        }
                    };
                    // Else the last will says it.
                    let _ = timeout(FAREWELL, gone).await;
                }
                return None;
            }
        }
    }
}
