//! The worker directory: what the platform calls people, and what happens to events of people that it does not know yet.
//!
//! A test belongs here if it needs the real gateway and a directory file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

#[path = "directory/database.rs"]
mod database;
#[path = "directory/desk.rs"]
mod desk;
#[path = "directory/http.rs"]
mod http;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use support::{Behaviour, DEADLINE, Gateway, Reply, VendorApi, eventually, free_port, tempdir};

/// A gateway that is its terminals' own broker and sends to one vendor, with a directory.
struct Site {
    gateway: Gateway,
    port: u16,
    dir: tempfile::TempDir,
}

impl Site {
    fn new(vendor: &str, people: &str) -> Self {
        let dir = tempdir();
        std::fs::write(dir.path().join("people.csv"), people).unwrap();
        let source = format!(
            "file = \"{}/people.csv\"\nperson = \"pin\"\nexternal_id = \"id\"\nname = \"name\"\n",
            dir.path().display()
        );
        Self::with_source(vendor, &source, dir)
    }

    /// `source` are the keys of `[directory]`.
    fn with_source(vendor: &str, source: &str, dir: tempfile::TempDir) -> Self {
        let port = free_port();
        let config = dir.path().join("portero.toml");
        let people = format!(
            r#"
[directory]
{source}refresh_seconds = 1

[[sink]]
name = "hr"
type = "api"
url = "{vendor}"
batch = 10
unknown_person = "quarantine"
"#
        );
        let listen = format!("listen = \"127.0.0.1:{port}\"");
        std::fs::write(&config, support::yard_config(dir.path(), &listen, &people)).unwrap();
        Self { gateway: Gateway::prepare(&config, &[]), port, dir }
    }

    fn play(&self, count: u32, seed: u32) -> Vec<Value> {
        let manifest = self.dir.path().join("manifest.jsonl");
        self.gateway.play_yard(self.port, count, seed, &["--manifest", manifest.to_str().unwrap()]);
        let lines = std::fs::read_to_string(manifest).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn sink(&self) -> Value {
        self.gateway.cli_json(&["journal", "stats", "--json"])["sinks"][0].clone()
    }
}

fn csv(people: &BTreeMap<String, String>) -> String {
    let rows: Vec<String> = people.iter().map(|(pin, id)| format!("{pin},{id},Somebody {id}\n")).collect();
    format!("pin,id,name\n{}", rows.concat())
}

/// Written aside and moved into place, as whoever exports a directory should.
fn write(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, path).unwrap();
}

#[test]
fn a_hundred_punches_of_unknown_people_heal_across_a_restart_with_their_original_times() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let mut site = Site::new(&vendor.url(), "pin,id,name\n");
    site.gateway.restart_ready();
    let played = site.play(100, 7);
    eventually("all wait for the directory", DEADLINE, || site.sink()["quarantined"] == 100);
    assert!(vendor.oracle().stored.is_empty(), "nothing of an unknown person left");
    let times: BTreeMap<String, String> =
        events(&site).map(|e| (text(&e, "event_id"), text(&e, "event_time"))).collect();
    assert_eq!(times.len(), 100);
    site.gateway.sigkill();
    site.gateway.restart_ready();
    assert_eq!(site.sink()["quarantined"], 100);

    let ids = |n: usize| format!("E-{n:03}");
    let mut people: BTreeMap<String, String> = BTreeMap::new();
    for line in &played {
        let next = ids(people.len());
        people.entry(text(line, "person")).or_insert(next);
    }
    write(&site.dir.path().join("people.csv"), &csv(&people));
    eventually("all are delivered", DEADLINE, || site.sink()["delivered"] == 100);
    assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
    let mut seen = 0;
    for request in vendor.requests() {
        for event in request.events() {
            let pin = event["person"]["terminal_person_id"].as_str().unwrap();
            assert_eq!(event["person"]["external_id"], people[pin].as_str());
            assert_eq!(Some(&text(&event, "event_time")), times.get(&text(&event, "event_id")));
            seen += 1;
        }
    }
    assert_eq!(seen, 100, "each left once");

    // Who was known is known after a start whose source is away; a stranger's punch waits.
    site.gateway.sigterm();
    std::fs::remove_file(site.dir.path().join("people.csv")).unwrap();
    let check = site.gateway.cli(&["check"]);
    let said = format!("{check:?}");
    assert!(check.status.success() && said.contains("people.csv"), "{said}");
    site.gateway.restart_ready();
    // Other terminals, and in part other people.
    site.play(200, 8);
    let known =
        events(&site).filter(|event| people.contains_key(event["person"]["terminal_person_id"].as_str().unwrap()));
    let known = known.count();
    assert!((100..=300).contains(&known), "{known} of 300 are known");
    eventually("who is known is delivered, who isn't waits", DEADLINE, || {
        let sink = site.sink();
        (&sink["delivered"], &sink["quarantined"]) == (&known.into(), &(300 - known).into())
    });
}

