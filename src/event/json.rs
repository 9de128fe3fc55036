//! The JSON of an event: one of the wire formats that outsiders rely on.
//!
//! Must not: change with a refactor. Names, nesting and order stand here explicitly and in the fixture of the tests.
//! Absent fields are left out. Nothing that differs between two tries of the same delivery may appear.

use std::io::Write as _;

use super::{Credential, Event, Methods, Person, Place, UtcMicros};

/// Appends the event as one JSON object, without a line end.
pub fn write(event: &Event, out: &mut Vec<u8>) {
    write_as(event, event.reading.kind.unwrap_or(super::Kind::Unknown).as_str(), out);
}

/// Appends a correction for a sink that tells records apart by `kind`: the same object with the kind `correction`.
pub fn write_correction(event: &Event, out: &mut Vec<u8>) {
    write_as(event, "correction", out);
}

/// Appends an event that leaves late, behind newer ones, for a sink that takes new events first: the same object with
/// `late` at its end.
pub fn write_late(event: &Event, out: &mut Vec<u8>) {
    write(event, out);
    // The object's own bracket.
    out.pop();
    out.extend_from_slice(b",\"late\":true}");
}

fn write_as(event: &Event, kind: &str, out: &mut Vec<u8>) {
    let reading = &event.reading;
    let times = &event.times;
    let mut o = Object::open(out);
    o.text("event_id", &event.id.to_string());
    o.maybe("corrects", event.corrects.map(|id| id.to_string()).as_deref());
    o.text("site_id", &event.source.site_id);
    o.text("gateway_id", &event.source.gateway_id);
    o.text("terminal_id", &event.source.terminal_id);
    o.maybe("terminal_serial", reading.terminal_serial.as_deref());
    o.text("protocol", &event.source.protocol);
    o.maybe("channel", reading.channel.as_deref());
    o.maybe("origin", reading.origin.map(super::Origin::as_str));
    o.text("kind", kind);
    o.maybe("outcome", reading.outcome.map(super::Outcome::as_str));
    o.maybe("denial_reason", reading.denial_reason.map(super::DenialReason::as_str));
    o.maybe("vendor_code", reading.vendor_code.as_deref());
    o.maybe("vendor_subcode", reading.vendor_subcode.as_deref());
    methods(&mut o, reading.methods);
    credential(&mut o, &reading.credential);
    person(&mut o, &reading.person);
    o.maybe("punch", reading.punch.map(super::Punch::as_str));
    o.maybe("passage", reading.passage.map(super::Passage::as_str));
    place(&mut o, "door", &reading.door);
    place(&mut o, "reader", &reading.reader);
    if let Some(score) = reading.score {
        let mut s = o.nested("score");
        s.float("value", score.value);
        s.text("scale", score.scale.as_str());
        s.close();
    }
    if let Some(temperature) = reading.temperature_c {
        o.float("temperature_c", temperature);
    }
    o.maybe("mask", reading.mask.map(super::Mask::as_str));
    if let Some((kind, active)) = reading.alarm {
        let mut a = o.nested("alarm");
        a.text("kind", kind.as_str());
        a.raw("active", if active { "true" } else { "false" });
        a.close();
    }
    o.maybe("door_state", reading.door_state.map(super::DoorState::as_str));
    o.text("event_time", rfc3339(times.event).as_str());
    o.text("received_time", rfc3339(times.received).as_str());
    if let Some(device) = &reading.device_time {
        o.text("device_time_raw", &device.raw);
        if let Some(written) = device.parsed {
            o.display("device_time_local", written.wall);
        }
    }
    o.text("zone", &event.source.zone);
    if let Some(offset) = times.utc_offset_min {
        o.number("utc_offset_min", i64::from(offset));
    }
    o.text("tz_source", times.tz_source.as_str());
    o.text("clock_quality", times.quality.as_str());
    o.number("uncertainty_ms", i64::from(times.uncertainty_ms));
    o.maybe("native_seq", reading.native_seq.as_deref());
    o.maybe("native_prev", reading.native_prev.as_deref());
    if event.seq_epoch != 0 {
        o.number("seq_epoch", i64::from(event.seq_epoch));
    }
    if let Some(gap) = event.gap_before {
        o.display_raw("gap_before", gap);
    }
    o.close();
}

fn methods(o: &mut Object<'_>, set: Methods) {
    if set.is_empty() {
        return;
    }
    o.key("methods");
    o.out.push(b'[');
    for (i, method) in set.iter().enumerate() {
        if i > 0 {
            o.out.push(b',');
        }
        quote(method.as_str(), o.out);
    }
    o.out.push(b']');
}

