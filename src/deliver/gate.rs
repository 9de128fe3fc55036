//! Whether one more request may leave: the sink's cap, and what the other side said of its own limit.
//!
//! Must not: ask what time it is, or know who asks; a relay waits its turn here, and so does a sink that sends more than one
//! request for a batch (a poll, a look-up, a second try with a new credential).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::progress::{LONGEST_STEP, Mark};

const MINUTE: Duration = Duration::from_secs(60);

/// How long the other side's word on its own limit is believed at most. What it asks for by `Retry-After` has a bound of its
/// own ([`Backoff`](crate::backoff::Backoff)).
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// Why a request has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// `max_requests_per_minute`.
    Cap,
    /// The other side said that its limit is used up.
    UsedUp,
}

impl Why {
    /// For `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cap => "max_requests_per_minute is used up",
            Self::UsedUp => "the sink says that its rate limit is used up",
        }
    }
}

/// A cheap, cloneable handle; one for each relay.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Whose turns these are, and how long each may take.
    asker: Option<(Mark, Duration)>,
    rate: Option<Rate>,
    held_until: Option<Instant>,
    /// Turns that were taken for the next requests.
    paid: u8,
}

impl Gate {
    /// With a cap on requests a minute; `None`: as many as are answered.
    pub fn new(per_minute: Option<u32>) -> Self {
        Self(Arc::new(Mutex::new(State { rate: per_minute.map(Rate::new), ..State::default() })))
    }

    /// Says at `mark` what every turn is for; each may take `patience`.
    pub(super) fn follow(&self, mark: Mark, patience: Duration) {
        self.with(|state| state.asker = Some((mark, patience)));
    }

    /// A request leaves.
    pub(super) fn asks(&self) {
        self.with(|state| {
            if let Some((mark, patience)) = &state.asker {
                mark.within("asking the sink", *patience);
            }
        });
    }

    /// Waits, and says so.
    pub(super) async fn wait(&self, delay: Duration) {
        self.with(|state| {
            if let Some((mark, _)) = &state.asker {
                mark.within("waiting for its turn", delay.saturating_add(LONGEST_STEP));
            }
        });
        tokio::time::sleep(delay).await;
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The other side lets nobody in for so long.
    pub fn hold(&self, now: Instant, wish: Duration) {
        let until = now + wish.min(LONGEST_HOLD);
        self.with(|state| state.held_until = Some(state.held_until.map_or(until, |held| held.max(until))));
    }

    /// How long the other side still lets nobody in.
    pub(super) fn held(&self, now: Instant) -> Duration {
        self.with(|state| state.held_until.map(|until| until.saturating_duration_since(now)).unwrap_or_default())
    }

    /// How long the next request has to wait, and why; `None`: it may leave now.
    pub fn delay(&self, now: Instant) -> Option<(Duration, Why)> {
        self.with(|state| state.delay(now))
    }

    /// Takes a turn for one request; how long to wait before asking again if there is none yet.
    pub fn take(&self, now: Instant) -> Result<(), (Duration, Why)> {
        self.with(|state| state.take(now))
    }

    /// Takes a turn for the first request of what the sink is asked to do next.
    pub(super) fn prepay(&self, now: Instant) -> Result<(), (Duration, Why)> {
        self.with(|state| {
            state.paid = 0;
            state.take(now)?;
            state.paid = 1;
            Ok(())
        })
    }

    /// Waits for a turn; at once where one was taken for this request. For sinks: whoever waits may be dropped here.
    pub async fn turn(&self) {
        let paid = self.with(|state| {
            let paid = state.paid > 0;
            state.paid = state.paid.saturating_sub(1);
            paid
        });
        if !paid {
            while let Err((delay, _)) = self.take(Instant::now()) {
                self.wait(delay).await;
            }
        }
        self.asks();
    }

    /// Waits until two requests may leave one right after the other, and takes both turns: a question, and what must not
    /// leave long after its answer.
    pub async fn pair(&self) {
        let mut waited = false;
        while let Err((delay, _)) = self.with(|state| state.take_pair(Instant::now(), waited)) {
            self.wait(delay).await;
            waited = true;
        }
        self.asks();
    }
}

impl State {
    /// Takes what is missing of two turns. If they were not to be had at once, the first one leaves later than it was taken:
    /// it is paid for once more, or there could be more than the cap from now on.
    fn take_pair(&mut self, now: Instant, waited: bool) -> Result<(), (Duration, Why)> {
        while self.paid < 2 {
            self.take(now)?;
            self.paid += 1;
        }
        if let (true, Some(rate)) = (waited, &mut self.rate) {
            rate.spend(now);
        }
        Ok(())
    }

