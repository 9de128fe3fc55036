//! The watchdog is fed while every part moves or waits for a reason, and not when one hangs.
//!
//! A part hangs for real: strace holds one system call of one of the gateway's threads, as a disk or a driver does that does
//! not answer. New tests of what is stuck, and of what must never look stuck, go here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Behaviour, DEADLINE, Gateway, Process, Pty, VendorApi, eventually, find_program, free_port, tempdir};

/// As short as a busy machine bears: so long may a part keep its thread here, in microseconds.
const WATCHDOG: &str = "4000000";

const WAITS: &str = "a part of the gateway is stuck";
const UNFED: &str = "the watchdog is not fed";

/// A site with a reader on a serial line and a vendor with a token.
fn config(dir: &Path, vendor: &str, more: &str) -> std::path::PathBuf {
    let (file, token) = (dir.join("portero.toml"), dir.join("token"));
    std::fs::write(&token, "a-token-of-the-site").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        r#"
        [gateway]
        id = "gw-watched"
        site = "nowhere"
        zone = "UTC"
        clock_sync_file = "{dir}/clock-is-right"
        [journal]
        path = "{dir}/journal.db"
        [manage]
        socket = "{dir}/control.sock"
        [[terminal]]
        name = "gate"
        protocol = "rdm6300"
        link = {{ type = "serial", device = "{dir}/reader" }}
        [[sink]]
        name = "vendor"
        type = "api"
        url = "{vendor}"
        timeout_seconds = 600
        auth = {{ type = "bearer", token = {{ file = "{dir}/token" }} }}
        {more}
        "#,
        dir = dir.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// What the service manager hears.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(dir: &Path) -> Self {
        let socket = UnixDatagram::bind(dir.join("manager")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Every line so far.
    fn heard(&mut self) -> &[String] {
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            self.heard.extend(String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned));
        }
        &self.heard
    }

    fn fed(&mut self) -> usize {
        self.heard().iter().filter(|line| *line == "WATCHDOG=1").count()
    }

    #[track_caller]
    fn fed_again(&mut self, times: usize) {
        let before = self.fed();
        eventually("the watchdog is fed", DEADLINE, || self.fed() >= before + times);
    }
}

/// A gateway under a service manager with a watchdog, which is us.
fn start(dir: &Path, file: &Path) -> (Gateway, Manager) {
    let mut manager = Manager::listen(dir);
    let mut gateway = Gateway::prepare(file, &[]);
    gateway.env("WATCHDOG_USEC", WATCHDOG);
    gateway.restart_under(&dir.join("manager"));
    eventually("the gateway is ready", DEADLINE, || {
        assert!(gateway.running(), "{}", gateway.log());
        manager.heard().iter().any(|line| line == "READY=1")
    });
    (gateway, manager)
}

/// Holds every `call` of a running gateway on a file, from now on.
struct Hang(Process);

impl Hang {
    fn on(gateway: &Gateway, file: &Path, call: &str) -> Self {
        let said = file.with_extension("strace");
        let mut command = Command::new(find_program("strace", &[]));
        command.args(["-f", "-p", &gateway.pid().to_string(), "-P"]).arg(file);
        command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:delay_enter=3600000000")]);
        command.stdin(Stdio::null()).stderr(std::fs::File::create(&said).unwrap());
        let strace = Process::spawn(&mut command);
        eventually("strace holds the gateway", DEADLINE, || {
            std::fs::read_to_string(&said).unwrap().contains(" attached")
        });
        Self(strace)
    }

    /// The call goes on.
    fn end(mut self) {
        self.0.kill9();
    }
}

/// One tag, twice: a reader repeats it.
fn swipe(reader: &mut Pty) {
    reader.write(b"\x025000913004F5\x03\x025000913004F5\x03");
}

fn part(gateway: &Gateway, name: &str) -> Value {
    let status = gateway.cli_json(&["status", "--json"]);
    let parts = status["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no part {name}: {status}")).clone()
}

/// One that hangs is named, starves the watchdog, and feeds it again when it moves.
#[track_caller]
fn is_seen_to_hang(gateway: &mut Gateway, manager: &mut Manager, name: &str, hang: Hang) {
    let count = |gateway: &Gateway, words: &str| gateway.log().matches(words).count();
    eventually("the log names it", DEADLINE, || gateway.log().lines().any(|l| l.contains(WAITS) && l.contains(name)));
    eventually("the status line names it", DEADLINE, || {
        manager.heard().iter().any(|line| line.starts_with("STATUS=stuck: ") && line.contains(name))
    });
    eventually("the watchdog is denied its food", DEADLINE, || count(gateway, UNFED) >= 1);
    let (fed, unfed) = (manager.fed(), count(gateway, UNFED));
    eventually("and again", DEADLINE, || count(gateway, UNFED) >= unfed + 3);
    assert_eq!(manager.fed(), fed, "{}", gateway.log());
    let named = gateway.log().lines().filter(|l| l.contains(WAITS) && l.contains(name)).count();
    assert_eq!(named, 1, "said once: {}", gateway.log());
    hang.end();
    manager.fed_again(3);
    assert!(gateway.log().contains("moves again"), "{}", gateway.log());
    assert!(part(gateway, name)["stuck"].is_null());
}

