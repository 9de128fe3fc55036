//! Signatures as minisign makes them, in its prehashed form only: Ed25519 over BLAKE2b-512 of the payload, and a second
//! signature over the first one and the trusted comment.
//!
//! Must not: hold a secret key, accept the legacy form, or let a signature choose the key that it is judged by.

use base64::Engine as _;
use minisign_verify::{PublicKey, Signature};

use super::Error;

/// Longest signature, bytes: four lines, of which two are comments.
pub const MAX_BYTES: usize = 4096;

/// Bytes of a public key in minisign's form: algorithm (2), key id (8), key (32).
const KEY_BYTES: usize = 42;

/// Bytes of a signature in minisign's form: algorithm (2), key id (8), signature (64).
const SIGNATURE_BYTES: usize = 74;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
    id: String,
    key: PublicKey,
}

impl Key {
    /// Reads the base64 text of a public key, or the two lines of a `.pub` file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let text = match (lines.next(), lines.next(), lines.next()) {
            (Some(key), None, None) => key,
            (Some(comment), Some(key), None) if comment.starts_with("untrusted comment:") => key,
            _ => return Err(Error::Key),
        };
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| Error::Key)?;
        if bytes.len() != KEY_BYTES || bytes[..2] != *b"Ed" {
            return Err(Error::Key);
        }
        let key = PublicKey::from_base64(text).map_err(|_| Error::Key)?;
        Ok(Self { text: text.to_owned(), id: id(&bytes), key })
    }

    /// The key id, as minisign prints it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The base64 text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the signature is by this key, over this payload.
    fn signed(&self, payload: &[u8], signature: &Signature) -> Result<(), Error> {
        use minisign_verify::Error as E;
        self.key.verify(payload, signature, false).map_err(|error| match error {
            E::UnexpectedKeyId => Error::Stranger { id: String::new() },
            E::UnexpectedAlgorithm | E::UnsupportedLegacyMode => Error::Legacy,
            _ => Error::Tampered,
        })
    }
}

/// Which of the two keys signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The one for every day.
    Active,
    /// The one in the safe.
    Recovery,
}

impl Slot {
    /// Its name for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active key",
            Self::Recovery => "recovery key",
        }
    }
}

/// Whom we believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The key for every day.
    pub active: Key,
    /// The key in the safe.
    pub recovery: Option<Key>,
}

impl Trust {
    /// Which of our keys signed the payload.
    pub fn verify(&self, payload: &[u8], signature: &str) -> Result<Slot, Error> {
        let decoded = decode(signature)?;
        let slots = [(Slot::Active, Some(&self.active)), (Slot::Recovery, self.recovery.as_ref())];
        let mut why = Error::Stranger { id: signer(signature).ok_or(Error::SignatureForm)? };
        for (slot, key) in slots.into_iter().filter_map(|(slot, key)| Some((slot, key?))) {
            match key.signed(payload, &decoded) {
                Ok(()) => return Ok(slot),
                Err(Error::Stranger { .. }) => {}
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The key in a slot.
    pub fn key(&self, slot: Slot) -> &Key {
        match (slot, &self.recovery) {
            (Slot::Recovery, Some(key)) => key,
            _ => &self.active,
        }
    }
}

/// Whether one key signed the payload.
pub fn verify(payload: &[u8], signature: &str, key: &Key) -> Result<(), Error> {
    Trust { active: key.clone(), recovery: None }.verify(payload, signature).map(drop)
}

fn decode(signature: &str) -> Result<Signature, Error> {
    if signature.len() > MAX_BYTES {
        return Err(Error::SignatureForm);
    }
    Signature::decode(signature).map_err(|_| Error::SignatureForm)
}

/// The key id that a signature names.
fn signer(signature: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(signature.lines().nth(1)?).ok()?;
    (bytes.len() == SIGNATURE_BYTES).then(|| id(&bytes))
}

/// The eight bytes after the algorithm, as minisign prints them: a little-endian number in hexadecimal digits.
fn id(bytes: &[u8]) -> String {
    let number = bytes[2..10].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification's own page: key, text and signature of the prehashed form.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const TEXT: &[u8] = b"test";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
        trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
        wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n";

    fn trust() -> Trust {
        Trust { active: Key::parse(KEY).unwrap(), recovery: None }
    }

    #[test]
    fn a_known_signature_is_good_and_the_key_id_is_as_minisign_prints_it() {
        assert_eq!(trust().verify(TEXT, SIGNATURE), Ok(Slot::Active));
        assert_eq!(trust().active.id(), "E7620F1842B4E81F");
        let file = format!("untrusted comment: minisign public key\n{KEY}\n");
        assert_eq!(Key::parse(&file), Key::parse(KEY));
    }

    #[test]
    fn no_other_text_comment_or_form_is_good() {
        assert_eq!(trust().verify(b"Test", SIGNATURE), Err(Error::Tampered));
        let comment = SIGNATURE.replace("1633700835", "1733700835");
        assert_eq!(trust().verify(TEXT, &comment), Err(Error::Tampered), "the comment is signed, too");
        for form in ["", "<html>", &SIGNATURE[..80], &"x".repeat(MAX_BYTES + 1)] {
            assert_eq!(trust().verify(TEXT, form), Err(Error::SignatureForm));
        }
        let stranger = Key::parse("RWQAAAAAAAAAAHmlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3").unwrap();
        let only = Trust { active: stranger.clone(), recovery: None };
        assert_eq!(only.verify(TEXT, SIGNATURE), Err(Error::Stranger { id: "E7620F1842B4E81F".to_owned() }));
        let both = Trust { active: stranger, recovery: Some(trust().active) };
        assert_eq!(both.verify(TEXT, SIGNATURE), Ok(Slot::Recovery));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "RW", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO", "a\nb\nc", "hunter2\nhunter2"]
        {
            assert_eq!(Key::parse(text), Err(Error::Key), "{text}");
        }
    }
}
