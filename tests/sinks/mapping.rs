//! `[sink.request]` and `[sink.map]`: the configuration as it is written, the real relay, a real HTTP server, and what
//! arrives there byte for byte.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portero::deliver::api::preview::Preview;
use portero::deliver::filter::Filtered;
use portero::deliver::{Config, Kind, api};
use portero::event::{self, Event, Punch, UtcMicros};
use portero::manage::config::{Options, Secrets, load_text};

use crate::support::{Behaviour, DEADLINE, Gateway, Reply, VendorApi, eventually_async};
use crate::world::{World, flight, record};

/// The configuration of a gateway with one sink named `far`; `keys` stand in its table.
pub fn text(world: &World, url: &str, keys: &str) -> String {
    let journal = world.config.path.display();
    format!(
        "[gateway]\nid = \"gw-1\"\nsite = \"obra-norte\"\nzone = \"America/Santiago\"\n\n[journal]\npath = \"{journal}\"\n\n\
         [[sink]]\nname = \"far\"\ntype = \"api\"\nurl = \"{url}\"\nauth = {{ type = \"none\" }}\n\
         on_ambiguous = \"resend\"\n{keys}"
    )
}

fn config(text: &str) -> Config {
    let options = Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() };
    match load_text(Path::new("portero.toml"), text, &options) {
        Ok(mut loaded) => loaded.config.sinks.remove(0),
        Err(problems) => panic!("{problems}"),
    }
}

fn api_of(config: &Config, world: &World) -> api::Api {
    let Kind::Api(api) = &config.kind else { panic!("an API") };
    api::Api::new("far", api.clone(), world.clock.clone()).unwrap()
}

pub fn sink(world: &World, vendor: &VendorApi, keys: &str) -> Filtered<api::Api> {
    let config = config(&text(world, &format!("http://127.0.0.1:{}", vendor.port), keys));
    Filtered::new(api_of(&config, world), config.filter.clone(), config.unknown_person, false)
}

fn bodies(vendor: &VendorApi) -> Vec<String> {
    vendor.requests().iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect()
}

fn with_punch(mut event: Event, punch: Punch) -> Event {
    event.reading.punch = Some(punch);
    event
}

const CLOCKINGS: &str = r#"
kinds = ["attendance_punch"]
headers = { x-provider-name = "portero" }

[sink.request]
method = "POST"
path = "/v1/clockings"
body = "object"

[sink.map]
serialNumber = "/terminal_serial"
idNumber = { from = "/person/external_id", trim = true, strip = "." }
time = { from = "/event_time", zone = "site", format = "%Y-%m-%d %H:%M:%S" }
isEntry = { from = "/punch", map = { in = true, out = false } }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worked_example_sends_exactly_what_the_clockings_api_expects() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let (entry, exit) = (world.event(Some("12.345.678K ")), world.event(Some("7")));
    world.append(&[entry, exit]).await;
    let _relay = world.relay(sink(&world, &vendor, CLOCKINGS)).await;
    assert_eq!(world.drained("far").await.delivered, 2);
    let requests = vendor.requests();
    let expected = [
        r#"{"serialNumber":"CJ9D232460003","idNumber":"12345678K","time":"2025-03-10 08:00:00","isEntry":true}"#,
        r#"{"serialNumber":"CJ9D232460003","idNumber":"7","time":"2025-03-10 08:00:00","isEntry":false}"#,
    ];
    assert_eq!(bodies(&vendor), expected);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/v1/clockings"));
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].headers["x-provider-name"], "portero");
    assert!(requests[0].key.is_some() && requests[0].key != requests[1].key);
}

