//! How the gateway is, as one JSON object: what `portero status --json` prints and the control socket answers.
//!
//! Must not: name people, cards or secrets, or ask anything that could wait for a network.

use serde_json::{Map, Value, json};

use super::file::ConfigFile;
use super::remote::board::Board;
use super::running::Running;
use crate::clock::Clock;
use crate::deliver::directory::Directory;
use crate::deliver::expiry::Expiry;
use crate::deliver::{RelayStatus, StatusBoard};
use crate::event::{UtcMicros, json::rfc3339};
use crate::journal::{SinkStats, Stats};
use crate::progress::{Roll, Seen};
use crate::terminal::{self, DeviceClock, Identity, LinkState, LinkStatus};

/// So many sinks are counted in the line for `systemctl status`; it is one line.
const SINKS_IN_LINE: usize = 8;

/// A running gateway, seen from inside.
#[derive(Clone)]
pub struct Gateway {
    /// Who it is.
    pub identity: std::sync::Arc<Identity>,
    /// Its clock.
    pub clock: Clock,
    /// When it started.
    pub started: crate::clock::Now,
    /// How its links are.
    pub links: terminal::Board,
    /// How its relays are.
    pub relays: StatusBoard,
    /// Its worker directory; empty where none is configured.
    pub directory: Directory,
    /// The configuration that runs.
    pub running: Running,
    /// Its configuration file.
    pub file: ConfigFile,
    /// What comes from afar.
    pub remote: Board,
    /// Whether its parts move.
    pub parts: Roll,
}

impl Gateway {
    /// The object for a running gateway.
    pub fn status(&self, stats: &Stats) -> Value {
        self.object(Some(stats))
    }

    /// The object where the journal does not answer, and why.
    pub fn status_without_journal(&self, error: &str) -> Value {
        let mut object = self.object(None);
        object["journal"] = json!({ "error": error });
        object
    }

    fn object(&self, stats: Option<&Stats>) -> Value {
        let now = self.clock.now();
        let mut object = object(&self.identity, stats, &self.relays.read(), &self.links.read(), now.wall);
        object["running"] = true.into();
        object["pid"] = std::process::id().into();
        object["started"] = time(self.started.wall);
        object["uptime_seconds"] = (now.boot.micros_since(self.started.boot) / 1_000_000).into();
        object["clock_synchronised"] = now.synchronised.into();
        object["parts"] = self.parts.look().iter().map(part).collect();
        object["configuration"] = self.file.status();
        if let Some(remote) = self.remote.status(now) {
            object["configuration"]["remote"] = remote;
        }
        if self.running.get().directory.is_some() {
            object["directory"] = people(&self.directory, now.wall);
        }
        object
    }

    /// The parts that do not move and should, each in words.
    pub fn stuck(&self) -> Vec<String> {
        self.parts.look().iter().filter(|seen| seen.stuck).map(words).collect()
    }

    /// One line for `systemctl status`; `stats` is what the journal said last.
    pub fn line(&self, stats: Option<&Stats>) -> String {
        let (links, relays) = (self.links.read(), self.relays.read());
        let up = links.iter().filter(|l| l.state == LinkState::Up).count();
        let events: u64 = links.iter().map(|l| l.events).sum();
        let failing: Vec<&str> = relays.iter().filter(|r| r.error.is_some()).map(|r| r.name.as_str()).collect();
        let sinks =
            if failing.is_empty() { "all sinks well".to_owned() } else { format!("failing: {}", failing.join(", ")) };
        let stuck: String = self.stuck().iter().map(|part| format!("stuck: {part}; ")).collect();
        // To the minute: a line that says something new each second is no news.
        let heard = links.iter().filter_map(|l| l.last_heard).max().map_or_else(
            || "nothing heard yet".to_owned(),
            |at| format!("last heard {}Z", rfc3339(at).as_str().get(..16).unwrap_or_default()),
        );
        let pending = stats.map_or_else(String::new, |stats| {
            let each: Vec<_> =
                stats.sinks.iter().take(SINKS_IN_LINE).map(|s| format!("{} {}", s.name, s.pending)).collect();
            if each.is_empty() { String::new() } else { format!("pending: {}; ", each.join(", ")) }
        });
        format!("{stuck}{up} of {} links up, {events} events since the start, {heard}; {pending}{sinks}", links.len())
    }
}

/// The object for a gateway that doesn't run: only what the journal knows.
pub fn stopped(identity: &Identity, stats: Option<&Stats>) -> Value {
    let mut object = object(identity, stats, &[], &[], UtcMicros(0));
    object["running"] = false.into();
    object
}

fn object(
    identity: &Identity,
    stats: Option<&Stats>,
    relays: &[RelayStatus],
    links: &[LinkStatus],
    now: UtcMicros,
) -> Value {
    let mut object = json!({
        "running": null,
        "version": env!("CARGO_PKG_VERSION"),
        "gateway_id": identity.gateway_id,
        "site_id": identity.site_id,
        "tenant": identity.tenant,
        "links": links.iter().map(link).collect::<Vec<_>>(),
        "unconfigured": links.iter().flat_map(unconfigured).collect::<Vec<_>>(),
        "sinks": sinks(stats.map_or(&[][..], |s| &s.sinks), relays, now),
    });
    if let Some(stats) = stats {
        object["journal"] = json!({
            "appended": stats.appended,
            "pruned": stats.pruned,
            "faults": stats.faults,
            "blind": stats.blind,
            "conflicts": stats.conflicts,
            "bytes": stats.bytes,
        });
    }
    object
}

