//! Configuration from afar over real HTTPS: nginx with a certificate of an authority of our own stands before the shelf. What
//! is the same without TLS is in `remote.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::shelf::{Manner, Shelf};
use support::{
    Behaviour, DEADLINE, Gateway, Process, Signer, VendorApi, api_sink, eventually, find_program, free_port, tempdir,
};

/// nginx, which speaks TLS for `behind`.
fn nginx(dir: &Path, behind: u16) -> (Process, u16) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let fixtures = fixtures.display();
    let server = format!(
        "ssl_certificate {fixtures}/server.pem;\nssl_certificate_key {fixtures}/server.key;\n\
         location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_buffering off; proxy_redirect off; proxy_read_timeout 600s; }}"
    );
    support::nginx(dir, &server)
}

struct Site {
    gateway: Gateway,
    shelf: Shelf,
    signer: Signer,
    broker: u16,
    vendor: VendorApi,
    played: u32,
    config: std::path::PathBuf,
    _nginx: Process,
    _dir: tempfile::TempDir,
}

impl Site {
    /// With our authority in `ca_file`, or one that did not sign.
    fn start(trusts: bool) -> Self {
        let (dir, broker, shelf, vendor) = (tempdir(), free_port(), Shelf::start(), VendorApi::start(Behaviour::Ok));
        let (nginx, port) = nginx(dir.path(), shelf.port);
        let signer = Signer::new();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
        let authority = if trusts { fixtures.join("ca.pem") } else { stranger(dir.path()) };
        let config = dir.path().join("portero.toml");
        let url = format!("https://localhost:{port}/gw.toml");
        let remote = signer.remote(&url, &format!("ca_file = \"{}\"\nprobation_seconds = 1", authority.display()));
        let listen = format!("listen = \"127.0.0.1:{broker}\"");
        let text = support::yard_config(dir.path(), &listen, &api_sink(&vendor.url(), 10)) + &remote;
        std::fs::write(&config, text).unwrap();
        let mut gateway = Gateway::prepare(&config, &[]);
        gateway.restart_ready();
        Self { gateway, shelf, signer, broker, vendor, played: 0, config, _nginx: nginx, _dir: dir }
    }

    fn push(&self, revision: u64) {
        self.push_until(revision, "2099-01-01T00:00:00Z", "");
    }

    fn push_until(&self, revision: u64, until: &str, more: &str) {
        let body = format!("{more}{}max_body_bytes = 50000\n", api_sink(&self.vendor.url(), 10));
        self.signer.lay(&self.shelf, &format!("revision = {revision}\nexpires = {until}\n"), &body);
    }

    fn remote(&self) -> Value {
        self.gateway.cli_json(&["status", "--json"])["configuration"]["remote"].clone()
    }

    /// One report here and in the status, from which the heartbeat is made; and the flow goes on.
    #[track_caller]
    fn is_reported(&mut self, words: &str) {
        self.is_reported_as(words, "error");
    }

    #[track_caller]
    fn is_reported_as(&mut self, words: &str, key: &str) {
        eventually(words, DEADLINE, || self.remote()[key].as_str().is_some_and(|error| error.contains(words)));
        eventually("it is in the log", DEADLINE, || self.gateway.log().contains(words));
        self.played += 1;
        self.gateway.play_yard(self.broker, 5, self.played, &[]);
        let wanted = usize::try_from(5 * self.played).unwrap();
        eventually("the flow goes on", DEADLINE, || self.vendor.stored_count() == wanted);
        assert_eq!(self.gateway.log().matches(words).count(), 1, "{}", self.gateway.log());
    }

    fn comes_to(&self, revision: u64) {
        eventually(&format!("revision {revision} runs"), DEADLINE, || {
            let remote = self.remote();
            remote["revision"] == revision && remote["error"] == Value::Null
        });
    }
}

/// An authority that signed nothing.
fn stranger(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("stranger.pem");
    let mut openssl = Command::new(find_program("openssl", &[]));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=stranger", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout"]);
    openssl.arg(dir.join("stranger.key")).arg("-out").arg(&file);
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
    file
}

#[test]
fn a_bundle_comes_over_https_and_what_is_known_is_not_sent_again() {
    let mut site = Site::start(true);
    site.push(7);
    site.comes_to(7);
    let unchanged = site.shelf.unchanged();
    eventually("304 is heard", DEADLINE, || site.shelf.unchanged() > unchanged + 1);
    let elsewhere = Shelf::start();
    for (manner, words) in [
        (Manner::Page, "a web page is served"),
        (Manner::Redirect(elsewhere.url("gw.toml")), "leads to another host"),
        (Manner::Flood(100 << 20), "more than 1048576 bytes"),
    ] {
        site.shelf.behave(manner);
        site.is_reported(words);
        assert_eq!(site.remote()["revision"], 7);
    }
    assert_eq!(elsewhere.asked(), 0);
    site.shelf.behave(Manner::Files);
    site.push(8);
    site.comes_to(8);
}

