//! `portero doctor` against planted faults, each found with its remedy; its bundle; and that it leaves everything as it was.
//!
//! A test belongs here if it needs the real binary and something real that is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use support::{
    Behaviour, DEADLINE, Gateway, Guest, Mosquitto, MosquittoOptions, Postgres, Process, Pty, Reply, VendorApi,
    eventually, find_program, free_port, tempdir,
};

fn secret(dir: &Path, name: &str, text: &str, mode: u32) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
}

/// Findings, and the exit code.
fn doctor(gateway: &Gateway, more: &[&str]) -> (Vec<Value>, Option<i32>) {
    let output = gateway.cli(&[&["doctor", "--json"], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    (lines, output.status.code())
}

/// Fails unless there is exactly this: check, a part of the subject, state, a part of what was found, of the remedy.
#[track_caller]
fn finds(findings: &[Value], check: &str, subject: &str, state: &str, found: &str, remedy: &str) {
    let has = |finding: &Value, key: &str, part: &str| finding[key].as_str().unwrap_or_default().contains(part);
    let fits = |f: &&Value| {
        f["check"] == check
            && f["state"] == state
            && has(f, "subject", subject)
            && has(f, "found", found)
            && has(f, "remedy", remedy)
    };
    let all = findings.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert!(findings.iter().any(|f| fits(&f)), "no {state} of {check} {subject}: {found} -> {remedy} in\n{all}");
}

/// An nginx with a certificate made now.
fn tls_server(dir: &Path, name: &str, days: &str) -> (Process, u16) {
    let file = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    let mut request = Command::new(find_program("openssl", &[]));
    request.args([
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
    request.args(["-subj", &format!("/O=Site/CN={name}"), "-addext", "subjectAltName=DNS:localhost"]);
    request.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &file("key"), "-out", &file("crt")]);
    assert!(request.stderr(Stdio::null()).status().unwrap().success());
    let at = dir.join(format!("nginx-{name}"));
    std::fs::create_dir(&at).unwrap();
    let (certificate, key) = (file("crt"), file("key"));
    let server = format!(
        "ssl_protocols TLSv1.2 TLSv1.3;\nssl_certificate {certificate};\nssl_certificate_key {key};\nlocation / {{ return 404; }}"
    );
    support::nginx(&at, &server)
}

#[test]
fn planted_faults_are_found_each_with_its_remedy_and_nothing_is_sent() {
    let dir = tempdir();
    let at = dir.path().display().to_string();
    secret(dir.path(), "wrong", "not-it\n", 0o600);
    secret(dir.path(), "empty", "", 0o600);
    secret(dir.path(), "open", "sesame", 0o644);
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::new(401, "", 0))));
    let postgres = Postgres::start_with_passwords();
    postgres.psql("CREATE ROLE norte LOGIN PASSWORD 'right'");
    let passwords = dir.path().join("passwords");
    let mut made = Command::new(find_program("mosquitto_passwd", &[]));
    assert!(
        made.args(["-b", "-c"])
            .arg(&passwords)
            .args(["portero", "right"])
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let extra = vec![format!("password_file {}", passwords.display())];
    let broker =
        Mosquitto::start(dir.path(), &MosquittoOptions { allow_anonymous: false, extra, ..Default::default() });
    let (_unknown, unknown) = tls_server(dir.path(), "unknown", "2");
    let (_known, known) = tls_server(dir.path(), "known", "2");
    let nobody = free_port();
    // A port that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let mut held = Pty::pair(&dir.path().join("held"));
    let holder = {
        let mut sleep = Command::new("sleep");
        // Once the command is dropped the child alone has it.
        Process::spawn(
            sleep.arg("600").stdin(std::fs::File::options().read(true).write(true).open(&held.link).unwrap()),
        )
    };
    std::fs::write(dir.path().join("journal.db"), "this is no database, and was one before").unwrap();

    let api = |name: &str, url: &str, more: &str| {
        format!("[[sink]]\nname = \"{name}\"\ntype = \"api\"\nurl = \"{url}\"\n{more}\n")
    };
    let bearer =
        |file: &str, more: &str| format!("auth = {{ type = \"bearer\", token = {{ file = \"{at}/{file}\"{more} }} }}");
    let base = |name: &str, url: &str, password: &str| {
        let password = format!("password = {{ file = \"{at}/{password}\" }}");
        format!("[[sink]]\nname = \"{name}\"\ntype = \"postgres\"\nurl = \"{url}\"\ntls = \"disable\"\n{password}\n")
    };
    let line = |name: &str, device: &str| {
        let link = format!("link = {{ type = \"serial\", device = \"{device}\", baud = 9600 }}");
        format!("[[terminal]]\nname = \"{name}\"\nprotocol = \"rdm6300\"\n{link}\n")
    };
    let parts = [
        line("missing", &format!("{at}/no-such-device")),
        line("held", &format!("{at}/held")),
        line("file", &format!("{at}/passwords")),
        api("answers", &vendor.url(), &bearer("wrong", ", expires = \"2020-02-29\"")),
        api("nowhere", "https://vendor.invalid/api", &bearer("empty", "")),
        api("refused", &format!("http://127.0.0.1:{nobody}/api"), &bearer("open", "")),
        api("silent", &format!("https://127.0.0.1:{silent_port}/api"), ""),
        api("unknown", &format!("https://localhost:{unknown}/api"), ""),
        api("name", &format!("https://127.0.0.1:{known}/api"), &format!("ca_file = \"{at}/known.crt\"")),
        api("known", &format!("https://localhost:{known}/api"), &format!("ca_file = \"{at}/known.crt\"")),
        base("password", &postgres.url_as("norte"), "wrong"),
        base("schema", &postgres.url(), "wrong"),
        base("database", &format!("postgresql://norte@127.0.0.1:{nobody}/x"), "missing-secret"),
    ];
    let site = format!("url = \"{}\"\nuser = \"portero\"\npassword = {{ file = \"{at}/wrong\" }}", broker.url());
    let config = dir.path().join("portero.toml");
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let remote = format!("[manage.remote]\nurl = \"http://127.0.0.1:{nobody}/gw\"\nactive_key = \"{key}\"\n");
    let text = support::yard_config(dir.path(), &site, &[remote, parts.concat()].concat());
    std::fs::write(&config, text).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    gateway.env("PORTERO__GATEWAY__CLOCK", "trusted");

    let (findings, code) = doctor(&gateway, &[]);
    assert_eq!(code, Some(1));
    let fails =
        |check: &str, subject: &str, found: &str, remedy: &str| finds(&findings, check, subject, "fail", found, remedy);
    fails("serial", "missing", "no such device", "plug it in");
    fails("serial", "held", &format!("process {} (sleep) has it", holder.id()), "stop that program");
    fails("serial", "file", "no device", "link.device");
    fails("credential", "token", "is empty", "put the secret");
    fails("credential", "token", "read by others (mode 0644)", "chmod 600");
    fails("credential", "password", "missing-secret can't be read", "put the secret into");
    fails("expiry", "answers", "has ended", "renew it");
    fails("journal", "journal.db", "damaged", "keep a copy");
    fails("broker", "site", "refuses user or password", "correct user and password");
    fails("sink", "nowhere", "vendor.invalid cannot be resolved", "resolv.conf");
    fails("sink", "refused", "refuses the connection", "start the server");
    fails("sink", "silent", "in time", "firewall");
    fails("sink", "unknown", "authority that we don't know", "set ca_file");
    fails("sink", "name", "for another name; TLS 1.3, for localhost, by", "name that stands in the certificate");
    fails("sink", "password, login", "password authentication failed", "pg_hba.conf");
    fails("sink", "schema, login", "no table portero.event", "central init");
    fails("remote", "", "refuses the connection", "start the server");
    fails("sink", "database, 127.0.0.1", "refuses the connection", "start the server");
    finds(&findings, "sink", "answers", "ok", "HTTP 401", "");
    finds(&findings, "sink", "known", "ok", "answers (HTTP 404); TLS 1.3, for localhost, by CN=known", "");
    finds(&findings, "expiry", "known", "warn", "ends in 1 day", "renewed");
    finds(&findings, "gateway", "control.sock", "warn", "no gateway runs", "systemctl start");
    finds(&findings, "sqlite", "", "ok", "built in", "");
    finds(&findings, "disk", &at, "ok", "may write", "");
    let cause = |subject: &str| {
        let found = findings.iter().find(|f| f["check"] == "sink" && f["subject"] == subject).unwrap();
        found["cause"].as_str().unwrap_or_default().to_owned()
    };
    let causes = ["nowhere", "refused", "silent", "unknown", "password, login"].map(cause);
    assert_eq!(causes, ["name", "refused", "timeout", "tls", "login"]);
    let known = findings.iter().find(|f| f["check"] == "sink" && f["subject"] == "known").unwrap();
    assert_eq!((&known["tls"]["protocol"], &known["tls"]["names"][0]), (&"TLS 1.3".into(), &"localhost".into()));
    for finding in findings.iter().filter(|f| f["state"] == "fail" || f["state"] == "warn") {
        assert!(finding["remedy"].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n')), "{finding}");
    }
    // Nobody was told anything: no event, no token.
    let asked = vendor.requests();
    assert!(asked.iter().all(|r| r.method == "HEAD" && r.path == "/" && r.authorization.is_none()), "{asked:?}");
    let text = findings.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("sesame") && !text.contains("not-it"), "{text}");
    held.unplug();

    let table = gateway.cli(&["doctor"]);
    let table = String::from_utf8(table.stdout).unwrap();
    for words in ["fail    serial        missing", "-> plug it in", " fail, "] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn a_sound_gateway_is_found_well_while_it_runs_and_goes_on_undisturbed() {
    let dir = tempdir();
    let broker = Mosquitto::start(dir.path(), &MosquittoOptions::default());
    let postgres = Postgres::start();
    let vendor = VendorApi::start(Behaviour::Ok);
    let reader = Pty::pair(&dir.path().join("reader"));
    let serial = format!("link = {{ type = \"serial\", device = \"{}\", baud = 9600 }}", reader.link.display());
    let gate = format!("[[terminal]]\nname = \"gate\"\nprotocol = \"rdm6300\"\n{serial}\n");
    let sinks = support::api_sink(&vendor.url(), 10) + &support::postgres_sink(&postgres.url()) + &gate;
    let config = dir.path().join("portero.toml");
    let text = support::yard_config(dir.path(), &format!("url = \"{}\"", broker.url()), &sinks);
    std::fs::write(&config, text).unwrap();
    let mut gateway = Gateway::prepare(&config, &[]);
    gateway.env("PORTERO__GATEWAY__CLOCK", "trusted");
    let server = ["--url", &postgres.url(), "--tls", "disable"];
    assert!(gateway.cli(&[&["central", "init", "--apply"], &server[..]].concat()).status.success());
    gateway.restart_ready();
    reader.wait_open();
    gateway.play_yard(broker.port, 40, 3, &[]);
    eventually("the vendor has the events", DEADLINE, || vendor.stored_count() == 40);
    eventually("the gateway is at rest", DEADLINE, || {
        gateway.cli_json(&["status", "--json"])["sinks"].as_array().unwrap().iter().all(|sink| sink["pending"] == 0)
    });
    let up = || {
        let status = gateway.cli_json(&["status", "--json"]);
        status["links"].as_array().unwrap().iter().all(|link| link["state"] == "up")
    };
    eventually("every link is up", DEADLINE, up);
    let bundle = dir.path().join("bundle.tar");
    let (findings, code) = doctor(&gateway, &["--bundle", bundle.to_str().unwrap()]);
    let bad: Vec<&Value> = findings.iter().filter(|f| f["state"] == "fail").collect();
    assert!(bad.is_empty() && code == Some(0), "{bad:?}");
    finds(&findings, "gateway", "", "ok", "runs (process", "");
    finds(&findings, "serial", "gate", "ok", "the gateway has it", "");
    finds(&findings, "journal", "journal.db", "ok", "40 events", "");
    finds(&findings, "broker", "site", "ok", "lets us in", "");
    finds(&findings, "sink", "vendor", "ok", "HTTP 200", "");
    finds(&findings, "sink", "central, login", "ok", "logs in (PostgreSQL", "");
    // The session at the broker is still the gateway's, and the reader still open.
    gateway.play_yard(broker.port, 5, 4, &[]);
    eventually("more events arrive", DEADLINE, || vendor.stored_count() == 45);
    assert!(reader.is_open() && up() && !gateway.log().contains("connection closed"), "{}", gateway.log());
    assert_eq!(vendor.oracle().doubled().len(), 0);

    assert_eq!(std::fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = Command::new("tar").arg("-tf").arg(&bundle).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in [
        "contents.txt",
        "about.json",
        "doctor.jsonl",
        "configuration.toml",
        "status.json",
        "ledger.json",
        "unit.txt",
        "log.txt",
    ] {
        assert!(listed.contains(&format!("portero-doctor/{name}")), "{listed}");
    }
    let unpacked = Command::new("tar").arg("-xOf").arg(&bundle).output().unwrap();
    let unpacked = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(unpacked.contains("\"appended\": 40") && unpacked.contains("postgresql://***@127.0.0.1"), "{unpacked}");
    let wrong = gateway.cli(&["doctor", "--bundle", "bundle.tar.gz"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_configuration_that_cannot_be_used_does_not_stop_the_doctor() {
    let dir = tempdir();
    let config = dir.path().join("portero.toml");
    std::fs::write(&config, "[gateway]\nid = \"gw\"\nsite = \"s\"\nzone = \"America/Santigo\"\n").unwrap();
    let gateway = Gateway::prepare(&config, &[]);
    let (findings, code) = doctor(&gateway, &[]);
    assert_eq!(code, Some(1));
    finds(&findings, "configuration", "gateway.zone", "fail", "America/Santigo", "expected");
    finds(&findings, "sqlite", "", "ok", "built in", "");
    finds(&findings, "configuration", "", "skipped", "disk, journal", "mend");
}

/// Root asks, and the rights of the service's user count.
#[test]
fn the_installed_service_is_examined_with_its_own_rights_and_credentials() {
    let Some(mut guest) = Guest::prepare() else { return };
    guest.configure(
        r#"
[gateway]
id = "gw-guest"
site = "obra-norte"
zone = "America/Santiago"
clock = "trusted"

[[broker]]
name = "site"
listen = "127.0.0.1:1883"
users = [{ user = "terminals", password = { credential = "terminals_password" } }]

[[terminal]]
name = "yard"
protocol = "mqtt-json"
link = { type = "mqtt", broker = "site", topic = "site/yard/+/events" }
fields.person = "/pin"

[[terminal]]
name = "gate"
protocol = "rdm6300"
link = { type = "serial", device = "/dev/ttyUSB7" }
"#,
    );
    let password = "etc/portero/credentials/terminals_password";
    guest.write(password, "a-good-password\n");
    guest.drop_in(&format!("LoadCredential=terminals_password:/{password}\nDeviceAllow=char-pts rw"));
    guest.boot();
    guest.until("ActiveState", |state| state == "active");
    guest.sh(&format!("chmod 600 /{password}"));
    guest.sh("systemd-run --quiet --unit=reader portero simulate rdm6300 --pty /dev/ttyUSB7 --rate 1");
    eventually("the adapter is there", DEADLINE, || guest.try_sh("test -e /dev/ttyUSB7").is_ok());
    let examine = || {
        let text = guest.sh("portero doctor --json || test $? = 1");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    guest.sh("chgrp dialout /dev/ttyUSB7 && chmod 660 /dev/ttyUSB7");
    eventually("the gateway has the adapter", DEADLINE, || {
        examine().iter().any(|f| f["check"] == "serial" && f["found"].as_str().unwrap().contains("the gateway has it"))
    });
    let findings = examine();
    finds(&findings, "unit", "portero.service", "ok", "installed", "");
    finds(&findings, "gateway", "/run/portero/control.sock", "ok", "runs (process", "");
    finds(&findings, "disk", "/var/lib/portero", "ok", "portero may write there", "");
    finds(&findings, "credential", "terminals_password", "ok", "mode 0600", "");
    finds(&findings, "broker", "site", "ok", "takes connections", "");
    assert!(findings.iter().all(|f| f["check"] != "credential" || f["state"] == "ok"), "{findings:?}");

    guest.sh(&format!("chmod 644 /{password} && rm /etc/systemd/system/multi-user.target.wants/portero.service"));
    guest.sh("systemctl stop portero && chown -R root:root /var/lib/portero && chgrp root /dev/ttyUSB7");
    let findings = examine();
    finds(&findings, "unit", "", "warn", "not started with the machine", "systemctl enable portero");
    finds(&findings, "gateway", "", "warn", "no gateway runs", "systemctl start portero");
    finds(&findings, "disk", "/var/lib/portero", "fail", "portero may not write", "chown -R portero");
    finds(&findings, "credential", "terminals_password", "warn", "read by others (mode 0644)", "chmod 600");
    finds(&findings, "serial", "gate", "fail", "portero may not open it (group root", "group dialout");
    guest.sh("chgrp games /dev/ttyUSB7");
    finds(&examine(), "serial", "gate", "fail", "(group games, mode 0660)", "usermod -a -G games portero");
    guest.write("etc/systemd/system/portero.service.d/test.conf", "[Service]\nLimitCORE=infinity\n");
    let findings = examine();
    finds(&findings, "unit", "", "warn", "LimitCORE is not 0", "systemctl edit");
    finds(
        &findings,
        "credential",
        "terminals_password",
        "fail",
        "the unit does not load it",
        "LoadCredential=terminals_password",
    );
}
