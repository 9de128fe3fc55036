//! The spine under SIGKILL: the real binary under load, killed at random moments, again and again; then an oracle compares
//! what was offered, what was confirmed and what arrived.
//!
//! New tests of crashes go here; what a single part promises goes to the part's own test file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a helper that fails is a failed test"
)]

mod support;

#[path = "crash/clients.rs"]
mod clients;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clients::{Account, Paho, rumqttc_publisher};
use support::{Behaviour, DEADLINE, Gateway, Mosquitto, MosquittoOptions, Postgres, VendorApi, eventually, scale};
use tokio_util::sync::CancellationToken;

const KILLS: u64 = 100;

struct Site {
    dir: tempfile::TempDir,
    postgres: Postgres,
    vendor: VendorApi,
    gateway: Gateway,
}

/// What delivery can do beside the plain: people known only halfway at first, a mapping, a rate
/// cap, and new events before the backlog.
fn everything_on(vendor: &str, postgres: &str, people: &std::path::Path) -> String {
    format!(
        r#"
[directory]
file = "{people}"
person = "pin"
external_id = "id"
refresh_seconds = 1
max_shrink_percent = 100
{api}unknown_person = "quarantine"
on_ambiguous = "resend"
order = "live-first"
max_requests_per_minute = 6000
[sink.request]
body = "array"
[sink.map]
event_id = "/event_id"
native_seq = "/native_seq"
worker = {{ from = "/person/external_id", trim = true }}
at = {{ from = "/event_time", zone = "America/Santiago", format = "%Y-%m-%d %H:%M:%S" }}
late = "/late"
{central}order = "live-first"
"#,
        people = people.display(),
        api = support::api_sink(vendor, 200),
        central = support::postgres_sink(postgres),
    )
}

impl Site {
    fn new(broker: &str) -> Self {
        let vendor = VendorApi::start_lean(Behaviour::Flaky { percent: 10, hang: Duration::from_millis(2500) });
        Self::with(broker, vendor, |vendor, postgres, _| {
            [support::api_sink(vendor, 200), support::postgres_sink(postgres)].concat()
        })
    }

    fn with(broker: &str, vendor: VendorApi, sinks: impl Fn(&str, &str, &std::path::Path) -> String) -> Self {
        let dir = support::tempdir();
        let postgres = Postgres::start();
        let config = dir.path().join("portero.toml");
        let sinks = sinks(&vendor.url(), &postgres.url(), &dir.path().join("people.csv"));
        std::fs::write(&config, support::yard_config(dir.path(), broker, &sinks)).unwrap();
        let gateway = Gateway::prepare(&config, &[]);
        let applied = gateway.cli(&["central", "init", "--apply", "--tls", "disable", "--url", &postgres.url()]);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        Self { dir, postgres, vendor, gateway }
    }

    /// Kills and restarts the gateway at random moments.
    fn kill_again_and_again(&mut self, kills: u64, seed: u64, alive: impl Fn() -> usize) {
        let mut random = fastrand::Rng::with_seed(seed);
        for kill in 0..kills {
            self.gateway.restart();
            if kill % 10 == 0 {
                // Now and then let it get somewhere, so that deliveries are killed too and not only starts.
                let before = alive();
                self.gateway.wait_ready();
                eventually("records are confirmed between two kills", DEADLINE, || alive() > before);
            }
            // A random moment is what is wanted here, not a moment at which something has happened.
            std::thread::park_timeout(Duration::from_millis(random.u64(20..500)));
            self.gateway.sigkill();
        }
        self.gateway.restart_ready();
    }

