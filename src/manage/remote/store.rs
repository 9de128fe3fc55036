//! What is remembered, on the disk beside the journal: two copies of the state, the bundles that it names, the last good
//! local file, and the last saved time.
//!
//! Every file is written whole under another name, synced, renamed, and its directory synced: it is the old one or the new
//! one. The state is written twice; the copy with the higher serial number that can be read holds. A bundle's files are on
//! the disk before a state names them, and are removed only after no state does.
//!
//! Must not: keep a gateway from starting, whatever the files are, or write anything that grows.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bundle::{self, Signed};
use super::signature::{self, Key};
use super::state::{State, Stored};
use super::{Error, bundle::MAX_BYTES};
use crate::event::UtcMicros;
use crate::manage::config::{Header, Layer, header};

/// The two copies.
const STATES: [&str; 2] = ["state", "state.copy"];

/// The copy of the local file.
const GOOD: &str = "last-good.toml";

/// The last saved time, UTC microseconds.
const CLOCK: &str = "clock";

/// Held by whoever writes.
const LOCK: &str = "lock";

/// Largest state, bytes.
const MAX_STATE: u64 = 256 * 1024;

/// Called before and after each thing that is done to the disk, with its name; for tests that pull the plug.
pub type Hook = Arc<dyn Fn(&str) + Send + Sync>;

/// The directory.
#[derive(Clone)]
pub struct Store {
    dir: PathBuf,
    hook: Option<Hook>,
    /// Held while this store may write.
    _lock: Option<Arc<File>>,
}

/// The directory that belongs to a journal.
pub fn beside(journal: &Path) -> PathBuf {
    journal.parent().unwrap_or(Path::new(".")).join("config")
}

