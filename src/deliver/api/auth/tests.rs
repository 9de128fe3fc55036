//! Signatures against vectors that were not computed here.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::hmac::Signer;
use super::*;
use crate::event::UtcMicros;

fn secret(folder: &tempfile::TempDir, text: &str) -> SecretSource {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join("secret");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("private");
    SecretSource::File(path)
}

fn draft(url: &str, body: &'static str) -> Draft {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert("idempotency-key", HeaderValue::from_static("evt_1"));
    let url = reqwest::Url::parse(url).expect("a URL");
    Draft { method: reqwest::Method::POST, url, headers, body: bytes::Bytes::from_static(body.as_bytes()) }
}

fn header<'d>(draft: &'d Draft, name: &str) -> &'d str {
    draft.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// Vector computed elsewhere from the text of Standard Webhooks 1.0.
#[test]
fn the_standard_webhook_signature_is_the_one_of_the_specification() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Hmac::standard_webhook(vec![secret(&folder, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n")]);
    let mut draft = draft("https://x.example/hook", r#"{"type":"attendance.event","data":{"worker":"7"}}"#);
    let mut signer = Signer::new(config).expect("a signer");
    signer.sign_with(&mut draft, UtcMicros(1_674_087_231_999_999), "n1").expect("signed");
    assert_eq!(header(&draft, "webhook-signature"), "v1,un4DrdXhJw0kI9kMkSzLgXFTJIiFZmHK14qW5Q1uCWc=");
    assert_eq!((header(&draft, "webhook-id"), header(&draft, "webhook-timestamp")), ("evt_1", "1674087231"));
}

/// Vectors computed elsewhere for both readings of "absent header".
#[test]
fn an_absent_header_leaves_its_line_or_not_as_the_vendor_wants_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = |name: &str| Part::HeaderLine(name.to_owned());
    let value = |name: &str| Part::Header(name.to_owned());
    for (keep_absent, expected) in [
        (false, "6jVF3huTk928wzgs4zrFxEDqHr2HbrMtCxhmoUwimc8="),
        (true, "U/2bP/YIYvn4rXoKrm0FZl6E9haFI+UZOp8I310E9ww="),
    ] {
        let config = Hmac {
            algorithm: Algorithm::Sha256,
            keys: vec![HmacKey { id: "22222222".to_owned(), secret: secret(&folder, "SECRET") }],
            key_code: Code::Raw,
            parts: vec![
                Part::Method,
                value("accept"),
                value("content-md5"),
                value("content-type"),
                value("date"),
                line("X-Ca-Key"),
                line("X-Ca-Nonce"),
                line("X-Ca-Timestamp"),
                Part::Path,
            ],
            joiner: "\n".to_owned(),
            keep_absent,
            output: Code::Base64,
            timestamp: Some(("X-Ca-Timestamp".to_owned(), Stamp::Millis)),
            nonce: Some("X-Ca-Nonce".to_owned()),
            id: None,
            signature: "X-Ca-Signature".to_owned(),
            text: "{signature}".to_owned(),
            headers: vec![("X-Ca-Key".to_owned(), "{key_id}".to_owned())],
        };
        let mut draft = draft("https://x.example/artemis/api/resource/v1/person/single/add", "{}");
        let mut signer = Signer::new(config).expect("a signer");
        signer.sign_with(&mut draft, UtcMicros(1_674_087_231_000_000), "n1").expect("signed");
        assert_eq!(header(&draft, "x-ca-signature"), expected, "{keep_absent}");
    }
}

/// RFC 2202, test case 2 (HMAC-SHA-1) and RFC 4231, test case 2 (HMAC-SHA-256).
#[test]
fn both_hashes_give_the_published_values() {
    let folder = tempfile::tempdir().expect("a folder");
    for (algorithm, expected) in [
        (Algorithm::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (Algorithm::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ] {
        let mut config = Hmac::standard_webhook(vec![secret(&folder, "Jefe")]);
        config.key_code = Code::Raw;
        config.algorithm = algorithm;
        config.output = Code::Hex;
        config.text = "{signature}".to_owned();
        config.parts = vec![Part::Body];
        let mut draft = draft("https://x.example/", "what do ya want for nothing?");
        let mut signer = Signer::new(config).expect("a signer");
        signer.sign_with(&mut draft, UtcMicros(0), "n").expect("signed");
        assert_eq!(header(&draft, "webhook-signature"), expected);
    }
}

#[test]
fn a_key_in_the_wrong_encoding_names_its_place_and_not_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut signer = Signer::new(Hmac::standard_webhook(vec![secret(&folder, "not base64!")])).expect("a signer");
    let error = signer.sign(&mut draft("https://x.example/", "{}"), UtcMicros(0)).expect_err("no key");
    assert!(error.contains("secret") && !error.contains("not base64!"), "{error}");
}
