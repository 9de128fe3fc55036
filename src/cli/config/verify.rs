//! `portero config verify`: is a bundle rightly signed, and would this gateway take it?
//!
//! Must not: change anything, or need a running gateway.

use std::path::PathBuf;

use serde_json::json;

use super::{beside, read, words};
use crate::cli::{ConfigFile, Exit, Failure, Output};
use crate::clock::Clock;
use crate::event::json::rfc3339;
use crate::manage::config::{Header, Options, Secrets, text_of};
use crate::manage::remote::agent::Agent;
use crate::manage::remote::bundle::{self, Signed};
use crate::manage::remote::signature::{Key, Trust};
use crate::manage::remote::start;
use crate::manage::remote::store::{self, Store};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Its signature [default: BUNDLE.minisig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Look at the signature alone, by this public key (its text, or a .pub file), in place of asking what the gateway of
    /// the configuration file would say
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let payload = read(&args.bundle)?;
    let signature = read(args.signature.as_deref().unwrap_or(&beside(&args.bundle)))?;
    let signature = String::from_utf8_lossy(&signature).into_owned();
    let signed = Signed { payload, signature };
    let judged = match &args.key {
        Some(key) => by_key(&signed, key)?,
        None => by_gateway(&signed, args)?,
    };
    let mut out = Output::stdout();
    let good = judged.is_ok();
    if args.json {
        out.line(match &judged {
            Ok(header) => json!({
                "ok": true,
                "revision": header.revision,
                "not_before": rfc3339(header.not_before).as_str(),
                "expires": rfc3339(header.expires).as_str(),
            }),
            Err(reason) => json!({ "ok": false, "reason": reason }),
        })?;
    } else {
        match &judged {
            Ok(header) => out.line(format_args!("good: {}", words(header)))?,
            Err(reason) => out.line(format_args!("refused: {reason}"))?,
        }
    }
    Ok(if good { Exit::Done } else { Exit::No })
}

type Verdict = Result<Header, String>;

fn by_key(signed: &Signed, key: &str) -> anyhow::Result<Verdict> {
    let text = match Key::parse(key) {
        Ok(_) => key.to_owned(),
        Err(_) => String::from_utf8_lossy(&read(key.as_ref())?).into_owned(),
    };
    let key = Key::parse(&text).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let trust = Trust { active: key, recovery: None };
    Ok(bundle::open(signed, &trust).map(|(_, _, header)| header).map_err(|error| error.to_string()))
}

fn by_gateway(signed: &Signed, args: &Args) -> anyhow::Result<Verdict> {
    let options = Options::from_process(Secrets::Expect);
    let file = &args.file.config;
    let text = text_of(file)?;
    let running = start::effective(file, &options)?.config;
    let store = Store::peek(&store::beside(&running.journal.path));
    let state = store.state().0;
    let (base, now) = (state.current.clone(), Clock::new(running.clock.clone()).now());
    let agent = Agent::new(store, state, file, text, options, base);
    let considered = agent.consider(signed, &running, now);
    Ok(considered.map(|considered| considered.header().clone()).map_err(|error| error.to_string()))
}
