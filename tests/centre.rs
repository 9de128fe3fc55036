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
