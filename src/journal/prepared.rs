//! An event on its way to the writer: encoded and digested on the caller's thread.
//!
//! Must not: hold anything that the writer thread would have to encode or digest.

use sha2::{Digest as _, Sha256};

use super::body;
use super::types::{Redelivery, SourceId};
use crate::event::{Event, EventId};

/// An event, encoded and digested, ready for the writer thread.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(super) id: EventId,
    pub(super) body: Vec<u8>,
    pub(super) digest: [u8; 32],
    pub(super) redelivery: Option<Redelivery>,
}

impl Prepared {
    /// Encodes and digests an event. `source` comes from [`super::Journal::source`].
    pub fn new(event: &Event, source: SourceId, redelivery: Option<Redelivery>) -> Self {
        let body = body::encode(event, source);
        let digest = Sha256::digest(&body).into();
        Self { id: event.id, body, digest, redelivery }
    }

    /// The event's id.
    pub const fn id(&self) -> EventId {
        self.id
    }

    /// The encoded body, as it is stored.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}
