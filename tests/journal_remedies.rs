//! What the journal tells of a delivery, and how quarantined events come back.
//!
//! A test belongs here if it is about `trace`, `heal`, `release` or `drop_quarantined`, on a real file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod journal;

use journal::*;
use portero::clock::Now;
use portero::event::{BootTime, Origin, UtcMicros};
use portero::journal::*;

const ALL: usize = 1 << 30;

const EXCUSED: [&str; 2] = ["not in the directory", "answer lost; who knows"];

/// The fate of the event with this number at the only sink.
async fn fate(journal: &Journal, n: u64) -> Fate {
    journal.trace(swipe(n).id).await.unwrap().unwrap().fates.remove(0).1
}

fn delivery(fate: Fate) -> Delivery {
    match fate {
        Fate::Settled { delivery: Some(delivery), .. } => delivery,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_delivery_is_remembered_with_its_time_its_revision_and_the_sinks_own_name_for_it() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=6)).await.unwrap();
    assert_eq!(
        journal.serve(sink.id, "r1".into(), EXCUSED).await.unwrap(),
        Some(0),
        "nothing was delivered under it yet"
    );
    let before = clock().now().wall;
    let named = Settlement::Confirmed { remote_id: "EMP-CKIN-2".into() };
    let verdicts = vec![(Seq(1), Settlement::Delivered), (Seq(2), named), (Seq(4), Settlement::Delivered)];
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    journal.prove(sink.id).await.unwrap();
    let after = clock().now().wall;
    // Another mapping from here on: what went before keeps the old one.
    assert_eq!(journal.serve(sink.id, "r2".into(), EXCUSED).await.unwrap(), Some(0));
    journal.settle(sink.id, vec![(Seq(3), Settlement::Delivered)], When::Now).await.unwrap();
    journal.close().await.unwrap();

    let journal = bench.open();
    for (n, revision) in [(1, "r1"), (2, "r1"), (3, "r2"), (4, "r1")] {
        let said = delivery(fate(&journal, n).await);
        assert_eq!(said.revision, revision, "{n}");
        assert!(said.from <= said.until, "{n}");
        assert!(revision == "r2" || (before <= said.from && said.until <= after), "{n}: {said:?}");
        assert_eq!(said.remote_id.as_deref(), (n == 2).then_some("EMP-CKIN-2"), "{n}");
    }
    assert_eq!(fate(&journal, 5).await, Fate::Pending);
    assert!(journal.trace(swipe(77).id).await.unwrap().is_none());
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    assert_eq!(journal.serve(sink.id, "r3".into(), EXCUSED).await.unwrap(), Some(0));
    // What was proven stays known through a restart, until another revision is.
    assert_eq!(journal.serve(sink.id, "r1".into(), EXCUSED).await.unwrap(), None);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_crash_takes_the_times_of_the_last_deliveries_and_never_the_deliveries() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=2)).await.unwrap();
    journal.settle(sink.id, vec![(Seq(1), Settlement::Delivered)], When::Now).await.unwrap();
    let survivor = bench.crash_image();
    let image = survivor.open();
    assert_eq!(fate(&image, 1).await, Fate::Settled { delivery: None, correction_pending: false });
    assert_eq!(fate(&image, 2).await, Fate::Pending);
    image.close().await.unwrap();
    journal.close().await.unwrap();
}

