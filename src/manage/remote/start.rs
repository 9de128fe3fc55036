//! On what a start runs: the local file with the bundle in force over it; where that can't be used, the best that worked
//! before, and a word about it.
//!
//! Must not: keep a gateway from starting where anything that worked can be found, or write a word into the store for
//! commands that only look.

use std::path::Path;

use super::agent::Agent;
use super::life;
use super::state::{Base, Entry, State, What};
use super::store::{self, Store};
use super::{Error, bundle};
use crate::event::UtcMicros;
use crate::manage::config::{
    Addressee, Header, Layer, Loaded, Options, Problems, hints, load_layered_text, text_of, whole,
};

/// What was found.
pub struct Start {
    /// The configuration to run on.
    pub loaded: Loaded,
    /// Whoever takes bundles from now on; `None`: the store can't be written.
    pub agent: Option<Agent>,
    /// Why it is not the local file with the bundle in force, and what else is wrong: somebody must act.
    pub notes: Vec<String>,
    /// What is wrong with the local file, where it is not used.
    pub refused: Option<Problems>,
}

/// For `portero run`. Counts starts on probation; fails only where nothing that works can be found.
pub fn begin(file: &Path, options: &Options, now: UtcMicros) -> Result<Start, Problems> {
    let text = text_of(file);
    let hints = hints(text.as_deref().unwrap_or(""), options);
    let dir = store::beside(&hints.journal);
    let mut notes = Vec::new();
    let (store, writes) = match Store::open(&dir) {
        Ok(store) => (store, true),
        Err(error) => {
            if hints.remote {
                notes.push(format!("nothing from afar can be taken: {error}"));
            }
            (Store::peek(&dir), false)
        }
    };
    let (mut state, problems) = store.state();
    if !problems.is_empty() {
        notes.extend(problems.iter().map(ToString::to_string));
        if writes {
            if state.serial == 0 {
                state.note(recovered(now));
            }
            notes.extend(store.mend(&mut state).err().map(|error| error.to_string()));
        }
    }
    if let Some(mut next) = life::start(&state, now) {
        if next.probation.is_none() {
            notes.push(format!("bundle {} is taken back: {}", state.consumed, last_reason(&next)));
        }
        if writes {
            notes.extend(store.save(&mut next).err().map(|error| error.to_string()));
        }
        state = next;
    }
    let found = choose(file, text.as_deref(), options, &store, &state);
    let Some(Choice { loaded, local, base, first }) = found else {
        // The local file's own problems are those that a person at the box can mend.
        let text = text?;
        return Err(load_layered_text(file, &text, options, None).err().unwrap_or(Problems {
            file: file.to_owned(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }));
    };
    let mut refused = text.as_ref().err().cloned();
    if let Some(first) = first {
        notes.push(first.words(&base, text.as_deref() == Ok(local.as_str())));
        if let (Why::Problems(problems), true) = (first.0, text.as_deref() != Ok(local.as_str())) {
            refused = Some(problems);
        }
    }
    // A bundle that can't be used any more while it is being tried goes for good.
    if state.probation.is_some() && base != state.current {
        let mut next = life::give_back(&state, "it can't be used at a start", now);
        if writes {
            notes.extend(store.save(&mut next).err().map(|error| error.to_string()));
        }
        state = next;
    }
    let agent = writes.then(|| Agent::new(store, state, file, local, options.clone(), base));
    Ok(Start { loaded, agent, notes, refused })
}

/// For commands that look: the local file with the bundle in force over it, where both can be read; the file alone where
/// the bundle can't.
pub fn effective(file: &Path, options: &Options) -> Result<Loaded, Problems> {
    let text = text_of(file)?;
    match in_force(&text, options) {
        Some(layer) => load_layered_text(file, &text, options, Some(&layer)),
        None => load_layered_text(file, &text, options, None),
    }
}

/// The bundle in force over a text, if there is one and we can read it.
pub fn in_force(text: &str, options: &Options) -> Option<Layer> {
    let hints = hints(text, options);
    if !hints.remote {
        return None;
    }
    let store = Store::peek(&store::beside(&hints.journal));
    let Base::Bundle(stored) = store.state().0.current else { return None };
    store.bundle(&stored).ok().map(|(_, layer)| layer)
}

/// Why a candidate won't do.
enum Why {
    Problems(Problems),
    Bundle(Error),
}

/// What was wanted first, and why it can't be had.
struct First(Why);

impl First {
    fn words(&self, base: &Base, own_file: bool) -> String {
        let on =
            if own_file { base.words() } else { format!("the last good copy of the local file, {}", base.words()) };
        let why = match &self.0 {
            Why::Bundle(error) => error.to_string(),
            Why::Problems(problems) => bundle::refused(problems).to_string(),
        };
        format!("running on {on}: {why}")
    }
}

struct Choice {
    loaded: Loaded,
    local: String,
    base: Base,
    first: Option<First>,
}

/// The first that can be used: what should run, then what ran before, then less and less.
fn choose(
    file: &Path,
    text: Result<&str, &Problems>,
    options: &Options,
    store: &Store,
    state: &State,
) -> Option<Choice> {
    let good = store.good();
    let mut bases = vec![state.current.clone()];
    bases.extend(state.probation.iter().map(|probation| probation.back_to.clone()));
    bases.extend(state.previous.clone());
    bases.push(Base::Local);
    let mut first = text.err().cloned().map(Why::Problems);
    for base in bases {
        for local in text.ok().into_iter().chain(good.as_deref()) {
            match attempt(file, local, options, store, &base) {
                Ok(loaded) => {
                    return Some(Choice { loaded, local: local.to_owned(), base, first: first.map(First) });
                }
                Err(why) => first = first.or(Some(why)),
            }
        }
    }
    None
}

fn attempt(file: &Path, local: &str, options: &Options, store: &Store, base: &Base) -> Result<Loaded, Why> {
    let layer = over(local, options, store, base).map_err(Why::Bundle)?;
    let loaded = load_layered_text(file, local, options, layer.as_ref().map(|(_, layer)| layer));
    let loaded = loaded.map_err(Why::Problems)?;
    if let Some((header, _)) = &layer {
        for_us(header, &loaded).map_err(Why::Bundle)?;
    }
    Ok(loaded)
}

/// The bundle of a base, where the local file wants any: whoever takes `[manage.remote]` out of it is rid of them.
fn over(local: &str, options: &Options, store: &Store, base: &Base) -> Result<Option<(Header, Layer)>, Error> {
    match base {
        Base::Bundle(stored) if hints(local, options).remote => store.bundle(stored).map(Some),
        _ => Ok(None),
    }
}

/// A card that was moved to another box, or a file that says another name, makes a bundle a stranger's.
fn for_us(header: &Header, loaded: &Loaded) -> Result<(), Error> {
    let config = &loaded.config;
    let ours = match &header.to {
        Addressee::Gateway(id) => *id == config.identity.gateway_id,
        Addressee::Group(group) => Some(group) == config.group.as_ref(),
    };
    if ours {
        return Ok(());
    }
    let theirs = match &header.to {
        Addressee::Gateway(id) => format!("gateway \"{id}\""),
        Addressee::Group(group) => format!("group \"{group}\""),
    };
    Err(Error::Elsewhere { theirs, ours: config.identity.gateway_id.clone() })
}

/// Resolves a base over a local text; for whoever applies it.
pub(super) fn resolve(
    file: &Path,
    local: &str,
    options: &Options,
    store: &Store,
    base: &Base,
) -> Result<Loaded, Problems> {
    attempt(file, local, options, store, base).map_err(|why| match why {
        Why::Bundle(error) => whole(&base.words(), &error.to_string()),
        Why::Problems(problems) => problems,
    })
}

fn recovered(now: UtcMicros) -> Entry {
    Entry {
        at: now.0,
        revision: None,
        what: What::Recovered,
        who: "the gateway".to_owned(),
        reason: "what was remembered of bundles could not be read; the local file runs alone".to_owned(),
        times: 1,
    }
}

fn last_reason(state: &State) -> &str {
    state.history.last().map_or("", |entry| entry.reason.as_str())
}
