//! A part that ends by itself is started again, more slowly each time.
//!
//! Must not: restart anything once the gateway stops, or hide why a part ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::progress::{LONGEST_STEP, Mark};

/// First and longest delay before a part is started again.
const PACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A part that ran so long before it ended counts as sound: the delay starts again from the first.
const SOUND: Duration = Duration::from_secs(600);

/// Keeps a part running until `stop`. The span of the caller says which part it is. `make` makes it anew for each start;
/// `None`: it can't be made now, try again.
pub(super) async fn keep<F, M, P>(stop: CancellationToken, mark: Mark, make: F)
where
    F: Fn() -> M + Send,
    M: Future<Output = Option<P>> + Send,
    P: Future<Output = ()> + Send + 'static,
{
    let mut backoff = Backoff::new(PACE.0, PACE.1);
    loop {
        let started = Instant::now();
        // What was said while it waited is over; a part that says more of itself does so at once.
        mark.idle("running");
        let reason = match make().await {
            // In a task of its own, so that a panic ends the part and not the gateway.
            Some(part) => match AbortOnDrop(tokio::spawn(mark.watch(part))).await {
                Ok(()) if stop.is_cancelled() => return,
                Ok(()) => "ended",
                Err(error) if error.is_panic() => "panicked",
                // Aborted: the gateway gave it up.
                Err(_) => return,
            },
            None if stop.is_cancelled() => return,
            None => "not made",
        };
        if started.elapsed() > SOUND {
            backoff.reset();
        }
        let attempt = backoff.attempt() + 1;
        let delay = backoff.next(None);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(reason, attempt, delay_ms, "a part of the gateway is started again");
        mark.within("waiting to be started again", delay + LONGEST_STEP);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(delay) => {}
        }
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Future for AbortOnDrop {
    type Output = Result<(), tokio::task::JoinError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_or_ends_is_started_again_until_the_gateway_stops() {
        let stop = CancellationToken::new();
        let starts = Arc::new(AtomicU32::new(0));
        let (counter, token) = (Arc::clone(&starts), stop.clone());
        keep(stop, Mark::default(), move || {
            let start = counter.fetch_add(1, Ordering::Relaxed);
            let token = token.clone();
            async move {
                (start != 1).then_some(async move {
                    match start {
                        0 => panic!("a test part panics"),
                        2 => {}
                        _ => token.cancel(),
                    }
                })
            }
        })
        .await;
        assert_eq!(starts.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_was_started_again_and_says_nothing_of_itself_is_not_stuck() {
        let roll = crate::progress::Roll::default();
        let (stop, starts) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let (counter, token) = (Arc::clone(&starts), stop.clone());
        let kept = keep(stop.clone(), roll.part("page"), move || {
            let start = counter.fetch_add(1, Ordering::Relaxed);
            let token = token.clone();
            async move { (start > 1).then_some(async move { token.cancelled().await }) }
        });
        let task = tokio::spawn(kept);
        for _ in 0..600 {
            sleep(Duration::from_secs(1)).await;
            assert!(roll.look().iter().all(|seen| !seen.stuck), "{:?}", roll.look());
        }
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        stop.cancel();
        task.await.unwrap();
    }
}
