//! `portero log-level`: what the running gateway logs, now or for a while.
//!
//! Must not: write the configuration; what shall stay stands there.

use serde_json::{Value, json};

use super::{ConfigFile, Exit, Failure, Output, table};
use crate::manage::control::client;
use crate::manage::control::log::LONGEST;
use crate::telemetry;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// error, warn, info, debug, trace, off, or a filter such as info,portero::deliver=debug
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// For how long: 90s, 10m or 2h; a day at most
    #[arg(long = "for", value_name = "TIME", default_value = "1h", requires = "filter")]
    time: String,
    /// Go back to the configured one now
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let order = match &args.filter {
        Some(filter) if !telemetry::is_filter(filter) => {
            return Err(Failure::new(Exit::Usage, telemetry::no_filter(&format!("'{filter}'"))).into());
        }
        Some(filter) => Some(json!({ "filter": filter, "for_seconds": seconds(&args.time)? })),
        None if args.reset => Some(json!({ "filter": null })),
        None => None,
    };
    let socket = args.file.read()?.manage.socket;
    let told = match &order {
        Some(order) => client::post(&socket, "/log", order)?,
        None => client::get(&socket, "/log")?,
    };
    let mut out = Output::stdout();
    if args.json {
        out.line(told)?;
    } else {
        show(&told, &mut out)?;
    }
    Ok(Exit::Done)
}

fn show(told: &Value, out: &mut Output) -> std::io::Result<()> {
    let text = |key: &str| table::value(&told[key]);
    let by = told["configured_by"].as_str().map_or_else(|| "[log] level".to_owned(), |name| format!("${name}"));
    if told["until"].is_null() {
        out.line(format_args!("{} (from {by})", text("filter")))?;
    } else {
        let until = table::time(&told["until"]);
        out.line(format_args!("{} until {until}, then {} again (from {by})", text("filter"), text("configured")))?;
    }
    match told["note"].as_str() {
        Some(note) => out.line(note),
        None => Ok(()),
    }
}

/// `--for` in seconds.
fn seconds(text: &str) -> Result<u64, Failure> {
    let usage = || Failure::new(Exit::Usage, format!("--for '{text}' is no time from 1s to 24h; write 90s, 10m or 2h"));
    let text = text.trim();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(usage()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| usage())?;
    count.checked_mul(unit).filter(|seconds| (1..=LONGEST).contains(seconds)).ok_or_else(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_is_a_day_at_most() {
        assert_eq!(
            [seconds("90s").ok(), seconds("10m").ok(), seconds("24h").ok()],
            [Some(90), Some(600), Some(86_400)]
        );
        for wrong in ["", "10", "0s", "25h", "-1m", "1d", "é", "99999999999999999999h", "18446744073709551615h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
