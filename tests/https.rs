//! Configuration from afar over real HTTPS: nginx with a certificate of an authority of our own stands before the shelf. What
//! is the same without TLS is in `remote.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use portero::manage::remote::sign::{self, Pair, Password};
use portero::manage::remote::signature::Key;
use serde_json::Value;
use support::shelf::{Manner, Shelf};
use support::{
    Behaviour, DEADLINE, Gateway, Process, VendorApi, api_sink, eventually, find_program, free_port, tempdir,
};

/// nginx, which speaks TLS for `behind`.
fn nginx(dir: &Path, behind: u16) -> (Process, u16) {
    let (port, at) = (free_port(), dir.display());
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let fixtures = fixtures.display();
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {at}/{what};"))
        .join("\n");
    // One process: a worker would outlive a master that is killed.
    let config = format!(
        "daemon off; master_process off; {user} pid {at}/nginx.pid; worker_processes 1;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n\
         server {{\nlisten 127.0.0.1:{port} ssl;\nssl_certificate {fixtures}/server.pem;\n\
         ssl_certificate_key {fixtures}/server.key;\nlocation / {{ proxy_pass http://127.0.0.1:{behind}; proxy_buffering off; \
         proxy_redirect off; proxy_read_timeout 600s; }}\n}}\n}}\n"
    );
    std::fs::write(dir.join("nginx.conf"), config).unwrap();
    let mut command = Command::new(find_program("nginx", &[]));
    command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    let process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("nginx listens", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (process, port)
}

struct Site {
    gateway: Gateway,
    shelf: Shelf,
    key: Pair,
    broker: u16,
    vendor: VendorApi,
    played: u32,
    _nginx: Process,
    _dir: tempfile::TempDir,
}

impl Site {
    /// With our authority in `ca_file`, or one that did not sign.
    fn start(trusts: bool) -> Self {
        let (dir, broker, shelf, vendor) = (tempdir(), free_port(), Shelf::start(), VendorApi::start(Behaviour::Ok));
        let (nginx, port) = nginx(dir.path(), shelf.port);
        let key = sign::keygen(&Password::None).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
        let authority = if trusts { fixtures.join("ca.pem") } else { stranger(dir.path()) };
        let config = dir.path().join("portero.toml");
        let remote = format!(
            "\n[manage.remote]\nurl = \"https://localhost:{port}/gw.toml\"\nca_file = \"{}\"\npoll_seconds = 1\n\
             probation_seconds = 1\nactive_key = \"{}\"\n",
            authority.display(),
            Key::parse(&key.public).unwrap().text()
        );
        let listen = format!("listen = \"127.0.0.1:{broker}\"");
        let text = support::yard_config(dir.path(), &listen, &api_sink(&vendor.url(), 10)) + &remote;
        std::fs::write(&config, text).unwrap();
        let mut gateway = Gateway::prepare(&config, &[]);
        gateway.restart_ready();
        Self { gateway, shelf, key, broker, vendor, played: 0, _nginx: nginx, _dir: dir }
    }

    fn push(&self, revision: u64) {
        let text = format!(
            "[bundle]\ngateway = \"gw-test\"\npurpose = \"portero-config\"\nrevision = {revision}\n\
             not_before = 2020-01-01T00:00:00Z\nexpires = 2099-01-01T00:00:00Z\n{}max_body_bytes = 50000\n",
            api_sink(&self.vendor.url(), 10)
        );
        let signature = sign::sign(text.as_bytes(), &self.key.secret, &Password::None, "test").unwrap();
        self.shelf.lay("gw.toml", text.as_bytes(), &signature);
    }

    fn remote(&self) -> Value {
        self.gateway.cli_json(&["status", "--json"])["configuration"]["remote"].clone()
    }

    /// One report here and in the status, from which the heartbeat is made; and the flow goes on.
    #[track_caller]
    fn is_reported(&mut self, words: &str) {
        eventually(words, DEADLINE, || self.remote()["error"].as_str().is_some_and(|error| error.contains(words)));
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
