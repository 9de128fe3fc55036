//! The command line as people and scripts meet it: the real binary, beside a running gateway and without one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

#[path = "cli/edits.rs"]
mod edits;
#[path = "cli/log_level.rs"]
mod log_level;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use support::gateway::binary;
use support::{Behaviour, DEADLINE, Gateway, Reply, VendorApi, eventually, free_port, tempdir};

fn portero(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_remove("PORTERO_CONFIG")
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", err(output));
    out(output).lines().map(|line| serde_json::from_str(line).expect("JSON Lines and nothing else")).collect()
}

/// A gateway that is its terminals' own broker and sends to one vendor.
struct Site {
    gateway: Gateway,
    port: u16,
    dir: tempfile::TempDir,
}

impl Site {
    fn new(vendor: &str) -> Self {
        let (dir, port) = (tempdir(), free_port());
        let config = dir.path().join("portero.toml");
        let text = format!(
            r#"
            [gateway]
            id = "gw-test"
            site = "test-site"
            zone = "America/Santiago"
            clock = "trusted"
            [journal]
            path = "{dir}/journal.db"
            [manage]
            socket = "{dir}/control.sock"
            [[broker]]
            name = "own"
            listen = "127.0.0.1:{port}"
            [[terminal]]
            name = "yard"
            protocol = "mqtt-json"
            link = {{ type = "mqtt", broker = "own", topic = "site/yard/+/events" }}
            fields.person = "/pin"
            fields.device_time = "/ts"
            fields.native_seq = "/event_id"
            fields.terminal_serial = "/sn"
            fields.punch = {{ from = "/dir", map = {{ in = "in", out = "out" }} }}
            [[sink]]
            name = "vendor"
            type = "api"
            url = "{vendor}"
            "#,
            dir = dir.path().display()
        );
        std::fs::write(&config, text).unwrap();
        Self { gateway: Gateway::prepare(&config, &[]), port, dir }
    }

    /// Plays `count` events and waits for every confirmation.
    fn play(&self, count: u32, seed: u32) {
        self.gateway.play_yard(self.port, count, seed, &[]);
    }

    fn stats(&self) -> Value {
        self.gateway.cli_json(&["journal", "stats", "--json"])
    }
}

fn site_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/site.toml")
}

