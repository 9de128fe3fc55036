//! The one place that asks what time it is, and that turns a device's local time into UTC.
//!
//! Must not: order anything by wall time, or guess silently. What can't be known is said in `clock_quality` and
//! `uncertainty_ms`; the raw text stays with the event whatever happens here.

mod format;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::event::{BootTime, ClockQuality, DeviceTime, Event, Origin, Times, TzSource, UtcMicros, WrittenTime};

/// A device more than this ahead of a synchronised gateway shows a bogus time, milliseconds.
const FUTURE_LIMIT_MS: i64 = 10 * 60 * 1000;

/// A live event this far ahead of the gateway, and not further than [`FUTURE_LIMIT_MS`], is `drifted`, milliseconds.
/// A device that lags can't be told from an event that was late, so lag alone is never called drift.
const DRIFT_LIMIT_MS: i64 = 5 * 1000;

/// Uncertainty of an event without device time: what a reader, its adapter and the kernel may hold back, milliseconds.
const ABSENT_UNCERTAINTY_MS: u32 = 1000;

/// Uncertainty of a live event whose device time is bogus: a terminal re-sends within about a minute.
const BOGUS_LIVE_UNCERTAINTY_MS: u32 = 60 * 1000;

/// Uncertainty of a replayed event whose device time is bogus: a month, the depth of a typical terminal log.
const BOGUS_REPLAY_UNCERTAINTY_MS: u32 = 31 * 24 * 60 * 60 * 1000;

/// How long a verdict on synchronisation is reused, microseconds: asking costs a system call or a file look-up.
const SYNC_CHECK_MICROS: u64 = 1_000_000;

/// `timex.maxerror` at which systemd, too, calls a clock unsynchronised, microseconds (systemd-timesyncd, `adjtimex(2)`).
const MAX_ERROR_MICROS: i64 = 16_000_000;

/// A file that exists once the clock is right: systemd-timesyncd's.
const TIMESYNC_FLAG: &str = "/run/systemd/timesync/synchronized";

/// A file that exists while the clock is right: that of portero-clock.service, which asks the kernel where our own sandbox may
/// not.
const COMPANION_FLAG: &str = "/run/portero-clock/synchronised";

/// What the machine itself says, without our companion: its time service, or the kernel.
pub fn machine_says_synchronised() -> bool {
    std::path::Path::new(TIMESYNC_FLAG).exists() || kernel_says_synchronised()
}

/// The three clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, UTC.
    pub wall: UtcMicros,
    /// Boot clock.
    pub boot: BootTime,
    /// Whether the wall clock could be trusted.
    pub synchronised: bool,
}

/// How to tell that the wall clock is right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SyncSource {
    /// systemd-timesyncd's flag file or that of portero-clock.service, else the kernel's estimated maximum error (which a
    /// sandbox may hide).
    #[default]
    Auto,
    /// A site without NTP that sets its clock by other means.
    Trusted,
    /// A file that exists once the clock is right (a chrony or GPS hook makes it).
    File(PathBuf),
}

/// A cheap, cloneable handle on the machine's clocks.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: SyncSource,
    boot_id: [u8; 16],
    synchronised: AtomicBool,
    checked_at: AtomicU64,
}

impl Clock {
    /// A clock that judges synchronisation by `source`.
    pub fn new(source: SyncSource) -> Self {
        Self(Arc::new(Inner {
            source,
            boot_id: read_boot_id(),
            synchronised: AtomicBool::new(false),
            checked_at: AtomicU64::new(u64::MAX),
        }))
    }

    /// Reads all three clocks.
    pub fn now(&self) -> Now {
        let boot = boot_time();
        Now { wall: wall_time(), boot, synchronised: self.synchronised(boot) }
    }

    /// The kernel's random id of this boot (`/proc/sys/kernel/random/boot_id`), zero where it can't be read.
    pub fn boot_id(&self) -> [u8; 16] {
        self.0.boot_id
    }