/// What a part does, and for how long.
fn part(seen: &Seen) -> Value {
    let mut object = json!({ "name": seen.part, "doing": seen.doing, "seconds": seen.since.as_secs() });
    if seen.stuck {
        object["stuck"] = true.into();
    }
    object
}

fn words(seen: &Seen) -> String {
    format!("{} ({})", seen.part, seen.doing)
}

/// How many numbers and cards are known, and how fresh that is.
fn people(directory: &Directory, now: UtcMicros) -> Value {
    let health = directory.health();
    let mut object = json!({ "known": health.count, "state": if health.error.is_some() { "failing" } else { "well" } });
    if let Some(at) = health.refreshed {
        object["refreshed"] = time(at);
    }
    if let Some(error) = health.error {
        object["error"] = error.into();
    }
    if let Some(expiry) = &health.expiry {
        object["credential"] = credential(expiry, now);
    }
    object
}

/// Until when a server knows us.
fn credential(expiry: &Expiry, now: UtcMicros) -> Value {
    let state = expiry.nearness(now).word();
    let mut object = json!({ "what": expiry.what, "until": time(expiry.at), "state": state });
    if let Some(said) = expiry.said(now) {
        object["say"] = said.into();
    }
    object
}

fn link(link: &LinkStatus) -> Value {
    let (state, reason) = match &link.state {
        LinkState::Connecting => ("connecting", None),
        LinkState::Up => ("up", None),
        LinkState::Down(reason) => ("down", Some(reason)),
        LinkState::Held(reason) => ("held", Some(reason)),
    };
    let devices = link.devices.iter().map(|device| {
        let mut object = json!({
            "key": device.key,
            "last_heard": time(device.last_heard),
            "events": device.events,
            "configured": device.configured,
            "gaps": device.gaps,
        });
        if let Some(online) = device.online {
            object["online"] = online.into();
        }
        if let Some(clock) = device.clock {
            object["clock"] = clock.word().into();
            if let DeviceClock::Apart(ms) = clock {
                object["drift_ms"] = ms.into();
            }
        }
        object
    });
    let mut object = json!({
        "name": link.name,
        "protocol": link.protocol,
        "state": state,
        "events": link.events,
        "duplicates": link.duplicates,
        "faults": link.faults,
        "devices": devices.collect::<Vec<_>>(),
    });
    if let Some(reason) = reason {
        object["reason"] = reason.as_str().into();
    }
    if let Some(heard) = link.last_heard {
        object["last_heard"] = time(heard);
    }
    object
}

fn unconfigured(link: &LinkStatus) -> impl Iterator<Item = Value> {
    (link.devices.iter().filter(|d| !d.configured))
        .map(|d| json!({ "link": link.name, "key": d.key, "last_heard": time(d.last_heard) }))
}

/// The ledger and the relays, joined by name. A sink that only the ledger knows is not running.
fn sinks(ledger: &[SinkStats], relays: &[RelayStatus], now: UtcMicros) -> Vec<Value> {
    let mut joined: Vec<Value> = ledger
        .iter()
        .map(|line| {
            let mut object = sink_ledger(line);
            object.insert("corrections_pending".to_owned(), line.corrections_pending.into());
            if let Some(heard) = line.oldest_pending {
                object.insert("oldest_pending".to_owned(), time(heard));
            }
            object.insert("state".to_owned(), "stopped".into());
            Value::Object(object)
        })
        .collect();
    for relay in relays {
        let at = joined.iter().position(|s| s["name"] == relay.name.as_str()).unwrap_or_else(|| {
            joined.push(json!({ "name": relay.name }));
            joined.len() - 1
        });
        let object = &mut joined[at];
        object["state"] = relay.state.into();
        object["attempt"] = relay.attempt.into();
        if let Some(error) = &relay.error {
            object["error"] = error.as_str().into();
        }
        if let Some(why) = relay.waits_for {
            object["waits_for"] = why.into();
        }
        if let Some(at) = relay.next_try {
            object["next_try"] = time(at);
        }
        if let Some(at) = relay.last_delivery {
            object["last_delivery"] = time(at);
        }
        if let Some(expiry) = &relay.expiry {
            object["credential"] = credential(expiry, now);
        }
        if relay.conflicts > 0 {
            object["conflicts"] = relay.conflicts.into();
        }
    }
    joined
}

/// One sink's line of the ledger, in the shape of `portero journal stats --json`.
pub fn sink_ledger(line: &SinkStats) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("name".to_owned(), line.name.as_str().into());
    for (key, count) in [
        ("delivered", line.delivered),
        ("pending", line.pending),
        ("quarantined", line.quarantined),
        ("dropped", line.dropped),
        ("filtered", line.filtered),
    ] {
        object.insert(key.to_owned(), count.into());
    }
    object
}

fn time(time: UtcMicros) -> Value {
    rfc3339(time).as_str().into()
}
