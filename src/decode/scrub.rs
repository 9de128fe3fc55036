//! Faults without secrets: what of an unusable input may be kept (I7).
//!
//! Must not: let a base64 run, a long hex run or a credential-like value through. In doubt it masks: an excerpt shows an
//! installer the shape of what came, not its content.

use crate::event::{Fault, FaultKind};

/// Longest excerpt kept, characters.
pub const EXCERPT_CHARS: usize = 120;

/// Longest line of a log that is kept, characters.
pub const LINE_CHARS: usize = 4096;

/// How much of an input is looked at, bytes.
const WINDOW: usize = 512;

/// Shortest run of the base64 alphabet, or of hex digits however separated, that is taken for a template or a key.
const RUN: usize = 16;

/// Shortest run of digits that is taken for a PIN, a card or a person.
const DIGITS: usize = 4;

/// What stands for masked bytes.
const MASK: &str = "***";

/// Parts of names whose values are never shown. A name that merely contains one (`topic`) is masked too: too much
/// hidden costs a second look at the terminal, too little costs somebody's face.
const SECRET_NAMES: &[&str] = &[
    "pass", "pwd", "pin", "code", "token", "secret", "key", "auth", "cred", "otp", "cvv", "template", "tmpl", "minut",
    "pic", "photo", "image", "img", "scene", "snap", "feature", "embed", "vector", "finger", "face", "iris", "palm",
    "vein", "bio", "b64", "base64", "blob", "raw", "clave", "contras", "huella", "foto", "rostro", "imagen", "senha",
    "digital",
];

/// A fault of `kind` for `input`, with length, digest and scrubbed excerpt.
pub fn fault(kind: FaultKind, detail: impl Into<String>, input: &[u8], offset: Option<u64>) -> Fault {
    use sha2::{Digest, Sha256};
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(input)[..16]);
    Fault { kind, detail: detail.into(), length: input.len() as u64, offset, digest, excerpt: excerpt(input) }
}

/// A scrubbed excerpt of `input`: printable ASCII with everything suspicious as `***` and everything else as `.`. Looks
/// at the first few hundred bytes only, whatever the length.
pub fn excerpt(input: &[u8]) -> String {
    let text = &input[..input.len().min(WINDOW)];
    let mut masked = [false; WINDOW];
    let masked = &mut masked[..text.len()];
    mask(text, input.len() > WINDOW, masked);
    show(text, masked, EXCERPT_CHARS)
}

/// A whole line of a log, scrubbed in the same way; of a longer one than [`LINE_CHARS`] the beginning.
pub fn line(input: &[u8]) -> String {
    let text = &input[..input.len().min(LINE_CHARS)];
    let mut masked = vec![false; text.len()];
    mask(text, input.len() > LINE_CHARS, &mut masked);
    show(text, &masked, LINE_CHARS)
}

fn mask(text: &[u8], cut: bool, masked: &mut [bool]) {
    let silent = |b: u8| !is_printable(b);
    // Escapes (`\/`) and unprintable bytes (line breaks, UTF-16) don't end a run of base64.
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_%".contains(&b);
    mask_runs(text, cut, masked, RUN, base64, |b| silent(b) || b == b'\\');
    // `0A 1B`, `[12,-7]`, `0.013,-0.9`: dumps and vectors.
    mask_runs(text, cut, masked, RUN, |b| b.is_ascii_hexdigit(), |b| silent(b) || b" ,:-.+xX[]\\".contains(&b));
    mask_runs(text, cut, masked, DIGITS, |b| b.is_ascii_digit(), silent);
    mask_binary(text, masked);
    mask_values(text, masked);
    mask_data_uris(text, masked);
}

fn is_printable(b: u8) -> bool {
    matches!(b, 0x20..=0x7E)
}

fn is_white(b: u8) -> bool {
    matches!(b, b'\r' | b'\n' | b'\t')
}

fn show(text: &[u8], masked: &[bool], most: usize) -> String {
    let mut shown = String::with_capacity(most.min(text.len()));
    let mut before = false;
    for (&byte, &hidden) in text.iter().zip(masked) {
        let room = most - shown.len();
        match hidden {
            true if before => {}
            true if room < MASK.len() => break,
            true => shown.push_str(MASK),
            false if room == 0 => break,
            false => shown.push(if is_printable(byte) { char::from(byte) } else { '.' }),
        }
        before = hidden;
    }
    shown
}

