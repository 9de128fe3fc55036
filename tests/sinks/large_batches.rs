//! Large batches go to PostgreSQL by binary COPY: as idempotent, as safe from poison and as careful with a pooler as small ones.

use std::sync::Arc;

use portero::deliver::{Outcome, Sink as _, StatusBoard, Verdict, postgres};
use portero::tls::TlsMode;

use crate::pooler::Pooler;
use crate::rigs::{Central, Rig, TIMEOUT, server};
use crate::support::{DEADLINE, Postgres, eventually_async};
use crate::world::{World, record, send};

fn delivered(n: usize) -> Outcome {
    Outcome::Settled(vec![Verdict::Delivered; n])
}

/// From now on the server writes down, for each statement that inserts events, whether it came by the temporary table.
fn watch(server: &Postgres) {
    server.psql(
        "CREATE TABLE public.seen (at bigserial, copied boolean); \
         GRANT INSERT ON public.seen TO PUBLIC; GRANT USAGE ON SEQUENCE public.seen_at_seq TO PUBLIC; \
         CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
           INSERT INTO public.seen (copied) SELECT EXISTS (SELECT FROM pg_class WHERE relname = ''portero_batch'' \
             AND relnamespace = pg_my_temp_schema()); RETURN NULL; END'; \
         CREATE TRIGGER look AFTER INSERT ON portero.event FOR EACH STATEMENT EXECUTE FUNCTION public.look()",
    );
}

