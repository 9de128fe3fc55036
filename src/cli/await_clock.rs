//! `portero await-clock`: waits until the clock is right and makes a file that says so. Run by portero-clock.service, not
//! by people: the gateway's own sandbox may not ask the kernel.
//!
//! Must not: set a clock, or say that it is right while nobody knows.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval};

use super::Exit;
use crate::clock::{Clock, SyncSource};

/// How often the kernel is asked: as often as the gateway itself would.
const EVERY: Duration = Duration::from_secs(1);

/// Waits until the clock is synchronised and makes a file that says so.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to make
    #[arg(long, value_name = "FILE")]
    flag: PathBuf,
}

/// Runs it; ends when the clock is right.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    // What an earlier wait said is no word of this one.
    match std::fs::remove_file(&args.flag) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", args.flag.display()));
        }
        _ => {}
    }
    super::runtime()?.block_on(right());
    std::fs::File::create(&args.flag).with_context(|| format!("cannot make {}", args.flag.display()))?;
    Ok(Exit::Done)
}

async fn right() {
    let clock = Clock::new(SyncSource::Auto);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if clock.now().synchronised {
            return;
        }
    }
}
