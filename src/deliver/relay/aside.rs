//! What a relay does beside the new events: released ones, corrections, and the events that the sink's filter leaves out.
//!
//! Must not: settle an event that was neither sent nor left out by a declared filter.

use super::{Ended, Lane, Relay};
use crate::deliver::{Mapped, Sink};
use crate::journal::{Record, Seq, Settlement, When};

impl<S: Sink> Relay<S> {
    /// Released events first, then corrections, until there are none.
    pub(super) async fn drain_aside(&mut self) -> Result<(), Ended> {
        let (rows, _) = self.sink.limits();
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
            self.deliver(held, Lane::Held, None).await?;
        }
        loop {
            let mut corrections =
                self.stored("read", |journal| async move { journal.corrections(id, rows).await }).await?;
            if corrections.is_empty() {
                return Ok(());
            }
            // An event that a filter left out was never sent: there is nothing to correct.
            let filtered = self.sift(&mut corrections);
            self.forget_corrections(filtered).await?;
            let Some(first) = corrections.first() else { continue };
            match self.sink.map(std::slice::from_ref(first), true) {
                Mapped::NotApplicable => {
                    tracing::debug!(count = corrections.len(), "the sink takes no corrections");
                    self.forget_corrections(corrections.iter().map(|c| c.seq).collect()).await?;
                }
                Mapped::ByEvent => self.deliver(corrections, Lane::Corrections, None).await?,
                // A sink with idempotency keys gets them one by one: the key is then the correction's own id and the
                // same again after a crash, without a row for it. Corrections are rare.
                Mapped::Flight { .. } | Mapped::Unmappable { .. } => {
                    for correction in corrections {
                        self.deliver(vec![correction], Lane::Corrections, None).await?;
                    }
                }
            }
        }
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
