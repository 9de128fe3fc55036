//! Takes bundles for a running gateway: considers, stages, keeps, gives back. Between these the gateway applies and watches.
//!
//! Must not: apply anything, wait for anything but the disk, or act before what it decided is on the disk.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::bundle::{self, Judge, Judged, Signed};
use super::floor::Time;
use super::life::{self, Change, Consumption, Health, Verdict};
use super::state::{Base, State, Stored};
use super::store::Store;
use super::{Error, start};
use crate::clock::Now;
use crate::event::{UtcMicros, json::rfc3339};
use crate::manage::config::{Config, Header, Loaded, Options, Problems, load_layered_text, text_of};

/// A bundle that can be applied.
pub struct Considered {
    /// What it would make of the gateway.
    pub loaded: Loaded,
    judged: Judged,
    stored: Stored,
    who: String,
}

impl Considered {
    /// Its revision.
    pub const fn revision(&self) -> u64 {
        self.stored.revision
    }

    /// What it says of itself.
    pub const fn header(&self) -> &Header {
        &self.judged.header
    }

    /// Sinks that it gives up.
    pub fn abandon(&self) -> &[String] {
        &self.judged.header.abandon
    }
}

/// What a reload has read.
pub struct Reread {
    /// What to run on.
    pub loaded: Loaded,
    /// The local file's text.
    pub text: String,
    /// What lies over it.
    pub base: Base,
}

/// The one who takes them.
pub struct Agent {
    store: Store,
    state: State,
    file: PathBuf,
    local: String,
    options: Options,
    /// What really runs, which is not `state.current` where that could not be used at the start.
    runs: Base,
}

impl Agent {
    /// For a gateway that runs on `local` with `runs` over it.
    pub fn new(store: Store, state: State, file: &Path, local: String, options: Options, runs: Base) -> Self {
        Self { store, state, file: file.to_owned(), local, options, runs }
    }

    /// What is remembered.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Verify, parse, resolve. Nothing is written and nothing changes; whether it can be built is for the gateway to say.
    pub fn consider(&self, signed: &Signed, running: &Config, now: Now) -> Result<Considered, Error> {
        let remote = running.manage.remote.as_ref();
        let remote = remote.ok_or_else(|| Error::Fetch("the local file has no [manage.remote]".to_owned()))?;
        let trust = self.state.trust(remote)?;
        let time = Time::new(now, self.store.clock(), UtcMicros(self.state.newest));
        let judge = Judge {
            gateway: &running.identity.gateway_id,
            group: running.group.as_deref(),
            trust: &trust,
            consumed: self.state.consumed,
            time,
        };
        let judged = judge.judge(signed)?;
        let loaded = load_layered_text(&self.file, &self.local, &self.options, Some(&judged.layer));
        let loaded = loaded.map_err(|problems| bundle::refused(&problems))?;
        let signer = trust.key(judged.slot);
        Ok(Considered {
            loaded,
            stored: Stored {
                revision: judged.header.revision,
                signer: signer.text().to_owned(),
                expires: judged.header.expires.0,
            },
            who: format!("{} {}", judged.slot.word(), signer.id()),
            judged,
        })
    }

    /// Consumes it: on the disk, with the way back, before anything is applied. After this it is never accepted again.
    /// `change`: what it changes; `None`: it says what runs already.
    pub fn stage(
        &mut self,
        signed: &Signed,
        considered: &Considered,
        change: Option<Change>,
        now: UtcMicros,
    ) -> Result<(), Error> {
        let remote = considered.loaded.config.manage.remote.as_ref();
        let remote = remote.ok_or_else(|| Error::Fetch("the local file has no [manage.remote]".to_owned()))?;
        let before = self.state.trust(remote)?;
        self.store.put(considered.stored.revision, signed)?;
        let consumption = Consumption {
            stored: considered.stored.clone(),
            not_before: considered.judged.header.not_before,
            who: considered.who.clone(),
            trust: (&before, &considered.judged.trust),
            config: remote,
            now,
        };
        self.write(life::consume(&self.state, &consumption, change))?;
        self.runs = self.state.current.clone();
        self.store.sweep(&self.state);
        Ok(())
    }

    /// A rightly signed bundle that can't be used: the history says so, once.
    pub fn refused(&mut self, signed: &Signed, error: &Error, running: &Config, now: UtcMicros) {
        // What was not signed by us, or is old, is no news for the disk.
        let Some(trust) = running.manage.remote.as_ref().and_then(|remote| self.state.trust(remote).ok()) else {
            return;
        };
        let Ok((slot, _, header)) = bundle::open(signed, &trust) else { return };
        if matches!(error, Error::Replayed { .. } | Error::NotYet { .. } | Error::Disk { .. }) {
            return;
        }
        let who = format!("{} {}", slot.word(), trust.key(slot).id());
        if let Some(next) = life::refuse(&self.state, header.revision, &who, &error.to_string(), now) {
            // It is in the log already; a history that can't be written costs nothing else.
            let _ = self.write(next);
        }
    }

