//! From events to what leaves: how many go together, their bytes, and whether those must be on disk first.
//!
//! Must not: send an event that could not be mapped, or let one hold up the others (I9).

use super::{Ended, Lane, Relay};
use crate::deliver::filter::NOT_IN_DIRECTORY;
use crate::deliver::plan::{Round, Span};
use crate::deliver::{Mapped, Sink};
use crate::journal::{Flight, Record};

/// What is to be done with a span.
pub(super) enum Launch {
    /// Send this much of it.
    Send {
        /// What goes out now; the rest of the span waits in the round.
        span: Span,
        /// Key and bytes, for a sink that is idempotent by key.
        flight: Option<Flight>,
    },
    /// Nothing: its first event was set aside, the rest waits in the round.
    SetAside,
}

impl<S: Sink> Relay<S> {
    /// Maps as much of a span as goes into one request and, unless a crash could not change its key or bytes, keeps it on
    /// disk before the first byte leaves. `read` is how many events were read for this round, filtered ones included.
    pub(super) async fn take_off(
        &mut self,
        records: &[Record],
        read: usize,
        lane: Lane,
        mut span: Span,
        round: &mut Round,
    ) -> Result<Launch, Ended> {
        let corrections = lane == Lane::Corrections;
        let mut part = records.get(span.start..span.end).unwrap_or_default();
        let mut fit = self.sink.fit(part, corrections);
        loop {
            fit = fit.clamp(1, part.len().max(1));
            round.defer(&mut span, fit);
            part = part.get(..fit).unwrap_or_default();
            let late = lane == Lane::Late;
            let mapped = if late { self.sink.map_late(part) } else { self.sink.map(part, corrections) };
            match mapped {
                Mapped::ByEvent | Mapped::NotApplicable => return Ok(Launch::Send { span, flight: None }),
                Mapped::Unmappable { index: 0, reason } => {
                    if self.has_failed() && reason != NOT_IN_DIRECTORY {
                        self.stop_mapping().await?;
                    }
                    round.defer(&mut span, 1);
                    let settlements = round.set_aside(span, reason);
                    self.settle(records.get(span.start..span.end).unwrap_or_default(), span.start, lane, settlements)
                        .await?;
                    return Ok(Launch::SetAside);
                }
                // Those before it go out first, in their order.
                Mapped::Unmappable { index, .. } => fit = index.min(part.len().saturating_sub(1)),
                Mapped::Flight { key, body, keep } => {
                    let flight = Flight { key, seqs: part.iter().map(|r| r.seq).collect(), body };
                    let whole = part.len() == read;
                    self.keep(part, lane, whole && !keep, &flight).await?;
                    return Ok(Launch::Send { span, flight: Some(flight) });
                }
            }
        }
    }

    /// Keeps a flight, unless it is a lone event that is found alone again and mapped to the same bytes again: one of a
    /// split batch, one that others were filtered from, one that newer ones may overtake, or a released event may not be.
    async fn keep(&mut self, part: &[Record], lane: Lane, again: bool, flight: &Flight) -> Result<(), Ended> {
        let again = again && !self.flow.is_live_first();
        let alone = part.len() == 1 && again && lane == Lane::New && !self.sink.on_ambiguous().is_careful();
        if lane == Lane::Corrections || (alone && !part.iter().any(|r| r.provisional)) {
            return Ok(());
        }
        let id = self.id;
        self.stored("launch", |journal| {
            let flight = flight.clone();
            async move { journal.launch(id, flight).await }
        })
        .await
    }
}
