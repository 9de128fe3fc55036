//! Starting with nothing there, and ending in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use support::gateway::binary;
use support::{DEADLINE, Gateway, Process, Pty, eventually, free_port, tempdir};

/// A configuration with one of everything, none of it there, and a vendor at `vendor`.
fn config(dir: &Path, vendor: &str, broker: u16, shutdown_seconds: u32) -> std::path::PathBuf {
    let file = dir.join("portero.toml");
    let text = format!(
        r#"
        [gateway]
        id = "gw-alone"
        site = "nowhere"
        zone = "America/Santiago"
        clock_sync_file = "{dir}/clock-is-right"
        [journal]
        path = "{dir}/journal.db"
        [manage]
        socket = "{dir}/control.sock"
        shutdown_seconds = {shutdown_seconds}
        [[broker]]
        name = "absent"
        url = "mqtt://127.0.0.1:{broker}"
        [[terminal]]
        name = "gate"
        protocol = "rdm6300"
        link = {{ type = "serial", device = "{dir}/reader" }}
        [[terminal]]
        name = "yard"
        protocol = "mqtt-json"
        link = {{ type = "mqtt", broker = "absent", topic = "site/#" }}
        fields.person = "/pin"
        [[sink]]
        name = "vendor"
        type = "api"
        url = "{vendor}"
        timeout_seconds = 600
        [[sink]]
        name = "central"
        type = "postgres"
        url = "postgresql://portero@127.0.0.1:{broker}/attendance"
        password = {{ credential = "central_password" }}
        tls = "disable"
        "#,
        dir = dir.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// One tag, twice: a reader repeats it.
fn swipe(reader: &mut Pty) {
    reader.write(b"\x025000913004F5\x03\x025000913004F5\x03");
}

fn appended(gateway: &Gateway) -> u64 {
    gateway.cli_json(&["journal", "stats", "--json"])["appended"].as_u64().unwrap()
}

#[test]
fn i8_the_gateway_starts_and_journals_with_nothing_there() {
    let dir = tempdir();
    let nobody = free_port();
    let file = config(dir.path(), &format!("http://127.0.0.1:{nobody}/events"), nobody, 5);
    let mut gateway = Gateway::start(&file, &[("central_password", "secret")]);
    gateway.wait_ready();
    let status = gateway.cli_json(&["status", "--json"]);
    assert_eq!(status["clock_synchronised"], false, "{status}");
    eventually("no link is up", DEADLINE, || {
        let status = gateway.cli_json(&["status", "--json"]);
        let links = status["links"].as_array().unwrap();
        links.iter().any(|l| l["name"] == "gate" && l["state"] == "down") && links.iter().all(|l| l["state"] != "up")
    });

    // Now a reader is plugged in: what it says is journalled, though nobody is there to take it and no clock is right.
    let mut reader = Pty::pair(&dir.path().join("reader"));
    reader.wait_open();
    swipe(&mut reader);
    eventually("the swipe is in the journal", DEADLINE, || appended(&gateway) == 1);
    let stats = gateway.cli_json(&["journal", "stats", "--json"]);
    for sink in stats["sinks"].as_array().unwrap() {
        assert_eq!((&sink["pending"], &sink["delivered"]), (&1.into(), &0.into()), "{stats}");
    }
    assert!(gateway.running());

    // At last the clock is right.
    assert!(String::from_utf8_lossy(&gateway.cli(&["events"]).stdout).contains("Z?"), "the time is provisional");
    std::fs::write(dir.path().join("clock-is-right"), "").unwrap();
    eventually("the time is corrected", DEADLINE, || {
        !String::from_utf8_lossy(&gateway.cli(&["events"]).stdout).contains("Z?")
    });
    assert_eq!(gateway.sigterm().code(), Some(0), "{}", gateway.log());
}

#[test]
fn sigterm_ends_in_order_and_leaves_a_sound_journal() {
    let dir = tempdir();
    let nobody = free_port();
    let file = config(dir.path(), &format!("http://127.0.0.1:{nobody}/events"), nobody, 20);
    let mut reader = Pty::pair(&dir.path().join("reader"));
    let mut gateway = Gateway::start(&file, &[("central_password", "secret")]);
    gateway.wait_ready();
    reader.wait_open();
    swipe(&mut reader);
    eventually("the swipe is in the journal", DEADLINE, || appended(&gateway) == 1);
    assert!(dir.path().join("control.sock").exists());

    assert_eq!(gateway.sigterm().code(), Some(0), "{}", gateway.log());
    let log = gateway.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("the log lacks '{text}':\n{log}"));
    assert!(at("gateway started") < at("gateway stops") && at("gateway stops") < at("gateway stopped"), "{log}");
    assert!(!log.contains("did not"), "{log}");
    assert!(!dir.path().join("control.sock").exists(), "the socket is removed");
    let wal = std::fs::metadata(dir.path().join("journal.db-wal")).map_or(0, |meta| meta.len());
    assert_eq!(wal, 0, "everything is in the database file");
    assert_eq!(gateway.cli_json(&["journal", "verify", "--json"])["ok"], true);
    assert_eq!(appended(&gateway), 1);

    // And again: the socket can be made, the journal opened.
    gateway.restart_ready();
    assert_eq!(gateway.cli_json(&["status", "--json"])["running"], true);
}

/// A vendor that takes a request and never answers.
fn silent_vendor() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    (listener, url)
}

