//! `portero run`: the gateway.
//!
//! Must not: start anything itself; `gateway` does.

use super::{ConfigFile, Exit, Failure};
use crate::gateway::remote::Found;
use crate::gateway::{self, Ended};
use crate::manage::config::{Loaded, LogFormat, Secrets};

/// Worker threads of the runtime: the journal's writer has a thread of its own beside them.
const WORKERS: usize = 2;

/// Blocking threads: name look-ups only.
const BLOCKING: usize = 8;

/// What is left when the gateway has stopped may take so long.
const LEFTOVERS: std::time::Duration = std::time::Duration::from_millis(500);

/// Run the gateway until SIGTERM or SIGINT; a second signal stops it at once. SIGHUP takes over the configuration file,
/// as `portero config reload` does.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    leave_no_core();
    let start = args.file.begin(Secrets::Need)?;
    let (Loaded { config, warnings }, found) = Found::of(start);
    crate::telemetry::start(&config.log.level, config.log.format == LogFormat::Json);
    for warning in &warnings {
        tracing::warn!(reason = %warning, "configuration is doubtful");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(gateway::run(config, found, || args.file.load(Secrets::Need)));
    match ended {
        // At once means at once: nothing is waited for.
        Ok(Ended::Forced) => runtime.shutdown_background(),
        _ => runtime.shutdown_timeout(LEFTOVERS),
    }
    match ended? {
        Ended::Stopped => Ok(Exit::Done),
        Ended::Forced => Err(Failure::new(Exit::No, "stopped at once by a second signal").into()),
    }
}

/// A core file would hold secrets. The unit says the same; not everybody starts us by it. Who needs one raises the limit
/// of the running process (`prlimit --core`).
fn leave_no_core() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let none = rustix::process::Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    // Lowering the soft limit is always allowed.
    let _ = setrlimit(Resource::Core, none);
}
