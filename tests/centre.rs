//! What the centre learns of a real gateway, and what an operator sees there.
//!
//! New tests of a gateway's account of itself go here.

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::{DEADLINE, Gateway, Postgres, eventually};

#[test]
fn a_gateway_says_under_its_own_login_how_it_is_and_a_restored_journal_is_noticed_at_the_centre() {
    let dir = support::tempdir();
    let postgres = Postgres::start_with_passwords();
    let port = support::free_port();
    let password = dir.path().join("password");
    std::fs::write(&password, "only-this-gateway").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let sink = support::postgres_sink(&postgres.url_as("norte"));
    let sink = format!("{sink}password = {{ credential = \"central_password\" }}\n");
    let config = dir.path().join("portero.toml");
    let text = support::yard_config(dir.path(), &format!("listen = \"127.0.0.1:{port}\""), &sink);
    std::fs::write(&config, text).unwrap();
    let mut gateway = Gateway::prepare(&config, &[("central_password", "only-this-gateway")]);

    // As the README says it.
    let server = ["--url", &postgres.url(), "--tls", "disable"];
    let central = |command: &[&str]| gateway_cli(&gateway, &[&["central"], command, &server].concat());
    assert_eq!(central(&["status"]).0, Some(1), "nothing is there yet");
    assert_eq!(central(&["maintain"]).0, Some(1), "nothing is there yet");
    assert_eq!(central(&["init", "--apply"]), (Some(0), String::new()));
    let file = password.to_str().unwrap();
    let add = ["add-gateway", "gw-test", "--login", "norte", "--login-password-file", file];
    assert_eq!(central(&[&add[..], &["--apply"]].concat()), (Some(0), String::new()));
    let (code, printed) = central(&[&add[..], &["--print"]].concat());
    assert!(code == Some(0) && printed.contains("GRANT portero_login") && !printed.contains("only-this-gateway"));
    let (code, table) = central(&["status"]);
    assert!(code == Some(0) && table.contains("GATEWAY") && table.contains("norte"), "{table}");

    let punch = |gateway: &Gateway| {
        let simulated = gateway.cli(&[
            "simulate",
            "mqtt-json",
            "--broker",
            &format!("mqtt://127.0.0.1:{port}"),
            "--count",
            "100",
            "--rate",
            "0",
            "--manifest",
            dir.path().join("manifest.jsonl").to_str().unwrap(),
        ]);
        assert!(simulated.status.success(), "{}", String::from_utf8_lossy(&simulated.stderr));
    };
    let rows = || postgres.psql("SELECT count(*) FROM portero.event").parse::<u64>().unwrap();
    let seq = || postgres.psql("SELECT coalesce(max(seq), 0) FROM portero.gateway").parse::<u64>().unwrap();
    gateway.restart_ready();
    punch(&gateway);
    eventually("the centre has the events", DEADLINE, || rows() == 100);
    gateway.sigterm();
    // An orderly stop leaves one file.
    let (journal, kept) = (dir.path().join("journal.db"), dir.path().join("kept.db"));
    std::fs::copy(&journal, &kept).unwrap();
    gateway.restart_ready();
    eventually("the start is heard of", DEADLINE, || seq() == 100);
    punch(&gateway);
    eventually("the centre has those, too", DEADLINE, || rows() == 200);
    gateway.sigterm();
    gateway.restart_ready();
    eventually("the start is heard of again", DEADLINE, || seq() == 200);
    let anchor = postgres.psql("SELECT journal_id || ':' || seq || ':' || head FROM portero.anchor WHERE seq = 200");
    let proven = gateway.cli_json(&["journal", "verify", "--json", "--anchor", &anchor]);
    assert_eq!((&proven["ok"], &proven["anchored"]), (&true.into(), &200.into()), "{proven}");
    let state = gateway.cli_json(&[&["central", "status", "--json"], &server[..]].concat());
    let line = &state["gateways"][0];
    assert_eq!((&line["gateway_id"], &line["pending"], &line["seq"]), (&"gw-test".into(), &0.into(), &200.into()));
    assert!(line["anchor_problem"].is_null() && line["version"].is_string(), "{line}");
    assert_eq!(postgres.psql("SELECT DISTINCT terminal_id FROM portero.terminal"), "yard");

    gateway.sigterm();
    std::fs::copy(&kept, &journal).unwrap();
    gateway.restart_ready();
    eventually("the centre has noticed", DEADLINE, || seq() == 100);
    let state = gateway.cli_json(&[&["central", "status", "--json"], &server[..]].concat());
    assert!(state["gateways"][0]["anchor_problem"].as_str().unwrap().contains("from row 200 to row 100"), "{state}");
    let denied = gateway_cli(&gateway, &["journal", "verify", "--anchor", &anchor]);
    assert_eq!(denied.0, Some(1));
    assert_eq!(gateway.sigterm().code(), Some(0));
}