    /// Native sequences in the central database, with the number of rows each.
    fn central(&self) -> BTreeMap<String, u64> {
        let rows = self
            .postgres
            .psql("SELECT body->>'native_seq' || ' ' || count(*) FROM portero.event GROUP BY body->>'native_seq'");
        rows.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(native, count)| (native.to_owned(), count.parse().unwrap()))
            .collect()
    }

    /// Everything confirmed must arrive at both destinations, once.
    fn reckon(&mut self, offered: &BTreeSet<String>, confirmed: &BTreeSet<String>, seed: u64) {
        println!("seed {seed}: {} offered, {} confirmed", offered.len(), confirmed.len());
        assert!(confirmed.len() > 500, "too little load for a crash test: {} confirmed", confirmed.len());
        let gateway = &self.gateway;
        let ledger = || gateway.cli_json(&["journal", "stats", "--json"]);
        eventually("everything is delivered to both sinks", Duration::from_secs(240), || {
            let stats = ledger();
            let done = |sink: &serde_json::Value| sink["pending"] == 0 && sink["quarantined"] == 0;
            stats["sinks"].as_array().is_some_and(|sinks| sinks.len() == 2 && sinks.iter().all(done))
        });
        let stats = ledger();
        for sink in stats["sinks"].as_array().unwrap() {
            assert_eq!(sink["delivered"], stats["appended"], "I4: the ledger does not balance: {stats}");
        }
        let central = self.central();
        let lost: Vec<_> = confirmed.iter().filter(|native| !central.contains_key(*native)).collect();
        assert!(
            lost.is_empty(),
            "{} confirmed records never reached PostgreSQL: {:?}",
            lost.len(),
            &lost[..lost.len().min(5)]
        );
        let doubled: Vec<_> = central.iter().filter(|(_, rows)| **rows > 1).collect();
        assert!(doubled.is_empty(), "records with more than one row in PostgreSQL: {doubled:?}");
        let invented: Vec<_> = central.keys().filter(|native| !offered.contains(*native)).collect();
        assert!(invented.is_empty(), "records that nobody offered: {invented:?}");

        let oracle = self.vendor.oracle();
        assert_eq!(oracle.keys_with_different_bytes, Vec::<String>::new(), "one idempotency key, two bodies");
        assert_eq!(oracle.requests_without_key, 0);
        assert_eq!(oracle.stored.len(), central.len(), "both destinations know the same events");
        assert!(oracle.repeated_keys > 0, "a flaky vendor and {KILLS} kills without one repeated request?");
        assert_eq!(oracle.doubled(), Vec::<&str>::new(), "events under two idempotency keys");

        assert_eq!(self.gateway.sigterm().code(), Some(0));
        let verified = self.gateway.cli_json(&["journal", "verify", "--json"]);
        assert_eq!(verified["ok"], true, "{verified}");
        let head = self.postgres.psql("SELECT count(*) FROM portero.event");
        assert_eq!(verified["seq"].to_string(), head.trim(), "the journal's head is the number of rows at the centre");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn union(accounts: &[Account]) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut all = (BTreeSet::new(), BTreeSet::new());
    for account in accounts {
        all.0.extend(account.offered.lock().unwrap().iter().cloned());
        all.1.extend(account.confirmed.lock().unwrap().iter().cloned());
    }
    all
}

#[test]
fn nothing_confirmed_is_lost_or_doubled_when_the_gateway_is_killed_as_the_terminals_own_broker() {
    let seed = fastrand::u64(..);
    let port = support::free_port();
    let mut site = Site::new(&format!("listen = \"127.0.0.1:{port}\""));
    site.vendor.seed(seed);
    let accounts: Vec<Account> = (0..3).map(|_| Account::default()).collect();
    let runtime = runtime();
    let stop = CancellationToken::new();
    let publishers: Vec<_> = (0..2)
        .map(|i| runtime.spawn(rumqttc_publisher(port, format!("RQ{i}"), 200, accounts[i].clone(), stop.clone())))
        .collect();
    let paho = Paho::start(port, "PH0", 100, accounts[2].clone());
    let confirmed = || accounts.iter().map(|a| a.counts().1).sum::<usize>();
    site.kill_again_and_again(KILLS * scale(), seed, confirmed);
    stop.cancel();
    paho.finish();
    let finished = runtime.block_on(async {
        for publisher in publishers {
            let Ok(ended) = tokio::time::timeout(DEADLINE, publisher).await else { return false };
            ended.unwrap();
        }
        true
    });
    if !finished {
        let (offered, confirmed) = union(&accounts);
        let missing: Vec<_> = offered.difference(&confirmed).take(20).collect();
        let log = site.gateway.log();
        let tail: Vec<_> = log.lines().rev().take(40).collect();
        panic!("not everything was confirmed: {missing:?} of {}\n{}", offered.len(), tail.join("\n"));
    }
    let (offered, confirmed) = union(&accounts);
    assert_eq!(offered.len(), confirmed.len(), "every client was told in the end that all it offered is safe");
    site.reckon(&offered, &confirmed, seed);
}

