//! `portero fleet status` over a thousand gateways in a real PostgreSQL.
//!
//! A test belongs here if it needs many gateways, or what the centre makes of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Postgres, gateway::binary};

const GATEWAYS: u32 = 1000;

fn fleet(postgres: &Postgres, user: &str, more: &[&str]) -> Output {
    let url = postgres.url_as(user);
    let mut command = Command::new(binary());
    command.args(["fleet", "status", "--postgres", &url, "--tls", "disable"]).args(more).env_remove("PGPASSWORD");
    command.output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A thousand signs of life, through the function that gateways call, each with two sinks and four terminals.
fn say_signs_of_life(postgres: &Postgres) {
    let sink = |name: &str| {
        format!(
            "jsonb_build_object('name', '{name}', 'state', 'idle', 'delivered', n * 1000, 'pending', 0, 'quarantined', 0, \
             'dropped', 0, 'filtered', 0, 'corrections_pending', 0, 'last_delivery', now())"
        )
    };
    postgres.psql(&format!(
        "SELECT count(portero.heartbeat(jsonb_build_object('tenant', 'default', 'gateway_id', format('gw-%s', n), \
         'site_id', format('site-%s', n % 200), 'version', '0.1.0', 'uptime_seconds', n * 60, 'running', true, \
         'clock_synchronised', true, 'configuration', jsonb_build_object('state', 'running', 'remote', jsonb_build_object('revision', 7)), \
         'journal_id', md5(n::text), 'seq', n * 1000, 'head', md5((n * 7)::text), 'journal', \
         jsonb_build_object('bytes', n * 100000, 'appended', n * 1000), 'sinks', jsonb_build_array({}, {}), 'terminals', \
         (SELECT jsonb_agg(jsonb_build_object('terminal_id', format('gate-%s', t), 'device_key', '', 'protocol', 'rdm6300', \
         'state', 'up', 'last_heard', now(), 'events', t)) FROM generate_series(1, 4) t)))) FROM generate_series(1, {GATEWAYS}) n",
        sink("hr"),
        sink("central"),
    ));
}

#[test]
fn a_thousand_gateways_are_shown_worst_first_and_a_login_that_only_reads_is_enough() {
    let postgres = Postgres::start();
    let server = ["--url", &postgres.url(), "--tls", "disable"];
    let made = Command::new(binary()).args(["central", "init", "--apply"]).args(server).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(lines(&fleet(&postgres, "postgres", &["--json"])), Vec::<Value>::new());
    say_signs_of_life(&postgres);
    let well = fleet(&postgres, "postgres", &["--json", "--check"]);
    assert_eq!((lines(&well).len(), well.status.code()), (GATEWAYS as usize, Some(0)));

    let change = |gateway: u32, sink: &str| {
        postgres.psql(&format!(
            "UPDATE portero.gateway SET status = jsonb_set(status, '{{sinks,0}}', status #> '{{sinks,0}}' || '{sink}') \
             WHERE gateway_id = 'gw-{gateway}'"
        ));
    };
    postgres.psql("UPDATE portero.gateway SET seen_at = now() - interval '2 hours' WHERE gateway_id = 'gw-700'");
    postgres.psql("UPDATE portero.gateway SET seen_at = now() - interval '3 days' WHERE gateway_id = 'gw-701'");
    postgres.psql(
        "SELECT portero.heartbeat(jsonb_build_object('tenant', 'default', 'gateway_id', 'gw-5', 'site_id', 'site-5', \
         'journal_id', md5('5'), 'seq', 17, 'head', 'ab'))",
    );
    change(6, r#"{"state": "blocked", "error": "SQLSTATE 28P01; check user and password", "pending": 4}"#);
    for (gateway, age) in [(7, "1 hour"), (8, "5 hours"), (9, "1 minute")] {
        let heard = postgres.psql(&format!(
            "SELECT to_char((now() - interval '{age}') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        ));
        change(gateway, &format!(r#"{{"state": "sending", "pending": 9, "oldest_pending": "{heard}"}}"#));
    }
    postgres.psql("UPDATE portero.terminal SET state = 'down' WHERE gateway_id = 'gw-10' AND terminal_id = 'gate-2'");
    // A terminal that its gateway no longer has says nothing of it.
    postgres.psql(
        "UPDATE portero.terminal SET state = 'down', seen_at = now() - interval '1 day' WHERE gateway_id = 'gw-11'",
    );
    change(12, r#"{"quarantined": 3}"#);
    postgres.psql("INSERT INTO portero.login (tenant, login, gateway_id) VALUES ('default', 'neu', 'gw-new')");

    let shown = fleet(&postgres, "postgres", &["--json", "--check"]);
    assert_eq!(shown.status.code(), Some(1));
    let shown = lines(&shown);
    let first: Vec<&str> = shown.iter().take(10).map(|line| line["gateway_id"].as_str().unwrap()).collect();
    assert_eq!(first, ["gw-new", "gw-701", "gw-700", "gw-5", "gw-6", "gw-8", "gw-7", "gw-10", "gw-12", "gw-9"]);
    let wrong = |at: usize| shown[at]["wrong"][0].as_str().unwrap_or_default();
    for (at, words) in [
        "never heard of",
        "silent for 3 d",
        "silent for 2 h",
        "went back from row 5000 to row 17",
        "hr is blocked: SQLSTATE 28P01; check user and password",
        "an event has waited for 5 h",
        "an event has waited for 60 min",
        "1 terminals not reached",
        "hr has set 3 aside",
        "",
    ]
    .iter()
    .enumerate()
    {
        assert!(wrong(at).contains(words), "{words}: {}", shown[at]);
    }
    assert_eq!(
        (&shown[4]["pending"], &shown[4]["revision"], &shown[4]["terminals"]),
        (&4.into(), &7.into(), &4.into())
    );
    assert_eq!(shown.iter().filter(|line| !line["wrong"].as_array().unwrap().is_empty()).count(), 9);

    // Another idea of late, and for people.
    let table = fleet(&postgres, "postgres", &["--stale", "100000"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("1001 gateways, something is wrong with 6\n") && table.contains("GATEWAY"), "{table}");

    postgres.psql("CREATE ROLE desk LOGIN; GRANT USAGE ON SCHEMA portero TO desk");
    assert_eq!(fleet(&postgres, "desk", &[]).status.code(), Some(1), "it may not read yet");
    postgres.psql("GRANT SELECT ON portero.gateway, portero.terminal TO desk");
    let read = lines(&fleet(&postgres, "desk", &["--json"]));
    assert_eq!((read.len(), &read[0]["gateway_id"]), (GATEWAYS as usize, &"gw-701".into()));
    let closed = Command::new(binary())
        .args(["fleet", "status", "--postgres", "postgresql://desk@127.0.0.1:1/x", "--tls", "disable"])
        .output()
        .unwrap();
    assert_eq!(closed.status.code(), Some(69));
}
