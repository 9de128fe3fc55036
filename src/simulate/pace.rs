//! When the next event is due.
//!
//! Must not: decide what it is.

use std::time::Duration;

use tokio::time::Instant;

/// An even pace, counted from the start, so that a late event doesn't delay the ones after it.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    /// Zero: no pace.
    interval: Duration,
    made: u32,
}

impl Pace {
    /// `rate` events a second; 0 is as fast as possible.
    pub(super) fn new(rate: f64) -> Self {
        // At the slowest one event a week: a Duration of infinite length doesn't exist.
        let interval = if rate > 0.0 { Duration::from_secs_f64((1.0 / rate).min(604_800.0)) } else { Duration::ZERO };
        Self { start: Instant::now(), interval, made: 0 }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Instant {
        self.start + self.interval * self.made
    }

    /// Whether it is due, or how late it is.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.interval.is_zero() {
            return Some(Duration::ZERO);
        }
        Instant::now().checked_duration_since(self.next())
    }

    /// One was made.
    pub(super) fn made(&mut self) {
        if self.interval.is_zero() {
            return;
        }
        self.made += 1;
        // A fresh start now and then keeps the product above within a Duration and the count within its type.
        if self.made == 1 << 20 {
            self.start = self.next();
            self.made = 0;
        }
    }

    /// Whether there is no pace at all.
    pub(super) const fn is_unlimited(&self) -> bool {
        self.interval.is_zero()
    }
}
