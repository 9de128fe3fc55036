//! Keeps the directory up to date, and lets go what it explains.
//!
//! Must not: release an event whose person was known already, or forget people because their source is away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::people::Breath;
use super::{Config, Directory, Error, Fetcher, keys};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::deliver::UNKNOWN_WORKER;
use crate::deliver::filter::NOT_IN_DIRECTORY;
use crate::journal::{self, DirectoryEntry, Journal, Record, Seq};

/// How often events are looked at that a relay may have set aside by what it knew before; not slower than the source.
const RELEASE: Duration = Duration::from_secs(60);

/// A source that fails is asked again after this time at the latest, or after `refresh`.
const SLOWEST: Duration = Duration::from_secs(300);

/// So many people are written at once: some milliseconds of the journal's time.
const AT_ONCE: usize = 1000;

/// What a directory needs besides its source.
#[derive(Clone)]
pub struct Context {
    /// Where people are kept.
    pub journal: Journal,
    /// What time it is.
    pub clock: Clock,
    /// The directory that everybody uses.
    pub directory: Directory,
    /// The names of the sinks whose unknown people it may explain.
    pub sinks: Vec<String>,
}

/// Refreshes until `shutdown`.
pub async fn run(config: Config, mut source: Fetcher, context: Context, shutdown: CancellationToken) {
    let mut due = Instant::now();
    let mut ticks = interval(config.refresh.min(RELEASE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What a change that was interrupted has taught us is not known any more: everybody may be new.
    let torn = context.journal.is_directory_torn().await.unwrap_or(true);
    let mut learned: HashSet<String> =
        if torn { context.directory.known().keys().cloned().collect() } else { HashSet::new() };
    // A server that is away, or refuses our credential, is asked less and less often.
    let mut backoff = Backoff::new(config.refresh, config.refresh.max(SLOWEST));
    // What is wrong with the source's content, as long as it stays what it is; and how often there was something to say.
    let (mut refusal, mut complaints) = (None::<String>, 0_u64);
    loop {
        let tick = tokio::select! {
            tick = ticks.tick() => tick,
            () = shutdown.cancelled() => return,
        };
        if tick >= due {
            due = tick + config.refresh;
            let taken = tokio::select! {
                taken = take(&mut source, &config, &context, &mut learned) => taken,
                () = shutdown.cancelled() => return,
            };
            match taken {
                Ok(changed) => {
                    backoff.reset();
                    if changed {
                        source.settle();
                        refusal = None;
                    }
                    match &refusal {
                        Some(refusal) => complain(&context.directory, refusal),
                        None => {
                            let count = std::mem::take(&mut complaints);
                            if context.directory.well(context.clock.now().wall) {
                                tracing::info!(count, "worker directory can be had again");
                            }
                        }
                    }
                }
                Err(Failed::Journal(journal::Error::Closed)) => return,
                Err(error) => {
                    complaints += 1;
                    let text = error.to_string();
                    complain(&context.directory, &text);
                    match error {
                        Failed::Source(Error::Away { after, .. }) => {
                            due = Instant::now() + config.refresh.max(backoff.next(after));
                        }
                        Failed::Source(Error::Io(..)) | Failed::Journal(_) => {}
                        // What was refused for its content is read again once it is another one.
                        Failed::Source(_) => {
                            source.settle();
                            refusal = Some(text);
                        }
                    }
                }
            }
        }
        // At every look: a relay may have set an event aside by what it knew before.
        match release(&learned, &context).await {
            Ok(()) if learned.is_empty() => {}
            Ok(()) => match context.journal.settle_people().await {
                Ok(()) => learned.clear(),
                Err(journal::Error::Closed) => return,
                Err(error) => tracing::warn!(%error, "who was learned is looked at again"),
            },
            Err(journal::Error::Closed) => return,
            Err(error) => tracing::warn!(%error, "events of people who are known now wait until the next look"),
        }
    }
}

/// Logs only what is news.
fn complain(directory: &Directory, error: &str) {
    if directory.complain(error) {
        tracing::error!(error, "worker directory not refreshed, the old one stays");
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Source(#[from] Error),
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// Reads the source, keeps it, takes it over; adds to `learned` whom we did not know. False if nothing has changed.
async fn take(
    source: &mut Fetcher,
    config: &Config,
    context: &Context,
    learned: &mut HashSet<String>,
) -> Result<bool, Failed> {
    let Some(people) = source.fetch().await? else { return Ok(false) };
    check(context.directory.len(), people.len(), config.max_shrink_percent)?;
    let count = people.len();
    let before = context.directory.health();
    // A database is read each time, and mostly says what it said before.
    if keep(&people, context, learned).await? || before.error.is_some() || before.refreshed.is_none() {
        tracing::info!(count, "worker directory refreshed");
    }
    Ok(true)
}

/// On disk first: who is known once stays known after a crash. Only what differs is written (a directory of thousands
/// changes by a few people a day), new people before others are forgotten, and in steps, between which events go. False if
/// nothing differs.
async fn keep(
    people: &[DirectoryEntry],
    context: &Context,
    learned: &mut HashSet<String>,
) -> Result<bool, journal::Error> {
    let Context { directory, journal, .. } = context;
    let (known, mut breath) = (directory.known(), Breath::default());
    let (mut put, mut gone, mut there) = (Vec::new(), Vec::new(), HashSet::with_capacity(people.len()));
    for person in people {
        if known.get(&person.key) != Some(person) {
            put.push(person.clone());
        }
        there.insert(person.key.as_str());
        breath.after(person.key.len()).await;
    }
    for key in known.keys() {
        if !there.contains(key.as_str()) {
            gone.push(key.clone());
        }
        breath.after(key.len()).await;
    }
    if put.is_empty() && gone.is_empty() {
        return Ok(false);
    }
    let mut written = Ok(());
    // A change of few is one step.
    let steps: Vec<(&[DirectoryEntry], &[String])> = if put.len() + gone.len() <= AT_ONCE {
        vec![(&put, &gone)]
    } else {
        let puts = put.chunks(AT_ONCE).map(|put| (put, &[][..]));
        puts.chain(gone.chunks(AT_ONCE).map(|gone| (&[][..], gone))).collect()
    };
    for (put, gone) in steps {
        written = journal.change_people(put.to_vec(), gone.to_vec()).await;
        if written.is_err() {
            break;
        }
    }
    match written {
        Ok(()) => learned.extend(directory.replace(people).await),
        // A part of it may be on disk: what is there counts, and is the base of the next change.
        Err(_) => learned.extend(directory.replace(&journal.people().await?).await),
    }
    written.map(|()| true)
}

fn check(before: usize, now: usize, percent: u8) -> Result<(), Error> {
    if (before.saturating_sub(now)) * 100 > before * usize::from(percent) {
        return Err(Error::Shrunk { before, now });
    }
    Ok(())
}

/// Releases what was set aside for an unknown person who is known now. What was never sent goes out whenever its person is
/// known; what the sink itself refused, only once for each time that the directory learns something of the person.
async fn release(learned: &HashSet<String>, context: &Context) -> Result<(), journal::Error> {
    let (known, journal) = (context.directory.known(), &context.journal);
    if known.is_empty() {
        return Ok(());
    }
    for sink in &context.sinks {
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
