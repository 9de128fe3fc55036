//! What every sink must do.

use std::time::Duration;

use portero::deliver::{Batch, Mapped, Outcome, Sink};
use portero::journal::Record;

use crate::rigs::Rig;
use crate::support::{DEADLINE, eventually_async};
use crate::world::World;

fn assert_once<R: Rig>(rig: &R, ids: &[String]) {
    let received = rig.received();
    let missing = ids.iter().filter(|id| !received.contains_key(*id)).count();
    let doubled: Vec<_> = received.iter().filter(|(_, n)| **n != 1).collect();
    assert_eq!((missing, doubled), (0, vec![]));
    assert_eq!(received.len(), ids.len());
}

pub async fn everything_arrives_once_and_the_ledger_balances<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    let mut ids = world.punches(250).await;
    let relay = world.relay(rig.sink()).await;
    world.drained("far").await;
    // Woken by the commit, one by one.
    for _ in 0..5 {
        ids.extend(world.punches(1).await);
        world.drained("far").await;
    }
    // More than one full batch of every sink.
    ids.extend(world.punches(4500).await);
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined, stats.appended), (4755, 0, 4755));
    assert_once(&rig, &ids);
    assert_eq!(relay.board.read()[0].delivered, 4755);
    relay.stop().await;
}

pub async fn i3_a_lost_answer_to_every_batch_doubles_nothing<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    rig.lose_answers();
    let relay = world.relay(rig.sink()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(world.punches(20).await);
        world.drained("far").await;
    }
    assert!(relay.sends() >= 10, "{} sends", relay.sends());
    assert_once(&rig, &ids);
}

pub async fn i3_the_whole_journal_replayed_three_times_with_every_answer_lost_doubles_nothing<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    rig.lose_answers();
    let ids = world.punches(250).await;
    for name in ["far", "again", "once more"] {
        let relay = world.relay(Renamed(rig.sink(), name)).await;
        let stats = world.drained(name).await;
        assert_eq!((stats.delivered, stats.quarantined), (250, 0), "{name}");
        assert_once(&rig, &ids);
        relay.stop().await;
    }
}

/// The same destination as a sink that the journal does not know yet: it gets everything from the beginning.
struct Renamed<S>(S, &'static str);

impl<S: Sink> Sink for Renamed<S> {
    fn name(&self) -> &str {
        self.1
    }

    fn limits(&self) -> (usize, usize) {
        self.0.limits()
    }

    fn map(&self, records: &[Record], corrections: bool) -> Mapped {
        self.0.map(records, corrections)
    }

    fn fit(&self, records: &[Record], corrections: bool) -> usize {
        self.0.fit(records, corrections)
    }

    fn send(&mut self, batch: &Batch<'_>) -> impl Future<Output = Outcome> + Send {
        self.0.send(batch)
    }

    fn revision(&self) -> Option<String> {
        self.0.revision()
    }
}

pub async fn i9_one_poisoned_event_in_500_is_quarantined_and_499_arrive_with_bounded_requests<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    rig.refuse_poison();
    let (good, bad) = world.poisoned(500, &[333]).await;
    let relay = world.relay(rig.sink()).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (499, 1));
    assert_once(&rig, &good);
    let (rows, _) = portero::deliver::Sink::limits(&rig.sink());
    // The other batches, and for the poisoned one the whole and two halves a level.
    let n = rows.min(500);
    let bound = 500usize.div_ceil(rows) as u64 + 2 * u64::from(n.next_power_of_two().trailing_zeros()) + 1;
    assert!(relay.sends() <= bound, "{} sends, at most {bound}", relay.sends());
    let quarantined = world.journal.quarantined(Some("far".to_owned()), 10).await.unwrap();
    assert_eq!(quarantined.iter().map(|q| q.record.event.id.to_string()).collect::<Vec<_>>(), bad);
    assert!(quarantined[0].attempts >= 1 && !quarantined[0].reason.is_empty());
}

pub async fn several_poisoned_events_are_each_quarantined_with_the_sinks_own_words<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    rig.refuse_poison();
    let (good, bad) = world.poisoned(60, &[0, 1, 30, 59]).await;
    let relay = world.relay(rig.sink()).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (56, 4));
    assert_once(&rig, &good);
    let quarantined = world.journal.quarantined(None, 10).await.unwrap();
    assert_eq!(quarantined.len(), bad.len());
    for q in quarantined {
        assert!(q.answer.contains("refused") || q.answer.contains("not_poisoned"), "{}", q.answer);
        assert!(q.answer.len() <= 1024);
    }
    relay.stop().await;
}