#[test]
fn a_source_that_shrinks_or_breaks_leaves_the_old_directory_in_place() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let people: BTreeMap<String, String> = (0..2000).map(|n| (format!("{n:06}"), format!("E-{n}"))).collect();
    let mut site = Site::new(&vendor.url(), &csv(&people));
    site.gateway.restart_ready();
    let file = site.dir.path().join("people.csv");
    let said = |site: &Site, words: &str| site.gateway.log().matches(words).count();
    eventually("it is read", DEADLINE, || said(&site, "worker directory refreshed") == 1);
    let half: BTreeMap<String, String> = people.iter().take(1000).map(|(a, b)| (a.clone(), b.clone())).collect();
    for (bad, words) in [
        (csv(&half), "1000 people where 2000 are known"),
        ("pin;id\n1;2\n".to_owned(), "no column 'name'"),
        (String::new(), "no column"),
    ] {
        write(&file, &bad);
        eventually(words, DEADLINE, || said(&site, words) > 0);
    }
    assert_eq!(said(&site, "worker directory refreshed"), 1);
    write(&file, &csv(&people));
    eventually("the right one is taken again", DEADLINE, || said(&site, "worker directory refreshed") == 2);
    let log = site.gateway.log();
    assert!(!log.contains("Somebody") && !log.contains("E-1"), "people are named in the log");
}

fn text(of: &Value, key: &str) -> String {
    of[key].as_str().unwrap_or_else(|| panic!("{key} in {of}")).to_owned()
}

fn events(site: &Site) -> impl Iterator<Item = Value> {
    let listed = site.gateway.cli(&["events", "--limit", "1000", "--json"]);
    assert!(listed.status.success());
    let lines = String::from_utf8(listed.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>().into_iter()
}

#[test]
fn an_event_refused_by_a_name_from_before_the_directory_learned_the_person_goes_out_once_more() {
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::refuse(503))));
    let mut site = Site::new(&vendor.url(), "pin,id,name\n999999,W-0,Nobody\n");
    let config = site.dir.path().join("portero.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let rules = "on_ambiguous = \"resend\"\nanswer = [{ status = [200], verdict = \"delivered\" }, \
                 { status = [422], verdict = \"unknown_worker\" }]\n";
    std::fs::write(&config, text.replace("unknown_person = \"quarantine\"\n", rules)).unwrap();
    site.gateway.restart_ready();
    let people = site.play(3, 1);
    let status = |site: &Site| site.gateway.cli_json(&["status", "--json"]);
    eventually("they are on their way, by no name", DEADLINE, || {
        status(&site)["sinks"][0]["attempt"].as_u64() > Some(0)
    });
    let rows: Vec<String> = people.iter().map(|p| format!("{0},W-{0},N", p["person"].as_str().unwrap())).collect();
    std::fs::write(
        site.dir.path().join("people.csv"),
        format!("pin,id,name\n999999,W-0,Nobody\n{}\n", rows.join("\n")),
    )
    .unwrap();
    eventually("the directory has learned", DEADLINE, || status(&site)["directory"]["known"].as_u64() > Some(1));
    vendor.behave(Behaviour::RejectIf(Arc::new(|event| event["person"]["external_id"].is_null())));
    eventually("all are delivered", DEADLINE, || site.sink()["delivered"] == 3);
    assert_eq!((&site.sink()["quarantined"], &site.sink()["pending"]), (&0.into(), &0.into()));
}
