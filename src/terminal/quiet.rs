//! A repeating error is logged on change, then at most once a minute, and one line on recovery says how many came before.
//!
//! Must not: log by itself (a log line needs its own constant message and fields), or ask what time it is.

use crate::event::BootTime;

/// The least time between two log lines about the same error, microseconds.
const INTERVAL_US: u64 = 60_000_000;

/// Remembers what was last said.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    reason: Option<String>,
    said: BootTime,
    count: u64,
}

impl Quiet {
    /// It failed again: whether to say so now.
    pub(crate) fn failed(&mut self, now: BootTime, reason: &str) -> bool {
        self.count += 1;
        let known = self.reason.as_deref() == Some(reason);
        if known && now.micros_since(self.said) < INTERVAL_US {
            return false;
        }
        if !known {
            self.reason = Some(reason.to_owned());
        }
        self.said = now;
        true
    }

    /// It works again: how many failures came before, if any did.
    pub(crate) fn recovered(&mut self) -> Option<u64> {
        self.reason.take()?;
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_said_once_a_minute_and_counted_on_recovery() {
        let mut quiet = Quiet::default();
        assert_eq!(quiet.recovered(), None);
        assert!(quiet.failed(BootTime(0), "gone"));
        assert!(!quiet.failed(BootTime(1), "gone"));
        assert!(quiet.failed(BootTime(2), "refused"));
        assert!(!quiet.failed(BootTime(INTERVAL_US), "refused"));
        assert!(quiet.failed(BootTime(INTERVAL_US + 2), "refused"));
        assert_eq!(quiet.recovered(), Some(5));
        assert_eq!(quiet.recovered(), None);
    }
}
