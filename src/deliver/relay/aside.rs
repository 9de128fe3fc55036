//! What a relay does beside the new events: released ones, corrections, and the events that the sink's filter leaves out.
//!
//! Must not: settle an event that was neither sent nor left out by a declared filter.

use tokio::time::Instant;

use super::{Ended, Lane, Relay};
use crate::deliver::{Mapped, Sink};
use crate::journal::{Record, Seq, Settlement, When};

/// Corrections that are read at once for a sink that takes many, or none.
const CORRECTIONS: usize = 500;

/// Corrections that go out between two turns of the queue to a sink that gets them one by one.
pub(super) const ONE_BY_ONE: usize = 10;

/// What is left beside the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// Nothing.
    Nothing,
    /// Perhaps more.
    More,
    /// Perhaps more, and none of it before then.
    Later(Instant),
}

impl<S: Sink> Relay<S> {
    /// One request's worth of released events, or else some corrections: the queue has its turn in between, and both keep the
    /// pace of a backlog.
    pub(super) async fn drain_aside(&mut self) -> Result<Aside, Ended> {
        if let Some(at) = self.flow.backlog_opens(Instant::now()) {
            return Ok(Aside::Later(at));
        }
        let rows = self.sink.limits().0.min(self.flow.portion());
        let id = self.id;
        loop {
            let held = self.stored("read", |journal| async move { journal.held(id, rows).await }).await?;
            // The journal has written down everything that we settled before it answered.
            self.cursor.forget_ahead();
            if held.is_empty() {
                if self.heal().await? {
                    continue;
                }
                break;
            }
            self.spend_aside(held.len());
            self.deliver(held, Lane::Held, None).await?;
            return Ok(Aside::More);
        }
        loop {
            let most = rows.min(self.corrections);
            let mut corrections =
                self.stored("read", |journal| async move { journal.corrections(id, most).await }).await?;
            if corrections.is_empty() {
                return Ok(Aside::Nothing);
            }
            // An event that a filter left out was never sent: there is nothing to correct.
            let filtered = self.sift(&mut corrections);
            self.forget_corrections(filtered).await?;
            let Some(first) = corrections.first() else { continue };
            match self.sink.map(std::slice::from_ref(first), true) {
                Mapped::NotApplicable => {
                    tracing::debug!(count = corrections.len(), "the sink takes no corrections");
                    self.corrections = CORRECTIONS;
                    self.forget_corrections(corrections.iter().map(|c| c.seq).collect()).await?;
                }
                Mapped::ByEvent => {
                    self.corrections = CORRECTIONS;
                    self.spend_aside(corrections.len());
                    self.deliver(corrections, Lane::Corrections, None).await?;
                    return Ok(Aside::More);
                }
                // A sink with idempotency keys gets them one by one: the key is then the correction's own id and the
                // same again after a crash, without a row for it. Corrections are rare.
                Mapped::Flight { .. } | Mapped::Unmappable { .. } => {
                    self.spend_aside(corrections.len());
                    for correction in corrections {
                        self.deliver(vec![correction], Lane::Corrections, None).await?;
                    }
                    return Ok(Aside::More);
                }
            }
        }
    }

    /// Takes so many events' worth of a backlog's pace; the queue has the next turn of it.
    fn spend_aside(&mut self, count: usize) {
        self.flow.spend(count, Instant::now());
        self.aside_was_last = true;
    }

    async fn forget_corrections(&mut self, seqs: Vec<Seq>) -> Result<(), Ended> {
        if seqs.is_empty() {
            return Ok(());
        }
        let id = self.id;
        self.stored("settle", |journal| {
            let seqs = seqs.clone();
            async move { journal.settle_corrections(id, seqs).await }
        })
        .await
    }

    /// Takes out what the sink's filter leaves out.
    pub(super) fn sift(&self, records: &mut Vec<Record>) -> Vec<Seq> {
        let mut filtered = Vec::new();
        records.retain(|record| {
            let taken = self.sink.takes(record);
            if !taken {
                filtered.push(record.seq);
            }
            taken
        });
        filtered
    }

    /// The filtered events before `seq` that are still to be settled: they ride on the verdicts of the others, so that the
    /// position moves once and no exception is written for them.
    pub(super) fn filtered_before(&mut self, seq: Seq) -> Vec<(Seq, Settlement)> {
        let count = self.filtered.partition_point(|filtered| *filtered < seq);
        self.filtered.drain(..count).map(|seq| (seq, Settlement::Filtered)).collect()
    }

    /// Settles the filtered events that are left at the end of a round.
    pub(super) async fn settle_filtered(&mut self, lane: Lane) -> Result<(), Ended> {
        if self.filtered.is_empty() {
            return Ok(());
        }
        let verdicts = self.filtered_before(Seq(u64::MAX));
        let (id, when) = (self.id, if lane.is_queue() { When::Lazy } else { When::Now });
        tracing::debug!(count = verdicts.len(), "filtered");
        self.stored("settle", |journal| {
            let verdicts = verdicts.clone();
            async move { journal.settle(id, verdicts, when).await }
        })
        .await
    }
}
