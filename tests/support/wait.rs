//! Waiting for a condition, with a deadline that a loaded machine keeps.
//!
//! Must not: be used to measure time.

use std::time::Duration;

/// The usual deadline: generous, since two cores may be shared by a whole build.
pub const DEADLINE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again until `condition` holds; fails the test with `what` when `deadline` has passed. Blocks its thread:
/// in an async test with tasks of its own on the same thread use [`eventually_async`].
#[allow(clippy::disallowed_methods, reason = "a test polls a condition; nothing depends on the pause")]
#[track_caller]
pub fn eventually(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "did not happen within {} s: {what}", deadline.as_secs());
        std::thread::sleep(PAUSE);
    }
}

/// The same for an async condition.
pub async fn eventually_async<F: Future<Output = bool>>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) {
    let start = tokio::time::Instant::now();
    while !condition().await {
        assert!(start.elapsed() < deadline, "did not happen within {} s: {what}", deadline.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}
