//! Configuration from afar, from a signed file on a static host to a gateway that runs it, keeps it or gives it back. What
//! is refused, and falls in the middle, is in `bundles.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::path::PathBuf;

use serde_json::{Value, json};
use support::shelf::{Manner, Shelf};
use support::{Behaviour, DEADLINE, Gateway, Reply, Signer, VendorApi, api_sink, eventually, free_port, tempdir};

/// A gateway that asks a shelf every second, with the yard at its own broker and one vendor.
struct Site {
    gateway: Gateway,
    shelf: Shelf,
    signer: Signer,
    broker: u16,
    vendor: VendorApi,
    config: PathBuf,
    dir: tempfile::TempDir,
}

impl Site {
    fn start(probation: u32) -> Self {
        Self::start_with(probation, Behaviour::Ok)
    }

    fn start_with(probation: u32, behaviour: Behaviour) -> Self {
        let (dir, broker, shelf, vendor) = (tempdir(), free_port(), Shelf::start(), VendorApi::start(behaviour));
        let signer = Signer::new();
        let config = dir.path().join("portero.toml");
        let remote = signer.remote(&shelf.url("gw.toml"), &format!("probation_seconds = {probation}"));
        let listen = format!("listen = \"127.0.0.1:{broker}\"");
        let text = support::yard_config(dir.path(), &listen, &api_sink(&vendor.url(), 10)) + &remote;
        std::fs::write(&config, text).unwrap();
        let mut gateway = Gateway::prepare(&config, &[("right", "right"), ("wrong", "wrong")]);
        gateway.restart_ready();
        Self { gateway, shelf, signer, broker, vendor, config, dir }
    }

    /// Lays a bundle on the shelf.
    fn push(&self, revision: u64, body: &str) {
        self.push_as(&format!("revision = {revision}\n"), body);
    }

    fn push_as(&self, header: &str, body: &str) {
        self.signer.lay(&self.shelf, header, body);
    }

    fn sink(&self, more: &str) -> String {
        api_sink(&self.vendor.url(), 10) + more + "\n"
    }

    fn remote(&self) -> Value {
        self.gateway.cli_json(&["status", "--json"])["configuration"]["remote"].clone()
    }

