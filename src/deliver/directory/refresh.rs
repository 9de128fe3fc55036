//! Keeps the directory up to date, and lets go what it explains.
//!
//! Must not: release an event whose person was known already, or forget people because their source is away.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Config, Directory, Error, file, keys};
use crate::deliver::UNKNOWN_WORKER;
use crate::deliver::filter::NOT_IN_DIRECTORY;
use crate::journal::{self, DirectoryEntry, Journal, Record, Seq};

/// Refreshes until `shutdown`. `sinks` are the names of the sinks whose unknown people it may explain.
pub async fn run(
    config: Config,
    directory: Directory,
    journal: Journal,
    sinks: Vec<String>,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(config.refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut complaint, mut learned) = (None, None, HashSet::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        // Read again only if it was written: a file has its own ETag.
        let written = written(&config);
        if written.is_none() || written != seen {
            match take(&config, &directory, &journal).await {
                Ok(new) => {
                    seen = written;
                    complaint = None;
                    learned.extend(new);
                }
                Err(Failed::Journal(journal::Error::Closed)) => return,
                Err(error) => {
                    // What was refused for its content is read again once it is another file.
                    if !matches!(error, Failed::Source(Error::Io(..)) | Failed::Journal(_)) {
                        seen = written;
                    }
                    let error = error.to_string();
                    if complaint.as_ref() != Some(&error) {
                        tracing::error!(error, "worker directory not refreshed, the old one stays");
                        complaint = Some(error);
                    }
                }
            }
        }
        // At every look: a relay may have set an event aside by what it knew before.
        match release(&learned, &directory, &journal, &sinks).await {
            Ok(()) => learned.clear(),
            Err(journal::Error::Closed) => return,
            Err(error) => tracing::warn!(%error, "events of people who are known now wait until the next look"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Source(#[from] Error),
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// Which file it is and when it was written.
fn written(config: &Config) -> Option<(u64, i64, i64, u64)> {
    let meta = std::fs::metadata(&config.file).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// Reads the source, keeps it, takes it over. Answers whom it is that we did not know.
async fn take(config: &Config, directory: &Directory, journal: &Journal) -> Result<HashSet<String>, Failed> {
    let people = file::read(config)?;
    check(directory.len(), people.len(), config.max_shrink_percent)?;
    let count = people.len();
    let learned = keep(people, directory, journal).await?;
    tracing::info!(count, "worker directory refreshed");
    Ok(learned)
}

async fn keep(
    people: Vec<DirectoryEntry>,
    directory: &Directory,
    journal: &Journal,
) -> Result<HashSet<String>, journal::Error> {
    // On disk first: who is known once stays known after a crash.
    journal.keep_people(people.clone()).await?;
    Ok(directory.replace(&people))
}

fn check(before: usize, now: usize, percent: u8) -> Result<(), Error> {
    if (before.saturating_sub(now)) * 100 > before * usize::from(percent) {
        return Err(Error::Shrunk { before, now });
    }
    Ok(())
}

/// Releases what was set aside for an unknown person who is known now. What was never sent goes out whenever its person is
/// known; what the sink itself refused, only once for each time that the directory learns something of the person.
async fn release(
    learned: &HashSet<String>,
    directory: &Directory,
    journal: &Journal,
    sinks: &[String],
) -> Result<(), journal::Error> {
    let known = directory.known();
    if known.is_empty() {
        return Ok(());
    }
    for sink in sinks {
        let (known, learned) = (Arc::clone(&known), learned.clone());
        let explained = move |reason: &str, record: &Record| {
            let mut keys = keys(record);
            if reason == NOT_IN_DIRECTORY {
                keys.any(|key| known.contains_key(&key))
            } else {
                keys.any(|key| learned.contains(&key))
            }
        };
        let seqs: Vec<Seq> = journal.quarantined_where(sink.clone(), UNKNOWN_WORKER, explained).await?;
        if !seqs.is_empty() {
            let count = journal.release(sink.clone(), Some(seqs)).await?;
            tracing::info!(sink, count, "events of people who are known now go out");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_lost_too_many_is_refused() {
        assert!(check(0, 0, 20).is_ok() && check(0, 100, 20).is_ok() && check(100, 80, 20).is_ok());
        assert_eq!(check(100, 79, 20), Err(Error::Shrunk { before: 100, now: 79 }));
        assert!(check(1, 0, 20).is_err() && check(100, 0, 100).is_ok());
    }
}
