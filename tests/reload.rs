//! Another configuration for a gateway that runs: only what differs is started again, and nothing is lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Behaviour, DEADLINE, Gateway, Reply, VendorApi, api_sink, eventually, free_port, scale, tempdir};

/// A gateway with the yard fleet at its own broker.
struct Site {
    gateway: Gateway,
    broker: u16,
    config: PathBuf,
    dir: tempfile::TempDir,
}

impl Site {
    fn start(sinks: &str) -> Self {
        let (dir, broker) = (tempdir(), free_port());
        let config = dir.path().join("portero.toml");
        std::fs::write(&config, text(dir.path(), broker, sinks)).unwrap();
        let mut gateway = Gateway::start(&config, &[]);
        gateway.wait_ready();
        Self { gateway, broker, config, dir }
    }

    /// Puts another text in the place of the file, whole.
    fn put(&self, text: &str) {
        let new = self.dir.path().join("new.toml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.config).unwrap();
    }

    fn with_sinks(&self, sinks: &str) -> String {
        text(self.dir.path(), self.broker, sinks)
    }

    /// Asks for a reload and answers the report and the exit code.
    fn reload(&self) -> (Value, Option<i32>) {
        // Named, since the test's own socket can't be read out of a file that is broken.
        let socket = self.dir.path().join("control.sock");
        let output = self.gateway.cli(&["config", "reload", "--json", "--socket", socket.to_str().unwrap()]);
        let report = serde_json::from_slice(&output.stdout);
        (report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
    }

    fn play(&self, count: u32, seed: u32) {
        self.gateway.play_yard(self.broker, count, seed, &[]);
    }

    fn sink(&self, name: &str) -> Value {
        let stats = self.gateway.cli_json(&["journal", "stats", "--json"]);
        let found = stats["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name).cloned();
        found.unwrap_or(Value::Null)
    }
}

fn text(dir: &std::path::Path, broker: u16, sinks: &str) -> String {
    support::yard_config(dir, &format!("listen = \"127.0.0.1:{broker}\""), sinks)
}

fn named(name: &str, vendor: &VendorApi, more: &str) -> String {
    let sink = api_sink(&vendor.url(), 10).replace("\"vendor\"", &format!("\"{name}\""));
    // Its own timeout in the place of the usual one.
    let sink = if more.starts_with("timeout_seconds") { sink.replace("timeout_seconds = 2\n", "") } else { sink };
    sink + more + "\n"
}

#[test]
fn only_what_differs_is_started_again_and_a_new_sink_gets_everything_if_it_says_so() {
    let (first, second) = (VendorApi::start(Behaviour::Ok), VendorApi::start(Behaviour::Ok));
    let site = Site::start(&named("first", &first, ""));
    site.play(50, 1);
    eventually("it arrives", DEADLINE, || first.stored_count() == 50);

    assert_eq!(site.reload(), (report("unchanged", [&[], &[], &[], &[]]), Some(0)));

    let both = named("first", &first, "") + &named("second", &second, "start = \"all\"");
    site.put(&site.with_sinks(&both));
    assert_eq!(site.reload(), (report("applied", [&["sink 'second'"], &[], &[], &[]]), Some(0)));
    eventually("the new one gets what was there", DEADLINE, || second.stored_count() == 50);

    let changed = named("first", &first, "timeout_seconds = 7") + &named("second", &second, "start = \"all\"");
    site.put(&site.with_sinks(&changed));
    assert_eq!(site.reload(), (report("applied", [&[], &["sink 'first'"], &[], &[]]), Some(0)));
    site.play(50, 2);
    eventually("both get what comes", DEADLINE, || first.stored_count() == 100 && second.stored_count() == 100);

    // The one that goes has everything, so it may.
    eventually("it is settled", DEADLINE, || site.sink("second")["pending"] == 0);
    site.put(&site.with_sinks(&named("first", &first, "timeout_seconds = 7")));
    assert_eq!(site.reload(), (report("applied", [&[], &[], &["sink 'second'"], &[]]), Some(0)));
    assert_eq!(site.sink("second"), Value::Null);
    let status = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!(status["sinks"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["configuration"]["state"], "running");
    for vendor in [&first, &second] {
        assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
    }
}

/// `[started, restarted, stopped, needs_restart]`
fn report(outcome: &str, [started, restarted, stopped, needs_restart]: [&[&str]; 4]) -> Value {
    json!({
        "outcome": outcome, "started": started, "restarted": restarted, "stopped": stopped,
        "needs_restart": needs_restart, "problems": [],
    })
}

#[test]
fn a_sink_for_which_events_wait_cannot_be_taken_away() {
    let mut vendor = VendorApi::start(Behaviour::Ok);
    let other = VendorApi::start(Behaviour::Ok);
    vendor.stop();
    let site = Site::start(&named("slow", &vendor, ""));
    site.play(30, 1);
    site.put(&site.with_sinks(&named("renamed", &other, "")));
    let (refused, code) = site.reload();
    assert_eq!((&refused["outcome"], code), (&json!("refused"), Some(1)));
    let why = refused["problems"][0].as_str().unwrap();
    assert!(why.contains("sink 'slow'") && why.contains("30 events wait"), "{why}");
    let status = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!(status["configuration"]["state"], "refused");
    vendor.start_again();
    eventually("what ran runs on", DEADLINE, || site.sink("slow")["delivered"] == 30);
    assert_eq!(site.reload(), (report("applied", [&["sink 'renamed'"], &[], &["sink 'slow'"], &[]]), Some(0)));
    assert_eq!(site.sink("slow"), Value::Null);
    eventually("the other one gets them too", DEADLINE, || other.stored_count() == 30);
}

#[test]
fn a_secret_that_changed_is_read_again_and_its_sink_recovers() {
    let token = |text: &'static str| {
        Behaviour::Custom(std::sync::Arc::new(move |request: &support::Request| {
            let good = request.authorization.as_deref() == Some(&format!("Bearer {text}"));
            if good { Reply::ok() } else { Reply::refuse(401) }
        }))
    };
    let vendor = VendorApi::start(token("the-new-token"));
    let dir = tempdir();
    let file = dir.path().join("token");
    let put = |text: &str| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    put("the-old-token");
    let auth = format!("auth = {{ type = \"bearer\", token = {{ file = \"{}\" }} }}", file.display());
    let site = Site::start(&named("hr", &vendor, &auth));
    site.play(10, 1);
    let state = || site.gateway.cli_json(&["status", "--json"])["sinks"][0]["state"].clone();
    eventually("it is blocked", DEADLINE, || state() == "blocked");
    put("the-new-token");
    // The probe of a blocked sink is half a minute away: the reload does not wait for it.
    assert_eq!(site.reload(), (report("applied", [&[], &["sink 'hr'"], &[], &[]]), Some(0)));
    eventually("it is delivered", DEADLINE, || vendor.stored_count() == 10);
    assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
}

#[test]
fn what_only_a_start_takes_is_named_and_the_rest_is_taken() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let site = Site::start(&named("hr", &vendor, ""));
    let changed = site.with_sinks(&named("hr", &vendor, "timeout_seconds = 9"));
    site.put(&changed.replace("[journal]\n", "[journal]\nretention_days = 3\n"));
    assert_eq!(site.reload(), (report("applied", [&[], &["sink 'hr'"], &[], &["[journal]"]]), Some(0)));
    let status = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!(status["configuration"]["state"], "differs");
    assert_eq!(status["configuration"]["needs_restart"], json!(["[journal]"]));
}

/// A card at an RDM6300 reader, twice: the reader repeats it.
fn card(number: u8) -> String {
    let card = [0x50, 0, 0x91, 0x30, number];
    let hex: String = card.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\x02{hex}{:02X}\x03", card.iter().fold(0, |sum, byte| sum ^ byte)).repeat(2)
}

#[test]
fn a_line_and_a_broker_move_while_the_gateway_runs() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let mut site = Site::start(&named("hr", &vendor, ""));
    let mut reader = support::Pty::pair(&site.dir.path().join("reader"));
    let gate = |name: &str| {
        format!(
            "[[terminal]]\nname = \"{name}\"\nprotocol = \"rdm6300\"\nlink = {{ type = \"serial\", device = \"{}/reader\" }}\n",
            site.dir.path().display()
        )
    };
    let sinks = named("hr", &vendor, "");
    site.put(&(site.with_sinks(&sinks) + &gate("gate")));
    assert_eq!(site.reload().0["started"], json!(["terminal 'gate'"]));
    reader.wait_open();
    reader.write(card(1).as_bytes());
    let appended = |site: &Site| site.gateway.cli_json(&["journal", "stats", "--json"])["appended"].clone();
    eventually("a card is heard", DEADLINE, || appended(&site) == 1);
    // The same device under another name: the old one lets go of it first.
    let moved = free_port();
    let text = text(site.dir.path(), moved, &sinks) + &gate("north-gate");
    site.put(&text);
    site.gateway.signal(Signal::HUP);
    eventually("both have moved", DEADLINE, || {
        site.gateway.log().contains("started again, its configuration is another")
    });
    site.broker = moved;
    site.play(20, 3);
    eventually("the fleet is heard at the new address", DEADLINE, || appended(&site) == 21);
    eventually("the line is up", DEADLINE, || {
        let status = site.gateway.cli_json(&["status", "--json"]);
        let links = status["links"].as_array().unwrap().clone();
        assert!(links.iter().all(|link| link["name"] != "gate"), "{status}");
        links.iter().any(|link| link["name"] == "north-gate" && link["state"] == "up")
    });
    reader.write(card(2).as_bytes());
    eventually("a card is heard again", DEADLINE, || appended(&site) == 22);
    eventually("everything is delivered", DEADLINE, || vendor.stored_count() == 22);
}

#[test]
fn i6_under_load_no_reload_loses_or_doubles_an_event() {
    let (first, second) = (VendorApi::start(Behaviour::Ok), VendorApi::start(Behaviour::Ok));
    let site = Site::start(&(named("first", &first, "") + &named("second", &second, "")));
    let rounds = 20 * scale();
    let played = std::thread::scope(|scope| {
        let player = scope.spawn(|| {
            let mut played = 0;
            for seed in 0..u32::try_from(rounds).unwrap() {
                site.play(100, 10 + seed);
                played += 100;
            }
            played
        });
        for round in 0..rounds {
            let other = named("first", &first, &format!("timeout_seconds = {}", 5 + round % 20));
            site.put(&site.with_sinks(&(other + &named("second", &second, ""))));
            let (report, code) = site.reload();
            assert_eq!(code, Some(0), "{report}");
            // Now and then nonsense.
            if round % 5 == 4 {
                site.put("[[sink]]\nname = 3\n");
                assert_eq!(site.reload().1, Some(1));
            }
        }
        site.put(&site.with_sinks(&(named("first", &first, "") + &named("second", &second, ""))));
        player.join().unwrap()
    });
    for (name, vendor) in [("first", &first), ("second", &second)] {
        eventually("everything is delivered", DEADLINE, || vendor.stored_count() == played);
        // One that is ended while a request is under way waits for the answer: even this vendor sees nothing twice.
        assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
        eventually("the books balance", DEADLINE, || {
            let sink = site.sink(name);
            sink["delivered"] == played && sink["pending"] == 0 && sink["quarantined"] == 0 && sink["dropped"] == 0
        });
    }
}

#[test]
fn a_stop_in_the_middle_of_a_reload_is_in_order() {
    let slow = |_: &support::Request| Reply { delay: DEADLINE * 10, ..Reply::ok() };
    let vendor = VendorApi::start(Behaviour::Custom(std::sync::Arc::new(slow)));
    let mut site = Site::start(&named("mute", &vendor, "timeout_seconds = 600"));
    site.play(1, 1);
    eventually("a request is under way", DEADLINE, || vendor.request_count() > 0);
    site.put(&site.with_sinks(&named("mute", &vendor, "timeout_seconds = 599")));
    // The relay waits for its answer, and the reload for the relay.
    site.gateway.signal(Signal::HUP);
    site.gateway.signal(Signal::TERM);
    assert_eq!(site.gateway.wait_end(DEADLINE).code(), Some(0), "{}", site.gateway.log());
    assert!(site.gateway.log().contains("gateway stopped"), "{}", site.gateway.log());
}
