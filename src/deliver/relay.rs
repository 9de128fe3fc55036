//! The loop that serves one sink: read, send, settle, back off, isolate poison.
//!
//! Must not: be woken by a timer while the sink works, share anything with another relay but the journal (I9), change the
//! bytes of a try that may have left (the batch in flight is on disk before its first byte goes), or move on before the
//! journal has taken the verdicts (I2).

mod aside;

mod context;

mod doubt;

mod flow;

mod lanes;

mod launch;

mod mend;

mod pause;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use context::{Context, Pace};
pub use flow::{Flow, Order};

use self::aside::Aside;
use self::doubt::Trust;
use self::flow::Standing;
use self::lanes::Turn;
use self::launch::Launch;
use super::complaint::Complaint;
use super::directory::Directory;
use super::plan::{Cursor, Round, Span, Step};
use super::{Batch, Outcome, Sink, StatusBoard, THEIRS};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::journal::{Flight, Journal, Record, Seq, Setback, Settlement, SinkId, SinkState, When};
use crate::progress::Mark;

/// Serves one sink until shutdown or until the journal closes. `state` comes from [`Journal::sink`].
///
/// Dropping the future is safe at any point: what was sent and not settled is sent again with the same key and bytes.
pub async fn run<S: Sink>(sink: S, state: SinkState, context: Context) {
    run_with(sink, state, context, Flow::default()).await;
}

/// [`run`], as fast and in the order that an operator chose.
pub async fn run_with<S: Sink>(mut sink: S, state: SinkState, context: Context, flow: Flow) {
    let name = sink.name().to_owned();
    let span = tracing::info_span!("relay", sink = %name);
    let Context { journal, clock, shutdown, grace, board, pace, directory, mark } = context;
    let setback = state.setback;
    let flow = Standing::new(flow, &state, &mut sink);
    flow.gate.follow(mark.clone(), sink.patience());
    let mut relay = Relay {
        head: journal.head(),
        nudges: journal.nudges(),
        sink,
        name,
        id: state.id,
        journal,
        clock,
        shutdown,
        grace,
        board,
        directory,
        progress: mark,
        cursor: Cursor::new(state.position),
        prefetched: None,
        filtered: Vec::new(),
        trial: None,
        healing: false,
        // Every request of a sink with `live-first` has a row.
        corrections: aside::ONE_BY_ONE,
        aside_was_last: false,
        unreadable: None,
        solos: if flow.is_live_first() && setback.live_first { 0 } else { SOLOS },
        doubt_to: state.doubt_to,
        retry: Backoff::new(pace.retry.0, pace.retry.1).after(setback.attempts),
        probe: Backoff::new(pace.probe.0, pace.probe.1),
        flow,
        failing: Complaint::default(),
        poison: Complaint::default(),
        storage: Complaint::default(),
    };
    relay.show("idle", None);
    // Both ways to end are ordinary; the journal says itself why it closed.
    let _: Result<(), Ended> = relay.work(state.flight, setback).instrument(span).await;
}

/// After a start, so many of the events in doubt travel alone where the sink knows batches by their key.
///
/// An event alone has no row in the journal while it is on its way (its key is its id), and its settlement waits for the
/// next commit. In a batch it would go out again under another key. Three can be in doubt: between two commits nothing new
/// becomes visible, so what left since the last one is the event that was on its way at that commit, the one that the
/// commit before it brought, and the one that it brought itself; two that came together are a batch, which has a row.
const SOLOS: usize = 3;

/// Why the loop ends.
#[derive(Debug)]
enum Ended {
    Shutdown,
    JournalClosed,
}

/// Which events a round carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// The batch that was in flight at the last stop.
    Resumed,
    /// Released from quarantine, behind the position.
    Held,
    /// Corrections: settled on their own, never counted as events.
    Corrections,
    /// After the position.
    New,
    /// After the position, while newer ones go ahead of them.
    Late,
    /// Ahead of a backlog.
    Live,
}

impl Lane {
    /// Whether these are events that were never settled.
    const fn is_queue(self) -> bool {
        matches!(self, Self::New | Self::Late | Self::Live)
    }
}

/// The next batch, read while the one before it was on its way.
struct Prefetched {
    after: Seq,
    nudge: u64,
    records: Vec<Record>,
}

