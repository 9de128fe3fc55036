//! An instant as somebody else wants it written: in a zone, in a format.
//!
//! Must not: round. What is finer than the format is cut off, since a time that lies a moment in the future is refused by
//! many a receiver.

use jiff::Timestamp;
use jiff::fmt::strtime;

use super::Zone;
use crate::event::UtcMicros;

impl Zone {
    /// The instant in this zone by a `strftime` pattern, with the directives of [`jiff::fmt::strtime`]; `None` where the
    /// pattern has an unknown one or the instant lies outside the years −9999 to 9999.
    pub fn strftime(&self, time: UtcMicros, pattern: &str) -> Option<String> {
        let zoned = Timestamp::from_microsecond(time.0).ok()?.to_zoned_datetime(self.0.clone());
        strtime::format(pattern, &zoned).ok()
    }

    /// Seconds by which this zone's clocks are ahead of UTC at that instant.
    pub fn offset_seconds(&self, time: UtcMicros) -> Option<i32> {
        Some(self.0.to_offset(Timestamp::from_microsecond(time.0).ok()?).seconds())
    }

    /// RFC 3339 in this zone, `2026-04-14T08:30:00-04:00`, with exactly three decimals if asked for. UTC is written `Z`,
    /// any other zone as its offset in hours and minutes (`+00:00` too).
    pub fn rfc3339(&self, time: UtcMicros, millis: bool) -> Option<String> {
        let offset = match self.is_utc() {
            true => "Z",
            false => "%:z",
        };
        let fraction = if millis { "%.3f" } else { "" };
        self.strftime(time, &format!("%Y-%m-%dT%H:%M:%S{fraction}{offset}"))
    }

    /// Whether this is UTC itself, not a zone that happens to agree with it.
    pub fn is_utc(&self) -> bool {
        self.0 == jiff::tz::TimeZone::UTC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-04-14 12:30:00.999999 UTC, 08:30 in Santiago.
    const TIME: UtcMicros = UtcMicros(1_776_169_800_999_999);

    fn santiago() -> Zone {
        Zone::named("America/Santiago").expect("bundled")
    }

    #[test]
    fn what_is_finer_than_the_format_is_cut_off() {
        let zone = santiago();
        assert_eq!(zone.strftime(TIME, "%Y-%m-%d %H:%M:%S").as_deref(), Some("2026-04-14 08:30:00"));
        assert_eq!(zone.strftime(TIME, "%d/%m/%Y %-H:%-M").as_deref(), Some("14/04/2026 8:30"));
        assert_eq!(zone.strftime(TIME, "%H:%M:%S%.3f").as_deref(), Some("08:30:00.999"));
        assert_eq!(zone.strftime(TIME, "%I:%M %p").as_deref(), Some("08:30 AM"));
        assert_eq!(zone.strftime(TIME, "%Y%m%d%H%M%S").as_deref(), Some("20260414083000"));
        assert_eq!(Zone::utc().strftime(TIME, "%Y-%m-%d %H:%M:%S%.6f").as_deref(), Some("2026-04-14 12:30:00.999999"));
        assert_eq!(zone.strftime(TIME, "%!"), None);
    }

    #[test]
    fn an_offset_is_written_as_one_and_utc_as_z() {
        assert_eq!(santiago().rfc3339(TIME, false).as_deref(), Some("2026-04-14T08:30:00-04:00"));
        assert_eq!(santiago().rfc3339(TIME, true).as_deref(), Some("2026-04-14T08:30:00.999-04:00"));
        assert_eq!(Zone::utc().rfc3339(TIME, true).as_deref(), Some("2026-04-14T12:30:00.999Z"));
        assert_eq!(
            santiago().rfc3339(UtcMicros(1_776_169_800_000_000), true).as_deref(),
            Some("2026-04-14T08:30:00.000-04:00")
        );
        let london = Zone::named("Europe/London").expect("bundled");
        let winter = UtcMicros(1_768_480_200_000_000);
        assert_eq!(london.rfc3339(winter, false).as_deref(), Some("2026-01-15T12:30:00+00:00"));
        let kathmandu = Zone::named("Asia/Kathmandu").expect("bundled");
        assert_eq!(kathmandu.offset_seconds(TIME), Some(20_700));
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_nothing() {
        assert_eq!(Zone::utc().strftime(UtcMicros(i64::MAX), "%Y"), None);
        assert_eq!(Zone::utc().offset_seconds(UtcMicros(i64::MIN)), None);
    }
}
