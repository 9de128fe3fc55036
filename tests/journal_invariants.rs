//! The journal's side of the invariants, each proven on a real file.
//!
//! A test belongs here if it breaks when an invariant of `lib.rs` is broken; known errors of disks and people are in
//! `journal_known_errors.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod journal;

use journal::*;
use portero::clock::Now;
use portero::event::{BootTime, Fault, FaultKind, Outcome, UtcMicros};
use portero::journal::*;

const ALL: usize = 1 << 30;

#[tokio::test]
async fn i1_an_answered_append_is_in_the_file_as_a_crash_would_leave_it() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    for n in 1..=20 {
        let answers = journal.append(vec![entry(source, &swipe(n))]).await.unwrap();
        assert_eq!(answers, [Appended::New(Seq(n))]);
        assert_eq!(*journal.head().borrow(), Seq(n), "the head is published with the answer");
        if n % 7 == 0 {
            let survivor = bench.crash_image();
            let survivor = survivor.open();
            assert_eq!(*survivor.head().borrow(), Seq(n));
            survivor.close().await.unwrap();
        }
    }
    journal.close().await.unwrap();
}

/// Images are taken while four callers append as fast as they can: whatever was answered before the image is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn i1_what_was_answered_before_a_crash_survives_it_under_load() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..4u64 {
        let (journal, answered) = (journal.clone(), answered.clone());
        callers.spawn(async move {
            for round in 0..50 {
                let from = caller * 1_000 + round * 4;
                let answers = journal.append(entries(source, from..from + 4)).await.unwrap();
                let last = answers.iter().map(|a| if let Appended::New(seq) = a { seq.0 } else { 0 }).max();
                answered.fetch_max(last.unwrap(), std::sync::atomic::Ordering::SeqCst);
            }
        });
    }
    for _ in 0..5 {
        let before = answered.load(std::sync::atomic::Ordering::SeqCst);
        let image = bench.crash_image();
        let survivor = image.open();
        assert!(survivor.head().borrow().0 >= before);
        assert!(survivor.verify(None).await.unwrap().ok);
        survivor.close().await.unwrap();
        tokio::task::yield_now().await;
    }
    callers.join_all().await;
    assert_eq!(*journal.head().borrow(), Seq(800));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i1_each_entry_is_answered_new_duplicate_or_conflict() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let mut other_person = swipe(1);
    other_person.reading.person.terminal_person_id = Some("999999".into());
    let mut fewer_fields = swipe(1);
    fewer_fields.reading.person.terminal_person_id = None;
    fewer_fields.reading.punch = None;
    let batch = vec![
        entry(source, &swipe(1)),
        entry(source, &swipe(1)),
        entry(source, &swipe(2)),
        entry(source, &fewer_fields),
        entry(source, &other_person),
    ];
    let expected = [
        Appended::New(Seq(1)),
        Appended::Duplicate(Seq(1)),
        Appended::New(Seq(2)),
        Appended::Duplicate(Seq(1)),
        Appended::Conflict(Seq(1)),
    ];
    assert_eq!(journal.append(batch).await.unwrap(), expected);
    // Said again it is the same conflict, and said where only one side knows the outcome it is none.
    let mut outcome = swipe(2);
    outcome.reading.outcome = Some(Outcome::Granted);
    let again = vec![entry(source, &other_person), entry(source, &outcome)];
    assert_eq!(journal.append(again).await.unwrap(), [Appended::Conflict(Seq(1)), Appended::Duplicate(Seq(2))]);
    let stats = journal.stats().await.unwrap();
    assert_eq!((stats.appended, stats.conflicts), (2, 1));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i2_position_and_verdicts_are_in_the_same_commit() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    journal.append(entries(source, 1..=6)).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let verdicts = vec![
        (Seq(1), Settlement::Delivered),
        (Seq(2), quarantine("too old")),
        (Seq(3), Settlement::Filtered),
        (Seq(5), Settlement::Delivered),
    ];
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    let image = bench.crash_image();
    let survivor = image.open();
    let sink = survivor.sink("vendor", Start::All).await.unwrap();
    assert_eq!(sink.position, Seq(3), "2 is set aside, 4 is pending");
    let left: Vec<Seq> = survivor.read_after(sink.id, Seq(0), ALL, ALL).await.unwrap().iter().map(|r| r.seq).collect();
    assert_eq!(left, [Seq(4), Seq(6)], "5 was settled ahead");
    let set_aside = survivor.quarantined(None, 10).await.unwrap();
    assert_eq!((set_aside[0].record.seq, set_aside[0].reason.as_str()), (Seq(2), "too old"));
    survivor.settle(sink.id, vec![(Seq(4), Settlement::Delivered)], When::Now).await.unwrap();
    assert_eq!(survivor.sink("vendor", Start::All).await.unwrap().position, Seq(5), "the position catches up");
    survivor.close().await.unwrap();
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i2_a_batch_in_flight_survives_a_crash_with_the_same_bytes_and_goes_with_its_verdicts() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    journal.append(entries(source, 1..=3)).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let flight = Flight { key: "k1".into(), seqs: vec![Seq(1), Seq(2)], body: b"[{\"a\":1},{\"a\":1}]".repeat(50) };
    journal.launch(sink.id, flight.clone()).await.unwrap();
    let image = bench.crash_image();
    let survivor = image.open();
    let found = survivor.sink("vendor", Start::All).await.unwrap();
    assert_eq!(found.flight, Some(flight.clone()));
    let verdicts = vec![(Seq(1), Settlement::Delivered), (Seq(2), Settlement::Delivered)];
    survivor.settle(found.id, verdicts, When::Now).await.unwrap();
    let found = survivor.sink("vendor", Start::All).await.unwrap();
    assert_eq!((found.flight, found.position), (None, Seq(2)));
    survivor.close().await.unwrap();
    // One batch per sink: the newer replaces the older.
    journal.launch(sink.id, Flight { key: "k2".into(), ..flight }).await.unwrap();
    assert_eq!(journal.sink("vendor", Start::All).await.unwrap().flight.unwrap().key, "k2");
    journal.close().await.unwrap();
}

