//! The journal's side of the invariants, each proven on a real file.
//!
//! A test belongs here if it breaks when an invariant of `lib.rs` is broken; known errors of disks and people are in
//! `journal_known_errors.rs`.

mod journal;

use journal::*;
use portero::journal::*;

#[tokio::test]
async fn i1_an_answered_append_is_in_the_file_as_a_crash_would_leave_it() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    for n in 1..=20 {
        let answers = journal.append(vec![entry(source, &swipe(n))]).await.unwrap();
        assert_eq!(answers, [Appended::New(Seq(n))]);
        if n % 7 == 0 {
            let image = bench.crash_image();
            let survivor = image.open();
            assert_eq!(*survivor.head().borrow(), Seq(n));
            survivor.close().await.unwrap();
        }
    }
    let sink = journal.sink("a", Start::All).await.unwrap();
    let records = journal.read_after(sink.id, Seq(0), 100, 1 << 20).await.unwrap();
    assert_eq!(records.len(), 20);
    assert_eq!(records[3].event, swipe(4));
    journal.settle(sink.id, vec![(Seq(1), Settlement::Delivered)], When::Lazy).await.unwrap();
    let stats = journal.stats().await.unwrap();
    assert_eq!((stats.appended, stats.sinks[0].delivered, stats.sinks[0].pending), (20, 1, 19));
    assert!(stats.sinks[0].balances());
    journal.close().await.unwrap();
}
