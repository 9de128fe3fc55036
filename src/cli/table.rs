//! Tables for people.
//!
//! Must not: be used where `--json` was asked for.

use comfy_table::{Table, presets};

/// A table with these column names.
pub fn new(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|name| name.to_uppercase()));
    table
}

/// The table as text. On a terminal the header is bold, and a row whose state (in the order of the rows) isn't well is
/// red where somebody must act and yellow where it may pass. Rows hold no line breaks, so each is one line.
pub fn render(table: &Table, states: &[&str], tty: bool) -> String {
    let lines = table.lines().enumerate().map(|(at, line)| {
        let line = line.trim_end().trim_start_matches(' ').to_owned();
        let paint = match at.checked_sub(1) {
            _ if !tty => None,
            None => Some("1"),
            Some(row) => match states.get(row).copied().unwrap_or("up") {
                "down" | "blocked" | "gone" | "held" => Some("31"),
                "connecting" | "open" | "retrying" | "stopped" => Some("33"),
                _ => None,
            },
        };
        match paint {
            Some(code) => format!("\x1b[{code}m{line}\x1b[0m"),
            None => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Text of others without anything that a terminal would obey: line breaks, and sequences that write elsewhere.
pub fn flat(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A value of a JSON object as a cell: text without quotes, nothing as a dash.
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => flat(text),
        other => other.to_string(),
    }
}

/// `2026-11-24T00:00:00.011000Z` as `2026-11-24 00:00:00Z`.
pub fn time(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(text) if text.len() >= 19 && text.is_char_boundary(19) => {
            format!("{}Z", flat(&text[..19]).replace('T', " "))
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_writes_elsewhere_on_the_screen() {
        let text = serde_json::json!("a\u{1b}]52;c;aGk=\u{7}b\nc\u{9b}2Jd");
        assert_eq!(value(&text), "a ]52;c;aGk= b c 2Jd");
    }
}
