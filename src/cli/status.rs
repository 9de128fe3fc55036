//! `portero status`: the running gateway's own account, or what the journal knows if none runs.
//!
//! Must not: change anything.

use serde_json::Value;

use super::{ConfigFile, Exit, Output, table};
use crate::journal::{self, Journal};
use crate::manage::config::Config;
use crate::manage::control::client;
use crate::manage::status;

/// Show how the gateway, its links and its sinks are.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let config = args.file.read()?;
    let status = match client::get(&config.manage.socket, "/status") {
        Ok(status) => status,
        // Without permission the ledger may still be readable, but nobody should take a gateway that runs for dead.
        Err(client::Error::Absent(_)) => from_journal(&config)?,
        Err(error) => return Err(error.into()),
    };
    let mut out = Output::stdout();
    if args.json {
        out.line(status)?;
    } else {
        show(&status, &mut out)?;
    }
    Ok(Exit::Done)
}

fn from_journal(config: &Config) -> anyhow::Result<Value> {
    if !config.journal.path.exists() {
        return Ok(status::stopped(&config.identity, None));
    }
    let runtime = super::runtime()?;
    let stats = runtime.block_on(async {
        let journal = Journal::open_read_only(&config.journal)?;
        let stats = journal.stats().await?;
        journal.close().await?;
        Ok::<_, journal::Error>(stats)
    })?;
    Ok(status::stopped(&config.identity, Some(&stats)))
}

fn show(status: &Value, out: &mut Output) -> std::io::Result<()> {
    let text = |key: &str| table::value(&status[key]);
    let running = status["running"].as_bool() == Some(true);
    out.line(format_args!(
        "gateway {} at {}: {}",
        text("gateway_id"),
        text("site_id"),
        if running {
            format!("running since {} (process {})", table::time(&status["started"]), text("pid"))
        } else {
            "not running".to_owned()
        }
    ))?;
    if running && status["clock_synchronised"].as_bool() == Some(false) {
        out.line("clock: not synchronised; times are provisional")?;
    }
    let remote = &status["configuration"]["remote"];
    if let Some(revision) = remote["revision"].as_u64() {
        let trial = if remote["probation"].is_object() { ", on probation" } else { "" };
        out.line(format_args!("configuration from afar: revision {revision}{trial}"))?;
    }
    for table in remote["needs_restart"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.line(format_args!(
            "configuration: {table} from afar is taken at the next start: systemctl restart portero"
        ))?;
    }
    let notes = remote["degraded"].as_array().into_iter().flatten().chain([&remote["error"], &remote["say"]]);
    for note in notes.filter_map(Value::as_str) {
        out.line(format_args!("configuration: {note}"))?;
    }
    match &status["journal"] {
        Value::Null => out.line("journal: none yet")?,
        journal => out.line(format_args!(
            "journal: {} events, {} faults, {} conflicts, {} blind intervals, {} KiB",
            journal["appended"],
            journal["faults"],
            journal["conflicts"],
            journal["blind"],
            journal["bytes"].as_u64().unwrap_or(0) / 1024,
        ))?,
    }
    if let Some(people) = status["directory"].as_object() {
        let of = |key: &str| people.get(key).map_or_else(String::new, table::value);
        let refreshed = people.get("refreshed").map_or_else(|| "never".to_owned(), table::time);
        let credential = people.get("credential").and_then(|credential| credential["say"].as_str());
        let notes = people.get("error").and_then(Value::as_str).into_iter().chain(credential);
        let notes: String = notes.map(|note| format!("; {note}")).collect();
        out.line(format_args!("directory: {} numbers and cards, refreshed {refreshed}{notes}", of("known")))?;
    }
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let time = |of: &Value, key: &str| table::time(&of[key]);
    section(
        out,
        &["link", "protocol", "state", "last heard", "events", "duplicates", "faults", "devices", ""],
        &list("links"),
        |link| {
            let cell = |key: &str| table::value(&link[key]);
            let devices = link["devices"].as_array().map_or(0, Vec::len).to_string();
            let clock = clock(link);
            let notes: Vec<&str> = link["reason"].as_str().into_iter().chain(clock.as_deref()).collect();
            let reason = notes.join("; ");
            let heard = time(link, "last_heard");
            let (name, protocol, state) = (cell("name"), cell("protocol"), cell("state"));
            vec![name, protocol, state, heard, cell("events"), cell("duplicates"), cell("faults"), devices, reason]
        },
    )?;
    section(out, &["heard but not configured", "link", "last heard"], &list("unconfigured"), |device| {
        vec![table::value(&device["key"]), table::value(&device["link"]), time(device, "last_heard")]
    })?;
    section(
        out,
        &["sink", "state", "delivered", "pending", "quarantined", "last delivery", ""],
        &list("sinks"),
        |sink| {
            let cell = |key: &str| table::value(&sink[key]);
            let conflicts = sink["conflicts"].as_u64().map(|n| format!("{n} conflicts at the centre"));
            let next = sink["next_try"].as_str().map(|_| format!("next request at {}", time(sink, "next_try")));
            let credential = sink["credential"]["say"].as_str();
            let notes =
                [conflicts.as_deref(), sink["error"].as_str(), sink["waits_for"].as_str(), next.as_deref(), credential];
            let notes: Vec<&str> = notes.into_iter().flatten().collect();
            let error = notes.join("; ");
            let last = time(sink, "last_delivery");
            vec![cell("name"), cell("state"), cell("delivered"), cell("pending"), cell("quarantined"), last, error]
        },
    )
}

/// The first of a link's devices whose clock is wrong or ahead, and how many there are.
fn clock(link: &Value) -> Option<String> {
    let off = |device: &&Value| matches!(device["clock"].as_str(), Some("wrong" | "ahead"));
    let devices: Vec<&Value> = link["devices"].as_array()?.iter().filter(off).collect();
    let first = devices.first()?;
    let how = match first["drift_ms"].as_i64() {
        Some(ms) => format!("{} s ahead", ms / 1000),
        None => "wrong".to_owned(),
    };
    let more = if devices.len() > 1 { format!(" (and {} more)", devices.len() - 1) } else { String::new() };
    Some(format!("the clock of {} is {how}{more}; set it", table::value(&first["key"])))
}

fn section(
    out: &mut Output,
    columns: &[&str],
    members: &[Value],
    row: impl Fn(&Value) -> Vec<String>,
) -> std::io::Result<()> {
    if members.is_empty() {
        return Ok(());
    }
    let mut rows = table::new(columns);
    for member in members {
        rows.add_row(row(member));
    }
    let states: Vec<&str> = members.iter().map(|m| m["state"].as_str().unwrap_or("up")).collect();
    out.line(format_args!("\n{}", table::render(&rows, &states, out.is_tty())))
}
