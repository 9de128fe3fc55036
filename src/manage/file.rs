//! How the configuration file is, compared with what runs.
//!
//! Must not: read its contents (whoever loads it says what came of that), or repeat a secret.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::event::{UtcMicros, json::rfc3339};

/// Most problems that are kept of a file that is refused.
const PROBLEMS: usize = 10;

/// What was found when the file was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// It says what is running.
    Running,
    /// It runs, but for what is taken at a start only: the tables of that.
    Differs(Vec<String>),
    /// It can't be used; what is wrong, in the words of `portero check`.
    Refused(Vec<String>),
}

/// The file, and what it was when it was last read.
#[derive(Clone)]
pub struct ConfigFile(Arc<Mutex<Seen>>);

struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    at: UtcMicros,
    read: Read,
}

/// By this a change is noticed: inode, length, seconds and nanoseconds of the last change.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

impl ConfigFile {
    /// Just read, and running.
    pub fn new(path: PathBuf, at: UtcMicros) -> Self {
        Self(Arc::new(Mutex::new(Seen { stamp: stamp(&path), path, at, read: Read::Running })))
    }

    /// Read again.
    pub fn note(&self, read: Read, at: UtcMicros) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.stamp, seen.at, seen.read) = (stamp(&seen.path), at, read);
    }

    /// `{file, state, read}` and, where it is refused, `problems`, where it differs, `needs_restart`. The states are `running`, `differs`, `refused`, and
    /// `changed`: touched since it was last read.
    pub fn status(&self) -> Value {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &seen.read {
            _ if stamp(&seen.path) != seen.stamp => "changed",
            Read::Running => "running",
            Read::Differs(_) => "differs",
            Read::Refused(_) => "refused",
        };
        let mut object =
            json!({ "file": seen.path.display().to_string(), "state": state, "read": rfc3339(seen.at).as_str() });
        if let (Read::Refused(problems), "refused") = (&seen.read, state) {
            object["problems"] = problems.iter().take(PROBLEMS).map(String::as_str).collect();
        }
        if let (Read::Differs(tables), "differs") = (&seen.read, state) {
            object["needs_restart"] = tables.as_slice().into();
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_touched_or_refused_says_so_until_it_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("portero.toml");
        std::fs::write(&path, "a").unwrap();
        let file = ConfigFile::new(path.clone(), UtcMicros(0));
        let state = || file.status()["state"].as_str().map(str::to_owned).unwrap();
        assert_eq!(state(), "running");
        std::fs::write(&path, "longer").unwrap();
        assert_eq!(state(), "changed");
        file.note(Read::Refused(vec!["line 3".to_owned()]), UtcMicros(1));
        assert_eq!((state().as_str(), &file.status()["problems"]), ("refused", &json!(["line 3"])));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(state(), "changed");
        file.note(Read::Differs(vec!["[journal]".to_owned()]), UtcMicros(2));
        assert_eq!(state(), "differs");
    }
}
