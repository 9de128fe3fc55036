//! What a relay decides: how a refused batch is split, what becomes of each event, where the relay stands.
//!
//! Must not: do I/O, wait, or ask what time it is.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Outcome, Verdict};
use crate::journal::{Seq, Settlement};

/// A part of a batch, `start..end`, and how many times its events have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) attempts: u32,
}

impl Span {
    pub(super) const fn len(self) -> usize {
        self.end - self.start
    }
}

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write these verdicts down (indices into the batch) and go on.
    Settle(Vec<(usize, Settlement)>),
    /// The span was split; go on with its halves.
    Split,
    /// Send the same bytes again, after the backoff.
    Again { reason: String, after: Option<Duration> },
    /// Send the same bytes again, after the slow probe's delay.
    Probe { reason: String },
    /// Send nothing more.
    End { reason: String },
}

/// One batch on its way: what is still to be sent, and what is settled.
///
/// A refused span is replaced by its two halves, the left one first. For one poisoned event among `n` that makes at most
/// `2 * ceil(log2 n) + 1` requests: the whole, then two halves a level.
#[derive(Debug)]
pub(super) struct Round {
    /// The next span is the last one.
    todo: Vec<Span>,
    settled: Vec<bool>,
    kept: bool,
}

impl Round {
    pub(super) fn new(len: usize) -> Self {
        let todo = if len == 0 { Vec::new() } else { vec![Span { start: 0, end: len, attempts: 0 }] };
        Self { todo, settled: vec![false; len], kept: false }
    }

    /// The next span to send.
    pub(super) fn next(&mut self) -> Option<Span> {
        self.todo.pop()
    }

    /// Only the first `count` events of `span` go now; the others come next.
    pub(super) fn defer(&mut self, span: &mut Span, count: usize) {
        let middle = span.start + count;
        if middle < span.end {
            self.todo.push(Span { start: middle, ..*span });
            span.end = middle;
        }
    }

    /// The event of a span of one can't be sent at all.
    pub(super) fn set_aside(&mut self, span: Span, reason: String) -> Vec<(usize, Settlement)> {
        if let Some(settled) = self.settled.get_mut(span.start) {
            *settled = true;
        }
        vec![(span.start, Settlement::Quarantined { reason, answer: String::new(), attempts: span.attempts })]
    }

    /// Nothing is left to send after the span that is on its way.
    pub(super) const fn is_last(&self) -> bool {
        self.todo.is_empty()
    }

    /// Something was neither delivered nor refused. The round ends there, so that no device's events overtake each other
    /// by our doing.
    pub(super) const fn kept(&self) -> bool {
        self.kept
    }

    /// Which events of the batch are settled.
    pub(super) fn settled(&self) -> &[bool] {
        &self.settled
    }

    /// What the answer to `span` means.
    pub(super) fn judge(&mut self, span: Span, outcome: Outcome) -> Step {
        match outcome {
            Outcome::Retry { reason, after } => Step::Again { reason, after },
            Outcome::Blocked { reason } | Outcome::Lost { reason, blocked: true } => Step::Probe { reason },
            Outcome::Lost { reason, blocked: false } => Step::Again { reason, after: None },
            Outcome::Gone { reason } => Step::End { reason },
            Outcome::Refused { reason, answer } if span.len() == 1 => {
                self.settled[span.start] = true;
                let verdict = Settlement::Quarantined { reason, answer, attempts: span.attempts };
                Step::Settle(vec![(span.start, verdict)])
            }
            Outcome::Refused { .. } => {
                let middle = span.start + span.len().div_ceil(2);
                self.todo.push(Span { start: middle, ..span });
                self.todo.push(Span { end: middle, ..span });
                Step::Split
            }
            Outcome::Settled(verdicts) if verdicts.len() != span.len() => {
                Step::Again { reason: "the answer does not fit the batch".to_owned(), after: None }
            }
            Outcome::Settled(verdicts) => self.settle(span, verdicts),
        }
    }

    fn settle(&mut self, span: Span, verdicts: Vec<Verdict>) -> Step {
        let mut settlements = Vec::with_capacity(verdicts.len());
        for (index, verdict) in (span.start..).zip(verdicts) {
            let settlement = match verdict {
                Verdict::Confirmed { remote_id: Some(remote_id), .. } => Settlement::Confirmed { remote_id },
                Verdict::Delivered | Verdict::Confirmed { .. } => Settlement::Delivered,
                Verdict::Rejected { reason, answer, .. } => {
                    Settlement::Quarantined { reason, answer, attempts: span.attempts }
                }
                Verdict::Keep => {
                    self.kept = true;
                    continue;
                }
            };
            self.settled[index] = true;
            settlements.push((index, settlement));
        }
        if settlements.is_empty() {
            self.kept = false;
            return Step::Again { reason: "the sink accepted nothing of the batch".to_owned(), after: None };
        }
        if self.kept {
            self.todo.clear();
        }
        Step::Settle(settlements)
    }
}

/// Where a relay stands among the new events: everything up to `at` is settled, and so are those in `ahead`.
///
/// The journal knows the same, but may not have written it down yet when the next events are read.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    at: Seq,
    ahead: BTreeSet<Seq>,
}

impl Cursor {
    pub(super) const fn new(at: Seq) -> Self {
        Self { at, ahead: BTreeSet::new() }
    }

    /// Everything up to here is settled.
    pub(super) const fn at(&self) -> Seq {
        self.at
    }

    /// Whether this event beyond the cursor is settled already.
    pub(super) fn is_settled(&self, seq: Seq) -> bool {
        self.ahead.contains(&seq)
    }

