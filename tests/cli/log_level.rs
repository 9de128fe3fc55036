//! `portero log-level` beside a running gateway.

use std::io::{Read as _, Write as _};

use super::*;

/// A quiet gateway: its own log is what is looked at.
fn site() -> Site {
    let mut site = Site::new("http://127.0.0.1:9/");
    site.gateway.restart_ready();
    site
}

fn told(site: &Site) -> Value {
    site.gateway.cli_json(&["log-level", "--json"])
}

fn debug_lines(site: &Site) -> usize {
    site.gateway.log().lines().filter(|line| line.contains("DEBUG") && line.contains("batch is on disk")).count()
}

#[test]
fn a_level_is_in_force_for_its_time_and_goes_back_by_itself() {
    let site = site();
    assert_eq!(out(&site.gateway.cli(&["log-level"])), "info (from [log] level)\n");
    assert_eq!(told(&site), serde_json::json!({ "filter": "info", "configured": "info" }));
    site.play(1, 1);
    assert_eq!(debug_lines(&site), 0);
    let set = site.gateway.cli(&["log-level", "info,portero::terminal=debug", "--for", "30s"]);
    assert!(set.status.success(), "{}", err(&set));
    assert!(out(&set).starts_with("info,portero::terminal=debug until 2") && out(&set).contains(", then info again"));
    site.play(1, 2);
    assert!(debug_lines(&site) > 0, "{}", site.gateway.log());
    assert!(told(&site)["until"].is_string());
    eventually("its time is over", DEADLINE, || told(&site)["until"].is_null());
    assert_eq!(told(&site)["filter"], "info");
    assert!(site.gateway.log().contains("the configured log filter is in force again"));
    let before = debug_lines(&site);
    site.play(5, 3);
    assert_eq!(debug_lines(&site), before);
}

#[test]
fn it_is_an_hour_unless_somebody_says_otherwise_and_can_be_taken_back() {
    let mut site = site();
    let until = |told: &Value| told["until"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let from_now = |told: &Value| (until(told) - jiff::Timestamp::now()).as_secs();
    let set = site.gateway.cli_json(&["log-level", "debug", "--json"]);
    assert!((3500..=3600).contains(&from_now(&set)), "{set}");
    // A second one replaces the first, its end, too.
    let set = site.gateway.cli_json(&["log-level", "warn", "--for", "10m", "--json"]);
    assert!((500..=600).contains(&from_now(&set)), "{set}");
    // What the file says meanwhile is what comes back.
    let file = site.dir.path().join("portero.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "\n[log]\nlevel = \"debug\"\n").unwrap();
    assert!(site.gateway.cli(&["config", "reload"]).status.success());
    assert_eq!((told(&site)["filter"].as_str(), told(&site)["configured"].as_str()), (Some("warn"), Some("debug")));
    let reset = site.gateway.cli_json(&["log-level", "--reset", "--json"]);
    assert_eq!(reset, serde_json::json!({ "filter": "debug", "configured": "debug" }));
    // A restart forgets it.
    site.gateway.cli_json(&["log-level", "off", "--json"]);
    site.gateway.restart_ready();
    assert_eq!(told(&site)["filter"], "debug");
}

#[test]
fn what_stands_in_the_environment_is_what_it_goes_back_to() {
    let mut site = Site::new("http://127.0.0.1:9/");
    site.gateway.env("PORTERO_LOG", "warn");
    site.gateway.restart_ready();
    assert_eq!(out(&site.gateway.cli(&["log-level"])), "warn (from $PORTERO_LOG)\n");
    assert_eq!(site.gateway.cli_json(&["log-level", "debug", "--json"])["configured_by"], "PORTERO_LOG");
    assert_eq!(site.gateway.cli_json(&["log-level", "--reset", "--json"])["filter"], "warn");
}

#[test]
fn a_bad_filter_or_time_is_refused_in_words_and_changes_nothing() {
    let site = site();
    for (arguments, words) in [
        (&["log-level", "loud"][..], "'loud' is no log filter; take one of off, error, warn, info, debug, trace"),
        (&["log-level", "info,portero=loud"], "is no log filter"),
        (&["log-level", "debug", "--for", "2d"], "is no time from 1s to 24h"),
        (&["log-level", "debug", "--for", "25h"], "is no time from 1s to 24h"),
        (&["log-level", "debug", "--reset"], "cannot be used with"),
        (&["log-level", "--for", "10m"], "FILTER"),
    ] {
        let refused = site.gateway.cli(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains(words), "{arguments:?}: {}", err(&refused));
    }
    let long = format!("info,{}=debug", "x".repeat(2000));
    for (body, words) in [
        (r#"{"filter":"loud"}"#, "is no log filter"),
        (r#"{"filter":7}"#, "is no log filter"),
        (&format!("{{\"filter\":\"{long}\"}}"), "is no log filter"),
        (r#"{"filter":"debug","for_seconds":0}"#, "from 1 to 86400"),
        (r#"{"filter":"debug","for_seconds":86401}"#, "from 1 to 86400"),
        (r#"{"filter":"debug","for_seconds":"10m"}"#, "from 1 to 86400"),
    ] {
        let mut socket = std::os::unix::net::UnixStream::connect(site.dir.path().join("control.sock")).unwrap();
        let head = "Host: x\r\nConnection: close\r\nContent-Type: application/json";
        write!(socket, "POST /log HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(words), "{body}: {answer}");
    }
    assert_eq!(told(&site), serde_json::json!({ "filter": "info", "configured": "info" }));
}

#[test]
fn without_a_gateway_there_is_nothing_to_ask() {
    let site = Site::new("http://127.0.0.1:9/");
    for arguments in [&["log-level"][..], &["log-level", "debug"], &["log-level", "--reset"]] {
        let absent = site.gateway.cli(arguments);
        assert_eq!(absent.status.code(), Some(69), "{}", err(&absent));
        assert!(err(&absent).contains("no gateway listens on"));
    }
}
