//! Assertions: short texts that we sign to show who we are (RFC 7523), as JSON Web Tokens (RFC 7519).
//!
//! Must not: put a key into an error, or sign the same assertion twice.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};

use crate::event::UtcMicros;
use crate::secret::SecretSource;

/// `assertion = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// How it is signed.
    pub algorithm: JwtAlgorithm,
    /// The shared secret (HS256), or a private key in PEM.
    pub key: SecretSource,
    /// `kid`.
    pub key_id: Option<String>,
    /// `iss`; the client's id if `None`.
    pub issuer: Option<String>,
    /// `sub`; the issuer if `None`.
    pub subject: Option<String>,
    /// `aud`; the token endpoint if `None`.
    pub audience: Option<String>,
    /// How long it is good.
    pub lifetime: Duration,
    /// Further claims.
    pub claims: Vec<(String, String)>,
}

/// How an assertion is signed (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl JwtAlgorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl Assertion {
    /// A new one. `id` makes it one of its own.
    pub(super) fn make(&self, client_id: &str, endpoint: &str, now: UtcMicros, id: &str) -> Result<String, String> {
        let issuer = self.issuer.as_deref().unwrap_or(client_id);
        let seconds = now.0.div_euclid(1_000_000);
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(300);
        let mut claims: Map<String, Value> =
            self.claims.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        claims.insert("iss".to_owned(), issuer.into());
        claims.insert("sub".to_owned(), self.subject.as_deref().unwrap_or(issuer).into());
        claims.insert("aud".to_owned(), self.audience.as_deref().unwrap_or(endpoint).into());
        claims.insert("iat".to_owned(), seconds.into());
        claims.insert("exp".to_owned(), seconds.saturating_add(lifetime).into());
        claims.insert("jti".to_owned(), id.into());
        let mut header = json!({ "alg": self.algorithm.name(), "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = key_id.as_str().into();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&header), part(&Value::Object(claims)));
        let signature = self.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.key.read().map_err(|e| e.to_string())?;
        let (scheme, what) = match self.algorithm {
            JwtAlgorithm::Hs256 => {
                use hmac::{KeyInit as _, Mac as _};
                let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.expose_secret().as_bytes());
                let mut mac = mac.map_err(|_| format!("{} cannot be a key", self.key))?;
                mac.update(message);
                return Ok(mac.finalize().into_bytes().to_vec());
            }
            JwtAlgorithm::Rs256 => (SignatureScheme::RSA_PKCS1_SHA256, "RSA"),
            JwtAlgorithm::Es256 => (SignatureScheme::ECDSA_NISTP256_SHA256, "P-256"),
        };
        // What the parser says could repeat a part of the key.
        let unfit = || format!("{} holds no private key of the kind {what} in PEM", self.key);
        let der = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|_| unfit())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| unfit())?;
        let signer = key.choose_scheme(&[scheme]).ok_or_else(unfit)?;
        let signature = signer.sign(message).map_err(|_| unfit())?;
        if self.algorithm == JwtAlgorithm::Rs256 { Ok(signature) } else { fixed(&signature).ok_or_else(unfit) }
    }
}

/// An ECDSA signature as RFC 7518 §3.4 wants it, two numbers of 32 bytes, from its ASN.1 form (RFC 3279 §2.2.3).
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let (sequence, []) = value(0x30, der)? else { return None };
    let (r, rest) = value(0x02, sequence)?;
    let (s, []) = value(0x02, rest)? else { return None };
    let mut fixed = Vec::with_capacity(64);
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        fixed.resize(fixed.len() + 32usize.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
    }
    Some(fixed)
}

/// The content of a short ASN.1 value of this tag, and what follows it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([found, length], rest) = der.split_first_chunk::<2>()?;
    if *found != tag || *length >= 0x80 {
        return None;
    }
    rest.split_at_checked(usize::from(*length))
}

/// The claims of a JSON Web Token that somebody gave us, unverified: only to say when it ends.
pub(super) fn claims(token: &str) -> Option<Value> {
    let mut parts = token.trim().split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_its_two_numbers_in_full_length() {
        let mut der = vec![0x30, 0x07, 0x02, 0x01, 0x05, 0x02, 0x02, 0x00, 0x80];
        let mut expected = vec![0; 64];
        (expected[31], expected[63]) = (5, 0x80);
        assert_eq!(fixed(&der), Some(expected));
        der.push(0);
        assert_eq!(fixed(&der), None);
        assert_eq!(fixed(&der[..5]), None);
        assert_eq!(fixed(&[]), None);
    }
}
