//! A bundle as one MQTT message: `{"payload": TEXT, "signature": TEXT}`.
//!
//! Must not: believe anything of it.

use serde::Deserialize;

use super::bundle::{MAX_BYTES, Signed};
use super::{Error, signature};

/// Longest message, bytes: a byte of the payload may be six in JSON.
const MAX_MESSAGE: usize = 6 * MAX_BYTES + 2 * signature::MAX_BYTES;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    payload: String,
    signature: String,
}

/// Reads one; `None`: an empty one, which is how a retained message is taken away.
pub fn read(bytes: &[u8]) -> Result<Option<Signed>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MAX_MESSAGE {
        return Err(Error::TooLarge);
    }
    let message: Message = serde_json::from_slice(bytes).map_err(|_| {
        Error::Fetch("the message on the topic is not {\"payload\": TEXT, \"signature\": TEXT}".to_owned())
    })?;
    if message.payload.len() > MAX_BYTES {
        return Err(Error::TooLarge);
    }
    Ok(Some(Signed { payload: message.payload.into_bytes(), signature: message.signature }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_texts_are_a_bundle() {
        let read_of = |text: &str| read(text.as_bytes()).map(|signed| signed.map(|s| (s.payload, s.signature)));
        assert_eq!(
            read_of(r#"{"payload": "a = 1\n", "signature": "s"}"#),
            Ok(Some((b"a = 1\n".to_vec(), "s".to_owned())))
        );
        assert_eq!(read_of(""), Ok(None));
        for text in ["{}", "x", r#"{"payload": 1, "signature": "s"}"#, r#"{"payload": "", "signature": "", "x": 1}"#] {
            assert!(read_of(text).is_err(), "{text}");
        }
        let large = format!(r#"{{"payload": "{}", "signature": ""}}"#, "x".repeat(MAX_BYTES + 1));
        assert_eq!(read_of(&large), Err(Error::TooLarge));
    }
}
