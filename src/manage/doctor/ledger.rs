//! The journal: does it open, is it sound, does it balance?
//!
//! Must not: take its lock (a gateway may run), or read an event.

use tokio::time::timeout;

use super::disk::bytes;
use super::{Finding, WITHIN};
use crate::clock::Clock;
use crate::journal::{self, Error, Journal};

/// Of the time for the journal, so much may go to the check of its structure, microseconds.
const CHECK: u64 = 2_000_000;

/// Opens it for reading, beside a gateway or without one.
pub(super) async fn journal(config: &journal::Config, clock: &Clock) -> Vec<Finding> {
    let at = config.path.display().to_string();
    if !config.path.exists() {
        let found = "there is none yet; the first start makes it";
        return vec![Finding::skipped("journal", at, found, "nothing, or correct [journal] path")];
    }
    match timeout(WITHIN, look(config, clock)).await {
        Ok(Ok(mut findings)) => {
            findings.iter_mut().for_each(|finding| finding.subject.clone_from(&at));
            findings
        }
        Ok(Err(error)) => vec![broken(&at, &error)],
        Err(_) => vec![Finding::fail(
            "journal",
            at,
            format!("it does not answer within {} s", WITHIN.as_secs()),
            "look at the disk: dmesg, iostat; a dying card answers slowly at first",
        )],
    }
}

async fn look(config: &journal::Config, clock: &Clock) -> Result<Vec<Finding>, Error> {
    let journal = Journal::open_read_only(config)?;
    let stats = journal.stats_at_leisure().await?;
    journal.glance(clock.clone(), CHECK).await?;
    journal.close().await?;
    let found = format!("{} events, {}, sound as far as a quick look tells", stats.appended, bytes(stats.bytes));
    let mut findings = vec![Finding::ok("journal", "", found)];
    for sink in stats.sinks.iter().filter(|sink| !sink.balances()) {
        let found = format!("the ledger of sink {} does not balance", sink.name);
        findings.push(Finding::fail("journal", "", found, "keep the file, and send: portero doctor --bundle FILE.tar"));
    }
    // The last sixteenth is kept for settling and pruning.
    let most = config.max_bytes - config.max_bytes / 16;
    if stats.bytes.saturating_mul(10) > most.saturating_mul(9) {
        let found = format!("it has {} of {} that appends may use", bytes(stats.bytes), bytes(most));
        let remedy = "mend the sink that holds events back, raise [journal] max_bytes or lower retention_days";
        findings.push(Finding::warn("journal", "", found, remedy));
    }
    Ok(findings)
}

fn broken(at: &str, error: &Error) -> Finding {
    let remedy = match error {
        Error::Corrupt(_) => {
            "keep a copy of the file; the next start of the gateway sets it aside and begins a new one"
        }
        Error::TooNew { .. } => "install the newer release again",
        Error::Io(_) => "run it as root; if it is root, look at the disk (dmesg)",
        Error::Owned { .. } | Error::Full(_) | Error::Unsafe(_) | Error::Closed | Error::NotFound(_) => {
            "correct [journal] path"
        }
    };
    Finding::fail("journal", at, error.to_string(), remedy)
}
