//! The other side's own words, made fit to be kept: short, printable, without anything that looks like a secret.
//!
//! Must not: let a credential or an encoded image through into the journal (I7); what is kept may be read by anybody who
//! may read the quarantine.

/// Longest answer kept, bytes.
pub(super) const MAX_BYTES: usize = 1024;

/// A run of base64 letters at least this long, with digits and both cases in it, is taken for a token.
const TOKEN: usize = 20;

/// A run of hex digits at least this long that is no UUID is taken for a key.
const HEX: usize = 32;

/// A run of base64 letters at least this long is taken for data whatever it consists of.
const DATA: usize = 64;

/// Caps and scrubs. `secrets` are values that we sent ourselves and that an answer may echo.
pub(super) fn keep(words: &str, secrets: &[&str]) -> String {
    let mut text = String::from(words);
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret, "***");
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
    fn what_is_kept_is_short_and_printable() {
        let long = "ñ ".repeat(4000);
        let kept = keep(&long, &[]);
        assert!(kept.len() <= MAX_BYTES && kept.len() > MAX_BYTES - 4);
        assert_eq!(keep("a\nb\u{0}c", &[]), "a b c");
    }
}
