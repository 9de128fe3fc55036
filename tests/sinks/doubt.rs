//! Lost answers at sinks where sending again could double an event: looked up first, or held for a person.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portero::deliver::filter::{Filter, Filtered};
use portero::deliver::{ANSWER_LOST, UnknownPerson, api};

use crate::answers::configured;
use crate::support::{Behaviour, DEADLINE, Reply, Request, VendorApi, eventually_async};
use crate::world::{World, flight};

const LOOKUP: &str = r#"
on_ambiguous = "lookup"
lookup = { path = "/lookup?id={/event_id}", match = { "/event_id" = "/event_id" }, remote_id = "/id" }
answer = [{ status = [201], verdict = "delivered", remote_id = "/id" }]
"#;

const HOLD: &str = r#"
on_ambiguous = "hold"
answer = [{ status = [201], verdict = "delivered" }, { status = [422], verdict = "reject" }]
"#;

/// A vendor without any idea of idempotency: every POST is another record, and it can be asked.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<HashMap<String, u32>>>);

impl Ledger {
    fn store(&self, request: &Request) {
        let mut stored = self.0.lock().unwrap();
        for event in request.events() {
            *stored.entry(event["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }

    /// Whoever has been stored answers the look-up.
    fn found(&self, request: &Request) -> Option<Reply> {
        let id = request.path.strip_prefix("/lookup?id=")?;
        let found = if self.0.lock().unwrap().contains_key(id) {
            format!(r#"[{{"id":1,"event_id":"another"}},{{"id":2,"event_id":"{id}"}}]"#)
        } else {
            "[]".to_owned()
        };
        Some(Reply::new(200, found, 0))
    }

    fn counts(&self) -> HashMap<String, u32> {
        self.0.lock().unwrap().clone()
    }

    fn behaviour(&self, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Behaviour {
        let ledger = self.clone();
        Behaviour::Custom(Arc::new(move |request| match ledger.found(request) {
            Some(reply) => reply,
            None => {
                let reply = answer(request);
                if reply.store > 0 {
                    ledger.store(request);
                }
                reply
            }
        }))
    }
}

/// As the gateway makes it: behind a filter, which must pass on what the sink says of lost answers.
fn sink(text: &str, vendor: &VendorApi, world: &World) -> Filtered<api::Api> {
    let config = configured(text, &vendor.url(), world.dir.path());
    Filtered::new(
        api::Api::new("far", config, world.clock.clone()).unwrap(),
        Filter::default(),
        UnknownPerson::Send,
        false,
    )
}

fn stored() -> Reply {
    Reply::new(201, r#"{"id":7}"#, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_send_and_settle_fifty_times_a_vendor_that_can_be_asked_has_nothing_twice() {
    let mut world = World::new().await;
    let ledger = Ledger::default();
    let vendor = VendorApi::start(ledger.behaviour(|_| stored()));
    let mut ids = Vec::new();
    for round in 0..50 {
        let late = Duration::from_secs(3600);
        // Every other time the record is stored and the answer is late; else the request dies unstored.
        if round % 2 == 0 {
            vendor.behave(ledger.behaviour(move |_| Reply { delay: late, ..stored() }));
        } else {
            vendor.behave(ledger.behaviour(move |_| Reply { delay: late, store: 0, ..stored() }));
        }
        ids.extend(world.punches(if round % 5 == 4 { 3 } else { 1 }).await);
        let posts = || vendor.requests().iter().filter(|r| !r.path.starts_with("/lookup")).count();
        let before = posts();
        let relay = world.relay(sink(LOOKUP, &vendor, &world)).await;
        eventually_async("a request is on its way", DEADLINE, || async { posts() > before }).await;
        assert!(flight(&world, "far").await.is_some(), "on disk before the first byte left, even a lone event");
        relay.kill().await;
        if round % 7 == 0 {
            world.reopen().await;
        }
    }
    vendor.behave(ledger.behaviour(|_| stored()));
    let _relay = world.relay(sink(LOOKUP, &vendor, &world)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (ids.len() as u64, 0));
    let counts = ledger.counts();
    let doubled: Vec<_> = counts.iter().filter(|(_, n)| **n != 1).collect();
    assert_eq!((counts.len(), doubled), (ids.len(), vec![]));
    assert_eq!(flight(&world, "far").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_is_looked_up_one_by_one_and_only_the_rest_is_sent_again() {
    let world = World::new().await;
    let ledger = Ledger::default();
    let first = std::sync::atomic::AtomicBool::new(true);
    let half = ledger.clone();
    // Of the first batch two were stored, then the connection broke.
    let vendor = VendorApi::start(ledger.behaviour(move |request| {
        if !first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return stored();
        }
        let mut part = request.clone();
        let events = request.events();
        part.body = serde_json::to_vec(&events[..2]).unwrap().into();
        half.store(&part);
        Reply { store: 0, ..Reply::drop_after_storing() }
    }));
    let ids = world.punches(5).await;
    let relay = world.relay(sink(&format!("batch = 5\n{LOOKUP}"), &vendor, &world)).await;
    assert_eq!(world.drained("far").await.delivered, 5);
    assert!(ledger.counts().values().all(|n| *n == 1) && ledger.counts().len() == ids.len());
    let posts: Vec<usize> =
        vendor.requests().iter().filter(|r| !r.path.starts_with("/lookup")).map(|r| r.event_ids.len()).collect();
    assert_eq!(posts, [5, 3]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_look_up_fails_nothing_is_sent() {
    let world = World::new().await;
    let ledger = Ledger::default();
    let store = ledger.clone();
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |request| {
        if request.path.starts_with("/lookup") {
            return Reply::refuse(503);
        }
        store.store(request);
        Reply::new(504, "", 1)
    })));
    world.punches(1).await;
    let relay = world.relay(sink(LOOKUP, &vendor, &world)).await;
    eventually_async("it is asked again and again", DEADLINE, || async {
        vendor.requests().iter().filter(|r| r.path.starts_with("/lookup") && r.status == 503).count() > 2
    })
    .await;
    assert_eq!(world.stats("far").await.pending, 1);
    vendor.behave(ledger.behaviour(|_| stored()));
    assert_eq!(world.drained("far").await.delivered, 1);
    assert_eq!(ledger.counts().values().collect::<Vec<_>>(), [&1]);
    assert_eq!(vendor.requests().iter().filter(|r| !r.path.starts_with("/lookup")).count(), 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_cannot_tell_has_its_lost_answers_held_for_a_person() {
    let mut world = World::new().await;
    let ledger = Ledger::default();
    let vendor = VendorApi::start(ledger.behaviour(|_| Reply::drop_after_storing()));
    world.punches(1).await;
    let relay = world.relay(sink(HOLD, &vendor, &world)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.quarantined, stats.delivered, vendor.request_count()), (1, 0, 1));
    let quarantined = world.journal.quarantined(None, 5).await.unwrap();
    assert_eq!(quarantined[0].reason, ANSWER_LOST);
    relay.stop().await;

    // A restart with a lone event on its way is a lost answer too.
    let slow = ledger.behaviour(|_| Reply { delay: Duration::from_secs(3600), ..stored() });
    vendor.behave(slow);
    world.punches(1).await;
    let relay = world.relay(sink(HOLD, &vendor, &world)).await;
    eventually_async("the event is on its way", DEADLINE, || async { vendor.request_count() == 2 }).await;
    relay.kill().await;
    world.reopen().await;
    vendor.behave(ledger.behaviour(|_| stored()));
    let relay = world.relay(sink(HOLD, &vendor, &world)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.quarantined, vendor.request_count()), (2, 2));
    assert!(ledger.counts().values().all(|n| *n == 1));

    // What a person releases is sent.
    ledger.0.lock().unwrap().clear();
    assert_eq!(world.journal.release("far".to_owned(), None).await.unwrap(), 2);
    let stats = world.drained("far").await;
    assert_eq!((stats.quarantined, stats.delivered), (0, 2));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_surely_never_arrived_is_neither_looked_up_nor_held() {
    for text in [LOOKUP, HOLD] {
        let world = World::new().await;
        let ledger = Ledger::default();
        let mut vendor = VendorApi::start(ledger.behaviour(|_| stored()));
        vendor.stop();
        world.punches(2).await;
        let relay = world.relay(sink(text, &vendor, &world)).await;
        relay.until_state("retrying").await;
        // Not even when the gateway stops meanwhile.
        relay.stop().await;
        assert_eq!(flight(&world, "far").await.is_none(), text == HOLD);
        let relay = world.relay(sink(text, &vendor, &world)).await;
        relay.until_state("retrying").await;
        vendor.behave(ledger.behaviour(|_| Reply::refuse(503)));
        vendor.start_again();
        eventually_async("it was refused", DEADLINE, || async { vendor.request_count() > 1 }).await;
        vendor.behave(ledger.behaviour(|_| stored()));
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (2, 0));
        if text == HOLD {
            assert!(ledger.counts().values().all(|n| *n == 1));
        }
        relay.stop().await;
    }
}
