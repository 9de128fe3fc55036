//! From a link to the journal and back: one batch is appended while the next one gathers, answers come in order.
//!
//! Must not: confirm anything, or let go of a batch before the journal has taken it or the gateway stops (I1). A refused
//! append is tried again with the same entries, so with the same ids, and every later batch of the link waits behind it.
//!
//! This is the acknowledgement queue of the design in batches: every QoS 1 message enters a batch in order of arrival,
//! also one that is ignored or faulty; batches are answered strictly in order; a batch that is not on disk stops the head.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt as _};

use tokio::time::Instant;

use super::hub::Hub;
use super::ingest::Batch;
use crate::backoff::Backoff;
use crate::progress::{LONGEST_ANSWER, LONGEST_STEP};

/// Appends under way per link or connection: one is being synced, one waits at the writer so that it never idles.
const DEPTH: usize = 2;

/// Most messages that gather in one batch.
const MAX_MESSAGES: usize = 4_096;

/// Most bytes of input that gather in one batch (a single message may be larger).
const MAX_BYTES: usize = 1 << 20;

/// A batch that came back.
pub(crate) struct Flown {
    /// The batch.
    pub(crate) batch: Batch,
    /// It is on disk; otherwise the gateway stops and nothing of it may be confirmed.
    pub(crate) durable: bool,
}

/// The way to the journal.
pub(crate) struct Pipeline {
    hub: Arc<Hub>,
    flying: FuturesOrdered<BoxFuture<'static, Flown>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Since when the journal owes an answer.
    owed: Option<Instant>,
    /// What gathers.
    pub(crate) pending: Batch,
}

impl Pipeline {
    /// An empty one.
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, flying: FuturesOrdered::new(), turn: Arc::default(), owed: None, pending: Batch::default() }
    }

    /// Whether more may gather.
    pub(crate) const fn has_room(&self) -> bool {
        self.pending.messages < MAX_MESSAGES && self.pending.bytes < MAX_BYTES
    }

    /// Sends what has gathered on its way, if the way is free.
    pub(crate) fn submit(&mut self) {
        if self.pending.is_empty() || self.flying.len() >= DEPTH {
            return;
        }
        let batch = std::mem::take(&mut self.pending);
        self.owed.get_or_insert_with(Instant::now);
        self.flying.push_back(Box::pin(fly(Arc::clone(&self.hub), batch, Arc::clone(&self.turn))));
    }

    /// Says what the link waits for, but where the journal neither takes nor refuses what is under way: such a link does not
    /// move, however its wire ticks.
    pub(crate) fn mark(&self, doing: &'static str) {
        let lost = self.owed.is_some_and(|since| since.elapsed() > LONGEST_ANSWER) && !self.hub.is_held();
        if !lost {
            self.hub.context.mark.within(doing, LONGEST_STEP);
        }
    }

    /// Whether nothing gathers and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.flying.is_empty() && self.pending.is_empty()
    }

    /// The next batch that came back, in order; never if none is under way. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Flown {
        match self.landed().await {
            Some(flown) => flown,
            None => std::future::pending().await,
        }
    }

    /// The next batch that came back; `None` if none is under way.
    async fn landed(&mut self) -> Option<Flown> {
        let flown = self.flying.next().await;
        self.owed = (!self.flying.is_empty()).then(Instant::now);
        flown
    }

    /// Waits for everything, for the end of a connection.
    pub(crate) async fn drain(&mut self, mut each: impl FnMut(Flown)) {
        loop {
            self.submit();
            let Some(flown) = self.landed().await else { return };
            each(flown);
        }
    }
}

async fn fly(hub: Arc<Hub>, mut batch: Batch, turn: Arc<tokio::sync::Mutex<()>>) -> Flown {
    if batch.entries.is_empty() {
        return Flown { batch, durable: true };
    }
    let entries = Arc::new(std::mem::take(&mut batch.entries));
    let journal = &hub.context.journal;
    let mut refused = match journal.append_shared(Arc::clone(&entries)).await {
        Ok(results) => {
            hub.account(&batch, &results);
            return Flown { batch, durable: true };
        }
        Err(error) => error,
    };
    // First come, first served: the batch that was refused first is tried first.
    let _turn = turn.lock().await;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        hub.hold(&refused.to_string());
        tokio::select! {
            () = tokio::time::sleep(backoff.next(None)) => {}
            () = hub.context.shutdown.cancelled() => return Flown { batch, durable: false },
        }
        match journal.append_shared(Arc::clone(&entries)).await {
            Ok(results) => {
                hub.account(&batch, &results);
                return Flown { batch, durable: true };
            }
            Err(error) => refused = error,
        }
    }
}
