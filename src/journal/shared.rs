//! What the handles and the threads of the journal share, and how a closure travels to the writer.
//!
//! Must not: touch SQLite, or decide anything.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::state::Tx;
use super::writer::{Lazy, Work};
use super::{Error, Record, SinkId};

/// What handles and threads share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Verdicts and device states that were answered and are not yet on disk.
    pub(super) lazy: AtomicU64,
    /// Transactions committed and synced.
    pub(super) commits: AtomicU64,
    /// Questions and orders that were not answered yet.
    pub(super) asked: AtomicUsize,
    /// Whether anything stands in `provisional`.
    pub(super) any_provisional: AtomicBool,
    /// By sink, events that were handed out with times that may yet change, and are not settled.
    pub(super) provisional: Mutex<HashSet<(u32, u64)>>,
}

/// Counts a question until it is answered, or nobody wants the answer any more.
pub(super) struct Asked<'s>(&'s AtomicUsize);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    pub(super) fn ask(&self) -> Asked<'_> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        Asked(&self.asked)
    }

    pub(super) fn mark_provisional(&self, sink: SinkId, records: &[Record]) {
        if !records.iter().any(|r| r.provisional) {
            return;
        }
        let mut marks = self.provisional.lock().unwrap_or_else(PoisonError::into_inner);
        marks.extend(records.iter().filter(|r| r.provisional).map(|r| (sink.0, r.seq.0)));
        self.any_provisional.store(true, Ordering::Release);
    }

    /// These are settled, and on disk so.
    pub(super) fn forget_provisional(&self, settled: &[(u32, u64)]) {
        if settled.is_empty() {
            return;
        }
        let mut marks = self.provisional.lock().unwrap_or_else(PoisonError::into_inner);
        for key in settled {
            marks.remove(key);
        }
        self.any_provisional.store(!marks.is_empty(), Ordering::Release);
    }

    pub(super) fn was_read_provisional(&self, sink: u32, seq: u64) -> bool {
        self.any_provisional.load(Ordering::Acquire)
            && self.provisional.lock().unwrap_or_else(PoisonError::into_inner).contains(&(sink, seq))
    }

    pub(super) fn lazy_weight(lazy: &Lazy) -> u64 {
        1 + match lazy {
            Lazy::Settle(_, verdicts) => verdicts.len() as u64,
            Lazy::Devices(devices) => devices.len() as u64,
            Lazy::Setback(..) => 1,
        }
    }

    pub(super) fn lazy_done(&self, lazy: &Lazy) {
        self.lazy.fetch_sub(Self::lazy_weight(lazy), Ordering::AcqRel);
    }
}

/// A thread of the journal that panics takes the process with it: going on without it would confirm nothing, silently,
/// and systemd restarts us.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// A closure as [`Work`], with the oneshot that waits for its answer.
pub(super) struct Call<T, F> {
    pub(super) run: F,
    pub(super) result: Option<Result<T, Error>>,
    pub(super) answer: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Work for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T, Error> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Error> {
        match (self.run)(tx) {
            Err(error) if !error.is_answer() => Err(error),
            result => {
                self.result = Some(result);
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, failed: Option<Error>) {
        let result = match failed {
            Some(error) => Err(error),
            None => self.result.unwrap_or(Err(Error::Closed)),
        };
        let _ = self.answer.send(result);
    }
}
