//! Times as devices write them: ISO and vendor texts, epoch seconds, milliseconds and microseconds.
//!
//! Must not: apply a zone.

use crate::event::DeviceTime;

/// Reads a time as it was written; the raw text is kept (cut to 64 bytes) whatever comes of it.
pub fn read(_text: &str) -> DeviceTime {
    todo!("decoders")
}