    fn history(&self) -> Vec<Value> {
        let output = self.gateway.cli(&["config", "history", "--json"]);
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the last line of the history says this of a revision.
    #[track_caller]
    fn wait_for(&self, revision: u64, what: &str) -> Value {
        eventually(&format!("{revision} is {what}"), DEADLINE, || {
            self.history().last().is_some_and(|last| last["revision"] == revision && last["what"] == what)
        });
        self.history().pop().unwrap()
    }

    fn play(&self, count: u32, seed: u32) {
        self.gateway.play_yard(self.broker, count, seed, &[]);
    }
}

/// A vendor that knows one token.
fn knows(token: &'static str) -> Behaviour {
    Behaviour::Custom(std::sync::Arc::new(move |request| match &request.authorization {
        Some(sent) if *sent != format!("Bearer {token}") => Reply::refuse(401),
        _ => Reply::ok(),
    }))
}

#[test]
fn a_pushed_bundle_runs_without_a_restart_and_is_kept_once_it_has_worked() {
    let site = Site::start(1);
    let pid = site.gateway.pid();
    site.play(20, 1);
    eventually("it arrives", DEADLINE, || site.vendor.stored_count() == 20);
    site.push(7, &site.sink("max_body_bytes = 50000"));
    site.wait_for(7, "accepted");
    site.play(20, 2);
    site.wait_for(7, "committed");
    eventually("what came meanwhile arrives", DEADLINE, || site.vendor.stored_count() == 40);
    assert_eq!(site.remote()["revision"], 7);
    let shown = site.gateway.cli(&["config", "show", "--origin"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("sink.vendor.max_body_bytes = 50000  # bundle 7:"), "{shown}");

    // The same under a higher revision: consumed, and nothing else.
    site.push(8, &site.sink("max_body_bytes = 50000"));
    site.wait_for(8, "unchanged");
    let unchanged = site.shelf.unchanged();
    eventually("what is known is not sent again", DEADLINE, || site.shelf.unchanged() > unchanged);
    assert_eq!(site.gateway.pid(), pid);
    assert_eq!(site.vendor.oracle().doubled(), Vec::<&str>::new());

    // After a restart it is in force.
    let mut site = site;
    site.gateway.restart_ready();
    assert_eq!(site.remote()["revision"], 8);
    let shown = site.gateway.cli(&["config", "show"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("max_body_bytes = 50000"));
}

#[test]
fn a_bundle_that_breaks_a_login_goes_by_itself_and_says_so() {
    let site = Site::start_with(2, knows("right"));
    site.push(7, &site.sink("auth = { type = \"bearer\", token = { credential = \"right\" } }"));
    site.wait_for(7, "accepted");
    site.play(20, 1);
    site.wait_for(7, "committed");
    site.push(8, &site.sink("auth = { type = \"bearer\", token = { credential = \"wrong\" } }"));
    site.wait_for(8, "accepted");
    site.play(20, 2);
    let last = site.wait_for(8, "returned");
    assert!(last["reason"].as_str().unwrap().contains("sink 'vendor': "), "{last}");
    eventually("what could not be delivered meanwhile is", DEADLINE, || site.vendor.stored_count() == 40);
    let remote = site.remote();
    assert_eq!(
        (&remote["revision"], &remote["consumed"], &remote["last"]["what"]),
        (&json!(7), &json!(8), &json!("returned"))
    );
    assert!(site.gateway.log().contains("configuration from afar is taken back"));
    // It stays consumed.
    let asked = site.shelf.asked();
    eventually("it is asked again", DEADLINE, || site.shelf.asked() > asked + 3);
    assert_eq!(site.remote()["revision"], 7);
}

#[test]
fn the_centre_hears_that_a_bundle_was_taken_back_and_why() {
    let postgres = support::Postgres::start();
    let mut site = Site::start_with(2, knows("right"));
    let server = ["central", "init", "--apply", "--url", &postgres.url(), "--tls", "disable"];
    let made = site.gateway.cli(&server);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let with = |site: &Site, token: &str| {
        site.sink(&format!("auth = {{ type = \"bearer\", token = {{ credential = \"{token}\" }} }}"))
            + &support::postgres_sink(&postgres.url())
    };
    site.push(7, &with(&site, "right"));
    site.wait_for(7, "accepted");
    site.play(20, 1);
    site.wait_for(7, "committed");
    site.push(8, &with(&site, "wrong"));
    site.wait_for(8, "accepted");
    site.play(20, 2);
    site.wait_for(8, "returned");
    // A sign of life is said each minute, and at a start.
    site.gateway.restart_ready();
    let heard = |path: &str| {
        postgres.psql(&format!("SELECT status #>> '{{configuration,remote,{path}}}' FROM portero.gateway"))
    };
    eventually("the centre hears of it", DEADLINE, || heard("last,what") == "returned");
    assert_eq!((heard("revision").as_str(), heard("last,revision").as_str()), ("7", "8"));
    assert!(heard("last,reason").contains("sink 'vendor': "), "{}", heard("last,reason"));
    let status = String::from_utf8(site.gateway.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("configuration from afar: revision 7\n"), "{status}");
}

#[test]
fn three_starts_on_probation_take_a_bundle_back() {
    let mut site = Site::start(3600);
    site.push(7, &site.sink("max_body_bytes = 50000"));
    site.wait_for(7, "accepted");
    for _ in 0..2 {
        site.gateway.restart_ready();
        assert_eq!(site.remote()["revision"], 7);
    }
    site.gateway.restart_ready();
    assert_eq!(site.remote()["revision"], Value::Null);
    assert_eq!(site.history().pop().unwrap()["what"], "returned");
}

#[test]
fn a_person_takes_a_bundle_back_with_and_without_a_running_gateway() {
    let mut site = Site::start(1);
    for (revision, bytes) in [(7, 50_000), (8, 60_000)] {
        site.push(revision, &site.sink(&format!("max_body_bytes = {bytes}\nmax_requests_per_minute = 6000")));
        site.wait_for(revision, "accepted");
        site.play(10, u32::try_from(revision).unwrap());
        site.wait_for(revision, "committed");
    }
    let back = site.gateway.cli(&["config", "rollback", "--why", "the vendor asked for it"]);
    assert!(back.status.success(), "{back:?}");
    assert_eq!(site.remote()["revision"], 7);
    let last = site.history().pop().unwrap();
    assert_eq!((&last["what"], &last["reason"]), (&json!("rolled-back"), &json!("the vendor asked for it")));
    site.gateway.sigterm();
    let back = site.gateway.cli(&["config", "rollback"]);
    assert!(back.status.success(), "{back:?}");
    let back = site.gateway.cli(&["config", "rollback"]);
    assert_eq!(back.status.code(), Some(1), "there is nothing left to take back");
    site.gateway.restart_ready();
    assert_eq!(site.remote()["revision"], Value::Null);
    assert_eq!(site.remote()["consumed"], 8);
}

#[test]
fn a_sink_that_owes_events_goes_only_with_a_word_and_comes_back_with_all_of_them() {
    let mut site = Site::start(2);
    site.vendor.stop();
    site.play(30, 1);
    let mut other = VendorApi::start(Behaviour::Ok);
    let renamed = api_sink(&other.url(), 10).replace("\"vendor\"", "\"other\"");
    site.push(7, &renamed);
    let last = site.wait_for(7, "refused");
    assert!(last["reason"].as_str().unwrap().contains("30 events pending"), "{last}");
    assert_eq!(site.remote()["consumed"], 0, "what is refused is not consumed");

    site.push_as("revision = 8\nabandon = [\"vendor\"]\n", &renamed);
    site.wait_for(8, "accepted");
    let back = site.gateway.cli(&["config", "rollback", "--why", "no"]);
    assert!(back.status.success(), "{back:?}");
    let pending = |site: &Site| {
        let stats = site.gateway.cli_json(&["journal", "stats", "--json"]);
        stats["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "vendor").cloned().unwrap_or(Value::Null)
    };
    assert_eq!(pending(&site)["pending"], 30, "its place was kept while the bundle was tried");

    site.push_as("revision = 9\nabandon = [\"vendor\"]\n", &renamed);
    site.wait_for(9, "committed");
    eventually("it is gone", DEADLINE, || pending(&site) == Value::Null);
    // What it has kept is not taken back over events that wait, without a word.
    other.stop();
    site.play(5, 2);
    let refused = site.gateway.cli(&["config", "rollback", "--why", "no"]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(said.contains("events wait for it; say --abandon"), "{refused:?}");
    assert_eq!(site.remote()["revision"], 9);
    let taken = site.gateway.cli(&["config", "rollback", "--why", "no", "--abandon", "other"]);
    assert!(taken.status.success(), "{taken:?}");
    assert_ne!(site.remote()["revision"], 9);
    site.gateway.sigterm();
    let log = site.gateway.log();
    assert!(log.contains("sink given up, with the events that waited for it"), "{log}");
}

#[test]
fn i4_a_sink_that_a_later_bundle_brings_back_is_not_given_up() {
    let site = Site::start(3);
    site.play(20, 1);
    eventually("it arrives", DEADLINE, || site.vendor.stored_count() == 20);
    let renamed = site.sink("").replace("name = \"vendor\"", "name = \"other\"");
    site.push_as("revision = 7\nabandon = [\"vendor\"]\n", &renamed);
    site.wait_for(7, "accepted");
    // Before that is kept, the next one has both.
    site.push(8, &(site.sink("") + &renamed));
    site.wait_for(8, "accepted");
    site.play(20, 2);
    site.wait_for(8, "committed");
    let ledger = || {
        let stats = site.gateway.cli_json(&["journal", "stats", "--json"]);
        stats["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "vendor").cloned().unwrap_or(Value::Null)
    };
    eventually("it has everything", DEADLINE, || ledger()["delivered"] == 40 && ledger()["dropped"] == 0);
    assert!(!site.gateway.log().contains("sink given up"), "{}", site.gateway.log());
}

#[test]
fn whatever_the_address_answers_the_old_configuration_runs_and_one_report_is_made() {
    let site = Site::start(1);
    let elsewhere = Shelf::start();
    for (manner, words) in [
        (Manner::Page, "a web page is served"),
        (Manner::Redirect(elsewhere.url("gw.toml")), "leads to another host"),
        (Manner::Redirect(site.shelf.url("again")), "leads on more than"),
        (Manner::Flood(100 << 20), "more than 1048576 bytes"),
        (Manner::Files, "404"),
    ] {
        // As it was before the first page: the address has nothing, which was said at the start.
        let before = site.gateway.log().matches(words).count();
        site.shelf.behave(manner);
        eventually(words, DEADLINE, || site.remote()["error"].as_str().is_some_and(|error| error.contains(words)));
        let asked = site.shelf.asked();
        eventually("it is asked again", DEADLINE, || site.shelf.asked() > asked + 2);
        assert_eq!(site.gateway.log().matches(words).count(), before + 1, "{}", site.gateway.log());
    }
    assert_eq!(elsewhere.asked(), 0);
    site.play(20, 1);
    eventually("the flow goes on", DEADLINE, || site.vendor.stored_count() == 20);
    site.push(7, &site.sink("max_body_bytes = 50000"));
    site.wait_for(7, "accepted");
    eventually("all is well again", DEADLINE, || site.remote()["error"] == Value::Null);
}

#[test]
fn a_broken_local_file_at_a_start_runs_what_worked_last_and_78_comes_only_without_any() {
    let mut site = Site::start(1);
    let good = std::fs::read_to_string(&site.config).unwrap();
    site.gateway.sigterm();
    std::fs::write(&site.config, good.replace("[gateway]", "[gateway")).unwrap();
    site.gateway.restart_ready();
    site.play(20, 1);
    eventually("the flow goes on", DEADLINE, || site.vendor.stored_count() == 20);
    let status = site.gateway.cli(&["status", "--json"]);
    assert_eq!(status.status.code(), Some(78), "commands say what is wrong with the file");
    assert!(site.gateway.log().contains("the last good copy of the local file"), "{}", site.gateway.log());
    site.gateway.sigterm();
    std::fs::remove_dir_all(site.dir.path().join("config")).unwrap();
    site.gateway.restart();
    assert_eq!(site.gateway.wait_end(DEADLINE).code(), Some(78));
}

#[test]
fn a_damaged_bundle_costs_what_it_said_and_the_local_file_can_still_be_changed() {
    let mut site = Site::start(1);
    site.push(7, &site.sink("max_body_bytes = 50000"));
    site.wait_for(7, "accepted");
    site.play(20, 1);
    site.wait_for(7, "committed");
    site.gateway.sigterm();
    std::fs::write(site.dir.path().join("config/bundle-7.toml"), "torn").unwrap();
    site.gateway.restart_ready();
    assert_eq!(site.remote()["revision"], Value::Null, "what runs is told, not what should run");
    assert!(site.remote()["degraded"].is_array());
    let local = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, local.replace("batch = 10", "batch = 11")).unwrap();
    let report = site.gateway.cli_json(&["config", "reload", "--json"]);
    assert_eq!((&report["outcome"], &report["restarted"]), (&json!("applied"), &json!(["sink 'vendor'"])));
    assert!(site.remote()["degraded"].is_array(), "a reload does not mend the bundle");
}

#[test]
fn a_local_file_that_takes_the_address_out_is_rid_of_the_bundle() {
    let mut site = Site::start(1);
    site.push(7, &site.sink("max_body_bytes = 50000"));
    site.wait_for(7, "accepted");
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, &text[..text.find("[manage.remote]").unwrap()]).unwrap();
    site.gateway.restart_ready();
    let shown = site.gateway.cli(&["config", "show"]);
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("max_body_bytes"));
}

/// A gateway behind a mosquitto, to which bundles come as retained messages.
struct Topic {
    gateway: Gateway,
    broker: support::Mosquitto,
    signer: Signer,
    vendor: VendorApi,
    sinks: String,
    _dir: tempfile::TempDir,
}

impl Topic {
    fn start() -> Self {
        let (dir, vendor) = (tempdir(), VendorApi::start(Behaviour::Ok));
        let broker = support::Mosquitto::start(dir.path(), &support::MosquittoOptions::default());
        let signer = Signer::new();
        let config = dir.path().join("portero.toml");
        let remote = format!(
            "\n[manage.remote]\ntopic = \"portero/config\"\nbroker = \"site\"\npoll_seconds = 1\nprobation_seconds = 1\nactive_key = \"{}\"\n",
            signer.key()
        );
        let sinks = api_sink(&vendor.url(), 10);
        let text = support::yard_config(dir.path(), &format!("url = \"{}\"", broker.url()), &sinks) + &remote;
        std::fs::write(&config, text).unwrap();
        let mut gateway = Gateway::prepare(&config, &[]);
        gateway.restart_ready();
        Self { gateway, broker, signer, vendor, sinks, _dir: dir }
    }

    fn header(revision: u32) -> String {
        format!(
            "[bundle]\ngateway = \"gw-test\"\npurpose = \"portero-config\"\nrevision = {revision}\n\
             not_before = 2020-01-01T00:00:00Z\nexpires = 2099-01-01T00:00:00Z\n"
        )
    }

    fn message(&self, payload: &str) -> String {
        let signature = self.signer.sign(payload.as_bytes());
        json!({ "payload": payload, "signature": signature }).to_string() + "\n"
    }

    /// One message a line.
    fn publish(&self, lines: &str) {
        use std::io::Write as _;
        let port = self.broker.port.to_string();
        let mut command = std::process::Command::new(support::find_program("mosquitto_pub", &[]));
        command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-t", "portero/config", "-l"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn remote(&self) -> Value {
        self.gateway.cli_json(&["status", "--json"])["configuration"]["remote"].clone()
    }

    fn play(&self, count: u32, seed: u32) {
        self.gateway.play_yard(self.broker.port, count, seed, &[]);
    }
}

#[test]
fn a_retained_message_brings_a_bundle_and_a_thousand_of_one_content_restart_nothing() {
    let site = Topic::start();
    site.publish("not a bundle\n");
    eventually("what is none is refused", DEADLINE, || {
        site.remote()["error"].as_str().is_some_and(|e| e.contains("payload"))
    });
    let changed = format!("{}max_body_bytes = 50000\n", site.sinks);
    let message = |revision: u32| site.message(&(Topic::header(revision) + &changed));
    site.publish(&message(1));
    eventually("it is taken", DEADLINE, || site.remote()["consumed"] == 1);
    site.play(20, 1);
    eventually("it is kept", DEADLINE, || site.remote()["last"]["what"] == "committed");

    let pid = site.gateway.pid();
    site.publish(&(2..=1001).map(message).collect::<String>());
    site.play(200, 2);
    eventually("all of them are consumed", DEADLINE * 2, || site.remote()["consumed"] == 1001);
    assert_eq!((site.remote()["revision"].clone(), site.gateway.pid()), (json!(1001), pid));
    eventually("the flow went on", DEADLINE, || site.vendor.stored_count() == 220);
    assert_eq!(site.vendor.oracle().doubled(), Vec::<&str>::new());
    let log = site.gateway.log();
    assert_eq!(log.matches("started again, its configuration is another").count(), 1, "{log}");
}

#[test]
fn a_retained_bundle_that_was_refused_for_a_while_is_taken_once_it_can_be() {
    let mut site = Topic::start();
    site.vendor.stop();
    site.play(30, 1);
    let other = VendorApi::start(Behaviour::Ok);
    let renamed = api_sink(&other.url(), 10).replace("\"vendor\"", "\"other\"");
    site.publish(&site.message(&(Topic::header(1) + &renamed)));
    eventually("it is refused while events wait", DEADLINE, || {
        site.remote()["error"].as_str().is_some_and(|error| error.contains("30 events pending"))
    });
    // Nobody publishes it again.
    site.vendor.start_again();
    eventually("it is taken when they have arrived", DEADLINE, || site.remote()["consumed"] == 1);
    assert_eq!(site.vendor.stored_count(), 30);
    eventually("the other one gets them, too", DEADLINE, || other.stored_count() == 30);
}

#[test]
fn i6_five_hundred_spoilt_bundles_rightly_signed_stop_nothing() {
    let mut site = Topic::start();
    let pid = site.gateway.pid();
    let mut random = fastrand::Rng::with_seed(11);
    let further = "max_body_bytes = 50000\ncatch_up_per_minute = 60000\n[log]\nlevel = \"info\"\n";
    let spoilt = |revision: u32, random: &mut fastrand::Rng| {
        // Each of them another configuration, where nothing is spoilt.
        let timeout = format!("timeout_seconds = {}\n", 3 + revision % 50);
        let text = Topic::header(revision) + &site.sinks.replace("timeout_seconds = 2\n", &timeout);
        // The sink's name stays: another name is another sink, to which everything goes anew.
        let head = text.find("name = ").unwrap() + "name = \"vendor\"\n".len();
        site.message(&support::mutate::mutated(text + further, head, random))
    };
    let rounds = 5;
    let played = std::thread::scope(|scope| {
        let player = scope.spawn(|| (0..rounds).map(|seed| site.play(200, 20 + seed)).count() as u64 * 200);
        for round in 0..rounds {
            site.publish(&(1..=100).map(|n| spoilt(round * 100 + n, &mut random)).collect::<String>());
        }
        player.join().unwrap()
    });
    site.publish(&site.message(&(Topic::header(1000) + &site.sinks + "max_body_bytes = 60000\n")));
    eventually("the good one after them is taken", DEADLINE * 2, || site.remote()["consumed"] == 1000);
    eventually("everything is delivered", DEADLINE * 2, || site.vendor.stored_count() as u64 == played);
    let history = site.gateway.cli(&["config", "history", "--json"]);
    let history = String::from_utf8(history.stdout).unwrap();
    assert!(history.contains("\"accepted\"") && history.contains("\"refused\""), "{history}");
    eventually("the books balance", DEADLINE, || {
        let stats = site.gateway.cli_json(&["journal", "stats", "--json"]);
        let sink = &stats["sinks"][0];
        sink["delivered"] == played && sink["pending"] == 0 && sink["dropped"] == 0 && sink["quarantined"] == 0
    });
    assert_eq!(site.gateway.pid(), pid);
    let applied = site.gateway.log().matches("configuration from afar applied").count();
    assert!(applied > 50, "{applied} applied\n{history}\n{}", site.gateway.log());
    assert!(!site.gateway.log().contains("panicked"), "{}", site.gateway.log());
    assert_eq!(site.gateway.sigterm().code(), Some(0));
}
