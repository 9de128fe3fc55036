//! The question that an exit has before it, where vendors store intervals: an answer that got too old, that can't be read,
//! or that is a refusal. The stand-in is that of [`intervals`](crate::intervals).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portero::event::Punch;
use serde_json::json;

use crate::intervals::{JSON_2, JSON_RPC, Odoo, interval, method, methods, punch, relay, rpc_error};
use crate::support::{Behaviour, Reply, Request, VendorApi};
use crate::world::World;

/// A vendor that answers the first request for `after` in another way, and meanwhile somebody ends the record by hand.
fn ended_by_hand(
    odoo: &Odoo,
    after: &'static str,
    answer: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> VendorApi {
    let (far, once) = (odoo.clone(), AtomicBool::new(false));
    VendorApi::start(Behaviour::Custom(Arc::new(move |request| {
        let request = Request { authorization: Some("bearer sesame".to_owned()), ..request.clone() };
        if method(&request) != after || once.swap(true, Ordering::SeqCst) {
            return far.reply(&request);
        }
        // A request that is refused does nothing.
        let reply = if after == "write" { Reply::refuse(401) } else { far.reply(&request) };
        far.0.lock().unwrap()[0].check_out = Some("2025-03-10 11:45:00".to_owned());
        answer(reply)
    })))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_has_to_wait_after_its_question_asks_again_and_overwrites_nothing() {
    for after in ["search_read", "write"] {
        let (world, odoo) = (World::new().await, Odoo::default());
        odoo.by_hand(7, "2025-03-10 11:00:00");
        let key = world.dir.path().join("renewed");
        std::fs::write(&key, "old").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        // Either the limit is used up with the answer to the question, or the key is renewed when the exit has left.
        let vendor = ended_by_hand(&odoo, after, move |reply| match after {
            "write" => {
                std::fs::write(&key, "new").unwrap();
                reply
            }
            _ => reply.header("RateLimit-Remaining", "0").header("RateLimit-Reset", "1"),
        });
        world.append(&[punch(&world, "7", Punch::Out, 60)]).await;
        let running = relay(&JSON_2.replace("{dir}/key", "{dir}/renewed"), &vendor, &world).await;
        assert_eq!(world.drained("far").await.quarantined, 1, "{:?}", methods(&vendor));
        assert_eq!(odoo.intervals(), [interval(101, 7, "11:00:00", Some("11:45:00"))]);
        let quarantined = world.journal.quarantined(None, 3).await.unwrap();
        assert_eq!(quarantined[0].reason, "no open record: the sink has no entry that this exit could end");
        // Asked, asked again, and looked up whether the exit is there.
        let writes = methods(&vendor).iter().filter(|m| *m == "write").count() as u64;
        assert_eq!((vendor.request_count(), writes), (3 + writes, u64::from(after == "write")));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_found_record_that_cannot_be_read_sets_aside_its_exit_and_no_other() {
    let unreadable = [
        (
            json!([{ "id": 101, "check_in": "yesterday" }]),
            "the open record or the exit does not say its time as the sink's open.format has it",
        ),
        (json!([{ "id": 101 }]), "the open record or the exit does not say its time as the sink's open.format has it"),
        (
            json!([{ "id": null, "check_in": "2025-03-10 11:00:00" }]),
            "the open record that was found has no usable id (see the sink's open.id)",
        ),
        (
            json!([{ "check_in": "2025-03-10 11:00:00" }]),
            "the open record that was found has no usable id (see the sink's open.id)",
        ),
    ];
    for (found, reason) in unreadable {
        let (world, odoo) = (World::new().await, Odoo::default());
        let far = odoo.clone();
        let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            match body.contains("[\"employee_id\",\"=\",7],[\"check_out\",\"=\",false]") {
                true => Reply::new(200, found.to_string(), 0),
                false => far.reply(request),
            }
        })));
        odoo.by_hand(8, "2025-03-10 11:00:00");
        world.append(&[punch(&world, "7", Punch::Out, 60), punch(&world, "8", Punch::Out, 61)]).await;
        let running = relay(JSON_2, &vendor, &world).await;
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (1, 1));
        assert_eq!(world.journal.quarantined(None, 3).await.unwrap()[0].reason, reason);
        assert_eq!(odoo.intervals(), [interval(101, 8, "11:00:00", Some("12:01:00"))]);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_exit_of_somebody_unknown_is_settled_by_the_answer_to_its_question() {
    let (world, odoo) = (World::new().await, Odoo::default());
    let text = format!(
        "{JSON_2}[[sink.answer]]\nstatus = [410]\nwhen = {{ \"/name\" = {{ eq = \"unknown\" }} }}\nverdict = \"unknown_worker\"\n"
    );
    odoo.by_hand(8, "2025-03-10 11:00:00");
    let far = odoo.clone();
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |request| {
        match String::from_utf8_lossy(&request.body).contains("[\"employee_id\",\"=\",7]") {
            true => Reply::new(410, json!({ "name": "unknown" }).to_string(), 0),
            false => far.reply(request),
        }
    })));
    world.append(&[punch(&world, "7", Punch::Out, 60), punch(&world, "8", Punch::Out, 61)]).await;
    let running = relay(&text, &vendor, &world).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (1, 1));
    let quarantined = world.journal.quarantined(None, 3).await.unwrap();
    assert!(quarantined[0].reason.starts_with("unknown worker"), "{}", quarantined[0].reason);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_cannot_be_asked_for_exits_sets_one_without_an_entry_aside_and_goes_on() {
    let text = r#"
on_ambiguous = "hold"
request = { path = "/entries" }
map = { worker = "/person/external_id" }
answer = [{ status = [200], verdict = "delivered" }]
[sink.open]
when = { "/punch" = ["out"] }
path = "/entries?worker={/worker}&open=true"
id = "/id"
request = { method = "PATCH", path = "/entries/{open}/stop" }
"#;
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::new(200, "[]", 0))));
    world.append(&[punch(&world, "7", Punch::Out, 60), punch(&world, "8", Punch::In, 61)]).await;
    let running = relay(text, &vendor, &world).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (1, 1));
    let quarantined = world.journal.quarantined(None, 3).await.unwrap();
    assert_eq!(quarantined[0].reason, "no open record: the sink has no entry that this exit could end");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_refuses_the_question_keeps_its_exits() {
    let denied = |name: &str| json!({ "name": name, "message": "no access to this model" }).to_string();
    let refusals = [
        (JSON_2, 422, denied("odoo.exceptions.ValidationError"), "blocked"),
        (JSON_2, 500, denied("odoo.exceptions.UserError"), "retrying"),
        (JSON_2, 400, denied("builtins.ValueError"), "blocked"),
        (JSON_RPC, 200, rpc_error("odoo.exceptions.UserError", "no access to this model").to_string(), "blocked"),
        (&format!("{JSON_2}[[sink.answer]]\nstatus = [418]\nverdict = \"reject\"\n"), 418, denied("teapot"), "blocked"),
    ];
    for (text, status, body, state) in refusals {
        let (world, odoo) = (World::new().await, Odoo::default());
        odoo.by_hand(7, "2025-03-10 11:00:00");
        let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |_| Reply::new(status, body.clone(), 0))));
        world.append(&[punch(&world, "7", Punch::Out, 60)]).await;
        let running = relay(text, &vendor, &world).await;
        running.until_state(state).await;
        assert!(running.error().contains("asked for the open record"), "{}", running.error());
        assert!(world.journal.quarantined(None, 3).await.unwrap().is_empty());
        vendor.behave(odoo.behaviour());
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (1, 0));
        running.stop().await;
    }
}
