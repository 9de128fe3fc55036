//! Reads Rust source just well enough to judge it: what is comment, string or test, and which paths the rest names.
//! Must not: know a rule (tidy.rs holds them), or guess where it can't tell.

use std::ops::Range;

/// The text with comments, strings and character literals blanked out; every line keeps its number.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            b'r' | b'b' | b'c' if !continues_identifier(bytes, at) => match prefixed_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("only whole literals were replaced, by ASCII")
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0_u32, at);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// A lifetime has no closing quote: then only the quote itself is taken.
fn char_end(bytes: &[u8], quote: usize) -> usize {
    if bytes.get(quote + 1) == Some(&b'\\') {
        return bytes[quote + 3..].iter().position(|&b| b == b'\'').map_or(bytes.len(), |n| quote + 3 + n + 1);
    }
    let width = std::str::from_utf8(&bytes[quote + 1..]).ok().and_then(|s| s.chars().next()).map_or(1, char::len_utf8);
    if bytes.get(quote + 1 + width) == Some(&b'\'') { quote + width + 2 } else { quote + 1 }
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'…'`.
fn prefixed_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at;
    let mut raw = false;
    while i < bytes.len() && matches!(bytes[i], b'r' | b'b' | b'c') && i - at < 2 {
        raw |= bytes[i] == b'r';
        i += 1;
    }
    if !raw {
        return match bytes.get(i)? {
            b'"' => Some(string_end(bytes, i)),
            b'\'' if bytes[at] == b'b' => Some(char_end(bytes, i)),
            _ => None,
        };
    }
    let hashes = bytes[i..].iter().take_while(|&&b| b == b'#').count();
    if bytes.get(i + hashes) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let body = i + hashes + 1;
    let found = bytes[body..].windows(closing.len()).position(|w| w == closing);
    Some(found.map_or(bytes.len(), |n| body + n + closing.len()))
}

fn is_identifier(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn continues_identifier(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_identifier(bytes[at - 1])
}

/// Blanks every item under `#[cfg(test)]`; also answers the names of the modules that are files of their own there.
pub(crate) fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut out = code.as_bytes().to_vec();
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(found) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|a| code[from..].find(a)).min() {
        let start = from + found;
        let item = item_after(code, start);
        if let Some(name) = code[item.clone()].trim().strip_suffix(';').and_then(|m| m.rsplit_once("mod ")) {
            modules.push(name.1.trim().to_owned());
        }
        for byte in &mut out[start..item.end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = item.end;
    }
    (String::from_utf8(out).expect("whole items were replaced, by ASCII"), modules)
}

/// The item that an attribute at `start` belongs to: up to its closing brace, or its semicolon.
fn item_after(code: &str, start: usize) -> Range<usize> {
    let bytes = code.as_bytes();
    let mut i = start;
    let mut depth = 0_i32;
    let mut begin = start;
    let mut in_attribute = false;
    while i < bytes.len() {
        match bytes[i] {
            b'#' if depth == 0 => in_attribute = true,
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth < 0 {
                    // A field or a match arm: it ends with what holds it, at the latest.
                    return begin..i;
                }
                if depth == 0 && in_attribute && bytes[i] == b']' {
                    in_attribute = false;
                    begin = i + 1;
                } else if depth == 0 && bytes[i] == b'}' {
                    return begin..i + 1;
                }
            }
            b';' if depth == 0 => return begin..i + 1,
            _ => {}
        }
        i += 1;
    }
    begin..bytes.len()
}

/// A path that the code names, such as `crate::event::Event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// It stands in a `use`.
    pub(crate) imported: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Mark(char),
}

fn tokens(code: &str) -> Vec<(usize, Token)> {
    let bytes = code.as_bytes();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'\n' {
            line += 1;
            at += 1;
        } else if is_identifier(byte) {
            let length = bytes[at..].iter().take_while(|&&b| is_identifier(b)).count();
            out.push((line, Token::Word(code[at..at + length].to_owned())));
            at += length;
        } else if bytes[at..].starts_with(b"::") {
            out.push((line, Token::Colons));
            at += 2;
        } else {
            if !byte.is_ascii_whitespace() {
                out.push((line, Token::Mark(char::from(byte))));
            }
            at += 1;
        }
    }
    out
}

/// Every path in the code, the groups of `use` written out. A lone word counts only in a `use`.
pub(crate) fn paths(code: &str) -> Vec<Named> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at].1 {
            Token::Word(word) if word == "use" && tokens.get(at + 1).is_some_and(|t| t.1 != Token::Mark('<')) => {
                at = use_tree(&tokens, at + 1, &[], &mut found);
            }
            // `<T as Trait>::Name` goes on here; what matters of it was named before.
            Token::Word(_) if at > 1 && tokens[at - 1].1 == Token::Colons && tokens[at - 2].1 == Token::Mark('>') => {
                at += 1;
            }
            Token::Word(_) => {
                let (segments, next) = plain_path(&tokens, at);
                if segments.len() > 1 {
                    found.push(Named { line: tokens[at].0, segments, imported: false });
                }
                at = next;
            }
            _ => at += 1,
        }
    }
    found
}

fn plain_path(tokens: &[(usize, Token)], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    while let Some((_, Token::Word(word))) = tokens.get(at) {
        segments.push(word.clone());
        at += 1;
        match (tokens.get(at), tokens.get(at + 1)) {
            (Some((_, Token::Colons)), Some((_, Token::Word(_)))) => at += 1,
            _ => break,
        }
    }
    (segments, at)
}

/// One branch of a `use`, up to its `;`, or to the `,` or `}` that ends it in a group. Answers where to go on.
fn use_tree(tokens: &[(usize, Token)], mut at: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |t| t.0);
    while let Some((here, token)) = tokens.get(at) {
        match token {
            Token::Word(word) if word == "as" => at += 2,
            Token::Word(word) => {
                line = *here;
                if word != "self" || segments.is_empty() {
                    segments.push(word.clone());
                }
                at += 1;
            }
            Token::Mark('*') => {
                segments.push("*".to_owned());
                at += 1;
            }
            Token::Mark('{') => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.1 != Token::Mark('}')) {
                    at = use_tree(tokens, at, &segments, found);
                    if tokens.get(at).is_some_and(|t| t.1 == Token::Mark(',')) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Token::Mark(',' | '}' | ';') => break,
            Token::Colons | Token::Mark(_) => at += 1,
        }
    }
    if segments.len() > prefix.len() || !prefix.is_empty() {
        found.push(Named { line, segments, imported: true });
    }
    at
}

/// The name of the function that the byte at `at` lies in, as far as the last `fn` before it tells.
pub(crate) fn enclosing_function(code: &str, at: usize) -> Option<&str> {
    let before = &code[..at];
    let start = before.rfind("fn ")? + 3;
    before[start..].split(|c: char| !(c == '_' || c.is_alphanumeric())).next()
}
