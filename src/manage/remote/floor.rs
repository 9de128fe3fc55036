//! The clock floor: before which it can't be, whatever the machine's clock says.
//!
//! Must not: be taken for the time.

use crate::clock::Now;
use crate::event::UtcMicros;

/// The day of this release, UTC, at which nobody can run it earlier. Raised with every release; a build that sets
/// `SOURCE_DATE_EPOCH` says it better.
const RELEASED: i64 = 1_795_478_400;

/// When this program was built, or at the latest released.
pub fn built() -> UtcMicros {
    let said = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse::<i64>().ok());
    UtcMicros(said.unwrap_or(RELEASED).max(RELEASED).saturating_mul(1_000_000))
}

/// What is known of the time when a bundle is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The machine's clock.
    pub wall: UtcMicros,
    /// Whether it is right.
    pub synchronised: bool,
    /// It can't be earlier: the latest of build time, last saved time and `not_before` of the newest accepted bundle.
    pub floor: UtcMicros,
}

impl Time {
    /// From the clocks and what was remembered; the build time is added here.
    pub fn new(now: Now, saved: UtcMicros, newest: UtcMicros) -> Self {
        let floor = built().0.max(saved.0).max(newest.0);
        Self { wall: now.wall, synchronised: now.synchronised, floor: UtcMicros(floor) }
    }
}

/// An unsynchronised gateway accepts a `not_before` at most so much above its floor, microseconds: ten years, the life of
/// a device. What is beyond is a slip of the pen, and would raise the floor over every later bundle.
const REACH: i64 = 10 * 366 * 24 * 3600 * 1_000_000;

/// How a validity stands to the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Good.
    Good,
    /// Not yet.
    Early,
    /// No longer.
    Late,
}

impl Time {
    /// Judges. While the clock is not right it says nothing: what ended before the floor has ended, and a beginning can't be
    /// held against a bundle, as it may be long past.
    pub const fn judge(&self, not_before: UtcMicros, expires: UtcMicros) -> Validity {
        let (from, until) = if self.synchronised {
            (self.wall.0, self.wall.0)
        } else {
            (self.floor.0.saturating_add(REACH), self.floor.0)
        };
        if expires.0 <= until {
            Validity::Late
        } else if not_before.0 > from {
            Validity::Early
        } else {
            Validity::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600 * 1_000_000;

    fn at(wall: i64, synchronised: bool, floor: i64) -> Time {
        Time { wall: UtcMicros(wall), synchronised, floor: UtcMicros(floor) }
    }

    fn judge(time: &Time, from: i64, until: i64) -> Validity {
        time.judge(UtcMicros(from), UtcMicros(until))
    }

    #[test]
    fn a_clock_that_is_right_decides_alone() {
        let time = at(100 * DAY, true, 200 * DAY);
        assert_eq!(judge(&time, 99 * DAY, 101 * DAY), Validity::Good);
        assert_eq!(judge(&time, 101 * DAY, 102 * DAY), Validity::Early);
        assert_eq!(judge(&time, 98 * DAY, 100 * DAY), Validity::Late);
    }

    #[test]
    fn a_clock_in_1970_bricks_nothing_and_opens_nothing() {
        let time = at(0, false, 100 * DAY);
        assert_eq!(judge(&time, 150 * DAY, 160 * DAY), Validity::Good, "signed after the floor: it may well be later");
        assert_eq!(judge(&time, 50 * DAY, 100 * DAY), Validity::Late, "it ended before the floor");
        assert_eq!(judge(&time, 20_000 * DAY, 30_000 * DAY), Validity::Early, "it would raise the floor for good");
        let future = at(30_000 * DAY, false, 100 * DAY);
        assert_eq!(
            judge(&future, 150 * DAY, 160 * DAY),
            Validity::Good,
            "an unsynchronised clock is not believed at all"
        );
    }

    #[test]
    fn the_floor_is_the_latest_of_what_is_known() {
        let now = Now { wall: UtcMicros(0), boot: crate::event::BootTime(0), synchronised: false };
        assert_eq!(Time::new(now, UtcMicros(1), UtcMicros(2)).floor, built());
        let later = UtcMicros(built().0 + 5);
        assert_eq!(Time::new(now, later, UtcMicros(2)).floor, later);
        assert_eq!(Time::new(now, UtcMicros(1), later).floor, later);
    }
}