    fn synchronised(&self, boot: BootTime) -> bool {
        let checked_at = self.0.checked_at.load(Ordering::Relaxed);
        if checked_at != u64::MAX && boot.0.saturating_sub(checked_at) < SYNC_CHECK_MICROS {
            return self.0.synchronised.load(Ordering::Relaxed);
        }
        let verdict = match &self.0.source {
            SyncSource::Trusted => true,
            SyncSource::File(path) => path.exists(),
            SyncSource::Auto => std::path::Path::new(COMPANION_FLAG).exists() || machine_says_synchronised(),
        };
        self.0.synchronised.store(verdict, Ordering::Relaxed);
        self.0.checked_at.store(boot.0, Ordering::Relaxed);
        verdict
    }
}

fn read_boot_id() -> [u8; 16] {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| uuid::Uuid::try_parse(text.trim()).ok())
        .map_or([0; 16], |id| *id.as_bytes())
}

fn wall_time() -> UtcMicros {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    UtcMicros(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
}

fn boot_time() -> BootTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    BootTime(u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap_or(0))
}

#[expect(unsafe_code, reason = "adjtimex has no safe wrapper; modes = 0 only reads")]
fn kernel_says_synchronised() -> bool {
    // SAFETY: `timex` is plain old data, and adjtimex with `modes == 0` only fills it in.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the duration of the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    // `maxerror` is 32 bits wide on armv7 and 64 elsewhere.
    #[allow(clippy::useless_conversion, reason = "the width of the field depends on the target")]
    let max_error = i64::from(timex.maxerror);
    state >= 0 && max_error < MAX_ERROR_MICROS
}

/// A zone of the IANA database.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

/// A zone that the IANA database does not know.
#[derive(Debug, thiserror::Error)]
#[error("there is no time zone '{0}' in the IANA database")]
pub struct UnknownZone(pub String);

impl Zone {
    /// Looks a zone up by its IANA name, for example `America/Santiago`.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        // Needs no database.
        if name == "UTC" {
            return Ok(Self::utc());
        }
        TimeZone::get(name).map(Self).map_err(|_| UnknownZone(name.to_owned()))
    }

    /// UTC.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Microseconds UTC at the start (00:00) of a local day, for questions such as "that day, at the terminal".
    pub fn start_of_day(&self, date: jiff::civil::Date) -> Option<UtcMicros> {
        self.0.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible().ok().map(|t| UtcMicros(t.as_microsecond()))
    }

    /// The local wall time of an instant, for people.
    pub fn local(&self, time: UtcMicros) -> Option<DateTime> {
        jiff::Timestamp::from_microsecond(time.0).ok().map(|t| self.0.to_datetime(t))
    }
}

/// Names near to `name`, for an error that helps: same tail or one contained in the other.
pub fn zones_like(name: &str) -> Vec<String> {
    let wanted = name.to_ascii_lowercase();
    let tail = wanted.rsplit('/').next().unwrap_or("");
    jiff::tz::db()
        .available()
        .map(|z| z.to_string())
        .filter(|z| {
            let z = z.to_ascii_lowercase();
            !tail.is_empty() && z.rsplit('/').next().is_some_and(|t| t.starts_with(tail) || tail.starts_with(t))
        })
        .take(3)
        .collect()
}

/// What is said in place of a hint where this machine has no zones at all; only a build without our own (feature `tzdb`) can
/// come to that.
pub fn no_zones() -> Option<&'static str> {
    jiff::tz::db()
        .is_definitively_empty()
        .then_some("a zone of the IANA database, which this machine lacks: install the package tzdata")
}

/// Every name of the IANA database, for an error that helps where [`zones_like`] finds nothing.
pub fn zone_names() -> Vec<String> {
    jiff::tz::db().available().map(|z| z.to_string()).collect()
}

