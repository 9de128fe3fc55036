//! The status page, metrics and health, asked over real HTTP of a real gateway, and looked at in a real browser.
//!
//! New tests of `[manage] listen` go here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

#[path = "page/browser.rs"]
mod browser;
#[path = "page/http.rs"]
mod http;
#[path = "page/looks.rs"]
mod looks;
mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use browser::Browser;
use http::{get, send};
use serde_json::Value;
use support::{Behaviour, DEADLINE, Gateway, Reply, VendorApi, eventually, free_port, tempdir};

/// A gateway with the yard fleet, a vendor and a page.
struct Site {
    page: u16,
    broker: u16,
    gateway: Gateway,
    dir: tempfile::TempDir,
}

impl Site {
    /// `manage` are further lines of `[manage]`, `sinks` the sinks.
    fn start(manage: &str, sinks: &str, credentials: &[(&str, &str)]) -> Self {
        Self::start_with(manage, "", sinks, credentials)
    }

    /// The same with further lines of `[journal]`.
    fn start_with(manage: &str, journal: &str, sinks: &str, credentials: &[(&str, &str)]) -> Self {
        Self::start_on(free_port(), manage, journal, sinks, credentials)
    }

    fn start_on(page: u16, manage: &str, journal: &str, sinks: &str, credentials: &[(&str, &str)]) -> Self {
        let change = |text: String| text.replace("[journal]\n", &format!("[journal]\n{journal}\n"));
        Self::start_changed(page, manage, sinks, credentials, change)
    }

    /// One whose clock is called right.
    fn start_clocked(sinks: &str) -> Self {
        let change = |text: String| text.replace("[gateway]\n", "[gateway]\nclock = \"trusted\"\n");
        Self::start_changed(free_port(), "", sinks, &[], change)
    }

    fn start_changed(
        page: u16,
        manage: &str,
        sinks: &str,
        credentials: &[(&str, &str)],
        change: impl Fn(String) -> String,
    ) -> Self {
        let (dir, broker) = (tempdir(), free_port());
        let text = support::yard_config(dir.path(), &format!("listen = \"127.0.0.1:{broker}\""), sinks);
        let text = text.replace("[manage]\n", &format!("[manage]\nlisten = \"127.0.0.1:{page}\"\n{manage}\n"));
        let text = change(text);
        let config = dir.path().join("portero.toml");
        std::fs::write(&config, text).unwrap();
        let mut gateway = Gateway::start(&config, credentials);
        gateway.wait_ready();
        eventually("the page listens", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", page)).is_ok());
        Self { page, broker, gateway, dir }
    }

    fn play(&self, count: u32, seed: u32) {
        self.gateway.play_yard(self.broker, count, seed, &[]);
    }

    fn status(&self) -> Value {
        get(self.page, "/status.json").json()
    }
}

/// What Prometheus' own library reads out of a scrape.
fn parse(text: &str) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/parse_metrics.py");
    let mut python = Command::new("/usr/bin/python3");
    let mut parser =
        python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let parsed = parser.wait_with_output().unwrap();
    assert!(parsed.status.success(), "{}\n{text}", String::from_utf8_lossy(&parsed.stderr));
    serde_json::from_slice(&parsed.stdout).unwrap()
}

fn sample(families: &[Value], name: &str, label: &str, value: &str) -> Option<f64> {
    let samples = families.iter().flat_map(|family| family["samples"].as_array().unwrap());
    let mut found = samples.filter(|s| s["name"] == name && (label.is_empty() || s["labels"][label] == value));
    found.next()?["value"].as_f64()
}