/// Past the bulk of the index, across a restart, and in the order of a terminal that sends its log backwards.
#[tokio::test]
async fn i3_the_same_record_is_the_same_event_however_late_it_comes_again() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let count = 10_000;
    for chunk in (0..count / 1000).rev() {
        let from = chunk * 1000;
        let answers = journal.append(entries(source, from..from + 1000)).await.unwrap();
        assert!(answers.iter().all(|a| matches!(a, Appended::New(_))));
    }
    let again = |journal: Journal| async move {
        for from in (0..count).step_by(1000) {
            let answers = journal.append(entries(source, from..from + 1000)).await.unwrap();
            assert!(answers.iter().all(|a| matches!(a, Appended::Duplicate(_))), "{answers:?}");
        }
        assert_eq!(*journal.head().borrow(), Seq(count));
        assert!(journal.verify(None).await.unwrap().ok);
    };
    again(journal.clone()).await;
    journal.close().await.unwrap();
    let journal = bench.open();
    again(journal.clone()).await;
    journal.close().await.unwrap();
}

/// The on-disk index keeps 63 bits of an id.
#[tokio::test]
async fn i3_two_records_whose_ids_share_the_bits_of_the_index_stay_two_and_are_known_again() {
    let bench = Bench::with(|config| config.retention_days = 1);
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let twin = |last: u8| {
        let mut event = swipe(1);
        event.id.0[12..].fill(last);
        entry(source, &event)
    };
    let answers = journal.append(vec![twin(1), twin(2)]).await.unwrap();
    assert_eq!(answers, [Appended::New(Seq(1)), Appended::New(Seq(2))]);
    // Pruning brings the index to disk; then once more with a third twin.
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), 2);
    let all = || vec![twin(1), twin(2), twin(3)];
    let expected = |third| [Appended::Duplicate(Seq(1)), Appended::Duplicate(Seq(2)), third];
    assert_eq!(journal.append(all()).await.unwrap(), expected(Appended::New(Seq(3))));
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), 1);
    assert!(journal.verify(None).await.unwrap().ok);
    journal.close().await.unwrap();
    let journal = bench.open();
    assert_eq!(journal.append(all()).await.unwrap(), expected(Appended::Duplicate(Seq(3))));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i4_the_ledger_balances_through_every_kind_of_verdict() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    journal.append(entries(source, 1..=4)).await.unwrap();
    let late = journal.sink("late", Start::Now).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    journal.append(entries(source, 5..=10)).await.unwrap();
    let verdicts = vec![
        (Seq(10), Settlement::Delivered),
        (Seq(1), Settlement::Delivered),
        (Seq(2), quarantine("bad")),
        (Seq(3), Settlement::Filtered),
        (Seq(9), quarantine("bad")),
    ];
    journal.settle(sink.id, verdicts.clone(), When::Lazy).await.unwrap();
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    let line = |stats: &Stats, name: &str| stats.sinks.iter().find(|s| s.name == name).unwrap().clone();
    let stats = journal.stats().await.unwrap();
    let vendor = line(&stats, "vendor");
    assert!(vendor.balances(), "{vendor:?}");
    assert_eq!(
        (vendor.appended, vendor.delivered, vendor.filtered, vendor.quarantined, vendor.pending),
        (10, 2, 1, 2, 5)
    );
    assert_eq!((line(&stats, "late").appended, line(&stats, "late").pending), (6, 6));
    assert_eq!(journal.read_after(late.id, Seq(0), ALL, ALL).await.unwrap().len(), 6);

    assert_eq!(journal.release("vendor".into(), Some(vec![Seq(9), Seq(7)])).await.unwrap(), 1);
    assert_eq!(journal.release("vendor".into(), None).await.unwrap(), 1);
    let held: Vec<Seq> = journal.held(sink.id, 10).await.unwrap().iter().map(|r| r.seq).collect();
    assert_eq!(held, [Seq(2), Seq(9)]);
    let vendor = line(&journal.stats().await.unwrap(), "vendor");
    assert!(vendor.balances(), "{vendor:?}");
    assert_eq!((vendor.quarantined, vendor.pending), (0, 7));
    let verdicts = vec![(Seq(2), Settlement::Delivered), (Seq(9), quarantine("still bad"))];
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    let vendor = line(&journal.stats().await.unwrap(), "vendor");
    assert!(vendor.balances(), "{vendor:?}");
    assert_eq!((vendor.delivered, vendor.quarantined, vendor.pending), (3, 1, 5));
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i4_a_removed_sink_lets_go_and_what_it_missed_is_counted_as_dropped() {
    let bench = Bench::with(|config| config.retention_days = 1);
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("old", Start::All).await.unwrap();
    journal.append(entries(source, 1..=10)).await.unwrap();
    let verdicts = vec![(Seq(1), Settlement::Delivered), (Seq(2), quarantine("bad")), (Seq(4), Settlement::Delivered)];
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), 1, "the quarantined second row holds the rest");
    journal.retain_sinks(vec!["other".into()]).await.unwrap();
    assert!(journal.stats().await.unwrap().sinks.is_empty());
    assert_eq!(journal.prune(days_later(3)).await.unwrap(), 9);
    let back = journal.sink("old", Start::All).await.unwrap();
    assert_eq!(back.position, Seq(10));
    let stats = journal.stats().await.unwrap();
    assert!(stats.sinks[0].balances(), "{stats:?}");
    assert_eq!((stats.sinks[0].delivered, stats.sinks[0].dropped, stats.pruned), (2, 8, 10));
    let rows = rusqlite::Connection::open(&bench.config.path).unwrap().query_row(
        "SELECT sum(count), max(why), max(who) FROM abandoned",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)),
    );
    let (count, why, who) = rows.unwrap();
    assert_eq!((count, who.as_str()), (8, "the configuration"), "whatever is dropped has a row: {why}");
    journal.append(entries(source, 11..=12)).await.unwrap();
    let left = journal.read_after(back.id, Seq(0), ALL, ALL).await.unwrap();
    assert_eq!(left.iter().map(|r| r.seq).collect::<Vec<_>>(), [Seq(11), Seq(12)], "numbers are never reused");
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i4_a_sink_that_is_given_up_says_who_gave_it_up_and_what_it_had_not_got() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let sink = journal.sink("old", Start::All).await.unwrap();
    journal.append(entries(source, 1..=10)).await.unwrap();
    let verdicts = vec![
        (Seq(1), Settlement::Delivered),
        (Seq(2), quarantine("bad")),
        (Seq(3), quarantine("worse")),
        (Seq(6), Settlement::Delivered),
    ];
    journal.settle(sink.id, verdicts, When::Now).await.unwrap();
    assert_eq!(journal.release("old".into(), Some(vec![Seq(3)])).await.unwrap(), 1);
    let waits = journal.stats().await.unwrap().sinks[0].clone();
    assert_eq!((waits.delivered, waits.quarantined, waits.pending), (2, 1, 7));

    let dropped = journal.abandon_sink("old".into(), "another vendor".into(), "bundle 12".into()).await.unwrap();
    assert_eq!(dropped, 7);
    assert!(journal.stats().await.unwrap().sinks.is_empty());
    journal.close().await.unwrap();

    // All of it is on disk, and shown if the sink ever comes back.
    let journal = bench.open();
    let back = journal.sink("old", Start::All).await.unwrap();
    assert_eq!((back.position, back.flight.is_none()), (Seq(10), true));
    let after = journal.stats().await.unwrap().sinks[0].clone();
    assert!(after.balances(), "{after:?}");
    assert_eq!((after.delivered, after.quarantined, after.dropped, after.pending), (2, 1, 7, 0));
    let rows = journal.query(Query { limit: 10, ..Query::default() }).await.unwrap();
    assert_eq!(rows.len(), 10);
    for row in rows {
        let fates = journal.trace(row.event.id).await.unwrap().unwrap().fates;
        let fate = &fates[0].1;
        match row.seq.0 {
            2 => assert!(matches!(fate, Fate::Quarantined { .. }), "{fate:?}"),
            1 | 6 => assert!(matches!(fate, Fate::Settled { delivery: Some(_), .. }), "{fate:?}"),
            _ => assert!(
                matches!(fate, Fate::Dropped { why, who, .. } if why == "another vendor" && who == "bundle 12"),
                "{} {fate:?}",
                row.seq.0
            ),
        }
    }
    journal.close().await.unwrap();
}

