//! How configuration from afar is, for `status`, the status page and the heartbeat.
//!
//! Must not: be asked by whoever decides.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::clock::Now;
use crate::event::{UtcMicros, json::rfc3339};

/// A shared board: the gateway writes, whoever asks reads.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// What the agent says of itself.
    agent: Option<Value>,
    /// When what runs expires.
    expires: Option<UtcMicros>,
    /// Tables of it that are taken at the next start only.
    waiting: Vec<String>,
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
    pub fn agent(&self, status: Value, expires: Option<UtcMicros>) {
        self.seen(|seen| (seen.agent, seen.expires) = (Some(status), expires));
    }

    /// What to say of the bundle that runs once it has expired, by a clock that is right. It goes on running: an expiry keeps
    /// an old bundle from being taken, not a gateway from working.
    pub fn expired(&self, now: Now) -> Option<String> {
        let at = self.0.lock().unwrap_or_else(PoisonError::into_inner).expires?;
        (now.synchronised && at.0 <= now.wall.0).then(|| {
            let until = rfc3339(at);
            format!(
                "the bundle that runs was good until {}; it goes on running: sign and publish one with a higher revision and a \
                 later expires",
                until.as_str()
            )
        })
    }

    /// Tables of what is in force that are taken at the next start only.
    pub fn waits(&self, tables: &[String]) {
        self.seen(|seen| seen.waiting = tables.to_vec());
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
    pub fn status(&self, now: Now) -> Option<Value> {
        let expired = self.expired(now);
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.agent.is_none() && seen.notes.is_empty() && seen.error.is_none() {
            return None;
        }
        let mut object = seen.agent.clone().unwrap_or_else(|| json!({}));
        if !seen.notes.is_empty() {
            object["degraded"] = seen.notes.clone().into();
        }
        if !seen.waiting.is_empty() {
            object["needs_restart"] = seen.waiting.clone().into();
        }
        if let Some(words) = expired {
            object["expired"] = true.into();
            object["say"] = words.into();
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
