//! What a sink without a mapping sends, and under which key any sink of this type sends.
//!
//! Must not: give other bytes or another key for the same events, unless the sink has refused one of them since.

use sha2::{Digest as _, Sha256};

use super::hex;
use super::mapping::Subject;
use crate::event::json;
use crate::journal::Record;

/// The events' own JSON: an array, or for a sink that gets them one by one the event alone.
pub(super) fn body(records: &[Record], corrections: bool, single: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(records.len() * 768 + 2);
    if let ([record], true) = (records, single) {
        write(record, corrections, &mut body);
        return body;
    }
    for record in records {
        body.push(if body.is_empty() { b'[' } else { b',' });
        write(record, corrections, &mut body);
    }
    body.push(b']');
    body
}

fn write(record: &Record, corrections: bool, body: &mut Vec<u8>) {
    if corrections {
        json::write_correction(&record.event, body);
    } else if record.again.as_ref().is_some_and(|again| !again.edits.is_empty()) {
        body.extend(Subject::of(record, false).sent_json());
    } else {
        json::write(&record.event, body);
    }
}

/// The event's id for a lone event, else the first 16 bytes of SHA-256 over the ids in order, hex. What was refused before
/// goes out under another key each time: its bytes may be others now, and whoever keeps answers by their key would give the
/// same refusal again.
pub(super) fn key(records: &[Record]) -> String {
    let refused = |record: &Record| record.again.as_ref().map_or(0, |again| again.attempts);
    if let [record] = records {
        return match refused(record) {
            0 => record.event.id.to_string(),
            attempts => format!("{}.{attempts}", record.event.id),
        };
    }
    let mut digest = Sha256::new();
    for record in records {
        digest.update(record.event.id.0);
        if refused(record) > 0 {
            digest.update(refused(record).to_be_bytes());
        }
    }
    hex(&digest.finalize()[..16])
}
