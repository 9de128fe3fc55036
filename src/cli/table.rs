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

/// A value of a JSON object as a cell: text without quotes, nothing as a dash.
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.replace(['\n', '\r'], " "),
        other => other.to_string(),
    }
}

/// `2026-11-24T00:00:00.011000Z` as `2026-11-24 00:00:00Z`.
pub fn time(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(text) if text.len() >= 19 && text.is_char_boundary(19) => format!("{}Z", text[..19].replace('T', " ")),
        _ => "-".to_owned(),
    }
}
