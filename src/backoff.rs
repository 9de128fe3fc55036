//! How long to wait before the next try: bounded, jittered, honouring the other side's own wish.
//!
//! Must not: sleep or ask what time it is; callers wait themselves.

use std::time::Duration;

/// Full-jitter exponential backoff ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): a random delay below
/// `min(cap, base * 2^attempt)`, but never below a tenth of that bound, so that a try never follows at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// A backoff from `base`, doubling up to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0, random: fastrand::Rng::new() }
    }

    /// The same with a fixed seed, for tests and simulations.
    pub fn seeded(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, attempt: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// The same after so many failures.
    #[must_use]
    pub const fn after(mut self, attempts: u32) -> Self {
        self.attempt = attempts;
        self
    }

    /// Failures since the last success.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The delay before the next try. `asked` is what the other side wished for (`Retry-After`); it is honoured between
    /// one second and one hour, and a little jitter is added so that many gateways don't return at the same instant.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let bound = self.base.saturating_mul(1u32.checked_shl(self.attempt.min(20)).unwrap_or(u32::MAX)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        match asked {
            Some(asked) => {
                let asked = asked.clamp(Duration::from_secs(1), Duration::from_secs(3600));
                asked + asked.mul_f64(0.1 * self.random.f64())
            }
            None => bound.mul_f64(0.1 + 0.9 * self.random.f64()),
        }
    }

    /// The other side answered: start again from the base.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_never_past_it() {
        let cap = Duration::from_secs(300);
        let mut backoff = Backoff::seeded(Duration::from_millis(500), cap, 7);
        for _ in 0..100 {
            let delay = backoff.next(None);
            assert!(delay <= cap && delay >= Duration::from_millis(50));
        }
        assert_eq!(backoff.attempt(), 100);
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(500));
    }

    #[test]
    fn the_other_sides_wish_is_honoured_within_bounds() {
        let mut backoff = Backoff::seeded(Duration::from_millis(500), Duration::from_secs(300), 7);
        let ten_years = Duration::from_secs(315_360_000);
        assert!(backoff.next(Some(ten_years)) <= Duration::from_secs(3960));
        assert!(backoff.next(Some(Duration::ZERO)) >= Duration::from_secs(1));
        let wished = backoff.next(Some(Duration::from_secs(30)));
        assert!(wished >= Duration::from_secs(30) && wished <= Duration::from_secs(33));
    }
}
