//! `portero config reload`: asks the running gateway to read its file again, and waits for what came of it.
//!
//! Must not: need a configuration file that can be used; the gateway says what is wrong with it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{ConfigFile, Exit, Output};
use crate::manage::config::ManageConfig;
use crate::manage::control::client;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The gateway's control socket [default: that of the configuration file]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let read = args.file.read();
    let named = args.socket.clone().or_else(|| read.as_ref().ok().map(|config| config.manage.socket.clone()));
    // A file that can't be used does not say where its gateway listens; most listen where they all do.
    let socket = named.unwrap_or_else(|| ManageConfig::default().socket);
    let report = match (client::post_for(&socket, "/config/reload", &json!({})), read) {
        (Ok(report), _) => report,
        // What is wrong with the file is more to the point than that nobody listens on a socket which we only guess.
        (Err(client::Error::Absent(_)), Err(problems)) if args.socket.is_none() => return Err(problems.into()),
        (Err(error), _) => return Err(error.into()),
    };
    let mut out = Output::stdout();
    if args.json {
        out.line(&report)?;
    } else {
        show(&report, &mut out)?;
    }
    Ok(if report["outcome"] == "refused" { Exit::No } else { Exit::Done })
}

fn show(report: &Value, out: &mut Output) -> std::io::Result<()> {
    let list = |key: &str| report[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    for (key, words) in [
        ("stopped", "stopped"),
        ("restarted", "started again"),
        ("started", "started"),
        ("needs_restart", "waits for a restart of the gateway"),
        ("problems", "refused"),
    ] {
        for what in list(key) {
            out.line(format_args!("{words}: {what}"))?;
        }
    }
    match report["outcome"].as_str() {
        Some("unchanged") => out.line("nothing to change: the file says what is running"),
        Some("refused") => out.line("what was running runs on"),
        _ => Ok(()),
    }
}
