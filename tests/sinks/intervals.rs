//! A vendor that stores intervals: an entry begins one, an exit ends the open one of its person. The stand-in is written
//! from what Odoo's model and its two dispatchers say: constraints, statuses, error objects, also inside a 200.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portero::deliver::api;
use portero::deliver::api::preview::Preview;
use portero::event::{Event, Punch};
use serde_json::{Value, json};

use crate::answers::configured;
use crate::support::{Behaviour, DEADLINE, Reply, Request, VendorApi, eventually_async};
use crate::world::{Running, World, record};

/// JSON-2: the preset.
pub(crate) const JSON_2: &str =
    "preset = \"odoo\"\nauth.headers.Authorization = { file = \"{dir}/key\", prefix = \"bearer \" }\n";

/// JSON-RPC, as older servers have it: every answer is a 200, errors too.
pub(crate) const JSON_RPC: &str = r#"
on_ambiguous = "lookup"
auth = { type = "body", pointer = "/params/args/2", value = { file = "{dir}/key" } }
[sink.request]
path = "/jsonrpc"
body = "jsonrpc"
wrap = "/args/5/0"
envelope = { service = "object", method = "execute_kw", args = ["db", 2, "", "hr.attendance", "create", []] }
[sink.map]
employee_id = { from = "/person/external_id", as = "number" }
check_in = { from = "/event_time", zone = "utc", format = "%Y-%m-%d %H:%M:%S", when = { "/punch" = "in" } }
check_out = { from = "/event_time", zone = "utc", format = "%Y-%m-%d %H:%M:%S", when = { "/punch" = "out" } }
[sink.lookup]
method = "POST"
path = "/jsonrpc"
body = '{"jsonrpc":"2.0","id":1,"method":"call","params":{"service":"object","method":"execute_kw","args":["db",2,"","hr.attendance","search_read",[[["employee_id","=",{/employee_id}],["check_in","=",{/check_in}]]]]}}'
at = "/result"
remote_id = "/id"
[sink.open]
when = { "/punch" = ["out"] }
method = "POST"
path = "/jsonrpc"
body = '{"jsonrpc":"2.0","id":1,"method":"call","params":{"service":"object","method":"execute_kw","args":["db",2,"","hr.attendance","search_read",[[["employee_id","=",{/employee_id}],["check_out","=",false]]]]}}'
at = "/result"
id = "/id"
id_at = "/params/args/5/0/0"
ask_only = ["employee_id"]
[sink.open.request]
path = "/jsonrpc"
body = "jsonrpc"
wrap = "/args/5/1"
envelope = { service = "object", method = "execute_kw", args = ["db", 2, "", "hr.attendance", "write", [[0]]] }
[sink.open.lookup]
method = "POST"
path = "/jsonrpc"
body = '{"jsonrpc":"2.0","id":1,"method":"call","params":{"service":"object","method":"execute_kw","args":["db",2,"","hr.attendance","search_read",[[["employee_id","=",{/employee_id}],["check_out","=",{/check_out}]]]]}}'
at = "/result"
remote_id = "/id"
[[sink.answer]]
status = [200]
when = { "/error" = { absent = true }, "/result" = { exists = true } }
verdict = "delivered"
remote_id = "/result"
[[sink.answer]]
status = [200]
when = { "/error/data/name" = { prefix = "odoo.exceptions.AccessDenied" } }
verdict = "block"
reason = "/error/data/message"
[[sink.answer]]
status = [200]
when = { "/error/data/name" = { in = ["odoo.exceptions.ValidationError", "odoo.exceptions.UserError"] } }
verdict = "lookup"
reason = "/error/data/message"
[[sink.answer]]
status = [200]
when = { "/error/data/name" = { prefix = "psycopg2." } }
verdict = "retry"
reason = "/error/data/message"
"#;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    id: u64,
    employee: u64,
    check_in: String,
    pub(crate) check_out: Option<String>,
}

/// An error as Odoo has it: the exception's name, its words, the status that JSON-2 gives it.
struct Fault(&'static str, &'static str, u16);

#[derive(Clone, Default)]
pub(crate) struct Odoo(pub(crate) Arc<Mutex<Vec<Interval>>>);

impl Odoo {
    pub(crate) fn intervals(&self) -> Vec<Interval> {
        self.0.lock().unwrap().clone()
    }

    /// Somebody clocks in by hand.
    pub(crate) fn by_hand(&self, employee: u64, check_in: &str) -> u64 {
        let mut all = self.0.lock().unwrap();
        let id = 101 + all.len() as u64;
        all.push(Interval { id, employee, check_in: check_in.to_owned(), check_out: None });
        id
    }

