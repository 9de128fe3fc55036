//! What a gateway remembers of its bundles, and how that is written down.
//!
//! Must not: do I/O, or grow without bound.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::signature::{Key, Trust};
use crate::manage::config::RemoteConfig;

/// Most entries of the history.
pub const HISTORY: usize = 50;

/// Longest reason that is kept, characters.
const REASON: usize = 500;

/// The first words of the file.
const MAGIC: &str = "portero-config-state 1";

/// A configuration that can be in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The local file alone.
    #[default]
    Local,
    /// The local file with a bundle over it.
    Bundle(Stored),
}

impl Base {
    /// The revision of its bundle.
    pub const fn revision(&self) -> Option<u64> {
        match self {
            Self::Local => None,
            Self::Bundle(stored) => Some(stored.revision),
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        self.revision().map_or_else(|| "the local file alone".to_owned(), |revision| format!("bundle {revision}"))
    }
}

/// A bundle on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its revision, by which its files are named.
    pub revision: u64,
    /// The public key that signed it: the keys that are believed now may be others.
    pub signer: String,
    /// When it expires, UTC microseconds. One that is in force stays so; this is for a warning.
    pub expires: i64,
}

/// A key that a bundle has put into a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The key.
    pub key: String,
    /// What the local file said then. A local file that says something else since wins: whoever stands before the box
    /// decides.
    pub over: String,
}

/// A configuration is being tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// When it began, UTC microseconds by this machine's clock.
    pub since: i64,
    /// Starts of the gateway since then.
    pub starts: u32,
    /// Where to go if it fails.
    pub back_to: Base,
    /// What `rollback` would have gone to then.
    pub before: Option<Base>,
    /// Parts that are another than before.
    pub changed: Vec<String>,
    /// Those of them that were well.
    pub healthy: Vec<String>,
}

/// What became of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Applied, and on probation.
    Accepted,
    /// Kept.
    Committed,
    /// Taken back by the gateway.
    Returned,
    /// It says what runs already.
    Unchanged,
    /// Refused, although rightly signed.
    Refused,
    /// Taken back by a person.
    RolledBack,
    /// What was remembered could not be read.
    Recovered,
}

impl What {
    /// The word in `history --json`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Committed => "committed",
            Self::Returned => "returned",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Recovered => "recovered",
        }
    }
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, UTC microseconds by this machine's clock.
    pub at: i64,
    /// The bundle.
    pub revision: Option<u64>,
    /// What became of it.
    pub what: What,
    /// Who wanted it: a key, or a person.
    pub who: String,
    /// Why.
    pub reason: String,
    /// How often in a row.
    pub times: u32,
}

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Rises with every write.
    pub serial: u64,
    /// The highest revision that was consumed; 0: none.
    pub consumed: u64,
    /// `not_before` of the newest accepted bundle, UTC microseconds: it can't be earlier.
    pub newest: i64,
    /// The active key, where a bundle changed it.
    pub active: Option<Rotated>,
    /// The recovery key, where a bundle changed it.
    pub recovery: Option<Rotated>,
    /// What is in force.
    pub current: Base,
    /// Where `rollback` goes.
    pub previous: Option<Base>,
    /// Set while `current` is being tried.
    pub probation: Option<Probation>,
    /// What happened, the newest last.
    pub history: Vec<Entry>,
}

impl State {
    /// Whom we believe: what the local file says, or what a bundle made of it.
    pub fn trust(&self, config: &RemoteConfig) -> Result<Trust, super::Error> {
        let slot = |rotated: &Option<Rotated>, local: Option<&str>| match rotated {
            Some(rotated) if rotated.over == local.unwrap_or("") => Some(rotated.key.clone()),
            _ => local.map(str::to_owned),
        };
        let active = slot(&self.active, Some(&config.active_key)).unwrap_or_default();
        let recovery = slot(&self.recovery, config.recovery_key.as_deref());
        Ok(Trust { active: Key::parse(&active)?, recovery: recovery.as_deref().map(Key::parse).transpose()? })
    }

    /// Remembers the keys that a bundle has left.
    pub fn believe(&mut self, now: &Trust, before: &Trust, config: &RemoteConfig) {
        let over = |local: Option<&str>| local.unwrap_or("").to_owned();
        if now.active != before.active {
            self.active = Some(Rotated { key: now.active.text().to_owned(), over: over(Some(&config.active_key)) });
        }
        if let (true, Some(key)) = (now.recovery != before.recovery, &now.recovery) {
            self.recovery = Some(Rotated { key: key.text().to_owned(), over: over(config.recovery_key.as_deref()) });
        }
    }

