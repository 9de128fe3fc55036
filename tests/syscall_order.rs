//! I1 seen from the kernel: strace watches the real binary, and no PUBACK may leave before the `fdatasync` that covers the
//! record it confirms.
//!
//! New tests of the order of system calls go here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a failed test"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use support::{DEADLINE, Process, eventually};

/// What strace saw, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// A PUBLISH was read from a socket.
    Heard,
    /// Bytes were written to the write-ahead log.
    Logged,
    /// The write-ahead log was synced.
    Synced,
    /// A PUBACK was written to a socket.
    Confirmed,
}

/// One line of `strace -f -y -xx`-like output to what it means here. With `-y` a descriptor shows its path or socket.
fn classify(line: &str) -> Option<Call> {
    let call = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
    // A call may be cut in two by another thread's: a read or a sync counts when it ends, a write when it begins.
    let resumed = call.starts_with("<... ");
    let name = if resumed { call.trim_start_matches("<... ").split(' ').next()? } else { call.split('(').next()? };
    let wal = call.contains("journal.db-wal");
    let socket = call.contains("<TCP:") || call.contains("<socket:");
    match name {
        "pwrite64" if wal => Some(Call::Logged),
        "fdatasync" | "fsync" if !call.contains("<unfinished") && (wal || resumed) && call.contains("= 0") => {
            Some(Call::Synced)
        }
        "recvfrom" | "read" | "readv" if (socket || resumed) && call.contains("site/yard/") => Some(Call::Heard),
        "sendto" | "write" | "writev" | "sendmsg" if socket && call.contains("\"@\\2") => Some(Call::Confirmed),
        _ => None,
    }
}

fn child_of(pid: u32) -> Option<rustix::process::Pid> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    // strace also forks children of its own, to find out what the kernel can do.
    let is_ours =
        |child: &&str| std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|c| c.trim() == "portero");
    rustix::process::Pid::from_raw(children.split_whitespace().find(is_ours)?.parse().ok()?)
}

struct KillOnDrop(rustix::process::Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
    }
}

#[test]
fn i1_no_puback_leaves_before_the_fdatasync_that_covers_it() {
    let dir = support::tempdir();
    let port = support::free_port();
    let config = dir.path().join("portero.toml");
    std::fs::write(
        &config,
        format!(
            r#"
[gateway]
id = "gw-strace"
site = "obra-norte"
zone = "UTC"

[journal]
path = "{dir}/journal.db"

[manage]
socket = "{dir}/control.sock"

[[broker]]
name = "site"
listen = "127.0.0.1:{port}"

[[terminal]]
name = "yard"
protocol = "mqtt-json"
link = {{ type = "mqtt", broker = "site", topic = "site/yard/+/events" }}
fields.person = "/pin"
fields.device_time = "/ts"
fields.native_seq = "/event_id"
"#,
            dir = dir.path().display()
        ),
    )
    .unwrap();
    let trace = dir.path().join("trace");
    let strace = support::find_program("strace", &[]);
    let mut process = Process::spawn(
        Command::new(strace)
            .args([
                "-f",
                "-y",
                "-s",
                "64",
                "-e",
                "trace=fdatasync,fsync,pwrite64,read,readv,recvfrom,write,writev,sendto,sendmsg",
                "-o",
            ])
            .arg(&trace)
            .arg(support::gateway::binary())
            .args(["run", "--config"])
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap()),
    );
    let mut gateway = None;
    eventually("strace has started the gateway", DEADLINE, || {
        gateway = child_of(process.id());
        gateway.is_some()
    });
    // strace leaves its tracee alone when it ends, whatever the reason.
    let _guard = KillOnDrop(gateway.unwrap());
    let mut stream = None;
    eventually("the broker listens", DEADLINE, || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // CONNECT (MQTT 3.1.1 §3.1): protocol level 4, clean session, keep-alive 60 s, client id "s".
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b's']).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    const RECORDS: u16 = 50;
    for id in 1..=RECORDS {
        let topic = b"site/yard/d1/events";
        let payload = format!(r#"{{"event_id":"d1-{id}","pin":"7","ts":"2026-11-24T00:00:00.{id:03}Z"}}"#);
        let length = 2 + topic.len() + 2 + payload.len();
        let mut packet = vec![0x32];
        let mut rest = length;
        while rest >= 0x80 {
            packet.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        packet.push(rest as u8);
        packet.extend((topic.len() as u16).to_be_bytes());
        packet.extend(topic);
        packet.extend(id.to_be_bytes());
        packet.extend(payload.as_bytes());
        stream.write_all(&packet).unwrap();
        let mut puback = [0; 4];
        stream.read_exact(&mut puback).unwrap();
        assert_eq!(puback, [0x40, 2, (id >> 8) as u8, id as u8]);
    }
    rustix::process::kill_process(gateway.unwrap(), rustix::process::Signal::TERM).unwrap();
    let _ = process.wait(DEADLINE);

    let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
    let calls: Vec<Call> = text.lines().filter_map(classify).collect();
    let heard = calls.iter().filter(|c| **c == Call::Heard).count();
    let confirmed = calls.iter().filter(|c| **c == Call::Confirmed).count();
    assert!(
        heard >= usize::from(RECORDS) && confirmed >= usize::from(RECORDS),
        "strace saw {heard} heard, {confirmed} confirmed"
    );
    // One record at a time: between hearing it and confirming it the log must have been written and then synced.
    let (mut logged, mut synced, mut checked) = (false, false, 0);
    for call in &calls {
        match call {
            Call::Heard => (logged, synced) = (false, false),
            Call::Logged => (logged, synced) = (true, false),
            Call::Synced => synced = logged,
            Call::Confirmed => {
                assert!(
                    logged && synced,
                    "a PUBACK left with logged={logged}, synced={synced}, after {checked} good ones"
                );
                checked += 1;
                // The next one needs a sync of its own.
                (logged, synced) = (false, false);
            }
        }
    }
    println!("{checked} PUBACKs, each after: PUBLISH read, WAL written, WAL synced");
    assert_eq!(checked, confirmed);
}
