//! The service as it is shipped, under a systemd of its own: the real unit, the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use support::{DEADLINE, Guest, eventually};

/// A gateway that is the terminals' own broker, with a password, and has a serial reader.
const SITE: &str = r#"
[gateway]
id = "gw-guest"
site = "obra-norte"
zone = "America/Santiago"

[[broker]]
name = "site"
listen = "127.0.0.1:1883"
users = [{ user = "terminals", password = { credential = "terminals_password" } }]

[[terminal]]
name = "yard"
protocol = "mqtt-json"
link = { type = "mqtt", broker = "site", topic = "site/yard/+/events" }
zone = "UTC"
fields.person = "/pin"
fields.device_time = "/ts"
fields.native_seq = "/event_id"
fields.terminal_serial = "/sn"

[[terminal]]
name = "gate"
protocol = "rdm6300"
link = { type = "serial", device = "/dev/ttyUSB7" }
"#;

const PASSWORD: &str = "LoadCredential=terminals_password:/etc/portero/credentials/terminals_password";

/// A guest with [`SITE`] and its password; more lines for the service's drop-in.
fn site(lines: &str) -> Option<Guest> {
    let guest = Guest::prepare()?;
    guest.configure(SITE);
    guest.write("etc/portero/credentials/terminals_password", "a-good-password\n");
    // A pseudo-terminal stands in for the adapter.
    guest.drop_in(&format!("{PASSWORD}\nDeviceAllow=char-pts rw\n{lines}"));
    Some(guest)
}

/// How many events the guest's journal has.
fn appended(guest: &Guest) -> u64 {
    let text = guest.sh("portero journal stats --json");
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["appended"].as_u64().unwrap()
}

#[test]
fn it_is_active_only_when_it_is_ready_and_waits_for_a_configuration() {
    let Some(mut guest) = Guest::prepare() else { return };
    guest.write("etc/portero.toml.shipped", include_str!("../config/portero.toml"));
    guest.configure_later();
    guest.boot();
    let shown = guest.until("MainPID", |pid| pid != "0");
    assert_eq!((&*shown["ActiveState"], &*shown["SubState"]), ("activating", "start"));
    guest.sh("cat /etc/portero.toml.shipped >/etc/portero/portero.toml");
    let shown = guest.until("ActiveState", |state| state != "activating");
    assert_eq!((&*shown["ActiveState"], &*shown["Type"]), ("active", "notify"));
    guest.sh("test -s /var/lib/portero/journal.db");
    // As it is shipped nothing is configured, which is no failure.
    guest.until("StatusText", |text| text.starts_with("no terminal is configured: edit /etc/portero/portero.toml"));
    assert_eq!(guest.sh("systemctl list-units --failed --no-legend --plain 'portero*'"), "");
}

#[test]
fn it_is_shut_in() {
    let Some(mut guest) = Guest::prepare() else { return };
    guest.configure(include_str!("../config/portero.toml"));
    guest.boot();
    let pid = guest.until("ActiveState", |state| state == "active")["MainPID"].clone();
    let status = guest.sh(&format!("cat /proc/{pid}/status"));
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((&*field("NoNewPrivs:"), &*field("Seccomp:")), ("1", "2"), "{status}");
    assert_eq!((&*field("CapEff:"), &*field("CapBnd:")), ("0000000000000000", "0000000000000000"), "{status}");
    let own = guest.sh("id -u portero; getent group dialout | cut -d: -f3");
    let (uid, dialout) = own.trim().split_once('\n').unwrap();
    assert!(field("Uid:").split('\t').all(|id| id == uid), "{status}");
    assert!(field("Groups:").split(' ').any(|id| id == dialout), "{status}");
    let namespaces = |pid: &str| guest.sh(&format!("readlink /proc/{pid}/ns/user /proc/{pid}/ns/mnt"));
    for (ours, first) in namespaces(&pid).lines().zip(namespaces("1").lines()) {
        assert_ne!(ours, first);
    }
}

#[test]
fn its_companion_tells_it_whether_the_clock_is_right() {
    let Some(mut guest) = Guest::prepare() else { return };
    guest.configure(include_str!("../config/portero.toml"));
    guest.boot();
    guest.until("ActiveState", |state| state == "active");
    // The gateway itself does not see what a time service says.
    guest.drop_in("InaccessiblePaths=/run/systemd/timesync");
    guest.sh("mkdir -p /run/systemd/timesync && systemctl daemon-reload && systemctl restart portero");
    guest.sh("touch /run/systemd/timesync/synchronized");
    let learnt = || guest.try_sh("test -e /run/portero-clock/synchronised").is_ok();
    let known = |wanted: bool| {
        let wanted = format!("\"clock_synchronised\":{wanted}");
        guest.try_sh("portero status --json").is_ok_and(|text| text.contains(&wanted))
    };
    eventually("the companion has learnt it", DEADLINE, learnt);
    eventually("the gateway knows it, too", DEADLINE, || known(true));
    // A restart of the companion takes nothing back.
    guest.sh("systemctl restart portero-clock && test -e /run/portero-clock/synchronised");
    // A time service that has lost its way does.
    guest.sh("rm /run/systemd/timesync/synchronized");
    eventually("the companion takes it back", DEADLINE, || !learnt());
    eventually("the gateway believes it no more", DEADLINE, || known(false));
}

