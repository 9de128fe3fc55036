//! When a repeating trouble is worth a log line: on change, then at most once a minute, and once when it is over.
//!
//! Must not: log, or ask what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// The same trouble is repeated in the log after this long at the earliest.
const REPEAT: Duration = Duration::from_secs(60);

/// One trouble, as the log has heard of it.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    last: Option<(String, Instant)>,
    unsaid: u64,
    total: u64,
}

impl Complaint {
    /// It happened (again). `Some(n)`: write a line now, that stands for `n` occurrences.
    pub(super) fn raise(&mut self, reason: &str, now: Instant) -> Option<u64> {
        self.total += 1;
        self.unsaid += 1;
        let known = self.last.as_ref().is_some_and(|(text, at)| text == reason && now.duration_since(*at) < REPEAT);
        if known {
            return None;
        }
        self.last = Some((reason.to_owned(), now));
        Some(std::mem::take(&mut self.unsaid))
    }

    /// It is over. `Some(n)`: write one line that says so; it happened `n` times in all.
    pub(super) fn clear(&mut self) -> Option<u64> {
        let total = self.total;
        *self = Self::default();
        (total > 0).then_some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_said_on_change_then_once_a_minute_and_once_when_it_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut complaint = Complaint::default();
        assert_eq!(complaint.raise("down", at(0)), Some(1));
        assert_eq!((1..60).filter_map(|s| complaint.raise("down", at(s))).count(), 0);
        assert_eq!(complaint.raise("down", at(60)), Some(60));
        assert_eq!(complaint.raise("refused", at(61)), Some(1));
        assert_eq!(complaint.clear(), Some(62));
        assert_eq!(complaint.clear(), None);
    }
}
