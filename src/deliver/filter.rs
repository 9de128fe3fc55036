//! A sink's declared filter: `kinds`, `terminals`, `outcome`.
//!
//! Must not: lose an event. What a filter leaves out is settled as filtered, in the same ledger as everything else (I4).

use super::{Batch, Mapped, Outcome, Sink};
use crate::event;
use crate::journal::Record;

/// Which events a sink takes. An empty list takes everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Kinds of event.
    pub kinds: Vec<event::Kind>,
    /// Configured names of terminals.
    pub terminals: Vec<String>,
    /// What the terminal decided; an event without a decision counts as `none`.
    pub outcomes: Vec<event::Outcome>,
}

impl Filter {
    /// Whether an event passes.
    pub fn takes(&self, event: &event::Event) -> bool {
        let reading = &event.reading;
        let kind = reading.kind.unwrap_or(event::Kind::Unknown);
        let outcome = reading.outcome.unwrap_or(event::Outcome::None);
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.outcomes.is_empty() || self.outcomes.contains(&outcome))
            && (self.terminals.is_empty() || self.terminals.contains(&event.source.terminal_id))
    }
}

/// A sink behind its filter.
pub struct Filtered<S> {
    sink: S,
    filter: Filter,
}

impl<S> Filtered<S> {
    /// Puts a filter before a sink.
    pub const fn new(sink: S, filter: Filter) -> Self {
        Self { sink, filter }
    }
}

impl<S: Sink> Sink for Filtered<S> {
    fn name(&self) -> &str {
        self.sink.name()
    }

    fn limits(&self) -> (usize, usize) {
        self.sink.limits()
    }

    fn map(&self, records: &[Record], corrections: bool) -> Mapped {
        self.sink.map(records, corrections)
    }

    fn fit(&self, records: &[Record], corrections: bool) -> usize {
        self.sink.fit(records, corrections)
    }

    fn takes(&self, record: &Record) -> bool {
        self.filter.takes(&record.event) && self.sink.takes(record)
    }

    fn send(&mut self, batch: &Batch<'_>) -> impl Future<Output = Outcome> + Send {
        self.sink.send(batch)
    }
}
