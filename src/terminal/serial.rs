//! Serial lines: open, read, notice the unplugging, reopen.
//!
//! Must not: keep a handle on a device that is gone (the kernel would give the device a new number on return), flush
//! (that is `tcdrain`, which blocks a thread), or claim that a reader was heard when it could not be.

mod port;

pub use port::holder;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::hub::Hub;
use super::ingest::{Feed, lock};
use super::pipeline::{Flown, Pipeline};
use super::quiet::Quiet;
use super::{Config, Context, LinkState, SerialConfig};
use crate::backoff::Backoff;
use crate::clock::Now;
use crate::decode::Destination;
use crate::event::BootTime;
use crate::journal::Entry;
use crate::progress::{LONGEST_ANSWER, LONGEST_STEP};

/// As much as the kernel's own buffer holds (`N_TTY_BUF_SIZE`), bytes.
const READ_BYTES: usize = 4096;

/// A line silent for so long hears a tick: half of the 500 ms that end a presence.
const IDLE: Duration = Duration::from_millis(250);

/// Reopening starts here …
const REOPEN_BASE: Duration = Duration::from_millis(200);

/// … and is tried at least so often.
const REOPEN_CAP: Duration = Duration::from_secs(5);

/// How long an answer to the terminal may take; longer means that flow control has stopped the line.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads one serial line until the gateway stops.
pub async fn run(context: Context, config: Config, serial: SerialConfig) {
    let name = config.name.clone();
    let reader = config.decoder.protocol().is_reader();
    let Some(hub) = Hub::open(context, name, false, vec![config]).await else { return };
    if hub.terminals.is_empty() {
        return;
    }
    let mut line = Line::new(&hub, serial);
    if reader {
        line.seed().await;
    }
    tokio::select! {
        () = hub.keep_house() => {}
        () = line.keep_open() => {}
    }
    hub.close().await;
}

struct Line<'h> {
    hub: &'h Arc<Hub>,
    serial: SerialConfig,
    feed: Feed,
    pipeline: Pipeline,
    quiet: Quiet,
    blind: Option<(Now, String)>,
}

impl<'h> Line<'h> {
    fn new(hub: &'h Arc<Hub>, serial: SerialConfig) -> Self {
        let heard = lock(&hub.devices).last_heard(0);
        // Its boot may have been another one: only the wall clock counts, and it may have been wrong.
        let from = heard.map(|wall| Now { wall, boot: BootTime(0), synchronised: false });
        let blind = from.map(|from| (from, "the gateway was not running for a part of this interval".to_owned()));
        let (feed, pipeline) = (Feed::new(Arc::clone(hub)), Pipeline::new(Arc::clone(hub)));
        Self { hub, serial, feed, pipeline, quiet: Quiet::default(), blind }
    }

    /// A card that was held to the reader through a restart stays one event.
    async fn seed(&mut self) {
        if let Ok(Some((credential, at))) = self.hub.context.journal.last_presence(self.hub.terminals[0].source).await {
            self.feed.seed(&credential, at);
        }
    }

    async fn keep_open(&mut self) {
        let mut backoff = Backoff::new(REOPEN_BASE, REOPEN_CAP);
        while !self.hub.context.shutdown.is_cancelled() {
            self.hub.context.mark.within("opening the line", LONGEST_STEP);
            let reason = match port::open(&self.serial) {
                Ok(port) => {
                    self.opened();
                    // The handle is dropped before anything else happens.
                    let (reason, heard) = self.read(port).await;
                    if heard {
                        backoff.reset();
                    }
                    self.feed.interrupted(self.hub.context.clock.now(), &mut self.pipeline.pending);
                    reason
                }
                Err(error) => Some(error.to_string()),
            };
            let Some(reason) = reason else { break };
            self.lost(reason);
            self.wait(backoff.next(None)).await;
        }
        self.hub.context.mark.within("handing over what was read", LONGEST_ANSWER);
        let feed = &mut self.feed;
        self.pipeline.drain(|flown| confirm(feed, &flown)).await;
    }

    fn opened(&mut self) {
        if let Some(count) = self.quiet.recovered() {
            tracing::info!(terminal = self.hub.name, count, "serial line is open again");
        } else {
            tracing::info!(terminal = self.hub.name, "serial line is open");
        }
        if let Some((from, reason)) = self.blind.take() {
            let (source, until) = (self.hub.terminals[0].source, self.hub.context.clock.now());
            self.pipeline.pending.entries.push(Entry::Blind { source, from, until, reason });
            self.pipeline.pending.marks.push((None, None));
            self.pipeline.pending.heard = until.wall;
        }
        self.hub.set_state(LinkState::Up);
    }

    fn lost(&mut self, reason: String) {
        let now = self.hub.context.clock.now();
        if self.quiet.failed(now.boot, &reason) {
            tracing::warn!(terminal = self.hub.name, reason, "serial line is not available");
        }
        self.blind.get_or_insert_with(|| (now, reason.clone()));
        self.hub.set_state(LinkState::Down(reason));
    }

    /// Waits, without forgetting what is on its way to the journal.
    async fn wait(&mut self, delay: Duration) {
        let until = tokio::time::Instant::now() + delay;
        self.hub.context.mark.within("waiting before the line is tried again", delay + LONGEST_STEP);
        loop {
            self.pipeline.submit();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.hub.context.shutdown.cancelled() => return,
                flown = self.pipeline.next() => confirm(&mut self.feed, &flown),
            }
            // The line that these were for is gone; the terminal asks again.
            self.feed.outgoing.clear();
        }
    }

    /// Reads until the line breaks (with the reason) or the gateway stops (without), and says whether it heard anything.
    async fn read(&mut self, mut port: tokio_serial::SerialStream) -> (Option<String>, bool) {
        let mut buffer = vec![0; READ_BYTES];
        let mut heard = false;
        loop {
            // It ticks, also while nothing is heard.
            self.pipeline.mark("waiting for the wire");
            self.pipeline.submit();
            tokio::select! {
                read = port.read(&mut buffer), if self.pipeline.has_room() => match read {
                    Ok(0) => return (Some("device was unplugged (end of file)".to_owned()), heard),
                    Ok(count) => {
                        heard = true;
                        tracing::trace!(terminal = self.hub.name, bytes = count, "read");
                        self.feed.bytes(self.hub.context.clock.now(), &buffer[..count], &mut self.pipeline.pending);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return (Some(port::broken(&error)), heard),
                },
                flown = self.pipeline.next() => confirm(&mut self.feed, &flown),
                () = tokio::time::sleep(IDLE) => {
                    self.feed.tick(self.hub.context.clock.now(), &mut self.pipeline.pending);
                }
                () = self.hub.context.shutdown.cancelled() => return (None, heard),
            }
            for outgoing in std::mem::take(&mut self.feed.outgoing) {
                if outgoing.to != Destination::Stream {
                    continue;
                }
                match tokio::time::timeout(WRITE_TIMEOUT, port.write_all(&outgoing.bytes)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return (Some(port::broken(&error)), heard),
                    Err(_) => tracing::warn!(terminal = self.hub.name, "an answer was not taken by the line"),
                }
            }
        }
    }
}

fn confirm(feed: &mut Feed, flown: &Flown) {
    if flown.durable {
        feed.committed(&flown.batch.receipts);
    }
}
