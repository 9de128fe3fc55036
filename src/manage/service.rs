//! What systemd is told: ready, alive, stopping, and one line for `systemctl status` (`sd_notify(3)`).
//!
//! Must not: claim to be alive by itself; whoever feeds the watchdog has proof.

use std::time::Duration;

use sd_notify::NotifyState;

/// Everything is started and the journal takes events.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The watchdog is fed.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// The line in `systemctl status`.
pub fn line(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The end begins, and may take so long.
pub fn stopping(within: Duration) {
    let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status("stopping")]);
}

/// After how long without being fed the watchdog ends us (`WatchdogSec=`); `None` without one. To be fed twice as often.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Whether somebody listens.
pub fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn send(states: &[NotifyState<'_>]) {
    // Without a socket this does nothing; with one that fails there is nobody to tell but the log.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "service manager not reached");
    }
}
