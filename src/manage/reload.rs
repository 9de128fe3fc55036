//! What came of another configuration, for people and for programs.
//!
//! Must not: apply anything.

use serde::Serialize;

use super::file::Read;

/// What a change of the configuration does to the running gateway. Where it is refused only `problems` is filled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Why it is refused: what was running runs on.
    pub problems: Vec<String>,
    /// Parts that are new, for example `sink 'hr'`.
    pub started: Vec<String>,
    /// Parts that were ended and started again, because they or their secrets changed.
    pub restarted: Vec<String>,
    /// Parts that are gone.
    pub stopped: Vec<String>,
    /// Tables in which something changed that is taken at a start only.
    pub needs_restart: Vec<String>,
}

impl Report {
    /// Whether everything is as it was.
    pub const fn is_nothing(&self) -> bool {
        self.problems.is_empty()
            && self.started.is_empty()
            && self.restarted.is_empty()
            && self.stopped.is_empty()
            && self.needs_restart.is_empty()
    }

    /// `refused`, `unchanged` or `applied`.
    pub const fn outcome(&self) -> &'static str {
        match self {
            _ if !self.problems.is_empty() => "refused",
            _ if self.is_nothing() => "unchanged",
            _ => "applied",
        }
    }

    /// What this says of the file.
    pub fn read(&self) -> Read {
        match self {
            _ if !self.problems.is_empty() => Read::Refused(self.problems.clone()),
            _ if !self.needs_restart.is_empty() => Read::Differs(self.needs_restart.clone()),
            _ => Read::Running,
        }
    }
}

/// A person wants what came from afar taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBack {
    /// Who.
    pub who: String,
    /// Why, for the history.
    pub why: String,
    /// Sinks that may go although events wait for them.
    pub abandon: Vec<String>,
}

/// Who can have the configuration file read again.
pub trait Reports: Clone + Send + Sync + 'static {
    /// Reads it, runs what it says, and tells what came of it; `None`: the gateway is about to stop.
    fn reload(&self) -> impl Future<Output = Option<Report>> + Send;

    /// Takes back what came from afar, for a person, with a reason; `None`: the gateway is about to stop.
    fn roll_back(&self, wish: RollBack) -> impl Future<Output = Option<Report>> + Send;
}
