//! `/metrics`: Prometheus' text exposition format, version 0.0.4.
//!
//! A scrape shows the ledger of one moment: for each sink, appended = delivered + pending + quarantined + dropped +
//! filtered. What links count begins anew with the process, as Prometheus' counters may.
//!
//! Must not: name people, cards, devices (a fleet would be a label without bound) or secrets.

use std::fmt::{Display, Write as _};

use super::{process, wear};
use crate::deliver::RelayStatus;
use crate::event::UtcMicros;
use crate::journal::{SinkStats, Stats};
use crate::manage::status::Gateway;
use crate::terminal::{DeviceClock, LinkState, LinkStatus};

/// prometheus.io, "Exposition formats".
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The words of a link's state.
const LINK_STATES: &[&str] = &["connecting", "up", "down", "held"];

/// The words of the configuration file's state.
const FILE_STATES: &[&str] = &["running", "changed", "differs", "refused"];

/// The words of a sink's state; `stopped`: known to the ledger, and not running.
const SINK_STATES: &[&str] = &["idle", "sending", "waiting", "retrying", "open", "blocked", "gone", "stopped"];

/// Everything.
pub(super) fn text(gateway: &Gateway, stats: &Stats, max_bytes: u64) -> String {
    let now = gateway.clock.now();
    let mut out = Out(String::with_capacity(8 * 1024));
    let identity = &gateway.identity;
    out.family("portero_build_info", "gauge", "The release that runs; always 1.");
    out.sample("portero_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.family("portero_gateway_info", "gauge", "Which gateway this is; always 1.");
    let names = [("gateway", &*identity.gateway_id), ("site", &*identity.site_id), ("tenant", &*identity.tenant)];
    out.sample("portero_gateway_info", &names, 1);
    let uptime = now.boot.micros_since(gateway.started.boot) / 1_000_000;
    out.one("portero_uptime_seconds", "gauge", "Seconds since the process started.", uptime);
    let synchronised = u8::from(now.synchronised);
    out.one("portero_clock_synchronised", "gauge", "Whether this machine's clock is known to be right.", synchronised);
    itself(&mut out, gateway);
    configuration(&mut out, gateway);
    journal(&mut out, stats, max_bytes);
    links(&mut out, &gateway.links.read(), now.wall);
    sinks(&mut out, &stats.sinks, &gateway.relays.read(), now.wall);
    if gateway.running.get().directory.is_some() {
        let health = gateway.directory.health();
        out.one(
            "portero_directory_entries",
            "gauge",
            "Numbers and cards that the worker directory knows.",
            health.count,
        );
        let well = u8::from(health.error.is_none());
        out.one("portero_directory_well", "gauge", "Whether the worker directory's last refresh succeeded.", well);
    }
    out.0
}

/// The process itself. Its names are those of Prometheus' client libraries behind our own prefix.
fn itself(out: &mut Out, gateway: &Gateway) {
    let started = gateway.started.wall.0 / 1_000_000;
    let name = "portero_process_start_time_seconds";
    out.one(name, "gauge", "When the process started, seconds since 1970 by this machine's clock then.", started);
    if let Some(micros) = process::cpu_micros() {
        let name = "portero_process_cpu_seconds_total";
        out.one(name, "counter", "Processor time used, seconds.", Fraction(micros, 6));
    }
    if let Some(bytes) = process::resident_bytes() {
        out.one("portero_process_resident_memory_bytes", "gauge", "Memory in use.", bytes);
    }
    if let Some(count) = process::open_files() {
        out.one("portero_process_open_fds", "gauge", "Open files, sockets and devices.", count);
    }
    if let Some(bytes) = wear::written() {
        let help = "Bytes that this process has handed to the disk since it started.";
        out.one("portero_process_written_bytes_total", "counter", help, bytes);
    }
}

fn configuration(out: &mut Out, gateway: &Gateway) {
    let file = gateway.file.status();
    out.family("portero_configuration_state", "gauge", "1 for the state in which the configuration file is.");
    for state in FILE_STATES {
        out.sample("portero_configuration_state", &[("state", state)], u8::from(file["state"] == *state));
    }
    let Some(remote) = gateway.remote.status(gateway.clock.now()) else { return };
    if let Some(revision) = remote["revision"].as_u64() {
        let help = "The revision from afar that is in force.";
        out.one("portero_configuration_revision", "gauge", help, revision);
    }
    let probation = u8::from(remote["probation"].is_object());
    out.one("portero_configuration_on_probation", "gauge", "Whether that revision may yet be taken back.", probation);
    let well = u8::from(["error", "degraded", "say"].iter().all(|what| remote[*what].is_null()));
    out.one("portero_configuration_remote_well", "gauge", "Whether nothing is wrong with what comes from afar.", well);
}

fn journal(out: &mut Out, stats: &Stats, max_bytes: u64) {
    out.one("portero_journal_events_total", "counter", "Events in the journal since it was made.", stats.appended);
    out.one("portero_journal_pruned_total", "counter", "Events whose bodies retention has erased.", stats.pruned);
    out.one("portero_journal_faults_total", "counter", "Faults noted since the journal was made.", stats.faults);
    out.one("portero_journal_blind_total", "counter", "Intervals in which a terminal was not heard.", stats.blind);
    out.one("portero_journal_conflicts_total", "counter", "Same id, other contents.", stats.conflicts);
    out.one("portero_journal_bytes", "gauge", "Size of the journal on the disk.", stats.bytes);
    out.one("portero_journal_max_bytes", "gauge", "Size at which nothing more is taken.", max_bytes);
}

fn links(out: &mut Out, links: &[LinkStatus], now: UtcMicros) {
    let mut counts = |name: &str, help: &str, count: fn(&LinkStatus) -> u64| {
        out.family(name, "counter", help);
        // A broker's own link is no terminal.
        for link in links.iter().filter(|link| link.protocol != "broker") {
            out.sample(name, &[("terminal", &link.name)], count(link));
        }
    };
    counts("portero_events_appended_total", "Events committed since the process started.", |link| link.events);
    counts("portero_events_duplicate_total", "Events that were there already.", |link| link.duplicates);
    counts("portero_faults_total", "Faults counted since the process started.", |link| link.faults);
    out.family("portero_last_event_age_seconds", "gauge", "Seconds since the terminal was last heard.");
    for link in links {
        if let Some(heard) = link.last_heard {
            out.sample("portero_last_event_age_seconds", &[("terminal", &link.name)], age(now, heard));
        }
    }
    out.family("portero_devices", "gauge", "Devices heard behind the terminal's link.");
    for link in links.iter().filter(|link| !link.devices.is_empty()) {
        out.sample("portero_devices", &[("terminal", &link.name)], link.devices.len());
    }
    clocks(out, links);
    out.family("portero_link_state", "gauge", "1 for the state in which the link of a terminal or broker is.");
    for link in links {
        let is = match link.state {
            LinkState::Connecting => "connecting",
            LinkState::Up => "up",
            LinkState::Down(_) => "down",
            LinkState::Held(_) => "held",
        };
        for state in LINK_STATES {
            out.sample("portero_link_state", &[("terminal", &link.name), ("state", state)], u8::from(*state == is));
        }
    }
}

/// What is known of the devices of each terminal, summed up.
fn clocks(out: &mut Out, links: &[LinkStatus]) {
    let heard = || links.iter().filter(|link| !link.devices.is_empty());
    let mut counts = |name: &str, help: &str, count: fn(&LinkStatus) -> u64| {
        out.family(name, "gauge", help);
        for link in heard() {
            out.sample(name, &[("terminal", &link.name)], count(link));
        }
    };
    let offline = |link: &LinkStatus| link.devices.iter().filter(|device| device.online == Some(false)).count() as u64;
    counts("portero_devices_offline", "Devices that said they are off.", offline);
    let missing = |link: &LinkStatus| link.devices.iter().map(|device| device.gaps).sum();
    counts("portero_missing_records", "Records missing, by the devices' own numbers.", missing);
    let wrong = |link: &LinkStatus| {
        link.devices.iter().filter(|device| device.clock == Some(DeviceClock::Wrong)).count() as u64
    };
    counts("portero_device_clocks_wrong", "Devices whose clock lost its time, or is far ahead.", wrong);
    let name = "portero_device_clock_ahead_seconds";
    let help = "How far the clock that is furthest ahead is; below zero all are behind, or their events come late.";
    out.family(name, "gauge", help);
    for link in links {
        let apart = link.devices.iter().filter_map(|device| match device.clock {
            Some(DeviceClock::Apart(ms)) => Some(ms),
            Some(DeviceClock::Wrong) | None => None,
        });
        if let Some(ms) = apart.max() {
            let sign = if ms < 0 { "-" } else { "" };
            out.sample(name, &[("terminal", &link.name)], format_args!("{sign}{}", Fraction(ms.unsigned_abs(), 3)));
        }
    }
}

fn sinks(out: &mut Out, ledger: &[SinkStats], relays: &[RelayStatus], now: UtcMicros) {
    let mut column = |name: &str, kind: &str, help: &str, count: fn(&SinkStats) -> u64| {
        out.family(name, kind, help);
        for sink in ledger {
            out.sample(name, &[("sink", &sink.name)], count(sink));
        }
    };
    column("portero_sink_appended_total", "counter", "Events since the sink started.", |sink| sink.appended);
    column("portero_sink_delivered_total", "counter", "Events that arrived.", |sink| sink.delivered);
    column("portero_sink_pending", "gauge", "Events that wait.", |sink| sink.pending);
    column("portero_sink_quarantined", "gauge", "Events that the sink refused for good.", |sink| sink.quarantined);
    column("portero_sink_dropped_total", "counter", "Refused events that a person gave up.", |sink| sink.dropped);
    column("portero_sink_filtered_total", "counter", "Events that the sink's filter left out.", |sink| sink.filtered);
    let corrections = "Corrections of times that wait.";
    column("portero_sink_corrections_pending", "gauge", corrections, |sink| sink.corrections_pending);
    let name = "portero_sink_oldest_pending_age_seconds";
    out.family(name, "gauge", "Seconds since the oldest event that waits was heard; 0 where none waits.");
    for sink in ledger {
        let waited = sink.oldest_pending.map_or(0, |heard| age(now, heard));
        out.sample(name, &[("sink", &sink.name)], waited);
    }
    let of = |name: &str| relays.iter().find(|relay| relay.name == name);
    out.family("portero_sink_last_delivery_age_seconds", "gauge", "Seconds since the sink last took something.");
    for sink in ledger {
        if let Some(at) = of(&sink.name).and_then(|relay| relay.last_delivery) {
            out.sample("portero_sink_last_delivery_age_seconds", &[("sink", &sink.name)], age(now, at));
        }
    }
    out.family("portero_sink_failures", "gauge", "Failures in a row.");
    for sink in ledger {
        let attempts = of(&sink.name).map_or(0, |relay| relay.attempt);
        out.sample("portero_sink_failures", &[("sink", &sink.name)], attempts);
    }
    let name = "portero_sink_conflicts_total";
    out.family(name, "counter", "Events of which the sink held another content, since the process started.");
    for relay in relays.iter().filter(|relay| ledger.iter().any(|sink| sink.name == relay.name)) {
        out.sample(name, &[("sink", &relay.name)], relay.conflicts);
    }
    let name = "portero_sink_credential_end_timestamp_seconds";
    out.family(name, "gauge", "When that by which the sink knows us ends, as far as somebody has said so.");
    for relay in relays {
        if let Some(expiry) = &relay.expiry {
            out.sample(name, &[("sink", &relay.name)], expiry.at.0 / 1_000_000);
        }
    }
    out.family("portero_sink_state", "gauge", "1 for the state in which the sink is.");
    for sink in ledger {
        let is = of(&sink.name).map_or("stopped", |relay| relay.state);
        for state in SINK_STATES {
            out.sample("portero_sink_state", &[("sink", &sink.name), ("state", state)], u8::from(*state == is));
        }
    }
}

/// Whole seconds; a clock that was set back makes none less than zero.
fn age(now: UtcMicros, then: UtcMicros) -> i64 {
    ((now.0 - then.0) / 1_000_000).max(0)
}

/// A whole number of parts, so many digits of them behind the point.
struct Fraction(u64, usize);

impl Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = 10u64.pow(u32::try_from(self.1).unwrap_or(0));
        write!(f, "{}.{:0width$}", self.0 / parts, self.0 % parts, width = self.1)
    }
}

struct Out(String);

impl Out {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_keep_their_zeros() {
        assert_eq!((Fraction(1_002, 3).to_string(), Fraction(5, 6).to_string()), ("1.002".into(), "0.000005".into()));
    }

    #[test]
    fn label_values_are_escaped() {
        let mut out = Out(String::new());
        out.family("a_total", "counter", "Some.");
        out.sample("a_total", &[("x", "q\"b\\s\nn é"), ("y", "")], 3);
        out.one("b", "gauge", "Other.", 0);
        let expected = "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"q\\\"b\\\\s\\nn é\",y=\"\"} 3\n\
                        # HELP b Other.\n# TYPE b gauge\nb 0\n";
        assert_eq!(out.0, expected);
    }
}