    /// Judges the probation; `round` counts its times from 1. `None`: there is none.
    pub fn judge(&self, health: impl Fn(&str) -> Health, round: u32) -> Option<Verdict> {
        self.state.probation.as_ref().map(|probation| life::judge(probation, health, round))
    }

    /// It stays.
    pub fn commit(&mut self, words: &str, now: UtcMicros) -> Result<(), Error> {
        self.write(life::commit(&self.state, words, now))?;
        self.store.sweep(&self.state);
        Ok(())
    }

    /// It goes. Answers what to run on, whatever the disk says: what could not be written is decided again at the next start.
    pub fn give_back(&mut self, reason: &str, now: UtcMicros) -> Result<Loaded, Error> {
        let next = life::give_back(&self.state, reason, now);
        let (loaded, runs) = match self.resolve(&next.current) {
            Ok(loaded) => (loaded, next.current.clone()),
            // Then less: the file alone has worked by itself.
            Err(error) => (self.resolve(&Base::Local).map_err(|_| error)?, Base::Local),
        };
        self.runs = runs;
        if let Err(error) = self.write(next.clone()) {
            tracing::error!(%error, "the return of a bundle could not be written down");
            self.state = next;
        }
        self.store.sweep(&self.state);
        Ok(loaded)
    }

    /// A person wants to take back what is in force: what would be remembered, and what to run on. Nothing is written.
    pub fn way_back(&self, who: &str, reason: &str, now: UtcMicros) -> Result<(State, Loaded), Error> {
        let next = life::roll_back(&self.state, who, reason, now)?;
        let loaded = self.resolve(&next.current)?;
        Ok((next, loaded))
    }

    /// It is taken back, as [`Self::way_back`] said.
    pub fn roll_back(&mut self, next: State) -> Result<(), Error> {
        self.write(next)?;
        self.runs = self.state.current.clone();
        self.store.sweep(&self.state);
        Ok(())
    }

    /// The local file as it is now, with the bundle in force over it: for a reload. Where that bundle could not be used at the
    /// start either, with what was used then.
    pub fn reread(&self) -> Result<Reread, Problems> {
        let text = text_of(&self.file)?;
        let over = |base: &Base| start::resolve(&self.file, &text, &self.options, &self.store, base);
        let (loaded, base) = match over(&self.state.current) {
            Ok(loaded) => (loaded, &self.state.current),
            Err(problems) if self.runs == self.state.current => return Err(problems),
            Err(problems) => (over(&self.runs).map_err(|_| problems)?, &self.runs),
        };
        // Whoever takes `[manage.remote]` out of the file is rid of bundles.
        let base = if loaded.config.manage.remote.is_some() { base.clone() } else { Base::Local };
        Ok(Reread { loaded, text, base })
    }

    /// The gateway runs on this local file, and well: it is what a start falls back to.
    pub fn good(&mut self, text: &str) -> Result<(), Error> {
        text.clone_into(&mut self.local);
        self.store.keep_good(text)
    }

    /// The same after it was read again, with the bundle in force over it.
    pub fn reloaded(&mut self, text: &str, base: Base) -> Result<(), Error> {
        self.runs = base;
        self.good(text)
    }

    /// The local file that runs.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Saves what time it is, for a start with a clock that lost its battery.
    pub fn save_clock(&self, now: Now) -> Result<(), Error> {
        if now.synchronised { self.store.save_clock(now.wall) } else { Ok(()) }
    }

    /// When the bundle that runs expires.
    pub const fn expires(&self) -> Option<UtcMicros> {
        match &self.runs {
            Base::Bundle(stored) => Some(UtcMicros(stored.expires)),
            Base::Local => None,
        }
    }

    /// For `status` and the heartbeat.
    pub fn status(&self) -> Value {
        let mut object = json!({ "revision": self.runs.revision(), "consumed": self.state.consumed });
        if let Base::Bundle(stored) = &self.runs {
            object["expires"] = rfc3339(UtcMicros(stored.expires)).as_str().into();
        }
        if let Some(probation) = &self.state.probation {
            object["probation"] = json!({
                "since": rfc3339(UtcMicros(probation.since)).as_str(),
                "back_to": probation.back_to.revision(),
                "changed": probation.changed,
            });
        }
        if let Some(last) = self.state.history.last() {
            object["last"] = entry(last);
        }
        object
    }

    fn resolve(&self, base: &Base) -> Result<Loaded, Error> {
        let resolved = start::resolve(&self.file, &self.local, &self.options, &self.store, base);
        resolved.map_err(|problems| bundle::refused(&problems))
    }

    fn write(&mut self, mut next: State) -> Result<(), Error> {
        if next == self.state {
            return Ok(());
        }
        self.store.save(&mut next)?;
        self.state = next;
        Ok(())
    }
}

/// A line of the history as JSON.
pub fn entry(entry: &super::state::Entry) -> Value {
    json!({
        "at": rfc3339(UtcMicros(entry.at)).as_str(),
        "revision": entry.revision,
        "what": entry.what.word(),
        "who": entry.who,
        "reason": entry.reason,
        "times": entry.times,
    })
}
