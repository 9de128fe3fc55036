//! `portero await-clock`: says in a file whether the clock is right, as long as it runs. Run by portero-clock.service, not by
//! people: the gateway's own sandbox may not ask the kernel.
//!
//! Must not: set a clock, or say that it is right while nobody knows.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval};

use super::Exit;
use crate::clock::machine_says_synchronised;

/// How often the machine is asked: as often as the gateway itself would.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps a file there while the clock is synchronised.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file
    #[arg(long, value_name = "FILE")]
    flag: PathBuf,
}

/// Runs it; ends only by a signal. What stands there at the start may be of the run before, and is looked into first.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    super::runtime()?.block_on(keep(args))
}

async fn keep(args: &Args) -> anyhow::Result<Exit> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match (machine_says_synchronised(), args.flag.exists()) {
            (true, false) => {
                std::fs::File::create(&args.flag).with_context(|| format!("cannot make {}", args.flag.display()))?;
            }
            (false, true) => {
                std::fs::remove_file(&args.flag).with_context(|| format!("cannot remove {}", args.flag.display()))?;
            }
            _ => {}
        }
    }
}
