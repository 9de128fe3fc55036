//! `[gateway]`, `[journal]`, `[manage]` and `[log]`.
//!
//! Must not: look at anything outside the file.

use std::path::PathBuf;

use super::reader::Reader;
use super::{LogConfig, LogFormat, ManageConfig};
use crate::clock::{self, SyncSource, Zone};
use crate::{journal, telemetry, terminal};

/// An example in every message about a zone.
const ZONE: &str = "a zone of the IANA database, for example \"America/Santiago\"";

/// Longest socket path that Linux accepts, bytes (`sun_path` in `unix(7)` holds 108 with the closing zero).
const SOCKET_PATH_MAX: usize = 107;

/// `[gateway]`.
pub(super) fn gateway(reader: Reader<'_>) -> (Option<terminal::Identity>, SyncSource, Option<String>) {
    let id = name(&reader, "id", "a name for this gateway that no other has, for example \"gw-obra-norte-01\"");
    let site = name(&reader, "site", "the site's name, for example \"obra-norte\"");
    let zone = match reader.get("zone") {
        Some(_) => zone(&reader),
        None => {
            reader.missing("zone", ZONE);
            None
        }
    };
    let tenant = match reader.get("tenant") {
        Some(_) => name(&reader, "tenant", "the tenant's name, for example \"default\""),
        None => Some("default".to_owned()),
    };
    let trusted = reader.word("clock", &[("auto", false), ("trusted", true)]).unwrap_or(false);
    let file = reader.path_to("clock_sync_file", "the path of a file that exists once the clock is right");
    if trusted && let (Some(_), Some(node)) = (&file, reader.get("clock_sync_file")) {
        reader.wrong("clock_sync_file", node, "no clock_sync_file beside clock = \"trusted\"");
    }
    let group = match reader.get("group") {
        Some(_) => {
            name(&reader, "group", "the group that bundles from afar may be addressed to, for example \"north\"")
        }
        None => None,
    };
    reader.finish(&[]);
    let clock = match (trusted, file) {
        (true, _) => SyncSource::Trusted,
        (false, Some(file)) => SyncSource::File(file),
        (false, None) => SyncSource::Auto,
    };
    let identity = (|| Some(terminal::Identity { gateway_id: id?, site_id: site?, tenant: tenant?, zone: zone? }))();
    (identity, clock, group)
}

/// `[journal]`.
pub(super) fn journal(reader: Reader<'_>) -> journal::Config {
    let mut config = journal::Config::default();
    if let Some(path) = reader.path_to("path", "the path of the database file") {
        config.path = path;
    }
    let days = |key, default| {
        let number = reader.number(key, 1..=36_500, "a whole number of days, for example 30");
        number.and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    config.retention_days = days("retention_days", config.retention_days);
    config.dedup_days = days("dedup_days", config.dedup_days);
    let bytes = reader.number("max_bytes", 1 << 20..=1 << 50, "a whole number of bytes, for example 8589934592");
    config.max_bytes = bytes.unwrap_or(config.max_bytes);
    reader.finish(&[]);
    config
}

/// `[manage]`.
pub(super) fn manage(reader: Reader<'_>) -> ManageConfig {
    let mut config = ManageConfig::default();
    if let Some(path) = reader.path_to("socket", "the path of the control socket") {
        if path.as_os_str().len() > SOCKET_PATH_MAX
            && let Some(node) = reader.get("socket")
        {
            reader.wrong("socket", node, "a path of at most 107 bytes (the system's limit for sockets)");
        }
        config.socket = path;
    }
    let seconds = reader.number("shutdown_seconds", 1..=600, "a whole number of seconds, for example 20");
    config.shutdown_seconds = seconds.unwrap_or(config.shutdown_seconds);
    config.page = super::page::page(&reader);
    config.remote = reader.child("remote", "a table [manage.remote]").and_then(super::remote::remote);
    config.status = super::status::status(&reader);
    reader.finish(&[]);
    config
}

/// `[log]`.
pub(super) fn log(reader: Reader<'_>) -> LogConfig {
    let mut config = LogConfig::default();
    let expected =
        "one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a filter such as \"info,portero=debug\"";
    if let Some(level) = reader.text("level", expected) {
        match reader.get("level") {
            Some(node) if !telemetry::is_filter(level) => {
                reader.wrong_word("level", node, expected, telemetry::LEVELS.iter().copied());
            }
            _ => level.clone_into(&mut config.level),
        }
    }
    let format = reader.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    config.format = format.unwrap_or_default();
    reader.finish(&[]);
    config
}

/// `zone`, looked up in the database.
pub(super) fn zone(reader: &Reader<'_>) -> Option<String> {
    let text = reader.text("zone", ZONE)?;
    if Zone::named(text).is_ok() {
        return Some(text.to_owned());
    }
    if let Some(node) = reader.get("zone") {
        let expected = clock::no_zones().unwrap_or(ZONE);
        let mut problem = reader.report.problem(&node.place, &reader.key("zone"), &node.shown(), expected);
        let like = clock::zones_like(text);
        let names;
        let near = match like.first() {
            Some(name) => Some(name.as_str()),
            None => {
                names = clock::zone_names();
                super::suggest::nearest(text, names.iter().map(String::as_str))
            }
        };
        problem.nearest = near.map(|name| format!("\"{name}\""));
        reader.report.error(problem);
    }
    None
}

/// A name that stands in events, topics and tables: short, and without blanks or control characters.
pub(super) fn name(reader: &Reader<'_>, key: &'static str, expected: &str) -> Option<String> {
    let text = reader.need_text(key, expected)?;
    let good = text.len() <= 128 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if !good {
        if let Some(node) = reader.get(key) {
            reader.wrong(key, node, &format!("{expected}; at most 128 bytes, no blanks"));
        }
        return None;
    }
    Some(text.to_owned())
}

impl Default for ManageConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/portero/control.sock"),
            page: None,
            remote: None,
            status: None,
            shutdown_seconds: 20,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}
