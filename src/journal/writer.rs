//! The one thread that writes. Whatever is waiting goes into one transaction; answers follow its sync.
//!
//! Must not: answer before the commit returned (I1), wait for a timer while somebody waits for it, or go on with memory
//! that a failed transaction may have left wrong: after an error the connection is closed and everything is read anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::disk::{Ballast, Trouble};
use super::error::Error;
use super::lock::Lock;
use super::schema::{self, Tuning};
use super::shared::{AbortOnPanic, Shared};
use super::state::{State, Tx};
use super::types::{Appended, Config, DeviceState, Entry, Seq, Setback, Settlement, SinkId};
use super::{append, devices, setback, settle};
use crate::clock::Clock;

/// Commands that may wait for the writer; a sender waits for room (I10).
pub(super) const QUEUE: usize = 256;

/// Entries in one transaction, about.
const GROUP_ENTRIES: usize = 8192;

/// How long a lazy settlement may wait for company.
const LAZY: Duration = Duration::from_secs(1);

/// Something to be done inside the transaction, and answered after it.
pub(super) trait Work: Send {
    /// Does it. May be called again if the transaction failed. An error fails the transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Error>;
    /// Answers: with the result of `run`, or with why the transaction failed.
    fn answer(self: Box<Self>, failed: Option<Error>);
}

/// What rides along with the next commit.
#[derive(Debug)]
pub(super) enum Lazy {
    Settle(SinkId, Vec<(Seq, Settlement)>),
    Devices(Vec<DeviceState>),
    Setback(SinkId, Setback),
}

pub(super) enum Command {
    Append { entries: Arc<Vec<Entry>>, answer: oneshot::Sender<Result<Vec<Appended>, Error>> },
    Work(Box<dyn Work>),
    Lazy(Lazy),
    Close(oneshot::Sender<Result<(), Error>>),
}