#[test]
fn a_certificate_of_a_strange_authority_is_refused_with_words_and_nothing_is_asked() {
    let mut site = Site::start(false);
    site.push(7);
    site.is_reported("signed by an authority that we don't know; set ca_file");
    assert_eq!((site.shelf.asked(), &site.remote()["revision"]), (0, &Value::Null));
}

#[test]
fn an_address_that_hangs_is_given_up_and_the_flow_goes_on() {
    let mut site = Site::start(true);
    site.push(7);
    site.comes_to(7);
    site.shelf.behave(Manner::Hang);
    site.is_reported("does not answer in time");
    site.shelf.behave(Manner::Files);
    site.push(8);
    site.comes_to(8);
}

#[test]
fn an_address_that_trickles_is_given_up_and_the_flow_goes_on() {
    let mut site = Site::start(true);
    site.push(7);
    site.comes_to(7);
    site.shelf.behave(Manner::Trickle);
    site.is_reported("does not answer in time");
    site.shelf.behave(Manner::Files);
    site.push(8);
    site.comes_to(8);
}

#[test]
fn a_bundle_that_expires_while_it_runs_goes_on_and_that_is_said_once_with_what_to_do() {
    let mut site = Site::start(true);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, text.replace("zone = \"America", "clock = \"trusted\"\nzone = \"America")).unwrap();
    site.gateway.restart_ready();
    site.push_until(7, &format!("{soon:.0}"), "");
    eventually("it runs", DEADLINE, || site.remote()["revision"] == 7);
    site.is_reported_as("goes on running: sign and publish one with a higher revision", "say");
    // Looked at again more than once meanwhile.
    let asked = site.shelf.asked();
    eventually("time goes on", DEADLINE, || site.shelf.asked() > asked + 12);
    assert_eq!(site.gateway.log().matches("configuration from afar has expired").count(), 1, "{}", site.gateway.log());
    let remote = site.remote();
    assert_eq!((&remote["revision"], &remote["expired"]), (&7.into(), &true.into()), "{remote}");
    let status = String::from_utf8(site.gateway.cli(&["status"]).stdout).unwrap();
    assert!(status.contains("configuration: the bundle that runs was good until "), "{status}");
    let findings = String::from_utf8(site.gateway.cli(&["doctor", "--json"]).stdout).unwrap();
    assert!(findings.contains("the bundle that runs has expired; it goes on running"), "{findings}");
    // After a start it is still in force.
    site.gateway.restart_ready();
    assert_eq!(site.remote()["revision"], 7);
    site.push(8);
    site.comes_to(8);
    assert!(site.remote()["expired"].is_null());
}

#[test]
fn zone_and_retention_from_afar_act_at_the_next_start_and_are_named() {
    let mut site = Site::start(true);
    let text = std::fs::read_to_string(&site.config).unwrap();
    assert!(text.contains("zone = \"UTC\"\n"));
    std::fs::write(&site.config, text.replace("zone = \"UTC\"\n", "")).unwrap();
    site.gateway.restart_ready();
    // In which zone what is heard next is stamped.
    let stamped = |site: &mut Site| {
        site.played += 1;
        site.gateway.play_yard(site.broker, 1, site.played, &[]);
        let events = String::from_utf8(site.gateway.cli(&["events", "--json"]).stdout).unwrap();
        let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
        last["zone"].as_str().unwrap().to_owned()
    };
    assert_eq!(stamped(&mut site), "America/Santiago");
    let more = "[gateway]\nzone = \"Asia/Tokyo\"\n[journal]\nretention_days = 77\n";
    site.push_until(7, "2099-01-01T00:00:00Z", more);
    eventually("it runs", DEADLINE, || site.remote()["revision"] == 7);
    let waits =
        |site: &Site| site.gateway.cli_json(&["status", "--json"])["configuration"]["remote"]["needs_restart"].clone();
    eventually("what waits for a start is named", DEADLINE, || {
        waits(&site) == serde_json::json!(["[gateway]", "[journal]"])
    });
    for table in ["[gateway]", "[journal]"] {
        let words = format!("not taken before the gateway starts again reason=\"{table}\"");
        assert!(site.gateway.log().contains(&words), "{}", site.gateway.log());
    }
    assert_eq!(stamped(&mut site), "America/Santiago");
    site.gateway.restart_ready();
    assert_eq!(stamped(&mut site), "Asia/Tokyo");
    assert!(waits(&site).is_null(), "{}", waits(&site));
}