struct Relay<S> {
    sink: S,
    name: String,
    id: SinkId,
    journal: Journal,
    head: watch::Receiver<Seq>,
    nudges: watch::Receiver<u64>,
    clock: Clock,
    shutdown: CancellationToken,
    grace: Duration,
    board: StatusBoard,
    directory: Directory,
    progress: Mark,
    cursor: Cursor,
    prefetched: Option<Prefetched>,
    /// Events of this round that the sink's filter leaves out, ascending, until they are settled.
    filtered: Vec<Seq>,
    /// Refusals of a mapping under which nothing was delivered yet.
    trial: Option<u64>,
    /// There may be events that another mapping refused.
    healing: bool,
    /// Corrections that are read at once.
    corrections: usize,
    /// The last part of a backlog's pace went to what is beside the queue.
    aside_was_last: bool,
    /// What was held because its answer could not be read, for a while now: no answer, and something to be mended.
    unreadable: Option<String>,
    /// New events that still travel alone, see [`SOLOS`].
    solos: usize,
    doubt_to: Seq,
    retry: Backoff,
    probe: Backoff,
    flow: Standing,
    failing: Complaint,
    poison: Complaint,
    storage: Complaint,
}

impl<S: Sink> Relay<S> {
    async fn work(&mut self, flight: Option<Flight>, setback: Setback) -> Result<(), Ended> {
        self.begin().await?;
        self.begin_where_it_stopped(setback).await?;
        if let Some(flight) = flight {
            self.resume(flight).await?;
        }
        // Held events and corrections of an earlier run wait without a nudge.
        let mut nudged = true;
        loop {
            // A trial that has failed and is over lets the healing go on.
            nudged |= self.nudges.has_changed().map_err(|_| Ended::JournalClosed)? || self.may_heal();
            let mut aside = Aside::Nothing;
            // Where a backlog is paced, both have every other turn of the pace.
            let queues_turn = self.aside_was_last && self.flow.is_paced() && self.flow.is_behind(&self.cursor);
            if std::mem::take(&mut nudged) {
                self.nudges.mark_unchanged();
                aside = match queues_turn {
                    true => self.flow.backlog_opens(Instant::now()).map_or(Aside::More, Aside::Later),
                    false => self.drain_aside().await?,
                };
                nudged = aside != Aside::Nothing;
            }
            if self.shutdown.is_cancelled() {
                return Err(Ended::Shutdown);
            }
            let until = match self.next_turn().await? {
                Turn::Send(records, lane) => {
                    self.deliver(records, lane, None).await?;
                    continue;
                }
                Turn::Wait(_) if aside == Aside::More => {
                    self.aside_was_last &= !queues_turn;
                    continue;
                }
                Turn::Wait(until) => match aside {
                    Aside::Later(at) => Some(until.map_or(at, |until| until.min(at))),
                    _ => until,
                },
            };
            self.rest_until(until);
            let opens = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.head.changed() => changed.map_err(|_| Ended::JournalClosed)?,
                changed = self.nudges.changed() => { changed.map_err(|_| Ended::JournalClosed)?; nudged = true; }
                () = opens => self.say_no_wait(),
                () = self.shutdown.cancelled() => return Err(Ended::Shutdown),
            }
        }
    }

    /// The batch whose answer was lost at the last stop: exactly those bytes and that key.
    async fn resume(&mut self, flight: Flight) -> Result<(), Ended> {
        let id = self.id;
        let records = self
            .stored("read", |journal| {
                let seqs = flight.seqs.clone();
                async move { journal.read_for(id, seqs).await }
            })
            .await?;
        if records.len() == flight.seqs.len() && !records.is_empty() {
            tracing::info!(count = records.len(), "sending the batch in flight again");
            self.deliver(records, Lane::Resumed, Some(flight)).await
        } else {
            // Only a journal from another hand can get here: events are not pruned before they are settled.
            tracing::warn!(count = flight.seqs.len(), "the batch in flight names events that are gone");
            Ok(())
        }
    }

    /// Sends a batch until every event in it is settled, or until the sink keeps some of it.
    async fn deliver(&mut self, mut records: Vec<Record>, lane: Lane, mut flight: Option<Flight>) -> Result<(), Ended> {
        let (read, mut seqs) = (records.len(), Vec::new());
        self.directory.fill(&mut records);
        if lane.is_queue() || lane == Lane::Held {
            self.filtered = self.sift(&mut records);
            seqs.extend(self.filtered.iter().map(|seq| (*seq, true)));
        }
        let records = records.as_slice();
        let mut round = Round::new(records.len());
        while let Some(span) = round.next() {
            if self.shutdown.is_cancelled() {
                return Err(Ended::Shutdown);
            }
            let launch = match flight.take() {
                Some(flight) => Launch::Send { span, flight: Some(flight) },
                None => {
                    // What is kept on disk before it leaves must not wait there: after a stop it would be in doubt.
                    self.turn_opens().await?;
                    self.take_off(records, read, lane, span, &mut round).await?
                }
            };
            if let Launch::Send { span, flight } = launch {
                let part = records.get(span.start..span.end).unwrap_or_default();
                self.fly(part, lane, flight, span, &mut round).await?;
            }
        }
        self.settle_filtered(lane).await?;
        seqs.extend(records.iter().map(|r| r.seq).zip(round.settled().iter().copied()));
        seqs.sort_unstable();
        match lane {
            Lane::New | Lane::Late => self.cursor.advance(&seqs),
            Lane::Live => {
                let at = self.cursor.overtake(&seqs);
                self.flow.went_ahead(at, seqs.len() as u64);
            }
            Lane::Resumed | Lane::Held | Lane::Corrections => {}
        }
        if round.kept() {
            let delay = self.retry.next(None);
            tracing::debug!(delay_ms = millis(delay), "the sink took a part of the batch");
            self.pause(delay, None).await?;
        }
        Ok(())
    }

    /// Sends the same bytes until the sink has answered for them.
    async fn fly(
        &mut self,
        part: &[Record],
        lane: Lane,
        flight: Option<Flight>,
        mut span: Span,
        round: &mut Round,
    ) -> Result<(), Ended> {
        // What was in flight at the last stop may have arrived.
        let mut trust = Trust::at_first(lane == Lane::Resumed && span.attempts == 0);
        loop {
            span.attempts = span.attempts.saturating_add(1);
            if self.retry.attempt() == 0 && self.probe.attempt() == 0 {
                self.show("sending", None);
            }
            let batch = Batch { records: part, corrections: lane == Lane::Corrections, flight: flight.as_ref() };
            let outcome = match self.resolve(&mut trust, &batch).await? {
                Some(outcome) => outcome,
                None => {
                    self.turn().await?;
                    let outcome = self.send(batch, lane == Lane::New && round.is_last()).await?;
                    let outcome = self.on_trial(outcome);
                    self.suspect(outcome, &mut trust, lane, part.len()).await?
                }
            };
            let (delay, reason) = match round.judge(span, outcome) {
                Step::Settle(settlements) => {
                    let unreadable = self.unreadable.take();
                    if unreadable.is_none() {
                        self.recovered().await?;
                    }
                    self.settle(part, span.start, lane, settlements).await?;
                    if unreadable.is_some() {
                        self.show("blocked", unreadable.as_deref());
                    }
                    return Ok(());
                }
                Step::Split => {
                    self.recovered().await?;
                    tracing::debug!(count = span.len(), "batch refused, splitting it");
                    return Ok(());
                }
                Step::Again { reason, after } => {
                    let delay = self.retry.next(after);
                    self.failed(&reason, after.is_some(), delay).await?;
                    (delay, reason)
                }
                Step::Probe { reason } => {
                    let delay = self.probe.next(None);
                    // What waits meanwhile is a backlog too.
                    self.flow.open = true;
                    if let Some(count) = self.failing.raise(&reason, Instant::now()) {
                        tracing::error!(
                            reason = ours(&reason),
                            count,
                            delay_ms = millis(delay),
                            "delivery blocked until this is mended"
                        );
                    }
                    self.show("blocked", Some(&reason));
                    (delay, reason)
                }
                Step::End { reason } => return self.retire(&reason).await,
            };
            let reason = ours(&reason);
            tracing::debug!(reason, attempt = span.attempts, delay_ms = millis(delay), "waiting before the next try");
            self.pause(delay, None).await?;
        }
    }

    /// One try, and meanwhile the next full batch is read. After shutdown the try may still take the grace period.
    async fn send(&mut self, batch: Batch<'_>, prefetch: bool) -> Result<Outcome, Ended> {
        let (rows, bytes) = self.sink.limits();
        let last = batch.records.last().map_or(Seq(0), |r| r.seq);
        let waiting = self.head.borrow().0.saturating_sub(last.0);
        // A paced backlog takes less of it than a batch, and later.
        let paced = self.flow.is_paced() && last < self.flow.mark;
        let full = waiting >= rows as u64 && !paced;
        let wanted = prefetch && self.prefetched.is_none() && full && !self.cursor.is_ahead();
        let (journal, id, nudge) = (self.journal.clone(), self.id, *self.nudges.borrow());
        let read = async {
            if !wanted {
                return None;
            }
            // A failure here is met again, and reported, by the ordinary read.
            let records = journal.read_after(id, last, rows, bytes).await.ok()?;
            Some(Prefetched { after: last, nudge, records })
        };
        let both = futures_util::future::join(self.sink.send(&batch), read);
        let (shutdown, grace) = (&self.shutdown, self.grace);
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            (outcome, read) = both => {
                if read.is_some() {
                    self.prefetched = read;
                }
                Ok(outcome)
            }
            () = late => Err(Ended::Shutdown),
        }
    }

    /// Hands the verdicts to the journal; does not go on before it has taken them.
    async fn settle(
        &mut self,
        part: &[Record],
        start: usize,
        lane: Lane,
        settlements: Vec<(usize, Settlement)>,
    ) -> Result<(), Ended> {
        let mut verdicts = Vec::with_capacity(settlements.len());
        let (mut delivered, mut quarantined) = (0u64, 0u64);
        // Refused by a name from before the directory learned a better one: out once more, with that.
        let mut outdated = Vec::new();
        for (index, settlement) in settlements {
            let Some(record) = index.checked_sub(start).and_then(|i| part.get(i)) else { continue };
            if let Settlement::Quarantined { reason, .. } = &settlement {
                quarantined += 1;
                // What follows are the sink's own words, which may name a person (I7).
                let reason = reason.split(": ").next().unwrap_or_default();
                if let Some(count) = self.poison.raise(reason, Instant::now()) {
                    let (seq, event_id) = (record.seq.0, record.event.id);
                    if lane == Lane::Corrections {
                        tracing::warn!(seq, %event_id, reason, count, "correction refused for good");
                    } else {
                        tracing::warn!(seq, %event_id, reason, count, "event quarantined");
                    }
                }
            } else {
                delivered += 1;
            }
            if self.is_outdated(record, &settlement, lane) {
                outdated.push(record.seq);
            }
            verdicts.push((record.seq, settlement));
        }
        if lane != Lane::Corrections {
            self.weigh(delivered, verdicts.iter().map(|(_, settlement)| settlement)).await?;
        }
        let id = self.id;
        if lane == Lane::Corrections {
            let seqs: Vec<Seq> = verdicts.into_iter().map(|(seq, _)| seq).collect();
            self.stored("settle", |journal| {
                let seqs = seqs.clone();
                async move { journal.settle_corrections(id, seqs).await }
            })
            .await?;
        } else {
            if let Some((last, _)) = verdicts.last() {
                let filtered = self.filtered_before(*last);
                verdicts.extend(filtered);
            }
            // What was read aside is read again by the journal's own view, so that view must be up to date.
            let lazy = lane.is_queue() && !self.sink.on_ambiguous().is_careful();
            let when = if lazy { When::Lazy } else { When::Now };
            self.stored("settle", |journal| {
                let verdicts = verdicts.clone();
                async move { journal.settle(id, verdicts, when).await }
            })
            .await?;
        }
        if lane != Lane::Corrections {
            self.release(outdated).await?;
        }
        tracing::debug!(count = delivered, "delivered");
        if lane != Lane::Corrections {
            let now = self.clock.now().wall;
            self.board.update(&self.name, |status| {
                status.delivered += delivered;
                status.quarantined += quarantined;
                if delivered > 0 {
                    status.last_delivery = Some(now);
                }
            });
        }
        self.show("idle", None);
        Ok(())
    }
}

/// The part of a reason that is ours.
fn ours(reason: &str) -> &str {
    reason.split(THEIRS).next().unwrap_or_default().trim_end()
}

fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}
