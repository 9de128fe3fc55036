//! How fast and in which order a relay sends, over real connections and restarts; long outages are in `simulated.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use portero::deliver::gate::Gate;
use portero::deliver::relay::{Flow, Order};
use portero::deliver::{Sink as _, StatusBoard};
use portero::journal::Start;
use tokio::time::Instant;

use crate::mapping;
use crate::rigs::{Api, Central, LoneApi, Rig, api_config};
use crate::support::{Behaviour, DEADLINE, Reply, VendorApi, eventually_async};
use crate::world::{self, World};

const LIVE_FIRST: Flow = Flow { order: Order::LiveFirst, requests_per_minute: None, catch_up_per_minute: None };

type Headers<'h> = &'h [(&'static str, &'h str)];

/// What the gate says after one lone event was answered so.
async fn after(headers: Headers<'_>) -> Option<u64> {
    let world = World::new().await;
    let headers: Vec<(&'static str, String)> = headers.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    let vendor =
        VendorApi::start(Behaviour::Custom(Arc::new(move |_| Reply { headers: headers.clone(), ..Reply::ok() })));
    let config = api_config(vendor.url(), 1, DEADLINE);
    let mut sink = portero::deliver::api::Api::new("far", config, world.clock.clone()).unwrap();
    let gate = Gate::default();
    sink.gate(gate.clone());
    world::send(&mut sink, &[world::record(1, world.event(None))]).await;
    gate.delay(Instant::now()).map(|(delay, _)| delay.as_secs_f64().ceil() as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_limit_closes_the_gate_before_the_first_429() {
    let in_40_seconds = (portero::clock::Clock::new(portero::clock::SyncSource::Trusted).now().wall.0 / 1_000_000) + 40;
    let epoch = in_40_seconds.to_string();
    let wished: [(Headers<'_>, std::ops::RangeInclusive<u64>); 6] = [
        (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "30")], 29..=30),
        (&[("RateLimit", "\"default\";r=0;t=30")], 29..=30),
        (&[("RateLimit", "\"minute\";r=5;t=10, \"day\";r=0;t=90")], 89..=90),
        (&[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "7")], 6..=7),
        (&[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", &epoch)], 20..=41),
        (&[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "86400")], 299..=300),
    ];
    for (headers, expected) in wished {
        let delay = after(headers).await;
        assert!(delay.is_some_and(|d| expected.contains(&d)), "{headers:?}: {delay:?}");
    }
    assert_eq!(after(&[("ratelimit-remaining", "1"), ("ratelimit-reset", "30")]).await, None);
    assert_eq!(after(&[("ratelimit-reset", "30")]).await, None);
    assert_eq!(after(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "soon")]).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_waits_for_the_reset_and_says_so() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let used_up = |_: &_| Reply::ok().header("RateLimit-Remaining", "0").header("RateLimit-Reset", "200");
    vendor.behave(Behaviour::Custom(Arc::new(used_up)));
    world.punches(150).await;
    let sink = portero::deliver::api::Api::new("far", api_config(vendor.url(), 100, DEADLINE), world.clock.clone());
    let relay = world.relay(sink.unwrap()).await;
    relay.until_state("waiting").await;
    let status = relay.board.read().remove(0);
    assert_eq!(status.waits_for, Some("the sink says that its rate limit is used up"));
    assert!(status.next_try.is_some() && status.error.is_none(), "{status:?}");
    assert_eq!(vendor.request_count(), 1);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_counts_as_a_request() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|request| match request.path.as_str() {
        "/jobs/5" => Reply::new(200, r#"{"state":"done"}"#, 0),
        _ => Reply::new(202, r#"{"id":"5"}"#, 0),
    })));
    let keys = "poll = { path = \"/jobs/{id}\", interval_seconds = 1, deadline_seconds = 30, answer = [\n\
                { status = [200], verdict = \"delivered\" }] }\n\
                answer = [{ status = [202], verdict = \"pending\", remote_id = \"/id\" }]";
    let mut sink = mapping::sink(&world, &vendor, keys);
    // Two at once, the third one in seven seconds.
    let gate = Gate::new(Some(10));
    sink.gate(gate.clone());
    world::send(&mut sink, &[world::record(1, world.event(None))]).await;
    assert_eq!(vendor.request_count(), 2);
    assert!(gate.delay(Instant::now()).is_some(), "both were counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_retry_after_is_kept_over_a_restart() {
    let (mut world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    vendor.behave(Behaviour::Custom(Arc::new(|_| Reply::refuse(503).header("Retry-After", "600"))));
    world.punches(3).await;
    let sink = |world: &World| {
        portero::deliver::api::Api::new("far", api_config(vendor.url(), 100, DEADLINE), world.clock.clone()).unwrap()
    };
    let relay = world.relay(sink(&world)).await;
    eventually_async("it is kept", DEADLINE, || async {
        let setback = world.journal.sink("far", Start::All).await.unwrap().setback;
        setback.attempts == 1 && setback.wait > Duration::from_secs(500)
    })
    .await;
    relay.kill().await;
    world.reopen().await;
    let setback = world.journal.sink("far", Start::All).await.unwrap().setback;
    assert!(setback.wait > Duration::from_secs(500) && setback.wait <= Duration::from_secs(660), "{setback:?}");
    let relay = world.relay(sink(&world)).await;
    relay.until_state("retrying").await;
    eventually_async("it says until when", DEADLINE, || async { relay.board.read()[0].next_try.is_some() }).await;
    assert_eq!(vendor.request_count(), 1, "nothing is sent before the time is over");
    relay.stop().await;
    // Another boot, and a wall clock that was set back by years: no longer than the sink asked for.
    world.journal.close().await.unwrap();
    let file = rusqlite::Connection::open(&world.config.path).unwrap();
    let changed = "UPDATE setback SET until_wall = until_wall + 400000000000000, boot_id = zeroblob(16)";
    assert_eq!(file.execute(changed, []).unwrap(), 1);
    drop(file);
    world.journal = portero::journal::Journal::open(&world.config, world.clock.clone()).unwrap();
    let setback = world.journal.sink("far", Start::All).await.unwrap().setback;
    assert!(setback.wait > Duration::from_secs(500) && setback.wait <= Duration::from_secs(660), "{setback:?}");
}

/// What every rig of `live-first` must show: killed at random moments, nothing is lost, doubled, or sent in other bytes.
async fn killed_at_random<R: Rig>() {
    let (mut world, rig) = (World::new().await, R::start().await);
    let mut random = fastrand::Rng::with_seed(11);
    let mut ids = Vec::new();
    for round in 0..10 {
        // More than a queue: a backlog.
        ids.extend(world.punches(if round == 0 { 4500 } else { 130 }).await);
        let relay = world.relay_as(rig.sink(), StatusBoard::default(), LIVE_FIRST).await;
        let wanted = random.u64(1..6);
        for more in 0..3 {
            ids.extend(world.punches(3).await);
            eventually_async("batches have been sent", DEADLINE, || async {
                relay.sends() >= wanted * (more + 1) / 3 || world.stats("far").await.pending == 0
            })
            .await;
        }
        relay.kill().await;
        if round % 3 == 2 {
            world.reopen().await;
        }
    }
    let _relay = world.relay_as(rig.sink(), StatusBoard::default(), LIVE_FIRST).await;
    let stats = world.drained("far").await;
    assert_eq!(stats.delivered, ids.len() as u64);
    let received = rig.received();
    assert_eq!(received.len(), ids.len());
    assert!(ids.iter().all(|id| received.get(id) == Some(&1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_live_first_to_an_api_killed_at_random_moments_loses_and_doubles_nothing() {
    killed_at_random::<Api>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_live_first_to_postgresql_killed_at_random_moments_loses_and_doubles_nothing() {
    killed_at_random::<Central>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_events_overtake_a_backlog_which_is_marked_late_and_a_lone_one_keeps_its_bytes() {
    let mut world = World::new().await;
    // Holds the first request until we have seen what comes after.
    let (silent, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (hold, count) = (Arc::clone(&silent), Arc::clone(&seen));
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        match hold.load(Ordering::SeqCst) {
            true => Reply { delay: Duration::from_secs(3600), ..Reply::new(200, "", 0) },
            false => Reply::ok(),
        }
    })));
    let keys = "[sink.map]\nevent_id = \"/event_id\"\nlate = \"/late\"\n";
    let old = world.punches(150).await;
    let relay = world.relay_as(mapping::sink(&world, &vendor, keys), StatusBoard::default(), LIVE_FIRST).await;
    eventually_async("one is on its way", DEADLINE, || async { seen.load(Ordering::SeqCst) == 1 }).await;
    relay.kill().await;
    world.reopen().await;
    let new = world.punches(5).await;
    silent.store(false, Ordering::SeqCst);
    let relay = world.relay_as(mapping::sink(&world, &vendor, keys), StatusBoard::default(), LIVE_FIRST).await;
    eventually_async("the backlog drains", DEADLINE, || async { seen.load(Ordering::SeqCst) > 20 }).await;
    let newest = world.punches(2).await;
    world.drained("far").await;
    relay.stop().await;
    let requests = vendor.requests();
    assert_eq!((&requests[0].key, &requests[0].body), (&requests[1].key, &requests[1].body));
    let mut bodies: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
    for request in &requests {
        bodies.entry(request.key.clone().unwrap()).or_default().push(request.body.to_vec());
    }
    assert!(bodies.values().all(|bodies| bodies.iter().all(|body| body == &bodies[0])), "one key, one body");
    let late = |id: &String| bodies[id][0].windows(11).any(|part| part == b"\"late\":true");
    assert!(old.iter().chain(&new).all(&late), "all that waited at a start is a backlog");
    assert!(!newest.iter().any(late));
    let place = |id: &String| requests.iter().position(|r| r.key.as_ref() == Some(id)).unwrap();
    assert!(place(&newest[0]) < place(&old[149]), "the new one went first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_mapping_a_late_event_says_so_in_its_own_json() {
    let (world, rig) = (World::new().await, Api::start().await);
    world.punches(300).await;
    let _relay = world.relay_as(rig.sink(), StatusBoard::default(), LIVE_FIRST).await;
    world.drained("far").await;
    world.punches(1).await;
    world.drained("far").await;
    let requests = rig.0.requests();
    let events: Vec<_> = requests.iter().flat_map(|r| r.events()).collect();
    assert!(events[..300].iter().all(|event| event["late"] == true));
    assert_eq!(events[300].get("late"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_damaged_row_hides_nothing_that_stands_behind_it() {
    for (flow, behind) in [(Flow::default(), 5), (LIVE_FIRST, 150)] {
        let (mut world, rig) = (World::new().await, LoneApi::start().await);
        let ids = world.punches(behind + 2).await;
        world.journal.close().await.unwrap();
        let file = rusqlite::Connection::open(&world.config.path).unwrap();
        assert_eq!(file.execute("UPDATE event SET body = zeroblob(80) WHERE seq IN (1, 3)", []).unwrap(), 2);
        drop(file);
        world.journal = portero::journal::Journal::open(&world.config, world.clock.clone()).unwrap();
        let _relay = world.relay_as(rig.sink(), StatusBoard::default(), flow).await;
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (behind as u64, 2), "{flow:?}");
        assert_eq!(rig.received().len(), ids.len() - 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_turn_at_a_stop_is_not_in_doubt_after_it() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Ok);
    let text = "batch = 2\non_ambiguous = \"hold\"\nanswer = [{ status = [200], verdict = \"delivered\" }]\n";
    let sink = || {
        let config = crate::answers::configured(text, &vendor.url(), world.dir.path());
        portero::deliver::api::Api::new("far", config, world.clock.clone()).unwrap()
    };
    let ids = world.punches(4).await;
    let capped = Flow { requests_per_minute: Some(1), ..Flow::default() };
    let board = StatusBoard::default();
    let relay = world.relay_as(sink(), board.clone(), capped).await;
    let waits = || board.read().first().is_some_and(|status| status.state == "waiting");
    eventually_async("the second request waits for its turn", DEADLINE, || async {
        vendor.request_count() == 1 && waits()
    })
    .await;
    relay.kill().await;
    assert_eq!(world::flight(&world, "far").await, None, "nothing has left that could be in doubt");
    let _relay = world.relay_as(sink(), StatusBoard::default(), Flow::default()).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (ids.len() as u64, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_left_with_right_times_is_not_corrected_because_a_newer_one_was_read_before_the_clock_was_right() {
    let world = World::without_clock().await;
    world.punches(3).await;
    let id = world.journal.sink("far", Start::All).await.unwrap().id;
    let newest = world.journal.read_after(id, portero::journal::Seq(2), 1, 1 << 20).await.unwrap();
    assert!(newest[0].provisional);
    world.synchronise();
    eventually_async("the clock is right", DEADLINE, || async { world.clock.now().synchronised }).await;
    world.journal.anchor_clock(world.clock.now()).await.unwrap();
    let records = world.journal.read_after(id, portero::journal::Seq(0), 2, 1 << 20).await.unwrap();
    assert!(records.len() == 2 && !records.iter().any(|r| r.provisional));
    let delivered = |seq| (portero::journal::Seq(seq), portero::journal::Settlement::Delivered);
    let when = portero::journal::When::Now;
    world.journal.settle(id, vec![delivered(1), delivered(2), delivered(3)], when).await.unwrap();
    let corrections = world.journal.corrections(id, 10).await.unwrap();
    assert_eq!(corrections.iter().map(|c| c.seq.0).collect::<Vec<_>>(), [3], "only the one that left with other times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn released_events_and_new_ones_take_turns() {
    take_turns(Flow::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn released_events_and_a_backlog_take_turns_with_its_pace() {
    take_turns(Flow { catch_up_per_minute: Some(6000), ..Flow::default() }).await;
}

async fn take_turns(flow: Flow) {
    let (world, rig) = (World::new().await, LoneApi::start().await);
    rig.refuse_poison();
    let poisoned: Vec<usize> = (0..60).collect();
    let (_, bad) = world.poisoned(60, &poisoned).await;
    let relay = world.relay(rig.sink()).await;
    eventually_async("all are refused", DEADLINE, || async { world.stats("far").await.quarantined == 60 }).await;
    relay.stop().await;
    rig.mend();
    world.journal.release("far".to_owned(), None).await.unwrap();
    // More than a queue: a backlog.
    let new = world.punches(150).await;
    let before = rig.requests().len();
    let _relay = world.relay_as(rig.sink(), StatusBoard::default(), flow).await;
    assert_eq!(world.drained("far").await.delivered, 210);
    let order: Vec<String> = rig.requests()[before..].iter().map(|r| r.event_ids[0].clone()).collect();
    let last = |ids: &[String]| order.iter().rposition(|id| ids.contains(id)).unwrap();
    let first = |ids: &[String]| order.iter().position(|id| ids.contains(id)).unwrap();
    assert!(first(&new) < last(&bad) && first(&bad) < last(&new), "neither waited for all of the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sink_said_of_its_own_limit_holds_over_a_restart() {
    let (mut world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let used_up = |_: &_| Reply::ok().header("RateLimit-Remaining", "0").header("RateLimit-Reset", "200");
    vendor.behave(Behaviour::Custom(Arc::new(used_up)));
    world.punches(1).await;
    let sink = |world: &World| {
        portero::deliver::api::Api::new("far", api_config(vendor.url(), 100, DEADLINE), world.clock.clone()).unwrap()
    };
    let relay = world.relay(sink(&world)).await;
    assert_eq!(world.drained("far").await.delivered, 1);
    eventually_async("it is kept", DEADLINE, || async {
        world.journal.sink("far", Start::All).await.unwrap().setback.wait > Duration::from_secs(100)
    })
    .await;
    relay.kill().await;
    world.reopen().await;
    world.punches(2).await;
    let relay = world.relay(sink(&world)).await;
    relay.until_state("waiting").await;
    let status = relay.board.read().remove(0);
    assert_eq!(status.waits_for, Some("the sink says that its rate limit is used up"));
    assert_eq!(vendor.request_count(), 1);
    relay.stop().await;
}
