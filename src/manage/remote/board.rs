//! How configuration from afar is, for `status`, the status page and the heartbeat.
//!
//! Must not: be asked by whoever decides.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::event::{UtcMicros, json::rfc3339};

/// A shared board: the gateway writes, whoever asks reads.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// What the agent says of itself.
    agent: Option<Value>,
    /// What is not as it should be since the start.
    notes: Vec<String>,
    /// When somebody last answered, and what is wrong with what they say.
    heard: Option<UtcMicros>,
    error: Option<String>,
}

/// Most notes that are kept.
const NOTES: usize = 10;

impl Board {
    /// What the agent says of itself.
    pub fn agent(&self, status: Value) {
        self.seen(|seen| seen.agent = Some(status));
    }

    /// What was found at the start.
    pub fn notes(&self, notes: &[String]) {
        self.seen(|seen| seen.notes = notes.iter().take(NOTES).cloned().collect());
    }

    /// Somebody answered, and nothing is wrong with it, or what.
    pub fn heard(&self, at: UtcMicros, error: Option<String>) {
        self.seen(|seen| (seen.heard, seen.error) = (Some(at), error));
    }

    /// Nobody answered, and why.
    pub fn silent(&self, error: String) {
        self.seen(|seen| seen.error = Some(error));
    }

    /// `None`: there is nothing from afar and nothing to say.
    pub fn status(&self) -> Option<Value> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.agent.is_none() && seen.notes.is_empty() && seen.error.is_none() {
            return None;
        }
        let mut object = seen.agent.clone().unwrap_or_else(|| json!({}));
        if !seen.notes.is_empty() {
            object["degraded"] = seen.notes.clone().into();
        }
        if let Some(at) = seen.heard {
            object["heard"] = rfc3339(at).as_str().into();
        }
        if let Some(error) = &seen.error {
            object["error"] = error.as_str().into();
        }
        Some(object)
    }

    fn seen(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