#[test]
fn a_link_whose_device_does_not_answer_an_open_starves_the_watchdog() {
    let (dir, vendor) = (tempdir(), VendorApi::start(Behaviour::Ok));
    let file = config(dir.path(), &vendor.url(), "");
    // No line yet, but something that can be opened.
    std::fs::write(dir.path().join("reader"), "").unwrap();
    let (mut gateway, mut manager) = start(dir.path(), &file);
    manager.fed_again(2);
    assert_eq!(part(&gateway, "terminal 'gate'")["doing"], "waiting before the line is tried again");
    let hang = Hang::on(&gateway, &dir.path().join("reader"), "openat");
    is_seen_to_hang(&mut gateway, &mut manager, "terminal 'gate'", hang);
    std::fs::remove_file(dir.path().join("reader")).unwrap();
    let mut reader = Pty::pair(&dir.path().join("reader"));
    reader.wait_open();
    swipe(&mut reader);
    eventually("the swipe arrives after all", DEADLINE, || vendor.stored_count() == 1);
    assert_eq!(gateway.sigterm().code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_relay_whose_token_file_does_not_answer_a_read_starves_the_watchdog() {
    let (dir, vendor) = (tempdir(), VendorApi::start(Behaviour::Ok));
    let file = config(dir.path(), &vendor.url(), "");
    let mut reader = Pty::pair(&dir.path().join("reader"));
    let (mut gateway, mut manager) = start(dir.path(), &file);
    reader.wait_open();
    eventually("the relay waits for events", DEADLINE, || {
        part(&gateway, "sink 'vendor'")["doing"] == "nothing is pending"
    });
    manager.fed_again(2);
    let hang = Hang::on(&gateway, &dir.path().join("token"), "openat");
    swipe(&mut reader);
    is_seen_to_hang(&mut gateway, &mut manager, "sink 'vendor'", hang);
    eventually("the swipe arrives after all", DEADLINE, || vendor.stored_count() == 1);
    assert_eq!(gateway.sigterm().code(), Some(0), "{}", gateway.log());
}

#[test]
fn whatever_is_dead_slow_or_blocked_afar_the_watchdog_is_fed() {
    let dir = tempdir();
    // One that takes a request and never answers, one that refuses us, and a broker that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let blocked = VendorApi::start(Behaviour::Custom(std::sync::Arc::new(|_| support::Reply::refuse(401))));
    let nobody = free_port();
    let more = format!(
        r#"
        [[sink]]
        name = "blocked"
        type = "api"
        url = "{}"
        [[sink]]
        name = "away"
        type = "api"
        url = "http://127.0.0.1:{nobody}/events"
        [[sink]]
        name = "central"
        type = "postgres"
        url = "postgresql://portero@127.0.0.1:{}/attendance"
        tls = "disable"
        [[broker]]
        name = "mute"
        url = "mqtt://127.0.0.1:{}"
        [[broker]]
        name = "absent"
        url = "mqtt://127.0.0.1:{nobody}"
        [[terminal]]
        name = "yard"
        protocol = "mqtt-json"
        link = {{ type = "mqtt", broker = "mute", topic = "site/#" }}
        fields.person = "/pin"
        [[terminal]]
        name = "shed"
        protocol = "rdm6300"
        link = {{ type = "serial", device = "{}/absent" }}
        "#,
        blocked.url(),
        mute.local_addr().unwrap().port(),
        mute.local_addr().unwrap().port(),
        dir.path().display(),
    );
    let file = config(dir.path(), &format!("http://{}/events", silent.local_addr().unwrap()), &more);
    let mut reader = Pty::pair(&dir.path().join("reader"));
    let (mut gateway, mut manager) = start(dir.path(), &file);
    reader.wait_open();
    swipe(&mut reader);
    let says = |name: &str, doing: &str| part(&gateway, name)["doing"] == doing;
    eventually("everybody waits for a stated reason", DEADLINE, || {
        says("sink 'vendor'", "asking the sink")
            && says("sink 'blocked'", "waiting before the next try")
            && says("sink 'away'", "waiting before the next try")
            && says("terminal 'gate'", "waiting for the wire")
            && says("terminal 'shed'", "waiting before the line is tried again")
    });
    // More than twice as often as the bound of a part.
    manager.fed_again(5);
    let log = gateway.log();
    assert!(!log.contains(WAITS) && !log.contains(UNFED), "{log}");
    assert!(!manager.heard().iter().any(|line| line.contains("stuck")));
    let status = gateway.cli_json(&["status", "--json"]);
    assert!(status["parts"].as_array().unwrap().iter().all(|part| part["stuck"].is_null()), "{status}");
    gateway.sigkill();
}
