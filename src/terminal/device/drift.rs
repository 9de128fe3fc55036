//! How far a device's own clock is from ours, by the times that it writes.
//!
//! A live record is heard after it was written: its time is at most as far ahead of ours as the device's clock is. So the
//! record that came fastest is the best witness, and one that lags proves nothing alone: the clock is behind, or it came
//! late.
//!
//! Must not: change an event, or judge while our own clock may be wrong.

use crate::event::{ClockQuality, Origin, Times};
use crate::terminal::DeviceClock;

/// For how long a record is a witness, at least, and twice as long at most, microseconds: a clock that was set right must
/// not be called wrong for hours.
const WITNESS_MICROS: u64 = 600_000_000;

/// What the records of one device say of its clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drift {
    /// Which stretch of time `now` is about.
    stretch: u64,
    /// The best witness of this stretch, and of the one before, microseconds ahead of us.
    now: Option<i64>,
    before: Option<i64>,
    /// The last time could not be a time: a clock that lost its power, or one far ahead.
    wrong: bool,
}

impl Drift {
    /// A record with these times was heard.
    pub(super) fn hear(&mut self, times: &Times, origin: Origin) {
        if origin != Origin::Live || !times.synchronised {
            return;
        }
        match times.quality {
            ClockQuality::Absent | ClockQuality::Ambiguous => return,
            ClockQuality::Bogus => {
                self.wrong = true;
                return;
            }
            ClockQuality::Good | ClockQuality::Drifted => self.wrong = false,
        }
        let stretch = times.received_boot.0 / WITNESS_MICROS;
        if stretch != self.stretch {
            self.before = self.now.filter(|_| stretch == self.stretch + 1);
            (self.stretch, self.now) = (stretch, None);
        }
        self.now = self.now.max(Some(times.event.0 - times.received.0));
    }

    /// What is known; `None` of a device that writes no times.
    pub(super) fn clock(&self) -> Option<DeviceClock> {
        if self.wrong {
            return Some(DeviceClock::Wrong);
        }
        self.now.max(self.before).map(|micros| DeviceClock::Apart(micros.div_euclid(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BootTime, TzSource, UtcMicros};

    fn times(minute: u64, ahead_s: i64, quality: ClockQuality) -> Times {
        let received = 1_795_478_400_000_000;
        Times {
            event: UtcMicros(received + ahead_s * 1_000_000),
            received: UtcMicros(received),
            received_boot: BootTime(minute * 60_000_000),
            synchronised: true,
            utc_offset_min: None,
            tz_source: TzSource::None,
            quality,
            uncertainty_ms: 0,
        }
    }

    fn after(heard: &[(u64, i64)]) -> Option<DeviceClock> {
        let mut drift = Drift::default();
        for (minute, ahead) in heard {
            drift.hear(&times(*minute, *ahead, ClockQuality::Good), Origin::Live);
        }
        drift.clock()
    }

    #[test]
    fn the_fastest_record_is_the_witness_and_late_ones_prove_nothing() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(1, -3600), (2, 7), (3, -40)]), Some(DeviceClock::Apart(7_000)));
        assert_eq!(after(&[(1, -40), (2, -90)]), Some(DeviceClock::Apart(-40_000)));
    }

    #[test]
    fn a_clock_that_was_set_right_is_right_after_twenty_minutes() {
        assert_eq!(after(&[(1, 60), (11, 0)]), Some(DeviceClock::Apart(60_000)));
        assert_eq!(after(&[(1, 60), (11, 0), (21, 0)]), Some(DeviceClock::Apart(0)));
        assert_eq!(after(&[(1, 60), (41, -2)]), Some(DeviceClock::Apart(-2_000)));
    }

    #[test]
    fn a_reset_clock_is_wrong_until_it_writes_a_time_again() {
        let mut drift = Drift::default();
        drift.hear(&times(1, 0, ClockQuality::Bogus), Origin::Live);
        assert_eq!(drift.clock(), Some(DeviceClock::Wrong));
        drift.hear(&times(2, 0, ClockQuality::Absent), Origin::Live);
        assert_eq!(drift.clock(), Some(DeviceClock::Wrong));
        drift.hear(&times(2, 1, ClockQuality::Good), Origin::Live);
        assert_eq!(drift.clock(), Some(DeviceClock::Apart(1_000)));
    }

    #[test]
    fn what_was_replayed_or_heard_by_a_doubtful_clock_says_nothing() {
        let mut drift = Drift::default();
        drift.hear(&times(1, -9000, ClockQuality::Good), Origin::Replay);
        drift.hear(&Times { synchronised: false, ..times(1, 90, ClockQuality::Good) }, Origin::Live);
        assert_eq!(drift.clock(), None);
    }
}
