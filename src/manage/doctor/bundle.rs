//! A bundle for whoever helps: what the doctor found, and what is known around it, in one tar archive.
//!
//! Must not: hold a secret, an event, or anything of a person.

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Examination, Patient, redact, tar};
use crate::clock::{Clock, SyncSource};
use crate::event::json::rfc3339;
use crate::journal::{Journal, Stats};
use crate::manage::status::sink_ledger;

/// So many lines of the log.
const LINES: &str = "2000";

/// The system's own tools may take so long, seconds.
const PATIENCE: &str = "10";

/// What of the unit is of use; nothing of its command line or credentials.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,ActiveEnterTimestamp,MemoryCurrent,\
    MemoryPeak,CPUUsageNSec,TasksCurrent,UnitFileState,WatchdogTimestamp";

/// What was written: names and what each is.
pub type Contents = Vec<(String, String)>;

/// Writes the bundle, readable by us alone; answers what is in it. An existing file is replaced only by the whole new one.
pub async fn write(file: &Path, patient: &Patient, examination: &Examination) -> std::io::Result<Contents> {
    let now = Clock::new(SyncSource::Trusted).now().wall;
    let mut files: Vec<(&str, &str, String)> = Vec::new();
    let about = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "made": rfc3339(now).as_str(),
        "sqlite": crate::journal::engine().0,
        "architecture": std::env::consts::ARCH,
        "kernel": said("uname", &["-sr"]).trim(),
        "system": release(),
        "variables": variables(),
    });
    files.push(("about.json", "version, machine, names of PORTERO_ variables that are set", pretty(&about)));
    let findings: String = examination.findings.iter().fold(String::new(), |mut text, finding| {
        let mut finding = finding.to_json();
        redact::finding(&mut finding);
        let _ = writeln!(text, "{finding}");
        text
    });
    files.push(("doctor.jsonl", "what the doctor found", findings));
    let path = match &patient.loaded {
        Ok(loaded) => &loaded.config.file,
        Err(problems) => &problems.file,
    };
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let configuration = match text.and_then(|text| redact::configuration(&text, patient.loaded.is_ok())) {
        Ok(text) => text,
        Err(error) => format!("# left out: {error}\n"),
    };
    let what = "the configuration without comments: secrets as references, addresses without user and query";
    files.push(("configuration.toml", what, configuration));
    let status = match &examination.status {
        Some(status) => {
            let mut status = status.clone();
            redact::status(&mut status);
            pretty(&status)
        }
        None => "no gateway answers\n".to_owned(),
    };
    files.push(("status.json", "what the running gateway says of itself, without servers' own words", status));
    files.push(("ledger.json", "counts of the journal per sink; no event", pretty(&ledger(patient).await)));
    let unit = said("systemctl", &["show", "portero", "--property", PROPERTIES]);
    files.push(("unit.txt", "how systemd sees the service", unit));
    let log = said("journalctl", &["-u", "portero", "-n", LINES, "--no-pager", "-q", "-o", "short-iso"]);
    let log: String = log.lines().map(|line| redact::line(line) + "\n").collect();
    let log =
        if log.is_empty() { "the system's journal has nothing, or may not be read by us\n".to_owned() } else { log };
    files.push((
        "log.txt",
        "the end of the log, each line scrubbed: numbers and whatever could be a secret are ***",
        log,
    ));

    let mut contents: Contents = files.iter().map(|(name, what, _)| ((*name).to_owned(), (*what).to_owned())).collect();
    let list: String = contents.iter().fold(String::new(), |mut text, (name, what)| {
        let _ = writeln!(text, "{name}: {what}");
        text
    });
    let head =
        format!("{list}\nNo event, no person, no card and no secret is in any of them. Look before you send it.\n");
    let mut packed = vec![("portero-doctor/contents.txt".to_owned(), head.into_bytes())];
    packed.extend(files.into_iter().map(|(name, _, text)| (format!("portero-doctor/{name}"), text.into_bytes())));
    contents.insert(0, ("contents.txt".to_owned(), "this list".to_owned()));
    let seconds = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
    save(file, &tar::archive(&packed, seconds))?;
    Ok(contents)
}

fn save(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut staged = file.as_os_str().to_owned();
    staged.push(".part");
    let staged = Path::new(&staged);
    // Somebody else's file, or link, of that name is not written through.
    let _ = std::fs::remove_file(staged);
    let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
    let written = opened.write_all(bytes).and_then(|()| std::fs::rename(staged, file));
    if written.is_err() {
        let _ = std::fs::remove_file(staged);
    }
    written
}

async fn ledger(patient: &Patient) -> Value {
    let Some(config) = patient.config().filter(|config| config.journal.path.exists()) else { return Value::Null };
    let counted = tokio::time::timeout(super::WITHIN, async {
        let journal = Journal::open_read_only(&config.journal)?;
        let stats = journal.stats_at_leisure().await?;
        journal.close().await?;
        Ok::<Stats, crate::journal::Error>(stats)
    });
    match counted.await {
        Ok(Ok(stats)) => {
            let sinks: Vec<Value> = stats.sinks.iter().map(|line| Value::Object(sink_ledger(line))).collect();
            json!({
                "appended": stats.appended, "pruned": stats.pruned, "faults": stats.faults, "blind": stats.blind,
                "conflicts": stats.conflicts, "bytes": stats.bytes, "sinks": sinks,
            })
        }
        Ok(Err(error)) => json!({ "error": error.to_string() }),
        Err(_) => json!({ "error": "the journal does not answer in time" }),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// What a tool of the system says; nothing where it isn't there or takes too long.
fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

/// The names alone: a value could be anything.
fn variables() -> Vec<String> {
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|n| n.starts_with("PORTERO_"))
        .collect();
    names.sort();
    names
}