    /// Adds a line to the history. The same once more is counted, not written again.
    pub fn note(&mut self, mut entry: Entry) {
        entry.reason = entry.reason.chars().take(REASON).collect();
        if let Some(last) = self.history.last_mut() {
            let news = entry.what != What::Unchanged && entry.revision != last.revision;
            if last.what == entry.what && last.reason == entry.reason && last.who == entry.who && !news {
                entry.times = last.times.saturating_add(1);
                *last = entry;
                return;
            }
        }
        self.history.push(entry);
        let over = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..over);
    }

    /// The bundles that are still needed.
    pub fn needed(&self) -> Vec<&Stored> {
        let probation = self.probation.iter().flat_map(|p| std::iter::once(&p.back_to).chain(&p.before));
        let bases = std::iter::once(&self.current).chain(&self.previous).chain(probation);
        bases.filter_map(|base| if let Base::Bundle(stored) = base { Some(stored) } else { None }).collect()
    }

    /// The text of the file.
    pub fn written(&self) -> String {
        // Plain data: numbers, texts and lists of them.
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{MAGIC} {}\n{json}\n", digest(json.as_bytes()))
    }

    /// Reads the text of the file; the error says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let (first, json) = text.split_once('\n').ok_or("it is empty or cut")?;
        let digest_of = first.strip_prefix(MAGIC).ok_or("it was written by somebody else, or by a later version")?;
        let json = json.strip_suffix('\n').ok_or("it is cut")?;
        if digest_of.trim() != digest(json.as_bytes()) {
            return Err("it was changed or damaged");
        }
        serde_json::from_str(json).map_err(|_| "it was written by a later version")
    }
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What, revision: u64) -> Entry {
        Entry { at: 1, revision: Some(revision), what, who: "k".to_owned(), reason: String::new(), times: 1 }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let mut state = State {
            consumed: 7,
            current: Base::Bundle(Stored { revision: 7, signer: "k".to_owned(), expires: 9 }),
            ..State::default()
        };
        state.note(entry(What::Accepted, 7));
        let text = state.written();
        assert_eq!(State::read(&text), Ok(state));
        for cut in 0..text.len() {
            assert!(State::read(&text[..cut]).is_err(), "cut at {cut}");
        }
        assert!(State::read(&text.replace("\"consumed\": 7", "\"consumed\": 6")).is_err());
        assert!(State::read("{}").is_err());
    }

    #[test]
    fn the_history_is_bounded_and_counts_what_repeats() {
        let mut state = State::default();
        for revision in 1..=1000 {
            state.note(entry(What::Unchanged, revision));
        }
        assert_eq!((state.history.len(), state.history[0].times, state.history[0].revision), (1, 1000, Some(1000)));
        for revision in 1..=1000 {
            state.note(entry(What::Committed, revision));
        }
        assert_eq!(state.history.len(), HISTORY);
        let long = Entry { reason: "x".repeat(10_000), ..entry(What::Refused, 1) };
        state.note(long);
        assert!(state.written().len() < 64 * 1024);
    }

    #[test]
    fn a_rotated_key_holds_until_the_local_file_says_something_new() {
        let keys: Vec<String> = (0..3)
            .map(|_| {
                let pair = crate::manage::remote::sign::keygen(&crate::manage::remote::sign::Password::None).unwrap();
                Key::parse(&pair.public).unwrap().text().to_owned()
            })
            .collect();
        let mut config = RemoteConfig {
            url: None,
            ca_file: None,
            topic: None,
            poll_seconds: 60,
            probation_seconds: 60,
            active_key: keys[0].clone(),
            recovery_key: None,
        };
        let mut state = State::default();
        let before = state.trust(&config).unwrap();
        let after = Trust { active: Key::parse(&keys[1]).unwrap(), recovery: Some(Key::parse(&keys[2]).unwrap()) };
        state.believe(&after, &before, &config);
        assert_eq!(state.trust(&config).unwrap(), after);
        config.active_key.clone_from(&keys[2]);
        assert_eq!(state.trust(&config).unwrap().active.text(), keys[2], "the hand before the box wins");
    }
}