/// Resolves when something happened from what the device wrote and when the gateway heard it.
///
/// A local time that exists twice (autumn) takes the side nearer to the receive time that isn't after it, one that does
/// not exist (spring) is read with the offset before the gap; both are `ambiguous`, with the size of the fold or gap as
/// uncertainty. Times in or before 2000-01-02, the reset values of real devices, and, once the gateway's clock is
/// synchronised, times more than ten minutes ahead of it are `bogus`: the event then carries the receive time.
pub fn resolve(device: Option<&DeviceTime>, zone: &Zone, origin: Origin, now: Now) -> Times {
    let mut times = Times {
        event: now.wall,
        received: now.wall,
        received_boot: now.boot,
        synchronised: now.synchronised,
        utc_offset_min: None,
        tz_source: TzSource::None,
        quality: ClockQuality::Absent,
        uncertainty_ms: ABSENT_UNCERTAINTY_MS,
    };
    let Some(device) = device else { return times };
    let Some(instant) = device.parsed.filter(|w| !is_reset_value(w.wall)).and_then(|w| to_utc(w, zone, now)) else {
        return bogus(times, origin);
    };
    times.utc_offset_min = Some(instant.offset_min);
    times.tz_source = instant.source;
    let ahead_ms = (instant.at.0 - now.wall.0) / 1000;
    if now.synchronised && ahead_ms > FUTURE_LIMIT_MS {
        return bogus(times, origin);
    }
    times.event = instant.at;
    (times.quality, times.uncertainty_ms) = if instant.ambiguity_ms > 0 {
        (ClockQuality::Ambiguous, instant.ambiguity_ms)
    } else if now.synchronised && origin == Origin::Live && ahead_ms > DRIFT_LIMIT_MS {
        (ClockQuality::Drifted, u32::try_from(ahead_ms).unwrap_or(u32::MAX))
    } else {
        (ClockQuality::Good, 0)
    };
    times
}

/// The event with its times resolved anew, once the true receive time of its boot is known.
pub fn restamp(event: &Event, zone: &Zone, received: UtcMicros) -> Times {
    let now = Now { wall: received, boot: event.times.received_boot, synchronised: true };
    resolve(event.reading.device_time.as_ref(), zone, event.reading.origin.unwrap_or(Origin::Live), now)
}

const fn bogus(mut times: Times, origin: Origin) -> Times {
    times.event = times.received;
    times.quality = ClockQuality::Bogus;
    times.uncertainty_ms = match origin {
        Origin::Live => BOGUS_LIVE_UNCERTAINTY_MS,
        Origin::Replay | Origin::Backfill => BOGUS_REPLAY_UNCERTAINTY_MS,
    };
    times
}

/// 1970 (Unix), 2000-01-01 and 2000-01-02 (the epochs of ZKTeco and Anviz) and everything before: clocks that lost power.
fn is_reset_value(wall: DateTime) -> bool {
    wall < jiff::civil::date(2000, 1, 3).at(0, 0, 0, 0)
}

struct Instant {
    at: UtcMicros,
    offset_min: i16,
    source: TzSource,
    ambiguity_ms: u32,
}

