//! Serial links on real pseudo-terminals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod links;
mod support;

use links::Rig;
use portero::terminal::{LinkState, serial};
use support::{DEADLINE, Pty, eventually_async};

/// A tag's frame as an RDM6300 sends it: `02`, ten hex digits, two of XOR, `03`.
fn frame(tag: u64) -> Vec<u8> {
    let digits = format!("{tag:010X}");
    let check = (0..5).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).fold(0, |a, b| a ^ b);
    format!("\x02{digits}{check:02X}\x03").into_bytes()
}

/// Two equal frames, as `run` wants them.
fn swipe(tag: u64) -> Vec<u8> {
    frame(tag).repeat(2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_good_frame_after_each_of_fifty_replugs_arrives() {
    let mut rig = Rig::new();
    let mut pty = Pty::pair(&rig.dir.path().join("reader"));
    let (config, line) = links::reader(pty.link.clone());
    rig.start(|context| serial::run(context, config, line));
    for round in 0..50 {
        let open = || async { pty.is_open() };
        eventually_async("the line is opened", DEADLINE, open).await;
        // The end of a frame that began before the plug was pulled, then a swipe.
        pty.write(&frame(7)[6..]);
        pty.write(&swipe(0x00_1000_0000 + round));
        rig.wait_events(round + 1).await;
        pty.unplug();
        let down = || async { rig.status("gate-1").is_some_and(|s| matches!(s.state, LinkState::Down(_))) };
        eventually_async("the unplugging is noticed", DEADLINE, down).await;
        pty.replug();
    }
    let records = rig.records().await;
    assert_eq!(records.len(), 50);
    let mut cards: Vec<_> =
        records.iter().map(|r| r.event.reading.credential.card_number.clone().unwrap_or_default()).collect();
    cards.dedup();
    assert_eq!(cards.len(), 50, "each swipe once, in order");
    // The reopening after the last unplugging is not waited for.
    assert!(rig.context.journal.stats().await.unwrap().blind >= 49, "each outage is a blind interval");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_is_a_counted_fault_and_the_next_swipe_arrives() {
    let mut rig = Rig::new();
    let mut pty = Pty::pair(&rig.dir.path().join("reader"));
    let (config, line) = links::reader(pty.link.clone());
    rig.start(|context| serial::run(context, config, line));
    eventually_async("the line is opened", DEADLINE, || async { pty.is_open() }).await;
    pty.write(b"\x02BADBADBADBADB\x03\xFF\xFF");
    pty.write(&swipe(0x00_4812_0110));
    rig.wait_events(1).await;
    assert!(rig.faults().await >= 1);
    let status = rig.status("gate-1").unwrap();
    assert_eq!(status.events, 1);
    assert!(status.faults >= 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_holder_of_a_busy_device_is_named() {
    let mut rig = Rig::new();
    let pty = Pty::pair(&rig.dir.path().join("reader"));
    let holder = std::fs::File::options().read(true).write(true).open(&pty.link).unwrap();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let (config, line) = links::reader(pty.link.clone());
    rig.start(|context| serial::run(context, config, line));
    let ours = format!("is held by process {}", std::process::id());
    let named = || async {
        rig.status("gate-1").is_some_and(|s| matches!(s.state, LinkState::Down(reason) if reason.contains(&ours)))
    };
    eventually_async("the holder is named", DEADLINE, named).await;
    drop(holder);
    rig.wait_up("gate-1").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_gateway_starts_without_its_device_and_finds_it_later() {
    let mut rig = Rig::new();
    let link = rig.dir.path().join("reader");
    let (config, line) = links::reader(link.clone());
    rig.start(|context| serial::run(context, config, line));
    let missing = || async {
        rig.status("gate-1").is_some_and(|s| matches!(s.state, LinkState::Down(reason) if reason.contains("no device")))
    };
    eventually_async("the missing device is reported", DEADLINE, missing).await;
    let mut pty = Pty::pair(&link);
    rig.wait_up("gate-1").await;
    pty.write(&swipe(0x00_4812_0110));
    rig.wait_events(1).await;
    rig.stop().await;
}