#[tokio::test]
async fn i10_notes_are_bounded_and_their_counts_stay_exact() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    let at = Now { wall: UtcMicros(DAY), boot: BootTime(5), synchronised: true };
    let fault = Fault {
        kind: FaultKind::Checksum,
        detail: "the checksum does not fit".into(),
        length: 14,
        offset: Some(u64::MAX),
        digest: [3; 16],
        excerpt: "02**".into(),
    };
    for _ in 0..11 {
        let faults = (0..1000)
            .map(|_| Entry::Fault { source: Some(source), device_key: "gate".into(), fault: fault.clone(), at })
            .collect();
        let answers = journal.append(faults).await.unwrap();
        assert!(answers.iter().all(|a| *a == Appended::Noted));
    }
    let blind = Entry::Blind { source, from: at, until: at, reason: "unplugged".into() };
    journal.append(vec![blind, entry(source, &swipe(1))]).await.unwrap();
    let stats = journal.stats().await.unwrap();
    assert_eq!((stats.faults, stats.blind, stats.appended), (11_000, 1, 1));
    journal.close().await.unwrap();
    let kept: i64 = bench.sql().query_row("SELECT count(*) FROM fault", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 10_000);
}

#[tokio::test]
async fn i10_a_batch_is_bounded_in_rows_and_bytes() {
    let bench = Bench::new();
    let journal = bench.open();
    let source = journal.source(source()).await.unwrap();
    journal.append(entries(source, 1..=50)).await.unwrap();
    let sink = journal.sink("vendor", Start::All).await.unwrap();
    let count = async |rows, bytes| journal.read_after(sink.id, Seq(0), rows, bytes).await.unwrap().len();
    assert_eq!(count(7, ALL).await, 7);
    let some = count(50, 500).await;
    assert!((1..10).contains(&some), "{some}");
    assert_eq!(count(50, 0).await, 1, "one event always goes");
    journal.close().await.unwrap();
}

