//! What leaves, and under which key: by the mapping, or the events' own JSON.
//!
//! Must not: give other bytes or another key for the same events, unless the sink has refused one of them since.

use sha2::{Digest as _, Sha256};

use super::Api;
use super::mapping::Subject;
use super::request::Refusal;
use crate::deliver::Mapped;
use crate::deliver::exchange::hex;
use crate::journal::Record;

impl Api {
    /// What leaves for these events, or corrections; they may leave late, behind newer ones.
    pub(super) fn mapped(&self, records: &[Record], correction: bool, late: bool) -> Mapped {
        let key = key(records);
        // After a start the sink takes more at once again: what left alone must then be known to have left alone.
        let shrunk = self.rows < self.config.batch;
        let exit = self.exit(records.first(), correction).map(|exit| &exit.mapper);
        if let Some(mapper) = exit.or(self.mapper.as_ref()) {
            return match mapper.map_as(records, (correction, late), &key, self.wire.clock.now()) {
                Ok(outgoing) => Mapped::Flight { key, body: outgoing.encode(), keep: mapper.must_be_kept() || shrunk },
                Err(Refusal::Unmappable { index, reason }) => Mapped::Unmappable { index, reason },
                Err(Refusal::NotApplicable) => Mapped::NotApplicable,
            };
        }
        // An array; for a sink that gets them one by one the event alone.
        let mut body = Vec::with_capacity(records.len() * 768 + 2);
        if let ([record], 0 | 1) = (records, self.config.batch) {
            Subject::of(record, correction, late).write(&mut body);
            return Mapped::Flight { key, body, keep: false };
        }
        for record in records {
            body.push(if body.is_empty() { b'[' } else { b',' });
            Subject::of(record, correction, late).write(&mut body);
        }
        body.push(b']');
        Mapped::Flight { key, body, keep: shrunk }
    }
}

/// The event's id for a lone event, else the first 16 bytes of SHA-256 over the ids in order, hex. What was refused before
/// goes out under another key each time: its bytes may be others now, and whoever keeps answers by their key would give the
/// same refusal again.
fn key(records: &[Record]) -> String {
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