#[test]
fn help_lists_every_command_once_and_wrong_usage_exits_with_2() {
    let help = portero(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let names = ["run", "check", "status", "events", "trace", "quarantine", "journal", "central", "decode", "simulate"];
    for name in names {
        let shown = out(&help).lines().filter(|line| line.starts_with(&format!("  {name} "))).count();
        assert_eq!(shown, 1, "{name}\n{}", out(&help));
        let own = portero(&[name, "--help"]);
        assert_eq!(own.status.code(), Some(0), "{name}");
    }
    for wrong in [&["fly"][..], &["status", "--loud"], &["journal", "verify", "--anchor", "x"], &[]] {
        assert_eq!(portero(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert!(out(&portero(&["--version"])).starts_with("portero "));
}

#[test]
fn check_says_that_the_site_configuration_is_good() {
    let secrets = [("vendor_token", "t0ken"), ("central_password", "hunter2")];
    let gateway = Gateway::prepare(&site_file(), &secrets);
    let checked = gateway.cli(&["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
    assert!(out(&checked).contains("good (3 terminals, 1 broker, 2 sinks)"), "{}", out(&checked));
    let object = gateway.cli_json(&["check", "--json"]);
    assert_eq!((&object["ok"], &object["problems"]), (&Value::Bool(true), &Value::Array(Vec::new())));
}

#[test]
fn check_and_run_say_the_same_of_a_broken_configuration_and_exit_with_78() {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/broken/12-many-at-once.toml");
    let broken = broken.to_str().unwrap();
    let (checked, ran) = (portero(&["check", "--config", broken]), portero(&["run", "--config", broken]));
    assert_eq!((checked.status.code(), ran.status.code()), (Some(78), Some(78)));
    assert!(err(&checked).contains("12-many-at-once.toml:4: gateway.zone: found"), "{}", err(&checked));
    for line in err(&checked).lines().filter(|line| line.contains(": found") && !line.starts_with("warning")) {
        assert!(err(&ran).contains(line), "run does not say: {line}");
    }
    let object: Value = serde_json::from_str(&out(&portero(&["check", "--json", "--config", broken]))).unwrap();
    assert_eq!(object["ok"], false);
    let problem = &object["problems"][0];
    for key in ["file", "line", "column", "key", "found", "expected"] {
        assert!(!problem[key].is_null(), "{key} is missing in {problem}");
    }
    assert_eq!(portero(&["status", "--config", "/nonexistent.toml"]).status.code(), Some(78));
}

#[test]
fn run_refuses_to_start_without_its_secrets() {
    let file = site_file();
    let ran = portero(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(78));
    for name in ["vendor_token", "central_password"] {
        assert!(err(&ran).contains(&format!("LoadCredential={name}:")), "{}", err(&ran));
    }
    // By hand, where systemd's credentials can't be seen, the same file is good.
    assert_eq!(portero(&["check", "--config", file.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn every_reading_command_answers_beside_a_running_gateway_and_without_one() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let mut site = Site::new(&vendor.url());
    let nothing = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!((&nothing["running"], &nothing["journal"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(site.gateway.cli(&["events"]).status.code(), Some(74));

    site.gateway.restart_ready();
    site.play(25, 1);
    eventually("all events are delivered", DEADLINE, || site.stats()["sinks"][0]["delivered"] == 25);
    let status = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!(status["running"], true);
    assert_eq!(status["pid"], site.gateway.pid());
    assert_eq!(status["journal"]["appended"], 25);
    let links: Vec<_> = status["links"].as_array().unwrap().iter().map(|l| (&l["name"], &l["state"])).collect();
    assert!(links.contains(&(&"yard".into(), &"up".into())), "{status}");
    assert_eq!(status["sinks"][0]["error"], Value::Null, "{status}");

    let running = read_everything(&site);
    let table = out(&site.gateway.cli(&["status"]));
    assert!(table.contains("running since") && table.contains("yard") && table.contains("vendor"), "{table}");
    assert!(!table.contains('\x1b'), "colour without a terminal: {table:?}");

    assert_eq!(site.gateway.sigterm().code(), Some(0));
    assert_eq!(read_everything(&site), running);
    let status = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!((&status["running"], &status["journal"]["appended"]), (&Value::Bool(false), &25.into()));
}

/// The answers that don't depend on whether a gateway runs.
fn read_everything(site: &Site) -> (Vec<Value>, Value, Value) {
    let events = lines(&site.gateway.cli(&["events", "--json"]));
    assert_eq!(events.len(), 25);
    for event in &events {
        assert_eq!(event["terminal_id"], "yard");
        assert!(event["event_id"].is_string() && event["event_time"].is_string(), "{event}");
    }
    assert_eq!(lines(&site.gateway.cli(&["events", "--json", "--limit", "3"])), events[22..]);
    let person = events[4]["person"]["terminal_person_id"].as_str().unwrap();
    let of_person = lines(&site.gateway.cli(&["events", "--json", "--person", person]));
    let expected: Vec<_> = events.iter().filter(|e| e["person"]["terminal_person_id"] == person).cloned().collect();
    assert_eq!(of_person, expected);
    assert_eq!(lines(&site.gateway.cli(&["events", "--json", "--terminal", "nobody"])), Vec::<Value>::new());
    for since in ["2h", "2000-01-01", "2000-01-01T00:00:00Z"] {
        assert_eq!(lines(&site.gateway.cli(&["events", "--json", "--since", since])).len(), 25, "{since}");
    }
    assert_eq!(site.gateway.cli(&["events", "--since", "soon"]).status.code(), Some(2));
    assert_eq!(lines(&site.gateway.cli(&["quarantine", "list", "--json"])), Vec::<Value>::new());

    let verified = site.gateway.cli_json(&["journal", "verify", "--json"]);
    assert_eq!(
        (&verified["ok"], &verified["seq"], &verified["anchored"]),
        (&Value::Bool(true), &25.into(), &Value::Null)
    );
    let text = |key: &str| verified[key].as_str().unwrap().to_owned();
    let anchor = format!("{}:{}:{}", text("journal_id"), verified["seq"], text("head"));
    let anchored = site.gateway.cli_json(&["journal", "verify", "--json", "--anchor", &anchor]);
    assert_eq!((&anchored["ok"], &anchored["anchored"]), (&Value::Bool(true), &25.into()));
    let forged = format!("{}:{}:{}", text("journal_id"), verified["seq"], "00".repeat(16));
    assert_eq!(site.gateway.cli(&["journal", "verify", "--anchor", &forged]).status.code(), Some(1));

    let stats = site.stats();
    let sink = &stats["sinks"][0];
    let sum: u64 = ["delivered", "pending", "quarantined", "dropped", "filtered"]
        .iter()
        .map(|key| sink[key].as_u64().unwrap())
        .sum();
    assert_eq!((stats["appended"].as_u64(), sum), (Some(25), 25), "{stats}");
    (events, verified, stats)
}

#[test]
fn events_can_be_followed_and_a_reader_that_goes_away_is_no_error() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let mut site = Site::new(&vendor.url());
    site.gateway.restart_ready();
    site.play(3, 1);
    let followed = site.dir.path().join("followed");
    let config = site.dir.path().join("portero.toml");
    let mut command = Command::new(binary());
    command.args(["events", "--follow", "--json", "--limit", "2", "--config"]).arg(&config);
    let mut follower = support::Process::spawn(command.stdout(std::fs::File::create(&followed).unwrap()));
    let seen = || std::fs::read_to_string(&followed).unwrap().lines().count();
    eventually("the last two are shown", DEADLINE, || seen() == 2);
    site.play(40, 2);
    eventually("what came meanwhile is shown", DEADLINE, || seen() == 42);
    follower.signal(rustix::process::Signal::INT);
    assert_eq!(follower.wait(DEADLINE).code(), Some(0));
    assert_eq!(seen(), 42);

    let mut command = Command::new(binary());
    let mut reader =
        command.args(["events", "--follow", "--json", "--config"]).arg(&config).stdout(Stdio::piped()).spawn().unwrap();
    drop(reader.stdout.take());
    site.play(1, 3);
    eventually("the follower notices that nobody reads", DEADLINE, || reader.try_wait().unwrap().is_some());
    assert_eq!(reader.wait().unwrap().code(), Some(0));
}

#[test]
fn a_follower_that_comes_before_the_gateway_waits_for_it() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let mut site = Site::new(&vendor.url());
    let config = site.dir.path().join("portero.toml");
    let listed = site.gateway.cli(&["events"]);
    assert_eq!(listed.status.code(), Some(74));
    assert!(err(&listed).contains("start the gateway"), "{}", err(&listed));
    let file = |name: &str| std::fs::File::create(site.dir.path().join(name)).unwrap();
    let mut command = Command::new(binary());
    command.args(["events", "--follow", "--json", "--config"]).arg(&config);
    let mut follower = support::Process::spawn(command.stdout(file("followed")).stderr(file("said")));
    let text = |name: &str| std::fs::read_to_string(config.with_file_name(name)).unwrap();
    eventually("it says that it waits", DEADLINE, || text("said").contains("waiting for a gateway"));
    site.gateway.restart_ready();
    site.play(7, 1);
    eventually("what comes is shown", DEADLINE, || text("followed").lines().count() == 7);
    follower.signal(rustix::process::Signal::INT);
    assert_eq!(follower.wait(DEADLINE).code(), Some(0));
}

#[test]
fn quarantined_events_are_listed_shown_and_replayed() {
    let vendor = VendorApi::start(Behaviour::RejectIf(Arc::new(|event| {
        event["native_seq"].as_str().is_some_and(|seq| seq.ends_with('3'))
    })));
    let mut site = Site::new(&vendor.url());
    site.gateway.restart_ready();
    site.play(10, 1);
    eventually("one event is refused, the others go through", DEADLINE, || {
        let stats = site.stats();
        (&stats["sinks"][0]["delivered"], &stats["sinks"][0]["quarantined"]) == (&9.into(), &1.into())
    });
    let listed = lines(&site.gateway.cli(&["quarantine", "list", "--json"]));
    assert_eq!((listed.len(), &listed[0]["sink"]), (1, &"vendor".into()));
    assert!(listed[0]["reason"].as_str().is_some_and(|r| !r.is_empty()), "{}", listed[0]);
    let seq = listed[0]["seq"].to_string();
    assert!(out(&site.gateway.cli(&["quarantine", "list"])).contains("vendor"));
    let shown = out(&site.gateway.cli(&["quarantine", "show", &seq]));
    assert!(shown.contains("refused") || shown.contains("422"), "{shown}");
    assert_eq!(site.gateway.cli(&["quarantine", "show", "999"]).status.code(), Some(1));
    assert_eq!(site.gateway.cli(&["quarantine", "list", "--sink", "nobody"]).status.code(), Some(2));

    vendor.behave(Behaviour::Ok);
    assert_eq!(site.gateway.cli_json(&["quarantine", "replay", "--all", "--json"])["released"], 1);
    eventually("the replayed event is delivered by the running gateway", DEADLINE, || {
        site.stats()["sinks"][0]["delivered"] == 10
    });

    // Without a running gateway the command does it in the journal itself.
    vendor.behave(Behaviour::RejectIf(Arc::new(|_| true)));
    site.play(2, 2);
    eventually("both are refused", DEADLINE, || site.stats()["sinks"][0]["quarantined"] == 2);
    site.gateway.sigterm();
    vendor.behave(Behaviour::Ok);
    let seq = lines(&site.gateway.cli(&["quarantine", "list", "--json"]))[0]["seq"].to_string();
    assert_eq!(site.gateway.cli_json(&["quarantine", "replay", &seq, "--json"])["released"], 1);
    assert_eq!(site.stats()["sinks"][0]["pending"], 1);
    site.gateway.restart_ready();
    eventually("it is delivered after the start", DEADLINE, || site.stats()["sinks"][0]["delivered"] == 11);
    assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
}

#[test]
fn i4_a_quarantined_event_is_dropped_only_with_a_reason_and_a_name_that_are_kept() {
    let vendor = VendorApi::start(Behaviour::RejectIf(Arc::new(|_| true)));
    let mut site = Site::new(&vendor.url());
    site.gateway.restart_ready();
    site.play(5, 1);
    eventually("all are refused", DEADLINE, || site.stats()["sinks"][0]["quarantined"] == 5);
    let listed = lines(&site.gateway.cli(&["quarantine", "list", "--json"]));
    let (seqs, ids): (Vec<String>, Vec<&str>) =
        listed.iter().map(|e| (e["seq"].to_string(), e["event_id"].as_str().unwrap())).unzip();
    for wrong in [
        &["quarantine", "drop", &seqs[0], "--who", "ana"][..],
        &["quarantine", "drop", &seqs[0], "--who", "ana", "--why", " "],
        &["quarantine", "drop", "--who", "ana", "--why", "test"],
    ] {
        assert_eq!(site.gateway.cli(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let absent = ["quarantine", "drop", "999", "--who", "ana", "--why", "test"];
    assert_eq!(site.gateway.cli(&absent).status.code(), Some(1));
    assert_eq!(site.stats()["sinks"][0]["quarantined"], 5, "nothing was dropped by mistake");

    let said = ["--who", "ana", "--why", "test punches", "--json"];
    let drop = |which: &[&str]| site.gateway.cli_json(&[&["quarantine", "drop"], which, &said].concat());
    assert_eq!(drop(&[&seqs[0], &seqs[1]])["dropped"], 2);
    assert_eq!(drop(&["--reason", "no such reason"])["dropped"], 0);
    assert_eq!(drop(&["--reason", "HTTP 422", "--terminal", "yard", "--since", "2020-01-01"])["dropped"], 3);
    let sink = &site.stats()["sinks"][0];
    assert_eq!((&sink["dropped"], &sink["quarantined"], &sink["pending"]), (&5.into(), &0.into(), &0.into()));
    assert_eq!((&sink["delivered"], &sink["filtered"]), (&0.into(), &0.into()));
    for id in ids {
        let traced = &lines(&site.gateway.cli(&["trace", id, "--json"]))[0]["sinks"][0];
        assert_eq!((&traced["state"], &traced["who"]), (&"dropped".into(), &"ana".into()), "{traced}");
        let words = out(&site.gateway.cli(&["trace", id]));
        assert!(words.contains("dropped by ana") && words.contains("test punches"), "{words}");
    }

    // Without a running gateway too, and what comes later is delivered as ever.
    site.play(1, 2);
    eventually("one more is refused", DEADLINE, || site.stats()["sinks"][0]["quarantined"] == 1);
    site.gateway.sigterm();
    let all = ["quarantine", "drop", "--all", "--who", "ana", "--why", "test punches", "--json"];
    assert_eq!(site.gateway.cli_json(&all)["dropped"], 1);
    vendor.behave(Behaviour::Ok);
    site.gateway.restart_ready();
    site.play(3, 3);
    eventually("what came later is delivered", DEADLINE, || site.stats()["sinks"][0]["delivered"] == 3);
    assert_eq!(site.stats()["sinks"][0]["dropped"], 6);
    assert_eq!(vendor.oracle().stored.len(), 3);
}

#[test]
fn trace_answers_whether_a_punch_arrived_by_id_and_by_person_and_day() {
    let vendor = VendorApi::start(Behaviour::RejectIf(Arc::new(|event| {
        event["native_seq"].as_str().is_some_and(|seq| seq.ends_with('3'))
    })));
    let mut site = Site::new(&vendor.url());
    site.gateway.restart_ready();
    site.play(10, 1);
    eventually("one event is refused, the others go through", DEADLINE, || {
        let stats = site.stats();
        (&stats["sinks"][0]["delivered"], &stats["sinks"][0]["quarantined"]) == (&9.into(), &1.into())
    });
    vendor.behave(Behaviour::Custom(Arc::new(|_| Reply::refuse(503))));
    site.play(1, 2);
    eventually("one event waits", DEADLINE, || {
        let status = site.gateway.cli_json(&["status", "--json"]);
        status["sinks"][0]["pending"] == 1 && status["sinks"][0]["error"].is_string()
    });
    let (mut days, mut states) = (std::collections::BTreeSet::new(), std::collections::BTreeMap::new());
    for event in lines(&site.gateway.cli(&["events", "--json"])) {
        let id = event["event_id"].as_str().unwrap();
        let traced = lines(&site.gateway.cli(&["trace", id, "--json"]));
        assert_eq!((traced.len(), &traced[0]["event"]), (1, &event));
        let sink = &traced[0]["sinks"][0];
        let state = sink["state"].as_str().unwrap().to_owned();
        let words = out(&site.gateway.cli(&["trace", id]));
        assert!(words.contains(id) && words.contains(&state), "{words}");
        match state.as_str() {
            "quarantined" => assert!(sink["reason"].as_str().is_some_and(|r| words.contains(r)), "{words}"),
            "pending" => assert!(sink["waits_for"].as_str().is_some_and(|r| r.contains("503")), "{sink}"),
            _ => {}
        }
        *states.entry(state).or_insert(0) += 1;

        // The same event by what payroll knows: the person, and the day at the terminal.
        let time: jiff::Timestamp = event["event_time"].as_str().unwrap().parse().unwrap();
        let local = time.in_tz("America/Santiago").unwrap();
        let (person, day) = (event["person"]["terminal_person_id"].as_str().unwrap(), local.date().to_string());
        let clock = local.strftime("%H:%M").to_string();
        let asked = ["trace", "--person", person, "--date", &day, "--time", &clock, "--json"];
        let found = lines(&site.gateway.cli(&asked));
        assert!(found.iter().any(|f| f["event"] == event), "{asked:?}");
        assert!(found.iter().all(|f| f["event"]["person"]["terminal_person_id"] == person), "{asked:?}");
        let far = if local.hour() < 12 { "23:00" } else { "01:00" };
        let far = site.gateway.cli(&["trace", "--person", person, "--date", &day, "--time", far, "--json"]);
        assert!(!out(&far).contains(id));
        days.insert(day);
    }
    let states: Vec<(&str, i32)> = states.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    assert_eq!(states, [("delivered", 9), ("pending", 1), ("quarantined", 1)]);
    // What the sink's filter left out was never sent, and is not called delivered.
    site.gateway.sigterm();
    let config = site.dir.path().join("portero.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\nterminals = [\"another\"]\n")).unwrap();
    vendor.behave(Behaviour::Ok);
    site.gateway.restart_ready();
    site.play(1, 3);
    eventually("it is filtered", DEADLINE, || site.stats()["sinks"][0]["filtered"].as_u64() > Some(0));
    let last = lines(&site.gateway.cli(&["events", "--limit", "1", "--json"])).remove(0);
    let id = last["event_id"].as_str().unwrap();
    eventually("and traced so", DEADLINE, || {
        lines(&site.gateway.cli(&["trace", id, "--json"]))[0]["sinks"][0]["state"] == "filtered"
    });
    assert!(out(&site.gateway.cli(&["trace", id])).contains("left out by the sink's filter"));

    let someone = ["trace", "--person", "nobody", "--date", days.first().unwrap()];
    assert_eq!(site.gateway.cli(&someone).status.code(), Some(1));
    assert_eq!(site.gateway.cli(&["trace", "01a20ada-2c0b-8816-8a18-dc2e87dead47"]).status.code(), Some(1));
    assert_eq!(site.gateway.cli(&["trace", "--person", "7"]).status.code(), Some(2));
}

#[test]
fn a_journal_that_another_process_owns_names_it() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let mut site = Site::new(&vendor.url());
    site.gateway.restart_ready();
    let second = site.gateway.cli(&["run"]);
    assert_eq!(second.status.code(), Some(69));
    let owner = format!("owned by process {}", site.gateway.pid());
    assert!(err(&second).contains(&owner), "{}", err(&second));
    // The first one has not been disturbed.
    assert_eq!(site.gateway.cli_json(&["status", "--json"])["running"], true);
}

#[test]
fn a_terminal_of_the_configuration_is_decoded_with_its_fields() {
    let site = Site::new("http://127.0.0.1:9/");
    let capture = site.dir.path().join("capture");
    let payload = r#"{"pin":"087109","ts":"2026-11-24T00:00:00.011Z","event_id":"A-1","sn":"CJ9D","dir":"out"}"#;
    std::fs::write(&capture, format!("site/yard/7/events {payload}\n")).unwrap();
    let decoded = lines(&site.gateway.cli(&["decode", "--terminal", "yard", capture.to_str().unwrap()]));
    assert_eq!(decoded.len(), 1);
    assert_eq!(decoded[0]["person"]["terminal_person_id"], "087109");
    assert_eq!((&decoded[0]["punch"], &decoded[0]["site_id"]), (&"out".into(), &"test-site".into()));
    assert!(decoded[0]["event_id"].is_string());
}
