//! Each preset against a stand-in that answers as the vendor's documents say: the exact request, and every answer's
//! verdict in `answers.rs`.

use std::sync::Arc;

use portero::deliver::api;
use portero::event::Punch;

use crate::answers::configured;
use crate::support::{Behaviour, Reply, Request, VendorApi};
use crate::world::{World, record, send};

/// What a preset sends for one entry of worker 12.345.678-k at 2025-03-10 11:00:00 UTC, at a site in UTC.
async fn sent(text: &str, punch: Punch, answer: Reply) -> Request {
    let world = World::new().await;
    let path = world.dir.path().join("webhook");
    std::fs::write(&path, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |_| answer.clone())));
    let config = configured(text, &format!("http://127.0.0.1:{}", vendor.port), world.dir.path());
    let mut event = world.event(Some("12345678"));
    event.reading.punch = Some(punch);
    event.reading.person.external_id = Some("12345678".to_owned());
    let mut sink = api::Api::new("far", config, world.clock.clone()).unwrap();
    let outcome = send(&mut sink, &[record(1, event)]).await;
    assert!(matches!(outcome, portero::deliver::Outcome::Settled(_)), "{outcome:?}");
    vendor.requests().remove(0)
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

fn body(request: &Request) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buk_clockings_is_sent_as_its_contract_has_it() {
    let text = "preset = \"buk-clockings\"\nauth.headers.x-provider-token = { file = \"{dir}/key\" }\n\
                auth.headers.x-provider-name = \"portero\"\n";
    let request = sent(text, Punch::Out, Reply::new(201, r#"{"code":"CLOCKING_CREATED"}"#, 1)).await;
    assert_eq!((request.path.as_str(), header(&request, "x-provider-token")), ("/v1/clockings", "sesame"));
    assert_eq!(
        body(&request),
        r#"{"serialNumber":"CJ9D232460003","idNumber":"12345678","time":"2025-03-10 11:00:00","isEntry":false}"#
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frappe_hr_is_sent_as_a_form_with_its_own_word_before_the_token() {
    let text = "preset = \"frappe-hr\"\nauth.headers.Authorization = { file = \"{dir}/key\", prefix = \"token \" }\n";
    let request = sent(text, Punch::In, Reply::new(200, r#"{"message":{"name":"EMP-CKIN-1"}}"#, 1)).await;
    assert!(request.path.ends_with("employee_checkin.add_log_based_on_employee_field"), "{}", request.path);
    assert_eq!(request.authorization.as_deref(), Some("token sesame"));
    assert_eq!(header(&request, "content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        body(&request),
        "employee_field_value=12345678&timestamp=2025-03-10+11%3A00%3A00.000000&device_id=yard&log_type=IN"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecteam_goes_to_the_clock_by_the_direction() {
    let text = "preset = \"connecteam\"\nauth.key = { file = \"{dir}/key\" }\nrequest.max_age_seconds = 315360000\n\
                request.path = { from = \"/punch\", map = { in = \"/time-clock/v1/time-clocks/7/clock-in\", \
                out = \"/time-clock/v1/time-clocks/7/clock-out\" } }\n";
    let request = sent(text, Punch::Out, Reply::new(200, r#"{"requestId":"r","data":{}}"#, 1)).await;
    assert_eq!(
        (request.path.as_str(), header(&request, "x-api-key")),
        ("/time-clock/v1/time-clocks/7/clock-out", "sesame")
    );
    assert_eq!(body(&request), r#"{"userId":12345678,"timestamp":1741604400,"timezone":"America/Santiago"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odoo_is_sent_as_named_arguments_with_a_lower_case_bearer() {
    let text = "preset = \"odoo\"\nauth.headers.Authorization = { file = \"{dir}/key\", prefix = \"bearer \" }\n";
    let request = sent(text, Punch::In, Reply::new(200, "[101]", 1)).await;
    assert_eq!(
        (request.path.as_str(), request.authorization.as_deref()),
        ("/json/2/hr.attendance/create", Some("bearer sesame"))
    );
    assert_eq!(body(&request), r#"{"vals_list":[{"employee_id":12345678,"check_in":"2025-03-10 11:00:00"}]}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odoo_sets_a_break_aside_and_sends_nothing_of_it() {
    let world = World::new().await;
    let vendor = VendorApi::start(Behaviour::Ok);
    let text = "preset = \"odoo\"\nauth.headers.Authorization = { file = \"{dir}/key\", prefix = \"bearer \" }\n";
    let config = configured(text, &format!("http://127.0.0.1:{}", vendor.port), world.dir.path());
    let mut pause = world.event(Some("12345678"));
    pause.reading.punch = Some(Punch::BreakOut);
    world.append(&[pause]).await;
    let _relay = world.relay(api::Api::new("far", config, world.clock.clone()).unwrap()).await;
    assert_eq!(world.drained("far").await.quarantined, 1);
    assert_eq!(vendor.request_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bamboohr_names_the_worker_in_the_path_and_an_exit_by_its_end() {
    let text = "preset = \"bamboohr\"\nauth.user = { file = \"{dir}/key\" }\n";
    for (punch, path, key) in [(Punch::In, "clock_in", "start"), (Punch::Out, "clock_out", "end")] {
        let request = sent(text, punch, Reply::new(200, r#"{"id":5}"#, 1)).await;
        assert_eq!(request.path, format!("/api/v1/time_tracking/employees/12345678/{path}"));
        assert_eq!(request.authorization.as_deref(), Some("Basic c2VzYW1lOng="));
        assert_eq!(
            body(&request),
            format!(r#"{{"date":"2025-03-10","{key}":"11:00","timezone":"America/Santiago","offline":true}}"#)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standard_webhook_carries_kind_time_and_the_event_itself() {
    let text = "preset = \"standard-webhook\"\nauth.secret = { file = \"{dir}/webhook\" }\n";
    let request = sent(text, Punch::In, Reply::new(204, "", 1)).await;
    let said: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        (said["type"].as_str(), said["timestamp"].as_str()),
        (Some("portero.attendance_punch"), Some("2025-03-10T11:00:00Z"))
    );
    assert_eq!(said["data"]["event_id"].as_str(), request.key.as_deref());
    assert_eq!(header(&request, "webhook-id"), request.key.as_deref().unwrap());
}