#[test]
fn the_page_is_for_reading_and_for_callers_who_mean_this_gateway() {
    let site = Site::start("hosts = [\"gw-1.site.example\"]", "", &[]);
    for host in ["127.0.0.1", "localhost:1", "gw-1.site.example", "[::1]:8787"] {
        let answer = send(site.page, "GET", "/status.json", &format!("Host: {host}\r\n"), "").unwrap();
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    for host in ["Host: evil.example\r\n", "Host: 10.0.0.7\r\n", "Host: localhost.evil.example\r\n"] {
        for path in ["/", "/status.json", "/metrics", "/healthz", "/readyz", "/elsewhere"] {
            let answer = send(site.page, "GET", path, host, "").unwrap();
            assert_eq!((answer.status, answer.body.contains("gw-test")), (403, false), "{host}{path}: {answer:?}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let answer = send(site.page, method, "/", "Host: localhost\r\n", "x").unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let head = send(site.page, "HEAD", "/", "Host: localhost\r\n", "").unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for path in ["/", "/status.json", "/metrics", "/healthz", "/readyz", "/elsewhere"] {
        let answer = get(site.page, path);
        assert_eq!(answer.status, if path == "/elsewhere" { 404 } else { 200 }, "{answer:?}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {}", answer.head);
        }
    }
}

#[test]
fn a_token_is_asked_for_where_one_is_configured() {
    let site = Site::start("token = { credential = \"page\" }", "", &[("page", "correct horse\n")]);
    for path in ["/", "/status.json", "/metrics", "/healthz", "/readyz"] {
        for wrong in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic Og==\r\n"] {
            let answer = send(site.page, "GET", path, &format!("Host: localhost\r\n{wrong}"), "").unwrap();
            assert_eq!((answer.status, answer.body.contains("gw-test")), (401, false), "{path} {wrong}");
            assert!(answer.header("www-authenticate").is_some_and(|ask| ask.starts_with("Basic ")));
        }
        // `anybody:correct horse`
        for right in ["Bearer correct horse", "Basic YW55Ym9keTpjb3JyZWN0IGhvcnNl"] {
            let headers = format!("Host: localhost\r\nAuthorization: {right}\r\n");
            assert_eq!(send(site.page, "GET", path, &headers, "").unwrap().status, 200, "{path}");
        }
    }
    assert!(!site.gateway.log().contains("correct horse"));
}

#[test]
fn the_page_takes_a_bounded_number_of_connections_and_the_gateway_works_on() {
    let site = Site::start("", "", &[]);
    let idle: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(("127.0.0.1", site.page)).unwrap()).collect();
    site.play(50, 1);
    let held = std::fs::read_dir(format!("/proc/{}/fd", site.gateway.pid())).unwrap().count();
    assert!(held < 100, "{held} files are open");
    drop(idle);
    eventually("the page answers again", DEADLINE, || {
        send(site.page, "GET", "/healthz", "Host: localhost\r\n", "").is_ok_and(|answer| answer.status == 200)
    });
    eventually("the events are seen", DEADLINE, || site.status()["journal"]["appended"] == 50);
}

#[test]
fn an_address_that_is_taken_costs_the_page_and_nothing_else_until_it_is_free() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::start_on(other.local_addr().unwrap().port(), "", "", "", &[]);
    site.play(5, 2);
    assert_eq!(site.gateway.cli_json(&["status", "--json"])["journal"]["appended"], 5);
    eventually("the log says so", DEADLINE, || site.gateway.log().contains("give [manage] listen another"));
    drop(other);
    eventually("the page is there", DEADLINE, || {
        send(site.page, "GET", "/readyz", "Host: localhost\r\n", "").is_ok_and(|answer| answer.status == 200)
    });
}

/// I4, from outside: one scrape, while events come in, are refused and are filtered.
#[test]
fn the_ledger_of_every_scrape_balances() {
    let number = |event: &Value| event["person"]["terminal_person_id"].as_str().and_then(|pin| pin.parse::<u64>().ok());
    let picky = move |event: &Value| number(event).is_some_and(|pin| pin.is_multiple_of(7));
    let vendor = VendorApi::start(Behaviour::RejectIf(Arc::new(picky)));
    let filtered = support::api_sink(&vendor.url(), 10).replace("\"vendor\"", "\"none\"") + "kinds = [\"alarm\"]\n";
    let site = Site::start("", &[support::api_sink(&vendor.url(), 10), filtered].concat(), &[]);
    let scrape = || {
        let answer = get(site.page, "/metrics");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let families = parse(&answer.body);
        for sink in ["vendor", "none"] {
            let of = |name: &str| sample(&families, &format!("portero_sink_{name}"), "sink", sink).unwrap();
            let sum =
                of("delivered_total") + of("pending") + of("quarantined") + of("dropped_total") + of("filtered_total");
            assert!((of("appended_total") - sum).abs() < 0.5, "{sink} does not balance:\n{}", answer.body);
        }
        families
    };
    scrape();
    std::thread::scope(|scope| {
        let player = scope.spawn(|| site.play(600, 7));
        while !player.is_finished() {
            scrape();
        }
    });
    eventually("everything is settled", DEADLINE, || {
        let families = scrape();
        sample(&families, "portero_sink_pending", "sink", "vendor") == Some(0.0)
            && sample(&families, "portero_sink_filtered_total", "sink", "none") == Some(600.0)
    });
    let families = scrape();
    let of = |name: &str, label: &str, value: &str| sample(&families, name, label, value).unwrap();
    assert!(of("portero_sink_quarantined", "sink", "vendor") > 0.0);
    assert!((of("portero_events_appended_total", "terminal", "yard") - 600.0).abs() < 0.5);
    assert!((of("portero_journal_events_total", "", "") - 600.0).abs() < 0.5);
    assert!((of("portero_sink_oldest_pending_age_seconds", "sink", "vendor")).abs() < 0.5);
    for family in &families {
        let name = family["name"].as_str().unwrap();
        assert!(name.starts_with("portero_") && !family["help"].as_str().unwrap().is_empty(), "{family}");
        let states: Vec<_> =
            family["samples"].as_array().unwrap().iter().filter(|s| s["labels"]["state"].is_string()).collect();
        let owners = states.iter().filter(|s| s["value"] == 1.0).count();
        let names: std::collections::HashSet<_> =
            states.iter().map(|s| format!("{}{}", s["labels"]["sink"], s["labels"]["terminal"])).collect();
        assert_eq!(owners, names.len(), "each has one state: {family}");
    }
}