#[tokio::test]
async fn what_was_refused_under_another_revision_goes_out_once_more_and_what_is_in_doubt_does_not() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=5)).await.unwrap();
    journal.serve(sink.id, "r1".into(), EXCUSED).await.unwrap();
    let verdicts = (1..=5).map(|n| (Seq(n), quarantine(if n == 3 { "answer lost; who knows" } else { "bad field" })));
    journal.settle(sink.id, verdicts.collect(), When::Now).await.unwrap();
    assert_eq!(journal.heal(sink.id, ALL, "answer lost").await.unwrap(), 0, "the same revision");

    journal.serve(sink.id, "r2".into(), EXCUSED).await.unwrap();
    assert_eq!(journal.heal(sink.id, 2, "answer lost").await.unwrap(), 2, "paced");
    let held = |records: Vec<Record>| records.iter().map(|r| r.seq.0).collect::<Vec<_>>();
    assert_eq!(held(journal.held(sink.id, ALL).await.unwrap()), [1, 2], "the oldest first");
    assert_eq!(journal.heal(sink.id, ALL, "answer lost").await.unwrap(), 2);
    assert_eq!(held(journal.held(sink.id, ALL).await.unwrap()), [1, 2, 4, 5]);
    let verdicts = vec![(Seq(1), Settlement::Delivered), (Seq(2), quarantine("still bad"))];
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert_eq!(journal.heal(sink.id, ALL, "answer lost").await.unwrap(), 0, "once per event and revision");
    let stats = journal.stats().await.unwrap();
    assert!(stats.sinks[0].balances(), "{stats:?}");
    assert_eq!((stats.sinks[0].quarantined, stats.sinks[0].pending, stats.sinks[0].delivered), (2, 2, 1));

    journal.close().await.unwrap();
    let journal = bench.open();
    assert_eq!(
        journal.serve(sink.id, "r2".into(), EXCUSED).await.unwrap(),
        Some(1),
        "refused under it, and not proven"
    );
    journal.serve(sink.id, "r3".into(), EXCUSED).await.unwrap();
    assert_eq!(journal.heal(sink.id, ALL, "answer lost").await.unwrap(), 1, "2, which r2 did not mend");
    assert!(matches!(fate(&journal, 3).await, Fate::Quarantined { .. }));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn what_is_remembered_of_deliveries_goes_with_the_events() {
    let bench = Bench::with(|config| config.retention_days = 1);
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 1..=10)).await.unwrap();
    let named = |n: u64| (Seq(n), Settlement::Confirmed { remote_id: format!("R{n}") });
    journal.settle(sink.id, (1..=4).map(named).collect(), When::Now).await.unwrap();
    journal.close().await.unwrap();
    let journal = bench.open();
    journal.settle(sink.id, (5..=9).map(named).collect(), When::Now).await.unwrap();
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), 9);
    assert!(journal.trace(swipe(4).id).await.unwrap().is_none(), "erased");
    journal.close().await.unwrap();
    let rows = |table: &str| bench.sql().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    assert_eq!((rows("delivery"), rows("remote")), (Ok(1i64), Ok(0i64)), "the run that still went on at the end");
}

#[tokio::test]
async fn a_day_also_holds_what_was_heard_before_the_clock_was_right() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let second = |n: u64| BootTime(n * 1_000_000);
    let heard = |n: u64| {
        // A box without a battery wakes up in 1970, and a reader has no time of its own.
        let now = Now { wall: UtcMicros(n as i64 * 1_000_000), boot: second(n), synchronised: false };
        let mut event = swipe_at(n, now);
        event.reading.device_time = None;
        event.id.0[..6].copy_from_slice(&(n * 1000).to_be_bytes()[2..]);
        event.times = portero::clock::resolve(None, &portero::clock::Zone::utc(), Origin::Live, now);
        event
    };
    for n in 1..=50 {
        journal.append(vec![entry(source, &heard(n))]).await.unwrap();
    }
    let of_day = async |journal: &Journal| journal.trace_around(UtcMicros(DAY), |_| true).await.unwrap().len();
    let right = Now { wall: UtcMicros(DAY + 3_600_000_000), boot: second(3600), synchronised: true };
    journal.anchor_clock(right).await.unwrap();
    journal.append(entries(source, 100..=110)).await.unwrap();
    assert_eq!(of_day(&journal).await, 61);
    let later = UtcMicros(DAY + 7 * 86_400_000_000);
    assert_eq!(journal.trace_around(later, |_| true).await.unwrap().len(), 0);
    journal.close().await.unwrap();
}