mod ledger_against_a_model {
    //! Random appends, repeats, verdicts, releases, crashes and pruning, against a model that keeps one word per event.

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Action {
        Append(Vec<u64>),
        Settle { sink: usize, offsets: Vec<u64>, kind: u8, lazily: bool },
        Release { sink: usize, all: bool },
        Drop { sink: usize, all: bool },
        Launch { sink: usize },
        Crash,
        Restart,
        Prune,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => prop::collection::vec(1..200u64, 1..12).prop_map(Action::Append),
            6 => (0..2usize, prop::collection::vec(0..12u64, 1..8), 0..6u8, any::<bool>())
                .prop_map(|(sink, offsets, kind, lazily)| Action::Settle { sink, offsets, kind, lazily }),
            1 => (0..2usize, any::<bool>()).prop_map(|(sink, all)| Action::Release { sink, all }),
            1 => (0..2usize, any::<bool>()).prop_map(|(sink, all)| Action::Drop { sink, all }),
            1 => (0..2usize).prop_map(|sink| Action::Launch { sink }),
            1 => Just(Action::Crash),
            1 => Just(Action::Restart),
            1 => Just(Action::Prune),
        ]
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Word {
        Pending,
        Delivered,
        Filtered,
        Quarantined,
        Dropped,
        Held,
    }

