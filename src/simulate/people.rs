//! Invented people and cards, and the times that their devices write.
//!
//! Must not: resemble anybody: every number comes from the seed.

use std::fmt::Write as _;

use crate::clock::Zone;
use crate::event::{UtcMicros, json::rfc3339};

/// How many people work at a simulated site.
const PEOPLE: u32 = 500;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Person {
    /// Their number on the terminals, up to six digits.
    pub(super) id: u32,
    /// Their card.
    pub(super) card: u32,
}

/// Somebody comes by.
pub(super) fn somebody(random: &mut fastrand::Rng, seed: u64) -> Person {
    person(seed, random.u32(0..PEOPLE))
}

/// Person `number` of the site with this seed: the same in every process.
fn person(seed: u64, number: u32) -> Person {
    let mut own = fastrand::Rng::with_seed(seed ^ (u64::from(number) << 32) ^ 0x9E37_79B9_7F4A_7C15);
    own.u64(..); // neighbouring seeds are alike in their first number
    Person { id: own.u32(1_000..1_000_000), card: own.u32(1..16_777_216) }
}

/// `2026-11-24T00:00:00.011Z`, or without zone and in `zone`.
pub(super) fn iso_millis(at: UtcMicros, zone: Option<&Zone>, out: &mut String) {
    out.clear();
    let local = zone.and_then(|zone| local(at, zone));
    let text = rfc3339(local.unwrap_or(at));
    out.push_str(&text.as_str()[..23]);
    if local.is_none() {
        out.push('Z');
    }
}

/// `2026-11-24 00:00:00`, the local time of `zone`.
pub(super) fn plain_seconds(at: UtcMicros, zone: &Zone, out: &mut String) {
    out.clear();
    let text = rfc3339(local(at, zone).unwrap_or(at));
    let _ = write!(out, "{} {}", &text.as_str()[..10], &text.as_str()[11..19]);
}

/// The local wall time, as if it were UTC.
fn local(at: UtcMicros, zone: &Zone) -> Option<UtcMicros> {
    let wall = zone.local(at)?;
    let since = wall.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
    i64::try_from(since.as_micros()).ok().map(UtcMicros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_devices_write_them() {
        let at = UtcMicros(1_795_478_400_011_999);
        let mut text = String::new();
        iso_millis(at, None, &mut text);
        assert_eq!(text, "2026-11-24T00:00:00.011Z");
        let santiago = Zone::named("America/Santiago").unwrap();
        iso_millis(at, Some(&santiago), &mut text);
        assert_eq!(text, "2026-11-23T21:00:00.011");
        plain_seconds(at, &santiago, &mut text);
        assert_eq!(text, "2026-11-23 21:00:00");
    }

    #[test]
    fn the_same_seed_gives_the_same_people() {
        let come = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..10).map(|_| somebody(&mut random, seed)).collect::<Vec<_>>()
        };
        assert_eq!(come(7), come(7));
        assert_ne!(come(7), come(8));
    }
}
