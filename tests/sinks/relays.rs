//! What a relay does whatever its sink is: the batch in flight, independence, a server that falls over.

use std::sync::Arc;
use std::time::Duration;

use crate::rigs::{Api, Central, Rig, TIMEOUT, api_config};
use crate::support::{Behaviour, DEADLINE, Reply, VendorApi, eventually_async};
use crate::world::{World, flight};

fn delayed() -> Behaviour {
    Behaviour::Custom(Arc::new(|_| Reply { delay: Duration::from_secs(3600), ..Reply::ok() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_after_a_restart_the_batch_in_flight_goes_out_with_the_same_key_and_bytes() {
    let (mut world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(delayed());
    let mut ids = world.punches(40).await;
    let relay = world.relay(rig.sink()).await;
    eventually_async("the batch is on its way", DEADLINE, || async { rig.0.request_count() == 1 }).await;
    assert_eq!(flight(&world, "far").await.map(|f| f.seqs.len()), Some(40), "on disk before the first byte left");
    relay.kill().await;
    world.reopen().await;
    // More has arrived meanwhile: a batch composed anew would look different.
    ids.extend(world.punches(5).await);
    rig.mend();
    let _relay = world.relay(rig.sink()).await;
    let stats = world.drained("far").await;
    assert_eq!(stats.delivered, 45);
    let requests = rig.0.requests();
    assert_eq!(requests[0].key, requests[1].key);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[2].event_ids.len(), 5);
    let received = rig.received();
    assert!(ids.iter().all(|id| received.get(id) == Some(&1)));
    assert_eq!(flight(&world, "far").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_batch_in_flight_that_is_refused_after_a_restart_is_split_into_batches_of_their_own_keys() {
    let (mut world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(delayed());
    let (good, bad) = world.poisoned(8, &[5]).await;
    let relay = world.relay(rig.sink()).await;
    eventually_async("the batch is on its way", DEADLINE, || async { rig.0.request_count() == 1 }).await;
    relay.kill().await;
    world.reopen().await;
    let rejecting = Api(VendorApi::start(Behaviour::Ok));
    rejecting.refuse_poison();
    let _relay = world.relay(rejecting.sink()).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (7, 1));
    assert_eq!(rejecting.0.requests()[0].key, rig.0.requests()[0].key);
    let received = rejecting.received();
    assert!(good.iter().all(|id| received.contains_key(id)) && !received.contains_key(&bad[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_event_needs_no_row_since_its_key_is_its_id() {
    let (world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(delayed());
    let ids = world.punches(1).await;
    let relay = world.relay(rig.sink()).await;
    eventually_async("the event is on its way", DEADLINE, || async { rig.0.request_count() == 1 }).await;
    assert_eq!(flight(&world, "far").await, None);
    assert_eq!(rig.0.requests()[0].key.as_deref(), Some(ids[0].as_str()));
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_lone_event_with_provisional_times_keeps_its_bytes_over_a_restart_and_a_right_clock() {
    let (mut world, rig) = (World::without_clock().await, Api::start().await);
    rig.0.behave(delayed());
    let ids = world.punches(1).await;
    let relay = world.relay(rig.sink()).await;
    eventually_async("the event is on its way", DEADLINE, || async { rig.0.request_count() == 1 }).await;
    relay.kill().await;
    world.reopen().await;
    world.synchronise();
    eventually_async("the clock is right", DEADLINE, || async { world.clock.now().synchronised }).await;
    world.journal.anchor_clock(world.clock.now()).await.unwrap();
    rig.mend();
    let _relay = world.relay(rig.sink()).await;
    eventually_async("the correction arrives", DEADLINE, || async { rig.corrected() == ids }).await;
    let requests = rig.0.requests();
    assert_eq!((&requests[0].key, &requests[0].body), (&requests[1].key, &requests[1].body));
    assert_eq!(requests[2].events()[0]["kind"], "correction");
    assert_eq!(rig.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_an_event_that_left_alone_leaves_alone_again_after_a_restart_whatever_came_since() {
    let (mut world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(delayed());
    let first = world.punches(1).await;
    let relay = world.relay(rig.sink()).await;
    eventually_async("the event is on its way", DEADLINE, || async { rig.0.request_count() == 1 }).await;
    relay.kill().await;
    world.reopen().await;
    let later = world.punches(20).await;
    rig.mend();
    let _relay = world.relay(rig.sink()).await;
    assert_eq!(world.drained("far").await.delivered, 21);
    let requests = rig.0.requests();
    assert_eq!((&requests[0].key, &requests[0].body), (&requests[1].key, &requests[1].body));
    assert_eq!(rig.received().len(), first.len() + later.len());
    assert!(rig.0.oracle().doubled().is_empty(), "an event under two idempotency keys");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_sink_that_hangs_does_not_hold_up_the_other() {
    let (world, vendor, central) = (World::new().await, Api::start().await, Central::start().await);
    vendor.fall_silent();
    // Longer than this test may take: whoever waited for the vendor would wait for ever.
    let config = api_config(vendor.0.url(), 100, 10 * DEADLINE);
    let hanging = portero::deliver::api::Api::new("vendor", config, world.clock.clone()).unwrap();
    let hanging = world.relay(hanging).await;
    let _flowing = world.relay(central.sink()).await;
    let ids = world.punches(3000).await;
    eventually_async("the vendor hangs", DEADLINE, || async { vendor.0.request_count() == 1 }).await;
    let stats = world.drained("far").await;
    assert_eq!(stats.delivered, 3000);
    assert_eq!(world.stats("vendor").await.pending, 3000);
    vendor.mend();
    hanging.kill().await;
    let _mended = world.relay(vendor_again(&vendor, &world)).await;
    assert_eq!(world.drained("vendor").await.delivered, 3000);
    assert!(vendor.received().values().all(|n| *n == 1));
    assert_eq!(vendor.received().len(), ids.len());
}

fn vendor_again(vendor: &Api, world: &World) -> portero::deliver::api::Api {
    let config = api_config(vendor.0.url(), 100, TIMEOUT);
    portero::deliver::api::Api::new("vendor", config, world.clock.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_falls_over_in_the_middle_loses_and_doubles_nothing() {
    let (world, mut central) = (World::new().await, Central::start().await);
    let relay = world.relay(central.sink()).await;
    let mut ids = Vec::new();
    for crash in 1..=3u64 {
        let before = relay.sends();
        for _ in 0..4 {
            ids.extend(world.punches(2500).await);
        }
        eventually_async("batches are on their way", DEADLINE, || async { relay.sends() > before + crash }).await;
        central.down();
        central.up();
    }
    let stats = world.drained("far").await;
    assert_eq!(stats.delivered, ids.len() as u64);
    let received = central.received();
    assert!(ids.iter().all(|id| received.get(id) == Some(&1)));
    assert_eq!(received.len(), ids.len());
}
