//! Which record is the same record: the derivation of `event_id` (I3).
//!
//! Must not: look at the gateway, the topic (but for its wildcard text, which the caller passes as the device key), the
//! zone, the receive time, the origin or a decoder version. A swapped box, a corrected zone or a replay must give the
//! same id. The test vectors below are part of the contract with the centre and never change.

use std::fmt;

use sha2::{Digest, Sha256};

/// A UUIDv8 (RFC 9562 §5.8): 48 bits of the device's wall time in milliseconds, then SHA-256 over the identity fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub [u8; 16]);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0), f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(*uuid::Uuid::try_parse(s)?.as_bytes()))
    }
}

/// What tells one record of a device from another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// Nothing in the message tells it apart: an id is minted, and a transport's redelivery is recognised by its packet
    /// id and payload digest.
    #[default]
    None,
    /// A reader without records: one event per presence, an id is minted.
    Presence,
    /// The protocol's identity fields, in the protocol's order, as text; an absent one is `None`.
    Record(Vec<Option<String>>),
}

/// Derives the id of a record.
///
/// `wall_ms` is the device's own wall time as written in milliseconds since 1970-01-01T00:00:00, no zone applied, or its
/// native sequence where it gives no time; negative values count as 0, only the low 48 bits are used.
/// `device_key` is the terminal's serial, else the link's device id, else the topic's wildcard text, else the terminal's
/// name. SHA-256 runs over `v1`, site, device key and the fields, each as a big-endian `u32` length and UTF-8 bytes, an
/// absent one as `FFFFFFFF`.
pub fn derive(site: &str, device_key: &str, wall_ms: i64, fields: &[Option<String>]) -> EventId {
    let mut hash = Sha256::new();
    let mut put = |field: Option<&str>| match field {
        Some(text) => {
            // A field is bounded by the payload limit, far below 4 GiB.
            hash.update(u32::try_from(text.len()).unwrap_or(u32::MAX - 1).to_be_bytes());
            hash.update(text.as_bytes());
        }
        None => hash.update([0xFF; 4]),
    };
    put(Some("v1"));
    put(Some(site));
    put(Some(device_key));
    for field in fields {
        put(field.as_deref());
    }
    let digest = hash.finalize();
    assemble(wall_ms, &digest[..10])
}

/// Makes an id for an event that has no record behind it: receive time in milliseconds and ten random bytes. Minted once
/// before the append and kept through every retry.
pub fn mint(received_ms: i64, random: [u8; 10]) -> EventId {
    assemble(received_ms, &random)
}

fn assemble(ms: i64, tail: &[u8]) -> EventId {
    let mut bytes = [0u8; 16];
    let ms = u64::try_from(ms).unwrap_or(0).to_be_bytes();
    bytes[..6].copy_from_slice(&ms[2..]);
    bytes[6..].copy_from_slice(tail);
    EventId(*uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[Option<&str>]) -> Vec<Option<String>> {
        values.iter().map(|v| v.map(str::to_owned)).collect()
    }

    /// Computed independently with Python's hashlib from the rule in the module's documentation.
    #[test]
    fn test_vectors_never_change() {
        let yard = derive(
            "obra-norte",
            "CJ9D232460003",
            1_795_478_400_011,
            &fields(&[Some("2026-11-24T00:00:00.011Z"), Some("CJ9D232460003-0000000011")]),
        );
        assert_eq!(yard.to_string(), VECTOR_YARD);
        let face =
            derive("obra-norte", "1026700", 1_775_815_207_000, &fields(&[Some("2"), Some("2026-04-10 10:00:07")]));
        assert_eq!(face.to_string(), VECTOR_FACE);
        let sequence_only = derive("", "ñandú", 42, &fields(&[None, Some("42")]));
        assert_eq!(sequence_only.to_string(), VECTOR_SEQUENCE);
    }

    const VECTOR_YARD: &str = "01a20ada-2c0b-8816-8a18-dc2e87dead47";
    const VECTOR_FACE: &str = "019d76d5-a858-8bfe-8cbb-d234d0ffb328";
    const VECTOR_SEQUENCE: &str = "00000000-002a-8935-9787-5460f7d0f1f1";

    #[test]
    fn an_absent_field_differs_from_an_empty_one_and_fields_do_not_run_together() {
        let id = |f: &[Option<&str>]| derive("s", "d", 1, &fields(f));
        assert_ne!(id(&[None]), id(&[Some("")]));
        assert_ne!(id(&[Some("ab"), Some("c")]), id(&[Some("a"), Some("bc")]));
    }

    #[test]
    fn a_time_before_1970_only_costs_locality() {
        assert_eq!(derive("s", "d", -5, &[]), derive("s", "d", 0, &[]));
    }

    #[test]
    fn ids_parse_back_from_their_text() {
        let id = mint(1_795_478_400_011, [7; 10]);
        assert_eq!(id.to_string().parse::<EventId>().ok(), Some(id));
    }
}