#[test]
fn a_gateway_whose_sinks_are_away_is_healthy_and_ready() {
    let mut vendor = VendorApi::start(Behaviour::Ok);
    vendor.stop();
    let site = Site::start("", &support::api_sink(&vendor.url(), 10), &[]);
    assert!(site.status()["sinks"][0]["oldest_pending"].is_null());
    site.play(20, 3);
    // The ledger of a page may be a second old.
    eventually("what waits is seen, and since when", DEADLINE, || {
        let sink = site.status()["sinks"][0].take();
        sink["pending"] == 20 && sink["oldest_pending"].is_string()
    });
    for path in ["/healthz", "/readyz"] {
        let answer = get(site.page, path);
        assert_eq!((answer.status, &answer.json()["ok"]), (200, &Value::Bool(true)), "{answer:?}");
        assert_eq!(answer.json()["reasons"], serde_json::json!([]));
    }
}

#[test]
fn a_gateway_whose_journal_is_full_is_healthy_and_not_ready() {
    let mut vendor = VendorApi::start(Behaviour::Ok);
    vendor.stop();
    let site = Site::start_with("", "max_bytes = 1048576", &support::api_sink(&vendor.url(), 10), &[]);
    let broker = format!("mqtt://127.0.0.1:{}", site.broker);
    let mut play = Command::new(support::gateway::binary());
    play.args(["simulate", "mqtt-json", "--rate", "0", "--broker", &broker, "--count", "1000000", "--seed", "9"]);
    // Never finishes: the last of them is not confirmed.
    let _player = support::Process::spawn(play.stdout(Stdio::null()).stderr(Stdio::null()));
    // At the bound a smaller group of events may still fit between two answers: each is judged by itself.
    let mut ready = Value::Null;
    eventually("the gateway is not ready", DEADLINE, || {
        let answer = get(site.page, "/readyz");
        ready = answer.json();
        answer.status == 503
    });
    assert_eq!(ready["ok"], false);
    assert!(ready["reasons"].to_string().contains("full"), "{ready}");
    // However often it is asked while nothing makes room, small groups of events that still fit included.
    for _ in 0..50 {
        assert_eq!(get(site.page, "/readyz").status, 503);
    }
    let health = get(site.page, "/healthz");
    assert_eq!((health.status, &health.json()["ok"]), (200, &Value::Bool(true)));
    eventually("the page says so", DEADLINE, || {
        let page = get(site.page, "/");
        page.status == 200 && page.body.contains("class=\"pill bad\"")
    });
}

#[test]
fn the_first_view_is_whole_without_a_script_and_in_the_language_of_the_reader() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let site = Site::start("", &support::api_sink(&vendor.url(), 10), &[]);
    site.play(30, 4);
    eventually("all delivered", DEADLINE, || site.status()["sinks"][0]["delivered"] == 30);
    let in_language = |accept: &str, path: &str| {
        let headers = format!("Host: localhost\r\nAccept-Language: {accept}\r\n");
        send(site.page, "GET", path, &headers, "").unwrap()
    };
    let spanish = in_language("es-CL,es;q=0.9,en;q=0.5", "/");
    let english = in_language("en-US", "/");
    assert!(spanish.body.contains("<html lang=\"es\">") && spanish.body.contains("Terminales"));
    assert!(english.body.contains("<html lang=\"en\">") && english.body.contains("Terminals"));
    assert!(in_language("en", "/?lang=es").body.contains("<html lang=\"es\">"));
    for page in [&spanish, &english] {
        for word in ["gw-test", "obra-norte", "yard", "vendor", env!("CARGO_PKG_VERSION"), "portero.toml"] {
            assert!(page.body.contains(word), "no {word}");
        }
        let outside = ["http://", "https://", "src=", "@import", "url("];
        for word in outside {
            assert!(!page.body.contains(word), "{word} in the page");
        }
        assert_eq!(page.header("vary"), Some("Accept-Language"));
    }
    // The same object as the control socket's.
    let (mut page, mut socket) = (site.status(), site.gateway.cli_json(&["status", "--json"]));
    for object in [&mut page, &mut socket] {
        object["uptime_seconds"].take();
    }
    assert_eq!(page, socket);
    assert_eq!(page["configuration"]["state"], "running");
}

