//! What only the vendor API has to prove: its answer rules, its credentials, its bounds.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portero::deliver::api::{self, Auth};
use portero::deliver::{Outcome, Verdict};
use portero::secret::SecretSource;

use crate::rigs::{Api, Rig, TIMEOUT, api_config};
use crate::support::{Behaviour, DEADLINE, Reply, VendorApi, eventually_async, free_port};
use crate::world::{World, record, send};

fn sink(config: api::Config, world: &World) -> api::Api {
    api::Api::new("far", config, world.clock.clone()).unwrap()
}

async fn answered(reply: Reply, events: u64) -> Outcome {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |_| reply.clone())));
    let records: Vec<_> = (1..=events).map(|seq| record(seq, world.event(None))).collect();
    send(&mut sink(api_config(vendor.url(), 100, TIMEOUT), &world), &records).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_3_of_5_settles_the_first_three_and_the_rest_goes_out_under_a_key_of_its_own() {
    let (world, rig) = (World::new().await, Api::start().await);
    let first = std::sync::atomic::AtomicBool::new(true);
    rig.0.behave(Behaviour::Custom(Arc::new(move |_| match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => Reply::new(200, r#"{"accepted": 3}"#, 3),
        false => Reply::ok(),
    })));
    let ids = world.punches(5).await;
    let _relay = world.relay(rig.sink()).await;
    assert_eq!(world.drained("far").await.delivered, 5);
    let requests = rig.0.requests();
    assert_eq!(requests.iter().map(|r| r.event_ids.clone()).collect::<Vec<_>>(), [ids.clone(), ids[3..].to_vec()]);
    assert_ne!(requests[0].key, requests[1].key);
    assert!(rig.received().values().all(|n| *n == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_has_one_of_three_kinds_of_failure() {
    for status in [301, 302, 307, 402, 408, 409, 410, 418, 425, 429, 500, 502, 503, 504] {
        let outcome = answered(Reply::refuse(status).header("location", "http://127.0.0.1:1/"), 2).await;
        assert!(matches!(outcome, Outcome::Retry { .. }), "{status}: {outcome:?}");
    }
    for status in [401, 403, 404, 405] {
        let outcome = answered(Reply::refuse(status), 2).await;
        assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.len() > 30), "{status}: {outcome:?}");
    }
    for status in [400, 413, 422] {
        let outcome = answered(Reply::refuse(status), 2).await;
        assert!(matches!(&outcome, Outcome::Refused { answer, .. } if answer.contains("refused")), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_that_proves_nothing_is_a_lost_answer() {
    for body in
        ["<html>please log in</html>", "[]", r#"{"accepted": 6}"#, r#"{"accepted": -1}"#, r#"{"accepted": "all"}"#]
    {
        let outcome = answered(Reply::new(200, body, 0), 5).await;
        assert!(matches!(outcome, Outcome::Retry { .. }), "{body}: {outcome:?}");
    }
    let endless = answered(Reply::new(200, format!("{{\"x\":\"{}\"}}", "y".repeat(10 << 20)), 0), 1).await;
    assert!(matches!(endless, Outcome::Retry { .. }));
    for body in ["", "{}", r#"{"status":"queued"}"#, r#"{"accepted": 5}"#] {
        let outcome = answered(Reply::new(202, body, 0), 5).await;
        assert_eq!(outcome, Outcome::Settled(vec![Verdict::Delivered; 5]), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_wish_is_honoured_in_both_forms() {
    let wish = async |text: String| match answered(Reply::refuse(503).header("retry-after", text), 1).await {
        Outcome::Retry { after, .. } => after,
        other => panic!("{other:?}"),
    };
    assert_eq!(wish("7".to_owned()).await, Some(Duration::from_secs(7)));
    let clock = portero::clock::Clock::new(portero::clock::SyncSource::Trusted);
    let then = jiff::Timestamp::from_microsecond(clock.now().wall.0 + 3_600_000_000).unwrap();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&then).unwrap();
    let after = wish(date).await.unwrap();
    assert!(after > Duration::from_secs(3500) && after <= Duration::from_secs(3600), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_waits_as_long_as_it_was_asked_to() {
    let (world, rig) = (World::new().await, Api::start().await);
    let first = std::sync::atomic::AtomicBool::new(true);
    rig.0.behave(Behaviour::Custom(Arc::new(move |_| match first.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => Reply::refuse(429).header("retry-after", "2"),
        false => Reply::ok(),
    })));
    let before = world.clock.now().boot;
    world.punches(1).await;
    let _relay = world.relay(rig.sink()).await;
    world.drained("far").await;
    // No upper bound: the machine may be busy. Never sooner than asked.
    assert!(world.clock.now().boot.micros_since(before) >= 2_000_000);
    assert_eq!(rig.0.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_413_splits_the_batch_and_later_batches_are_smaller() {
    let (world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(Behaviour::Custom(Arc::new(|request| match request.event_ids.len() {
        0..=10 => Reply::ok(),
        _ => Reply::refuse(413),
    })));
    let relay = world.relay(rig.sink()).await;
    world.punches(100).await;
    world.drained("far").await;
    let before = rig.0.request_count();
    world.punches(100).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (200, 0));
    assert!(rig.received().values().all(|n| *n == 1));
    let refused = rig.0.requests().iter().skip(usize::try_from(before).unwrap()).filter(|r| r.status == 413).count();
    assert_eq!(refused, 0, "what the server has shown to be too much is not sent again");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_event_with_413_or_over_our_own_limit_is_quarantined() {
    assert!(matches!(answered(Reply::refuse(413), 1).await, Outcome::Refused { .. }));
    let (world, rig) = (World::new().await, Api::start().await);
    let config = api::Config { max_body_bytes: 200, ..api_config(rig.0.url(), 100, TIMEOUT) };
    world.punches(3).await;
    let _relay = world.relay(sink(config, &world)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.quarantined, rig.0.request_count()), (3, 0));
}

fn secret(dir: &Path, value: &str) -> SecretSource {
    let path = dir.join("secret");
    let mut file = std::fs::File::create(&path).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    writeln!(file, "{value}").unwrap();
    SecretSource::File(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_credential_and_header_is_sent() {
    let (world, rig) = (World::new().await, Api::start().await);
    let key = secret(world.dir.path(), "open sesame");
    let auths = [
        Auth::None,
        Auth::Bearer { token: key.clone() },
        Auth::Basic { user: "gw".to_owned(), password: key.clone() },
        Auth::ApiKey { header: "X-Api-Key".to_owned(), key: key.clone() },
    ];
    for auth in auths {
        let headers = vec![("X-Site".to_owned(), "obra-norte".to_owned())];
        let config = api::Config { auth, headers, ..api_config(rig.0.url(), 1, TIMEOUT) };
        let outcome = send(&mut sink(config, &world), &[record(1, world.event(None))]).await;
        assert_eq!(outcome, Outcome::Settled(vec![Verdict::Delivered]));
    }
    let requests = rig.0.requests();
    let sent: Vec<_> = requests.iter().map(|r| r.authorization.as_deref()).collect();
    assert_eq!(sent, [None, Some("Bearer open sesame"), Some("Basic Z3c6b3BlbiBzZXNhbWU="), None]);
    assert_eq!(requests[3].headers["x-api-key"], "open sesame");
    for request in requests {
        assert_eq!(request.headers["x-site"], "obra-norte");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.events().len(), 1);
        assert!(request.body.starts_with(b"{"), "one event a request is the object itself");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_one_is_a_bare_array_where_batches_are_configured() {
    let (world, rig) = (World::new().await, Api::start().await);
    send(&mut rig.sink(), &[record(1, world.event(None))]).await;
    assert!(rig.0.requests()[0].body.starts_with(b"[{"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_credential_is_found_after_a_401() {
    let (world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(Behaviour::Custom(Arc::new(|request| match request.authorization.as_deref() {
        Some("Bearer new") => Reply::ok(),
        _ => Reply::new(401, "", 0),
    })));
    let token = secret(world.dir.path(), "old");
    let config = api::Config { auth: Auth::Bearer { token }, ..api_config(rig.0.url(), 10, TIMEOUT) };
    world.punches(3).await;
    let mut sink = sink(config, &world);
    // The old one is read and shown before it is renewed.
    let records = [record(1, world.event(None))];
    assert!(matches!(send(&mut sink, &records).await, Outcome::Blocked { .. }));
    secret(world.dir.path(), "new");
    let _relay = world.relay(sink).await;
    assert_eq!(world.drained("far").await.delivered, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_credential_blocks_and_names_the_file() {
    let (world, rig) = (World::new().await, Api::start().await);
    let token = SecretSource::File(world.dir.path().join("absent"));
    let config = api::Config { auth: Auth::Bearer { token: token.clone() }, ..api_config(rig.0.url(), 10, TIMEOUT) };
    world.punches(1).await;
    let relay = world.relay(sink(config, &world)).await;
    relay.until_state("blocked").await;
    assert!(relay.error().contains("absent"), "{}", relay.error());
    assert_eq!(rig.0.request_count(), 0);
    std::fs::write(world.dir.path().join("absent"), "token").unwrap();
    std::fs::set_permissions(world.dir.path().join("absent"), std::fs::Permissions::from_mode(0o600)).unwrap();
    world.drained("far").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_echoes_of_our_secret_is_masked_in_the_quarantine() {
    let (world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(Behaviour::Custom(Arc::new(|_| Reply::new(422, "no worker for key sesame", 0))));
    let key = secret(world.dir.path(), "sesame");
    let auth = Auth::ApiKey { header: "X-Api-Key".to_owned(), key };
    world.punches(1).await;
    let _relay = world.relay(sink(api::Config { auth, ..api_config(rig.0.url(), 10, TIMEOUT) }, &world)).await;
    assert_eq!(world.drained("far").await.quarantined, 1);
    let quarantined = world.journal.quarantined(None, 1).await.unwrap();
    assert_eq!(quarantined[0].answer, "no worker for key ***");
    assert_eq!(quarantined[0].reason, "http 422");
}

/// Speaks just enough HTTP to answer as `say` does, on any number of connections.
fn raw_server(say: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let say = Arc::new(say);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let say = Arc::clone(&say);
            std::thread::spawn(move || say(&mut stream));
        }
    });
    port
}

async fn sent_to(port: u16, timeout: Duration) -> Outcome {
    let world = World::new().await;
    let config = api_config(format!("http://127.0.0.1:{port}/"), 1, timeout);
    send(&mut sink(config, &world), &[record(1, world.event(None))]).await
}

#[allow(clippy::disallowed_methods, reason = "the far end is slow; nothing is synchronised by it")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_for_ever_and_a_broken_one_are_lost_answers() {
    let dripping = raw_server(|stream| {
        let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{").is_ok();
        while alive {
            pause(Duration::from_millis(50));
            alive = stream.write_all(b" ").is_ok();
        }
    });
    assert!(matches!(sent_to(dripping, Duration::from_secs(1)).await, Outcome::Retry { .. }));
    let half = raw_server(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}");
    });
    assert!(matches!(sent_to(half, TIMEOUT).await, Outcome::Retry { .. }));
    let nonsense = raw_server(|stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    });
    assert!(matches!(sent_to(nonsense, TIMEOUT).await, Outcome::Retry { .. }));
    let nobody = sent_to(free_port(), TIMEOUT).await;
    assert!(matches!(&nobody, Outcome::Retry { reason, .. } if reason.contains("connection refused")), "{nobody:?}");
    let unknown = {
        let world = World::new().await;
        let config = api_config("http://vendor.invalid/".to_owned(), 1, TIMEOUT);
        send(&mut sink(config, &world), &[record(1, world.event(None))]).await
    };
    assert!(matches!(unknown, Outcome::Retry { .. }), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_a_device_holds_while_the_sink_takes_little_at_a_time() {
    let (world, rig) = (World::new().await, Api::start().await);
    rig.0.behave(Behaviour::Accepted(7));
    let ids = world.punches(60).await;
    let _relay = world.relay(rig.sink()).await;
    world.drained("far").await;
    let mut stored = Vec::new();
    for request in rig.0.requests() {
        stored.extend(request.event_ids.into_iter().take(7));
    }
    assert_eq!(stored, ids);
    eventually_async("no flight is left", DEADLINE, || async { crate::world::flight(&world, "far").await.is_none() })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_events_that_a_413_sent_alone_keep_their_keys_over_a_crash() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let mut world = World::new().await;
    let stored = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&stored);
    // Too much at once; then eight lone events are taken, and the answer to the ninth is late.
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |request| match request.event_ids.len() {
        1 if counted.fetch_add(1, Ordering::SeqCst) < 8 => Reply::ok(),
        1 => Reply { delay: Duration::from_secs(3600), ..Reply::ok() },
        _ => Reply::refuse(413),
    })));
    world.punches(20).await;
    let sink = |world: &World| api::Api::new("far", api_config(vendor.url(), 4, TIMEOUT), world.clock.clone()).unwrap();
    let relay = world.relay(sink(&world)).await;
    eventually_async("the ninth is on its way", DEADLINE, || async { stored.load(Ordering::SeqCst) == 9 }).await;
    relay.kill().await;
    world.reopen().await;
    vendor.behave(Behaviour::Ok);
    let relay = world.relay(sink(&world)).await;
    assert_eq!(world.drained("far").await.delivered, 20);
    let oracle = vendor.oracle();
    assert_eq!((oracle.stored.len(), oracle.doubled()), (20, vec![]));
    assert_eq!(oracle.keys_with_different_bytes, Vec::<String>::new());
    relay.stop().await;
}