/// A gateway whose vendor has taken a request and does not answer; the connection is to be kept.
fn stuck(dir: &Path, shutdown_seconds: u32) -> (Gateway, TcpListener, std::net::TcpStream) {
    let (vendor, url) = silent_vendor();
    let file = config(dir, &url, free_port(), shutdown_seconds);
    let mut reader = Pty::pair(&dir.join("reader"));
    let mut gateway = Gateway::start(&file, &[("central_password", "secret")]);
    gateway.wait_ready();
    reader.wait_open();
    swipe(&mut reader);
    let mut request = None;
    eventually("the vendor has a request", DEADLINE, || {
        request = vendor.accept().ok();
        request.is_some()
    });
    (gateway, vendor, request.unwrap().0)
}

#[test]
fn a_sink_that_never_answers_is_given_up_when_the_time_is_over() {
    let dir = tempdir();
    let (mut gateway, _vendor, _request) = stuck(dir.path(), 2);
    assert_eq!(gateway.sigterm().code(), Some(0), "{}", gateway.log());
    let stats = gateway.cli_json(&["journal", "stats", "--json"]);
    assert_eq!(stats["sinks"][0]["pending"], 1, "it goes again after the next start: {stats}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let dir = tempdir();
    // In order it would take five minutes: half of these seconds belong to the request under way.
    let (mut gateway, _vendor, _request) = stuck(dir.path(), 600);
    gateway.signal(Signal::TERM);
    eventually("the first signal is heard", DEADLINE, || gateway.log().contains("gateway stops"));
    assert!(gateway.running());
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_end(DEADLINE).code(), Some(1), "{}", gateway.log());
    assert!(gateway.log().contains("forced"), "{}", gateway.log());
    // Whatever was confirmed is there.
    assert_eq!(appended(&gateway), 1);
    assert_eq!(gateway.cli_json(&["journal", "verify", "--json"])["ok"], true);
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_left_alone() {
    let dir = tempdir();
    let nobody = free_port();
    let file = config(dir.path(), &format!("http://127.0.0.1:{nobody}/events"), nobody, 5);
    let mut gateway = Gateway::start(&file, &[("central_password", "secret")]);
    gateway.wait_ready();
    gateway.sigkill();
    assert!(dir.path().join("control.sock").exists(), "a killed gateway leaves its socket");
    gateway.restart_ready();
    assert_eq!(gateway.cli_json(&["status", "--json"])["running"], true);
    gateway.sigterm();

    std::fs::write(dir.path().join("control.sock"), "precious").unwrap();
    gateway.restart_ready();
    assert!(gateway.log().contains("no control socket"), "{}", gateway.log());
    assert_eq!(std::fs::read_to_string(dir.path().join("control.sock")).unwrap(), "precious");
}

#[test]
fn the_service_manager_hears_ready_alive_and_stopping() {
    let dir = tempdir();
    let nobody = free_port();
    let file = config(dir.path(), &format!("http://127.0.0.1:{nobody}/events"), nobody, 5);
    std::fs::write(dir.path().join("central_password"), "secret").unwrap();
    let notify = dir.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = Command::new(binary());
    command.arg("run").arg("--config").arg(&file).env("NOTIFY_SOCKET", &notify);
    command.env("CREDENTIALS_DIRECTORY", dir.path()).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let mut process = Process::spawn(&mut command);
    let hears = |wanted: &str| {
        let mut message = [0; 1024];
        loop {
            let length = socket.recv(&mut message).unwrap_or_else(|e| panic!("{wanted} is not heard: {e}"));
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
    };
    hears("READY=1");
    hears("WATCHDOG=1");
    assert!(hears("STATUS=").contains("links up"));
    hears("WATCHDOG=1");
    process.signal(Signal::TERM);
    assert!(hears("STOPPING=1").contains("EXTEND_TIMEOUT_USEC="));
    assert_eq!(process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn i6_a_refused_configuration_file_leaves_the_running_gateway_alone() {
    let dir = tempdir();
    let nobody = free_port();
    let file = config(dir.path(), &format!("http://127.0.0.1:{nobody}/events"), nobody, 5);
    let sound = std::fs::read_to_string(&file).unwrap();
    let mut reader = Pty::pair(&dir.path().join("reader"));
    let mut gateway = Gateway::start(&file, &[("central_password", "secret")]);
    gateway.wait_ready();
    reader.wait_open();
    let said = |gateway: &Gateway, words: &str| gateway.log().matches(words).count();

    let broken = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/broken")).unwrap();
    let broken = broken.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "toml"));
    let mut tried = 0;
    for pushed in broken.chain([dir.path().join("no-such-file")]) {
        std::fs::copy(&pushed, &file).unwrap_or_else(|_| {
            std::fs::remove_file(&file).unwrap();
            0
        });
        let before = said(&gateway, "the running configuration stays");
        gateway.signal(Signal::HUP);
        eventually("the gateway has judged it", DEADLINE, || {
            assert!(gateway.running(), "{}: {}", pushed.display(), gateway.log());
            said(&gateway, "the running configuration stays") > before
        });
        tried += 1;
        std::fs::write(&file, &sound).unwrap();
        // Another card each time: the same one again could still be the same presence.
        let card = [0x50, 0, 0x91, 0x30, u8::try_from(tried).unwrap()];
        let hex: String = card.iter().map(|byte| format!("{byte:02X}")).collect();
        let frame = format!("\x02{hex}{:02X}\x03", card.iter().fold(0, |sum, byte| sum ^ byte));
        reader.write(frame.repeat(2).as_bytes());
        eventually("the running one goes on", DEADLINE, || appended(&gateway) == tried);
    }
    assert!(tried > 10, "{tried}");
    gateway.signal(Signal::HUP);
    eventually("the sound one is known again", DEADLINE, || said(&gateway, "says what is running") == 1);
    assert_eq!(gateway.sigterm().code(), Some(0), "{}", gateway.log());
}