fn credential(o: &mut Object<'_>, credential: &Credential) {
    if *credential == Credential::default() {
        return;
    }
    let mut c = o.nested("credential");
    c.maybe("bits", credential.bits_hex.as_deref());
    if let Some(bits) = credential.bit_length {
        c.number("bit_length", i64::from(bits));
    }
    c.maybe("format", credential.format.as_deref());
    if let Some(facility) = credential.facility {
        c.number("facility", i64::from(facility));
    }
    c.maybe("card_number", credential.card_number.as_deref());
    if let Some(ok) = credential.parity_ok {
        c.raw("parity_ok", if ok { "true" } else { "false" });
    }
    c.close();
}

fn person(o: &mut Object<'_>, person: &Person) {
    if *person == Person::default() {
        return;
    }
    let mut p = o.nested("person");
    p.maybe("external_id", person.external_id.as_deref());
    p.maybe("terminal_person_id", person.terminal_person_id.as_deref());
    p.maybe("second_person_id", person.second_person_id.as_deref());
    p.maybe("name", person.name.as_deref());
    p.close();
}

fn place(o: &mut Object<'_>, key: &'static str, place: &Place) {
    if *place == Place::default() {
        return;
    }
    let mut p = o.nested(key);
    if let Some(number) = place.number {
        p.number("number", i64::from(number));
    }
    p.maybe("label", place.label.as_deref());
    p.close();
}

/// Appends `text` as a JSON string.
fn quote(text: &str, out: &mut Vec<u8>) {
    // Writing a string into a Vec can't fail; serde_json knows the escapes.
    let _ = serde_json::to_writer(out, text);
}

/// An object being written straight into a buffer: no intermediate tree on the delivery path.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn key(&mut self, key: &'static str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn nested(&mut self, key: &'static str) -> Object<'_> {
        self.key(key);
        Object::open(self.out)
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        quote(value, self.out);
    }

    fn maybe(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn display(&mut self, key: &'static str, value: impl std::fmt::Display) {
        self.text(key, &value.to_string());
    }

    fn display_raw(&mut self, key: &'static str, value: impl std::fmt::Display) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    fn number(&mut self, key: &'static str, value: i64) {
        self.display_raw(key, value);
    }

    /// JSON knows neither NaN nor infinity: they become `null`.
    fn float(&mut self, key: &'static str, value: f64) {
        self.key(key);
        let _ = serde_json::to_writer(&mut *self.out, &value);
    }

    fn raw(&mut self, key: &'static str, value: &'static str) {
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

/// RFC 3339 in UTC with exactly six fractional digits, for example `2026-11-24T00:00:00.011000Z`.
///
/// Years outside 0000–9999 can't be written in RFC 3339 and are clamped to that range.
pub fn rfc3339(time: UtcMicros) -> Rfc3339 {
    const MIN: i64 = -62_167_219_200_000_000;
    const MAX: i64 = 253_402_300_799_999_999;
    let micros = time.0.clamp(MIN, MAX);
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    // Civil from days: Howard Hinnant's "chrono-compatible low-level date algorithms", days counted from 0000-03-01.
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |at: usize, width: usize, mut value: i64| {
        for i in (at..at + width).rev() {
            // `value % 10` of a non-negative number is one digit.
            text[i] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, doy - (153 * mp + 2) / 5 + 1);
    put(11, 2, of_day / 3_600_000_000);
    put(14, 2, of_day / 60_000_000 % 60);
    put(17, 2, of_day / 1_000_000 % 60);
    put(20, 6, of_day % 1_000_000);
    Rfc3339(text)
}

/// The text of a UTC time, on the stack.
#[derive(Clone, Copy)]
pub struct Rfc3339([u8; 27]);

impl Rfc3339 {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_with_microseconds() {
        assert_eq!(rfc3339(UtcMicros(0)).as_str(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(UtcMicros(1_795_478_400_011_000)).as_str(), "2026-11-24T00:00:00.011000Z");
        assert_eq!(rfc3339(UtcMicros(-1)).as_str(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(UtcMicros(951_782_400_000_000)).as_str(), "2000-02-29T00:00:00.000000Z");
        assert_eq!(rfc3339(UtcMicros(i64::MAX)).as_str(), "9999-12-31T23:59:59.999999Z");
    }
}
