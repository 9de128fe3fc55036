//! A change of mapping or rules: what the old one refused goes out once more, and one that fits nothing stops the sink
//! before it has set aside a whole backlog.

use std::sync::Arc;

use portero::event::{Event, Punch};

use crate::mapping::sink;
use crate::support::{Behaviour, DEADLINE, Reply, VendorApi, eventually_async};
use crate::world::World;

/// A mapping that names the person in a field of this name.
fn named(field: &str, batch: usize) -> String {
    format!("batch = {batch}\n[sink.map]\nevent_id = \"/event_id\"\n{field} = \"/person/external_id\"\n")
}

/// Takes only events with this field.
fn wants(field: &'static str) -> Behaviour {
    Behaviour::RejectIf(Arc::new(move |event| event.get(field).is_none()))
}

async fn blocked_after_twenty(world: &World) {
    eventually_async("the sink is blocked", DEADLINE, || async {
        let stats = world.stats("far").await;
        stats.quarantined >= 20 && stats.quarantined + stats.pending == 300
    })
    .await;
    let stats = world.stats("far").await;
    assert_eq!((stats.delivered, stats.quarantined, stats.pending), (0, 20, 280));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_mapping_stops_after_twenty_refusals_and_the_right_one_heals_them() {
    for batch in [1, 64] {
        let (world, vendor) = (World::new().await, VendorApi::start(wants("worker")));
        let ids = world.punches(300).await;
        let relay = world.relay(sink(&world, &vendor, &named("employee", batch))).await;
        relay.until_state("blocked").await;
        blocked_after_twenty(&world).await;
        assert!(relay.error().contains("the first 20 events under this mapping"), "{}", relay.error());
        relay.stop().await;

        // Also over a restart: not one more is set aside.
        let relay = world.relay(sink(&world, &vendor, &named("employee", batch))).await;
        relay.until_state("blocked").await;
        blocked_after_twenty(&world).await;
        relay.stop().await;

        let relay = world.relay(sink(&world, &vendor, &named("worker", batch))).await;
        assert_eq!(world.drained("far").await.delivered, 300);
        relay.stop().await;
        let oracle = vendor.oracle();
        assert!(oracle.doubled().is_empty() && ids.iter().all(|id| oracle.stored.get(id) == Some(&1)));
        let quarantined = world.stats("far").await.quarantined;
        assert_eq!(quarantined, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_that_can_map_nothing_stops_as_well() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let events: Vec<Event> = (0..300)
        .map(|_| {
            let mut event = world.event(None);
            event.reading.punch = Some(Punch::BreakIn);
            event
        })
        .collect();
    world.append(&events).await;
    let wrong = "batch = 64\n[sink.map]\nevent_id = \"/event_id\"\n\
                 way = { from = \"/punch\", map = { in = \"IN\", out = \"OUT\" } }\n";
    let relay = world.relay(sink(&world, &vendor, wrong)).await;
    relay.until_state("blocked").await;
    blocked_after_twenty(&world).await;
    assert_eq!(relay.sends(), 0);
    relay.stop().await;
    let right = wrong.replace("out = \"OUT\"", "out = \"OUT\", break_in = \"PAUSE\"");
    let _relay = world.relay(sink(&world, &vendor, &right)).await;
    assert_eq!(world.drained("far").await.delivered, 300);
    assert!(vendor.oracle().doubled().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_delivery_proves_a_mapping_and_later_refusals_are_the_events_own() {
    let (world, vendor) = (World::new().await, VendorApi::start(wants("worker")));
    world.punches(1).await;
    let keys = named("worker", 1);
    let relay = world.relay(sink(&world, &vendor, &keys)).await;
    assert_eq!(world.drained("far").await.delivered, 1);
    vendor.behave(Behaviour::Custom(Arc::new(|_| Reply::refuse(422))));
    world.punches(50).await;
    assert_eq!(world.drained("far").await.quarantined, 50);
    relay.stop().await;
    // The same mapping after a restart: proven before, and nothing of what it refused is tried again.
    vendor.behave(Behaviour::Ok);
    let _relay = world.relay(sink(&world, &vendor, &keys)).await;
    world.punches(1).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (2, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_refuses_a_whole_batch_item_by_item_sets_no_more_than_twenty_aside() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|request| {
        let bad: Vec<&str> = request.events().iter().map(|_| r#"{"error":"no such field"}"#).collect();
        Reply::new(400, format!("[{}]", bad.join(",")), 0)
    })));
    world.punches(300).await;
    let keys = "batch = 300\n[sink.map]\nevent_id = \"/event_id\"\n[sink.items]\nat = \"\"\nkey = \"index\"\n\
                [[sink.items.answer]]\nwhen = { \"/error\" = { exists = true } }\nverdict = \"reject\"\nreason = \"/error\"\n";
    let relay = world.relay(sink(&world, &vendor, keys)).await;
    relay.until_state("blocked").await;
    blocked_after_twenty(&world).await;
}