    fn delay(&self, now: Instant) -> Option<(Duration, Why)> {
        let left = |until: Instant| until.saturating_duration_since(now);
        let held = self.held_until.map(left).unwrap_or_default();
        let capped = self.rate.as_ref().and_then(Rate::opens).map(left).unwrap_or_default();
        let longest = if held >= capped { (held, Why::UsedUp) } else { (capped, Why::Cap) };
        Some(longest).filter(|(delay, _)| !delay.is_zero())
    }

    fn take(&mut self, now: Instant) -> Result<(), (Duration, Why)> {
        if let Some(closed) = self.delay(now) {
            return Err(closed);
        }
        if let Some(rate) = &mut self.rate {
            rate.spend(now);
        }
        Ok(())
    }
}

/// A cap on requests that holds in every minute, wherever it begins: evenly, with at most a tenth of a minute's at once after
/// a pause, and none at the start, since what left before it is not known (the generic cell rate algorithm, ITU-T I.371).
/// With `n` a minute and `b` at once, the others follow at `n - b + 1` a minute: `b` at the beginning of a minute and those
/// that follow in it are never more than `n`. A twentieth of `n` less, so that requests may shift on their way there and
/// still be no more than `n` in a minute of the other side's. In the long run that is some 85 % of the cap.
#[derive(Debug, Clone)]
struct Rate {
    interval: Duration,
    tolerance: Duration,
    /// When the next request would be due at an even pace.
    due: Option<Instant>,
}

impl Rate {
    fn new(per_minute: u32) -> Self {
        let per_minute = per_minute.max(1);
        let burst = 1 + per_minute / 10;
        let even = per_minute - burst + 1 - per_minute / 20;
        // Rounded up: never faster.
        let interval = MINUTE / even + Duration::from_nanos(1);
        Self { interval, tolerance: interval * (burst - 1), due: None }
    }

    fn opens(&self) -> Option<Instant> {
        // A machine that has just started has no earlier instant.
        self.due.map(|due| due.checked_sub(self.tolerance).unwrap_or(due))
    }

