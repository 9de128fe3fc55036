//! How a relay waits: for a try, for its turn, for the journal; and what it says of itself meanwhile.
//!
//! Must not: send, or wait without listening for the shutdown.

use std::time::Duration;

use tokio::time::Instant;

use super::flow::KEPT_FROM;
use super::lanes::CATCHING_UP;
use super::{Ended, Relay, millis, ours};
use crate::backoff::Backoff;
use crate::deliver::Sink;
use crate::event::UtcMicros;
use crate::journal::{self, Journal, Setback, When};
use crate::progress::{LONGEST_ANSWER, LONGEST_STEP};

/// The longest wait that is believed over a restart: the longest that a sink may ask for, with its jitter.
const LONGEST: Duration = Duration::from_secs(3960);

/// What is shown while a wait from before a restart goes on.
const BEFORE: &str = "the sink was failing when the gateway stopped";

impl<S: Sink> Relay<S> {
    /// Asks the journal until it answers: a verdict that was lost here would leave its event pending for ever.
    pub(super) async fn stored<T, F>(&mut self, what: &'static str, ask: impl Fn(Journal) -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, journal::Error>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            self.progress.within("asking the journal", LONGEST_ANSWER);
            match ask(self.journal.clone()).await {
                Ok(answer) => {
                    if let Some(count) = self.storage.clear() {
                        tracing::info!(count, "the journal answers again");
                    }
                    return Ok(answer);
                }
                Err(journal::Error::Closed) => return Err(Ended::JournalClosed),
                Err(error) => {
                    if let Some(count) = self.storage.raise(&error.to_string(), Instant::now()) {
                        tracing::error!(%error, reason = what, count, "the journal refuses, delivery waits");
                    }
                    self.show("retrying", Some(&error.to_string()));
                    self.wait(backoff.next(None), "waiting for the journal").await?;
                }
            }
        }
    }

    /// The sink answered: whatever it said, it is there.
    pub(super) async fn recovered(&mut self) -> Result<(), Ended> {
        self.retry.reset();
        self.probe.reset();
        if let Some(count) = self.failing.clear() {
            tracing::info!(count, "delivery works again");
        }
        if self.flow.answered() {
            // What is waiting now is what waited for the sink.
            let head = *self.head.borrow();
            self.flow.mark(head);
        }
        // What it said of its own limit outlives a restart.
        let held = self.flow.gate.held(Instant::now());
        if held >= KEPT_FROM {
            self.flow.kept = true;
            self.keep_setback(held, When::Lazy).await?;
        } else if std::mem::take(&mut self.flow.kept) {
            self.keep_setback(Duration::ZERO, When::Lazy).await?;
        }
        Ok(())
    }

    /// The sink failed, and is tried again after `delay`: an outage and a long wait are kept over a restart.
    pub(super) async fn failed(&mut self, reason: &str, asked: bool, delay: Duration) -> Result<(), Ended> {
        let opened = self.flow.failed(&self.retry, Instant::now());
        if let Some(count) = self.failing.raise(reason, Instant::now()) {
            let (reason, attempt) = (ours(reason), self.retry.attempt());
            tracing::warn!(reason, count, attempt, delay_ms = millis(delay), "delivery failed, retrying");
        }
        if opened {
            tracing::warn!(delay_ms = millis(delay), "the sink is out: one request at a time, as a probe");
        }
        self.show(if self.flow.open { "open" } else { "retrying" }, Some(reason));
        let held = self.flow.gate.held(Instant::now());
        if opened || (asked && delay >= KEPT_FROM) || held >= KEPT_FROM {
            self.flow.kept = true;
            self.keep_setback(delay.max(held), When::Lazy).await?;
        }
        Ok(())
    }

    pub(super) async fn keep_setback(&mut self, wait: Duration, when: When) -> Result<(), Ended> {
        let (attempts, open) = (self.retry.attempt(), self.flow.open);
        let setback = Setback { attempts, open, wait, live_first: self.flow.is_live_first() };
        let id = self.id;
        self.stored("setback", |journal| async move { journal.keep_setback(id, setback, when).await }).await
    }

    /// Goes on with what a restart has interrupted.
    pub(super) async fn begin_where_it_stopped(&mut self, setback: Setback) -> Result<(), Ended> {
        if setback.live_first != self.flow.is_live_first() {
            self.keep_setback(setback.wait, When::Now).await?;
        }
        let head = *self.head.borrow();
        let (rows, _) = self.sink.limits();
        self.flow.look(head, &self.cursor, rows);
        let wait = setback.wait.min(LONGEST);
        if setback.attempts == 0 && !setback.open {
            // Nothing was wrong: the sink had said that its limit is used up.
            self.flow.gate.hold(Instant::now(), wait);
        } else if !wait.is_zero() {
            tracing::info!(
                delay_ms = millis(wait),
                "the sink was failing at the last stop, waiting before the next try"
            );
            self.show(if setback.open { "open" } else { "retrying" }, Some(BEFORE));
            self.pause(wait, None).await?;
        }
        Ok(())
    }

    /// Takes a turn for the next request.
    pub(super) async fn turn(&mut self) -> Result<(), Ended> {
        while let Err((delay, why)) = self.flow.gate.prepay(Instant::now()) {
            self.pause(delay, Some(why.as_str())).await?;
        }
        self.flow.gate.asks();
        Ok(())
    }

    /// Waits until a request could leave, without taking the turn: what is to be sent is chosen after the wait.
    pub(super) async fn turn_opens(&mut self) -> Result<(), Ended> {
        while let Some((delay, why)) = self.flow.gate.delay(Instant::now()) {
            self.pause(delay, Some(why.as_str())).await?;
        }
        Ok(())
    }

    /// Waits, and says until when; `why` where nothing is wrong.
    pub(super) async fn pause(&mut self, delay: Duration, why: Option<&'static str>) -> Result<(), Ended> {
        self.say_wait(delay, why);
        self.wait(delay, why.unwrap_or("waiting before the next try")).await?;
        self.say_no_wait();
        Ok(())
    }

    /// There is nothing to do until something is heard, or until then.
    pub(super) fn rest_until(&self, until: Option<Instant>) {
        let Some(until) = until else { return self.progress.idle("nothing is pending") };
        let delay = until.saturating_duration_since(Instant::now());
        self.progress.within(CATCHING_UP, delay.saturating_add(LONGEST_STEP));
        self.say_wait(delay, Some(CATCHING_UP));
    }

    pub(super) fn say_wait(&self, delay: Duration, why: Option<&'static str>) {
        let micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        let until = UtcMicros(self.clock.now().wall.0.saturating_add(micros));
        self.board.update(&self.name, |status| {
            status.waits_for = why;
            status.next_try = Some(until);
            if why.is_some() && matches!(status.state, "idle" | "sending") {
                status.state = "waiting";
            }
        });
    }

    pub(super) fn say_no_wait(&self) {
        self.board.update(&self.name, |status| {
            status.waits_for = None;
            status.next_try = None;
            if status.state == "waiting" {
                status.state = "sending";
            }
        });
    }

    async fn wait(&mut self, delay: Duration, why: &'static str) -> Result<(), Ended> {
        self.progress.within(why, delay.saturating_add(LONGEST_STEP));
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.shutdown.cancelled() => Err(Ended::Shutdown),
        }
    }

    pub(super) fn show(&self, state: &'static str, error: Option<&str>) {
        let attempt = self.retry.attempt().max(self.probe.attempt());
        self.board.update(&self.name, |status| {
            status.state = state;
            status.attempt = attempt;
            status.waits_for = None;
            status.next_try = None;
            if status.error.as_deref() != error {
                status.error = error.map(str::to_owned);
            }
        });
    }
}
