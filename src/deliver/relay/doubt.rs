//! What a relay does where it can't simply go on: an answer was lost, or the sink is gone.
//!
//! Must not: send anything again to a sink that can't tell whether it has it, before a look-up said that it hasn't or a
//! person said so.

use super::{Ended, Lane, Relay};
use crate::deliver::{ANSWER_LOST, Batch, Cause, OnAmbiguous, Outcome, Presence, Sink, Verdict};

impl<S: Sink> Relay<S> {
    /// Takes care of a batch that may have arrived already: the outcome, or `None` if it is to be sent (again).
    pub(super) async fn resolve(&mut self, doubtful: &mut bool, batch: &Batch<'_>) -> Result<Option<Outcome>, Ended> {
        if !*doubtful {
            return Ok(None);
        }
        match self.sink.on_ambiguous() {
            OnAmbiguous::Resend | OnAmbiguous::ResendExpectDuplicate => {
                *doubtful = false;
                Ok(None)
            }
            OnAmbiguous::Hold => {
                tracing::warn!(count = batch.records.len(), "an answer was lost, a person has to look");
                Ok(Some(held(batch.records.len(), "the gateway stopped before the answer came")))
            }
            OnAmbiguous::Lookup => {
                let mut verdicts = Vec::with_capacity(batch.records.len());
                for item in 0..batch.records.len() {
                    verdicts.push(match self.look_up(batch, item).await? {
                        Presence::Found { remote_id } => Verdict::Confirmed { duplicate: true, remote_id },
                        Presence::Absent => Verdict::Keep,
                        // Still in doubt: it is asked again, not sent.
                        Presence::Unknown(outcome) => return Ok(Some(outcome)),
                    });
                }
                *doubtful = false;
                let found = verdicts.iter().filter(|v| **v != Verdict::Keep).count();
                tracing::info!(count = found, "an answer was lost, the sink had some of the batch already");
                // The bytes in flight go again if the sink has nothing of them; else what it hasn't makes a new batch.
                Ok((found > 0).then_some(Outcome::Settled(verdicts)))
            }
        }
    }

    /// What an outcome means for the doubt: a lost answer begins one.
    pub(super) fn suspect(&self, outcome: Outcome, doubtful: &mut bool, lane: Lane, count: usize) -> Outcome {
        match (outcome, self.sink.on_ambiguous()) {
            (Outcome::Lost { reason, .. }, OnAmbiguous::Hold) if lane != Lane::Corrections => held(count, &reason),
            (outcome @ Outcome::Lost { .. }, OnAmbiguous::Lookup) if lane != Lane::Corrections => {
                *doubtful = true;
                outcome
            }
            (outcome, _) => outcome,
        }
    }

    /// One question; after shutdown it may still take the grace period.
    async fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> Result<Presence, Ended> {
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
            reason,
            "the sink is gone for good, nothing more is sent to it; remove it from the configuration"
        );
        self.show("gone", Some(reason));
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
