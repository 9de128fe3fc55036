//! What a sink declares about events, whatever kind of sink it is: `kinds`, `terminals`, `outcome`, `unknown_person`.
//!
//! Must not: lose an event. What a filter leaves out is settled as filtered, whose person is unknown is quarantined, both in
//! the same ledger as everything else (I4).

use super::gate::Gate;
use super::{Batch, Mapped, OnAmbiguous, Outcome, Presence, Sink, UnknownPerson};
use crate::event;
use crate::journal::Record;

/// Why an event waits whose person the directory does not know; begins with [`UNKNOWN_WORKER`](super::UNKNOWN_WORKER).
pub const NOT_IN_DIRECTORY: &str = "unknown worker: not in the worker directory";

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
    unknown_person: UnknownPerson,
    directory: bool,
}

impl<S> Filtered<S> {
    /// Puts a filter before a sink. `directory`: a worker directory fills in people, so that an event may be mapped to other
    /// bytes from one start to the next.
    pub const fn new(sink: S, filter: Filter, unknown_person: UnknownPerson, directory: bool) -> Self {
        Self { sink, filter, unknown_person, directory }
    }
}

impl<S> Filtered<S> {
    /// An event in whose place somebody has to look first.
    fn unknown(&self, records: &[Record]) -> Option<Mapped> {
        if self.unknown_person != UnknownPerson::Quarantine {
            return None;
        }
        let index = records.iter().position(is_unknown)?;
        Some(Mapped::Unmappable { index, reason: NOT_IN_DIRECTORY.to_owned() })
    }

    fn kept(&self, mapped: Mapped) -> Mapped {
        match mapped {
            Mapped::Flight { key, body, keep } => Mapped::Flight { key, body, keep: keep || self.directory },
            other => other,
        }
    }
}

/// Whether a person is meant whom the platform has no name for.
fn is_unknown(record: &Record) -> bool {
    let reading = &record.event.reading;
    let meant = reading.person.terminal_person_id.is_some() || reading.credential.card_number.is_some();
    meant && reading.person.external_id.is_none()
}

impl<S: Sink> Sink for Filtered<S> {
    fn name(&self) -> &str {
        self.sink.name()
    }

    fn limits(&self) -> (usize, usize) {
        self.sink.limits()
    }

    fn patience(&self) -> std::time::Duration {
        self.sink.patience()
    }

    fn map(&self, records: &[Record], corrections: bool) -> Mapped {
        self.unknown(records).unwrap_or_else(|| self.kept(self.sink.map(records, corrections)))
    }

    fn map_late(&self, records: &[Record]) -> Mapped {
        self.unknown(records).unwrap_or_else(|| self.kept(self.sink.map_late(records)))
    }

    fn gate(&mut self, gate: Gate) {
        self.sink.gate(gate);
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

    fn revision(&self) -> Option<String> {
        self.sink.revision()
    }

    fn on_ambiguous(&self) -> OnAmbiguous {
        self.sink.on_ambiguous()
    }

    fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> impl Future<Output = Presence> + Send {
        self.sink.look_up(batch, item)
    }
}
