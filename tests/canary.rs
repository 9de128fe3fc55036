//! Secrets and people are planted wherever they can stand, everything that can go wrong goes wrong, and then everything that
//! the product says, keeps or leaves behind is searched for them.
//!
//! A new way to show who we are, a new page, table or command belongs into the lists here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

#[path = "page/http.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod http;
mod support;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};
use support::{
    Behaviour, DEADLINE, Gateway, Mosquitto, MosquittoOptions, Postgres, Reply, Request, VendorApi, eventually,
    find_program, free_port, tempdir,
};

/// What every planted secret begins with. Short and plain: nothing that guesses what looks like a secret may help.
const MARK: &str = "zqx7";

/// A person: number, card, name, and what the platform calls him.
const PERSON: [&str; 4] = ["771904455", "0099887766", "Zoila Canaria", "hr-zoila-5"];

/// A fingerprint, as a terminal would send it.
const TEMPLATE: &str = "TWFudWVsYSB0ZW1wbGF0ZSBvZiBhIGZpbmdlcg+xyzzyA9";

fn secret(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o600)).unwrap();
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Everything that it was sent, in the answer: the worst that a vendor can do.
fn echo(request: &Request) -> String {
    let headers = request.headers.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, "{name}: {} ", String::from_utf8_lossy(value.as_bytes()));
        text
    });
    format!("{} {} {headers}{}", request.method, request.path, String::from_utf8_lossy(&request.body))
}

fn answer(request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    let part = path.rsplit('/').next().unwrap_or_default();
    if path == "/people" {
        let people = json!([{ "pin": PERSON[0], "card": PERSON[1], "id": PERSON[3], "name": PERSON[2] }]);
        return Reply::new(200, people.to_string(), 0);
    }
    if let Some(name) = path.strip_prefix("/token/") {
        let (token, refresh) = (format!("{MARK}-got-{name}"), format!("{MARK}-next-{name}"));
        return match name {
            "refused" => {
                Reply::new(400, json!({ "error": echo(request), "error_description": echo(request) }).to_string(), 0)
            }
            _ => {
                let body = json!({ "access_token": token, "refresh_token": refresh, "expires_in": 3600 });
                Reply::new(200, body.to_string(), 0).header("x-echo", "1")
            }
        };
    }
    let text = echo(request);
    match part {
        "401" => Reply::new(401, text, 0).header("www-authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\""),
        "403" => Reply::new(403, text, 0),
        "400" => Reply::new(400, text, 0),
        "500" => Reply::new(500, text, 0),
        "302" => Reply::new(302, text, 0).header("location", format!("/else?{MARK}-there")),
        "json" => Reply::new(422, json!({ "message": text, "errors": [text] }).to_string(), 0),
        _ => Reply::new(422, text, 0),
    }
}

