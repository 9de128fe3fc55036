//! One card held to a reader is one event, two swipes are two (I3): the presence rule of readers without records.
//!
//! Must not: look at anything but the credential and the time at which it was seen.

use crate::event::BootTime;

/// The presence that was reported last.
#[derive(Debug)]
pub(super) struct Presence {
    gap_us: u64,
    last: Option<(String, BootTime)>,
}

impl Presence {
    /// Nothing was present yet. A silence longer than `gap_us` microseconds ends a presence.
    pub(super) const fn new(gap_us: u64) -> Self {
        Self { gap_us, last: None }
    }

    /// Whether `credential`, seen at `at`, is still the presence that was reported; if so it goes on.
    pub(super) fn goes_on(&mut self, credential: &str, at: BootTime) -> bool {
        match &mut self.last {
            Some((present, seen)) if present == credential && at.micros_since(*seen) <= self.gap_us => {
                *seen = at.max(*seen);
                true
            }
            _ => false,
        }
    }

    /// A new presence begins.
    pub(super) fn begin(&mut self, credential: &str, at: BootTime) {
        self.last = Some((credential.to_owned(), at));
    }
}
