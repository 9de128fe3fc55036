//! How fast, and in which order: what an operator chose for a sink, and where its relay stands with it.
//!
//! Must not: wait, read the journal, or ask what time it is.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::deliver::Sink;
use crate::deliver::gate::Gate;
use crate::deliver::plan::Cursor;
use crate::journal::{Seq, SinkState};

/// So many failures in a row …
const FAILURES: u32 = 5;

/// … over at least so long are an outage: the breaker is open, and what then waits is a backlog.
const LASTING: Duration = Duration::from_secs(5);

/// Events that wait behind one another without being a backlog, unless two requests carry more.
const WAITING: u64 = 100;

/// Events that may be settled ahead of the position, each a row in the journal (I10). Beyond it new events wait in the queue
/// until the backlog is gone.
const MOST_AHEAD: u64 = 100_000;

/// So many requests with new events may follow one another while a backlog waits: it drains, however many are heard.
const IN_A_ROW: u32 = 3;

/// A backlog that is paced goes out in portions of this long, so that nothing else waits for longer.
const PORTION: Duration = Duration::from_secs(10);

/// Waits longer than this are kept over a restart even if the breaker is closed.
pub(super) const KEPT_FROM: Duration = Duration::from_secs(10);

/// What an operator chose for a sink; nothing: as fast as it answers, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// `max_requests_per_minute`.
    pub requests_per_minute: Option<u32>,
    /// `catch_up_per_minute`: events a minute of what was waiting when the sink came back.
    pub catch_up_per_minute: Option<u32>,
    /// `order`.
    pub order: Order,
}

/// `order = …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were heard.
    #[default]
    Strict,
    /// New events go first while a backlog drains beside them.
    LiveFirst,
}

/// Where a relay stands.
///
/// What was waiting when the sink came back, or at the start, or when new events were heard faster than they left, is the
/// backlog: what is not settled up to `mark`. With `live-first`, what comes after goes ahead of it, up to `live_at` so far.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) rules: Flow,
    pub(super) gate: Gate,
    pub(super) mark: Seq,
    live_at: Seq,
    /// Rows in the journal for what is settled ahead of the position, at most.
    ahead: u64,
    /// New events wait until the backlog is gone.
    closed: bool,
    /// Requests with new events since the last one with a part of the backlog.
    in_a_row: u32,
    /// The next part of a paced backlog may leave.
    backlog_from: Option<Instant>,
    failing_since: Option<Instant>,
    pub(super) open: bool,
    /// A wait or an open breaker stands in the journal.
    pub(super) kept: bool,
}

impl Standing {
    pub(super) fn new<S: Sink>(rules: Flow, state: &SinkState, sink: &mut S) -> Self {
        let gate = Gate::new(rules.requests_per_minute);
        sink.gate(gate.clone());
        Self {
            rules,
            gate,
            mark: Seq(0),
            live_at: Seq(0),
            ahead: state.ahead,
            closed: false,
            in_a_row: 0,
            backlog_from: None,
            failing_since: None,
            open: state.setback.open,
            kept: state.setback.attempts > 0 || !state.setback.wait.is_zero(),
        }
    }

    pub(super) fn is_live_first(&self) -> bool {
        self.rules.order == Order::LiveFirst
    }

    /// Whether anything up to the mark may be unsettled.
    pub(super) fn is_behind(&self, cursor: &Cursor) -> bool {
        cursor.at() < self.mark
    }

    /// Everything up to `head` is the backlog now.
    pub(super) fn mark(&mut self, head: Seq) {
        self.mark = self.mark.max(head);
    }

    /// Marks a backlog if too much waits that nobody called one yet. `rows`: the most events of a request.
    pub(super) fn look(&mut self, head: Seq, cursor: &Cursor, rows: usize) -> bool {
        let waiting = head.0.saturating_sub(self.live_from(cursor).0);
        let begins = !self.closed && waiting > WAITING.max(2 * rows as u64);
        if begins {
            self.mark(head);
        }
        begins
    }

    /// New events come after this one.
    pub(super) fn live_from(&self, cursor: &Cursor) -> Seq {
        cursor.at().max(self.mark).max(self.live_at)
    }

    /// Whether new events may go ahead of the backlog. With too many ahead, what waits until now must go first.
    pub(super) fn may_overtake(&mut self, head: Seq) -> bool {
        if !self.closed && self.ahead >= MOST_AHEAD {
            tracing::warn!(
                count = self.ahead,
                "too many events went ahead of the backlog: new ones wait until it is gone"
            );
            self.closed = true;
            self.mark(head);
        }
        !self.closed
    }

    /// Whether it is the backlog's turn, if it may leave at all.
    pub(super) fn is_backlogs_turn(&self, now: Instant) -> bool {
        self.in_a_row >= IN_A_ROW && self.backlog_opens(now).is_none()
    }

    /// New events leave, or a part of the backlog does.
    pub(super) fn chosen(&mut self, live: bool) {
        self.in_a_row = if live { self.in_a_row.saturating_add(1) } else { 0 };
    }