/// Every way to show who we are: a name, the end of its path, and the keys of its sink. `{dir}` is where secrets are.
const SINKS: &[(&str, &str, &str)] = &[
    ("bearer", "422", r#"auth = { type = "bearer", token = { file = "{dir}/bearer" } }"#),
    ("bearer-401", "401", r#"auth = { type = "bearer", token = { file = "{dir}/bearer" } }"#),
    ("basic", "422", r#"auth = { type = "basic", user = "gw", password = { file = "{dir}/basic" } }"#),
    ("basic-key", "400", r#"auth = { type = "basic", user = { file = "{dir}/basic-key" }, fixed_password = "x" }"#),
    ("api-key", "403", r#"auth = { type = "api_key", header = "X-Key", key = { file = "{dir}/api-key" } }"#),
    (
        "headers",
        "422",
        r#"auth = { type = "headers", headers = { X-A = { file = "{dir}/header", prefix = "token " } } }"#,
    ),
    ("query", "422", r#"auth = { type = "query", name = "key", value = { file = "{dir}/query" } }"#),
    ("query-500", "500", r#"auth = { type = "query", name = "key", value = { file = "{dir}/query" } }"#),
    ("body", "422", r#"auth = { type = "body", pointer = "/auth/token", value = { file = "{dir}/body" } }"#),
    (
        "login",
        "422",
        r#"auth = { type = "login", url = "/token/login", fields = { "/user" = "gw", "/pw" = { file = "{dir}/login" } }, token = "/access_token" }"#,
    ),
    (
        "login-refused",
        "422",
        r#"auth = { type = "login", url = "/token/refused", fields = { "/user" = "gw", "/pw" = { file = "{dir}/login" } }, token = "/access_token" }"#,
    ),
    (
        "oauth",
        "422",
        r#"auth = { type = "oauth2", url = "{origin}/token/oauth", client_id = "gw", client_secret = { file = "{dir}/oauth" } }"#,
    ),
    (
        "oauth-refused",
        "422",
        r#"auth = { type = "oauth2", url = "{origin}/token/refused", client_id = "gw", client_auth = "body", client_secret = { file = "{dir}/oauth" } }"#,
    ),
    (
        "refresh",
        "422",
        r#"auth = { type = "oauth2", url = "{origin}/token/refresh", client_id = "gw", grant = "refresh_token", refresh_token = { file = "{dir}/refresh" }, state_file = "{dir}/state.token" }"#,
    ),
    (
        "assertion",
        "422",
        r#"auth = { type = "oauth2", url = "{origin}/token/refused", client_id = "gw", grant = "jwt_bearer", assertion = { algorithm = "HS256", key = { file = "{dir}/assertion" }, issuer = "gw", audience = "https://login.example" } }"#,
    ),
    (
        "hmac",
        "401",
        r#"auth = { type = "hmac", secret = { file = "{dir}/hmac" }, parts = ["method", "path", "timestamp", "body"], output = "hex", timestamp = { header = "X-Time", unit = "s" }, signature = "X-Signature" }"#,
    ),
    ("webhook", "422", r#"auth = { type = "standard_webhook", secret = { file = "{dir}/webhook" } }"#),
    ("digest", "401", r#"auth = { type = "digest", user = "gw", password = { file = "{dir}/digest" } }"#),
    (
        "json",
        "json",
        "on_ambiguous = \"resend\"\nauth = { type = \"bearer\", token = { file = \"{dir}/bearer\" } }\n[[sink.answer]]\nstatus = 422\nverdict = \"reject\"\nreason = \"/message\"\n[sink.map]\nwho = \"/person/terminal_person_id\"\n",
    ),
    ("away", "302", r#"auth = { type = "bearer", token = { file = "{dir}/bearer" } }"#),
    ("proxied", "422", r#"proxy = { url = "{origin}", user = "gw", password = { file = "{dir}/proxy" } }"#),
    ("hook", "422?hook=zqx7-hook", ""),
    (
        "unknown-person",
        "422",
        "on_ambiguous = \"resend\"\nauth = { type = \"bearer\", token = { file = \"{dir}/bearer\" } }\n[sink.map]\nwho = \"/person/external_id\"\nno = \"/person/terminal_person_id\"\ncard = \"/credential/card_number\"",
    ),
];

/// Secrets in files: name and value. Some with what a URL or a header has to encode.
const FILES: &[(&str, &str)] = &[
    ("bearer", "zqx7-bearer"),
    ("basic", "zqx7-basic"),
    ("basic-key", "zqx7-bkey"),
    ("api-key", "zqx7-akey"),
    ("header", "zqx7-header"),
    ("query", "zqx7/que ry&"),
    ("body", "zqx7-\"body"),
    ("login", "zqx7-\"login"),
    ("oauth", "zqx7-oauth&a"),
    ("refresh", "zqx7-refresh"),
    ("assertion", "zqx7-assertion-of-more-than-thirty-two-bytes"),
    ("hmac", "zqx7-hmac"),
    ("webhook", "whsec_enF4N3pxeDd6cXg3enF4N3pxeDd6cXg3"),
    ("digest", "zqx7-digest"),
    ("proxy", "zqx7-proxy"),
    ("broker", "zqx7-broker"),
    ("broker-wrong", "zqx7-wrong"),
    ("terminals", "zqx7-terminals"),
    ("database", "zqx7-database"),
    ("database-wrong", "zqx7-db-wrong"),
    ("directory", "zqx7-directory"),
    ("page", "zqx7-page-token-of-the-site"),
];

/// What a search looks for. The mark alone finds every plain secret; these are the others.
fn secrets() -> Vec<String> {
    let mut all = vec![MARK.to_owned()];
    for (_, value) in FILES {
        all.push((*value).to_owned());
        all.push(base64(value).trim_end_matches('=').to_owned());
    }
    for login in ["gw:zqx7-basic", "zqx7-bkey:x", "gw:zqx7-oauth&a", "gw:zqx7-proxy", "gw:zqx7-oauth%26a"] {
        // What a part of it would be, without its end.
        all.push(base64(login).trim_end_matches('=').to_owned());
    }
    all.push(TEMPLATE.to_owned());
    all
}

/// Where something was said, and what.
type Said = Vec<(String, String)>;

#[track_caller]
fn silent_about(said: &Said, needles: &[String]) {
    let mut found = Vec::new();
    for (place, text) in said {
        for needle in needles {
            if let Some(at) = text.find(needle.as_str()) {
                let from = (0..=at.saturating_sub(150)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                let to = (at + 150..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
                found.push(format!("{place}: {needle}: …{}…", &text[from..to]));
            }
        }
    }
    found.dedup();
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
}

fn people() -> Vec<String> {
    PERSON.iter().map(|text| (*text).to_owned()).collect()
}

/// One command's both outputs.
fn command(gateway: &Gateway, arguments: &[&str]) -> (String, String) {
    let output = gateway.cli(arguments);
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (format!("portero {}", arguments.join(" ")), text)
}

fn publish(broker: &Mosquitto, payload: &str) {
    let mut publisher = Command::new(find_program("mosquitto_pub", &[]));
    publisher.args(["-p", &broker.port.to_string(), "-q", "1", "-u", "portero", "-P", "zqx7-broker"]);
    let done = publisher.args(["-t", "site/yard/d1/events", "-m", payload]).status().unwrap();
    assert!(done.success());
}

/// The bytes of every file under a folder whose name begins so.
fn files(dir: &Path, prefix: &str) -> Said {
    let mut said = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) && entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            said.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    said
}

fn configuration(dir: &Path, origin: &str, broker: &Mosquitto, postgres: &Postgres, ports: [u16; 2]) -> String {
    let at = dir.display().to_string();
    let mut sinks = String::new();
    for (name, end, keys) in SINKS {
        let keys = keys.replace("{dir}", &at).replace("{origin}", origin);
        let (first, rest) = keys.split_once('\n').unwrap_or((&keys, ""));
        let _ = writeln!(
            sinks,
            "[[sink]]\nname = \"{name}\"\ntype = \"api\"\nurl = \"{origin}/s/{end}\"\ntimeout_seconds = 5\n{first}\n{rest}"
        );
    }
    for (name, user, password) in [("central", "norte", "database"), ("central-wrong", "sur", "database-wrong")] {
        let url = postgres.url_as(user);
        let _ = writeln!(
            sinks,
            "[[sink]]\nname = \"{name}\"\ntype = \"postgres\"\nurl = \"{url}\"\ntls = \"disable\"\npassword = {{ file = \"{at}/{password}\" }}"
        );
    }
    let _ = writeln!(
        sinks,
        "[directory]\nurl = \"{origin}/people\"\nperson = \"/pin\"\ncard = \"/card\"\nexternal_id = \"/id\"\nname = \"/name\"\n\
         auth = {{ type = \"bearer\", token = {{ file = \"{at}/directory\" }} }}\n\
         [[broker]]\nname = \"wrong\"\nurl = \"{}\"\nuser = \"portero\"\npassword = {{ file = \"{at}/broker-wrong\" }}\nclient_id = \"other\"\n\
         [[broker]]\nname = \"own\"\nlisten = \"127.0.0.1:{}\"\nusers = [{{ user = \"terminals\", password = {{ file = \"{at}/terminals\" }} }}]",
        broker.url(),
        ports[0],
    );
    for broker in ["wrong", "own"] {
        let _ = writeln!(
            sinks,
            "[[terminal]]\nname = \"behind-{broker}\"\nprotocol = \"mqtt-json\"\n\
             link = {{ type = \"mqtt\", broker = \"{broker}\", topic = \"x/+/events\" }}\nfields.person = \"/pin\"\nfields.device_time = \"/ts\"\n\
             fields.native_seq = \"/event_id\""
        );
    }
    let site = format!("url = \"{}\"\nuser = \"portero\"\npassword = {{ file = \"{at}/broker\" }}", broker.url());
    let page = format!(
        "[manage]\nlisten = \"127.0.0.1:{}\"\ntoken = {{ file = \"{at}/page\" }}\nstatus_topic = \"site/state\"\nstatus_broker = \"site\"",
        ports[1]
    );
    support::yard_config(dir, &site, &sinks).replacen("[manage]", &page, 1)
}

fn own_broker_refuses(port: u16) {
    let mut publisher = Command::new(find_program("mosquitto_pub", &[]));
    publisher.args(["-p", &port.to_string(), "-u", "terminals", "-P", "zqx7-guess", "-t", "x", "-m", "y"]);
    assert!(!publisher.stderr(Stdio::null()).status().unwrap().success());
}

#[test]
fn planted_secrets_and_people_are_nowhere_but_where_they_belong() {
    let dir = tempdir();
    for (name, value) in FILES {
        secret(dir.path(), name, &format!("{value}\n"));
    }
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(answer)));
    let origin = format!("http://127.0.0.1:{}", vendor.port);
    let postgres = Postgres::start_with_passwords();
    let passwords = dir.path().join("mosquitto-passwords");
    let mut made = Command::new(find_program("mosquitto_passwd", &[]));
    made.args(["-b", "-c"]).arg(&passwords).args(["portero", "zqx7-broker"]).stderr(Stdio::null());
    assert!(made.status().unwrap().success());
    let extra = vec![format!("password_file {}", passwords.display())];
    let broker =
        Mosquitto::start(dir.path(), &MosquittoOptions { allow_anonymous: false, extra, ..Default::default() });
    let ports = [free_port(), free_port()];
    let config = dir.path().join("portero.toml");
    std::fs::write(&config, configuration(dir.path(), &origin, &broker, &postgres, ports)).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    gateway.env("PORTERO_LOG", "trace");
    gateway.env("PORTERO__GATEWAY__CLOCK", "trusted");
    let server = ["--url", &postgres.url(), "--tls", "disable"];
    let central = |more: &[&str]| {
        let done = gateway.cli(&[&["central"], more, &server[..]].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    central(&["init", "--apply"]);
    let file = dir.path().join("database");
    let login = ["--login", "norte", "--login-password-file", file.to_str().unwrap(), "--apply"];
    central(&[&["add-gateway", "gw-test"], &login[..]].concat());
    postgres.psql("CREATE ROLE sur LOGIN PASSWORD 'another'");

    let checked = gateway.cli(&["check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    gateway.restart_ready();
    let status = |gateway: &Gateway| gateway.cli_json(&["status", "--json"]);
    eventually("the broker lets us in, and refuses the other", DEADLINE, || {
        let links = status(&gateway)["links"].clone();
        let state = |name: &str| {
            links.as_array().unwrap().iter().find(|l| l["name"] == name).map(|l| l["state"].clone()).unwrap_or_default()
        };
        state("site") == "up" && state("wrong") == "down" && state("own") == "up"
    });
    own_broker_refuses(ports[0]);
    let [number, card, ..] = PERSON;
    for seq in 1..=3 {
        publish(
            &broker,
            &format!(
                r#"{{"event_id":{seq},"sn":"Y1","ts":"2026-11-24T08:00:0{seq}","pin":"{number}","card":"{card}","dir":"in","verify":"fp"}}"#
            ),
        );
    }
    // Faults: a time that is none, no JSON, a template where a number is expected.
    publish(
        &broker,
        &format!(r#"{{"event_id":9,"ts":"soon","pin":"{number}","template":"{TEMPLATE}","password":"zqx7-pin"}}"#),
    );
    publish(&broker, &format!("no json: pin={number} card={card} token=zqx7-fault {TEMPLATE}"));
    let ends = ["quarantined", "error"];
    eventually("every sink has been refused or served", DEADLINE, || {
        let sinks = status(&gateway)["sinks"].clone();
        let sinks = sinks.as_array().unwrap();
        let done = |sink: &Value| {
            sink["delivered"].as_u64() >= Some(3)
                || ends.iter().any(|end| sink[end].as_u64() > Some(0) || sink[end].is_string())
        };
        sinks.len() == SINKS.len() + 2 && sinks.iter().all(done)
    });
    eventually("faults are counted", DEADLINE, || status(&gateway)["journal"]["faults"].as_u64() >= Some(1));
    eventually("the centre hears of us", DEADLINE, || postgres.psql("SELECT count(*) FROM portero.gateway") == "1");

    // They were really used, and came back.
    let seen: String = vendor.requests().iter().map(echo).collect();
    let logins = ["gw:zqx7-basic", "zqx7-bkey:x", "gw:zqx7-oauth%26a", "gw:zqx7-proxy"].map(base64);
    let plain =
        ["bearer", "akey", "header", "\\\"body", "\\\"login", "refresh", "directory", "hook", "got-login", "got-oauth"];
    for used in
        plain.map(|end| format!("{MARK}-{end}")).iter().chain(&logins).map(String::as_str).chain(["zqx7%2Fque+ry%26"])
    {
        assert!(seen.contains(used), "{used} was never sent: {seen}");
    }

    // What neither a secret nor a person may be in.
    let mut said: Said = vec![("the log".to_owned(), gateway.log())];
    assert!(said[0].1.contains("TRACE") && said[0].1.contains("DEBUG"), "the log is not what it should be");
    let bundle = dir.path().join("bundle.tar");
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["check"],
        &["check", "--json"],
        &["doctor"],
        &["doctor", "--json", "--bundle", bundle.to_str().unwrap()],
        &["log-level"],
        &["log-level", "--json"],
        &["journal", "stats"],
        &["journal", "stats", "--json"],
        &["journal", "verify", "--json"],
        &["fleet", "status", "--postgres", &postgres.url(), "--tls", "disable"],
        &["fleet", "status", "--json", "--postgres", &postgres.url(), "--tls", "disable"],
        &["central", "status", "--json", "--url", &postgres.url(), "--tls", "disable"],
        &["central", "add-gateway", "gw-test", "--print", "--login-password-file", file.to_str().unwrap()],
        &["--help"],
    ] {
        said.push(command(&gateway, arguments));
    }
    let unpacked = Command::new("tar").arg("-xOf").arg(&bundle).output().unwrap();
    assert!(unpacked.status.success());
    said.push(("the bundle".to_owned(), String::from_utf8_lossy(&unpacked.stdout).into_owned()));
    let known = format!("Host: 127.0.0.1:{}\r\nAuthorization: Bearer {MARK}-page-token-of-the-site\r\n", ports[1]);
    let strange = format!("Host: 127.0.0.1:{}\r\nAuthorization: Bearer {MARK}-guess-of-a-stranger\r\n", ports[1]);
    for path in ["/", "/?lang=es", "/status.json", "/metrics", "/healthz", "/readyz", "/nothing"] {
        for (who, headers) in [("known", &known), ("strange", &strange)] {
            let answer = http::send(ports[1], "GET", path, headers, "").unwrap();
            assert_eq!(answer.status == 401, who == "strange", "{path} {who}: {answer:?}");
            said.push((format!("page {path} {who}"), format!("{}\n{}", answer.head, answer.body)));
        }
    }
    for request in
        ["GET /status", "POST /quarantine/replay", "POST /quarantine/drop", "GET /log", "POST /log", "GET /nothing"]
    {
        let mut socket = std::os::unix::net::UnixStream::connect(dir.path().join("control.sock")).unwrap();
        // No body where none is read, and in one piece: what lies unread when an answer closes is a reset, not an end.
        let body = if request.starts_with("POST") {
            r#"{"sink":"nobody","seqs":[1],"why":"a test","who":"a test"}"#
        } else {
            ""
        };
        let head = "Host: x\r\nConnection: close\r\nContent-Type: application/json";
        let whole = format!("{request} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        socket.write_all(whole.as_bytes()).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 "), "{text}");
        said.push((format!("socket {request}"), text));
    }
    let mut subscriber = Command::new(find_program("mosquitto_sub", &[]));
    subscriber.args(["-p", &broker.port.to_string(), "-u", "portero", "-P", "zqx7-broker"]);
    let retained = subscriber.args(["-t", "site/state", "-C", "1", "-W", "20"]).output().unwrap();
    let retained = String::from_utf8_lossy(&retained.stdout).into_owned();
    assert!(retained.contains("online"), "{retained}");
    said.push(("the status topic".to_owned(), retained));
    for table in ["gateway", "terminal", "anchor", "login"] {
        said.push((format!("portero.{table}"), postgres.psql(&format!("SELECT * FROM portero.{table}"))));
    }
    let mut needles = secrets();
    silent_about(&said, &[needles.clone(), people()].concat());

    // What people may be in, and no secret.
    let mut said: Said = Vec::new();
    for arguments in [
        &["quarantine", "list"][..],
        &["quarantine", "list", "--json"],
        &["events"],
        &["events", "--json"],
        &["trace", "--person", number, "--date", "2026-11-24"],
        &["trace", "--person", number, "--date", "2026-11-24", "--json"],
    ] {
        said.push(command(&gateway, arguments));
    }
    let listed = said[1].1.clone();
    for line in listed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let (sink, seq) = (line["sink"].as_str().unwrap().to_owned(), line["seq"].to_string());
        said.push(command(&gateway, &["quarantine", "show", "--sink", &sink, &seq]));
        said.push(command(&gateway, &["quarantine", "show", "--json", "--sink", &sink, &seq]));
    }
    assert!(said.len() > 20, "little was quarantined: {listed}");
    for (name, ..) in SINKS.iter().filter(|(name, ..)| *name != "hook") {
        said.push(command(&gateway, &["mapping", "preview", "--sink", name]));
        said.push(command(&gateway, &["mapping", "preview", "--json", "--sink", name]));
    }
    said.push(("portero.event".to_owned(), postgres.psql("SELECT * FROM portero.event")));
    said.extend(files(dir.path(), "journal.db"));
    gateway.sigterm();
    said.extend(files(dir.path(), "journal.db"));
    // What the server gave is kept where the configuration says, and nowhere else.
    assert!(std::fs::read_to_string(dir.path().join("state.token")).unwrap().contains("zqx7-next-refresh"));
    silent_about(&said, &needles);

    // The end is in the log, too.
    needles.extend(people());
    silent_about(&vec![("the log".to_owned(), gateway.log())], &needles);
}

#[test]
fn a_secret_that_stands_in_the_file_or_a_variable_is_refused_and_not_repeated() {
    let dir = tempdir();
    let config = dir.path().join("portero.toml");
    let sink =
        |more: &str| format!("[[sink]]\nname = \"far\"\ntype = \"api\"\nurl = \"http://127.0.0.1:1/\"\n{more}\n");
    let base = "[[sink]]\nname = \"far\"\ntype = \"postgres\"\ntls = \"disable\"\n";
    let texts = [
        sink("auth = { type = \"bearer\", token = \"zqx7-plain\" }"),
        sink("auth = { type = \"bearer\", tokn = \"zqx7-plain\" }"),
        sink("auth = { type = \"basic\", user = \"u\", password = \"zqx7-plain\" }"),
        sink("auth = { type = \"bearer\", token = { file = \"relative/zqx7\", credentail = \"zqx7-plain\" } }"),
        sink("auth = { type = \"hmac\", secret = \"zqx7-plain\" }"),
        sink("auth = { type = \"bearer\" }\npassword = \"zqx7-plain\""),
        sink("proxy = \"http://gw:zqx7-plain@127.0.0.1:3128\""),
        sink("").replace("http://", "http://gw:zqx7-plain@"),
        format!("{base}url = \"postgresql://gw:zqx7-plain@127.0.0.1/a\"\n"),
        format!("{base}url = \"postgresql://gw@127.0.0.1/a?password=zqx7-plain\"\n"),
        format!("{base}url = \"postgresql://gw@127.0.0.1/a\"\npassword = \"zqx7-plain\"\n"),
        "[[broker]]\nname = \"b\"\nurl = \"mqtt://gw:zqx7-plain@127.0.0.1\"\n".to_owned(),
        "[[broker]]\nname = \"b\"\nurl = \"mqtt://127.0.0.1\"\nuser = \"u\"\npassword = \"zqx7-plain\"\n".to_owned(),
        "[[broker]]\nname = \"b\"\nlisten = \"127.0.0.1:1\"\nusers = [{ user = \"u\", password = \"zqx7-plain\" }]\n"
            .to_owned(),
        "[directory]\nurl = \"http://gw:zqx7-plain@127.0.0.1/\"\nperson = \"/a\"\nexternal_id = \"/b\"\n".to_owned(),
    ];
    let mut said: Said = Vec::new();
    for text in &texts {
        std::fs::write(&config, support::yard_config(dir.path(), "listen = \"127.0.0.1:1\"", text)).unwrap();
        let gateway = Gateway::prepare(&config, &[]);
        let bundle = dir.path().join("bundle.tar");
        for arguments in [
            &["check"][..],
            &["check", "--json"],
            &["run"],
            &["doctor", "--bundle", bundle.to_str().unwrap()],
            &["doctor", "--json"],
        ] {
            let output = gateway.cli(arguments);
            assert!(!output.status.success(), "{text}");
            said.push(command(&gateway, arguments));
        }
        let unpacked = Command::new("tar").arg("-xOf").arg(&bundle).output().unwrap();
        said.push((format!("bundle of {text:?}"), String::from_utf8_lossy(&unpacked.stdout).into_owned()));
    }
    std::fs::write(&config, support::yard_config(dir.path(), "listen = \"127.0.0.1:1\"", &sink(""))).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    gateway.env("PORTERO__SINK__FAR__AUTH__TOKEN", "zqx7-plain");
    gateway.env("PORTERO__SINK__FAR__AUTH__TYPE", "bearer");
    gateway.env("PORTERO__BROKER__SITE__PASSWORD", "zqx7-plain");
    said.push(command(&gateway, &["check"]));
    said.push(command(&gateway, &["doctor"]));
    said.push(command(&gateway, &["run"]));
    silent_about(&said, &[MARK.to_owned()]);
}

/// A core file holds whatever was in memory: there must be none.
#[test]
fn a_crash_leaves_no_core_file_with_secrets() {
    let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/portero.service")).unwrap();
    assert!(unit.lines().any(|line| line == "LimitCORE=0"));
    let dir = tempdir();
    let port = free_port();
    let config = dir.path().join("portero.toml");
    let listen = format!("listen = \"127.0.0.1:{port}\"");
    std::fs::write(&config, support::yard_config(dir.path(), &listen, "")).unwrap();
    let mut gateway = Gateway::start(&config, &[]);
    gateway.wait_ready();
    // Whatever the limit was before: outside of the unit nobody else sees to it.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    gateway.signal(rustix::process::Signal::ABORT);
    gateway.wait_end(DEADLINE);
}
