//! How the gateway is, retained at a real broker, and what the broker says when it is gone.
//!
//! A test belongs here if it needs a broker that keeps what the gateway says of itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::process::{Command, Stdio};

use serde_json::Value;
use support::{
    Behaviour, DEADLINE, Gateway, Mosquitto, MosquittoOptions, Reply, VendorApi, eventually, find_program, tempdir,
};

/// What the broker keeps there.
fn kept(broker: &Mosquitto) -> Option<Value> {
    let mut subscriber = Command::new(find_program("mosquitto_sub", &[]));
    subscriber.args(["-p", &broker.port.to_string(), "-t", "site/gw/state", "-C", "1", "-W", "5", "--retained-only"]);
    let output = subscriber.stderr(Stdio::null()).output().unwrap();
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn a_broker_keeps_how_the_gateway_is_and_says_when_it_is_gone() {
    let dir = tempdir();
    let mut broker = Mosquitto::start(dir.path(), &MosquittoOptions::default());
    let vendor =
        VendorApi::start(Behaviour::Custom(std::sync::Arc::new(|_| Reply::new(401, "Ana Perez is unknown", 0))));
    let config = dir.path().join("portero.toml");
    let text =
        support::yard_config(dir.path(), &format!("url = \"{}\"", broker.url()), &support::api_sink(&vendor.url(), 10));
    let status = "[manage]\nstatus_topic = \"site/gw/state\"\nstatus_broker = \"site\"";
    std::fs::write(&config, text.replacen("[manage]", status, 1)).unwrap();
    let mut gateway = Gateway::start(&config, &[]);
    gateway.wait_ready();
    let state = || kept(&broker).map(|said| said["state"].as_str().unwrap_or_default().to_owned());
    eventually("it is online", DEADLINE, || state().as_deref() == Some("online"));
    let said = kept(&broker).unwrap();
    let names = (&said["site_id"], &said["gateway_id"], &said["version"]);
    assert_eq!(names, (&"obra-norte".into(), &"gw-test".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&said["sinks"][0]["name"], &said["sinks"][0]["pending"]), (&"vendor".into(), &0.into()));
    assert!(said["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{said}");

    gateway.play_yard(broker.port, 7, 2, &[]);
    eventually("a sink that is blocked is news", DEADLINE, || {
        let sink = kept(&broker).map(|said| said["sinks"][0].clone()).unwrap_or_default();
        sink["state"] == "blocked" && sink["pending"] == 7
    });
    let said = kept(&broker).unwrap().to_string();
    assert!(!said.contains("Ana") && !said.contains("terminal_person_id"), "{said}");

    gateway.sigkill();
    eventually("the last will says it", DEADLINE, || state().as_deref() == Some("offline"));
    assert_eq!(kept(&broker).unwrap()["gateway_id"], "gw-test");
    gateway.restart_ready();
    eventually("it is back", DEADLINE, || state().as_deref() == Some("online"));
    assert!(gateway.sigterm().success());
    eventually("an orderly end says it, too", DEADLINE, || state().as_deref() == Some("offline"));

    // A broker that was away hears it again.
    gateway.restart_ready();
    eventually("it is back again", DEADLINE, || kept(&broker).is_some_and(|said| said["state"] == "online"));
    broker.kill9();
    broker.wipe_store();
    broker.restart();
    eventually("the new broker knows", DEADLINE, || kept(&broker).is_some_and(|said| said["state"] == "online"));
}