#[test]
fn nothing_confirmed_is_lost_or_doubled_when_the_gateway_is_killed_behind_mosquitto() {
    let seed = fastrand::u64(..);
    let broker_dir = support::tempdir();
    let broker = Mosquitto::start(broker_dir.path(), &MosquittoOptions::default());
    let mut site = Site::new(&format!("url = \"{}\"\nclient_id = \"gw-crash\"", broker.url()));
    site.vendor.seed(seed);
    // The gateway's session must be known to the broker before anybody may count on it.
    site.gateway.restart_ready();
    let gateway = &site.gateway;
    eventually("the gateway is subscribed", DEADLINE, || {
        let status = gateway.cli_json(&["status", "--json"]).to_string();
        status.contains("\"up\"")
    });
    let accounts: Vec<Account> = (0..2).map(|_| Account::default()).collect();
    let runtime = runtime();
    let stop = CancellationToken::new();
    let publishers: Vec<_> = (0..2)
        .map(|i| {
            runtime.spawn(rumqttc_publisher(broker.port, format!("MQ{i}"), 250, accounts[i].clone(), stop.clone()))
        })
        .collect();
    let appended = std::cell::Cell::new(0usize);
    let progress = || {
        appended.set(accounts.iter().map(|a| a.counts().1).sum());
        appended.get()
    };
    site.kill_again_and_again(KILLS * scale(), seed, progress);
    stop.cancel();
    runtime.block_on(async {
        for publisher in publishers {
            tokio::time::timeout(DEADLINE, publisher).await.expect("mosquitto confirms everything").unwrap();
        }
    });
    let (offered, confirmed) = union(&accounts);
    // mosquitto has not been killed: what it confirmed it must hand on, and the gateway must have taken all of it.
    let gateway = &site.gateway;
    eventually("the gateway has drained mosquitto", Duration::from_secs(240), || {
        gateway.cli_json(&["journal", "stats", "--json"])["appended"].as_u64() >= Some(confirmed.len() as u64)
    });
    site.reckon(&offered, &confirmed, seed);
    let _ = &site.dir;
}

#[test]
fn nothing_confirmed_is_lost_or_doubled_with_everything_on_that_delivery_can_do() {
    let seed = fastrand::u64(..);
    let port = support::free_port();
    let vendor = VendorApi::start(Behaviour::Flaky { percent: 10, hang: Duration::from_millis(2500) });
    let mut site = Site::with(&format!("listen = \"127.0.0.1:{port}\""), vendor, everything_on);
    site.vendor.seed(seed);
    let people = site.dir.path().join("people.csv");
    // Every third person is not known before the kills are half over.
    let write_people = |all: bool| {
        let known = (0..5000u32).filter(|person| all || person % 3 != 0);
        let rows: Vec<String> = known.map(|person| format!("{person:06},E-{person}")).collect();
        let fresh = people.with_extension("new");
        std::fs::write(&fresh, format!("pin,id\n{}\n", rows.join("\n"))).unwrap();
        std::fs::rename(&fresh, &people).unwrap();
    };
    write_people(false);
    let accounts: Vec<Account> = (0..2).map(|_| Account::default()).collect();
    let runtime = runtime();
    let stop = CancellationToken::new();
    let publishers: Vec<_> = (0..2)
        .map(|i| runtime.spawn(rumqttc_publisher(port, format!("EQ{i}"), 200, accounts[i].clone(), stop.clone())))
        .collect();
    let confirmed = || accounts.iter().map(|a| a.counts().1).sum::<usize>();
    site.kill_again_and_again(KILLS * scale() / 2, seed, confirmed);
    let gateway = &site.gateway;
    eventually("events of strangers are set aside", DEADLINE, || {
        let stats = gateway.cli_json(&["journal", "stats", "--json"]);
        stats["sinks"].as_array().is_some_and(|sinks| sinks.iter().any(|s| s["quarantined"].as_u64() > Some(0)))
    });
    // A backlog, which new events go ahead of.
    site.vendor.stop();
    let gateway = &site.gateway;
    eventually("a backlog waits", DEADLINE, || {
        let stats = gateway.cli_json(&["journal", "stats", "--json"]);
        stats["sinks"].as_array().is_some_and(|sinks| sinks.iter().any(|s| s["pending"].as_u64() > Some(1000)))
    });
    site.vendor.start_again();
    write_people(true);
    site.gateway.sigkill();
    site.kill_again_and_again(KILLS * scale() / 2, seed.wrapping_add(1), confirmed);
    stop.cancel();
    runtime.block_on(async {
        for publisher in publishers {
            tokio::time::timeout(DEADLINE, publisher).await.expect("the gateway confirms everything").unwrap();
        }
    });
    let (offered, confirmed) = union(&accounts);
    site.reckon(&offered, &confirmed, seed);
    let requests = site.vendor.requests();
    let late = |wanted: bool| requests.iter().flat_map(|r| r.events()).filter(|event| event["late"] == wanted).count();
    assert!(late(true) > 0 && late(false) > 0, "{} late, {} not", late(true), late(false));
}
