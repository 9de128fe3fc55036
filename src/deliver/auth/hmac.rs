//! Signed requests: ordered canonical parts, one clock read, the exact bytes that are sent.
//!
//! Must not: sign anything else than what leaves, or put a key into an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::Digest as _;
use tokio::time::Instant;

use super::fixed::READ_AGAIN;
use crate::deliver::Error;
use crate::deliver::exchange::{Draft, hex};
use crate::event::UtcMicros;
use crate::secret::SecretSource;

/// `auth = { type = "hmac" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hmac {
    /// The hash.
    pub algorithm: Algorithm,
    /// The keys; a request carries one signature for each, so that a key can be changed without a gap.
    pub keys: Vec<HmacKey>,
    /// How keys are written.
    pub key_code: Code,
    /// What is signed, in order.
    pub parts: Vec<Part>,
    /// What stands between the parts.
    pub joiner: String,
    /// A part that is absent (a header that is not sent) leaves an empty line; else it leaves nothing.
    pub keep_absent: bool,
    /// How the signature is written.
    pub output: Code,
    /// The header that carries the time.
    pub timestamp: Option<(String, Stamp)>,
    /// The header that carries a random number, if any.
    pub nonce: Option<String>,
    /// The header that carries the idempotency key once more, if any.
    pub id: Option<String>,
    /// The header that carries the signature.
    pub signature: String,
    /// Its text, with `{signature}`, `{timestamp}`, `{nonce}` and `{key_id}`; several keys' texts stand beside each other
    /// with a blank between.
    pub text: String,
    /// Further headers with the same places, for example the key's id or the list of the signed headers.
    pub headers: Vec<(String, String)>,
}

impl Hmac {
    /// Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`, secrets `whsec_` and base64.
    pub fn standard_webhook(secrets: Vec<SecretSource>) -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            keys: secrets.into_iter().map(|secret| HmacKey { id: String::new(), secret }).collect(),
            key_code: Code::Base64,
            parts: vec![Part::Header("webhook-id".to_owned()), Part::Timestamp, Part::Body],
            joiner: ".".to_owned(),
            keep_absent: true,
            output: Code::Base64,
            timestamp: Some(("webhook-timestamp".to_owned(), Stamp::Seconds)),
            nonce: None,
            id: Some("webhook-id".to_owned()),
            signature: "webhook-signature".to_owned(),
            text: "v1,{signature}".to_owned(),
            headers: Vec::new(),
        }
    }
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacKey {
    /// What the vendor calls it; may be empty.
    pub id: String,
    /// The key.
    pub secret: SecretSource,
}

/// The hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-1, for vendors that know nothing better.
    Sha1,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// As they are (keys only).
    Raw,
    /// Standard base64.
    Base64,
    /// Lower-case hex.
    Hex,
}

/// How the time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// An HTTP date.
    Date,
}

/// A part of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// `POST`.
    Method,
    /// The path.
    Path,
    /// The path with `?` and the query, if there is one.
    PathAndQuery,
    /// The query.
    Query,
    /// A header's value.
    Header(String),
    /// `name:value`, the name in lower case; absent with its line if the header is.
    HeaderLine(String),
    /// The body.
    Body,
    /// The hash of the body, hex or base64.
    BodyDigest(Code),
    /// The time as its header has it.
    Timestamp,
    /// The random number.
    Nonce,
    /// The key's id.
    KeyId,
    /// A text.
    Literal(String),
}

/// The state of a signer.
pub(in crate::deliver) struct Signer {
    config: Hmac,
    keys: Option<Vec<(SecretString, SecretSlice<u8>)>>,
    renewed_at: Option<Instant>,
    random: fastrand::Rng,
}

/// What differs from request to request.
struct Moment<'a> {
    timestamp: &'a str,
    nonce: &'a str,
}