    fn spend(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now + self.tolerance, |due| due.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as fast as it may for so long; answers when, from the start.
    fn sent(per_minute: u32, minutes: u32, mut pause: impl FnMut(usize) -> Duration) -> Vec<Duration> {
        let (gate, begin) = (Gate::new(Some(per_minute)), Instant::now());
        let (mut now, mut sent) = (begin, Vec::new());
        while now < begin + MINUTE * minutes {
            match gate.take(now) {
                Ok(()) => {
                    sent.push(now - begin);
                    now += pause(sent.len());
                }
                Err((delay, why)) => {
                    assert_eq!(why, Why::Cap);
                    now += delay;
                }
            }
        }
        sent
    }

    #[test]
    fn no_minute_has_more_than_the_cap_wherever_it_begins() {
        for per_minute in [1, 2, 5, 9, 10, 11, 60, 600, 6000] {
            // Without a pause, and with pauses in which turns are saved up.
            for rest in [0, 7, 30, 90] {
                let sent = sent(per_minute, 30, |n| Duration::from_secs(if n.is_multiple_of(13) { rest } else { 0 }));
                let mut last = 0;
                for (first, at) in sent.iter().enumerate() {
                    while last < sent.len() && sent[last] < *at + MINUTE {
                        last += 1;
                    }
                    assert!(last - first <= per_minute as usize, "{} of {per_minute} after {at:?}", last - first);
                }
                if rest == 0 {
                    let most = f64::from(per_minute) * 30.0;
                    assert!(sent.len() as f64 >= 0.83 * most, "the cap is used: {} of {most}", sent.len());
                }
            }
        }
    }

    #[test]
    fn after_a_pause_a_tenth_of_a_minutes_requests_may_leave_at_once() {
        let (gate, begin) = (Gate::new(Some(60)), Instant::now());
        // What left before the start is not known.
        for (later, at_once) in [(0, 1), (3600, 7)] {
            let now = begin + Duration::from_secs(later);
            assert!((0..at_once).all(|_| gate.take(now).is_ok()));
            assert!(gate.take(now).is_err_and(|(delay, _)| delay > Duration::from_secs(1)));
        }
    }

    #[test]
    fn without_a_cap_only_the_other_sides_word_holds_and_not_for_ever() {
        let (gate, now) = (Gate::default(), Instant::now());
        assert!((0..1000).all(|_| gate.take(now).is_ok()));
        gate.hold(now, Duration::from_secs(30));
        gate.hold(now, Duration::from_secs(10));
        assert_eq!(gate.delay(now), Some((Duration::from_secs(30), Why::UsedUp)));
        assert_eq!(gate.take(now + Duration::from_secs(30)), Ok(()));
        gate.hold(now, Duration::from_secs(86_400));
        assert_eq!(gate.delay(now), Some((LONGEST_HOLD, Why::UsedUp)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_was_paid_for_is_taken_once() {
        let (gate, begin) = (Gate::new(Some(1)), Instant::now());
        assert_eq!(gate.prepay(begin), Ok(()));
        gate.turn().await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        gate.turn().await;
        assert!(begin.elapsed() >= MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn pairs_leave_at_once_and_no_minute_has_more_than_the_cap() {
        for per_minute in [2, 3, 5, 10, 60, 600] {
            let (gate, begin) = (Gate::new(Some(per_minute)), Instant::now());
            let mut sent: Vec<Duration> = Vec::new();
            for round in 0..3 * per_minute {
                // As a relay does it: a turn for the first request; every third time nothing follows it.
                while let Err((delay, _)) = gate.prepay(Instant::now()) {
                    tokio::time::sleep(delay).await;
                }
                if round % 3 > 0 {
                    gate.pair().await;
                }
                let now = Instant::now();
                for _ in 0..=u32::from(round % 3 > 0) {
                    gate.turn().await;
                    sent.push(begin.elapsed());
                }
                assert_eq!(now.elapsed(), Duration::ZERO, "the second one need not wait");
            }
            for (first, at) in sent.iter().enumerate() {
                let within = sent[first..].iter().take_while(|other| **other < *at + MINUTE).count();
                assert!(within <= per_minute as usize, "{within} of {per_minute} after {at:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_sink_as_long_as_it_said_is_not_stuck_and_an_answer_that_never_comes_is() {
        let roll = crate::progress::Roll::default();
        let (gate, patience) = (Gate::new(None), Duration::from_secs(10));
        gate.follow(roll.part("sink"), patience);
        let stuck = || roll.look().iter().any(|seen| seen.stuck);
        let asking = gate.clone();
        // A vendor's 202 that says: ask again in an hour.
        let hour = tokio::spawn(async move {
            asking.turn().await;
            asking.wait(Duration::from_secs(3600)).await;
            asking.turn().await;
        });
        while !hour.is_finished() {
            assert!(!stuck(), "{:?}", roll.look());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::advance(patience).await;
        assert!(stuck());
    }
}
