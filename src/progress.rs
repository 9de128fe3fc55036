//! Whether the parts of the gateway move: each says what it does or what it waits for, and whoever feeds the watchdog looks.
//!
//! A part is *stuck* where it has not given its thread back for longer than a step may take (a disk that hangs, a loop
//! without end), or where what it said of itself should have been over by now (an answer that was lost). A part that waits
//! for something afar, for as long as that takes, says so and is never stuck.
//!
//! Must not: decide what follows from it, or cost more than a few nanoseconds where nobody looks.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

/// How long a part may keep its thread. The longest that is in order: the kernel waits up to 30 s for bytes that a serial
/// line does not take when it is closed (`closing_wait` of `tty_port`), and as much again for a slow card.
pub const LONGEST_STEP: Duration = Duration::from_secs(60);

/// How long the journal may take to answer a part. A card that is wearing out takes seconds, a check beside it longer.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(300);

/// What a part says of itself before it says anything.
const RUNNING: &str = "running";

/// What one part does. Cheap to clone and to set; all of a part's tasks share it.
#[derive(Debug, Clone, Default)]
pub struct Mark(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    part: String,
    /// How long it may keep its thread, where that is longer than others may.
    step: Duration,
    said: Mutex<Option<Said>>,
    tasks: Mutex<Vec<Weak<Task>>>,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    doing: &'static str,
    since: Instant,
    due: Option<Instant>,
}

/// One task of a part.
#[derive(Debug)]
struct Task {
    /// Counts up when it is polled, and again when it has given its thread back: odd while it has it.
    polls: AtomicU64,
    /// What was seen of it, and when first.
    seen: Mutex<(u64, Instant)>,
}

impl Mark {
    /// It waits for something that may never come, and that is in order.
    pub fn idle(&self, doing: &'static str) {
        self.say(doing, None);
    }

    /// It does something, or waits for something, that has an end: at the latest after `longest` it says something new.
    pub fn within(&self, doing: &'static str, longest: Duration) {
        self.say(doing, Some(longest));
    }

    fn say(&self, doing: &'static str, longest: Option<Duration>) {
        let since = Instant::now();
        // Later than there are instants is never.
        let due = longest.and_then(|longest| since.checked_add(longest));
        *lock(&self.0.said) = Some(Said { doing, since, due });
    }

    /// A task of this part: from now on it is seen if it keeps its thread.
    pub fn watch<F: Future>(&self, task: F) -> Watched<F> {
        let seen = Mutex::new((0, Instant::now()));
        let state = Arc::new(Task { polls: AtomicU64::new(0), seen });
        let mut tasks = lock(&self.0.tasks);
        // Connections come and go.
        if tasks.len() == tasks.capacity() {
            tasks.retain(|task| task.strong_count() > 0);
        }
        tasks.push(Arc::downgrade(&state));
        Watched { task: Box::pin(task), state, _mark: self.clone() }
    }
}

/// A task that is seen if it keeps its thread.
pub struct Watched<F> {
    task: Pin<Box<F>>,
    state: Arc<Task>,
    /// Whoever runs is on the roll.
    _mark: Mark,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let state = Arc::clone(&self.state);
        let _turn = Turn::begin(&state.polls);
        self.task.as_mut().poll(context)
    }
}

/// Ends with the poll, also by a panic.
struct Turn<'a>(&'a AtomicU64);

impl<'a> Turn<'a> {
    fn begin(polls: &'a AtomicU64) -> Self {
        polls.fetch_add(1, Ordering::Relaxed);
        Self(polls)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a part was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub part: String,
    /// What it does or waits for.
    pub doing: &'static str,
    /// Since when.
    pub since: Duration,
    /// It does not move, and should.
    pub stuck: bool,
}

/// All parts that run.
#[derive(Debug, Clone)]
pub struct Roll {
    parts: Arc<Mutex<Vec<Weak<Inner>>>>,
    step: Duration,
}

impl Default for Roll {
    fn default() -> Self {
        Self::new(LONGEST_STEP)
    }
}

impl Roll {
    /// An empty one; `step` is how long a part may keep its thread.
    pub fn new(step: Duration) -> Self {
        Self { parts: Arc::default(), step }
    }

    /// How long a part may keep its thread.
    pub const fn step(&self) -> Duration {
        self.step
    }

    /// A part of this name. It is on the roll until the last of its tasks is gone, also one that nobody waits for any more.
    pub fn part(&self, name: &str) -> Mark {
        self.patient_part(name, Duration::ZERO)
    }

