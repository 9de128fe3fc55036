//! What answers mean: a table of statuses, the contract cases of real vendors, and answers that prove nothing. The rules
//! are written as an integrator writes them, the answers come over HTTP.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portero::deliver::{Cause, Kind, Outcome, Verdict, api};
use portero::manage::config::{Options, Secrets, load_text};

use crate::support::{Behaviour, DEADLINE, Reply, Request, VendorApi, eventually_async};
use crate::world::{POISON, World, record, send};

/// A sink as `portero.toml` says it; `{url}` and `{dir}` are filled in.
pub fn configured(text: &str, url: &str, dir: &std::path::Path) -> api::Config {
    let key = dir.join("key");
    if !key.exists() {
        std::fs::write(&key, "sesame\n").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let text = text.replace("{url}", url).replace("{dir}", &dir.display().to_string());
    let text = format!(
        "[gateway]\nid = \"g\"\nsite = \"s\"\nzone = \"UTC\"\n[[sink]]\nname = \"far\"\ntype = \"api\"\nurl = \"{url}\"\n{text}"
    );
    let options = Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() };
    let config = match load_text(std::path::Path::new("portero.toml"), &text, &options) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}\n{text}"),
    };
    match config.sinks.into_iter().next().map(|sink| sink.kind) {
        Some(Kind::Api(config)) => config,
        other => panic!("{other:?}"),
    }
}

/// In one word, what became of a batch.
fn class(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Settled(verdicts) => {
            let words = verdicts.iter().map(|verdict| match verdict {
                Verdict::Delivered => "delivered".to_owned(),
                Verdict::Confirmed { duplicate: true, .. } => "duplicate".to_owned(),
                Verdict::Confirmed { duplicate: false, remote_id: None } => "delivered".to_owned(),
                Verdict::Confirmed { duplicate: false, remote_id: Some(id) } => format!("delivered as {id}"),
                Verdict::Rejected { cause: Cause::Content, .. } => "reject".to_owned(),
                Verdict::Rejected { cause: Cause::UnknownWorker, .. } => "unknown worker".to_owned(),
                Verdict::Rejected { cause: Cause::AnswerLost, .. } => "held".to_owned(),
                Verdict::Keep => "keep".to_owned(),
            });
            words.collect::<Vec<_>>().join(", ")
        }
        Outcome::Refused { .. } => "split".to_owned(),
        Outcome::Retry { after: None, .. } => "retry".to_owned(),
        Outcome::Retry { after: Some(after), .. } => format!("retry after {}", after.as_secs()),
        Outcome::Blocked { .. } => "block".to_owned(),
        Outcome::Lost { .. } => "lost".to_owned(),
        Outcome::Gone { .. } => "gone".to_owned(),
    }
}

fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Settled(verdicts) => verdicts.iter().fold(String::new(), |mut all, verdict| {
            if let Verdict::Rejected { reason, .. } = verdict {
                let _ = write!(all, "{reason}|");
            }
            all
        }),
        Outcome::Refused { reason, .. }
        | Outcome::Retry { reason, .. }
        | Outcome::Blocked { reason }
        | Outcome::Lost { reason, .. }
        | Outcome::Gone { reason } => reason.clone(),
    }
}

/// Sends `events` events once to a vendor that answers as `answer` says.
async fn once(text: &str, events: u64, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Outcome {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(answer)));
    let config = configured(text, &vendor.url(), world.dir.path());
    let mut sink = api::Api::new("far", config, world.clock.clone()).unwrap();
    let records: Vec<_> = (1..=events).map(|seq| record(seq, world.event(None))).collect();
    send(&mut sink, &records).await
}

async fn answered(text: &str, events: u64, status: u16, body: &str) -> Outcome {
    let reply = Reply::new(status, body, 0);
    once(text, events, move |_| reply.clone()).await
}

const BUK: &str = "preset = \"buk-clockings\"\nauth.headers.x-provider-token = { file = \"{dir}/key\" }\n\
                   auth.headers.x-provider-name = \"portero\"\n";
const FRAPPE: &str =
    "preset = \"frappe-hr\"\nauth.headers.Authorization = { file = \"{dir}/key\", prefix = \"token \" }\n";
const CONNECTEAM: &str = "preset = \"connecteam\"\nauth.key = { file = \"{dir}/key\" }\n\
                          request = { path = \"/clock-in\", max_age_seconds = 315360000 }\n";
const BAMBOO: &str = "preset = \"bamboohr\"\nauth.user = { file = \"{dir}/key\" }\n\
                      lookup = { path = \"/lookup?id={event/event_id}\" }\n";
