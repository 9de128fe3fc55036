//! Faults without secrets: what of an unusable input may be kept (I7).
//!
//! Must not: let a base64 run, a long hex run or a credential-like value through.

use crate::event::{Fault, FaultKind};

/// Longest excerpt kept, characters.
pub const EXCERPT_CHARS: usize = 120;

/// A fault of `kind` for `input`, with length, digest and scrubbed excerpt.
pub fn fault(kind: FaultKind, detail: impl Into<String>, input: &[u8], offset: Option<u64>) -> Fault {
    use sha2::{Digest, Sha256};
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(input)[..16]);
    Fault { kind, detail: detail.into(), length: input.len() as u64, offset, digest, excerpt: excerpt(input) }
}

/// A scrubbed excerpt of `input`.
pub fn excerpt(_input: &[u8]) -> String {
    todo!("decoders")
}