    /// The same for a part whose steps are many syncs of a slow disk: it may keep its thread for `step`, if that is longer.
    pub fn patient_part(&self, name: &str, step: Duration) -> Mark {
        let inner = Arc::new(Inner { part: name.to_owned(), step, ..Inner::default() });
        lock(&self.parts).push(Arc::downgrade(&inner));
        Mark(inner)
    }

    /// Looks at all of them. That a part keeps its thread is seen from the second look on.
    pub fn look(&self) -> Vec<Seen> {
        let now = Instant::now();
        let mut parts = lock(&self.parts);
        parts.retain(|part| part.strong_count() > 0);
        let found = parts.iter().filter_map(Weak::upgrade);
        found.map(|part| part.look(now, self.step)).collect()
    }
}

impl Inner {
    fn look(&self, now: Instant, step: Duration) -> Seen {
        let said = *lock(&self.said);
        let kept = lock(&self.tasks).iter().filter_map(Weak::upgrade).map(|task| task.kept(now)).max();
        let kept = kept.filter(|kept| *kept > step.max(self.step));
        let overdue = said.and_then(|said| said.due).is_some_and(|due| now > due);
        Seen {
            part: self.part.clone(),
            doing: said.map_or(RUNNING, |said| said.doing),
            since: said
                .map_or(Duration::ZERO, |said| now.saturating_duration_since(said.since))
                .max(kept.unwrap_or_default()),
            stuck: overdue || kept.is_some(),
        }
    }
}

impl Task {
    /// For how long it has been seen to keep its thread.
    fn kept(&self, now: Instant) -> Duration {
        let polls = self.polls.load(Ordering::Relaxed);
        let mut seen = lock(&self.seen);
        if polls.is_multiple_of(2) || seen.0 != polls {
            *seen = (polls, now);
        }
        now.saturating_duration_since(seen.1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stuck(roll: &Roll) -> Vec<String> {
        roll.look().into_iter().filter(|seen| seen.stuck).map(|seen| format!("{}: {}", seen.part, seen.doing)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_waits_for_a_stated_reason_is_never_stuck_and_one_that_is_late_is() {
        let roll = Roll::new(SECOND);
        let (sink, line) = (roll.part("sink"), roll.part("line"));
        sink.within("asking the sink", 30 * SECOND);
        line.idle("waiting for the wire");
        tokio::time::advance(30 * SECOND).await;
        assert!(stuck(&roll).is_empty());
        tokio::time::advance(SECOND).await;
        assert_eq!(stuck(&roll), ["sink: asking the sink"]);
        sink.within("asking the sink", 30 * SECOND);
        assert!(stuck(&roll).is_empty());
        sink.within("waiting for the next try", Duration::MAX);
        tokio::time::advance(1_000_000 * SECOND).await;
        assert!(stuck(&roll).is_empty());
        let seen = roll.look();
        assert_eq!((seen[1].part.as_str(), seen[1].since), ("line", 1_000_031 * SECOND));
        drop(line);
        assert_eq!(roll.look().len(), 1);
    }

    #[test]
    fn a_task_that_keeps_its_thread_is_stuck_until_it_gives_it_back() {
        let roll = Roll::new(Duration::ZERO);
        let mark = roll.part("line");
        mark.idle("waiting for the wire");
        let (held, letting_go) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let task = mark.watch(async move {
            held.0.send(()).unwrap();
            letting_go.1.recv().unwrap();
        });
        let thread = std::thread::spawn(|| futures_util::FutureExt::now_or_never(task));
        held.1.recv().unwrap();
        // A first look finds it with the thread, the next one still.
        assert!(stuck(&roll).is_empty());
        assert_eq!(stuck(&roll), ["line: waiting for the wire"]);
        letting_go.0.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), Some(()));
        assert!(stuck(&roll).is_empty());
    }

    #[test]
    fn a_task_that_panics_has_given_its_thread_back() {
        let roll = Roll::new(Duration::ZERO);
        let mark = roll.part("line");
        let task = std::panic::AssertUnwindSafe(mark.watch(async { panic!("a test part panics") }));
        let mut kept = futures_util::FutureExt::catch_unwind(task);
        assert!(futures_util::FutureExt::now_or_never(&mut kept).is_some_and(|result| result.is_err()));
        assert!(stuck(&roll).is_empty() && stuck(&roll).is_empty());
    }
}