fn copied(server: &Postgres) -> Vec<String> {
    server.psql("SELECT copied FROM public.seen ORDER BY at").lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_read_in_turns_that_reach_the_copy_and_small_batches_go_by_arrays() {
    let (world, central) = (World::new().await, Central::start().await);
    watch(&central.server);
    world.punches(4100).await;
    let relay = world.relay(central.sink()).await;
    world.drained("far").await;
    assert_eq!((relay.sends(), copied(&central.server)), (3, vec!["t".to_owned(), "t".to_owned(), "f".to_owned()]));
    assert_eq!(central.received().len(), 4100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_bounded_in_bytes_too() {
    let (world, central) = (World::new().await, Central::start().await);
    let mut events = Vec::new();
    for _ in 0..300 {
        let mut event = world.event(None);
        event.reading.vendor_subcode = Some((0..8000).map(|_| fastrand::alphanumeric()).collect());
        events.push(event);
    }
    world.append(&events).await;
    let (rows, bytes) = central.sink().limits();
    let state = world.journal.sink("far", portero::journal::Start::All).await.unwrap();
    let turn = world.journal.read_after(state.id, state.position, rows, bytes).await.unwrap();
    assert!(turn.len() < 300 && turn.len() > 50, "{} events in a turn", turn.len());
    let _relay = world.relay(central.sink()).await;
    assert_eq!(world.drained("far").await.delivered, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_large_batch_that_comes_again_doubles_nothing_and_overwrites_nothing() {
    let (world, central) = (World::new().await, Central::start().await);
    watch(&central.server);
    let records: Vec<_> = (1..=2500).map(|seq| record(seq, world.event(None))).collect();
    let mut sink = central.sink();
    for _ in 0..3 {
        assert_eq!(send(&mut sink, &records).await, delivered(2500));
    }
    // Half of it is new.
    let mut more = records[1250..].to_vec();
    more.extend((2501..=3750).map(|seq| record(seq, world.event(None))));
    assert_eq!(send(&mut sink, &more).await, delivered(2500));
    assert_eq!(copied(&central.server), vec!["t"; 4]);
    assert_eq!(central.received().len(), 3750);
    assert!(central.received().values().all(|n| *n == 1));
    assert_eq!(central.server.psql("SELECT count(*) FROM portero.conflict"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_lost_answer_to_a_large_batch_doubles_nothing() {
    let (world, central) = (World::new().await, Central::start().await);
    central.lose_answers();
    world.punches(9000).await;
    let relay = world.relay(central.sink()).await;
    assert_eq!(world.drained("far").await.delivered, 9000);
    assert!(relay.sends() > 5, "{} sends", relay.sends());
    let received = central.received();
    assert_eq!(received.len(), 9000);
    assert!(received.values().all(|n| *n == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_poison_in_a_large_batch_is_found_by_halves_and_the_rest_is_delivered() {
    let (world, central) = (World::new().await, Central::start().await);
    watch(&central.server);
    central.refuse_poison();
    let (good, bad) = world.poisoned(2000, &[0, 1234, 1999]).await;
    let relay = world.relay(central.sink()).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (1997, 3));
    let received = central.received();
    assert!(good.iter().all(|id| received.get(id) == Some(&1)) && received.len() == 1997);
    // The whole, and for each poison two halves a level, of which they share some.
    assert!(relay.sends() <= 1 + 3 * 2 * 11, "{} sends", relay.sends());
    let quarantined = world.journal.quarantined(Some("far".to_owned()), 10).await.unwrap();
    assert_eq!(quarantined.iter().map(|q| q.record.event.id.to_string()).collect::<Vec<_>>(), bad);
    assert!(quarantined.iter().all(|q| q.answer.contains("not_poisoned")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_recorded_and_raised_whichever_way_the_batch_went() {
    let (world, central) = (World::new().await, Central::start().await);
    let board = StatusBoard::default();
    let mut sink = postgres::Postgres::new("far", &central.config(TIMEOUT), "00ff", world.clock.clone())
        .unwrap()
        .with_board(board.clone());
    let first: Vec<_> = (1..=1500).map(|seq| record(seq, world.event(None))).collect();
    assert_eq!(send(&mut sink, &first).await, delivered(1500));
    let mut second = first.clone();
    // Of another person, another direction, another outcome; one merely knows less, which is no conflict.
    second[3].event.reading.person.terminal_person_id = Some("someone else".to_owned());
    second[700].event.reading.punch = Some(portero::event::Punch::Out);
    first.iter().enumerate().filter(|(i, _)| *i == 700).for_each(|(_, r)| {
        assert_eq!(r.event.reading.punch, Some(portero::event::Punch::In));
    });
    second[1499].event.reading.person.terminal_person_id = None;
    for _ in 0..2 {
        assert_eq!(send(&mut sink, &second).await, delivered(1500));
    }
    let conflicts = || central.server.psql("SELECT event_id FROM portero.conflict ORDER BY event_id");
    let mut expected = vec![first[3].event.id.to_string(), first[700].event.id.to_string()];
    expected.sort();
    assert_eq!(conflicts().lines().collect::<Vec<_>>(), expected);
    assert_eq!(board.read()[0].conflicts, 2);
    // The same by arrays.
    let mut third = first[10].clone();
    third.event.reading.person.terminal_person_id = Some("a third".to_owned());
    assert_eq!(send(&mut sink, &[third]).await, delivered(1));
    assert_eq!(conflicts().lines().count(), 3);
    assert_eq!(board.read()[0].conflicts, 3);
    // Nothing was overwritten, and both versions are there to look at.
    assert_eq!(central.server.psql("SELECT count(*) FROM portero.event WHERE person = 'someone else'"), "0");
    let both = central.server.psql(
        "SELECT stored #>> '{person,terminal_person_id}' <> refused #>> '{person,terminal_person_id}', gateway_id \
         FROM portero.conflict WHERE refused #>> '{person,terminal_person_id}' = 'a third'",
    );
    assert_eq!(both, "t|gw-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_transaction_mode_pooler_a_large_batch_is_idempotent_and_poison_is_found() {
    let server = server().await;
    watch(&server);
    server.psql("ALTER TABLE portero.event ADD CONSTRAINT not_poisoned CHECK (person IS DISTINCT FROM 'poison')");
    let pooler = Pooler::start(server.port);
    let config = postgres::Config {
        url: format!("postgresql://gateway@127.0.0.1:{}/attendance", pooler.port),
        password: None,
        batch: 2000,
        tls: TlsMode::Disable,
        ca_file: None,
        timeout: TIMEOUT,
    };
    let world = Arc::new(World::new().await);
    let records: Vec<_> = (1..=2000).map(|seq| record(seq, world.event(None))).collect();
    // Two clients at a time on one server connection.
    let mut sinks: Vec<_> =
        (0..2).map(|_| postgres::Postgres::new("far", &config, "00ff", world.clock.clone()).unwrap()).collect();
    for _ in 0..2 {
        let (left, right) = sinks.split_at_mut(1);
        let (one, two) = tokio::join!(send(&mut left[0], &records), send(&mut right[0], &records));
        assert_eq!((one, two), (delivered(2000), delivered(2000)));
    }
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), "2000");
    let (good, _) = world.poisoned(2000, &[1500]).await;
    let relay = world.relay(sinks.remove(0)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (good.len() as u64, 1));
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), "3999");
    eventually_async("the relay rests", DEADLINE, || async { relay.state() == "idle" }).await;
    assert!(copied(&server).iter().filter(|c| *c == "t").count() >= 5);
}
