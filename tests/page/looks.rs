//! What the page shows beyond states and counts: the last events, clocks, and everything at once, as a picture.
//!
//! Must not: judge looks. Pictures are for people; what a machine can tell of them is here: nothing hangs over the edge.

use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::support::shelf::Shelf;
use crate::support::{Signer, find_program};

/// The list of the last events, as HTML.
fn recent(page: u16) -> String {
    let body = get(page, "/?lang=en").body;
    let (_, rest) = body.split_once("<section id=\"recent\">").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

/// One record of a device of the yard, whose clock is so many seconds ahead.
fn publish(broker: u16, device: &str, seq: u32, ahead: i64) {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
    let payload = format!(
        "{{\"event_id\":\"{seq}\",\"ts\":\"{at:.0}\",\"sn\":\"{device}\",\"pin\":\"4711\",\"dir\":\"in\",\"verify\":\"face\"}}"
    );
    eventually("the broker listens", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", broker)).is_ok());
    let mut command = Command::new(find_program("mosquitto_pub", &[]));
    let (port, topic) = (broker.to_string(), format!("site/yard/{device}/events"));
    command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", &topic, "-m", &payload]);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn the_last_events_are_listed_and_people_are_named_only_where_the_configuration_says_so() {
    for people in [false, true] {
        let vendor = VendorApi::start(Behaviour::Ok);
        let filtered = support::api_sink(&vendor.url(), 10).replace("\"vendor\"", "\"none\"") + "kinds = [\"alarm\"]\n";
        let sinks = [support::api_sink(&vendor.url(), 10), filtered].concat();
        let site = Site::start(if people { "page_people = true" } else { "" }, &sinks, &[]);
        assert!(recent(site.page).contains("None yet."));
        site.play(30, 4);
        eventually("the newest are there, and delivered", DEADLINE, || {
            let list = recent(site.page);
            list.contains("data-seq=\"30\"")
                && list.matches("vendor: delivered").count() == 20
                && list.matches("none: not for it").count() == 20
        });
        let list = recent(site.page);
        assert_eq!(list.matches("<li ").count(), 20, "{list}");
        assert!(list.find("data-seq=\"30\"") < list.find("data-seq=\"11\"") && !list.contains("data-seq=\"10\""));
        assert!(list.contains("<b>yard</b>"), "{list}");
        let newest = site.gateway.cli(&["events", "--json", "--limit", "20"]);
        for line in String::from_utf8(newest.stdout).unwrap().lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let person = event["person"]["terminal_person_id"].as_str().unwrap();
            let named = list.contains(&format!("<span class=\"who\">{person}</span>"));
            assert_eq!(named, people, "{person}: {list}");
            if !people {
                let card = event["credential"]["card_number"].as_str().unwrap_or("no card");
                assert!(!list.contains("class=\"who\"") && !list.contains(card), "{card}: {list}");
            }
        }
    }
}

#[test]
fn a_device_whose_clock_is_ahead_is_named_with_how_far() {
    let site = Site::start_clocked("");
    publish(site.broker, "dev-a", 1, 0);
    let clock = |device: &str| {
        let status = site.status();
        let devices = status["links"][1]["devices"].as_array().cloned().unwrap_or_default();
        devices.into_iter().find(|d| d["key"] == device).map(|d| (d["clock"].clone(), d["drift_ms"].as_i64()))
    };
    eventually("its clock is right", DEADLINE, || clock("dev-a").is_some_and(|(word, _)| word == "good"));
    publish(site.broker, "dev-b", 1, 90);
    eventually("the other one's is ahead", DEADLINE, || {
        clock("dev-b").is_some_and(|(word, ms)| word == "ahead" && (60_000..=90_000).contains(&ms.unwrap()))
    });
    // A day ahead can't be.
    publish(site.broker, "dev-a", 2, 86_400);
    eventually("that is no time", DEADLINE, || {
        clock("dev-a").is_some_and(|(word, ms)| word == "wrong" && ms.is_none())
    });
    let table = String::from_utf8(site.gateway.cli(&["status"]).stdout).unwrap();
    assert!(table.contains("the clock of dev-a is wrong (and 1 more)"), "{table}");
    let families = parse(&get(site.page, "/metrics").body);
    let of = |name: &str| sample(&families, name, "terminal", "yard").unwrap();
    assert!((of("portero_device_clocks_wrong") - 1.0).abs() < 0.5);
    assert!((60.0..=90.0).contains(&of("portero_device_clock_ahead_seconds")));
    let page = get(site.page, "/?lang=en").body;
    assert!(page.contains("dev-a: wrong time") && page.contains("class=\"card warn\" id=\"link-yard\""), "{page}");
}

/// Everything at once: four sinks in four states, a terminal that is not there, a fleet with a wrong clock, a bundle from afar
/// and one that was refused.
#[test]
fn everything_at_once_fits_a_desk_and_a_phone_in_both_languages() {
    let number = |event: &Value| event["person"]["terminal_person_id"].as_str().and_then(|pin| pin.parse::<u64>().ok());
    let picky = move |event: &Value| number(event).is_some_and(|pin| pin.is_multiple_of(7));
    let (well, mut away) = (VendorApi::start(Behaviour::Ok), VendorApi::start(Behaviour::Ok));
    let payroll = VendorApi::start(Behaviour::RejectIf(Arc::new(picky)));
    let locked = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::refuse(401))));
    away.stop();
    let sink = |vendor: &VendorApi, name: &str| {
        support::api_sink(&vendor.url(), 10).replace("\"vendor\"", &format!("\"{name}\""))
    };
    let sinks = [sink(&well, "hr"), sink(&payroll, "payroll"), sink(&locked, "safety-board"), sink(&away, "archive")];
    let (shelf, signer) = (Shelf::start(), Signer::new());
    let remote = signer.remote(&shelf.url("gw.toml"), "probation_seconds = 1");
    let gate = "\n[[terminal]]\nname = \"north-gate-turnstile-2\"\nprotocol = \"rdm6300\"\n\
                link = { type = \"serial\", device = \"/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0\" }\n";
    let site = Site::start_clocked(&[&sinks.concat(), gate, &remote].concat());
    for device in ["dev-a", "dev-b"] {
        publish(site.broker, device, 1, 0);
    }
    site.play(200, 7);
    publish(site.broker, "dev-b", 2, 95);
    let lay = |revision: u32, signer: &Signer| {
        signer.lay(&shelf, &format!("revision = {revision}\n"), "[log]\nlevel = \"debug\"\n");
    };
    lay(41, &signer);
    let remote = || site.status()["configuration"]["remote"].clone();
    eventually("the bundle runs", 2 * DEADLINE, || remote()["revision"] == 41 && remote()["probation"].is_null());
    lay(42, &Signer::new());
    eventually("a stranger's is refused", DEADLINE, || remote()["error"].is_string());
    let state = |name: &str| {
        let status = site.status();
        let sinks = status["sinks"].as_array().unwrap();
        sinks.iter().find(|sink| sink["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };
    eventually("each sink is in its state", 2 * DEADLINE, || {
        [state("hr"), state("payroll"), state("safety-board"), state("archive")] == ["idle", "idle", "blocked", "open"]
    });
    let families = parse(&get(site.page, "/metrics").body);
    let of = |name: &str, label: &str, value: &str| sample(&families, name, label, value);
    assert_eq!(of("portero_configuration_revision", "", ""), Some(41.0));
    assert_eq!(of("portero_configuration_remote_well", "", ""), Some(0.0));
    assert_eq!(of("portero_configuration_state", "state", "running"), Some(1.0));
    assert!(of("portero_process_written_bytes_total", "", "") > Some(0.0));
    assert!(of("portero_process_resident_memory_bytes", "", "") > Some(1e6));
    assert_eq!(of("portero_sink_state", "sink", "archive"), Some(0.0), "its first state is idle");
    let browser = Browser::start("en");
    let pictures = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for language in ["en", "es"] {
        browser.open(&format!("http://127.0.0.1:{}/?lang={language}", site.page));
        assert_eq!(browser.text("#configuration [data-field=revision]"), "41");
        assert_eq!(browser.run("return document.querySelectorAll('#link-yard .bars').length;"), 1, "no chart");
        for (width, dark, name) in [(1280, false, "desktop"), (390, false, "phone"), (390, true, "phone-dark")] {
            browser.shoot(&pictures.join(format!("all-{language}-{name}.png")), width, dark);
            let over = browser.run(
                "const wide = document.documentElement.clientWidth; return [...document.querySelectorAll('body *')]\
                 .filter((e) => e.getBoundingClientRect().right > wide + 1 || e.scrollWidth > e.clientWidth + 1 \
                 && getComputedStyle(e).display !== 'inline').map((e) => e.tagName + '.' + e.className);",
            );
            assert_eq!(over, serde_json::json!([]), "hangs over at {width}");
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
