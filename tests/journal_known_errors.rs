//! What disks, clocks, transports and people do to a journal, and what it answers.
//!
//! A test belongs here if it starts with something that goes wrong; the invariants are in `journal_invariants.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod journal;

use journal::*;
use portero::clock::{Clock, Now, SyncSource};
use portero::event::{BootTime, ClockQuality, Event, UtcMicros};
use portero::journal::*;

const ALL: usize = 1 << 30;

async fn verdict(journal: &Journal) -> Verification {
    journal.verify(None).await.unwrap()
}

#[tokio::test]
async fn a_full_journal_confirms_nothing_more_and_goes_on_once_there_is_room() {
    let bench = Bench::with(|config| (config.max_bytes, config.retention_days) = (4 << 20, 1));
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let (mut next, mut confirmed) = (1, 0);
    let error = loop {
        match journal.append(entries(source, next..next + 1000)).await {
            Ok(answers) => confirmed += answers.len() as u64,
            Err(error) => break error,
        }
        next += 1000;
        assert!(next < 100_000);
    };
    assert!(matches!(error, Error::Full(_)), "{error}");
    assert_eq!(*journal.head().borrow(), Seq(confirmed), "what was refused is not there");
    assert!(std::fs::metadata(&bench.config.path).unwrap().len() <= 4 << 20);
    // Settling and pruning, which make room, still work.
    let verdicts = (1..=confirmed).map(|seq| (Seq(seq), Settlement::Delivered)).collect();
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), confirmed);
    let answers = journal.append(entries(source, next..next + 1000)).await.unwrap();
    assert_eq!(answers[0], Appended::New(Seq(confirmed + 1)));
    assert!(verdict(&journal).await.ok);
    journal.close().await.unwrap();
}