    #[derive(Default)]
    struct Model {
        ids: BTreeMap<u64, Seq>,
        sinks: [BTreeMap<u64, Word>; 2],
        flights: [bool; 2],
        erased: u64,
    }

    impl Model {
        fn head(&self) -> u64 {
            self.ids.len() as u64
        }

        fn seqs(&self, sink: usize, word: Word) -> Vec<u64> {
            self.sinks[sink].iter().filter(|(_, w)| **w == word).map(|(seq, _)| *seq).collect()
        }

        fn settle(&mut self, sink: usize, seq: u64, kind: u8) {
            let Some(word) = self.sinks[sink].get_mut(&seq) else { return };
            if matches!(word, Word::Pending | Word::Held) {
                *word = match kind {
                    0 => Word::Quarantined,
                    1 => Word::Filtered,
                    _ => Word::Delivered,
                };
            }
        }

        /// The last row of the prefix that nobody needs.
        fn needless(&self) -> u64 {
            let needed = |word: &Word| !matches!(word, Word::Delivered | Word::Filtered | Word::Dropped);
            let first = |sink: &BTreeMap<u64, Word>| sink.iter().find(|(_, w)| needed(w)).map(|(seq, _)| *seq);
            self.sinks.iter().filter_map(first).min().map_or(self.head(), |first| first - 1)
        }
    }

    async fn check(journal: &Journal, model: &Model, sinks: &[SinkState; 2]) {
        let stats = journal.stats().await.unwrap();
        assert_eq!((stats.appended, stats.pruned), (model.head(), model.erased));
        for (at, sink) in sinks.iter().enumerate() {
            let line = &stats.sinks[at];
            assert!(line.balances(), "{line:?}");
            let count = |word| model.seqs(at, word).len() as u64;
            assert_eq!(line.delivered, count(Word::Delivered));
            assert_eq!(line.filtered, count(Word::Filtered));
            assert_eq!(line.dropped, count(Word::Dropped));
            assert_eq!(line.quarantined, count(Word::Quarantined));
            assert_eq!(line.pending, count(Word::Pending) + count(Word::Held));
            let seqs = |records: Vec<Record>| records.iter().map(|r| r.seq.0).collect::<Vec<_>>();
            let pending = journal.read_after(sink.id, Seq(0), ALL, ALL).await.unwrap();
            assert_eq!(seqs(pending), model.seqs(at, Word::Pending));
            assert_eq!(seqs(journal.held(sink.id, ALL).await.unwrap()), model.seqs(at, Word::Held));
        }
    }

    async fn sinks(journal: &Journal, model: &Model) -> [SinkState; 2] {
        let sinks =
            [journal.sink("vendor", Start::All).await.unwrap(), journal.sink("central", Start::All).await.unwrap()];
        for (sink, in_flight) in sinks.iter().zip(model.flights) {
            assert_eq!(sink.flight.is_some(), in_flight);
        }
        sinks
    }

