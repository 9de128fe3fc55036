//! What is said of credentials that end: in the log, in `status`, per sink.
//!
//! A test belongs here if it needs the real gateway and a secret with an end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::Value;
use support::{Behaviour, DEADLINE, Gateway, Reply, VendorApi, eventually, find_program, free_port, tempdir};

/// Seconds from now, as a JSON Web Token that nobody signed.
fn token(days: i64) -> String {
    let now = std::fs::metadata(tempdir().path()).unwrap().modified().unwrap();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let exp = now as i64 + days * 86_400 + 3600;
    format!("{}.{}.{}", part("{\"alg\":\"RS256\"}"), part(&format!("{{\"exp\":{exp},\"sub\":\"gw\"}}")), part("sesame"))
}

fn secret(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn certificate(dir: &Path, days: &str) {
    let mut openssl = Command::new(find_program("openssl", &[]));
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        days,
    ]);
    openssl.args(["-subj", "/CN=gw", "-keyout", "client.key", "-out", "client.crt"]).current_dir(dir);
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
    std::fs::set_permissions(dir.join("client.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn a_credential_that_ends_soon_or_has_ended_is_said_per_sink() {
    let vendor = VendorApi::start(Behaviour::Custom(std::sync::Arc::new(|request| match request.path.as_str() {
        "/token" => {
            let token =
                r#"{"access_token":"a","expires_in":3600,"refresh_token":"sesame-2","refresh_expires_in":180000}"#;
            Reply::new(200, token, 0)
        }
        _ => Reply::ok(),
    })));
    let (dir, port) = (tempdir(), free_port());
    let at = dir.path().display();
    certificate(dir.path(), "5");
    for (name, text) in [("near", token(9)), ("far", token(300)), ("past", token(-3)), ("plain", "sesame".to_owned())] {
        secret(dir.path(), name, &text);
    }
    let sink = |name: &str, more: &str| {
        format!("[[sink]]\nname = \"{name}\"\ntype = \"api\"\nurl = \"{}\"\n{more}\n", vendor.url())
    };
    let bearer =
        |name: &str, more: &str| format!("auth = {{ type = \"bearer\", token = {{ file = \"{at}/{name}\"{more} }} }}");
    let headers = format!(
        "auth = {{ type = \"headers\", headers = {{ X-Token = {{ file = \"{at}/past\" }}, \
         X-Key = {{ file = \"{at}/far\" }} }} }}"
    );
    let mutual = format!("client_cert = \"{at}/client.crt\"\nclient_key = {{ file = \"{at}/client.key\" }}");
    let sinks = [
        sink("near", &bearer("near", "")),
        sink("far", &bearer("far", "")),
        sink("past", &headers),
        sink("mutual", &mutual),
        sink("declared", &bearer("plain", ", expires = \"2020-02-29\"")),
        sink("unknown", &bearer("plain", "")),
        sink(
            "refreshed",
            &format!(
                "auth = {{ type = \"oauth2\", url = \"http://127.0.0.1:{}/token\", client_id = \"gw\", \
                 grant = \"refresh_token\", refresh_token = {{ file = \"{at}/plain\" }}, \
                 state_file = \"{at}/refreshed.token\" }}",
                vendor.port
            ),
        ),
        format!(
            "[directory]\nurl = \"{}\"\nperson = \"/pin\"\nexternal_id = \"/id\"\n{}\n",
            vendor.url(),
            bearer("near", "")
        ),
    ];
    let config = dir.path().join("portero.toml");
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    std::fs::write(&config, support::yard_config(dir.path(), &listen, &sinks.concat())).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    gateway.env("PORTERO__GATEWAY__CLOCK", "trusted");
    gateway.restart_ready();
    let said = |name: &str| {
        gateway.cli_json(&["status", "--json"])["sinks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|sink| sink["name"] == name)
            .unwrap()["credential"]
            .clone()
    };
    eventually("credentials are looked at", DEADLINE, || !said("declared").is_null());
    let states: Vec<Value> =
        ["near", "far", "past", "mutual", "declared"].iter().map(|name| said(name)["state"].clone()).collect();
    assert_eq!(states, ["soon", "good", "past", "soon", "past"]);
    assert!(said("unknown").is_null());
    assert_eq!(said("declared")["until"], "2020-03-01T00:00:00.000000Z");
    assert_eq!(gateway.cli_json(&["status", "--json"])["directory"]["credential"]["state"], "soon");
    let shown = gateway.cli(&["status"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for words in ["ends in 9 days", "the client certificate ends in 4 days", "sink[5].auth.token has ended"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    gateway.play_yard(port, 3, 7, &[]);
    eventually("the server says when the refresh token ends", DEADLINE, || !said("refreshed").is_null());
    assert_eq!(
        (&said("refreshed")["what"], &said("refreshed")["state"]),
        (&"the refresh token".into(), &"soon".into())
    );
    // What only a server has said is known to the gateway alone.
    let doctor = String::from_utf8(gateway.cli(&["doctor"]).stdout).unwrap();
    for words in ["refreshed: the refresh token ends in", "near: the token in file", "past: the token in file"] {
        assert!(doctor.contains(words), "{words}: {doctor}");
    }
    let log = gateway.log();
    assert_eq!(log.matches("a credential has ended").count(), 2, "{log}");
    assert_eq!(log.matches("a credential ends soon").count(), 4, "{log}");
    assert!(!log.contains("eyJ") && !log.contains("sesame"), "{log}");
}