/// A real full disk, where this machine lets us mount one.
#[tokio::test]
async fn a_full_disk_confirms_nothing_more_and_goes_on_once_there_is_room() {
    let disk = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m", "portero-test"])
        .arg(disk.path())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        // Only root may mount, and the bound of the file above covers the same code; but for root this is a failure.
        assert!(!rustix::process::getuid().is_root(), "root can't mount a tmpfs here: the full disk was not tested");
        return;
    }
    let unmount = Unmount(disk.path().to_owned());
    let bench = Bench::with(|config| config.path = disk.path().join("journal.db"));
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let filler = disk.path().join("filler");
    let mut next = 1;
    for step in 0.. {
        if step == 3 {
            // Somebody else's file takes what is left.
            let _ = std::fs::write(&filler, vec![1u8; 6 << 20]);
        }
        match journal.append(entries(source, next..next + 100)).await {
            Ok(_) => next += 100,
            Err(error) => {
                assert!(matches!(error, Error::Full(_)), "{error}");
                break;
            }
        }
        assert!(step < 1000);
    }
    let confirmed = next - 1;
    assert_eq!(*journal.head().borrow(), Seq(confirmed), "what was refused is not there");
    let verdicts = (1..=confirmed).map(|seq| (Seq(seq), Settlement::Delivered)).collect();
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert!(bench.stats(&journal).await.sinks[0].pending == 0);
    std::fs::remove_file(&filler).unwrap();
    let answers = journal.append(entries(source, next..next + 100)).await.unwrap();
    assert_eq!(answers[0], Appended::New(Seq(confirmed + 1)));
    assert!(verdict(&journal).await.ok);
    journal.close().await.unwrap();
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside_whole_and_a_new_journal_begins() {
    let bench = Bench::new();
    std::fs::write(&bench.config.path, b"this is not a database, it is a photograph".repeat(100)).unwrap();
    std::fs::write(bench.file("-wal"), b"nor is this").unwrap();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    assert_eq!(journal.append(entries(source, 1..=1)).await.unwrap(), [Appended::New(Seq(1))]);
    let aside = bench.set_aside();
    assert_eq!(aside.len(), 1);
    assert!(std::fs::read(aside[0].join("journal.db")).unwrap().starts_with(b"this is not a database"));
    assert_eq!(std::fs::read(aside[0].join("journal.db-wal")).unwrap(), b"nor is this");
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_torn_file_after_a_crash_is_set_aside_and_a_terminal_that_repeats_its_log_fills_the_hole() {
    let bench = Bench::new();
    let journal = bench.open();
    let source_id = journal.source(source()).await.unwrap();
    journal.append(entries(source_id, 1..=2000)).await.unwrap();
    journal.close().await.unwrap();
    // The second half of the file was never written.
    let whole = std::fs::read(&bench.config.path).unwrap();
    let mut torn = whole.clone();
    torn[whole.len() / 2..].fill(0);
    std::fs::write(&bench.config.path, torn).unwrap();
    std::fs::write(bench.file("-wal"), b"unclean").unwrap();
    let journal = bench.open();
    assert_eq!(bench.set_aside().len(), 1);
    let source_id = journal.source(source()).await.unwrap();
    let kept = journal.head().borrow().0;
    // A terminal that re-sends everything fills the holes and doubles nothing.
    let answers = journal.append(entries(source_id, 1..=2000)).await.unwrap();
    let new = answers.iter().filter(|a| matches!(a, Appended::New(_))).count() as u64;
    assert_eq!(kept + new, 2000);
    assert!(verdict(&journal).await.ok);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn another_owner_is_named_by_its_process_id() {
    let bench = Bench::new();
    let journal = bench.open();
    let error = Journal::open(&bench.config, clock()).unwrap_err();
    assert!(matches!(error, Error::Owned { pid, .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()));
    journal.close().await.unwrap();
    bench.open().close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.open().close().await.unwrap();
    bench.sql().execute("UPDATE meta SET value = 7 WHERE key = 'min_reader'", []).unwrap();
    let error = Journal::open(&bench.config, clock()).unwrap_err();
    assert!(matches!(error, Error::TooNew { needs: 7, ours: 1, .. }), "{error}");
    assert!(matches!(Journal::open_read_only(&bench.config).unwrap_err(), Error::TooNew { .. }));
    assert!(bench.set_aside().is_empty());
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let bench = Bench::new();
    bench.sql().execute_batch("CREATE TABLE theirs(x); INSERT INTO theirs VALUES (1)").unwrap();
    let error = Journal::open(&bench.config, clock()).unwrap_err();
    assert!(matches!(error, Error::Unsafe(_)), "{error}");
    assert!(bench.set_aside().is_empty());
}

#[tokio::test]
async fn a_missing_directory_is_made_and_a_missing_path_is_explained() {
    let bench = Bench::with(|config| {
        let parent = config.path.parent().unwrap().join("new");
        config.path = parent.join("journal.db");
    });
    bench.open().close().await.unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&bench.config.path).unwrap().permissions().mode() & 0o777, 0o600);
    let deep = Bench::with(|config| config.path = config.path.parent().unwrap().join("a/b/journal.db"));
    let error = Journal::open(&deep.config, clock()).unwrap_err().to_string();
    assert!(error.contains("can't make"), "{error}");
    assert!(matches!(Journal::open_read_only(&deep.config).unwrap_err(), Error::NotFound(_)));
}

#[tokio::test]
async fn a_reader_stands_beside_a_running_gateway_and_without_one() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=3)).await.unwrap();
    let beside = Journal::open_read_only(&bench.config).unwrap();
    let query = || Query { limit: 10, ..Query::default() };
    assert_eq!(beside.query(query()).await.unwrap().len(), 3);
    journal.append(entries(source, 4..=4)).await.unwrap();
    assert_eq!(beside.query(query()).await.unwrap().len(), 4);
    assert_eq!(beside.stats().await.unwrap().sinks[0].pending, 4);
    assert!(matches!(beside.append(entries(source, 5..=5)).await, Err(Error::Closed)));
    assert!(matches!(beside.settle(sink.id, vec![], When::Lazy).await, Err(Error::Closed)));
    beside.close().await.unwrap();
    journal.close().await.unwrap();
    assert!(!bench.file("-wal").exists(), "an orderly stop leaves no WAL");
    let alone = Journal::open_read_only(&bench.config).unwrap();
    assert!(verdict(&alone).await.ok);
    assert_eq!(alone.query(query()).await.unwrap().len(), 4);
    alone.close().await.unwrap();
}