fn gateway_cli(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let output = gateway.cli(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_centre_answers_payrolls_question_under_a_login_that_may_only_read() {
    let dir = support::tempdir();
    let postgres = Postgres::start();
    let port = support::free_port();
    let config = dir.path().join("portero.toml");
    let sink = support::postgres_sink(&postgres.url());
    std::fs::write(&config, support::yard_config(dir.path(), &format!("listen = \"127.0.0.1:{port}\""), &sink))
        .unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    let applied = gateway.cli(&["central", "init", "--apply", "--tls", "disable", "--url", &postgres.url()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    postgres.psql(
        "CREATE ROLE payroll LOGIN; GRANT USAGE ON SCHEMA portero TO payroll; \
         GRANT SELECT ON portero.event, portero.correction, portero.conflict, portero.gateway TO payroll",
    );
    gateway.restart_ready();
    gateway.play_yard(port, 20, 1, &[]);
    eventually("the centre has the events", DEADLINE, || postgres.psql("SELECT count(*) FROM portero.event") == "20");
    let url = postgres.url_as("payroll");
    let server = ["--postgres", &url, "--tls", "disable"];
    let ask = |question: &[&str]| gateway_cli(&gateway, &[&["trace"], question, &server].concat());
    let lines = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let events = lines(&gateway_cli(&gateway, &["events", "--json", "--limit", "20"]).1);
    for event in &events {
        let id = event["event_id"].as_str().unwrap();
        let found = lines(&ask(&[id, "--json"]).1);
        assert_eq!((found.len(), &found[0]["event"]), (1, event));
        let (code, words) = ask(&[id]);
        assert!(code == Some(0) && words.contains(id) && words.contains("holds it, from gw-test"), "{words}");
        let time: jiff::Timestamp = event["event_time"].as_str().unwrap().parse().unwrap();
        let local = time.in_tz(event["zone"].as_str().unwrap()).unwrap();
        let (person, day) = (event["person"]["terminal_person_id"].as_str().unwrap(), local.date().to_string());
        let clock = local.strftime("%H:%M").to_string();
        let found = lines(&ask(&["--person", person, "--date", &day, "--time", &clock, "--json"]).1);
        assert!(found.iter().any(|f| f["event"] == *event), "{person} {day} {clock}");
        let next = local.date().tomorrow().unwrap().tomorrow().unwrap().to_string();
        assert_eq!(ask(&["--person", person, "--date", &next]).0, Some(1));
        let card = event["credential"]["card_number"].as_str().unwrap();
        assert!(lines(&ask(&["--person", card, "--date", &day, "--json"]).1).iter().any(|f| f["event"] == *event));
    }
    // A better time moves an event to another day.
    let (id, event) = (events[0]["event_id"].as_str().unwrap(), &events[0]);
    postgres.psql(&format!(
        "INSERT INTO portero.correction SELECT tenant, gen_random_uuid(), event_id, gateway_id, journal_id, seq, site_id, \
         terminal_id, terminal_serial, 'correction', outcome, punch, person, event_time - interval '2 days', received_time, \
         jsonb_set(body, '{{event_time}}', to_jsonb(to_char((event_time - interval '2 days') AT TIME ZONE 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))) FROM portero.event WHERE event_id = '{id}'"
    ));
    let time: jiff::Timestamp = event["event_time"].as_str().unwrap().parse().unwrap();
    let local = time.in_tz(event["zone"].as_str().unwrap()).unwrap();
    let person = event["person"]["terminal_person_id"].as_str().unwrap();
    let earlier = local.date().yesterday().unwrap().yesterday().unwrap().to_string();
    let (code, words) = ask(&["--person", person, "--date", &earlier]);
    assert!(code == Some(0) && words.contains(id) && words.contains("corrected"), "{words}");
    // What is not there, and who may still have it.
    let nothing = ["--person", "nobody", "--date", &earlier];
    assert!(ask(&nothing).1.contains("no event of this person then"), "{:?}", ask(&nothing));
    postgres.psql(
        "INSERT INTO portero.gateway (tenant, gateway_id, status, seen_at) VALUES ('default', 'gw-far', \
         '{\"sink\": \"central\", \"sinks\": [{\"name\": \"central\", \"pending\": 7}]}', now() - interval '1 hour')",
    );
    let (code, words) = ask(&nothing);
    assert!(code == Some(1) && words.contains("it may still come: gw-far was heard of 36"), "{words}");
    assert!(words.contains("with 7 events to send") && !words.contains("gw-test"), "{words}");
    assert_eq!(ask(&[id, "--tenant", "another"]).0, Some(1));
    let (code, said) =
        gateway_cli(&gateway, &["trace", id, "--tls", "disable", "--postgres", "postgresql://x@127.0.0.1:9/y"]);
    assert_eq!((code, said), (Some(69), String::new()));
}
