//! The hash chain: every row vouches for all rows before it.
//!
//! `hash = SHA-256(previous hash ‖ seq as big-endian u64 ‖ id ‖ SHA-256(stored body))[..16]`, the first row's previous
//! hash is sixteen zero bytes. Verdicts are not part of it: they change, rows don't.
//!
//! Must not: change. A head that the centre has seen must verify for as long as the journal exists.

use sha2::{Digest as _, Sha256};

use crate::event::EventId;

/// What stands before the first row.
pub(super) const GENESIS: [u8; 16] = [0; 16];

/// The hash of a row.
pub(super) fn link(previous: [u8; 16], seq: u64, id: EventId, digest: &[u8; 32]) -> [u8; 16] {
    let mut bytes = [0u8; 72];
    bytes[..16].copy_from_slice(&previous);
    bytes[16..24].copy_from_slice(&seq.to_be_bytes());
    bytes[24..40].copy_from_slice(&id.0);
    bytes[40..].copy_from_slice(digest);
    let full = Sha256::digest(bytes);
    let mut hash = [0; 16];
    hash.copy_from_slice(&full[..16]);
    hash
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
