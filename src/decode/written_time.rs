//! Times as devices write them: ISO and vendor texts, epoch seconds, milliseconds and microseconds.
//!
//! Must not: apply a zone.

use jiff::civil::DateTime;

use crate::event::{DeviceTime, WrittenTime};

/// Longest raw text that is kept, bytes.
const MAX_RAW: usize = 64;

/// Reads a time as it was written; the raw text is kept (cut to 64 bytes) whatever comes of it.
///
/// Understood are `YYYY-MM-DD HH:MM:SS` with `-` or `/`, blank or `T`, with or without fraction and offset (`Z`,
/// `±HH:MM`, `±HHMM`, `±HH`), `DD-MM-YYYY HH:MM:SS` and `DD/MM/YYYY HH:MM:SS`, `YYYYMMDDHHMMSS` and `YYYYMMDDTHHMMSS`,
/// and epoch numbers told apart by their size: seconds below 10¹¹, else milliseconds, microseconds, nanoseconds. Month
/// before day with slashes is not: it can't be told from day before month.
pub fn read(text: &str) -> DeviceTime {
    let text = text.trim();
    let mut end = text.len().min(MAX_RAW);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    DeviceTime { raw: text[..end].to_owned(), parsed: if text.len() > MAX_RAW { None } else { parse(text.as_bytes()) } }
}

fn parse(text: &[u8]) -> Option<WrittenTime> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    match (digits, text.get(digits)) {
        (4, Some(b'-' | b'/')) => separated(text, [0, 5, 8], 10),
        (2, Some(b'-' | b'/')) => separated(text, [6, 3, 0], 10),
        (14, None) => compact(&text[..8], &text[8..14], &[]),
        (8, Some(b'T' | b't')) if text.len() >= 15 => compact(&text[..8], &text[9..15], &text[15..]),
        (1..=19, None | Some(b'.')) => epoch(&text[..digits], text.get(digits + 1..).unwrap_or(&[])),
        _ => None,
    }
}

/// `YYYY-MM-DD` or `DD-MM-YYYY`, then a time of day from one byte after `date_end`; `at` says where year, month and day
/// stand.
fn separated(text: &[u8], at: [usize; 3], date_end: usize) -> Option<WrittenTime> {
    if text.len() < date_end + 9 || !matches!(text[date_end], b'T' | b't' | b' ' | b'_') {
        return None;
    }
    let separator = text[at[1] + 2];
    if separator != text[if at[0] == 0 { 4 } else { 2 }] || text[date_end + 3] != b':' || text[date_end + 6] != b':' {
        return None;
    }
    let date = (four(&text[at[0]..])?, two(&text[at[1]..])?, two(&text[at[2]..])?);
    let time = (two(&text[date_end + 1..])?, two(&text[date_end + 4..])?, two(&text[date_end + 7..])?);
    assemble(date, time, &text[date_end + 9..])
}

fn compact(date: &[u8], time: &[u8], rest: &[u8]) -> Option<WrittenTime> {
    let date = (four(date)?, two(&date[4..])?, two(&date[6..])?);
    assemble(date, (two(time)?, two(&time[2..])?, two(&time[4..])?), rest)
}

fn assemble(date: (i16, i8, i8), time: (i8, i8, i8), rest: &[u8]) -> Option<WrittenTime> {
    let (nanos, rest) = fraction(rest);
    let offset_min = offset(rest)?;
    // Devices write leap seconds; civil time has none.
    let second = if time.2 == 60 { 59 } else { time.2 };
    let wall = DateTime::new(date.0, date.1, date.2, time.0, time.1, second, nanos).ok()?;
    Some(WrittenTime { wall, offset_min })
}

/// Nanoseconds from `.123` or `,123`; digits after the ninth are dropped.
fn fraction(text: &[u8]) -> (i32, &[u8]) {
    let Some((b'.' | b',', digits)) = text.split_first() else { return (0, text) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let nanos = (0..9).fold(0, |n, i| n * 10 + if i < count { i32::from(digits[i] - b'0') } else { 0 });
    (nanos, &digits[count..])
}

/// Minutes from `Z`, `±HH:MM`, `±HHMM` or `±HH`; `Some(None)` for nothing.
#[expect(clippy::option_option, reason = "the outer option is whether it can be understood")]
fn offset(text: &[u8]) -> Option<Option<i16>> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (negative, digits) = match text {
        [] => return Some(None),
        [b'Z' | b'z'] => return Some(Some(0)),
        [b'+', digits @ ..] => (false, digits),
        [b'-', digits @ ..] => (true, digits),
        _ => return None,
    };
    let minutes = match digits.len() {
        2 => 0,
        4 => two(&digits[2..])?,
        5 if digits[2] == b':' => two(&digits[3..])?,
        _ => return None,
    };
    let total = i16::from(two(digits)?) * 60 + i16::from(minutes);
    // The same bound as jiff's: nothing on Earth is further than 14 hours, but old databases hold more.
    (total <= 26 * 60 && minutes < 60).then_some(Some(if negative { -total } else { total }))
}

