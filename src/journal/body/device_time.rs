//! Device times without their text: where the text follows from what it means, a form code replaces it.
//!
//! Must not: change a form. The codes are part of the body format, version 1; new forms get new codes.

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};

use crate::event::WrittenTime;

/// How a time was written, so that its text can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `2026-11-24T00:00:00.011Z`
    IsoMillisZ = 1,
    /// `2026-04-10 10:00:07`
    SpaceLocal = 2,
    /// `2026-04-10T10:00:07Z`
    IsoZ = 3,
    /// `2026-04-10T10:00:07`
    IsoLocal = 4,
    /// `1775815207`
    EpochSeconds = 5,
    /// `1775815207000`
    EpochMillis = 6,
    /// `2026-11-24T00:00:00.011000Z`
    IsoMicrosZ = 7,
    /// `2026-04-10T10:00:07-04:00`
    IsoOffset = 8,
}

impl Form {
    pub(super) const fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::IsoMillisZ,
            2 => Self::SpaceLocal,
            3 => Self::IsoZ,
            4 => Self::IsoLocal,
            5 => Self::EpochSeconds,
            6 => Self::EpochMillis,
            7 => Self::IsoMicrosZ,
            8 => Self::IsoOffset,
            _ => return None,
        })
    }

    /// The form in which `raw` is written, if the text can be made again from `time`.
    pub(super) fn of(raw: &str, time: WrittenTime) -> Option<Self> {
        let form = match (raw.len(), raw.as_bytes().get(10)) {
            (24, _) => Self::IsoMillisZ,
            (19, Some(b' ')) => Self::SpaceLocal,
            (20, _) => Self::IsoZ,
            (19, _) => Self::IsoLocal,
            (10, _) => Self::EpochSeconds,
            (13, _) => Self::EpochMillis,
            (27, _) => Self::IsoMicrosZ,
            (25, _) => Self::IsoOffset,
            _ => return None,
        };
        let text = form.write(time)?;
        (text == raw).then_some(form)
    }

    /// The text of `time` in this form; `None` where the form has no room for it.
    pub(super) fn write(self, time: WrittenTime) -> Option<String> {
        let wall = time.wall;
        if !(0..=9999).contains(&wall.year()) {
            return None;
        }
        let nanos = wall.subsec_nanosecond();
        let utc = time.offset_min == Some(0);
        let mut text = String::with_capacity(27);
        match self {
            Self::IsoMillisZ if utc && nanos % 1_000_000 == 0 => {
                civil(&mut text, wall, 'T');
                text.push('.');
                number(&mut text, nanos / 1_000_000, 3);
                text.push('Z');
            }
            Self::IsoMicrosZ if utc && nanos % 1_000 == 0 => {
                civil(&mut text, wall, 'T');
                text.push('.');
                number(&mut text, nanos / 1_000, 6);
                text.push('Z');
            }
            Self::IsoZ if utc && nanos == 0 => {
                civil(&mut text, wall, 'T');
                text.push('Z');
            }
            Self::SpaceLocal if time.offset_min.is_none() && nanos == 0 => civil(&mut text, wall, ' '),
            Self::IsoLocal if time.offset_min.is_none() && nanos == 0 => civil(&mut text, wall, 'T'),
            Self::IsoOffset if nanos == 0 => {
                let offset = i32::from(time.offset_min?);
                civil(&mut text, wall, 'T');
                text.push(if offset < 0 { '-' } else { '+' });
                number(&mut text, offset.abs() / 60, 2);
                text.push(':');
                number(&mut text, offset.abs() % 60, 2);
            }
            Self::EpochSeconds if utc && nanos == 0 => text = (to_micros(wall).0 / 1_000_000).to_string(),
            Self::EpochMillis if utc && nanos % 1_000_000 == 0 => text = (to_micros(wall).0 / 1_000).to_string(),
            _ => return None,
        }
        Some(text)
    }
}

fn civil(text: &mut String, wall: DateTime, between: char) {
    number(text, i32::from(wall.year()), 4);
    text.push('-');
    number(text, i32::from(wall.month()), 2);
    text.push('-');
    number(text, i32::from(wall.day()), 2);
    text.push(between);
    number(text, i32::from(wall.hour()), 2);
    text.push(':');
    number(text, i32::from(wall.minute()), 2);
    text.push(':');
    number(text, i32::from(wall.second()), 2);
}

fn number(text: &mut String, value: i32, width: u32) {
    for place in (0..width).rev() {
        // One decimal digit of a number that is never negative here.
        text.push(char::from(b'0' + (value / 10_i32.pow(place) % 10) as u8));
    }
}

/// Microseconds from 1970-01-01T00:00:00 to a wall time, no zone applied, and the nanoseconds that remain.
pub(super) fn to_micros(wall: DateTime) -> (i64, u16) {
    let nanos = wall.duration_since(date(1970, 1, 1).at(0, 0, 0, 0)).as_nanos();
    // jiff's years, -9999 to 9999, are 3.2e17 microseconds either way.
    let micros = i64::try_from(nanos.div_euclid(1_000)).unwrap_or(i64::MAX);
    (micros, u16::try_from(nanos.rem_euclid(1_000)).unwrap_or(0))
}

/// The inverse of [`to_micros`]; `None` outside jiff's range.
pub(super) fn from_micros(micros: i64, nanos: u16) -> Option<DateTime> {
    let since = SignedDuration::from_micros(micros).checked_add(SignedDuration::from_nanos(i64::from(nanos)))?;
    date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since).ok()
}