impl Store {
    /// For writing; makes the directory. Fails where another process writes.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, None)
    }

    /// The same, with a hook.
    pub fn open_with(dir: &Path, hook: Option<Hook>) -> Result<Self, Error> {
        let failed = |error: &io::Error| Error::Disk { path: dir.to_owned(), reason: error.to_string() };
        if !dir.is_dir() {
            DirBuilder::new().mode(0o700).create(dir).map_err(|e| failed(&e))?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(LOCK));
        let lock = lock.map_err(|e| failed(&e))?;
        if lock.try_lock().is_err() {
            return Err(Error::Disk { path: dir.to_owned(), reason: "another process writes there".to_owned() });
        }
        Ok(Self { dir: dir.to_owned(), hook, _lock: Some(Arc::new(lock)) })
    }

    /// For reading beside whoever writes.
    pub fn peek(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), hook: None, _lock: None }
    }

    /// What is remembered, and what was wrong with the files. Without any file: nothing.
    pub fn state(&self) -> (State, Vec<Error>) {
        let mut problems = Vec::new();
        let mut best: Option<State> = None;
        let mut absent = 0;
        for name in STATES {
            let path = self.dir.join(name);
            let text = match read(&path, MAX_STATE) {
                Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "it is not text".to_owned()),
                Ok(None) => {
                    absent += 1;
                    continue;
                }
                Err(error) => Err(error.to_string()),
            };
            match text.and_then(|text| State::read(&text).map_err(str::to_owned)) {
                Ok(state) if best.as_ref().is_none_or(|best| best.serial < state.serial) => best = Some(state),
                Ok(_) => {}
                Err(reason) => problems.push(Error::Foreign { path, reason }),
            }
        }
        let state = best.unwrap_or_else(|| {
            // Neither can be read. What was consumed can be seen from the bundles that are left: a revision must not come
            // back because a file was damaged.
            let consumed = if absent == STATES.len() { 0 } else { self.highest() };
            State { consumed, ..State::default() }
        });
        (state, problems)
    }

    /// Writes both copies. The caller's serial number rises.
    pub fn save(&self, state: &mut State) -> Result<(), Error> {
        state.serial += 1;
        let text = state.written();
        STATES.iter().try_for_each(|name| self.replace(name, text.as_bytes()))
    }

    /// Writes a bundle and its signature, before a state may name it.
    pub fn put(&self, revision: u64, signed: &Signed) -> Result<(), Error> {
        let (payload, signature) = names(revision);
        self.replace(&payload, &signed.payload)?;
        self.replace(&signature, signed.signature.as_bytes())
    }

    /// A bundle that the state names: what it says, and its text. What is not there, torn or foreign is an error.
    pub fn bundle(&self, stored: &Stored) -> Result<(Header, Layer), Error> {
        let signed = self.signed(stored)?;
        let foreign = |reason: String| Error::Foreign { path: self.dir.join(names(stored.revision).0), reason };
        let key = Key::parse(&stored.signer).map_err(|error| foreign(error.to_string()))?;
        signature::verify(&signed.payload, &signed.signature, &key).map_err(|error| foreign(error.to_string()))?;
        let text = String::from_utf8(signed.payload).map_err(|_| foreign("it is not text".to_owned()))?;
        let layer = Layer { name: format!("bundle {}", stored.revision).into(), text };
        let header = header(&layer).map_err(|problems| bundle::refused(&problems))?;
        if header.revision != stored.revision {
            return Err(foreign(format!("it is revision {}", header.revision)));
        }
        Ok((header, layer))
    }

    fn signed(&self, stored: &Stored) -> Result<Signed, Error> {
        let (payload, signature) = names(stored.revision);
        let whole = |name: &str, most: usize| {
            let path = self.dir.join(name);
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            match read(&path, most) {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err(Error::Foreign { path, reason: "it is not there".to_owned() }),
                Err(error) => Err(Error::Foreign { path, reason: error.to_string() }),
            }
        };
        let payload = whole(&payload, MAX_BYTES)?;
        let signature = String::from_utf8_lossy(&whole(&signature, signature::MAX_BYTES)?).into_owned();
        Ok(Signed { payload, signature })
    }

    /// Removes the bundles that nothing names any more, and what a fall has left half-written.
    pub fn sweep(&self, state: &State) {
        let mut needed: Vec<u64> = state.needed().iter().map(|stored| stored.revision).collect();
        // By its name a consumed revision is still known when both copies of the state are lost.
        needed.push(state.consumed);
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let stale = revision(&name).is_some_and(|revision| !needed.contains(&revision));
            if stale || name.ends_with(".new") {
                // What can't be removed now is removed the next time.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Sets unreadable copies of the state aside, so that a person can look at them, and writes new ones.
    pub fn mend(&self, state: &mut State) -> Result<(), Error> {
        for name in STATES {
            let path = self.dir.join(name);
            let text = read(&path, MAX_STATE).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
            let sound = text.is_some_and(|text| State::read(&text).is_ok());
            if path.exists() && !sound {
                let aside = self.dir.join(format!("{name}.unreadable"));
                std::fs::rename(&path, &aside)
                    .map_err(|error| Error::Disk { path: path.clone(), reason: error.to_string() })?;
            }
        }
        self.save(state)
    }

    /// Keeps a copy of the local file that works.
    pub fn keep_good(&self, text: &str) -> Result<(), Error> {
        if self.good().as_deref() == Some(text) {
            return Ok(());
        }
        self.replace(GOOD, text.as_bytes())
    }

    /// The last local file that worked.
    pub fn good(&self) -> Option<String> {
        let bytes = read(&self.dir.join(GOOD), u64::try_from(MAX_BYTES).ok()?).ok()??;
        String::from_utf8(bytes).ok()
    }

    /// Saves what time it is at least.
    pub fn save_clock(&self, now: UtcMicros) -> Result<(), Error> {
        self.replace(CLOCK, now.0.to_string().as_bytes())
    }

    /// The last saved time; 1970 without one.
    pub fn clock(&self) -> UtcMicros {
        let bytes = read(&self.dir.join(CLOCK), 64).ok().flatten().unwrap_or_default();
        let time = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        UtcMicros(time.unwrap_or(0))
    }

    /// The highest revision of which a bundle is here.
    fn highest(&self) -> u64 {
        let names = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        names.filter_map(|entry| revision(&entry.file_name().to_string_lossy())).max().unwrap_or(0)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(name);
        let failed = |error: io::Error| Error::Disk { path: path.clone(), reason: error.to_string() };
        self.replacing(&path, bytes).map_err(failed)
    }

    fn replacing(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let step = |what: &str| {
            if let Some(hook) = &self.hook {
                hook(what);
            }
        };
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        step("create");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        step("write");
        file.write_all(first)?;
        step("write on");
        file.write_all(second)?;
        step("sync");
        file.sync_all()?;
        step("rename");
        std::fs::rename(&new, path)?;
        step("sync directory");
        File::open(&self.dir)?.sync_all()?;
        step("done");
        Ok(())
    }
}

/// The files of a bundle: the one that `minisign -V -m` reads, and its signature beside it.
fn names(revision: u64) -> (String, String) {
    (format!("bundle-{revision}.toml"), format!("bundle-{revision}.toml.minisig"))
}

fn revision(name: &str) -> Option<u64> {
    let name = name.strip_prefix("bundle-")?;
    name.strip_suffix(".minisig").unwrap_or(name).strip_suffix(".toml")?.parse().ok()
}

/// A plain file, whole; `None`: it isn't there.
fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    // A fifo in the place of a file must not be waited for.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {most} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
