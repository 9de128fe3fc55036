//! Both destinations gone for 50,000 events, then the plug pulled, then everything back: nothing lost, nothing doubled.
//!
//! New tests of long outages go here.

mod support;

use std::time::Duration;

use support::{Behaviour, DEADLINE, Gateway, Postgres, VendorApi, eventually, scale};

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
    let _ = DEADLINE;
}