pub(super) struct Writer {
    pub(super) config: Config,
    pub(super) tuning: Tuning,
    pub(super) clock: Clock,
    pub(super) boot_id: [u8; 16],
    pub(super) shared: Arc<Shared>,
    pub(super) head: watch::Sender<Seq>,
    pub(super) nudges: watch::Sender<u64>,
    pub(super) ballast: Ballast,
    pub(super) trouble: Trouble,
    pub(super) open: Option<(Connection, State)>,
    /// Whether the bound of the open connection is the one for appends.
    pub(super) bound_for_appends: Option<bool>,
    pub(super) lazies: Vec<Lazy>,
    pub(super) lock: Lock,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(self) -> Result<mpsc::Sender<Command>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (sender, commands) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("journal-write".to_owned())
            .spawn(move || {
                let _guard = AbortOnPanic;
                self.run(commands, &runtime);
            })
            .map_err(|error| Error::Io(format!("can't start a thread: {error}")))?;
        Ok(sender)
    }

    /// Runs until it is closed or every handle is gone.
    fn run(mut self, mut commands: mpsc::Receiver<Command>, runtime: &tokio::runtime::Runtime) {
        let mut deadline: Option<Instant> = None;
        loop {
            let Some((mut group, closing)) = self.collect(&mut commands, runtime, deadline) else {
                self.shut(None);
                return;
            };
            if group.iter().all(|command| matches!(command, Command::Lazy(_))) && !group.is_empty() && closing.is_none()
            {
                self.keep_lazies(group);
                deadline.get_or_insert_with(|| Instant::now() + LAZY);
                continue;
            }
            deadline = None;
            if !group.is_empty() || !self.lazies.is_empty() {
                self.commit(&mut group);
            }
            if let Some(answer) = closing {
                self.shut(Some(answer));
                return;
            }
            if !self.lazies.is_empty() {
                deadline = Some(Instant::now() + LAZY);
            }
        }
    }

    /// The commands that wait, at least one unless the deadline of the lazy ones has come. `None`: nobody is left.
    #[expect(clippy::type_complexity, reason = "a pair used once")]
    fn collect(
        &self,
        commands: &mut mpsc::Receiver<Command>,
        runtime: &tokio::runtime::Runtime,
        deadline: Option<Instant>,
    ) -> Option<(Vec<Command>, Option<oneshot::Sender<Result<(), Error>>>)> {
        let first = match (commands.try_recv(), deadline) {
            (Ok(command), _) => command,
            (Err(mpsc::error::TryRecvError::Disconnected), _) => return None,
            (Err(mpsc::error::TryRecvError::Empty), None) => {
                let command = commands.blocking_recv()?;
                // Who woke us may have more to send in this very moment: let it, once. Costs a lone event about a
                // microsecond and saves the others a sync.
                std::thread::yield_now();
                command
            }
            (Err(mpsc::error::TryRecvError::Empty), Some(deadline)) => {
                match runtime.block_on(async { tokio::time::timeout_at(deadline, commands.recv()).await }) {
                    Ok(command) => command?,
                    Err(_elapsed) => return Some((Vec::new(), None)),
                }
            }
        };
        let mut group = Vec::new();
        let mut entries = 0;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Close(answer) => return Some((group, Some(answer))),
                Command::Append { entries: e, answer } => {
                    entries += e.len();
                    group.push(Command::Append { entries: e, answer });
                }
                other => group.push(other),
            }
            if entries < GROUP_ENTRIES && group.len() < GROUP_ENTRIES {
                next = commands.try_recv().ok();
            }
        }
        Some((group, None))
    }

    fn keep_lazies(&mut self, group: Vec<Command>) {
        self.lazies.extend(group.into_iter().filter_map(|command| match command {
            Command::Lazy(lazy) => Some(lazy),
            _ => None,
        }));
    }

    /// Commits a group and answers it. After a full disk everything but the appends gets a second chance, with the
    /// ballast gone: settling is what makes room.
    fn commit(&mut self, group: &mut Vec<Command>) {
        if !self.ballast.is_ready() {
            self.refuse_appends(group, &Error::Full("no room for new events; free space on the disk".to_owned()));
        }
        match self.attempt(group) {
            Ok(answers) => self.answer(group, answers),
            Err(error @ Error::Full(_)) => {
                self.fail(&error);
                self.ballast.release();
                self.refuse_appends(group, &error);
                match self.attempt(group) {
                    Ok(answers) => self.answer(group, answers),
                    Err(error) => self.refuse(group, &error),
                }
            }
            Err(error) => self.refuse(group, &error),
        }
    }

    /// One transaction, synced when this returns `Ok`. Answers to appends, in order.
    fn attempt(&mut self, group: &mut [Command]) -> Result<Vec<Vec<Appended>>, Error> {
        if self.open.is_none() {
            self.reopen()?;
        }
        let now = self.clock.now();
        let Some((conn, state)) = &mut self.open else { return Err(Error::Closed) };
        let appends = group.iter().any(|command| matches!(command, Command::Append { .. }));
        if self.bound_for_appends != Some(appends) {
            schema::bound(conn, self.config.max_bytes, appends)?;
            self.bound_for_appends = Some(appends);
        }
        let mut tx = Tx { conn, state, now, shared: &self.shared, nudge: false, settled_provisional: Vec::new() };
        let mut answers = Vec::with_capacity(group.len());
        tx.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for lazy in &self.lazies {
            run_lazy(&mut tx, lazy)?;
        }
        for command in group {
            match command {
                Command::Append { entries, .. } => answers.push(append::append(&mut tx, entries)?),
                Command::Work(work) => work.run(&mut tx)?,
                Command::Lazy(lazy) => run_lazy(&mut tx, lazy)?,
                Command::Close(_) => {}
            }
        }
        settle::write_sinks(&mut tx)?;
        tx.conn.prepare_cached("COMMIT")?.execute([])?;
        let nudge = tx.nudge;
        self.shared.forget_provisional(&tx.settled_provisional);
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.trouble.over(now.boot);
        for lazy in self.lazies.drain(..) {
            self.shared.lazy_done(&lazy);
        }
        if nudge {
            self.nudges.send_modify(|n| *n += 1);
        }
        Ok(answers)
    }

    /// Publishes the head, then sends the answers: who has an answer finds the head there.
    fn answer(&self, group: &mut Vec<Command>, answers: Vec<Vec<Appended>>) {
        self.publish();
        let mut answers = answers.into_iter();
        for command in group.drain(..) {
            match command {
                Command::Append { answer, .. } => {
                    let _ = answer.send(answers.next().ok_or(Error::Closed));
                }
                Command::Work(work) => work.answer(None),
                Command::Lazy(lazy) => self.shared.lazy_done(&lazy),
                Command::Close(_) => {}
            }
        }
    }

    fn publish(&self) {
        if let Some((_, state)) = &self.open {
            self.head.send_if_modified(|head| {
                let changed = head.0 != state.head;
                head.0 = state.head;
                changed
            });
        }
    }

    fn refuse_appends(&mut self, group: &mut Vec<Command>, error: &Error) {
        let (appends, others) = group.drain(..).partition(|command| matches!(command, Command::Append { .. }));
        *group = others;
        let appends: Vec<Command> = appends;
        for command in appends {
            if let Command::Append { answer, .. } = command {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }

    /// Nothing of the group is on disk for certain: everybody hears why, lazy settlements stay.
    fn refuse(&mut self, group: &mut Vec<Command>, error: &Error) {
        self.fail(error);
        for command in group.drain(..) {
            match command {
                Command::Append { answer, .. } => {
                    let _ = answer.send(Err(error.clone()));
                }
                Command::Work(work) => work.answer(Some(error.clone())),
                Command::Lazy(lazy) => self.lazies.push(lazy),
                Command::Close(_) => {}
            }
        }
        self.publish();
    }

    /// Closes the connection: what it and the kernel believe after a failed sync is not to be trusted.
    fn fail(&mut self, error: &Error) {
        self.trouble.note(error, self.clock.now().boot);
        self.open = None;
        if let Err(error) = self.reopen() {
            self.trouble.note(&error, self.clock.now().boot);
        }
    }

    fn reopen(&mut self) -> Result<(), Error> {
        let conn = schema::open_writer(&self.config, self.tuning)?;
        if self.trouble.is_on() {
            // Rows whose sync failed may be in the WAL and not on the medium: copy and sync everything before a
            // terminal that repeats them hears "duplicate".
            let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy != 0 {
                return Err(Error::Io("the WAL could not be checkpointed after an error".to_owned()));
            }
        }
        let state = State::load(&conn, self.boot_id)?;
        self.bound_for_appends = None;
        self.open = Some((conn, state));
        Ok(())
    }

    fn shut(mut self, answer: Option<oneshot::Sender<Result<(), Error>>>) {
        if !self.lazies.is_empty() {
            self.commit(&mut Vec::new());
        }
        let result = match self.open.take() {
            Some((conn, mut state)) => {
                // Times of deliveries; the deliveries themselves are on disk.
                if let Err(error) = state.sinks.iter_mut().try_for_each(|sink| sink.write_run(&conn)) {
                    tracing::debug!(%error, "times of deliveries are lost");
                }
                let done = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(Error::from);
                done.and(conn.close().map_err(|(_, error)| Error::from(error)))
            }
            None => Ok(()),
        };
        drop(self.lock);
        if let Some(answer) = answer {
            let _ = answer.send(result);
        }
    }
}

fn run_lazy(tx: &mut Tx<'_>, lazy: &Lazy) -> Result<(), Error> {
    let done = match lazy {
        Lazy::Settle(sink, verdicts) => settle::settle(tx, *sink, verdicts),
        Lazy::Devices(states) => devices::keep(tx, states),
        Lazy::Setback(sink, setback) => setback::keep(tx, *sink, setback),
    };
    match done {
        Err(error) if error.is_answer() => Ok(()),
        other => other,
    }
}
