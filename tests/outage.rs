//! Both destinations gone for 50,000 events, then the plug pulled, then everything back: nothing lost, nothing doubled.
//!
//! New tests of long outages go here.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Behaviour, DEADLINE, Gateway, Postgres, Reply, VendorApi, eventually, scale};

#[test]
fn fifty_thousand_events_outlive_both_destinations_and_a_kill() {
    let count = 50_000 * scale();
    let dir = support::tempdir();
    let port = support::free_port();
    let mut postgres = Postgres::start();
    let mut vendor = VendorApi::start_lean(Behaviour::Ok);
    let config = dir.path().join("portero.toml");
    let text = support::yard_config(
        dir.path(),
        &format!("listen = \"127.0.0.1:{port}\""),
        &[support::api_sink(&vendor.url(), 100), support::postgres_sink(&postgres.url())].concat(),
    );
    std::fs::write(&config, text).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    let applied = gateway.cli(&["central", "init", "--apply", "--tls", "disable", "--url", &postgres.url()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    vendor.stop();
    postgres.stop_immediate();

    gateway.restart_ready();
    let manifest = dir.path().join("manifest.jsonl");
    let simulated = gateway.cli(&[
        "simulate",
        "mqtt-json",
        "--broker",
        &format!("mqtt://127.0.0.1:{port}"),
        "--count",
        &count.to_string(),
        "--rate",
        "0",
        "--devices",
        "8",
        "--connections",
        "4",
        "--manifest",
        manifest.to_str().unwrap(),
        "--json",
    ]);
    assert!(simulated.status.success(), "{}", String::from_utf8_lossy(&simulated.stderr));
    // Every one of them was confirmed, so every one of them is on disk, and the process may die now.
    gateway.sigkill();
    let stats = gateway.cli_json(&["journal", "stats", "--json"]);
    assert_eq!(stats["appended"].as_u64(), Some(count), "{stats}");

    vendor.start_again();
    postgres.start_again();
    gateway.restart_ready();
    eventually("both destinations have everything", Duration::from_secs(120 * scale()), || {
        let stats = gateway.cli_json(&["journal", "stats", "--json"]);
        stats["sinks"].as_array().is_some_and(|sinks| sinks.iter().all(|s| s["delivered"].as_u64() == Some(count)))
    });
    assert_eq!(
        postgres.psql("SELECT count(*), count(DISTINCT body->>'native_seq') FROM portero.event").trim(),
        format!("{count}|{count}")
    );
    let oracle = vendor.oracle();
    assert_eq!(oracle.stored.len() as u64, count);
    assert!(oracle.doubled().is_empty() && oracle.keys_with_different_bytes.is_empty());
    assert_eq!(gateway.sigterm().code(), Some(0));
    let verified = gateway.cli_json(&["journal", "verify", "--json"]);
    assert_eq!(verified["ok"], true, "{verified}");
}

/// What the vendor does with the next request, and what becomes of the gateway meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// The power goes when the record is stored, before the answer.
    Stored,
    /// The power goes when the request is read, before anything is stored.
    Unstored,
    /// The answer leaves, and the power goes about then.
    Answered,
    /// Nothing of the sort.
    Peace,
}

#[test]
fn killed_between_send_and_settle_a_vendor_that_counts_everything_and_can_be_asked_has_nothing_twice() {
    let kills = 50 * scale();
    let events = 3 * kills;
    let dir = support::tempdir();
    let port = support::free_port();
    let stored: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let (plan, struck, pid) =
        (Arc::new(Mutex::new(Plan::Peace)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (ledger, next, strike, gateway_pid) = (stored.clone(), plan.clone(), struck.clone(), pid.clone());
    let vendor = VendorApi::start_lean(Behaviour::Custom(Arc::new(move |request| {
        let mut ledger = ledger.lock().unwrap();
        if let Some(id) = request.path.strip_prefix("/lookup?id=") {
            let found = if ledger.contains_key(id) { format!(r#"[{{"event_id":"{id}"}}]"#) } else { "[]".to_owned() };
            return Reply::new(200, found, 0);
        }
        let plan = std::mem::replace(&mut *next.lock().unwrap(), Plan::Peace);
        let kill = || {
            let pid = rustix::process::Pid::from_raw(gateway_pid.load(Ordering::Acquire).cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        if plan != Plan::Unstored {
            for event in request.events() {
                *ledger.entry(event["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        if matches!(plan, Plan::Stored | Plan::Unstored) {
            kill();
        }
        if plan != Plan::Peace {
            strike.store(true, Ordering::Release);
        }
        Reply::new(201, "{}", 0)
    })));
    let sink = format!(
        "{}on_ambiguous = \"lookup\"\nlookup = {{ path = \"/lookup?id={{/event_id}}\", match = {{ \"/event_id\" = \"/event_id\" }} }}\n\
         answer = [{{ status = [201], verdict = \"delivered\" }}]\n",
        support::api_sink(&vendor.url(), 3)
    );
    let config = dir.path().join("portero.toml");
    let broker = format!("listen = \"127.0.0.1:{port}\"");
    std::fs::write(&config, support::yard_config(dir.path(), &broker, "")).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    gateway.restart_ready();
    gateway.play_yard(port, u32::try_from(events).unwrap(), 7, &[]);
    gateway.sigterm();
    std::fs::write(&config, support::yard_config(dir.path(), &broker, &sink)).unwrap();

    let plans = [Plan::Stored, Plan::Unstored, Plan::Answered, Plan::Stored];
    for kill in 0..kills {
        struck.store(false, Ordering::Release);
        gateway.restart();
        pid.store(gateway.pid(), Ordering::Release);
        *plan.lock().unwrap() = plans[usize::try_from(kill).unwrap() % plans.len()];
        eventually("a request was on its way", DEADLINE, || struck.load(Ordering::Acquire));
        gateway.sigkill();
    }
    gateway.restart_ready();
    eventually("the vendor has everything", DEADLINE, || {
        gateway.cli_json(&["journal", "stats", "--json"])["sinks"][0]["delivered"].as_u64() == Some(events)
    });
    let counts = stored.lock().unwrap().clone();
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert_eq!((counts.len() as u64, doubled), (events, vec![]));
    assert_eq!(gateway.sigterm().code(), Some(0));
    assert_eq!(gateway.cli_json(&["journal", "verify", "--json"])["ok"], true);
}
