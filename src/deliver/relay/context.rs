//! What a relay is given, and how fast it tries again.
//!
//! Must not: decide anything; the relay does.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::deliver::StatusBoard;
use crate::deliver::directory::Directory;
use crate::journal::Journal;
use crate::progress::Mark;

/// How fast a relay tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// First and longest delay after the sink's fault (`base`, `cap` of [`Backoff`](crate::backoff::Backoff)).
    pub retry: (Duration, Duration),
    /// First and longest delay between probes while it is our fault.
    pub probe: (Duration, Duration),
}

impl Default for Pace {
    /// Half a second doubling to five minutes; probes half a minute doubling to five.
    fn default() -> Self {
        let cap = Duration::from_secs(300);
        Self { retry: (Duration::from_millis(500), cap), probe: (Duration::from_secs(30), cap) }
    }
}

/// What every relay needs.
#[derive(Clone)]
pub struct Context {
    /// Where events come from.
    pub journal: Journal,
    /// What time it is.
    pub clock: Clock,
    /// Cancelled when the gateway stops.
    pub shutdown: CancellationToken,
    /// How long a request that is under way may still take after that.
    pub grace: Duration,
    /// Where relays say how they are.
    pub board: StatusBoard,
    /// How fast to try again.
    pub pace: Pace,
    /// What the platform calls people.
    pub directory: Directory,
    /// Where the relay says what it does.
    pub mark: Mark,
}