pub async fn a_quarantined_event_is_delivered_once_it_is_released<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    rig.refuse_poison();
    let (mut ids, bad) = world.poisoned(10, &[4]).await;
    let _relay = world.relay(rig.sink()).await;
    world.drained("far").await;
    rig.mend();
    assert_eq!(world.journal.release("far".to_owned(), None).await.unwrap(), 1);
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (10, 0));
    ids.extend(bad);
    assert_once(&rig, &ids);
}

pub async fn our_own_fault_keeps_everything_and_is_over_once_it_is_mended<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    rig.lock_us_out();
    let ids = world.punches(30).await;
    let relay = world.relay(rig.sink()).await;
    relay.until_state("blocked").await;
    assert!(relay.error().contains(' '), "{}", relay.error());
    let stats = world.stats("far").await;
    assert_eq!((stats.pending, stats.quarantined), (30, 0));
    rig.mend();
    world.drained("far").await;
    assert_once(&rig, &ids);
    relay.until_state("idle").await;
    assert_eq!(relay.error(), "");
}

pub async fn a_sink_that_is_down_and_comes_back_gets_everything<R: Rig>() {
    let (world, mut rig) = (World::new().await, R::start().await);
    let relay = world.relay(rig.sink()).await;
    let mut ids = world.punches(20).await;
    world.drained("far").await;
    for _ in 0..2 {
        rig.down();
        ids.extend(world.punches(250).await);
        relay.until_state("retrying").await;
        assert_eq!(world.stats("far").await.quarantined, 0);
        rig.up();
        world.drained("far").await;
    }
    assert_once(&rig, &ids);
}

pub async fn a_sink_that_never_answers_is_given_up_in_time_and_tried_again<R: Rig>() {
    let (world, rig) = (World::new().await, R::start().await);
    let relay = world.relay(rig.sink_with(Duration::from_millis(500))).await;
    let mut ids = world.punches(5).await;
    world.drained("far").await;
    rig.fall_silent();
    ids.extend(world.punches(5).await);
    relay.until_state("retrying").await;
    rig.mend();
    world.drained("far").await;
    assert_once(&rig, &ids);
}

pub async fn i2_a_relay_killed_at_random_moments_loses_and_doubles_nothing<R: Rig>() {
    let (mut world, rig) = (World::new().await, R::start().await);
    let random = std::cell::RefCell::new(fastrand::Rng::with_seed(7));
    let mut ids = Vec::new();
    for round in 0..12 {
        ids.extend(world.punches(150).await);
        let relay = world.relay(rig.sink()).await;
        let wanted = random.borrow_mut().u64(1..4);
        eventually_async("some batches have been sent", DEADLINE, || async {
            relay.sends() >= wanted || world.stats("far").await.pending == 0
        })
        .await;
        relay.kill().await;
        if round % 3 == 2 {
            world.reopen().await;
        }
    }
    let _relay = world.relay(rig.sink()).await;
    let stats = world.drained("far").await;
    assert_eq!(stats.delivered, ids.len() as u64);
    assert_once(&rig, &ids);
}

pub async fn corrections_are_delivered_as_records_of_their_own<R: Rig>() {
    let (world, rig) = (World::without_clock().await, R::start().await);
    let relay = world.relay(rig.sink()).await;
    let mut ids = world.punches(7).await;
    world.drained("far").await;
    world.synchronise();
    eventually_async("the clock is right", DEADLINE, || async { world.clock.now().synchronised }).await;
    world.journal.anchor_clock(world.clock.now()).await.unwrap();
    eventually_async("the corrections arrive", DEADLINE, || async {
        world.stats("far").await.corrections_pending == 0 && rig.corrected().len() == 7
    })
    .await;
    let mut corrected = rig.corrected();
    corrected.sort();
    ids.sort();
    assert_eq!(corrected, ids);
    assert_once(&rig, &ids);
    let stats = world.stats("far").await;
    assert_eq!((stats.appended, stats.delivered), (7, 7), "a correction is never counted as an event");
    relay.stop().await;
}

pub async fn shutdown_ends_a_relay_that_waits<R: Rig>() {
    let (world, mut rig) = (World::new().await, R::start().await);
    let idle = world.relay(rig.sink()).await;
    world.punches(1).await;
    world.drained("far").await;
    idle.stop().await;
    rig.down();
    world.punches(1).await;
    let retrying = world.relay(rig.sink()).await;
    retrying.until_state("retrying").await;
    retrying.stop().await;
    // What it had is still there.
    let stats = world.stats("far").await;
    assert_eq!((stats.pending, stats.delivered), (1, 1));
}
