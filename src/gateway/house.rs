//! Housekeeping: the clock's first right moment, retention, and the proof that the journal and every part move.
//!
//! Must not: prune by a clock that may be wrong, or feed the watchdog without proof.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::journal::{self, Stats};
use crate::manage::service;
use crate::progress::{LONGEST_ANSWER, Roll};

/// How often an unsynchronised clock is asked.
const CLOCK_CHECK: Duration = Duration::from_secs(1);

/// How often retention looks for something to prune.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// A breath between two steps of pruning, so that events go first.
const PRUNE_BREATH: Duration = Duration::from_millis(50);

/// The line for `systemctl status` is renewed when it has changed, and at most so often.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How often the journal is asked for that line what waits, how long it may take, and so many times as long it is left alone
/// then: counting a large quarantine must not keep a small processor busy for a line of text.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const COUNT_WITHIN: Duration = Duration::from_millis(500);
const COUNT_REST: u32 = 50;

/// The watching thread says lines of text and asks the journal; bytes.
const WATCH_STACK: usize = 512 * 1024;

/// How often parts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the writer is asked where the unit has no watchdog.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// The watchdog is fed at least so often, so that a single bad look is no verdict.
const FEED_EVERY: Duration = Duration::from_secs(5);

/// `WatchdogSec`s that the journal's writer may be silent for, up to [`LONGEST_ANSWER`]: that of the shipped unit is 60 s, and a
/// card that is wearing out takes longer for a sync now and then.
const SILENCES: u32 = 5;

/// Waits for the clock to be right, then has the journal correct the times of what was heard before.
pub(super) async fn watch_clock(parts: Arc<Parts>) {
    let mut ticks = interval(CLOCK_CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited = false;
    loop {
        ticks.tick().await;
        let now = parts.clock.now();
        if !now.synchronised {
            if !waited {
                waited = true;
                tracing::warn!("clock is not synchronised; times of events are provisional until it is");
            }
            continue;
        }
        match parts.journal.anchor_clock(now).await {
            Ok(count) => {
                if waited || count > 0 {
                    tracing::info!(count, "clock is synchronised; earlier times corrected");
                }
                return;
            }
            Err(journal::Error::Closed) => return,
            // A full disk, say: the next second may be better, and the journal itself complains.
            Err(error) => tracing::debug!(%error, "clock anchor not written yet"),
        }
    }
}

/// Prunes hourly, in small steps, while the clock is right.
pub(super) async fn prune(parts: Arc<Parts>) {
    let mut ticks = interval(PRUNE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut count = 0;
        loop {
            let now = parts.clock.now();
            if !now.synchronised {
                break;
            }
            match parts.journal.prune(now).await {
                Ok(0) => break,
                Ok(step) => count += step,
                Err(journal::Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "retention failed; it is tried again in an hour");
                    break;
                }
            }
            sleep(PRUNE_BREATH).await;
        }
        if count > 0 {
            tracing::info!(count, "events past their retention pruned");
        }
    }
}

/// That the tasks have their turns: a part that keeps its thread may take the others' timers and sockets with it.
pub(super) async fn tick(roll: Roll) {
    let mark = roll.part("turns of the tasks");
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        mark.within("ticking", roll.step() + LOOK_EVERY);
        ticks.tick().await;
    }
}

/// Looks at the parts and feeds the watchdog, on a thread of its own: nothing that hangs can keep it from saying what does.
pub(super) struct Watch(CancellationToken);

