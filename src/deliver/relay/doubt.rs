//! What a relay does where it can't simply go on: an answer was lost, or the sink is gone.
//!
//! Must not: send anything again to a sink that can't tell whether it has it, before a look-up said that it hasn't or a
//! person said so.

use tokio::time::Instant;

use super::{Ended, Lane, Relay};
use crate::deliver::{ANSWER_LOST, Batch, Cause, OnAmbiguous, Outcome, Presence, Sink, Verdict};
use crate::journal::When;

/// What is known of a batch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing left yet whose answer is unknown.
    Fresh,
    /// It may have arrived.
    Doubtful,
    /// It surely did not arrive, and the journal no longer has it in flight.
    Grounded,
}

impl Trust {
    /// What was in flight at the last stop may have arrived.
    pub(super) const fn at_first(in_flight: bool) -> Self {
        if in_flight { Self::Doubtful } else { Self::Fresh }
    }
}

impl<S: Sink> Relay<S> {
    /// Takes care of a batch that may have arrived already: the outcome, or `None` if it is to be sent (again).
    pub(super) async fn resolve(&mut self, trust: &mut Trust, batch: &Batch<'_>) -> Result<Option<Outcome>, Ended> {
        match (std::mem::replace(trust, Trust::Fresh), self.sink.on_ambiguous()) {
            (Trust::Fresh, _) | (Trust::Doubtful, OnAmbiguous::Resend | OnAmbiguous::ResendExpectDuplicate) => Ok(None),
            (Trust::Grounded, _) => {
                self.turn_opens().await?;
                if let Some(flight) = batch.flight {
                    let id = self.id;
                    self.stored("launch", |journal| {
                        let flight = flight.clone();
                        async move { journal.launch(id, flight).await }
                    })
                    .await?;
                }
                Ok(None)
            }
            (Trust::Doubtful, OnAmbiguous::Hold) => {
                tracing::warn!(count = batch.records.len(), "an answer was lost, a person has to look");
                Ok(Some(held(batch.records.len(), "the gateway stopped before the answer came")))
            }
            (Trust::Doubtful, OnAmbiguous::Lookup) => {
                let mut verdicts = Vec::with_capacity(batch.records.len());
                for item in 0..batch.records.len() {
                    verdicts.push(match self.look_up(batch, item).await? {
                        Presence::Found { remote_id } => Verdict::Confirmed { duplicate: true, remote_id },
                        Presence::Absent => Verdict::Keep,
                        Presence::Unknown(outcome) => {
                            // It is asked again, not sent.
                            *trust = Trust::Doubtful;
                            return Ok(Some(outcome));
                        }
                    });
                }
                let found = verdicts.iter().filter(|v| **v != Verdict::Keep).count();
                tracing::info!(count = found, "an answer was lost, the sink had some of the batch already");
                // The bytes in flight go again if the sink has nothing of them; else what it hasn't makes a new batch.
                Ok((found > 0).then_some(Outcome::Settled(verdicts)))
            }
        }
    }

    /// What an outcome of a try means: a lost answer begins a doubt, a clear one ends it.
    pub(super) async fn suspect(
        &mut self,
        outcome: Outcome,
        trust: &mut Trust,
        lane: Lane,
        count: usize,
    ) -> Result<Outcome, Ended> {
        match (outcome, self.sink.on_ambiguous()) {
            (outcome, _) if lane == Lane::Corrections => Ok(outcome),
            (Outcome::Lost { reason, blocked }, OnAmbiguous::Hold) => {
                if blocked {
                    // Answers that nobody can read: one batch is held at each probe, ever more rarely, and not the whole backlog.
                    if let Some(count) = self.failing.raise(&reason, Instant::now()) {
                        tracing::error!(reason = super::ours(&reason), count, "delivery blocked until this is mended");
                    }
                    self.show("blocked", Some(&reason));
                    let delay = self.probe.next(None);
                    self.pause(delay, None).await?;
                    self.unreadable = Some(reason.clone());
                }
                Ok(held(count, &reason))
            }
            (outcome @ Outcome::Lost { .. }, OnAmbiguous::Lookup) => {
                *trust = Trust::Doubtful;
                Ok(outcome)
            }
            // A stop while we wait for the next try must not look like a lost answer: a person would be bothered.
            (outcome @ (Outcome::Retry { .. } | Outcome::Blocked { .. }), OnAmbiguous::Hold) => {
                let id = self.id;
                self.stored("settle", |journal| async move { journal.settle(id, Vec::new(), When::Now).await }).await?;
                *trust = Trust::Grounded;
                Ok(outcome)
            }
            (outcome, _) => Ok(outcome),
        }
    }

    /// One question; after shutdown it may still take the grace period.
    async fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> Result<Presence, Ended> {
        self.turn().await?;
        let (shutdown, grace) = (self.shutdown.clone(), self.grace);
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            presence = self.sink.look_up(batch, item) => Ok(presence),
            () = late => Err(Ended::Shutdown),
        }
    }

    /// The sink is gone: everything stays, nothing is sent until the gateway starts again.
    pub(super) async fn retire(&mut self, reason: &str) -> Result<(), Ended> {
        tracing::error!(
            reason = super::ours(reason),
            "the sink is gone for good, nothing more is sent to it; remove it from the configuration"
        );
        self.show("gone", Some(reason));
        self.progress.idle("the sink is gone for good");
        self.shutdown.cancelled().await;
        Err(Ended::Shutdown)
    }
}

/// Every event of the batch set aside until a person has looked.
fn held(count: usize, seen: &str) -> Outcome {
    let verdict =
        Verdict::Rejected { cause: Cause::AnswerLost, reason: ANSWER_LOST.to_owned(), answer: seen.to_owned() };
    Outcome::Settled(vec![verdict; count])
}