    /// A method of `hr.attendance`, its arguments by name.
    fn call(&self, method: &str, arguments: &Value) -> Result<Value, Fault> {
        const VALIDATION: &str = "odoo.exceptions.ValidationError";
        match method {
            "create" => {
                let (before, mut ids) = (self.intervals(), Vec::new());
                for vals in arguments["vals_list"].as_array().unwrap() {
                    let (employee, check_in) =
                        (vals["employee_id"].as_u64().unwrap(), vals["check_in"].as_str().unwrap());
                    let open = self.intervals().iter().any(|i| i.employee == employee && i.check_out.is_none());
                    if open {
                        // One transaction: nothing of the batch stays.
                        *self.0.lock().unwrap() = before;
                        return Err(Fault(VALIDATION, "the employee hasn't checked out since", 422));
                    }
                    ids.push(self.by_hand(employee, check_in));
                }
                Ok(json!(ids))
            }
            "write" => {
                assert_eq!(arguments["vals"].as_object().unwrap().len(), 1, "an exit and nothing else: {arguments}");
                let (id, out) =
                    (arguments["ids"][0].as_u64().unwrap(), arguments["vals"]["check_out"].as_str().unwrap());
                let mut all = self.0.lock().unwrap();
                let Some(one) = all.iter_mut().find(|i| i.id == id) else {
                    return Err(Fault("odoo.exceptions.MissingError", "the record does not exist", 404));
                };
                if one.check_in.as_str() > out {
                    return Err(Fault(VALIDATION, "\"Check Out\" time cannot be earlier than \"Check In\" time.", 422));
                }
                one.check_out = Some(out.to_owned());
                Ok(Value::Bool(true))
            }
            "search_read" => {
                let domain = arguments["domain"].as_array().unwrap();
                let meets = |interval: &&Interval| {
                    domain.iter().all(|leaf| {
                        assert_eq!(leaf[1], "=");
                        match leaf[0].as_str().unwrap() {
                            "employee_id" => leaf[2] == interval.employee,
                            "check_in" => leaf[2] == interval.check_in.as_str(),
                            "check_out" => {
                                leaf[2] == interval.check_out.clone().map_or(Value::Bool(false), Value::from)
                            }
                            other => panic!("{other}"),
                        }
                    })
                };
                let all = self.intervals();
                let found = all.iter().filter(meets).map(|i| json!({ "id": i.id, "check_in": i.check_in }));
                Ok(found.collect())
            }
            other => panic!("{other}"),
        }
    }

    pub(crate) fn reply(&self, request: &Request) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        if let Some(method) = request.path.strip_prefix("/json/2/hr.attendance/") {
            assert_eq!(request.authorization.as_deref(), Some("bearer sesame"));
            return match self.call(method, &body) {
                Ok(result) => Reply::new(200, result.to_string(), 1),
                Err(Fault(name, message, status)) => {
                    let error =
                        json!({ "name": name, "message": message, "arguments": [message], "context": {}, "debug": "" });
                    Reply::new(status, error.to_string(), 0)
                }
            };
        }
        assert_eq!(request.path, "/jsonrpc");
        let args = body["params"]["args"].as_array().unwrap();
        assert_eq!((&args[2], &args[3]), (&json!("sesame"), &json!("hr.attendance")));
        let (method, positional) = (args[4].as_str().unwrap(), &args[5]);
        let named = match method {
            "create" => json!({ "vals_list": [positional[0]] }),
            "write" => json!({ "ids": positional[0], "vals": positional[1] }),
            _ => json!({ "domain": positional[0] }),
        };
        let answer = match self.call(method, &named) {
            Ok(result) => {
                json!({ "jsonrpc": "2.0", "id": body["id"], "result": if method == "create" { result[0].clone() } else { result } })
            }
            Err(Fault(name, message, _)) => rpc_error(name, message),
        };
        Reply::new(200, answer.to_string(), 1)
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        let odoo = self.clone();
        Behaviour::Custom(Arc::new(move |request| odoo.reply(request)))
    }
}

pub(crate) fn rpc_error(name: &str, message: &str) -> Value {
    let data = json!({ "name": name, "message": message, "arguments": [message], "debug": "Traceback" });
    json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 0, "message": "Odoo Server Error", "data": data } })
}

/// What was asked, whichever way it was said.
pub(crate) fn method(request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let named = body["params"]["args"][4].as_str().map(str::to_owned);
    named.unwrap_or_else(|| request.path.rsplit('/').next().unwrap().to_owned())
}