    /// Whether any event beyond the cursor is settled.
    pub(super) fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// A person released events: what was settled beyond the cursor may be pending again.
    pub(super) fn forget_ahead(&mut self) {
        self.ahead.clear();
    }

    /// Nothing up to `seq` is pending.
    pub(super) fn skip_to(&mut self, seq: Seq) {
        if seq > self.at {
            self.at = seq;
            self.ahead = self.ahead.split_off(&Seq(seq.0 + 1));
        }
    }

    /// A round over these events (ascending, all beyond the cursor; is it settled?) went ahead. Answers up to where it is
    /// done.
    pub(super) fn overtake(&mut self, events: &[(Seq, bool)]) -> Option<Seq> {
        self.ahead.extend(events.iter().filter(|(_, settled)| *settled).map(|(seq, _)| *seq));
        match events.iter().find(|(_, settled)| !settled) {
            Some((open, _)) => Some(Seq(open.0.saturating_sub(1))),
            None => events.last().map(|(last, _)| *last),
        }
    }

    /// A round over these events (ascending, the next after the cursor; is it settled?) has ended.
    pub(super) fn advance(&mut self, events: &[(Seq, bool)]) {
        let Some(first_open) = events.iter().position(|(_, settled)| !settled) else {
            if let Some((last, _)) = events.last() {
                self.skip_to(*last);
            }
            return;
        };
        let (open, _) = events[first_open];
        self.skip_to(Seq(open.0.saturating_sub(1)));
        self.ahead.extend(events[first_open..].iter().filter(|(_, settled)| *settled).map(|(seq, _)| *seq));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Outcome {
        Outcome::Refused { reason: "422".to_owned(), answer: "no".to_owned() }
    }

    fn delivered(n: usize) -> Outcome {
        Outcome::Settled(vec![Verdict::Delivered; n])
    }

    /// Plays a sink that refuses every span with a poisoned event in it.
    fn play(n: usize, poison: &[usize]) -> (usize, Vec<usize>, Round) {
        let (mut round, mut requests, mut quarantined) = (Round::new(n), 0, Vec::new());
        while let Some(mut span) = round.next() {
            requests += 1;
            span.attempts += 1;
            let bad = poison.iter().any(|p| (span.start..span.end).contains(p));
            if let Step::Settle(settled) = round.judge(span, if bad { refused() } else { delivered(span.len()) }) {
                for (index, settlement) in settled {
                    if matches!(settlement, Settlement::Quarantined { .. }) {
                        quarantined.push(index);
                    }
                }
            }
        }
        (requests, quarantined, round)
    }

    #[test]
    fn one_poisoned_event_is_found_within_the_bound_wherever_it_stands() {
        for n in [1usize, 2, 3, 5, 100, 500, 2000] {
            for poison in 0..n {
                let (requests, quarantined, round) = play(n, &[poison]);
                let bound = 2 * n.next_power_of_two().trailing_zeros() as usize + 1;
                assert!(requests <= bound, "{requests} requests for {poison} of {n}");
                assert_eq!(quarantined, [poison]);
                assert!(round.settled().iter().all(|s| *s));
            }
        }
    }

    #[test]
    fn several_poisoned_events_are_all_found_and_everything_else_is_delivered() {
        let (_, quarantined, round) = play(64, &[0, 13, 14, 63]);
        assert_eq!(quarantined, [0, 13, 14, 63]);
        assert!(round.settled().iter().all(|s| *s));
        assert_eq!(play(9, &[0, 1, 2, 3, 4, 5, 6, 7, 8]).1.len(), 9);
    }

    #[test]
    fn a_kept_event_ends_the_round_so_that_nothing_overtakes_it() {
        let mut round = Round::new(4);
        let whole = round.next().expect("a span");
        assert_eq!(round.judge(whole, refused()), Step::Split);
        let left = round.next().expect("the left half");
        let step = round.judge(left, Outcome::Settled(vec![Verdict::Delivered, Verdict::Keep]));
        assert_eq!(step, Step::Settle(vec![(0, Settlement::Delivered)]));
        assert!(round.kept() && round.next().is_none());
        let mut cursor = Cursor::new(Seq(10));
        let seqs = (11..=14).map(Seq).zip(round.settled().iter().copied());
        cursor.advance(&seqs.collect::<Vec<_>>());
        assert_eq!(cursor.at(), Seq(11));
    }

    #[test]
    fn nothing_accepted_sends_the_same_bytes_again_and_a_wrong_count_too() {
        let mut round = Round::new(2);
        let span = round.next().expect("a span");
        let keep = Outcome::Settled(vec![Verdict::Keep, Verdict::Keep]);
        assert!(matches!(round.judge(span, keep), Step::Again { .. }));
        assert!(matches!(round.judge(span, delivered(3)), Step::Again { .. }));
        assert!(!round.kept());
    }

    #[test]
    fn events_settled_beyond_a_kept_one_are_remembered_until_the_cursor_passes_them() {
        let mut cursor = Cursor::new(Seq(0));
        cursor.advance(&[(Seq(1), true), (Seq(2), false), (Seq(3), true)]);
        assert_eq!(cursor.at(), Seq(1));
        assert!(cursor.is_settled(Seq(3)) && !cursor.is_settled(Seq(2)));
        cursor.advance(&[(Seq(2), true)]);
        assert_eq!(cursor.at(), Seq(2));
        cursor.skip_to(Seq(7));
        assert!(!cursor.is_ahead());
    }
}