    /// New events left: everything up to `at` is settled.
    pub(super) fn went_ahead(&mut self, at: Option<Seq>, count: u64) {
        self.live_at = at.map_or(self.live_at, |at| self.live_at.max(at));
        self.ahead = self.ahead.saturating_add(count);
    }

    /// The backlog is gone: where the relay stands then.
    pub(super) fn join(&mut self) -> Seq {
        self.closed = false;
        self.ahead = 0;
        self.mark.max(self.live_at)
    }

    /// Whether a backlog has a pace.
    pub(super) fn is_paced(&self) -> bool {
        self.rules.catch_up_per_minute.is_some()
    }

    /// Most events of a backlog that go at once.
    pub(super) fn portion(&self) -> usize {
        let portion = |per_minute: u32| u64::from(per_minute) * PORTION.as_secs() / 60;
        self.rules.catch_up_per_minute.map_or(usize::MAX, |n| usize::try_from(portion(n)).unwrap_or(usize::MAX).max(1))
    }

    /// When the next part of the backlog may leave, if not now.
    pub(super) fn backlog_opens(&self, now: Instant) -> Option<Instant> {
        self.backlog_from.filter(|from| *from > now)
    }

    /// So many events of the backlog are about to leave.
    pub(super) fn spend(&mut self, count: usize, now: Instant) {
        if let Some(per_minute) = self.rules.catch_up_per_minute {
            let cost = Duration::from_secs_f64(60.0 / f64::from(per_minute.max(1)) * count as f64);
            self.backlog_from = Some(self.backlog_from.map_or(now, |from| from.max(now)) + cost);
        }
    }

    /// The sink failed; whether the breaker opened just now.
    pub(super) fn failed(&mut self, retry: &Backoff, now: Instant) -> bool {
        let since = *self.failing_since.get_or_insert(now);
        let opens = !self.open && retry.attempt() >= FAILURES && now.duration_since(since) >= LASTING;
        self.open |= opens;
        opens
    }

    /// The sink answered; whether that ends an outage.
    pub(super) fn answered(&mut self) -> bool {
        self.failing_since = None;
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            rules: Flow { order: Order::LiveFirst, catch_up_per_minute: Some(600), ..Flow::default() },
            gate: Gate::default(),
            mark: Seq(0),
            live_at: Seq(0),
            ahead: 0,
            closed: false,
            in_a_row: 0,
            backlog_from: None,
            failing_since: None,
            open: false,
            kept: false,
        }
    }

    #[test]
    fn a_few_that_wait_are_a_queue_and_more_are_a_backlog() {
        let (mut flow, cursor) = (standing(), Cursor::new(Seq(10)));
        assert!(!flow.look(Seq(110), &cursor, 1) && !flow.is_behind(&cursor));
        assert!(!flow.look(Seq(1000), &cursor, 500));
        assert!(flow.look(Seq(111), &cursor, 1) && flow.is_behind(&cursor));
        assert_eq!(flow.live_from(&cursor), Seq(111));
        assert!(!flow.look(Seq(211), &cursor, 1));
        assert!(flow.look(Seq(212), &cursor, 1), "new ones that don't keep up join the backlog");
    }

    #[test]
    fn too_many_ahead_close_the_lane_until_the_backlog_is_gone() {
        let (mut flow, cursor) = (standing(), Cursor::new(Seq(0)));
        flow.mark(Seq(1000));
        assert!(flow.may_overtake(Seq(1001)));
        flow.went_ahead(Some(Seq(101_000)), MOST_AHEAD);
        assert!(!flow.may_overtake(Seq(101_500)));
        // Nothing goes ahead, and what has come since waits its turn behind the others.
        assert!(!flow.look(Seq(200_000), &cursor, 1) && !flow.may_overtake(Seq(200_000)));
        assert_eq!(flow.join(), Seq(101_500));
        assert!(flow.may_overtake(Seq(200_000)));
    }

    #[test]
    fn a_backlog_gets_one_request_of_four_unless_it_is_paced() {
        let (mut flow, now) = (standing(), Instant::now());
        (0..IN_A_ROW).for_each(|_| flow.chosen(true));
        assert!(flow.is_backlogs_turn(now));
        flow.spend(100, now);
        assert_eq!((flow.portion(), flow.backlog_opens(now)), (100, Some(now + PORTION)));
        assert!(!flow.is_backlogs_turn(now) && flow.is_backlogs_turn(now + PORTION));
        flow.chosen(false);
        assert!(!flow.is_backlogs_turn(now + PORTION));
    }

    #[test]
    fn five_failures_in_a_row_over_five_seconds_open_the_breaker_once() {
        let (mut flow, begin) = (standing(), Instant::now());
        let retry = |attempts| Backoff::new(LASTING, LASTING).after(attempts);
        assert!((1..20).all(|n| !flow.failed(&retry(n), begin)), "many at once are no outage");
        assert!(!flow.failed(&retry(4), begin + LASTING));
        assert!(flow.failed(&retry(5), begin + LASTING) && flow.open);
        assert!(!flow.failed(&retry(6), begin + 2 * LASTING));
        assert!(flow.answered() && !flow.answered());
    }
}
