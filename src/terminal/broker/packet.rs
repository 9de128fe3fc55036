//! The two packets that come and go by the thousand, PUBLISH and PUBACK, without a copy or an allocation; everything else
//! goes through rumqttc's codec.
//!
//! Must not: read past what the fixed header promised, or wait for more than the packet limit.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Packet types in the high nibble (MQTT 3.1.1, §2.2.1).
pub(super) const CONNECT: u8 = 1;
pub(super) const PUBLISH: u8 = 3;

/// Why a connection is closed: MQTT 3.1.1 has no other way to refuse a packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A remaining length of more than four bytes (§2.2.3).
    #[error("client sent a malformed remaining length")]
    Length,
    /// Above our limit.
    #[error("client sent a packet of {0} bytes; raise max_packet_bytes if that is legitimate")]
    TooLarge(usize),
    /// Anything that the standard forbids.
    #[error("client broke the protocol: {0}")]
    Protocol(&'static str),
    /// QoS 2 is not offered by this version.
    #[error("client published with QoS 2; set the terminal to QoS 1")]
    Qos2,
}

/// A fixed header whose packet is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Type and flags.
    pub(super) first: u8,
    /// Where the variable header starts.
    pub(super) start: usize,
    /// Length of the whole packet.
    pub(super) total: usize,
}

impl Header {
    /// The packet type.
    pub(super) const fn kind(self) -> u8 {
        self.first >> 4
    }
}

/// What stands at the front of `buffer`: a whole packet, or (`Err(missing)` inside) at least so many bytes too few.
pub(super) fn header(buffer: &[u8], max: usize) -> Result<Result<Header, usize>, Refusal> {
    let Some(&first) = buffer.first() else { return Ok(Err(2)) };
    let mut length = 0usize;
    for (i, byte) in buffer[1..].iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            let start = i + 2;
            let total = start + length;
            if total > max {
                return Err(Refusal::TooLarge(total));
            }
            let missing = total.saturating_sub(buffer.len());
            return Ok(if missing == 0 { Ok(Header { first, start, total }) } else { Err(missing) });
        }
    }
    if buffer.len() > 4 { Err(Refusal::Length) } else { Ok(Err(1)) }
}

/// A PUBLISH, borrowed from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    /// The topic, valid for publishing.
    pub(super) topic: &'a str,
    /// The payload.
    pub(super) payload: &'a [u8],
    /// The packet id at QoS 1.
    pub(super) id: Option<u16>,
    /// The DUP flag.
    pub(super) dup: bool,
}

/// Reads a PUBLISH from exactly its packet.
pub(super) fn publish(packet: &[u8], header: Header) -> Result<Publish<'_>, Refusal> {
    let short = Refusal::Protocol("a PUBLISH that ends too early");
    let body = &packet[header.start..];
    let (length, body) = body.split_first_chunk::<2>().ok_or(short.clone())?;
    let (topic, body) = body.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(short.clone())?;
    let topic = std::str::from_utf8(topic).map_err(|_| Refusal::Protocol("a topic that is not UTF-8"))?;
    if !crate::terminal::topic::is_valid_name(topic) {
        return Err(Refusal::Protocol("a topic that is empty, too long or has wildcards"));
    }
    let (id, payload) = match (header.first >> 1) & 3 {
        0 => (None, body),
        1 => {
            let (id, payload) = body.split_first_chunk::<2>().ok_or(short)?;
            let id = u16::from_be_bytes(*id);
            if id == 0 {
                return Err(Refusal::Protocol("a packet id of zero"));
            }
            (Some(id), payload)
        }
        2 => return Err(Refusal::Qos2),
        _ => return Err(Refusal::Protocol("a QoS of 3")),
    };
    Ok(Publish { topic, payload, id, dup: header.first & 8 != 0 })
}

/// Appends a PUBACK (§3.4).
pub(super) fn put_puback(id: u16, out: &mut BytesMut) {
    out.put_slice(&[0x40, 2]);
    out.put_u16(id);
}

/// A PUBLISH at QoS 0, encoded; `None` if it is larger than the protocol allows.
pub(super) fn encode_publish(topic: &str, payload: Vec<u8>) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(topic.len() + payload.len() + 8);
    let publish = rumqttc::Publish::new(topic, rumqttc::QoS::AtMostOnce, payload);
    publish.write(&mut out).ok()?;
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Header {
        header(bytes, 1000).expect("well formed").expect("complete")
    }

    #[test]
    fn a_publish_is_read_without_a_copy() {
        let bytes = [0x3A, 7, 0, 1, b't', 0x12, 0x34, 0xAB, 0xCD, 0x30];
        let header = whole(&bytes);
        assert_eq!(header.total, 9);
        let read = publish(&bytes[..header.total], header).expect("a good PUBLISH");
        assert_eq!(read, Publish { topic: "t", payload: &[0xAB, 0xCD], id: Some(0x1234), dup: true });
        let encoded = encode_publish("t", vec![1, 2]).expect("small");
        let read = publish(&encoded, whole(&encoded)).expect("ours");
        assert_eq!(read, Publish { topic: "t", payload: &[1, 2], id: None, dup: false });
    }

    #[test]
    fn a_packet_is_complete_or_says_what_is_missing() {
        assert_eq!(header(&[], 100), Ok(Err(2)));
        assert_eq!(header(&[0x30], 100), Ok(Err(1)));
        assert_eq!(header(&[0x30, 5, 0], 100), Ok(Err(4)));
        assert_eq!(header(&[0x30, 0x80], 100), Ok(Err(1)));
        assert_eq!(header(&[0xC0, 0], 100), Ok(Ok(Header { first: 0xC0, start: 2, total: 2 })));
        assert_eq!(header(&[0x30, 0x80, 0x80, 0x80, 0x80], 100), Err(Refusal::Length));
        assert_eq!(header(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 1000), Err(Refusal::TooLarge(268_435_460)));
    }

    #[test]
    fn what_the_protocol_forbids_is_refused() {
        for bytes in [&[0x34, 5, 0, 1, b't', 0, 1][..], &[0x36, 5, 0, 1, b't', 0, 1], &[0x32, 5, 0, 1, b't', 0, 0]] {
            assert!(publish(bytes, whole(bytes)).is_err());
        }
        for bytes in [&[0x30, 3, 0, 1, b'#'][..], &[0x30, 2, 0, 0], &[0x30, 3, 0, 2, b'a'], &[0x30, 3, 0, 1, 0xFF]] {
            assert!(publish(bytes, whole(bytes)).is_err());
        }
        assert!(publish(&[0x30, 0], whole(&[0x30, 0])).is_err());
    }

    #[test]
    fn pubacks_are_four_bytes() {
        let mut out = BytesMut::new();
        put_puback(0x0102, &mut out);
        assert_eq!(&out[..], [0x40, 2, 1, 2]);
    }
}