#[tokio::test]
async fn after_close_everything_says_so() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    journal.keep_devices(vec![device(source, "d1", 3)]).await.unwrap();
    let session =
        ClientSession { client_id: "c1".into(), subscriptions: vec![("a/+/b".into(), 1), ("\"x\"".into(), 0)] };
    journal.keep_session("c1".into(), Some(session.clone())).await.unwrap();
    journal.keep_session("c2".into(), Some(ClientSession { client_id: "c2".into(), ..session.clone() })).await.unwrap();
    journal.keep_session("c2".into(), None).await.unwrap();
    journal.close().await.unwrap();
    assert!(matches!(journal.append(entries(source, 1..=1)).await, Err(Error::Closed)));
    assert!(matches!(journal.stats().await, Err(Error::Closed)));
    assert!(matches!(journal.query(Query::default()).await, Err(Error::Closed)));
    let journal = bench.open();
    assert_eq!(journal.devices().await.unwrap(), [device(source, "d1", 3)]);
    assert_eq!(journal.sessions().await.unwrap(), [session]);
    journal.close().await.unwrap();
}

fn device(source: SourceId, key: &str, n: u64) -> DeviceState {
    DeviceState {
        source,
        device_key: key.into(),
        last_heard: UtcMicros(DAY),
        last_native_seq: Some(u64::MAX - n),
        epoch: 2,
        gaps: 1,
    }
}

#[tokio::test]
async fn a_lazy_verdict_is_written_within_seconds_without_company() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=1)).await.unwrap();
    journal.settle(sink.id, vec![(Seq(1), Settlement::Delivered)], When::Lazy).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        // Beside the journal, so that asking does not bring it about.
        let beside = Journal::open_read_only(&bench.config).unwrap();
        let delivered = beside.stats().await.unwrap().sinks[0].delivered;
        beside.close().await.unwrap();
        if delivered == 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_set_aside_and_holds_up_nobody() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=3)).await.unwrap();
    journal.close().await.unwrap();
    bench.sql().execute("UPDATE event SET body = zeroblob(80) WHERE seq = 2", []).unwrap();
    let journal = bench.open();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let records = journal.read_after(sink.id, Seq(0), ALL, ALL).await.unwrap();
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), [Seq(1), Seq(3)]);
    let stats = bench.stats(&journal).await;
    assert_eq!((stats.sinks[0].quarantined, stats.sinks[0].pending), (1, 2));
    let verdict = verdict(&journal).await;
    assert!(!verdict.ok && verdict.problems[0].starts_with("row 2: damaged body"), "{:?}", verdict.problems);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn verify_finds_what_was_changed_taken_out_or_cut_off() {
    let tampered = async |sql: &str| {
        let bench = Bench::new();
        let journal = bench.open();
        let source = journal.source(source()).await.unwrap();
        journal.append(entries(source, 1..=9)).await.unwrap();
        let whole = verdict(&journal).await;
        assert!(whole.ok && whole.anchored.is_none() && whole.seq == Seq(9));
        journal.close().await.unwrap();
        bench.sql().execute_batch(sql).unwrap();
        let journal = bench.open();
        let anchor = Anchor { journal_id: whole.journal_id, seq: Seq(9), head: unhex(&whole.head) };
        let alone = journal.verify(None).await.unwrap();
        let anchored = journal.verify(Some(anchor)).await.unwrap();
        journal.close().await.unwrap();
        (alone, anchored)
    };
    let (alone, anchored) = tampered("").await;
    assert!(alone.ok && anchored.ok && anchored.anchored == Some(Seq(9)));
    let swap = "UPDATE event SET body = (SELECT body FROM event WHERE seq = 5) WHERE seq = 4";
    let (alone, anchored) = tampered(swap).await;
    assert_eq!(alone.problems, ["row 4 does not fit the chain"]);
    assert!(!anchored.ok && anchored.anchored.is_none());
    let (alone, _) = tampered("DELETE FROM event WHERE seq IN (4, 5)").await;
    assert_eq!(alone.problems[0], "rows 4 to 5 are missing");
    // Without an anchor nobody can tell that the end is gone.
    let (alone, anchored) = tampered("DELETE FROM event WHERE seq > 7").await;
    assert!(alone.ok);
    assert_eq!(anchored.problems, ["the journal ends at row 7, the anchor saw row 9"]);
}

