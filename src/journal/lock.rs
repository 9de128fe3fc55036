//! One owner for one file: an advisory lock beside the database, with the owner's process id in it.
//!
//! Must not: remove the lock file (a second process could then lock a file that nobody else sees), or wait.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::Error;

/// A path beside the database, for example `journal.db.lock`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Unlocked, not only closed: a child that is just being forked off has the descriptor too, until it becomes another
/// program, and would go on holding the lock.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let lock = beside(path, ".lock");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock).map_err(
                |e| {
                    Error::Io(format!(
                        "can't open {}: {e}; check that its directory exists and is ours",
                        lock.display()
                    ))
                },
            )?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.take(16).read_to_string(&mut text);
                return Err(Error::Owned { path: path.to_owned(), pid: text.trim().parse().unwrap_or(0) });
            }
            Err(error) => return Err(Error::Io(format!("can't lock {}: {error}", lock.display()))),
        }
        // Only for the message to others: a full disk must not keep us from starting.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}