fn to_utc(written: WrittenTime, zone: &Zone, now: Now) -> Option<Instant> {
    if let Some(offset_min) = written.offset_min {
        let at = TimeZone::UTC.to_ambiguous_timestamp(written.wall).compatible().ok()?;
        let at = UtcMicros(at.as_microsecond() - i64::from(offset_min) * 60_000_000);
        return Some(Instant { at, offset_min, source: TzSource::InMessage, ambiguity_ms: 0 });
    }
    let ambiguous = zone.0.to_ambiguous_timestamp(written.wall);
    let (offset, ambiguity_s) = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => (offset, 0),
        AmbiguousOffset::Gap { before, after } => (before, after.seconds() - before.seconds()),
        AmbiguousOffset::Fold { before, after } => {
            let later = ambiguous.later().ok()?.as_microsecond();
            let offset = if later <= now.wall.0 { after } else { before };
            (offset, before.seconds() - after.seconds())
        }
    };
    let at = TimeZone::UTC.to_ambiguous_timestamp(written.wall).compatible().ok()?;
    Some(Instant {
        at: UtcMicros(at.as_microsecond() - i64::from(offset.seconds()) * 1_000_000),
        // An offset is within ±26 hours.
        offset_min: i16::try_from(offset.seconds() / 60).ok()?,
        source: TzSource::Configured,
        ambiguity_ms: u32::try_from(ambiguity_s.abs()).ok()?.saturating_mul(1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: &str, synchronised: bool) -> Now {
        let wall = wall.parse::<jiff::Timestamp>().expect("a test writes good times").as_microsecond();
        Now { wall: UtcMicros(wall), boot: BootTime(5), synchronised }
    }

    fn local(text: &str) -> DeviceTime {
        let wall = text.parse().ok();
        DeviceTime { raw: text.to_owned(), parsed: wall.map(|wall| WrittenTime { wall, offset_min: None }) }
    }

    fn santiago() -> Zone {
        Zone::named("America/Santiago").expect("bundled")
    }

    fn utc(times: &Times) -> String {
        crate::event::json::rfc3339(times.event).to_string()
    }

    #[test]
    fn a_local_time_becomes_utc_in_its_zone() {
        let now = at("2026-04-10T14:00:09Z", true);
        let times = resolve(Some(&local("2026-04-10T10:00:07")), &santiago(), Origin::Live, now);
        assert_eq!(utc(&times), "2026-04-10T14:00:07.000000Z");
        assert_eq!((times.quality, times.uncertainty_ms), (ClockQuality::Good, 0));
        assert_eq!((times.utc_offset_min, times.tz_source), (Some(-240), TzSource::Configured));
    }

    /// Chile goes back from -03 to -04 on 2026-04-05 at 00:00 local: 23:00-24:00 on the 4th happens twice.
    #[test]
    fn a_fold_is_decided_by_arrival_and_flagged() {
        let text = local("2026-04-04T23:30:00");
        let first = resolve(Some(&text), &santiago(), Origin::Live, at("2026-04-05T02:30:05Z", true));
        assert_eq!(utc(&first), "2026-04-05T02:30:00.000000Z");
        let second = resolve(Some(&text), &santiago(), Origin::Live, at("2026-04-05T03:30:05Z", true));
        assert_eq!(utc(&second), "2026-04-05T03:30:00.000000Z");
        assert_eq!((second.quality, second.uncertainty_ms), (ClockQuality::Ambiguous, 3_600_000));
    }

    /// Chile goes forward on 2026-09-06 at 00:00 local: 00:00-01:00 does not exist.
    #[test]
    fn a_gap_is_read_with_the_offset_before_it_and_flagged() {
        let now = at("2026-09-06T04:30:05Z", true);
        let times = resolve(Some(&local("2026-09-06T00:30:00")), &santiago(), Origin::Live, now);
        assert_eq!(utc(&times), "2026-09-06T04:30:00.000000Z");
        assert_eq!((times.quality, times.uncertainty_ms), (ClockQuality::Ambiguous, 3_600_000));
    }

    #[test]
    fn reset_clocks_and_the_future_are_bogus_and_carry_the_receive_time() {
        let now = at("2026-04-10T14:00:09Z", true);
        for text in ["1970-01-01T00:00:10", "2000-01-01T00:00:00", "2000-01-02T03:00:00", "2036-04-10T10:00:00", "soon"]
        {
            let times = resolve(Some(&local(text)), &santiago(), Origin::Live, now);
            assert_eq!((times.quality, times.event), (ClockQuality::Bogus, now.wall), "{text}");
            assert_eq!(times.uncertainty_ms, BOGUS_LIVE_UNCERTAINTY_MS);
        }
    }

    #[test]
    fn an_unsynchronised_gateway_does_not_judge_the_future() {
        let times =
            resolve(Some(&local("2026-04-10T10:00:07")), &santiago(), Origin::Live, at("1970-01-01T00:00:10Z", false));
        assert_eq!((times.quality, utc(&times).as_str()), (ClockQuality::Good, "2026-04-10T14:00:07.000000Z"));
    }

    #[test]
    fn an_absent_time_is_the_receive_time() {
        let now = at("2026-04-10T14:00:09Z", true);
        let times = resolve(None, &santiago(), Origin::Live, now);
        assert_eq!((times.quality, times.event), (ClockQuality::Absent, now.wall));
    }

    #[test]
    fn the_boot_clock_runs_and_unknown_zones_are_refused() {
        let clock = Clock::new(SyncSource::Trusted);
        let (a, b) = (clock.now(), clock.now());
        assert!(a.boot.0 > 0 && a.boot <= b.boot && a.synchronised);
        assert!(Zone::named("America/Santigo").is_err());
        assert!(zones_like("America/Santigo").is_empty() || !zones_like("Amerika/Santiago").is_empty());
    }
}