#[tokio::test]
async fn an_anchor_of_another_journal_proves_nothing() {
    let bench = Bench::new();
    let journal = bench.open();
    let anchor = Anchor { journal_id: "00".repeat(16), seq: Seq(0), head: [0; 16] };
    let verdict = journal.verify(Some(anchor)).await.unwrap();
    assert!(!verdict.ok && verdict.anchored.is_none());
    journal.close().await.unwrap();
}

fn unhex(text: &str) -> [u8; 16] {
    let bytes: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

#[tokio::test]
async fn a_clock_that_jumps_back_changes_no_order_and_a_wrong_clock_prunes_nothing() {
    let bench = Bench::with(|config| config.retention_days = 1);
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let heard = |n: u64, day: i64| {
        let now = Now { wall: days_later(day).wall, boot: BootTime(n), synchronised: true };
        entry(source, &swipe_at(n, now))
    };
    journal.append(vec![heard(1, 0), heard(2, 9), heard(3, 0)]).await.unwrap();
    let records = journal.read_after(sink.id, Seq(0), ALL, ALL).await.unwrap();
    assert_eq!(records.iter().map(|r| r.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    let verdicts = (1..=3).map(|seq| (Seq(seq), Settlement::Delivered)).collect();
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert_eq!(journal.prune(Now { synchronised: false, ..days_later(99) }).await.unwrap(), 0);
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), 1, "only a prefix goes");
    assert_eq!(journal.prune(days_later(99)).await.unwrap(), 2);
    journal.close().await.unwrap();
}

/// 1970 on the boot clock's second `n`.
fn in_1970(n: u64) -> Now {
    Now { wall: UtcMicros(n as i64 * 1_000_000), boot: BootTime(n * 1_000_000), synchronised: false }
}

fn without_time(n: u64) -> Event {
    let mut event = swipe_at(n, in_1970(n));
    event.reading.device_time = None;
    let zone = portero::clock::Zone::utc();
    event.times = portero::clock::resolve(None, &zone, portero::event::Origin::Live, in_1970(n));
    event
}

#[tokio::test]
async fn events_heard_in_1970_get_their_times_once_the_clock_is_right_and_corrections_follow_what_left() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append((1..=4).map(|n| entry(source, &without_time(n))).collect()).await.unwrap();
    let records = journal.read_after(sink.id, Seq(0), ALL, ALL).await.unwrap();
    assert!(records.iter().all(|r| r.provisional && r.event.times.received.0 < 5_000_000));
    // 1 arrived; 2 is in flight when the clock becomes right; 3 and 4 wait.
    journal.settle(sink.id, vec![(Seq(1), Settlement::Delivered)], When::Lazy).await.unwrap();
    journal.launch(sink.id, Flight { key: "2".into(), seqs: vec![Seq(2)], body: vec![1] }).await.unwrap();
    let nudges = journal.nudges();
    let right = Now { wall: UtcMicros(DAY), boot: BootTime(10_000_000), synchronised: true };
    assert_eq!(journal.anchor_clock(Now { synchronised: false, ..right }).await.unwrap(), 0);
    assert_eq!(journal.anchor_clock(right).await.unwrap(), 4);
    assert_eq!(journal.anchor_clock(right).await.unwrap(), 0, "once in a boot");
    assert!(nudges.has_changed().unwrap());
    journal.settle(sink.id, vec![(Seq(2), Settlement::Delivered)], When::Now).await.unwrap();
    let corrections = journal.corrections(sink.id, 10).await.unwrap();
    assert_eq!(corrections.iter().map(|r| r.seq.0).collect::<Vec<_>>(), [1, 2]);
    for (n, correction) in corrections.iter().enumerate() {
        let event = &correction.event;
        let was = without_time(n as u64 + 1);
        assert_eq!(event.corrects, Some(was.id));
        assert_ne!(event.id, was.id);
        assert_eq!(event.times.received, UtcMicros(DAY - 9_000_000 + n as i64 * 1_000_000));
        assert_eq!((event.times.event, event.times.quality), (event.times.received, ClockQuality::Absent));
        assert!(event.times.synchronised && !correction.provisional);
    }
    assert_eq!(
        corrections[0].event.id,
        journal.corrections(sink.id, 1).await.unwrap()[0].event.id,
        "the same each time"
    );
    let waiting = journal.read_after(sink.id, Seq(0), ALL, ALL).await.unwrap();
    assert_eq!(waiting.iter().map(|r| (r.seq.0, r.provisional)).collect::<Vec<_>>(), [(3, false), (4, false)]);
    assert_eq!(waiting[0].event.times.received, UtcMicros(DAY - 7_000_000));
    let stats = bench.stats(&journal).await;
    assert_eq!((stats.appended, stats.sinks[0].corrections_pending), (4, 2), "a correction is no event");
    journal.settle_corrections(sink.id, vec![Seq(1), Seq(2)]).await.unwrap();
    assert!(journal.corrections(sink.id, 10).await.unwrap().is_empty());
    // A read before the anchor and a verdict after it, without a batch in flight.
    journal.settle(sink.id, vec![(Seq(3), Settlement::Delivered)], When::Now).await.unwrap();
    assert_eq!(journal.corrections(sink.id, 10).await.unwrap().len(), 1);
    journal.close().await.unwrap();
    let journal = bench.open();
    assert_eq!(journal.corrections(sink.id, 10).await.unwrap().len(), 1);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_terminal_that_sends_its_whole_log_again_after_pruning_doubles_nothing() {
    let bench = Bench::with(|config| (config.retention_days, config.dedup_days) = (30, 400));
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=2500)).await.unwrap();
    let verdicts = (1..=2500).map(|seq| (Seq(seq), Settlement::Delivered)).collect();
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert_eq!(journal.prune(days_later(29)).await.unwrap(), 0);
    assert_eq!(journal.prune(days_later(32)).await.unwrap(), 2500);
    assert!(journal.query(Query { limit: 5, ..Query::default() }).await.unwrap().is_empty());
    let again = journal.append(entries(source, 1..=2500)).await.unwrap();
    assert!(again.iter().all(|a| matches!(a, Appended::Duplicate(_))));
    assert!(verdict(&journal).await.ok);
    journal.close().await.unwrap();
    let journal = bench.open();
    assert_eq!(*journal.head().borrow(), Seq(2500));
    assert_eq!(journal.append(entries(source, 7..=7)).await.unwrap(), [Appended::Duplicate(Seq(7))]);
    // After the stubs are gone it is a new event, under a new number, on the same chain.
    assert_eq!(journal.prune(days_later(432)).await.unwrap(), 0);
    assert_eq!(journal.append(entries(source, 7..=7)).await.unwrap(), [Appended::New(Seq(2501))]);
    let verdict = verdict(&journal).await;
    assert!(verdict.ok && verdict.seq == Seq(2501), "{:?}", verdict.problems);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_repeated_delivery_without_identity_is_the_same_event() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let delivery = |n: u64, packet_id, digest, dup| {
        let redelivery = Redelivery { session: "site/gw-1".into(), packet_id, digest: [digest; 16], dup };
        Entry::Event(Prepared::new(&swipe(n), source, Some(redelivery)))
    };
    // One message of two events; ids are minted anew when it is heard again.
    let first = vec![delivery(1, 9, 1, false), delivery(2, 9, 1, false)];
    assert_eq!(journal.append(first).await.unwrap(), [Appended::New(Seq(1)), Appended::New(Seq(2))]);
    journal.close().await.unwrap();
    let journal = bench.open();
    let again = vec![delivery(3, 9, 1, true), delivery(4, 9, 1, true)];
    assert_eq!(journal.append(again).await.unwrap(), [Appended::Duplicate(Seq(1)), Appended::Duplicate(Seq(2))]);
    // Another payload, another packet, or no DUP: another event.
    let others = vec![delivery(5, 9, 2, true), delivery(6, 10, 1, true), delivery(7, 9, 2, false)];
    let answers = journal.append(others).await.unwrap();
    assert_eq!(answers, [Appended::New(Seq(3)), Appended::New(Seq(4)), Appended::New(Seq(5))]);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn the_last_presence_of_a_reader_is_known_after_a_restart_in_the_same_boot() {
    let bench = Bench::new();
    let journal = bench.open();
    let source_id = journal.source(source()).await.unwrap();
    let mut other = source();
    other.terminal_id = "gate-2".into();
    let other = journal.source(other).await.unwrap();
    let mut presence = swipe(5);
    presence.reading.identity = portero::event::Identity::Presence;
    presence.reading.credential.card_number = Some("0004812011".into());
    journal.append(vec![entry(source_id, &presence), entry(source_id, &swipe(6))]).await.unwrap();
    journal.close().await.unwrap();
    let journal = bench.open();
    let found = journal.last_presence(source_id).await.unwrap();
    assert_eq!(found, Some(("0004812011".into(), BootTime(5_000_000))));
    assert_eq!(journal.last_presence(other).await.unwrap(), None);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_verdict_for_a_sink_that_does_not_exist_hurts_nobody_else() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let nobody = SinkId(77);
    assert!(matches!(journal.settle(nobody, vec![], When::Now).await, Err(Error::NotFound(_))));
    journal.settle(nobody, vec![(Seq(1), Settlement::Delivered)], When::Lazy).await.unwrap();
    assert!(matches!(journal.release("nobody".into(), None).await, Err(Error::NotFound(_))));
    assert_eq!(journal.append(entries(source, 1..=1)).await.unwrap(), [Appended::New(Seq(1))]);
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.settle(sink.id, vec![(Seq(99), Settlement::Delivered)], When::Now).await.unwrap();
    assert_eq!(bench.stats(&journal).await.sinks[0].pending, 1);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn questions_of_people_find_by_terminal_person_and_time() {
    let bench = Bench::new();
    let journal = Journal::open(&bench.config, Clock::new(SyncSource::Trusted)).unwrap();
    let source = journal.source(source()).await.unwrap();
    journal.append(entries(source, 1..=1500)).await.unwrap();
    let seqs =
        async |query: Query| journal.query(query).await.unwrap().iter().map(|record| record.seq.0).collect::<Vec<_>>();
    let base = || Query { limit: 3, ..Query::default() };
    assert_eq!(seqs(base()).await, [1498, 1499, 1500]);
    assert_eq!(seqs(Query { person: Some("000007".into()), ..base() }).await, [7, 1007]);
    assert_eq!(seqs(Query { terminal: Some("CJ9D232460003".into()), after: Some(Seq(1499)), ..base() }).await, [1500]);
    assert!(seqs(Query { terminal: Some("elsewhere".into()), ..base() }).await.is_empty());
    let since = Some(UtcMicros(DAY + 1_499_500_000));
    assert_eq!(seqs(Query { since, ..base() }).await, [1500]);
    journal.close().await.unwrap();
}