pub(crate) fn methods(vendor: &VendorApi) -> Vec<String> {
    vendor.requests().iter().map(method).collect()
}

/// A punch at so many minutes after 2025-03-10 11:00:00 UTC.
pub(crate) fn punch(world: &World, person: &str, punch: Punch, minutes: i64) -> Event {
    let mut event = world.event(Some(person));
    let start: jiff::Timestamp = "2025-03-10T11:00:00Z".parse().unwrap();
    event.times.event.0 = start.as_microsecond() + minutes * 60_000_000;
    event.reading.punch = Some(punch);
    event
}

pub(crate) async fn relay(text: &str, vendor: &VendorApi, world: &World) -> Running {
    let config = configured(text, &format!("http://127.0.0.1:{}", vendor.port), world.dir.path());
    world.relay(api::Api::new("far", config, world.clock.clone()).unwrap()).await
}

pub(crate) fn interval(id: u64, employee: u64, check_in: &str, check_out: Option<&str>) -> Interval {
    let day = |time: &str| format!("2025-03-10 {time}");
    Interval { id, employee, check_in: day(check_in), check_out: check_out.map(day) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_ends_the_open_interval_of_its_person_and_of_nobody_else() {
    for text in [JSON_2, JSON_RPC, &format!("batch = 10\n{JSON_2}")] {
        let (world, odoo) = (World::new().await, Odoo::default());
        let vendor = VendorApi::start(odoo.behaviour());
        let of = |person, direction, minutes| punch(&world, person, direction, minutes);
        world
            .append(&[
                of("7", Punch::In, 0),
                of("8", Punch::In, 1),
                of("8", Punch::Out, 60),
                of("7", Punch::Out, 90),
                of("7", Punch::In, 120),
                of("7", Punch::Out, 120),
                of("8", Punch::In, 180),
            ])
            .await;
        let running = relay(text, &vendor, &world).await;
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (7, 0), "{:?}", methods(&vendor));
        let expected = [
            interval(101, 7, "11:00:00", Some("12:30:00")),
            interval(102, 8, "11:01:00", Some("12:00:00")),
            interval(103, 7, "13:00:00", Some("13:00:00")),
            interval(104, 8, "14:00:00", None),
        ];
        assert_eq!(odoo.intervals(), expected);
        // One question for each exit, and none for an entry.
        assert_eq!(methods(&vendor).iter().filter(|m| *m == "search_read").count(), 3);
        // A question has no idempotency key: that is what the write is known by.
        assert!(vendor.requests().iter().all(|r| (method(r) == "search_read") == r.key.is_none()));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_without_an_open_interval_is_set_aside_in_words_and_nothing_is_written() {
    for text in [JSON_2, JSON_RPC] {
        let (world, odoo) = (World::new().await, Odoo::default());
        let vendor = VendorApi::start(odoo.behaviour());
        world.append(&[punch(&world, "7", Punch::Out, 60), punch(&world, "8", Punch::In, 61)]).await;
        let running = relay(text, &vendor, &world).await;
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (1, 1));
        let quarantined = world.journal.quarantined(None, 3).await.unwrap();
        assert_eq!(quarantined[0].reason, "no open record: the sink has no entry that this exit could end");
        assert!(!methods(&vendor).contains(&"write".to_owned()));
        // The entry is put in by hand, and the exit released.
        odoo.by_hand(7, "2025-03-10 11:30:00");
        assert_eq!(world.journal.release("far".to_owned(), None).await.unwrap(), 1);
        assert_eq!(world.drained("far").await.quarantined, 0);
        assert_eq!(odoo.intervals()[1], interval(102, 7, "11:30:00", Some("12:00:00")));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_whose_answer_was_lost_ends_no_other_interval() {
    for (text, killed) in [(JSON_2, false), (JSON_2, true), (JSON_RPC, false), (JSON_RPC, true)] {
        let (mut world, odoo) = (World::new().await, Odoo::default());
        let lost = Arc::new(AtomicBool::new(false));
        let (once, far) = (Arc::clone(&lost), odoo.clone());
        // The first exit is written and its answer lost; at once somebody begins the next interval by hand.
        let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |request| {
            let reply = far.reply(request);
            if method(request) != "write" || once.swap(true, Ordering::SeqCst) {
                return reply;
            }
            far.by_hand(7, "2025-03-10 12:00:00");
            match killed {
                true => Reply { delay: Duration::from_secs(3600), ..reply },
                false => Reply::drop_after_storing(),
            }
        })));
        world.append(&[punch(&world, "7", Punch::In, 0), punch(&world, "7", Punch::Out, 60)]).await;
        let running = relay(text, &vendor, &world).await;
        eventually_async("the exit has left", DEADLINE, || async { lost.load(Ordering::SeqCst) }).await;
        let running = match killed {
            true => {
                running.kill().await;
                world.reopen().await;
                relay(text, &vendor, &world).await
            }
            false => running,
        };
        let stats = world.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (2, 0));
        let expected = [interval(101, 7, "11:00:00", Some("12:00:00")), interval(102, 7, "12:00:00", None)];
        assert_eq!(odoo.intervals(), expected);
        assert_eq!(methods(&vendor).iter().filter(|m| *m == "write").count(), 1);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_that_comes_again_is_a_duplicate_although_nothing_is_open_or_a_later_one_is() {
    for later in [false, true] {
        let (world, odoo) = (World::new().await, Odoo::default());
        let vendor = VendorApi::start(odoo.behaviour());
        world.append(&[punch(&world, "7", Punch::In, 0), punch(&world, "7", Punch::Out, 60)]).await;
        let running = relay(JSON_2, &vendor, &world).await;
        assert_eq!(world.drained("far").await.delivered, 2);
        running.stop().await;
        if later {
            odoo.by_hand(7, "2025-03-10 13:00:00");
        }
        let before = odoo.intervals();
        // The whole journal once more, from another box.
        let again = World::new().await;
        again.append(&[punch(&again, "7", Punch::Out, 60)]).await;
        let running = relay(JSON_2, &vendor, &again).await;
        let stats = again.drained("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (1, 0));
        assert_eq!(odoo.intervals(), before);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_is_not_sent_before_its_entry_has_arrived() {
    for text in [JSON_2, JSON_RPC] {
        let (world, odoo) = (World::new().await, Odoo::default());
        let refused = Arc::new(Mutex::new(0));
        let (count, far, rpc) = (Arc::clone(&refused), odoo.clone(), text == JSON_RPC);
        let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |request| {
            let mut count = count.lock().unwrap();
            if *count < 3 {
                *count += 1;
                let busy = rpc_error("psycopg2.OperationalError", "try again");
                return if rpc { Reply::new(200, busy.to_string(), 0) } else { Reply::refuse(503) };
            }
            far.reply(request)
        })));
        world.append(&[punch(&world, "7", Punch::In, 0), punch(&world, "7", Punch::Out, 60)]).await;
        let running = relay(text, &vendor, &world).await;
        assert_eq!(world.drained("far").await.delivered, 2);
        assert_eq!(odoo.intervals(), [interval(101, 7, "11:00:00", Some("12:00:00"))]);
        assert_eq!(*refused.lock().unwrap(), 3);
        let asked = methods(&vendor);
        let first = |name: &str| asked.iter().position(|m| m == name).unwrap();
        assert!(first("write") > asked.iter().rposition(|m| m == "create").unwrap(), "{asked:?}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_that_has_been_open_for_longer_than_a_shift_and_overtime_lacks_an_exit_and_is_left_alone() {
    let (world, odoo) = (World::new().await, Odoo::default());
    odoo.by_hand(7, "2025-03-09 19:59:00");
    let vendor = VendorApi::start(odoo.behaviour());
    world.append(&[punch(&world, "7", Punch::In, 0), punch(&world, "7", Punch::Out, 60)]).await;
    let running = relay(JSON_2, &vendor, &world).await;
    assert_eq!(world.drained("far").await.quarantined, 2);
    let reasons: Vec<String> =
        world.journal.quarantined(None, 3).await.unwrap().into_iter().map(|q| q.reason).collect();
    let missing = "the open record begins more than 16 hours before this exit: an exit is missing";
    assert!(reasons.iter().any(|r| r == missing), "{reasons:?}");
    assert!(reasons.iter().any(|r| r == "http 422: the employee hasn't checked out since"), "{reasons:?}");
    assert_eq!(odoo.intervals()[0].check_out, None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_object_in_answer_to_the_question_is_no_empty_list() {
    // Blocked, in the vendor's words, and it goes on once that is mended.
    let (world, odoo) = (World::new().await, Odoo::default());
    odoo.by_hand(7, "2025-03-10 11:00:00");
    let denied = rpc_error("odoo.exceptions.AccessDenied", "Access Denied").to_string();
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |_| Reply::new(200, denied.clone(), 0))));
    world.append(&[punch(&world, "7", Punch::Out, 60)]).await;
    let running = relay(JSON_RPC, &vendor, &world).await;
    running.until_state("blocked").await;
    assert!(running.error().contains("Access Denied"), "{}", running.error());
    vendor.behave(odoo.behaviour());
    assert_eq!(world.drained("far").await.delivered, 1);
    running.stop().await;

    // Two open records: nobody knows which one.
    odoo.by_hand(7, "2025-03-10 12:30:00");
    odoo.by_hand(7, "2025-03-10 12:40:00");
    world.append(&[punch(&world, "7", Punch::Out, 120)]).await;
    let running = relay(JSON_RPC, &vendor, &world).await;
    assert_eq!(world.drained("far").await.quarantined, 1);
    let quarantined = world.journal.quarantined(None, 3).await.unwrap();
    assert_eq!(quarantined[0].reason, "2 open records, and nothing says which one this exit ends");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_shows_what_is_asked_before_an_exit_leaves() {
    let world = World::new().await;
    let config = configured(JSON_2, "http://127.0.0.1:1", world.dir.path());
    let sink = api::Api::new("far", config, world.clock.clone()).unwrap();
    let records = [(1, Punch::In, 0), (2, Punch::Out, 60)]
        .map(|(seq, direction, minutes)| record(seq, punch(&world, "7", direction, minutes)));
    let shown = sink.preview(&records);
    let [Preview::Request(entry), Preview::Request(exit)] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(entry.asks, None);
    assert_eq!(exit.url, "http://127.0.0.1:1/json/2/hr.attendance/write");
    assert_eq!(String::from_utf8_lossy(&exit.body), r#"{"ids":[0],"vals":{"check_out":"2025-03-10 12:00:00"}}"#);
    let asks = exit.asks.as_ref().unwrap();
    assert_eq!(
        (asks.method.as_str(), asks.url.as_str()),
        ("POST", "http://127.0.0.1:1/json/2/hr.attendance/search_read")
    );
    assert!(asks.body.contains(r#"["employee_id","=",7],["check_out","=",false]"#), "{}", asks.body);
}

/// A vendor with the record in the path, as Kimai and BambooHR have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_that_an_exit_ends_may_stand_in_the_path() {
    let text = r#"
on_ambiguous = "hold"
request = { path = "/entries" }
map = { worker = "/person/external_id", start = { from = "/event_time", zone = "utc", format = "%H:%M", when = { "/punch" = "in" } }, end = { from = "/event_time", zone = "utc", format = "%H:%M", when = { "/punch" = "out" } } }
answer = [{ status = [200], verdict = "delivered" }]
[sink.open]
when = { "/punch" = ["out"] }
path = "/entries?worker={/worker}&open=true"
id = "/id"
ask_only = ["worker"]
request = { method = "PATCH", path = "/entries/{open}/stop" }
"#;
    let mut world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|request| match request.method.as_str() {
        "GET" => Reply::new(200, r#"[{"id":"a/7"}]"#, 0),
        _ => Reply::new(200, "{}", 1),
    })));
    let exit = punch(&world, "7", Punch::Out, 60);
    world.append(std::slice::from_ref(&exit)).await;
    let running = relay(text, &vendor, &world).await;
    assert_eq!(world.drained("far").await.delivered, 1);
    let asked: Vec<_> = vendor.requests().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    assert_eq!(asked, ["GET /entries?worker=7&open=true", "PATCH /entries/a%2F7/stop"]);
    assert_eq!(vendor.requests()[1].body.as_ref(), br#"{"end":"12:00"}"#);
    running.stop().await;
    // What it ended is what the vendor calls it; a run of deliveries is written down at its end.
    world.reopen().await;
    let traced = world.journal.trace(exit.id).await.unwrap();
    assert!(format!("{traced:?}").contains("remote_id: Some(\"a/7\")"), "{traced:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_stamps_its_own_time_gets_no_backlog() {
    let text = "on_ambiguous = \"resend\"\nrequest = { stamps_server_time = true }\nmap = { worker = \"/person/external_id\" }\n\
                answer = [{ status = [200], verdict = \"delivered\" }]\n";
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Ok);
    let (old, mut new) = (punch(&world, "7", Punch::In, 0), punch(&world, "8", Punch::In, 0));
    new.times.event = world.clock.now().wall;
    world.append(&[old, new]).await;
    let running = relay(text, &vendor, &world).await;
    let stats = world.drained("far").await;
    assert_eq!((stats.delivered, stats.quarantined, vendor.request_count()), (1, 1, 1));
    let quarantined = world.journal.quarantined(None, 3).await.unwrap();
    let said = "older than max_age_seconds (300) when it was to be sent; the vendor would stamp it with its own time";
    assert_eq!(quarantined[0].reason, said);
    running.stop().await;
}