impl Signer {
    pub(super) fn new(config: Hmac) -> Result<Self, Error> {
        let times = config.timestamp.iter().map(|(name, _)| name);
        let named = times.chain(&config.nonce).chain(&config.id).chain([&config.signature]);
        for name in named.chain(config.headers.iter().map(|(name, _)| name)) {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header(name.clone()))?;
        }
        Ok(Self { config, keys: None, renewed_at: None, random: fastrand::Rng::new() })
    }

    /// Signs what is about to leave.
    pub(super) fn sign(&mut self, draft: &mut Draft, now: UtcMicros) -> Result<(), String> {
        let nonce = format!("{:032x}", self.random.u128(..));
        self.sign_with(draft, now, &nonce)
    }

    pub(super) fn sign_with(&mut self, draft: &mut Draft, now: UtcMicros, nonce: &str) -> Result<(), String> {
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => self.load()?,
        };
        let keys = self.keys.insert(keys);
        let config = &self.config;
        let stamp = config.timestamp.as_ref().map_or(Stamp::Seconds, |(_, stamp)| *stamp);
        let timestamp = match stamp {
            Stamp::Seconds => now.0.div_euclid(1_000_000).to_string(),
            Stamp::Millis => now.0.div_euclid(1_000).to_string(),
            Stamp::Date => jiff::Timestamp::from_microsecond(now.0)
                .ok()
                .and_then(|t| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&t).ok())
                .ok_or("this gateway's clock cannot be written as a date; set the clock")?,
        };
        let moment = Moment { timestamp: &timestamp, nonce };
        if let Some((name, _)) = &config.timestamp {
            set(draft, name, moment.timestamp)?;
        }
        if let Some(name) = &config.nonce {
            set(draft, name, moment.nonce)?;
        }
        if let Some(name) = &config.id {
            let id = draft.headers.get("idempotency-key").cloned().unwrap_or(HeaderValue::from_static(""));
            draft.headers.insert(header_name(name)?, id);
        }
        let first = config.keys.first().map_or("", |key| key.id.as_str());
        for (name, text) in &config.headers {
            set(draft, name, &filled(text, "", &moment, first))?;
        }
        let mut texts = Vec::with_capacity(keys.len());
        for (key, (_, bytes)) in config.keys.iter().zip(keys.iter()) {
            let message = canonical(config, draft, &moment, &key.id);
            let signature = match config.algorithm {
                Algorithm::Sha256 => mac::<hmac::Hmac<sha2::Sha256>>(bytes.expose_secret(), &message, config.output),
                Algorithm::Sha1 => mac::<hmac::Hmac<sha1::Sha1>>(bytes.expose_secret(), &message, config.output),
            };
            texts.push(filled(&config.text, &signature, &moment, &key.id));
        }
        set(draft, &config.signature, &texts.join(" "))
    }

    /// After a 401: reads the keys again; true if one is another one now.
    pub(super) fn renewed(&mut self) -> bool {
        if self.renewed_at.is_some_and(|at| at.elapsed() < READ_AGAIN) {
            return false;
        }
        self.renewed_at = Some(Instant::now());
        let Ok(keys) = self.load() else { return false };
        let old = self.keys.replace(keys);
        let text = |keys: &Vec<(SecretString, SecretSlice<u8>)>| {
            keys.iter().map(|(text, _)| text.expose_secret().to_owned()).collect::<Vec<_>>()
        };
        old.as_ref().map(text) != self.keys.as_ref().map(text)
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        self.keys.iter().flatten().map(|(text, _)| text.expose_secret()).collect()
    }

    fn load(&self) -> Result<Vec<(SecretString, SecretSlice<u8>)>, String> {
        let read = self.config.keys.iter().map(|key| {
            let text = key.secret.read().map_err(|e| e.to_string())?;
            let words = text.expose_secret();
            let bytes = match self.config.key_code {
                Code::Raw => Some(words.as_bytes().to_vec()),
                Code::Base64 => STANDARD.decode(words.strip_prefix("whsec_").unwrap_or(words)).ok(),
                Code::Hex => unhex(words),
            };
            let bytes =
                bytes.ok_or_else(|| format!("{} is not written in the encoding that auth names", key.secret))?;
            Ok((text.clone(), SecretSlice::from(bytes)))
        });
        read.collect()
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("'{name}' cannot be a header"))
}

fn set(draft: &mut Draft, name: &str, text: &str) -> Result<(), String> {
    let value = HeaderValue::from_str(text).map_err(|_| format!("the header '{name}' cannot carry its text"))?;
    draft.headers.insert(header_name(name)?, value);
    Ok(())
}

fn filled(text: &str, signature: &str, moment: &Moment<'_>, key_id: &str) -> String {
    text.replace("{signature}", signature)
        .replace("{timestamp}", moment.timestamp)
        .replace("{nonce}", moment.nonce)
        .replace("{key_id}", key_id)
}

/// What is signed.
fn canonical(config: &Hmac, draft: &Draft, moment: &Moment<'_>, key_id: &str) -> Vec<u8> {
    let header = |name: &str| draft.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut message = Vec::new();
    let mut first = true;
    for part in &config.parts {
        let bytes: Option<Vec<u8>> = match part {
            Part::Method => Some(draft.method.as_str().as_bytes().to_vec()),
            Part::Path => Some(draft.url.path().as_bytes().to_vec()),
            Part::PathAndQuery => Some(match draft.url.query() {
                Some(query) => format!("{}?{query}", draft.url.path()).into_bytes(),
                None => draft.url.path().as_bytes().to_vec(),
            }),
            Part::Query => draft.url.query().map(|query| query.as_bytes().to_vec()),
            Part::Header(name) => header(name).map(String::into_bytes),
            Part::HeaderLine(name) => {
                header(name).map(|value| format!("{}:{}", name.to_ascii_lowercase(), value.trim()).into_bytes())
            }
            Part::Body => Some(draft.body.to_vec()),
            Part::BodyDigest(code) => {
                let digest = match config.algorithm {
                    Algorithm::Sha256 => sha2::Sha256::digest(&draft.body).to_vec(),
                    Algorithm::Sha1 => sha1::Sha1::digest(&draft.body).to_vec(),
                };
                Some(written(&digest, *code).into_bytes())
            }
            Part::Timestamp => Some(moment.timestamp.as_bytes().to_vec()),
            Part::Nonce => Some(moment.nonce.as_bytes().to_vec()),
            Part::KeyId => Some(key_id.as_bytes().to_vec()),
            Part::Literal(text) => Some(text.as_bytes().to_vec()),
        };
        let bytes = match bytes {
            Some(bytes) => bytes,
            None if config.keep_absent => Vec::new(),
            None => continue,
        };
        if !std::mem::take(&mut first) {
            message.extend_from_slice(config.joiner.as_bytes());
        }
        message.extend_from_slice(&bytes);
    }
    message
}

fn mac<M: hmac::Mac + hmac::KeyInit>(key: &[u8], message: &[u8], output: Code) -> String {
    // HMAC takes a key of any length (RFC 2104 §2).
    let Ok(mut mac) = <M as hmac::KeyInit>::new_from_slice(key) else { return String::new() };
    mac.update(message);
    written(&mac.finalize().into_bytes(), output)
}

fn written(bytes: &[u8], code: Code) -> String {
    match code {
        Code::Base64 => STANDARD.encode(bytes),
        Code::Raw | Code::Hex => hex(bytes),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}