const BY_ID: &str = r#"
batch = 100
[sink.map]
event_id = "/event_id"
who = "/person/external_id"
direction = { from = "/punch", map = { in = "IN", out = "OUT" } }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_mapped_is_quarantined_unsent_and_the_others_arrive_in_their_order() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let mut events: Vec<Event> = (0..60).map(|_| world.event(None)).collect();
    for bad in [0, 7, 8, 59] {
        events[bad].reading.punch = Some(Punch::BreakOut);
    }
    events[30].reading.person = event::Person::default();
    let bad = [0, 7, 8, 30, 59];
    world.append(&events).await;
    let relay = world.relay(sink(&world, &vendor, BY_ID)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (55, 5));
    let good: Vec<String> = (0..60).filter(|i| !bad.contains(i)).map(|i| events[i].id.to_string()).collect();
    let arrived: Vec<String> = vendor.requests().into_iter().flat_map(|r| r.event_ids).collect();
    assert_eq!(arrived, good);
    assert_eq!(relay.sends(), 3, "what lies between two of them travels together");
    let quarantined = world.journal.quarantined(None, 100).await.unwrap();
    let ids: Vec<String> = quarantined.iter().map(|q| q.record.event.id.to_string()).collect();
    assert_eq!(ids, bad.map(|i| events[i].id.to_string()));
    assert!(quarantined.iter().all(|q| q.attempts == 0 && q.answer.is_empty()));
    let reason = "cannot map 'direction' from /punch: \"break_out\" is not in its map, and there is no default";
    assert_eq!(quarantined[0].reason, reason);
    assert_eq!(quarantined[3].reason, "cannot map 'who' from /person/external_id: the event has nothing there");
    relay.stop().await;

    // With a mapping that is mended they go out by themselves.
    let mended = BY_ID.replace("out = \"OUT\"", "out = \"OUT\", break_out = \"PAUSE\"");
    let _relay = world.relay(sink(&world, &vendor, &mended)).await;
    eventually_async("what is mended is delivered", DEADLINE, || async {
        let stats = world.stats("far").await;
        (stats.delivered, stats.quarantined) == (59, 1)
    })
    .await;
    assert!(vendor.oracle().doubled().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_mapped_batch_keeps_its_bytes_through_lost_answers_and_a_restart() {
    let (mut world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    vendor.behave(Behaviour::Custom(Arc::new(|_| Reply { delay: Duration::from_secs(3600), ..Reply::ok() })));
    world.punches(20).await;
    let relay = world.relay(sink(&world, &vendor, BY_ID)).await;
    eventually_async("the batch is on its way", DEADLINE, || async { vendor.request_count() == 1 }).await;
    relay.kill().await;
    world.reopen().await;
    // The mapping is another one meanwhile: what may have left goes out again as it was.
    let changed = BY_ID.replace("IN", "ENTRY");
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    vendor.behave(Behaviour::Custom(Arc::new(move |request| {
        if seen.lock().unwrap().insert(request.key.clone()) { Reply::drop_after_storing() } else { Reply::ok() }
    })));
    world.punches(5).await;
    let _relay = world.relay(sink(&world, &vendor, &changed)).await;
    assert_eq!(world.drained("far").await.delivered, 25);
    let requests = vendor.requests();
    assert_eq!((&requests[0].key, &requests[0].body), (&requests[1].key, &requests[1].body));
    assert_eq!(requests[1].path, requests[0].path);
    assert!(String::from_utf8_lossy(&requests.last().unwrap().body).contains("ENTRY"));
    let oracle = vendor.oracle();
    assert_eq!((oracle.doubled(), oracle.keys_with_different_bytes.len(), oracle.stored.len()), (vec![], 0, 25));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_where_an_event_goes_by_its_age_is_decided_once_and_outlives_a_restart() {
    let (mut world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let keys = "[sink.request]\npath = \"/fresh\"\nmax_age_seconds = 5\nlate = { path = \"/late\" }\n";
    vendor.behave(Behaviour::Custom(Arc::new(|_| Reply { delay: Duration::from_secs(3600), ..Reply::ok() })));
    let mut young = world.event(None);
    young.times.event = UtcMicros(world.clock.now().wall.0 - 1_000_000);
    let born = young.times.event.0;
    world.append(&[young]).await;
    let relay = world.relay(sink(&world, &vendor, keys)).await;
    eventually_async("it is on its way", DEADLINE, || async { vendor.request_count() == 1 }).await;
    assert!(flight(&world, "far").await.is_some(), "even a lone event is kept where its age decides");
    relay.kill().await;
    world.reopen().await;
    eventually_async("it is late by now", DEADLINE, || async { world.clock.now().wall.0 - born > 6_000_000 }).await;
    vendor.behave(Behaviour::Ok);
    world.punches(1).await;
    let _relay = world.relay(sink(&world, &vendor, keys)).await;
    assert_eq!(world.drained("far").await.delivered, 2);
    let requests = vendor.requests();
    let paths: Vec<&str> = requests.iter().map(|r| r.path.as_str()).collect();
    // A machine so slow that the first try was late already has nothing to show here.
    if paths[0] == "/fresh" {
        assert_eq!(paths, ["/fresh", "/fresh", "/late"]);
    }
    assert_eq!((&requests[0].key, &requests[0].body), (&requests[1].key, &requests[1].body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_goes_out_as_one() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let keys = r#"
[sink.request]
path = "/v2/registrar"
body = "form"
[sink.map]
id = { constant = "site 7" }
rut = { from = "/person/external_id", rut_dash = true }
i = { from = "/punch", map = { in = "entrada" }, default = "salida" }
fecha = { from = "/event_time", zone = "site", format = "%-d/%-m/%Y" }
hora = { from = "/event_time", zone = "site", format = "%-H:%-M:%-S" }
utc = { from = "/event_time", format = "rfc1123" }
"#;
    world.append(&[world.event(Some("12.345.678-k"))]).await;
    let _relay = world.relay(sink(&world, &vendor, keys)).await;
    assert_eq!(world.drained("far").await.delivered, 1);
    let request = &vendor.requests()[0];
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    let expected = "id=site+7&rut=12345678-K&i=entrada&fecha=10%2F3%2F2025&hora=8%3A0%3A0\
                    &utc=Mon%2C+10+Mar+2025+11%3A00%3A00+GMT";
    assert_eq!(String::from_utf8_lossy(&request.body), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_stand_in_the_query() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let keys = "[sink.request]\nmethod = \"GET\"\npath = \"/mark?site=7\"\nbody = \"query\"\n\
                [sink.map]\nwho = \"/person/external_id\"\nt = { from = \"/event_time\", format = \"epoch_s\" }\n";
    world.append(&[world.event(Some("a b"))]).await;
    let _relay = world.relay(sink(&world, &vendor, keys)).await;
    assert_eq!(world.drained("far").await.delivered, 1);
    let request = &vendor.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/mark?site=7&who=a%20b&t=1741604400"));
    assert!(request.body.is_empty() && !request.headers.contains_key("content-type"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn method_and_path_follow_the_direction_and_the_worker() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let keys = r#"
batch = 100
[sink.request]
method = { from = "/punch", map = { in = "POST", out = "PUT" } }
path = { from = "/punch", map = { in = "/clock-in", out = "/employees/{worker}/clock" } }
body = "array"
params = { worker = { from = "/person/external_id", strip_leading_zeros = true } }
[sink.map]
event_id = "/event_id"
"#;
    let punches = [("1", Punch::In), ("2", Punch::In), ("003", Punch::Out), ("x/y", Punch::Out), ("1", Punch::In)];
    let events: Vec<Event> = punches.iter().map(|(who, punch)| with_punch(world.event(Some(who)), *punch)).collect();
    world.append(&events).await;
    let _relay = world.relay(sink(&world, &vendor, keys)).await;
    assert_eq!(world.drained("far").await.delivered, 5);
    let requests = vendor.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.event_ids.len())).collect();
    let expected = [
        ("POST", "/clock-in", 2),
        ("PUT", "/employees/3/clock", 1),
        ("PUT", "/employees/x%2Fy/clock", 1),
        ("POST", "/clock-in", 1),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_holds_no_more_than_so_many_people() {
    let (world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let keys = "batch = 100\n[sink.request]\nbody = \"wrapped\"\nwrap = \"attendances\"\nmax_workers = 3\n\
                envelope = { skip_approval = true }\n[sink.map]\nemployee = \"/person/external_id\"\n";
    let events: Vec<Event> = (0..20).map(|i| world.event(Some(&(i % 8).to_string()))).collect();
    world.append(&events).await;
    let _relay = world.relay(sink(&world, &vendor, keys)).await;
    assert_eq!(world.drained("far").await.delivered, 20);
    let mut people = Vec::new();
    for body in bodies(&vendor) {
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["skip_approval"], true);
        let items = json["attendances"].as_array().unwrap();
        let mut distinct: Vec<&str> = items.iter().map(|item| item["employee"].as_str().unwrap()).collect();
        people.extend(distinct.iter().map(|p| (*p).to_owned()));
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() <= 3, "{distinct:?}");
    }
    let sent: Vec<String> = (0..20).map(|i| (i % 8).to_string()).collect();
    assert_eq!(people, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_filtered_and_unmappable_events_are_counted_and_a_relay_killed_meanwhile_doubles_nothing() {
    let (mut world, vendor) = (World::new().await, VendorApi::start(Behaviour::Ok));
    let keys = "batch = 7\nkinds = [\"attendance_punch\"]\noutcome = \"granted\"\nterminals = [\"yard\"]\n\
                [sink.map]\nevent_id = \"/event_id\"\n\
                direction = { from = \"/punch\", map = { in = 1, out = 0 } }\n";
    let random = std::cell::RefCell::new(fastrand::Rng::with_seed(3));
    let (mut taken, mut bad, mut all) = (Vec::new(), 0, 0);
    for round in 0..8 {
        let mut events: Vec<Event> = (0..40).map(|_| world.event(None)).collect();
        for (n, event) in events.iter_mut().enumerate() {
            event.reading.outcome = Some(if n % 3 == 0 { event::Outcome::Denied } else { event::Outcome::Granted });
            if n % 10 < 4 {
                event.reading.kind = Some(event::Kind::DoorState);
            }
            if n % 3 != 0 && n % 10 >= 4 {
                if n % 7 == 5 {
                    event.reading.punch = Some(Punch::BreakIn);
                    bad += 1;
                } else {
                    taken.push(event.id.to_string());
                }
            }
        }
        all += events.len() as u64;
        world.append(&events).await;
        let relay = world.relay(sink(&world, &vendor, keys)).await;
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
    let _relay = world.relay(sink(&world, &vendor, keys)).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.appended, stats.delivered, stats.quarantined), (all, taken.len() as u64, bad));
    assert_eq!(stats.filtered, all - bad - taken.len() as u64);
    let oracle = vendor.oracle();
    assert!(oracle.doubled().is_empty() && oracle.keys_with_different_bytes.is_empty());
    assert!(taken.iter().all(|id| oracle.stored.get(id) == Some(&1)));
    assert_eq!(oracle.stored.len(), taken.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrections_are_settled_unsent_unless_there_is_a_mapping_for_them() {
    let correcting = format!("{BY_ID}\n[sink.map_correction]\ncorrects = \"/corrects\"\nkind = \"/kind\"\n");
    for (keys, expected) in [(BY_ID.to_owned(), 0), (correcting, 7)] {
        let (world, vendor) = (World::without_clock().await, VendorApi::start(Behaviour::Ok));
        let _relay = world.relay(sink(&world, &vendor, &keys)).await;
        world.punches(7).await;
        world.drained("far").await;
        world.synchronise();
        eventually_async("the clock is right", DEADLINE, || async { world.clock.now().synchronised }).await;
        world.journal.anchor_clock(world.clock.now()).await.unwrap();
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.corrections_pending), (7, 0));
        assert_eq!(vendor.oracle().corrections.len(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_revision_changes_with_the_mapping_and_with_nothing_else() {
    let world = World::new().await;
    let revision = |keys: &str| api_of(&config(&text(&world, "http://127.0.0.1:9", keys)), &world).revision();
    let plain = revision(BY_ID);
    assert_eq!(plain.len(), 16);
    assert_eq!(plain, revision(&format!("timeout_seconds = 7\nheaders = {{ a = \"b\" }}\n{BY_ID}")));
    assert_ne!(plain, revision(&BY_ID.replace("IN", "in")));
    let rule = |status: u16| format!("{BY_ID}\n[[sink.answer]]\nstatus = [{status}]\nverdict = \"reject\"\n");
    assert_ne!(plain, revision(&rule(409)));
    assert_ne!(revision(&rule(410)), revision(&rule(409)));
    let laid_out = rule(409).replace("status = [409]", "status = [\n  409, # taken\n]");
    assert_eq!(revision(&rule(409)), revision(&laid_out), "not by how it is written down");
    assert_ne!(plain, revision(&format!("{BY_ID}[sink.request]\npath = \"/x\"\n")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_shows_the_requests_and_what_another_mapping_would_change() {
    let world = World::new().await;
    let bad = with_punch(world.event(Some("9")), Punch::BreakIn);
    let events = [world.event(Some("1.2")), world.event(Some("3")), bad];
    let records: Vec<_> = events.iter().zip(1..).map(|(event, seq)| record(seq, event.clone())).collect();
    world.append(&events).await;
    let url = "https://hr.example/x?api_key=hunter2";
    let file = world.dir.path().join("portero.toml");
    std::fs::write(&file, text(&world, url, CLOCKINGS)).unwrap();
    let shown = api_of(&config(&text(&world, url, CLOCKINGS)), &world).preview(&records);
    assert!(matches!(&shown[..], [Preview::Request(_), Preview::Request(_), Preview::Unmappable { .. }]), "{shown:?}");

    let gateway = Gateway::prepare(&file, &[]);
    let said = |arguments: &[&str]| {
        let output = gateway.cli(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, out, err) = said(&["mapping", "preview", "--sink", "far"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("POST https://hr.example/x/v1/clockings?api_key=***\n"), "{out}");
    assert!(out.contains("\n{\"serialNumber\":\"CJ9D232460003\",\"idNumber\":\"12\","), "{out}");
    assert!(out.contains("not sent: cannot map 'isEntry' from /punch"), "{out}");
    assert!(!out.contains("hunter2"));
    let (_, out, _) = said(&["mapping", "preview", "--sink", "far", "--json", "--limit", "2"]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["seqs"], &lines[1]["seqs"]),
        (2, &serde_json::json!([2]), &serde_json::json!([3]))
    );
    assert_eq!(lines[0]["method"], "POST");

    let other = world.dir.path().join("other.toml");
    std::fs::write(&other, text(&world, url, &CLOCKINGS.replace(", strip = \".\"", ""))).unwrap();
    let other = other.to_str().unwrap();
    let (code, out, err) = said(&["mapping", "preview", "--sink", "far", "--against", other]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("# 1 of 3 events differ"), "{out}");
    assert!(
        out.lines().any(|line| line.contains("\"12\"") && line.contains(" | ") && line.contains("\"1.2\"")),
        "{out}"
    );
    let same = file.to_str().unwrap();
    let (code, out, _) = said(&["mapping", "preview", "--sink", "far", "--against", same]);
    assert_eq!((code, out.starts_with("# 0 of 3 events differ")), (Some(0), true), "{out}");
    let (code, _, err) = said(&["mapping", "preview", "--sink", "fra"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("far"), "{err}");
}