    async fn play(actions: Vec<Action>) {
        let mut bench = Bench::with(|config| config.retention_days = 1);
        let mut journal = bench.open();
        let mut model = Model::default();
        let mut states = sinks(&journal, &model).await;
        for action in actions {
            match action {
                Action::Append(numbers) => {
                    let source = journal.source(source()).await.unwrap();
                    let answers = journal.append(entries(source, numbers.iter().copied())).await.unwrap();
                    for (n, answer) in numbers.into_iter().zip(answers) {
                        let next = Seq(model.head() + 1);
                        let expected = match model.ids.get(&n) {
                            Some(seq) => Appended::Duplicate(*seq),
                            None => {
                                model.ids.insert(n, next);
                                model.sinks.iter_mut().for_each(|sink| {
                                    sink.insert(next.0, Word::Pending);
                                });
                                Appended::New(next)
                            }
                        };
                        assert_eq!(answer, expected);
                    }
                }
                Action::Settle { sink, offsets, kind, lazily } => {
                    let first = model.seqs(sink, Word::Held).first().copied();
                    let first = first.or(model.seqs(sink, Word::Pending).first().copied()).unwrap_or(1);
                    let (mut verdicts, head) = (Vec::new(), model.head());
                    for seq in offsets.into_iter().map(|offset| first + offset).filter(|seq| *seq <= head) {
                        model.settle(sink, seq, kind);
                        let settlement = match kind {
                            0 => quarantine("bad"),
                            1 => Settlement::Filtered,
                            _ => Settlement::Delivered,
                        };
                        verdicts.push((Seq(seq), settlement));
                    }
                    let when = if lazily { When::Lazy } else { When::Now };
                    journal.settle(states[sink].id, verdicts, when).await.unwrap();
                    model.flights[sink] = false;
                }
                Action::Release { sink, all } => {
                    let mut seqs = model.seqs(sink, Word::Quarantined);
                    seqs.truncate(if all { usize::MAX } else { 1 });
                    let wanted = (!all).then(|| seqs.iter().map(|seq| Seq(*seq)).collect());
                    let released = journal.release(["vendor", "central"][sink].into(), wanted).await.unwrap();
                    assert_eq!(released, seqs.len() as u64);
                    for seq in seqs {
                        model.sinks[sink].insert(seq, Word::Held);
                    }
                }
                Action::Drop { sink, all } => {
                    let mut seqs = model.seqs(sink, Word::Quarantined);
                    seqs.truncate(if all { usize::MAX } else { 1 });
                    // What is not quarantined is left alone.
                    let wanted = seqs.iter().copied().chain(model.seqs(sink, Word::Pending)).map(Seq).collect();
                    let name = ["vendor", "central"][sink].to_owned();
                    let dropped = journal.drop_quarantined(name, wanted, "a test".into(), "ana".into()).await.unwrap();
                    assert_eq!(dropped, seqs.len() as u64);
                    for seq in seqs {
                        model.sinks[sink].insert(seq, Word::Dropped);
                    }
                }
                Action::Launch { sink } => {
                    let flight = Flight { key: "k".into(), seqs: vec![Seq(1)], body: vec![1, 2, 3] };
                    journal.launch(states[sink].id, flight).await.unwrap();
                    model.flights[sink] = true;
                }
                Action::Crash => {
                    let image = bench.crash_image();
                    journal.close().await.unwrap();
                    bench = image;
                    journal = bench.open();
                    states = sinks(&journal, &model).await;
                }
                Action::Restart => {
                    journal.close().await.unwrap();
                    journal = bench.open();
                    states = sinks(&journal, &model).await;
                }
                Action::Prune => {
                    let needless = model.needless();
                    let erased = journal.prune(days_later(3)).await.unwrap();
                    assert_eq!(erased, needless - model.erased);
                    model.erased = needless;
                }
            }
            check(&journal, &model, &states).await;
        }
        let verdict = journal.verify(None).await.unwrap();
        assert!(verdict.ok, "{:?}", verdict.problems);
        assert_eq!(verdict.seq.0, model.head());
        journal.close().await.unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn i4_the_ledger_equals_a_model_under_random_actions(actions in prop::collection::vec(action(), 1..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(play(actions));
        }
    }
}