/// Masks runs of at least `min` bytes of `alphabet`, in which bytes that are `silent` neither count nor end the run. A
/// run that the window cuts off is masked whatever its length.
fn mask_runs(
    text: &[u8],
    cut: bool,
    masked: &mut [bool],
    min: usize,
    alphabet: impl Fn(u8) -> bool,
    silent: impl Fn(u8) -> bool,
) {
    let mut start = 0;
    while start < text.len() {
        if !alphabet(text[start]) {
            start += 1;
            continue;
        }
        let (mut end, mut last, mut count) = (start, start, 0);
        while let Some(&byte) = text.get(end).filter(|b| alphabet(**b) || silent(**b)) {
            if alphabet(byte) {
                count += 1;
                last = end;
            }
            end += 1;
        }
        if count >= min || (cut && end == text.len()) {
            masked[start..=last].fill(true);
        }
        start = end;
    }
}

/// Masks stretches in which unprintable bytes are dense: a raw template has printable bytes, too.
fn mask_binary(text: &[u8], masked: &mut [bool]) {
    const STRETCH: usize = 16;
    let mut start = 0;
    while start < text.len() {
        let end = text.len().min(start + STRETCH);
        let odd = text[start..end].iter().filter(|b| !is_printable(**b) && !is_white(**b)).count();
        if odd > 2 {
            masked[start..end].fill(true);
        }
        start += STRETCH / 2;
    }
}

/// Masks the values of names that sound like a secret, however the two are separated. In a text with unprintable bytes a
/// name may be damaged: there every value that a `:` or `=` introduces is masked.
fn mask_values(text: &[u8], masked: &mut [bool]) {
    let damaged = text.iter().any(|b| !is_printable(*b) && !is_white(*b));
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let mut start = 0;
    while start < text.len() {
        let end = start + text[start..].iter().take_while(|b| is_name(**b)).count();
        let name = &text[start..end];
        let between = |b: u8| b" \t\\\"'=:>".contains(&b) || (!is_printable(b) && b != b'\n');
        let value = end + text[end..].iter().take_while(|b| between(**b)).count();
        let introduced = text[end..value].iter().any(|b| matches!(b, b':' | b'='));
        // A name that a comma follows is a value itself: `"verify":"pin",`.
        let is_value = value == end + 1 && text.get(value).is_none_or(|b| b",;&|}]".contains(b));
        if !name.is_empty() && !is_value && (is_secret_name(name) || (damaged && introduced)) {
            masked[value..value_end(text, value)].fill(true);
        }
        start = end.max(start + 1);
    }
}

/// Where the value that starts at `start`, behind its quote if it has one, ends.
fn value_end(text: &[u8], start: usize) -> usize {
    let rest = &text[start..];
    let quote = start.checked_sub(1).map(|before| text[before]).filter(|b| matches!(b, b'"' | b'\''));
    let length = match (quote, rest.first()) {
        (Some(quote), _) => {
            let mut escaped = false;
            rest.iter().position(|b| {
                let ends = *b == quote && !escaped;
                escaped = *b == b'\\' && !escaped;
                ends
            })
        }
        // Nested values are not worth a parser here: everything after them goes, too.
        (None, Some(b'[' | b'{' | b'(' | b'<')) => None,
        (None, _) => rest.iter().position(|b| b",;&|}]\n".contains(b)),
    };
    length.map_or(text.len(), |length| start + length)
}

fn is_secret_name(name: &[u8]) -> bool {
    // What is longer isn't a name, and is masked as a run.
    const LONGEST: usize = 64;
    let name = name[name.len().saturating_sub(LONGEST)..].to_ascii_lowercase();
    (0..name.len()).any(|at| SECRET_NAMES.iter().any(|part| name[at..].starts_with(part.as_bytes())))
}