const ODOO: &str = "preset = \"odoo\"\nauth.headers.Authorization = { file = \"{dir}/key\", prefix = \"bearer \" }\n\
                    map.employee_id = \"/person/terminal_person_id\"\n\
                    lookup = { path = \"/lookup\", body = '{\"id\":{event/event_id}}' }\n";
const WEBHOOK: &str = "preset = \"standard-webhook\"\nauth.secret = { file = \"{dir}/webhook\" }\n";

/// Rules for every verdict that needs nothing else.
const PLAIN: &str = r#"
on_ambiguous = "resend"
answer = [
  { status = [201, 204], verdict = "delivered" },
  { status = [200], when = { "/ok" = { eq = true } }, verdict = "delivered", remote_id = "/id" },
  { status = [200], when = { "/error" = { exists = true } }, verdict = "reject", reason = "/error" },
  { status = [409], when = { "/code" = { in = ["DUP", 7] } }, verdict = "duplicate" },
  { status = [409], when = { "header:X-Busy" = { prefix = "ye" } }, verdict = "retry" },
  { status = [404], when = { "/code" = { contains = "WORKER" } }, verdict = "unknown_worker", reason = "/message" },
  { status = [420], verdict = "throttle" },
  { status = [451], verdict = "block", reason = "/message" },
  { status = [410], verdict = "gone" },
]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_ends_in_its_stated_class_with_rules_beside_it() {
    let rows: &[(u16, &str, &str)] = &[
        (200, r#"{"ok":true,"id":17}"#, "delivered as 17"),
        (200, r#"{"ok":true}"#, "delivered"),
        (200, r#"{"ok":1}"#, "retry"),
        (200, r#"{"error":"bad"}"#, "reject"),
        (200, "{}", "retry"),
        (200, "", "retry"),
        (200, "<html>log in</html>", "retry"),
        (200, r#"{"ok":tr"#, "retry"),
        (201, "", "delivered"),
        (201, "{}", "delivered"),
        (201, "<html>log in</html>", "retry"),
        (202, "", "retry"),
        (202, r#"{"ok":true}"#, "retry"),
        (203, "{}", "retry"),
        (204, "", "delivered"),
        (206, "{}", "retry"),
        (301, "", "retry"),
        (302, "", "retry"),
        (304, "", "retry"),
        (307, "", "retry"),
        (308, "", "retry"),
        (400, "{}", "reject as before"),
        (401, "{}", "block"),
        (402, "", "retry"),
        (403, "", "block"),
        (404, r#"{"code":"NO_WORKER","message":"12345678 unknown"}"#, "unknown worker"),
        (404, "{}", "block"),
        (405, "", "block"),
        (406, "", "retry"),
        (408, "", "retry"),
        (409, r#"{"code":"DUP"}"#, "duplicate"),
        (409, r#"{"code":7}"#, "duplicate"),
        (409, r#"{"code":7.0}"#, "duplicate"),
        (409, r#"{"code":"7"}"#, "retry"),
        (410, "", "gone"),
        (413, "", "reject as before"),
        (415, "", "retry"),
        (418, "", "retry"),
        (420, "", "retry"),
        (422, "", "reject as before"),
        (425, "", "retry"),
        (429, "", "retry"),
        (451, r#"{"message":"ask 123456789"}"#, "block"),
        (500, "", "retry"),
        (501, "", "retry"),
        (502, "<html>bad gateway</html>", "retry"),
        (503, "", "retry"),
        (504, "", "retry"),
        (507, "", "retry"),
        (511, "<html>log in</html>", "retry"),
        (599, "", "retry"),
    ];
    assert!(rows.len() >= 30);
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Ok);
    let config = configured(PLAIN, &vendor.url(), world.dir.path());
    let records = [record(1, world.event(None))];
    for (status, body, expected) in rows {
        let reply = Reply::new(*status, *body, 0);
        vendor.behave(Behaviour::Custom(Arc::new(move |_| reply.clone())));
        // A sink of its own: answers that prove nothing are counted.
        let mut sink = api::Api::new("far", config.clone(), world.clock.clone()).unwrap();
        let outcome = send(&mut sink, &records).await;
        let found = match (class(&outcome).as_str(), *expected) {
            ("split", "reject as before") => "reject as before".to_owned(),
            (found, _) => found.to_owned(),
        };
        assert_eq!(found, *expected, "{status} {body}: {outcome:?}");
        assert!(!reason(&outcome).contains("123456789"), "a number of somebody in a reason that is logged");
    }
    let busy = Reply::new(409, "{}", 0).header("x-busy", "yes");
    assert_eq!(class(&once(PLAIN, 1, move |_| busy.clone()).await), "retry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_proves_nothing_is_tried_again_and_then_blocks_with_its_first_bytes() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Ok);
    let config = configured(PLAIN, &vendor.url(), world.dir.path());
    let records = [record(1, world.event(None))];
    let secret = "Zm9vYmFyMTIzQUJDZGVmZ2hp".repeat(3);
    let endless = format!("{{\"x\":\"{}\"}}", "y".repeat(10 << 20));
    for body in ["<html>please log in</html>", "", "[1,", "null", "\"ok\"", endless.as_str(), &format!("<p>{secret}")] {
        let reply = Reply::new(200, body, 0);
        vendor.behave(Behaviour::Custom(Arc::new(move |_| reply.clone())));
        let mut sink = api::Api::new("far", config.clone(), world.clock.clone()).unwrap();
        for _ in 0..4 {
            assert_eq!(class(&send(&mut sink, &records).await), "retry", "{body:.40}");
        }
        let blocked = send(&mut sink, &records).await;
        assert_eq!(class(&blocked), "block", "{body:.40}");
        let shown = body.chars().take(12).collect::<String>();
        assert!(reason(&blocked).contains(&shown) || body.len() > 60, "{}", reason(&blocked));
        assert!(!reason(&blocked).contains(&secret) && reason(&blocked).len() < 600);
        // One good answer, and it counts anew.
        vendor.behave(Behaviour::Custom(Arc::new(|_| Reply::new(201, "", 1))));
        assert_eq!(class(&send(&mut sink, &records).await), "delivered");
        vendor.behave(Behaviour::Custom(Arc::new(|_| Reply::new(200, "", 0))));
        assert_eq!(class(&send(&mut sink, &records).await), "retry");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_1_to_5_buk() {
    let created = r#"{"status":"success","code":"CLOCKING_CREATED","message":"created"}"#;
    assert_eq!(class(&answered(BUK, 1, 201, created).await), "delivered");
    let duplicate = r#"{"status":"error","code":"CLOCKING_DUPLICATE","message":"there already"}"#;
    assert_eq!(class(&answered(BUK, 1, 409, duplicate).await), "duplicate");
    let serial = r#"{"status":"error","code":"INVALID_SERIAL_NUMBER","message":"serial too long"}"#;
    let rejected = answered(BUK, 1, 400, serial).await;
    assert_eq!((class(&rejected).as_str(), reason(&rejected).as_str()), ("reject", "http 400: serial too long|"));
    let provider = r#"{"status":"error","code":"INVALID_PROVIDER_NAME","message":"who?"}"#;
    let blocked = answered(BUK, 1, 401, provider).await;
    assert_eq!(class(&blocked), "block");
    assert!(reason(&blocked).contains("INVALID_PROVIDER_NAME"));
    assert_eq!(class(&answered(BUK, 1, 500, r#"{"code":"INTERNAL_ERROR"}"#).await), "retry");
    assert_eq!(class(&answered(BUK, 1, 201, "<html>").await), "retry");

    let form = r#"
on_ambiguous = "resend"
answer = [
  { status = [200], when = { "/tipo" = { eq = "ok" } }, verdict = "delivered" },
  { status = [200, 400], when = { "/tipo" = { eq = "error" } }, verdict = "reject", reason = "/mensaje" },
  { status = [403], verdict = "block", reason = "/mensaje" },
]
"#;
    assert_eq!(class(&answered(form, 1, 200, r#"{"tipo":"ok","mensaje":"Exito"}"#).await), "delivered");
    let refused = answered(form, 1, 200, r#"{"tipo":"error","mensaje":"rut"}"#).await;
    assert_eq!((class(&refused).as_str(), reason(&refused).as_str()), ("reject", "http 200: rut|"));
    assert_eq!(class(&answered(form, 1, 403, r#"{"tipo":"error","mensaje":"token"}"#).await), "block");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_6_to_9_frappe_with_json_inside_of_texts() {
    let said = |exc_type: &str, message: &str| {
        let inner = serde_json::json!({ "message": message, "indicator": "red" }).to_string();
        let messages = serde_json::json!([inner]).to_string();
        serde_json::json!({ "exc_type": exc_type, "exception": "x", "_server_messages": messages }).to_string()
    };
    let created = r#"{"message":{"name":"EMP-CKIN-1"}}"#;
    assert_eq!(class(&answered(FRAPPE, 1, 200, created).await), "delivered as EMP-CKIN-1");
    let repeat = said("ValidationError", "This employee already has a log with the same timestamp.<br>EMP-CKIN-1");
    assert_eq!(class(&answered(FRAPPE, 1, 417, &repeat).await), "duplicate");
    let unknown = said("ValidationError", "No Employee found for the given employee field value");
    let outcome = answered(FRAPPE, 1, 417, &unknown).await;
    assert_eq!(class(&outcome), "unknown worker");
    assert_eq!(reason(&outcome), "unknown worker: No Employee found for the given employee field value|");
    let inactive = said("ValidationError", "Transactions cannot be created for an Inactive Employee HR-1.");
    assert_eq!(class(&answered(FRAPPE, 1, 417, &inactive).await), "reject");
    assert_eq!(class(&answered(FRAPPE, 1, 503, r#"{"exc_type":"InReadOnlyMode"}"#).await), "retry");
    let limited = Reply::new(417, said("RateLimitExceededError", "slow"), 0).header("retry-after", "9");
    assert_eq!(class(&once(FRAPPE, 1, move |_| limited.clone()).await), "retry after 9");
    assert_eq!(class(&answered(FRAPPE, 1, 403, "{}").await), "block");
    // A mistake of ours would be to take its login page for an answer.
    assert_eq!(class(&answered(FRAPPE, 1, 200, "<!doctype html>").await), "retry");
}

const ODOO_RPC: &str = r#"
on_ambiguous = "lookup"
auth = { type = "login", url = "/login", fields = { "/key" = { file = "{dir}/key" } }, token = "/token" }
lookup = { method = "POST", path = "/lookup", body = '{"id":{/event_id}}', at = "/result", match = { "/id" = "/event_id" } }
answer = [
  { status = [200], when = { "/error" = { absent = true }, "/result" = { exists = true } }, verdict = "delivered", remote_id = "/result" },
  { status = [200], when = { "/error/code" = { eq = 100 } }, verdict = "relogin", reason = "/error/message" },
  { status = [200], when = { "/error/data/name" = { prefix = "odoo.exceptions." } }, verdict = "lookup", reason = "/error/data/message" },
]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_10_and_11_odoo_json_rpc_errors_inside_a_200() {
    let error = |code: i64| {
        let data =
            serde_json::json!({ "name": "odoo.exceptions.ValidationError", "message": "hasn't checked out since" });
        serde_json::json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": "Odoo Server Error", "data": data } })
            .to_string()
    };
    for (code, there, expected) in
        [(0, true, "duplicate"), (200, true, "duplicate"), (0, false, "reject"), (200, false, "reject")]
    {
        let said = error(code);
        let outcome = once(ODOO_RPC, 1, move |request| match request.path.as_str() {
            "/login" => Reply::new(200, r#"{"token":"t1"}"#, 0),
            "/lookup" => {
                let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
                let found =
                    if there { serde_json::json!([{ "id": asked["id"] }]) } else { serde_json::json!([{ "id": "x" }]) };
                Reply::new(200, serde_json::json!({ "result": found }).to_string(), 0)
            }
            _ => Reply::new(200, said.clone(), 0),
        });
        let outcome = outcome.await;
        assert_eq!(class(&outcome), expected, "{code} {there}: {outcome:?}");
    }
    // The session is over: one more login, one more try, then it is our fault.
    let (logins, heals) = (Arc::new(AtomicU32::new(0)), [true, false]);
    for heal in heals {
        logins.store(0, Ordering::SeqCst);
        let counted = Arc::clone(&logins);
        let outcome = once(ODOO_RPC, 1, move |request| match request.path.as_str() {
            "/login" => {
                let n = counted.fetch_add(1, Ordering::SeqCst) + 1;
                Reply::new(200, format!(r#"{{"token":"t{n}"}}"#), 0)
            }
            _ if heal && request.authorization.as_deref() == Some("Bearer t2") => Reply::new(200, r#"{"result":5}"#, 1),
            _ => Reply::new(200, r#"{"error":{"code":100,"message":"Odoo Session Expired"}}"#, 0),
        })
        .await;
        assert_eq!(class(&outcome), if heal { "delivered as 5" } else { "block" });
        assert_eq!(logins.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_12_and_13_an_atomic_batch_is_split_and_a_dead_key_blocks() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|request| match request.path.as_str() {
        "/lookup" => Reply::new(200, "[]", 0),
        _ if String::from_utf8_lossy(&request.body).contains(POISON) => {
            Reply::new(422, r#"{"name":"odoo.exceptions.ValidationError","message":"no"}"#, 0)
        }
        _ => Reply::new(200, "[101]", usize::MAX),
    })));
    // Exits as if they were entries: the batch is what is looked at.
    let text = format!("batch = 3\nrequest.method = \"POST\"\nopen.when = {{ \"/punch\" = \"break_out\" }}\n{ODOO}");
    let config = configured(&text, &vendor.url(), world.dir.path());
    world.poisoned(3, &[1]).await;
    let _relay = world.relay(api::Api::new("far", config, world.clock.clone()).unwrap()).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined), (2, 1));
    let quarantined = world.journal.quarantined(None, 3).await.unwrap();
    assert_eq!(quarantined[0].reason, "http 422: no");
    assert_eq!(class(&answered(ODOO, 1, 401, r#"{"name":"x","message":"Invalid apikey"}"#).await), "block");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_case_15_connecteam_is_left_alone_until_the_exhausted_window_opens() {
    let clock = portero::clock::Clock::new(portero::clock::SyncSource::Trusted);
    let at = |seconds: i64| (clock.now().wall.0 / 1_000_000 + seconds).to_string();
    let reply = Reply::new(429, "{}", 0)
        .header("x-ratelimit-minute-reset", at(40))
        .header("x-ratelimit-minute-remaining", "0")
        .header("x-ratelimit-day-reset", at(50_000))
        .header("x-ratelimit-day-remaining", "57");
    let outcome = once(CONNECTEAM, 1, move |_| reply.clone()).await;
    let Outcome::Retry { after: Some(after), .. } = &outcome else { panic!("{outcome:?}") };
    assert!((30..=40).contains(&after.as_secs()), "{after:?}");
    let past = Reply::new(429, "{}", 0).header("x-ratelimit-minute-reset", at(-4000));
    assert_eq!(class(&once(CONNECTEAM, 1, move |_| past.clone()).await), "retry after 0");
    let detail = r#"{"detail":[{"loc":["body","timestamp"],"msg":"too old","type":"value_error"}]}"#;
    let rejected = answered(CONNECTEAM, 1, 422, detail).await;
    assert_eq!((class(&rejected).as_str(), reason(&rejected).as_str()), ("reject", "http 422: too old|"));
    assert_eq!(class(&answered(CONNECTEAM, 1, 200, r#"{"requestId":"r1","data":{"shift":{}}}"#).await), "delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_16_and_17_bamboohr_looks_up_what_a_409_leaves_open() {
    for (there, expected) in [(true, "duplicate"), (false, "reject")] {
        let outcome = once(BAMBOO, 1, move |request| match request.path.starts_with("/lookup?id=") {
            true if there => Reply::new(200, r#"[{"id":9,"start":"2025-03-10T11:00:00.000000Z"}]"#, 0),
            true => Reply::new(200, r#"[{"id":9,"start":"2025-03-10T11:01:00.000000Z"}]"#, 0),
            false => Reply::new(409, r#"{"title":"Conflict","detail":"clocked in already"}"#, 0),
        })
        .await;
        assert_eq!(class(&outcome), expected, "{outcome:?}");
    }
    assert_eq!(class(&answered(BAMBOO, 1, 404, r#"{"detail":"no such employee"}"#).await), "unknown worker");
    assert_eq!(class(&answered(BAMBOO, 1, 412, r#"{"detail":"not configured"}"#).await), "reject");
    assert_eq!(class(&answered(BAMBOO, 1, 406, r#"{"detail":"future entry"}"#).await), "reject");
    let late = Reply::new(503, "", 0).header("retry-after", "11");
    assert_eq!(class(&once(BAMBOO, 1, move |_| late.clone()).await), "retry after 11");
    // 504: nobody knows, so it is looked up before it is sent again.
    assert_eq!(class(&answered(BAMBOO, 1, 504, "").await), "lost");
}

const PERSONIO: &str = r#"
batch = 10
on_ambiguous = "resend-expect-duplicate"
items = { at = ["/error/detailed_message", "/data/id"], key = "index", answer = [
  { when = { "/success" = { eq = true } }, verdict = "delivered", remote_id = "/id" },
  { when = { "/error_msg" = { contains = "unknown employee" } }, verdict = "unknown_worker", reason = "/error_msg" },
  { when = { "/success" = { eq = false } }, verdict = "reject", reason = "/error_msg" },
  { when = { "/success" = { absent = true } }, verdict = "delivered", remote_id = "" },
] }
answer = [{ status = [409], verdict = "duplicate" }]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_18_and_19_personio_says_400_and_has_stored_half() {
    let partial = r#"{"success":false,"error":{"code":400,"detailed_message":[
        {"success":true,"id":1},{"success":false,"error_msg":"Existing overlapping attendances periods"}]}}"#;
    let outcome = answered(PERSONIO, 2, 400, partial).await;
    assert_eq!(class(&outcome), "delivered as 1, reject");
    assert_eq!(reason(&outcome), "http 400: Existing overlapping attendances periods|");
    let all = r#"{"success":true,"data":{"id":[1,2]}}"#;
    assert_eq!(class(&answered(PERSONIO, 2, 200, all).await), "delivered as 1, delivered as 2");
    // One answer for two: nobody knows which, so none is settled.
    assert_eq!(class(&answered(PERSONIO, 2, 200, r#"{"success":true,"data":{"id":[1]}}"#).await), "retry");
    let strange = r#"{"error":{"detailed_message":[{"success":true,"id":1},{"success":"maybe"}]}}"#;
    assert_eq!(class(&answered(PERSONIO, 2, 400, strange).await), "delivered as 1, keep");
    assert_eq!(class(&answered(PERSONIO, 2, 400, r#"{"error":{"code":400}}"#).await), "split");
    assert_eq!(class(&answered(PERSONIO, 2, 200, "{}").await), "retry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_are_found_by_a_field_that_was_sent_and_the_missing_ones_by_the_policy() {
    let rules = |missing: &str| {
        format!(
            "batch = 10\non_ambiguous = \"resend\"\n\
             items = {{ at = \"/results\", key = {{ response = \"/ref\", sent = \"/native_seq\" }}, missing = \"{missing}\", \
             answer = [{{ when = {{ \"/error\" = {{ exists = true }} }}, verdict = \"reject\", reason = \"/error\" }}, \
             {{ verdict = \"delivered\" }}] }}\n"
        )
    };
    // In another order, as a number where a text was sent, and one left out.
    let body = r#"{"results":[{"ref":2,"error":"bad"},{"ref":"0"}]}"#;
    for (missing, expected) in [
        ("retry", "delivered, keep, reject"),
        ("delivered", "delivered, delivered, reject"),
        ("reject", "delivered, reject, reject"),
    ] {
        assert_eq!(class(&answered(&rules(missing), 3, 207, body).await), expected);
    }
    let strangers = r#"{"results":[{"ref":"0"},{"ref":"77"}]}"#;
    assert_eq!(class(&answered(&rules("delivered"), 3, 207, strangers).await), "retry");
    let twice = r#"{"results":[{"ref":"0"},{"ref":"0"}]}"#;
    assert_eq!(class(&answered(&rules("delivered"), 3, 207, twice).await), "retry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_settle_a_prefix_only_where_that_is_declared() {
    let counts = |short: &str, ambiguous: &str| {
        format!(
            "batch = 10\non_ambiguous = \"{ambiguous}\"\n\
             counts = {{ accepted = \"/stored\", duplicate = \"/known\", rejected = \"/bad\", short = \"{short}\" }}\n"
        )
    };
    let (split, prefix) = (counts("split", "resend"), counts("prefix", "resend"));
    assert_eq!(class(&answered(&split, 2, 200, r#"{"stored":1,"known":1}"#).await), "delivered, delivered");
    assert_eq!(class(&answered(&split, 3, 200, r#"{"stored":2,"bad":1}"#).await), "split");
    assert_eq!(class(&answered(&prefix, 3, 200, r#"{"stored":2,"bad":1}"#).await), "delivered, delivered, keep");
    assert_eq!(class(&answered(&split, 1, 200, r#"{"stored":0,"bad":1}"#).await), "reject");
    assert_eq!(class(&answered(&split, 1, 200, r#"{"stored":0}"#).await), "retry");
    assert_eq!(class(&answered(&split, 1, 200, r#"{"stored":2}"#).await), "retry");
    assert_eq!(class(&answered(&split, 1, 200, r#"{"stored":"1"}"#).await), "retry");
    assert_eq!(class(&answered(&split, 1, 200, "").await), "retry");
    let short = "batch = 10\non_ambiguous = \"resend\"\ncounts = \"prefix\"\n";
    assert_eq!(class(&answered(short, 3, 200, r#"{"accepted":2}"#).await), "delivered, delivered, keep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_20_to_22_an_error_inside_a_200_an_id_in_a_header_and_a_202_that_is_polled() {
    let horilla = "on_ambiguous = \"resend\"\nanswer = [\n\
        { status = [200], when = { \"/error\" = { exists = true } }, verdict = \"reject\", reason = \"/error\" },\n\
        { status = [200], verdict = \"delivered\" },\n]\n";
    assert_eq!(class(&answered(horilla, 1, 200, r#"{"error":"You Don't have work information"}"#).await), "reject");
    assert_eq!(class(&answered(horilla, 1, 200, r#"{"message":"Clocked-In"}"#).await), "delivered");
    assert_eq!(class(&answered(horilla, 1, 200, "").await), "retry");

    let protime = "on_ambiguous = \"resend\"\nanswer = [{ status = [201], verdict = \"delivered\", remote_id = \"header:Location\" }]\n";
    let created = Reply::new(201, "", 1).header("location", "/clockings/77");
    assert_eq!(class(&once(protime, 1, move |_| created.clone()).await), "delivered as /clockings/77");

    let adp = "on_ambiguous = \"resend\"\nanswer = [{ status = [202], verdict = \"pending\" }]\n\
               poll = { interval_seconds = 1, deadline_seconds = 30, answer = [\n\
               { status = [200], when = { \"/state\" = { eq = \"done\" } }, verdict = \"delivered\" },\n\
               { status = [200], when = { \"/state\" = { eq = \"failed\" } }, verdict = \"reject\", reason = \"/why\" } ] }\n";
    for (end, expected) in [("done", "delivered"), ("failed", "reject")] {
        let polls = AtomicU32::new(0);
        let outcome = once(adp, 1, move |request| match request.path.as_str() {
            "/jobs/5" => match polls.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::new(200, r#"{"state":"working"}"#, 0),
                _ => Reply::new(200, format!(r#"{{"state":"{end}","why":"no"}}"#), 0),
            },
            _ => Reply::new(202, "", 0).header("location", "/jobs/5").header("retry-after", "1"),
        })
        .await;
        assert_eq!(class(&outcome), expected, "{outcome:?}");
    }
    let away = Reply::new(202, "", 0).header("location", "http://127.0.0.2:9/jobs/5");
    let outcome = once(adp, 1, move |_| away.clone()).await;
    assert!(class(&outcome) == "block" && reason(&outcome).contains("another host"), "{outcome:?}");
    let brief = adp.replace("deadline_seconds = 30", "deadline_seconds = 1");
    let endless = once(&brief, 1, |request| match request.path.as_str() {
        "/jobs/5" => Reply::new(200, r#"{"state":"working"}"#, 0),
        _ => Reply::new(202, "", 0).header("location", "/jobs/5"),
    });
    let endless = endless.await;
    assert!(class(&endless) == "retry" && reason(&endless).contains("pending"), "{endless:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_cases_23_and_24_a_webhook_that_is_gone_and_a_code_inside_a_200() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::new(410, "", 0))));
    std::fs::write(world.dir.path().join("webhook"), "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(world.dir.path().join("webhook"), private).unwrap();
    let config = configured(WEBHOOK, &vendor.url(), world.dir.path());
    world.punches(2).await;
    let relay = world.relay(api::Api::new("far", config, world.clock.clone()).unwrap()).await;
    relay.until_state("gone").await;
    assert!(relay.error().contains("410"));
    world.punches(1).await;
    let stats = world.stats("far").await;
    assert_eq!((stats.pending, stats.quarantined, vendor.request_count()), (3, 0, 1));
    let request = &vendor.requests()[0];
    assert_eq!(request.headers["webhook-id"].to_str().ok(), request.key.as_deref());
    assert!(request.headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
    relay.stop().await;

    let artemis = "on_ambiguous = \"resend\"\nanswer = [\n\
        { status = [200], when = { \"/code\" = { eq = \"0\" } }, verdict = \"delivered\" },\n\
        { status = [200], when = { \"/code\" = { exists = true } }, verdict = \"reject\", reason = \"/msg\" },\n]\n";
    assert_eq!(class(&answered(artemis, 1, 200, r#"{"code":"0","msg":"Success"}"#).await), "delivered");
    assert_eq!(class(&answered(artemis, 1, 200, r#"{"code":"0x02401003","msg":"no"}"#).await), "reject");
    assert_eq!(class(&answered(artemis, 1, 200, r#"{"code":0}"#).await), "reject");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tightest_window_binds_and_absurd_wishes_are_bounded_by_the_relay() {
    let wish = async |headers: &[(&'static str, &str)]| {
        let reply = headers.iter().fold(Reply::new(429, "", 0), |reply, (name, value)| reply.header(name, *value));
        class(&once(PLAIN, 1, move |_| reply.clone()).await)
    };
    assert_eq!(wish(&[("retry-after", "7")]).await, "retry after 7");
    assert_eq!(wish(&[("ratelimit-reset", "30"), ("ratelimit-remaining", "0")]).await, "retry after 30");
    assert_eq!(
        wish(&[("retry-after", "7"), ("ratelimit-reset", "30"), ("ratelimit-remaining", "0")]).await,
        "retry after 30"
    );
    assert_eq!(
        wish(&[("retry-after", "7"), ("ratelimit-reset", "30"), ("ratelimit-remaining", "5")]).await,
        "retry after 7"
    );
    assert_eq!(wish(&[("ratelimit", "\"minute\";r=0;t=41, \"day\";r=9;t=9000")]).await, "retry after 41");
    assert_eq!(wish(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]).await, "retry after 0");
    assert_eq!(wish(&[("retry-after", "soon")]).await, "retry");
    assert_eq!(wish(&[("retry-after", "315360000")]).await, "retry after 315360000");
    let mut backoff = portero::backoff::Backoff::new(Duration::from_millis(5), Duration::from_secs(300));
    assert!(backoff.next(Some(Duration::from_secs(315_360_000))) <= Duration::from_secs(3960));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_case_25_a_lost_answer_is_what_the_sink_declares_and_what_never_left_is_a_retry() {
    let lookup =
        "lookup = { path = \"/lookup?id={/event_id}\" }\nanswer = [{ status = [200], verdict = \"duplicate\" }]\n";
    let kinds = [("resend", "retry"), ("resend-expect-duplicate", "retry"), ("lookup", "lost"), ("hold", "lost")];
    for (declared, expected) in kinds {
        let text = format!("timeout_seconds = 1\non_ambiguous = \"{declared}\"\n{lookup}");
        let dropped = once(&text, 1, |_| Reply::drop_after_storing()).await;
        assert_eq!(class(&dropped), expected, "{dropped:?}");
        let silent = once(&text, 1, |_| Reply { delay: DEADLINE, ..Reply::ok() }).await;
        assert_eq!(class(&silent), expected, "{silent:?}");
        let half = Reply::new(200, "{\"x\":", 0);
        assert_eq!(class(&once(&text, 1, move |_| half.clone()).await), expected);
        // Nothing left: whatever the vendor is, the same again.
        let world = World::new().await;
        for url in [format!("http://127.0.0.1:{}/", crate::support::free_port()), "http://vendor.invalid/".to_owned()] {
            let mut config = configured(&text, "http://127.0.0.1:1/", world.dir.path());
            config.url = url;
            let mut sink = api::Api::new("far", config, world.clock.clone()).unwrap();
            assert_eq!(class(&send(&mut sink, &[record(1, world.event(None))]).await), "retry");
        }
        // A web page is no answer of the vendor: it never saw the request.
        let page = Reply::new(200, "<html>", 0).header("x", "y");
        assert_eq!(class(&once(&text, 1, move |_| page.clone()).await), "retry");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_the_vendor_reach_the_quarantine_and_no_more_than_ours_the_state() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| {
        Reply::new(404, r#"{"code":"NO_WORKER","message":"worker 12345678 is unknown, you sent sesame"}"#, 0)
    })));
    let text = format!("auth = {{ type = \"bearer\", token = {{ file = \"{{dir}}/key\" }} }}\n{PLAIN}");
    let config = configured(&text, &vendor.url(), world.dir.path());
    world.punches(1).await;
    let _relay = world.relay(api::Api::new("far", config, world.clock.clone()).unwrap()).await;
    eventually_async("it is quarantined", DEADLINE, || async { world.stats("far").await.quarantined == 1 }).await;
    let quarantined = world.journal.quarantined(None, 1).await.unwrap();
    assert_eq!(quarantined[0].reason, "unknown worker: worker 12345678 is unknown, you sent ***");
    assert!(!quarantined[0].answer.contains("sesame"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_vendor_calls_an_event_is_kept_with_its_delivery() {
    let mut world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::new(200, r#"{"ok":true,"id":"EMP-7"}"#, 1))));
    let config = configured(PLAIN, &vendor.url(), world.dir.path());
    let event = world.event(None);
    world.append(std::slice::from_ref(&event)).await;
    let relay = world.relay(api::Api::new("far", config, world.clock.clone()).unwrap()).await;
    world.drained("far").await;
    relay.stop().await;
    // A run of deliveries is written down at its end.
    world.reopen().await;
    let traced = world.journal.trace(event.id).await.unwrap();
    assert!(format!("{traced:?}").contains("remote_id: Some(\"EMP-7\")"), "{traced:?}");
}