#[test]
fn after_a_kill_it_is_back_with_its_events() {
    // The status line is renewed as often as the watchdog is fed.
    let Some(mut guest) = site("WatchdogSec=20") else { return };
    guest.boot();
    let before = guest.until("ActiveState", |state| state == "active")["MainPID"].clone();
    // The password that systemd handed over is the one that the broker asks for.
    guest.sh("portero simulate mqtt-json --broker mqtt://terminals:a-good-password@127.0.0.1:1883 --count 20 --rate 0");
    assert_eq!(appended(&guest), 20);
    guest.sh("systemd-run --quiet --unit=reader portero simulate rdm6300 --pty /dev/ttyUSB7 --rate 2");
    eventually("the adapter is there", DEADLINE, || guest.try_sh("test -e /dev/ttyUSB7").is_ok());
    guest.sh("chgrp dialout /dev/ttyUSB7 && chmod 660 /dev/ttyUSB7");
    eventually("an event comes over the serial line", DEADLINE, || appended(&guest) > 20);
    guest.until("StatusText", |text| text.starts_with("3 of 3 links up") && text.ends_with("all sinks well"));

    guest.sh("systemctl stop reader");
    let sure = appended(&guest);
    guest.sh("systemctl kill --kill-whom=main --signal=KILL portero");
    let shown = guest.until("NRestarts", |count| count == "1");
    guest.until("ActiveState", |state| state == "active");
    assert_ne!(shown["MainPID"], before);
    assert!(appended(&guest) >= sure);
    let verified = guest.sh("portero journal verify --json");
    assert!(verified.contains("\"ok\":true"), "{verified}");
}

#[test]
fn one_that_hangs_is_ended_by_the_watchdog_and_started_again() {
    let Some(mut guest) = site("WatchdogSec=3") else { return };
    guest.boot();
    guest.until("ActiveState", |state| state == "active");
    guest.sh("systemctl kill --kill-whom=main --signal=STOP portero");
    guest.until("NRestarts", |count| count == "1");
    guest.until("ActiveState", |state| state == "active");
    let log = guest.sh("journalctl --unit=portero --no-pager");
    assert!(log.contains("Watchdog timeout"), "{log}");
}

#[test]
fn one_of_whose_parts_one_hangs_is_ended_by_the_watchdog_and_started_again() {
    let Some(mut guest) = site("WatchdogSec=3") else { return };
    guest.boot();
    let pid = guest.until("ActiveState", |state| state == "active")["MainPID"].clone();
    // In the place of the reader something that can be opened and is no line: the link tries again and again.
    guest.sh("touch /dev/ttyUSB7 && chmod 666 /dev/ttyUSB7");
    guest.sh(&format!(
        "systemd-run --quiet --unit=hang strace -f -p {pid} -P /dev/ttyUSB7 -e trace=openat \
         -e inject=openat:delay_enter=3600000000"
    ));
    let said = || guest.sh("journalctl --unit=portero --no-pager");
    eventually("the watchdog strikes", DEADLINE, || said().contains("Watchdog timeout"));
    // Whoever holds a thread by a string must let it die.
    guest.sh("systemctl kill --signal=KILL hang");
    guest.until("NRestarts", |count| count == "1");
    guest.until("ActiveState", |state| state == "active");
    let log = said();
    let named = |line: &str| line.contains("a part of the gateway is stuck") && line.contains("terminal 'gate'");
    assert!(log.lines().any(named), "{log}");
    let status = guest.sh("portero status --json");
    assert!(!status.contains("\"stuck\""), "{status}");
}

#[test]
fn systemctl_reload_waits_for_the_answer_and_a_bad_file_stops_nothing() {
    let Some(mut guest) = site("") else { return };
    guest.boot();
    let before = guest.until("ActiveState", |state| state == "active")["MainPID"].clone();
    guest.configure(&SITE.replace("name = \"gate\"", "name = \"north-gate\""));
    guest.sh("systemctl reload portero");
    let links = guest.sh("portero status --json");
    assert!(links.contains("north-gate") && !links.contains("\"gate\""), "{links}");

    guest.configure(&SITE.replace("rdm6300", "rdm6301"));
    let refused = guest.try_sh("systemctl reload portero").unwrap_err();
    assert!(refused.contains("portero"), "{refused}");
    let log = guest.sh("journalctl --unit=portero --no-pager");
    assert!(log.contains("the running configuration stays") && log.contains("rdm6301"), "{log}");
    let shown = guest.show("portero");
    assert_eq!((&*shown["ActiveState"], &shown["MainPID"]), ("active", &before));
    // What the log says of one terminal is found by its field.
    let fields = guest.sh("journalctl --unit=portero --no-pager --output=json PORTERO_TERMINAL=north-gate");
    assert!(fields.contains("\"SYSLOG_IDENTIFIER\":\"portero\""), "{fields}");
}

#[test]
fn a_bad_configuration_ends_it_with_78_and_is_not_tried_again() {
    let Some(mut guest) = Guest::prepare() else { return };
    // A credential that no LoadCredential= gives it.
    guest.configure(SITE);
    guest.boot();
    let shown = guest.until("ExecMainStatus", |status| status != "0");
    assert_eq!((&*shown["ExecMainStatus"], &*shown["NRestarts"]), ("78", "0"));
    // One that is to be started again would be "activating".
    guest.until("ActiveState", |state| state == "failed");
    let log = guest.sh("journalctl --unit=portero --no-pager");
    assert!(log.contains("LoadCredential=terminals_password:"), "{log}");
    // Mended, it starts.
    guest.sh("install -D -m 600 /dev/null /etc/portero/credentials/terminals_password");
    guest.sh("echo a-good-password >/etc/portero/credentials/terminals_password");
    guest.drop_in(PASSWORD);
    guest.sh("systemctl daemon-reload && systemctl restart portero");
    assert_eq!(guest.show("portero")["ActiveState"], "active");
}