impl Watch {
    pub(super) fn begin(parts: &Arc<Parts>) -> Self {
        let stop = CancellationToken::new();
        let (parts, stopped) = (Arc::clone(parts), stop.clone());
        let watch = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let Ok(runtime) = runtime.inspect_err(|error| tracing::error!(%error, "nobody looks after the parts"))
            else {
                return;
            };
            runtime.block_on(async {
                tokio::select! {
                    () = watch_parts(&parts) => {}
                    () = prove_life(&parts) => {}
                    () = stopped.cancelled() => {}
                }
            });
        };
        let begun = std::thread::Builder::new().name("watch".to_owned()).stack_size(WATCH_STACK).spawn(watch);
        if let Err(error) = begun {
            tracing::error!(%error, "nobody looks after the parts");
        }
        Self(stop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Says once of each part that it does not move, and once that it does again.
async fn watch_parts(parts: &Parts) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said: Vec<String> = Vec::new();
    loop {
        ticks.tick().await;
        let stuck = parts.gateway.stuck();
        for reason in stuck.iter().filter(|part| !said.contains(part)) {
            tracing::error!(reason, "a part of the gateway is stuck");
        }
        for reason in said.iter().filter(|part| !stuck.contains(part)) {
            tracing::warn!(reason, "a part of the gateway moves again");
        }
        said = stuck;
    }
}

/// Feeds systemd's watchdog while every part moves or waits for a reason; the journal's writer is one of them, and is asked
/// whether it lives.
async fn prove_life(parts: &Parts) {
    if !service::is_supervised() {
        return std::future::pending().await;
    }
    let watchdog = service::watchdog();
    let patience = watchdog.map_or(LONGEST_ANSWER, |within| (within * SILENCES).min(LONGEST_ANSWER));
    let writer = parts.gateway.parts.part("journal writer");
    let mut asks = interval(watchdog.map_or(ASK_EVERY, |within| within / 2));
    let mut feeds = interval(watchdog.map_or(FEED_EVERY, |within| (within / 2).min(FEED_EVERY)));
    let mut lines = interval(LINE_EVERY);
    for ticks in [&mut asks, &mut feeds, &mut lines] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut ping = std::pin::pin!(parts.journal.ping());
    let mut asking = false;
    let mut line = Line::default();
    loop {
        tokio::select! {
            // First of all: life, then words.
            biased;
            answer = &mut ping, if asking => {
                asking = false;
                // A full disk is an answer, too: only a writer that says nothing is dead.
                if matches!(answer, Err(journal::Error::Closed)) {
                    return;
                }
                writer.idle("it has answered");
            }
            _ = asks.tick(), if !asking => {
                ping.set(parts.journal.ping());
                asking = true;
                writer.within("it is asked whether it lives", patience);
            }
            _ = feeds.tick() => {
                if watchdog.is_some() {
                    feed(parts);
                }
            }
            _ = lines.tick() => line.tell(parts).await,
        }
    }
}

fn feed(parts: &Parts) {
    let stuck = parts.gateway.stuck();
    if stuck.is_empty() {
        service::alive();
    } else {
        tracing::error!(reason = stuck.join(", "), "parts of the gateway are stuck; the watchdog is not fed");
    }
}

/// What `systemctl status` shows.
#[derive(Default)]
struct Line {
    said: String,
    /// What the journal said last of what waits, and when it is asked again.
    counted: Option<Stats>,
    due: Option<Instant>,
}

impl Line {
    /// Says how it is, if that is something else than what was said.
    async fn tell(&mut self, parts: &Parts) {
        let config = parts.gateway.running.get();
        let line = if config.terminals.is_empty() {
            // A fresh install runs and waits for its configuration.
            let file = config.file.display();
            format!("no terminal is configured: edit {file}, run `portero check`, reload")
        } else {
            let now = Instant::now();
            if self.due.is_none_or(|due| due <= now) {
                // Of a journal that takes its time the last word is shown on.
                if let Ok(Ok(stats)) = timeout(COUNT_WITHIN, parts.journal.stats_at_leisure()).await {
                    self.counted = Some(stats);
                }
                self.due = Some(Instant::now() + COUNT_EVERY.max(now.elapsed() * COUNT_REST));
            }
            parts.gateway.line(self.counted.as_ref())
        };
        if line != self.said {
            service::line(&line);
            self.said = line;
        }
    }
}