fn mask_data_uris(text: &[u8], masked: &mut [bool]) {
    const SCHEME: &[u8] = b"data:";
    let mut at = 0;
    while at + SCHEME.len() <= text.len() {
        if text[at..at + SCHEME.len()].eq_ignore_ascii_case(SCHEME) {
            let start = at + SCHEME.len();
            let length = text[start..].iter().position(|b| b"\"' \t\r\n<>".contains(b));
            let end = length.map_or(text.len(), |n| start + n);
            masked[start..end].fill(true);
            at = end;
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shape_is_kept_and_content_is_not() {
        for (input, want) in [
            (r#"{"ts":"soon","dir":"in"}"#, r#"{"ts":"soon","dir":"in"}"#),
            (r#"{"pin":"12","dir":"in"}"#, r#"{"pin":"***","dir":"in"}"#),
            (r#"{"verify":"pin","dir":"in"}"#, r#"{"verify":"pin","dir":"in"}"#),
            (r#"{"user":7,"Password" : "a\"b,c","x":1}"#, r#"{"user":7,"Password" : "***","x":1}"#),
            (r#"{"pin":["12"],"dir":"in"}"#, r#"{"pin":***"#),
            ("card=0004812011;dir=in", "card=***;dir=in"),
            ("pin code: 1a 2b; door 3", "pin ***; door 3"),
            ("img data:image/png;base64,AA== end", "img *** end"),
            ("see data:image/png;base64,AA== end", "see data:*** end"),
            ("tok AbCdEfGhIjKlMnOp.", "tok ***."),
            (r"t AbCdEf\/hIjKlMnO\/q.", "t ***."),
            ("dump 01 23 45 67 89 ab cd ef", "dump ***"),
            ("p\u{1}n=ab;dir=in", "p.n=***;dir=***"),
            ("pin\u{1}ab;dir", "pin.***;dir"),
            ("hola\u{1}", "hola."),
            ("clave=\u{f1}u", "clave=..***"),
        ] {
            assert_eq!(excerpt(input.as_bytes()), want, "{input}");
        }
        assert_eq!(excerpt(&"x, ".repeat(2_000_000).into_bytes()).len(), EXCERPT_CHARS);
        assert_eq!(excerpt(&[0x9C, 0x41, 0x02, 0x42, 0xFF, 0x43, 0x80, 0x44]), MASK);
    }

    #[test]
    fn a_run_cut_off_by_the_window_is_masked() {
        let mut input = "*, ".repeat(WINDOW / 3 - 1).into_bytes();
        input.extend_from_slice(&[b'A'; 100]);
        assert!(!excerpt(&input).contains('A'));
    }

    fn leaks(excerpt: &str, planted: &str) -> bool {
        planted.as_bytes().windows(8).any(|w| excerpt.as_bytes().windows(8).any(|e| e == w))
    }

    proptest! {
        #[test]
        fn i7_no_planted_template_survives(
            before in "[ -~]{0,200}",
            template in proptest::collection::vec(any::<u8>(), 12..400),
            after in "[ -~]{0,60}",
        ) {
            use base64::Engine as _;
            let base64 = base64::engine::general_purpose::STANDARD.encode(&template);
            let escaped = base64.replace('/', "\\/");
            let hex: String = template.iter().map(|b| format!("{b:02x}")).collect();
            let numbers = template.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
            for planted in [base64, escaped, hex, numbers] {
                let text = format!("{before}{planted}{after}");
                let shown = excerpt(text.as_bytes());
                prop_assert!(!leaks(&shown, &planted), "{} gives {}", text, shown);
            }
        }

        #[test]
        fn i7_no_planted_pin_survives(
            before in "[ -!#-&(-\\[\\]-~]{0,80}",
            name in "pin|PIN|passWord|user_pwd|authToken|clave",
            pin in "[A-Z]{3}[a-z!?#]{6,12}",
            form in 0..3,
        ) {
            let text = match form {
                0 => format!("{before},\"{name}\":\"{pin}\",\"x\":1}}"),
                1 => format!("{before},{name}={pin};x=1"),
                _ => format!("{before},{name} : {pin}\r\n"),
            };
            let shown = excerpt(text.as_bytes());
            prop_assert!(!leaks(&shown, &pin), "{} gives {}", text, shown);
        }

        #[test]
        fn any_input_gives_a_short_printable_excerpt(input in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let shown = excerpt(&input);
            prop_assert!(shown.len() <= EXCERPT_CHARS && shown.bytes().all(is_printable));
        }
    }
}