fn epoch(whole: &[u8], fraction_digits: &[u8]) -> Option<WrittenTime> {
    if !fraction_digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = whole.iter().try_fold(0_i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b - b'0')))?;
    let unit: i64 = match number {
        0..100_000_000_000 => 1,
        100_000_000_000..100_000_000_000_000 => 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000_000,
        _ => 1_000_000_000,
    };
    let seconds = number.div_euclid(unit);
    let mut nanos = i32::try_from(number.rem_euclid(unit) * (1_000_000_000 / unit)).ok()?;
    if unit == 1 {
        nanos = (0..9).fold(0, |n, i| n * 10 + fraction_digits.get(i).map_or(0, |b| i32::from(b - b'0')));
    }
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days)?;
    let part = |value: i64| i8::try_from(value).ok();
    let wall =
        DateTime::new(year, month, day, part(second / 3600)?, part(second / 60 % 60)?, part(second % 60)?, nanos)
            .ok()?;
    Some(WrittenTime { wall, offset_min: Some(0) })
}

/// Howard Hinnant's "chrono-compatible low-level date algorithms", days counted from 1970-01-01.
fn civil_from_days(days: i64) -> Option<(i16, i8, i8)> {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    Some((i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(doy - (153 * mp + 2) / 5 + 1).ok()?))
}

fn two(text: &[u8]) -> Option<i8> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', ..] => i8::try_from((a - b'0') * 10 + (b - b'0')).ok(),
        _ => None,
    }
}

fn four(text: &[u8]) -> Option<i16> {
    Some(i16::from(two(text)?) * 100 + i16::from(two(text.get(2..)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match read(text).parsed {
            Some(WrittenTime { wall, offset_min: Some(offset) }) => format!("{wall} {offset:+}"),
            Some(WrittenTime { wall, offset_min: None }) => wall.to_string(),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn every_way_of_writing_a_time_is_read() {
        for (text, want) in [
            ("2026-04-10 10:00:07", "2026-04-10T10:00:07"),
            ("2026-11-24T00:00:00.011Z", "2026-11-24T00:00:00.011 +0"),
            ("2026-11-24t00:00:00.0110005z", "2026-11-24T00:00:00.0110005 +0"),
            ("2026-04-10T10:00:07-04:00", "2026-04-10T10:00:07 -240"),
            ("2026-04-10T10:00:07+0545", "2026-04-10T10:00:07 +345"),
            ("2026-04-10 10:00:07 +02", "2026-04-10T10:00:07 +120"),
            ("2026/04/10 10:00:07", "2026-04-10T10:00:07"),
            ("2026-04-10 10:00:07,5", "2026-04-10T10:00:07.5"),
            ("10-04-2026 10:00:07", "2026-04-10T10:00:07"),
            ("10/04/2026 10:00:07", "2026-04-10T10:00:07"),
            ("20260410100007", "2026-04-10T10:00:07"),
            ("20260410T100007Z", "2026-04-10T10:00:07 +0"),
            ("1540290526", "2018-10-23T10:28:46 +0"),
            ("1540290526123", "2018-10-23T10:28:46.123 +0"),
            ("1540290526123456", "2018-10-23T10:28:46.123456 +0"),
            ("1540290526123456789", "2018-10-23T10:28:46.123456789 +0"),
            ("1540290526.25", "2018-10-23T10:28:46.25 +0"),
            ("0", "1970-01-01T00:00:00 +0"),
            ("2016-12-31 23:59:60", "2016-12-31T23:59:59"),
            (" 2026-04-10 10:00:07 ", "2026-04-10T10:00:07"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_keeps_its_text() {
        for text in [
            "",
            "soon",
            "2026-13-01 00:00:00",
            "2026-02-30 00:00:00",
            "2026-04-10",
            "2026-04/10 10:00:07",
            "2026-04-10 24:00:00",
            "2026-04-10T10:00:07+99:00",
            "2026-04-10T10:00:07X",
            "-1",
            "1540290526.x",
            "99999999999999999999",
            "10-2026-04 10:00:07",
            "2026-04-10 10:00",
            "ñ026-04-10 10:00:07",
            "20261310100007",
        ] {
            assert_eq!((shown(text).as_str(), read(text).raw.as_str()), ("-", text));
        }
        let long = "ñ".repeat(40);
        assert_eq!(read(&long).raw, "ñ".repeat(32));
        assert_eq!(read(&format!("x{long}")).raw.len(), 63);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TZ:/+. -]{0,40}|\\PC{0,80}") {
            let time = read(&text);
            proptest::prop_assert!(time.raw.len() <= MAX_RAW);
        }

        #[test]
        fn a_time_that_jiff_writes_is_read_as_the_same(seconds in 0_i64..4_102_444_800) {
            let read = read(&seconds.to_string()).parsed.map(|w| w.wall);
            let want = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0) + jiff::SignedDuration::from_secs(seconds);
            proptest::prop_assert_eq!(read, Some(want));
            proptest::prop_assert_eq!(super::read(&want.to_string()).parsed.map(|w| w.wall), Some(want));
        }
    }
}
