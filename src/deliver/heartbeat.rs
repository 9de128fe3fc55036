//! The gateway's sign of life at the centre: `portero.heartbeat`, called once a minute under the gateway's own login.
//!
//! Must not: compose what it says (whoever starts it does), hold a connection in between, keep anything of it for later, or
//! hold anybody up: a sign that did not arrive is forgotten, the next one says more.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use super::complaint::Complaint;
use super::postgres::link::Endpoint;
use super::postgres::{self, in_transaction, verdict};
use super::{Error, Outcome};
use crate::clock::Clock;

/// How often the centre hears of us.
pub const EVERY: Duration = Duration::from_secs(60);

const BEAT: &str = "SELECT portero.heartbeat($1)";

/// Says signs of life at one database.
pub struct Heart {
    endpoint: Endpoint,
    timeout: Duration,
}

impl Heart {
    /// For the database of a sink; opens no connection and reads no secret.
    pub fn new(config: &postgres::Config, clock: Clock) -> Result<Self, Error> {
        Ok(Self { endpoint: Endpoint::of_sink(config, clock)?, timeout: config.timeout })
    }

    /// Says one, over a connection of its own.
    pub async fn beat(&self, beat: &Value) -> Result<(), Outcome> {
        let late = || Outcome::Retry { reason: "no answer in time".to_owned(), after: None };
        tokio::time::timeout(self.timeout, self.try_beat(beat)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn try_beat(&self, beat: &Value) -> Result<(), Outcome> {
        let link = self.endpoint.connect().await?;
        let said = in_transaction(&link.client, BEAT, &[(beat, Type::JSONB)], self.timeout).await;
        said.map(drop).map_err(|error| verdict::outcome(&error, self.endpoint.synchronised()))
    }
}

/// Says a sign of life every `every` until `stop`. `compose` says what; `None`: nothing this time.
pub async fn run<F, M>(heart: Heart, every: Duration, stop: CancellationToken, compose: F)
where
    F: Fn() -> M + Send,
    M: Future<Output = Option<Value>> + Send,
{
    let mut failing = Complaint::default();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let said = async {
            ticks.tick().await;
            let beat = compose().await?;
            Some(heart.beat(&beat).await)
        };
        let said = tokio::select! {
            said = said => said,
            () = stop.cancelled() => return,
        };
        match said {
            None => {}
            Some(Ok(())) => {
                if let Some(count) = failing.clear() {
                    tracing::info!(count, "the centre hears of us again");
                }
            }
            Some(Err(outcome)) => {
                let (Outcome::Retry { reason, .. } | Outcome::Blocked { reason } | Outcome::Refused { reason, .. }) =
                    outcome
                else {
                    continue;
                };
                if let Some(count) = failing.raise(&reason, Instant::now()) {
                    tracing::warn!(reason, count, "no sign of life at the centre");
                }
            }
        }
    }
}
