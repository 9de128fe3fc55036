//! The parts that run, each in a task of its own that can be ended alone.
//!
//! Must not: know what a part does, or wait for one without bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::plan::{Key, Side, Spec};
use super::{Parts, start};

struct Member {
    spec: Spec,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// What runs.
#[derive(Default)]
pub(super) struct Team(BTreeMap<Key, Member>);

impl Team {
    /// What runs, and what it is made of.
    pub(super) fn plan(&self) -> BTreeMap<&Key, &Spec> {
        self.0.iter().map(|(key, member)| (key, &member.spec)).collect()
    }

    /// Starts a part. One of the same key must have been stopped before.
    pub(super) fn start(&mut self, parts: &Arc<Parts>, key: Key, spec: Spec) {
        let parent = match key.side() {
            Side::Out => &parts.outflow,
            Side::In | Side::Beside => &parts.inflow,
        };
        let stop = parent.child_token();
        let mark = parts.gateway.parts.part(&key.to_string());
        let part = start::part(parts, spec.part.clone(), mark.clone(), stop.clone());
        let task = tokio::spawn(mark.watch(part));
        self.0.insert(key, Member { spec, stop, task: AbortOnDropHandle::new(task) });
    }

    /// Ends parts, all at once, and returns when they have ended. Those that have not within `within` are dropped: what they
    /// confirmed is on disk, and what they did not comes again.
    pub(super) async fn stop(&mut self, keys: impl IntoIterator<Item = &Key>, within: Duration) {
        let members: Vec<(Key, Member)> = keys.into_iter().filter_map(|key| self.0.remove_entry(key)).collect();
        for (_, member) in &members {
            member.stop.cancel();
        }
        let end = Instant::now() + within;
        let mut late = 0;
        for (key, member) in members {
            if timeout_at(end, member.task).await.is_err() {
                late += 1;
                tracing::debug!(reason = %key, "a part did not stop in time");
            }
        }
        if late > 0 {
            tracing::warn!(count = late, "parts did not stop in time");
        }
    }

    /// Ends everything on one side.
    pub(super) async fn stop_side(&mut self, side: Side, within: Duration) {
        let keys: Vec<Key> = self.0.keys().filter(|key| key.side() == side).cloned().collect();
        self.stop(&keys, within).await;
    }
}