#[test]
fn the_page_says_how_the_configuration_file_is() {
    let mut site = Site::start("", "", &[]);
    let file = site.dir.path().join("portero.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\n[nonsense]\n")).unwrap();
    assert_eq!(site.status()["configuration"]["state"], "changed");
    site.gateway.signal(rustix::process::Signal::HUP);
    eventually("the file is refused", DEADLINE, || site.status()["configuration"]["state"] == "refused");
    assert!(get(site.page, "/").body.contains("nonsense"));
    std::fs::write(&file, &good).unwrap();
    site.gateway.signal(rustix::process::Signal::HUP);
    eventually("the file is what runs", DEADLINE, || site.status()["configuration"]["state"] == "running");
}

#[test]
fn a_browser_sees_events_arrive_and_a_stopped_sink_turn_red_and_recover() {
    let mut vendor = VendorApi::start(Behaviour::Ok);
    let site = Site::start("", &support::api_sink(&vendor.url(), 10), &[]);
    let pictures = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let browser = Browser::start("es-CL");
    browser.open(&format!("http://127.0.0.1:{}/", site.page));
    assert_eq!(browser.run("return document.documentElement.lang;"), "es");
    // Whatever is replaced or loaded anew loses this mark.
    browser.run("document.querySelector('#sink-vendor').mark = 1;");
    site.play(1234, 5);
    let field = |selector: &str| browser.text(selector).replace('.', "");
    eventually("the events are seen", DEADLINE, || field("#link-yard [data-field=events]") == "1234");
    eventually("their delivery is seen", DEADLINE, || field("#sink-vendor [data-field=delivered]") == "1234");
    let class = || browser.run("return document.querySelector('#sink-vendor').className;");
    assert_eq!(class(), "card good");
    let bars = browser.run("return document.querySelector('#link-yard .bars').getAttribute('d').length;");
    assert!(bars.as_u64() > Some(0), "no chart");

    vendor.stop();
    site.play(40, 6);
    eventually("the sink turns red", DEADLINE, || class() == "card bad");
    assert_eq!(field("#sink-vendor [data-field=pending]"), "40");
    eventually("the newest wait", DEADLINE, || browser.text("#recent li .fates") == "vendor: en espera");
    assert_eq!(browser.run("return document.querySelectorAll('#recent li').length;"), 20);
    let why = browser.text("#sink-vendor .why");
    assert!(why.contains("127.0.0.1") || why.contains("connect"), "no reason: {why}");
    assert!(why.contains("Nada se pierde"), "no advice: {why}");
    let colour = browser.run("return getComputedStyle(document.querySelector('#sink-vendor .pill')).color;");
    assert_eq!(colour, "rgb(193, 39, 45)", "red");
    for (language, name) in [("es", "es"), ("en", "en")] {
        browser.open(&format!("http://127.0.0.1:{}/?lang={language}", site.page));
        browser.shoot(&pictures.join(format!("page-{name}-desktop.png")), 1280, false);
        browser.shoot(&pictures.join(format!("page-{name}-phone.png")), 360, language == "en");
        let overflow =
            browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;");
        assert_eq!(overflow, 0, "the page is wider than a phone");
    }

    browser.run("document.querySelector('#sink-vendor').mark = 2;");
    vendor.start_again();
    // The longer it was away, the longer until the next probe.
    eventually("the sink has recovered", 4 * DEADLINE, || {
        field("#sink-vendor [data-field=pending]") == "0" && class() == "card good"
    });
    eventually("and are there", DEADLINE, || browser.text("#recent li .fates") == "vendor: delivered");
    assert_eq!(browser.run("return document.querySelector('#sink-vendor').mark;"), 2, "the card was replaced");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(vendor.stored_count(), 1274);
}

#[test]
fn what_others_said_is_shown_and_not_run() {
    let evil = "<img src=x onerror=alert(1)></script><script>document.title='run'</script>";
    let said = serde_json::json!({ "message": evil }).to_string();
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(move |_| Reply::new(401, said.clone(), 0))));
    let rules =
        "on_ambiguous = \"resend\"\nanswer = [{ status = [401], verdict = \"block\", reason = \"/message\" }]\n";
    let site = Site::start("", &(support::api_sink(&vendor.url(), 1) + rules), &[]);
    site.play(3, 8);
    eventually("the sink is blocked", DEADLINE, || site.status()["sinks"][0]["state"] == "blocked");
    let page = get(site.page, "/").body;
    assert!(!page.contains("<img") && page.matches("<script").count() == 1, "{page}");
    assert!(page.contains("card bad") && page.contains("&lt;img"), "{page}");
}
