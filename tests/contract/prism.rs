//! Prism, serving the document of these tests, judges what a running gateway really sends.

use super::*;
use crate::support::Prism;

/// Without what refers to a place that doesn't exist.
fn servable() -> String {
    let (start, end) = (DOCUMENT.find("  /photos:\n").unwrap(), DOCUMENT.find("components:\n").unwrap());
    format!("{}{}", &DOCUMENT[..start], &DOCUMENT[end..])
}

/// The sinks of the configuration, sent to Prism, which knows no part of a server's path.
fn sinks(prism: &Prism) -> String {
    let sinks = &CONFIG[CONFIG.find("[[sink]]").unwrap()..];
    sinks.replace("https://hr.example/api/v1", &prism.url())
}

/// Plays 12 punches to a gateway with these sinks, and gives what became of them once nothing is pending.
fn played(dir: &Path, sinks: &str) -> (Gateway, Vec<Value>) {
    let port = free_port();
    let config = dir.join("portero.toml");
    std::fs::write(&config, yard_config(dir, &format!("listen = \"127.0.0.1:{port}\""), sinks)).unwrap();
    let mut gateway = Gateway::start(&config, &[("hr_token", "t0ken")]);
    gateway.wait_ready();
    gateway.play_yard(port, 12, 5, &[]);
    let mut stats = Value::Null;
    eventually("nothing is pending", DEADLINE, || {
        stats = gateway.cli_json(&["journal", "stats", "--json"]);
        stats["appended"] == 12
            && stats["sinks"].as_array().is_some_and(|sinks| sinks.iter().all(|sink| sink["pending"] == 0))
    });
    assert_eq!(gateway.sigterm().code(), Some(0));
    (gateway, stats["sinks"].as_array().unwrap().clone())
}

#[test]
fn prism_accepts_what_the_gateway_sends() {
    let dir = tempdir();
    let document = dir.path().join("clockings.yaml");
    std::fs::write(&document, servable()).unwrap();
    let prism = Prism::start(&document);
    let (gateway, sinks) = played(dir.path(), &sinks(&prism));
    assert_eq!(sinks.len(), 3);
    for sink in sinks {
        let told = [&sink["delivered"], &sink["quarantined"], &sink["filtered"]];
        assert_eq!(told, [&json!(12), &json!(0), &json!(0)], "{sink}\n{}\n{}", gateway.log(), prism.log());
    }
    assert!(!prism.log().contains("Violation"), "{}", prism.log());
}

#[test]
fn prism_refuses_what_mapping_check_finds_wrong() {
    let dir = tempdir();
    let document = dir.path().join("clockings.yaml");
    // Prism answers with a declared 400 where there is one; its own answer is 422.
    std::fs::write(&document, servable().replacen("\"400\":", "\"403\":", 1)).unwrap();
    let prism = Prism::start(&document);
    let all = sinks(&prism);
    let hr = &all[..9 + all[9..].find("[[sink]]").unwrap()];
    let wrong = edited(hr, &[("\"%Y-%m-%d %H:%M:%S\"", "\"%d/%m/%Y %H:%M:%S\"")]);
    let (gateway, sinks) = played(dir.path(), &wrong);
    let told = [&sinks[0]["delivered"], &sinks[0]["quarantined"]];
    assert_eq!(told, [&json!(0), &json!(12)], "{}\n{}", gateway.log(), prism.log());
    assert!(prism.log().contains("Request body property time must match pattern"), "{}", prism.log());
    let listed = gateway.cli(&["quarantine", "list", "--json"]);
    let first: Value = serde_json::from_str(out(&listed).lines().next().unwrap()).unwrap();
    assert!(first["reason"].as_str().unwrap().contains("422"), "{first}");
    let document = document.to_str().unwrap();
    let found = gateway.cli(&["mapping", "check", "--sink", "hr", "--openapi", document, "--json"]);
    assert_eq!(found.status.code(), Some(1), "{}", err(&found));
    assert!(out(&found).contains("\"key\":\"sink.hr.map.time\""), "{}", out(&found));
}
