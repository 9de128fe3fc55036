//! The other side's own words, made fit to be kept: short, printable, without anything that looks like a secret.
//!
//! Must not: let a credential or an encoded image through into the journal (I7); what is kept may be read by anybody who
//! may read the quarantine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::exchange::percent_encoded;

/// Longest answer kept, bytes.
pub(super) const MAX_BYTES: usize = 1024;

/// A run of base64 letters at least this long, with digits and both cases in it, is taken for a token.
const TOKEN: usize = 20;

/// A run of hex digits at least this long that is no UUID is taken for a key.
const HEX: usize = 32;

/// A run of base64 letters at least this long is taken for data whatever it consists of.
const DATA: usize = 64;

/// Fewer letters of base64 than these say nothing of a secret and could be anything.
const LETTERS: usize = 5;

/// Caps and scrubs. `secrets` are values that we sent ourselves and that an answer may echo.
pub(super) fn keep(words: &str, secrets: &[&str]) -> String {
    let mut text = String::from(words);
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        for form in forms(secret) {
            text = text.replace(&form, "***");
        }
    }
    let mut out = String::with_capacity(text.len().min(MAX_BYTES));
    let mut rest = text.as_str();
    while !rest.is_empty() && out.len() < MAX_BYTES {
        let run = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if run > 0 {
            let (word, tail) = rest.split_at(run);
            out.push_str(if is_secret(word) { "***" } else { word });
            rest = tail;
        } else if let Some(c) = rest.chars().next() {
            out.push(if c.is_control() { ' ' } else { c });
            rest = &rest[c.len_utf8()..];
        }
    }
    let mut end = out.len().min(MAX_BYTES);
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    out.truncate(end);
    out
}

/// How a secret may look in an echo of what we sent: as it is, in a JSON text (also one inside of another), in a URL or a form,
/// and inside of the base64 of a login. The longest come first.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    let quoted = json_escaped(secret);
    forms.extend([json_escaped(&quoted), quoted]);
    let percent = percent_encoded(secret);
    forms.extend([percent.to_lowercase(), percent.replace("%20", "+"), percent]);
    // Where it stands in the bytes that were encoded decides how it looks; the letters at its ends depend on its neighbours.
    for before in 0..3_usize {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        let whole = bytes.len() * 8 / 6;
        let encoded = STANDARD_NO_PAD.encode(&bytes);
        let inner = encoded.get((before * 8).div_ceil(6)..whole).unwrap_or_default();
        if inner.len() >= LETTERS {
            forms.extend([inner.to_owned(), inner.replace('+', "-").replace('/', "_")]);
        }
    }
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

const fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-')
}

fn is_secret(word: &str) -> bool {
    if word.len() < TOKEN || uuid::Uuid::try_parse(word).is_ok_and(|_| word.len() == 36) {
        return false;
    }
    let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
    word.len() >= DATA
        || (word.len() >= HEX && word.chars().all(|c| c.is_ascii_hexdigit()))
        || (has(char::is_ascii_digit) && has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_event_ids_stay_tokens_and_images_go() {
        let words = "{\"error\":\"unknown site\",\"event_id\":\"01a20ada-2c0b-8816-8a18-dc2e87dead47\"}";
        assert_eq!(keep(words, &[]), words);
        let image = format!("bad photo {}", "QUJD".repeat(100));
        assert_eq!(keep(&image, &[]), "bad photo ***");
        assert_eq!(keep("token eyJhbGciOiJIUzI1NiIsInR5 refused", &[]), "token *** refused");
        assert_eq!(keep("key 00112233445566778899aabbccddeeff", &[]), "key ***");
        assert_eq!(keep("you sent s3cret", &["s3cret"]), "you sent ***");
    }

    #[test]
    fn a_secret_is_masked_however_it_was_encoded_on_its_way() {
        let secret = "o\"n/e &2";
        for before in ["", "u:", "us:", "use:"] {
            let login = base64::engine::general_purpose::STANDARD.encode(format!("{before}{secret}:x"));
            let kept = keep(&format!("Basic {login}"), &[secret]);
            assert!(kept.contains("***") && kept.len() < "Basic ***".len() + 14, "{before} {login}: {kept}");
        }
        let body = serde_json::json!({ "token": secret }).to_string();
        let nested = serde_json::json!({ "you_sent": body }).to_string();
        let encoded = percent_encoded(secret);
        for text in [body, nested, format!("?k={encoded}&"), format!("?k={}", encoded.replace("%20", "+"))] {
            let kept = keep(&text, &[secret]);
            assert!(kept.contains("***") && !kept.contains("n/e") && !kept.contains("n%2Fe"), "{text}: {kept}");
        }
    }

    #[test]
    fn what_is_kept_is_short_and_printable() {
        let long = "ñ ".repeat(4000);
        let kept = keep(&long, &[]);
        assert!(kept.len() <= MAX_BYTES && kept.len() > MAX_BYTES - 4);
        assert_eq!(keep("a\nb\u{0}c", &[]), "a b c");
    }
}
