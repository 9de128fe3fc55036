//! What a change of mapping, answer rules or directory means for a relay: what the old ones refused goes out once more, and
//! new ones that fit nothing stop the sink before they have set aside a whole backlog.
//!
//! Must not: release an event twice under one revision, or one whose answer was lost.

use super::{Ended, Lane, Relay};
use crate::deliver::filter::NOT_IN_DIRECTORY;
use crate::deliver::{ANSWER_LOST, Outcome, Sink, UNKNOWN_WORKER, Verdict};
use crate::journal::{Record, Seq, Settlement};

/// So many refusals and not one delivery after a change of mapping or rules: it is the change that is wrong.
const TRIAL: u64 = 20;

/// Released at once, so that a mapping on trial is tried with few.
const STEP: usize = 20;

/// Reasons that say nothing of a mapping.
const NO_FAULT_OF_THE_MAPPING: [&str; 2] = [NOT_IN_DIRECTORY, ANSWER_LOST];

/// What stops a mapping on trial.
const REASON: &str = "the first 20 events under this mapping were all refused; mend [sink.map], [sink.request] or the answer \
                      rules (portero quarantine list says why), then start the gateway again";

impl<S: Sink> Relay<S> {
    /// Tells the journal which mapping the sink has now.
    pub(super) async fn begin(&mut self) -> Result<(), Ended> {
        let revision = self.sink.revision();
        let (id, text) = (self.id, revision.clone().unwrap_or_default());
        let refused = self
            .stored("serve", |journal| {
                let text = text.clone();
                async move { journal.serve(id, text, NO_FAULT_OF_THE_MAPPING).await }
            })
            .await?;
        // Over a restart the trial goes on where it stood.
        self.trial = refused.filter(|_| revision.is_some());
        self.healing = revision.is_some();
        Ok(())
    }

    /// Makes some of what another mapping refused pending again; whether there was any.
    pub(super) async fn heal(&mut self) -> Result<bool, Ended> {
        if !self.may_heal() {
            return Ok(false);
        }
        let id = self.id;
        let count = self.stored("heal", |journal| async move { journal.heal(id, STEP, ANSWER_LOST).await }).await?;
        self.healing = count > 0;
        if count > 0 {
            tracing::info!(count, "events that another mapping refused go out again");
        }
        Ok(count > 0)
    }

    /// Whether there may be something to heal, and a mapping to heal it with.
    pub(super) fn may_heal(&self) -> bool {
        self.healing && !self.has_failed()
    }

    /// Counts what was settled.
    pub(super) async fn weigh<'s>(
        &mut self,
        delivered: u64,
        settlements: impl Iterator<Item = &'s Settlement>,
    ) -> Result<(), Ended> {
        let Some(refused) = self.trial else { return Ok(()) };
        if delivered > 0 {
            self.trial = None;
            let id = self.id;
            return self.stored("prove", |journal| async move { journal.prove(id).await }).await;
        }
        let counts = |s: &&Settlement| match s {
            Settlement::Quarantined { reason, .. } => NO_FAULT_OF_THE_MAPPING.iter().all(|known| reason != known),
            _ => false,
        };
        self.trial = Some(refused + settlements.filter(counts).count() as u64);
        Ok(())
    }

    /// Whether the mapping has refused everything so far, and that often enough.
    pub(super) fn has_failed(&self) -> bool {
        self.trial.is_some_and(|refused| refused >= TRIAL)
    }

    /// Once the trial has failed, a refusal is a reason to stop and no verdict. An answer that refuses many at once sets aside
    /// no more than what the trial still takes; the others stay.
    pub(super) fn on_trial(&self, mut outcome: Outcome) -> Outcome {
        let Some(refused) = self.trial else { return outcome };
        let mut left = TRIAL.saturating_sub(refused);
        let stopped = match &mut outcome {
            Outcome::Refused { .. } => left == 0,
            Outcome::Settled(verdicts) => {
                let rejected = |v: &Verdict| matches!(v, Verdict::Rejected { .. });
                let arrived = |v: &Verdict| matches!(v, Verdict::Delivered | Verdict::Confirmed { .. });
                if verdicts.iter().any(arrived) || !verdicts.iter().any(rejected) {
                    return outcome;
                }
                for verdict in verdicts.iter_mut().filter(|v| rejected(v)) {
                    match left.checked_sub(1) {
                        Some(fewer) => left = fewer,
                        None => *verdict = Verdict::Keep,
                    }
                }
                !verdicts.iter().any(rejected)
            }
            _ => false,
        };
        if stopped { Outcome::Blocked { reason: REASON.to_owned() } } else { outcome }
    }

    /// Whether the sink refused somebody by a name from before the directory learned a better one. Said once of an event: a
    /// terminal may name somebody otherwise than the directory does.
    pub(super) fn is_outdated(&self, record: &Record, settlement: &Settlement, lane: Lane) -> bool {
        let Settlement::Quarantined { reason, .. } = settlement else { return false };
        // What was composed before a stop is filled in here by what is known now.
        let resumed = lane == Lane::Resumed && record.event.reading.person.external_id.is_some();
        record.again.is_none()
            && reason.starts_with(UNKNOWN_WORKER)
            && (resumed || self.directory.has_learned_since(record))
    }

    /// Makes quarantined events pending again.
    pub(super) async fn release(&mut self, seqs: Vec<Seq>) -> Result<(), Ended> {
        if seqs.is_empty() {
            return Ok(());
        }
        let name = self.name.clone();
        self.stored("release", |journal| {
            let (name, seqs) = (name.clone(), seqs.clone());
            async move { journal.release(name, Some(seqs)).await }
        })
        .await
        .map(|_| ())
    }

    /// Nothing more is mapped by a mapping that can map nothing: only a start brings another one.
    pub(super) async fn stop_mapping(&mut self) -> Result<(), Ended> {
        tracing::error!(reason = REASON, "delivery blocked until this is mended");
        self.show("blocked", Some(REASON));
        self.shutdown.cancelled().await;
        Err(Ended::Shutdown)
    }
}
